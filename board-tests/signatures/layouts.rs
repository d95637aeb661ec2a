//! cosign 3's layout, with signatures by openssl: bundles among the referrers of an image, in registries that
//! know referrers and in one that does not; and all layouts in OCI layouts, for boards without a network.

use serde_json::{Value, json};

use super::{data, image, rule};
use crate::harness::*;

pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Signs with key `a`, by openssl.
pub fn signed(scratch: &Scratch, message: &[u8]) -> String {
    let (file, out) = (scratch.write("message", message), scratch.at("signature"));
    run("openssl", ["dgst", "-sha256", "-sign", &data("keys/a.plain.key"), "-out", &out, &file]);
    base64(&std::fs::read(out).expect("a signature"))
}

/// What cosign 3 makes of `digest`, or another tool, with another predicate type.
pub fn bundle(scratch: &Scratch, digest: &str, predicate_type: &str) -> Vec<u8> {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": &digest[7..] }, "annotations": {} }],
        "predicateType": predicate_type,
        "predicate": {},
    });
    let (kind, statement) = ("application/vnd.in-toto+json", statement.to_string());
    let message = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
    let signature = signed(scratch, message.as_bytes());
    let envelope = json!({ "payload": base64(statement.as_bytes()), "payloadType": kind,
        "signatures": [{ "sig": signature }] });
    let material = json!({ "publicKey": { "hint": "none" } });
    json!({ "mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope })
        .to_string()
        .into()
}

fn descriptor(media_type: &str, data: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest_of(data), "size": data.len() })
}

/// A manifest that is attached to `subject`, with one layer.
pub fn referrer(subject: &Artifact, media_type: &str, layer: &[u8]) -> Vec<u8> {
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": media_type,
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [descriptor(media_type, layer)],
        "subject": subject.descriptor,
    })
    .to_string()
    .into()
}

/// The list of one referrer.
pub fn listed(manifest: &[u8], artifact_type: &str) -> Vec<u8> {
    let mut entry = descriptor(MANIFEST, manifest);
    entry["artifactType"] = artifact_type.into();
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] }).to_string().into()
}

/// cosign's payload for `digest`, and the manifest that has it, signed with key `a`.
pub fn simple_signing(scratch: &Scratch, digest: &str, name: &str) -> (Vec<u8>, Vec<u8>) {
    let payload = json!({
        "critical": { "identity": { "docker-reference": name }, "image": { "docker-manifest-digest": digest },
            "type": "cosign container image signature" },
        "optional": null,
    });
    let payload = payload.to_string().into_bytes();
    let mut layer = descriptor(SIMPLE_SIGNING, &payload);
    layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": signed(scratch, &payload) });
    let config = descriptor("application/vnd.oci.image.config.v1+json", b"{}");
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    (payload, manifest.to_string().into())
}

/// The image with these blobs beside it.
fn with(artifact: &Artifact, blobs: &[&[u8]]) -> Artifact {
    blobs.iter().fold(artifact.clone(), |artifact, blob| artifact.with_blob(&digest_of(blob), blob.to_vec()))
}

fn pull(options: &[&str], image: &str) -> Outcome {
    let scratch = Scratch::new();
    Board::this_machine().edgepull([options, &["pull", image, &scratch.at("root")]].concat())
}

const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

#[test]
fn a_bundle_among_the_referrers() {
    let (scratch, image) = (Scratch::new(), image("a"));
    let (a, b) = (data("keys/a.pub"), data("keys/b.pub"));
    for (what, bundle, code) in [
        ("signed", bundle(&scratch, image.digest(), SIGN), 0),
        ("another image's", bundle(&scratch, &digest_of(b"x"), SIGN), exit::VERIFICATION),
        (
            "an attestation",
            bundle(&scratch, image.digest(), "https://slsa.dev/provenance/v1"),
            exit::VERIFICATION,
        ),
    ] {
        let manifest = referrer(&image, BUNDLE, &bundle);
        let list = listed(&manifest, BUNDLE);
        let registry = FakeRegistry::serving(&with(&image, &[&bundle, &manifest, b"{}"]))
            .at(&format!("referrers/{}", image.digest()), vec![Answer::Exactly(200, vec![], list); 2]);
        assert_eq!(pull(&["--verify-key", &a], &registry.image()).code(), code, "{what}");
        assert_eq!(pull(&["--verify-key", &b], &registry.image()).code(), exit::VERIFICATION, "{what}");
        let layer = image.layer(0);
        let unpacked = registry.requests().iter().any(|request| request.path.ends_with(&layer));
        assert_eq!(unpacked, code == 0, "{what}: what is refused is not fetched");
    }
}

/// With a policy, a signature without a name meets no rule that is about names.
#[test]
fn a_bundle_has_no_name() {
    let (scratch, image) = (Scratch::new(), image("a"));
    let bundle = bundle(&scratch, image.digest(), SIGN);
    let manifest = referrer(&image, BUNDLE, &bundle);
    let list = listed(&manifest, BUNDLE);
    for (identity, code) in [
        (Value::Null, exit::VERIFICATION),
        (rule("matchRepository"), exit::VERIFICATION),
        (rule("digestOnly"), 0),
    ] {
        let registry = FakeRegistry::serving(&with(&image, &[&bundle, &manifest, b"{}"]))
            .at(&format!("referrers/{}", image.digest()), [Answer::Exactly(200, vec![], list.clone())]);
        let policy = json!({ "default": super::by("a", identity.clone()) }).to_string();
        let outcome = pull(&["--policy", &scratch.write("policy.json", policy)], &registry.image());
        assert_eq!(outcome.code(), code, "{identity}: {}", outcome.stderr());
        assert!(code == 0 || outcome.stderr().contains("without a name"), "{}", outcome.stderr());
    }
}

