//! The decoder on anything: damaged payloads, JSON made by its grammar, bytes. What must hold whatever comes: it never
//! panics, its arrays are valid, a record that fails leaves no trace, and no verdict depends on the batch.

use std::cell::RefCell;

use arrow::array::Array;
use arrow::compute::concat_batches;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::oracle::{GOOD, damage, damaged, disagreement};
use super::tests::{decoder, raw};
use super::*;
use crate::config::UnknownFields;

/// Names of the schema's fields, and others.
const KEYS: &[&str] = &[
    "flag", "i8", "i16", "i32", "i64", "f32", "f64", "money", "day", "at", "text", "blob", "context", "referral",
    "user", "ip", "login", "items", "name", "price", "extra", "numbers", "labels", "x", "", r"\u0069p", r"i\u0038",
    "é", "a b",
];

/// Values without parts, sound or not.
const LEAVES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "127",
    "128",
    "-129",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775809",
    "1.0",
    "1.5",
    "1e3",
    "1E-3",
    "10e-1",
    "0.00000000000000000000001",
    "1e400",
    "-1e999",
    "12.345",
    "99999999.99",
    r#""""#,
    r#""a""#,
    r#""2026-11-20""#,
    r#""2026-02-30""#,
    r#""2026-11-20T21:03:11.482Z""#,
    r#""2026-11-20 21:03:11+02""#,
    r#""2026-11-20T21:03:11""#,
    r#""AP8=""#,
    r#""AP8""#,
    r#""\ud83d\ude00""#,
    r#""\ud83d""#,
    r#""\u0000""#,
    r#""\/\b\f""#,
    r#""zażółć""#,
    "01",
    "+1",
    ".5",
    "nul",
    r#"""#,
    "\"\t\"",
    "NaN",
];

/// JSON by its grammar, with keys and values that the schema knows or not, and white space wherever it may stand.
fn json() -> impl Strategy<Value = String> {
    let space = prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just("\n\t")];
    let leaf = prop_oneof![
        6 => proptest::sample::select(LEAVES).prop_map(str::to_owned),
        1 => any::<i64>().prop_map(|n| n.to_string()),
        1 => any::<f64>().prop_map(|n| n.to_string()),
        1 => ".*".prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    let object = move |value: BoxedStrategy<String>| {
        let member = (proptest::sample::select(KEYS), space.clone(), value);
        proptest::collection::vec(member, 0..5).prop_map(|members| {
            let members: Vec<_> =
                members.iter().map(|(key, space, value)| format!("\"{key}\"{space}:{space}{value}")).collect();
            format!("{{{}}}", members.join(","))
        })
    };
    let of = object.clone();
    let value = leaf.prop_recursive(4, 24, 5, move |value| {
        let list = proptest::collection::vec(value.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", ")));
        prop_oneof![2 => of(value.boxed()), 1 => list]
    });
    object(value.boxed())
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let damages = || proptest::collection::vec(damage(), 0..4);
    prop_oneof![
        4 => json().prop_map(String::into_bytes),
        4 => (proptest::sample::select(GOOD), damages()).prop_map(|(good, damages)| damaged(good, &damages)),
        2 => (json(), damages()).prop_map(|(text, damages)| damaged(&text, &damages)),
        1 => proptest::collection::vec(any::<u8>(), 0..64),
        1 => r#"[\[\]{}",:0-9a-z \\]{0,40}"#.prop_map(String::into_bytes),
    ]
}

#[test]
fn no_verdict_depends_on_the_batch() {
    let decoders = [UnknownFields::Ignore, UnknownFields::Reject].map(|unknown| RefCell::new(decoder(unknown)));
    let strategy =
        (proptest::collection::vec(payload(), 1..10), any::<prop::sample::Index>(), 0..2_usize, 0..4096_usize);
    TestRunner::new(crate::fuzz::config(4_000))
        .run(&strategy, |(payloads, cut, decoder, most)| {
            let mut decoder = decoders[decoder].borrow_mut();
            let payloads: Vec<Option<&[u8]>> = payloads.iter().map(|payload| Some(payload.as_slice())).collect();
            let all = raw(&payloads);
            let whole = decoder.decode(&all, |_| false);
            prop_assert_eq!(whole.rows.num_rows() + whole.dead.len(), payloads.len());
            prop_assert_eq!(whole.rows.num_rows(), whole.origin.len());
            for column in whole.rows.columns() {
                prop_assert_eq!(column.len(), whole.origin.len());
                prop_assert!(column.to_data().validate_full().is_ok(), "{:?}", column);
            }
            let cut = cut.index(payloads.len());
            let (first, second) = (
                decoder.decode(&all.part(0..cut), |_| false),
                decoder.decode(&all.part(cut..payloads.len()), |_| false),
            );
            let parts = concat_batches(whole.rows.schema_ref(), [&first.rows, &second.rows]);
            prop_assert_eq!(&parts.expect("both have the schema's columns"), &whole.rows);
            let moved = second.dead.into_iter().map(|dead| Dead { record: dead.record + cut as u32, ..dead });
            prop_assert_eq!(first.dead.into_iter().chain(moved).collect::<Vec<_>>(), whole.dead.clone());
            // where there is no room, nothing is left behind
            if let Some(within) = decoder.decode_within(&all, |_| false, most) {
                prop_assert_eq!(&within.rows, &whole.rows);
            }
            let again = decoder.decode(&all, |_| false);
            prop_assert_eq!((&again.rows, &again.dead), (&whole.rows, &whole.dead));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn json_by_its_grammar_is_judged_as_by_the_oracle() {
    let decoder = RefCell::new(decoder(UnknownFields::Ignore));
    let rows = RefCell::new(0);
    TestRunner::new(crate::fuzz::config(8_000))
        .run(&payload(), |payload| {
            let verdict = disagreement(&mut decoder.borrow_mut(), &payload)?;
            *rows.borrow_mut() += u32::from(verdict == "row");
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(rows.into_inner() > 500, "a comparison of nothing but broken payloads would prove little");
}
