//! A wire that counts: what a network carries between a client and a registry, TLS and all.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::spawn;

use super::registry::Registry;

/// A relay before a registry, on a port of its own; it carries bytes and knows nothing of what they are.
pub struct Relay {
    address: String,
    carried: Arc<AtomicU64>,
}

impl Relay {
    pub fn before(registry: &Registry) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (carried, target) = (Arc::new(AtomicU64::new(0)), registry.address().to_owned());
        let relay = Relay { address, carried: carried.clone() };
        spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(&target).expect("the registry");
                let twins = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
                for (from, to) in [(client, server), (twins.1, twins.0)] {
                    let carried = carried.clone();
                    spawn(move || carry(from, to, &carried));
                }
            }
        });
        relay
    }

    /// The name of an image behind it.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Bytes of TCP's data, both ways together.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::SeqCst)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, carried: &AtomicU64) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        carried.fetch_add(count as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Whoever else has one of the two ends is told.
    let _ = (from.shutdown(Shutdown::Read), to.shutdown(Shutdown::Write));
}
