//! From records that nobody described to a pipeline: a sample is profiled, and a schema, a pipeline file and suggested
//! expectations are written, each with its evidence.
//!
//! What is written holds for the sample: no record of it that is a JSON object becomes a dead letter (unless the user
//! tolerates misfits), and no suggested expectation refuses one. That is checked by the very chain that will judge, before
//! anything is promised ([`check`]). It guesses no meaning, and a field that no declared type holds is left out of the schema
//! with the reason beside it, since fields that are not declared harm nobody.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::chain::{Chain, Waiting, dead_key};
use crate::cli::text::thousands;
use crate::error::{Error, Result};
use crate::generate::Share;
use crate::ledger::Counts;
use crate::outcome::{Outcome, Reason};
use crate::record::{Range, RawBatch, RawRecord, Span, TopicPartition};

mod ddl;
pub mod pipeline;
mod profile;
mod seen;
mod shape;
mod suggest;
pub mod thin;

use profile::Profile;
use seen::{Seen, Unseen};
use shape::{Field, fields};
pub use suggest::Suggestion;

/// Where a record of the sample came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// topic, or path of the file
    pub topic: Arc<str>,
    /// its partition; `None` for a file
    pub partition: Option<i32>,
    /// offset, or line from 1
    pub offset: i64,
}

/// As `sluice explain` takes it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            Some(partition) => write!(f, "{}/{partition}/{}", self.topic, self.offset),
            None => write!(f, "{}:{}", self.topic, self.offset),
        }
    }
}

/// A record of the sample.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// where it came from
    pub place: Place,
    /// the payload; `None` for a tombstone
    pub value: Option<Bytes>,
}

/// Some records of a source, and what is known of the others.
#[derive(Clone, Debug)]
pub struct Sample {
    /// where they come from: `visits.ndjson`, `topic visits`
    pub from: String,
    /// in the source's order
    pub records: Vec<Sampled>,
    /// records of the source, sampled or not; `None` where nobody counted to the end
    pub of: Option<u64>,
}

impl Sample {
    /// `10,000 of 100,000 records of visits.ndjson`.
    pub fn describe(&self) -> String {
        let sampled = self.records.len() as u64;
        match self.of {
            Some(all) if all == sampled => format!("all {} records of {}", thousands(sampled), self.from),
            Some(all) => format!("{} of {} records of {}", thousands(sampled), thousands(all), self.from),
            None => format!("{} records of {}", thousands(sampled), self.from),
        }
    }
}

/// What a sample showed.
pub struct Described {
    /// of the payloads' top level
    root: Profile,
    /// records that are JSON objects
    pub objects: u64,
    /// records without a value
    pub tombstones: u64,
    /// records that no schema can describe, by the reason with which they will be dead
    pub unusable: BTreeMap<&'static str, u64>,
    /// bytes of the longest payload
    pub longest: usize,
    /// places of the sample's records, to name examples by
    places: Vec<Place>,
}

/// Texts of the files, and what they say.
pub struct Draft {
    /// the schema file
    pub sql: String,
    /// what it declares, in columns at the top
    pub columns: usize,
    /// fields that are left out, wherever they are
    pub left_out: usize,
    /// expectations, those that are only mentioned among them
    pub suggestions: Vec<Suggestion>,
    /// a column that says when a row happened, and why it was taken
    pub event_time: Option<(String, String)>,
}

/// Profiles a sample.
///
/// # Errors
/// None of it is a JSON object: there is nothing to describe.
pub fn describe(sample: &Sample) -> Result<Described> {
    let mut described = Described {
        root: Profile::default(),
        objects: 0,
        tombstones: 0,
        unusable: BTreeMap::new(),
        longest: 0,
        places: sample.records.iter().map(|record| record.place.clone()).collect(),
    };
    for (n, record) in sample.records.iter().enumerate() {
        let Some(value) = &record.value else {
            described.tombstones += 1;
            continue;
        };
        described.longest = described.longest.max(value.len());
        match Seen::read(value) {
            Ok(object) => {
                described.objects += 1;
                described.root.add(&object, n as u32);
            }
            Err(Unseen(reason)) => *described.unusable.entry(reason.as_str()).or_default() += 1,
        }
    }
    if described.objects == 0 {
        let why: Vec<String> = described.unusable.iter().map(|(why, n)| format!("{} {why}", thousands(*n))).collect();
        return Err(Error::Config(match (sample.records.len(), why.is_empty()) {
            (0, _) => format!("{} holds no records: there is nothing to describe", sample.from),
            (_, true) => format!("{} holds tombstones only: there is nothing to describe", sample.from),
            (n, false) => format!(
                "none of {} records of {} is a JSON object ({}): only JSON can be described",
                thousands(n as u64),
                sample.from,
                why.join(", ")
            ),
        }));
    }
    Ok(described)
}

