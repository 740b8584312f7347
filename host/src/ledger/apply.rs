//! How sinks follow the ledger: the part of Apply that every sink shares, and the order of all of them.
//!
//! It commits nothing itself. A sink looks at its own mark, asks [`due`] what is to be done, merges the entries with
//! [`merge`], and commits files and mark in one transaction of its own; on any error it begins again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::crash;
use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::schema::WINDOW;
use crate::sink::{Applied, Sink};

use super::Ledger;
use super::entry::{Entry, FileAction};
use super::keep::is_before;

/// What a sink has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// everything up to the head is in it
    Nothing,
    /// the entries in `(after, up_to]`
    Entries {
        /// the sink's mark
        after: u64,
        /// the head
        up_to: u64,
    },
}

/// What a sink with this mark and identity has to do to be at `head`.
///
/// `sink` is for messages: "valid (lake/visits)". `applied` is its mark, read from the very snapshot that will be
/// committed upon, 0 where it has none. `identity` is what it is now, `bound` what the fold says it should be.
///
/// Refuses where the mark is beyond the head (a ledger was lost) and where the identity differs (the table was replaced).
pub fn due(sink: &str, applied: u64, head: u64, identity: &str, bound: Option<&String>) -> Result<Due> {
    match bound {
        Some(bound) if bound == identity => {}
        // nobody knows the table because the entry that bound it is lost, too
        None if applied > head => {}
        Some(bound) => {
            return Err(Error::Diverged(format!(
                "{sink} is table {identity}, but the ledger was written for table {bound}: the table was replaced. \
                 Put the old one back, or let `sluice adopt` take the new one over as it is"
            )));
        }
        None => {
            return Err(Error::Diverged(format!(
                "{sink} is table {identity}, which the ledger does not know. `sluice run` creates tables and starts with \
                 them; `sluice adopt` takes over one that is there"
            )));
        }
    }
    if applied > head {
        return Err(Error::Diverged(format!(
            "{sink} holds ledger entry {applied}, but the ledger ends at entry {head}: a part of the ledger was lost. Put \
             it back from a copy, or let `sluice adopt` go on from what the tables hold"
        )));
    }
    Ok(if applied == head { Due::Nothing } else { Due::Entries { after: applied, up_to: head } })
}

/// What several entries do to one sink, together.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// the columns of all of them, as Delta's schema JSON; `None` where no entry has a file for this sink
    pub schema: Option<Value>,
    /// the files of all of them, in order, each with the entry that names it
    pub files: Vec<(u64, FileAction)>,
    /// windows whose rows leave staging, by key
    pub expired: BTreeSet<String>,
    /// what entries that were opened before this put into the sink leaves it
    pub kept_from: Option<DateTime<Utc>>,
    /// number of the last entry: the mark to write
    pub last: u64,
}

/// Merges what `entries` (at least one, in order) do to the sink of `outcome`.
pub fn merge(entries: &[(u64, Arc<Entry>)], outcome: Outcome) -> Result<Merged> {
    let last = entries.last().map(|(n, _)| *n).ok_or_else(|| Error::Host("no entries to merge".into()))?;
    let mut merged = Merged { schema: None, files: Vec::new(), expired: BTreeSet::new(), kept_from: None, last };
    for (n, entry) in entries {
        if outcome == Outcome::Staging && !entry.expired.is_empty() {
            merged.expired.extend(entry.expired.iter().cloned());
            // added and removed in one go: it need not be added
            let gone = |file: &FileAction| {
                file.partition_values
                    .get(WINDOW)
                    .is_some_and(|key| key.as_ref().is_some_and(|k| entry.expired.contains(k)))
            };
            merged.files.retain(|(_, file)| !gone(file));
        }
        merged.kept_from = merged.kept_from.max(entry.kept_from.get(&outcome).copied());
        let Some(actions) = entry.sinks.get(&outcome) else { continue };
        merged.files.extend(actions.files.iter().map(|file| (*n, file.clone())));
        merged.schema = Some(match merged.schema.take() {
            None => actions.schema.clone(),
            Some(known) => widen(known, &actions.schema, "").map_err(|why| {
                Error::Diverged(format!("ledger entry {n} does not fit the entries before it in {outcome}: {why}"))
            })?,
        });
    }
    if let Some(kept_from) = merged.kept_from {
        // none after the entry that says so is older: the ledger takes no such entry
        let old = |n: u64| entries.iter().any(|(m, entry)| *m == n && is_before(entry.id, kept_from));
        merged.files.retain(|(n, _)| !old(*n));
    }
    Ok(merged)
}

