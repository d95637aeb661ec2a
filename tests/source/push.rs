//! Blobs on their way to a registry, over links that break, and to registries that have wishes of their own.

use crate::image::descriptor;
use crate::options;
use crate::refused;
use crate::server::{Reply, Request, Server, Taken};
use crate::uploads::{CHUNK, LARGE, Registry, Written, error, push, push_as};
use edgepull::error::{Error, Kind};
use edgepull::image::digest::Digest;
use edgepull::image::manifest::{Descriptor, media_type};
use edgepull::source::{Network, Options, open_destination};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Three requests of [`LARGE`].
const CHUNKS: [&str; 3] = ["PATCH 0-8388607", "PATCH 8388608-16777215", "PATCH 16777216-20971519"];

/// A small blob.
fn small() -> Arc<[u8]> {
    (0..100_000u32).map(|at| (at * 7 % 251) as u8).collect()
}

/// Breaks the connection of the `n`th request of that method, counted from 1, after so many bytes of its body.
fn cut(method: &'static str, n: usize, most: usize) -> impl Fn(&Request) -> Taken + Send + Sync {
    let seen = AtomicUsize::new(0);
    move |request| match request.method == method && seen.fetch_add(1, Ordering::SeqCst) + 1 == n {
        true => Taken { most, answered: false, ..Taken::ALL },
        false => Taken::ALL,
    }
}

/// Answers the `n`th request of that method by `reply`.
fn answer(
    method: &'static str,
    n: usize,
    reply: impl Fn(&Request, &mut Written) -> Option<Reply> + Send + Sync,
) -> impl Fn(&Request, &mut Written) -> Option<Reply> + Send + Sync {
    let seen = AtomicUsize::new(0);
    move |request, written| {
        let is_it = request.method == method && seen.fetch_add(1, Ordering::SeqCst) + 1 == n;
        is_it.then(|| reply(request, written)).flatten()
    }
}

#[test]
fn a_limited_rate_holds_for_what_is_sent() {
    let registry = Registry::new();
    let rate = 160 << 10;
    let options = Options { network: Arc::new(Network::new(Some(rate), Duration::ZERO)), ..options() };
    let started = Instant::now();
    let (result, ..) = push(&mut *registry.destination_by(&options), &small());
    result.unwrap();
    // All but the last write was paid for, less the burst of a quarter of a second.
    let least = Duration::from_secs_f64(80_000.0 / rate as f64 - 0.25);
    assert!(started.elapsed() >= least, "{:?} of {least:?}", started.elapsed());
}

#[test]
fn a_small_blob_takes_two_requests() {
    let registry = Registry::new();
    let bytes = small();
    let (result, opened, sent) = push(&mut *registry.destination(), &bytes);
    result.unwrap();
    assert!(registry.has(&bytes));
    assert_eq!((opened, sent), (vec![0], 100_000));
    assert_eq!(registry.steps(), ["POST", "PUT"]);
    let put = &registry.server.requests()[1];
    let digest = Digest::of(&bytes);
    assert_eq!(put.target, format!("/v2/team/app/blobs/uploads/1?state=1&digest={digest}"));
    assert_eq!(put.header("content-length"), Some("100000"));
    assert_eq!(put.header("content-type"), Some("application/octet-stream"));
    assert_eq!(put.header("transfer-encoding"), None);
    assert_eq!(registry.server.requests()[0].header("content-length"), Some("0"));
}

#[test]
fn an_empty_blob() {
    let registry = Registry::new();
    push(&mut *registry.destination(), &Arc::from(&b""[..])).0.unwrap();
    assert!(registry.has(b""));
}

#[test]
fn a_large_blob_goes_in_chunks() {
    let registry = Registry::new();
    let (result, opened, sent) = push(&mut *registry.destination(), &LARGE);
    result.unwrap();
    assert!(registry.has(&LARGE));
    assert_eq!((opened, sent), (vec![0], 20 << 20));
    assert_eq!(registry.steps(), [&["POST"][..], &CHUNKS, &["PUT"]].concat());
    for (number, request) in registry.server.requests()[1..4].iter().enumerate() {
        let length = CHUNK.min((20 << 20) - number as u64 * CHUNK);
        assert_eq!(request.header("content-length"), Some(&*length.to_string()));
        assert_eq!(request.header("content-type"), Some("application/octet-stream"));
        assert_eq!(request.header("transfer-encoding"), None);
    }
    assert_eq!(registry.server.requests()[4].header("content-length"), Some("0"));
}

