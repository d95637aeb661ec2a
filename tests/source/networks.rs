//! Networks as they are: not up yet, slow on purpose or by malice, silent, IPv6; tokens that live shortly.

use crate::image::Image;
use crate::port::bound;
use crate::server::{Reply, Server, closed_port};
use crate::{options, read_layer, refused, registry};
use edgepull::error::Kind;
use edgepull::source::{Lowest, Network, Options};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_registry_that_comes_up_late_is_waited_for() {
    let port = bound();
    let address = port.local_addr().unwrap();
    let network = Arc::new(Network::new(None, Duration::from_secs(60)));
    let options = Options { network, ..options() };
    let server = std::thread::spawn(move || {
        // Later than all tries without waiting, which end within milliseconds here.
        std::thread::sleep(Duration::from_millis(700));
        Server::start_on(port, |_, _| Reply::typed("x", crate::INDEX))
    });
    assert_eq!(registry(address, &options).root().unwrap().bytes, crate::INDEX.as_bytes());
    server.join().unwrap();
    // Once it was there, a failure is one.
    let mut gone = registry(closed_port(), &options);
    refused(gone.root(), Kind::Network, &["tried 3 times", "connection refused"]);
}

#[test]
fn waiting_ends_in_the_usual_error() {
    let network = Arc::new(Network::new(None, Duration::from_millis(600)));
    let started = Instant::now();
    let mut source = registry(closed_port(), &Options { network, ..options() });
    refused(source.root(), Kind::Network, &["connection refused"]);
    assert!(started.elapsed() >= Duration::from_millis(600));
}

#[test]
fn a_limited_rate_holds() {
    let image = Image::new();
    let layer = image.layer.clone();
    let server = Server::start(move |request, _| Reply::ranged(request, &layer));
    let rate = 160 << 10;
    let network = Arc::new(Network::new(Some(rate), Duration::ZERO));
    let options = Options { network, ..options() };
    let started = Instant::now();
    let read = read_layer(&mut *registry(server.address, &options), &image.layer_descriptor(), 0).unwrap();
    assert!(read == image.layer);
    // All but the last read was paid for, less the burst of a quarter of a second.
    let least = Duration::from_secs_f64(80_000.0 / rate as f64 - 0.25);
    assert!(started.elapsed() >= least, "{:?} of {least:?}", started.elapsed());
    assert_eq!(server.requests().len(), 1);
}

/// Options of one who bears no slowness for longer than 400 ms. No server here gives more than some bytes in that time.
fn hasty() -> Options {
    Options { lowest: Lowest { rate: 1 << 30, patience: Duration::from_millis(400) }, ..options() }
}

const TOO_SLOW: [&str; 4] =
    ["tried 6 times", "too slow: ", "less than 1073741824 bytes a second", "--lowest-rate"];

#[test]
fn a_blob_that_only_drips_is_given_up_and_nothing_that_came_is_lost() {
    let image = Image::new();
    let layer = image.layer.clone();
    let server = Server::start(move |request, _| Reply::ranged(request, &layer).drip(5000));
    refused(
        read_layer(&mut *registry(server.address, &hasty()), &image.layer_descriptor(), 0),
        Kind::Network,
        &TOO_SLOW,
    );
    let starts: Vec<_> = server.requests().iter().map(|request| request.range().map(|(at, _)| at)).collect();
    assert_eq!(starts.len(), 6);
    assert!(
        starts.is_sorted() && starts[5] >= Some(5000),
        "each goes on where the one before was: {starts:?}"
    );
    // For who has the time, the same comes whole.
    let layer = image.layer.clone();
    let server = Server::start(move |request, _| Reply::ranged(request, &layer).drip(99_990));
    let patient = Lowest { rate: 1, patience: Duration::from_secs(600) };
    let options = Options { lowest: patient, ..options() };
    let read = read_layer(&mut *registry(server.address, &options), &image.layer_descriptor(), 0).unwrap();
    assert!(read == image.layer);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn whatever_drips_is_given_up() {
    let token = format!("{{\"token\":\"t\"{}}}", " ".repeat(10_000));
    for (what, reply) in [
        ("a manifest", Reply::typed("x", vec![b' '; 10_000]).drip(0)),
        ("a head", Reply::flood_slowly("HTTP/1.1 200 OK\r\nX: ", "y")),
        ("interim answers", Reply::flood_slowly("", "HTTP/1.1 100 Continue\r\n\r\n")),
        ("an error", Reply::new(500, vec![b' '; 4000]).drip(0)),
        ("a chunk's head", Reply::flood_slowly("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0")),
    ] {
        let server = Server::start(move |_, _| reply.clone());
        let error = registry(server.address, &hasty()).root().expect_err(what);
        let text = error.to_string();
        assert_eq!(error.kind(), Kind::Network, "{what}: {text}");
        // What an error's body says is not waited for, only its status.
        let why = if what == "an error" { "HTTP 500" } else { "too slow: " };
        assert!(text.contains(why) && text.contains("tried 6 times"), "{what}: {text}");
        assert_eq!(server.requests().len(), 6, "{what}");
    }
    let tokens = Server::start(move |_, _| Reply::new(200, token.clone()).drip(0));
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"x\"", tokens.address);
    let server = Server::start(move |_, _| Reply::new(401, "").with("WWW-Authenticate", &challenge));
    refused(registry(server.address, &hasty()).root(), Kind::Network, &TOO_SLOW);
    assert_eq!(tokens.requests().len(), 6);
}