/// The columns of `known`, then those that only `other` has; structs likewise, at any depth.
fn widen(mut known: Value, other: &Value, path: &str) -> Result<Value, String> {
    let fields = |schema: &Value| schema.get("fields").and_then(Value::as_array).cloned();
    let (Some(mut mine), Some(theirs)) = (fields(&known), fields(other)) else {
        return if known == *other {
            Ok(known)
        } else {
            Err(format!("column `{path}` is {} there and {} here", text(&known), text(other)))
        };
    };
    for field in theirs {
        let name = field["name"].as_str().unwrap_or_default();
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match mine.iter_mut().find(|m| m["name"] == field["name"]) {
            Some(m) => {
                let ty = widen(m["type"].take(), &field["type"], &path)?;
                m["type"] = ty;
            }
            None => mine.push(field),
        }
    }
    known["fields"] = Value::Array(mine);
    Ok(known)
}

fn text(ty: &Value) -> String {
    ty.as_str().map_or_else(|| ty.to_string(), str::to_owned)
}

/// Brings every sink up to `head`: valid, then error, then dlq, then staging, then derived tables. Answers how far each has got.
///
/// The order means that a reader never sees a rejected row whose accepted siblings are still missing for longer than one
/// commit takes; correctness does not depend on it, and after a crash in between the next call does the rest.
pub async fn apply_all(sinks: &[Arc<dyn Sink>], ledger: &Ledger, head: u64) -> Result<BTreeMap<Outcome, Applied>> {
    ledger.settle(head).await?;
    let mut applied = BTreeMap::new();
    crash::point("apply/before-valid");
    for outcome in Outcome::ALL {
        for sink in sinks.iter().filter(|sink| sink.outcome() == outcome) {
            applied.insert(outcome, sink.apply(ledger, head).await?);
        }
        crash::point(match outcome {
            Outcome::Valid => "apply/after-valid",
            Outcome::Error => "apply/after-error",
            Outcome::Dlq => "apply/after-dlq",
            Outcome::Staging => "apply/after-staging",
            Outcome::Derived(_) => "apply/after-derived",
        });
    }
    // what is made of rows shows after them
    for sink in sinks {
        match sink.outcome() {
            Outcome::Derived(_) => drop(applied.insert(sink.outcome(), sink.apply(ledger, head).await?)),
            Outcome::Valid | Outcome::Error | Outcome::Dlq | Outcome::Staging => {}
        }
    }
    crash::point("apply/after-derived");
    Ok(applied)
}

/// How many entries may wait for a sink. Valid is what people read, so it lags two commits at most; error and dlq get few
/// rows, and one commit for sixteen entries spares them versions. Staging is read by auditors alone, who let it follow
/// first; derived tables are read beside valid.
pub const fn backlog_limit(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Valid | Outcome::Staging | Outcome::Derived(_) => 2,
        Outcome::Error | Outcome::Dlq => 16,
    }
}

/// Which entries wait for which sink: bookkeeping of one process, begun anew with each start.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    reached: BTreeMap<Outcome, u64>,
}

impl Backlog {
    /// After every sink in `applied` was brought up to `head`.
    pub fn at(head: u64, applied: &BTreeMap<Outcome, Applied>) -> Self {
        Backlog { reached: applied.keys().map(|outcome| (*outcome, head)).collect() }
    }

    /// A sink was brought up to `head`.
    pub fn reached(&mut self, outcome: Outcome, head: u64) {
        let reached = self.reached.entry(outcome).or_default();
        *reached = head.max(*reached);
    }

    /// Entries that wait for a sink when the ledger ends at `head`.
    pub fn waiting(&self, outcome: Outcome, head: u64) -> u64 {
        self.reached.get(&outcome).map_or(0, |reached| head.saturating_sub(*reached))
    }

    /// The sinks that must apply before this process appends another entry to a ledger that ends at `head`.
    pub fn must_apply(&self, head: u64) -> Vec<Outcome> {
        let full = |outcome: &Outcome| self.waiting(*outcome, head) >= backlog_limit(*outcome);
        self.reached.keys().copied().filter(full).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::entry::{Kind, SinkActions};
    use crate::ledger::keep::first_id;
    use crate::ledger::tests::entry;
    use chrono::TimeDelta;
    use serde_json::json;

    #[test]
    fn a_sink_applies_what_is_between_its_mark_and_the_head_or_is_refused() {
        let a = "a".to_owned();
        for (applied, head, identity, bound, expected) in [
            (0, 0, "a", Some(&a), Ok(Due::Nothing)),
            (7, 7, "a", Some(&a), Ok(Due::Nothing)),
            (5, 7, "a", Some(&a), Ok(Due::Entries { after: 5, up_to: 7 })),
            (8, 7, "a", Some(&a), Err("valid (lake/visits) holds ledger entry 8, but the ledger ends at entry 7")),
            (1, 0, "a", Some(&a), Err("a part of the ledger was lost")),
            (1, 0, "a", None, Err("a part of the ledger was lost")),
            (5, 7, "b", Some(&a), Err("the table was replaced")),
            (5, 7, "b", None, Err("which the ledger does not know")),
        ] {
            match (due("valid (lake/visits)", applied, head, identity, bound), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected),
                (Err(Error::Diverged(text)), Err(said)) => {
                    assert!(text.contains(said) && text.contains("sluice adopt"), "{text}");
                }
                (got, expected) => panic!("{got:?} instead of {expected:?}"),
            }
        }
    }

