//! The members of a kept layer, in the order of its tar: a file of entries, from which the layer can be
//! applied to any root without its tar.
//!
//! An entry holds what [`Member`] holds, and a CRC-32 of a file's data, by which flash that forgets is found
//! out. (Not more than that: who can change a file of the store can change this record, too. What came over
//! the network was held against sha256 before.) It leaves out what the entry before it had, too: the
//! beginning of the path, owner and mode, time. So an entry takes some 25 bytes, where tar takes 512.
//!
//! ```text
//! magic · (length · entry)… · length · end · CRC-32 of all before
//! ```
//!
//! The end says how many entries, files, bytes of tar and bytes written there are ([`Totals`]). A file of members
//! without it belongs to a layer that is still on its way.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};

use super::archive::{Member, MemberKind, SEGMENTS_MAX, Segment, Time};
use super::codec::{Input, put_bytes, put_number, put_signed};
use crate::error::{Error, Kind, Result};

/// The file's name in the layer's directory.
pub(super) const NAME: &str = "members";
const MAGIC: &[u8] = b"edgepull members 1\n";
/// Entries are collected up to this many bytes before they are written.
const BUFFER: usize = 16 * 1024;
/// The longest entry, in bytes: paths, extended attributes and the map of a sparse file at their limits.
const ENTRY_MAX: usize = 2 * 1024 * 1024;
/// What a buffer keeps for the next entry.
const KEEP: usize = 8 * 1024;

/// The lowest three bits of an entry's first byte say what it is; these, what it has.
const SAME_OWNER: u8 = 0x08;
const SAME_TIME: u8 = 0x10;
const XATTRS: u8 = 0x20;
const SPARSE: u8 = 0x40;
/// Not a member, but the end.
const END: u8 = 7;

/// By number in the file.
const KINDS: [MemberKind; 7] = [
    MemberKind::File,
    MemberKind::Hardlink,
    MemberKind::Symlink,
    MemberKind::CharDevice,
    MemberKind::BlockDevice,
    MemberKind::Directory,
    MemberKind::Fifo,
];

/// What an entry may leave out, because the one before it said it.
#[derive(Default)]
struct Before {
    path: Vec<u8>,
    owner: Option<(u32, u32, u32)>,
    mtime: Option<Time>,
}

impl Before {
    fn remember(&mut self, member: &Member) {
        self.path.clear();
        self.path.extend_from_slice(&member.path);
        self.owner = Some(owner(member));
        self.mtime = Some(member.mtime);
    }
}

fn owner(member: &Member) -> (u32, u32, u32) {
    (member.mode, member.uid, member.gid)
}

/// What is at the end of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) entries: u64,
    pub(super) files: u64,
    pub(super) tar_bytes: u64,
    /// Bytes of data that were written, when it came: not those that an older file had.
    pub(super) written: u64,
}

/// Writes a file of members.
pub(super) struct Writer {
    file: File,
    buffer: Vec<u8>,
    entry: Vec<u8>,
    before: Before,
    /// Bytes in the file and in the buffer, and their CRC.
    length: u64,
    crc: crc32fast::Hasher,
}

impl Writer {
    /// Begins an empty file.
    pub(super) fn new(file: File) -> Writer {
        let mut writer = Writer::at(file, 0, 0);
        writer.append(MAGIC);
        writer
    }

