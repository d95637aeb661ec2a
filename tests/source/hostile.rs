//! Registries that mean harm: answers without an end, and references to where only the board can reach.

use crate::image::Image;
use crate::server::{Reply, Server};
use crate::tls::{Pki, trusting};
use crate::{options, read_layer, refused, registry};
use edgepull::error::Kind;
#[cfg(feature = "publish")]
use edgepull::image::manifest::Descriptor;
use std::net::{SocketAddr, UdpSocket};

/// Where only a board itself gets to, in every spelling that there is.
const NEAR: [&str; 31] = [
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.170.2/v2/credentials/",
    "http://169.254.170.23/",
    "http://169.254.43518/",
    "http://0xa9.254.0251.254/",
    "http://2852039166/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::169.254.169.254]/",
    "http://[::ffff:0:169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::a9fe:a9fe]/",
    "http://[64:ff9b:1:a9fe:a9:fe00::]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://[2001:0:a9fe:a9fe::1]/",
    "http://[2001:db8::5efe:a9fe:a9fe]/",
    "http://[fd00:ec2::254]/",
    "http://[fd00:ec2::23]/",
    "http://[fd20:ce::254]/",
    "http://168.63.129.16/machine?comp=goalstate",
    "http://[::ffff:168.63.129.16]/",
    "http://[64:ff9b::a83f:8110]/",
    "http://100.100.100.200/",
    "http://[fd00:100::100:200]/",
    "http://192.0.0.192/",
    "http://[fd00:c1::a9fe:a9fe]/",
    "http://[fd00:42::42]/",
    "http://[fd00:a9fe:a9fe::1]/",
    "http://169.254.1.1/",
    "http://[fe80::1]/",
    "http://[fe80::a9fe:a9fe]/",
    "http://224.0.0.1/",
];

#[test]
fn redirects_to_metadata_services_and_to_the_link_are_refused() {
    for target in NEAR {
        let server = Server::start(move |_, _| Reply::new(307, "").with("Location", target));
        refused(
            registry(server.address, &options()).root(),
            Kind::Network,
            &["only this board can reach", "refused"],
        );
        assert_eq!(server.requests().len(), 1, "{target}");
    }
    let server = Server::start(|_, _| Reply::new(307, "").with("Location", "file:///etc/shadow"));
    refused(registry(server.address, &options()).root(), Kind::Network, &["redirects to nowhere"]);
    let server = Server::start(|_, _| Reply::new(307, "").with("Location", "/again"));
    refused(registry(server.address, &options()).root(), Kind::Network, &["REDIRECTS_MAX"]);
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn a_token_server_is_not_at_a_metadata_service_either() {
    for target in NEAR {
        let challenge = format!("Bearer realm=\"{target}\",service=\"x\"");
        let server = Server::start(move |_, _| Reply::new(401, "").with("WWW-Authenticate", &challenge));
        refused(
            registry(server.address, &options()).root(),
            Kind::Network,
            &["only this board can reach", "refused"],
        );
        assert_eq!(server.requests().len(), 1, "{target}");
    }
}

#[test]
fn a_layer_s_own_urls_are_not_there_either() {
    let image = Image::new();
    for target in NEAR {
        let mut layer = image.layer_descriptor();
        layer.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".to_owned();
        layer.urls = vec![target.to_owned()];
        let server = Server::start(|_, _| Reply::new(404, ""));
        // The registry is asked, where nobody else may be.
        refused(
            read_layer(&mut *registry(server.address, &options()), &layer, 0),
            Kind::NotFound,
            &["does not have it"],
        );
        assert_eq!(server.requests().len(), 1, "{target}");
    }
}

#[cfg(feature = "publish")]
#[test]
fn an_upload_does_not_go_on_there_either() {
    for target in NEAR {
        let server = Server::start(move |request, _| match request.method.as_str() {
            "POST" => Reply::new(202, "").with("Location", target),
            _ => Reply::new(404, ""),
        });
        let reference = format!("{}/team/app:v1", server.address).parse().unwrap();
        let mut registry = edgepull::source::open_destination(&reference, &options()).unwrap();
        let bytes = b"some";
        let digest = edgepull::image::digest::Digest::of(bytes);
        let blob: Descriptor = Descriptor::new(String::new(), digest, bytes.len() as u64);
        let result = registry.blob(&blob, &mut |_| Ok(Box::new(&bytes[..])), &mut |_| {});
        refused(result, Kind::Network, &["only this board can reach", "refused"]);
        assert_eq!(server.requests().len(), 1, "{target}");
    }
}

/// An address of this machine that is not its loopback's; nothing is sent to find it.
fn own_address() -> Option<SocketAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().filter(|address| !address.ip().is_loopback() && !address.ip().is_unspecified())
}

