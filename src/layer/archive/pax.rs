//! PAX extended headers (POSIX.1-2008 pax, "pax Header Block"): `LENGTH KEY=VALUE\n` records.
//!
//! Records are taken from the stream one at a time, straight into where they belong, so that a header
//! of any allowed size needs no buffer of its own. The length decides where a record ends, not the next
//! newline (as in the `tar` crate's reader): binary attributes may well contain one.

use super::member::{Member, Time, clear};
use super::source::{bad, exactly, skip};
use super::{XATTR_MAX, XATTRS_MAX, field, sparse};
use crate::error::{Error, Result};
use std::io::BufRead;

/// The longest key that is looked at: `SCHILY.xattr.` and Linux's longest attribute name (255).
const KEY_MAX: usize = 13 + 255;
/// The longest number, time or version.
const SHORT_MAX: usize = 64;
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What the extension headers before a member said about it.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<Time>,
    pub(super) sparse: SparseKeys,
    /// The key of the record at hand.
    key: Vec<u8>,
}

/// The `GNU.sparse.*` keys.
#[derive(Debug, Default)]
pub(super) struct SparseKeys {
    pub(super) name: Vec<u8>,
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) real_size: Option<u64>,
    /// Version 0.0 or 0.1: the member's segments are filled in already.
    pub(super) map: bool,
    /// Version 0.0: an offset whose length is yet to come.
    pub(super) offset: Option<u64>,
}

impl Extensions {
    /// Forgets everything, the attributes and segments in `member` too.
    pub(super) fn reset(&mut self, member: &mut Member) {
        clear(&mut self.path);
        clear(&mut self.link);
        clear(&mut self.sparse.name);
        (self.size, self.uid, self.gid, self.mtime) = (None, None, None, None);
        let name = std::mem::take(&mut self.sparse.name);
        self.sparse = SparseKeys { name, ..SparseKeys::default() };
        member.xattrs.clear();
        member.segments.clear();
    }

    /// Takes all records of a header with `left` bytes.
    pub(super) fn take(
        &mut self,
        source: &mut dyn BufRead,
        mut left: u64,
        member: &mut Member,
    ) -> Result<()> {
        while left > 0 {
            let (digits, length) = record_length(source, left)?;
            // LENGTH and the blank after it, then key, '=' and value, then the newline.
            let rest = length.checked_sub(digits + 2).ok_or_else(malformed)?;
            left -= length;
            let key = self.key(source, rest)?;
            self.value(source, rest - key - 1, member)?;
            let mut newline = [0];
            exactly(source, &mut newline)?;
            if newline != *b"\n" {
                return Err(malformed());
            }
        }
        Ok(())
    }

    /// Reads a key and the '='. Returns the key's whole length, of which at most [`KEY_MAX`] is kept.
    fn key(&mut self, source: &mut dyn BufRead, most: u64) -> Result<u64> {
        self.key.clear();
        for length in 0..most {
            let mut byte = [0];
            exactly(source, &mut byte)?;
            match byte[0] {
                b'=' => return Ok(length),
                0 => return Err(malformed()),
                // One byte too many marks a key that is none of ours.
                byte if self.key.len() <= KEY_MAX => self.key.push(byte),
                _ => {}
            }
        }
        Err(malformed())
    }

    fn value(&mut self, source: &mut dyn BufRead, length: u64, member: &mut Member) -> Result<()> {
        if self.key.starts_with(XATTR) && self.key.len() <= KEY_MAX {
            return xattr(source, &self.key[XATTR.len()..], length, member);
        }
        let sparse = &mut self.sparse;
        match &self.key[..] {
            b"path" => path(source, length, &mut self.path),
            b"linkpath" => path(source, length, &mut self.link),
            b"size" => short(source, length, field::decimal).map(|value| self.size = value),
            b"uid" => short(source, length, field::signed).map(|value| self.uid = value),
            b"gid" => short(source, length, field::signed).map(|value| self.gid = value),
            b"mtime" => short(source, length, field::time).map(|value| self.mtime = value),
            b"GNU.sparse.name" => path(source, length, &mut sparse.name),
            b"GNU.sparse.major" => short(source, length, field::decimal).map(|value| sparse.major = value),
            b"GNU.sparse.minor" => short(source, length, field::decimal).map(|value| sparse.minor = value),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                short(source, length, field::decimal).map(|value| sparse.real_size = value)
            }
            b"GNU.sparse.map" => {
                sparse.map = true;
                sparse::read_map_0_1(source, length, &mut member.segments)
            }
            b"GNU.sparse.offset" => {
                sparse.map = true;
                short(source, length, field::decimal).map(|value| sparse.offset = value)
            }
            b"GNU.sparse.numbytes" => {
                let numbytes = short(source, length, field::decimal)?;
                match (sparse.offset.take(), numbytes) {
                    (Some(offset), Some(length)) => sparse::push(&mut member.segments, offset, length),
                    _ => Err(malformed()),
                }
            }
            _ => skip(source, length),
        }
    }
}

fn malformed() -> Error {
    bad("a PAX header is malformed")
}

