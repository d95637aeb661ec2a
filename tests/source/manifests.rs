//! Documents from a registry.

use crate::image::{Image, descriptor, pointer};
use crate::server::{Reply, Server, closed_port};
use crate::{options, read_layer, refused, registry};
use edgepull::error::Kind;
use edgepull::image::digest::Digest;
use edgepull::image::manifest::{Document, media_type};
use edgepull::source::{Options, Source, open};
use std::sync::Arc;

/// A registry that has `image` as `team/app:v1`.
fn serve(image: Arc<Image>) -> Server {
    Server::start(move |request, _| {
        let manifest = format!("/v2/team/app/manifests/{}", Digest::of(&image.manifest));
        let config = format!("/v2/team/app/blobs/{}", Digest::of(&image.config));
        let layer = format!("/v2/team/app/blobs/{}", Digest::of(&image.layer));
        match request.target.as_str() {
            "/v2/team/app/manifests/v1" => {
                Reply::typed("application/vnd.oci.image.index.v1+json; charset=utf-8", image.index.clone())
                    .with("Docker-Content-Digest", &Digest::of(&image.index).to_string())
            }
            path if path == manifest => Reply::typed(media_type::OCI_MANIFEST, image.manifest.clone()),
            path if path == config => Reply::new(200, image.config.clone()),
            path if path == layer => Reply::ranged(request, &image.layer),
            _ => Reply::new(
                404,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest \u001b[2Junknown"}]}"#,
            ),
        }
    })
}

/// Walks from the tag to the layer and compares every byte.
fn pull(source: &mut dyn Source, image: &Image) {
    let root = source.root().unwrap();
    assert_eq!((&root.bytes, root.digest), (&image.index, Digest::of(&image.index)));
    assert_eq!(root.media_type, media_type::OCI_INDEX);
    let Document::Index(index) = Document::parse(&root.media_type, &root.bytes).unwrap() else { panic!() };
    let manifest = source.manifest(&index.entries[0]).unwrap();
    assert_eq!(manifest.bytes, image.manifest);
    let Document::Manifest(manifest) = Document::parse(&manifest.media_type, &manifest.bytes).unwrap() else {
        panic!()
    };
    assert_eq!(source.config(&manifest.config).unwrap().bytes, image.config);
    assert_eq!(read_layer(source, &manifest.layers[0], 0).unwrap(), image.layer);
}

#[test]
fn a_whole_pull_over_one_connection_s_worth_of_requests() {
    let image = Arc::new(Image::new());
    let server = serve(image.clone());
    pull(&mut *registry(server.address, &options()), &image);
    let requests = server.requests();
    assert_eq!(requests.len(), 4, "nothing is asked twice: {requests:?}");
    assert!(requests.iter().all(|request| request.method == "GET"));
    let types = [
        media_type::OCI_INDEX,
        media_type::DOCKER_LIST,
        media_type::OCI_MANIFEST,
        media_type::DOCKER_MANIFEST,
    ];
    assert_eq!(requests[0].headers("accept"), types, "a header each");
    assert_eq!(requests[0].header("user-agent"), Some(concat!("edgepull/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(requests[3].header("accept-encoding"), Some("identity"));
    assert_eq!(requests[3].header("authorization"), None);
}

#[test]
fn a_loopback_registry_without_tls_needs_no_option() {
    let image = Arc::new(Image::new());
    let server = serve(image.clone());
    pull(&mut *registry(server.address, &Options { plain_http: false, ..options() }), &image);
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn a_loopback_registry_that_hangs_up_on_tls() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut head = [0; 4096];
            let read = connection.read(&mut head).unwrap();
            if head[..read].starts_with(b"GET ") {
                connection
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"manifests\":[]}")
                    .unwrap();
            }
        }
    });
    let options = Options { plain_http: false, ..options() };
    assert_eq!(registry(address, &options).root().unwrap().bytes, crate::INDEX.as_bytes());
}

