//! Visits of a web site: JSON of about 480 bytes, nested, many visits under way at once.
//!
//! A visit keeps its id for 5 to 500 records, 1 to 5 minutes apart. Its bytes are laid out by hand: what does not change
//! within a visit is rendered once, and the generator must be faster than what it tests.

use std::io::Write;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::plan::{Plan, Slot};
use super::tally::Tally;
use super::{Damage, STEP, Spec};
use crate::error::{Error, Result};
use crate::outcome::Outcome;

mod visit;

use visit::{Visit, page};

/// Visits under way at once: with one record each [`STEP`], the same visit comes again after 3 minutes.
const OPEN: usize = 500;

/// The top-level fields, in the order in which damage by visit numbers them.
const FIELDS: [&str; 6] = ["visit_id", "event_time", "user_id", "keep_private", "page", "context"];

/// Those of [`FIELDS`] that must not be null: all but `visit_id` and `keep_private`.
const NEEDED: u8 = 0b11_0110;

const NOT_JSON: &[u8] = b"{........";

/// One record. It borrows the generator's buffers.
#[derive(Debug)]
pub struct Generated<'a> {
    /// the visit's id; a random UUID where that is null
    pub key: &'a [u8],
    /// the payload
    pub value: &'a [u8],
    /// the visit's partition
    pub partition: u32,
    /// the flow's time, milliseconds since the epoch
    pub timestamp: i64,
}

/// The generator.
pub struct Visits {
    spec: Spec,
    plan: Plan,
    rng: ChaCha8Rng,
    open: Vec<Visit>,
    record: u64,
    key: Vec<u8>,
    value: Vec<u8>,
    /// the latest good record, for the next duplicate: key, value, partition
    original: Option<(Vec<u8>, Vec<u8>, u32)>,
    tally: Tally,
}

impl Visits {
    /// A generator at its first record.
    pub fn new(spec: Spec) -> Result<Visits> {
        if spec.partitions == 0 {
            return Err(Error::Config("a topic has at least one partition".to_owned()));
        }
        if matches!(&spec.damage, Damage::Records(_, kinds) if kinds.is_empty()) {
            return Err(Error::Config("damage by record needs at least one kind".to_owned()));
        }
        Ok(Visits {
            plan: Plan::new(&spec)?,
            rng: ChaCha8Rng::seed_from_u64(spec.seed),
            open: Vec::with_capacity(OPEN),
            record: 0,
            key: Vec::with_capacity(64),
            value: Vec::with_capacity(1024),
            original: None,
            tally: Tally::new(spec.seed, spec.partitions),
            spec,
        })
    }

