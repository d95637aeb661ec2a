//! The two ways in which bits are read (RFC 8878, 4.1): table descriptions from the first byte on, everything else from
//! the last one back.

/// What is read from its last bit to its first. It has places in a block rather than the block: who decodes stops
/// in the middle of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct BackwardBits {
    /// The next bit is the highest.
    bits: u64,
    /// How many of them there are; negative when more were taken than there were, zeros then.
    count: i32,
    /// Bytes before this one are yet to come.
    at: usize,
    /// The first byte.
    from: usize,
}

impl BackwardBits {
    pub(super) const NONE: BackwardBits = BackwardBits { bits: 0, count: 0, at: 0, from: 0 };

    /// Those of `data[from..to]`. `None` where there is no byte, or the last one is 0: its highest bit marks the end.
    pub(super) fn new(data: &[u8], from: usize, to: usize) -> Option<BackwardBits> {
        let marker = data.get(from..to)?.last()?.checked_ilog2()?;
        let mut bits = BackwardBits { bits: 0, count: 0, at: to, from };
        bits.refill(data);
        bits.take(8 - marker);
        Some(bits)
    }

    /// After this there are 56 bits, unless the stream has fewer.
    #[inline]
    pub(super) fn refill(&mut self, data: &[u8]) {
        if let Some(eight) = data[self.from..self.at].last_chunk::<8>() {
            // What goes beyond `count` is the same when it is added again.
            self.bits |= u64::from_le_bytes(*eight) >> self.count;
            let bytes = (63 - self.count) >> 3;
            self.at -= bytes as usize;
            self.count += bytes * 8;
            return;
        }
        while self.count <= 56 && self.at > self.from {
            self.at -= 1;
            self.bits |= u64::from(data[self.at]) << 56 >> self.count;
            self.count += 8;
        }
    }

    /// The next `n` bits, at most 56.
    #[inline]
    pub(super) fn take(&mut self, n: u32) -> u32 {
        let taken = self.peek(n);
        self.skip(n);
        taken
    }

    /// The same, but they stay; at most 32.
    #[inline]
    pub(super) fn peek(&self, n: u32) -> u32 {
        (self.bits >> 1 >> (63 - n)) as u32
    }

    #[inline]
    pub(super) fn skip(&mut self, n: u32) {
        self.bits <<= n;
        self.count -= n as i32;
    }

    /// Whether there are fewer than `n`, without a refill.
    #[inline]
    pub(super) fn has_less_than(&self, n: i32) -> bool {
        self.count < n
    }

    /// Whether more were taken than there were.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.count < 0
    }

    /// Whether all were taken, and no more.
    pub(super) fn is_at_end(&self) -> bool {
        self.count == 0 && self.at == self.from
    }
}

/// What is read from the first byte's lowest bit on.
pub(super) struct ForwardBits<'a> {
    data: &'a [u8],
    /// Bits that were taken.
    at: usize,
}

impl<'a> ForwardBits<'a> {
    pub(super) fn new(data: &'a [u8]) -> ForwardBits<'a> {
        ForwardBits { data, at: 0 }
    }

    /// The next `n` bits, at most 16; zeros after the end. They stay.
    pub(super) fn peek(&self, n: u32) -> u32 {
        let byte = |index: usize| u32::from(self.data.get(self.at / 8 + index).copied().unwrap_or(0));
        let bits = byte(0) | byte(1) << 8 | byte(2) << 16;
        bits >> (self.at % 8) & ((1 << n) - 1)
    }

    pub(super) fn skip(&mut self, n: u32) {
        self.at += n as usize;
    }

    /// How many bytes were begun; `None` where that is more than there are.
    pub(super) fn bytes(&self) -> Option<usize> {
        let bytes = self.at.div_ceil(8);
        (bytes <= self.data.len()).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backwards_from_the_marker_to_the_first_bit() {
        // The marker is bit 2 of the last byte: two bits of it, then the bytes before.
        let data = [0xff, 0b1010_0101, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0b0000_0110];
        let mut bits = BackwardBits::new(&data, 1, 12).unwrap();
        assert_eq!(bits.take(2), 0b10);
        for byte in (1..=9).rev() {
            bits.refill(&data);
            assert_eq!((bits.peek(8), bits.take(8)), (byte, byte));
        }
        bits.refill(&data);
        assert_eq!((bits.take(0), bits.take(4)), (0, 0b1010));
        assert!(!bits.is_at_end() && bits.has_less_than(5) && !bits.has_less_than(4));
        assert_eq!(bits.take(4), 0b0101);
        assert!(bits.is_at_end() && !bits.is_overdrawn());
        bits.refill(&data);
        assert_eq!(bits.take(3), 0, "zeros after the end");
        assert!(bits.is_overdrawn());
    }

    #[test]
    fn no_marker_no_bits() {
        assert!(BackwardBits::new(&[1, 2], 1, 1).is_none());
        assert!(BackwardBits::new(&[1, 0], 0, 2).is_none());
        assert!(BackwardBits::new(&[1], 0, 2).is_none());
        assert!(BackwardBits::new(&[1], 0, 1).unwrap().is_at_end());
    }

    #[test]
    fn forwards() {
        let mut bits = ForwardBits::new(&[0b1010_0101, 0b0000_1111]);
        assert_eq!(bits.peek(4), 0b0101);
        bits.skip(6);
        assert_eq!(bits.peek(8), 0b0011_1110);
        bits.skip(10);
        assert_eq!((bits.bytes(), bits.peek(16)), (Some(2), 0));
        bits.skip(1);
        assert_eq!(bits.bytes(), None);
    }
}