    /// Goes on with a file whose first `length` bytes count. They are read again, and [`io::ErrorKind::InvalidData`]
    /// where they are others: everything would come, and nobody could read the record of it.
    pub(super) fn thaw(mut file: File, length: u64, crc: u32) -> io::Result<Writer> {
        file.set_len(length)?;
        file.rewind()?;
        let (mut is, mut buffer) = (crc32fast::Hasher::new(), vec![0; BUFFER]);
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => is.update(&buffer[..n]),
            }
        }
        match is.finalize() == crc {
            true => Ok(Writer::at(file, length, crc)),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn at(file: File, length: u64, crc: u32) -> Writer {
        let crc = crc32fast::Hasher::new_with_initial_len(crc, length);
        Writer {
            file,
            buffer: Vec::with_capacity(BUFFER),
            entry: Vec::new(),
            before: Before::default(),
            length,
            crc,
        }
    }

    /// Writes everything out. Returns the file's length and its CRC, for [`Writer::thaw`]. The next entry
    /// leaves nothing out, for whoever goes on from here knows nothing of the one before it.
    pub(super) fn freeze(&mut self) -> io::Result<(u64, u32)> {
        self.flush()?;
        self.before = Before::default();
        Ok((self.length, self.crc.clone().finalize()))
    }

    fn append(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.crc.update(bytes);
        self.length += bytes.len() as u64;
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER);
        Ok(())
    }

    /// Writes what is in `entry`, behind its length.
    fn write_entry(&mut self) -> io::Result<()> {
        let mut length = Vec::with_capacity(4);
        put_number(&mut length, self.entry.len() as u64);
        if self.buffer.len() + length.len() + self.entry.len() > BUFFER {
            self.flush()?;
        }
        self.append(&length);
        let entry = std::mem::take(&mut self.entry);
        self.append(&entry);
        self.entry = entry;
        self.entry.clear();
        self.entry.shrink_to(KEEP);
        Ok(())
    }

    /// Adds a member; `crc` is that of a file's data.
    pub(super) fn push(&mut self, member: &Member, crc: u32) -> io::Result<()> {
        encode(member, crc, &self.before, &mut self.entry);
        self.before.remember(member);
        self.write_entry()
    }

    /// Adds the end. Returns how long the file is, in bytes.
    pub(super) fn finish(mut self, totals: Totals) -> io::Result<u64> {
        self.entry.push(END);
        for number in [totals.entries, totals.files, totals.tar_bytes, totals.written] {
            put_number(&mut self.entry, number);
        }
        self.write_entry()?;
        let crc = self.crc.clone().finalize();
        self.append(&crc.to_le_bytes());
        self.flush()?;
        Ok(self.length)
    }
}

/// One member by itself: for a checkpoint in the middle of its data.
pub(super) fn encode_alone(member: &Member, out: &mut Vec<u8>) {
    encode(member, 0, &Before::default(), out);
}

/// The member that [`encode_alone`] wrote.
pub(super) fn decode_alone(bytes: &[u8]) -> Option<Member> {
    let mut member = Member::default();
    decode(bytes, &Before::default(), &mut member).map(|_| member)
}

fn encode(member: &Member, crc: u32, before: &Before, out: &mut Vec<u8>) {
    let kind = KINDS.iter().position(|kind| *kind == member.kind).unwrap_or_default() as u8;
    let same_owner = before.owner == Some(owner(member));
    let same_time = before.mtime == Some(member.mtime);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.push(
        kind | flag(same_owner, SAME_OWNER)
            | flag(same_time, SAME_TIME)
            | flag(!member.xattrs.is_empty(), XATTRS)
            | flag(member.sparse, SPARSE),
    );
    let shared = before.path.iter().zip(&member.path).take_while(|(one, other)| one == other).count();
    put_number(out, shared as u64);
    put_bytes(out, &member.path[shared..]);
    if !same_owner {
        for number in [member.mode, member.uid, member.gid] {
            put_number(out, number.into());
        }
    }
    if !same_time {
        put_signed(out, member.mtime.seconds);
        put_number(out, member.mtime.nanos.into());
    }
    match member.kind {
        MemberKind::File => {
            put_number(out, member.size);
            out.extend_from_slice(&crc.to_le_bytes());
        }
        MemberKind::Hardlink | MemberKind::Symlink => put_bytes(out, &member.link),
        MemberKind::CharDevice | MemberKind::BlockDevice => {
            put_number(out, member.device.0.into());
            put_number(out, member.device.1.into());
        }
        MemberKind::Directory | MemberKind::Fifo => {}
    }
    if !member.xattrs.is_empty() {
        put_number(out, member.xattrs.iter().count() as u64);
        for (name, value) in member.xattrs.iter() {
            put_bytes(out, name.to_bytes());
            put_bytes(out, value);
        }
    }
    if member.sparse {
        put_number(out, member.segments.len() as u64);
        let mut end = 0;
        for segment in &member.segments {
            put_number(out, segment.offset - end);
            put_number(out, segment.length);
            end = segment.offset + segment.length;
        }
    }
}

