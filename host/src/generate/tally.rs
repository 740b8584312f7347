//! The tally: what was planted, counted when it was planted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;

/// What was generated. Its JSON is what `--tally` writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// the seed
    pub seed: u64,
    /// all records
    pub records: u64,
    /// bytes of all payloads
    pub bytes: u64,
    /// rows per outcome that the demo's pipeline must come to (for damage by visit: the pipeline of awap-visits)
    pub outcomes: BTreeMap<Outcome, u64>,
    /// findings and reasons that it must come to, `rule/code` → rows
    pub codes: BTreeMap<String, u64>,
    /// by what was done: the kinds of damage, `not-json`, `duplicate`, `late`
    pub planted: BTreeMap<String, Planted>,
    /// damage by visit only: field → records in which it is null
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nulls: BTreeMap<String, u64>,
    /// records per partition
    pub partitions: Vec<u64>,
}

/// How often something was planted, and where first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planted {
    /// records
    pub records: u64,
    /// the first of them, counted from 1: its line in a file
    pub first: u64,
}

impl Tally {
    pub(super) fn new(seed: u64, partitions: u32) -> Tally {
        let outcomes = Outcome::LAST.into_iter().map(|outcome| (outcome, 0)).collect();
        Tally { seed, outcomes, partitions: vec![0; partitions as usize], ..Tally::default() }
    }

    /// One more record, to be called before what was planted in it is noted.
    pub(super) fn record(&mut self, bytes: usize, partition: u32, outcome: Outcome) {
        self.records += 1;
        self.bytes += bytes as u64;
        self.partitions[partition as usize] += 1;
        *self.outcomes.entry(outcome).or_default() += 1;
    }

    /// The record just counted carries this.
    pub(super) fn plant(&mut self, what: &str) {
        let record = self.records;
        // not `entry`, which would allocate the key for each record
        match self.planted.get_mut(what) {
            Some(planted) => planted.records += 1,
            None => drop(self.planted.insert(what.to_owned(), Planted { records: 1, first: record })),
        }
    }

    /// The record just counted must be given this code.
    pub(super) fn code(&mut self, code: &str) {
        count(&mut self.codes, code);
    }

    /// A field of the record just counted is null by damage.
    pub(super) fn null(&mut self, field: &str) {
        count(&mut self.nulls, field);
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => drop(counts.insert(name.to_owned(), 1)),
    }
}
