//! Zstandard (RFC 8878): a row of frames, some of them to be skipped.
//!
//! The format is the published one; the decoder is our own, because of where its window is ([`window`]) and because
//! it stops wherever the reader is full: it needs 340 KiB of memory whatever a frame asks for. A decoder that has the
//! window in memory needs 8 MiB for what `zstd`, BuildKit and Podman make unless told otherwise, and up to 128 for the rest.
//!
//! ```text
//! frame -> blocks -> literals   (huffman -> bits) \
//!                    sequences  (fse -> bits)      block -> window
//! ```
//!
//! Content checksums are not computed: the diff-id is checked over the same bytes.

mod bits;
mod block;
mod fse;
mod huffman;
mod literals;
mod sequences;
mod window;

use std::io::{self, BufRead, Read};
use std::os::fd::OwnedFd;

use self::block::Block;
use self::window::Window;
use super::broken;
use crate::layer::codec::{Input, put_bytes};
use crate::layer::queue::{BUFFER_SIZE, read_buffered, skip_buffered};

/// The largest window that a frame may ask for, in bytes: that of libzstd's decoder where nobody says more
/// (ZSTD_WINDOWLOG_LIMIT_DEFAULT in zstd.h), so that whatever other engines take is taken. Levels of compression up to 19
/// have 8 MiB (RFC 8878, 3.1.1.1.2), `zstd --long` has 128.
const ZSTD_WINDOW_MAX: u64 = 128 * 1024 * 1024;
/// The most that a block has, before and after (3.1.1.2.3); less where the window is smaller.
const BLOCK_MAX: usize = 128 * 1024;

const FRAME_MAGIC: u32 = 0xfd2f_b528;
const SKIPPABLE_MAGIC: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;

/// Where in the stream the decoder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    /// Before a block's header.
    Frame,
    Block(Kind),
    Between,
    End,
}

/// A block's content, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Raw(usize),
    Repeated(u8, usize),
    Compressed,
}

/// What a frame's header says.
#[derive(Debug, Clone, Copy, Default)]
struct Header {
    window: u64,
    /// How many bytes the frame gives, if it says so.
    content: Option<u64>,
    checksum: bool,
}

/// Decodes a row of zstd frames.
pub(crate) struct ZstdDecoder<W> {
    wire: W,
    place: Place,
    header: Header,
    /// Whether the block at hand is the frame's last.
    last: bool,
    block: Block,
    window: Window,
}

impl<W: BufRead> ZstdDecoder<W> {
    /// In the directory `scratch` there may be files without names.
    pub(crate) fn new(wire: W, scratch: OwnedFd) -> ZstdDecoder<W> {
        ZstdDecoder {
            wire,
            place: Place::Start,
            header: Header::default(),
            last: false,
            block: Block::new(),
            window: Window::new(scratch),
        }
    }

    pub(crate) fn wire(&self) -> &W {
        &self.wire
    }

    pub(crate) fn can_freeze(&self) -> bool {
        self.place == Place::Between
    }

