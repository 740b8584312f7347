//! One JSON value → one value of a column, driven by the column's type.
//!
//! serde_json reads the text, this says what it may be. Nothing is allocated for a value that fits; the path to a value
//! that does not is put together while the parser unwinds.

use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::column::{Bytes, Column, Kind, Object};
use super::{number, time};
use crate::outcome::Reason;

/// What the values of one payload share.
pub(super) struct Context {
    /// whether an undeclared field is a fault
    reject_unknown: bool,
    /// whether any text was skipped without being unescaped
    pub(super) skipped: bool,
    /// why the payload is no row, if the fault is not one of JSON
    pub(super) problem: Option<Problem>,
    /// from the faulty value outwards
    path: Vec<Step>,
    /// bytes that the items of its lists and maps may still take
    room: usize,
}

/// Bytes of the columns that the lists and maps of one payload may take. `{},` is three characters, and an item of a list
/// with a hundred columns takes a kilobyte.
const ROOM: usize = 64 << 20;

/// A fault beyond JSON's grammar.
pub(super) struct Problem {
    pub(super) reason: Reason,
    /// reads on from the path
    pub(super) text: String,
}

enum Step {
    Field(Arc<str>),
    Item(usize),
    /// text of the payload: of any length and content
    Key(String),
}

impl Context {
    /// Ready for the first payload.
    pub(super) fn new(reject_unknown: bool) -> Self {
        Context { reject_unknown, skipped: false, problem: None, path: Vec::new(), room: ROOM }
    }

    /// Makes ready for the next payload.
    pub(super) fn clear(&mut self) {
        self.skipped = false;
        self.problem = None;
        self.path.clear();
        self.room = ROOM;
    }

    /// Bytes that the items of the payload's lists and maps take.
    pub(super) fn grown(&self) -> usize {
        ROOM - self.room
    }

    /// Accounts for one item.
    fn take<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        match self.room.checked_sub(bytes) {
            Some(room) => {
                self.room = room;
                Ok(())
            }
            None => Err(self.fail(Reason::TooLarge, format!("items that take more than {ROOM} bytes as columns"))),
        }
    }

    /// Whether the fault has a place in the schema.
    pub(super) fn has_path(&self) -> bool {
        !self.path.is_empty()
    }

    /// The path to the fault: `context.user.ip`, `items[3].price`, `labels["a b"]`.
    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for step in self.path.iter().rev() {
            match step {
                Step::Field(name) if path.is_empty() => path.push_str(name),
                Step::Field(name) => _ = write!(path, ".{name}"),
                Step::Item(index) => _ = write!(path, "[{index}]"),
                Step::Key(key) if !key.is_empty() && key.len() <= 40 && key.bytes().all(is_plain) => {
                    _ = write!(path, "{}{key}", if path.is_empty() { "" } else { "." });
                }
                Step::Key(key) => {
                    let shown: String = key.chars().take(40).collect();
                    _ = write!(path, "[{shown:?}{}]", if shown.len() < key.len() { "…" } else { "" });
                }
            }
        }
        path
    }

    #[cold]
    fn fail<E: Error>(&mut self, reason: Reason, text: impl Into<String>) -> E {
        self.problem = Some(Problem { reason, text: text.into() });
        E::custom("")
    }

    #[cold]
    fn within<E>(&mut self, step: Step, error: E) -> E {
        self.path.push(step);
        error
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Decodes one value into a column.
pub(super) struct Value<'a> {
    pub(super) column: &'a mut Column,
    pub(super) context: &'a mut Context,
}

