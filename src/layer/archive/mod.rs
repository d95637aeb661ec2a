//! Tar members from a stream of bytes, under hard limits.
//!
//! The `tar` crate gives the header formats; the framing is ours, because its reader takes extension
//! headers of any size into memory. Where the formats leave room, members are read as Go's `archive/tar`
//! reads them, since every image in a registry has been through that: GNU long names win over PAX paths,
//! a second PAX header replaces the first, the size of links, directories and devices is ignored, old
//! (`\0`) files with a trailing slash are directories, a missing end marker is no error.
//!
//! It is stricter in three places: what follows the end marker must be zeros; member types that would
//! be lost silently are refused, so that no root file system is incomplete without anybody knowing;
//! and everything that a member makes us keep has a limit.

mod field;
mod member;
mod pax;
mod source;
mod sparse;

use std::io::{self, BufRead, Read};

use tar::Header;

pub use member::{Member, MemberKind, Segment, Time, Xattrs};

use super::queue::read_buffered;
use crate::error::Result;
use member::clear;
use pax::Extensions;
use source::{bad, exactly, more, skip, skip_up_to, truncated, up_to};

/// Bytes of a tar block.
const BLOCK: usize = 512;
/// Most bytes of a path or a link's target: Linux's own limit.
pub const PATH_MAX: usize = 4096;
/// Most bytes that the extension headers of one member have together, their blocks included.
pub const EXTENSION_MAX: u64 = 1024 * 1024;
/// Most bytes of one extended attribute: Linux's own limit (`XATTR_SIZE_MAX`).
pub const XATTR_MAX: u64 = 64 * 1024;
/// Most bytes of all extended attributes of one member, names included.
pub const XATTRS_MAX: usize = 256 * 1024;
/// Bits of a device's major and minor number (Linux include/linux/kdev_t.h).
const MAJOR_BITS: u32 = 12;
const MINOR_BITS: u32 = 20;
/// Most segments of a sparse file: 1 MiB of memory.
pub const SEGMENTS_MAX: usize = 65_536;

/// The members of a tar stream, one after the other.
pub(crate) struct Archive<R> {
    source: R,
    header: Header,
    extensions: Extensions,
    /// GNU long name and long link target, until their member comes.
    long_path: Vec<u8>,
    long_link: Vec<u8>,
    member: Member,
    /// Bytes of the current member's data that nobody has read yet.
    unread: u64,
    /// Bytes from the end of that data to the next block.
    padding: u64,
}

impl<R: BufRead> Archive<R> {
    /// Members of `source`. From a checkpoint: `left` is what [`Archive::left`] said, and `member` the one whose
    /// data is coming.
    pub(crate) fn new(source: R, left: (u64, u64), member: Option<Member>) -> Archive<R> {
        Archive {
            source,
            header: Header::new_old(),
            extensions: Extensions::default(),
            long_path: Vec::new(),
            long_link: Vec::new(),
            member: member.unwrap_or_default(),
            unread: left.0,
            padding: left.1,
        }
    }

    pub(crate) fn source(&mut self) -> &mut R {
        &mut self.source
    }

    /// How many bytes of the current member's data nobody has read, and how many follow it up to the next block.
    pub(crate) fn left(&self) -> (u64, u64) {
        (self.unread, self.padding)
    }

    pub(crate) fn into_source(self) -> R {
        self.source
    }

