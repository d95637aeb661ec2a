//! Registries that mean harm to whoever pushes: they send uploads elsewhere, lie about what they have, and answer without
//! an end. No password gets to another host, no address that only this machine can reach is asked, a lie ends with its
//! exit code, and all of it ends.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::*;
use crate::evil::victim::{By, Ground};

/// How many are pushed to at the same time: most of the time they wait before they try again.
const AT_ONCE: usize = 8;
/// More tries than there are of anything.
const ALWAYS: usize = 200;
/// All the pauses between tries, and then some.
const TIME_MAX: Duration = Duration::from_secs(120);
const USER: [&str; 4] = ["--username", "board", "--password", "secret word"];
const UPLOADS: &str = "/v2/board/app/blobs/uploads/";
/// The names that a registry may send somebody to.
const HOSTS: &str = "127.0.0.1 localhost\n169.254.169.254 metadata.internal\n169.254.7.7 harmless.example\n";
const REFUSED: &str = "only this board can reach";

/// One registry, others that it knows, and what has to become of a push there.
struct Case {
    what: String,
    image: Artifact,
    registry: FakeRegistry,
    other: Option<FakeRegistry>,
    code: i32,
    words: &'static str,
}

/// Goes with the closing request.
fn small() -> Artifact {
    Image::of("linux/arm/v7").layer(Layer::new().file("f", "small")).build()
}

/// Goes in two chunks.
fn large() -> Artifact {
    Image::of("linux/arm/v7").layer(Layer::new().file("f", vec![7; 9 << 20])).uncompressed().build()
}

/// One that has nothing, and takes what is given to somebody with the password.
fn registry() -> FakeRegistry {
    let nothing = Image::of("linux/arm/v5").build();
    FakeRegistry::serving(&nothing).wanting_authorization(format!("Basic {}", base64(b"board:secret word")))
}

/// Whenever something comes to `place` (`PUT /v2/…`), this is answered.
fn case(what: &str, image: Artifact, place: &str, answer: Answer, code: i32, words: &'static str) -> Case {
    let registry = registry().at(place, vec![answer; ALWAYS]);
    Case { what: what.to_owned(), image, registry, other: None, code, words }
}

/// Where an upload goes on.
fn goes_on(url: &str) -> Answer {
    Answer::Exactly(202, vec![("Location", url.to_owned())], Vec::new())
}

fn with_range(range: &str) -> Answer {
    Answer::Exactly(202, vec![("Range", range.to_owned())], Vec::new())
}

fn of_digest(status: u16) -> Answer {
    Answer::Exactly(status, vec![("Docker-Content-Digest", digest_of(b"something else"))], Vec::new())
}