    pub(crate) fn freeze(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.window.unread());
    }

    pub(crate) fn into_wire(self) -> W {
        self.wire
    }

    /// Decodes until there is output, or the stream's end.
    fn advance(&mut self) -> io::Result<()> {
        while self.window.unread().is_empty() {
            match self.place {
                Place::End => break,
                Place::Start | Place::Between => self.next_frame()?,
                Place::Frame => self.next_block()?,
                Place::Block(kind) => self.go_on(kind)?,
            }
        }
        Ok(())
    }

    /// Begins a frame, skips one, or finds the end of the stream.
    fn next_frame(&mut self) -> io::Result<()> {
        if self.wire.fill_buf()?.is_empty() {
            if self.place == Place::Start {
                return Err(broken("the zstd data is empty"));
            }
            self.place = Place::End;
            return Ok(());
        }
        let magic = self.number(4)? as u32;
        if SKIPPABLE_MAGIC.contains(&magic) {
            return self.skip();
        }
        if magic != FRAME_MAGIC {
            return Err(broken("trailing bytes after the last zstd frame"));
        }
        self.header = self.header()?;
        // What a frame does not have, nothing can refer to.
        self.window.begin(self.header.content.unwrap_or(u64::MAX).min(self.header.window));
        self.block.forget();
        self.place = Place::Frame;
        Ok(())
    }

    /// The rest of a frame's header (3.1.1.1).
    fn header(&mut self) -> io::Result<Header> {
        let descriptor = self.number(1)?;
        if descriptor & 8 != 0 {
            return Err(broken("broken zstd data: a frame's header has its reserved bit set"));
        }
        let single = descriptor & 0x20 != 0;
        let mut window = 0;
        if !single {
            let exponent = self.number(1)?;
            let base = 1 << (10 + (exponent >> 3));
            window = base + base / 8 * (exponent & 7);
        }
        // The number 0 is of none.
        if self.number([0, 1, 2, 4][(descriptor & 3) as usize])? != 0 {
            return Err(broken("a zstd frame needs a dictionary"));
        }
        let content = match descriptor >> 6 {
            0 if single => Some(self.number(1)?),
            0 => None,
            1 => Some(self.number(2)? + 256),
            2 => Some(self.number(4)?),
            _ => Some(self.number(8)?),
        };
        if single {
            window = content.unwrap_or(0);
        }
        if window > ZSTD_WINDOW_MAX {
            return Err(broken(format!(
                "a zstd frame wants a window of {window} bytes, more than ZSTD_WINDOW_MAX, {ZSTD_WINDOW_MAX} bytes"
            )));
        }
        Ok(Header { window, content, checksum: descriptor & 4 != 0 })
    }

    fn next_block(&mut self) -> io::Result<()> {
        let header = self.number(3)?;
        let size = (header >> 3) as usize;
        let most = BLOCK_MAX.min(self.header.window as usize);
        if size > most {
            return Err(broken(format!(
                "broken zstd data: a block of {size} bytes, where {most} are the most"
            )));
        }
        self.last = header & 1 != 0;
        let kind = match header >> 1 & 3 {
            0 => Kind::Raw(size),
            1 => Kind::Repeated(self.number(1)? as u8, size),
            2 => {
                self.block.begin(&mut self.wire, size, most)?;
                Kind::Compressed
            }
            _ => return Err(broken("broken zstd data: a block of a kind that there is not")),
        };
        self.place = Place::Block(kind);
        Ok(())
    }

    /// Goes on with a block until the window is full, or the block is over.
    fn go_on(&mut self, kind: Kind) -> io::Result<()> {
        self.window.turn()?;
        let done = match kind {
            Kind::Raw(left) => {
                let here = self.wire.fill_buf()?;
                if here.is_empty() && left > 0 {
                    return Err(truncated());
                }
                let length = left.min(here.len()).min(self.window.room());
                self.window.extend(length).copy_from_slice(&here[..length]);
                self.wire.consume(length);
                self.place = Place::Block(Kind::Raw(left - length));
                left == length
            }
            Kind::Repeated(byte, left) => {
                let length = left.min(self.window.room());
                self.window.extend(length).fill(byte);
                self.place = Place::Block(Kind::Repeated(byte, left - length));
                left == length
            }
            Kind::Compressed => {
                self.block.go_on(&mut self.window)?;
                self.block.is_done()
            }
        };
        if done {
            self.place = Place::Frame;
            if self.last {
                self.end_frame()?;
            }
        }
        Ok(())
    }

    fn end_frame(&mut self) -> io::Result<()> {
        let total = self.window.total();
        if let Some(content) = self.header.content.filter(|content| *content != total) {
            return Err(broken(format!("a zstd frame has {total} bytes, but its header says {content}")));
        }
        if self.header.checksum {
            self.number(4)?;
        }
        self.place = Place::Between;
        Ok(())
    }

    fn skip(&mut self) -> io::Result<()> {
        let length = self.number(4)?;
        if skip_buffered(&mut self.wire, length)? > 0 {
            return Err(truncated());
        }
        self.place = Place::Between;
        Ok(())
    }

    /// The number in the next `length` bytes, the lowest first.
    fn number(&mut self, length: usize) -> io::Result<u64> {
        let mut bytes = [0; 8];
        exactly(&mut self.wire, &mut bytes[..length])?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// Fills `into` from `wire`, whose own errors never are of this kind.
fn exactly(wire: &mut impl BufRead, into: &mut [u8]) -> io::Result<()> {
    wire.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => truncated(),
        _ => error,
    })
}

/// A decoder from a checkpoint: between two frames, with what was not consumed of the one before.
pub(crate) struct Frozen {
    unread: Box<[u8]>,
}

