//! Which window a row belongs to, and whether it comes too late: pure but for the time at which a file was last written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;

use super::{AHEAD, LATE, RULE};
use crate::chain::Judged;
use crate::columns;
use crate::config::{Config, SourceKind, Window, defaults};
use crate::ledger::{Extent, Fold};
use crate::outcome::{Finding, Outcome, Severity};
use crate::record::{Batch, TopicPartition};

/// The windows of a batch's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// the windows that the rows belong to
    pub extents: Vec<Extent>,
    /// row → index into `extents`
    pub of_row: Vec<u32>,
    /// row → whether it has an error finding
    pub rejected: Vec<bool>,
}

impl Windows {
    /// Of rows whose windows are told apart by these keys. Several keys may stand for the same window.
    fn of<K: Copy + PartialEq>(keys: impl ExactSizeIterator<Item = K>, extent: impl Fn(K) -> Extent) -> Windows {
        let mut windows = Windows { rejected: vec![false; keys.len()], ..Windows::default() };
        windows.of_row.reserve(keys.len());
        let mut known: BTreeMap<Extent, u32> = BTreeMap::new();
        let mut last = None;
        for key in keys {
            // neighbours nearly always share a window
            let at = match last.filter(|(last, _)| *last == key) {
                Some((_, at)) => at,
                None => *known.entry(extent(key)).or_insert_with_key(|extent| {
                    windows.extents.push(extent.clone());
                    windows.extents.len() as u32 - 1
                }),
            };
            last = Some((key, at));
            windows.of_row.push(at);
        }
        windows
    }
}

/// Which windows are decided, as far as a process has heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    until: Option<i64>,
    partitions: BTreeMap<TopicPartition, (Option<i64>, Option<String>)>,
}

impl Closed {
    /// What the ledger says, and windows of time that end up to `until` beside it: about to be decided.
    pub fn of(fold: &Fold, until: Option<i64>) -> Closed {
        let of_position =
            fold.positions.iter().filter(|(_, position)| position.closed.is_some() || position.closed_file.is_some());
        Closed {
            until: fold.closed_until.max(until),
            partitions: of_position
                .map(|(partition, position)| (partition.clone(), (position.closed, position.closed_file.clone())))
                .collect(),
        }
    }

    /// When the earliest window of time ends whose rows are staged.
    pub fn earliest(&self, windows: &Windows) -> Option<i64> {
        let open = windows.extents.iter().filter(|window| !self.has(window));
        let ends = open.filter_map(|window| match window {
            Extent::Time { to, .. } => Some(*to),
            Extent::Rows { .. } | Extent::File { .. } => None,
        });
        ends.min()
    }

    fn has(&self, window: &Extent) -> bool {
        match window {
            Extent::Time { to, .. } => self.until.is_some_and(|until| *to <= until),
            Extent::Rows { partition, to, .. } => {
                self.partitions.get(partition).and_then(|(closed, _)| *closed).is_some_and(|closed| *to <= closed)
            }
            Extent::File { partition, id } => {
                self.partitions.get(partition).is_some_and(|(_, closed)| closed.as_ref() == Some(id))
            }
        }
    }
}

/// Gives rows their times and windows, on one thread.
pub struct Assigner {
    window: Option<Window>,
    event_time: Option<String>,
    max_ahead: i64,
    /// where files have no time of their own
    started: i64,
    /// the folder that files are relative to, where they are the source
    base: Option<PathBuf>,
    modified: BTreeMap<TopicPartition, Option<i64>>,
    /// the first offset that there can be: lines are counted from 1
    first: i64,
    rule: Arc<str>,
    late: Arc<str>,
    ahead: Arc<str>,
}

/// The event times of a batch that can be used.
struct Times {
    /// row → microseconds, `None` where it has none, or one too far ahead
    usable: Vec<Option<i64>>,
    /// rows whose time is too far ahead
    ahead: Vec<u32>,
}

impl Assigner {
    /// For rows of a pipeline. `started`: the clock when the run began, microseconds since the epoch.
    pub fn new(config: &Config, started: i64) -> Assigner {
        let ahead = config.audit.as_ref().map_or(defaults::MAX_AHEAD, |audit| audit.max_ahead);
        Assigner {
            window: config.audit.as_ref().map(|audit| audit.window),
            event_time: config.event_time.clone(),
            max_ahead: i64::try_from(ahead.as_micros()).unwrap_or(i64::MAX),
            started,
            base: match config.source.kind {
                SourceKind::Files(_) => Some(config.base.clone()),
                SourceKind::Kafka(_) | SourceKind::Stdin => None,
            },
            modified: BTreeMap::new(),
            first: match config.source.kind {
                SourceKind::Files(_) | SourceKind::Stdin => 1,
                SourceKind::Kafka(_) => 0,
            },
            rule: RULE.into(),
            late: LATE.into(),
            ahead: AHEAD.into(),
        }
    }