impl Value<'_> {
    #[cold]
    fn wrong_type<E: Error>(self, found: &str) -> E {
        let text = format!("expected {}, found {found}", self.column.expected());
        self.context.fail(Reason::WrongType, text)
    }

    /// A value of a numeric column, by its JSON text.
    fn literal<E: Error>(self, text: &str) -> Result<(), E> {
        let found = match text.as_bytes()[0] {
            b'-' | b'0'..=b'9' => return self.number(text),
            b'n' => {
                self.column.push_null();
                return Ok(());
            }
            b't' | b'f' => "boolean",
            b'"' => "text",
            b'[' => "array",
            _ => "object",
        };
        Err(self.wrong_type(found))
    }

    fn number<E: Error>(self, text: &str) -> Result<(), E> {
        let pushed = match &mut self.column.kind {
            Kind::Int { values, min, max } => match number::scaled(text, 0) {
                Ok(value) if (i128::from(*min)..=i128::from(*max)).contains(&value) => {
                    values.push(value as i64);
                    true
                }
                Ok(_) | Err(number::Misfit::Range) => false,
                Err(number::Misfit::Fraction) => return Err(self.wrong_type("number with a fraction")),
            },
            Kind::Decimal { values, scale, limit } => match number::scaled(text, *scale) {
                Ok(value) if value.unsigned_abs() < limit.unsigned_abs() => {
                    values.push(value);
                    true
                }
                Ok(_) | Err(number::Misfit::Range | number::Misfit::Fraction) => false,
            },
            Kind::Float32(values) => push_finite(values, text, f32::is_finite),
            Kind::Float64(values) => push_finite(values, text, f64::is_finite),
            _ => return Err(self.wrong_type("number")),
        };
        if pushed {
            self.column.value_pushed();
            return Ok(());
        }
        let text = format!("number does not fit {}", self.column.type_name());
        Err(self.context.fail(Reason::OutOfRange, text))
    }

    fn date_or_time<E: Error>(self, result: Result<(), time::Misfit>) -> Result<(), E> {
        let (reason, found) = match result {
            Ok(()) => {
                self.column.value_pushed();
                return Ok(());
            }
            Err(time::Misfit::Form) => (Reason::WrongType, "found other text"),
            Err(time::Misfit::NoOffset) => (Reason::WrongType, "found text without an offset"),
            Err(time::Misfit::Offset) => (Reason::WrongType, "found text with an offset"),
            Err(time::Misfit::Range) => (Reason::OutOfRange, "found one that no calendar or clock has"),
        };
        let form = match &self.column.kind {
            Kind::Date(_) => "date like 2026-11-20",
            Kind::Timestamp { zoned: false, .. } => "timestamp like 2026-11-20T21:03:11",
            _ => "timestamp like 2026-11-20T21:03:11Z",
        };
        Err(self.context.fail(reason, format!("expected {form}, {found}")))
    }
}

fn push_finite<T: std::str::FromStr + Copy>(values: &mut Vec<T>, text: &str, is_finite: fn(T) -> bool) -> bool {
    match text.parse::<T>() {
        Ok(value) if is_finite(value) => {
            values.push(value);
            true
        }
        _ => false,
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.column.is_numeric() {
            return self.literal(<&RawValue>::deserialize(deserializer)?.get());
        }
        let Value { column, context } = self;
        let result = deserializer.deserialize_any(Value { column: &mut *column, context: &mut *context });
        match result {
            // a number beyond f64 where none is expected: the parser gives up before the visitor can
            Err(error) if context.problem.is_none() && context.path.is_empty() && is_number_out_of_range(&error) => {
                Err(Value { column, context }.wrong_type("number"))
            }
            result => result,
        }
    }
}

