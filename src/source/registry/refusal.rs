//! Why a server's certificate is refused, or its TLS, in words: what the certificate says, what this board's clock
//! says, and what to do about it. rustls and webpki have names for their errors, no sentences.

use super::roots::Trust;
use crate::clock::Reading;
use crate::clock::date::Utc;
use crate::error::{Error, Kind};
use rustls::{AlertDescription, CertificateError};
use std::fmt;

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
        NotValidForNameContext { presented, .. } => (another_name(presented), ANOTHER_NAME.to_owned()),
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
        Revoked => ("has been revoked".to_owned(), RENEW.to_owned()),
        Other(other) if matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) => {
            (reason(other.0.downcast_ref()).to_owned(), ITSELF.to_owned())
        }
        Other(other) => (reason(other.0.downcast_ref()).to_owned(), RENEW.to_owned()),
        other => (format!("is not accepted: {}", words(other)), untrusted(trust)),
    };
    Error::new(Kind::Network, format!("{host}: the server's certificate {what}")).hint(hint)
}

const RENEW: &str = "the registry needs another certificate: one for its name (subjectAltName), with CA:FALSE, signed by an \
    authority that is trusted here";

const ITSELF: &str = "if it is the registry's own, as Docker's documentation makes it, get it from whoever runs the registry and \
    trust that very certificate: --ca-file FILE, or ca.crt in certs.d/HOST";

/// The most names of a certificate that are told.
const NAMES_MAX: usize = 8;

/// Says which names a certificate is for. webpki hands them out as it prints them for programmers, `DnsName("a.example")`;
/// the server has chosen what is in the quotes.
fn another_name(presented: &[String]) -> String {
    let plain = |name: &String| {
        let inside = name.split_once('(').map_or(name.as_str(), |(_, inside)| inside);
        let visible = |c: char| if c.is_control() { '?' } else { c };
        inside.trim_end_matches(')').trim_matches('"').chars().map(visible).collect::<String>()
    };
    let names: Vec<_> = presented.iter().take(NAMES_MAX).map(plain).collect();
    match (names.is_empty(), presented.len().saturating_sub(NAMES_MAX)) {
        (true, _) => "is for no name at all (it has no subjectAltName)".to_owned(),
        (_, 0) => format!("is for another name: for {}", names.join(", ")),
        (_, more) => format!("is for another name: for {} and {more} more", names.join(", ")),
    }
}

/// Says what has ended a TLS connection, or kept it from being made; `host` is in front of it.
pub(super) fn tls(error: &rustls::Error) -> String {
    use AlertDescription as Alert;
    use rustls::Error::*;
    match error {
        InvalidCertificate(CertificateError::Other(other)) => {
            format!("the server's certificate {}", reason(other.0.downcast_ref()))
        }
        InvalidCertificate(why) => format!("the server's certificate is not accepted: {}", words(why)),
        NoCertificatesPresented => "the server shows no certificate".to_owned(),
        PeerIncompatible(
            rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13
            | rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )
        | AlertReceived(Alert::ProtocolVersion) => {
            "the server speaks neither TLS 1.2 nor TLS 1.3, and what is older is not safe".to_owned()
        }
        PeerIncompatible(why) => {
            format!("edgepull and the server have no kind of TLS in common: {}", words(why))
        }
        AlertReceived(Alert::HandshakeFailure | Alert::InsufficientSecurity) => {
            "the server refuses the handshake: it has no cipher or key in common with edgepull".to_owned()
        }
        AlertReceived(Alert::UnrecognisedName) => "the server does not answer to this host name".to_owned(),
        AlertReceived(alert) => format!("the server ends the TLS connection: {}", words(alert)),
        PeerMisbehaved(why) => format!("the server breaks the rules of TLS: {}", words(why)),
        InvalidMessage(why) => format!("what the server sends is no valid TLS: {}", words(why)),
        InappropriateMessage { got_type, .. } => {
            format!("the server sends TLS out of turn: {}", words(got_type))
        }
        InappropriateHandshakeMessage { got_type, .. } => {
            format!("the server sends TLS out of turn: {}", words(got_type))
        }
        DecryptError => {
            "TLS: a record cannot be decrypted, as if something on the way had changed it".to_owned()
        }
        PeerSentOversizedRecord => "the server sends a larger record than TLS has".to_owned(),
        General(why) => format!("TLS: {why}"),
        Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            Some(why) => format!("TLS: {}", words(why)),
            None => format!("TLS: {other}"),
        },
        InvalidCertRevocationList(why) => format!("TLS: a bad list of revoked certificates: {}", words(why)),
        InvalidEncryptedClientHello(why) => format!("TLS: no encrypted greeting: {}", words(why)),
        InconsistentKeys(why) => format!("TLS: keys that do not fit one another: {}", words(why)),
        // These have sentences.
        plain => format!("TLS: {plain}"),
    }
}