    /// What was planted so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The next record, `None` after the last.
    #[expect(clippy::should_implement_trait, reason = "it lends its buffers, an iterator cannot")]
    pub fn next(&mut self) -> Option<Generated<'_>> {
        let slot = match self.plan.next(&mut self.rng)? {
            Slot::Duplicate if self.original.is_none() => {
                self.plan.postpone(Slot::Duplicate);
                Slot::Good
            }
            slot => slot,
        };
        let timestamp = self.spec.start + self.record as i64 * STEP;
        let place = (self.record % OPEN as u64) as usize;
        self.record += 1;
        self.advance(place);
        let partition = match slot {
            Slot::Duplicate => self.duplicate(),
            Slot::NotJson => self.not_json(place),
            Slot::Good | Slot::Late | Slot::Damaged(_) => self.visit(place, slot, timestamp),
        };
        Some(Generated { key: &self.key, value: &self.value, partition, timestamp })
    }

    /// Opens a visit where none is under way, or where it has ended.
    fn advance(&mut self, place: usize) {
        match self.open.get_mut(place) {
            Some(visit) if visit.left > 0 => visit.left -= 1,
            Some(visit) => *visit = Visit::open(&mut self.rng, &self.spec),
            None => self.open.push(Visit::open(&mut self.rng, &self.spec)),
        }
    }

    fn duplicate(&mut self) -> u32 {
        let (key, value, partition) = self.original.as_ref().expect("`next` asks for a copy only where one is");
        self.key.clone_from(key);
        self.value.clone_from(value);
        self.tally.record(value.len(), *partition, Outcome::Valid);
        self.tally.plant("duplicate");
        *partition
    }

    fn not_json(&mut self, place: usize) -> u32 {
        let visit = &self.open[place];
        self.key.clone_from(&visit.id);
        self.value.clear();
        self.value.extend_from_slice(NOT_JSON);
        self.tally.record(NOT_JSON.len(), visit.partition, Outcome::Dlq);
        self.tally.plant("not-json");
        self.tally.code("decode/not-json");
        visit.partition
    }

    fn visit(&mut self, place: usize, slot: Slot, timestamp: i64) -> u32 {
        let visit = &mut self.open[place];
        let mut time = timestamp - self.rng.random_range(0..120_000);
        let mut damage = None;
        match slot {
            Slot::Late => time -= i64::from(self.rng.random_range(8..=30_u32)) * 86_400_000,
            Slot::Damaged(kind) => damage = Some(kind),
            Slot::Good | Slot::NotJson | Slot::Duplicate => {}
        }
        if visit.spoilt {
            for _ in 0..self.rng.random_range(1..=6_u32) {
                visit.nulls |= 1 << self.rng.random_range(0..6_u32);
            }
        }
        let page = page(&mut self.rng);
        visit.render(&mut self.value, time, page, damage);
        self.key.clear();
        if visit.nulls & 1 == 0 {
            self.key.extend_from_slice(&visit.id);
        } else {
            let id = uuid::Builder::from_random_bytes(self.rng.random()).into_uuid();
            write!(self.key, "{id}").expect("a Vec takes all");
        }

        let invalid = visit.nulls & NEEDED != 0;
        let (outcome, code) = match damage {
            Some(kind) => kind.expected(),
            None if invalid => (Outcome::Error, "expect/complete"),
            None => (Outcome::Valid, ""),
        };
        self.tally.record(self.value.len(), visit.partition, outcome);
        if outcome == Outcome::Valid {
            let (key, value, partition) = self.original.get_or_insert_default();
            key.clone_from(&self.key);
            value.clone_from(&self.value);
            *partition = visit.partition;
        } else {
            self.tally.code(code);
        }
        match slot {
            Slot::Late => self.tally.plant("late"),
            Slot::Damaged(kind) => self.tally.plant(kind.as_str()),
            Slot::Good | Slot::NotJson | Slot::Duplicate => {}
        }
        for (_, field) in FIELDS.iter().enumerate().filter(|(i, _)| visit.nulls & (1 << i) != 0) {
            self.tally.null(field);
        }
        visit.partition
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;
    use crate::generate::{Kind, START, Share};

    /// Key, payload, partition, timestamp.
    type Record = (Vec<u8>, Vec<u8>, u32, i64);

    /// What a generator gives, and its tally.
    fn all(spec: Spec) -> (Vec<Record>, Tally) {
        let mut visits = Visits::new(spec).unwrap();
        let mut records = Vec::new();
        while let Some(r) = visits.next() {
            records.push((r.key.to_vec(), r.value.to_vec(), r.partition, r.timestamp));
        }
        (records, visits.tally().clone())
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let spec = Spec { records: 2_000, late: Share::percent(1), duplicates: Share::percent(1), ..Spec::default() };
        assert_eq!(all(spec.clone()), all(spec.clone()));
        assert_ne!(all(spec.clone()).0, all(Spec { seed: 8, ..spec }).0);
    }

    #[test]
    fn each_damaged_record_breaks_its_rule_and_no_other() {
        let kinds = Kind::ALL.map(|kind| (kind, 1)).to_vec();
        let spec = Spec {
            records: 4_000,
            damage: Damage::Records(Share::percent(10), kinds),
            late: Share::percent(1),
            duplicates: Share::percent(1),
            ..Spec::default()
        };
        let (records, tally) = all(spec);
        let mut found: BTreeMap<&str, u64> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (_, value, _, timestamp) in &records {
            let Ok(row) = serde_json::from_slice::<Value>(value) else {
                *found.entry("not-json").or_default() += 1;
                continue;
            };
            let login = &row["context"]["user"]["login"];
            let broken = [
                ("no-user", row["user_id"].is_null()),
                ("no-page", row["page"].is_null()),
                ("login-exposed", row["keep_private"] == true && !login.is_null()),
                ("wrong-type", !row["keep_private"].is_boolean()),
            ];
            assert!(broken.iter().filter(|(_, broken)| *broken).count() <= 1, "{row}");
            if let Some((kind, _)) = broken.iter().find(|(_, broken)| *broken) {
                *found.entry(kind).or_default() += 1;
            }
            let time = chrono::DateTime::parse_from_rfc3339(row["event_time"].as_str().unwrap()).unwrap();
            if timestamp - time.timestamp_millis() > 7 * 86_400_000 {
                *found.entry("late").or_default() += 1;
            }
            if !seen.insert(value) {
                *found.entry("duplicate").or_default() += 1;
            }
        }
        let planted: BTreeMap<&str, u64> = tally.planted.iter().map(|(k, p)| (k.as_str(), p.records)).collect();
        assert_eq!(found, planted);
        assert_eq!(tally.outcomes[&Outcome::Error], 300);
        assert_eq!(tally.outcomes[&Outcome::Dlq], 120);
        assert_eq!(tally.outcomes.values().sum::<u64>(), tally.records);
        let first = tally.planted["not-json"].first as usize - 1;
        assert_eq!(records[first].1, NOT_JSON);
        assert_eq!(records.iter().position(|r| r.1 == NOT_JSON), Some(first));
    }

    #[test]
    fn damage_by_visit_stays_until_the_visit_ends() {
        let spec = Spec { records: 20_000, damage: Damage::Visits(Share::percent(5)), ..Spec::default() };
        let (records, tally) = all(spec);
        let (mut invalid, mut nulls) = (0, 0);
        for (key, value, ..) in &records {
            let Ok(row) = serde_json::from_slice::<Value>(value) else { continue };
            invalid += u64::from(["event_time", "user_id", "page", "context"].iter().any(|f| row[f].is_null()));
            nulls += FIELDS.iter().filter(|f| row[f].is_null()).count() as u64;
            if let Some(id) = row["visit_id"].as_str() {
                assert_eq!(key, id.as_bytes());
            }
        }
        assert!(invalid > 100, "{invalid}");
        assert_eq!(tally.outcomes[&Outcome::Error], invalid);
        assert_eq!(tally.codes["expect/complete"], invalid);
        assert_eq!(tally.nulls.values().sum::<u64>(), nulls);
    }

    #[test]
    fn a_visit_keeps_its_partition_and_advances_by_minutes() {
        let (records, tally) = all(Spec { records: 6_000, partitions: 4, ..Spec::default() });
        let mut last: BTreeMap<&[u8], (u32, i64)> = BTreeMap::new();
        for (key, _, partition, timestamp) in &records {
            if let Some((before, time)) = last.insert(key, (*partition, *timestamp)) {
                assert_eq!((before, timestamp - time), (*partition, 180_000));
            }
        }
        assert!(tally.partitions.iter().all(|n| *n > 1_000), "{:?}", tally.partitions);
        assert_eq!(records[0].3, START);
    }

    #[test]
    fn a_visit_has_about_480_bytes() {
        let (_, tally) = all(Spec { records: 5_000, not_json: Share::percent(0), ..Spec::default() });
        let mean = tally.bytes / tally.records;
        assert!((465..495).contains(&mean), "{mean}");
    }
}