impl Frozen {
    pub(crate) fn thaw(input: &mut Input<'_>) -> Option<Frozen> {
        let unread = input.bytes().filter(|unread| unread.len() <= BUFFER_SIZE)?;
        Some(Frozen { unread: unread.into() })
    }

    pub(crate) fn go_on<W: BufRead>(self, wire: W, scratch: OwnedFd) -> ZstdDecoder<W> {
        let mut decoder = ZstdDecoder::new(wire, scratch);
        decoder.window.hold(&self.unread);
        decoder.place = Place::Between;
        decoder
    }
}

fn truncated() -> io::Error {
    broken("the zstd data ends in the middle")
}

impl<W: BufRead> BufRead for ZstdDecoder<W> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.advance()?;
        Ok(self.window.unread())
    }

    fn consume(&mut self, amount: usize) {
        self.window.consume(amount);
    }
}

impl<W: BufRead> Read for ZstdDecoder<W> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::BufReader;

    fn decode(bytes: &[u8], portion: usize) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let home = tempfile::tempdir().unwrap();
        let scratch = std::fs::File::open(home.path()).unwrap().into();
        let mut decoder = ZstdDecoder::new(BufReader::with_capacity(portion, bytes), scratch);
        loop {
            match decoder.fill_buf().map_err(|error| Error::from_io(Kind::Other, error))? {
                [] => return Ok(out),
                chunk => {
                    let n = chunk.len();
                    out.extend_from_slice(chunk);
                    decoder.consume(n);
                }
            }
        }
    }

    fn frame(data: &[u8]) -> Vec<u8> {
        compress_to_vec(data, CompressionLevel::Fastest)
    }

    fn text() -> Vec<u8> {
        (0..60_000u32).flat_map(|i| [i as u8, (i >> 9) as u8, b'a', b'b', b'c']).collect()
    }

    #[test]
    fn frames_and_skippable_frames_come_out_in_a_row() {
        let text = text();
        let skippable = b"\x53\x2a\x4d\x18\x05\0\0\0skip!".to_vec();
        let bytes = [skippable.clone(), frame(&text), skippable.clone(), frame(b"tail"), skippable].concat();
        for portion in [1, 2, 13, 4096, 1 << 20] {
            assert!(decode(&bytes, portion).unwrap() == [&text[..], b"tail"].concat(), "{portion}");
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = [frame(&text()[..3000]), b"\x53\x2a\x4d\x18\x05\0\0\0skip!".to_vec()].concat();
        let first = frame(&text()[..3000]).len();
        for end in (0..bytes.len()).filter(|&end| end != first) {
            let error = decode(&bytes[..end], 4096).unwrap_err();
            assert_eq!(error.kind(), Kind::BadImage, "cut at {end}: {error}");
        }
    }

    #[test]
    fn a_big_window_is_refused_by_its_limit() {
        // Descriptor 0: a window descriptor follows; 18 << 3 is 2^(10+18) = 256 MiB.
        let error = decode(b"\x28\xb5\x2f\xfd\x00\x90\x01\0\0", 4096).unwrap_err();
        assert!(error.to_string().contains("268435456 bytes, more than ZSTD_WINDOW_MAX"), "{error}");
        assert!(decode(b"\x28\xb5\x2f\xfd\x00\x88\x01\0\0", 4096).is_ok(), "128 MiB, and nothing in it");
    }

    #[test]
    fn trailing_bytes_are_an_error() {
        let error = decode(&[frame(b"data"), b"junk".to_vec()].concat(), 4096).unwrap_err();
        assert_eq!(error.to_string(), "trailing bytes after the last zstd frame");
    }

    #[test]
    fn an_error_of_the_wire_comes_out_whole() {
        struct Breaks;
        impl Read for Breaks {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(Error::new(Kind::Network, "cable cut").into())
            }
        }
        let bytes = frame(&text());
        let wire = BufReader::new(bytes[..bytes.len() / 2].chain(Breaks));
        let home = tempfile::tempdir().unwrap();
        let mut decoder = ZstdDecoder::new(wire, std::fs::File::open(home.path()).unwrap().into());
        let error = loop {
            match decoder.fill_buf() {
                Ok(chunk) => {
                    let n = chunk.len();
                    assert!(n > 0, "ended without an error");
                    decoder.consume(n);
                }
                Err(error) => break Error::from_io(Kind::Other, error),
            }
        };
        assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Network, "cable cut"));
    }
}
