//! Gzip (RFC 1952): our own framing around miniz_oxide's inflate.
//!
//! The state is explicit and small: where in the frame we are, the inflate state, a 32 KiB window that
//! is also the output buffer, CRC and length of the member. Nothing is sized by the input: header
//! fields are skipped as they stream by.

use std::io::{self, BufRead, Read};
use std::ops::Range;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
};
use miniz_oxide::inflate::core::{BlockBoundaryState, DecompressorOxide, TINFL_LZ_DICT_SIZE, decompress};

use super::{broken, next_byte};
use crate::layer::codec::{Input, put_number};
use crate::layer::queue::read_buffered;

/// Most bytes that the name, the comment and the extra field of one member may have together.
const GZIP_HEADER_MAX: u32 = 256 * 1024;

/// Flags of the header's fourth byte (RFC 1952, 2.3.1).
const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// Where in the stream the decoder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first member: there must be one.
    Start,
    /// In the deflate data of a member.
    Body,
    /// Between two members, or at the end.
    Between,
    /// At the end.
    End,
}

/// Decodes a stream of gzip members.
pub(crate) struct GzipDecoder<W> {
    wire: W,
    place: Place,
    inflate: Box<DecompressorOxide>,
    window: Box<[u8]>,
    /// The bytes of the window that the consumer has not had yet.
    ready: Range<usize>,
    /// Inflate has used up its input and had room for more output.
    starved: bool,
    crc: crc32fast::Hasher,
    length: u32,
    /// Stop between two blocks, and whether inflate has.
    stop: bool,
    stopped: bool,
}

impl<W: BufRead> GzipDecoder<W> {
    pub(crate) fn new(wire: W) -> GzipDecoder<W> {
        GzipDecoder {
            wire,
            place: Place::Start,
            inflate: Box::default(),
            window: vec![0; TINFL_LZ_DICT_SIZE].into_boxed_slice(),
            ready: 0..0,
            starved: true,
            crc: crc32fast::Hasher::new(),
            length: 0,
            stop: false,
            stopped: false,
        }
    }

    pub(crate) fn wire(&self) -> &W {
        &self.wire
    }

    pub(crate) fn stop_at_boundaries(&mut self, stop: bool) {
        self.stop = stop;
    }

    pub(crate) fn can_freeze(&self) -> bool {
        match self.place {
            Place::Body => self.stopped,
            Place::Between => true,
            Place::Start | Place::End => false,
        }
    }

    pub(crate) fn freeze(&self, out: &mut Vec<u8>) {
        let block = self.inflate.block_boundary_state().filter(|_| self.place == Place::Body);
        out.push(u8::from(block.is_some()));
        let block = block.unwrap_or_default();
        out.extend_from_slice(&[block.num_bits, block.bit_buf]);
        put_number(out, self.crc.clone().finalize().into());
        put_number(out, self.length.into());
        put_number(out, self.ready.start as u64);
        put_number(out, self.ready.end as u64);
        out.extend_from_slice(&self.window);
    }

    pub(crate) fn into_wire(self) -> W {
        self.wire
    }

    /// Works until there is output or the end.
    fn advance(&mut self) -> io::Result<()> {
        while self.ready.is_empty() {
            match self.place {
                Place::End => break,
                Place::Start | Place::Between => self.header()?,
                Place::Body => self.body()?,
            }
        }
        Ok(())
    }

    /// One call of inflate.
    fn body(&mut self) -> io::Result<()> {
        let input = self.wire.fill_buf()?;
        if input.is_empty() && self.starved {
            return Err(truncated());
        }
        // The window is full when its end is reached: inflate goes on at its start, as in a ring.
        let start = self.ready.end % self.window.len();
        let stop = if self.stop { TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY } else { 0 };
        let flags = TINFL_FLAG_HAS_MORE_INPUT | stop;
        let (status, read, written) = decompress(&mut self.inflate, input, &mut self.window, start, flags);
        self.wire.consume(read);
        self.ready = start..start + written;
        let output = &self.window[self.ready.clone()];
        self.crc.update(output);
        self.length = self.length.wrapping_add(written as u32);
        self.starved = status == TINFLStatus::NeedsMoreInput;
        self.stopped = status == TINFLStatus::BlockBoundary;
        match status {
            TINFLStatus::Done => self.trailer(),
            TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput | TINFLStatus::BlockBoundary => Ok(()),
            _ => Err(broken("broken gzip data: the deflate stream is invalid")),
        }
    }