#[test]
fn a_registry_elsewhere_cannot_send_a_board_to_itself() {
    let Some(own) = own_address() else { return println!("skipped: this machine has only a loopback") };
    let service = Server::start(|_, _| Reply::new(200, "secret"));
    for host in ["127.0.0.1", "localhost", "[::1]", "0.0.0.0"] {
        let target = format!("http://{host}:{}/", service.address.port());
        let server = Server::start_at(&format!("{}:0", own.ip()), move |_, _| {
            Reply::new(302, "").with("Location", &target)
        });
        refused(registry(server.address, &options()).root(), Kind::Network, &["only this board can reach"]);
    }
    assert!(service.requests().is_empty());
    // A private network is where registries live.
    let store = Server::start_at(&format!("{}:0", own.ip()), |_, _| Reply::typed("x", crate::INDEX));
    let target = format!("http://{}/", store.address);
    let server = Server::start_at(&format!("{}:0", own.ip()), move |_, _| {
        Reply::new(302, "").with("Location", &target)
    });
    assert_eq!(registry(server.address, &options()).root().unwrap().bytes, crate::INDEX.as_bytes());
}

#[test]
fn floods_end_while_little_has_come() {
    // What edgepull takes without an answer in it, and what lies in its and the server's socket buffers.
    let (fruitless, buffered) = (256 << 10, 1 << 20);
    let ok = "HTTP/1.1 200 OK\r\n";
    let chunked = format!("{ok}Content-Type: x/y\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (what, head, again) in [
        ("interim answers", String::new(), "HTTP/1.1 100 Continue\r\n\r\n".to_owned()),
        (
            "interim answers with fields",
            String::new(),
            format!("HTTP/1.1 103 X\r\nLink: {}\r\n\r\n", "x".repeat(900)),
        ),
        ("fields", ok.to_owned(), "X-Field: y\r\n".to_owned()),
        ("one field", format!("{ok}X: "), "y".repeat(1000)),
        ("a status line", "HTTP/1.1 200 ".to_owned(), "y".repeat(1000)),
        ("a chunk's extension", format!("{chunked}5;"), "x=y;".repeat(100)),
        ("a chunk's length", chunked.clone(), "0".repeat(1000)),
        ("trailers", format!("{chunked}2\r\n{{}}\r\n0\r\n"), "X-Trailer: y\r\n".repeat(50)),
        ("one trailer", format!("{chunked}2\r\n{{}}\r\n0\r\nX: "), "y".repeat(1000)),
        ("a body", chunked.clone(), format!("1000\r\n{}\r\n", "x".repeat(4096))),
    ] {
        let server = Server::start(move |_, _| Reply::flood(head.clone(), again.clone()));
        let error = registry(server.address, &options()).root().expect_err(what);
        assert!(matches!(error.kind(), Kind::Network | Kind::BadImage), "{what}: {error}");
        let (requests, sent) = (server.requests().len(), server.sent());
        assert!(requests <= 6, "{what}");
        let of_a_body = if what == "a body" { 4 << 20 } else { 0 };
        assert!(sent <= requests * (of_a_body + fruitless + buffered), "{what}: {sent} by {requests}");
    }
}

#[test]
fn a_head_that_is_too_large_is_named_and_not_asked_for_again() {
    let long = "y".repeat(20_000);
    let server = Server::start(move |_, _| Reply::new(200, crate::INDEX).with("X-Long", &long));
    refused(registry(server.address, &options()).root(), Kind::Network, &["head of the answer", "16 KiB"]);
    assert_eq!(server.requests().len(), 1);
    let Some(pki) = Pki::new() else { return };
    let long = "y".repeat(20_000);
    let server =
        Server::start_tls(pki.server(), move |_, _| Reply::new(200, crate::INDEX).with("X-Long", &long));
    let trusting = trusting(&pki.path("ca.pem"));
    refused(registry(server.address, &trusting).root(), Kind::Network, &["head of the answer", "16 KiB"]);
}

#[test]
fn trailers_without_an_end_behind_a_blob_do_not_hold_it() {
    let image = Image::new();
    let layer = image.layer.clone();
    let server = Server::start(move |_, _| {
        let mut head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        head.extend_from_slice(format!("{:x}\r\n", layer.len()).as_bytes());
        head.extend_from_slice(&layer);
        head.extend_from_slice(b"\r\n0\r\n");
        Reply::flood(head, "X-Trailer: y\r\n".repeat(50))
    });
    let read = read_layer(&mut *registry(server.address, &options()), &image.layer_descriptor(), 0).unwrap();
    assert!(read == image.layer);
    assert_eq!(server.requests().len(), 1);
}
