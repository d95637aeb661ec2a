//! Holds text of others, which is cut where it enters, so that a record has an end by construction.

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// Stands in the place of the part that was cut.
const CUT: char = '…';

/// Holds a text of at most `MAX` bytes of UTF-8 without control characters. It keeps the beginning and the end of a
/// longer one, with `…` between, because a command's failure is told behind the command. Spaces replace control
/// characters.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// Returns the text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> From<&str> for Text<MAX> {
    fn from(text: &str) -> Text<MAX> {
        Text(cut(text, MAX))
    }
}

/// Cuts `text` to `max` bytes: one function for all lengths.
fn cut(text: &str, max: usize) -> String {
    let printable = |character: char| if character.is_control() { ' ' } else { character };
    if text.len() <= max {
        return text.chars().map(printable).collect();
    }
    // The bytes that are kept of its end, and of its beginning.
    let (end, beginning) = (max / 4, max - max / 4 - CUT.len_utf8());
    let boundary = |at: &usize| text.is_char_boundary(*at);
    let first = (0..=beginning).rev().find(boundary).unwrap_or(0);
    let last = (text.len() - end..=text.len()).find(boundary).unwrap_or(text.len());
    text[..first].chars().chain([CUT]).chain(text[last..].chars()).map(printable).collect()
}

impl<const MAX: usize> From<String> for Text<MAX> {
    fn from(text: String) -> Text<MAX> {
        text.as_str().into()
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MAX: usize> Serialize for Text<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<MAX>, D::Error> {
        struct Cutting<const MAX: usize>;
        impl<const MAX: usize> Visitor<'_> for Cutting<MAX> {
            type Value = Text<MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<MAX>, E> {
                Ok(text.into())
            }
        }
        deserializer.deserialize_str(Cutting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        let text = Text::<40>::from(format!("the health command \"{}\" ended with 7", "x".repeat(1000)));
        assert_eq!(text.as_str(), "the health command \"xxxxxxx…ded with 7");
        assert_eq!(text.as_str().len(), 40);
        assert_eq!(Text::<40>::from("x".repeat(40)).as_str(), "x".repeat(40));
        assert_eq!(Text::<40>::from(text.as_str()), text);
    }

    #[test]
    fn it_is_cut_between_letters_wherever_they_begin() {
        for shift in 0..8 {
            let long = format!("{}{}", "x".repeat(shift), "€𝄞".repeat(100));
            let text = Text::<40>::from(long.as_str());
            assert!((30..=40).contains(&text.as_str().len()) && text.as_str().contains('…'), "{text:?}");
            let read: Text<40> = serde_json::from_str(&serde_json::to_string(&long).unwrap()).unwrap();
            assert_eq!(read, text);
        }
    }

    #[test]
    fn no_control_character_gets_in() {
        let text: Text<40> = serde_json::from_str(r#""\u001b[2Ja\nb\u009bc\u007f\u0000""#).unwrap();
        assert_eq!(text.to_string(), " [2Ja b c  ");
        let long = Text::<40>::from("\n".repeat(1000));
        assert_eq!(long.as_str(), format!("{}…{}", " ".repeat(27), " ".repeat(10)));
    }
}
