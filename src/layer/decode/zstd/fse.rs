//! Finite State Entropy (RFC 8878, 4.1): a state is a row of a table, and says a symbol, and with some more bits the next
//! state.

use super::bits::{BackwardBits, ForwardBits};

/// One state.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    /// The next state, less the bits that are read.
    base: u16,
    bits: u8,
    symbol: u8,
}

/// A table of at most `ROWS` states.
pub(super) struct Fse<const ROWS: usize> {
    rows: [Row; ROWS],
    /// Bits of a state: its rows are 2 to the power of this.
    log: u32,
    /// Whether there is one at all.
    made: bool,
}

/// What tables of its kind have at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// The largest symbol.
    pub(super) symbol_max: u8,
    pub(super) log_max: u32,
    /// What is in use where a block does not bring its own, -1 for "less than 1", and the bits of its states.
    pub(super) predefined: (&'static [i16], u32),
}

/// No alphabet here has more symbols.
const SYMBOLS_MAX: usize = 256;

impl<const ROWS: usize> Fse<ROWS> {
    pub(super) const fn new() -> Fse<ROWS> {
        Fse { rows: [Row { base: 0, bits: 0, symbol: 0 }; ROWS], log: 0, made: false }
    }

    /// A new frame knows none.
    pub(super) fn forget(&mut self) {
        self.made = false;
    }

    pub(super) fn is_made(&self) -> bool {
        self.made
    }

    /// One symbol, for ever. `None` where there is no such one.
    pub(super) fn repeat(&mut self, symbol: u8, kind: &Kind) -> Option<()> {
        self.rows[0] = Row { base: 0, bits: 0, symbol };
        self.log = 0;
        self.made = true;
        (symbol <= kind.symbol_max).then_some(())
    }

    pub(super) fn predefined(&mut self, kind: &Kind) -> Option<()> {
        self.build(kind.predefined.0, kind.predefined.1)
    }

    /// From its description (4.1.1), whose length in bytes comes out. `None` where it is not sound.
    pub(super) fn describe(&mut self, data: &[u8], kind: &Kind) -> Option<usize> {
        let mut bits = ForwardBits::new(data);
        let log = bits.peek(4) + 5;
        bits.skip(4);
        if log > kind.log_max {
            return None;
        }
        let mut shares = [0i16; SYMBOLS_MAX];
        let mut symbol = 0;
        // Shares of the rows that are still to be given away.
        let mut left: i32 = 1 << log;
        while left > 0 {
            let values = left as u32 + 2;
            let width = (values - 1).ilog2() + 1;
            let mut value = bits.peek(width);
            // The smallest values do with a bit less.
            let short = (1 << width) - values;
            let low = value & ((1 << (width - 1)) - 1);
            if low < short {
                value = low;
                bits.skip(width - 1);
            } else {
                if value >= 1 << (width - 1) {
                    value -= short;
                }
                bits.skip(width);
            }
            let share = value as i16 - 1;
            if symbol > usize::from(kind.symbol_max) {
                return None;
            }
            shares[symbol] = share;
            symbol += 1;
            left -= i32::from(share.abs());
            if share == 0 {
                loop {
                    let more = bits.peek(2);
                    bits.skip(2);
                    symbol += more as usize;
                    if more < 3 {
                        break;
                    }
                    // Where the data has ended there are zeros; where it has not, this many have no place.
                    if symbol > SYMBOLS_MAX {
                        return None;
                    }
                }
            }
        }
        let length = bits.bytes()?;
        if left < 0 {
            return None;
        }
        self.build(&shares[..=usize::from(kind.symbol_max)], log)?;
        Some(length)
    }

    /// 4.1.1, "From normalized distribution to decoding tables".
    fn build(&mut self, shares: &[i16], log: u32) -> Option<()> {
        let size = 1usize << log;
        let rows = self.rows.get_mut(..size)?;
        let mut next = [0u16; SYMBOLS_MAX];
        let mut high = size;
        for (symbol, &share) in shares.iter().enumerate() {
            next[symbol] = share.unsigned_abs();
            if share == -1 {
                high = high.checked_sub(1)?;
                rows[high].symbol = symbol as u8;
            }
        }
        let (step, mask) = ((size >> 1) + (size >> 3) + 3, size - 1);
        let mut at = 0;
        for (symbol, &share) in shares.iter().enumerate() {
            for _ in 0..share.max(0) {
                rows[at].symbol = symbol as u8;
                loop {
                    at = (at + step) & mask;
                    if at < high {
                        break;
                    }
                }
            }
        }
        for row in rows {
            let state = &mut next[usize::from(row.symbol)];
            let bits = log - u32::from(*state).checked_ilog2()?;
            row.bits = bits as u8;
            row.base = ((usize::from(*state) << bits) - size) as u16;
            *state += 1;
        }
        self.log = log;
        self.made = true;
        Some(())
    }

    /// The first state.
    pub(super) fn begin(&self, bits: &mut BackwardBits, data: &[u8]) -> u16 {
        bits.refill(data);
        bits.take(self.log) as u16
    }

    #[inline]
    pub(super) fn symbol(&self, state: u16) -> u8 {
        self.rows[usize::from(state)].symbol
    }

    /// The next state: at most 9 bits.
    #[inline]
    pub(super) fn next(&self, state: u16, bits: &mut BackwardBits) -> u16 {
        let row = self.rows[usize::from(state)];
        row.base + bits.take(row.bits.into()) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { symbol_max: 5, log_max: 6, predefined: (&[], 0) };

    #[test]
    fn a_description_gives_away_all_rows_or_is_refused() {
        // 5 bits a state: 32 rows. 31 + 1 of them for symbol 0 (value 33 of 0..=33 in 6 bits).
        let mut table = Fse::<64>::new();
        assert_eq!(
            table.describe(&[0b1111_0000, 0b11], &KIND),
            Some(2),
            "value 63 - 30 = 33: all for symbol 0"
        );
        assert!((0..32).all(|state| table.symbol(state) == 0));
        assert_eq!(table.describe(&[0b1111_0000], &KIND), None, "it ends in the middle");
        assert_eq!(table.describe(&[0x02, 0, 0, 0], &KIND), None, "states of 7 bits");
        assert_eq!(table.describe(&[0x10, 0xfe, 0xff, 0xff], &KIND), None, "zeros without end");
    }

    #[test]
    fn every_predefined_table_is_complete() {
        for kind in [
            &super::super::sequences::LITERALS,
            &super::super::sequences::OFFSETS,
            &super::super::sequences::MATCHES,
        ] {
            let mut table = Fse::<512>::new();
            table.predefined(kind).unwrap();
            let shares: i16 = kind.predefined.0.iter().map(|share| share.abs()).sum();
            assert_eq!(shares, 1 << kind.predefined.1);
        }
    }
}