#[test]
fn a_registry_says_how_large_a_chunk_must_be() {
    let wants = |least: &'static str| {
        let registry = Registry::start(answer("POST", 1, move |_, written| {
            written.uploads.insert(7, (Vec::new(), 1));
            let reply = Reply::new(202, "").with("OCI-Chunk-Min-Length", least);
            Some(reply.with("Location", "/v2/team/app/blobs/uploads/7?state=1"))
        }));
        push(&mut *registry.destination(), &LARGE).0.unwrap();
        assert!(registry.has(&LARGE));
        registry.steps()
    };
    assert_eq!(wants("1000"), [&["POST"][..], &CHUNKS, &["PUT"]].concat());
    assert_eq!(wants("10485760"), ["POST", "PATCH 0-10485759", "PATCH 10485760-20971519", "PUT"]);
    assert_eq!(wants("18446744073709551615"), ["POST", "PUT"]);
    assert_eq!(wants("-1"), [&["POST"][..], &CHUNKS, &["PUT"]].concat());
}

#[test]
fn a_broken_upload_goes_on_where_the_registry_is() {
    let registry = Registry::start_taking(cut("PATCH", 2, 1_000_000), |_, _| None);
    let (result, opened, sent) = push(&mut *registry.destination(), &LARGE);
    result.unwrap();
    assert!(registry.has(&LARGE));
    let steps = registry.steps();
    let goes_on = ["GET", "PATCH 9388608-17777215", "PATCH 17777216-20971519", "PUT"];
    assert_eq!(steps, [&["POST", CHUNKS[0], CHUNKS[1]][..], &goes_on].concat());
    assert_eq!(opened, [0, CHUNK], "it is read again from the chunk that broke, for its hash");
    assert_eq!(sent, 20 << 20, "no byte is reported twice");
}

#[test]
fn a_chunk_of_which_nothing_was_kept_is_sent_again() {
    let nothing = answer("PATCH", 2, |_, _| Some(Reply::new(202, "")));
    let registry = Registry::start_taking(cut("PATCH", 2, 1_000_000), nothing);
    let (result, opened, _) = push(&mut *registry.destination(), &LARGE);
    result.unwrap();
    assert!(registry.has(&LARGE));
    let steps = registry.steps();
    assert_eq!(steps, ["POST", CHUNKS[0], CHUNKS[1], "GET", CHUNKS[1], CHUNKS[2], "PUT"]);
    assert_eq!(opened, [0, CHUNK]);
}

#[test]
fn a_chunk_whose_answer_was_an_error_is_not_sent_again() {
    for status in [500, 502, 503, 408] {
        let registry = Registry::start(answer("PATCH", 2, move |request, written| {
            written.uploads.get_mut(&1).unwrap().0.extend_from_slice(&request.body);
            Some(Reply::new(status, ""))
        }));
        let (result, opened, _) = push(&mut *registry.destination(), &LARGE);
        result.unwrap();
        assert!(registry.has(&LARGE), "{status}");
        assert_eq!(registry.steps(), ["POST", CHUNKS[0], CHUNKS[1], "GET", CHUNKS[2], "PUT"], "{status}");
        assert_eq!(opened, [0], "{status}: it is in the right place already");
    }
}

#[test]
fn a_registry_that_has_lost_some_of_it_says_so_by_416() {
    let registry = Registry::start(answer("PATCH", 3, |_, written| {
        written.uploads.get_mut(&1).unwrap().0.truncate(4 << 20);
        Some(error(416, "RANGE_INVALID"))
    }));
    let (result, opened, _) = push(&mut *registry.destination(), &LARGE);
    result.unwrap();
    assert!(registry.has(&LARGE));
    let steps = registry.steps();
    assert_eq!(steps[4..], ["GET", "PATCH 4194304-12582911", "PATCH 12582912-20971519", "PUT"]);
    assert_eq!(opened, [0, 0], "a hash cannot be set back to the middle of a chunk");
}

