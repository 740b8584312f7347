//! The decoder against an oracle that takes the slow way: a tree of the whole payload, then every check by itself.
//!
//! Payloads are good ones, damaged a few times at random, from one seed. The oracle says all that is wrong; the decoder
//! may name any of it, since it stops at the first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use base64::Engine;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::tests::{decoder, every_type, raw};
use super::*;

/// What the oracle says about a payload.
#[derive(Debug)]
enum Verdict {
    /// the row's cells
    Row(Vec<String>),
    /// at least one of these
    Faults(BTreeSet<Reason>),
    /// the tree cannot hold it (a number beyond f64), so nothing is known
    Unsure,
}

fn oracle(payload: &[u8]) -> Verdict {
    let fault = |reason| Verdict::Faults(BTreeSet::from([reason]));
    let Ok(text) = std::str::from_utf8(payload) else { return fault(Reason::NotUtf8) };
    if text.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
        return fault(Reason::EmptyValue);
    }
    match serde_json::from_str::<Json>(text) {
        Ok(Json::Object(_)) => {}
        Ok(_) => return fault(Reason::NotAnObject),
        Err(e) if e.to_string().starts_with("number out of range") => return Verdict::Unsure,
        // whatever comes before the place where it stops being JSON may be found first
        Err(_) => return Verdict::Faults(BTreeSet::new()),
    }
    let mut faults = BTreeSet::new();
    let fields = every_type().arrow.fields().clone();
    let cells = object(&fields, text, &mut faults);
    if faults.is_empty() { Verdict::Row(cells) } else { Verdict::Faults(faults) }
}

/// The members of an object, in order, repeated keys and all.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

fn object(fields: &arrow::datatypes::Fields, text: &str, faults: &mut BTreeSet<Reason>) -> Vec<String> {
    let Members(members) = serde_json::from_str(text).unwrap();
    let mut values: HashMap<&str, &str> = HashMap::new();
    for (key, value) in &members {
        if fields.iter().any(|f| f.name() == key) && values.insert(key, value.get()).is_some() {
            faults.insert(Reason::DuplicateKey);
        }
    }
    // every value is checked, also one that a later one of the same key would hide
    for (key, value) in &members {
        if let Some(field) = fields.iter().find(|f| f.name() == key) {
            cell(field.data_type(), value.get(), faults);
        }
    }
    let cells = fields.iter().map(|f| cell(f.data_type(), values.get(f.name().as_str()).unwrap_or(&"null"), faults));
    cells.collect()
}

/// How a value reads in its column, or a fault.
fn cell(data_type: &DataType, text: &str, faults: &mut BTreeSet<Reason>) -> String {
    if text == "null" {
        return "null".to_owned();
    }
    let found = match (data_type, text.as_bytes()[0]) {
        (DataType::Boolean, b't' | b'f') => Ok(text.to_owned()),
        (DataType::Int8, b'-' | b'0'..=b'9') => integer(text, i8::MIN.into(), i8::MAX.into()),
        (DataType::Int16, b'-' | b'0'..=b'9') => integer(text, i16::MIN.into(), i16::MAX.into()),
        (DataType::Int32, b'-' | b'0'..=b'9') => integer(text, i32::MIN.into(), i32::MAX.into()),
        (DataType::Int64, b'-' | b'0'..=b'9') => integer(text, i64::MIN.into(), i64::MAX.into()),
        (DataType::Float32, b'-' | b'0'..=b'9') => match text.parse::<f32>().unwrap() {
            value if value.is_finite() => Ok(format!("{value:?}")),
            _ => Err(Reason::OutOfRange),
        },
        (DataType::Float64, b'-' | b'0'..=b'9') => Ok(format!("{:?}", text.parse::<f64>().unwrap())),
        (DataType::Decimal128(precision, scale), b'-' | b'0'..=b'9') => decimal(text, *precision, *scale),
        (DataType::Utf8, b'"') => Ok(format!("{:?}", serde_json::from_str::<String>(text).unwrap())),
        (DataType::Date32, b'"') => date(&serde_json::from_str::<String>(text).unwrap()),
        (DataType::Timestamp(..), b'"') => timestamp(&serde_json::from_str::<String>(text).unwrap()).ok_or_else(|| {
            // chrono looks at a text's form and its ranges in another order
            faults.insert(Reason::OutOfRange);
            Reason::WrongType
        }),
        (DataType::Binary, b'"') => {
            let text: String = serde_json::from_str(text).unwrap();
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            bytes.map(|b| format!("{b:?}")).map_err(|_| Reason::WrongType)
        }
        (DataType::Struct(fields), b'{') => Ok(format!("{:?}", object(fields, text, faults))),
        (DataType::List(item), b'[') => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(text).unwrap();
            let items: Vec<_> = items.iter().map(|i| cell(item.data_type(), i.get(), faults)).collect();
            Ok(format!("{items:?}"))
        }
        (DataType::Map(..), b'{') => {
            let Members(members) = serde_json::from_str(text).unwrap();
            let keys: BTreeSet<_> = members.iter().map(|(key, _)| key).collect();
            if keys.len() < members.len() {
                faults.insert(Reason::DuplicateKey);
            }
            let entries = members.iter().map(|(key, value)| (key, cell(&DataType::Int32, value.get(), faults)));
            Ok(format!("{:?}", entries.collect::<Vec<_>>()))
        }
        _ => Err(Reason::WrongType),
    };
    found.unwrap_or_else(|reason| {
        faults.insert(reason);
        String::new()
    })
}

