//! Layers over links that break, and from servers that answer ranges in every wrong way.

use crate::image::{Image, descriptor};
use crate::server::{Reply, Request, Server, closed_port};
use crate::{options, read_layer, refused, registry};
use edgepull::error::Kind;
use edgepull::image::digest::Digest;
use edgepull::image::manifest::Descriptor;
use edgepull::source::Options;
use std::sync::Arc;
use std::time::Duration;

/// A registry with one layer; `script` also gets its bytes.
fn layer(script: impl Fn(&Request, usize, &[u8]) -> Reply + Send + Sync + 'static) -> (Server, Image) {
    let bytes = Image::new().layer;
    let server = Server::start(move |request, before| script(request, before, &bytes));
    (server, Image::new())
}

#[test]
fn a_link_that_keeps_breaking_but_moves_on() {
    // More breaks than there are tries in a row: progress opens them all again.
    let (server, image) = layer(|request, before, bytes| {
        let reply = Reply::ranged(request, bytes);
        if before < 12 { reply.cut(1000) } else { reply }
    });
    let descriptor = image.layer_descriptor();
    let read = read_layer(&mut *registry(server.address, &options()), &descriptor, 0).unwrap();
    assert!(read == image.layer);
    let requests = server.requests();
    assert_eq!(requests.len(), 13);
    assert_eq!(requests[0].header("range"), None);
    for (number, request) in requests.iter().enumerate().skip(1) {
        assert_eq!(request.range(), Some((number * 1000, 99_999)), "goes on where it broke");
    }
}