    /// Goes to the next member; `false` at the end, when the source too has been read to its end.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        skip(&mut self.source, std::mem::take(&mut self.unread))?;
        // The data is complete: like Go, don't mind when the last block isn't filled up.
        skip_up_to(&mut self.source, std::mem::take(&mut self.padding))?;
        self.member.reset();
        self.extensions.reset(&mut self.member);
        clear(&mut self.long_path);
        clear(&mut self.long_link);
        let mut budget = EXTENSION_MAX;
        let mut is_awaited = false;
        while self.block()? {
            if self.extension(&mut budget)? {
                // A global header is about no member: an archive may have nothing else.
                is_awaited |= self.header.as_old().linkflag[0] != b'g';
                continue;
            }
            if self.header.as_old().linkflag[0] == b'V' {
                log::debug!("the archive's label is skipped");
                let size = self.size()?;
                skip(&mut self.source, size.next_multiple_of(BLOCK as u64))?;
                continue;
            }
            self.interpret()?;
            return Ok(true);
        }
        if is_awaited {
            return Err(bad("the archive ends after an extension header"));
        }
        Ok(false)
    }

    /// The current member, and its data.
    pub(crate) fn current(&mut self) -> (&Member, Data<'_>) {
        (&self.member, Data { source: &mut self.source, unread: &mut self.unread })
    }

    /// Reads the next header; `false` at the end of the archive.
    fn block(&mut self) -> Result<bool> {
        match up_to(&mut self.source, self.header.as_mut_bytes())? {
            0 => return Ok(false),
            BLOCK => {}
            _ => return Err(truncated()),
        }
        if self.header.as_bytes().iter().all(|byte| *byte == 0) {
            return self.end().map(|()| false);
        }
        if !checksum_fits(self.header.as_bytes()) {
            return Err(bad("a tar header's checksum is wrong"));
        }
        Ok(true)
    }

    /// After a block of zeros: another one, or the end; then nothing but zeros.
    fn end(&mut self) -> Result<()> {
        loop {
            let here = more(&mut self.source)?;
            if here.is_empty() {
                return Ok(());
            }
            if here.iter().any(|byte| *byte != 0) {
                return Err(bad("data after the end of the archive"));
            }
            let n = here.len();
            self.source.consume(n);
        }
    }

    /// Takes the header where it is about the next member; whether it was.
    fn extension(&mut self, budget: &mut u64) -> Result<bool> {
        let flag = self.header.as_old().linkflag[0];
        if !matches!(flag, b'x' | b'X' | b'g' | b'L' | b'K') {
            return Ok(false);
        }
        let size = self.size()?;
        let cost = size.saturating_add(BLOCK as u64);
        *budget = budget.checked_sub(cost).ok_or_else(|| {
            bad(format!(
                "the extension headers of a member have more than EXTENSION_MAX, {EXTENSION_MAX} bytes"
            ))
        })?;
        match flag {
            // Sun's tar wrote `X` before POSIX had its `x` (pax(5) of libarchive, "Solaris Tar").
            b'x' | b'X' => {
                self.extensions.reset(&mut self.member);
                self.extensions.take(&mut self.source, size, &mut self.member)?;
            }
            b'g' => {
                log::debug!("a global PAX header is skipped");
                skip(&mut self.source, size)?;
            }
            b'L' => long(&mut self.source, size, &mut self.long_path)?,
            _ => long(&mut self.source, size, &mut self.long_link)?,
        }
        skip_up_to(&mut self.source, size.next_multiple_of(BLOCK as u64) - size)?;
        Ok(true)
    }

    /// The size field of the header.
    fn size(&self) -> Result<u64> {
        unsigned("size", &self.header.as_old().size)
    }

    /// Fills the member from the header and the extensions before it.
    fn interpret(&mut self) -> Result<()> {
        self.names()?;
        self.member.kind = self.kind()?;
        self.numbers()?;
        let size = self.extensions.size.map_or_else(|| self.size(), Ok)?;
        // A size that would overflow the stream's position cannot be true.
        let size = Some(size).filter(|size| *size <= i64::MAX as u64).ok_or_else(|| field_error("size"))?;
        // Only files have data; the other types' size says something else, or nothing.
        self.unread = if self.member.kind == MemberKind::File { size } else { 0 };
        self.padding = self.unread.next_multiple_of(BLOCK as u64) - self.unread;
        self.member.size = self.unread;
        if self.member.kind == MemberKind::File {
            self.sparse()?;
        }
        if !self.member.sparse {
            clear(&mut self.member.segments);
        }
        Ok(())
    }

    /// Path and link target: GNU's long ones, else PAX', else the header's.
    fn names(&mut self) -> Result<()> {
        let member = &mut self.member;
        let extensions = &mut self.extensions;
        let paths = [&mut self.long_path, &mut extensions.sparse.name, &mut extensions.path];
        match paths.into_iter().find(|path| !path.is_empty()) {
            Some(path) => std::mem::swap(&mut member.path, path),
            None => header_path(&self.header, &mut member.path),
        }
        match [&mut self.long_link, &mut extensions.link].into_iter().find(|link| !link.is_empty()) {
            Some(link) => std::mem::swap(&mut member.link, link),
            None => member.link.extend_from_slice(field::text(&self.header.as_old().linkname)),
        }
        Ok(())
    }

    fn kind(&self) -> Result<MemberKind> {
        Ok(match self.header.as_old().linkflag[0] {
            0 if self.member.path.ends_with(b"/") => MemberKind::Directory,
            0 | b'0' | b'7' | b'S' => MemberKind::File,
            b'1' => MemberKind::Hardlink,
            b'2' => MemberKind::Symlink,
            b'3' => MemberKind::CharDevice,
            b'4' => MemberKind::BlockDevice,
            b'5' => MemberKind::Directory,
            b'6' => MemberKind::Fifo,
            flag => {
                return Err(bad(format!("a tar member of the unknown type '{}'", flag.escape_ascii())));
            }
        })
    }

    fn numbers(&mut self) -> Result<()> {
        let (old, member) = (self.header.as_old(), &mut self.member);
        let narrow = |name, number: u64| u32::try_from(number).map_err(|_| field_error(name));
        let id = |name, pax: Option<i64>, field: &[u8]| {
            let number = pax.or_else(|| field::number(field)).ok_or_else(|| field_error(name))?;
            match i32::try_from(number).map(|number| number as u32).or_else(|_| u32::try_from(number)) {
                // chown's "leave it" (chown(2)), by which a file stays root's, whose tools unpack images.
                Ok(u32::MAX) => Ok(0),
                other => other.map_err(|_| field_error(name)),
            }
        };
        member.mode = (unsigned("mode", &old.mode)? & 0o7777) as u32;
        member.uid = id("uid", self.extensions.uid, &old.uid)?;
        member.gid = id("gid", self.extensions.gid, &old.gid)?;
        member.mtime = match self.extensions.mtime {
            Some(time) => time,
            None => {
                let seconds = field::number(&old.mtime).ok_or_else(|| field_error("mtime"))?;
                Time { seconds, nanos: 0 }
            }
        };
        // Both POSIX and GNU headers have the device numbers there; older ones have none.
        let block = self.header.as_bytes();
        let device = matches!(member.kind, MemberKind::CharDevice | MemberKind::BlockDevice);
        if device && block[257..].starts_with(b"ustar") {
            let part = |field, bits: u32| {
                let number = unsigned("device", field)?;
                // What the kernel has no room for would become another device.
                if number >> bits == 0 { narrow("device", number) } else { Err(field_error("device")) }
            };
            member.device = (part(&block[329..337], MAJOR_BITS)?, part(&block[337..345], MINOR_BITS)?);
        }
        Ok(())
    }

    /// Finds the map of a sparse file, and its real size.
    fn sparse(&mut self) -> Result<()> {
        let keys = &self.extensions.sparse;
        let segments = &mut self.member.segments;
        let version = (keys.major, keys.minor);
        if self.header.as_old().linkflag[0] == b'S' {
            segments.clear();
            self.member.size = sparse::read_old(&mut self.source, &self.header, segments)?;
        } else if version == (Some(1), Some(0)) {
            let used = sparse::read_map_1_0(&mut self.source, segments)?;
            self.unread = self.unread.checked_sub(used).ok_or_else(truncated)?;
            self.member.size = keys.real_size.ok_or_else(|| field_error("GNU.sparse.realsize"))?;
        } else if keys.map {
            self.member.size = keys.real_size.ok_or_else(|| field_error("GNU.sparse.size"))?;
        } else {
            return Ok(());
        }
        let size = self.member.size;
        if size > i64::MAX as u64 {
            return Err(field_error("size"));
        }
        self.member.sparse = true;
        sparse::check(&self.member.segments, size, self.unread)
    }
}

