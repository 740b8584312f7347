//! Upkeep of a pipeline's tables and ledger: checkpoints, shorter logs, and the removal of what crashes left behind.
//!
//! It may run beside the pipeline's processes and beside itself, be killed anywhere and started again. It judges nothing,
//! and removes no row but those that a sink was told to `keep` for a time only ([`keep`]): generations, entries and every
//! file that a table, or an entry that waits for one, refers to stay. What is removed is
//!
//! - of a Delta log: what is older than the table's retention and than a checkpoint ([`log`]);
//! - data files that sluice wrote for an entry that never came ([`sweep`]);
//! - temporary files of processes that died; ledger checkpoints beyond the last two.
//!
//! Small files are put together ([`compact`]); the ones before stay for readers until the table's own retention is over.
//!
//! The *age* below which files are left alone only spares work: a process may be writing files for an entry that does not
//! exist yet. Being wrong about it, because a process lay still for hours or a clock was set, loses nothing. A sweep first
//! appends an entry that says which entries can never come any more; a process that wakes up with one of these drops it
//! and judges its records again.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::config::{Config, Location};
use crate::crash;
use crate::error::{Doing, Error, Result};
use crate::ledger::apply;
use crate::outcome::Outcome;
use crate::pipeline::Follow;
use crate::reconcile::Table;
use crate::sink::Sink;
use crate::sink::delta::{DeltaSink, log};
use crate::store;

mod beside;
mod compact;
mod keep;
mod sweep;

pub use beside::Upkeep;
pub use compact::Compacted;
pub use keep::Expired;

/// How upkeep is done.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// say what would be done, and change nothing
    pub dry_run: bool,
    /// put small files together
    pub compact: bool,
    /// files that nothing refers to are left alone until they are older
    pub older_than: Duration,
}

/// Files, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Files {
    /// how many
    pub files: u64,
    /// their bytes
    pub bytes: u64,
}

impl Files {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

impl std::iter::Sum for Files {
    fn sum<I: Iterator<Item = Files>>(all: I) -> Files {
        all.fold(Files::default(), |sum, one| Files { files: sum.files + one.files, bytes: sum.bytes + one.bytes })
    }
}

/// A checkpoint of a table or of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Checkpoint {
    /// the version, or the entry, that it is of
    pub of: u64,
    /// whether it was not there before
    pub new: bool,
}

/// What was done to one sink; in a dry run, what would be.
#[derive(Clone, Debug, Serialize)]
pub struct Tended {
    /// whose rows it takes
    pub outcome: Outcome,
    /// its location as the user wrote it
    pub location: String,
    /// the table's version
    pub version: u64,
    /// rows that were kept for as long as they should be
    pub expired: Expired,
    /// small files that were put together
    pub compacted: Compacted,
    /// the last checkpoint
    pub checkpoint: Option<Checkpoint>,
    /// objects of its log that are superfluous
    pub log: Files,
    /// data files that nothing refers to, of entries that never came
    pub orphans: Files,
    /// temporary files that nobody has written to for long
    pub temporaries: Files,
    /// orphans and temporaries that may be of a living process
    pub young: Files,
    /// files that nothing refers to and that sluice did not write: left alone
    pub foreign: Files,
}

/// What was done to the ledger; in a dry run, what would be.
#[derive(Clone, Debug, Serialize)]
pub struct TendedLedger {
    /// the state folder as the user wrote it
    pub location: String,
    /// number of the last entry
    pub head: u64,
    /// the last checkpoint
    pub checkpoint: Option<Checkpoint>,
    /// checkpoints that later ones made superfluous
    pub checkpoints: Files,
    /// temporary files that nobody has written to for long
    pub temporaries: Files,
    /// temporaries that may be of a living process
    pub young: Files,
}

/// What was done; in a dry run, what would be.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// whether nothing was changed
    pub dry_run: bool,
    /// the Delta tables
    pub sinks: Vec<Tended>,
    /// the ledger
    pub ledger: TendedLedger,
    /// the entry that says which rows are gone, where any were old enough
    pub expire: Option<u64>,
    /// the entry that says whose files were swept, where one was needed
    pub sweep: Option<u64>,
}

