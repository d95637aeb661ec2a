//! Zstandard (RFC 8878): a row of frames, some of them to be skipped, around ruzstd's block decoder.
//!
//! The window is the one piece of memory that the input sizes: each frame's header is checked against
//! [`ZSTD_WINDOW_MAX`] before anything is allocated. Content checksums are not computed: the diff-id is
//! checked over the same bytes.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, FrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{broken, next_byte};
use crate::layer::codec::{Input, put_bytes};
use crate::layer::queue::{BUFFER_SIZE, read_buffered};

/// The largest window that a frame may ask for: what RFC 8878 (3.1.1.1.2) recommends decoders to
/// support, and the most that `zstd` uses up to level 19.
const ZSTD_WINDOW_MAX: u64 = 8 * 1024 * 1024;

const FRAME_MAGIC: u32 = 0xfd2f_b528;
const SKIPPABLE_MAGIC: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;

/// Where in the stream the decoder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Frame,
    Between,
    End,
}

/// Decodes a row of zstd frames.
pub(crate) struct ZstdDecoder<W> {
    wire: Stash<W>,
    place: Place,
    frame: FrameDecoder,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<W: BufRead> ZstdDecoder<W> {
    pub(crate) fn new(wire: W) -> ZstdDecoder<W> {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(ZSTD_WINDOW_MAX);
        let buffer = vec![0; BUFFER_SIZE].into_boxed_slice();
        ZstdDecoder {
            wire: Stash { wire, failed: None },
            place: Place::Start,
            frame,
            buffer,
            start: 0,
            end: 0,
        }
    }

    pub(crate) fn wire(&self) -> &W {
        &self.wire.wire
    }

    pub(crate) fn can_freeze(&self) -> bool {
        match self.place {
            Place::Between => true,
            Place::Frame => self.frame.is_finished() && self.frame.can_collect() == 0,
            Place::Start | Place::End => false,
        }
    }

    pub(crate) fn freeze(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.buffer[self.start..self.end]);
    }

    pub(crate) fn into_wire(self) -> W {
        self.wire.wire
    }

    fn advance(&mut self) -> io::Result<()> {
        while self.start == self.end {
            match self.place {
                Place::End => break,
                Place::Start | Place::Between => self.header()?,
                Place::Frame => self.blocks()?,
            }
        }
        Ok(())
    }

    /// Decodes until there is output, or the frame's end.
    fn blocks(&mut self) -> io::Result<()> {
        if self.frame.can_collect() == 0 {
            if self.frame.is_finished() {
                self.place = Place::Between;
                return Ok(());
            }
            let one = BlockDecodingStrategy::UptoBlocks(1);
            if let Err(error) = self.frame.decode_blocks(&mut self.wire, one) {
                return Err(self.wire.explain(error));
            }
        }
        self.start = 0;
        self.end = self.frame.read(&mut self.buffer)?;
        Ok(())
    }

    /// Begins a frame, skips one, or finds the end of the stream.
    fn header(&mut self) -> io::Result<()> {
        let mut magic = [0; 4];
        match self.wire.wire.fill_buf()? {
            [] if self.place == Place::Start => return Err(broken("the zstd data is empty")),
            [] => {
                self.place = Place::End;
                return Ok(());
            }
            _ => self.exactly(&mut magic)?,
        }
        let number = u32::from_le_bytes(magic);
        if SKIPPABLE_MAGIC.contains(&number) {
            return self.skip();
        }
        if number != FRAME_MAGIC {
            return Err(broken("trailing bytes after the last zstd frame"));
        }
        match self.frame.reset(magic.chain(&mut self.wire)) {
            Ok(()) => {
                self.place = Place::Frame;
                Ok(())
            }
            Err(error) => Err(self.wire.explain(error)),
        }
    }

    fn skip(&mut self) -> io::Result<()> {
        let mut size = [0; 4];
        self.exactly(&mut size)?;
        let mut left = u64::from(u32::from_le_bytes(size));
        while left > 0 {
            let here = self.wire.wire.fill_buf()?.len();
            if here == 0 {
                return Err(truncated());
            }
            let n = left.min(here as u64) as usize;
            self.wire.wire.consume(n);
            left -= n as u64;
        }
        self.place = Place::Between;
        Ok(())
    }

    fn exactly(&mut self, into: &mut [u8]) -> io::Result<()> {
        for byte in into {
            *byte = next_byte(&mut self.wire.wire)?.ok_or_else(truncated)?;
        }
        Ok(())
    }
}

/// A decoder from a checkpoint: between two frames, with what was not consumed of the one before.
pub(crate) struct Frozen {
    buffer: Box<[u8]>,
    end: usize,
}

impl Frozen {
    pub(crate) fn thaw(input: &mut Input<'_>) -> Option<Frozen> {
        let left = input.bytes().filter(|left| left.len() <= BUFFER_SIZE)?;
        let mut buffer = vec![0; BUFFER_SIZE].into_boxed_slice();
        buffer[..left.len()].copy_from_slice(left);
        Some(Frozen { buffer, end: left.len() })
    }

    pub(crate) fn go_on<W: BufRead>(self, wire: W) -> ZstdDecoder<W> {
        let decoder = ZstdDecoder::new(wire);
        ZstdDecoder { place: Place::Between, buffer: self.buffer, end: self.end, ..decoder }
    }
}

fn truncated() -> io::Error {
    broken("the zstd data ends in the middle")
}

/// The wire as ruzstd sees it. Its errors wrap and flatten ours, so the first one is put aside here.
struct Stash<W> {
    wire: W,
    failed: Option<io::Error>,
}

impl<W> Stash<W> {
    /// What really went wrong when ruzstd returned `error`.
    fn explain(&mut self, error: FrameDecoderError) -> io::Error {
        if let Some(failed) = self.failed.take() {
            return failed;
        }
        match error {
            FrameDecoderError::WindowSizeTooBig { requested, .. }
            | FrameDecoderError::FrameHeaderError(FrameHeaderError::WindowTooBig { got: requested }) => {
                broken(format!(
                    "a zstd frame wants a window of {requested} bytes, more than ZSTD_WINDOW_MAX, \
                     {ZSTD_WINDOW_MAX} bytes"
                ))
            }
            FrameDecoderError::DictNotProvided { .. } => broken("a zstd frame needs a dictionary"),
            error => broken(format!("broken zstd data: {error}")),
        }
    }
}

impl<W: BufRead> Read for Stash<W> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.wire.read(into) {
            Ok(0) if !into.is_empty() => {
                self.failed.get_or_insert_with(truncated);
                Ok(0)
            }
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                self.failed.get_or_insert(error);
                Err(io::ErrorKind::Other.into())
            }
            other => other,
        }
    }
}

impl<W: BufRead> BufRead for ZstdDecoder<W> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.advance()?;
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.end);
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
        let mut decoder = ZstdDecoder::new(BufReader::with_capacity(portion, bytes));
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
        // Descriptor 0: a window descriptor follows; 14 << 3 is 2^(10+14) = 16 MiB.
        let error = decode(b"\x28\xb5\x2f\xfd\x00\x70\x01\0\0", 4096).unwrap_err();
        assert!(error.to_string().contains("16777216 bytes, more than ZSTD_WINDOW_MAX"), "{error}");
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
        let mut decoder = ZstdDecoder::new(wire);
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