/// A number without its exponent: sign, digits before the point, digits behind it without trailing zeros.
fn plain(text: &str) -> (&str, String, String) {
    let (sign, text) = if let Some(rest) = text.strip_prefix('-') { ("-", rest) } else { ("", text) };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // the tree has refused what is beyond f64; what is far below has a fraction anyway
    let exponent = exponent.parse::<i64>().unwrap().clamp(-1000, 1000);
    let zeros = "0".repeat(exponent.unsigned_abs() as usize);
    let (left, right) = (format!("{zeros}{whole}"), format!("{fraction}{zeros}"));
    let (whole, fraction) = if exponent < 0 {
        let (whole, moved) = left.split_at(whole.len());
        (whole.to_owned(), format!("{moved}{fraction}"))
    } else {
        let (moved, fraction) = right.split_at(exponent as usize);
        (format!("{whole}{moved}"), fraction.to_owned())
    };
    (sign, whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned())
}

fn integer(text: &str, min: i128, max: i128) -> Result<String, Reason> {
    let (sign, whole, fraction) = plain(text);
    if !fraction.is_empty() {
        return Err(Reason::WrongType);
    }
    let value = format!("{sign}0{whole}").parse::<i128>().map_err(|_| Reason::OutOfRange)?;
    if (min..=max).contains(&value) { Ok(value.to_string()) } else { Err(Reason::OutOfRange) }
}

fn decimal(text: &str, precision: u8, scale: i8) -> Result<String, Reason> {
    let (sign, whole, fraction) = plain(text);
    let scale = scale as usize;
    if fraction.len() > scale || whole.len() > precision as usize - scale {
        return Err(Reason::OutOfRange);
    }
    Ok(format!("{sign}{whole}{fraction:0<scale$}").parse::<i128>().unwrap().to_string())
}

fn date(text: &str) -> Result<String, Reason> {
    let shaped = text.len() == 10
        && text.bytes().enumerate().all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() });
    if !shaped {
        return Err(Reason::WrongType);
    }
    let date = text.parse::<chrono::NaiveDate>().map_err(|_| Reason::OutOfRange)?;
    Ok((date - chrono::NaiveDate::default()).num_days().to_string())
}

fn timestamp(text: &str) -> Option<String> {
    // chrono knows `+02:00` only, and leap seconds, which we refuse
    let zone = text.get(19..).and_then(|rest| rest.rfind(['+', '-'])).map(|at| text.split_at(19 + at));
    let text = match zone {
        Some((time, zone)) if zone.len() == 3 => format!("{time}{zone}:00"),
        Some((time, zone)) if zone.len() == 5 && zone.is_ascii() => format!("{time}{}:{}", &zone[..3], &zone[3..]),
        _ => text.to_owned(),
    };
    let at = chrono::DateTime::parse_from_rfc3339(&text).ok()?;
    let is_leap = at.timestamp_subsec_nanos() >= 1_000_000_000;
    (!is_leap).then(|| at.timestamp_micros().to_string())
}

