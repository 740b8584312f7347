//! What a run's ledger says of its pace: which records were accounted for when, by the clock of the processes that did it.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sluice_host::ledger::{Entry, Kind};

/// Entries of rows in order, and when each of them was closed.
pub struct Pace {
    /// when, and how many records until then
    closed: Vec<(DateTime<Utc>, u64)>,
    /// when other generations came into force
    activated: Vec<DateTime<Utc>>,
}

impl Pace {
    /// Of the pipeline in a folder.
    pub fn of(pipeline: &Path) -> Pace {
        let files = std::fs::read_dir(pipeline.join("lake/_sluice/visits/ledger")).expect("a ledger");
        let entry = |file: std::fs::DirEntry| -> Option<(u64, Entry)> {
            let number = file.path().file_stem()?.to_str()?.parse().ok()?;
            Some((number, serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?))
        };
        let mut entries: Vec<_> = files.flatten().filter_map(entry).collect();
        entries.sort_by_key(|(number, _)| *number);
        let mut pace = Pace { closed: Vec::new(), activated: Vec::new() };
        let mut records = 0;
        for (_, entry) in entries {
            match entry.kind {
                Kind::Rows => {
                    records += entry.counts.records;
                    pace.closed.push((entry.at, records));
                }
                Kind::Activate => pace.activated.push(entry.at),
                Kind::Start
                | Kind::Gap
                | Kind::Adopt
                | Kind::Reset
                | Kind::Sweep
                | Kind::Replay
                | Kind::Decision
                | Kind::Expire => {}
            }
        }
        pace
    }

    /// Records in all entries.
    pub fn records(&self) -> u64 {
        self.closed.last().map_or(0, |(_, records)| *records)
    }

    /// When other generations came into force.
    pub fn activated(&self) -> &[DateTime<Utc>] {
        &self.activated
    }

    /// Which records were accounted for between two instants: from how many on, to how many.
    pub fn within(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> (u64, u64) {
        let until = |at| self.closed.iter().take_while(|(closed, _)| *closed <= at).last().map_or(0, |(_, n)| *n);
        (until(from), until(to))
    }

    /// Records a second between the first entries that account for `from` and for `to` records.
    pub fn rate(&self, (from, to): (u64, u64)) -> f64 {
        let at = |n| self.closed.iter().find(|(_, records)| *records >= n).or(self.closed.last()).copied();
        let (Some((begun, first)), Some((ended, last))) = (at(from.max(1)), at(to)) else { return f64::NAN };
        (last - first) as f64 / (ended - begun).as_seconds_f64()
    }

    /// The longest time between two entries, after so many records.
    pub fn longest(&self, after: u64) -> Duration {
        let between = self.closed.windows(2).filter(|two| two[0].1 >= after).map(|two| two[1].0 - two[0].0);
        between.max().unwrap_or(TimeDelta::zero()).to_std().unwrap_or_default()
    }
}