impl Report {
    /// Everything that was removed; in a dry run, that would be.
    pub fn removed(&self) -> Files {
        let ledger = [self.ledger.checkpoints, self.ledger.temporaries];
        self.sinks.iter().flat_map(|sink| [sink.log, sink.orphans, sink.temporaries]).chain(ledger).sum()
    }
}

/// A table that the ledger binds, and where it lies.
struct Bound<'a> {
    table: Table,
    location: &'a Location,
    /// what commits to it: in a running process the same that appends
    sink: Arc<dyn Sink>,
    /// how long its rows are kept
    keep: Option<Duration>,
}

impl Bound<'_> {
    fn delta(&self) -> Result<&DeltaSink> {
        self.sink.delta().ok_or_else(|| Error::Host(format!("{} is no table", self.table.name())))
    }
}

/// Tends a pipeline's tables and its ledger.
///
/// Refuses, before anything is changed, where tables and ledger contradict each other: what looks like an orphan may be
/// what an operator needs to put things right.
pub async fn pipeline(config: &Config, follow: &Follow, options: &Options) -> Result<Report> {
    let least = config.commit.every * 2;
    if options.older_than < least {
        return Err(Error::Config(format!(
            "files of the last {} may belong to entries that are still being written: an entry is open for up to {} \
             (commit.every). Let them get older than {}",
            humantime::format_duration(options.older_than),
            humantime::format_duration(config.commit.every),
            humantime::format_duration(least)
        )));
    }
    let ledger = &follow.ledger;
    let mut tables = bound(config, follow).await?;
    // what goes need not be put together
    let expired = keep::expire(ledger, &tables, crash::now(), options.dry_run).await?;
    if expired.is_applied {
        tables = bound(config, follow).await?;
    }
    let mut compacted = Vec::new();
    for bound in &tables {
        compacted.push(match options.compact {
            true => compact::compact(bound, options.dry_run).await?,
            false => Compacted::default(),
        });
    }
    if compacted.iter().any(|compacted| compacted.into.files > 0) {
        tables = bound(config, follow).await?;
    }
    let old = Old::before(SystemTime::now().checked_sub(options.older_than).unwrap_or(SystemTime::UNIX_EPOCH));

    let swept = sweep::sweep(ledger, &tables, old, options.dry_run).await?;
    let mut sinks = Vec::new();
    for ((bound, orphans), compacted) in tables.iter().zip(swept.orphans).zip(compacted) {
        let mut tended = tend(bound, options.dry_run).await?;
        tended.compacted = compacted;
        tended.expired = expired.of(bound.table.outcome);
        (tended.orphans, tended.foreign) = (orphans.old, orphans.foreign);
        let temporaries = temporaries(bound.location, old, options.dry_run)?;
        tended.temporaries = temporaries.old;
        tended.young = [orphans.young, temporaries.young].into_iter().sum();
        sinks.push(tended);
    }
    let (checkpoint, checkpoints) = ledger.tend_checkpoints(options.dry_run).await?;
    let temporaries = temporaries(&config.state, old, options.dry_run)?;
    let ledger = TendedLedger {
        location: config.state.written.clone(),
        head: ledger.head().await?,
        checkpoint,
        checkpoints,
        temporaries: temporaries.old,
        young: temporaries.young,
    };
    Ok(Report { dry_run: options.dry_run, sinks, ledger, expire: expired.entry, sweep: swept.entry })
}

