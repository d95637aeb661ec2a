//! The two hashes of a layer: of the bytes on the wire, and of the tar inside (its diff-id).
//!
//! Both are small owned states next to a byte count, fed by whoever moves the bytes. The wire side
//! checks size and digest at the moment the source ends, so that whatever comes after it sees an
//! end only when that end is the true one.

use std::fmt;
use std::io::{self, Read};

use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest, Sha256};

use super::Observer;
use super::codec::{Input, put_bytes, put_number};
use crate::error::{Error, Kind, Result};

/// A sha256 digest.
pub(crate) type Sha = [u8; 32];

/// Bytes that sha256 takes at a time.
const SHA_BLOCK: u64 = 64;
/// Where in sha2's serialized state (32 bytes of words come first) the number of blocks is, in 8 bytes.
const HASHED_BLOCKS: usize = 32;
/// No layer has as much: 64 PiB.
const COUNT_MAX: u64 = 1 << 56;

/// Sha256 and a byte count of what went through.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    hash: Sha256,
    bytes: u64,
}

impl Tally {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn digest(self) -> Sha {
        self.hash.finalize().into()
    }

    /// Writes the state down, for [`Tally::thaw`].
    pub(crate) fn freeze(&self, out: &mut Vec<u8>) {
        put_number(out, self.bytes);
        put_bytes(out, &self.hash.serialize());
    }

    /// Goes on where [`Tally::freeze`] was called. `None` where the two counts, ours and the hash's, are not the same,
    /// or more than anybody has read: with such a one the hash would go beyond 64 bits.
    pub(crate) fn thaw(input: &mut Input<'_>) -> Option<Tally> {
        let bytes = input.number().filter(|bytes| *bytes < COUNT_MAX)?;
        let state = input.bytes()?;
        let blocks = u64::from_le_bytes(*state.get(HASHED_BLOCKS..)?.first_chunk()?);
        if blocks != bytes / SHA_BLOCK {
            return None;
        }
        Some(Tally { hash: Sha256::deserialize(&state.try_into().ok()?).ok()?, bytes })
    }
}

/// Prints a digest as `sha256:…`.
pub(crate) struct Shown<'a>(pub(crate) &'a Sha);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The source of one blob, hashed and counted as it is read, and checked at its end.
pub(crate) struct Wire<'a> {
    source: Box<dyn Read + Send>,
    expected_size: u64,
    expected_digest: Sha,
    observer: &'a dyn Observer,
    tally: Tally,
    /// What the source raised after some bytes of the same call; reported by the next call.
    failed: Option<Error>,
    ended: bool,
}

impl<'a> Wire<'a> {
    /// `source` gives what comes after the bytes of `tally`.
    pub(crate) fn new(
        source: Box<dyn Read + Send>,
        size: u64,
        digest: Sha,
        observer: &'a dyn Observer,
        tally: Tally,
    ) -> Wire<'a> {
        Wire {
            source,
            expected_size: size,
            expected_digest: digest,
            observer,
            tally,
            failed: None,
            ended: false,
        }
    }

    /// Fills `buffer` as far as the source goes. 0 means the end, and that size and digest are right.
    ///
    /// # Errors
    /// [`Kind::Verification`] where they are not; what the source itself raised comes out whole, and is
    /// [`Kind::Other`] where it has no kind.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if let Some(error) = self.failed.take() {
            self.ended = true;
            return Err(error);
        }
        let mut filled = 0;
        while filled < buffer.len() && !self.ended {
            match self.source.read(&mut buffer[filled..]) {
                Ok(0) => self.ended = true,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let error = Error::from_io(Kind::Other, error);
                    if filled == 0 {
                        self.ended = true;
                        return Err(error);
                    }
                    self.failed = Some(error);
                    break;
                }
            }
        }
        self.tally.update(&buffer[..filled]);
        if filled > 0 {
            self.observer.wire_bytes(filled as u64);
        }
        self.verify(filled == 0)?;
        Ok(filled)
    }

    fn verify(&self, at_end: bool) -> Result<()> {
        let (seen, expected) = (self.tally.bytes(), self.expected_size);
        if seen > expected {
            return Err(verification(format!("more bytes came than the {expected} of the descriptor")));
        }
        if !at_end {
            return Ok(());
        }
        if seen < expected {
            return Err(verification(format!("only {seen} of the descriptor's {expected} bytes came")));
        }
        let digest = self.tally.clone().digest();
        if digest != self.expected_digest {
            let (is, should) = (Shown(&digest), Shown(&self.expected_digest));
            return Err(verification(format!("the bytes that came are {is}, not {should}")));
        }
        Ok(())
    }

    /// Everything that came so far.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }
}

