//! The one error type of edgepull: a [`Kind`], which fixes the exit code, and one readable line.
//!
//! Inside, code asks for [`Error::kind`]; outside, a person reads `Display`: what was wrong, where,
//! and (after a semicolon) what to do. Errors that have to travel through [`std::io::Read`] adapters
//! are wrapped into an [`io::Error`] and come out whole at the other end ([`Error::from_io`]).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io;

/// What kind of failure this is. The discriminant is the process's exit code; both are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Anything that has no kind of its own.
    Other = 1,
    /// The command line, or a file that it names, makes no sense.
    Usage = 2,
    /// The image has nothing that this board can run.
    NoPlatform = 3,
    /// The image, a tag or a blob is not there.
    NotFound = 4,
    /// The registry wants other credentials.
    Auth = 5,
    /// The registry cannot be reached, or does not speak the protocol.
    Network = 6,
    /// Bytes that are not those which their digest or size promised.
    Verification = 7,
    /// An image that is broken, hostile, or lies about its platform.
    BadImage = 8,
    /// The disk is full, read-only, or refuses.
    Disk = 9,
    /// A generation failed its check, and the one before it is current again.
    Unhealthy = 10,
    /// Another edgepull holds the state directory.
    Busy = 11,
}

impl Kind {
    /// The process's exit code for this kind.
    pub fn exit_code(self) -> u8 {
        self as u8
    }

    /// The kind that has this exit code; [`Kind::Other`] for a code that none has.
    pub fn of_exit_code(code: u8) -> Kind {
        const KINDS: [Kind; 10] = [
            Kind::Usage,
            Kind::NoPlatform,
            Kind::NotFound,
            Kind::Auth,
            Kind::Network,
            Kind::Verification,
            Kind::BadImage,
            Kind::Disk,
            Kind::Unhealthy,
            Kind::Busy,
        ];
        KINDS.into_iter().find(|kind| kind.exit_code() == code).unwrap_or(Kind::Other)
    }

    /// The name that `--json` prints for this kind.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Other => "other",
            Kind::Usage => "usage",
            Kind::NoPlatform => "no-platform",
            Kind::NotFound => "not-found",
            Kind::Auth => "auth",
            Kind::Network => "network",
            Kind::Verification => "verification",
            Kind::BadImage => "bad-image",
            Kind::Disk => "disk",
            Kind::Unhealthy => "unhealthy",
            Kind::Busy => "busy",
        }
    }
}

/// A failure: its kind, what happened, and what the user can do about it.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
}

/// `Result` with edgepull's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `message` says what was wrong and where, without a full stop.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Error {
        Error { kind, message: message.into(), hint: None }
    }

    /// Adds what the user can do; printed after a semicolon. The innermost hint stays.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Error {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Adds what the user can do besides, behind the hint that it may have.
    #[cfg(feature = "publish")]
    pub fn also_hint(mut self, hint: &'static str) -> Error {
        self.hint = Some(match self.hint.take() {
            Some(first) => format!("{first}; {hint}").into(),
            None => hint.into(),
        });
        self
    }

    /// Puts the place in front: `context: message`.
    pub fn context(mut self, context: impl fmt::Display) -> Error {
        self.message = format!("{context}: {}", self.message).into();
        self
    }

    /// The kind, which fixes the exit code.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns what happened, without the hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// An I/O error of `kind`, unless it carries an [`Error`] of our own, which then comes out whole.
    pub fn from_io(kind: Kind, error: io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(own) => own,
            Err(error) => Error::new(kind, describe(&error)),
        }
    }

    /// A failed file system call: [`Kind::Disk`], with a hint for the causes that users can mend.
    pub fn disk(path: impl fmt::Display, error: io::Error) -> Error {
        let hint = match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Some("free some room and run the same command again"),
            Some(libc::EROFS) => Some("the file system is mounted read-only"),
            Some(libc::EACCES | libc::EPERM) => Some("run as a user who may write there"),
            _ => None,
        };
        let error = Error::from_io(Kind::Disk, error).context(path);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// An OS error's text without Rust's "(os error N)", which tells a user nothing.
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printable(&self.message).fmt(f)?;
        match &self.hint {
            Some(hint) => {
                f.write_str("; ")?;
                Printable(hint).fmt(f)
            }
            None => Ok(()),
        }
    }
}

/// The most bytes of a message, of a hint, and of a line of the log that are shown.
const SHOWN_MAX: usize = 4096;

/// The beginning of a text, its control characters escaped: images, registries and files have a say in messages and in
/// the log, but a terminal must not obey them.
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, character) in self.0.char_indices() {
            match character {
                _ if at >= SHOWN_MAX => return f.write_char('…'),
                character if character.is_control() => write!(f, "{}", character.escape_default())?,
                character => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Errors go from one process to another whole, too ([`crate::sandbox`]): exit code, message, hint.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.kind.exit_code(), &self.message, &self.hint).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Error, D::Error> {
        let (code, message, hint) = <(u8, String, Option<String>)>::deserialize(deserializer)?;
        Ok(Error { kind: Kind::of_exit_code(code), message: message.into(), hint: hint.map(Cow::from) })
    }
}

impl From<Error> for io::Error {
    /// Lets an [`Error`] travel through `Read` adapters; [`Error::from_io`] takes it out again.
    fn from(error: Error) -> io::Error {
        io::Error::other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_way_through_io() {
        let inside = Error::new(Kind::Verification, "digest differs").hint("pull again");
        let outside = Error::from_io(Kind::Network, io::Error::from(inside)).context("layer 2");
        assert_eq!(outside.kind(), Kind::Verification);
        assert_eq!(outside.to_string(), "layer 2: digest differs; pull again");
    }

    #[test]
    fn an_error_survives_the_way_to_another_process() {
        for code in 1..=11 {
            let kind = Kind::of_exit_code(code);
            assert_eq!(kind.exit_code(), code, "{}", kind.name());
            let inside = Error::new(kind, "what").hint("do");
            let outside: Error = serde_json::from_slice(&serde_json::to_vec(&inside).unwrap()).unwrap();
            assert_eq!((outside.kind(), outside.to_string()), (kind, "what; do".to_owned()));
        }
        assert_eq!(Kind::of_exit_code(200), Kind::Other);
    }

    #[test]
    fn no_message_writes_to_the_terminal() {
        let error = Error::new(Kind::BadImage, "\x1b[2Jtar\u{9b}5n says \0").hint("é\nrm -rf /\x7f");
        assert_eq!(error.to_string(), "\\u{1b}[2Jtar\\u{9b}5n says \\u{0}; é\\nrm -rf /\\u{7f}");
        let long = Error::new(Kind::BadImage, "é".repeat(1 << 20)).to_string();
        assert_eq!((long.len(), long.chars().last()), (SHOWN_MAX + 3, Some('…')));
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let error = Error::disk("/srv/x", io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(error.kind().exit_code(), 9);
        assert_eq!(
            error.to_string(),
            "/srv/x: No space left on device; free some room and run the same command again"
        );
    }
}
