//! Bytes → Arrow rows, strictly. What cannot be decoded is an [`Outcome`](crate::outcome::Outcome), not an error.
//!
//! No clock, no I/O, no async, and no guess: a payload is proven to be exactly one JSON object of exact types before a
//! value of it stays in a column.
//!
//! | declared | what a value may be, beside `null` |
//! |---|---|
//! | boolean | `true`, `false` |
//! | integers | a number without fraction, in range: `1`, `1.0`, `1e3`, `-0`; not `1.5`, not `"1"` |
//! | floats | a finite number |
//! | decimal(p,s) | a number that it holds exactly; not text |
//! | date | text `2026-11-20` |
//! | timestamp | text in RFC 3339 with an offset; digits beyond microseconds are cut off |
//! | text | text |
//! | binary | text in base64, padded |
//! | struct | an object; a missing field is null |
//! | list, map | an array; an object |
//!
//! Refused anywhere: text after the object, a byte order mark, raw control characters, bad UTF-8, half a surrogate pair,
//! more than 128 levels. A key twice is refused where the key is declared or is a map's; an undeclared field is not looked
//! into beyond being JSON, so keys may repeat within it. Details name path and types, never a value: values may be secret.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::DataType;
use serde::de::{DeserializeSeed, IgnoredAny};

use self::column::Column;
use self::scan::Suspects;
use self::value::{Context, Value};
use crate::config::UnknownFields;
use crate::error::{Error, Result};
use crate::outcome::{Dead, Reason, Stage};
use crate::record::RawBatch;
use crate::schema::Schema;

mod column;
#[cfg(test)]
mod fuzz;
mod number;
#[cfg(test)]
mod oracle;
mod scan;
#[cfg(test)]
mod tests;
pub(crate) mod time;
mod value;

/// What a batch of records became.
#[derive(Debug)]
pub struct Decoded {
    /// the declared columns
    pub rows: RecordBatch,
    /// row → index of its record
    pub origin: Vec<u32>,
    /// row → its ordinal within the record
    pub ordinal: Vec<u32>,
    /// records that did not decode
    pub dead: Vec<Dead>,
}

/// Decodes JSON payloads by a schema; kept by one thread and used for many batches.
pub struct JsonDecoder {
    schema: Arc<Schema>,
    max_record: usize,
    /// a struct of all declared columns
    root: Column,
    context: Context,
}

/// Why a payload is no row, and what a person needs.
type Refusal = (Reason, String);

impl JsonDecoder {
    /// A decoder for rows of `schema`; payloads longer than `max_record` bytes are dead.
    ///
    /// Fails on a type that no JSON value is decoded to.
    pub fn new(schema: Arc<Schema>, unknown_fields: UnknownFields, max_record: usize) -> Result<Self> {
        let root = Column::new(&DataType::Struct(schema.arrow.fields().clone())).map_err(|unsupported| {
            Error::Config(format!("cannot decode JSON into the schema: it has a column of type {}", unsupported.0))
        })?;
        let reject_unknown = match unknown_fields {
            UnknownFields::Ignore => false,
            UnknownFields::Reject => true,
        };
        Ok(JsonDecoder { schema, max_record, root, context: Context::new(reject_unknown) })
    }

    /// Decodes every record for which `skip` is not true.
    ///
    /// # Panics
    /// Where `raw` holds 2 GiB or more: sources make batches of a few MiB, and Arrow's offsets have 31 bits.
    pub fn decode(&mut self, raw: &RawBatch, skip: impl Fn(usize) -> bool) -> Decoded {
        self.decode_within(raw, skip, usize::MAX).expect("nothing is larger than all of memory")
    }

