//! One thread's share of the work: judge a batch, shape its rows, write them into open files.
//!
//! A worker knows no ledger. What it wrote becomes part of a table only through the entry that the loop appends.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::beside::Beside;
use super::judging::{Judging, Opening, shapers};
use super::shape::Shaper;
use crate::chain::{Judge, Judged, Spent, Waiting, dead_key};
use crate::columns;
use crate::crash;
use crate::error::Result;
use crate::ledger::{Counts, FileAction};
use crate::outcome::Outcome;
use crate::record::{RawBatch, TopicPartition};
use crate::shadow::Seen;
use crate::sink::FileTarget;
use crate::sink::files::TableWriter;

/// An event time more than this beyond the record's own time is not usable: one bad date must not move a watermark.
const MAX_AHEAD_MICROS: i64 = 3_600_000_000;

/// Where and why the first row of a kind went wrong, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// of the record
    pub partition: TopicPartition,
    /// of the record
    pub offset: i64,
    /// what was wrong with it
    pub detail: String,
}

/// What one worker did for one entry.
#[derive(Debug, Default)]
pub struct Written {
    /// what became of the records
    pub counts: Counts,
    /// durable files per sink
    pub files: BTreeMap<Outcome, Vec<FileAction>>,
    /// latest usable event time per partition
    pub latest_event_time: BTreeMap<TopicPartition, i64>,
    /// the first dead letter of each kind
    pub examples: BTreeMap<String, Example>,
    /// what a candidate would have done otherwise
    pub shadow: Option<Seen>,
}

/// A sink as workers see it.
#[derive(Clone)]
pub struct Place {
    /// which rows
    pub outcome: Outcome,
    /// where its files go
    pub target: FileTarget,
}

/// Judges and writes on one thread.
pub struct Worker {
    judging: Arc<Judging>,
    judge: Judge,
    shapers: Vec<Shaper>,
    places: Vec<Place>,
    writers: BTreeMap<Outcome, TableWriter>,
    written: Written,
    started_micros: i64,
    runtime: Handle,
    writing: Duration,
    beside: Option<Beside>,
    /// what judging the last batch took, where that was asked for already
    spent: Option<Spent>,
}

impl Worker {
    /// A worker that writes to `places`, and begins with the generation `judging`.
    pub(super) fn new(judging: &Arc<Judging>, places: Vec<Place>, runtime: Handle) -> Result<Worker> {
        let chain = &judging.chain;
        Ok(Worker {
            judging: judging.clone(),
            judge: chain.judge()?,
            shapers: shapers(chain)?,
            places,
            writers: BTreeMap::new(),
            written: Written::default(),
            started_micros: chrono::Utc::now().timestamp_micros(),
            runtime,
            writing: Duration::ZERO,
            beside: None,
            spent: None,
        })
    }

    /// Judges a batch and writes its rows for the entry.
    pub(super) fn process(&mut self, opening: &Opening, raw: RawBatch) -> Result<()> {
        if !Arc::ptr_eq(&opening.judging, &self.judging) {
            let chain = &opening.judging.chain;
            (self.judge, self.shapers) = (chain.judge()?, shapers(chain)?);
            self.judging = opening.judging.clone();
        }
        self.beside = self.beside.take().filter(|beside| opening.shadow.as_ref().is_some_and(|it| beside.is_of(it)));
        if let (None, Some(shadow)) = (&self.beside, &opening.shadow) {
            self.beside = Beside::new(shadow, self.runtime.clone());
        }
        let again = self.beside.as_mut().is_some_and(Beside::takes).then(|| raw.clone());
        let (mut waiting, mut kept, mut judging) = (Waiting::from(raw), Vec::new(), Duration::ZERO);
        loop {
            let begun = Instant::now();
            let Some(judged) = self.judge.next(&mut waiting)? else { break };
            judging += begun.elapsed();
            let begun = Instant::now();
            self.write(opening.id, &judged)?;
            self.note(&judged);
            self.writing += begun.elapsed();
            kept.extend(again.is_some().then_some(judged));
        }
        if let (Some(raw), Some(beside)) = (again, &mut self.beside) {
            let spent = self.judge.take_spent();
            beside.judge(opening.id, raw, &kept, judging, &spent);
            self.spent = Some(spent);
        }
        Ok(())
    }