#[test]
fn a_registry_may_take_less_than_a_chunk() {
    let registry = Registry::start(answer("PATCH", 1, |request, written| {
        let upload = written.uploads.get_mut(&1).unwrap();
        upload.0.extend_from_slice(&request.body[..5 << 20]);
        let reply = Reply::new(202, "").with("Location", "/v2/team/app/blobs/uploads/1?state=1");
        Some(reply.with("Range", "0-5242879"))
    }));
    push(&mut *registry.destination(), &LARGE).0.unwrap();
    assert!(registry.has(&LARGE));
    let steps = registry.steps();
    assert_eq!(steps, ["POST", CHUNKS[0], "PATCH 5242880-13631487", "PATCH 13631488-20971519", "PUT"]);
}

#[test]
fn an_upload_that_is_gone_begins_anew() {
    let gone = answer("PATCH", 2, |_, written| {
        written.uploads.clear();
        None
    });
    let registry = Registry::start_taking(cut("PATCH", 2, 10), gone);
    let (result, opened, sent) = push(&mut *registry.destination(), &LARGE);
    result.unwrap();
    assert!(registry.has(&LARGE));
    let anew = ["GET", "POST", CHUNKS[0], CHUNKS[1], CHUNKS[2], "PUT"];
    assert_eq!(registry.steps(), [&["POST", CHUNKS[0], CHUNKS[1]][..], &anew].concat());
    assert_eq!((opened, sent), (vec![0, 0], 20 << 20));
}

#[test]
fn an_upload_that_never_gets_further_is_given_up() {
    let registry = Registry::start(|request, written| {
        let is_third = request.header("content-range").is_some_and(|range| range.starts_with("16777216-"));
        is_third.then(|| {
            written.uploads.clear();
            error(500, "UNKNOWN")
        })
    });
    let result = push(&mut *registry.destination(), &LARGE).0;
    refused(result, Kind::Network, &["blob", "of team/app", "tried 6 times", "words of the registry"]);
    assert_eq!(registry.steps().iter().filter(|step| **step == CHUNKS[2]).count(), 6);
}

#[test]
fn a_registry_without_patch_gets_it_in_one_piece() {
    for (status, code) in
        [(404, "NAME_UNKNOWN"), (405, "UNSUPPORTED"), (400, "UNSUPPORTED"), (501, "UNSUPPORTED")]
    {
        let registry =
            Registry::start(move |request, _| (request.method == "PATCH").then(|| error(status, code)));
        let (result, opened, sent) = push(&mut *registry.destination(), &LARGE);
        result.unwrap();
        assert!(registry.has(&LARGE), "{status}");
        assert_eq!(registry.steps(), ["POST", CHUNKS[0], "DELETE", "POST", "PUT"], "{status}");
        assert_eq!(registry.counts(), (1, 0), "{status}: no upload is left behind");
        assert_eq!((opened, sent), (vec![0, 0], 20 << 20));
    }
}

#[test]
fn a_blob_whose_last_answer_was_lost_is_found() {
    for (bytes, body) in [(small(), 100_000), (LARGE.clone(), 0)] {
        let registry = Registry::start_taking(cut("PUT", 1, body), |_, _| None);
        push(&mut *registry.destination(), &bytes).0.unwrap();
        assert!(registry.has(&bytes));
        assert_eq!(registry.steps().iter().filter(|step| *step == "PUT").count(), 1);
        assert_eq!(registry.steps().last().unwrap(), "HEAD");
    }
}

#[test]
fn a_small_blob_whose_connection_breaks_begins_anew() {
    let registry = Registry::start_taking(cut("PUT", 1, 50_000), |_, _| None);
    let (result, opened, sent) = push(&mut *registry.destination(), &small());
    result.unwrap();
    assert!(registry.has(&small()));
    assert_eq!(registry.steps(), ["POST", "PUT", "HEAD", "POST", "PUT"]);
    assert_eq!((opened, sent), (vec![0, 0], 100_000));
}

#[test]
fn wrong_bytes_never_become_a_blob() {
    for right in [small(), LARGE.clone()] {
        let promised = descriptor(media_type::OCI_LAYER, &right);
        let mut other = right.to_vec();
        *other.last_mut().unwrap() ^= 1;
        let (short, long) = (&right[..right.len() - 1], [&right[..], b"x"].concat());
        for (given, part) in [(other.as_slice(), "its bytes are those of"), (short, "only"), (&long, "more")]
        {
            let registry = Registry::new();
            let (result, _, sent) = push_as(&mut *registry.destination(), &promised, &given.into());
            refused(result, Kind::Verification, &[&promised.digest.to_string(), part]);
            assert_eq!(registry.counts(), (0, 0), "{part}: no blob, and no upload is left behind");
            assert!(sent < promised.size, "{part}");
            let whole = |put: &Request| put.header("content-length") == Some(&*put.body.len().to_string());
            assert!(registry.server.requests().iter().all(|one| one.method != "PUT" || !whole(one)));
        }
    }
}