/// The tables of a pipeline that has begun.
async fn bound<'a>(config: &'a Config, follow: &Follow) -> Result<Vec<Bound<'a>>> {
    let ledger = &follow.ledger;
    let mut tables = Vec::new();
    for (outcome, location) in config.tables() {
        let sink = follow.sinks.iter().find(|sink| sink.outcome() == outcome);
        let sink = sink.ok_or_else(|| Error::Host(format!("{outcome} has no sink")))?;
        let (store, _) = store::open(location)?;
        let application = ledger.application();
        let open = || Table::open(outcome, location, store.clone(), &application);
        let mut table = open().await?;
        // read after the table: a pipeline that runs beside this may have gone on, and no table is ahead of the ledger then
        let fold = ledger.fold().await?;
        let known = fold.tables.get(&outcome);
        if table.is_none() && known.is_some() {
            table = open().await?; // it may just have been made
        }
        match (table, known) {
            // made a moment ago, by a process that begins: the entry that binds it comes next
            (Some(table), None) if table.mark == 0 => {}
            (Some(table), known) => {
                apply::due(&table.name(), table.mark, fold.head, &table.identity, known)?;
                let keep = config.sinks.of(outcome).and_then(|sink| sink.keep);
                tables.push(Bound { table, location, sink: sink.clone(), keep });
            }
            (None, Some(_)) => {
                return Err(Error::Diverged(format!(
                    "{outcome} ({}) is not there, although the pipeline has begun: the table was removed. Put it back \
                     from a copy, or let `sluice adopt` begin an empty one",
                    location.written
                )));
            }
            (None, None) => {}
        }
    }
    Ok(tables)
}

/// A checkpoint of a table's version, and a shorter log.
async fn tend(bound: &Bound<'_>, dry_run: bool) -> Result<Tended> {
    let Bound { table, .. } = bound;
    let log_store = table.table.log_store();
    let once = async || {
        let state = table.table.snapshot()?;
        let version = state.version();
        let mut listed = log::list(&log_store).await?;
        let is_new = log::last_checkpoint(&listed).is_none_or(|last| last < version);
        if is_new && dry_run {
            listed.push(log::promised(version));
        } else if is_new {
            log::checkpoint(&log_store, version).await?;
            listed = log::list(&log_store).await?;
        }
        let cutoff = Utc::now() - log::retention(state.metadata());
        let old = log::superfluous(&listed, version, cutoff);
        let log = match dry_run {
            true => old.iter().map(|file| Files { files: 1, bytes: file.size }).sum(),
            false => log::remove(&log_store, old).await?,
        };
        Ok::<_, deltalake::DeltaTableError>(Tended {
            outcome: table.outcome,
            location: table.location.clone(),
            version,
            expired: Expired::default(),
            compacted: Compacted::default(),
            checkpoint: log::last_checkpoint(&listed).map(|of| Checkpoint { of, new: is_new }),
            log,
            orphans: Files::default(),
            temporaries: Files::default(),
            young: Files::default(),
            foreign: Files::default(),
        })
    };
    log::beside_others(once).await.doing(|| format!("cannot tend the log of {}", table.name()))
}

/// What is old enough to be of no living process.
#[derive(Clone, Copy)]
struct Old(SystemTime);

impl Old {
    fn before(then: SystemTime) -> Old {
        Old(then)
    }

    fn is(self, modified: SystemTime) -> bool {
        modified < self.0
    }

    fn is_at(self, modified: DateTime<Utc>) -> bool {
        self.is(modified.into())
    }
}

/// What was found of one kind.
#[derive(Clone, Copy, Default)]
struct Found {
    old: Files,
    young: Files,
    foreign: Files,
}

/// Removes temporary files in a folder that nobody has written to for long.
fn temporaries(location: &Location, old: Old, dry_run: bool) -> Result<Found> {
    let mut found = Found::default();
    for file in store::leftovers(location)? {
        if !old.is(file.modified) {
            found.young.add(file.size);
            continue;
        }
        match if dry_run { Ok(()) } else { std::fs::remove_file(&file.path) } {
            Ok(()) => found.old.add(file.size),
            // another maintainer was faster
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::environment(format!("cannot remove {}", file.path.display()), e)),
        }
    }
    Ok(found)
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::cli::text::{bytes, thousands};
        match self.files {
            0 => f.write_str("0"),
            n => write!(f, "{} ({})", thousands(n), bytes(self.bytes)),
        }
    }
}
