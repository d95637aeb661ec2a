//! Which certificate authorities are trusted.
//!
//! `--ca-file` alone, if given; else `$SSL_CERT_FILE` alone; else the system's bundle; else, as in an
//! initramfs, Mozilla's roots as compiled in (webpki-roots), which are as old as this binary. A bundle is read as a stream, and
//! of each certificate only name, key, constraints and a digest are kept: about 75 KB for the 140 of a Linux
//! distribution.

use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The largest bundle that is read, in bytes. Linux distributions have about 220 KB.
const BUNDLE_MAX: u64 = 4 << 20;
/// The most certificates that are taken from a bundle.
const ROOTS_MAX: usize = 1024;

/// Where distributions keep their bundle: Debian and Alpine, Fedora, SUSE, Alpine and OpenWrt, CentOS.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

/// Where the trusted roots come from.
#[derive(Debug)]
pub(super) enum Trust {
    /// This file.
    File(PathBuf),
    /// This program; the system has none.
    BuiltIn,
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trust::File(path) => write!(f, "trusted is what {} holds", path.display()),
            Trust::BuiltIn => {
                write!(f, "no CA certificates were found on this system (looked for ")?;
                for (at, path) in BUNDLES.iter().enumerate() {
                    write!(f, "{}{path}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("), so that only Mozilla's are trusted, as built in")
            }
        }
    }
}

/// The files that [`load`] may read.
pub(super) fn files(ca_file: Option<&Path>) -> Vec<PathBuf> {
    match ca_file.map(Path::to_owned).or_else(named) {
        Some(file) => vec![file],
        None => BUNDLES.map(PathBuf::from).to_vec(),
    }
}

/// `$SSL_CERT_FILE`.
fn named() -> Option<PathBuf> {
    std::env::var_os("SSL_CERT_FILE").filter(|name| !name.is_empty()).map(PathBuf::from)
}

/// Holds who is trusted.
#[derive(Debug)]
pub(super) struct Roots {
    /// Holds the authorities' names, keys and constraints.
    pub(super) store: RootCertStore,
    /// Holds the sha256 of each certificate as a whole, sorted. A server that shows one of these is trusted even if it is
    /// an authority's: Docker's documentation has people make one certificate with CA:TRUE and put it on the server.
    pub(super) exact: Vec<[u8; 32]>,
}

/// The roots that `ca_file` names, else the system's, else those compiled in; and those of `besides`.
pub(super) fn load(ca_file: Option<&Path>, besides: &[PathBuf]) -> Result<(Roots, Trust)> {
    let (mut roots, trust) = usual(ca_file)?;
    for path in besides {
        let more = bundle(path, true)?;
        roots.store.roots.extend(more.store.roots);
        roots.exact.extend(more.exact);
    }
    roots.exact.sort_unstable();
    Ok((roots, trust))
}

fn usual(ca_file: Option<&Path>) -> Result<(Roots, Trust)> {
    if let Some(path) = ca_file {
        return Ok((bundle(path, true)?, Trust::File(path.to_owned())));
    }
    if let Some(path) = named() {
        // Who names a bundle means that one: no falling back to more trust than was asked for.
        let roots = bundle(&path, false).map_err(|error| error.context("$SSL_CERT_FILE"))?;
        return Ok((roots, Trust::File(path)));
    }
    for path in BUNDLES {
        match bundle(Path::new(path), false) {
            Ok(roots) => return Ok((roots, Trust::File(path.into()))),
            Err(error) => log::debug!("{error}"),
        }
    }
    log::info!("{}", Trust::BuiltIn);
    let store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    Ok((Roots { store, exact: Vec::new() }, Trust::BuiltIn))
}

/// Reads a file of PEM certificates. In a `strict` one, a broken certificate is an error; a system's
/// bundle may have some that rustls doesn't understand.
fn bundle(path: &Path, strict: bool) -> Result<Roots> {
    let wrong = |what: &str| {
        Error::new(Kind::Usage, format!("CA file {}: {what}", path.display()))
            .hint("it must hold certificates in PEM form (-----BEGIN CERTIFICATE-----)")
    };
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::new(Kind::Usage, format!("CA file {}: no such file", path.display())),
        _ => Error::from_io(Kind::Usage, error).context(format_args!("CA file {}", path.display())),
    })?;
    // What somebody has named for this one host has to be taken whole. A system's bundle that grows beyond all bounds
    // must not end all updates: with the first of it, most servers can still be verified.
    let too_much = |what: &str| {
        if !strict {
            log::warn!("CA file {}: {what}; only the first of it is trusted", path.display());
        }
        if strict { Err(wrong(what)) } else { Ok(()) }
    };
    if file.metadata().is_ok_and(|metadata| metadata.len() > BUNDLE_MAX) {
        too_much("it is larger than 4 MiB (edgepull's limit BUNDLE_MAX)")?;
    }
    let mut roots = Roots { store: RootCertStore::empty(), exact: Vec::new() };
    let certificates = CertificateDer::pem_reader_iter(BufReader::new(file.take(BUNDLE_MAX)));
    for (at, certificate) in certificates.enumerate() {
        if at == ROOTS_MAX {
            too_much("more than 1024 certificates in it (edgepull's limit ROOTS_MAX)")?;
            break;
        }
        let added = certificate.map_err(|_| "broken PEM").and_then(|certificate| {
            let digest = Digest::of(&certificate).0;
            let added = roots.store.add(certificate);
            added.map_err(|_| "a certificate cannot be used as a trusted root").map(|()| digest)
        });
        match added {
            Ok(digest) => roots.exact.push(digest),
            Err(what) if strict => return Err(wrong(what)),
            Err(_) => {}
        }
    }
    match roots.store.is_empty() {
        true => Err(wrong("no certificate in it")),
        false => Ok(roots),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_certificates_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        for (content, reason) in [
            ("", "no certificate"),
            ("hello", "no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be used"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "PEM"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = load(Some(&path), &[]).map(drop).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.to_string().contains(reason), "{content:?}: {error}");
            assert!(error.to_string().contains("ca.pem"));
        }
        let error = load(None, &["/nonexistent/ca.pem".into()]).map(drop).unwrap_err();
        assert!(error.to_string().contains("no such file"), "{error}");
    }

    /// An authority that ECDSA has signed itself.
    const ROOT: &str = include_str!("../../../tests/data/root.pem");

    #[test]
    fn what_is_too_much_is_refused_by_its_limit_and_of_a_system_s_bundle_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        std::fs::write(&path, ROOT.repeat(ROOTS_MAX)).unwrap();
        assert_eq!(bundle(&path, true).unwrap().store.len(), ROOTS_MAX);
        std::fs::write(&path, ROOT.repeat(ROOTS_MAX + 1)).unwrap();
        assert!(bundle(&path, true).unwrap_err().to_string().contains("ROOTS_MAX"));
        assert_eq!(bundle(&path, false).unwrap().store.len(), ROOTS_MAX);
        std::fs::write(&path, format!("{ROOT}{}", "#\n".repeat(BUNDLE_MAX as usize / 2))).unwrap();
        assert!(bundle(&path, true).unwrap_err().to_string().contains("BUNDLE_MAX"));
        assert_eq!(bundle(&path, false).unwrap().store.len(), 1);
    }

    #[test]
    fn there_are_always_roots() {
        assert!(!load(None, &[]).unwrap().0.store.is_empty());
    }
}