#[test]
fn what_a_registry_has_is_read_here_before_it_becomes_a_blob() {
    let all = answer("GET", 1, |_, _| Some(Reply::new(204, "").with("Range", "0-20971519")));
    let registry = Registry::start_taking(cut("PATCH", 2, 10), all);
    let mut other = LARGE.to_vec();
    *other.last_mut().unwrap() ^= 1;
    let promised = descriptor(media_type::OCI_LAYER, &LARGE);
    let result = push_as(&mut *registry.destination(), &promised, &other.into()).0;
    refused(result, Kind::Verification, &["its bytes are those of"]);
    assert_eq!(registry.steps(), ["POST", CHUNKS[0], CHUNKS[1], "GET", "DELETE"]);
}

#[test]
fn a_source_that_fails_is_not_blamed_on_the_registry() {
    let registry = Registry::new();
    let mut open = |_| Err(Error::new(Kind::NotFound, "no such blob in the source"));
    let result =
        registry.destination().blob(&descriptor(media_type::OCI_LAYER, b"x"), &mut open, &mut |_| {});
    refused(result, Kind::NotFound, &["no such blob in the source"]);
    assert_eq!(registry.steps(), ["POST", "DELETE"]);
}

#[test]
fn a_registry_that_is_busy_is_waited_for() {
    let registry =
        Registry::start(answer("PATCH", 2, |_, _| Some(Reply::new(429, "").with("Retry-After", "1"))));
    let begun = Instant::now();
    push(&mut *registry.destination(), &LARGE).0.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert!(registry.has(&LARGE));
    assert_eq!(registry.steps(), ["POST", CHUNKS[0], CHUNKS[1], "GET", CHUNKS[1], CHUNKS[2], "PUT"]);
}

#[test]
fn a_connection_that_takes_nothing_is_left() {
    let cut = cut("PATCH", 2, 0);
    let stalls = move |request: &Request| match cut(request) {
        taken if taken.answered => taken,
        taken => {
            std::thread::sleep(Duration::from_secs(20));
            taken
        }
    };
    let registry = Registry::start_taking(stalls, |_, _| None);
    let options = Options { stall: Duration::from_secs(1), ..options() };
    let begun = Instant::now();
    push(&mut *registry.destination_by(&options), &LARGE).0.unwrap();
    assert!(registry.has(&LARGE) && begun.elapsed() < Duration::from_secs(15));
}

#[test]
fn what_is_there_is_not_sent() {
    let registry = Registry::new();
    let mut destination = registry.destination();
    let blob = descriptor(media_type::OCI_LAYER, &small());
    assert!(!destination.has_blob(&blob).unwrap());
    push(&mut *destination, &small()).0.unwrap();
    assert!(destination.has_blob(&blob).unwrap());
    let wrong = Descriptor { size: 7, ..blob };
    assert!(!destination.has_blob(&wrong).unwrap(), "whatever that is, it is not this blob");
    assert_eq!(registry.steps(), ["HEAD", "POST", "PUT", "HEAD", "HEAD"]);
}