    /// The same; `None` where the columns would take about `most` bytes more than the payloads: cut the batch, then. A few
    /// characters can be an item of a list with hundreds of columns.
    ///
    /// # Panics
    /// As [`decode`](Self::decode).
    pub fn decode_within(&mut self, raw: &RawBatch, skip: impl Fn(usize) -> bool, most: usize) -> Option<Decoded> {
        assert!(i32::try_from(raw.data.len()).is_ok(), "a batch of {} bytes: sources bound them", raw.data.len());
        let mut origin = Vec::with_capacity(raw.records.len());
        let mut dead = Vec::new();
        let mut grown = 0usize;
        for record in (0..raw.records.len()).filter(|record| !skip(*record)) {
            let decoded = self.payload(raw, record);
            grown = grown.saturating_add(self.root.width + self.context.grown());
            if grown > most {
                self.root.truncate(0);
                return None;
            }
            match decoded {
                Ok(()) => origin.push(record as u32),
                Err((reason, detail)) => {
                    self.root.truncate(origin.len());
                    let record = record as u32;
                    dead.push(Dead { record, ordinal: 0, stage: Stage::Decode, reason, detail, plugin: None });
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(origin.len()));
        let columns = self.root.finish().as_struct().columns().to_vec();
        let rows = RecordBatch::try_new_with_options(self.schema.arrow.clone(), columns, &options)
            .expect("the columns were made from this schema");
        Some(Decoded { rows, ordinal: vec![0; origin.len()], origin, dead })
    }

    /// Appends one record's row, or a part of it and says why not all.
    fn payload(&mut self, raw: &RawBatch, record: usize) -> Result<(), Refusal> {
        self.context.clear();
        let Some(payload) = raw.value(record) else {
            return Err((Reason::NullValue, "the record has no value".to_owned()));
        };
        let len = raw.records[record].truncated_from.unwrap_or(payload.len() as u64);
        if len > self.max_record as u64 || raw.records[record].truncated_from.is_some() {
            let detail = format!("{len} bytes, and source.max_record is {}", self.max_record);
            return Err((Reason::TooLarge, detail));
        }
        let text = match simdutf8::basic::from_utf8(payload) {
            Ok(text) => text,
            Err(_) => return Err(not_utf8(payload)),
        };
        self.object(text)
    }

    fn object(&mut self, text: &str) -> Result<(), Refusal> {
        let Some(first) = text.bytes().find(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n')) else {
            return Err((Reason::EmptyValue, format!("{} bytes, none of them JSON", text.len())));
        };
        let suspects = Suspects::of(text.as_bytes());
        if suspects.are_too_deep(text.as_bytes()) {
            return Err((Reason::TooDeep, format!("nested deeper than {} levels", scan::MAX_DEPTH)));
        }
        if first != b'{' {
            return Err(not_an_object(text, first));
        }
        let mut parser = serde_json::Deserializer::from_str(text);
        let value = Value { column: &mut self.root, context: &mut self.context };
        if let Err(error) = value.deserialize(&mut parser).and_then(|()| parser.end()) {
            return Err(self.refusal(&error));
        }
        if self.context.skipped && suspects.have_lone_surrogate(text.as_bytes()) {
            return Err((Reason::NotJson, "half a surrogate pair in an undeclared field".to_owned()));
        }
        Ok(())
    }

    #[cold]
    fn refusal(&mut self, error: &serde_json::Error) -> Refusal {
        let Some(problem) = self.context.problem.take() else { return not_json(error) };
        if self.context.has_path() {
            (problem.reason, format!("{}: {}", self.context.path(), problem.text))
        } else {
            (problem.reason, problem.text)
        }
    }
}

#[cold]
fn not_utf8(payload: &[u8]) -> Refusal {
    let valid = std::str::from_utf8(payload).map_or_else(|e| e.valid_up_to(), str::len);
    (Reason::NotUtf8, format!("byte {}: not UTF-8", valid + 1))
}

#[cold]
fn not_an_object(text: &str, first: u8) -> Refusal {
    if text.starts_with('\u{feff}') {
        return (Reason::NotJson, "column 1: a byte order mark".to_owned());
    }
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return not_json(&error);
    }
    let found = match first {
        b'[' => "array",
        b'"' => "text",
        b't' | b'f' => "boolean",
        b'n' => "null",
        _ => "number",
    };
    (Reason::NotAnObject, format!("expected object, found {found}"))
}

/// The parser's message, place first: `column 2: key must be a string`.
#[cold]
fn not_json(error: &serde_json::Error) -> Refusal {
    let message = error.to_string();
    let (line, column) = (error.line(), error.column());
    let what = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
    let mut detail = String::with_capacity(what.len() + 16);
    if line > 1 {
        _ = write!(detail, "line {line} ");
    }
    _ = write!(detail, "column {column}: {what}");
    let reason = if what.starts_with("recursion limit") { Reason::TooDeep } else { Reason::NotJson };
    (reason, detail)
}
