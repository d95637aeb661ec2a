//! What an answer stands for that is none: something that will pass, or an error in a server's own words.

use super::http::{Answer, Class, Failure};
use super::proxy;
use crate::error::{Error, Kind};
use serde::Deserialize;
use std::fmt;
use std::io::Read;

/// How much of an error's body is read, in bytes.
const ERROR_BODY_MAX: u64 = 4 << 10;
/// Stands in front of a page that some editors have written (UTF-8's form of U+FEFF).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
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

/// Holds what an answer says of itself: its status, and the first error in its body.
#[derive(Debug)]
pub(super) struct Said {
    status: u16,
    error: Option<One>,
    /// Is set if the body is for a person: HTML, as login pages are.
    is_page: bool,
}

/// One error in a body (distribution-spec, "Error Codes").
#[derive(Debug, Deserialize)]
struct One {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Said {
    /// Reads the body, as far as an error can be long.
    pub(super) fn of(answer: Answer) -> Said {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<One>,
        }
        let status = answer.status();
        let is_html = is_html(&answer);
        let mut body = Vec::new();
        // What cannot be read is not told; the status says enough.
        let _ = answer.into_body().take(ERROR_BODY_MAX).read_to_end(&mut body);
        let errors = serde_json::from_slice::<Errors>(&body).map(|body| body.errors).unwrap_or_default();
        let is_page = begins_a_page(&body) || (is_html && !body.trim_ascii().is_empty());
        Said { status, error: errors.into_iter().next(), is_page }
    }

    /// The error's code; empty if there is none.
    #[cfg(feature = "publish")]
    pub(super) fn code(&self) -> &str {
        self.error.as_ref().map_or("", |error| error.code.as_str())
    }

    /// Whether the body is a page, or an error, whatever the status says: no registry answers so that has taken something.
    #[cfg(feature = "publish")]
    pub(super) fn is_no_success(&self) -> bool {
        self.is_page || self.error.is_some()
    }
}

/// `HTTP 404 (NAME_UNKNOWN: repository name not known to registry)`.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        match &self.error {
            Some(One { code, message }) => write!(f, " ({}: {})", sanitized(code), sanitized(message)),
            None if self.is_page => f.write_str(" and a page (HTML)"),
            None => Ok(()),
        }
    }
}

/// Returns what an answer says of itself, for messages, as [`Said`] words it.
pub(super) fn outcome(answer: Answer) -> String {
    Said::of(answer).to_string()
}

/// Whether an answer says that its body is HTML.
pub(super) fn is_html(answer: &Answer) -> bool {
    let media_type = answer.media_type();
    ["text/html", "application/xhtml+xml"].iter().any(|html| media_type.eq_ignore_ascii_case(html))
}

/// Whether these are the first bytes of HTML, which registries never send.
pub(super) fn begins_a_page(bytes: &[u8]) -> bool {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes).trim_ascii_start().starts_with(b"<")
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
