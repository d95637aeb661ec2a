//! Checks that the bytes of a public key are a point for which only the holder of a private key can sign.
//!
//! ring checks a point only when it verifies, and takes more than that: for Ed25519 points of low order, under which
//! a signature of anything can be made without any key, and encodings that RFC 8032 (5.1.3) does not have. Points
//! that are not on their curve it refuses, but only then, as if the signature were wrong. So every key is checked
//! when it is read. The arithmetic is for public numbers: it does not take the same time for all of them.

/// Counts the 32-bit words of a number modulo a prime, the lowest first: enough for P-384.
const WORDS: usize = 12;

type Number = [u32; WORDS];

/// Gives the prime 2^255 - 19 (RFC 8032, 5.1), big-endian, as all numbers here.
const ED25519_P: &[u8] = b"\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
    \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xed";
/// Gives the d of Ed25519's curve, -x² + y² = 1 + dx²y² (RFC 8032, 5.1).
const ED25519_D: &[u8] = b"\x52\x03\x6c\xee\x2b\x6f\xfe\x73\x8c\xc7\x40\x79\x77\x79\xe8\x98\
    \x00\x70\x0a\x4d\x41\x41\xd8\xab\x75\xeb\x4d\xca\x13\x59\x78\xa3";
/// Lists the y of the points whose order is 1, 2, 4 or 8 (one y is that of two points, x and -x): 1, -1, 0, and two
/// roots. <https://github.com/C2SP/CCTV> (`ed25519/`) has them with their other encodings.
const ED25519_LOW: [&[u8]; 5] = [
    b"\x01",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
        \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xec",
    b"",
    b"\x05\xfc\x53\x6d\x88\x02\x38\xb1\x39\x33\xc6\xd3\x05\xac\xdf\xd5\
        \xf0\x98\xef\xf2\x89\xf4\xc3\x45\xb0\x27\xb2\xc2\x8f\x95\xe8\x26",
    b"\x7a\x03\xac\x92\x77\xfd\xc7\x4e\xc6\xcc\x39\x2c\xfa\x53\x20\x2a\
        \x0f\x67\x10\x0d\x76\x0b\x3c\xba\x4f\xd8\x4d\x3d\x70\x6a\x17\xc7",
];

/// Gives the prime and the b of y² = x³ - 3x + b for P-256 (SP 800-186, 3.2.1.3).
const P256: (&[u8], &[u8]) = (
    b"\xff\xff\xff\xff\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\
        \x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x5a\xc6\x35\xd8\xaa\x3a\x93\xe7\xb3\xeb\xbd\x55\x76\x98\x86\xbc\
        \x65\x1d\x06\xb0\xcc\x53\xb0\xf6\x3b\xce\x3c\x3e\x27\xd2\x60\x4b",
);
/// Gives those of P-384 (SP 800-186, 3.2.1.4).
const P384: (&[u8], &[u8]) = (
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
        \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\
        \xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff",
    b"\xb3\x31\x2f\xa7\xe2\x3e\xe7\xe4\x98\x8e\x05\x6b\xe3\xf8\x2d\x19\
        \x18\x1d\x9c\x6e\xfe\x81\x41\x12\x03\x14\x08\x8f\x50\x13\x87\x5a\
        \xc6\x56\x39\x8d\x8a\x2e\xd1\x9d\x2a\x85\xc8\xed\xd3\xec\x2a\xef",
);

const ASTRAY: &str = "not a point of its curve, so that nobody can sign by it";

/// Checks a public key's bytes. The error says what is wrong with them.
pub(super) type Check = fn(&[u8]) -> Result<(), &'static str>;

/// Checks the 32 bytes of an Ed25519 key.
pub(super) fn check_ed25519(key: &[u8]) -> Result<(), &'static str> {
    let mut y: Vec<u8> = key.iter().rev().copied().collect();
    // The sign of x, which says which one of the two points with this y is meant.
    y[0] &= 0x7f;
    let field = Field::new(ED25519_P);
    let y = number(&y);
    if !is_below(&y, &field.prime) {
        return Err("not in the one encoding that a point has (its y is not below the prime)");
    }
    if ED25519_LOW.iter().any(|low| number(low) == y) {
        return Err("a point of low order, by which anybody can sign anything");
    }
    // x² = (y² - 1) / (dy² + 1): on the curve, if that is a square; and if it is, then the product is one, too.
    let square = field.square(&field.enter(&y));
    let above = field.sum(&square, &field.minus_one());
    let below = field.sum(&field.product(&square, &field.enter(&number(ED25519_D))), &field.one());
    match field.is_square(&field.product(&above, &below)) {
        true => Ok(()),
        false => Err(ASTRAY),
    }
}

