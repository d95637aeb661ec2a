//! Sequences (RFC 8878, 3.1.1.3.2): so many literals, then a match of so many bytes so far back.

use super::bits::BackwardBits;
use super::fse::{Fse, Kind};

/// Codes of literals' lengths.
pub(super) const LITERALS: Kind = Kind {
    symbol_max: 35,
    log_max: 9,
    predefined: (
        &[
            4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1,
            -1, -1, -1, -1,
        ],
        6,
    ),
};
/// Codes of offsets: so many more bits.
pub(super) const OFFSETS: Kind = Kind {
    symbol_max: 31,
    log_max: 8,
    predefined: (
        &[1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1],
        5,
    ),
};
/// Codes of matches' lengths.
pub(super) const MATCHES: Kind = Kind {
    symbol_max: 52,
    log_max: 9,
    predefined: (
        &[
            1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
            1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
        ],
        6,
    ),
};

/// Codes below are the length itself; the others (3.1.1.3.2.1.1): the smallest length, and bits that are added.
const LITERALS_PLAIN: u8 = 16;
const LITERALS_CODES: [(u32, u8); 20] = [
    (16, 1),
    (18, 1),
    (20, 1),
    (22, 1),
    (24, 2),
    (28, 2),
    (32, 3),
    (40, 3),
    (48, 4),
    (64, 6),
    (128, 7),
    (256, 8),
    (512, 9),
    (1024, 10),
    (2048, 11),
    (4096, 12),
    (8192, 13),
    (16384, 14),
    (32768, 15),
    (65536, 16),
];
/// Codes below are the length less 3.
const MATCHES_PLAIN: u8 = 32;
const MATCHES_CODES: [(u32, u8); 21] = [
    (35, 1),
    (37, 1),
    (39, 1),
    (41, 1),
    (43, 2),
    (47, 2),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 5),
    (131, 7),
    (259, 8),
    (515, 9),
    (1027, 10),
    (2051, 11),
    (4099, 12),
    (8195, 13),
    (16387, 14),
    (32771, 15),
    (65539, 16),
];

/// One sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) literals: usize,
    pub(super) length: usize,
    pub(super) offset: u64,
}

/// The sequences of a block, one after the other; tables and offsets stay for the next block.
pub(super) struct Sequences {
    literals: Fse<512>,
    offsets: Fse<256>,
    matches: Fse<512>,
    /// The last three offsets, the newest first (3.1.1.5).
    recent: [u32; 3],
    bits: BackwardBits,
    states: (u16, u16, u16),
    left: u32,
}

impl Sequences {
    pub(super) const fn new() -> Sequences {
        Sequences {
            literals: Fse::new(),
            offsets: Fse::new(),
            matches: Fse::new(),
            recent: [0; 3],
            bits: BackwardBits::NONE,
            states: (0, 0, 0),
            left: 0,
        }
    }

    /// A new frame knows no tables, and these offsets.
    pub(super) fn forget(&mut self) {
        self.literals.forget();
        self.offsets.forget();
        self.matches.forget();
        self.recent = [1, 4, 8];
        self.left = 0;
    }

    /// How many are yet to come.
    pub(super) fn left(&self) -> u32 {
        self.left
    }

    /// Begins with the section at `data[at..]`. `None` where it is not sound.
    pub(super) fn begin(&mut self, data: &[u8], at: usize) -> Option<()> {
        let section = data.get(at..)?;
        let (count, header) = match *section {
            [first @ 0..=127, ..] => (u32::from(first), 1),
            [first @ 128..=254, second, ..] => (u32::from(first - 128) << 8 | u32::from(second), 2),
            [255, low, high, ..] => (u32::from(low) + (u32::from(high) << 8) + 0x7f00, 3),
            _ => return None,
        };
        self.left = count;
        if count == 0 {
            return (section.len() == header).then_some(());
        }
        let modes = *section.get(header)?;
        if modes & 3 != 0 {
            return None;
        }
        let mut at = at + header + 1;
        at += table(&mut self.literals, modes >> 6, &data[at..], &LITERALS)?;
        at += table(&mut self.offsets, modes >> 4 & 3, &data[at..], &OFFSETS)?;
        at += table(&mut self.matches, modes >> 2 & 3, &data[at..], &MATCHES)?;
        self.bits = BackwardBits::new(data, at, data.len())?;
        self.states = (
            self.literals.begin(&mut self.bits, data),
            self.offsets.begin(&mut self.bits, data),
            self.matches.begin(&mut self.bits, data),
        );
        (!self.bits.is_overdrawn()).then_some(())
    }

