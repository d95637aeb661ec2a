//! Member paths: cleaned as text, before any of them meets the file system.

use std::fmt;
use std::io;

use crate::error::{Error, Kind};

/// The longest name of a file (`NAME_MAX` of every Linux file system).
const NAME_MAX: usize = 255;
/// Most bytes of a path in a message.
const SHOWN_MAX: usize = 256;

/// An error about the image, on its way through `io::Result`.
pub(in crate::layer) fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> io::Error {
    Error::new(Kind::BadImage, message).into()
}

/// Writes the path from the root, without slashes at its ends, `.` or `..`, into `clean`; the root
/// itself is empty. `..` takes back the component before it and stops at the root, as Go's
/// `path.Clean("/" + path)` has it in containerd and umoci.
///
/// # Errors
/// [`Kind::BadImage`] for a NUL or a component longer than [`NAME_MAX`].
pub(in crate::layer) fn clean(path: &[u8], clean: &mut Vec<u8>) -> io::Result<()> {
    clean.clear();
    if path.contains(&0) {
        return Err(bad("a path contains a NUL"));
    }
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => clean.truncate(split(clean).0.len()),
            name if name.len() > NAME_MAX => {
                return Err(bad(format!(
                    "a name of {} bytes is longer than NAME_MAX, {NAME_MAX}",
                    name.len()
                )));
            }
            name => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(name);
            }
        }
    }
    Ok(())
}

/// Parent and name of a clean path.
pub(in crate::layer) fn split(clean: &[u8]) -> (&[u8], &[u8]) {
    match clean.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&clean[..slash], &clean[slash + 1..]),
        None => (b"", clean),
    }
}

/// How many bytes of two clean paths are whole components that both begin with.
pub(super) fn common(a: &[u8], b: &[u8]) -> usize {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let boundary = |path: &[u8]| path.get(same).is_none_or(|byte| *byte == b'/');
    if boundary(a) && boundary(b) {
        same
    } else {
        a[..same].iter().rposition(|byte| *byte == b'/').unwrap_or(0)
    }
}

/// A path for messages: control characters are escaped (it comes from the image and may be meant for
/// the terminal), and the middle of a long one is left out.
pub(super) struct Shown<'a>(pub(super) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = |f: &mut fmt::Formatter<'_>, part: &[u8]| {
            String::from_utf8_lossy(part).chars().try_for_each(|c| match c.is_control() {
                true => write!(f, "{}", c.escape_default()),
                false => write!(f, "{c}"),
            })
        };
        match self.0 {
            [] => f.write_str("/"),
            path if path.len() <= SHOWN_MAX => escaped(f, path),
            path => {
                escaped(f, &path[..SHOWN_MAX / 2])?;
                f.write_str("…")?;
                escaped(f, &path[path.len() - SHOWN_MAX / 2..])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(path: &str) -> String {
        let mut out = b"old".to_vec();
        clean(path.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn paths_stay_beneath_the_root() {
        for (path, expected) in [
            ("", ""),
            ("/", ""),
            ("./", ""),
            ("..", ""),
            ("../../etc/passwd", "etc/passwd"),
            ("/a//b/./c/", "a/b/c"),
            ("a/b/../../../c", "c"),
            ("a/..", ""),
            ("a/../..b/...", "..b/..."),
        ] {
            assert_eq!(cleaned(path), expected, "{path}");
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        let mut out = Vec::new();
        assert!(clean(b"a\0b", &mut out).is_err());
        assert!(clean(&[b'n'; 256], &mut out).unwrap_err().to_string().contains("NAME_MAX"));
        assert!(clean(&[b'n'; 255], &mut out).is_ok());
    }

    #[test]
    fn common_components() {
        for (a, b, expected) in [
            ("a/b", "a/b/c", 3),
            ("a/b", "a/bc", 1),
            ("a/b", "a/b", 3),
            ("ab", "ac", 0),
            ("", "a", 0),
            ("a/b/x", "a/b/y", 3),
        ] {
            assert_eq!(common(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }

    #[test]
    fn shown_paths_cannot_write_to_the_terminal() {
        assert_eq!(Shown(b"etc/\x1b[2Jx").to_string(), "etc/\\u{1b}[2Jx");
        assert_eq!(Shown("größe".as_bytes()).to_string(), "größe");
        assert!(Shown(&[b'n'; 4096]).to_string().len() < 300);
    }
}
