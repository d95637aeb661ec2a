//! TLS for ureq by rustls with a configuration of our own.
//!
//! ureq's own connector would do, but for three things: the cipher suites are ordered by what the CPU is
//! good at, rustls's send buffer is bounded, and the trusted roots are read one certificate at a time
//! and only when the first TLS connection is made. `ureq::unversioned` may change in any release, which
//! is why Cargo.toml pins the version.

use super::roots;
use crate::error::Error;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{CipherSuite, ClientConfig, ClientConnection, StreamOwned};
use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

/// How much plaintext rustls may hold back while the socket is busy, in bytes.
const SEND_BUFFER: usize = 16 << 10;

/// Wraps connections to https URLs.
pub(super) struct Tls {
    ca_file: Option<PathBuf>,
    config: OnceLock<Arc<ClientConfig>>,
}

/// A handshake that failed: `peer speaks no TLS` and `certificate not trusted` alike.
#[derive(Debug)]
pub(super) struct HandshakeFailed(pub(super) io::Error);

impl fmt::Display for HandshakeFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS handshake: {}", self.0)
    }
}

impl std::error::Error for HandshakeFailed {}

impl Tls {
    /// `ca_file` replaces the system's trusted roots.
    pub(super) fn new(ca_file: Option<PathBuf>) -> Tls {
        Tls { ca_file, config: OnceLock::new() }
    }

    fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let roots = roots::load(self.ca_file.as_deref())?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A pull makes a handful of connections: tickets would cost more memory than they save time.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(self.config.get_or_init(|| Arc::new(config)).clone())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// ring's primitives. ChaCha20 comes first where the CPU has no AES instructions: there it is three to
/// five times faster, and most servers follow a client that prefers it.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    if !has_aes_instructions() {
        provider.cipher_suites.sort_by_key(|suite| !is_chacha(suite.suite()));
    }
    provider
}

fn is_chacha(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

#[cfg(target_arch = "x86_64")]
fn has_aes_instructions() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

/// 32-bit boards: those with a v8 core might, but ring is tuned for ChaCha20 there in any case.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes_instructions() -> bool {
    false
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let config = self.config().map_err(|error| ureq::Error::Other(Box::new(error)))?;
        let host = details.uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| ureq::Error::Tls("no certificate can be issued for this host name"))?;
        let mut connection = ClientConnection::new(config, name)?;
        connection.set_buffer_limit(Some(SEND_BUFFER));
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection
            .complete_io(&mut socket)
            .map_err(|error| ureq::Error::Other(Box::new(HandshakeFailed(error))))?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        let stream = StreamOwned { conn: connection, sock: socket };
        Ok(Some(Either::B(TlsTransport { buffers, stream })))
    }
}

/// An established TLS connection.
pub(super) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let output = &self.buffers.output()[..amount];
        Ok(self.stream.write_all(output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_suites_stay_whatever_the_order() {
        let ours = provider().cipher_suites;
        let rings = rustls::crypto::ring::default_provider().cipher_suites;
        assert_eq!(ours.len(), rings.len());
        assert!(rings.iter().all(|suite| ours.contains(suite)));
        assert_eq!(is_chacha(ours[0].suite()), !has_aes_instructions());
    }
}
