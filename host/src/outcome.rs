//! What becomes of a row: pure values and one pure function.
//!
//! No clock, no I/O, no async. Two questions are never mixed: *is the data wrong?* → error; *could it not be judged?* →
//! dead letter.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// What a finding does to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// the row goes on and carries the finding
    Warn,
    /// the row goes to the error sink
    Error,
}

impl Severity {
    /// As it is written in tables and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Warn => "warn",
            Severity::Error => "error",
        }
    }
}

/// One objection to one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// index of the row in its batch
    pub row: u32,
    /// who objects: `expect` or the rule's name in the pipeline file
    pub rule: Arc<str>,
    /// why, a declared code: an expectation's name, or a code of the rule
    pub code: Arc<str>,
    /// what it does to the row
    pub severity: Severity,
    /// the column at fault, where there is one, as a path
    pub column: Option<Arc<str>>,
    /// what a person should know beyond the code's help
    pub detail: Option<String>,
}

impl Finding {
    /// `expect/has-user`, `consent/login-exposed`: under what it is counted.
    pub fn key(&self) -> String {
        format!("{}/{}", self.rule, self.code)
    }

    /// Who objects, by the name that a user gave: of an expectation or of a rule.
    pub fn judge(&self) -> &Arc<str> {
        if &*self.rule == crate::expect::RULE { &self.code } else { &self.rule }
    }

    /// Whether it sends its row to the error sink.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Where in its way a record died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// before it was a row
    Decode,
    /// in an enricher
    Enrich,
    /// in a rule
    Rule,
}

impl Stage {
    /// As it is written in the dead letter.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Decode => "decode",
            Stage::Enrich => "enrich",
            Stage::Rule => "rule",
        }
    }
}

/// Why a record or a row could not be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// the payload is null, and no `skip` predicate says that this is fine
    NullValue,
    /// the payload has no bytes, or white space only
    EmptyValue,
    /// the payload is longer than `source.max_record`, or what it becomes (its lists, the rows that it is
    /// joined with) takes far more memory than it does
    TooLarge,
    /// the payload is not UTF-8
    NotUtf8,
    /// the payload is not JSON
    NotJson,
    /// the payload is JSON, but not one object
    NotAnObject,
    /// an object has the same key twice
    DuplicateKey,
    /// a value is not of the declared type
    WrongType,
    /// a value is of the declared type, but outside its range
    OutOfRange,
    /// a field is not declared, and `unknown_fields = "reject"`
    UnknownField,
    /// nested deeper than any schema (128 levels)
    TooDeep,
    /// a SQL enricher failed on this very row
    SqlError,
    /// a plugin trapped on this very row
    PluginTrap,
    /// a plugin ran out of time or fuel on this very row
    PluginTimeout,
    /// a plugin ran out of memory on this very row
    PluginMemory,
    /// a plugin's answer for this very row broke the contract
    PluginOutput,
    /// a plugin answered this very row with an error
    PluginError,
    /// the plugin failed beyond its budget, and `on_failure = "dead-letter"`
    PluginFailed,
}

impl Reason {
    /// As it is written in the dead letter.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NullValue => "null-value",
            Reason::EmptyValue => "empty-value",
            Reason::TooLarge => "too-large",
            Reason::NotUtf8 => "not-utf8",
            Reason::NotJson => "not-json",
            Reason::NotAnObject => "not-an-object",
            Reason::DuplicateKey => "duplicate-key",
            Reason::WrongType => "wrong-type",
            Reason::OutOfRange => "out-of-range",
            Reason::UnknownField => "unknown-field",
            Reason::TooDeep => "too-deep",
            Reason::SqlError => "sql-error",
            Reason::PluginTrap => "plugin-trap",
            Reason::PluginTimeout => "plugin-timeout",
            Reason::PluginMemory => "plugin-memory",
            Reason::PluginOutput => "plugin-output",
            Reason::PluginError => "plugin-error",
            Reason::PluginFailed => "plugin-failed",
        }
    }
}

