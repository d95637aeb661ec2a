//! Manifests and their names in a registry; and who is shown which secret by somebody who writes.

use crate::image::{Image, descriptor};
use crate::server::{Reply, Request, Server};
use crate::uploads::{LARGE, Registry, Written, error, push};
use crate::{options, refused};
use edgepull::error::Kind;
use edgepull::image::digest::Digest;
use edgepull::image::manifest::media_type;
use edgepull::source::{Attachment, Fetched, Options, open_destination};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An image's index.
fn index() -> Fetched {
    document(Image::new().index)
}

fn document(bytes: Vec<u8>) -> Fetched {
    Fetched { digest: Digest::of(&bytes), bytes, media_type: media_type::OCI_INDEX.to_owned() }
}

fn small() -> Arc<[u8]> {
    Arc::from(&b"a small blob"[..])
}

#[test]
fn an_index_gets_its_names_last_and_they_are_read_back() {
    let registry = Registry::new();
    let (mut destination, index) = (registry.destination(), index());
    let pointer = descriptor(media_type::OCI_INDEX, &index.bytes);
    assert!(!destination.has_manifest(&pointer).unwrap());
    destination.manifest(&index).unwrap();
    assert!(destination.has_manifest(&pointer).unwrap());
    destination.publish(&index, &["1.2".to_owned(), "latest".to_owned()]).unwrap();
    let step = |request: &Request| {
        format!("{} {}", request.method, request.target.strip_prefix("/v2/team/app/manifests/").unwrap())
    };
    let (requests, digest) = (registry.server.requests(), index.digest);
    let steps: Vec<_> = requests.iter().map(step).collect();
    let by_digest = [format!("HEAD {digest}"), format!("PUT {digest}"), format!("HEAD {digest}")];
    assert_eq!(steps[..3], by_digest);
    let names = ["HEAD v1", "PUT v1", "HEAD 1.2", "PUT 1.2", "HEAD latest", "PUT latest"];
    assert_eq!(steps[3..], [&names[..], &["GET v1", "GET 1.2", "GET latest"]].concat());
    assert_eq!(requests[1].header("content-type"), Some(media_type::OCI_INDEX));
    assert!(requests[4].body == index.bytes && requests[4].header("transfer-encoding").is_none());
}

#[test]
fn a_name_may_be_a_digest() {
    let (registry, index) = (Registry::new(), index());
    let at = |name: String| {
        let reference = format!("{}/team/app{name}", registry.server.address).parse().unwrap();
        open_destination(&reference, &options()).unwrap()
    };
    at(format!("@{}", index.digest)).publish(&index, &[]).unwrap();
    assert!(registry.server.requests()[0].target.ends_with(&index.digest.to_string()));
    let other = Digest::of(b"other");
    let result = at(format!("@{other}")).publish(&index, &[]);
    refused(result, Kind::Verification, &[&other.to_string(), &index.digest.to_string()]);
    assert_eq!(registry.steps(), ["PUT", "GET"], "nothing is written under a wrong name");
}

#[test]
fn a_registry_that_changes_what_it_took_is_found_out() {
    let changed = index().bytes.iter().chain(b"\n").copied().collect::<Vec<u8>>();
    let says = Digest::of(&changed).to_string();
    let put = Registry::start(move |request, _| {
        (request.method == "PUT").then(|| Reply::new(201, "").with("Docker-Content-Digest", &says))
    });
    refused(put.destination().manifest(&index()), Kind::Verification, &[&Digest::of(&changed).to_string()]);

    let silent = changed.clone();
    let bytes = Registry::start(move |request, _| {
        (request.method == "GET").then(|| Reply::typed(media_type::OCI_INDEX, silent.clone()))
    });
    let text = refused(
        bytes.destination().publish(&index(), &[]),
        Kind::Verification,
        &[&index().digest.to_string(), &Digest::of(&changed).to_string(), "manifest v1 of team/app"],
    );
    assert!(text.contains("somebody else has written"), "{text}");
    let head = Registry::start(move |request, _| {
        let bytes = Reply::typed(media_type::OCI_INDEX, index().bytes);
        (request.method == "GET")
            .then(|| bytes.with("Docker-Content-Digest", &Digest::of(b"other").to_string()))
    });
    refused(
        head.destination().publish(&index(), &[]),
        Kind::Verification,
        &[&Digest::of(b"other").to_string()],
    );
}

