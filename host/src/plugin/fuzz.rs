//! The checks on guests' answers, on anything: no panic, and nothing that is accepted is invalid.

use arrow::array::Array;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::answer::{RawColumn, RawEnriched, RawFinding, enriched, findings};
use super::describe::{Produced, Type};
use super::tests::limits;

const TYPES: [Type; 10] = [
    Type::Boolean,
    Type::Int32,
    Type::Int64,
    Type::Float64,
    Type::Date32,
    Type::TimestampUs,
    Type::Decimal,
    Type::Utf8,
    Type::Binary,
    Type::Json,
];

/// Texts, and bytes that are none.
const VALUES: &[&[u8]] = &[
    b"",
    b"a",
    b"null",
    b"[1]",
    b"{\"a\":1}",
    b"\"x\"",
    "é".as_bytes(),
    "😀".as_bytes(),
    b"\xff",
    b"\xc3",
    b"{",
    b"\0",
];

/// A sound column of `rows` values, then damages to it.
fn column(ty: Type, rows: usize) -> impl Strategy<Value = RawColumn> {
    let width = match ty {
        Type::Int32 | Type::Date32 => 4,
        Type::Int64 | Type::Float64 | Type::TimestampUs => 8,
        Type::Decimal => 16,
        Type::Boolean | Type::Utf8 | Type::Binary | Type::Json => 0,
    };
    let is_varlen = matches!(ty, Type::Utf8 | Type::Binary | Type::Json);
    let byte = prop_oneof![3 => Just(0u8), 1 => any::<u8>()];
    let bytes = if ty == Type::Boolean { rows.div_ceil(8) } else { rows * width };
    let fixed = proptest::collection::vec(byte, bytes).prop_map(|data| (Vec::new(), data));
    let varlen = proptest::collection::vec(proptest::sample::select(VALUES), rows).prop_map(|values| {
        let ends = values.iter().scan(0i32, |end, value| {
            *end += value.len() as i32;
            Some(*end)
        });
        let offsets: Vec<u8> = std::iter::once(0).chain(ends).flat_map(i32::to_le_bytes).collect();
        (offsets, values.concat())
    });
    let validity = prop_oneof![Just(vec![]), proptest::collection::vec(any::<u8>(), rows.div_ceil(8))];
    let buffers = if is_varlen { varlen.boxed() } else { fixed.boxed() };
    let decimal = prop_oneof![4 => Just((5, 2)), 1 => any::<(u8, i8)>()];
    let damages = proptest::collection::vec((0..3_usize, any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..3);
    (buffers, validity, decimal, damages).prop_map(move |((offsets, data), validity, decimal, damages)| {
        let decimal = (ty == Type::Decimal).then_some(decimal);
        let mut column = RawColumn { ty: Some(ty), decimal, offsets, data, validity };
        for (buffer, at, byte, what) in damages {
            let buffer = [&mut column.offsets, &mut column.data, &mut column.validity].into_iter().nth(buffer).unwrap();
            match (what, buffer.len()) {
                (0, _) => buffer.push(byte),
                (_, 0) => {}
                (1, len) => buffer.truncate(at.index(len)),
                (2, len) => buffer[at.index(len)] = byte,
                (_, len) => drop(buffer.remove(at.index(len))),
            }
        }
        column
    })
}

/// An answer for so many rows: declared types, rows that are named, columns.
fn answer() -> impl Strategy<Value = (usize, Vec<Type>, bool, RawEnriched)> {
    let types = proptest::collection::vec(proptest::sample::select(&TYPES[..]), 1..4);
    (0..20_usize, types, any::<bool>()).prop_flat_map(|(rows, types, many)| {
        // how many rows each becomes, mostly at least one; then a damage
        let copies = proptest::collection::vec(prop_oneof![1 => Just(0u32), 30 => 1..3_u32], rows);
        let named = copies.prop_map(|copies| {
            copies.iter().zip(0u32..).flat_map(|(n, row)| std::iter::repeat_n(row, *n as usize)).collect::<Vec<_>>()
        });
        let named =
            (named, any::<prop::sample::Index>(), prop_oneof![5 => Just(None), 1 => any::<u32>().prop_map(Some)])
                .prop_map(|(mut named, at, wrong)| {
                    if let (Some(wrong), false) = (wrong, named.is_empty()) {
                        let at = at.index(named.len());
                        named[at] = wrong;
                    }
                    named
                });
        let named = if many { named.prop_map(Some).boxed() } else { Just(None).boxed() };
        named.prop_flat_map(move |named| {
            let out = named.as_ref().map_or(rows, Vec::len);
            let types = types.clone();
            let columns: Vec<_> = types
                .iter()
                .map(|ty| prop_oneof![20 => column(*ty, out).boxed(), 1 => Just(RawColumn::default()).boxed()])
                .collect();
            (columns, prop_oneof![20 => Just(many), 1 => Just(false)]).prop_map(move |(columns, many)| {
                (rows, types.clone(), many, RawEnriched { rows: named.clone(), columns })
            })
        })
    })
}

#[test]
fn an_enricher_s_answer_is_refused_or_valid() {
    let accepted = std::cell::Cell::new(0u32);
    TestRunner::new(crate::fuzz::config(8_000))
        .run(&answer(), |(rows, types, many, answer)| {
            let produced = |ty: &Type| Produced { name: "x".into(), ty: *ty, precision: 5, scale: 2 };
            let produces: Vec<_> = types.iter().map(produced).collect();
            let Ok(found) = enriched(answer, rows, &produces, many) else { return Ok(()) };
            accepted.set(accepted.get() + 1);
            prop_assert!(found.rows.is_sorted() && found.rows.iter().all(|row| (*row as usize) < rows));
            prop_assert!((0..rows as u32).all(|row| found.rows.binary_search(&row).is_ok()), "a row was dropped");
            prop_assert_eq!(found.columns.len(), produces.len());
            for (column, produced) in found.columns.iter().zip(&produces) {
                prop_assert_eq!(column.len(), found.rows.len());
                prop_assert_eq!(column.data_type(), &produced.data_type());
                let valid = column.to_data().validate_full();
                prop_assert!(valid.is_ok(), "{:?}: {:?}", valid, column);
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(accepted.get() > 500, "{} answers were accepted: the others prove little", accepted.get());
}

#[test]
fn a_rule_s_findings_are_refused_or_in_range() {
    let number = |most: u32| prop_oneof![8 => 0..most, 1 => any::<u32>()];
    let detail =
        proptest::option::of(prop_oneof![".{0,100}", "[\\x00-\\x1f\\u{80}-\\u{a0}\\u{202a}-\\u{202e}]{0,100}"]);
    let finding =
        (number(8), number(3), proptest::option::of(number(2)), detail).prop_map(|(row, code, column, detail)| {
            RawFinding { row, code: code as u16, column: column.map(|column| column as u16), detail }
        });
    let strategy = (0..10_usize, 1..4_usize, 0..3_usize, proptest::collection::vec(finding, 0..12));
    let accepted = std::cell::Cell::new(0u32);
    TestRunner::new(crate::fuzz::config(8_000))
        .run(&strategy, |(rows, codes, columns, found)| {
            let limits = limits();
            let (given, Ok(found)) = (found.len(), findings(found, rows, codes, columns, &limits)) else {
                return Ok(());
            };
            accepted.set(accepted.get() + 1);
            prop_assert_eq!(found.len(), given, "a finding was lost");
            prop_assert!(found.is_sorted_by_key(|finding| finding.row));
            for finding in found {
                prop_assert!((finding.row as usize) < rows && usize::from(finding.code) < codes);
                prop_assert!(finding.column.is_none_or(|column| usize::from(column) < columns));
                let detail = finding.detail.unwrap_or_default();
                prop_assert!(detail.len() <= limits.detail && !detail.contains(char::is_control), "{:?}", detail);
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(accepted.get() > 500, "{} answers were accepted: the others prove little", accepted.get());
}
