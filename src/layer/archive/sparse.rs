//! Where the data of a sparse file belongs: GNU's old header and PAX versions 0.0, 0.1 and 1.0
//! (GNU tar manual, "Storing Sparse Files").

use std::io::BufRead;

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::member::Segment;
use super::source::{bad, exactly};
use super::{BLOCK, SEGMENTS_MAX, field};
use crate::error::{Error, Result};

/// The longest number of a map: 2⁶⁴ has 20 digits.
const DIGITS_MAX: usize = 20;

fn malformed() -> Error {
    bad("a sparse map is malformed")
}

/// Adds a segment, up to the limit.
pub(super) fn push(segments: &mut Vec<Segment>, offset: u64, length: u64) -> Result<()> {
    if segments.len() == SEGMENTS_MAX {
        return Err(bad(format!("a sparse file has more than SEGMENTS_MAX, {SEGMENTS_MAX} segments")));
    }
    segments.push(Segment { offset, length });
    Ok(())
}

/// Checks that the segments are in order, inside the file, and as long together as the data.
pub(super) fn check(segments: &[Segment], size: u64, data: u64) -> Result<()> {
    let (mut end, mut sum) = (0, 0u64);
    for segment in segments {
        if segment.offset < end {
            return Err(malformed());
        }
        end = segment.offset.checked_add(segment.length).filter(|end| *end <= size).ok_or_else(malformed)?;
        sum += segment.length;
    }
    if sum == data { Ok(()) } else { Err(malformed()) }
}

/// The old GNU format: 4 segments in the header, then blocks of 21. Returns the file's real size.
pub(super) fn read_old(
    source: &mut dyn BufRead,
    header: &Header,
    segments: &mut Vec<Segment>,
) -> Result<u64> {
    let gnu = header.as_gnu().ok_or_else(malformed)?;
    let size = field::number(&gnu.realsize).and_then(|size| u64::try_from(size).ok());
    let mut more = take_old(&gnu.sparse, gnu.is_extended(), segments)?;
    let mut block = GnuExtSparseHeader::new();
    while more {
        exactly(source, block.as_mut_bytes())?;
        more = take_old(block.sparse(), block.is_extended(), segments)?;
    }
    size.ok_or_else(malformed)
}

/// Takes segments up to the first empty slot; whether another block follows. Behind an empty slot none can: GNU's
/// reader and Go's disagree about what would be there, data or map.
fn take_old(slots: &[GnuSparseHeader], extended: bool, segments: &mut Vec<Segment>) -> Result<bool> {
    for slot in slots {
        if slot.offset[0] == 0 || slot.numbytes[0] == 0 {
            return if extended { Err(malformed()) } else { Ok(false) };
        }
        let number = |field| field::number(field).and_then(|n| u64::try_from(n).ok()).ok_or_else(malformed);
        push(segments, number(&slot.offset)?, number(&slot.numbytes)?)?;
    }
    Ok(extended)
}

/// Version 0.1: `offset,length,offset,length` in the PAX header.
pub(super) fn read_map_0_1(source: &mut dyn BufRead, length: u64, segments: &mut Vec<Segment>) -> Result<()> {
    segments.clear();
    let (mut digits, mut offset) = (Number::default(), None);
    for _ in 0..length {
        let mut byte = [0];
        exactly(source, &mut byte)?;
        if byte == *b"," {
            offset = half(offset, digits.take()?, segments)?;
        } else {
            digits.push(byte[0])?;
        }
    }
    if length > 0 {
        offset = half(offset, digits.take()?, segments)?;
    }
    if offset.is_some() { Err(malformed()) } else { Ok(()) }
}

/// Version 1.0: in front of the data, lines of decimal numbers, filled up to a whole block. Returns
/// how many bytes of the member's data that was.
pub(super) fn read_map_1_0(source: &mut dyn BufRead, segments: &mut Vec<Segment>) -> Result<u64> {
    segments.clear();
    let mut used = 0u64;
    let mut number = |source: &mut dyn BufRead| {
        let mut digits = Number::default();
        loop {
            let mut byte = [0];
            exactly(source, &mut byte)?;
            used += 1;
            match byte[0] {
                b'\n' => return digits.take(),
                byte => digits.push(byte)?,
            }
        }
    };
    let count = number(source)?;
    for _ in 0..count {
        let offset = number(source)?;
        push(segments, offset, number(source)?)?;
    }
    let padding = used.next_multiple_of(BLOCK as u64) - used;
    super::source::skip(source, padding)?;
    Ok(used + padding)
}

/// One number of a list of pairs: keeps an offset, or completes a segment.
fn half(offset: Option<u64>, number: u64, segments: &mut Vec<Segment>) -> Result<Option<u64>> {
    match offset {
        None => Ok(Some(number)),
        Some(offset) => push(segments, offset, number).map(|()| None),
    }
}

/// The digits of a number, as they come.
#[derive(Default)]
struct Number {
    digits: heapless::Vec<u8, DIGITS_MAX>,
}

impl Number {
    fn push(&mut self, digit: u8) -> Result<()> {
        self.digits.push(digit).map_err(|_| malformed())
    }

    fn take(&mut self) -> Result<u64> {
        let number = field::decimal(&self.digits).ok_or_else(malformed);
        self.digits.clear();
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map_0_1(text: &[u8]) -> Result<Vec<Segment>> {
        let mut segments = Vec::new();
        read_map_0_1(&mut &text[..], text.len() as u64, &mut segments).map(|()| segments)
    }

    #[test]
    fn a_map_in_the_header() {
        let segments = map_0_1(b"0,512,1048576,3").unwrap();
        assert_eq!(segments, [Segment { offset: 0, length: 512 }, Segment { offset: 1 << 20, length: 3 }]);
        assert_eq!(map_0_1(b"").unwrap(), []);
        for bad in [&b"1"[..], b"1,", b",1", b"1,2,", b"1,2,3", b"1,x", b"111111111111111111111,1"] {
            assert_eq!(map_0_1(bad).unwrap_err().to_string(), "a sparse map is malformed", "{bad:?}");
        }
    }

    #[test]
    fn a_map_before_the_data_is_filled_up_to_a_block() {
        let mut bytes = b"2\n0\n512\n4096\n1\n".to_vec();
        bytes.resize(512, 0);
        bytes.extend(b"data");
        let (mut source, mut segments) = (&bytes[..], Vec::new());
        assert_eq!(read_map_1_0(&mut source, &mut segments).unwrap(), 512);
        assert_eq!(segments.len(), 2);
        assert_eq!(source, b"data");
    }

    #[test]
    fn too_many_segments_are_refused_before_they_are_stored() {
        let text = "1,1,".repeat(SEGMENTS_MAX + 1);
        let error = map_0_1(text.trim_end_matches(',').as_bytes()).unwrap_err();
        assert!(error.to_string().contains("SEGMENTS_MAX"), "{error}");
    }

    #[test]
    fn segments_must_be_in_order_inside_and_complete() {
        let at = |offset, length| Segment { offset, length };
        assert!(check(&[at(0, 5), at(10, 5)], 15, 10).is_ok());
        assert!(check(&[at(0, 5), at(15, 0)], 15, 5).is_ok());
        for (segments, data) in [
            (&[at(0, 5), at(4, 5)][..], 10),
            (&[at(10, 5), at(0, 5)], 10),
            (&[at(0, 16)], 16),
            (&[at(u64::MAX, 2)], 2),
            (&[at(0, 5)], 6),
        ] {
            assert!(check(segments, 15, data).is_err(), "{segments:?}");
        }
    }
}
