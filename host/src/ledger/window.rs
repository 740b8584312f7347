//! Windows as entries speak of them: which rows are decided together, and what was decided.
//!
//! How rows get their window, when one is over and how it is decided is the [audit](crate::audit)'s business.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::record::TopicPartition;

/// Which rows are decided together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extent {
    /// rows of `[from, to)`, microseconds since the epoch
    Time {
        /// first microsecond
        from: i64,
        /// one past the last
        to: i64,
    },
    /// the offsets `[from, to)` of a partition
    Rows {
        /// whose
        #[serde(flatten)]
        partition: TopicPartition,
        /// first offset
        from: i64,
        /// one past the last
        to: i64,
    },
    /// a file with this content
    File {
        /// which
        #[serde(flatten)]
        partition: TopicPartition,
        /// `sha256:<digest>:<length>`, as positions know it
        id: String,
    },
}

impl Extent {
    /// As `_window` has it and as people type it: `2026-11-20T21:00:00Z`, `visits/0@150000`, `in/a.ndjson@1f3a9c`.
    pub fn key(&self) -> String {
        match self {
            Extent::Time { from, .. } => time(*from),
            Extent::Rows { partition, from, .. } => format!("{partition}@{from}"),
            Extent::File { partition, id } => {
                let digest = id.split(':').nth(1).unwrap_or(id);
                format!("{}@{}", partition.topic, digest.get(..6).unwrap_or(digest))
            }
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key())
    }
}

/// A time as people read it.
pub fn time(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros)
        .map_or_else(|| format!("{micros}us"), |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// The rows that an entry, or all entries together, put into staging for a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// the window
    pub window: Extent,
    /// rows
    pub rows: u64,
    /// those among them with an error finding
    pub rejected: u64,
}

/// What becomes of a window's rows. The worst of several opinions counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// rows without an error finding are valid, the others errors
    Publish,
    /// they wait for an operator
    Hold,
    /// every row is an error
    Reject,
}

impl Verdict {
    /// As it is written in tables and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Publish => "publish",
            Verdict::Hold => "hold",
            Verdict::Reject => "reject",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a window was not simply published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objection {
    /// who: an expectation, `auditor/code`, `count`, `operator`
    pub code: String,
    /// what a person should know
    pub detail: String,
}

/// What a `decision` entry says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// the window; of several empty intervals in a row the time from the first to the last
    pub window: Extent,
    /// intervals that it covers: more than one only where all are empty
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub intervals: u64,
    /// what becomes of the rows
    pub verdict: Verdict,
    /// why
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objections: Vec<Objection>,
    /// whether a person decided, over a window that was held
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// rows that the ledger counts for the window in staging
    pub rows: u64,
    /// those among them with an error finding, as the ledger counts them
    pub rejected: u64,
    /// staged rows that were gone when a person released the window all the same
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing: u64,
    /// later copies of a key
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duplicates: u64,
    /// what auditors measured, each under its name and a digest of its SQL; null where SQL answered so
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Option<f64>>,
}

fn one() -> u64 {
    1
}

fn is_one(n: &u64) -> bool {
    *n == 1
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A window that waits: rows are in staging and no last word is spoken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// what entries staged for it
    #[serde(flatten)]
    pub staged: Staged,
    /// number of the first entry that staged rows for it
    pub since: u64,
    /// where it was held: by which entry
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
}

/// A decided window whose rows are still in staging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staying {
    /// its key
    pub window: String,
    /// since when it is decided, by the clock of whoever decided
    pub since: DateTime<Utc>,
}

/// A window that was decided, for whoever compares the next one with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// number of the entry
    pub entry: u64,
    /// what it says
    #[serde(flatten)]
    pub decision: Decision,
}
