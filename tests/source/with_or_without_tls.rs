//! Asks with TLS who has none, and without TLS who has nothing else: users are told what to change, and the next place is
//! asked.

use crate::mirrors::Hosts;
use crate::server::{Reply, Server};
use crate::tls::Pki;
use crate::{INDEX, options, refused, registry};
use edgepull::error::Kind;
use edgepull::image::manifest::media_type;
use edgepull::source::Options;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

fn plain() -> Server {
    Server::start(|_, _| Reply::typed(media_type::OCI_INDEX, INDEX))
}

/// Collects what was warned of.
fn warned(options: &Options) -> String {
    serde_json::to_value(options.network.learnt()).unwrap()["warned"].to_string()
}

#[test]
fn a_registry_without_tls_is_named_with_what_to_change() {
    let server = plain();
    // A loopback host would be asked without TLS, had nobody said that it has it.
    let hosts = Hosts::new(&format!("server = \"https://{}\"\n", server.address));
    let options = Options { plain_http: false, ..hosts.options() };
    let parts = ["the server does not speak TLS", "--plain-http", "http:// in its hosts.toml"];
    refused(registry(server.address, &options).root(), Kind::Network, &parts);
    assert_eq!(server.requests().len(), 0);
}

/// A server that takes what it is sent, answers this and closes.
fn saying(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 4096]);
            let _ = connection.write_all(answer);
        }
    });
    address
}

#[test]
fn a_registry_that_speaks_tls_only_is_named_with_what_to_change() {
    let parts = ["speak", "TLS only", "without --plain-http", "https:// in its hosts.toml"];
    // net/http of Go, byte for byte.
    let go = saying(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
    let text = refused(registry(go, &options()).root(), Kind::Network, &parts);
    assert!(text.contains("HTTP 400"), "{text}");
    let nginx = Server::start(|_, _| {
        let page =
            "<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>";
        Reply::new(400, page).with("Content-Type", "text/html")
    });
    refused(registry(nginx.address, &options()).root(), Kind::Network, &parts);
    assert_eq!(nginx.requests().len(), 1, "nothing is tried again");
    refused(registry(saying(b""), &options()).root(), Kind::Network, &parts);
    // Who has answered a question before knows what he is asked.
    let page = Server::start(|_, before| match before {
        0 => Reply::typed(media_type::OCI_INDEX, INDEX),
        _ => Reply::new(400, "<html></html>").with("Content-Type", "text/html"),
    });
    let mut source = registry(page.address, &options());
    assert!(source.root().is_ok());
    let text = refused(source.root(), Kind::Network, &["HTTP 400"]);
    assert!(!text.contains("TLS"), "{text}");
    // What a registry says of a request is not about TLS.
    let unhappy = Server::start(|_, _| {
        let text = r#"{"errors":[{"code":"NAME_INVALID","message":"no such name"}]}"#;
        Reply::new(400, text).with("Content-Type", "application/json")
    });
    let text = refused(registry(unhappy.address, &options()).root(), Kind::Network, &["NAME_INVALID"]);
    assert!(!text.contains("TLS"), "{text}");
    // An alert.
    let Some(pki) = Pki::new() else { return };
    let server = Server::start_tls(pki.server(), |_, _| Reply::typed(media_type::OCI_INDEX, INDEX));
    refused(registry(server.address, &options()).root(), Kind::Network, &parts);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_mirror_that_is_asked_in_the_wrong_way_is_passed_over_with_what_to_change() {
    let (mirror, origin) = (plain(), plain());
    let toml = |scheme: &str, mirror: SocketAddr| {
        format!("[host.\"{scheme}://{mirror}\"]\ncapabilities = [\"pull\", \"resolve\"]\n")
    };
    let hosts = Hosts::new(&toml("https", mirror.address));
    let options = hosts.options();
    assert_eq!(registry(origin.address, &options).root().unwrap().bytes, INDEX.as_bytes());
    let text = warned(&options);
    let address = mirror.address;
    for part in ["is left out", "does not speak TLS", &format!("write http://{address} in hosts.toml")] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    assert_eq!((mirror.requests().len(), origin.requests().len()), (0, 1));

    let Some(pki) = Pki::new() else { return };
    let mirror = Server::start_tls(pki.server(), |_, _| Reply::typed(media_type::OCI_INDEX, INDEX));
    let hosts = Hosts::new(&toml("http", mirror.address));
    let options = hosts.options();
    assert!(registry(origin.address, &options).root().is_ok());
    let text = warned(&options);
    for part in ["is left out", "TLS only", &format!("write https://{} in hosts.toml", mirror.address)] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    assert_eq!((mirror.requests().len(), origin.requests().len()), (0, 2));
}