impl Described {
    /// What to write. `table` names the table of the schema; of each column's values, a share of `misfits` may be of another
    /// kind than it is declared: their records will be dead letters.
    pub fn draft(&self, table: &str, header: &str, misfits: Share) -> Result<Draft> {
        let place = |record: u32| self.places.get(record as usize).map(Place::to_string).unwrap_or_default();
        let shaping = shape::Shaping { misfits, place: &place };
        let fields = fields(&self.root, &shaping, true);
        let columns = fields.iter().filter(|field| field.shape.is_ok()).count();
        if columns == 0 {
            let why =
                fields.iter().filter_map(|field| Some(format!("{}: {}", field.name, field.shape.as_ref().err()?)));
            let why: Vec<String> = why.take(5).collect();
            return Err(Error::Config(format!(
                "none of the fields can be declared as a column ({})",
                if why.is_empty() { "the objects are empty".to_owned() } else { why.join("; ") }
            )));
        }
        Ok(Draft {
            sql: ddl::write(table, header, &fields, self.objects),
            columns,
            left_out: left_out(&fields),
            suggestions: suggest::expectations(&fields, self.objects),
            event_time: suggest::event_time(&fields, self.objects),
        })
    }
}

fn left_out(fields: &[Field<'_>]) -> usize {
    fields.iter().map(|field| field.shape.as_ref().map_or(1, |shape| left_out(shape.fields()))).sum()
}

/// Rows and records of the sample by what becomes of them in the pipeline that was written.
pub struct Checked {
    /// all of it
    pub counts: Counts,
    /// dead letters that are no JSON object, which no schema would save
    pub unusable: u64,
    /// rows that an expectation refuses, and dead letters that the schema makes: `expect/has-user`, `decode/wrong-type`
    pub refused: BTreeMap<String, u64>,
}

/// Sends the sample through a chain, in memory.
pub fn check(sample: &Sample, chain: &Chain) -> Result<Checked> {
    let mut checked = Checked { counts: Counts::default(), unusable: 0, refused: BTreeMap::new() };
    let mut judge = chain.judge()?;
    // few enough for any batch of the largest payloads
    for records in sample.records.chunks(1024) {
        let mut waiting = Waiting::from(batch(records));
        while let Some(judged) = judge.next(&mut waiting)? {
            checked.counts.add(&judged.counts);
            for finding in &judged.findings {
                if judged.outcomes[finding.row as usize] == Outcome::Error {
                    *checked.refused.entry(format!("{}/{}", finding.rule, finding.code)).or_default() += 1;
                }
            }
            for dead in &judged.dead {
                match dead.reason {
                    Reason::EmptyValue
                    | Reason::NotUtf8
                    | Reason::NotJson
                    | Reason::NotAnObject
                    | Reason::DuplicateKey
                    | Reason::TooDeep => checked.unusable += 1,
                    Reason::NullValue
                    | Reason::TooLarge
                    | Reason::WrongType
                    | Reason::OutOfRange
                    | Reason::UnknownField
                    | Reason::SqlError
                    | Reason::PluginTrap
                    | Reason::PluginTimeout
                    | Reason::PluginMemory
                    | Reason::PluginOutput
                    | Reason::PluginError
                    | Reason::PluginFailed => *checked.refused.entry(dead_key(dead)).or_default() += 1,
                }
            }
        }
    }
    Ok(checked)
}

fn batch(records: &[Sampled]) -> RawBatch {
    let mut data = Vec::new();
    let records: Vec<RawRecord> = records
        .iter()
        .enumerate()
        .map(|(n, record)| {
            let value = record.value.as_ref().map_or(Span::NULL, |value| {
                let start = data.len() as u32;
                data.extend_from_slice(value);
                Span { start, len: value.len() as u32 }
            });
            let offset = n as i64;
            RawRecord { range: 0, offset, timestamp: None, key: Span::NULL, value, headers: None, truncated_from: None }
        })
        .collect();
    let ranges = vec![Range { partition: TopicPartition::new("sample", 0), from: 0, to: records.len() as i64 }];
    RawBatch { ranges, records, data: data.into(), headers: Vec::new() }
}

#[cfg(test)]
mod tests;
