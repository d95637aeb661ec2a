//! Who this board is, by the certificates that it shows to servers which ask for one (mutual TLS).
//!
//! RSA and ECDSA keys, in PKCS#8, PKCS#1 or SEC1; encrypted ones cannot be read, as nobody is there to type a
//! password. Ed25519 would be 8 KB for what hardly any authority issues.

use super::file::warn_if_readable;
use super::network::Network;
use super::verify;
use crate::error::{Error, Kind, Result};
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::{RsaSigningKey, any_ecdsa_type};
use rustls::crypto::{CryptoProvider, KeyProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{InconsistentKeys, SignatureScheme};
use std::fs::File;
use std::io::{BufReader, Read, Take};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file with a certificate or a key, in bytes.
const FILE_MAX: u64 = 256 << 10;
/// The longest chain that is shown.
const CHAIN_MAX: usize = 8;

/// The kinds of keys that authorities issue certificates for.
#[derive(Debug)]
pub(super) struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        match RsaSigningKey::new(&key) {
            Ok(rsa) => Ok(Arc::new(rsa)),
            Err(_) => any_ecdsa_type(&key),
        }
    }
}

/// All that a host gave us, best first.
#[derive(Debug)]
struct Identities(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Identities {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|one| one.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Reads pairs of certificate and key.
pub(super) fn load(
    pairs: &[(PathBuf, PathBuf)],
    provider: &CryptoProvider,
    network: &Network,
) -> Result<Arc<dyn ResolvesClientCert>> {
    let load =
        |(certificate, key): &(PathBuf, PathBuf)| one(certificate, key, provider, network).map(Arc::new);
    Ok(Arc::new(Identities(pairs.iter().map(load).collect::<Result<_>>()?)))
}

fn one(certificate: &Path, key: &Path, provider: &CryptoProvider, network: &Network) -> Result<CertifiedKey> {
    let wrong = |path: &Path, what: &str| {
        Error::new(Kind::Usage, format!("client certificate: {}: {what}", path.display()))
    };
    let chain: Vec<_> = CertificateDer::pem_reader_iter(open(certificate, None)?)
        .take(CHAIN_MAX + 1)
        .collect::<Result<_, _>>()
        .map_err(|_| wrong(certificate, "broken PEM"))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "no certificate in it (-----BEGIN CERTIFICATE-----)"));
    }
    if chain.len() > CHAIN_MAX {
        return Err(wrong(certificate, "more than 8 certificates in it (edgepull's limit CHAIN_MAX)"));
    }
    let secret = PrivateKeyDer::from_pem_reader(open(key, Some(network))?)
        .map_err(|_| wrong(key, "no private key in it (-----BEGIN PRIVATE KEY-----, not encrypted)"))?;
    let secret = provider
        .key_provider
        .load_private_key(secret)
        .map_err(|_| wrong(key, "this kind of key is not supported: RSA, ECDSA P-256 or P-384"))?;
    let pair = CertifiedKey::new(chain, secret);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => Err(wrong(key, "this is not the certificate's key")),
        // webpki does not read version 1 of X.509, which `openssl x509 -req` writes: the server decides about it.
        Err(error) if verify::reason(&error) == Some(&webpki::Error::UnsupportedCertVersion) => Ok(pair),
        Err(_) => Err(wrong(certificate, "the certificate cannot be read")),
    }
}

/// A file; with `secret`, it is not for everybody.
fn open(path: &Path, secret: Option<&Network>) -> Result<BufReader<Take<File>>> {
    let file = File::open(path).map_err(|error| {
        Error::from_io(Kind::Usage, error).context(format_args!("client certificate: {}", path.display()))
    })?;
    if file.metadata().is_ok_and(|metadata| metadata.len() > FILE_MAX) {
        let message = format!("client certificate: {} is larger than 256 KiB", path.display());
        return Err(Error::new(Kind::Usage, message).hint("edgepull's limit FILE_MAX for certificates"));
    }
    if let Some(network) = secret {
        warn_if_readable(&file, path, network);
    }
    // The same type as for trusted roots: PEM is read by the same code.
    Ok(BufReader::new(file.take(FILE_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_refused_by_its_limit() {
        let root = include_str!("../../../tests/data/root.pem");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("board.cert");
        let refused = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let pair = (path.clone(), path.clone());
            let loaded = load(&[pair], &rustls::crypto::ring::default_provider(), &Network::default());
            loaded.map(drop).unwrap_err().to_string()
        };
        assert!(refused(&root.repeat(CHAIN_MAX)).contains("no private key"));
        assert!(refused(&root.repeat(CHAIN_MAX + 1)).contains("CHAIN_MAX"));
        assert!(refused(&"#\n".repeat(FILE_MAX as usize)).contains("FILE_MAX"));
    }

    #[test]
    fn a_certificate_of_version_1_is_shown_and_another_s_key_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let run = |arguments: &str| {
            let mut openssl = std::process::Command::new("openssl");
            openssl.current_dir(&directory).args(arguments.split(' ')).output()
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=board";
        if run(&format!("req {key} -keyout key.pem -out request.pem")).is_err() {
            println!("skipped: no openssl on this machine");
            return;
        }
        run("x509 -req -in request.pem -signkey key.pem -days 30 -out old.pem").unwrap();
        run(&format!("req -x509 {key} -keyout other.pem -days 30 -out new.pem")).unwrap();
        let load = |certificate: &str, key: &str| {
            let pair = (directory.path().join(certificate), directory.path().join(key));
            let loaded = load(&[pair], &rustls::crypto::ring::default_provider(), &Network::default());
            loaded.map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(load("old.pem", "key.pem"), Ok(()));
        assert_eq!(load("new.pem", "other.pem"), Ok(()));
        assert!(load("new.pem", "key.pem").unwrap_err().contains("not the certificate's key"));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(directory.path().join("broken.pem"), broken).unwrap();
        assert!(load("broken.pem", "key.pem").unwrap_err().contains("broken.pem: the certificate cannot"));
    }
}
