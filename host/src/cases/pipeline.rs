//! Runs the cases of a pipeline: records through its whole chain, in memory.

use std::path::Path;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Line, Problem, Suite, Tested, binary, diff, read};
use crate::chain::{Chain, Judge, Judged, Waiting, dead_key};
use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::record::{Headers, Range, RawBatch, RawRecord, Span, TopicPartition};
use crate::workbench::{on_guest_stack, rows};

/// Keys of a case.
pub const KEYS: [&str; 14] = [
    "record",
    "raw",
    "key",
    "headers",
    "timestamp",
    "topic",
    "partition",
    "offset",
    "outcome",
    "findings",
    "reason",
    "row",
    "rows",
    "name",
];
/// Those that say what goes in.
pub const INPUTS: [&str; 9] = ["record", "raw", "key", "headers", "timestamp", "topic", "partition", "offset", "name"];

/// What should come of one row.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    outcome: Option<String>,
    findings: Option<Vec<String>>,
    reason: Option<String>,
    row: Option<Value>,
}

/// What came of one row, or of a record that is dead.
#[derive(Clone, Debug, PartialEq)]
struct Came {
    outcome: Outcome,
    /// `rule/code`, sorted
    findings: Vec<String>,
    /// of a dead letter
    reason: Option<String>,
    /// nulls of the top written out; none of a dead letter
    row: Option<Value>,
}

/// A record, and what should come of it.
struct Case {
    line: Line,
    name: Option<String>,
    /// one; or several, or none, where it says `rows`
    expected: Vec<Expected>,
    says_rows: bool,
    record: Input,
}

/// A record as a case writes it.
struct Input {
    value: Option<Bytes>,
    key: Option<Bytes>,
    headers: Headers,
    timestamp: Option<i64>,
    partition: TopicPartition,
    offset: i64,
}

/// Runs all cases in a folder. None is a mistake.
pub fn run(chain: &Chain, folder: &Path) -> Result<Suite> {
    let lines = read(folder, &KEYS)?;
    if lines.is_empty() {
        return Err(Error::Config(format!(
            "there are no cases in {}: write one per line, like {{\"record\": {{…}}, \"outcome\": \"valid\"}}, or take some \
             from a topic with `sluice capture`",
            if folder.as_os_str().is_empty() { Path::new(".") } else { folder }.display()
        )));
    }
    let cases: Vec<Case> = lines.into_iter().map(case).collect::<Result<_>>()?;
    let tested = on_guest_stack(|| {
        let mut judge = chain.judge()?;
        let all: Vec<&Case> = cases.iter().collect();
        let together = judged(&mut judge, &all)?;
        let declared = chain.config.schema.arrow.fields();
        let mut tested = Vec::with_capacity(cases.len());
        for (case, came) in cases.iter().zip(together) {
            let alone = judged(&mut judge, &[case])?.pop().unwrap_or_default();
            let problem = problem(case, &came, &alone, &|column| declared.find(column).is_some());
            let (file, line) = (case.line.file.clone(), case.line.number);
            tested.push(Tested { file, line, name: case.name.clone(), problem });
        }
        Ok(tested)
    })?;
    Ok(Suite { title: chain.config.name.clone(), cases: tested })
}

/// The records of a file of cases, whatever should come of them, one batch.
pub fn records(file: &Path) -> Result<RawBatch> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|e| Error::environment(format!("cannot read {}", file.display()), e))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let cases: Vec<Case> =
        lines.map(|(n, line)| case(Line::parse(file, n + 1, line, &KEYS)?)).collect::<Result<_>>()?;
    batch(&cases.iter().collect::<Vec<_>>())
}

