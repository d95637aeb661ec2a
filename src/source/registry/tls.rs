//! TLS for ureq by rustls with a configuration of our own.
//!
//! ureq's own connector would do, but for four things: the cipher suites are ordered by what the CPU is
//! good at, rustls's send buffer is bounded, and the trusted roots are read one certificate at a time
//! and only when the first TLS connection is made; and certificates are judged by a clock with a floor
//! ([`super::verify`]). `ureq::unversioned` may change in any release, which
//! is why Cargo.toml pins the version.

use super::identity;
use super::network::Network;
use super::refusal;
use super::roots::{self, Roots, Trust};
use super::tcp::room;
use super::url::Own;
use super::verify::{Floored, Judge, Verifier};
use crate::clock::date;
use crate::error::Error;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{CipherSuite, ClientConfig, ClientConnection, StreamOwned};
use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use ureq::http::Uri;
use ureq::http::uri::Scheme;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

/// How much plaintext rustls may hold back while the socket is busy, in bytes.
const SEND_BUFFER: usize = 16 << 10;

/// Wraps connections to https URLs. Clones share everything.
#[derive(Clone)]
pub(super) struct Tls(Arc<Shared>);

struct Shared {
    setup: Setup,
    made: OnceLock<Made>,
}

/// Who is trusted, and who we are.
pub(super) struct Setup {
    /// Replaces the system's trusted roots.
    pub(super) ca_file: Option<PathBuf>,
    /// Are trusted besides.
    pub(super) authorities: Vec<PathBuf>,
    /// Our certificates and their keys.
    pub(super) client: Vec<(PathBuf, PathBuf)>,
    /// The only server that is shown one of them.
    pub(super) own: Own,
    /// Is set if that is the registry, and no mirror of it: then it may say what time it is.
    pub(super) is_registry: bool,
    /// Judges certificates.
    pub(super) time: Floored,
    /// Warns of keys that everybody can read.
    pub(super) network: Arc<Network>,
}

/// What the first connection has made.
struct Made {
    /// Configures connections to all servers but `own`.
    config: Arc<ClientConfig>,
    /// Configures connections to that one, with our certificates.
    own: Arc<ClientConfig>,
    /// Verifies that one.
    verifier: Arc<Verifier>,
    trust: Trust,
}

/// A handshake that failed for another reason than the server's certificate.
#[derive(Debug)]
pub(super) struct HandshakeFailed(pub(super) io::Error);

impl fmt::Display for HandshakeFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => f.write_str(&refusal::tls(error)),
            None => write!(f, "TLS handshake: {}", self.0),
        }
    }
}

impl std::error::Error for HandshakeFailed {}

impl Tls {
    /// Nothing is read yet.
    pub(super) fn new(setup: Setup) -> Tls {
        Tls(Arc::new(Shared { setup, made: OnceLock::new() }))
    }

    /// Notes that a server has answered; `date` is its `Date` header. Nothing is learnt without TLS, nor from anybody
    /// but the registry.
    pub(super) fn answered(&self, url: &Uri, date: Option<&str>) {
        let (Some(made), Some(name)) = (self.0.made.get(), server_name(url)) else { return };
        if url.scheme() == Some(&Scheme::HTTPS) && self.0.setup.own.is(url) {
            made.verifier.answered(&name, date.and_then(date::parse_http));
        }
    }

    fn made(&self) -> Result<&Made, Error> {
        if let Some(made) = self.0.made.get() {
            return Ok(made);
        }
        let made = self.make()?;
        Ok(self.0.made.get_or_init(|| made))
    }

    fn make(&self) -> Result<Made, Error> {
        let Setup { ca_file, authorities, client, is_registry, time, network, .. } = &self.0.setup;
        let now = time.now();
        if now.is_floor() || now.far_ahead {
            log::info!("{now}");
        }
        let (roots, trust) = roots::load(ca_file.as_deref(), authorities)?;
        let provider = Arc::new(provider());
        let Roots { store, exact } = roots;
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone());
        let webpki = webpki.build().expect("there are roots, and no revocation lists");
        let judge = Judge { webpki, exact: exact.into() };
        let others = Arc::new(Verifier::new(judge.clone(), time.clone(), false));
        let verifier = Arc::new(Verifier::new(judge, time.clone(), *is_registry));
        let mut config = ClientConfig::builder_with_details(provider.clone(), Arc::new(time.clone()))
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3")
            .dangerous() // rustls's word for every verifier that is not the default one
            .with_custom_certificate_verifier(others)
            .with_no_client_auth();
        // A pull makes a handful of connections: tickets would cost more memory than they save time.
        config.resumption = rustls::client::Resumption::disabled();
        let mut own = config.clone();
        own.dangerous().set_certificate_verifier(verifier.clone());
        if !client.is_empty() {
            own.client_auth_cert_resolver = identity::load(client, &provider, network)?;
        }
        Ok(Made { config: Arc::new(config), own: Arc::new(own), verifier, trust })
    }

    /// What a failed handshake with the server of `url` means.
    fn failed(&self, error: io::Error, url: &Uri, made: &Made) -> ureq::Error {
        let why = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let Some(rustls::Error::InvalidCertificate(why)) = why else {
            return ureq::Error::Other(Box::new(HandshakeFailed(error)));
        };
        let host = url.authority().map_or("", |authority| authority.as_str());
        let refusal = refusal::certificate(host, why, &self.0.setup.time.now(), &made.trust);
        ureq::Error::Other(Box::new(refusal))
    }
}

/// The name or address that the certificate of `url`'s server has to be for.
fn server_name(url: &Uri) -> Option<ServerName<'static>> {
    let host = url.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).ok()
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// ring's primitives. ChaCha20 comes first where the CPU has no AES instructions: there it is three to
/// five times faster, and most servers follow a client that prefers it.
fn provider() -> CryptoProvider {
    let mut provider =
        CryptoProvider { key_provider: &identity::Keys, ..rustls::crypto::ring::default_provider() };
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
        let made = self.made().map_err(|error| ureq::Error::Other(Box::new(error)))?;
        let name = server_name(details.uri)
            .ok_or(ureq::Error::Tls("no certificate can be issued for this host name"))?;
        let config = if self.0.setup.own.is(details.uri) { &made.own } else { &made.config };
        let mut connection = ClientConnection::new(config.clone(), name)?;
        connection.set_buffer_limit(Some(SEND_BUFFER));
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket).map_err(|error| self.failed(error, details.uri, made))?;
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
        let read = self.stream.read(room(&mut self.buffers)?)?;
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
