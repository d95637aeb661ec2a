//! Why a server's certificate is refused, in words: what the certificate says, what this board's clock says,
//! and what to do about it.

use super::roots::Trust;
use crate::clock::Reading;
use crate::clock::date::Utc;
use crate::error::{Error, Kind};
use rustls::CertificateError;

/// How to set a clock, with busybox and with coreutils.
const SET_IT: &str = "set it (date -u -s 'YYYY-MM-DD hh:mm')";

/// The refusal of what `host` has shown.
pub(super) fn certificate(host: &str, why: &CertificateError, now: &Reading, trust: &Trust) -> Error {
    use CertificateError::*;
    let (what, hint) = match why {
        ExpiredContext { not_after, .. } => {
            (format!("has expired on {}", Utc(not_after.as_secs())), expired(now))
        }
        Expired => ("has expired".to_owned(), expired(now)),
        NotValidYetContext { not_before, .. } => {
            (format!("is not valid yet, only from {} on", Utc(not_before.as_secs())), not_yet(now))
        }
        NotValidYet => ("is not valid yet".to_owned(), not_yet(now)),
        // A bad signature is what an authority of the same name with another key looks like.
        UnknownIssuer | BadSignature => {
            ("is issued by an authority that is not trusted here".to_owned(), untrusted(trust))
        }
        NotValidForName => ("is for another name".to_owned(), ANOTHER_NAME.to_owned()),
        NotValidForNameContext { .. } => (format!("is for another name ({why})"), ANOTHER_NAME.to_owned()),
        BadEncoding => ("cannot be read".to_owned(), RENEW.to_owned()),
        UnhandledCriticalExtension => {
            ("has a critical extension that is not known".to_owned(), RENEW.to_owned())
        }
        InvalidPurpose | InvalidPurposeContext { .. } => {
            ("is not meant for servers (extended key usage)".to_owned(), RENEW.to_owned())
        }
        UnsupportedSignatureAlgorithmContext { .. }
        | UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => (
            "is signed by an algorithm that is not safe, or not known here, such as SHA-1".to_owned(),
            RENEW.to_owned(),
        ),
        Other(other) => (reason(other.0.downcast_ref()).to_owned(), RENEW.to_owned()),
        other => (format!("is not accepted: {other}"), untrusted(trust)),
    };
    Error::new(Kind::Network, format!("{host}: the server's certificate {what}")).hint(hint)
}

const RENEW: &str = "the registry needs another certificate: one for its name (subjectAltName), with CA:FALSE, signed by an \
    authority that is trusted here";

/// Says what is wrong with a certificate for which rustls has no word of its own.
fn reason(why: Option<&webpki::Error>) -> &'static str {
    use webpki::Error::*;
    match why {
        Some(CaUsedAsEndEntity) => {
            "is an authority's own (CA:TRUE), and is not one of those that are trusted here, byte for byte"
        }
        Some(EndEntityUsedAsCa) => "is signed by a certificate that is no authority's (CA:FALSE)",
        Some(PathLenConstraintViolated | MaximumPathDepthExceeded) => {
            "is signed through more authorities than they allow"
        }
        Some(NameConstraintViolation) => "is for a name that its authority may not vouch for",
        Some(UnsupportedCertVersion) => "is of X.509 version 1, which has no names to check (subjectAltName)",
        Some(InvalidCertValidity) => "is valid until a time before that from which it is valid",
        Some(
            BadDer
            | BadDerTime
            | ExtensionValueInvalid
            | InvalidSerialNumber
            | MalformedExtensions
            | TrailingData(_)
            | SignatureAlgorithmMismatch
            | MalformedNameConstraint
            | InvalidNetworkMaskConstraint
            | MalformedDnsIdentifier
            | UnsupportedNameType
            | EmptyEkuExtension,
        ) => "is malformed",
        Some(
            MaximumNameConstraintComparisonsExceeded
            | MaximumPathBuildCallsExceeded
            | MaximumSignatureChecksExceeded,
        ) => "comes with so many others that verifying it would take too long",
        _ => "is not accepted",
    }
}

const ANOTHER_NAME: &str = "use the name that the certificate was issued for";

fn expired(now: &Reading) -> String {
    match (now.is_floor(), now.far_ahead) {
        (true, _) => format!("{now}; the registry's certificate must be renewed"),
        (false, true) => format!("{now}: {SET_IT}"),
        (false, false) => format!("{now}: if that is right, the registry's certificate must be renewed"),
    }
}

fn not_yet(now: &Reading) -> String {
    match now.is_floor() {
        true => now.to_string(),
        false => format!("{now} and is probably behind: {SET_IT}"),
    }
}

fn untrusted(trust: &Trust) -> String {
    format!("{trust}; --ca-file FILE names a private CA's certificate")
}
