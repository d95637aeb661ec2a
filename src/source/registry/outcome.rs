//! What an answer stands for that is none: something that will pass, or an error in a server's own words.

use super::http::{Answer, Class, Failure};
use super::proxy;
use crate::error::{Error, Kind};
use serde::Deserialize;
use std::io::Read;

/// How much of an error's body is read, in bytes.
const ERROR_BODY_MAX: u64 = 4 << 10;
/// The longest message of a server that is shown, in characters.
const SHOWN_MAX: usize = 200;

/// Sorts out the statuses that ask for patience (distribution-spec, error codes; RFC 9110).
pub(super) fn may_pass(answer: Answer) -> Result<Answer, Failure> {
    match answer.status() {
        407 => {
            let message = format!("{}: the proxy on the way: {}", asked_host(&answer), outcome(answer));
            Err(Failure::last(proxy::wants_login(message)))
        }
        // Whatever stands before a registry has statuses of its own: 507, 509, 520 to 530, 599.
        408 | 425 | 429 | 500..=599 => Err(passing(answer)),
        _ => Ok(answer),
    }
}

/// The failure that an answer stands for, which will pass.
pub(super) fn passing(answer: Answer) -> Failure {
    let asked = answer.retry_after();
    let status = answer.status();
    let error = Error::new(Kind::Network, format!("{}: {}", asked_host(&answer), outcome(answer)));
    let error = match status {
        429 => error.hint("the registry limits how much is asked of it: wait, or log in"),
        _ => error,
    };
    Failure { status: Some(status), retry_after: asked, ..Failure::new(Class::Busy, error) }
}

/// Who gave an answer, for messages.
pub(super) fn asked_host(answer: &Answer) -> String {
    answer.url.authority().map_or_else(String::new, |authority| authority.to_string())
}

/// `HTTP 404 (NAME_UNKNOWN: repository name not known to registry)`.
pub(super) fn outcome(answer: Answer) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let status = answer.status();
    let mut body = Vec::new();
    // What cannot be read is not told; the status says enough.
    let _ = answer.into_body().take(ERROR_BODY_MAX).read_to_end(&mut body);
    let errors = serde_json::from_slice::<Errors>(&body).map(|body| body.errors).unwrap_or_default();
    match errors.first() {
        Some(One { code, message }) => {
            format!("HTTP {status} ({}: {})", sanitized(code), sanitized(message))
        }
        None => format!("HTTP {status}"),
    }
}

/// A server's text, fit for a terminal.
fn sanitized(text: &str) -> String {
    let visible = |character: char| if character.is_control() { ' ' } else { character };
    text.chars().take(SHOWN_MAX).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_cannot_write_to_the_terminal() {
        assert_eq!(sanitized("a\x1b[2Jb\nc\u{9b}d"), "a [2Jb c d");
        assert_eq!(sanitized(&"é".repeat(1000)).chars().count(), SHOWN_MAX);
    }
}
