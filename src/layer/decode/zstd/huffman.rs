//! Huffman codes of literals (RFC 8878, 4.2).

use super::bits::BackwardBits;
use super::fse::{Fse, Kind};

/// The longest code, in bits.
const LENGTH_MAX: u32 = 11;
/// Weights of symbols, when FSE packs them (4.2.1.2).
const WEIGHTS: Kind = Kind { symbol_max: LENGTH_MAX as u8 + 1, log_max: 6, predefined: (&[], 0) };
/// The last symbol's weight is what the others leave.
const WEIGHTS_MAX: usize = 255;

/// Symbols by the next bits: as many as the longest code has.
pub(super) struct Huffman {
    /// The symbol, and in the low byte the length of its code.
    rows: [u16; 1 << LENGTH_MAX],
    length: u32,
    made: bool,
}

impl Huffman {
    pub(super) const fn new() -> Huffman {
        Huffman { rows: [0; 1 << LENGTH_MAX], length: 0, made: false }
    }

    /// A new frame knows none.
    pub(super) fn forget(&mut self) {
        self.made = false;
    }

    pub(super) fn is_made(&self) -> bool {
        self.made
    }

    /// From its description (4.2.1), whose length in bytes comes out. `None` where it is not sound.
    pub(super) fn describe(&mut self, data: &[u8]) -> Option<usize> {
        let mut weights = [0u8; WEIGHTS_MAX + 1];
        let (&head, rest) = data.split_first()?;
        let (count, length) = match head.checked_sub(127) {
            None => {
                let length = usize::from(head);
                (unpack(rest.get(..length)?, &mut weights)?, length)
            }
            Some(count) => {
                let length = usize::from(count).div_ceil(2);
                for (at, byte) in rest.get(..length)?.iter().enumerate() {
                    weights[2 * at] = byte >> 4;
                    weights[2 * at + 1] = byte & 15;
                }
                weights[usize::from(count)] = 0;
                (count.into(), length)
            }
        };
        self.build(&mut weights, count)?;
        Some(1 + length)
    }

    /// From the weights of all symbols but the last.
    fn build(&mut self, weights: &mut [u8; WEIGHTS_MAX + 1], count: usize) -> Option<()> {
        let mut sum = 0u32;
        for &weight in &weights[..count] {
            if u32::from(weight) > LENGTH_MAX {
                return None;
            }
            sum += 1 << weight >> 1;
        }
        let length = sum.checked_ilog2()? + 1;
        let left = (1 << length) - sum;
        if length > LENGTH_MAX || !left.is_power_of_two() {
            return None;
        }
        weights[count] = left.ilog2() as u8 + 1;
        let weights = &weights[..=count];
        // The two longest codes differ in their last bit.
        let longest = weights.iter().filter(|&&weight| weight == 1).count();
        if longest < 2 || longest % 2 == 1 {
            return None;
        }
        let mut at = 0;
        for weight in 1..=length {
            let row_of = |symbol: usize| (symbol as u16) << 8 | (length + 1 - weight) as u16;
            for (symbol, _) in weights.iter().enumerate().filter(|(_, other)| u32::from(**other) == weight) {
                let rows = 1 << (weight - 1);
                self.rows[at..at + rows].fill(row_of(symbol));
                at += rows;
            }
        }
        self.length = length;
        self.made = true;
        Some(())
    }

    /// Fills `out`. Where the bits end before, with something.
    pub(super) fn decode(&self, bits: &mut BackwardBits, data: &[u8], out: &mut [u8]) {
        // A refill is for five codes of the longest.
        for some in out.chunks_mut(5) {
            bits.refill(data);
            for byte in some {
                let row = self.rows[bits.peek(self.length) as usize];
                bits.skip((row & 0xff).into());
                *byte = (row >> 8) as u8;
            }
        }
    }
}

/// Two states take turns until there are no more bits (4.2.1.2). How many weights there are.
fn unpack(data: &[u8], weights: &mut [u8; WEIGHTS_MAX + 1]) -> Option<usize> {
    let mut table = Fse::<64>::new();
    let from = table.describe(data, &WEIGHTS)?;
    let mut bits = BackwardBits::new(data, from, data.len())?;
    let mut state = table.begin(&mut bits, data);
    let mut other = table.begin(&mut bits, data);
    if bits.is_overdrawn() {
        return None;
    }
    for count in 0..WEIGHTS_MAX - 1 {
        weights[count] = table.symbol(state);
        bits.refill(data);
        state = table.next(state, &mut bits);
        if bits.is_overdrawn() {
            weights[count + 1] = table.symbol(other);
            return Some(count + 2);
        }
        std::mem::swap(&mut state, &mut other);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The RFC's example (4.2.1.3): literals 0 to 5 with weights 4, 3, 2, 0, 1, and what they leave.
    #[test]
    fn the_example_of_the_rfc() {
        let mut huffman = Huffman::new();
        assert_eq!(huffman.describe(&[127 + 5, 0x43, 0x20, 0x10, 0xee]), Some(4));
        // The marker, then 1, 01, 001, 0000 and 0001, as the RFC has them.
        let data = 0b0110_1001_0000_0001_u16.to_le_bytes();
        let mut bits = BackwardBits::new(&data, 0, 2).unwrap();
        let mut out = [9; 5];
        huffman.decode(&mut bits, &data, &mut out);
        assert_eq!(out, [0, 1, 2, 4, 5]);
        assert!(bits.is_at_end());
    }

    #[test]
    fn weights_that_do_not_add_up_are_refused() {
        let mut huffman = Huffman::new();
        assert_eq!(huffman.describe(&[]), None);
        assert_eq!(huffman.describe(&[127]), None, "no weights");
        assert_eq!(huffman.describe(&[128, 0x00]), None, "only zeros");
        assert_eq!(huffman.describe(&[128, 0xc0]), None, "a code of 12 bits");
        assert_eq!(huffman.describe(&[129, 0x20]), None, "one code of the longest");
        assert_eq!(huffman.describe(&[130, 0x43, 0x00]), None, "what is left is no power of two");
        assert_eq!(huffman.describe(&[132, 0x43, 0x20]), None, "it ends in the middle");
        assert_eq!(huffman.describe(&[2, 0x30, 0]), None, "no room for its states");
    }
}
