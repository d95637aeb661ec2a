//! Who a server is, by the time that [`Clock`] knows.
//!
//! Certificates are verified by rustls's own webpki verifier, always and in full. Three things are added, two of them
//! about the time at which it is asked:
//!
//! - A server may show one of the trusted certificates itself, although that is an authority's ([`Judge`]).
//! - On a board whose clock is known to be wrong, a chain that is "not valid yet" is judged at the moment from
//!   which it is valid (why that is safe: [`crate::clock`]).
//! - What the registry's `Date` says is believed only if the chain that it has just shown is valid then,
//!   too. So the chain is kept from the handshake until the first answer, about 4 KB, and no longer.
//!
//! Each place that is asked has two verifiers: one for the place itself, and one for all to which it refers, from
//! which nothing is learnt. Nor is anything learnt from a mirror.

use crate::clock::date::Utc;
use crate::clock::{Clock, Reading};
use crate::image::digest::Digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a chain can say "not valid yet": once for each of its certificates; webpki builds no longer path.
const CHAIN_MAX: usize = 8;

/// Gives rustls the time by which it judges the certificates of one registry, and of those to which it refers.
#[derive(Debug, Clone)]
pub(super) struct Floored {
    pub(super) clock: Arc<Clock>,
    /// Names the registry as the user wrote it.
    pub(super) registry: String,
}

impl Floored {
    /// Returns the time that it is taken to be.
    pub(super) fn now(&self) -> Reading {
        self.clock.now_at(&self.registry)
    }
}

impl TimeProvider for Floored {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.now().time))
    }
}

fn unix(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// What a server has shown in a handshake.
struct Shown {
    name: ServerName<'static>,
    chain: Vec<CertificateDer<'static>>,
}

/// Judges a chain at a time.
#[derive(Clone)]
pub(super) struct Judge {
    pub(super) webpki: Arc<WebPkiServerVerifier>,
    /// Holds the sha256 of each trusted certificate, sorted.
    pub(super) exact: Arc<[[u8; 32]]>,
}

impl Judge {
    /// Verifies that the server `name` may show this chain at that time. One that shows a trusted certificate itself needs
    /// nobody who vouches for it, so that this may be an authority's, which webpki refuses in the place of a server's. It
    /// does so only after it has found the certificate to be valid at that time; the name is checked here, and that the
    /// server has the key, by the handshake.
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        time: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.webpki.verify_server_cert(end_entity, intermediates, name, ocsp, time);
        let is_authority = |error: &Error| reason(error) == Some(&webpki::Error::CaUsedAsEndEntity);
        match verdict {
            Err(error) if is_authority(&error) && self.has(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn has(&self, certificate: &CertificateDer<'_>) -> bool {
        self.exact.binary_search(&Digest::of(certificate).0).is_ok()
    }
}

/// Returns why webpki refuses a certificate, for what rustls has no word of its own.
pub(super) fn reason(error: &Error) -> Option<&webpki::Error> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

/// Verifies the certificates of servers.
pub(super) struct Verifier {
    judge: Judge,
    time: Floored,
    /// Is set if it verifies the registry, from which something may be learnt.
    teaches: bool,
    /// By the last handshake, whose answer is still to come.
    shown: Mutex<Option<Shown>>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    /// Makes a verifier; `teaches` is set if it verifies the registry itself.
    pub(super) fn new(judge: Judge, time: Floored, teaches: bool) -> Verifier {
        Verifier { judge, time, teaches, shown: Mutex::new(None) }
    }

    fn shown(&self) -> MutexGuard<'_, Option<Shown>> {
        // Every change is one assignment.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `name` has answered over TLS and says that it is `date`; `None` if it doesn't say, or nothing that is
    /// a date. Only the first answer after a handshake is heard.
    pub(super) fn answered(&self, name: &ServerName<'_>, date: Option<u64>) {
        let Some(shown) = self.shown().take_if(|shown| shown.name == *name) else { return };
        let Floored { clock, registry } = &self.time;
        let Some(date) = date.filter(|date| clock.would_learn(registry, *date)) else { return };
        let (host, said) = (name.to_str(), Utc(date));
        let Some((end_entity, intermediates)) = shown.chain.split_first() else { return };
        match self.judge.verify(end_entity, intermediates, name, &[], unix(date)) {
            Ok(_) => clock.learn(registry, date, &host),
            Err(_) => {
                log::info!("{host} says it is {said}, when its own certificate is not valid: not believed")
            }
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Floored { clock, registry } = &self.time;
        let reading = self.time.now();
        let judge = |time| self.judge.verify(end_entity, intermediates, name, ocsp, time);
        let (mut time, mut verdict) = (now, judge(now));
        for _ in 0..CHAIN_MAX {
            match &verdict {
                Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before, ..
                })) if reading.is_floor() && *not_before > time && not_before.as_secs() <= clock.latest() => {
                    time = *not_before;
                    verdict = judge(time);
                }
                _ => break,
            }
        }
        if self.teaches && verdict.is_ok() {
            if time > now {
                clock.issued(registry, time.as_secs(), &name.to_str());
            }
            let chain = [end_entity].into_iter().chain(intermediates);
            let chain = chain.map(|certificate| certificate.clone().into_owned()).collect();
            *self.shown() = Some(Shown { name: name.to_owned(), chain });
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.webpki.supported_verify_schemes()
    }
}
