//! policy.json: what it accepts without a signature, it says so in words that a plain JSON parser finds, too; and keys.
#![no_main]

use edgepull::trust::fuzzing::{accepts_unsigned, key};
use edgepull_fuzz::{assert_message, fuzz_target, memory};

const IMAGES: [&str; 3] = ["r.example:5000/team/app:1", "alpine", "oci:/layout"];

fuzz_target!(|data: &[u8]| {
    let limit = 64 * data.len() + 32 * 1024;
    for image in IMAGES {
        let image = image.parse().expect("a reference");
        match memory::within(limit, || accepts_unsigned(data, &image)) {
            Err(error) => assert_message(&error.to_string()),
            Ok(accepts) => {
                let json: serde_json::Value =
                    serde_json::from_slice(data).expect("JSON, as edgepull has read it");
                assert!(json["default"].as_array().is_some_and(|list| !list.is_empty()), "{json}");
                assert!(!accepts || json.to_string().contains("insecureAcceptAnything"), "{json}");
            }
        }
    }
    if let Err(error) = memory::within(limit, || key(data)) {
        assert_message(&error.to_string());
    }
});
