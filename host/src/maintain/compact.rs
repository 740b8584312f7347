//! Small files put together: what a stream commits every few seconds, a reader should not have to open piece by piece.
//!
//! A compaction changes no row, and nothing that the ledger says. It is one Delta commit that removes some files and adds
//! others with the same rows (`dataChange = false`), with the progress mark as it was. It is a compare-and-swap on the
//! version that it looked at, tried again on a later one as long as all its files are still named
//! ([`replace`](crate::sink::delta::DeltaSink::replace)): of two at once the
//! second finds them gone. One that lay still while a [`sweep`](super::sweep) took its files for orphans sees the sweep's
//! mark in the table, and names them no more. Files that it leaves behind are orphans like any other.
//!
//! Where rows are kept for a time only, those that go together stay together: files of one slice of that time.
//!
//! Left alone are tables of judged rows without provenance columns, which are accounted for by their files; staging,
//! whose rows leave it soon; files with deletion vectors, which somebody else is at work on.

use std::collections::BTreeMap;

use deltalake::kernel::{Add, LogicalFileView, Remove};
use serde::Serialize;

use super::{Bound, Files, keep};
use crate::crash;
use crate::error::{Doing, Error, Result};
use crate::ledger::FileAction;
use crate::outcome::Outcome;
use crate::sink::Sink;
use crate::sink::delta::age::{Span, span};
use crate::sink::delta::replace::Replacement;
use crate::sink::delta::rewrite::rewrite;

/// Bytes of a file that is left alone: what readers like to open at once.
const LARGE: i64 = 64 << 20;

/// Bytes of files that are put together at most. Their rows become one file, or a few where it is partitioned otherwise.
const TARGET: i64 = 128 << 20;

/// Files of about one size that are worth it. A row is rewritten once for each step in size, so a handful of times at all.
const FEWEST: usize = 8;

/// How many times larger a file is than one of the step below.
const STEP: i64 = 8;

/// Bytes of the first step.
const SMALL: i64 = 1 << 20;

/// What was put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// files that are named no more
    pub from: Files,
    /// those that have their rows now; in a dry run nobody knows
    pub into: Files,
}

/// Partition columns and their values.
type Partition = Vec<(String, Option<String>)>;

/// Which slices of the time that rows are kept for the oldest and the youngest row of a file are in.
type Slices = Option<(i64, i64)>;

/// Live files with the same partition values, of about the same size, and with rows that go at the same time.
struct Bin {
    files: Vec<Live>,
}

struct Live {
    add: Add,
    remove: Remove,
    rows: u64,
    span: Option<Span>,
}

/// Puts the small files of a table together.
pub(super) async fn compact(bound: &Bound<'_>, dry_run: bool) -> Result<Compacted> {
    let mut compacted = Compacted::default();
    let (table, doing) = (&bound.table, || format!("cannot compact {}", bound.table.name()));
    let is_ours = match table.outcome {
        Outcome::Valid | Outcome::Error | Outcome::Dlq => table.provenance,
        Outcome::Derived(_) => true,
        Outcome::Staging => false,
    };
    if !is_ours {
        return Ok(compacted);
    }
    let sink = bound.delta()?;
    let state = table.table.snapshot().doing(doing)?;
    let files = state.log_data();
    for bin in bins(files.iter().filter_map(|file| live(&file)), bound.keep.map(keep::slice)) {
        let from = || bin.files.iter().map(|file| Files { files: 1, bytes: file.add.size.unsigned_abs() });
        if dry_run {
            compacted.from = [compacted.from].into_iter().chain(from()).sum();
            continue;
        }
        // before its rows are read: a sweep from here on may take our files for orphans
        let Some(sweeps) = sink.sweeps().await? else { break };
        let made = written(bound, &bin).await?;
        crash::point("compact/written");
        let gone: Vec<Remove> = bin.files.iter().map(|file| file.remove.clone()).collect();
        let replacement = Replacement { version: state.version(), sweeps, gone: &gone, made: &made, target: TARGET };
        if sink.replace(&replacement).await? {
            compacted.from = [compacted.from].into_iter().chain(from()).sum();
            let into = made.iter().map(|file| Files { files: 1, bytes: file.size.unsigned_abs() });
            compacted.into = [compacted.into].into_iter().chain(into).sum();
        }
        crash::point("compact/committed");
    }
    Ok(compacted)
}

fn live(file: &LogicalFileView) -> Option<Live> {
    let rows = file.num_records()? as u64;
    let is_whole = file.deletion_vector_descriptor().is_none();
    let add = Add {
        path: file.path().into_owned(),
        size: file.size(),
        modification_time: file.modification_time(),
        partition_values: file.partition_values_map(),
        ..Add::default()
    };
    is_whole.then(|| Live { add, remove: file.remove_action(false), rows, span: span(file, true) })
}