#[test]
fn a_name_that_is_not_there_at_once_is_asked_for_again() {
    let asked = AtomicUsize::new(0);
    let registry = Registry::start(move |request, _| {
        (request.method == "GET" && asked.fetch_add(1, Ordering::SeqCst) < 2).then(|| Reply::new(404, ""))
    });
    registry.destination().publish(&index(), &[]).unwrap();
    let never = Registry::start(|request, _| (request.method == "GET").then(|| Reply::new(404, "")));
    let result = never.destination().publish(&index(), &[]);
    refused(result, Kind::NotFound, &["tried 6 times", "does not have what it took"]);
}

#[test]
fn what_a_registry_has_against_a_manifest_is_shown() {
    // Two at once, as for a manifest that lacks two blobs.
    let body = r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown"},{"code":"x"}]}"#;
    let registry = Registry::start(move |_, _| Some(Reply::new(400, body)));
    refused(
        registry.destination().manifest(&index()),
        Kind::BadImage,
        &["manifest sha256:", "HTTP 400 (MANIFEST_BLOB_UNKNOWN: blob unknown)"],
    );
    assert_eq!(registry.steps(), ["PUT"]);
    let large = document(vec![b' '; (4 << 20) + 1]);
    refused(registry.destination().manifest(&large), Kind::BadImage, &["4 MiB", "DOCUMENT_MAX"]);
    assert_eq!(registry.steps(), ["PUT"], "nothing is sent of what is too large");
}

#[test]
fn a_tag_that_cannot_be_written_again_can_be_pushed_again() {
    for status in [400, 409, 412] {
        let written = AtomicUsize::new(0);
        let registry = Registry::start(move |request, _| {
            let is_tag = request.method == "PUT" && request.target.ends_with("/v1");
            (is_tag && written.fetch_add(1, Ordering::SeqCst) > 0).then(|| error(status, "TAG_IMMUTABLE"))
        });
        for _ in 0..2 {
            registry.destination().publish(&index(), &[]).unwrap();
        }
        let other = registry.destination().publish(&document(b"{}".to_vec()), &[]);
        let kind = if status == 400 { Kind::BadImage } else { Kind::Usage };
        refused(other, kind, &["TAG_IMMUTABLE", "cannot be written again: choose another"]);
    }
    // As Amazon's says it.
    let registry = Registry::start(|request, _| (request.method == "PUT").then(|| error(400, "TAG_INVALID")));
    let result = registry.destination().publish(&index(), &[]);
    refused(result, Kind::BadImage, &["TAG_INVALID", "cannot be written again: choose another"]);
}

#[test]
fn what_is_asked_about_a_tag_beforehand_decides_nothing() {
    for status in crate::statuses::statuses() {
        let registry = Registry::start(move |request, _| {
            (request.method == "HEAD").then(|| Reply::new(status, "").with("Retry-After", "600"))
        });
        registry.destination().publish(&index(), &[]).unwrap();
        assert_eq!(registry.steps(), ["HEAD", "PUT", "GET"], "{status}");
    }
}

/// A signature that says itself to what it belongs.
fn referrer(subject: &Digest) -> Attachment {
    let bytes = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","artifactType":"application/x","annotations":{{"a":"b"}},
            "config":{{"digest":"{subject}","size":2}},"layers":[],"subject":{{"digest":"{subject}","size":1}}}}"#,
        media_type::OCI_MANIFEST
    )
    .into_bytes();
    let document = Fetched { media_type: media_type::OCI_MANIFEST.to_owned(), ..document(bytes) };
    Attachment { document, tag: None }
}

