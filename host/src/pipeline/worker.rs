//! One thread's share of the work: judge a batch, shape its rows, write them into open files.
//!
//! A worker knows no ledger. What it wrote becomes part of a table only through the entry that the loop appends.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use uuid::Uuid;

use super::beside::Beside;
use super::intake::Shared;
use super::judging::{Judging, Opening, shapers};
use super::shape::Shaper;
use crate::audit::assign::Assigner;
use crate::chain::{Judge, Judged, Spent, Waiting, dead_key};
use crate::crash;
use crate::error::Result;
use crate::ledger::{Counts, Extent, FileAction};
use crate::outcome::Outcome;
use crate::record::{RawBatch, TopicPartition};
use crate::shadow::Seen;
use crate::sink::FileTarget;
use crate::sink::files::TableWriter;

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
    /// rows in staging, and those among them with an error finding
    pub windows: BTreeMap<Extent, (u64, u64)>,
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
    assigner: Assigner,
    started_micros: i64,
    shared: Arc<Shared>,
    runtime: Handle,
    writing: Duration,
    beside: Option<Beside>,
    /// what judging the last batch took, where that was asked for already
    spent: Option<Spent>,
}

impl Worker {
    /// A worker that writes to `places`, and begins with the generation `judging`.
    pub(super) fn new(
        judging: &Arc<Judging>,
        places: Vec<Place>,
        shared: Arc<Shared>,
        runtime: Handle,
    ) -> Result<Worker> {
        let chain = &judging.chain;
        let started_micros = chrono::Utc::now().timestamp_micros();
        Ok(Worker {
            judging: judging.clone(),
            judge: chain.judge()?,
            shapers: shapers(chain)?,
            places,
            writers: BTreeMap::new(),
            written: Written::default(),
            assigner: Assigner::new(&chain.config, started_micros),
            started_micros,
            shared,
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
            self.assigner = Assigner::new(&chain.config, self.started_micros);
            self.judging = opening.judging.clone();
        }
        self.judge.pin(&opening.pinned);
        self.beside = self.beside.take().filter(|beside| opening.shadow.as_ref().is_some_and(|it| beside.is_of(it)));
        if let (None, Some(shadow)) = (&self.beside, &opening.shadow) {
            self.beside = Beside::new(shadow, self.runtime.clone());
        }
        if let Some(beside) = &mut self.beside {
            beside.pin(&opening.judging.chain.parts.references, &opening.pinned);
        }
        let again = self.beside.as_mut().is_some_and(Beside::takes).then(|| raw.clone());
        let (mut waiting, mut kept, mut judging) = (Waiting::from(raw), Vec::new(), Duration::ZERO);
        loop {
            let begun = Instant::now();
            let Some(mut judged) = self.judge.next(&mut waiting)? else { break };
            judging += begun.elapsed();
            // a candidate is compared with what was judged: where rows wait, and for what, is nobody's judgement
            kept.extend(again.is_some().then(|| judged.clone()));
            let begun = Instant::now();
            let (now, shared) = (chrono::Utc::now().timestamp_micros(), &self.shared);
            // what is decided meanwhile, here or elsewhere, is found out when the entry is appended
            let latest = shared.assign(|closed| {
                let latest = self.assigner.assign(&mut judged, closed, now, |partition| shared.topic_id(partition));
                let earliest = judged.windows.as_ref().and_then(|windows| closed.earliest(windows));
                earliest.into_iter().for_each(|end| opening.staged.note(end));
                latest
            });
            self.written.tell(latest);
            self.write(opening.id, &judged)?;
            self.note(&judged);
            self.writing += begun.elapsed();
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
            let parts = match shaper.outcome() {
                Outcome::Staging => shaper.shape_waiting(judged, entry)?,
                _ => [shaper.shape(judged, entry)?, None],
            };
            for rows in parts.into_iter().flatten() {
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
        let Some(windows) = &judged.windows else { return };
        let mut last: Option<(u32, &mut (u64, u64))> = None;
        for (row, outcome) in judged.outcomes.iter().enumerate() {
            if *outcome != Outcome::Staging {
                continue;
            }
            let at = windows.of_row[row];
            let (known, counted) = match last.take() {
                Some((known, counted)) if known == at => (known, counted),
                _ => (at, self.written.windows.entry(windows.extents[at as usize].clone()).or_default()),
            };
            counted.0 += 1;
            counted.1 += u64::from(windows.rejected[row]);
            last = Some((known, counted));
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
        self.tell(other.latest_event_time);
        for (window, (rows, rejected)) in other.windows {
            let known = self.windows.entry(window).or_default();
            *known = (known.0 + rows, known.1 + rejected);
        }
        merge_examples(&mut self.examples, other.examples);
        match (&mut self.shadow, other.shadow) {
            (Some(seen), Some(other)) => seen.merge(other),
            (seen @ None, other) => *seen = other,
            (Some(_), None) => {}
        }
    }

    /// The latest event time of some partitions.
    fn tell(&mut self, latest: BTreeMap<TopicPartition, i64>) {
        for (partition, time) in latest {
            let known = self.latest_event_time.entry(partition).or_insert(time);
            *known = time.max(*known);
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