/// Turns the name of an enum's variant into words: `NoCipherSuitesInCommon` is "no cipher suites in common". What it holds is
/// left out. The library has about a hundred of them, which say more to whoever looks into it than to a user.
fn words(variant: &impl fmt::Debug) -> String {
    let name = format!("{variant:?}");
    let name = name.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// Says what is wrong with a certificate for which rustls has no word of its own.
pub(super) fn reason(why: Option<&webpki::Error>) -> &'static str {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::*;
    use std::sync::Arc;

    /// Every error of webpki's that has no data, as rustls hands it on.
    fn of_webpki() -> Vec<CertificateError> {
        use webpki::Error::*;
        let all = [
            BadDer,
            BadDerTime,
            CaUsedAsEndEntity,
            CertDistrusted,
            EmptyEkuExtension,
            EndEntityUsedAsCa,
            ExtensionValueInvalid,
            InvalidCertValidity,
            InvalidNetworkMaskConstraint,
            InvalidSerialNumber,
            MalformedDnsIdentifier,
            MalformedExtensions,
            MalformedNameConstraint,
            MaximumNameConstraintComparisonsExceeded,
            MaximumPathBuildCallsExceeded,
            MaximumPathDepthExceeded,
            MaximumSignatureChecksExceeded,
            NameConstraintViolation,
            PathLenConstraintViolated,
            SignatureAlgorithmMismatch,
            UnsupportedCertVersion,
            UnsupportedCriticalExtension,
            UnsupportedNameType,
        ];
        all.into_iter().map(|error| CertificateError::Other(OtherError(Arc::new(error)))).collect()
    }

    fn of_certificates() -> Vec<CertificateError> {
        use CertificateError::*;
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
        let expected = ServerName::try_from("a.example").unwrap();
        let for_names = |presented: &[&str]| NotValidForNameContext {
            expected: expected.clone(),
            presented: presented.iter().map(|name| (*name).to_owned()).collect(),
        };
        let mut all = of_webpki();
        all.extend([
            BadEncoding,
            Expired,
            ExpiredContext { time, not_after: time },
            NotValidYet,
            NotValidYetContext { time, not_before: time },
            Revoked,
            UnhandledCriticalExtension,
            UnknownIssuer,
            UnknownRevocationStatus,
            ExpiredRevocationList,
            ExpiredRevocationListContext { time, next_update: time },
            BadSignature,
            UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: vec![1, 2],
                supported_algorithms: Vec::new(),
            },
            UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: vec![1, 2],
                public_key_algorithm_id: vec![3],
            },
            NotValidForName,
            for_names(&[]),
            for_names(&["DnsName(\"b.example\")", "IpAddress(10.0.0.1)", "Unsupported(0x81)"]),
            for_names(&["DnsName(\"\x1b2J\")"; 20]),
            InvalidPurpose,
            InvalidPurposeContext {
                required: ExtendedKeyPurpose::ServerAuth,
                presented: vec![ExtendedKeyPurpose::Other(vec![1, 3, 6])],
            },
            InvalidOcspResponse,
            ApplicationVerificationFailure,
            Other(OtherError(Arc::new(std::fmt::Error))),
        ]);
        all
    }

    fn of_tls() -> Vec<rustls::Error> {
        use rustls::Error::*;
        let (got, want) = (ContentType::Alert, vec![ContentType::Handshake, ContentType::Unknown(9)]);
        let mut all = vec![
            InappropriateMessage { expect_types: want, got_type: got },
            InappropriateHandshakeMessage { expect_types: Vec::new(), got_type: HandshakeType::Unknown(9) },
            InvalidEncryptedClientHello(EncryptedClientHelloError::NoCompatibleConfig),
            InvalidMessage(rustls::InvalidMessage::MissingData("ServerName")),
            InvalidMessage(rustls::InvalidMessage::DuplicateExtension(5)),
            InvalidMessage(rustls::InvalidMessage::InvalidContentType),
            NoCertificatesPresented,
            UnsupportedNameType,
            DecryptError,
            EncryptError,
            PeerIncompatible(rustls::PeerIncompatible::NoCipherSuitesInCommon),
            PeerIncompatible(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13),
            PeerIncompatible(rustls::PeerIncompatible::ServerRejectedEncryptedClientHello(Some(Vec::new()))),
            PeerMisbehaved(rustls::PeerMisbehaved::SelectedUnofferedCipherSuite),
            InvalidCertRevocationList(CertRevocationListError::ParseError),
            InvalidCertRevocationList(CertRevocationListError::Other(OtherError(Arc::new(std::fmt::Error)))),
            General("words".to_owned()),
            FailedToGetCurrentTime,
            FailedToGetRandomBytes,
            HandshakeNotComplete,
            PeerSentOversizedRecord,
            NoApplicationProtocol,
            BadMaxFragmentSize,
            InconsistentKeys(rustls::InconsistentKeys::KeyMismatch),
            Other(OtherError(Arc::new(webpki::Error::CaUsedAsEndEntity))),
        ];
        all.extend((0..=255).map(|code| AlertReceived(AlertDescription::from(code))));
        all.extend(of_certificates().into_iter().map(InvalidCertificate));
        all
    }

    /// Neither `CamelCase` nor the punctuation of `{:?}`.
    #[track_caller]
    fn is_a_sentence(text: &str, of: &dyn fmt::Debug) {
        let is_name = |word: &str| {
            let inner = word.get(1..).unwrap_or_default();
            inner.bytes().any(|b| b.is_ascii_uppercase()) && word.bytes().any(|b| b.is_ascii_lowercase())
        };
        let own = ["subjectAltName", "YYYY-MM-DD"];
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
        let name = words.find(|word| is_name(word) && !own.contains(word));
        assert_eq!(name, None, "{of:?}: {text}");
        for sign in ["(\"", "[", "{", "::", "\x1b", "Some(", "Unknown("] {
            assert!(!text.contains(sign), "{of:?} has {sign:?}: {text}");
        }
    }

    #[test]
    fn every_error_of_tls_is_a_sentence() {
        let clock = Clock::with(|| 1_800_000_000, 1_700_000_000, None);
        let now = clock.now_at("r.example");
        for why in of_certificates() {
            let error = certificate("r.example", &why, &now, &Trust::BuiltIn);
            is_a_sentence(&error.to_string(), &why);
        }
        for error in of_tls() {
            is_a_sentence(&tls(&error), &error);
        }
    }

    #[test]
    fn a_name_that_is_another_is_told() {
        let told = another_name(&["DnsName(\"b.example\")".to_owned(), "IpAddress(10.0.0.1)".to_owned()]);
        assert_eq!(told, "is for another name: for b.example, 10.0.0.1");
        assert!(another_name(&vec!["DnsName(\"b\")".to_owned(); 10]).ends_with("b and 2 more"));
        assert_eq!(
            tls(&rustls::Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon)),
            "edgepull and the server have no kind of TLS in common: no cipher suites in common"
        );
    }
}
