//! A small JSON tree for documents that decide about trust: keys that occur twice are refused, at any depth,
//! because two programs would read two things; and the number of values is bounded.
//!
//! Numbers keep no value, for nothing here is decided by one.

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The most values that a document may have, keys not counted. A policy with a hundred scopes has about a thousand.
pub(super) const VALUES_MAX: usize = 16 << 10;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json {
    /// `null`, a number, `true` or `false`.
    Other,
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object, in the order of the document; no key occurs twice.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a whole document. The error is one line.
    pub(super) fn parse(bytes: &[u8]) -> Result<Json, String> {
        let mut left = VALUES_MAX;
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let value = Seed(&mut left).deserialize(&mut deserializer);
        let whole = value.and_then(|value| deserializer.end().map(|()| value));
        whole.map_err(|error| error.to_string())
    }

    /// The text, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The array's elements; none for everything else.
    pub(super) fn list(&self) -> &[Json] {
        match self {
            Json::List(list) => list,
            _ => &[],
        }
    }

    /// What stands under `key` of an object.
    pub(super) fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(fields) => fields.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text under `key` of an object.
    pub(super) fn text_at(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Json::text)
    }

    /// Whether it is an object with these keys and no others.
    pub(super) fn has_exactly(&self, keys: &[&str]) -> bool {
        match self {
            Json::Object(fields) => {
                fields.len() == keys.len() && keys.iter().all(|key| self.get(key).is_some())
            }
            _ => false,
        }
    }
}

/// Counts the values that may still come.
struct Seed<'a>(&'a mut usize);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Json, D::Error> {
        match self.0.checked_sub(1) {
            Some(left) => *self.0 = left,
            None => return Err(D::Error::custom("more than 16384 values (limit VALUES_MAX)")),
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = from.next_element_seed(Seed(self.0))? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut fields: Vec<(String, Json)> = Vec::new();
        while let Some(key) = from.next_key::<String>()? {
            let value = from.next_value_seed(Seed(self.0))?;
            fields.push((key, value));
        }
        let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(A::Error::custom(format_args!("{:?} occurs twice", pair[0]))),
            None => Ok(Json::Object(fields)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_occurs_twice_is_refused_wherever_it_is() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"x":{"b":[],"c":0,"b":null}}]"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(Json::parse(text.as_bytes()).unwrap_err().contains("occurs twice"), "{text}");
        }
        let good = Json::parse(br#"{"a":[{"a":"x"},1.5,-1,null,true],"b":{}}"#).unwrap();
        assert_eq!(good.get("a").unwrap().list()[0].text_at("a"), Some("x"));
        assert!(good.has_exactly(&["b", "a"]) && !good.has_exactly(&["a"]) && !good.has_exactly(&["a", "c"]));
    }

    #[test]
    fn what_is_no_single_document_is_refused() {
        for text in ["", "{", r#"{"a":1}x"#, r#"{"a":1}{}"#, r#"{"a":1,}"#, "\u{feff}{}", r#""\ud800""#] {
            assert!(Json::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn values_and_nesting_are_bounded() {
        let list = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        assert_eq!(Json::parse(list(VALUES_MAX - 1).as_bytes()).unwrap().list().len(), VALUES_MAX - 1);
        assert!(Json::parse(list(VALUES_MAX).as_bytes()).unwrap_err().contains("VALUES_MAX"));
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(Json::parse(deep.as_bytes()).unwrap_err().contains("recursion"));
    }
}
