//! Literals of a block (RFC 8878, 3.1.1.3.1): as they are, one repeated, or in one or four streams of Huffman codes.
//! They are decoded when they are needed, so that nothing has to hold them all.

use super::bits::BackwardBits;
use super::huffman::Huffman;

/// Four streams have at least so many literals.
const FOUR_STREAMS_MIN: usize = 6;

/// The literals of a block, one after the other; the Huffman codes stay for the next block.
pub(super) struct Literals {
    huffman: Huffman,
    kind: Kind,
    left: usize,
}

enum Kind {
    /// In the block from here on.
    Raw(usize),
    Repeated(u8),
    Streams(heapless::Deque<Stream, 4>),
}

/// One stream of Huffman codes.
#[derive(Debug)]
struct Stream {
    bits: BackwardBits,
    left: usize,
}

impl Literals {
    pub(super) const fn new() -> Literals {
        Literals { huffman: Huffman::new(), kind: Kind::Repeated(0), left: 0 }
    }

    /// A new frame knows no codes.
    pub(super) fn forget(&mut self) {
        self.huffman.forget();
        self.left = 0;
    }

    /// How many are yet to come.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Begins with the section that `data` begins with, and says where it ends. `None` where it is not sound.
    pub(super) fn begin(&mut self, data: &[u8]) -> Option<usize> {
        let first = usize::from(*data.first()?);
        let byte = |at: usize| data.get(at).map(|byte| usize::from(*byte) << (8 * at));
        let (kind, format) = (first & 3, first >> 2 & 3);
        if kind < 2 {
            let (header, count) = match format {
                1 => (2, (first | byte(1)?) >> 4),
                3 => (3, (first | byte(1)? | byte(2)?) >> 4),
                _ => (1, first >> 3),
            };
            self.left = count;
            if kind == 1 {
                self.kind = Kind::Repeated(*data.get(header)?);
                return Some(header + 1);
            }
            self.kind = Kind::Raw(header);
            return data.get(header..header + count).map(|_| header + count);
        }
        // Two numbers of so many bits, in so many bytes.
        let (width, header) = [(10, 3), (10, 3), (14, 4), (18, 5)][format];
        let mut sizes = 0u64;
        for at in 0..header {
            sizes |= u64::from(*data.get(at)?) << (8 * at);
        }
        let number = |from: u32| (sizes >> from & ((1 << width) - 1)) as usize;
        (self.left, self.kind) = (number(4), Kind::Streams(heapless::Deque::new()));
        let end = header + number(4 + width);
        let data = data.get(..end)?;
        let mut at = header;
        if kind == 2 {
            at += self.huffman.describe(&data[at..])?;
        } else if !self.huffman.is_made() {
            return None;
        }
        self.streams(data, at, format != 0)?;
        Some(end)
    }

    /// Those in `data[at..]`.
    fn streams(&mut self, data: &[u8], mut at: usize, four: bool) -> Option<()> {
        let Kind::Streams(streams) = &mut self.kind else { return None };
        let mut left = self.left;
        if four {
            // Where three of them end; the last one ends with the section.
            let lengths = data.get(at..at + 6)?;
            at += 6;
            let each = left.div_ceil(4);
            if left < FOUR_STREAMS_MIN || each * 3 > left {
                return None;
            }
            for length in lengths.chunks_exact(2) {
                let end = at + (usize::from(length[0]) | usize::from(length[1]) << 8);
                let bits = BackwardBits::new(data, at, end)?;
                streams.push_back(Stream { bits, left: each }).ok()?;
                (at, left) = (end, left - each);
            }
        }
        let bits = BackwardBits::new(data, at, data.len())?;
        streams.push_back(Stream { bits, left }).ok()
    }

    /// The next ones, at most as many as are left. `None` where a stream does not end where it should.
    pub(super) fn take(&mut self, data: &[u8], out: &mut [u8]) -> Option<()> {
        self.left -= out.len();
        match &mut self.kind {
            Kind::Raw(at) => {
                out.copy_from_slice(&data[*at..*at + out.len()]);
                *at += out.len();
            }
            Kind::Repeated(byte) => out.fill(*byte),
            Kind::Streams(streams) => {
                let mut rest = out;
                while !rest.is_empty() {
                    let stream = streams.front_mut()?;
                    let (now, later) = rest.split_at_mut(stream.left.min(rest.len()));
                    self.huffman.decode(&mut stream.bits, data, now);
                    stream.left -= now.len();
                    if stream.left == 0 {
                        stream.bits.refill(data);
                        if !stream.bits.is_at_end() {
                            return None;
                        }
                        streams.pop_front();
                    }
                    rest = later;
                }
            }
        }
        Some(())
    }
}