/// Sum of all bytes, the checksum field taken as blanks. Old writers summed signed bytes.
fn checksum_fits(block: &[u8; BLOCK]) -> bool {
    let Some(stored) = field::number(&block[148..156]) else { return false };
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte as i8);
    }
    stored == unsigned || stored == signed
}

/// The path of a header that no extension came before.
fn header_path(header: &Header, path: &mut Vec<u8>) {
    let prefix = prefix(header.as_bytes());
    if !prefix.is_empty() {
        path.extend_from_slice(prefix);
        path.push(b'/');
    }
    path.extend_from_slice(field::text(&header.as_old().name));
}

/// Returns what stands before the name of a header, as Go reads it (archive/tar, `getFormat` and `readHeader`):
///
/// | magic | version | |
/// |---|---|---|
/// | `ustar\0` | any | 155 bytes; star's, which end with `tar\0`, have times in the last 24 of these |
/// | `ustar ` | ` \0` | none; but Go before 1.8 wrote one, over the places of two times, where it makes no sense as such |
/// | anything else | | none |
///
/// GNU tar and bsdtar agree but for `ustar ` with another version, which nobody writes.
fn prefix(block: &[u8; BLOCK]) -> &[u8] {
    let (magic, version, whole) = (&block[257..263], &block[263..265], &block[345..500]);
    match (magic, version) {
        (b"ustar\0", _) if block.ends_with(b"tar\0") => field::text(&whole[..131]),
        (b"ustar\0", _) => field::text(whole),
        (b"ustar ", b" \0") => {
            let is_time = |field: &[u8]| field[0] == 0 || field::number(field).is_some();
            let are_times = is_time(&whole[..12]) && is_time(&whole[12..24]);
            let text = field::text(whole);
            if are_times || !text.is_ascii() { b"" } else { text }
        }
        _ => b"",
    }
}

