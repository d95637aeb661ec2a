//! What documents say in annotations and labels, as `inspect` reads it: bounded, and what is shown is there.
#![no_main]

use edgepull::commands::fuzzing::{Kept, config, index, manifest};
use edgepull_fuzz::{assert_message, fuzz_target, memory};
use serde_json::Value;

/// Of one image, in bytes; and annotations of one thing.
const KEPT_MAX: usize = 1 << 20;
const ANNOTATIONS_MAX: usize = 64;

fuzz_target!(|data: &[u8]| {
    let limit = 64 * data.len() + 32 * 1024;
    let value = serde_json::from_slice::<Value>(data).ok();
    for (parse, pointer) in [
        (index as fn(&[u8]) -> edgepull::error::Result<Kept>, "/annotations"),
        (manifest, "/annotations"),
        (config, "/config/Labels"),
    ] {
        let kept = match memory::within(limit, || parse(data)) {
            Ok(kept) => kept,
            Err(error) => {
                assert_message(&error.to_string());
                continue;
            }
        };
        let words = || kept.entries.iter().chain([&kept.own]).flatten();
        let bytes: usize = words().map(|(name, text)| name.len() + text.len()).sum();
        let kinds: usize = kept.kinds.iter().map(String::len).sum();
        assert!(bytes + kinds <= KEPT_MAX, "{bytes} and {kinds}");
        assert!(kept.entries.iter().chain([&kept.own]).all(|words| words.len() <= ANNOTATIONS_MAX));
        // Where there is nothing to choose, it is what any parser of JSON finds.
        let Some(Value::Object(there)) = value.as_ref().and_then(|value| value.pointer(pointer)) else {
            continue;
        };
        if kept.left_out == 0 {
            let texts = there.iter().filter_map(|(name, text)| Some((name.as_str(), text.as_str()?)));
            assert!(
                texts.eq(kept.own.iter().map(|(name, text)| (name.as_str(), text.as_str()))),
                "{there:?}"
            );
        }
    }
});