    /// Writes the rows of a judged batch into the files of each sink.
    fn write(&mut self, entry: Uuid, judged: &Judged) -> Result<()> {
        for (shaper, place) in self.shapers.iter().zip(&self.places) {
            let Some(rows) = shaper.shape(judged, entry)? else { continue };
            let writer = match self.writers.entry(shaper.outcome()) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(none) => {
                    let (target, schema) = (place.target.clone(), shaper.schema().clone());
                    none.insert(TableWriter::new(target, schema, entry, self.runtime.clone())?)
                }
            };
            writer.write(&rows)?;
            crash::point("write/first-file-open");
        }
        Ok(())
    }

    /// Where the time went since this was last asked: judging, and shaping and writing rows.
    pub fn take_spent(&mut self) -> (Spent, Duration) {
        let spent = self.spent.take().unwrap_or_else(|| self.judge.take_spent());
        (spent, std::mem::take(&mut self.writing))
    }

    /// Closes the files of the entry, durably, and answers what was done for it.
    pub fn close(&mut self) -> Result<Written> {
        for (outcome, writer) in std::mem::take(&mut self.writers) {
            self.written.files.insert(outcome, writer.finish()?);
        }
        self.written.shadow = self.beside.as_mut().and_then(Beside::close);
        Ok(std::mem::take(&mut self.written))
    }

    /// Forgets what was written for the entry: no file of it stays.
    pub fn discard(&mut self) {
        self.writers.clear();
        self.beside.iter_mut().for_each(Beside::discard);
        self.written = Written::default();
    }

    fn note(&mut self, judged: &Judged) {
        self.written.counts.add(&judged.counts);
        let raw = &judged.batch.raw;
        for dead in &judged.dead {
            let record = dead.record as usize;
            let (partition, offset) = (raw.partition(record), raw.records[record].offset);
            let known = self.written.examples.get_mut(&dead_key(dead));
            if known.as_ref().is_some_and(|e| (&e.partition, e.offset) <= (partition, offset)) {
                continue;
            }
            let example = Example { partition: partition.clone(), offset, detail: dead.detail.clone() };
            match known {
                Some(known) => *known = example,
                None => drop(self.written.examples.insert(dead_key(dead), example)),
            }
        }
        self.note_event_times(judged);
    }

    fn note_event_times(&mut self, judged: &Judged) {
        let event_time = self.judging.chain.config.event_time.as_deref();
        let Some(times) = event_time.and_then(|path| columns::column(&judged.batch, path)) else {
            return;
        };
        let Some(times) = times.as_primitive_opt::<TimestampMicrosecondType>() else { return };
        let raw = &judged.batch.raw;
        let mut latest: Vec<Option<i64>> = vec![None; raw.ranges.len()];
        for (row, &record) in judged.batch.origin.iter().enumerate() {
            if times.is_null(row) {
                continue;
            }
            let record = &raw.records[record as usize];
            let now = record.timestamp.map_or(self.started_micros, |ms| ms.saturating_mul(1000));
            let time = times.value(row);
            if time <= now.saturating_add(MAX_AHEAD_MICROS) {
                let latest = &mut latest[record.range as usize];
                *latest = (*latest).max(Some(time));
            }
        }
        for (range, latest) in raw.ranges.iter().zip(latest) {
            if let Some(latest) = latest {
                let known = self.written.latest_event_time.entry(range.partition.clone()).or_insert(latest);
                *known = latest.max(*known);
            }
        }
    }
}

impl Written {
    /// Adds what another worker did for the same entry.
    pub fn merge(&mut self, other: Written) {
        self.counts.add(&other.counts);
        for (outcome, files) in other.files {
            self.files.entry(outcome).or_default().extend(files);
        }
        for (partition, time) in other.latest_event_time {
            let known = self.latest_event_time.entry(partition).or_insert(time);
            *known = time.max(*known);
        }
        merge_examples(&mut self.examples, other.examples);
        match (&mut self.shadow, other.shadow) {
            (Some(seen), Some(other)) => seen.merge(other),
            (seen @ None, other) => *seen = other,
            (Some(_), None) => {}
        }
    }
}

/// Keeps the earlier example of each kind.
pub fn merge_examples(into: &mut BTreeMap<String, Example>, other: BTreeMap<String, Example>) {
    for (key, example) in other {
        let known = into.entry(key).or_insert_with(|| example.clone());
        if (&example.partition, example.offset) < (&known.partition, known.offset) {
            *known = example;
        }
    }
}
