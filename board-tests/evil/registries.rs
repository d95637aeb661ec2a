//! Registries that mean harm, by the program itself: references to where only the board can reach, circles, and answers
//! without an end. `tests/source/hostile.rs` has more of them, asked by the library.

use std::sync::Mutex;

use super::victim::{By, Expect, Ground};
use crate::harness::*;

/// How many are asked at the same time: most of the time they wait before they try again.
const AT_ONCE: usize = 6;
/// More tries than there are of anything.
const ALWAYS: usize = 200;

/// One registry, and what has to become of a pull there.
struct Case {
    what: String,
    registry: FakeRegistry,
    expect: Expect,
}

fn image() -> Artifact {
    Image::of("linux/arm/v7").layer(Layer::new().file("f", "from the registry")).build()
}

/// What is answered at `place`: the manifest, the config, the layer, or a token server's.
fn case(what: &str, place: &str, answer: Answer, code: i32, words: &'static str) -> Case {
    let (app, answers) = (image(), vec![answer; ALWAYS]);
    let registry = FakeRegistry::serving(&app);
    let registry = match place {
        "manifest" => registry.at_manifest(answers),
        "config" => registry.at_blob(app.manifest()["config"]["digest"].as_str().expect("a digest"), answers),
        "layer" => registry.at_blob(&app.layer(0), answers),
        _ => {
            let tokens = FakeRegistry::serving(&app).at("", answers);
            registry.at_manifest(vec![challenge(&format!("http://{}/token", tokens.address())); ALWAYS])
        }
    };
    Case { what: format!("{what}, {place}"), registry, expect: Expect::Refused(code, words) }
}

fn challenge(realm: &str) -> Answer {
    let value = format!("Bearer realm=\"{realm}\",service=\"x\"");
    Answer::Exactly(401, vec![("WWW-Authenticate", value)], Vec::new())
}

/// All of them, several at once, each beside a victim of its own.
fn judge(family: &str, hosts: &str, cases: Vec<Case>) {
    let count = cases.len();
    let (cases, failed) = (Mutex::new(cases), Mutex::new(Vec::new()));
    let next = || cases.lock().expect("the cases").pop();
    let work = || {
        while let Some(Case { what, registry, expect }) = next() {
            let judged = std::panic::catch_unwind(|| {
                let ground = Ground::new(By::Root).knowing(hosts);
                ground.pull(&what, &registry.image(), &expect);
            });
            if judged.is_err() {
                failed.lock().expect("what has failed").push(what);
            }
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().expect("what has failed");
    assert!(failed.is_empty(), "{family}: wrong: {failed:#?}");
    eprintln!("evil: {family}: {count} hostile registries, {count} verdicts");
}

#[test]
fn references_to_where_only_the_board_can_reach() {
    const REFUSED: &str = "only this board can reach";
    let mut cases = Vec::new();
    for place in ["manifest", "config", "layer", "token"] {
        for (url, words) in [
            ("file:///etc/shadow", "redirects to nowhere"),
            ("file://localhost/etc/shadow", "redirects to nowhere"),
            ("ftp://169.254.169.254/", "redirects to nowhere"),
            ("http://169.254.169.254/latest/meta-data/", REFUSED),
            ("http://[::ffff:169.254.169.254]/", REFUSED),
            ("http://0xa9fea9fe/", REFUSED),
            ("http://metadata.google.internal/computeMetadata/v1/", REFUSED),
            ("http://harmless.example:1/", REFUSED),
            ("http://100.100.100.200/latest/", REFUSED),
            ("http://[fe80::1]/", REFUSED),
        ] {
            cases.push(case(url, place, Answer::Redirect(url.into()), exit::NETWORK, words));
        }
        let itself = match place {
            "manifest" => "latest".to_owned(),
            "config" => format!("./{}", image().manifest()["config"]["digest"].as_str().expect("a digest")),
            "layer" => format!("./{}", image().layer(0)),
            _ => "token".to_owned(),
        };
        cases.push(case("itself", place, Answer::Redirect(itself), exit::NETWORK, "REDIRECTS_MAX"));
    }
    for realm in
        ["file:///etc/shadow", "http://169.254.169.254/token", "http://metadata.google.internal/token"]
    {
        let registry = FakeRegistry::serving(&image()).at_manifest(vec![challenge(realm); ALWAYS]);
        let expect = match realm.starts_with("file") {
            true => Expect::Refused(exit::AUTH, "no http or https URL"),
            false => Expect::Refused(exit::NETWORK, REFUSED),
        };
        cases.push(Case { what: format!("a realm {realm}"), registry, expect });
    }
    let hosts =
        "127.0.0.1 localhost\n169.254.169.254 metadata.google.internal\n169.254.7.7 harmless.example\n";
    judge("references", hosts, cases);
}

#[test]
fn answers_without_an_end() {
    let ok = "HTTP/1.1 200 OK\r\n";
    let chunked = format!("{ok}Content-Type: x/y\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut cases = Vec::new();
    for place in ["manifest", "config", "layer", "token"] {
        for (what, head, again, words) in [
            (
                "interim answers",
                String::new(),
                "HTTP/1.1 103 X\r\nLink: x\r\n\r\n".to_owned(),
                "FRUITLESS_MAX",
            ),
            ("fields", ok.to_owned(), "X-Field: y\r\n".to_owned(), "is no HTTP"),
            ("one field", format!("{ok}X: "), "y".repeat(1000), "larger than 16 KiB"),
            ("a status line", "HTTP/1.1 200 ".to_owned(), "y".repeat(1000), "larger than 16 KiB"),
            ("a chunk's extension", format!("{chunked}5;"), "x=y;".repeat(100), "larger than 16 KiB"),
            ("nothing but bytes", String::new(), "\0".repeat(4096), "is no HTTP"),
        ] {
            cases.push(case(what, place, Answer::Flood(head.into(), again.into()), exit::NETWORK, words));
        }
        // What is longer than it may be is not the connection's fault.
        let (code, words) = match place {
            "manifest" => (exit::BAD_IMAGE, "DOCUMENT_MAX"),
            "token" => (exit::AUTH, "TOKEN_MAX"),
            _ => (exit::VERIFICATION, "its descriptor says"),
        };
        for (what, head, again) in [
            ("a chunked body", chunked.clone(), format!("1000\r\n{}\r\n", "x".repeat(4096))),
            ("a body until the end", format!("{ok}Content-Type: x/y\r\n\r\n"), "[".repeat(4096)),
            ("a body of 8 EiB", format!("{ok}Content-Length: {}\r\n\r\n", i64::MAX), "{\"a\":".repeat(800)),
        ] {
            cases.push(case(what, place, Answer::Flood(head.into(), again.into()), code, words));
        }
    }
    judge("answers without an end", "127.0.0.1 localhost\n", cases);
}
