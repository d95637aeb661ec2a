//! Who has signed what: the same policies judged by skopeo and by edgepull, and what deployments make of it.

mod hostile;
mod layouts;

use serde_json::{Value, json};
use std::process::Command;

use crate::harness::*;

/// Debian 12's cannot verify Sigstore's signatures.
const SKOPEO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/board-tests/peers/skopeo");
/// The platform of the machine that the tests run on.
const HERE: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };

/// A file of tests/data/signatures.
fn data(name: &str) -> String {
    format!("{}/tests/data/signatures/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn image(content: &str) -> Artifact {
    Image::of(HERE).layer(Layer::new().file("content", content)).build()
}

/// A registry, and skopeo that signs and verifies there.
struct Peer {
    registry: Registry,
    scratch: Scratch,
}

impl Peer {
    fn new() -> Peer {
        let scratch = Scratch::new();
        scratch.write("registries.d/all.yaml", "default-docker:\n  use-sigstore-attachments: true\n");
        Peer { registry: Registry::start(), scratch }
    }

    /// Pushes an image, unsigned.
    fn push(&self, artifact: &Artifact, name: &str) {
        let folder = format!("push-{}", &artifact.digest()[7..19]);
        self.registry.push(&artifact.layout(&self.scratch, &folder), name);
    }

    /// Pushes an image, signed with this key, and under another name than its own, where there is one.
    fn sign(&self, artifact: &Artifact, name: &str, key: &str, identity: Option<&str>) {
        let folder = format!("push-{}", &artifact.digest()[7..19]);
        let from = format!("oci:{}:latest", artifact.layout(&self.scratch, &folder));
        let (key, passphrase) = (data(&format!("keys/{key}.key")), data("keys/passphrase"));
        let mut options = vec!["--sign-by-sigstore-private-key", &key, "--sign-passphrase-file", &passphrase];
        options.extend(identity.iter().flat_map(|identity| ["--sign-identity", identity]));
        self.copy(&from, name, &options);
    }

    fn copy(&self, from: &str, name: &str, options: &[&str]) {
        let (registries, to) =
            (self.scratch.at("registries.d"), format!("docker://{}", self.registry.image(name)));
        let copy = ["--registries.d", &registries, "copy", "-q", "--all", "--preserve-digests"];
        let here = ["--src-tls-verify=false", "--dest-tls-verify=false", "--dest-no-creds", from, &to];
        let words = ["--insecure-policy"].into_iter().chain(copy);
        run(SKOPEO, words.chain(options.iter().copied()).chain(here));
    }

    /// Puts the signatures of one digest where those of another one, or those in another repository, would be.
    fn move_signature(&self, from: &str, of: &Artifact, to: &str, on: &Artifact) {
        let tag = |artifact: &Artifact| format!("{}.sig", artifact.digest().replace(':', "-"));
        let from = format!("docker://{}", self.registry.image(&format!("{from}:{}", tag(of))));
        self.copy(&from, &format!("{to}:{}", tag(on)), &["--remove-signatures"]);
    }

    /// A policy that rejects all but what `scopes` says of this registry; `$` in them is its address.
    fn policy(&self, scopes: &Value) -> String {
        let policy = json!({ "default": [{ "type": "reject" }], "transports": { "docker": scopes } });
        let policy = policy.to_string().replace('$', self.registry.address());
        self.scratch.write("policy.json", policy)
    }

    /// Whether skopeo copies the image, and what it says.
    fn skopeo_takes(&self, policy: &str, name: &str) -> Result<(), String> {
        let place = Scratch::new();
        let out = Command::new(SKOPEO)
            .args(["--policy", policy, "--registries.d", &self.scratch.at("registries.d"), "copy", "-q"])
            .args(["--src-tls-verify=false", "--src-no-creds", "--remove-signatures"])
            .arg(format!("docker://{}", self.registry.image(name)))
            .arg(format!("oci:{}:x", place.at("copy")))
            .output()
            .expect("bash");
        out.status.success().then_some(()).ok_or(String::from_utf8_lossy(&out.stderr).into_owned())
    }

    fn pull(&self, options: &[&str], name: &str) -> Outcome {
        let (place, image) = (Scratch::new(), self.registry.image(name));
        let board = Board::this_machine();
        let outcome = board.edgepull([options, &["-v", "pull", &image, &place.at("root")]].concat());
        assert!(outcome.code() == 0 || place.names().is_empty(), "left behind: {:?}", place.names());
        outcome
    }
}

/// `sigstoreSigned` by one key, with this identity.
fn by(key: &str, identity: Value) -> Value {
    let mut requirement = json!({ "type": "sigstoreSigned", "keyPath": data(&format!("keys/{key}.pub")) });
    if !identity.is_null() {
        requirement["signedIdentity"] = identity;
    }
    json!([requirement])
}

fn rule(kind: &str) -> Value {
    json!({ "type": kind })
}

/// Every image of the table, in a registry.
fn fair() -> Peer {
    let peer = Peer::new();
    let (a, b, c) = (image("a"), image("b"), image("c"));
    peer.sign(&a, "ns/signed:1", "a", None);
    peer.push(&a, "ns/signed:2"); // moved: its signature says 1
    peer.sign(&b, "ns/rotated:1", "b", None);
    peer.push(&c, "ns/unsigned:1");
    peer.sign(&c, "vendor/app:1", "a", Some("r.example/vendor/app:1"));
    // Signed twice: by a, then by b.
    let both = image("both");
    peer.sign(&both, "ns/both:1", "a", None);
    peer.sign(&both, "ns/both:1", "b", None);
    // The signature of a on b: replayed.
    let replayed = image("replayed");
    peer.push(&replayed, "ns/signed:3");
    peer.move_signature("ns/signed", &a, "ns/signed", &replayed);
    // a and its signature in another repository.
    peer.push(&a, "ns/other:1");
    peer.move_signature("ns/signed", &a, "ns/other", &a);
    // An index with all its entries signed, and of the entry or the index alone.
    let entry = image("entry");
    let index = Index::new().with(entry.clone()).build();
    peer.sign(&index, "ns/index:1", "a", None);
    peer.push(&index, "ns/entry:1");
    peer.move_signature("ns/index", &entry, "ns/entry", &entry);
    peer.push(&index, "ns/root:1");
    peer.move_signature("ns/index", &index, "ns/root", &index);
    peer
}

/// Every case: what is required of which image, and what has to come of it. The last column is what skopeo 1.18 says
/// where that is something else.
#[test]
fn skopeo_and_edgepull_say_the_same() {
    let peer = fair();
    let digest = image("a").digest().to_owned();
    let by_digest = format!("ns/signed@{digest}");
    let scoped = |scope: &str, requirements: Value| json!({ scope: requirements });
    let all = |requirements: Value| scoped("$", requirements);
    let reference = |name: &str| json!({ "type": "exactReference", "dockerReference": name });
    let repository = |name: &str| json!({ "type": "exactRepository", "dockerRepository": name });
    let remap = |from: &str, to: &str| json!({ "type": "remapIdentity", "prefix": from, "signedPrefix": to });
    let accept = || json!([rule("insecureAcceptAnything")]);
    let reject = || json!([rule("reject")]);
    let two = |first: Value, second: Value| json!([first[0], second[0]]);
    let key_data = || {
        let pem = std::fs::read(data("keys/a.pub")).expect("a key");
        json!([{ "type": "sigstoreSigned", "keyData": base64(&pem) }])
    };
    let either =
        || json!([{ "type": "sigstoreSigned", "keyPaths": [data("keys/a.pub"), data("keys/b.pub")] }]);
    let none = Value::Null;
    let cases: Vec<(&str, &str, Value, bool, Option<bool>)> = vec![
        ("the right key", "ns/signed:1", all(by("a", none.clone())), true, None),
        ("the same, in the policy", "ns/signed:1", all(key_data()), true, None),
        ("the wrong key", "ns/signed:1", all(by("b", none.clone())), false, None),
        ("an RSA key", "ns/signed:1", all(by("rsa", none.clone())), false, None),
        ("no signature", "ns/unsigned:1", all(by("a", none.clone())), false, None),
        ("no signature, and none needed", "ns/unsigned:1", all(accept()), true, None),
        ("rejected", "ns/signed:1", all(reject()), false, None),
        ("signed and rejected", "ns/signed:1", all(two(by("a", none.clone()), reject())), false, None),
        ("signed and anything", "ns/signed:1", all(two(by("a", none.clone()), accept())), true, None),
        (
            "two signers, both needed",
            "ns/both:1",
            all(two(by("a", none.clone()), by("b", none.clone()))),
            true,
            None,
        ),
        (
            "one signer, both needed",
            "ns/signed:1",
            all(two(by("a", none.clone()), by("b", none.clone()))),
            false,
            None,
        ),
        ("two signers, the second needed", "ns/both:1", all(by("b", none.clone())), true, None),
        ("rotated, the old key", "ns/signed:1", all(either()), true, None),
        ("rotated, the new key", "ns/rotated:1", all(either()), true, None),
        ("rotated, the old key alone trusted", "ns/rotated:1", all(by("a", none.clone())), false, None),
        ("by digest", &by_digest, all(by("a", none.clone())), true, None),
        ("by digest, exactly", &by_digest, all(by("a", rule("matchExact"))), false, None),
        ("by tag, exactly", "ns/signed:1", all(by("a", rule("matchExact"))), true, None),
        ("another tag", "ns/signed:2", all(by("a", none.clone())), false, None),
        ("another tag of the repository", "ns/signed:2", all(by("a", rule("matchRepository"))), true, None),
        ("another repository", "ns/other:1", all(by("a", none.clone())), false, None),
        ("another repository, loosely", "ns/other:1", all(by("a", rule("matchRepository"))), false, None),
        ("another image's", "ns/signed:3", all(by("a", rule("matchRepository"))), false, None),
        ("a vendor's name", "vendor/app:1", all(by("a", none.clone())), false, None),
        ("its very name", "vendor/app:1", all(by("a", reference("r.example/vendor/app:1"))), true, None),
        (
            "another of its names",
            "vendor/app:1",
            all(by("a", reference("r.example/vendor/app:2"))),
            false,
            None,
        ),
        ("its repository", "vendor/app:1", all(by("a", repository("r.example/vendor/app"))), true, None),
        ("not its repository", "vendor/app:1", all(by("a", repository("r.example/vendor"))), false, None),
        ("remapped", "vendor/app:1", all(by("a", remap("$", "r.example"))), true, None),
        ("remapped below", "vendor/app:1", all(by("a", remap("$/vendor", "r.example/vendor"))), true, None),
        ("remapped elsewhere", "vendor/app:1", all(by("a", remap("$/vend", "r.example/vend"))), false, None),
        (
            "a repository's scope",
            "ns/signed:1",
            json!({ "$": reject(), "$/ns/signed": accept() }),
            true,
            None,
        ),
        (
            "a tag's scope",
            "ns/signed:1",
            json!({ "$/ns/signed": accept(), "$/ns/signed:1": reject() }),
            false,
            None,
        ),
        (
            "another tag's scope",
            "ns/signed:1",
            json!({ "$/ns": accept(), "$/ns/signed:2": reject() }),
            true,
            None,
        ),
        ("a namespace's scope", "ns/signed:1", json!({ "$": accept(), "$/ns": reject() }), false, None),
        (
            "half a name is no scope",
            "ns/signed:1",
            json!({ "$": accept(), "$/ns/sign": reject() }),
            true,
            None,
        ),
        ("a wildcard's scope", "ns/signed:1", scoped("*.0.0.1", accept()), true, None),
        (
            "the most specific wildcard",
            "ns/signed:1",
            json!({ "*.0.1": accept(), "*.0.0.1": reject() }),
            false,
            None,
        ),
        ("the transport's default", "ns/signed:1", scoped("", accept()), true, None),
        ("the default", "ns/signed:1", scoped("elsewhere.example", accept()), false, None),
        (
            "a digest's scope",
            &by_digest,
            json!({ "$": accept(), format!("$/ns/signed@{digest}"): reject() }),
            false,
            None,
        ),
        ("index and entry signed", "ns/index:1", all(by("a", none.clone())), true, None),
        ("the entry signed", "ns/entry:1", all(by("a", rule("matchRepository"))), false, None),
        (
            "the entry signed, and its name will do",
            "ns/entry:1",
            all(by("a", reference("$/ns/index:1"))),
            true,
            None,
        ),
        // Of an index, skopeo looks at the entry's signature alone, unless it copies --all.
        ("the index signed", "ns/root:1", all(by("a", repository("$/ns/index"))), true, Some(false)),
        (
            "GPG, which is not to be had here",
            "ns/signed:1",
            all(json!([{ "type": "signedBy", "keyType": "GPGKeys", "keyPath": data("keys/a.pub") }])),
            false,
            None,
        ),
        ("a mistake in the policy", "ns/signed:1", all(json!([{ "type": "accept" }])), false, None),
        (
            "an unknown key in the policy",
            "ns/signed:1",
            all(json!([{ "type": "insecureAcceptAnything", "x": 1 }])),
            false,
            None,
        ),
        ("an empty list", "ns/signed:1", all(json!([])), false, None),
    ];
    let mut wrong = Vec::new();
    for (case, name, scopes, expected, skopeo) in &cases {
        let policy = peer.policy(scopes);
        let outcome = peer.pull(&["--policy", &policy], name);
        if *expected != (outcome.code() == 0) {
            wrong.push(format!("{case}: edgepull: {}", outcome.stderr()));
        }
        if !expected {
            assert!(
                [exit::USAGE, exit::VERIFICATION].contains(&outcome.code()),
                "{case}: {}",
                outcome.stderr()
            );
        }
        let judged = peer.skopeo_takes(&policy, name);
        let refused_for_cause =
            |why: &String| why.contains("Source image rejected") || why.contains("invalid policy");
        if judged.is_ok() != skopeo.unwrap_or(*expected)
            || judged.as_ref().is_err_and(|why| !refused_for_cause(why))
        {
            wrong.push(format!("{case}: skopeo: {judged:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn refusals_name_digest_place_and_reason() {
    let peer = fair();
    let policy = peer.policy(&json!({ "$/ns": by("b", Value::Null) }));
    let digest = image("a").digest().to_owned();
    let scope = format!("policy.json, docker: {}/ns", peer.registry.address());
    let refused = peer.pull(&["--policy", &policy], "ns/signed:1").fails_with(exit::VERIFICATION);
    refused.saying(&digest).saying(&scope).saying("none of 1 signatures is by").saying("keys/b.pub");
    let (a, b) = (data("keys/a.pub"), data("keys/b.pub"));
    let unsigned = peer.pull(&["--verify-key", &b], "ns/unsigned:1").fails_with(exit::VERIFICATION);
    unsigned.saying("--verify-key").saying("no signature").saying(image("c").digest());
    let replayed = peer.pull(&["--verify-key", &a], "ns/signed:3").fails_with(exit::VERIFICATION);
    replayed.saying(&digest).saying(image("replayed").digest());
    let absent = peer.scratch.at("absent.pub");
    peer.pull(&["--verify-key", &absent], "ns/signed:1").fails_with(exit::USAGE).saying("absent.pub");
    peer.pull(&["--policy", &absent], "ns/signed:1").fails_with(exit::USAGE).saying("absent.pub");
}

#[test]
fn a_key_on_the_command_line_demands_more_and_never_less() {
    let peer = fair();
    let (a, b) = (data("keys/a.pub"), data("keys/b.pub"));
    peer.pull(&[], "ns/unsigned:1").succeeds().saying("nobody has to have signed the image");
    let signed = peer.pull(&["--verify-key", &a], "ns/signed:1").succeeds();
    signed.saying(&format!("{} is signed by {a}", image("a").digest()));
    peer.pull(&["--verify-key", &b], "ns/signed:1").fails_with(exit::VERIFICATION);
    for name in ["ns/signed:1", "ns/rotated:1", "vendor/app:1", "ns/root:1", "ns/entry:1"] {
        peer.pull(&["--verify-key", &b, "--verify-key", &a], name).succeeds();
    }
    let accepting = peer.policy(&json!({ "": [rule("insecureAcceptAnything")] }));
    peer.pull(&["--policy", &accepting, "--verify-key", &a], "ns/unsigned:1").fails_with(exit::VERIFICATION);
    let rejecting = peer.policy(&json!({}));
    peer.pull(&["--policy", &rejecting, "--verify-key", &a], "ns/signed:1").fails_with(exit::VERIFICATION);
}

#[test]
fn without_policy_json_in_etc_everything_is_accepted_and_with_it_not() {
    let root = Scratch::new();
    let artifact = image("a");
    artifact.layout(&root, "layout");
    let board = Board::this_machine().run_in(&root);
    board.edgepull(["pull", "oci:/layout", "/one"]).succeeds();
    root.write("etc/edgepull/policy.json", r#"{"default":[{"type":"reject"}]}"#);
    let refused = board.edgepull(["pull", "oci:/layout", "/two"]).fails_with(exit::VERIFICATION);
    refused.saying("/etc/edgepull/policy.json, default");
    root.write("etc/edgepull/policy.json", r#"{"default":[]}"#);
    board.edgepull(["pull", "oci:/layout", "/two"]).fails_with(exit::USAGE).saying("default");
    // What the policy is on is not mounted, perhaps.
    std::fs::remove_file(root.path("etc/edgepull/policy.json")).expect("a file");
    std::os::unix::fs::symlink("/data/policy.json", root.path("etc/edgepull/policy.json")).expect("a link");
    board.edgepull(["pull", "oci:/layout", "/two"]).fails_with(exit::USAGE).saying("mounted");
    std::fs::remove_dir_all(root.path("etc/edgepull")).expect("a folder");
    std::os::unix::fs::symlink("/data/edgepull", root.path("etc/edgepull")).expect("a link");
    board.edgepull(["pull", "oci:/layout", "/two"]).fails_with(exit::USAGE).saying("mounted");
    assert!(!root.names().contains(&"two".to_owned()));
}

/// An image with what it says of its age.
fn aged(content: &str, created: &str, version: &str) -> Artifact {
    image(content).with_manifest(|manifest| {
        manifest["annotations"] = json!({
            "org.opencontainers.image.created": created, "org.opencontainers.image.version": version });
    })
}

#[test]
fn a_deployment_remembers_who_has_to_sign() {
    let peer = Peer::new();
    let board = Board::this_machine();
    let (name, key) = ("board/app:1", data("keys/a.pub"));
    let place = peer.registry.image(name);
    peer.sign(&image("one"), name, "a", None);
    board.edgepull(["deploy", "app", &place, "--verify-key", &key]).succeeds();
    let current =
        || std::fs::read_to_string(board.beside_state("state/deployments/app/current/rootfs/content"));
    assert_eq!(current().expect("a file"), "one");
    let asked = |log: &str| log.matches(".sig").count();
    let before = asked(&peer.registry.log());
    board.edgepull(["update", "app"]).succeeds();
    assert_eq!(asked(&peer.registry.log()), before, "nothing is new: no signature is asked for");
    peer.push(&image("two"), name);
    board.edgepull(["update", "app"]).fails_with(exit::VERIFICATION).saying(image("two").digest());
    peer.sign(&image("two"), name, "b", None);
    board.edgepull(["update", "app"]).fails_with(exit::VERIFICATION).saying("a.pub");
    assert_eq!(current().expect("a file"), "one");
    peer.sign(&image("two"), name, "a", None);
    board.edgepull(["update", "app"]).succeeds();
    assert_eq!(current().expect("a file"), "two");
    // What came with a signature is repaired by its digest.
    std::fs::write(board.beside_state("state/deployments/app/current/rootfs/content"), "xxx")
        .expect("a file");
    board.edgepull(["verify", "app", "--repair"]);
    assert_eq!(current().expect("a file"), "two");
}

#[test]
fn a_monotonic_deployment_goes_back_only_by_hand() {
    let peer = Peer::new();
    let name = "board/app:1";
    let place = peer.registry.image(name);
    let old = aged("old", "2026-01-01T00:00:00Z", "1.9.0");
    let new = aged("new", "2026-01-02T00:00:00+02:00", "v1.10.0");
    for rule in ["created", "version"] {
        let board = Board::this_machine();
        let current =
            || std::fs::read_to_string(board.beside_state("state/deployments/app/current/rootfs/content"));
        let is = |content: &str| assert_eq!(current().expect("a file"), content, "{rule}");
        peer.push(&old, name);
        board.edgepull(["deploy", "app", &place, "--monotonic", rule]).succeeds();
        peer.push(&new, name);
        board.edgepull(["update", "app"]).succeeds();
        is("new");
        peer.push(&old, name);
        let refused = board.edgepull(["update", "app"]).fails_with(exit::VERIFICATION);
        refused.saying("older").saying(old.digest()).saying("rollback");
        board.edgepull(["deploy", "app", &place]).fails_with(exit::VERIFICATION);
        peer.push(&image("silent"), name);
        board.edgepull(["update", "app"]).fails_with(exit::VERIFICATION).saying("does not say");
        is("new");
        // As old is not older.
        peer.push(&aged("again", "2026-01-01T22:00:00Z", "1.10"), name);
        board.edgepull(["update", "app"]).succeeds();
        is("again");
        board.edgepull(["rollback", "app"]).succeeds();
        is("new");
        peer.push(&old, name);
        board.edgepull(["deploy", "app", &place, "--monotonic="]).succeeds();
        is("old");
    }
}

/// Who moves the tag has all that was ever signed: an image whose config has its base image's label, too.
#[test]
fn what_the_index_says_once_no_label_of_a_base_image_outdoes() {
    let peer = Peer::new();
    let (name, key) = ("board/app:1", data("keys/a.pub"));
    let place = peer.registry.image(name);
    let version = "org.opencontainers.image.version";
    let labelled = |content: &str| {
        Image::of(HERE)
            .layer(Layer::new().file("content", content))
            .configured("Labels", json!({ version: "22.04" }))
            .build()
    };
    let released = |content: &str, number: &str| {
        let index = Index::new().with(labelled(content)).build();
        index.with_manifest(|index| index["annotations"] = json!({ version: number }))
    };
    let board = Board::this_machine();
    peer.sign(&released("new", "1.10"), name, "a", None);
    board.edgepull(["deploy", "app", &place, "--verify-key", &key, "--monotonic", "version"]).succeeds();
    peer.sign(&labelled("old"), name, "a", None);
    let refused = board.edgepull(["update", "app"]).fails_with(exit::VERIFICATION);
    refused.saying("the config says its version, where for what is current the index does");
    // The old entry in an index of somebody's own, who has no key: the index's word is nobody's.
    let forged = Index::new().with(labelled("old")).build();
    let forged = forged.with_manifest(|index| index["annotations"] = json!({ version: "99" }));
    peer.push(&forged, name);
    board.edgepull(["update", "app"]).fails_with(exit::VERIFICATION).saying("the config says its version");
    peer.sign(&released("newer", "1.11"), name, "a", None);
    board.edgepull(["update", "app"]).succeeds();
    let current = board.beside_state("state/deployments/app/current/rootfs/content");
    assert_eq!(std::fs::read_to_string(current).expect("a file"), "newer");
}

#[test]
fn a_key_by_which_everybody_can_sign_is_no_key() {
    let scratch = Scratch::new();
    let name = image("a").oci(&scratch, "image");
    // Ed25519's neutral point, as openssl writes it.
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----\n";
    let (key, root) = (scratch.write("k.pub", pem), scratch.at("root"));
    let board = Board::this_machine();
    board.edgepull(["--verify-key", &key, "pull", &name, &root]).fails_with(exit::USAGE).saying("low order");
    let policy = json!({ "default": [{ "type": "sigstoreSigned", "keyPath": key }] }).to_string();
    let policy = scratch.write("policy.json", policy);
    board.edgepull(["--policy", &policy, "pull", &name, &root]).fails_with(exit::USAGE).saying("low order");
}

#[test]
fn a_scope_that_can_never_match_is_told() {
    let scratch = Scratch::new();
    let name = image("a").oci(&scratch, "image");
    for (transport, scope, meant) in [
        ("docker", "r.example/fleet/", "r.example/fleet"),
        ("docker", "busybox", "docker.io/library/busybox"),
        ("oci", "/media/usb/", "/media/usb"),
        ("Docker", "r.example", "docker"),
    ] {
        let accept = json!([{ "type": "insecureAcceptAnything" }]);
        let policy =
            json!({ "default": accept, "transports": { transport: { scope: [{ "type": "reject" }] } } });
        let policy = scratch.write("policy.json", policy.to_string());
        let outcome =
            Board::this_machine().edgepull(["--policy", &policy, "pull", &name, &scratch.at("root")]);
        outcome.fails_with(exit::USAGE).saying(&format!("write {meant:?}"));
    }
}