#[test]
fn a_referrer_is_listed_where_the_registry_does_not_do_that_itself() {
    let (subject, other) = (Digest::of(b"subject"), Digest::of(b"other"));
    let attached = referrer(&subject);
    let registry = Registry::new();
    for _ in 0..2 {
        registry.destination().attach(&attached, &subject).unwrap();
    }
    let listed = registry.manifest(&format!("sha256-{}", subject.hex())).unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    assert_eq!(listed["manifests"].as_array().unwrap().len(), 1, "once: {listed}");
    let entry = &listed["manifests"][0];
    assert_eq!(entry["digest"], attached.document.digest.to_string());
    assert_eq!((&entry["artifactType"], &entry["annotations"]["a"]), (&"application/x".into(), &"b".into()));
    assert!(registry.manifest(&format!("sha256-{}", other.hex())).is_none());

    let lists = Registry::start(move |request, _| {
        let reply = Reply::new(201, "").with("OCI-Subject", &subject.to_string());
        (request.method == "PUT").then_some(reply)
    });
    lists.destination().attach(&attached, &subject).unwrap();
    assert_eq!(lists.steps(), ["PUT"], "a registry that lists referrers needs no list of ours");
}

#[test]
fn what_cosign_attaches_has_its_tag() {
    let (registry, subject) = (Registry::new(), Digest::of(b"subject"));
    let tag = format!("sha256-{}.sig", subject.hex());
    let attached = Attachment { tag: Some(tag.clone()), ..referrer(&subject) };
    registry.destination().attach(&attached, &subject).unwrap();
    assert_eq!(registry.manifest(&tag), Some(attached.document.bytes));
    assert!(registry.manifest(&format!("sha256-{}", subject.hex())).is_none());
}

#[test]
fn foreign_layers_that_a_registry_refuses_are_named() {
    let digest = Digest::of(b"x");
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":1}},"layers":[{{"digest":"{digest}","size":1,
            "mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","urls":["https://x"]}}]}}"#
    );
    let bytes = manifest.into_bytes();
    let manifest = Fetched { media_type: media_type::DOCKER_MANIFEST.to_owned(), ..document(bytes) };
    let sentence = ["foreign layers", "validation.manifests.urls.allow"];
    for (status, code, kind) in [
        (400, "MANIFEST_BLOB_UNKNOWN", Kind::BadImage),
        (400, "MANIFEST_INVALID", Kind::BadImage),
        (404, "MANIFEST_BLOB_UNKNOWN", Kind::BadImage),
        (404, "NAME_UNKNOWN", Kind::NotFound),
        (405, "UNSUPPORTED", Kind::Network),
        (422, "UNPROCESSABLE", Kind::BadImage),
        (500, "UNKNOWN", Kind::Network),
        (502, "", Kind::Network),
    ] {
        let registry =
            Registry::start(move |request, _| (request.method == "PUT").then(|| error(status, code)));
        let text = refused(registry.destination().manifest(&manifest), kind, &sentence);
        assert!(text.contains(code), "{text}");
        assert_eq!(text.contains("has to be made"), code == "NAME_UNKNOWN", "{text}");
    }
    // These say nothing of the manifest.
    for (status, kind) in [(429, Kind::Network), (403, Kind::Auth)] {
        let registry =
            Registry::start(move |request, _| (request.method == "PUT").then(|| error(status, "DENIED")));
        let text = refused(registry.destination().manifest(&manifest), kind, &[]);
        assert!(!text.contains("foreign"), "{text}");
    }
}

#[test]
fn a_registry_that_is_busy_gets_its_manifest_later() {
    let asked = AtomicUsize::new(0);
    let registry = Registry::start(move |_, _| {
        (asked.fetch_add(1, Ordering::SeqCst) < 2).then(|| Reply::new(503, "").with("Retry-After", "0"))
    });
    registry.destination().manifest(&index()).unwrap();
    assert_eq!(registry.steps(), ["PUT"; 3]);
}