#[cold]
fn is_number_out_of_range(error: &impl fmt::Display) -> bool {
    error.to_string().starts_with("number out of range")
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.column.expected())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.column.push_null();
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        let Kind::Boolean(values) = &mut self.column.kind else { return Err(self.wrong_type("boolean")) };
        values.append(value);
        self.column.value_pushed();
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Err(self.wrong_type("number"))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Err(self.wrong_type("number"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Err(self.wrong_type("number"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match &mut self.column.kind {
            Kind::Text(values) => values.push(text.as_bytes()),
            Kind::Timestamp { values, zoned } => {
                let result = time::timestamp(text, *zoned).map(|t| values.push(t));
                return self.date_or_time(result);
            }
            Kind::Date(values) => {
                let result = time::date(text).map(|d| values.push(d));
                return self.date_or_time(result);
            }
            Kind::Binary(values) => match BASE64.decode_vec(text, &mut values.data) {
                Ok(()) => values.close(),
                Err(_) => return Err(self.wrong_type("other text")),
            },
            _ => return Err(self.wrong_type("text")),
        }
        self.column.value_pushed();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Value { column, context } = self;
        let Kind::List { offsets, items } = &mut column.kind else {
            return Err(Value { column, context }.wrong_type("array"));
        };
        let mut len = 0;
        loop {
            match seq.next_element_seed(Value { column: items, context }) {
                Ok(Some(())) => {
                    context.take(items.width)?;
                    len += 1;
                }
                Ok(None) => break,
                Err(error) => return Err(context.within(Step::Item(len), error)),
            }
        }
        offsets.push(offsets[offsets.len() - 1] + len as i32);
        column.value_pushed();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Value { column, context } = self;
        match &mut column.kind {
            Kind::Struct(object) => struct_fields(object, context, map)?,
            Kind::Map { offsets, keys, values } => {
                let first = keys.len();
                map_entries(keys, values, context, map)?;
                if let Some(key) = repeated(keys, first) {
                    let key = String::from_utf8_lossy(keys.get(key)).into_owned();
                    context.path.push(Step::Key(key));
                    return Err(context.fail(Reason::DuplicateKey, "key occurs twice"));
                }
                offsets.push(keys.len() as i32);
            }
            _ => return Err(Value { column, context }.wrong_type("object")),
        }
        column.value_pushed();
        Ok(())
    }
}

fn struct_fields<'de, A: MapAccess<'de>>(
    object: &mut Object,
    context: &mut Context,
    mut map: A,
) -> Result<(), A::Error> {
    object.open();
    let (mut shown, mut guess) = (0, 0);
    while let Some(found) = map.next_key_seed(FieldName { object, guess, context })? {
        let Some(field) = found else {
            context.skipped = true;
            map.next_value::<IgnoredAny>()?;
            continue;
        };
        guess = field + 1;
        if let Err(error) = map.next_value_seed(Value { column: &mut object.children[field], context }) {
            return Err(context.within(Step::Field(object.names[field].clone()), error));
        }
        shown += 1;
    }
    object.close(shown);
    Ok(())
}

fn map_entries<'de, A: MapAccess<'de>>(
    keys: &mut Bytes,
    values: &mut Column,
    context: &mut Context,
    mut map: A,
) -> Result<(), A::Error> {
    while map.next_key_seed(MapKey(keys))?.is_some() {
        if let Err(error) = map.next_value_seed(Value { column: values, context }) {
            let key = String::from_utf8_lossy(keys.get(keys.len() - 1)).into_owned();
            return Err(context.within(Step::Key(key), error));
        }
        context.take(values.width + size_of::<i32>())?;
    }
    Ok(())
}

/// A key from `first` on that stood there before.
fn repeated(keys: &Bytes, first: usize) -> Option<usize> {
    // comparing a few with each other allocates nothing; a payload may have a hundred thousand
    if keys.len() - first <= 16 {
        return (first..keys.len()).find(|&i| (first..i).any(|j| keys.get(i) == keys.get(j)));
    }
    let mut seen = HashSet::with_capacity(keys.len() - first);
    (first..keys.len()).find(|&i| !seen.insert(keys.get(i)))
}

/// Finds the field that a key names; `None` if it is not declared.
struct FieldName<'a> {
    object: &'a mut Object,
    guess: usize,
    context: &'a mut Context,
}

impl<'de> DeserializeSeed<'de> for FieldName<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        match self.object.field(name, self.guess) {
            Some(field) if self.object.is_first(field) => Ok(Some(field)),
            Some(field) => {
                self.context.path.push(Step::Field(self.object.names[field].clone()));
                Err(self.context.fail(Reason::DuplicateKey, "key occurs twice"))
            }
            None if self.context.reject_unknown => {
                self.context.path.push(Step::Key(name.to_owned()));
                Err(self.context.fail(Reason::UnknownField, "field is not declared"))
            }
            None => Ok(None),
        }
    }
}

struct MapKey<'a>(&'a mut Bytes);

impl<'de> DeserializeSeed<'de> for MapKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MapKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        self.0.push(key.as_bytes());
        Ok(())
    }
}