/// A record, or one row of it, that nobody could judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    /// index of the record in its [`RawBatch`](crate::record::RawBatch)
    pub record: u32,
    /// ordinal of the row within the record; 0 where it never became rows
    pub ordinal: u32,
    /// where it died
    pub stage: Stage,
    /// why
    pub reason: Reason,
    /// what a person needs: path and column of the payload, the trap's message
    pub detail: String,
    /// the plugin it died in: name in the pipeline file, and digest
    pub plugin: Option<(Arc<str>, Arc<str>)>,
}

/// What becomes of a row, and with it the sink that takes it. A record without any is counted as skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// every rule passed
    Valid,
    /// a rule said no
    Error,
    /// nobody could judge it
    Dlq,
    /// it was judged, and waits for the decision over its window, which makes it valid or an error
    Staging,
    /// none of the record's own: it was made of the rows of a commit, for a table of its own
    Derived(Derived),
}

/// The name of a derived table: `derive/devices_stats`, where outcomes have one word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Derived(&'static str);

impl Outcome {
    /// All of them, in the order in which they are shown and in which sinks follow the ledger.
    pub const ALL: [Outcome; 4] = [Outcome::Valid, Outcome::Error, Outcome::Dlq, Outcome::Staging];

    /// Those in which a row ends; every pipeline has a sink for each.
    pub const LAST: [Outcome; 3] = [Outcome::Valid, Outcome::Error, Outcome::Dlq];

    /// As it is written in configuration, ledger and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Valid => "valid",
            Outcome::Error => "error",
            Outcome::Dlq => "dlq",
            Outcome::Staging => "staging",
            Outcome::Derived(Derived(name)) => name,
        }
    }

    /// The outcome that is written so; `None` where nothing is.
    pub fn parse(text: &str) -> Option<Outcome> {
        let derived = || text.strip_prefix(DERIVE).filter(|name| !name.is_empty()).map(Outcome::derived);
        Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == text).or_else(derived)
    }

    /// The rows of the derived table `name`.
    pub fn derived(name: &str) -> Outcome {
        static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
        let whole = format!("{DERIVE}{name}");
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(whole.as_str()) {
            return Outcome::Derived(Derived(known));
        }
        // kept for good: a process meets the few names of its pipeline file and of its ledger
        let kept: &'static str = whole.leak();
        names.insert(kept);
        Outcome::Derived(Derived(kept))
    }
}

/// What the name of a derived table begins with.
const DERIVE: &str = "derive/";

impl Derived {
    /// As in `[derive.NAME]`.
    pub fn name(self) -> &'static str {
        self.0.strip_prefix(DERIVE).unwrap_or(self.0)
    }
}

impl fmt::Debug for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Outcome {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Outcome, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        Outcome::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no outcome")))
    }
}

/// The outcome of each of `rows` rows that were judged: error where any finding is one, else valid.
///
/// Rows that died on the way are not among them. Findings may come in any order; a row index beyond `rows` is ignored,
/// since findings are checked where they enter the host.
pub fn route(rows: usize, findings: &[Finding]) -> Vec<Outcome> {
    let mut outcomes = vec![Outcome::Valid; rows];
    for finding in findings.iter().filter(|f| f.severity == Severity::Error) {
        if let Some(outcome) = outcomes.get_mut(finding.row as usize) {
            *outcome = Outcome::Error;
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(row: u32, severity: Severity) -> Finding {
        Finding { row, rule: "r".into(), code: "c".into(), severity, column: None, detail: None }
    }

    #[test]
    fn a_row_is_an_error_where_any_finding_is() {
        use Outcome::{Error as E, Valid as V};
        use Severity::{Error, Warn};
        for (rows, findings, expected) in [
            (2, vec![], vec![V, V]),
            (2, vec![finding(1, Error)], vec![V, E]),
            (2, vec![finding(0, Warn)], vec![V, V]),
            (2, vec![finding(0, Error), finding(0, Warn)], vec![E, V]),
            (1, vec![finding(0, Warn), finding(0, Error)], vec![E]),
            (1, vec![finding(7, Error)], vec![V]),
            (0, vec![], vec![]),
        ] {
            assert_eq!(route(rows, &findings), expected, "{findings:?}");
        }
    }
}