#[test]
fn a_mirror_that_drips_is_left_for_the_registry() {
    let image = Image::new();
    let layer = image.layer.clone();
    let origin = Server::start(move |request, _| Reply::ranged(request, &layer));
    let layer = image.layer.clone();
    let mirror = Server::start(move |request, _| Reply::ranged(request, &layer).drip(30_000));
    let hosts = tempfile::tempdir().unwrap();
    std::fs::create_dir(hosts.path().join("_default")).unwrap();
    let toml = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n",
        origin.address, mirror.address
    );
    std::fs::write(hosts.path().join("_default/hosts.toml"), toml).unwrap();
    let options = Options { hosts_dir: Some(hosts.path().to_owned()), ..hasty() };
    let read = read_layer(&mut *registry(origin.address, &options), &image.layer_descriptor(), 0).unwrap();
    assert!(read == image.layer);
    assert_eq!(mirror.requests().len(), 1);
    let asked = origin.requests();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].range().unwrap().0 >= 30_000, "what the mirror gave is kept: {asked:?}");
}

#[test]
fn a_registry_that_breaks_off_after_each_byte_is_given_up() {
    let image = Image::new();
    let layer = image.layer.clone();
    let server = Server::start(move |request, _| Reply::ranged(request, &layer).cut(1));
    // At this rate, a byte is worth less than the shortest pause between two tries.
    let lowest = Lowest { rate: 10_000, patience: Duration::from_secs(600) };
    let options = Options { lowest, ..options() };
    refused(
        read_layer(&mut *registry(server.address, &options), &image.layer_descriptor(), 0),
        Kind::Network,
        &["tried 6 times", "closed too early"],
    );
    let starts: Vec<_> = server.requests().iter().map(|request| request.range().map(|(at, _)| at)).collect();
    assert_eq!(starts, [None, Some(1), Some(2), Some(3), Some(4), Some(5)]);
}

#[test]
fn a_dial_timeout_is_obeyed() {
    let silent = bound();
    // One whose queue is full drops what comes.
    rustix::net::listen(&silent, 0).unwrap();
    let address = silent.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queue.push(stream);
    }
    let hosts = tempfile::tempdir().unwrap();
    std::fs::create_dir(hosts.path().join("_default")).unwrap();
    let toml = format!("server = \"http://{address}\"\ndial_timeout = \"60ms\"\n");
    std::fs::write(hosts.path().join("_default/hosts.toml"), toml).unwrap();
    let options = Options { hosts_dir: Some(hosts.path().to_owned()), ..options() };
    refused(registry(address, &options).root(), Kind::Network, &["no connection within 60ms"]);
}

#[test]
fn literal_ipv6_addresses() {
    if TcpListener::bind("[::1]:0").is_err() {
        return println!("skipped: this machine has no IPv6");
    }
    let server = Server::start_at("[::1]:0", |_, _| Reply::typed("x", crate::INDEX));
    assert_eq!(registry(server.address, &options()).root().unwrap().bytes, crate::INDEX.as_bytes());
    assert_eq!(server.requests()[0].header("host"), Some(&*server.address.to_string()));
}

#[test]
fn tokens_that_live_shortly_are_replaced_within_a_layer() {
    let issued = Arc::new(AtomicUsize::new(0));
    let counter = issued.clone();
    let tokens = Server::start(move |_, _| {
        let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::new(200, format!(r#"{{"token":"t{number}","expires_in":1}}"#))
    });
    let image = Image::new();
    let (layer, realm) = (image.layer.clone(), format!("http://{}/token", tokens.address));
    // Each token opens one request, whose connection breaks on the way.
    let used = AtomicUsize::new(0);
    let newest = issued.clone();
    let server = Server::start(move |request, _| {
        let token = format!("Bearer t{}", newest.load(Ordering::SeqCst));
        let fresh = newest.load(Ordering::SeqCst) > used.load(Ordering::SeqCst);
        if fresh && request.header("authorization") == Some(&token) {
            used.store(newest.load(Ordering::SeqCst), Ordering::SeqCst);
            return Reply::ranged(request, &layer).cut(20_000.min(Reply::ranged(request, &layer).size()));
        }
        Reply::new(401, "").with("WWW-Authenticate", &format!(r#"Bearer realm="{realm}",service="x""#))
    });
    let read = read_layer(&mut *registry(server.address, &options()), &image.layer_descriptor(), 0).unwrap();
    assert!(read == image.layer);
    assert_eq!(issued.load(Ordering::SeqCst), 5, "one for each 20,000 of 100,000 bytes");
    let ranges: Vec<_> =
        server.requests().iter().filter_map(|request| request.range()).map(|(first, _)| first).collect();
    assert_eq!(ranges, [20_000, 20_000, 40_000, 40_000, 60_000, 60_000, 80_000, 80_000]);
}
