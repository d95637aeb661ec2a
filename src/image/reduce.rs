//! A list of which some entries are left out, and everything else stays as it was written.

use crate::error::{Error, Kind, Result};
use serde::de::{DeserializeSeed, Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;
use std::fmt;

/// Writes the list `bytes` again, with only the entries whose places, from 0 on, are in `kept`. What is said of each, and of
/// the list, stays; the digest becomes another one.
///
/// # Errors
/// [`Kind::BadImage`] for what is no JSON object.
pub fn reduced(bytes: &[u8], kept: &[usize]) -> Result<Vec<u8>> {
    let text = String::from_utf8_lossy(bytes);
    let mut written = Vec::with_capacity(bytes.len());
    let list = List { kept, written: &mut written };
    match Deserializer::from_str(&text).deserialize_map(list) {
        Ok(()) => Ok(written),
        Err(error) => Err(Error::new(Kind::BadImage, format!("the list is not valid: {error}"))),
    }
}

/// Writes the list as it is read, so that nothing of it has to be kept.
struct List<'a> {
    kept: &'a [usize],
    written: &'a mut Vec<u8>,
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> std::result::Result<(), A::Error> {
        let mut before = b'{';
        while let Some(key) = from.next_key::<String>()? {
            self.written.push(before);
            before = b',';
            serde_json::to_writer(&mut *self.written, &key).map_err(A::Error::custom)?;
            self.written.push(b':');
            // Go takes the key in any case.
            if key.eq_ignore_ascii_case("manifests") {
                from.next_value_seed(Entries { kept: self.kept, written: self.written })?;
            } else {
                self.written.extend(from.next_value::<&RawValue>()?.get().bytes());
            }
        }
        self.written.extend(if before == b'{' { &b"{}"[..] } else { b"}" });
        Ok(())
    }
}

/// Writes those of the entries that are kept.
struct Entries<'a> {
    kept: &'a [usize],
    written: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> std::result::Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> std::result::Result<(), A::Error> {
        self.written.push(b'[');
        let (mut place, mut is_first) = (0, true);
        while let Some(entry) = from.next_element::<&RawValue>()? {
            if self.kept.contains(&place) {
                if !is_first {
                    self.written.push(b',');
                }
                is_first = false;
                self.written.extend(entry.get().bytes());
            }
            place += 1;
        }
        self.written.push(b']');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_stays_as_it_was_written() {
        let list =
            r#" {"schemaVersion" : 2, "manifests": [ {"a": 1.50}, null, {"b":"\u00e9"} ], "x":{"y":[1, 2]}}"#;
        for (kept, entries) in
            [(&[0, 2][..], r#"[{"a": 1.50},{"b":"\u00e9"}]"#), (&[1], "[null]"), (&[], "[]"), (&[7], "[]")]
        {
            let text = String::from_utf8(reduced(list.as_bytes(), kept).unwrap()).unwrap();
            assert_eq!(text, format!(r#"{{"schemaVersion":2,"manifests":{entries},"x":{{"y":[1, 2]}}}}"#));
        }
        assert_eq!(reduced(b"{}", &[]).unwrap(), b"{}");
        for broken in ["", "[]", "{", r#"{"manifests":{}}"#, r#"{"manifests":null}"#] {
            assert_eq!(reduced(broken.as_bytes(), &[]).unwrap_err().kind(), Kind::BadImage, "{broken}");
        }
    }
}