    fn trailer(&mut self) -> io::Result<()> {
        let crc = self.u32()?;
        let length = self.u32()?;
        if crc != std::mem::take(&mut self.crc).finalize() {
            return Err(broken("broken gzip data: the CRC-32 of a member is wrong"));
        }
        if length != std::mem::take(&mut self.length) {
            return Err(broken("broken gzip data: the length of a member is wrong"));
        }
        self.place = Place::Between;
        Ok(())
    }

    /// Reads a member's header, or the end of the stream.
    fn header(&mut self) -> io::Result<()> {
        let Some(first) = next_byte(&mut self.wire)? else {
            if self.place == Place::Start {
                return Err(truncated());
            }
            self.place = Place::End;
            return Ok(());
        };
        let between = self.place == Place::Between;
        if first != 0x1f || next_byte(&mut self.wire)? != Some(0x8b) {
            return Err(broken(match between {
                true => "trailing bytes after the last gzip member",
                false => "not gzip data",
            }));
        }
        let (method, flags) = (self.byte()?, self.byte()?);
        if method != 8 || flags & RESERVED != 0 {
            return Err(broken(format!("gzip method {method} with flags {flags:#04x} is unknown")));
        }
        // Modification time, extra flags, operating system.
        (0..6).try_for_each(|_| self.byte().map(drop))?;
        let mut left = GZIP_HEADER_MAX;
        if flags & FEXTRA != 0 {
            let length = u16::from_le_bytes([self.byte()?, self.byte()?]);
            (0..length).try_for_each(|_| self.bounded(&mut left).map(drop))?;
        }
        for field in [FNAME, FCOMMENT] {
            if flags & field != 0 {
                while self.bounded(&mut left)? != 0 {}
            }
        }
        if flags & FHCRC != 0 {
            self.byte()?;
            self.byte()?;
        }
        self.inflate.init();
        self.starved = true;
        self.stopped = false;
        self.place = Place::Body;
        Ok(())
    }

    fn bounded(&mut self, left: &mut u32) -> io::Result<u8> {
        *left = left.checked_sub(1).ok_or_else(|| {
            broken(format!("a gzip header is longer than GZIP_HEADER_MAX, {GZIP_HEADER_MAX} bytes"))
        })?;
        self.byte()
    }

    fn byte(&mut self) -> io::Result<u8> {
        next_byte(&mut self.wire)?.ok_or_else(truncated)
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes([self.byte()?, self.byte()?, self.byte()?, self.byte()?]))
    }
}

/// A decoder from a checkpoint.
pub(crate) struct Frozen {
    /// Within a member, between two of its blocks; else between two members.
    block: Option<BlockBoundaryState>,
    crc: u32,
    length: u32,
    ready: Range<usize>,
    window: Box<[u8]>,
}

impl Frozen {
    pub(crate) fn thaw(input: &mut Input<'_>) -> Option<Frozen> {
        let within = input.byte()? == 1;
        let (num_bits, bit_buf) = (input.byte().filter(|bits| *bits < 8)?, input.byte()?);
        let state = BlockBoundaryState { num_bits, bit_buf, ..BlockBoundaryState::default() };
        let (crc, length) = (input.small()?, input.small()?);
        let ready = input.small()?..input.small()?;
        let window = input.take(TINFL_LZ_DICT_SIZE)?.into();
        let sensible = ready.start <= ready.end && ready.end <= TINFL_LZ_DICT_SIZE;
        sensible.then_some(Frozen { block: within.then_some(state), crc, length, ready, window })
    }

