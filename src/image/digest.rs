//! Content digests: `sha256:` and 64 lower-case hexadecimal digits (image-spec, descriptor.md#digests).

use crate::error::{Error, Kind, Result};
use std::fmt;
use std::str::FromStr;

/// A sha256 digest. sha512, the image-spec's other registered algorithm, is refused by name: no
/// registry in the field serves it, and two algorithms would double what a board has to carry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        use sha2::Digest as _;
        Digest(sha2::Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits without `sha256:`, as an OCI layout names its blob files.
    pub fn hex(&self) -> impl fmt::Display {
        Hex(self.0)
    }

    /// The first 12 hexadecimal digits, which is what people read in progress lines.
    pub fn short(&self) -> impl fmt::Display {
        let mut head = [0u8; 6];
        head.copy_from_slice(&self.0[..6]);
        Hex(head)
    }
}

struct Hex<const N: usize>([u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    /// Parses `sha256:<64 lower-case hex>`. [`Kind::BadImage`] for anything else.
    fn from_str(text: &str) -> Result<Digest> {
        let shown: String = text.chars().take(80).collect();
        let Some(hex) = text.strip_prefix("sha256:") else {
            return Err(Error::new(Kind::BadImage, format!("digest {shown:?} is not a sha256 digest"))
                .hint("edgepull verifies sha256 only"));
        };
        let mut bytes = [0u8; 32];
        let digits = hex.as_bytes();
        let valid = digits.len() == 64
            && bytes.iter_mut().zip(digits.chunks_exact(2)).all(|(byte, pair)| {
                match (nibble(pair[0]), nibble(pair[1])) {
                    (Some(high), Some(low)) => {
                        *byte = high << 4 | low;
                        true
                    }
                    _ => false,
                }
            });
        match valid {
            true => Ok(Digest(bytes)),
            false => Err(Error::new(
                Kind::BadImage,
                format!("digest {shown:?} is not sha256: and 64 lower-case hexadecimal digits"),
            )),
        }
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Digest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sha256 digest")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let digest = Digest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), digest);
        assert_eq!(digest.short().to_string(), "e3b0c44298fc");
    }

    #[test]
    fn refuses_what_is_not_exactly_a_sha256_digest() {
        let good = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for bad in [
            String::new(),
            "sha256:".into(),
            good.into(),
            format!("sha512:{good}{good}"),
            format!("sha256:{}", &good[1..]),
            format!("sha256:{good}0"),
            format!("sha256:{}", good.to_uppercase()),
            format!("sha256:+{}", &good[1..]),
            format!("sha256:é{}", &good[2..]),
        ] {
            assert_eq!(bad.parse::<Digest>().unwrap_err().kind(), Kind::BadImage, "{bad}");
        }
    }
}