/// A server of tokens `t0`, `t1` and so on.
fn tokens() -> Server {
    Server::start(|_, before| Reply::new(200, format!(r#"{{"token":"t{before}"}}"#)))
}

/// Lets in who has a token that `good` likes; the others are told of `scope`.
fn guarded(
    tokens: &Server,
    scope: &'static str,
    good: impl Fn(&Request, &str) -> bool + Send + Sync + 'static,
) -> impl Fn(&Request, &mut Written) -> Option<Reply> + Send + Sync + 'static {
    let realm = format!("http://{}/token", tokens.address);
    move |request, _| {
        let token = request.header("authorization").unwrap_or_default();
        let challenge = format!(r#"Bearer realm="{realm}",service="s"{scope}"#);
        (!good(request, token)).then(|| error(401, "UNAUTHORIZED").with("WWW-Authenticate", &challenge))
    }
}

/// `user:hunter2`, or an identity token, for this host.
fn login(host: SocketAddr, entry: &str) -> (tempfile::TempDir, Options) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("auth.json");
    let text = format!(r#"{{"auths":{{"{}":{entry}}}}}"#, host);
    std::fs::write(&path, text).unwrap();
    (directory, Options { auth_file: Some(path), ..options() })
}

/// What the token server was asked for, after it had been asked to write, and then to mount from `team/base`.
fn asked_for(scope: &'static str) -> Vec<String> {
    let tokens = tokens();
    let good = |request: &Request, token: &str| match request.target.contains("mount=") {
        true => token == "Bearer t1",
        false => token.starts_with("Bearer "),
    };
    let registry = Registry::start(guarded(&tokens, scope, good));
    let mut destination = registry.destination();
    push(&mut *destination, &small()).0.unwrap();
    let from = format!("{}/team/base:1", registry.server.address).parse().unwrap();
    destination.mount(&descriptor(media_type::OCI_LAYER, b"x"), &from).unwrap();
    tokens.requests().iter().map(|request| request.target.clone()).collect()
}

#[test]
fn a_token_is_asked_for_each_scope_by_itself() {
    let wanted = "/token?service=s&scope=repository%3Ateam%2Fapp%3Apull%2Cpush\
                  &scope=repository%3Ateam%2Fbase%3Apull";
    let scopes = r#",scope="repository:team/app:pull,push repository:team/base:pull""#;
    assert_eq!(asked_for(scopes), [wanted, wanted]);
}

#[test]
fn a_challenge_without_a_scope_means_what_is_wanted() {
    let write = "/token?service=s&scope=repository%3Ateam%2Fapp%3Apull%2Cpush";
    let mount = format!("{write}&scope=repository%3Ateam%2Fbase%3Apull");
    assert_eq!(asked_for(""), [write, &mount]);
}

#[test]
fn an_identity_token_is_posted_with_all_scopes_in_one() {
    let tokens = tokens();
    let scopes = r#",scope="repository:team/app:pull,push repository:x:pull""#;
    let registry = Registry::start(guarded(&tokens, scopes, |_, token| token == "Bearer t0"));
    let (_directory, options) = login(registry.server.address, r#"{"identitytoken":"refresh"}"#);
    push(&mut *registry.destination_by(&options), &small()).0.unwrap();
    assert!(tokens.requests()[0].text().contains(
        "&service=s&scope=repository%3Ateam%2Fapp%3Apull%2Cpush%20repository%3Ax%3Apull&refresh_token"
    ));
}

#[test]
fn a_token_that_expires_in_an_upload_is_replaced() {
    // By the second chunk; by the closing PUT; and by the one of a small blob, which carries it.
    for (bytes, until) in [(LARGE.clone(), 3), (LARGE.clone(), 5), (small(), 2)] {
        let (tokens, asked) = (tokens(), AtomicUsize::new(0));
        let good = move |_: &Request, token: &str| match token {
            // The first request has none.
            "Bearer t0" => asked.fetch_add(1, Ordering::SeqCst) + 1 < until,
            token => token == "Bearer t1",
        };
        let registry = Registry::start(guarded(&tokens, "", good));
        let (result, _, sent) = push(&mut *registry.destination(), &bytes);
        result.unwrap();
        assert!(registry.has(&bytes), "{until}");
        assert_eq!((tokens.requests().len(), sent), (2, bytes.len() as u64), "{until}");
        let confirmed = registry.steps().iter().filter(|step| *step == "PATCH 0-8388607").count();
        assert!(confirmed < 2, "{until}: what the registry has is not sent again");
    }
}

#[test]
fn a_token_that_only_reads_is_not_asked_for_between_writes() {
    // It expires with the second chunk; what it is for goes by the scope.
    let tokens = Server::start(|request, before| {
        let right = if request.target.contains("push") { "push" } else { "pull" };
        Reply::new(200, format!(r#"{{"token":"t{before}-{right}"}}"#))
    });
    let (realm, chunks) = (format!("http://{}/token", tokens.address), AtomicUsize::new(0));
    let registry = Registry::start(move |request, _| {
        let right = if matches!(&*request.method, "GET" | "HEAD") { "pull" } else { "push" };
        let is_chunk = usize::from(request.method == "PATCH");
        let expired = chunks.fetch_add(is_chunk, Ordering::SeqCst) + is_chunk >= 2;
        let token = request.header("authorization").unwrap_or_default();
        let good = token.ends_with("push") || (token.ends_with("pull") && right == "pull");
        let challenge = format!(r#"Bearer realm="{realm}",scope="repository:team/app:{right}""#);
        (!good || (expired && token.contains("t0")))
            .then(|| error(401, "UNAUTHORIZED").with("WWW-Authenticate", &challenge))
    });
    let mut destination = registry.destination();
    assert!(!destination.has_blob(&descriptor(media_type::OCI_LAYER, &LARGE)).unwrap());
    push(&mut *destination, &LARGE).0.unwrap();
    assert!(destination.has_blob(&descriptor(media_type::OCI_LAYER, &LARGE)).unwrap());
    assert_eq!(tokens.requests().len(), 2, "{:?}", tokens.requests());
    assert!(tokens.requests().iter().all(|request| request.target.contains("push")));
}

#[test]
fn a_token_may_expire_more_than_once() {
    let (tokens, chunks) = (tokens(), AtomicUsize::new(0));
    let registry = Registry::start(guarded(&tokens, "", move |request, token| {
        let is_chunk = usize::from(request.method == "PATCH");
        // With the second and the fourth chunk that is sent.
        let least = (chunks.fetch_add(is_chunk, Ordering::SeqCst) + is_chunk) / 2;
        token.strip_prefix("Bearer t").is_some_and(|number| number.parse::<usize>().unwrap() >= least)
    }));
    push(&mut *registry.destination(), &LARGE).0.unwrap();
    assert!(registry.has(&LARGE));
    assert_eq!(tokens.requests().len(), 3);
}

#[test]
fn a_token_without_the_right_to_write_is_access_denied() {
    for (method, tried) in [("POST", 2), ("PATCH", 2)] {
        let tokens = tokens();
        let registry = Registry::start(guarded(&tokens, "", move |request, token| {
            !token.is_empty() && request.method != method
        }));
        let host = registry.server.address.to_string();
        refused(
            push(&mut *registry.destination(), &LARGE).0,
            Kind::Auth,
            &["access to team/app denied", "UNAUTHORIZED", &format!("docker login {host}"), "write"],
        );
        let (_directory, options) =
            login(registry.server.address, r#"{"username":"user","password":"hunter2"}"#);
        let before = registry.steps().len();
        let text = refused(
            push(&mut *registry.destination_by(&options), &LARGE).0,
            Kind::Auth,
            &["may not write to team/app", "docker login"],
        );
        assert!(!text.contains("hunter2"), "{text}");
        let tries = registry.steps()[before..].iter().filter(|step| step.starts_with(method)).count();
        assert_eq!(tries, tried, "{method} is not tried again and again");
    }
}

/// Takes chunks and a closing PUT under any URL; each chunk goes on at a relative Location with a query.
fn take(request: &Request, before: usize) -> Reply {
    match request.header("content-range") {
        Some(range) => Reply::new(202, "")
            .with("Location", &format!("step{before}?signed=a%2Fb"))
            .with("Range", &format!("0-{}", range.split_once('-').unwrap().1)),
        None => Reply::new(201, ""),
    }
}

#[test]
fn authorization_stays_with_the_registry() {
    let store = Server::start(take);
    let elsewhere = format!("http://{}/up/begin?signed=x", store.address);
    let server = Server::start(move |request, before| match request.header("authorization") {
        None => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=x"),
        Some(_) if request.method != "POST" => take(request, before),
        // At first to another server; then to itself, as absolutely.
        Some(_) if before < 2 => Reply::new(202, "").with("Location", &elsewhere),
        Some(_) => Reply::new(202, "")
            .with("Location", &format!("http://{}/up/begin", request.header("host").unwrap())),
    });
    let (_directory, options) = login(server.address, r#"{"username":"user","password":"hunter2"}"#);
    let reference = format!("{}/team/app:v1", server.address).parse().unwrap();
    let mut destination = open_destination(&reference, &options).unwrap();

    push(&mut *destination, &LARGE).0.unwrap();
    let digest = Digest::of(&LARGE);
    let targets: Vec<_> = store.requests().iter().map(|request| request.target.clone()).collect();
    let closing = format!("/up/step2?signed=a%2Fb&digest={digest}");
    assert_eq!(targets, ["/up/begin?signed=x", "/up/step0?signed=a%2Fb", "/up/step1?signed=a%2Fb", &closing]);
    assert!(store.requests().iter().all(|request| request.header("authorization").is_none()));
    assert_eq!(server.requests().len(), 2);

    push(&mut *destination, &small()).0.unwrap();
    let put = &server.asked("/up/begin?digest=")[0];
    assert!(put.header("authorization").unwrap().starts_with("Basic "));
}

#[test]
fn mirrors_are_neither_written_to_nor_asked() {
    let mirror = Server::start(|_, _| Reply::new(200, "{}"));
    // An answer of the registry's that breaks off is no mirror's fault.
    let asked = AtomicUsize::new(0);
    let registry = Registry::start(move |request, _| {
        (request.method == "GET" && asked.fetch_add(1, Ordering::SeqCst) < 2)
            .then(|| Reply::typed(media_type::OCI_INDEX, index().bytes).cut(10))
    });
    let hosts = hosts(&registry, &format!("[host.\"http://{}\"]\n", mirror.address));
    let options = Options { hosts_dir: Some(hosts.path().to_owned()), ..options() };
    let mut destination = registry.destination_by(&options);
    let blob = descriptor(media_type::OCI_LAYER, b"a small blob");
    assert!(!destination.has_blob(&blob).unwrap());
    push(&mut *destination, &small()).0.unwrap();
    destination.manifest(&index()).unwrap();
    assert!(destination.has_manifest(&descriptor(media_type::OCI_INDEX, &index().bytes)).unwrap());
    destination.publish(&index(), &[]).unwrap();
    assert_eq!(mirror.requests().len(), 0);
    let learnt = serde_json::to_string(&options.network.learnt()).unwrap();
    assert!(learnt.contains(r#""set_aside":[],"warned":[]"#), "{learnt}");
}

#[test]
fn a_registry_that_hosts_toml_lets_nobody_push_to() {
    let registry = Registry::new();
    let hosts = hosts(&registry, "capabilities = [\"pull\", \"resolve\"]\n");
    let options = Options { hosts_dir: Some(hosts.path().to_owned()), ..options() };
    let result = push(&mut *registry.destination_by(&options), &small()).0;
    refused(result, Kind::Usage, &["may not be written to", "capabilities in hosts.toml"]);
    assert_eq!(registry.server.requests().len(), 0);
}

/// A directory with a hosts.toml for this registry.
fn hosts(registry: &Registry, text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let own: &Path = &directory.path().join(registry.server.address.to_string());
    std::fs::create_dir(own).unwrap();
    std::fs::write(own.join("hosts.toml"), text).unwrap();
    directory
}

#[test]
fn where_nothing_can_be_written() {
    let reference = "docker-archive:/tmp/x.tar".parse().unwrap();
    refused(open_destination(&reference, &options()), Kind::Usage, &["manifest list", "oci-archive:FILE"]);
}
