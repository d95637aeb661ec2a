//! Compressed bytes to tar bytes: gzip, zstd, or as they are.
//!
//! Each decoder is a `BufRead` over a `BufRead` and hands out slices of its own window, so that the
//! bytes of a file go from the window to `write(2)` without another copy.

mod gzip;
mod zstd;

use std::io::{self, BufRead, Read};
use std::os::fd::OwnedFd;

pub(crate) use gzip::GzipDecoder;
pub(crate) use zstd::ZstdDecoder;

use super::Compression;
use super::codec::Input;
use super::queue::read_buffered;
use crate::error::{Error, Kind};

/// One of the decoders.
pub(crate) enum Decoder<W> {
    /// The bytes as they are.
    None(W),
    /// RFC 1952.
    Gzip(GzipDecoder<W>),
    /// RFC 8878.
    Zstd(Box<ZstdDecoder<W>>),
    /// Another one, of this name, which containers/image reads and edgepull does not.
    Unknown(W, &'static str),
}

/// The most of a stream's beginning that tells what it is, in bytes: bzip2's, as others are told by four.
pub(crate) const BEGINNING: usize = 10;

impl<W: BufRead> Decoder<W> {
    /// A decoder for what `wire` really carries. Registries do hold layers whose media type is wrong;
    /// like containerd and umoci, the magic number decides, and `declared` only where there is none.
    /// `start` is how the wire begins: [`BEGINNING`] bytes, or all there are. In the directory `scratch` there may be files
    /// without names.
    pub(crate) fn new(
        wire: W,
        start: &[u8],
        declared: Compression,
        name: &str,
        scratch: OwnedFd,
    ) -> Decoder<W> {
        if let Some(unknown) = unknown(start) {
            return Decoder::Unknown(wire, unknown);
        }
        let found = sniff(start);
        if found != declared {
            log::debug!("{name}: declared as {declared:?}, but it is {found:?}");
        }
        match found {
            Compression::None => Decoder::None(wire),
            Compression::Gzip => Decoder::Gzip(GzipDecoder::new(wire)),
            Compression::Zstd => Decoder::Zstd(Box::new(ZstdDecoder::new(wire, scratch))),
        }
    }

    /// What the decoder reads from.
    pub(crate) fn wire(&self) -> &W {
        match self {
            Decoder::None(wire) | Decoder::Unknown(wire, _) => wire,
            Decoder::Gzip(gzip) => gzip.wire(),
            Decoder::Zstd(zstd) => zstd.wire(),
        }
    }

    /// Whether to hand out bytes at each place where the decoder can be frozen, even if there could be more.
    pub(crate) fn stop_at_boundaries(&mut self, stop: bool) {
        if let Decoder::Gzip(gzip) = self {
            gzip.stop_at_boundaries(stop);
        }
    }

    /// Whether it can be frozen after the bytes that it has handed out last: gzip between two blocks, zstd between two
    /// frames. Within a frame its window would have to be kept, too, up to 8 MiB.
    pub(crate) fn can_freeze(&self) -> bool {
        match self {
            Decoder::None(_) => true,
            Decoder::Unknown(..) => false,
            Decoder::Gzip(gzip) => gzip.can_freeze(),
            Decoder::Zstd(zstd) => zstd.can_freeze(),
        }
    }

    /// Writes down what [`FrozenDecoder`] needs, the bytes that were not consumed included.
    pub(crate) fn freeze(&self, out: &mut Vec<u8>) {
        match self {
            // Nothing is read by the latter, and it begins with the wire.
            Decoder::None(_) | Decoder::Unknown(..) => out.push(NONE),
            Decoder::Gzip(gzip) => {
                out.push(GZIP);
                gzip.freeze(out);
            }
            Decoder::Zstd(zstd) => {
                out.push(ZSTD);
                zstd.freeze(out);
            }
        }
    }