/// All of them, several at once, each beside a victim of its own.
fn judge(cases: Vec<Case>) {
    let count = cases.len();
    let (cases, failed) = (Mutex::new(cases), Mutex::new(Vec::new()));
    let next = || cases.lock().expect("the cases").pop();
    let work = || {
        while let Some(case) = next() {
            if std::panic::catch_unwind(|| push(&case)).is_err() {
                failed.lock().expect("what has failed").push(case.what);
            }
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().expect("what has failed");
    assert!(failed.is_empty(), "wrong: {failed:#?}");
    eprintln!("publish: {count} hostile registries");
}

fn push(Case { what, image, registry, other, code, words }: &Case) {
    let ground = Ground::new(By::Root).knowing(HOSTS);
    let (from, to) = (image.oci(&ground.scratch, "image"), registry.image());
    let began = Instant::now();
    // The ground holds memory, and what is said, against what they may be.
    let output = ground.edgepull(what, &[&USER[..], &["copy", &from, &to]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(*code), "{what}: {said}");
    assert!(said.contains(words), "{what}: does not say {words:?}: {said}");
    assert!(!said.contains("secret word"), "{what}: {said}");
    assert!(began.elapsed() < TIME_MAX, "{what}: {:?}", began.elapsed());
    let requests = registry.requests();
    assert!(requests.len() < ALWAYS, "{what}: {} requests", requests.len());
    let let_in = requests.iter().filter(|request| request.header("authorization").is_some());
    assert!(let_in.count() > 0, "{what}: nobody has logged in");
    for request in other.iter().flat_map(FakeRegistry::requests) {
        assert!(
            request.header("authorization").is_none(),
            "{what}: a password for another host: {request:?}"
        );
    }
    if let Some(other) = other {
        assert!(!other.requests().is_empty(), "{what}: the other host was not asked");
    }
    // What is under the name was read back, and so it was written; else nothing of the kind is there.
    let is_read_back = requests.iter().any(|request| {
        (request.method.as_str(), request.path.as_str()) == ("GET", "/v2/board/app/manifests/latest")
    });
    let is_published = registry.published().iter().any(|name| name == "latest");
    assert_eq!(is_published, is_read_back, "{what}");
    assert!(is_published || *code != 0, "{what}: nothing was published");
}

#[test]
fn uploads_that_go_on_elsewhere() {
    let begin = format!("POST {UPLOADS}");
    let mut cases = Vec::new();
    for (url, words) in [
        ("http://169.254.169.254/latest/meta-data/", REFUSED),
        ("http://[::ffff:169.254.169.254]/", REFUSED),
        ("http://0xa9fea9fe/", REFUSED),
        ("http://metadata.internal/computeMetadata/v1/", REFUSED),
        ("http://harmless.example:1/x", REFUSED),
        ("http://100.100.100.200/latest/", REFUSED),
        ("file:///etc/shadow", "goes on nowhere"),
        ("ftp://store.example/x", "goes on nowhere"),
        ("http://user:word@store.example/x", "goes on nowhere"),
    ] {
        cases.push(case(url, small(), &begin, goes_on(url), exit::NETWORK, words));
    }
    let chunk = format!("PATCH {UPLOADS}upload");
    let url = "http://metadata.internal/x";
    cases.push(case("later", large(), &chunk, goes_on(url), exit::NETWORK, REFUSED));
    let nowhere = Answer::status(202);
    cases.push(case("no Location", small(), &begin, nowhere, exit::NETWORK, "goes on nowhere"));
    let redirect = Answer::Redirect("http://store.example/".into());
    cases.push(case("a redirect", small(), &begin, redirect, exit::NETWORK, "a write follows no redirect"));
    let realm = "Bearer realm=\"http://metadata.internal/token\",service=\"x\"".to_owned();
    let challenge = Answer::Exactly(401, vec![("WWW-Authenticate", realm)], Vec::new());
    cases.push(case("a realm", small(), &begin, challenge, exit::AUTH, "credentials are not sent there"));
    // To another host that takes it, and to one that wants a password first: with none of ours.
    for (what, code, words) in
        [("a store", 0, ""), ("a store that asks for a password", exit::NETWORK, "401")]
    {
        let store = FakeRegistry::serving_at("127.0.0.2", &Image::of("linux/arm/v5").build());
        let store = if code == 0 { store } else { store.wanting_authorization("Basic x".into()) };
        let answer = goes_on(&format!("http://{}{UPLOADS}upload", store.address()));
        let case = case(what, small(), &begin, answer, code, words);
        cases.push(Case { other: Some(store), ..case });
    }
    judge(cases);
}

#[test]
fn lies_about_what_is_there() {
    let (small_one, large_one) = (small(), large());
    let blob = format!("PUT {UPLOADS}upload?digest={}", small_one.layer(0));
    let named = |method: &str, name: &str| format!("{method} /v2/board/app/manifests/{name}");
    let mut cases = Vec::new();
    for (what, place, answer, code, words) in [
        ("a blob of another digest", blob.clone(), of_digest(201), exit::VERIFICATION, "by its own words"),
        ("a blob that is never done", blob, Answer::status(202), exit::NETWORK, "does not take it"),
        (
            "a manifest of another digest",
            named("PUT", small_one.digest()),
            of_digest(201),
            exit::VERIFICATION,
            "by its own words",
        ),
        (
            "a blob of another size",
            format!("HEAD /v2/board/app/blobs/{}", small_one.layer(0)),
            Answer::Exactly(200, vec![], vec![0]),
            // It decides nothing: the blob is sent.
            0,
            "",
        ),
        (
            "another image under the name",
            named("GET", "latest"),
            Answer::Exactly(200, vec![], br#"{"schemaVersion":2,"manifests":[]}"#.to_vec()),
            exit::VERIFICATION,
            "is there now",
        ),
        (
            "no manifest under the name",
            named("GET", "latest"),
            Answer::Exactly(200, vec![], b"{}".to_vec()),
            exit::NETWORK,
            "its answer is no manifest",
        ),
        (
            "another digest under the name",
            named("GET", "latest"),
            of_digest(200),
            exit::VERIFICATION,
            "is there now",
        ),
        (
            "nothing under the name",
            named("GET", "latest"),
            Answer::status(404),
            exit::NOT_FOUND,
            "does not have what it took",
        ),
    ] {
        cases.push(case(what, small(), &place, answer, code, words));
    }
    // Of a list, the entries are asked for, which decides nothing either.
    let list = Index::new().with(small()).build();
    let entry = named("HEAD", small_one.digest());
    cases.push(case("an entry that is another", list, &entry, of_digest(200), 0, ""));
    let chunk = format!("PATCH {UPLOADS}upload");
    for (what, range) in [("more than was sent", "0-9999999"), ("backwards", "0-0"), ("nonsense", "1-2,3-4")]
    {
        cases.push(case(what, large(), &chunk, with_range(range), exit::NETWORK, "says that it has"));
    }
    let size = large_one.manifest()["layers"][0]["size"].as_u64().expect("a size");
    for (what, range) in [
        // No progress is made by a word that is repeated.
        ("a status of ever the same", "0-4194303".to_owned()),
        ("a status of more than there is", format!("0-{size}")),
        ("a status of the largest number", format!("0-{}", u64::MAX)),
    ] {
        let case = case(what, large(), &chunk, Answer::status(500), exit::NETWORK, "500");
        let status = Answer::Exactly(204, vec![("Range", range)], Vec::new());
        let registry = case.registry.at(&format!("GET {UPLOADS}upload"), vec![status; ALWAYS]);
        cases.push(Case { registry, ..case });
    }
    // Chunks of whatever size a registry wants, if it can be had.
    for least in ["18446744073709551615", "18446744073709551616", "-1", "9000000", "x"] {
        let fields =
            vec![("Location", format!("{UPLOADS}upload")), ("OCI-Chunk-Min-Length", least.to_owned())];
        let answer = Answer::Exactly(202, fields, Vec::new());
        cases.push(case(least, large(), &format!("POST {UPLOADS}"), answer, 0, ""));
    }
    judge(cases);
}

#[test]
fn answers_without_an_end() {
    let ok = "HTTP/1.1 202 Accepted\r\n";
    let small_one = small();
    let mut cases = Vec::new();
    for (what, head, again, words) in [
        ("interim answers", String::new(), "HTTP/1.1 103 X\r\nLink: x\r\n\r\n".to_owned(), "FRUITLESS_MAX"),
        ("fields", ok.to_owned(), "X-Field: y\r\n".to_owned(), "is no HTTP"),
        ("one field", format!("{ok}Location: "), "y".repeat(1000), "larger than 16 KiB"),
    ] {
        for place in [
            format!("POST {UPLOADS}"),
            format!("PUT {UPLOADS}upload?digest={}", small_one.layer(0)),
            format!("PUT /v2/board/app/manifests/{}", small_one.digest()),
        ] {
            let answer = Answer::Flood(head.clone().into(), again.clone().into());
            cases.push(case(&format!("{what} at {place}"), small(), &place, answer, exit::NETWORK, words));
        }
    }
    // What stands in a body is not needed, or only its beginning.
    let body = |status: u16| {
        let head =
            format!("HTTP/1.1 {status} X\r\nLocation: {UPLOADS}upload\r\nTransfer-Encoding: chunked\r\n\r\n");
        Answer::Flood(head.into(), format!("1000\r\n{}\r\n", "x".repeat(4096)).into())
    };
    cases.push(case("a body that is not needed", small(), &format!("POST {UPLOADS}"), body(202), 0, ""));
    cases.push(case("a reason", small(), &format!("POST {UPLOADS}"), body(400), exit::BAD_IMAGE, "400"));
    let read_back = "GET /v2/board/app/manifests/latest";
    cases.push(case("what is read back", small(), read_back, body(200), exit::BAD_IMAGE, "DOCUMENT_MAX"));
    judge(cases);
}

#[test]
fn what_began_with_tls_never_goes_on_without() {
    let (scratch, authority) = (Scratch::new(), Authority::new());
    let store = FakeRegistry::serving(&small());
    let url = format!("http://{}{UPLOADS}upload", store.address());
    let registry = FakeRegistry::serving_with_tls(&Image::of("linux/arm/v5").build(), &authority)
        .at(&format!("POST {UPLOADS}"), vec![goes_on(&url); ALWAYS]);
    let from = small().oci(&scratch, "image");
    let (ca, to) = (authority.ca_file(), registry.image());
    let outcome = publisher(&scratch).edgepull(["--ca-file", &ca, "copy", &from, &to]);
    outcome.fails_with(exit::NETWORK).saying("would go on without TLS");
    assert!(store.requests().is_empty(), "{:?}", store.requests());
    assert!(registry.published().is_empty());
}
