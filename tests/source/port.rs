//! Ports where nobody listens, and nobody else can begin to. Unit tests of `source` have them, too.

use rustix::net::{AddressFamily, SocketType, bind, socket};
use std::net::{SocketAddr, TcpListener};

/// A port that is taken, but where nobody listens.
pub fn bound() -> TcpListener {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    socket.into()
}
