//! Signatures made by others (tests/data/signatures), and hostile ones made on the spot.

use super::*;
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use crate::source::Fetched;
use crate::source::Found;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use payload::Signed;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use std::io::Read;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/signatures").join(name)
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(data(name)).unwrap()
}

fn key(name: &str) -> Vec<Key> {
    vec![Key::read(&data(name)).unwrap()]
}

/// The manifest that the files in tests/data/signatures are about.
fn manifest() -> Vec<u8> {
    file("containers-image/manifest.json")
}

fn subject(bytes: &[u8]) -> Subject<'_> {
    Subject { digest: Digest::of(bytes), bytes }
}

/// A signature as containers/image keeps them: payload and annotations in one JSON document.
fn published(name: &str) -> Attached {
    let json: Value = serde_json::from_slice(&file(name)).unwrap();
    let payload = STANDARD.decode(json["payload"].as_str().unwrap()).unwrap();
    let signature = json["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap().to_owned();
    Attached::SimpleSigning { payload, signature }
}

fn bundle(name: &str) -> Attached {
    Attached::Bundle(file(&format!("bundles/{name}.json")))
}

/// A signer of our own.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Signer {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random);
        Signer(pair.unwrap())
    }

    fn pem(&self) -> String {
        let head =
            b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\
            \x03\x42\x00";
        pem(&[head, self.0.public_key().as_ref()].concat())
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::parse(self.pem().as_bytes(), "ours".into()).unwrap()]
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    fn payload(&self, payload: &str) -> Attached {
        let signature = STANDARD.encode(self.signature(payload.as_bytes()));
        Attached::SimpleSigning { payload: payload.into(), signature }
    }

    fn envelope(&self, kind: &str, payload: &str) -> Value {
        let message = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        let signature = STANDARD.encode(self.signature(message.as_bytes()));
        json!({ "payloadType": kind, "payload": STANDARD.encode(payload), "signatures": [{ "sig": signature }] })
    }

    fn statement(&self, payload: &str) -> Attached {
        bundle_of(json!({ "dsseEnvelope": self.envelope("application/vnd.in-toto+json", payload) }))
    }
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
}

fn simple_signing(digest: &str, name: &str) -> String {
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    )
}

fn bundle_of(mut content: Value) -> Attached {
    content["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.3+json".into();
    Attached::Bundle(content.to_string().into_bytes())
}

fn statement(digest: &Digest) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": digest.hex().to_string() } }],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
    })
}

#[test]
fn what_cosign_and_skopeo_have_signed_holds() {
    let (manifest, keys) = (manifest(), key("containers-image/cosign.pub"));
    let name =
        |file: &str| verify(&published(file), subject(&manifest), &keys).map(|signed| signed.name.unwrap());
    assert_eq!(name("containers-image/valid.json").unwrap(), "192.168.64.2:5000/cosign-signed-single-sample");
    assert!(name("containers-image/with-tag.json").unwrap().ends_with(":tag"));
    assert_eq!(name("containers-image/unknown-key.json"), Err(Miss::OtherKey));
    let other = verify(&published("containers-image/valid.json"), subject(b"{}"), &keys).unwrap_err();
    assert!(matches!(other, Miss::OtherDigest(_)), "{other:?}");
}