/// The rows of a bin, written anew.
async fn written(bound: &Bound<'_>, bin: &Bin) -> Result<Vec<FileAction>> {
    let table = &bound.table;
    let files = bin.files.iter().map(|file| file.add.clone()).collect();
    let made = rewrite(&table.table, &table.name(), files, None, bound.delta()?.files()).await?;
    let (before, after): (u64, u64) =
        (bin.files.iter().map(|file| file.rows).sum(), made.iter().map(|file| file.rows).sum());
    if before != after {
        return Err(Error::Diverged(format!(
            "{}: files with {before} rows by the table's count have {after}: it was left as it is",
            table.name()
        )));
    }
    Ok(made)
}

/// What is worth putting together, oldest files first.
fn bins(files: impl Iterator<Item = Live>, slice: Option<i64>) -> Vec<Bin> {
    let mut kinds: BTreeMap<(Partition, u32, Slices), Vec<Live>> = BTreeMap::new();
    for file in files.filter(|file| file.add.size < LARGE) {
        let mut values: Partition = file.add.partition_values.clone().into_iter().collect();
        values.sort();
        let slices = slice.and_then(|slice| file.span.map(|(first, last)| (first / slice, last / slice)));
        kinds.entry((values, step(file.add.size), slices)).or_default().push(file);
    }
    let mut bins = Vec::new();
    for mut files in kinds.into_values() {
        files.sort_by(|a, b| (a.add.modification_time, &a.add.path).cmp(&(b.add.modification_time, &b.add.path)));
        let mut bin: Vec<Live> = Vec::new();
        for file in files {
            if bin.iter().map(|file| file.add.size).sum::<i64>() + file.add.size > TARGET {
                bins.push(std::mem::take(&mut bin));
            }
            bin.push(file);
        }
        bins.push(bin);
    }
    bins.into_iter().filter(|files| files.len() >= FEWEST).map(|files| Bin { files }).collect()
}

/// 0 below a megabyte, and one more for each eightfold.
fn step(size: i64) -> u32 {
    let mut step = 0;
    let mut bound = SMALL;
    while size >= bound && bound < i64::MAX {
        (step, bound) = (step + 1, bound.saturating_mul(STEP));
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: i64, at: i64, day: &str) -> Live {
        let partition_values = [("day".to_owned(), Some(day.to_owned()))].into();
        let add = Add { path: name.into(), size, modification_time: at, partition_values, ..Add::default() };
        Live { add, remove: Remove::default(), rows: 1, span: Some((at, at)) }
    }

    #[test]
    fn files_of_one_partition_and_one_size_go_together_oldest_first() {
        let mut files: Vec<Live> = (0..9).map(|n| file(&format!("a{n}"), 1000, 9 - n, "1")).collect();
        files.extend((0..7).map(|n| file(&format!("few{n}"), 1000, n, "2")));
        files.extend((0..8).map(|n| file(&format!("larger{n}"), 2 << 20, n, "1")));
        files.extend((0..8).map(|n| file(&format!("large{n}"), LARGE, n, "1")));
        let bins = bins(files.into_iter(), None);
        let names: Vec<Vec<&str>> =
            bins.iter().map(|bin| bin.files.iter().map(|file| &*file.add.path).collect()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(names[0], ["a8", "a7", "a6", "a5", "a4", "a3", "a2", "a1", "a0"]);
        assert!(names[1].iter().all(|name| name.starts_with("larger")), "{names:?}");
    }

    #[test]
    fn no_bin_is_larger_than_its_target() {
        let bins = bins((0..40).map(|n| file(&format!("f{n}"), 12 << 20, n, "1")), None);
        assert_eq!(bins.iter().map(|bin| bin.files.len()).collect::<Vec<_>>(), [10, 10, 10, 10]);
    }

    #[test]
    fn what_goes_at_another_time_is_not_put_together() {
        let files = || (0..24).map(|n| file(&format!("f{n}"), 1000, n, "1"));
        let across = Live { span: Some((7, 8)), ..file("across", 1000, 8, "1") };
        let bins = bins(files().chain([across]), Some(8));
        let times: Vec<Vec<i64>> =
            bins.iter().map(|bin| bin.files.iter().map(|file| file.add.modification_time).collect()).collect();
        assert_eq!(times, [(0..8).collect::<Vec<_>>(), (8..16).collect(), (16..24).collect()]);
    }

    #[test]
    fn steps_are_eightfold() {
        for (size, expected) in [(0, 0), (SMALL - 1, 0), (SMALL, 1), (8 * SMALL - 1, 1), (8 * SMALL, 2), (i64::MAX, 15)]
        {
            assert_eq!(step(size), expected, "{size}");
        }
    }
}
