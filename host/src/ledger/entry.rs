//! What is written down: one entry is one atomic accounting across every sink.
//!
//! An entry is data. How it gets into the ledger is [`append`](super::append), what it does to tables is
//! [`apply`](super::apply), what all of them together mean is [`fold`](super::fold).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::outcome::Outcome;
use crate::record::{Range, TopicPartition};

use super::window::{Decision, Staged};

/// The format of entries that this version writes; it reads every format up to this one.
pub const FORMAT: u32 = 1;

/// One object of the ledger, `ledger/<number>.json`. Its number is its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// version of this format
    pub format: u32,
    /// UUIDv7, made when the entry was opened: rows carry it as `_batch`
    pub id: Uuid,
    /// when the entry was closed, by the clock of the process that wrote it; for people only
    pub at: DateTime<Utc>,
    /// what it says
    pub kind: Kind,
    /// hash of the generation that judged
    pub generation: String,
    /// versions of the reference tables that rows were joined with, by name: a Delta table's number, a file's digest
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub references: BTreeMap<String, String>,
    /// offsets that it accounts for
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<EntryRange>,
    /// what became of them
    #[serde(default)]
    pub counts: Counts,
    /// per sink: the files and the schema that they need
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sinks: BTreeMap<Outcome, SinkActions>,
    /// identity of the table behind each sink, where the entry binds it (`start`, `adopt`, `reset`)
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<Outcome, String>,
    /// of a `rows` entry: what it staged, per window
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Staged>,
    /// of a `decision` entry
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// of an `expire` entry: windows whose rows leave staging, by key
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expired: Vec<String>,
    /// of an `expire` entry: per sink, what entries that were opened before this put into it is gone
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept_from: BTreeMap<Outcome, DateTime<Utc>>,
    /// of an `activate` entry
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// of a `replay` entry
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
    /// entries that can never be appended any more: files that they would name were removed (`sweep`)
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub swept: Vec<Uuid>,
}

impl Entry {
    /// An entry that says nothing yet, made now.
    pub fn new(kind: Kind, generation: &str) -> Entry {
        Entry {
            format: FORMAT,
            id: Uuid::now_v7(),
            at: Utc::now(),
            kind,
            generation: generation.to_owned(),
            references: BTreeMap::new(),
            ranges: Vec::new(),
            counts: Counts::default(),
            sinks: BTreeMap::new(),
            tables: BTreeMap::new(),
            windows: Vec::new(),
            decision: None,
            expired: Vec::new(),
            kept_from: BTreeMap::new(),
            activation: None,
            replay: None,
            swept: Vec::new(),
        }
    }
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// partitions are read from these offsets on, into these tables (`from` = `to`)
    Start,
    /// records were judged and their rows written
    Rows,
    /// offsets were lost at the source, by the operator's word
    Gap,
    /// tables or positions were taken over as they are, by the operator's word
    Adopt,
    /// positions were set anew, by the operator's word
    Reset,
    /// files that no entry names are removed, and the entries that they were written for must not come after all
    Sweep,
    /// another generation is in force from here on
    Activate,
    /// rows of the error table, or dead letters, were judged once more: their rows are a new attempt of the same coordinates
    Replay,
    /// a window's rows were put where they belong, or are held in staging
    Decision,
    /// rows were kept for as long as they should be, and leave their table
    Expire,
}

/// Why a generation came into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// the pipeline file, or a file that it names, says so
    File,
    /// an operator or a rule promoted a shadow
    Promote,
    /// an operator or a rule went back to an earlier one
    Rollback,
}

impl Cause {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::File => "file",
            Cause::Promote => "promote",
            Cause::Rollback => "rollback",
        }
    }
}

/// What an `activate` entry says beside its generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// why
    pub cause: Cause,
    /// hash of the generation that was in force before
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

/// What a `replay` entry says beside its counts. Its records are no new ones: positions and totals stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// whose rows were judged once more
    pub of: Outcome,
    /// number of the replay entry that was the last one when they were chosen, 0 = none: no other may have come between,
    /// or a row could get the same attempt twice
    pub after: u64,
    /// which of them, as the operator said it
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// between which offsets its rows lie; what else lies there is none of its business
    pub spans: Vec<Range>,
}

/// The offsets `[from, to)` of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRange {
    /// whose
    #[serde(flatten)]
    pub partition: TopicPartition,
    /// must equal the fold's position when the entry is appended (except for `start`, `gap`, `adopt`, `reset`)
    pub from: i64,
    /// the position afterwards
    pub to: i64,
    /// the topic's id, or `sha256:<digest>:<length>` of the file
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// latest usable event time among the rows, microseconds since the epoch
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_event_time: Option<i64>,
    /// whether nothing comes after it: the end of a file
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

/// What became of the records of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// records consumed, skipped ones among them; of a replay, the records whose rows it has
    pub records: u64,
    /// records that the `skip` predicate left out
    pub skipped: u64,
    /// rows that the other records became, dead ones among them: the sum over `outcomes`
    pub rows: u64,
    /// rows per outcome
    #[serde(default)]
    pub outcomes: BTreeMap<Outcome, u64>,
    /// findings per `rule/code`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub findings: BTreeMap<String, u64>,
    /// rows for which an expectation was unknown (null), per `rule/code`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown: BTreeMap<String, u64>,
    /// dead letters per `stage/reason`, for plugins `name/reason`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dead: BTreeMap<String, u64>,
}

impl Counts {
    /// Adds another count to this one.
    pub fn add(&mut self, other: &Counts) {
        self.records += other.records;
        self.skipped += other.skipped;
        self.rows += other.rows;
        for (outcome, n) in &other.outcomes {
            *self.outcomes.entry(*outcome).or_default() += n;
        }
        for (mine, theirs) in
            [(&mut self.findings, &other.findings), (&mut self.unknown, &other.unknown), (&mut self.dead, &other.dead)]
        {
            for (key, n) in theirs {
                *mine.entry(key.clone()).or_default() += n;
            }
        }
    }

    /// Rows of one outcome.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }
}

/// What an entry does to one sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkActions {
    /// Delta's schema JSON of the files, provenance columns included; columns that the table lacks are added
    pub schema: serde_json::Value,
    /// the files, durable before the entry exists
    pub files: Vec<FileAction>,
}

/// One data file that is ready to become part of a sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileAction {
    /// relative to the sink's location, as in Delta's `add` action
    pub path: String,
    /// bytes
    pub size: i64,
    /// rows
    pub rows: u64,
    /// partition column → value, as Delta writes it
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Delta's statistics JSON (`numRecords`, `minValues`, `maxValues`, `nullCount`)
    pub stats: String,
}