#[test]
fn bundles_of_sigstore_s_own_library_hold() {
    let manifest = manifest();
    for (name, key_file, signed_as) in [
        ("p256-dsse", "p256", None),
        ("p256-dsse-bare", "p256", None),
        ("p256-dsse-named", "p256", Some("r.example/app:1")),
        ("p256-message", "p256", None),
        ("p384-dsse", "p384", None),
        ("ed25519-dsse", "ed25519", None),
    ] {
        let keys = key(&format!("bundles/{key_file}.pub"));
        let Signed { name: found, .. } = verify(&bundle(name), subject(&manifest), &keys).expect(name);
        assert_eq!(found.as_deref(), signed_as, "{name}");
        let others = key("containers-image/cosign.pub");
        assert_eq!(verify(&bundle(name), subject(&manifest), &others).unwrap_err(), Miss::OtherKey, "{name}");
        assert!(verify(&bundle(name), subject(b"{}"), &keys).is_err(), "{name} of another image");
        for version in ["0.1", "0.2", "0.3"] {
            let old = format!("application/vnd.dev.sigstore.bundle+json;version={version}");
            let text = String::from_utf8(file(&format!("bundles/{name}.json"))).unwrap();
            let text = text.replace("application/vnd.dev.sigstore.bundle.v0.3+json", &old);
            assert!(verify(&Attached::Bundle(text.into()), subject(&manifest), &keys).is_ok(), "{old}");
        }
    }
    let keys = key("bundles/p256.pub");
    for (name, why) in [("p256-attestation", "slsa.dev/provenance"), ("p256-not-in-toto", "no in-toto")] {
        match verify(&bundle(name), subject(&manifest), &keys) {
            Err(Miss::NoSignature(said)) => assert!(said.contains(why), "{said}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    let other = verify(&bundle("p256-dsse-other"), subject(&manifest), &keys).unwrap_err();
    assert!(matches!(other, Miss::OtherDigest(_)), "{other:?}");
}

#[test]
fn a_key_verifies_what_it_has_signed_and_nothing_else() {
    let (ours, theirs) = (Signer::new(), Signer::new());
    let signature = ours.signature(b"message");
    let key = &ours.keys()[0];
    assert!(key.verifies(b"message", &signature));
    assert!(!key.verifies(b"massage", &signature) && !key.verifies(b"", &signature));
    assert!(!theirs.keys()[0].verifies(b"message", &signature));
    let ed25519 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let ed25519 = Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap();
    let head = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
    let public = pem(&[head, ed25519.public_key().as_ref()].concat());
    let other = Key::parse(public.as_bytes(), "ed".into()).unwrap();
    assert!(other.verifies(b"message", ed25519.sign(b"message").as_ref()));
    assert!(!other.verifies(b"message", &signature), "another algorithm's signature");
    assert!(!key.verifies(b"message", ed25519.sign(b"message").as_ref()));
    // Every change of one byte, every prefix, and what follows the end.
    for at in 0..signature.len() {
        let mut broken = signature.clone();
        broken[at] ^= 1;
        assert!(!key.verifies(b"message", &broken), "byte {at}");
        assert!(!key.verifies(b"message", &signature[..at]), "cut at {at}");
    }
    assert!(!key.verifies(b"message", &[&signature[..], &[0]].concat()));
    for (name, garbage) in [
        ("r and s of 0", &b"\x30\x06\x02\x01\x00\x02\x01\x00"[..]),
        ("negative", b"\x30\x06\x02\x01\xff\x02\x01\xff"),
        ("indefinite length", b"\x30\x80\x02\x01\x01\x02\x01\x01\x00\x00"),
        ("a length beyond the end", b"\x30\x84\xff\xff\xff\xff"),
    ] {
        assert!(!key.verifies(b"message", garbage), "{name}");
    }
}

/// The twin of an ECDSA signature, whose s is the order less s, is as good: Go's crypto/ecdsa, which the peers verify
/// with, takes it, too.
#[test]
fn an_ecdsa_signature_s_twin_is_as_good() {
    const ORDER: [u8; 32] = *b"\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\
        \xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51";
    let signer = Signer::new();
    let signature = signer.signature(b"message");
    let integer = |bytes: &[u8]| {
        let mut number = [0; 32];
        let digits = &bytes[bytes.len().saturating_sub(32)..];
        number[32 - digits.len()..].copy_from_slice(digits);
        number
    };
    let length = usize::from(signature[3]);
    let s = integer(&signature[6 + length..]);
    let (mut twin, mut borrow) = ([0u8; 32], 0i16);
    for at in (0..32).rev() {
        let digit = i16::from(ORDER[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(digit < 0);
        twin[at] = digit.rem_euclid(256) as u8;
    }
    let start = twin.iter().position(|byte| *byte != 0).unwrap();
    let mut encoded = twin[start..].to_vec();
    if encoded[0] > 0x7f {
        encoded.insert(0, 0);
    }
    let r = &signature[2..4 + length];
    let body = [r, &[2, encoded.len() as u8], &encoded].concat();
    let twin = [&[0x30, body.len() as u8][..], &body].concat();
    assert_ne!(twin, signature);
    assert!(signer.keys()[0].verifies(b"message", &twin));
}

#[test]
fn keys_that_are_none_are_named() {
    let good = Signer::new().pem();
    let der = STANDARD.decode(good.lines().nth(1).unwrap()).unwrap();
    let changed = |at: usize| {
        let mut der = der.clone();
        der[at] ^= 0x20;
        pem(&der)
    };
    for (text, reason) in [
        (String::new(), "no public key"),
        ("hello".into(), "no public key"),
        (good[..60].to_owned(), "broken PEM"),
        (good.replace("MFk", "M*k"), "broken PEM"),
        (good.repeat(2), "more than one"),
        (pem(&der[..der.len() - 1]), "not read"),
        (pem(&[&der[..], &[0]].concat()), "not read"),
        (changed(20), "not read"),
        (changed(26), "not read"),
        (good.replace("PUBLIC KEY", "CERTIFICATE"), "a certificate"),
        (good.replace("PUBLIC KEY", "PRIVATE KEY"), "a private key"),
        (good.replace("PUBLIC KEY", "ENCRYPTED COSIGN PRIVATE KEY"), "a private key"),
        (String::from_utf8(file("keys/rsa.pub")).unwrap(), "RSA keys are not read"),
    ] {
        let error = Key::parse(text.as_bytes(), "k.pub".into()).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().contains(reason) && error.to_string().contains("k.pub"), "{text}: {error}");
    }
    assert!(Key::parse(format!("a comment\n{good}").as_bytes(), String::new()).is_ok());
    // A point that is not on the curve verifies nothing, and is told when it is read.
    let error = Key::parse(changed(40).as_bytes(), "k.pub".into()).unwrap_err().to_string();
    assert!(error.contains("k.pub: not a point of its curve"), "{error}");
}

#[test]
fn a_key_by_which_everybody_signs_is_refused_wherever_it_is_from() {
    let neutral =
        pem(&[b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00\x01".as_slice(), &[0; 31]].concat());
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let bad = write("bad.pub", &neutral);
    let good = write("good.pub", &Signer::new().pem());
    let (data, accept) = (STANDARD.encode(&neutral), json!([{ "type": "insecureAcceptAnything" }]));
    for (policy, keys) in [
        (accept, vec![good.clone(), bad.clone()]),
        (json!([{ "type": "sigstoreSigned", "keyPath": bad }]), vec![]),
        (json!([{ "type": "sigstoreSigned", "keyPaths": [good, bad] }]), vec![]),
        (json!([{ "type": "sigstoreSigned", "keyData": data }]), vec![]),
        (json!([{ "type": "sigstoreSigned", "keyDatas": [data] }]), vec![]),
    ] {
        let text = json!({ "default": policy }).to_string();
        let policy = write("policy.json", &text);
        let error = Trust::new(&"r.example/app:1".parse().unwrap(), Some(&policy), &keys).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{text}");
        assert!(error.to_string().contains("low order"), "{text}: {error}");
    }
}

#[test]
fn a_payload_says_exactly_what_cosign_s_says() {
    let signer = Signer::new();
    let image = b"{}";
    let good = simple_signing(&Digest::of(image).to_string(), "a.b/c:1");
    let keys = signer.keys();
    let judged =
        |text: &str| verify(&signer.payload(text), subject(image), &keys).map(|signed| signed.name.unwrap());
    assert_eq!(judged(&good).unwrap(), "a.b/c:1");
    assert_eq!(judged(&good.replace("null", r#"{"creator":"x","timestamp":1}"#)).unwrap(), "a.b/c:1");
    let identity = r#""identity":{"docker-reference":"a.b/c:1"},"#;
    for (from, to) in [
        ("cosign container image signature", "atomic container signature"),
        (",\"optional\":null", ""),
        ("\"optional\":null", "\"optional\":null,\"more\":1"),
        ("\"optional\":null", "\"optional\":null,\"optional\":null"),
        ("\"critical\":", "\"Critical\":"),
        (identity, ""),
        (identity, &format!("{identity}{identity}")),
        (identity, &format!("{identity}\"more\":1,")),
        (r#""docker-reference":"a.b/c:1""#, r#""docker-reference":1"#),
        (r#""docker-reference":"a.b/c:1""#, r#""docker-reference":"x","docker-reference":"a.b/c:1""#),
        (r#""docker-manifest-digest":"#, r#""docker-manifest-digest":"x","docker-manifest-digest":"#),
        ("}", "]"),
        ("{\"critical\"", "x{\"critical\""),
    ] {
        let miss = judged(&good.replacen(from, to, 1)).unwrap_err();
        assert!(matches!(miss, Miss::NoSignature(_)), "{to}: {miss:?}");
    }
    for cut in 0..good.len() {
        assert!(matches!(judged(&good[..cut]), Err(Miss::NoSignature(_))), "cut at {cut}");
    }
    for digest in
        ["sha256:", "", &Digest::of(b"other").to_string(), &Digest::of(image).to_string().to_uppercase()]
    {
        let miss = judged(&simple_signing(digest, "a.b/c:1")).unwrap_err();
        assert!(matches!(miss, Miss::OtherDigest(_)), "{digest}: {miss:?}");
    }
    // Nothing of it counts that was not signed: not a changed payload, not a signature that is no base64.
    let Attached::SimpleSigning { signature, .. } = signer.payload(&good) else { panic!() };
    let payload = good.replace("c:1", "c:2").into_bytes();
    let changed = Attached::SimpleSigning { payload, signature: signature.clone() };
    assert_eq!(verify(&changed, subject(image), &keys).unwrap_err(), Miss::OtherKey);
    for signature in ["", "!", "AA=", &format!("{signature}="), &signature.replace('M', "\n")] {
        let broken = Attached::SimpleSigning { payload: good.clone().into(), signature: signature.into() };
        assert!(verify(&broken, subject(image), &keys).is_err(), "{signature:?}");
    }
}

#[test]
fn a_statement_is_a_signature_only_if_it_says_so() {
    let signer = Signer::new();
    let image = b"{}";
    let keys = signer.keys();
    let good = statement(&Digest::of(image));
    let judged = |statement: &Value| verify(&signer.statement(&statement.to_string()), subject(image), &keys);
    assert!(judged(&good).is_ok());
    let changes: [(&str, Value); 8] = [
        ("predicateType", "https://slsa.dev/provenance/v1".into()),
        ("predicateType", "https://spdx.dev/Document".into()),
        ("predicateType", Value::Null),
        ("_type", "https://in-toto.io/Statement/v2".into()),
        ("subject", json!([])),
        ("subject", json!({ "digest": { "sha256": "" } })),
        ("subject", json!([{ "digest": { "sha512": Digest::of(image).hex().to_string() } }])),
        ("subject", json!([{ "digest": { "sha256": Digest::of(image).to_string() } }])),
    ];
    for (field, value) in changes {
        let mut changed = good.clone();
        changed[field] = value.clone();
        assert!(judged(&changed).is_err(), "{field}: {value}");
    }
    let twice = good.to_string().replacen('{', r#"{"predicateType":"https://slsa.dev/provenance/v1","#, 1);
    assert!(verify(&signer.statement(&twice), subject(image), &keys).is_err());
    // The type that is written is the type that was signed.
    let mut retyped = signer.envelope("application/json", &good.to_string());
    retyped["payloadType"] = "application/vnd.in-toto+json".into();
    let miss = verify(&bundle_of(json!({ "dsseEnvelope": retyped })), subject(image), &keys).unwrap_err();
    assert_eq!(miss, Miss::OtherKey);
    // Signed as a message or as a payload is not signed as a statement.
    let text = good.to_string();
    let mut bare = signer.envelope("application/vnd.in-toto+json", &text);
    bare["signatures"][0]["sig"] = STANDARD.encode(signer.signature(text.as_bytes())).into();
    let miss = verify(&bundle_of(json!({ "dsseEnvelope": bare })), subject(image), &keys).unwrap_err();
    assert_eq!(miss, Miss::OtherKey);
}

#[test]
fn bundles_that_cannot_be_read_are_none() {
    let signer = Signer::new();
    let image = b"{}";
    let envelope =
        signer.envelope("application/vnd.in-toto+json", &statement(&Digest::of(image)).to_string());
    let message = json!({ "signature": STANDARD.encode(signer.signature(image)) });
    let keys = signer.keys();
    let judged = |bundle: &Attached| verify(bundle, subject(image), &keys).map(drop);
    assert_eq!(judged(&bundle_of(json!({ "dsseEnvelope": envelope, "unknown": [1, 2.5] }))), Ok(()));
    assert_eq!(judged(&bundle_of(json!({ "messageSignature": message }))), Ok(()));
    let without = |field: &str| {
        let mut envelope = envelope.clone();
        envelope.as_object_mut().unwrap().remove(field);
        bundle_of(json!({ "dsseEnvelope": envelope }))
    };
    let with = |field: &str, value: Value| {
        let mut envelope = envelope.clone();
        envelope[field] = value;
        bundle_of(json!({ "dsseEnvelope": envelope }))
    };
    let mut versioned = json!({ "dsseEnvelope": envelope });
    versioned["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.4+json".into();
    for (name, bundle) in [
        ("both", bundle_of(json!({ "dsseEnvelope": envelope, "messageSignature": message }))),
        ("neither", bundle_of(json!({}))),
        ("of tomorrow", Attached::Bundle(versioned.to_string().into_bytes())),
        ("no JSON", Attached::Bundle(b"{".to_vec())),
        ("empty", Attached::Bundle(Vec::new())),
        ("no type", without("payloadType")),
        ("no payload", without("payload")),
        ("no signatures", without("signatures")),
        ("an empty list", with("signatures", json!([]))),
        ("no text", with("signatures", json!([{ "sig": 1 }]))),
        ("no base64", with("payload", "*".into())),
        (
            "the ninth",
            with("signatures", {
                let mut list = vec![json!({ "sig": "AAAA" }); 8];
                list.push(envelope["signatures"][0].clone());
                list.into()
            }),
        ),
        ("an empty message signature", bundle_of(json!({ "messageSignature": { "signature": "" } }))),
    ] {
        assert!(judged(&bundle).is_err(), "{name}");
    }
}

type Make = fn(&Signer, &Digest) -> Attached;

/// A store that has nothing but signatures.
#[derive(Default)]
struct Shelf {
    attached: Vec<(Digest, Make)>,
    signer: Option<Signer>,
    asked: Vec<Digest>,
}

impl Source for Shelf {
    fn root(&mut self) -> Result<Fetched> {
        unreachable!()
    }
    fn manifest(&mut self, _: &Descriptor) -> Result<Fetched> {
        unreachable!()
    }
    fn config(&mut self, _: &Descriptor) -> Result<Fetched> {
        unreachable!()
    }
    fn layer(&mut self, _: &Descriptor, _: u64) -> Result<Box<dyn Read + Send>> {
        unreachable!()
    }
    fn signatures(&mut self, digest: &Digest, found: &mut Found) -> Result<()> {
        self.asked.push(*digest);
        for (of, make) in &self.attached {
            if of == digest && found(make(self.signer.as_ref().unwrap(), digest)) {
                break;
            }
        }
        Ok(())
    }
}

/// Signs by bytes as many as a signature by an RSA key of 2048 bits has.
fn by_rsa(_: &Signer, root: &Digest) -> Attached {
    let payload = simple_signing(&root.to_string(), "r.example/app:1").into_bytes();
    Attached::SimpleSigning { payload, signature: STANDARD.encode([7; 256]) }
}

fn named(signer: &Signer, digest: &Digest) -> Attached {
    signer.payload(&simple_signing(&digest.to_string(), "r.example/app:1"))
}

fn elsewhere(signer: &Signer, digest: &Digest) -> Attached {
    signer.payload(&simple_signing(&digest.to_string(), "r.example/other:1"))
}

fn nameless(signer: &Signer, digest: &Digest) -> Attached {
    signer.statement(&statement(digest).to_string())
}

/// What becomes of `r.example/app:1`, an index of `root` with a `manifest`, under these requirements.
fn judge(shelf: &mut Shelf, requirements: Value, more: &[&Signer]) -> Result<bool> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let signer = shelf.signer.get_or_insert_with(Signer::new);
    write("k.pub", signer.pem());
    let text = requirements.to_string().replace("$", folder.path().to_str().unwrap());
    let policy =
        format!(r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{"r.example":{text}}}}}}}"#);
    let policy = write("policy.json", policy);
    let keys: Vec<_> =
        more.iter().enumerate().map(|(at, key)| write(&format!("{at}.pub"), key.pem())).collect();
    let trust = Trust::new(&"r.example/app:1".parse().unwrap(), Some(&policy), &keys).unwrap();
    trust.check(shelf, subject(b"root"), subject(b"manifest"))
}

#[test]
fn a_signature_covers_the_index_or_the_manifest() {
    let (root, manifest) = (Digest::of(b"root"), Digest::of(b"manifest"));
    let signed = json!([{ "type": "sigstoreSigned", "keyPath": "$/k.pub" }]);
    let mut shelf = Shelf { attached: vec![(root, named)], ..Shelf::default() };
    assert!(judge(&mut shelf, signed.clone(), &[]).unwrap(), "the index is covered");
    assert_eq!(shelf.asked, [root], "no more is asked for than needed");
    let mut shelf = Shelf { attached: vec![(manifest, named)], ..Shelf::default() };
    assert!(!judge(&mut shelf, signed.clone(), &[]).unwrap(), "the index is nobody's word");
    assert_eq!(shelf.asked, [root, manifest]);
    let error = judge(&mut Shelf::default(), signed, &[]).unwrap_err();
    assert_eq!(error.kind(), Kind::Verification);
    for part in [root.to_string(), manifest.to_string(), "docker: r.example".into(), "no signature".into()] {
        assert!(error.to_string().contains(&part), "{error}");
    }
}

#[test]
fn every_requirement_has_to_be_met() {
    let root = Digest::of(b"root");
    let (ours, theirs) = (Signer::new(), Signer::new());
    let by_name = json!({ "type": "sigstoreSigned", "keyPath": "$/k.pub" });
    let mut by_digest = by_name.clone();
    by_digest["signedIdentity"] = json!({ "type": "digestOnly" });
    let key = json!({ "type": "sigstoreSigned", "keyData": STANDARD.encode(theirs.pem()),
        "signedIdentity": { "type": "digestOnly" } });
    let accept = json!({ "type": "insecureAcceptAnything" });
    let gpg = json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPath": "/x" });
    let mut shelf = Shelf { signer: Some(ours), attached: vec![(root, named)], ..Shelf::default() };
    let mut says = |requirements: Value, more: &[&Signer]| match judge(&mut shelf, requirements, more) {
        Ok(_) => String::new(),
        Err(error) => {
            assert_eq!(error.kind(), Kind::Verification);
            error.to_string()
        }
    };
    assert_eq!(says(json!([by_name, accept]), &[]), "");
    assert_eq!(says(json!([accept]), &[]), "");
    assert!(says(json!([by_name, { "type": "reject" }]), &[]).contains("rejects"));
    assert!(says(json!([accept, gpg]), &[]).contains("GPG"));
    assert!(says(json!([by_name, key]), &[]).contains("none of 1 signatures is by keyData of the policy"));
    let base = json!({ "type": "signedBaseLayer", "baseLayerIdentity": { "type": "matchExact" } });
    assert!(says(json!([accept, base]), &[]).contains("it demands signedBaseLayer"));
    let why = says(json!([accept]), &[&theirs]);
    assert!(!why.contains("RSA"), "{why}");
    // --verify-key demands more, and never less.
    assert!(says(json!([accept]), &[&theirs]).contains("--verify-key"));
    assert!(says(json!([{ "type": "reject" }]), &[&theirs]).contains("rejects"));

    shelf = Shelf { signer: shelf.signer, attached: vec![(root, by_rsa)], ..Shelf::default() };
    let error = judge(&mut shelf, json!([by_name]), &[]).unwrap_err().to_string();
    for part in ["none of 1 signatures", "256 bytes", "RSA keys are not read", "P-384, or Ed25519"] {
        assert!(error.contains(part), "{error}");
    }
    shelf = Shelf {
        signer: shelf.signer,
        attached: vec![(root, elsewhere), (root, nameless)],
        ..Shelf::default()
    };
    let error = judge(&mut shelf, json!([by_name]), &[]).unwrap_err().to_string();
    assert!(error.contains("signed as r.example/other:1, not as r.example/app:1"), "{error}");
    assert!(judge(&mut shelf, json!([by_digest]), &[]).is_ok());
    shelf.attached.remove(0);
    let error = judge(&mut shelf, json!([by_name]), &[]).unwrap_err().to_string();
    assert!(error.contains("signed without a name"), "{error}");
    assert!(judge(&mut shelf, json!([by_digest]), &[]).is_ok());
}

#[test]
fn of_several_keys_any_may_have_signed() {
    let (old, new) = (Signer::new(), Signer::new());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, key: &Signer| {
        let path = folder.path().join(name);
        std::fs::write(&path, key.pem()).unwrap();
        path
    };
    let (old_file, new_file) = (file("old.pub", &old), file("new.pub", &new));
    let policy = folder.path().join("p.json");
    std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let mut shelf =
        Shelf { attached: vec![(Digest::of(b"root"), nameless)], signer: Some(old), ..Shelf::default() };
    let image = "r.example/app:1".parse().unwrap();
    let mut check = |keys: &[PathBuf]| {
        let trust = Trust::new(&image, Some(&policy), keys).unwrap();
        trust.check(&mut shelf, subject(b"root"), subject(b"root"))
    };
    assert!(check(std::slice::from_ref(&old_file)).is_ok());
    assert!(check(&[new_file.clone(), old_file]).is_ok());
    let error = check(&[new_file]).unwrap_err().to_string();
    assert!(error.contains("new.pub") && error.contains(&Digest::of(b"root").to_string()), "{error}");
    // Files that cannot be read are no licence.
    let absent = folder.path().join("absent");
    assert_eq!(Trust::new(&image, Some(&absent), &[]).unwrap_err().kind(), Kind::Usage);
    assert_eq!(Trust::new(&image, Some(&policy), &[absent]).unwrap_err().kind(), Kind::Usage);
}
