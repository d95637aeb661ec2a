//! `hosts.toml`: few hosts, each with an address and a path that a request can be made of, and nobody in a message.
#![no_main]

use edgepull::source::fuzzing::hosts;
use edgepull_fuzz::{assert_message, fuzz_target, memory};

/// hosts.rs: MIRRORS_MAX, and the registry.
const PLACES_MAX: usize = 9;

fuzz_target!(|text: &str| {
    match memory::within(64 * text.len() + 32 * 1024, || hosts(text)) {
        Err(error) => assert_message(&error.to_string()),
        Ok(places) => {
            assert!((1..=PLACES_MAX).contains(&places.len()));
            for place in &places {
                assert!(
                    !place.authority.is_empty() && !place.authority.contains(['/', '@', '?', '#', ' ']),
                    "{place:?}"
                );
                assert!(!place.path.contains(['?', '#', ' ']), "{place:?}");
            }
        }
    }
});
