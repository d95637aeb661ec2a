//! Public keys in PEM, as `cosign generate-key-pair`, `skopeo generate-sigstore-key` and openssl write them
//! (RFC 7468, "PUBLIC KEY": a SubjectPublicKeyInfo of RFC 5480 or RFC 8410), and what they verify.
//!
//! ECDSA on P-256 and P-384, and Ed25519. An ECDSA signature is a DER sequence; one whose s is in the upper half
//! of the order is as valid as its twin, as for cosign, skopeo and podman: nothing here takes a signature for
//! a name. A key is looked at when it is read ([`point`]): one by which nobody can sign, or everybody, is none.

use super::point;
use crate::error::{Error, Kind, Result};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, UnparsedPublicKey,
    VerificationAlgorithm,
};
use rustls::pki_types::pem::{SectionKind, from_buf};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The kinds of keys that are read, for messages.
pub(super) const KINDS: &str = "ECDSA on P-256 or P-384, or Ed25519";
/// The largest key file, in bytes. A P-384 key takes 215.
const KEY_FILE_MAX: u64 = 16 << 10;

/// A SubjectPublicKeyInfo up to the key's bytes, of the kinds that have but one encoding, and how it verifies.
struct Form {
    /// SEQUENCE, SEQUENCE, OIDs, BIT STRING, and for the curves the 4 of an uncompressed point.
    head: &'static [u8],
    /// The bytes that follow: all there are.
    length: usize,
    /// Says what is wrong with a point that is no key.
    check: point::Check,
    /// One of these has to accept the signature.
    verify: &'static [&'static dyn VerificationAlgorithm],
}

const FORMS: [Form; 3] = [
    Form {
        head: b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\
            \x03\x42\x00\x04",
        length: 64,
        check: point::check_p256,
        verify: &[&ECDSA_P256_SHA256_ASN1],
    },
    Form {
        head: b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00\x04",
        length: 96,
        check: point::check_p384,
        // skopeo and podman hash with SHA-256 whatever the curve, cosign with the curve's own.
        verify: &[&ECDSA_P384_SHA384_ASN1, &ECDSA_P384_SHA256_ASN1],
    },
    Form {
        head: b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00",
        length: 32,
        check: point::check_ed25519,
        verify: &[&ED25519],
    },
];

/// The OID rsaEncryption (RFC 8017, A.1), which is worth a word of its own.
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";

/// In the first line of whatever kind of private key, encrypted ones of cosign's included.
const PRIVATE: &[u8] = b"PRIVATE KEY-----";

/// A public key, and where it is from.
#[derive(Debug)]
pub(super) struct Key {
    /// Its file, or its place in the policy.
    pub(super) name: String,
    form: usize,
    /// An uncompressed point, or Ed25519's 32 bytes.
    public: Vec<u8>,
}

impl Key {
    /// Reads a key's file.
    ///
    /// # Errors
    /// [`Kind::Usage`].
    pub(super) fn read(path: &Path) -> Result<Key> {
        let name = path.display().to_string();
        let mut pem = Vec::new();
        let read = File::open(path).and_then(|file| file.take(KEY_FILE_MAX + 1).read_to_end(&mut pem));
        read.map_err(|error| Error::from_io(Kind::Usage, error).context(format_args!("key {name}")))?;
        match pem.len() as u64 > KEY_FILE_MAX {
            true => Err(Error::new(Kind::Usage, format!("key {name}: larger than 16 KiB (KEY_FILE_MAX)"))),
            false => Key::parse(&pem, name),
        }
    }

    /// Reads one key in PEM; `name` is for messages.
    ///
    /// # Errors
    /// [`Kind::Usage`].
    pub(super) fn parse(pem: &[u8], name: String) -> Result<Key> {
        let wrong = |what: &str| {
            Error::new(Kind::Usage, format!("key {name}: {what}"))
                .hint(format!("edgepull reads public keys in PEM, one a file: {KINDS}"))
        };
        let mut rest = pem;
        let mut section = || from_buf(&mut rest).map_err(|_| wrong("broken PEM"));
        match section()? {
            Some((SectionKind::PublicKey, der)) => match section()? {
                Some(_) => Err(wrong("more than one key")),
                None => Key::of(&der, name.clone()).map_err(wrong)?.checked(),
            },
            Some((SectionKind::Certificate, _)) => Err(wrong("a certificate, not a public key")),
            _ if pem.windows(PRIVATE.len()).any(|window| window == PRIVATE) => {
                Err(wrong("a private key, which does not belong on a board"))
            }
            _ => Err(wrong("no public key in PEM (-----BEGIN PUBLIC KEY-----)")),
        }
    }

    /// Reads a SubjectPublicKeyInfo; the error is what it is instead.
    fn of(der: &[u8], name: String) -> Result<Key, &'static str> {
        let fits = |form: &Form| der.starts_with(form.head) && der.len() == form.head.len() + form.length;
        let Some(form) = FORMS.iter().position(fits) else {
            let is_rsa = der.windows(RSA.len()).any(|window| window == RSA);
            return Err(if is_rsa {
                "an RSA key, and RSA keys are not read"
            } else {
                "a kind of key that is not read"
            });
        };
        // The point's leading 4 belongs to the key.
        let start = FORMS[form].head.len() - usize::from(FORMS[form].length != 32);
        let public = der[start..].to_vec();
        Ok(Key { name, form, public })
    }

    /// Returns the key, or [`Kind::Usage`] if nobody, or everybody, can sign by it.
    fn checked(self) -> Result<Key> {
        match (FORMS[self.form].check)(&self.public) {
            Ok(()) => Ok(self),
            Err(what) => Err(Error::new(Kind::Usage, format!("key {}: {what}", self.name))
                .hint("no signer's key is like that: get it again from whoever signs")),
        }
    }

    /// Whether `signature` is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        FORMS[self.form].verify.iter().any(|algorithm| {
            UnparsedPublicKey::new(*algorithm, &self.public).verify(message, signature).is_ok()
        })
    }
}
