//! Layers whose headers are right and whose content is not: names from a small alphabet, so that members meet each
//! other, links to everywhere, whiteouts, devices, sparse files, PAX records.

use std::io::{self, Cursor, Read};

use arbitrary::Arbitrary;
use edgepull::error::{Error, Kind};
use edgepull::layer::{Compression, Layer, Observer};
use sha2::{Digest, Sha256};

use crate::UpTo;

/// What the members of a layer are called, and what links point at.
const NAMES: [&str; 16] = [
    "a",
    "b",
    "sub",
    "a",
    "b",
    "sub",
    "link",
    "..",
    "..",
    ".",
    "",
    ".wh.a",
    ".wh.sub",
    ".wh..wh..opq",
    "a\x01",
    "c",
];
/// What is refused, and ends the layer; so there is little of it.
const REFUSED: [&str; 4] = [".wh.", ".wh..", ".wh.link/x", "\u{fffd}"];
/// How many names a path has: mostly one or two.
const COUNTS: [usize; 8] = [1, 1, 2, 2, 1, 3, 2, 4];
/// Where paths and links begin. `VICTIM` stands for the directory that must not be touched.
const LONG: [&str; 4] = ["/", "VICTIM", "/proc/self/root", "../victim"];

/// A path: some names, or one of the others before them.
#[derive(Debug, Clone, Arbitrary)]
pub struct Name {
    first: u8,
    parts: [u8; 4],
    slash: bool,
}

impl Name {
    fn text(&self, victim: &str) -> String {
        let long = LONG[usize::from(self.first >> 2) % LONG.len()];
        let mut text = match (self.first % 4, long) {
            (0, "VICTIM") => format!("{victim}/"),
            (0, long) => format!("{long}/"),
            _ => String::new(),
        };
        let count = COUNTS[usize::from(self.first >> 4) % COUNTS.len()];
        let parts: Vec<_> = self.parts[..count].iter().map(|part| name(*part, self.first)).collect();
        text.push_str(&parts.join("/"));
        if self.slash {
            text.push('/');
        }
        text
    }
}

fn name(part: u8, other: u8) -> &'static str {
    match part {
        255 => REFUSED[usize::from(other) % REFUSED.len()],
        part => NAMES[usize::from(part) % NAMES.len()],
    }
}

/// A member.
#[derive(Debug, Clone, Arbitrary)]
pub struct Member {
    kind: u8,
    path: Name,
    link: Name,
    mode: u16,
    owner: u8,
    mtime: i16,
    data: u16,
    fill: u8,
    pax: Option<Pax>,
    /// The path goes into a GNU long name, whatever its length.
    long: bool,
}

/// Records before a member.
#[derive(Debug, Clone, Arbitrary)]
pub enum Pax {
    /// Another path.
    Path(Name),
    /// Another link's target.
    Link(Name),
    /// An extended attribute.
    Xattr(u8, [u8; 8]),
    /// A time with a fraction.
    Time(i32, u16),
    /// Another size.
    Size(u16),
    /// A sparse file: its holes and what is between them, and its size or how long the last hole is.
    Sparse(Vec<(u8, u8)>, u16),
    /// Owners.
    Owner(u32, u32),
}

const XATTRS: [&str; 6] = [
    "user.x",
    "security.capability",
    "trusted.overlay.opaque",
    "trusted.overlay.redirect",
    "system.posix_acl_access",
    "",
];

/// The most members of a layer: enough for any two or three to meet.
const MEMBERS_MAX: usize = 24;

/// A layer.
#[derive(Debug, Clone, Arbitrary)]
pub struct Tar {
    members: UpTo<Member, MEMBERS_MAX>,
}

impl Tar {
    /// Its bytes; links to `VICTIM` go to `victim`.
    pub fn bytes(&self, victim: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for member in &self.members.0 {
            member.write(victim, &mut out);
        }
        out.resize(out.len() + 1024, 0);
        out
    }
}

impl Member {
    fn write(&self, victim: &str, out: &mut Vec<u8>) {
        let kinds =
            [b'0', b'5', b'2', b'1', b'5', b'0', b'2', b'6', b'3', b'4', b'7', 0, b'0', b'2', b'0', b'2'];
        let kind = kinds[usize::from(self.kind) % kinds.len()];
        let mut data = vec![self.fill; usize::from(self.data) % 3000];
        if let Some(pax) = &self.pax {
            pax.write(victim, &mut data, out);
        }
        let (mut path, link) = (self.path.text(victim), self.link.text(victim));
        // Only a directory can be the root.
        let ends_above = path.rsplit('/').next().is_some_and(|last| matches!(last, "" | "." | ".."));
        if kind != b'5' && ends_above && self.kind < 250 {
            path.push_str("/a");
        }
        if self.long {
            header(b'L', "././@LongLink", "", 0, path.len() + 1, out);
            out.extend_from_slice(path.as_bytes());
            pad(out, 1);
        }
        let at = out.len();
        header(kind, &path, &link, self.mode, data.len(), out);
        let block = &mut out[at..at + 512];
        octal(&mut block[108..116], u64::from(self.owner % 3));
        octal(&mut block[116..124], u64::from(self.owner % 5));
        octal(&mut block[136..148], self.mtime.unsigned_abs().into());
        octal(&mut block[329..337], 1);
        octal(&mut block[337..345], 3);
        checksum(block);
        if matches!(kind, b'0' | b'7') || kind == 0 && !path.ends_with('/') {
            out.extend_from_slice(&data);
            pad(out, 0);
        }
    }
}

