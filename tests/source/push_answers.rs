//! Every answer to every request of a push: what is asked beforehand decides nothing, and a page that answers for the
//! registry has taken nothing, which says nothing of the image.

use crate::image::Image;
use crate::refused;
use crate::server::{Reply, Request};
use crate::statuses::statuses;
use crate::uploads::{LARGE, Registry, error, push};
use edgepull::error::{Kind, Result};
use edgepull::image::digest::Digest;
use edgepull::image::manifest::media_type;
use edgepull::source::{Destination, Fetched};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn manifest() -> Fetched {
    let bytes = Image::new().manifest;
    Fetched { digest: Digest::of(&bytes), bytes, media_type: media_type::OCI_MANIFEST.to_owned() }
}

/// Pushes a blob and a manifest as `copy` does: what is there already is not sent.
fn pushed(destination: &mut dyn Destination, blob: &Arc<[u8]>) -> Result<()> {
    if !destination.has_blob(&crate::image::descriptor(media_type::OCI_LAYER, blob))? {
        push(destination, blob).0?;
    }
    let manifest = manifest();
    if !destination.has_manifest(&crate::image::descriptor(media_type::OCI_MANIFEST, &manifest.bytes))? {
        destination.manifest(&manifest)?;
    }
    destination.publish(&manifest, &["other".to_owned()])
}

fn small() -> Arc<[u8]> {
    Arc::from(&b"a small blob"[..])
}

#[track_caller]
fn is_all_there(registry: &Registry, blob: &[u8], what: &str) {
    assert!(registry.has(blob), "{what}");
    for name in ["v1", "other", &manifest().digest.to_string()] {
        assert!(registry.manifest(name).is_some(), "{what}: {name}");
    }
}

/// Lists what HEAD is answered by those who do not like it, and by those who are no registry.
fn odd_heads() -> impl Iterator<Item = (String, Reply)> {
    let digest = Digest::of(b"another").to_string();
    let plain = statuses().map(|status| (status.to_string(), Reply::new(status, "")));
    let lengths = [0, 6, 140].map(|length| {
        let page = Reply::typed("text/html", "").length(Some(length));
        (format!("a page of {length}"), page)
    });
    plain.chain(lengths).chain([
        ("another digest".to_owned(), Reply::new(200, "").with("Docker-Content-Digest", &digest)),
        ("no digest".to_owned(), Reply::new(200, "").with("Docker-Content-Digest", "x")),
        ("to a page".to_owned(), Reply::new(302, "").with("Location", "/v2/team/app/blobs/login")),
        ("to nowhere".to_owned(), Reply::new(302, "").with("Location", "ftp://x")),
        ("Basic".to_owned(), Reply::new(401, "").with("WWW-Authenticate", "Basic realm=x")),
    ])
}

#[test]
fn head_decides_nothing() {
    for (what, reply) in odd_heads() {
        let registry = Registry::start(move |request, _| match request.target.as_str() {
            "/v2/team/app/blobs/login" => Some(Reply::typed("text/html", "").length(Some(6))),
            _ => (request.method == "HEAD").then(|| reply.clone().with("Retry-After", "600")),
        });
        pushed(&mut *registry.destination(), &small()).unwrap_or_else(|error| panic!("{what}: {error}"));
        is_all_there(&registry, &small(), &what);
        let heads = registry.steps().iter().filter(|step| *step == "HEAD").count();
        assert!(heads <= 4 * 2, "{what}: {heads} times");
    }
}

#[test]
fn what_is_there_by_its_length_or_digest_is_not_sent() {
    for by_digest in [true, false] {
        let (digest, length) = (Digest::of(&small()).to_string(), small().len());
        let registry = Registry::start(move |request, _| {
            let reply = Reply::new(200, "").length(Some(length));
            let reply = if by_digest { reply.with("Docker-Content-Digest", &digest) } else { reply };
            (request.method == "HEAD").then_some(reply)
        });
        let blob = crate::image::descriptor(media_type::OCI_LAYER, &small());
        assert!(registry.destination().has_blob(&blob).unwrap());
    }
}

/// The requests of a push that write, and the one that reads back.
const WRITES: [&str; 5] = ["POST", "PATCH", "PUT blob", "PUT manifest", "GET manifest"];

fn step(request: &Request) -> String {
    let what = if request.target.contains("/manifests/") { "manifest" } else { "blob" };
    match request.method.as_str() {
        "POST" | "PATCH" => request.method.clone(),
        other => format!("{other} {what}"),
    }
}

#[test]
fn a_page_has_taken_nothing() {
    let pages = [
        ("text/html; charset=utf-8", "<html>please log in</html>"),
        ("", "\n<!DOCTYPE html>"),
        ("text/html", "\u{feff}please log in"),
        ("application/json", r#"{"errors":[{"code":"DENIED","message":"log in"}]}"#),
    ];
    for write in WRITES {
        for (at, (content_type, page)) in pages.into_iter().enumerate() {
            for status in [200, 201, 202, 203] {
                let seen = Arc::<AtomicBool>::default();
                let was_seen = seen.clone();
                let registry = Registry::start(move |request, _| {
                    (step(request) == write).then(|| {
                        seen.store(true, Ordering::SeqCst);
                        Reply::new(status, page).with("Content-Type", content_type)
                    })
                });
                // Only what is larger than a chunk is patched, and one kind of page is enough for that.
                let is_large = write == "PATCH";
                if is_large && (at > 1 || status > 201) {
                    continue;
                }
                let blob = if is_large { LARGE.clone() } else { small() };
                let result = pushed(&mut *registry.destination(), &blob);
                let host = registry.server.address.to_string();
                let text = refused(result, Kind::Network, &[&host]);
                assert!(was_seen.load(Ordering::SeqCst), "{write}");
                assert!(!text.contains("tried"), "{write} {status} {page}: {text}");
                if !(write == "POST" && status == 202) {
                    assert!(text.contains("a login page is before it"), "{write} {status} {page}: {text}");
                }
            }
        }
    }
}

/// Success has many statuses, and bodies that nobody reads.
#[test]
fn whatever_success_looks_like() {
    for (status, content_type, body) in [
        (200, "text/html", ""),
        (201, "text/plain", "created"),
        (202, "application/json", "{}"),
        (204, "", ""),
        (226, "application/json", "null"),
    ] {
        let registry = Registry::start(move |request, written| {
            let is_put = step(request) == "PUT manifest";
            let name = request.target.rsplit('/').next().unwrap().to_owned();
            is_put.then(|| {
                let typed = request.header("content-type").unwrap().to_owned();
                written
                    .manifests
                    .insert(Digest::of(&request.body).to_string(), (typed.clone(), request.body.clone()));
                written.manifests.insert(name, (typed, request.body.clone()));
                Reply::new(status, body).with("Content-Type", content_type)
            })
        });
        pushed(&mut *registry.destination(), &small()).unwrap_or_else(|error| panic!("{status}: {error}"));
        is_all_there(&registry, &small(), &status.to_string());
    }
}

#[test]
fn a_manifest_that_names_what_the_registry_lacks_is_no_missing_repository() {
    for status in [400, 404] {
        let registry = Registry::start(move |_, _| Some(error(status, "MANIFEST_BLOB_UNKNOWN")));
        let text = refused(
            registry.destination().manifest(&manifest()),
            Kind::BadImage,
            &["lacks something", "--platform"],
        );
        assert!(!text.contains("has to be made"), "{text}");
    }
}
