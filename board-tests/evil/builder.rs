//! Layers byte by byte: every header field can be wrong, every order strange, and what no tar writer would write is
//! written here. Knows the formats (POSIX.1-1988 ustar, POSIX.1-2001 pax, GNU tar's own), and none of their rules.

use std::io::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{Scratch, digest_of};

const BLOCK: usize = 512;

/// A header: 512 bytes, and where the fields are in them.
#[derive(Clone)]
pub struct Head {
    block: [u8; BLOCK],
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Head {
    /// A sound ustar header of type `kind`. A name beyond 100 bytes goes into a GNU long name.
    pub fn new(kind: u8, name: impl AsRef<[u8]>) -> Head {
        let mut head = Head { block: [0; BLOCK], long_name: None, long_link: None };
        head.block[156] = kind;
        head.block[257..265].copy_from_slice(b"ustar\x0000");
        let name = name.as_ref();
        match name.len() {
            0..=100 => head.block[..name.len()].copy_from_slice(name),
            _ => head.long_name = Some(name.to_vec()),
        }
        head.octal(100, 8, 0o644).octal(108, 8, 0).octal(116, 8, 0).octal(136, 12, 1_600_000_000).size(0)
    }

    /// Any bytes anywhere.
    pub fn put(mut self, at: usize, bytes: &[u8]) -> Head {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn octal(self, at: usize, width: usize, number: u64) -> Head {
        let digits = format!("{number:0width$o}\0", width = width - 1);
        self.put(at, digits.as_bytes())
    }

    /// GNU's base-256 form of a number, negative ones too.
    fn base256(self, at: usize, width: usize, number: i128) -> Head {
        let mut bytes = number.to_be_bytes()[16 - width..].to_vec();
        bytes[0] = if number < 0 { 0xff } else { bytes[0] | 0x80 };
        self.put(at, &bytes)
    }

    pub fn size(self, size: u64) -> Head {
        self.octal(124, 12, size)
    }

    pub fn size256(self, size: i128) -> Head {
        self.base256(124, 12, size)
    }

    pub fn mtime256(self, seconds: i128) -> Head {
        self.base256(136, 12, seconds)
    }

    pub fn mode(self, mode: u64) -> Head {
        self.octal(100, 8, mode)
    }

    pub fn mode256(self, mode: i128) -> Head {
        self.base256(100, 8, mode)
    }

    pub fn owner(self, user: u64, group: u64) -> Head {
        self.octal(108, 8, user).octal(116, 8, group)
    }

    pub fn owner256(self, user: i128, group: i128) -> Head {
        self.base256(108, 8, user).base256(116, 8, group)
    }

    pub fn device(self, major: u64, minor: u64) -> Head {
        self.octal(329, 8, major).octal(337, 8, minor)
    }

    pub fn device256(self, major: i128, minor: i128) -> Head {
        self.base256(329, 8, major).base256(337, 8, minor)
    }

    /// Where a link leads; beyond 100 bytes in a GNU long link.
    pub fn link(mut self, target: impl AsRef<[u8]>) -> Head {
        let target = target.as_ref();
        match target.len() {
            0..=100 => self.put(157, target),
            _ => {
                self.long_link = Some(target.to_vec());
                self
            }
        }
    }

    /// With a right checksum: the sum of unsigned bytes.
    pub fn summed(self) -> Head {
        let sum: u64 = self.with_blank_sum().iter().map(|byte| u64::from(*byte)).sum();
        self.octal(148, 8, sum)
    }

    /// With the sum of signed bytes, as old writers have it.
    pub fn summed_signed(self) -> Head {
        let sum: i64 = self.with_blank_sum().iter().map(|byte| i64::from(*byte as i8)).sum();
        self.octal(148, 8, sum as u64)
    }

    fn with_blank_sum(&self) -> [u8; BLOCK] {
        let mut block = self.block;
        block[148..156].fill(b' ');
        block
    }
}

/// A PAX record: `LENGTH KEY=VALUE\n`.
pub fn record(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    let (key, value) = (key.as_ref(), value.as_ref());
    let rest = key.len() + value.len() + 3;
    let length = (rest + 1..).find(|length| length - length.to_string().len() == rest).expect("a length");
    [format!("{length} ").as_bytes(), key, b"=", value, b"\n"].concat()
}

/// An archive in the making.
#[derive(Clone, Default)]
pub struct Tar(Vec<u8>);

pub fn tar() -> Tar {
    Tar::default()
}

impl Tar {
    /// Any bytes, as they are.
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Tar {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    /// A header as it is, its checksum too; then `data`, filled up to a block.
    pub fn verbatim(mut self, head: Head, data: impl AsRef<[u8]>) -> Tar {
        self = match head.long_name {
            Some(ref name) => self.gnu(b'L', name),
            None => self,
        };
        self = match head.long_link {
            Some(ref link) => self.gnu(b'K', link),
            None => self,
        };
        self = self.raw(head.block).raw(data);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// A header that gets its checksum, whatever its size says; then `data`.
    pub fn add(self, head: Head, data: impl AsRef<[u8]>) -> Tar {
        self.verbatim(head.summed(), data)
    }

    pub fn file(self, name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Tar {
        let data = data.as_ref();
        self.add(Head::new(b'0', name).size(data.len() as u64), data)
    }

    pub fn dir(self, name: impl AsRef<[u8]>) -> Tar {
        self.add(Head::new(b'5', name).mode(0o755), b"")
    }

    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Tar {
        self.add(Head::new(b'2', name).mode(0o777).link(target), b"")
    }

    pub fn hardlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Tar {
        self.add(Head::new(b'1', name).link(target), b"")
    }

    /// A PAX header of any bytes for the next member.
    pub fn pax_bytes(self, bytes: impl AsRef<[u8]>) -> Tar {
        let bytes = bytes.as_ref();
        self.add(Head::new(b'x', "pax").size(bytes.len() as u64), bytes)
    }

    /// A PAX header of records.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let bytes: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.pax_bytes(bytes)
    }

    /// A global PAX header.
    pub fn global(self, records: &[(&str, &[u8])]) -> Tar {
        let bytes: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.add(Head::new(b'g', "global").size(bytes.len() as u64), bytes)
    }

    /// GNU's long name (`L`) or long link (`K`), its NUL included.
    pub fn gnu(self, kind: u8, text: impl AsRef<[u8]>) -> Tar {
        let text = [text.as_ref(), b"\0"].concat();
        self.add(Head::new(kind, "././@LongLink").size(text.len() as u64), text)
    }

    /// With its end: two blocks of zeros.
    pub fn end(self) -> Vec<u8> {
        self.raw([0; 2 * BLOCK]).0
    }

    /// Without it.
    pub fn unended(self) -> Vec<u8> {
        self.0
    }
}

/// One gzip member (RFC 1952) of `data`.
pub fn gzipped(data: &[u8]) -> Vec<u8> {
    gzip_member(0, b"", data)
}

/// One with `flags`, and `fields` behind the fixed part of its header.
pub fn gzip_member(flags: u8, fields: &[u8], data: &[u8]) -> Vec<u8> {
    let head = [0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3];
    let body = miniz_oxide::deflate::compress_to_vec(data, 6);
    let tail = [crc32fast::hash(data).to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
    [&head[..], fields, &body, &tail].concat()
}

/// A zstd frame (RFC 8878) of raw blocks: `window` is the frame header's window descriptor.
pub fn zstd_frame(window: u8, blocks: &[&[u8]]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, window];
    for (at, block) in blocks.iter().enumerate() {
        let last = u32::from(at + 1 == blocks.len());
        frame.extend_from_slice(&(((block.len() as u32) << 3) | last).to_le_bytes()[..3]);
        frame.extend_from_slice(block);
    }
    frame
}

/// The window descriptor of 128 KiB: as much as one block may hold.
pub const WINDOW_128K: u8 = 7 << 3;

/// A zstd frame of raw blocks that holds `data`.
pub fn zstandard(data: &[u8]) -> Vec<u8> {
    let mut blocks: Vec<&[u8]> = data.chunks(128 << 10).collect();
    if blocks.is_empty() {
        blocks.push(b"");
    }
    zstd_frame(WINDOW_128K, &blocks)
}

/// A skippable zstd frame.
pub fn skippable(size: u32, data: &[u8]) -> Vec<u8> {
    [&0x184d_2a53u32.to_le_bytes()[..], &size.to_le_bytes(), data].concat()
}

/// A layer as it is stored, and what its config says of it.
#[derive(Clone)]
pub struct Wire {
    pub bytes: Vec<u8>,
    pub diff_id: String,
    pub media_type: String,
}

impl Wire {
    /// `bytes` on the wire that unpack to `tar`.
    pub fn of(bytes: Vec<u8>, tar: &[u8]) -> Wire {
        let media_type = match bytes[..] {
            [0x1f, 0x8b, ..] => "application/vnd.oci.image.layer.v1.tar+gzip",
            [0x28, 0xb5, ..] | [0x53, 0x2a, ..] => "application/vnd.oci.image.layer.v1.tar+zstd",
            _ => "application/vnd.oci.image.layer.v1.tar",
        };
        Wire { bytes, diff_id: digest_of(tar), media_type: media_type.into() }
    }
}

impl From<Tar> for Wire {
    /// Uncompressed, with its end.
    fn from(tar: Tar) -> Wire {
        Wire::from(tar.end())
    }
}

impl From<Vec<u8>> for Wire {
    fn from(tar: Vec<u8>) -> Wire {
        Wire::of(tar.clone(), &tar)
    }
}

/// An image of hostile layers: an index.json over a manifest over config and layers, all with right digests and
/// sizes until somebody changes them.
#[derive(Clone)]
pub struct EvilImage {
    pub layers: Vec<Wire>,
    pub config: Value,
}

impl EvilImage {
    pub fn new(layers: impl IntoIterator<Item = impl Into<Wire>>) -> EvilImage {
        let layers: Vec<Wire> = layers.into_iter().map(Into::into).collect();
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "os": "linux", "architecture": "arm", "variant": "v7", "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        EvilImage { layers, config }
    }

    /// The manifest that goes with layers and config.
    pub fn manifest(&self) -> Value {
        let layer = |wire: &Wire| descriptor(&wire.media_type, &wire.bytes);
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", self.config.to_string().as_bytes()),
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(),
        })
    }

    /// Writes it as a layout; gives its name for the command line.
    pub fn layout(&self, scratch: &Scratch, folder: &str) -> String {
        self.blobs(scratch, folder);
        let manifest = self.manifest().to_string();
        let top = blob(scratch, folder, "application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
        index_json(scratch, folder, &json!({ "schemaVersion": 2, "manifests": [top] }).to_string());
        format!("oci:{}", scratch.at(folder))
    }

    /// Writes its config and layers only.
    pub fn blobs(&self, scratch: &Scratch, folder: &str) {
        for layer in &self.layers {
            blob(scratch, folder, &layer.media_type, &layer.bytes);
        }
        blob(scratch, folder, "", self.config.to_string().as_bytes());
    }
}

/// What points at `bytes`.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest_of(bytes), "size": bytes.len() })
}

/// Puts a blob into a layout; gives its descriptor.
pub fn blob(scratch: &Scratch, folder: &str, media_type: &str, bytes: &[u8]) -> Value {
    scratch.write(&format!("{folder}/blobs/{}", digest_of(bytes).replace(':', "/")), bytes);
    descriptor(media_type, bytes)
}

/// Writes a layout's topmost file, whatever is in it.
pub fn index_json(scratch: &Scratch, folder: &str, text: &str) {
    scratch.write(&format!("{folder}/index.json"), text);
    scratch.write(&format!("{folder}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
}

/// A layer too large for this process's memory: `fill` writes the tar, which is compressed and hashed as it comes.
pub fn streamed(scratch: &Scratch, name: &str, level: u8, fill: impl FnOnce(&mut dyn Write)) -> Wire {
    struct Tee<W>(W, Sha256);
    impl<W: Write> Write for Tee<W> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let n = self.0.write(bytes)?;
            self.1.update(&bytes[..n]);
            Ok(n)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0.flush()
        }
    }
    let path = scratch.write(name, "");
    let file = std::fs::File::create(&path).expect("a file");
    let mut gzip = std::process::Command::new("gzip")
        .args(["-nc", &format!("-{level}")])
        .stdin(std::process::Stdio::piped())
        .stdout(file)
        .spawn()
        .expect("gzip");
    let mut tee = Tee(std::io::BufWriter::new(gzip.stdin.take().expect("a pipe")), Sha256::new());
    fill(&mut tee);
    tee.flush().expect("a filter that reads");
    let Tee(pipe, hash) = tee;
    drop(pipe);
    assert!(gzip.wait().expect("gzip").success());
    let diff_id: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let bytes = std::fs::read(&path).expect("what gzip wrote");
    Wire { diff_id: format!("sha256:{diff_id}"), ..Wire::of(bytes, b"") }
}
