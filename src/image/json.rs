//! JSON documents of others, read by a table of what is used.
//!
//! A [`Shape`] names the fields that edgepull uses; [`read`] returns these and walks over everything else, however long
//! it is, without keeping it. A field of another type than the table says does not fail the document: it becomes
//! [`Value::Odd`], and whoever needs that field words the error. So an entry that nobody takes does no harm.
//!
//! Everybody else reads these documents with Go's encoding/json, so what that takes is taken, too: keys in another case,
//! the last of two equal keys, `null` for what is missing, and bytes that are no UTF-8, each replaced by U+FFFD. In maps
//! (annotations, labels) the case of a key counts, as it does in Go's.
//!
//! All documents share one walk that is compiled once: derived code for each struct would be larger, and its errors end
//! the document at the first odd field.

use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Deserializer, Result};
use std::borrow::Cow;
#[cfg(feature = "publish")]
use std::collections::BTreeMap;
use std::fmt;

/// The longest string that is kept, in bytes as they are written: what Linux passes to a program in one piece
/// (MAX_ARG_STRLEN), which bounds commands and environments.
pub const STRING_MAX: usize = 128 << 10;

/// How many bytes that are no UTF-8 become U+FFFD, which has three.
const INVALID_MAX: usize = 64 << 10;

/// Says what is kept of a value.
#[derive(Debug)]
pub enum Shape {
    /// A string of at most [`STRING_MAX`] bytes.
    Text,
    /// A whole number from 0 to 2⁶⁴ - 1.
    Number,
    /// Nothing but that there is a value.
    Presence,
    /// The elements of a list, all of one shape.
    List {
        /// The shape of each element.
        of: &'static Shape,
        /// How many elements there may be.
        max: usize,
        /// The constant that says so, for messages.
        limit: &'static str,
    },
    /// These fields of an object, whatever the case of their names is.
    Object(&'static [(&'static str, Shape)]),
    /// These keys of a map, as they are written.
    Map(&'static [(&'static str, Shape)]),
    /// All pairs of a map of strings, but for values that are none.
    #[cfg(feature = "publish")]
    Pairs {
        /// How many pairs there may be.
        max: usize,
        /// The constant that says so, for messages.
        limit: &'static str,
    },
    /// The first pairs of a map of strings, and how many others it has.
    #[cfg(feature = "publish")]
    Words {
        /// How many pairs are kept.
        max: usize,
        /// How many bytes these may have, keys and values together.
        bytes: usize,
    },
}

/// A value, as far as its [`Shape`] keeps it.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Stands for `null`, and for a field that is not there.
    #[default]
    Missing,
    /// A string.
    Text(String),
    /// A number.
    Number(u64),
    /// Anything but `null`.
    Present,
    /// The elements of a list.
    List(Vec<Value>),
    /// The fields of an object or a map, in the order of the table.
    Fields(Vec<Value>),
    /// The pairs of a map of strings.
    #[cfg(feature = "publish")]
    Pairs(BTreeMap<String, String>),
    /// The pairs of a map of strings that are kept.
    #[cfg(feature = "publish")]
    Words {
        /// Holds what is kept.
        kept: BTreeMap<String, String>,
        /// How many are not: those beyond the limits, and those whose value is no string.
        left_out: usize,
    },
    /// Something that the shape does not allow.
    Odd(Odd),
}

/// Says how a value is not what its [`Shape`] asks for; [`Display`](fmt::Display) words it to follow "is".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    /// It has another type, which is named.
    Type(&'static str),
    /// It is a string of more than [`STRING_MAX`] bytes.
    TooLong,
    /// It is a list of more elements than the shape allows.
    TooMany {
        /// How many the shape allows.
        max: usize,
        /// The constant that says so.
        limit: &'static str,
    },
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Odd::Type(name) => f.write_str(name),
            Odd::TooLong => write!(f, "a string of more than {STRING_MAX} bytes (limit STRING_MAX)"),
            Odd::TooMany { max, limit } => write!(f, "a list of more than {max} elements (limit {limit})"),
        }
    }
}

impl Value {
    /// Returns the text; `None` for everything else.
    pub fn text(self) -> Option<String> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the text of something that is needed; `None` if it is missing.
    ///
    /// # Errors
    /// Returns what it is instead, if it is no text.
    pub fn needed_text(self) -> std::result::Result<Option<String>, Odd> {
        match self {
            Value::Text(text) => Ok(Some(text)),
            Value::Odd(odd) => Err(odd),
            _ => Ok(None),
        }
    }

