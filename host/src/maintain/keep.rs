//! Retention: rows that were kept for as long as their sink should keep them leave its table.
//!
//! An `expire` entry says from when on each sink keeps rows, and is applied as any other, by whoever applies: once it is in
//! the ledger the rows are gone, wherever a process dies. Rows go by slices of the time that they are kept, a sixteenth of
//! it or a day, whatever is less: at least as old as `keep`, and at most a slice older. So a day is one entry, and the
//! rows of one slice, which compaction keeps apart from others, leave with their files.
//!
//! It deletes no file: those that are named no more stay for readers until the table's own retention is over.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::{Bound, Files};
use crate::crash;
use crate::error::{Doing, Error, Result};
use crate::ledger::{Appended, Entry, Kind, Ledger};
use crate::outcome::Outcome;
use crate::sink::delta::age::{Age, age, has_coordinates, is_older, live};
use crate::sink::delta::rewrite;

/// Slices of the time that rows are kept for.
const SLICES: u32 = 16;

/// A slice at most.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What left a table; in a dry run, what would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Expired {
    /// rows of entries that were opened before this are gone
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<DateTime<Utc>>,
    /// such rows
    pub rows: u64,
    /// the files that have no others
    pub whole: Files,
    /// files with rows that stay, which are written anew
    pub mixed: Files,
}

/// What left the tables.
#[derive(Default)]
pub(super) struct Expiry {
    tables: BTreeMap<Outcome, Expired>,
    /// number of the entry that says so
    pub entry: Option<u64>,
    /// whether any table is another one now
    pub is_applied: bool,
}

impl Expiry {
    pub fn of(&self, outcome: Outcome) -> Expired {
        self.tables.get(&outcome).copied().unwrap_or_default()
    }
}

/// The length of a slice, milliseconds.
pub(super) fn slice(keep: Duration) -> i64 {
    i64::try_from((keep / SLICES).min(DAY).as_millis()).unwrap_or(i64::MAX).max(1)
}

/// From when on rows are kept that are kept for so long.
fn kept_from(now: DateTime<Utc>, keep: Duration) -> Option<DateTime<Utc>> {
    let oldest = now.checked_sub_signed(TimeDelta::from_std(keep).ok()?)?.timestamp_millis();
    DateTime::from_timestamp_millis(oldest - oldest.rem_euclid(slice(keep)))
}

/// Lets go of what is old enough.
pub(super) async fn expire(ledger: &Ledger, tables: &[Bound<'_>], now: DateTime<Utc>, dry_run: bool) -> Result<Expiry> {
    let mut expiry = Expiry::default();
    if tables.iter().all(|bound| bound.keep.is_none()) {
        return Ok(expiry);
    }
    let fold = ledger.fold().await?;
    let mut entry = Entry::new(Kind::Expire, fold.generation.as_deref().unwrap_or_default());
    for bound in tables {
        let Some(wanted) = bound.keep.and_then(|keep| kept_from(now, keep)) else { continue };
        let outcome = bound.table.outcome;
        let known = fold.kept_from.get(&outcome).copied();
        // what an entry said that was not applied is to be done, too
        let from = known.map_or(wanted, |known| known.max(wanted));
        let found = look(bound, from).await?;
        if found.whole.files + found.mixed.files == 0 {
            continue;
        }
        if known.is_none_or(|known| known < from) {
            may_remove(bound)?;
            entry.kept_from.insert(outcome, from);
        } else if bound.table.mark >= fold.head {
            continue; // another writer's files, of which nobody knows more than that they were looked at
        }
        expiry.tables.insert(outcome, found);
    }
    if dry_run || expiry.tables.is_empty() {
        return Ok(expiry);
    }
    let mut head = fold.head;
    if !entry.kept_from.is_empty() {
        match ledger.append(&entry).await? {
            Appended::At(number) => (head, expiry.entry) = (number, Some(number)),
            // another maintainer said as much, and applies it
            Appended::Moved { .. } => return Ok(Expiry::default()),
        }
    }
    crash::point("expire/appended");
    ledger.settle(head).await?;
    for bound in tables.iter().filter(|bound| expiry.tables.contains_key(&bound.table.outcome)) {
        bound.sink.apply(ledger, head).await?;
        crash::point("expire/applied");
    }
    expiry.is_applied = true;
    Ok(expiry)
}

/// The files of a table with rows from before, and how many rows these are.
async fn look(bound: &Bound<'_>, from: DateTime<Utc>) -> Result<Expired> {
    let doing = || format!("cannot read {}", bound.table.name());
    let table = &bound.table.table;
    let state = table.snapshot().doing(doing)?;
    let has_coordinates = has_coordinates(&state.schema());
    let mut expired = Expired { before: Some(from), ..Expired::default() };
    let mut mixed = Vec::new();
    for file in state.log_data().iter() {
        let bytes = file.size().unsigned_abs();
        match age(&file, has_coordinates, from) {
            Age::Past => {
                expired.whole.add(bytes);
                expired.rows += file.num_records().unwrap_or(0) as u64;
            }
            Age::Mixed => {
                expired.mixed.add(bytes);
                mixed.push(live(&file));
            }
            Age::Young => {}
        }
    }
    if !mixed.is_empty() {
        expired.rows += rewrite::count(table, mixed, is_older(from)).await.doing(doing)?;
    }
    Ok(expired)
}

/// Refuses what the table's owner has promised to its readers not to do.
fn may_remove(bound: &Bound<'_>) -> Result<()> {
    let state = bound.table.table.snapshot().doing(|| format!("cannot read {}", bound.table.name()))?;
    let configuration = state.metadata().configuration();
    if configuration.get("delta.appendOnly").is_none_or(|value| value != "true") {
        return Ok(());
    }
    Err(Error::Config(format!(
        "{} may only be appended to (`delta.appendOnly`), so its rows cannot leave after a time: take `keep` out of the \
         pipeline file, or the property from the table",
        bound.table.name()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_by_slices_and_never_too_early() {
        let hours = |n: u64| Duration::from_secs(n * 60 * 60);
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
        for (keep, now, expected) in [
            (hours(90 * 24), "2026-11-20T15:04:05.678Z", "2026-08-22T00:00:00Z"),
            (hours(90 * 24), "2026-11-20T00:00:00Z", "2026-08-22T00:00:00Z"),
            (hours(90 * 24), "2026-11-19T23:59:59Z", "2026-08-21T00:00:00Z"),
            (hours(16), "2026-11-20T15:04:05Z", "2026-11-19T23:00:00Z"),
            (hours(24), "2026-11-20T15:04:05Z", "2026-11-19T15:00:00Z"),
        ] {
            let from = kept_from(at(now), keep).unwrap();
            assert_eq!(from, at(expected), "{keep:?} at {now}");
            assert!(at(now) - from >= TimeDelta::from_std(keep).unwrap());
        }
        assert_eq!(kept_from(at("2026-11-20T00:00:00Z"), Duration::MAX), None, "for ever");
        assert_eq!((slice(Duration::ZERO), slice(Duration::MAX)), (1, 24 * 60 * 60 * 1000));
    }
}
