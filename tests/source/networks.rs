//! Networks as they are: not up yet, slow on purpose, IPv6; tokens that live shortly; helpers.

use crate::image::Image;
use crate::server::{Reply, Server, closed_port};
use crate::{options, read_layer, refused, registry};
use edgepull::error::Kind;
use edgepull::source::{Network, Options};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_registry_that_comes_up_late_is_waited_for() {
    let address = closed_port();
    let network = Arc::new(Network::new(None, Duration::from_secs(60)));
    let options = Options { network, ..options() };
    let server = std::thread::spawn(move || {
        // Later than all tries without waiting, which end within milliseconds here.
        std::thread::sleep(Duration::from_millis(700));
        Server::start_at(&address.to_string(), |_, _| Reply::typed("x", "{}"))
    });
    assert_eq!(registry(address, &options).root().unwrap().bytes, b"{}");
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
fn a_limited_rate_holds_and_is_no_stall() {
    let image = Image::new();
    let layer = image.layer.clone();
    let server = Server::start(move |request, _| Reply::ranged(request, &layer));
    let rate = 160 << 10;
    let network = Arc::new(Network::new(Some(rate), Duration::ZERO));
    let options = Options { network, stall: Duration::from_millis(100), ..options() };
    let started = Instant::now();
    let read = read_layer(&mut *registry(server.address, &options), &image.layer_descriptor(), 0).unwrap();
    assert!(read == image.layer);
    // All but the last read was paid for, less the burst of a quarter of a second.
    let least = Duration::from_secs_f64(80_000.0 / rate as f64 - 0.25);
    assert!(started.elapsed() >= least, "{:?} of {least:?}", started.elapsed());
    assert_eq!(server.requests().len(), 1, "no time-out");
}

#[test]
fn literal_ipv6_addresses() {
    let server = Server::start_at("[::1]:0", |_, _| Reply::typed("x", "{}"));
    assert_eq!(registry(server.address, &options()).root().unwrap().bytes, b"{}");
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