#[test]
fn what_is_not_there_is_not_found() {
    let server = serve(Arc::new(Image::new()));
    let reference = format!("{}/team/app:v2", server.address).parse().unwrap();
    let text = refused(
        open(&reference, &options()).unwrap().root(),
        Kind::NotFound,
        &["manifest v2 of team/app", "HTTP 404 (MANIFEST_UNKNOWN: manifest  [2Junknown)"],
    );
    assert!(!text.contains('\x1b'));
    assert_eq!(server.requests().len(), 1, "not found is final");
}

#[test]
fn a_digest_in_the_reference_is_held_against_the_bytes() {
    let image = Image::new();
    let index = image.index.clone();
    let server = Server::start(move |_, _| Reply::typed(media_type::OCI_INDEX, index.clone()));
    let at = |digest: Digest| {
        let reference = format!("{}/team/app:v1@{digest}", server.address).parse().unwrap();
        open(&reference, &options()).unwrap().root()
    };
    assert_eq!(at(Digest::of(&image.index)).unwrap().bytes, image.index);
    let other = Digest::of(b"other");
    refused(at(other), Kind::Verification, &[&other.to_string()]);
    assert!(server.requests()[0].target.ends_with(&Digest::of(&image.index).to_string()));
}

#[test]
fn bytes_that_are_not_what_was_promised() {
    let wrong = Server::start(|_, _| {
        Reply::typed(media_type::OCI_INDEX, crate::INDEX)
            .with("Docker-Content-Digest", &Digest::of(b"other").to_string())
    });
    refused(registry(wrong.address, &options()).root(), Kind::Verification, &["its head says sha256:"]);

    let other = Server::start(|_, _| Reply::typed(media_type::OCI_MANIFEST, r#"{"layers": []}"#));
    let mut source = registry(other.address, &options());
    refused(
        source.manifest(&descriptor(media_type::OCI_MANIFEST, br#"{"layers":[]}"#)),
        Kind::Verification,
        &["longer"],
    );
    refused(
        source.manifest(&descriptor(media_type::OCI_MANIFEST, br#"{"layers":[ ]}"#)),
        Kind::Verification,
        &["expected"],
    );
    refused(
        source.config(&descriptor(media_type::OCI_CONFIG, br#"{"layers":[ ]}"#)),
        Kind::Verification,
        &["expected"],
    );
}

#[test]
fn an_endless_manifest_is_cut_at_the_limit() {
    let server = Server::start(|_, _| Reply::typed(media_type::OCI_INDEX, [b' '; 65536]).endless());
    refused(registry(server.address, &options()).root(), Kind::BadImage, &["4 MiB", "DOCUMENT_MAX"]);
    assert_eq!(server.requests().len(), 1);
    let large = format!("{{\"manifests\":[{}]}}", " ".repeat(4 << 20));
    let server = Server::start(move |_, _| Reply::typed(media_type::OCI_INDEX, large.clone()));
    refused(registry(server.address, &options()).root(), Kind::BadImage, &["4 MiB", "DOCUMENT_MAX"]);
}

#[test]
fn a_page_is_one_however_long_it_is() {
    for (begins, content_type) in [
        ("<html>", ""),
        (" \n<!DOCTYPE html>", media_type::OCI_INDEX),
        ("\u{feff}<html>", "text/plain"),
        ("please log in", "Text/HTML; charset=utf-8"),
    ] {
        let page = format!("{begins}{}", "log in ".repeat(1 << 20));
        let server = Server::start(move |_, _| Reply::typed(content_type, page.clone()));
        let parts = ["no manifest", "not a registry, or a login page"];
        refused(registry(server.address, &options()).root(), Kind::Network, &parts);
        assert_eq!(server.requests().len(), 1, "{begins}");
    }
}

#[test]
fn schema_1_reaches_the_parser_by_its_media_type() {
    let server =
        Server::start(|_, _| Reply::typed("application/vnd.docker.distribution.manifest.v1+prettyjws", "{}"));
    let root = registry(server.address, &options()).root().unwrap();
    let error = Document::parse(&root.media_type, &root.bytes).unwrap_err();
    assert!(error.to_string().contains("schema 1"));
}

/// The manifests that were asked for because a list of referrers, in pages of one, names them. `link` makes the header of
/// a page out of the next one's number.
fn referrers(link: impl Fn(usize) -> Option<String> + Send + Sync + 'static) -> usize {
    let server = Server::start(move |request, _| {
        let Some((_, query)) = request.target.split_once("/referrers/") else { return Reply::new(404, "") };
        let page = query.split_once("last=").map_or(0, |(_, last)| last.parse::<usize>().unwrap());
        let entry = pointer(media_type::OCI_MANIFEST, format!("referrer {page}").as_bytes());
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#);
        match link(page + 1) {
            Some(link) => Reply::typed(media_type::OCI_INDEX, index).with("Link", &link),
            None => Reply::typed(media_type::OCI_INDEX, index),
        }
    });
    let mut source = registry(server.address, &options());
    source.signatures(&Digest::of(b"image"), &mut |_| false).unwrap();
    server.asked("/manifests/sha256:").len()
}

#[test]
fn referrers_come_in_pages() {
    let digest = Digest::of(b"image");
    let path = format!("/v2/team/app/referrers/{digest}");
    let here = path.clone();
    assert_eq!(referrers(move |next| (next < 3).then(|| format!("<{here}?last={next}>; rel=\"next\""))), 3);
    assert_eq!(referrers(move |next| Some(format!("<?n=1&last={next}>; rel=\"next\""))), 16, "PAGES_MAX");
    for elsewhere in [
        format!("<http://127.0.0.1:1{path}?last=1>; rel=\"next\""),
        "</v2/team/other/referrers/x?last=1>; rel=\"next\"".to_owned(),
        format!("<{path}?last=1>; rel=\"prev\""),
        format!("{path}?last=1"),
    ] {
        assert_eq!(referrers(move |_| Some(elsewhere.clone())), 1);
    }
}

/// Go's clients take every 2xx; what comes by it is seen by its bytes. A mirror's are taken, too.
#[test]
fn a_manifest_may_come_by_any_status_of_success() {
    for status in (200..=299).filter(|status| !matches!(status, 204 | 205)) {
        let answers = move |request: &crate::server::Request, _| match request.method.as_str() {
            "HEAD" => Reply::new(status, "").with("Docker-Content-Digest", &Digest::of(b"x").to_string()),
            _ => Reply::new(status, crate::INDEX).with("Content-Type", media_type::OCI_INDEX),
        };
        let server = Server::start(answers);
        let mut source = registry(server.address, &options());
        assert_eq!(source.current().unwrap(), Some(Digest::of(b"x")), "{status}");
        assert_eq!(source.root().unwrap().bytes, crate::INDEX.as_bytes(), "{status}");
        let by_digest = descriptor(media_type::OCI_INDEX, crate::INDEX.as_bytes());
        assert_eq!(source.manifest(&by_digest).unwrap().bytes, crate::INDEX.as_bytes(), "{status}");
    }
}

#[test]
fn overload_is_waited_for() {
    for status in [408, 425, 429, 500, 501, 502, 503, 504, 507, 509, 520, 524, 530, 599] {
        let server = Server::start(move |_, before| match before {
            0 | 1 => Reply::new(status, "busy").with("Retry-After", "0"),
            _ => Reply::typed(media_type::OCI_INDEX, crate::INDEX),
        });
        assert_eq!(registry(server.address, &options()).root().unwrap().bytes, crate::INDEX.as_bytes());
        assert_eq!(server.requests().len(), 3, "{status}");
    }
}

/// Bodies of those who are no registry, or have no manifest.
const NO_MANIFESTS: [&str; 9] = [
    "",
    "{}",
    "null",
    "[]",
    "<html>please log in</html>",
    "\u{feff}<!DOCTYPE html>",
    r#"{"errors":[{"code":"UNAUTHORIZED","message":"log in"}]}"#,
    r#"{"schemaVersion":2}"#,
    r#"{"manifests":[]"#,
];

#[test]
fn a_body_that_is_no_manifest_says_nothing_of_the_image() {
    for body in NO_MANIFESTS {
        for content_type in ["text/html", media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST, ""] {
            let server = Server::start(move |_, _| Reply::typed(content_type, body));
            let mut source = registry(server.address, &options());
            refused(source.root(), Kind::Network, &["no manifest", "not a registry, or a login page"]);
            assert_eq!(server.requests().len(), 1, "{body}: asked once");
            // By a digest, too: the bytes are not that image's.
            let wanted = descriptor(media_type::OCI_MANIFEST, br#"{"layers":[]}"#);
            refused(source.manifest(&wanted), Kind::Network, &["not a registry, or a login page"]);
        }
    }
    // What its digest names is the image's own fault.
    let server = Server::start(move |_, _| Reply::typed("text/html", "{}"));
    let page = registry(server.address, &options()).manifest(&descriptor("", b"{}")).unwrap();
    assert_eq!(page.bytes, b"{}");
}

/// Every answer to HEAD that gives no digest: what GET says counts, and that is asked for once.
#[test]
fn head_is_no_more_than_an_optimisation() {
    for status in [200, 204, 301, 307, 400, 401, 403, 404, 405, 406, 410, 418, 429, 500, 501, 503, 520, 599] {
        let server = Server::start(move |request, _| match request.method.as_str() {
            "HEAD" if request.target == "/only/get" => Reply::new(405, ""),
            "HEAD" => Reply::new(status, "").with("Location", "/only/get"),
            _ => Reply::typed(media_type::OCI_INDEX, crate::INDEX),
        });
        let mut source = registry(server.address, &options());
        assert_eq!(source.current().unwrap(), None, "{status}");
        assert_eq!(source.root().unwrap().bytes, crate::INDEX.as_bytes());
        let heads = server.requests().iter().filter(|request| request.method == "HEAD").count();
        assert!(heads <= 2, "{status}: {heads} times");
    }
}

#[test]
fn patience_ends() {
    let server = Server::start(|_, _| {
        Reply::new(429, r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#)
    });
    refused(
        registry(server.address, &options()).root(),
        Kind::Network,
        &["tried 6 times", "HTTP 429 (TOOMANYREQUESTS: slow down)", "wait, or log in"],
    );
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn a_manifest_that_breaks_off_is_fetched_again() {
    let image = Image::new();
    let index = image.index.clone();
    let server = Server::start(move |_, before| {
        let reply = Reply::typed(media_type::OCI_INDEX, index.clone());
        if before < 2 { reply.cut(10) } else { reply }
    });
    assert_eq!(registry(server.address, &options()).root().unwrap().bytes, image.index);
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn nobody_there_is_found_out_quickly() {
    for plain_http in [true, false] {
        let options = Options { plain_http, ..options() };
        let text = refused(
            registry(closed_port(), &options).root(),
            Kind::Network,
            &["tried 3 times", "connection refused", "check host and port"],
        );
        assert!(text.contains("127.0.0.1:"), "{text}");
    }
}

#[test]
fn a_name_without_address_says_so() {
    let reference = "no-such-host.invalid/a:b".parse().unwrap();
    refused(
        open(&reference, &options()).unwrap().root(),
        Kind::Network,
        &["no-such-host.invalid", "not known"],
    );
}

#[test]
fn what_is_no_http_is_final() {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let _ = connection.unwrap().write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n");
        }
    });
    refused(registry(address, &options()).root(), Kind::Network, &["no HTTP", "--plain-http"]);
}