/// `LENGTH` and the blank after it: how many digits, and the value, which is at most `left`.
fn record_length(source: &mut dyn BufRead, left: u64) -> Result<(u64, u64)> {
    let mut length = 0u64;
    for digits in 0.. {
        let mut byte = [0];
        exactly(source, &mut byte)?;
        match byte[0] {
            digit @ b'0'..=b'9' => length = length * 10 + u64::from(digit - b'0'),
            b' ' if digits > 0 => return Ok((digits, length)),
            _ => break,
        }
        if length > left {
            break;
        }
        if digits > 20 {
            break;
        }
    }
    Err(malformed())
}

/// A path. An empty one leaves what the header itself says.
fn path(source: &mut dyn BufRead, length: u64, into: &mut Vec<u8>) -> Result<()> {
    super::source::path(source, length, into)?;
    if into.contains(&0) { Err(malformed()) } else { Ok(()) }
}

/// A number or a time; `None` where the value is empty, which takes an earlier one back.
fn short<T>(source: &mut dyn BufRead, length: u64, parse: fn(&[u8]) -> Option<T>) -> Result<Option<T>> {
    let mut buffer = [0; SHORT_MAX];
    let value = buffer.get_mut(..length as usize).ok_or_else(malformed)?;
    exactly(source, value)?;
    match &*value {
        [] => Ok(None),
        text => parse(text).map(Some).ok_or_else(malformed),
    }
}

/// An extended attribute, straight into the member.
fn xattr(source: &mut dyn BufRead, name: &[u8], length: u64, member: &mut Member) -> Result<()> {
    if length > XATTR_MAX {
        return Err(bad(format!(
            "an extended attribute has {length} bytes, more than XATTR_MAX, {XATTR_MAX}"
        )));
    }
    let xattrs = &mut member.xattrs;
    let start = xattrs.bytes.len();
    let end = start + name.len() + 1 + length as usize;
    if end > XATTRS_MAX {
        return Err(bad(format!("the extended attributes have more than XATTRS_MAX, {XATTRS_MAX} bytes")));
    }
    xattrs.bytes.extend_from_slice(name);
    xattrs.bytes.push(0);
    let value = xattrs.bytes.len();
    xattrs.bytes.resize(end, 0);
    exactly(source, &mut xattrs.bytes[value..])?;
    xattrs.ends.push((value, end));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let length = (1..).map(|digits| (digits, rest + digits)).find(|(d, l)| l.to_string().len() == *d);
        [format!("{} {key}=", length.unwrap().1).as_bytes(), value, b"\n"].concat()
    }

    fn take(bytes: &[u8]) -> Result<(Extensions, Member)> {
        let (mut extensions, mut member) = (Extensions::default(), Member::default());
        extensions.take(&mut &bytes[..], bytes.len() as u64, &mut member)?;
        Ok((extensions, member))
    }

    #[test]
    fn records_go_where_they_belong() {
        let bytes = [
            record("path", "usr/share/größe".as_bytes()),
            record("comment", &[b'c'; 5000]),
            record("mtime", b"-1.25"),
            record("size", b"8589934592"),
            record("SCHILY.xattr.security.capability", b"\x01\0\n\n=\xff"),
            record("SCHILY.xattr.user.empty", b""),
            record("uid", b"7"),
            record("uid", b""),
        ]
        .concat();
        let (extensions, member) = take(&bytes).unwrap();
        assert_eq!(extensions.path, "usr/share/größe".as_bytes());
        assert_eq!(extensions.mtime, Some(Time { seconds: -2, nanos: 750_000_000 }));
        assert_eq!((extensions.size, extensions.uid), (Some(1 << 33), None));
        let xattrs: Vec<_> = member.xattrs.iter().collect();
        assert_eq!(xattrs, [(c"security.capability", &b"\x01\0\n\n=\xff"[..]), (c"user.empty", b"")]);
    }

    #[test]
    fn what_is_malformed_or_too_long_is_refused() {
        for bytes in [
            &b"x"[..],
            b"9 a=b\n",
            b"5 a=b\n",
            b"6 a=bc",
            b"6 abcd",
            b" a=b\n",
            b"3 \n",
            b"0 a=b\n",
            b"99999999999999999999999 a=b\n",
            &record("path", b"a\0b"),
            &record("size", b"-1"),
            &record("mtime", b"soon"),
            &record("GNU.sparse.numbytes", b"1"),
            &record("uid", &[b'1'; 65]),
        ] {
            let error = take(bytes).unwrap_err();
            assert_eq!(error.to_string(), "a PAX header is malformed", "{bytes:?}");
        }
        let long = |key, length| take(&record(key, &vec![b'x'; length])).unwrap_err().to_string();
        assert!(long("path", 4097).contains("PATH_MAX"));
        assert!(long("SCHILY.xattr.user.big", 65_537).contains("XATTR_MAX"));
        let many: Vec<u8> =
            (0..5).flat_map(|i| record(&format!("SCHILY.xattr.user.{i}"), &[1; 65_000])).collect();
        assert!(take(&many).unwrap_err().to_string().contains("XATTRS_MAX"));
    }
}