/// Checks an uncompressed point of P-256: the 4, x and y.
pub(super) fn check_p256(key: &[u8]) -> Result<(), &'static str> {
    check_prime_curve(P256, key)
}

/// Checks an uncompressed point of P-384: the 4, x and y.
pub(super) fn check_p384(key: &[u8]) -> Result<(), &'static str> {
    check_prime_curve(P384, key)
}

/// Checks that a point is on the curve. No order is checked, because that of P-256 and P-384 is a prime: every point
/// but the one at infinity, which has no x and y, has that order.
fn check_prime_curve((prime, b): (&[u8], &[u8]), key: &[u8]) -> Result<(), &'static str> {
    let field = Field::new(prime);
    let (x, y) = key[1..].split_at(prime.len());
    let (x, y) = (number(x), number(y));
    if !is_below(&x, &field.prime) || !is_below(&y, &field.prime) {
        return Err("not in the one encoding that a point has (x or y is not below the prime)");
    }
    let (x, y) = (field.enter(&x), field.enter(&y));
    let three_x = field.sum(&field.sum(&x, &x), &x);
    let left = field.sum(&field.square(&y), &three_x);
    let right = field.sum(&field.product(&field.square(&x), &x), &field.enter(&number(b)));
    if left == right { Ok(()) } else { Err(ASTRAY) }
}

fn number(bytes: &[u8]) -> Number {
    let mut number = [0; WORDS];
    for (word, bytes) in number.iter_mut().zip(bytes.rchunks(4)) {
        *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
    }
    number
}

fn is_below(one: &Number, other: &Number) -> bool {
    one.iter().rev().lt(other.iter().rev())
}

/// Calculates with numbers modulo a prime, which it holds times 2^384 (Montgomery): [`Field::enter`].
struct Field {
    prime: Number,
    /// Holds -1 / prime modulo 2^32.
    inverse: u32,
}

impl Field {
    fn new(prime: &[u8]) -> Field {
        let prime = number(prime);
        // Newton: every step has twice as many bits right, the first three.
        let inverse = (0..4).fold(prime[0], |inverse, _| {
            inverse.wrapping_mul(2u32.wrapping_sub(prime[0].wrapping_mul(inverse)))
        });
        Field { prime, inverse: inverse.wrapping_neg() }
    }

    /// Returns the form, times 2^384, of a number below the prime.
    fn enter(&self, number: &Number) -> Number {
        (0..32 * WORDS).fold(*number, |number, _| self.sum(&number, &number))
    }

    fn one(&self) -> Number {
        self.enter(&number(&[1]))
    }

    fn minus_one(&self) -> Number {
        self.subtract(&self.prime, &self.one()).0
    }

    fn sum(&self, one: &Number, other: &Number) -> Number {
        let mut carry = 0;
        let sum = std::array::from_fn(|at| {
            let word = u64::from(one[at]) + u64::from(other[at]) + carry;
            carry = word >> 32;
            word as u32
        });
        self.reduce(&sum, carry != 0)
    }

    /// Takes the prime off a number below twice the prime, unless it is below the prime; `carry` is the bit above its
    /// words.
    fn reduce(&self, number: &Number, carry: bool) -> Number {
        match self.subtract(number, &self.prime) {
            (_, true) if !carry => *number,
            (rest, _) => rest,
        }
    }

    /// Returns the difference modulo 2^384, and whether it is below zero.
    fn subtract(&self, one: &Number, other: &Number) -> (Number, bool) {
        let mut borrow = false;
        let difference = std::array::from_fn(|at| {
            let (word, first) = one[at].overflowing_sub(other[at]);
            let (word, second) = word.overflowing_sub(u32::from(borrow));
            borrow = first || second;
            word
        });
        (difference, borrow)
    }