fn verification(message: String) -> Error {
    Error::new(Kind::Verification, message)
        .hint("pull again; if it stays, the registry serves a damaged blob")
}

/// Checks the uncompressed bytes against the config's diff-id.
///
/// # Errors
/// [`Kind::Verification`] where they differ.
pub(crate) fn check_diff_id(is: &Sha, should: &Sha) -> Result<()> {
    if is == should {
        return Ok(());
    }
    let message = format!("unpacked, it is {}, not {} as the config says", Shown(is), Shown(should));
    Err(Error::new(Kind::Verification, message).hint("the image was put together wrongly"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Silent;
    impl Observer for Silent {}

    fn digest(bytes: &[u8]) -> Sha {
        Sha256::digest(bytes).into()
    }

    fn read_all(source: impl Read + Send + 'static, size: u64, digest: Sha) -> Result<Vec<u8>> {
        let mut wire = Wire::new(Box::new(source), size, digest, &Silent, Tally::default());
        let (mut all, mut buffer) = (Vec::new(), [0; 7]);
        loop {
            match wire.fill(&mut buffer)? {
                0 => return Ok(all),
                n => all.extend_from_slice(&buffer[..n]),
            }
        }
    }

    #[test]
    fn the_right_bytes_pass_unchanged() {
        let bytes = b"twenty-one good bytes";
        for size in [0, 1, 7, 14, 21] {
            let part = &bytes[..size];
            assert_eq!(read_all(part, size as u64, digest(part)).unwrap(), part);
        }
    }

    #[test]
    fn short_long_and_changed_blobs_are_told_apart() {
        let bytes: &[u8] = b"twenty-one good bytes";
        let say = |result: Result<Vec<u8>>| {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), Kind::Verification);
            error.to_string()
        };
        assert!(say(read_all(&bytes[..20], 21, digest(bytes))).contains("only 20 of the descriptor's 21"));
        assert!(say(read_all(bytes, 20, digest(&bytes[..20]))).contains("more bytes came than the 20"));
        assert!(say(read_all(bytes, 21, digest(b"other"))).contains("not sha256:d9298a10"));
    }

    #[test]
    fn an_error_of_the_source_comes_after_the_bytes_before_it_and_whole() {
        struct Breaks(u8);
        impl Read for Breaks {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 => Err(io::ErrorKind::Interrupted.into()),
                    2 => {
                        buffer[0] = b'x';
                        Ok(1)
                    }
                    _ => Err(Error::new(Kind::Network, "cable cut").into()),
                }
            }
        }
        let mut wire = Wire::new(Box::new(Breaks(0)), 10, digest(b""), &Silent, Tally::default());
        let mut buffer = [0; 7];
        assert_eq!(wire.fill(&mut buffer).unwrap(), 1);
        let error = wire.fill(&mut buffer).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Network, "cable cut"));
    }

    #[test]
    fn a_count_that_is_not_the_hash_s_is_no_tally() {
        for length in [0, 1, 63, 64, 65, 128, 100_000] {
            let mut tally = Tally::default();
            tally.update(&vec![7; length]);
            let mut frozen = Vec::new();
            tally.freeze(&mut frozen);
            let mut thawed = Tally::thaw(&mut Input(&frozen)).expect("it is whole");
            thawed.update(b"and on");
            tally.update(b"and on");
            assert_eq!((thawed.bytes(), thawed.digest()), (tally.bytes(), tally.digest()));
            let state = &frozen[frozen.len() - Sha256::default().serialize().len()..];
            for wrong in [length as u64 + 64, u64::MAX, (length as u64) << 32 | 1 << 60] {
                let mut forged = Vec::new();
                put_number(&mut forged, wrong);
                put_bytes(&mut forged, state);
                assert!(Tally::thaw(&mut Input(&forged)).is_none(), "{wrong} instead of {length}");
            }
            let mut blocks = state.to_vec();
            blocks[HASHED_BLOCKS + 7] = 0xff;
            let mut forged = Vec::new();
            put_number(&mut forged, length as u64);
            put_bytes(&mut forged, &blocks);
            assert!(Tally::thaw(&mut Input(&forged)).is_none(), "{length}");
        }
    }
}