impl Pax {
    fn write(&self, victim: &str, data: &mut Vec<u8>, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        match self {
            Pax::Path(name) => record("path", name.text(victim).as_bytes(), &mut body),
            Pax::Link(name) => record("linkpath", name.text(victim).as_bytes(), &mut body),
            Pax::Xattr(which, value) => {
                let name = XATTRS.get(usize::from(*which)).unwrap_or(&"user.y");
                // A capability as the kernel wants it: version 2, without the effective bit.
                let value = match *name {
                    "security.capability" => &[&[0, 0, 0, 2], &value[..], &[0; 8]].concat()[..],
                    _ => value,
                };
                record(&format!("SCHILY.xattr.{name}"), value, &mut body);
            }
            Pax::Time(seconds, nanos) => {
                record("mtime", format!("{seconds}.{nanos}").as_bytes(), &mut body);
            }
            Pax::Size(size) => {
                record("size", size.to_string().as_bytes(), &mut body);
                // Else everything behind it is read at other places.
                if size % 16 != 0 {
                    data.resize(usize::from(*size), b'p');
                }
            }
            Pax::Owner(uid, gid) => {
                record("uid", (uid % 100_000).to_string().as_bytes(), &mut body);
                record("gid", (gid % 100_000).to_string().as_bytes(), &mut body);
            }
            Pax::Sparse(segments, size) => {
                let (mut map, mut total, mut end) = (String::new(), 0, 0);
                let segments = &segments[..segments.len().min(12)];
                for (hole, length) in segments {
                    let length = usize::from(*length) * 16;
                    // One in 256 begins before the end of the one before.
                    let offset = if *hole < 255 { end + usize::from(*hole) } else { end / 2 };
                    map.push_str(&format!("{offset}\n{length}\n"));
                    (total, end) = (total + length, offset + length);
                }
                let size = if size % 64 == 0 { usize::from(*size) } else { end + usize::from(*size) };
                let mut front = format!("{}\n{map}", segments.len()).into_bytes();
                pad(&mut front, 0);
                data.resize(total, b's');
                data.splice(0..0, front);
                record("GNU.sparse.major", b"1", &mut body);
                record("GNU.sparse.minor", b"0", &mut body);
                record("GNU.sparse.name", b"sparse", &mut body);
                record("GNU.sparse.realsize", size.to_string().as_bytes(), &mut body);
            }
        }
        header(b'x', "pax", "", 0, body.len(), out);
        out.extend_from_slice(&body);
        pad(out, 0);
    }
}

/// `length key=value\n`, where the length counts itself.
fn record(key: &str, value: &[u8], out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let digits = (1..).find(|digits| (rest + digits).to_string().len() == *digits).expect("some number");
    out.extend_from_slice(format!("{} {key}=", rest + digits).as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn pad(out: &mut Vec<u8>, least: usize) {
    out.resize((out.len() + least).next_multiple_of(512), 0);
}

fn octal(field: &mut [u8], number: u64) {
    let width = field.len() - 1;
    field[..width].copy_from_slice(format!("{number:0width$o}").as_bytes());
}

fn header(kind: u8, path: &str, link: &str, mode: u16, size: usize, out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + 512, 0);
    let block = &mut out[at..];
    let (path, link) = (&path.as_bytes()[..path.len().min(100)], &link.as_bytes()[..link.len().min(100)]);
    block[..path.len()].copy_from_slice(path);
    block[157..157 + link.len()].copy_from_slice(link);
    octal(&mut block[100..108], u64::from(mode & 0o7777));
    octal(&mut block[108..116], 0);
    octal(&mut block[116..124], 0);
    octal(&mut block[124..136], size as u64);
    octal(&mut block[136..148], 0);
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar  \0");
    checksum(block);
}

fn checksum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
    block[154] = 0;
}

/// Makes the checksum of every block right that looks like a header: no mutation comes by it otherwise.
pub fn repair(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            checksum(block);
        }
    }
}

/// What a descriptor and a config say about `wire` with `tar` in it.
pub fn promise(wire: &[u8], tar: &[u8]) -> Layer<'static> {
    Layer {
        compression: Compression::None,
        wire_digest: Sha256::digest(wire).into(),
        wire_size: wire.len() as u64,
        diff_id: Sha256::digest(tar).into(),
        name: "layer",
    }
}

/// A wire that gives little at a time, so that there are places for checkpoints, and breaks after so many bytes.
pub struct Breaking(pub Cursor<Vec<u8>>, pub usize);

impl Read for Breaking {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let room = into.len().min(self.1).min(512);
        if room == 0 && !into.is_empty() {
            return Err(Error::new(Kind::Network, "cut").into());
        }
        let read = self.0.read(&mut into[..room])?;
        self.1 -= read;
        Ok(read)
    }
}

/// Hears nothing.
pub struct Silent;
impl Observer for Silent {}
