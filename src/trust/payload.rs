//! What a signature is of: verified by a key first, and only then read.
//!
//! | | signed bytes | the digest in them | the name in them |
//! |---|---|---|---|
//! | cosign's payload (specs/SIGNATURE_SPEC.md) | the payload | `critical.image.docker-manifest-digest` | `critical.identity.docker-reference` |
//! | DSSE envelope in a Sigstore bundle | its PAE | an in-toto statement's subject | the subject's `name`: cosign 3 writes none |
//! | message signature in a bundle | the manifest or index itself | is that of these bytes | none |
//!
//! Statements with another predicate type than that of `cosign sign` are attestations: who signs an SBOM says what is
//! in an image, and not that it may run.

use super::json::Json;
use super::key::Key;
use crate::image::digest::Digest;
use crate::source::{Attached, COSIGN_SIGN};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// `critical.type` of cosign's payload.
const SIMPLE_SIGNING_TYPE: &str = "cosign container image signature";
/// The payload type of DSSE envelopes that hold in-toto statements.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// `_type` of the in-toto statements that are read.
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
/// `mediaType` of the Sigstore bundles that are read (protobuf-specs, sigstore_bundle.proto).
const BUNDLES: [&str; 4] = [
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
    "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "application/vnd.dev.sigstore.bundle+json;version=0.1",
];
/// The most signatures of one envelope that are tried.
const ENVELOPE_SIGNATURES_MAX: usize = 8;

/// How many bytes an RSA key's signature has: as many as its modulus (RFC 8017, 8.2.1) of 2048, 3072 or 4096 bits. One of
/// an elliptic curve has 139 at most (P-521 in DER).
const RSA_SIZES: [usize; 3] = [256, 384, 512];

/// What a signature has to be of.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its digest, and
    pub digest: Digest,
    /// what has it: a manifest or an index.
    pub bytes: &'a [u8],
}

/// Why something is no signature of the subject; the later, the nearer it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Miss {
    /// It cannot be read before it is verified.
    Unreadable(String),
    /// None of the keys has made it.
    OtherKey,
    /// Nor this, which has so many bytes as only an RSA key's signature has.
    OtherKeyRsa(usize),
    /// One of the keys has made it, but it is no signature of an image.
    NoSignature(String),
    /// It is of something else.
    OtherDigest(String),
}

/// A signature that holds.
#[derive(Debug)]
pub(super) struct Signed<'a> {
    /// By which key.
    pub(super) key: &'a Key,
    /// The name in it.
    pub(super) name: Option<String>,
}

/// Whether one of the `keys` has signed `subject` by this.
pub(super) fn verify<'a>(attached: &Attached, subject: Subject, keys: &'a [Key]) -> Result<Signed<'a>, Miss> {
    match attached {
        Attached::Unusable(error) => Err(Miss::Unreadable(error.to_string())),
        Attached::SimpleSigning { payload, signature } => {
            let signature = base64(signature, "the signature")?;
            let key = by(keys, payload, &signature)?;
            Ok(Signed { key, name: Some(simple_signing(payload, subject)?) })
        }
        Attached::Bundle(bundle) => bundled(bundle, subject, keys),
    }
}

/// The key that has made it.
fn by<'a>(keys: &'a [Key], message: &[u8], signature: &[u8]) -> Result<&'a Key, Miss> {
    keys.iter().find(|key| key.verifies(message, signature)).ok_or(match signature.len() {
        size if RSA_SIZES.contains(&size) => Miss::OtherKeyRsa(size),
        _ => Miss::OtherKey,
    })
}

fn base64(text: &str, what: &str) -> Result<Vec<u8>, Miss> {
    STANDARD.decode(text).map_err(|_| Miss::Unreadable(format!("{what} is no base64")))
}

