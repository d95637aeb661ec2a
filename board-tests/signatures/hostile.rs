//! Registries whose signatures are made to hurt whoever looks at them. Each is refused, by the name of its limit where
//! it is too large, and costs no memory to speak of; nothing of the image is asked for.

use serde_json::{Value, json};

use super::layouts::{BUNDLE, bundle, listed, referrer, simple_signing};
use super::{data, image};
use crate::harness::*;

/// Much more than the lists in question have.
const COUNT: usize = 10_000;
/// The most that may be resident, in KiB, as for evil images. A document of 4 MiB that is refused takes 7 MiB.
const PEAK_MAX: u64 = 8 << 10;

/// What is attached to the image: the manifest behind cosign's tag, and the list of referrers.
struct Attached {
    tag: Option<Vec<u8>>,
    referrers: Option<Vec<u8>>,
    blobs: Vec<Vec<u8>>,
}

/// The image is refused, for this reason.
fn refused(what: &str, attached: Attached, reason: &str) {
    refused_with(exit::VERIFICATION, what, attached, reason);
}

fn refused_with(code: i32, what: &str, attached: Attached, reason: &str) {
    let image = image("a");
    let blobs = attached.blobs.into_iter().chain([b"{}".to_vec()]);
    let served =
        blobs.fold(image.clone(), |artifact, blob| artifact.with_blob(&digest_of(&blob), blob.clone()));
    let tag = image.digest().replace(':', "-");
    let answer = |document: Option<Vec<u8>>| match document {
        Some(body) => vec![Answer::Exactly(200, vec![], body); 3],
        None => vec![Answer::status(404); 3],
    };
    let registry = FakeRegistry::serving(&served)
        .at(&format!("{tag}.sig"), answer(attached.tag))
        .at(&format!("referrers/{}", image.digest()), answer(attached.referrers))
        .at(&format!("manifests/{tag}"), answer(None));
    let scratch = Scratch::new();
    let board = Board::this_machine();
    let (key, root) = (data("keys/a.pub"), scratch.at("root"));
    let outcome = board.edgepull(["-v", "--verify-key", &key, "pull", &registry.image(), &root]);
    let outcome = outcome.fails_with(code).saying(reason).saying(&image.digest()["sha256:".len()..][..12]);
    let said = outcome.stderr();
    let peak = said.split("(VmHWM): ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert!(peak.is_some_and(|peak: u64| peak < PEAK_MAX), "{what}: {said}");
    let layer = image.layer(0);
    assert!(!registry.requests().iter().any(|request| request.path.ends_with(&layer)), "{what}: was fetched");
    assert!(scratch.names().iter().all(|name| name != "root"), "{what}: left behind");
}

fn by_tag(manifest: Vec<u8>, blobs: &[Vec<u8>]) -> Attached {
    Attached { tag: Some(manifest), referrers: None, blobs: blobs.to_vec() }
}

fn among_referrers(list: Vec<u8>, blobs: &[Vec<u8>]) -> Attached {
    Attached { tag: None, referrers: Some(list), blobs: blobs.to_vec() }
}

fn changed(json: &[u8], change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut value = serde_json::from_slice(json).expect("JSON");
    change(&mut value);
    value.to_string().into()
}

#[test]
fn signatures_behind_the_tag() {
    let (scratch, digest) = (Scratch::new(), image("a").digest().to_owned());
    let (payload, manifest) = simple_signing(&scratch, &digest, "r.example/app:1");
    let honest = [payload.clone()];
    let many = |count: usize| {
        changed(&manifest, |manifest| {
            let layer = manifest["layers"][0].clone();
            manifest["layers"] = vec![layer; count].into();
        })
    };
    refused("10,000 layers", by_tag(many(COUNT), &honest), "more than 1024");
    refused("1,000 layers", by_tag(many(1000), &honest), "SIGNATURES_MAX");
    let size = |size: u64| changed(&manifest, |manifest| manifest["layers"][0]["size"] = size.into());
    refused("a payload of 1 TiB", by_tag(size(1 << 40), &honest), "PAYLOAD_MAX");
    refused("a payload that is longer", by_tag(size(10), &honest), "its descriptor says");
    refused("a payload that is shorter", by_tag(size(60 << 10), &honest), "its descriptor says 61440");
    let signature = |text: &str| {
        changed(&manifest, |manifest| {
            manifest["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"] = text.into();
        })
    };
    refused("a signature of 1 MiB", by_tag(signature(&"A".repeat(1 << 20)), &honest), "has no signature");
    refused("a signature of 2 KiB", by_tag(signature(&"A".repeat(2 << 10)), &honest), "no signature");
    refused("no base64", by_tag(signature("%%%"), &honest), "base64");
    refused("no DER", by_tag(signature("AAAA"), &honest), "none of 1 signatures is by");
    let unsigned = changed(&manifest, |manifest| manifest["layers"][0]["annotations"] = json!({}));
    refused("no annotation", by_tag(unsigned, &honest), "no signature");
    refused("no payload", by_tag(manifest.clone(), &[]), "does not have it");
    // Says nothing of who has signed: it is no registry that answers so.
    refused_with(exit::NETWORK, "no manifest", by_tag(b"[]".to_vec(), &[]), "its answer is no manifest");
    refused("5 MiB", by_tag(vec![b' '; 5 << 20], &[]), "4 MiB");
    let (payload, of_another) = simple_signing(&scratch, &digest_of(b"x"), "r.example/app:1");
    refused("another's", by_tag(of_another, &[payload]), "its signature is that of sha256:2d711642b726b044");
}

#[test]
fn signatures_among_referrers() {
    let (scratch, image) = (Scratch::new(), image("a"));
    let good = bundle(&scratch, image.digest(), "https://sigstore.dev/cosign/sign/v1");
    let manifest = referrer(&image, BUNDLE, &good);
    let list = listed(&manifest, BUNDLE);
    let honest = [good.clone(), manifest.clone()];
    let many = |count: usize| {
        changed(&list, |list| {
            // Of another key, so that no one is enough.
            let entry = list["manifests"][0].clone();
            list["manifests"] = vec![entry; count].into();
        })
    };
    refused("10,000 referrers", among_referrers(many(COUNT), &honest), "more than 1024");
    refused("5 MiB", among_referrers(vec![b' '; 5 << 20], &honest), "4 MiB");
    refused("no list", among_referrers(manifest.clone(), &honest), "announced as");
    let page = among_referrers(b"<html>".to_vec(), &honest);
    refused_with(exit::NETWORK, "no JSON", page, "its answer is no manifest");
    let size = changed(&list, |list| list["manifests"][0]["size"] = (1u64 << 40).into());
    refused("a manifest of 1 TiB", among_referrers(size, &honest), "PAYLOAD_MAX");
    let other = referrer(&super::image("b"), BUNDLE, &good);
    refused("another's", among_referrers(listed(&other, BUNDLE), &[good.clone(), other]), "another image");
    refused("not there", among_referrers(list.clone(), &[]), "does not have it");
    let typed = listed(&manifest, "application/spdx+json");
    refused("an SBOM", among_referrers(typed, &honest), "no signature");
    for (what, broken, reason) in [
        ("cut", good[..good.len() / 2].to_vec(), "the bundle"),
        ("deep", format!("{}{}", "[".repeat(30_000), "]".repeat(30_000)).into_bytes(), "recursion"),
        ("wide", format!("[{}0]", "0,".repeat(30_000)).into_bytes(), "VALUES_MAX"),
        ("twice", [b"{\"mediaType\":\"x\",", &good[1..]].concat(), "occurs twice"),
        (
            "of tomorrow",
            String::from_utf8_lossy(&good).replace("v0.3", "v9.0").into_bytes(),
            "unknown version",
        ),
        (
            "another type",
            changed(&good, |bundle| bundle["dsseEnvelope"]["payloadType"] = "x".into()),
            "is by",
        ),
    ] {
        let manifest = referrer(&image, BUNDLE, &broken);
        let attached = among_referrers(listed(&manifest, BUNDLE), &[broken, manifest]);
        refused(what, attached, reason);
    }
}

/// However many there are that are none, no more than a bounded number is asked for.
#[test]
fn what_is_no_signature_is_not_looked_at_for_ever() {
    let (scratch, image) = (Scratch::new(), image("a"));
    let attestation = bundle(&scratch, image.digest(), "https://slsa.dev/provenance/v1");
    let manifest = referrer(&image, BUNDLE, &attestation);
    let list = changed(&listed(&manifest, BUNDLE), |list| {
        let entry = list["manifests"][0].clone();
        list["manifests"] = vec![entry; 1000].into();
    });
    let served = [&attestation[..], &manifest, b"{}"];
    let served = served
        .iter()
        .fold(image.clone(), |artifact, blob| artifact.with_blob(&digest_of(blob), blob.to_vec()));
    let registry = FakeRegistry::serving(&served)
        .at(&format!("referrers/{}", image.digest()), [Answer::Exactly(200, vec![], list)]);
    let root = scratch.at("root");
    let key = data("keys/a.pub");
    let outcome = Board::this_machine().edgepull(["--verify-key", &key, "pull", &registry.image(), &root]);
    outcome.fails_with(exit::VERIFICATION).saying("slsa.dev/provenance");
    assert!(registry.requests().len() < 150, "{} requests", registry.requests().len());
}
