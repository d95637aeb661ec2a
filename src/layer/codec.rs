//! How edgepull writes down what it keeps of a layer: numbers of seven bits a byte, lowest first (LEB128),
//! and byte strings behind their length. Nothing depends on the machine's word size or byte order.

/// Appends a number, in 1 to 10 bytes.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number; small ones, of either sign, are short.
pub(super) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// Appends a string behind its length.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes apart what was put together. `None` wherever something is missing or makes no sense.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A number that fits `T`.
    pub(super) fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        self.number()?.try_into().ok()
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A string behind its length.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.small()?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_strings_come_back() {
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
        let signed = [0, -1, 1, -64, 64, i64::MIN, i64::MAX];
        let mut out = Vec::new();
        numbers.iter().for_each(|number| put_number(&mut out, *number));
        signed.iter().for_each(|number| put_signed(&mut out, *number));
        put_bytes(&mut out, b"");
        put_bytes(&mut out, &[7; 200]);
        let mut input = Input(&out);
        assert!(numbers.iter().all(|number| input.number() == Some(*number)));
        assert!(signed.iter().all(|number| input.signed() == Some(*number)));
        assert_eq!((input.bytes(), input.bytes()), (Some(&b""[..]), Some(&[7; 200][..])));
        assert!(input.0.is_empty());
    }

    #[test]
    fn what_is_cut_or_too_large_is_nothing() {
        assert_eq!(Input(&[0x80]).number(), None);
        assert_eq!(Input(&[0xff; 10]).number(), None, "more than 64 bits");
        assert_eq!(Input(&[0x80; 20]).number(), None, "endless");
        assert_eq!(Input(&[0xac, 2]).small::<u8>(), None, "300 is no byte");
        assert_eq!(Input(&[5, b'x']).bytes(), None);
        assert_eq!(Input(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).bytes(), None);
    }
}