    /// Returns Montgomery's product, word by word (CIOS; Koç, Acar, Kaliski: Analyzing and Comparing Montgomery
    /// Multiplication Algorithms, 1996).
    fn product(&self, one: &Number, other: &Number) -> Number {
        let mut sum: Number = [0; WORDS];
        // What does not fit into the words.
        let mut above = 0u64;
        for word in other {
            let add = |sum: &mut Number, factor: u32, of: &Number| {
                let mut carry = 0u64;
                for (into, word) in sum.iter_mut().zip(of) {
                    carry += u64::from(*into) + u64::from(factor) * u64::from(*word);
                    *into = carry as u32;
                    carry >>= 32;
                }
                carry
            };
            above += add(&mut sum, *word, one);
            let factor = sum[0].wrapping_mul(self.inverse);
            above += add(&mut sum, factor, &self.prime);
            // The lowest word is zero now.
            sum.rotate_left(1);
            sum[WORDS - 1] = above as u32;
            above >>= 32;
        }
        self.reduce(&sum, above != 0)
    }

    fn square(&self, number: &Number) -> Number {
        self.product(number, number)
    }

    /// Returns whether it is a square, zero included, by Euler's criterion: its power of (prime - 1) / 2 is 1.
    fn is_square(&self, number: &Number) -> bool {
        let one = self.one();
        let power = (1..32 * WORDS).rev().fold(one, |power, bit| {
            let power = self.square(&power);
            match self.prime[bit / 32] >> (bit % 32) & 1 {
                0 => power,
                _ => self.product(&power, number),
            }
        });
        power == one || power == [0; WORDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ED25519, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, UnparsedPublicKey,
    };

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// Lists all 14 encodings of the eight points of low order: RFC 8032's, then those that ring takes besides.
    const LOW: [&str; 14] = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ];

    #[test]
    fn points_of_low_order_are_refused_in_every_encoding() {
        // R is the neutral point, s is zero: s·B = R + h·A, wherever h is a multiple of A's order.
        let signature = [&[1][..], &[0; 63]].concat();
        for low in LOW.map(bytes) {
            let forged = (0..200u8)
                .any(|message| UnparsedPublicKey::new(&ED25519, &low).verify(&[message], &signature).is_ok());
            assert!(forged, "{low:02x?}: ring takes a signature that nobody has made");
            let why = check_ed25519(&low).unwrap_err();
            assert!(why.contains("low order") || why.contains("one encoding"), "{low:02x?}: {why}");
        }
    }

    #[test]
    fn an_ed25519_key_has_one_encoding_and_is_on_its_curve() {
        // All y that are not below 2^255 - 19, with either sign.
        for last in 0xed..=0xff {
            for sign in [0x7f, 0xff] {
                let mut key = [0xff; 32];
                (key[0], key[31]) = (last, sign);
                assert!(check_ed25519(&key).unwrap_err().contains("one encoding"), "{last:x}");
            }
        }
        // Calculated elsewhere.
        let on =
            [3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 19, 21, 23, 24, 25, 26, 27, 28, 29, 30, 32, 33, 35, 37, 39];
        for y in 2..40 {
            let mut key = [0; 32];
            key[0] = y;
            for sign in [0, 0x80] {
                key[31] = sign;
                let expected = if on.contains(&y) { Ok(()) } else { Err(ASTRAY) };
                assert_eq!(check_ed25519(&key), expected, "{y}");
            }
        }
    }

    #[test]
    fn keys_that_are_made_are_taken_and_others_of_the_curves_are_not() {
        let random = SystemRandom::new();
        for seed in 0..100 {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
            assert_eq!(check_ed25519(pair.public_key().as_ref()), Ok(()), "{seed}");
        }
        let curves: [(_, Check, _); 2] = [
            (&ECDSA_P256_SHA256_ASN1_SIGNING, check_p256, 32),
            (&ECDSA_P384_SHA384_ASN1_SIGNING, check_p384, 48),
        ];
        for (algorithm, check, length) in curves {
            for _ in 0..50 {
                let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
                let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
                let mut key = pair.public_key().as_ref().to_vec();
                assert_eq!(check(&key), Ok(()), "{key:02x?}");
                let at = 1 + usize::from(key[5]) % (2 * length);
                key[at] ^= 1;
                assert!(check(&key).is_err(), "{at} of {key:02x?}");
            }
            // What stands for the point at infinity elsewhere, and what is zero only modulo the prime.
            assert_eq!(check(&vec![0; 1 + 2 * length]), Err(ASTRAY));
            let prime = if length == 32 { P256.0 } else { P384.0 };
            assert!(check(&[&[4], prime, prime].concat()).unwrap_err().contains("one encoding"));
        }
    }
}