    /// Returns the number of something that is needed; `None` if it is missing.
    ///
    /// # Errors
    /// Returns what it is instead, if it is no number.
    pub fn needed_number(self) -> std::result::Result<Option<u64>, Odd> {
        match self {
            Value::Number(number) => Ok(Some(number)),
            Value::Odd(odd) => Err(odd),
            _ => Ok(None),
        }
    }

    /// Returns the elements of a list that is needed; `None` if it is missing.
    ///
    /// # Errors
    /// Returns what it is instead, if it is no list within its limit.
    pub fn needed_list(self) -> std::result::Result<Option<Vec<Value>>, Odd> {
        match self {
            Value::List(list) => Ok(Some(list)),
            Value::Odd(odd) => Err(odd),
            _ => Ok(None),
        }
    }

    /// Returns the fields of an object or a map of `N` fields; all of them are missing in everything else.
    pub fn fields<const N: usize>(self) -> [Value; N] {
        match self {
            Value::Fields(fields) => fields.try_into().unwrap_or([const { Value::Missing }; N]),
            _ => [const { Value::Missing }; N],
        }
    }

    /// Returns the texts of a list, without what is none in it; `None` if it is no list of at most so many.
    pub fn texts(self) -> Option<Vec<String>> {
        match self {
            Value::List(list) => Some(list.into_iter().filter_map(Value::text).collect()),
            Value::Missing => Some(Vec::new()),
            _ => None,
        }
    }
}

/// Reads a document.
///
/// # Errors
/// Returns serde_json's error for what is no JSON. It quotes nothing of the document.
pub fn read(bytes: &[u8], shape: &'static Shape) -> Result<Value> {
    let text = utf8(bytes);
    let raw: &RawValue = serde_json::from_str(&text)?;
    value(raw.get(), shape)
}

/// Replaces what is no UTF-8. U+FFFD takes up to three times the bytes that it stands for, so a document of which that
/// would make much more becomes `?` in these places: nobody's text is lost who has a few letters of Latin-1.
fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    let invalid: usize = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    if invalid <= INVALID_MAX {
        return String::from_utf8_lossy(bytes);
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    Cow::Owned(text)
}

/// Reads one value, which is JSON: whoever has found where it ends has checked that.
fn value(raw: &str, shape: &'static Shape) -> Result<Value> {
    Ok(match (shape, raw.as_bytes().first()) {
        (_, Some(b'n')) => Value::Missing,
        (Shape::Presence, _) => Value::Present,
        (Shape::Text, Some(b'"')) => match text(raw)? {
            Some(text) => Value::Text(text),
            None => Value::Odd(Odd::TooLong),
        },
        (Shape::Number, Some(b'0'..=b'9')) => match raw.parse() {
            Ok(number) => Value::Number(number),
            Err(_) => Value::Odd(Odd::Type("a number that is not whole, or too large")),
        },
        (Shape::List { of, max, limit }, Some(b'[')) => {
            let list = Elements { of, max: *max };
            match Deserializer::from_str(raw).deserialize_seq(list)? {
                Some(list) => Value::List(list),
                None => Value::Odd(Odd::TooMany { max: *max, limit }),
            }
        }
        (Shape::Object(table) | Shape::Map(table), Some(b'{')) => {
            let any_case = matches!(shape, Shape::Object(_));
            Value::Fields(Deserializer::from_str(raw).deserialize_map(Table { table, any_case })?)
        }
        #[cfg(feature = "publish")]
        (Shape::Pairs { max, limit }, Some(b'{')) => {
            let all = pairs::Limits { max: *max, bytes: usize::MAX };
            let found = Deserializer::from_str(raw).deserialize_map(all)?;
            match found.beyond {
                0 => Value::Pairs(found.kept),
                _ => Value::Odd(Odd::TooMany { max: *max, limit }),
            }
        }
        #[cfg(feature = "publish")]
        (Shape::Words { max, bytes }, Some(b'{')) => {
            let limits = pairs::Limits { max: *max, bytes: *bytes };
            let found = Deserializer::from_str(raw).deserialize_map(limits)?;
            Value::Words { kept: found.kept, left_out: found.beyond + found.odd }
        }
        (_, Some(b'"')) => Value::Odd(Odd::Type("a string")),
        (_, Some(b'[')) => Value::Odd(Odd::Type("a list")),
        (_, Some(b'{')) => Value::Odd(Odd::Type("an object")),
        (_, Some(b't' | b'f')) => Value::Odd(Odd::Type("true or false")),
        (_, Some(b'-')) => Value::Odd(Odd::Type("a negative number")),
        _ => Value::Odd(Odd::Type("a number")),
    })
}