#[test]
fn a_blob_is_mounted_from_another_repository() {
    let (server, blob) = (Server::start(|_, _| Reply::new(201, "")), descriptor(media_type::OCI_LAYER, b"x"));
    let at = |name: &str| format!("{}/{name}", server.address).parse().unwrap();
    let mut destination = open_destination(&at("team/app:v1"), &options()).unwrap();
    assert!(destination.mount(&blob, &at("team/base:1")).unwrap());
    let asked = &server.requests()[0];
    let target = format!("/v2/team/app/blobs/uploads/?mount={}&from=team/base", blob.digest);
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", target.as_str()));
    for nowhere in
        [at("team/app:v2"), "other.example/team/base".parse().unwrap(), "oci:/dir".parse().unwrap()]
    {
        assert!(!destination.mount(&blob, &nowhere).unwrap());
    }
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_blob_that_is_not_mounted_leaves_nothing_behind() {
    let registry = Registry::new();
    let from = format!("{}/team/base:1", registry.server.address).parse().unwrap();
    assert!(!registry.destination().mount(&descriptor(media_type::OCI_LAYER, b"x"), &from).unwrap());
    assert_eq!((registry.steps(), registry.counts()), (vec!["POST".into(), "DELETE".into()], (0, 0)));
    for status in [400, 403, 404, 405, 429, 500, 502, 503, 599] {
        let registry = Registry::start(move |_, _| Some(Reply::new(status, "").with("Retry-After", "600")));
        let from = format!("{}/team/base:1", registry.server.address).parse().unwrap();
        assert!(!registry.destination().mount(&descriptor(media_type::OCI_LAYER, b"x"), &from).unwrap());
    }
}

#[test]
fn what_a_registry_does_not_take_is_explained() {
    for (status, kind, parts) in [
        (400, Kind::BadImage, ["HTTP 400 (CODE: words of the registry)", "does not take it"]),
        (404, Kind::NotFound, ["HTTP 404", "has to be made"]),
        (405, Kind::Network, ["HTTP 405", "a cache of another registry"]),
        (409, Kind::Usage, ["HTTP 409", "choose another"]),
        (415, Kind::BadImage, ["HTTP 415", "does not take it"]),
        (422, Kind::BadImage, ["HTTP 422", "does not take it"]),
        (413, Kind::BadImage, ["HTTP 413", "client_max_body_size"]),
        (307, Kind::Network, ["HTTP 307", "follows no redirect"]),
        (403, Kind::Auth, ["HTTP 403 (CODE: words of the registry)", "docker login"]),
    ] {
        let registry = Registry::start(move |_, _| Some(error(status, "CODE")));
        refused(push(&mut *registry.destination(), &small()).0, kind, &parts);
        assert_eq!(registry.steps().len(), 1, "{status} is final");
    }
}

#[test]
fn a_registry_that_calls_the_blob_otherwise_is_not_believed() {
    let other = Digest::of(b"other").to_string();
    let registry = Registry::start(move |request, _| {
        (request.method == "PUT").then(|| Reply::new(201, "").with("Docker-Content-Digest", &other))
    });
    let result = push(&mut *registry.destination(), &small()).0;
    refused(result, Kind::Verification, &[&Digest::of(b"other").to_string()]);
}

/// Does that with the first body of some size.
fn first(taken: Taken) -> impl Fn(&Request) -> Taken + Send + Sync {
    let seen = AtomicUsize::new(0);
    move |request| match request.header("content-range").is_some() && seen.fetch_add(1, Ordering::SeqCst) == 0
    {
        true => taken,
        false => Taken::ALL,
    }
}

/// Whether the chunks were announced, one after the other.
fn announced(registry: &Registry) -> Vec<bool> {
    let requests = registry.server.requests();
    let chunks = requests.iter().filter(|request| request.method == "PATCH");
    chunks.map(|request| request.header("expect") == Some("100-continue")).collect()
}

#[test]
fn an_answer_that_comes_before_the_bytes_is_heard() {
    let refuses = first(Taken { most: 0, heard: false, answered: true });
    let registry = Registry::start_taking(refuses, |request, _| {
        (request.method == "PATCH").then(|| Reply::new(413, "too large"))
    });
    let (result, _, sent) = push(&mut *registry.destination(), &LARGE);
    refused(result, Kind::BadImage, &["HTTP 413", "client_max_body_size"]);
    assert_eq!((sent, registry.steps()), (0, vec!["POST".into(), CHUNKS[0].into(), "DELETE".into()]));
}

#[test]
fn a_registry_that_says_nothing_beforehand_gets_the_bytes() {
    let silent = first(Taken { heard: false, ..Taken::ALL });
    let registry = Registry::start_taking(silent, |_, _| None);
    push(&mut *registry.destination(), &LARGE).0.unwrap();
    assert!(registry.has(&LARGE));
    assert_eq!(announced(&registry), [true; 3]);
}

#[test]
fn who_cannot_cope_with_an_announcement_gets_none() {
    // One says so, the other hangs up.
    for answered in [true, false] {
        let refuses = first(Taken { most: 0, heard: false, answered });
        let expects = answer("PATCH", 1, |_, _| Some(Reply::new(417, "")));
        let registry = Registry::start_taking(refuses, expects);
        push(&mut *registry.destination(), &LARGE).0.unwrap();
        assert!(registry.has(&LARGE), "{answered}");
        assert_eq!(announced(&registry), [true, false, false, false], "{answered}");
    }
}
