//! Lists that others have made: their entries, put into a list again and written in either way, are what was read; and
//! none takes many times its own size.
#![no_main]

use edgepull::image::compose::{Entry, Family, List, Style};
use edgepull::image::manifest::{ENTRIES_MAX, media_type};
use edgepull_fuzz::{assert_message, fuzz_target, memory};
use std::collections::BTreeMap;

const ANNOUNCED: [&str; 3] = ["", media_type::OCI_INDEX, media_type::DOCKER_LIST];

/// Empty texts are not written.
fn written(mut entry: Entry) -> Entry {
    if let Some(platform) = &mut entry.platform {
        for text in [&mut platform.variant, &mut platform.os_version] {
            *text = text.take().filter(|text| !text.is_empty());
        }
    }
    entry
}

fuzz_target!(|data: &[u8]| {
    let limit = 64 * data.len() + 32 * 1024;
    for announced in ANNOUNCED {
        let entries = match memory::within(limit, || Entry::of_list(announced, data)) {
            Ok((entries, _)) => entries,
            Err(error) => {
                assert_message(&error.to_string());
                continue;
            }
        };
        assert!(entries.len() <= ENTRIES_MAX);
        for (family, style) in [Family::Docker, Family::Oci]
            .into_iter()
            .flat_map(|family| [(family, Style::Docker), (family, Style::ManifestTool)])
        {
            let list = match memory::within(limit, || List::new(family, entries.clone(), BTreeMap::new())) {
                Ok(list) => list,
                Err(error) => {
                    assert_message(&error.to_string());
                    continue;
                }
            };
            let mut before: Vec<_> = entries.iter().map(|entry| entry.digest).collect();
            let mut after: Vec<_> = list.entries().iter().map(|entry| entry.digest).collect();
            before.sort_by_key(|digest| digest.0);
            after.sort_by_key(|digest| digest.0);
            assert_eq!(before, after, "all of them, and no others");
            let bytes = memory::within(limit, || list.bytes(style)).expect("it is not large");
            let (read, _) =
                Entry::of_list(family.media_type(), &bytes).expect("what was written can be read");
            let want: Vec<Entry> = list.entries().iter().cloned().map(written).collect();
            assert_eq!(read, want, "{family:?} in the style of {style:?}");
            let again = List::new(family, read, BTreeMap::new()).expect("a list").bytes(style);
            assert_eq!(again.expect("bytes"), bytes, "and has its digest");
        }
    }
});