/// Reads a string; `None` if it is longer than [`STRING_MAX`]. Half of a surrogate pair (`\ud800`) is replaced, as in Go.
fn text(raw: &str) -> Result<Option<String>> {
    let quotes = 2;
    if raw.len() > STRING_MAX + quotes {
        return Ok(None);
    }
    Deserializer::from_str(raw).deserialize_bytes(Bytes).map(Some)
}

/// Takes a string's bytes, which need not be UTF-8: JSON can write half of a surrogate pair.
struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> std::result::Result<String, E> {
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// The elements of a list; `None` for more than `max`.
struct Elements {
    of: &'static Shape,
    max: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = Option<Vec<Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> std::result::Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(raw) = from.next_element::<&RawValue>()? {
            if list.len() == self.max {
                while from.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
            list.push(value(raw.get(), self.of).map_err(serde::de::Error::custom)?);
        }
        Ok(Some(list))
    }
}

/// Maps of strings, whatever their keys are.
#[cfg(feature = "publish")]
mod pairs {
    use super::*;
    use serde::Deserialize;

    /// How much of a map is kept.
    pub(super) struct Limits {
        pub(super) max: usize,
        pub(super) bytes: usize,
    }

    /// Holds what was found in a map.
    #[derive(Default)]
    pub(super) struct Found {
        pub(super) kept: BTreeMap<String, String>,
        /// How many pairs are beyond the limits.
        pub(super) beyond: usize,
        /// How many values are no strings.
        pub(super) odd: usize,
    }

    impl<'de> Visitor<'de> for Limits {
        type Value = Found;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> std::result::Result<Found, A::Error> {
            let (mut found, mut room) = (Found::default(), self.bytes);
            while let Some((Key(key), raw)) = from.next_entry::<Key, &RawValue>()? {
                let text = value(raw.get(), &Shape::Text).map_err(serde::de::Error::custom)?.text();
                let Some(text) = text else {
                    found.odd += 1;
                    continue;
                };
                let is_known = found.kept.contains_key(&key);
                match room.checked_sub(key.len() + text.len()) {
                    Some(left) if is_known || found.kept.len() < self.max => {
                        found.kept.insert(key, text);
                        room = left;
                    }
                    _ => found.beyond += 1,
                }
            }
            Ok(found)
        }
    }

    /// A key, in which half of a surrogate pair is replaced, as in a text.
    struct Key(String);

    impl<'de> Deserialize<'de> for Key {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Key, D::Error> {
            from.deserialize_bytes(Bytes).map(Key)
        }
    }
}

/// The fields of an object or a map.
struct Table {
    table: &'static [(&'static str, Shape)],
    any_case: bool,
}

impl<'de> Visitor<'de> for Table {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> std::result::Result<Self::Value, A::Error> {
        let mut fields = vec![Value::Missing; self.table.len()];
        while let Some(at) = from.next_key_seed(&self)? {
            let Some(at) = at else {
                from.next_value::<IgnoredAny>()?;
                continue;
            };
            let raw: &RawValue = from.next_value()?;
            // Go leaves a field as it was where `null` comes for it.
            match value(raw.get(), &self.table[at].1).map_err(serde::de::Error::custom)? {
                Value::Missing => {}
                found => fields[at] = found,
            }
        }
        Ok(fields)
    }
}

/// Finds a key's place in the table.
impl<'de> DeserializeSeed<'de> for &Table {
    type Value = Option<usize>;
    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> std::result::Result<Self::Value, D::Error> {
        from.deserialize_bytes(self)
    }
}

impl Visitor<'_> for &Table {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E>(self, key: &[u8]) -> std::result::Result<Self::Value, E> {
        let exact = self.table.iter().position(|(name, _)| name.as_bytes() == key);
        let in_any_case =
            || self.table.iter().position(|(name, _)| name.as_bytes().eq_ignore_ascii_case(key));
        Ok(exact.or_else(|| self.any_case.then(in_any_case).flatten()))
    }
}