/// A cell of a decoded row in the oracle's words.
fn shown(array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) {
        return "null".to_owned();
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => format!("{:?}", array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value(row).to_string(),
        DataType::Date32 => array.as_primitive::<Date32Type>().value(row).to_string(),
        DataType::Timestamp(..) => array.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
        DataType::Utf8 => format!("{:?}", array.as_string::<i32>().value(row)),
        DataType::Binary => format!("{:?}", array.as_binary::<i32>().value(row)),
        DataType::Struct(_) => {
            let cells: Vec<_> = array.as_struct().columns().iter().map(|c| shown(c, row)).collect();
            format!("{cells:?}")
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            format!("{:?}", (0..items.len()).map(|i| shown(&items, i)).collect::<Vec<_>>())
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
            format!("{:?}", (0..entries.len()).map(|i| (keys.value(i), shown(values, i))).collect::<Vec<_>>())
        }
        other => unreachable!("{other} is in no schema here"),
    }
}

pub(super) const GOOD: &[&str] = &[
    r#"{"flag":true,"i8":-7,"i16":300,"i32":70000,"i64":9007199254740993,"f32":1.5,"f64":-2.25e-3,"money":12.30}"#,
    r#"{"day":"2026-11-20","at":"2026-11-20T21:03:11.482Z","text":"za\u017c\u00f3\u0142\u0107 \ud83d\ude00","blob":"AP8="}"#,
    r#"{"context":{"referral":null,"user":{"ip":"10.0.0.1","login":"me","at":"2026-11-20 21:03:11+02:00"}},"x":{"y":[1,"\ud83d\ude00"]}}"#,
    r#"{"items":[{"name":"a","price":1.25},null,{"price":3,"extra":[{}]}],"numbers":[1,2.0,3e2],"labels":{"a":1,"b":null}}"#,
];

const FRAGMENTS: &[&str] = &[
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "0",
    "9",
    "-",
    ".",
    "e",
    " ",
    "\n",
    "\t",
    "\0",
    "null",
    "true",
    "\"1\"",
    "1.5",
    "1e3",
    "-0",
    "1.0",
    "128",
    "99999999999999999999",
    "1e300",
    "{}",
    "[]",
    "[1]",
    "\"2026-02-30\"",
    "\"2026-11-20T21:03:11\"",
    "\\ud83d",
    "\\ude00",
    "\\u0041",
    "é",
    "\u{feff}",
    "\"i8\":1,",
    "\"text\":\"b\",",
    "\"labels\":{\"a\":1,\"a\":2},",
    "\"x\":1,",
    "\"ip\":\"c\",",
    "\"AP8\"",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
];

const MEMBERS: &[&str] = &[
    "\"i8\":1,",
    "\"\\u0069p\":\"c\",",
    "\"name\":null,",
    "\"labels\":{\"a\":1,\"a\":2},",
    "\"a\":3,",
    "\"text\":\"\\u0000\",",
    "\"undeclared\":{\"a\":\"\\ud83d\"},",
    "\"numbers\":[1,2.5],",
];

/// One damage to a payload; places are shares of its length.
#[derive(Clone, Debug)]
pub(super) enum Damage {
    Insert(f64, usize),
    /// a JSON value in place of another
    Replace(f64, usize),
    /// a member at the start of an object
    Member(f64, usize),
    /// an undeclared member of so many levels
    Nest(f64, usize),
    Delete(f64, usize),
    Byte(f64, u8),
    Truncate(f64),
}

