use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch};

use super::*;
use crate::columns::pipeline_namespace;
use crate::ledger::Counts;
use crate::outcome::{Dead, Reason, Severity, Stage, route};
use crate::record::{Batch, Range, RawBatch, RawRecord, Span};

/// What becomes of a row: a value and the codes that object (`!` = error), or a death.
pub(crate) enum Fate {
    Row(i32, &'static [&'static str]),
    Dead(Reason),
}
use Fate::{Dead as D, Row as R};

/// Rows of records 10, 11, … of `t/0`: (offset, ordinal, fate).
pub(crate) fn judged(rows: &[(i64, u32, Fate)]) -> Judged {
    let records = 4;
    let record = |n: i64| RawRecord {
        range: 0,
        offset: 10 + n,
        timestamp: None,
        key: Span::NULL,
        value: Span::NULL,
        headers: None,
        truncated_from: None,
    };
    let raw = RawBatch {
        ranges: vec![Range { partition: TopicPartition::new("t", 0), from: 10, to: 10 + records }],
        records: (0..records).map(record).collect(),
        ..RawBatch::default()
    };
    let (mut values, mut origin, mut ordinals) = (vec![], vec![], vec![]);
    let (mut findings, mut dead) = (vec![], vec![]);
    for (offset, ordinal, fate) in rows {
        let record = (offset - 10) as u32;
        match fate {
            R(value, codes) => {
                let row = values.len() as u32;
                values.push(*value);
                origin.push(record);
                ordinals.push(*ordinal);
                findings.extend(codes.iter().map(|code| Finding {
                    row,
                    rule: "r".into(),
                    code: code.trim_end_matches('!').into(),
                    severity: if code.ends_with('!') { Severity::Error } else { Severity::Warn },
                    column: None,
                    detail: None,
                }));
            }
            D(reason) => dead.push(Dead {
                record,
                ordinal: *ordinal,
                stage: Stage::Decode,
                reason: *reason,
                detail: String::new(),
                plugin: None,
            }),
        }
    }
    let column: ArrayRef = Arc::new(Int32Array::from(values));
    Judged {
        outcomes: route(origin.len(), &findings),
        batch: Batch {
            columns: RecordBatch::try_from_iter([("x", column)]).unwrap(),
            origin,
            ordinal: ordinals,
            raw: Arc::new(raw),
            pipeline: pipeline_namespace("p"),
        },
        findings,
        dead,
        counts: Counts { records: records as u64, ..Counts::default() },
        windows: None,
    }
}

/// `10.0 valid→error +r/a -r/b x because r/a`, a line for each difference.
fn check(before: &[(i64, u32, Fate)], after: &[(i64, u32, Fate)], expected: &[&str]) {
    let compared = compare(&[judged(before)], &[judged(after)]);
    let line = |d: &Difference| {
        let mut line = format!("{}.{} {}→{}", d.at.offset, d.at.row, name(d.before), name(d.after));
        d.gained.iter().for_each(|key| line += &format!(" +{key}"));
        d.lost.iter().for_each(|key| line += &format!(" -{key}"));
        d.columns.iter().for_each(|column| line += &format!(" {column}"));
        if !d.reasons.is_empty() {
            line += &format!(" because {}", d.reasons.join(", "));
        }
        line
    };
    assert_eq!(compared.differences.iter().map(line).collect::<Vec<_>>(), expected);
}

#[test]
fn a_row_differs_by_outcome_findings_or_columns() {
    use Reason::{NotJson, WrongType};
    check(&[(10, 0, R(1, &["a!"]))], &[(10, 0, R(1, &["a!"]))], &[]);
    check(&[(10, 0, R(1, &[]))], &[(10, 0, R(1, &["a!"]))], &["10.0 valid→error +r/a because r/a"]);
    check(&[(10, 0, R(1, &["a!", "b"]))], &[(10, 0, R(1, &["b"]))], &["10.0 error→valid -r/a because r/a"]);
    check(&[(10, 0, R(1, &["a!"]))], &[(10, 0, R(1, &["b!"]))], &["10.0 error→error +r/b -r/a"]);
    check(&[(10, 0, R(1, &["a"]))], &[(10, 0, R(1, &["a", "a"]))], &["10.0 valid→valid +r/a"]);
    check(&[(10, 0, R(1, &[]))], &[(10, 0, R(2, &[]))], &["10.0 valid→valid x"]);
    check(&[(10, 0, D(NotJson))], &[(10, 0, D(WrongType))], &["10.0 dlq→dlq +decode/wrong-type -decode/not-json"]);
    check(&[(10, 0, D(NotJson))], &[(10, 0, R(1, &["a!"]))], &["10.0 dlq→error +r/a -decode/not-json because r/a"]);
    check(&[(10, 0, D(NotJson))], &[(10, 0, R(1, &[]))], &["10.0 dlq→valid -decode/not-json because decode/not-json"]);
    // a code whose severity changed is neither gained nor lost, and still the reason
    check(&[(10, 0, R(1, &["a"]))], &[(10, 0, R(1, &["a!"]))], &["10.0 valid→error because r/a"]);
}

#[test]
fn rows_are_the_same_by_their_coordinates_however_many_there_are() {
    check(
        &[(10, 0, R(1, &[])), (11, 0, R(1, &[]))],
        &[(11, 0, R(1, &[])), (12, 0, R(5, &["a!"]))],
        &["10.0 valid→none", "12.0 none→error +r/a because r/a"],
    );
    check(
        &[(10, 0, R(1, &[])), (10, 1, R(2, &[]))],
        &[(10, 0, R(1, &[])), (10, 1, R(9, &[])), (10, 2, R(3, &[]))],
        &["10.1 valid→valid x", "10.2 none→valid"],
    );
}

#[test]
fn how_a_batch_was_cut_makes_no_difference() {
    let all = || [(10, 0, R(1, &[])), (11, 0, R(2, &["a!"])), (12, 0, R(3, &[]))];
    let [first, second, third] = all();
    let compared = compare(&[judged(&all())], &[judged(&[first, second]), judged(&[third])]);
    assert_eq!(compared.differences, []);
    assert_eq!(compared.rows, 3);
}

#[test]
fn a_summary_counts_records_once_and_keeps_few_samples() {
    let before: Vec<_> = (0..8).map(|row| (10, row, R(1, &[]))).collect();
    let after: Vec<_> = (0..8).map(|row| (10, row, R(1, &["a!", "b!"]))).collect();
    let mut summary = Summary::default();
    summary.add(&compare(&[judged(&before)], &[judged(&after)]));
    assert_eq!((summary.records, summary.flipped_records, summary.flipped_rows()), (4, 1, 8));
    assert_eq!(summary.flipped_percent(), 25.0);
    let flip = (Some(Outcome::Valid), Some(Outcome::Error));
    assert_eq!(summary.reasons[&(flip, "r/a".to_owned())].rows, 8);
    assert_eq!(summary.gained["r/b"].samples.len(), SAMPLES);
    let mut twice = summary.clone();
    twice.merge(summary);
    assert_eq!((twice.records, twice.flipped_rows(), twice.flips[&flip].samples.len()), (8, 16, SAMPLES));
}

#[test]
fn a_rule_that_was_not_asked_does_not_route() {
    let mut one = judged(&[(10, 0, R(1, &["a!"]))]);
    without(&mut one, |judge| &**judge == "other");
    assert_eq!(one.outcomes, [Outcome::Error]);
    without(&mut one, |judge| &**judge == "r");
    assert_eq!((one.outcomes, one.findings.len()), (vec![Outcome::Valid], 0));
}
