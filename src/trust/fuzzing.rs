//! Doors for `fuzz/`: policy, keys and signatures by plain types. Only there in builds with `--cfg fuzzing`; what has to
//! hold of them is said in `fuzz/fuzz_targets/`.

use super::key::Key;
use super::payload::{self, Subject, verify};
use super::policy::Policy;
use super::requirement::Requirement;
use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::source::Attached;

/// A policy: whether it accepts an image without any signature.
///
/// # Errors
/// Those that the user sees.
pub fn accepts_unsigned(policy: &[u8], image: &Reference) -> Result<bool> {
    let policy = Policy::parse(policy, "policy.json".to_owned())?;
    let (_, requirements) = policy.requirements(image)?;
    Ok(requirements.iter().all(|one| *one == Requirement::AcceptAnything))
}

/// A public key in PEM.
///
/// # Errors
/// Those that the user sees.
pub fn key(pem: &[u8]) -> Result<()> {
    Key::parse(pem, "cosign.pub".to_owned()).map(drop)
}

/// Whether the key in PEM has signed `subject` by this payload and signature, or, without a signature, by this bundle.
pub fn is_signed(data: &[u8], signature: Option<&str>, subject: &[u8], pem: &[u8]) -> bool {
    let keys = [Key::parse(pem, "cosign.pub".to_owned()).expect("a key")];
    let attached = match signature {
        Some(signature) => {
            Attached::SimpleSigning { payload: data.to_vec(), signature: signature.to_owned() }
        }
        None => Attached::Bundle(data.to_vec()),
    };
    verify(&attached, Subject { digest: Digest::of(subject), bytes: subject }, &keys).is_ok()
}

/// What is read of cosign's payload once a key has verified it: the name, if it is of `subject`.
pub fn name_in_payload(payload: &[u8], subject: &[u8]) -> Option<String> {
    payload::simple_signing(payload, Subject { digest: Digest::of(subject), bytes: subject }).ok()
}

/// What is read of an in-toto statement once a key has verified it: whether it is a signature of `subject`.
pub fn is_statement_of(payload: &[u8], subject: &[u8]) -> bool {
    payload::statement(payload, Subject { digest: Digest::of(subject), bytes: subject }).is_ok()
}