fn case(line: Line) -> Result<Case> {
    let value = match (line.text("record"), line.get::<Value>("raw")?) {
        (Some(text), None) => Some(Bytes::copy_from_slice(text.as_bytes())),
        (None, Some(raw)) => binary::read(&raw).map_err(|why| line.wrong(&format!("`raw` {why}")))?,
        (_, _) => return Err(line.wrong("it needs `record` or `raw`, one of them")),
    };
    let key = line.get::<Value>("key")?.map(|key| binary::read(&key)).transpose();
    let key = key.map_err(|why| line.wrong(&format!("`key` {why}")))?.flatten();
    let headers = line.get::<Value>("headers")?.filter(|headers| !headers.is_null());
    let headers = headers.map(|headers| binary::read_headers(&headers)).transpose();
    let headers = headers.map_err(|why| line.wrong(&format!("`headers` {why}")))?.unwrap_or_default();
    let timestamp = line.get::<Option<String>>("timestamp")?.flatten().map(|text| {
        let time = chrono::DateTime::parse_from_rfc3339(&text);
        time.map(|time| time.timestamp_millis())
            .map_err(|_| line.wrong("`timestamp` is a time like 2026-11-20T21:03:11Z"))
    });
    let topic: String = line.get("topic")?.unwrap_or_else(|| "cases".to_owned());
    let input = Input {
        value,
        key,
        headers,
        timestamp: timestamp.transpose()?,
        partition: TopicPartition::new(topic, line.get("partition")?.unwrap_or(0)),
        offset: line.get("offset")?.unwrap_or(line.number as i64),
    };
    let one = Expected {
        outcome: line.get("outcome")?,
        findings: line.get("findings")?,
        reason: line.get("reason")?,
        row: line.get("row")?,
    };
    let rows: Option<Vec<Expected>> = line.get("rows")?;
    if rows.is_some() && one != Expected::default() {
        return Err(line.wrong("`rows` says all of `outcome`, `findings`, `reason` and `row`: not beside them"));
    }
    for expected in rows.iter().flatten().chain([&one]) {
        let known = |outcome: &String| ["valid", "error", "dlq", "skipped"].contains(&outcome.as_str());
        if let Some(unknown) = expected.outcome.as_ref().filter(|outcome| !known(outcome)) {
            return Err(line.wrong(&format!("`{unknown}` is no outcome: valid, error, dlq or skipped")));
        }
    }
    let says_rows = rows.is_some();
    Ok(Case { name: line.get("name")?, expected: rows.unwrap_or_else(|| vec![one]), says_rows, record: input, line })
}

fn batch(cases: &[&Case]) -> Result<RawBatch> {
    let mut raw = RawBatch::default();
    let mut data = Vec::new();
    for case in cases {
        let input = &case.record;
        let range = match raw.ranges.iter().position(|range| range.partition == input.partition) {
            Some(known) => known,
            None => {
                raw.ranges.push(Range { partition: input.partition.clone(), from: 0, to: i64::MAX });
                raw.ranges.len() - 1
            }
        };
        let range =
            u16::try_from(range).map_err(|_| case.line.wrong("there are more than 65,535 partitions in one file"))?;
        let mut span = |bytes: &Option<Bytes>| match bytes {
            None => Span::NULL,
            Some(bytes) => {
                let start = data.len() as u32;
                data.extend_from_slice(bytes);
                Span { start, len: bytes.len() as u32 }
            }
        };
        let (key, value) = (span(&input.key), span(&input.value));
        let headers = (!input.headers.is_empty()).then(|| {
            raw.headers.push(input.headers.clone());
            raw.headers.len() as u32 - 1
        });
        let (offset, timestamp) = (input.offset, input.timestamp);
        raw.records.push(RawRecord { range, offset, timestamp, key, value, headers, truncated_from: None });
    }
    raw.data = data.into();
    Ok(raw)
}

/// What came of each case.
fn judged(judge: &mut Judge, cases: &[&Case]) -> Result<Vec<Vec<Came>>> {
    let mut all: Vec<Vec<(u32, Came)>> = vec![Vec::new(); cases.len()];
    let mut first = 0;
    let mut waiting = Waiting::from(batch(cases)?);
    // a batch that grows too much is judged in pieces, in order
    while let Some(judged) = judge.next(&mut waiting)? {
        take(&judged, first, &mut all)?;
        first += judged.batch.raw.records.len();
    }
    Ok(all
        .into_iter()
        .map(|mut rows| {
            rows.sort_by_key(|(ordinal, _)| *ordinal);
            rows.into_iter().map(|(_, came)| came).collect()
        })
        .collect())
}

fn take(judged: &Judged, first: usize, all: &mut [Vec<(u32, Came)>]) -> Result<()> {
    let batch = &judged.batch;
    let mut findings: Vec<Vec<String>> = vec![Vec::new(); batch.len()];
    for finding in &judged.findings {
        findings[finding.row as usize].push(format!("{}/{}", finding.rule, finding.code));
    }
    for (row, mut findings) in findings.into_iter().enumerate() {
        findings.sort();
        let columns = rows::explicit(&batch.columns.slice(row, 1))?;
        let came = Came { outcome: judged.outcomes[row], findings, reason: None, row: Some(columns) };
        all[first + batch.origin[row] as usize].push((batch.ordinal[row], came));
    }
    for dead in &judged.dead {
        let came = Came { outcome: Outcome::Dlq, findings: Vec::new(), reason: Some(dead_key(dead)), row: None };
        all[first + dead.record as usize].push((dead.ordinal, came));
    }
    Ok(())
}

