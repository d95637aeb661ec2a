//! A credentials file: what it says is never in a message, and nothing is shown to a host that it does not name.
#![no_main]

use edgepull::source::fuzzing::credential;
use edgepull_fuzz::{assert_printable, fuzz_target, memory};

/// In the corpus this is every password; in base64, too.
const SECRETS: [&str; 3] = ["hunter2x", "aHVudGVyMng", "OmpodW50"];

fn assert_silent(text: &str) {
    assert!(SECRETS.iter().all(|secret| !text.contains(secret)), "{text}");
}

fuzz_target!(|data: &[u8]| {
    let limit = 16 * data.len() + 16 * 1024;
    for (host, repository) in [("r.example:5000", "team/app"), ("docker.io", "library/alpine")] {
        match memory::within(limit, || credential(data, host, repository)) {
            Err(error) => {
                assert_silent(&error.to_string());
                assert_printable(&error.to_string());
            }
            Ok(Some((shown, secret))) => {
                assert_silent(&shown);
                assert!(!secret.is_empty());
                let text = String::from_utf8_lossy(data).to_ascii_lowercase();
                // JSON may write any letter as an escape.
                assert!(text.contains(host) || text.contains("docker.io") || text.contains("\\u"), "{shown}");
            }
            Ok(None) => {}
        }
    }
});