/// The name in a payload that a key of ours has signed.
pub(super) fn simple_signing(payload: &[u8], subject: Subject) -> Result<String, Miss> {
    let no = |why: &str| Miss::NoSignature(why.to_owned());
    let json = Json::parse(payload).map_err(|error| Miss::NoSignature(format!("the payload: {error}")))?;
    let Some(critical) = json.get("critical").filter(|_| json.has_exactly(&["critical", "optional"])) else {
        return Err(no("the payload is not cosign's"));
    };
    if critical.text_at("type") != Some(SIMPLE_SIGNING_TYPE) {
        return Err(no("the payload is of another type"));
    }
    let (Some(image), Some(identity)) = (critical.get("image"), critical.get("identity")) else {
        return Err(no("the payload names no image"));
    };
    let exact = critical.has_exactly(&["type", "image", "identity"])
        && image.has_exactly(&["docker-manifest-digest"])
        && identity.has_exactly(&["docker-reference"]);
    match (exact, image.text_at("docker-manifest-digest"), identity.text_at("docker-reference")) {
        (true, Some(digest), Some(name)) => same(digest, subject).map(|()| name.to_owned()),
        _ => Err(no("the payload's critical part is not cosign's")),
    }
}

fn same(digest: &str, subject: Subject) -> Result<(), Miss> {
    match digest == subject.digest.to_string() {
        true => Ok(()),
        false => Err(Miss::OtherDigest(digest.chars().take(80).collect())),
    }
}

fn bundled<'a>(bundle: &[u8], subject: Subject, keys: &'a [Key]) -> Result<Signed<'a>, Miss> {
    let unreadable = |why: &str| Miss::Unreadable(why.to_owned());
    let json = Json::parse(bundle).map_err(|error| Miss::Unreadable(format!("the bundle: {error}")))?;
    if !json.text_at("mediaType").is_some_and(|media_type| BUNDLES.contains(&media_type)) {
        return Err(unreadable("a bundle of an unknown version"));
    }
    match (json.get("dsseEnvelope"), json.get("messageSignature")) {
        (Some(envelope), None) => enveloped(envelope, subject, keys),
        (None, Some(message)) => {
            let signature = message.text_at("signature").ok_or(unreadable("a bundle without a signature"))?;
            let key = by(keys, subject.bytes, &base64(signature, "the signature")?)?;
            Ok(Signed { key, name: None })
        }
        _ => Err(unreadable("a bundle with neither an envelope nor a message signature, or with both")),
    }
}

fn enveloped<'a>(envelope: &Json, subject: Subject, keys: &'a [Key]) -> Result<Signed<'a>, Miss> {
    let parts = (envelope.text_at("payloadType"), envelope.text_at("payload"), envelope.get("signatures"));
    let (Some(kind), Some(payload), Some(signatures)) = parts else {
        return Err(Miss::Unreadable("the envelope is incomplete".to_owned()));
    };
    let payload = base64(payload, "the envelope's payload")?;
    let message = pre_authentication_encoding(kind, &payload);
    let mut key = Err(Miss::Unreadable("the envelope has no signature".to_owned()));
    for signature in signatures.list().iter().take(ENVELOPE_SIGNATURES_MAX) {
        let made = base64(signature.text_at("sig").unwrap_or_default(), "the signature");
        key = made.and_then(|signature| by(keys, &message, &signature));
        if key.is_ok() {
            break;
        }
    }
    let key = key?;
    if kind != IN_TOTO {
        return Err(Miss::NoSignature("the envelope holds no in-toto statement".to_owned()));
    }
    Ok(Signed { key, name: statement(&payload, subject)? })
}

/// PAE of DSSE's protocol.md: what is signed of an envelope.
fn pre_authentication_encoding(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

/// The name in a statement that a key of ours has signed.
pub(super) fn statement(payload: &[u8], subject: Subject) -> Result<Option<String>, Miss> {
    let no = |why: String| Miss::NoSignature(why);
    let json = Json::parse(payload).map_err(|error| no(format!("the statement: {error}")))?;
    if !json.text_at("_type").is_some_and(|kind| STATEMENTS.contains(&kind)) {
        return Err(no("the statement is of another type".to_owned()));
    }
    match json.text_at("predicateType") {
        Some(COSIGN_SIGN) => {}
        other => {
            let other: String = other.unwrap_or_default().escape_debug().take(80).collect();
            return Err(no(format!("an attestation ({other}) is no signature")));
        }
    }
    let subjects = json.get("subject").map_or(&[][..], Json::list);
    let hex = subject.digest.hex().to_string();
    let is_ours = |one: &&Json| {
        one.get("digest").and_then(|digest| digest.text_at("sha256")).is_some_and(|sha256| sha256 == hex)
    };
    match subjects.iter().find(is_ours) {
        Some(one) => Ok(one.text_at("name").filter(|name| !name.is_empty()).map(str::to_owned)),
        None => Err(Miss::OtherDigest("another image".to_owned())),
    }
}