/// Debian's docker-registry knows no referrers: their list is behind a tag.
#[test]
fn a_bundle_behind_the_referrers_tag_of_a_real_registry() {
    let (scratch, image, registry) = (Scratch::new(), image("a"), Registry::start());
    let bundle = bundle(&scratch, image.digest(), SIGN);
    let manifest = referrer(&image, BUNDLE, &bundle);
    let list = listed(&manifest, BUNDLE);
    let place = registry.push(&image.layout(&scratch, "layout"), "board/app:1");
    let key = data("keys/a.pub");
    pull(&["--verify-key", &key], &place).fails_with(exit::VERIFICATION).saying("no signature");
    let base = format!("http://{}/v2/board/app", registry.address());
    let put = |url: &str, media_type: &str, content: &[u8]| {
        let file = format!("@{}", scratch.write("put", content));
        let kind = format!("Content-Type: {media_type}");
        run("curl", ["-fsS", "-X", "PUT", "-H", &kind, "--data-binary", &file, url]);
    };
    for blob in [&bundle[..], b"{}"] {
        let head = run("curl", ["-fsSi", "-X", "POST", "-d", "", &format!("{base}/blobs/uploads/")]);
        let place = head.lines().find_map(|line| line.strip_prefix("Location: ")).expect("a place").trim();
        put(&format!("{place}&digest={}", digest_of(blob)), "application/octet-stream", blob);
    }
    put(&format!("{base}/manifests/{}", digest_of(&manifest)), MANIFEST, &manifest);
    put(&format!("{base}/manifests/{}", image.digest().replace(':', "-")), INDEX, &list);
    pull(&["--verify-key", &key], &place).succeeds();
    pull(&["--verify-key", &data("keys/b.pub")], &place).fails_with(exit::VERIFICATION).saying("b.pub");
}

/// What lies beside the image in `index.json`, and whether it is a signature of key `a`.
#[test]
fn signatures_in_layouts_and_archives() {
    let image = image("a");
    let key = data("keys/a.pub");
    for (what, good) in [
        ("nothing", false),
        ("sig tag", true),
        ("full sig tag", true),
        ("cosign save", true),
        ("subject", true),
        ("tag of referrers", true),
        ("another image's sig tag", false),
        ("another image's subject", false),
    ] {
        let scratch = Scratch::new();
        let (payload, signatures) = simple_signing(&scratch, image.digest(), "r.example/app:1");
        let bundle = bundle(&scratch, image.digest(), SIGN);
        let subject = if what.starts_with("another") { super::image("b") } else { image.clone() };
        let attached = referrer(&subject, BUNDLE, &bundle);
        let list = listed(&attached, BUNDLE);
        let tag = subject.digest().replace(':', "-");
        let named = |name: String| json!({ "org.opencontainers.image.ref.name": name });
        let kind = |kind: &str| json!({ "kind": format!("dev.cosignproject.cosign/{kind}") });
        let (data, media_type, notes) = match what {
            "sig tag" | "another image's sig tag" => (&signatures, MANIFEST, named(format!("{tag}.sig"))),
            "full sig tag" => (&signatures, MANIFEST, named(format!("r.example/app:{tag}.sig"))),
            "cosign save" => (&signatures, MANIFEST, kind("sigs")),
            "tag of referrers" => (&list, INDEX, named(tag)),
            _ => (&attached, MANIFEST, Value::Null),
        };
        let full = with(&image, &[&payload, &signatures, &bundle, &attached, &list, b"{}"]);
        let layout = full.layout(&scratch, "layout");
        let index = std::fs::read(scratch.path("layout/index.json")).expect("an index");
        let mut index: Value = serde_json::from_slice(&index).expect("JSON");
        if what == "cosign save" {
            index["manifests"][0]["annotations"] = kind("image");
        }
        if what != "nothing" {
            let mut entry = descriptor(media_type, data);
            if notes.is_null() {
                entry["artifactType"] = BUNDLE.into();
            } else {
                entry["annotations"] = notes;
            }
            index["manifests"].as_array_mut().expect("entries").push(entry);
        }
        scratch.write("layout/index.json", index.to_string());
        run("tar", ["-C", &layout, "-cf", &scratch.at("archive.tar"), "."]);
        for source in [format!("oci:{layout}"), format!("oci-archive:{}", scratch.at("archive.tar"))] {
            pull(&[], &source).succeeds();
            let outcome = pull(&["--verify-key", &key], &source);
            assert_eq!(
                outcome.code(),
                if good { 0 } else { exit::VERIFICATION },
                "{what}: {}",
                outcome.stderr()
            );
        }
        // A signature's entry is no image, also where no tag says which entry is meant.
        let names = pull(&[], &format!("oci:{layout}:nothing"));
        assert!(names.fails_with(exit::NOT_FOUND).stderr().matches("sha256-").count() == 0);
    }
    // Docker's archives have no place for signatures.
    let scratch = Scratch::new();
    let (from, to) = (image.oci(&scratch, "layout") + ":latest", scratch.at("docker.tar"));
    skopeo(["copy", "-q", &from, &format!("docker-archive:{to}:a/b:1")]);
    pull(&[], &format!("docker-archive:{to}")).succeeds();
    pull(&["--verify-key", &key], &format!("docker-archive:{to}")).fails_with(exit::VERIFICATION);
}