    pub(crate) fn go_on<W: BufRead>(self, wire: W) -> GzipDecoder<W> {
        let mut decoder = GzipDecoder::new(wire);
        decoder.place = if self.block.is_some() { Place::Body } else { Place::Between };
        if let Some(state) = &self.block {
            *decoder.inflate = DecompressorOxide::from_block_boundary_state(state);
            // It may have bits that say what is wrong, even if no more come.
            decoder.starved = false;
        }
        // An amount of 0 is right here: only the combination of two hashes asks for it.
        decoder.crc = crc32fast::Hasher::new_with_initial_len(self.crc, 0);
        (decoder.length, decoder.ready, decoder.window) = (self.length, self.ready, self.window);
        decoder
    }
}

fn truncated() -> io::Error {
    broken("the gzip data ends in the middle")
}

impl<W: BufRead> BufRead for GzipDecoder<W> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.advance()?;
        Ok(&self.window[self.ready.clone()])
    }

    fn consume(&mut self, amount: usize) {
        self.ready.start = (self.ready.start + amount).min(self.ready.end);
    }
}

impl<W: BufRead> Read for GzipDecoder<W> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, into)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use std::io::BufReader;

    /// A gzip member of `data` with the optional header fields of `flags` in it.
    pub(in super::super) fn member(data: &[u8], fields: &[(u8, &[u8])]) -> Vec<u8> {
        let flags = fields.iter().fold(0, |flags, field| flags | field.0);
        let mut out = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3];
        fields.iter().for_each(|field| out.extend_from_slice(field.1));
        out.extend(miniz_oxide::deflate::compress_to_vec(data, 6));
        out.extend(crc32fast::hash(data).to_le_bytes());
        out.extend((data.len() as u32).to_le_bytes());
        out
    }

    fn decode(bytes: &[u8], portion: usize) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let mut decoder = GzipDecoder::new(BufReader::with_capacity(portion, bytes));
        decoder.read_to_end(&mut out).map_err(|error| Error::from_io(Kind::Other, error))?;
        Ok(out)
    }

    /// 200 KB with matches near and far, so that the window wraps several times.
    fn text() -> Vec<u8> {
        (0..40_000u32).flat_map(|i| [i as u8, (i >> 7) as u8, ((i * i) >> 5) as u8, b'a', b'b']).collect()
    }

    #[test]
    fn members_with_all_header_fields_come_out_in_a_row() {
        let all: &[(u8, &[u8])] =
            &[(FEXTRA, b"\x05\0extra"), (FNAME, b"name\0"), (FCOMMENT, b"comment\0"), (FHCRC, b"\0\0")];
        let text = text();
        let bytes = [member(&text, &[]), member(b"", &[]), member(b"tail", all)].concat();
        for portion in [1, 2, 13, 4096, 1 << 20] {
            assert!(decode(&bytes, portion).unwrap() == [&text[..], b"tail"].concat(), "{portion}");
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = member(&text()[..5000], &[(FNAME, b"name\0")]);
        for end in 0..bytes.len() {
            let error = decode(&bytes[..end], 4096).unwrap_err();
            assert_eq!(error.kind(), Kind::BadImage, "cut at {end}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = member(b"data", &[]);
        let say = |bytes: &[u8]| {
            let error = decode(bytes, 4096).unwrap_err();
            assert_eq!(error.kind(), Kind::BadImage);
            error.to_string()
        };
        let spoil = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            say(&bytes)
        };
        assert!(spoil(good.len() - 8).contains("CRC-32"));
        assert!(spoil(good.len() - 1).contains("length"));
        assert!(spoil(2).contains("method 9"));
        for tail in [&b"\0"[..], b"garbage", b"\x1fx", b"\x1f"] {
            assert_eq!(say(&[&good, tail].concat()), "trailing bytes after the last gzip member");
        }
        assert_eq!(say(&[&good, &good[..11]].concat()), "the gzip data ends in the middle");
    }

    #[test]
    fn an_endless_name_is_refused_by_its_limit() {
        let mut bytes = vec![0x1f, 0x8b, 8, FNAME, 0, 0, 0, 0, 0, 3];
        bytes.resize(GZIP_HEADER_MAX as usize + 100, b'n');
        assert!(decode(&bytes, 4096).unwrap_err().to_string().contains("GZIP_HEADER_MAX"));
    }
}