/// Fills `member` from an entry; returns the CRC of a file's data.
fn decode(entry: &[u8], before: &Before, member: &mut Member) -> Option<u32> {
    let mut input = Input(entry);
    let first = input.byte()?;
    member.reset();
    member.kind = *KINDS.get(usize::from(first & 7))?;
    let shared = before.path.get(..input.small()?)?;
    member.path.extend_from_slice(shared);
    member.path.extend_from_slice(input.bytes()?);
    (member.mode, member.uid, member.gid) = match first & SAME_OWNER {
        0 => (input.small()?, input.small()?, input.small()?),
        _ => before.owner?,
    };
    member.mtime = match first & SAME_TIME {
        0 => Time { seconds: input.signed()?, nanos: input.small()? },
        _ => before.mtime?,
    };
    (member.size, member.device) = (0, (0, 0));
    let mut crc = 0;
    match member.kind {
        MemberKind::File => {
            member.size = input.number()?;
            crc = u32::from_le_bytes(input.array()?);
        }
        MemberKind::Hardlink | MemberKind::Symlink => member.link.extend_from_slice(input.bytes()?),
        MemberKind::CharDevice | MemberKind::BlockDevice => member.device = (input.small()?, input.small()?),
        MemberKind::Directory | MemberKind::Fifo => {}
    }
    if first & XATTRS != 0 {
        for _ in 0..input.number()? {
            let name = CString::new(input.bytes()?).ok()?;
            member.xattrs.push(&name, input.bytes()?);
        }
    }
    member.sparse = first & SPARSE != 0;
    if member.sparse {
        let (count, mut end) = (input.small::<usize>().filter(|count| *count <= SEGMENTS_MAX)?, 0u64);
        for _ in 0..count {
            let offset = end.checked_add(input.number()?)?;
            let length = input.number()?;
            end = offset.checked_add(length).filter(|end| *end <= member.size)?;
            member.segments.push(Segment { offset, length });
        }
    }
    input.0.is_empty().then_some(crc)
}

/// Reads a whole file of members.
pub(super) struct Reader {
    file: BufReader<File>,
    entry: Vec<u8>,
    before: Before,
}

impl Reader {
    /// Reads the file once from end to end: whether it is whole. Returns it at its first entry, and what its
    /// end says. `Ok(None)` for a file without an end, or a damaged one.
    pub(super) fn open(file: File) -> Result<Option<(Reader, Totals)>> {
        let mut reader = Reader { file: BufReader::new(file), entry: Vec::new(), before: Before::default() };
        let whole = reader.check().map_err(failed)?;
        reader.file.seek(SeekFrom::Start(MAGIC.len() as u64)).map_err(failed)?;
        Ok(whole.map(|totals| (reader, totals)))
    }

    fn check(&mut self) -> io::Result<Option<Totals>> {
        let mut crc = crc32fast::Hasher::new();
        let mut magic = [0; MAGIC.len()];
        if !self.exactly(&mut magic)? || magic != MAGIC {
            return Ok(None);
        }
        crc.update(&magic);
        loop {
            if !self.read_entry()? {
                return Ok(None);
            }
            let mut length = Vec::with_capacity(4);
            put_number(&mut length, self.entry.len() as u64);
            crc.update(&length);
            crc.update(&self.entry);
            if self.entry.first() == Some(&END) {
                break;
            }
        }
        let mut should = [0; 4];
        let whole = self.exactly(&mut should)?
            && self.file.fill_buf()?.is_empty()
            && u32::from_le_bytes(should) == crc.finalize();
        let mut input = Input(&self.entry[1..]);
        let mut totals = || {
            Some(Totals {
                entries: input.number()?,
                files: input.number()?,
                tar_bytes: input.number()?,
                written: input.number()?,
            })
        };
        Ok(totals().filter(|_| whole))
    }