    fn field(name: &str, ty: Value) -> Value {
        json!({"name": name, "type": ty, "nullable": true, "metadata": {}})
    }

    fn columns(fields: &[Value]) -> Value {
        json!({"type": "struct", "fields": fields})
    }

    fn writes(schema: Value, files: &[&str]) -> Arc<Entry> {
        let file = |path: &&str| FileAction {
            path: (*path).to_owned(),
            size: 1,
            rows: 1,
            partition_values: Default::default(),
            stats: "{}".into(),
        };
        let actions = SinkActions { schema, files: files.iter().map(file).collect() };
        Arc::new(Entry { sinks: [(Outcome::Valid, actions)].into(), ..entry(Kind::Rows, vec![]) })
    }

    #[test]
    fn entries_are_merged_in_order_and_their_columns_united() {
        let (id, page) = (field("id", json!("string")), field("page", json!("string")));
        let user = |fields: &[Value]| field("user", columns(fields));
        let entries = [
            (4, writes(columns(&[id.clone(), user(std::slice::from_ref(&id))]), &["a", "b"])),
            (5, Arc::new(entry(Kind::Gap, vec![]))),
            (6, writes(columns(&[user(&[page.clone(), id.clone()]), page.clone()]), &["c"])),
            (7, Arc::new(entry(Kind::Gap, vec![]))),
        ];
        let merged = merge(&entries, Outcome::Valid).unwrap();
        let files: Vec<_> = merged.files.iter().map(|(n, file)| (*n, file.path.as_str())).collect();
        assert_eq!(files, [(4, "a"), (4, "b"), (6, "c")]);
        assert_eq!(merged.schema, Some(columns(&[id.clone(), user(&[id, page.clone()]), page])));
        assert_eq!(merged.last, 7);
        let nothing = merge(&entries, Outcome::Dlq).unwrap();
        assert_eq!(nothing, Merged { schema: None, files: vec![], expired: BTreeSet::new(), kept_from: None, last: 7 });
    }

    #[test]
    fn what_a_sink_does_not_keep_any_more_is_not_added_first() {
        let from = Utc::now() - TimeDelta::hours(1);
        let old = Entry { id: first_id(from - TimeDelta::hours(1)), ..(*writes(columns(&[]), &["old"])).clone() };
        let expire = Entry { kept_from: [(Outcome::Valid, from)].into(), ..entry(Kind::Expire, vec![]) };
        let entries = [(4, Arc::new(old)), (5, Arc::new(expire)), (6, writes(columns(&[]), &["new"]))];
        let merged = merge(&entries, Outcome::Valid).unwrap();
        let files: Vec<_> = merged.files.iter().map(|(n, file)| (*n, file.path.as_str())).collect();
        assert_eq!((files, merged.kept_from), (vec![(6, "new")], Some(from)));
        assert_eq!(merge(&entries, Outcome::Dlq).unwrap().kept_from, None);
        assert_eq!(merge(&entries[..1], Outcome::Valid).unwrap().files.len(), 1);
    }

    #[test]
    fn a_column_of_two_types_is_refused_with_its_path() {
        let user = |ty: &str| columns(&[field("user", columns(&[field("age", json!(ty))]))]);
        let entries = [(4, writes(user("long"), &[])), (5, writes(user("string"), &[]))];
        let text = merge(&entries, Outcome::Valid).unwrap_err().to_string();
        assert!(text.contains("entry 5") && text.contains("`user.age` is long there and string here"), "{text}");
    }

    #[test]
    fn two_entries_may_wait_for_valid_and_sixteen_for_the_others() {
        let applied = Applied { entry: 10, version: None };
        let all = Outcome::ALL.map(|outcome| (outcome, applied)).into();
        let mut backlog = Backlog::at(10, &all);
        assert_eq!(backlog.must_apply(11), []);
        assert_eq!(backlog.must_apply(12), [Outcome::Valid, Outcome::Staging]);
        backlog.reached(Outcome::Valid, 26);
        backlog.reached(Outcome::Staging, 26);
        assert_eq!(backlog.must_apply(26), [Outcome::Error, Outcome::Dlq]);
        backlog.reached(Outcome::Error, 26);
        backlog.reached(Outcome::Dlq, 20);
        assert_eq!((backlog.must_apply(27), backlog.waiting(Outcome::Dlq, 27)), (vec![], 7));
    }
}
