//! Makes text from the confined process fit for people, and keeps apart the data that must not be changed.
//!
//! Its messages are JSON. Before anything reads one, every string in it is made fit for a terminal, a log and a record: a
//! control character becomes `?`, and what is longer than 4 KiB is cut ([`TEXT_MAX`]). Nobody who adds a field has to
//! think of that. Data that has to come as it is (an image's command may well have a line end in it) says so by its type:
//! [`Verbatim`].

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::Write;

/// Limits a text, in bytes of JSON.
const TEXT_MAX: usize = 4096;
/// Replaces a control character, as it is and as an escape sequence.
const REPLACEMENT: u8 = b'?';
const ESCAPED: &[u8] = b"\\u003f";

/// Makes the strings of a JSON text fit to be read by people, in place. Text that is not JSON does not become JSON.
pub(super) fn make_readable(json: &mut Vec<u8>) {
    let (mut from, mut to) = (0, 0);
    // The bytes of the string that has begun.
    let mut string: Option<usize> = None;
    while from < json.len() {
        let length = string.map_or(1, |_| unit(&json[from..]));
        let is_quote = json[from] == b'"';
        match &mut string {
            None if is_quote => string = Some(0),
            None => {}
            Some(_) if is_quote => string = None,
            Some(bytes) => {
                neutralize(&mut json[from..from + length]);
                *bytes += length;
                if *bytes > TEXT_MAX {
                    from += length;
                    continue;
                }
            }
        }
        json.copy_within(from..from + length, to);
        (from, to) = (from + length, to + length);
    }
    json.truncate(to);
}

/// Counts the bytes that the first character of `rest`, within a string, takes.
fn unit(rest: &[u8]) -> usize {
    let length = match rest {
        // Beyond U+FFFF there are two.
        [b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', _, _, b'\\', b'u', ..] => 12,
        [b'\\', b'u', ..] => 6,
        [b'\\', ..] => 2,
        [0xc0..=0xdf, ..] => 2,
        [0xe0..=0xef, ..] => 3,
        [0xf0..=0xf7, ..] => 4,
        _ => 1,
    };
    length.min(rest.len())
}

/// Replaces a control character.
fn neutralize(character: &mut [u8]) {
    match character {
        [b'\\', b'n' | b'r' | b't' | b'b' | b'f'] | [0xc2, 0x80..=0x9f] => character.fill(REPLACEMENT),
        [b'\\', b'u', digits @ ..] if digits.len() == 4 => {
            let code = std::str::from_utf8(digits).ok().and_then(|text| u32::from_str_radix(text, 16).ok());
            if code.and_then(char::from_u32).is_some_and(char::is_control) {
                character.copy_from_slice(ESCAPED);
            }
        }
        [byte] if byte.is_ascii_control() => *byte = REPLACEMENT,
        _ => {}
    }
}

/// Holds data that the confined process hands over as it is, control characters and all. Whoever takes it must not
/// show it.
#[derive(Debug)]
pub struct Verbatim<T>(pub T);

impl<T: Serialize> Serialize for Verbatim<T> {
    /// Writes the data's JSON as a list of strings, in which every control character is escaped, and none of which is so
    /// long that it would be cut.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json = serde_json::to_string(&self.0).map_err(serde::ser::Error::custom)?;
        let (mut pieces, mut piece, mut written) = (Vec::new(), String::new(), 0);
        for character in json.chars() {
            let is_escaped = character.is_control();
            // In JSON within JSON, where a backslash is two bytes.
            let bytes = match character {
                '"' | '\\' => 2,
                _ if is_escaped => "\\\\u0000".len(),
                other => other.len_utf8(),
            };
            if written + bytes > TEXT_MAX {
                pieces.push(std::mem::take(&mut piece));
                written = 0;
            }
            written += bytes;
            match is_escaped {
                true => {
                    write!(piece, "\\u{:04x}", u32::from(character)).map_err(serde::ser::Error::custom)?
                }
                false => piece.push(character),
            }
        }
        pieces.push(piece);
        pieces.serialize(serializer)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Verbatim<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Verbatim<T>, D::Error> {
        let pieces = Vec::<String>::deserialize(deserializer)?;
        serde_json::from_str(&pieces.concat()).map(Verbatim).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable<T: DeserializeOwned>(json: &str) -> T {
        let mut bytes = json.as_bytes().to_vec();
        make_readable(&mut bytes);
        assert!(bytes.len() <= json.len());
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[test]
    fn no_text_has_a_control_character_whatever_it_is_written_as() {
        let said: Vec<String> =
            readable("[\"a\\u001b[2J\\u009bb\", \"\\n\\r\\t\\b\\f\", \"\u{7f}\u{9b}\u{85}\"]");
        assert_eq!(said, ["a?[2J?b", "??????????", "?????"]);
        // What only looks so, and what people write.
        let said: Vec<String> = readable("[\"\\\\u001b\\\\n\", \"\\\"\\u00e9é\\ud83d\\ude00😀\\/\"]");
        assert_eq!(said, ["\\u001b\\n", "\"éé😀😀/"]);
        let said: std::collections::BTreeMap<String, u8> = readable("{\"\\u001bkey\": 7}");
        assert_eq!(said["?key"], 7);
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        for unit in ["a", "é", "\\u00e9", "\\ud83d\\ude00", "\\\\", "😀"] {
            let said: (String, u8) = readable(&format!("[\"{}\", 1]", unit.repeat(5000)));
            let most = TEXT_MAX / unit.len();
            assert_eq!((said.0.chars().count(), said.1), (most, 1), "{unit}");
        }
    }

    #[test]
    fn what_is_no_json_is_no_trouble() {
        for text in ["\"", "\"\\", "\"\\u", "\"\\ud8", "\"\\ud800\\u", "\"\u{7f}", "]\"[\"\\", ""] {
            for cut in 0..=text.len() {
                let mut bytes = text.as_bytes()[..cut].to_vec();
                make_readable(&mut bytes);
                assert!(serde_json::from_slice::<String>(&bytes).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn data_comes_as_it_is() {
        let whole = |text: String| {
            let data = vec![text];
            let mut sent = serde_json::to_vec(&Verbatim(&data)).unwrap();
            make_readable(&mut sent);
            assert_eq!(serde_json::from_slice::<Verbatim<Vec<String>>>(&sent).unwrap().0, data);
        };
        whole("sh\n\t\u{1b}\u{9b}\u{7f}".to_owned());
        for unit in
            ["a", "\"", "\\", "\n", "\u{1b}", "\u{7f}", "\u{80}", "é", "\u{ffff}", "😀", "é\"\\😀\u{9b}"]
        {
            // A text ends at each place of it.
            (0..7).for_each(|before| whole("a".repeat(before) + &unit.repeat(3000)));
        }
    }
}
