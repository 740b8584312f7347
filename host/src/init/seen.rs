//! A payload as a tree, refused where the strict decoder would refuse it whatever the schema.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::outcome::Reason;

/// A JSON value.
#[derive(Debug)]
pub(super) enum Seen<'a> {
    Null,
    Boolean,
    /// within the range of a BIGINT
    Integer(i64),
    /// an integer beyond it
    Large(u64),
    Float(f64),
    Text(Cow<'a, str>),
    Array(Vec<Seen<'a>>),
    Object(Vec<(Cow<'a, str>, Seen<'a>)>),
}

/// Why a payload cannot be profiled: it will be a dead letter, with this reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unseen(pub Reason);

/// What serde_json's message for a repeated key begins with: it has no errors of our own.
const TWICE: &str = "key occurs twice";

impl<'a> Seen<'a> {
    /// The object in a payload.
    pub(super) fn read(payload: &'a [u8]) -> Result<Seen<'a>, Unseen> {
        if payload.iter().all(u8::is_ascii_whitespace) {
            return Err(Unseen(Reason::EmptyValue));
        }
        let Ok(text) = simdutf8::basic::from_utf8(payload) else { return Err(Unseen(Reason::NotUtf8)) };
        match serde_json::from_str::<Seen<'a>>(text) {
            Ok(seen @ Seen::Object(_)) => Ok(seen),
            Ok(_) => Err(Unseen(Reason::NotAnObject)),
            Err(error) => {
                let said = error.to_string();
                Err(Unseen(match () {
                    () if said.starts_with(TWICE) => Reason::DuplicateKey,
                    () if said.starts_with("recursion limit") => Reason::TooDeep,
                    () if said.starts_with("number out of range") => Reason::OutOfRange,
                    () => Reason::NotJson,
                }))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Seen<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

/// A key or a text, borrowed from the payload where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(Tree)? {
            Seen::Text(text) => Ok(Text(text)),
            _ => Err(D::Error::custom("a key that is no text")),
        }
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Seen<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Seen::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Seen::Boolean)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Seen::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or(Seen::Large(value), Seen::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Seen::Float(value))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Seen::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Seen::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Seen::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Vec<(Cow<'de, str>, Seen<'de>)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some((Text(name), value)) = map.next_entry::<Text<'de>, _>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(TWICE));
            }
            fields.push((name, value));
        }
        Ok(Seen::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_schema_describes_is_refused_with_the_decoders_reason() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        for (payload, expected) in [
            (&b"{}"[..], None),
            (br#"{"a": [1, "x", {"b": null}], "\u0061b": 1.5}"#, None),
            (b" \n", Some(Reason::EmptyValue)),
            (b"\xff", Some(Reason::NotUtf8)),
            (b"{\"a\": 1} {}", Some(Reason::NotJson)),
            (b"[1]", Some(Reason::NotAnObject)),
            (b"{\"a\": 1, \"\\u0061\": 2}", Some(Reason::DuplicateKey)),
            (b"{\"a\": 1e999}", Some(Reason::OutOfRange)),
            (deep.as_bytes(), Some(Reason::TooDeep)),
        ] {
            let found = Seen::read(payload).err().map(|Unseen(reason)| reason);
            assert_eq!(found, expected, "{}", String::from_utf8_lossy(payload));
        }
    }
}