fn problem(case: &Case, came: &[Came], alone: &[Came], is_declared: &dyn Fn(&str) -> bool) -> Option<Problem> {
    if came != alone {
        let lines = vec![format!("depends on its neighbours: {} among the others, {} alone", told(came), told(alone))];
        return Some(Problem { lines, update: None });
    }
    let mut lines = Vec::new();
    if !case.says_rows && case.expected[0] == Expected::default() {
        lines.push(format!("does not say what should come: {}", told(came)));
    } else if let (false, [], Some(outcome)) = (case.says_rows, came, &case.expected[0].outcome) {
        if outcome != "skipped" {
            lines.push(format!("outcome: expected {outcome:?}, came \"skipped\""));
        }
    } else if case.expected.len() != came.len() {
        let n = case.expected.len();
        let rows = if n == 1 { "1 row".to_owned() } else { format!("{n} rows") };
        lines.push(format!("expected {rows}, came {}: {}", came.len(), told(came)));
    } else {
        for (n, (expected, came)) in case.expected.iter().zip(came).enumerate() {
            let at = if case.says_rows { format!("rows[{n}].") } else { String::new() };
            compare(&mut lines, &at, expected, came);
        }
    }
    (!lines.is_empty()).then(|| Problem { lines, update: Some(update(case, came, is_declared)) })
}

fn compare(lines: &mut Vec<String>, at: &str, expected: &Expected, came: &Came) {
    if let Some(outcome) = &expected.outcome {
        diff::value(lines, &format!("{at}outcome"), &json!(outcome), &json!(came.outcome));
    }
    match (&expected.findings, &came.findings) {
        (Some(expected), came) => diff::set(lines, &format!("{at}findings"), expected, came),
        // to say which objections came helps where the outcome is another
        (None, found) if !lines.is_empty() && !found.is_empty() => {
            lines.push(format!("{at}findings: {}", found.join(", ")))
        }
        (None, _) => {}
    }
    match (&expected.reason, &came.reason) {
        (Some(expected), came) => diff::value(lines, &format!("{at}reason"), &json!(expected), &json!(came)),
        (None, Some(reason)) if !lines.is_empty() => lines.push(format!("{at}reason: {reason}")),
        (None, _) => {}
    }
    if let Some(row) = &expected.row {
        diff::columns(lines, &format!("{at}row"), row, came.row.as_ref().unwrap_or(&Value::Null));
    }
}

/// `valid`, `error (expect/has-user)`, `skipped`.
fn told(came: &[Came]) -> String {
    let one = |came: &Came| {
        let why = came.reason.iter().chain(&came.findings).cloned().collect::<Vec<_>>().join(", ");
        if why.is_empty() { came.outcome.to_string() } else { format!("{} ({why})", came.outcome) }
    };
    if came.is_empty() { "skipped".to_owned() } else { came.iter().map(one).collect::<Vec<_>>().join("; ") }
}

/// What to write: columns as far as the case names some, else those that enrichers added.
fn update(case: &Case, came: &[Came], is_declared: &dyn Fn(&str) -> bool) -> Vec<(&'static str, Value)> {
    let of = |expected: Option<&Expected>, came: &Came| {
        let mut keys: Vec<(&'static str, Value)> = vec![("outcome", json!(came.outcome))];
        if let Some(reason) = &came.reason {
            keys.push(("reason", json!(reason)));
        } else if !came.findings.is_empty() || expected.is_some_and(|expected| expected.findings.is_some()) {
            keys.push(("findings", json!(came.findings)));
        }
        let Some(row) = &came.row else { return keys };
        let columns = match expected.and_then(|expected| expected.row.as_ref()) {
            Some(named) => named_only(named, row),
            None => {
                let added = row.as_object().into_iter().flatten().filter(|(name, _)| !is_declared(name));
                Value::Object(added.map(|(name, value)| (name.clone(), value.clone())).collect())
            }
        };
        if columns.as_object().is_some_and(|columns| !columns.is_empty()) {
            keys.push(("row", columns));
        }
        keys
    };
    match came {
        [] if !case.says_rows => vec![("outcome", json!("skipped"))],
        [one] if !case.says_rows => of(case.expected.first(), one),
        rows => {
            let rows: Vec<Value> = rows
                .iter()
                .enumerate()
                .map(|(n, came)| {
                    let expected = if case.says_rows { case.expected.get(n) } else { None };
                    Value::Object(of(expected, came).into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
                })
                .collect();
            vec![("rows", rows.into())]
        }
    }
}

/// The columns of `row` that `named` has.
fn named_only(named: &Value, row: &Value) -> Value {
    match (named, row) {
        (Value::Object(names), Value::Object(_)) => {
            let columns: Map<String, Value> =
                names.iter().map(|(name, inner)| (name.clone(), named_only(inner, &row[name]))).collect();
            columns.into()
        }
        (_, row) => row.clone(),
    }
}