    /// What the decoder reads from.
    pub(crate) fn into_wire(self) -> W {
        match self {
            Decoder::None(wire) | Decoder::Unknown(wire, _) => wire,
            Decoder::Gzip(gzip) => gzip.into_wire(),
            Decoder::Zstd(zstd) => zstd.into_wire(),
        }
    }
}

/// Which decoder a checkpoint is of.
const NONE: u8 = 0;
const GZIP: u8 = 1;
const ZSTD: u8 = 2;

/// A decoder from a checkpoint, whose wire is yet to come.
pub(crate) enum FrozenDecoder {
    None,
    Gzip(gzip::Frozen),
    Zstd(zstd::Frozen),
}

impl FrozenDecoder {
    /// What [`Decoder::freeze`] wrote.
    pub(crate) fn thaw(input: &mut Input<'_>) -> Option<FrozenDecoder> {
        match input.byte()? {
            NONE => Some(FrozenDecoder::None),
            GZIP => gzip::Frozen::thaw(input).map(FrozenDecoder::Gzip),
            ZSTD => zstd::Frozen::thaw(input).map(FrozenDecoder::Zstd),
            _ => None,
        }
    }

    /// Goes on with `wire`, which begins where the decoder was frozen, and `scratch` as [`Decoder::new`] has it.
    pub(crate) fn go_on<W: BufRead>(self, wire: W, scratch: OwnedFd) -> Decoder<W> {
        match self {
            FrozenDecoder::None => Decoder::None(wire),
            FrozenDecoder::Gzip(frozen) => Decoder::Gzip(frozen.go_on(wire)),
            FrozenDecoder::Zstd(frozen) => Decoder::Zstd(Box::new(frozen.go_on(wire, scratch))),
        }
    }
}

/// What the first bytes say. A zstd stream may begin with a skippable frame.
fn sniff(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Names a compression that edgepull does not read.
fn unknown(start: &[u8]) -> Option<&'static str> {
    match start {
        // The number of the first block follows at once (pi), so that no name of a tar member is taken for it.
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', b'&', b'S', b'Y', ..] => Some("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        _ => None,
    }
}

impl<W: BufRead> BufRead for Decoder<W> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Decoder::Unknown(_, name) => Err(Error::new(
                Kind::BadImage,
                format!("it is compressed by {name}, which edgepull does not read"),
            )
            .hint("publish the image with gzip or zstd")
            .into()),
            Decoder::None(wire) => wire.fill_buf(),
            Decoder::Gzip(gzip) => gzip.fill_buf(),
            Decoder::Zstd(zstd) => zstd.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        match self {
            Decoder::None(wire) | Decoder::Unknown(wire, _) => wire.consume(amount),
            Decoder::Gzip(gzip) => gzip.consume(amount),
            Decoder::Zstd(zstd) => zstd.consume(amount),
        }
    }
}

impl<W: BufRead> Read for Decoder<W> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, into)
    }
}

/// An error about the compressed stream.
fn broken(message: impl Into<std::borrow::Cow<'static, str>>) -> io::Error {
    Error::new(Kind::BadImage, message).into()
}

/// The next byte of `wire`; `None` at its end.
fn next_byte(wire: &mut impl BufRead) -> io::Result<Option<u8>> {
    let byte = wire.fill_buf()?.first().copied();
    if byte.is_some() {
        wire.consume(1);
    }
    Ok(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_magic_number_decides_not_the_media_type() {
        let tar = b"hello, tar";
        let gzip = gzip::tests::member(tar, &[]);
        let home = tempfile::tempdir().unwrap();
        let scratch = || std::fs::File::open(home.path()).unwrap().into();
        for declared in [Compression::None, Compression::Gzip, Compression::Zstd] {
            for bytes in [&gzip[..], tar] {
                let mut out = Vec::new();
                Decoder::new(bytes, bytes, declared, "layer", scratch()).read_to_end(&mut out).unwrap();
                assert_eq!(out, tar);
            }
        }
        for (start, name) in [(&b"BZh91AY&SY"[..], "bzip2"), (b"\xfd7zXZ\0\0\x04\xe6\xd6", "xz")] {
            let mut decoder = Decoder::new(start, start, Compression::Gzip, "layer", scratch());
            let error = decoder.read_to_end(&mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("gzip or zstd"), "{error}");
        }
        assert_eq!(unknown(b"BZh9-notes"), None);
        assert_eq!(sniff(b""), Compression::None);
        assert_eq!(sniff(&[0x1f]), Compression::None);
        assert_eq!(sniff(&[0x52, 0x2a, 0x4d, 0x18]), Compression::Zstd);
    }
}