    fn exactly(&mut self, into: &mut [u8]) -> io::Result<bool> {
        match self.file.read_exact(into) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads the next entry; `false` where there is none, or nothing that can be one.
    fn read_entry(&mut self) -> io::Result<bool> {
        let mut length = Vec::with_capacity(4);
        while length.last().is_none_or(|byte| *byte >= 0x80) {
            let mut byte = [0];
            if length.len() == 10 || !self.exactly(&mut byte)? {
                return Ok(false);
            }
            length.push(byte[0]);
        }
        let Some(length) = Input(&length).small::<usize>().filter(|n| (1..=ENTRY_MAX).contains(n)) else {
            return Ok(false);
        };
        self.entry.clear();
        self.entry.shrink_to(KEEP);
        self.entry.resize(length, 0);
        let mut entry = std::mem::take(&mut self.entry);
        let read = self.exactly(&mut entry);
        self.entry = entry;
        read
    }

    /// Fills `member` with the next one, and returns the CRC of its data; `None` at the end.
    pub(super) fn next(&mut self, member: &mut Member) -> Result<Option<u32>> {
        let damaged = || Error::new(Kind::Disk, "the record of a kept layer is damaged");
        if !self.read_entry().map_err(failed)? {
            return Err(damaged());
        }
        if self.entry.first() == Some(&END) {
            return Ok(None);
        }
        let crc = decode(&self.entry, &self.before, member).ok_or_else(damaged)?;
        self.before.remember(member);
        Ok(Some(crc))
    }
}

fn failed(error: io::Error) -> Error {
    Error::disk("the record of a kept layer", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Vec<Member> {
        let mut file = Member { path: b"usr/lib/one".to_vec(), mode: 0o644, size: 5, ..Member::default() };
        file.mtime = Time { seconds: 1_600_000_000, nanos: 7 };
        file.xattrs.push(c"security.capability", b"\x01\0\x02");
        let link = |kind, path: &[u8], link: &str| Member {
            kind,
            path: path.to_vec(),
            link: link.into(),
            mtime: Time { seconds: -1, nanos: 0 },
            ..Member::default()
        };
        let device = Member {
            kind: MemberKind::CharDevice,
            path: b"dev/null".to_vec(),
            device: (1, 3),
            uid: u32::MAX - 1,
            ..Member::default()
        };
        let sparse = Member {
            path: b"usr/lib/sparse".to_vec(),
            size: 1 << 40,
            sparse: true,
            segments: vec![Segment { offset: 0, length: 0 }, Segment { offset: 1 << 39, length: 512 }],
            ..Member::default()
        };
        let directory = Member { kind: MemberKind::Directory, path: b"".to_vec(), ..Member::default() };
        vec![
            file,
            link(MemberKind::Hardlink, b"usr/lib/two", "usr/lib/one"),
            link(MemberKind::Symlink, b"usr/lib/\xff", &"x".repeat(300)),
            device,
            sparse,
            directory,
        ]
    }

    fn all(reader: &mut Reader) -> Vec<String> {
        let mut shown = Vec::new();
        let mut member = Member::default();
        while let Some(crc) = reader.next(&mut member).unwrap() {
            shown.push(format!("{member:?} {crc}"));
        }
        shown
    }

    fn write(frozen_after: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = Writer::new(file.try_clone().unwrap());
        let all = members();
        for (at, member) in all.iter().enumerate() {
            if at == frozen_after {
                let (length, crc) = writer.freeze().unwrap();
                // What was written after the freeze and then lost.
                writer.push(&all[0], 99).unwrap();
                writer.freeze().unwrap();
                writer = Writer::thaw(file.try_clone().unwrap(), length, crc).unwrap();
            }
            writer.push(member, at as u32).unwrap();
        }
        writer.finish(Totals { entries: 6, files: 2, tar_bytes: 12_345, written: 1000 }).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn what_is_written_is_read_also_after_an_interruption_anywhere() {
        let crc = |at, member: &Member| if member.kind == MemberKind::File { at } else { 0 };
        let all_members = members();
        let numbered = all_members.iter().enumerate();
        let should: Vec<_> = numbered.map(|(at, member)| format!("{member:?} {}", crc(at, member))).collect();
        for frozen_after in 0..=6 {
            let (mut reader, totals) = Reader::open(write(frozen_after)).unwrap().unwrap();
            assert_eq!(totals, Totals { entries: 6, files: 2, tar_bytes: 12_345, written: 1000 });
            assert!(all(&mut reader) == should, "frozen after {frozen_after}");
        }
    }

    #[test]
    fn every_truncation_and_every_changed_byte_is_noticed() {
        let mut bytes = Vec::new();
        write(9).read_to_end(&mut bytes).unwrap();
        let whole = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file.rewind().unwrap();
            Reader::open(file).unwrap().is_some()
        };
        assert!(whole(&bytes));
        for at in 0..bytes.len() {
            assert!(!whole(&bytes[..at]), "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(!whole(&changed), "changed at {at}");
        }
        bytes.push(0);
        assert!(!whole(&bytes), "longer");
    }

    #[test]
    fn a_record_that_was_damaged_before_the_interruption_is_not_gone_on_with() {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = Writer::new(file.try_clone().unwrap());
        members().iter().for_each(|member| writer.push(member, 1).unwrap());
        let (length, crc) = writer.freeze().unwrap();
        file.seek(SeekFrom::Start(length - 3)).unwrap();
        file.write_all(b"?").unwrap();
        let thawed = Writer::thaw(file.try_clone().unwrap(), length, crc);
        assert_eq!(thawed.err().unwrap().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_member_alone_is_the_same() {
        for member in members() {
            let mut bytes = Vec::new();
            encode_alone(&member, &mut bytes);
            assert_eq!(format!("{:?}", decode_alone(&bytes).unwrap()), format!("{member:?}"));
            for end in 0..bytes.len() {
                assert!(decode_alone(&bytes[..end]).is_none());
            }
        }
    }
}