    /// Latest usable event time of each partition in a batch. Where rows wait for a window: sends them to staging, or, late,
    /// to error, with what this finds about them. `now` is the clock, `id` what is known of a partition's content.
    pub fn assign(
        &mut self,
        judged: &mut Judged,
        closed: &Closed,
        now: i64,
        id: impl Fn(&TopicPartition) -> Option<String>,
    ) -> BTreeMap<TopicPartition, i64> {
        let times = self.times(&judged.batch, now);
        let latest = latest(&judged.batch, &times);
        if let Some(window) = self.window {
            let windows = self.windows(window, &judged.batch, times.usable, now, id);
            self.stage(judged, windows, &times.ahead, closed);
        }
        latest
    }

    fn times(&self, batch: &Batch, now: i64) -> Times {
        let mut times = Times { usable: vec![None; batch.len()], ahead: Vec::new() };
        let column = self.event_time.as_deref().and_then(|path| columns::column(batch, path));
        let Some(column) = column.as_ref().and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>()) else {
            return times;
        };
        for (row, &record) in batch.origin.iter().enumerate() {
            if column.is_null(row) {
                continue;
            }
            // a producer whose clock is wrong stamps its records with it: neither may be ahead of ours
            let own = batch.raw.records[record as usize].timestamp.map_or(self.started, micros).min(now);
            let time = column.value(row);
            if time <= own.saturating_add(self.max_ahead) {
                times.usable[row] = Some(time);
            } else {
                times.ahead.push(row as u32);
            }
        }
        times
    }

    /// The window of each row.
    fn windows(
        &mut self,
        window: Window,
        batch: &Batch,
        usable: Vec<Option<i64>>,
        now: i64,
        id: impl Fn(&TopicPartition) -> Option<String>,
    ) -> Windows {
        let raw = &batch.raw;
        let record = |row: usize| &raw.records[batch.origin[row] as usize];
        let partition = |range: u16| &raw.ranges[usize::from(range)].partition;
        match window {
            Window::Time(length) => {
                let length = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
                let times = self.complete(batch, usable, now);
                let begin = times.into_iter().map(|time| time.div_euclid(length));
                Windows::of(begin, |begin| interval(begin.saturating_mul(length), length))
            }
            Window::Rows(rows) => {
                let rows = i64::try_from(rows).unwrap_or(i64::MAX);
                let nth = |row| (record(row).range, nth(record(row).offset, self.first, rows));
                Windows::of((0..batch.len()).map(nth), |(range, nth)| offsets(partition(range), nth, self.first, rows))
            }
            Window::File => Windows::of((0..batch.len()).map(|row| record(row).range), |range| Extent::File {
                partition: partition(range).clone(),
                id: id(partition(range)).unwrap_or_default(),
            }),
        }
    }

    /// A time for every row.
    fn complete(&mut self, batch: &Batch, usable: Vec<Option<i64>>, now: i64) -> Vec<i64> {
        let range = |row: usize| usize::from(batch.raw.records[batch.origin[row] as usize].range);
        let mut near: Vec<Option<i64>> = vec![None; batch.raw.ranges.len()];
        // before the first one that has a time, the time of that one
        for row in (0..batch.len()).rev() {
            near[range(row)] = usable[row].or(near[range(row)]);
        }
        let mut times = Vec::with_capacity(batch.len());
        for (row, usable) in usable.into_iter().enumerate() {
            let record = &batch.raw.records[batch.origin[row] as usize];
            let of_record = record.timestamp.map(|ms| micros(ms).min(now));
            let time = usable.or(of_record).or(near[range(row)]).unwrap_or_else(|| {
                let modified = self.modified(&batch.raw.ranges[range(row)].partition);
                modified.unwrap_or(self.started)
            });
            if record.timestamp.is_none() {
                near[range(row)] = Some(time);
            }
            times.push(time);
        }
        times
    }

    /// When a file was last written.
    fn modified(&mut self, file: &TopicPartition) -> Option<i64> {
        let base = self.base.as_ref()?;
        if !self.modified.contains_key(file) {
            let modified = std::fs::metadata(base.join(&*file.topic)).and_then(|file| file.modified()).ok();
            let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let micros = since.and_then(|since| i64::try_from(since.as_micros()).ok());
            self.modified.insert(file.clone(), micros);
        }
        self.modified.get(file).copied().flatten()
    }

    fn stage(&self, judged: &mut Judged, mut windows: Windows, ahead: &[u32], closed: &Closed) {
        let finding = |row, code: &Arc<str>, severity, detail: String| Finding {
            row,
            rule: self.rule.clone(),
            code: code.clone(),
            severity,
            column: None,
            detail: Some(detail),
        };
        let mut found = Vec::new();
        for row in ahead {
            let mut ahead = finding(*row, &self.ahead, Severity::Warn, "too far ahead of the record's time".into());
            ahead.column = self.event_time.as_deref().map(Into::into);
            found.push(ahead);
        }
        let mut late: u64 = 0;
        let is_late: Vec<bool> = windows.extents.iter().map(|extent| closed.has(extent)).collect();
        for (row, outcome) in judged.outcomes.iter_mut().enumerate() {
            let at = windows.of_row[row] as usize;
            if is_late[at] {
                let detail = format!("window {} is decided", windows.extents[at]);
                found.push(finding(row as u32, &self.late, Severity::Error, detail));
                *outcome = Outcome::Error;
                late += 1;
            } else {
                *outcome = Outcome::Staging;
            }
        }
        for finding in &found {
            *judged.counts.findings.entry(format!("{RULE}/{}", finding.code)).or_default() += 1;
        }
        if !found.is_empty() {
            judged.findings.extend(found);
            judged.findings.sort_by_key(|finding| finding.row);
        }
        for finding in judged.findings.iter().filter(|finding| finding.severity == Severity::Error) {
            windows.rejected[finding.row as usize] = true;
        }
        let outcomes = &mut judged.counts.outcomes;
        outcomes.insert(Outcome::Valid, 0);
        outcomes.insert(Outcome::Error, late);
        outcomes.insert(Outcome::Staging, judged.outcomes.len() as u64 - late);
        judged.windows = Some(windows);
    }
}

