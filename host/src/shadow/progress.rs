//! A shadow in numbers: what one process saw, and what all of them saw together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Seen;
use crate::chain::Spent;
use crate::compare::{self, Coordinates, SAMPLES, Tally};
use crate::error::{Error, Result};
use crate::store::{failed, shown};

/// What judging cost one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// nanoseconds of the threads that judge
    pub nanos: u64,
    /// fuel that its components burnt
    pub fuel: u64,
}

impl Side {
    /// Of the time that passed, and what a judge says of itself.
    pub fn of(time: Duration, spent: &Spent) -> Side {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Side { nanos, fuel: spent.plugins.iter().map(|(_, tally)| tally.fuel).sum() }
    }

    /// Adds another batch's.
    pub fn add(&mut self, other: Side) {
        self.nanos += other.nanos;
        self.fuel += other.fuel;
    }
}

/// What was seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// batches that were judged twice
    pub batches: u64,
    /// records in them
    pub records: u64,
    /// rows that either side made of them
    pub rows: u64,
    /// records of which some row flips
    pub flipped: u64,
    /// rows per flip, `valid → error`
    pub flips: BTreeMap<String, u64>,
    /// the first coordinates of each flip, `visits/0/184311`
    pub samples: BTreeMap<String, Vec<String>>,
    /// rows with a finding (`rule/code`) or a dead letter (`stage/reason`) that they had not
    pub gained: BTreeMap<String, u64>,
    /// rows without one that they had
    pub lost: BTreeMap<String, u64>,
    /// rows with another value in a column
    pub columns: BTreeMap<String, u64>,
    /// what judging cost the generation in force
    pub active: Side,
    /// what it cost the candidate
    pub candidate: Side,
    /// why the candidate judges no more
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Progress {
    /// Counts what was seen for one entry.
    pub fn count(&mut self, seen: &Seen) {
        let summary = &seen.summary;
        let rows = |tallies: &BTreeMap<String, Tally>| tallies.iter().map(|(key, t)| (key.clone(), t.rows)).collect();
        let flips = summary.flips.iter().map(|(flip, tally)| (flip_name(*flip), tally));
        self.add(Progress {
            batches: seen.batches,
            records: summary.records,
            rows: summary.rows,
            flipped: summary.flipped_records,
            flips: flips.clone().map(|(name, tally)| (name, tally.rows)).collect(),
            samples: flips.map(|(name, tally)| (name, tally.samples.iter().map(coordinates).collect())).collect(),
            gained: rows(&summary.gained),
            lost: rows(&summary.lost),
            columns: rows(&summary.columns),
            active: seen.active,
            candidate: seen.candidate,
            failed: None,
        });
    }

    /// Adds what another process saw.
    pub fn add(&mut self, other: Progress) {
        fn sum(into: &mut BTreeMap<String, u64>, from: BTreeMap<String, u64>) {
            from.into_iter().for_each(|(key, n)| *into.entry(key).or_default() += n);
        }
        self.batches += other.batches;
        self.records += other.records;
        self.rows += other.rows;
        self.flipped += other.flipped;
        sum(&mut self.flips, other.flips);
        sum(&mut self.gained, other.gained);
        sum(&mut self.lost, other.lost);
        sum(&mut self.columns, other.columns);
        for (flip, more) in other.samples {
            let samples = self.samples.entry(flip).or_default();
            samples.extend(more);
            samples.truncate(SAMPLES);
        }
        self.active.add(other.active);
        self.candidate.add(other.candidate);
        self.failed = self.failed.take().or(other.failed);
    }

    /// Records that flip, in percent; 0 of none.
    pub fn flipped_percent(&self) -> f64 {
        if self.records == 0 { 0.0 } else { self.flipped as f64 * 100.0 / self.records as f64 }
    }

    /// Keeps the numbers of a process.
    pub(super) async fn write(&self, store: &Arc<dyn ObjectStore>, folder: &Path, process: Uuid) -> Result<()> {
        let path = folder.clone().join(format!("{process}.json"));
        let text = serde_json::to_vec(self).map_err(|e| Error::Host(format!("numbers are no JSON: {e}")))?;
        let put = store.put_opts(&path, text.into(), PutOptions::from(PutMode::Overwrite)).await;
        put.map(drop).map_err(|e| failed(format!("cannot write {}", shown(&path)), e))
    }

    /// The numbers of all processes.
    pub(super) async fn read(store: &Arc<dyn ObjectStore>, folder: &Path) -> Result<Progress> {
        let list = store.list_with_delimiter(Some(folder)).await;
        let objects = list.map_err(|e| failed(format!("cannot list {}", shown(folder)), e))?.objects;
        let mut all = Progress::default();
        for object in objects.into_iter().filter(|object| object.location.extension() == Some("json")) {
            let read = async { store.get(&object.location).await?.bytes().await }.await;
            let bytes = read.map_err(|e| failed(format!("cannot read {}", shown(&object.location)), e))?;
            let one = serde_json::from_slice(&bytes)
                .map_err(|e| Error::Diverged(format!("{} cannot be read: {e}", shown(&object.location))))?;
            all.add(one);
        }
        Ok(all)
    }
}

/// `valid → error`
pub(super) fn flip_name((before, after): compare::Flip) -> String {
    format!("{} → {}", compare::name(before), compare::name(after))
}

fn coordinates(at: &Coordinates) -> String {
    match at.row {
        0 => format!("{}/{}", at.partition, at.offset),
        row => format!("{}/{}/{row}", at.partition, at.offset),
    }
}
