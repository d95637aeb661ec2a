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
        other => (format!("is not accepted ({other})"), untrusted(trust)),
    };
    Error::new(Kind::Network, format!("{host}: the server's certificate {what}")).hint(hint)
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