fn micros(milliseconds: i64) -> i64 {
    milliseconds.saturating_mul(1000)
}

/// The interval of this length that a time lies in; intervals begin at the epoch.
pub fn interval(time: i64, length: i64) -> Extent {
    let from = time.div_euclid(length).saturating_mul(length);
    Extent::Time { from, to: from.saturating_add(length) }
}

/// The how manieth `rows` offsets an offset lies among; `first` is the first offset there can be.
fn nth(offset: i64, first: i64, rows: i64) -> i64 {
    (offset - first).div_euclid(rows)
}

/// Those offsets.
fn offsets(partition: &TopicPartition, nth: i64, first: i64, rows: i64) -> Extent {
    let from = nth * rows + first;
    Extent::Rows { partition: partition.clone(), from, to: from.saturating_add(rows) }
}

fn latest(batch: &Batch, times: &Times) -> BTreeMap<TopicPartition, i64> {
    let raw = &batch.raw;
    let mut latest: Vec<Option<i64>> = vec![None; raw.ranges.len()];
    for (time, &record) in times.usable.iter().zip(&batch.origin) {
        let latest = &mut latest[raw.records[record as usize].range as usize];
        *latest = (*latest).max(*time);
    }
    let known = raw.ranges.iter().zip(latest);
    known.filter_map(|(range, latest)| Some((range.partition.clone(), latest?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_begin_at_the_epoch_and_offsets_at_the_first_there_can_be() {
        for (time, from) in [(0, 0), (9, 0), (10, 10), (-1, -10), (-10, -10), (-11, -20)] {
            assert_eq!(interval(time, 10), Extent::Time { from, to: from + 10 }, "{time}");
        }
        let partition = TopicPartition::new("t", 1);
        for (offset, first, from) in [(0, 0, 0), (4, 0, 0), (5, 0, 5), (1, 1, 1), (5, 1, 1), (6, 1, 6)] {
            let expected = Extent::Rows { partition: partition.clone(), from, to: from + 5 };
            let found = offsets(&partition, nth(offset, first, 5), first, 5);
            assert_eq!(found, expected, "{offset} from {first}");
        }
    }

    #[test]
    fn what_ends_where_something_is_decided_is_closed() {
        let closed = Closed { until: Some(20), ..Closed::default() };
        for (from, expected) in [(0, true), (10, true), (20, false)] {
            assert_eq!(closed.has(&interval(from, 10)), expected, "{from}");
        }
        let (partition, other) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
        let closed = Closed { until: None, partitions: [(partition.clone(), (Some(5), Some("a".into())))].into() };
        for (window, expected) in [
            (offsets(&partition, 0, 0, 5), true),
            (offsets(&partition, 1, 0, 5), false),
            (offsets(&other, 0, 0, 5), false),
            (Extent::File { partition: partition.clone(), id: "a".into() }, true),
            (Extent::File { partition, id: "b".into() }, false),
            (interval(0, 10), false),
        ] {
            assert_eq!(closed.has(&window), expected, "{window:?}");
        }
    }
}