    /// The next of those that are left. `None` where its bits are not there, or say what cannot be.
    pub(super) fn next(&mut self, data: &[u8]) -> Option<Sequence> {
        let bits = &mut self.bits;
        let (literals, offsets, matches) = self.states;
        let code = u32::from(self.offsets.symbol(offsets));
        bits.refill(data);
        let value = (1 << code) + bits.take(code);
        // Lengths have 16 bits each at most.
        if bits.has_less_than(32) {
            bits.refill(data);
        }
        let code = self.matches.symbol(matches);
        let length = match code.checked_sub(MATCHES_PLAIN) {
            None => u32::from(code) + 3,
            Some(code) => {
                let (least, more) = *MATCHES_CODES.get(usize::from(code))?;
                least + bits.take(more.into())
            }
        };
        let code = self.literals.symbol(literals);
        let count = match code.checked_sub(LITERALS_PLAIN) {
            None => u32::from(code),
            Some(code) => {
                let (least, more) = *LITERALS_CODES.get(usize::from(code))?;
                least + bits.take(more.into())
            }
        };
        self.left -= 1;
        if self.left > 0 {
            bits.refill(data);
            self.states.0 = self.literals.next(literals, bits);
            self.states.2 = self.matches.next(matches, bits);
            self.states.1 = self.offsets.next(offsets, bits);
            if bits.is_overdrawn() {
                return None;
            }
        } else {
            bits.refill(data);
            if !bits.is_at_end() {
                return None;
            }
        }
        let offset = self.offset(value, count == 0)?;
        Some(Sequence { literals: count as usize, length: length as usize, offset: offset.into() })
    }

    /// What an offset's value means (3.1.1.5): one of the last three, or 3 more than a new one.
    fn offset(&mut self, value: u32, no_literals: bool) -> Option<u32> {
        let [newest, middle, oldest] = self.recent;
        // Where there are no literals, the newest one would have made one longer match with the one before.
        let offset = match value + u32::from(no_literals && value <= 3) {
            1 => return Some(newest),
            2 => {
                self.recent = [middle, newest, oldest];
                return Some(middle);
            }
            3 => oldest,
            4 if value == 3 => newest.checked_sub(1).filter(|offset| *offset > 0)?,
            value => value - 3,
        };
        self.recent = [offset, newest, middle];
        Some(offset)
    }
}

/// What a table is in this block; how many bytes that took.
fn table<const ROWS: usize>(table: &mut Fse<ROWS>, mode: u8, data: &[u8], kind: &Kind) -> Option<usize> {
    match mode & 3 {
        0 => table.predefined(kind).map(|()| 0),
        1 => table.repeat(*data.first()?, kind).map(|()| 1),
        2 => table.describe(data, kind),
        _ => table.is_made().then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8878, 3.1.1.5 and its table of examples.
    #[test]
    fn offsets_that_repeat() {
        let mut sequences = Sequences::new();
        sequences.forget();
        for (value, no_literals, offset, recent) in [
            (1114, false, Some(1111), [1111, 1, 4]),
            (1, false, Some(1111), [1111, 1, 4]),
            (2225, false, Some(2222), [2222, 1111, 1]),
            (1114, false, Some(1111), [1111, 2222, 1111]),
            (3336, false, Some(3333), [3333, 1111, 2222]),
            (2, false, Some(1111), [1111, 3333, 2222]),
            (3, false, Some(2222), [2222, 1111, 3333]),
            (1, false, Some(2222), [2222, 1111, 3333]),
            (1, true, Some(1111), [1111, 2222, 3333]),
            (2, true, Some(3333), [3333, 1111, 2222]),
            (3, true, Some(3332), [3332, 3333, 1111]),
            (4, true, Some(1), [1, 3332, 3333]),
            (3, true, None, [1, 3332, 3333]),
        ] {
            assert_eq!((sequences.offset(value, no_literals), sequences.recent), (offset, recent));
        }
    }
}
