//! What the targets share: a measure of memory, a home on a disk that may be broken, and builders for what is
//! hostile on purpose.
//!
//! A new target is a file in `fuzz_targets/`, five lines in `Cargo.toml`, and some inputs in `corpus/` (a dictionary in
//! `dictionaries/` where there are words to know):
//!
//! ```ignore
//! //! What has to hold.
//! #![no_main]
//!
//! use edgepull_fuzz::{assert_message, fuzz_target, memory};
//!
//! fuzz_target!(|data: &[u8]| {
//!     match memory::within(16 * data.len() + 16 * 1024, || edgepull::room::Thing::parse(data)) {
//!         Ok(thing) => assert_eq!(thing.written().parse(), Ok(thing)),
//!         Err(error) => assert_message(&error.to_string()),
//!     }
//! });
//! ```
//!
//! Not to panic is the least. What a target asserts besides is what an attacker must not get: memory, another reading
//! of the same bytes, a word to the terminal, a file outside of the root. What is private to a room has a door in its
//! `fuzzing` module (`src/layer/fuzzing.rs`), which only builds with `--cfg fuzzing` have.

pub mod gzip;
pub mod home;
pub mod layers;
pub mod memory;
pub mod ways;

pub use arbitrary;
pub use libfuzzer_sys::fuzz_target;

use arbitrary::{Arbitrary, Unstructured};

/// Takes `T` out of the first bytes, for targets whose rest is text: `None` where there are too few.
pub fn head<T: for<'a> Arbitrary<'a>>(data: &[u8], length: usize) -> Option<(T, &[u8])> {
    let (head, rest) = data.split_at_checked(length)?;
    Some((Unstructured::new(head).arbitrary().ok()?, rest))
}

/// At most so many. (`Vec`'s own way ends every list after two, on the average.)
#[derive(Debug, Clone)]
pub struct UpTo<T, const MOST: usize>(pub Vec<T>);

impl<'a, T: Arbitrary<'a>, const MOST: usize> Arbitrary<'a> for UpTo<T, MOST> {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let count = input.int_in_range(0..=MOST)?;
        (0..count).map(|_| input.arbitrary()).collect::<Result<_, _>>().map(UpTo)
    }
}

/// What must not be in anything that is printed: a terminal would obey it.
pub fn assert_printable(text: &str) {
    assert!(!text.chars().any(char::is_control), "control characters in a message: {text:?}");
}

/// The longest line that is still read by somebody, in bytes.
pub const MESSAGE_MAX: usize = 16 * 1024;

/// A message for people: one line of sensible length.
pub fn assert_message(text: &str) {
    assert_printable(text);
    assert!(text.len() <= MESSAGE_MAX, "a message of {} bytes", text.len());
}