/// A GNU long name: a path that ends at its first NUL.
fn long(source: &mut dyn BufRead, size: u64, into: &mut Vec<u8>) -> Result<()> {
    let kept = size.min(PATH_MAX as u64);
    source::path(source, kept, into)?;
    let length = field::text(into).len();
    if length == PATH_MAX && size > kept {
        let mut next = [0];
        exactly(source, &mut next)?;
        if next != [0] {
            return Err(bad(format!("a path has {size} bytes, more than PATH_MAX, {PATH_MAX}")));
        }
        skip(source, size - kept - 1)?;
    } else {
        skip(source, size - kept)?;
    }
    into.truncate(length);
    Ok(())
}

fn field_error(name: &str) -> crate::error::Error {
    bad(format!("the {name} of a tar member makes no sense"))
}

fn unsigned(name: &str, field: &[u8]) -> Result<u64> {
    field::number(field).and_then(|number| u64::try_from(number).ok()).ok_or_else(|| field_error(name))
}

/// The data of the current member, as it is in the archive (without the holes of sparse files).
pub(crate) struct Data<'a> {
    source: &'a mut dyn BufRead,
    unread: &'a mut u64,
}

impl BufRead for Data<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if *self.unread == 0 {
            return Ok(&[]);
        }
        let here = more(self.source)?;
        if here.is_empty() {
            return Err(truncated().into());
        }
        let most = usize::try_from(*self.unread).unwrap_or(usize::MAX);
        Ok(&here[..here.len().min(most)])
    }

    fn consume(&mut self, amount: usize) {
        let amount = (amount as u64).min(*self.unread);
        *self.unread -= amount;
        self.source.consume(amount as usize);
    }
}

impl Read for Data<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, into)
    }
}

#[cfg(test)]
mod tests;