pub(super) fn damage() -> impl Strategy<Value = Damage> {
    let (at, fragment) = (0.0..1.0, 0..FRAGMENTS.len());
    // the tree's own limit is 127: the boundary stands in the tables
    let depth = prop_oneof![100..120_usize, 130..160_usize];
    prop_oneof![
        3 => (at.clone(), fragment.clone()).prop_map(|(at, n)| Damage::Insert(at, n)),
        6 => (at.clone(), fragment).prop_map(|(at, n)| Damage::Replace(at, n)),
        2 => (at.clone(), 0..MEMBERS.len()).prop_map(|(at, n)| Damage::Member(at, n)),
        1 => (at.clone(), depth).prop_map(|(at, n)| Damage::Nest(at, n)),
        2 => (at.clone(), 1..6_usize).prop_map(|(at, n)| Damage::Delete(at, n)),
        1 => (at.clone(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        1 => at.prop_map(Damage::Truncate),
    ]
}

pub(super) fn damaged(payload: &str, damages: &[Damage]) -> Vec<u8> {
    let mut payload = payload.as_bytes().to_vec();
    for damage in damages {
        let place = |at: &f64| (at * payload.len() as f64) as usize;
        match damage {
            Damage::Insert(at, n) => {
                let at = place(at);
                payload.splice(at..at, FRAGMENTS[*n].bytes());
            }
            Damage::Replace(at, n) => {
                // from behind the next colon to the next comma or bracket: often a whole value
                let Some(from) = payload[place(at)..].iter().position(|b| *b == b':').map(|p| place(at) + p + 1) else {
                    continue;
                };
                let len = payload[from..].iter().position(|b| matches!(b, b',' | b'}' | b']')).unwrap_or(0);
                payload.splice(from..from + len, FRAGMENTS[*n].bytes());
            }
            Damage::Member(at, n) => insert_member(&mut payload, at, MEMBERS[*n]),
            Damage::Nest(at, n) => {
                let member = format!("\"deep\":{}{},", "[".repeat(*n), "]".repeat(*n));
                insert_member(&mut payload, at, &member);
            }
            Damage::Delete(at, n) => {
                let at = place(at);
                let end = (at + n).min(payload.len());
                payload.drain(at..end);
            }
            Damage::Byte(at, byte) => {
                let at = place(at);
                if let Some(found) = payload.get_mut(at) {
                    *found = *byte;
                }
            }
            Damage::Truncate(at) => payload.truncate(place(at)),
        }
    }
    payload
}

/// After the last `{` before a place.
fn insert_member(payload: &mut Vec<u8>, at: &f64, member: &str) {
    let at = (at * payload.len() as f64) as usize;
    if let Some(open) = payload[..at].iter().rposition(|b| *b == b'{') {
        payload.splice(open + 1..open + 1, member.bytes());
    }
}

/// Decodes a payload between two good ones: its verdict, which must be the oracle's, or that the oracle is not sure.
pub(super) fn disagreement(decoder: &mut JsonDecoder, payload: &[u8]) -> Result<&'static str, TestCaseError> {
    let text = String::from_utf8_lossy(payload);
    let good = GOOD[3].as_bytes();
    let decoded = decoder.decode(&raw(&[Some(good), Some(payload), Some(good)]), |_| false);
    let rows = decoded.rows.num_rows();
    prop_assert_eq!(rows + decoded.dead.len(), 3, "{}", text);
    prop_assert_eq!(decoded.rows.slice(0, 1), decoded.rows.slice(rows - 1, 1), "a neighbour of {}", text);
    match (oracle(payload), &decoded.dead[..]) {
        (Verdict::Unsure, _) => Ok("unsure"),
        (Verdict::Row(cells), []) => {
            let found: Vec<_> = decoded.rows.columns().iter().map(|column| shown(column, 1)).collect();
            prop_assert_eq!(found, cells, "{}", text);
            Ok("row")
        }
        (Verdict::Faults(faults), [dead]) => {
            prop_assert!(faults.is_empty() || faults.contains(&dead.reason), "{dead:?}, not {faults:?}: {text}");
            Ok(dead.reason.as_str())
        }
        (verdict, dead) => Err(TestCaseError::fail(format!("{verdict:?}, but {dead:?}: {text}"))),
    }
}

#[test]
fn verdicts_and_rows_are_those_of_the_oracle() {
    let strategy = (proptest::sample::select(GOOD), proptest::collection::vec(damage(), 0..4));
    let decoder = std::cell::RefCell::new(decoder(UnknownFields::Ignore));
    let counts = std::cell::RefCell::new(BTreeMap::<&str, u32>::new());
    TestRunner::new(crate::fuzz::config(20_000))
        .run(&strategy, |(good, damages)| {
            let verdict = disagreement(&mut decoder.borrow_mut(), &damaged(good, &damages))?;
            *counts.borrow_mut().entry(verdict).or_default() += 1;
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));

    // a comparison of nothing but broken JSON would prove little
    let counted = counts.into_inner();
    let mut table = String::new();
    for (verdict, n) in &counted {
        _ = writeln!(table, "{verdict} {n}");
    }
    let reasons = ["not-json", "not-utf8", "wrong-type", "out-of-range", "duplicate-key", "too-deep", "empty-value"];
    assert!(counted["row"] > 5_000 && reasons.iter().all(|reason| counted.get(*reason) > Some(&10)), "{table}");
}
