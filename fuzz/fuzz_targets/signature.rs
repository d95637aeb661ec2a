//! Signatures: nobody forges one; and what is read of one that a key has verified is what a plain JSON parser reads.
#![no_main]

use edgepull::trust::fuzzing::{is_signed, is_statement_of, name_in_payload};
use edgepull_fuzz::{fuzz_target, memory};
use serde_json::Value;

/// A key whose private half was thrown away.
const KEY: &[u8] = include_bytes!("../corpus/policy/key.pub");
/// A manifest, as far as that matters; with its digest.
const SUBJECT: &[u8] = b"{}";
const DIGEST: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

fuzz_target!(|data: &[u8]| {
    let limit = 64 * data.len() + 32 * 1024;
    let (payload, signature) = data.split_at(data.len() / 2);
    let signature = String::from_utf8_lossy(signature);
    assert!(!memory::within(limit, || is_signed(payload, Some(&signature), SUBJECT, KEY)), "forged");
    assert!(!memory::within(limit, || is_signed(data, None, SUBJECT, KEY)), "forged");
    let name = memory::within(limit, || name_in_payload(data, SUBJECT));
    let statement = memory::within(limit, || is_statement_of(data, SUBJECT));
    if name.is_none() && !statement {
        return;
    }
    let json: Value = serde_json::from_slice(data).expect("JSON, as edgepull has read it");
    if let Some(name) = name {
        let critical = &json["critical"];
        assert_eq!(critical["image"]["docker-manifest-digest"], format!("sha256:{DIGEST}"));
        assert_eq!(critical["identity"]["docker-reference"], name);
        assert_eq!(critical["type"], "cosign container image signature");
    }
    if statement {
        assert_eq!(json["predicateType"], "https://sigstore.dev/cosign/sign/v1");
        let subjects = json["subject"].as_array().expect("subjects");
        assert!(subjects.iter().any(|one| one["digest"]["sha256"] == DIGEST), "{json}");
    }
});