#[test]
fn a_link_that_breaks_without_a_byte_is_given_up() {
    let (server, image) = layer(|request, before, bytes| {
        let reply = Reply::ranged(request, bytes);
        if before == 0 { reply.cut(1000) } else { reply.cut(0) }
    });
    let mut source = registry(server.address, &options());
    refused(
        read_layer(&mut *source, &image.layer_descriptor(), 0),
        Kind::Network,
        &["blob", "of team/app", "tried 6 times", "closed too early"],
    );
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn a_connection_that_stalls_is_left() {
    let (server, image) = layer(|request, before, bytes| {
        let reply = Reply::ranged(request, bytes);
        match before {
            0 => reply.stall(5000),
            1 => reply.stall(0),
            _ => reply,
        }
    });
    let options = Options { stall: Duration::from_secs(2), ..options() };
    let read = read_layer(&mut *registry(server.address, &options), &image.layer_descriptor(), 0).unwrap();
    assert!(read == image.layer);
    let ranges: Vec<_> = server.requests().iter().map(Request::range).collect();
    assert_eq!(ranges, [None, Some((5000, 99_999)), Some((5000, 99_999))]);
}

#[test]
fn from_the_middle() {
    let (server, image) = layer(|request, _, bytes| Reply::ranged(request, bytes));
    let mut source = registry(server.address, &options());
    let read = read_layer(&mut *source, &image.layer_descriptor(), 99_990).unwrap();
    assert_eq!(read, &image.layer[99_990..]);
    assert_eq!(server.requests()[0].range(), Some((99_990, 99_999)));
    assert_eq!(read_layer(&mut *source, &image.layer_descriptor(), 100_000).unwrap(), b"");
    refused(read_layer(&mut *source, &image.layer_descriptor(), 100_001), Kind::Other, &["beyond"]);
    assert_eq!(server.requests().len(), 1, "nothing is asked for nothing");
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let (server, image) = layer(|_, before, bytes| {
        let reply = Reply::new(200, bytes);
        if before == 0 { reply.cut(60_000) } else { reply }
    });
    let read = read_layer(&mut *registry(server.address, &options()), &image.layer_descriptor(), 0).unwrap();
    assert!(read == image.layer);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_wrong_range_is_never_taken() {
    for answer in
        ["bytes 999-99999/100000", "bytes 1000-99999/100001", "bytes 1000-99998/100000", "", "1000-99999"]
    {
        let (server, image) = layer(move |request, before, bytes| match (before, request.range()) {
            (0, None) => Reply::new(200, bytes).cut(1000),
            (_, Some(_)) => Reply::new(206, vec![0; 99_000]).with("Content-Range", answer),
            (_, None) => Reply::new(200, bytes),
        });
        let mut source = registry(server.address, &options());
        let read = read_layer(&mut *source, &image.layer_descriptor(), 0).unwrap();
        assert!(read == image.layer, "{answer:?}");
        let requests = server.requests();
        assert_eq!((requests.len(), requests[2].range()), (3, None), "{answer:?}: the whole is asked for");
    }
}

#[test]
fn a_range_that_is_refused_is_asked_for_whole() {
    let (server, image) = layer(|request, _, bytes| match request.range() {
        Some(_) => Reply::new(416, "").with("Content-Range", "bytes */100000"),
        None => Reply::new(200, bytes),
    });
    let mut source = registry(server.address, &options());
    let read = read_layer(&mut *source, &image.layer_descriptor(), 4711).unwrap();
    assert_eq!(read, &image.layer[4711..]);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn more_or_less_than_the_descriptor_says() {
    let (longer, image) = layer(|_, _, bytes| Reply::new(200, [bytes, b"x"].concat()));
    let mut source = registry(longer.address, &options());
    refused(
        read_layer(&mut *source, &image.layer_descriptor(), 0),
        Kind::Verification,
        &["has 100001 bytes, its descriptor says 100000"],
    );
    assert_eq!(longer.requests().len(), 1);

    // The same without a Content-Length that gives it away: told by the byte that follows the last.
    let (longer, image) = layer(|_, _, bytes| Reply::new(200, [bytes, b"x"].concat()).length(None));
    let mut source = registry(longer.address, &options());
    refused(
        read_layer(&mut *source, &image.layer_descriptor(), 0),
        Kind::Verification,
        &["longer than the 100000 bytes"],
    );

    let (shorter, image) = layer(|_, _, bytes| Reply::new(200, &bytes[1..]));
    let mut source = registry(shorter.address, &options());
    refused(read_layer(&mut *source, &image.layer_descriptor(), 0), Kind::Verification, &["has 99999 bytes"]);
}

#[test]
fn a_body_without_a_length_is_resumed_too() {
    let (server, image) = layer(|request, before, bytes| match before {
        0 => Reply::new(200, &bytes[..70_000]).length(None),
        _ => Reply::ranged(request, bytes),
    });
    let read = read_layer(&mut *registry(server.address, &options()), &image.layer_descriptor(), 0).unwrap();
    assert!(read == image.layer);
    assert_eq!(server.requests()[1].range(), Some((70_000, 99_999)));
}

#[test]
fn a_missing_blob_is_named() {
    let server = Server::start(|_, _| Reply::new(404, ""));
    let mut source = registry(server.address, &options());
    let descriptor = Image::new().layer_descriptor();
    let short = descriptor.digest.short().to_string();
    refused(read_layer(&mut *source, &descriptor, 0), Kind::NotFound, &[&short, "HTTP 404"]);
}

#[test]
fn redirects_are_resolved_anew_after_every_break() {
    let bytes = Image::new().layer;
    let store = Server::start(move |request, before| match before {
        0 => Reply::ranged(request, &bytes).cut(30_000),
        // The first URL has expired.
        _ if request.target.ends_with("=1") => Reply::new(403, "expired"),
        _ => Reply::ranged(request, &bytes),
    });
    let target = format!("http://{}/store?signature=", store.address);
    let server = Server::start(move |_, before| {
        Reply::new(307, "").with("Location", &format!("{target}{}", before + 1))
    });
    let image = Image::new();
    let mut source = registry(server.address, &options());
    assert!(read_layer(&mut *source, &image.layer_descriptor(), 0).unwrap() == image.layer);
    assert_eq!(server.requests().len(), 2);
    assert_eq!(store.requests()[1].target, "/store?signature=2");
    assert_eq!(store.requests()[1].range(), Some((30_000, 99_999)));
}

#[test]
fn redirects_end() {
    let server = Server::start(|request, _| match request.target.len() {
        // Relative, and round in circles.
        _ if request.target.ends_with("/a") => Reply::new(302, "").with("Location", "b"),
        _ => Reply::new(302, "").with("Location", "a"),
    });
    let mut source = registry(server.address, &options());
    refused(source.root(), Kind::Network, &["more than 5 redirects", "REDIRECTS_MAX"]);
    assert_eq!(server.requests().len(), 6);
    assert_eq!(server.requests()[5].target, "/v2/team/app/manifests/a");

    for (location, why) in [
        ("ftp://127.0.0.1/x", "no http or https URL"),
        ("file:///etc/passwd", "no http or https URL"),
        ("http://", "no http or https URL"),
        ("http://user:hunter2@127.0.0.1/", "user's name or password"),
        ("http://127.0.0.1:99999/", "port that is none"),
    ] {
        let server = Server::start(move |_, _| Reply::new(302, "").with("Location", location));
        let parts = ["redirects to nowhere", why];
        let text = refused(registry(server.address, &options()).root(), Kind::Network, &parts);
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(server.requests().len(), 1, "{location}");
    }
    let server = Server::start(move |_, _| Reply::new(302, ""));
    refused(registry(server.address, &options()).root(), Kind::Network, &["there is no Location"]);
}

fn with_urls(image: &Image, media_type: &str, urls: &[String]) -> Descriptor {
    Descriptor { urls: urls.to_vec(), ..descriptor(media_type, &image.layer) }
}

#[test]
fn foreign_layers_come_from_their_urls() {
    let image = Arc::new(Image::new());
    let bytes = image.layer.clone();
    let vendor = Server::start(move |request, before| match request.target.as_str() {
        "/layer" if before < 2 => Reply::ranged(request, &bytes).cut(1000),
        "/layer" => Reply::ranged(request, &bytes),
        _ => Reply::new(404, ""),
    });
    let server = Server::start(|_, _| Reply::new(404, ""));
    let urls = [
        "file:///etc/passwd".to_owned(),
        format!("http://{}/down", closed_port()),
        format!("http://{}/gone", vendor.address),
        format!("http://{}/layer", vendor.address),
    ];
    let foreign = with_urls(&image, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", &urls);
    let mut source = registry(server.address, &options());
    assert!(read_layer(&mut *source, &foreign, 0).unwrap() == image.layer);
    assert_eq!(server.requests().len(), 0, "registries needn't have foreign layers");
    assert_eq!(vendor.asked("/layer").len(), 2);
    assert_eq!(vendor.asked("/layer")[1].range(), Some((1000, 99_999)));

    let ordinary = with_urls(&image, "application/vnd.oci.image.layer.v1.tar+gzip", &urls);
    assert!(read_layer(&mut *source, &ordinary, 0).unwrap() == image.layer);
    assert_eq!(server.requests().len(), 1, "of ordinary layers the registry is asked first");
}

#[test]
fn a_foreign_layer_that_is_nowhere() {
    let image = Image::new();
    let server = Server::start(|_, _| Reply::new(404, ""));
    let urls = [format!("http://{}/x", server.address)];
    let foreign = with_urls(&image, "application/vnd.oci.image.layer.nondistributable.v1.tar", &urls);
    refused(
        read_layer(&mut *registry(server.address, &options()), &foreign, 0),
        Kind::NotFound,
        &["does not have it"],
    );
    assert_eq!(server.requests()[0].target, "/x");
    assert!(server.requests()[1].target.contains(&Digest::of(&image.layer).to_string()));
}

#[test]
fn a_blob_store_that_is_down_for_a_while() {
    let bytes = Image::new().layer;
    let store = Server::start(move |request, _| Reply::ranged(request, &bytes));
    let (up, down) = (store.address, closed_port());
    let server = Server::start(move |_, before| {
        let address = if before < 4 { down } else { up };
        Reply::new(307, "").with("Location", &format!("http://{address}/store"))
    });
    let image = Image::new();
    let mut source = registry(server.address, &options());
    assert!(read_layer(&mut *source, &image.layer_descriptor(), 0).unwrap() == image.layer);
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_reader_can_move_to_another_thread_and_outlives_its_source() {
    let (server, image) = layer(|request, before, bytes| {
        let reply = Reply::ranged(request, bytes);
        if before == 0 { reply.cut(500) } else { reply }
    });
    let mut reader = registry(server.address, &options()).layer(&image.layer_descriptor(), 0).unwrap();
    let read = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    assert!(read.join().unwrap().unwrap() == image.layer);
}
