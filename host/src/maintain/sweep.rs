//! Data files of entries that never came: a crash, a full disk, or a lost partition left them behind.
//!
//! Only files with a name that [`TableWriter`](crate::sink::files::TableWriter) gives are looked at: it says for which
//! entry a file was written. One is an orphan when it is neither in the table, nor a tombstone of it, nor named by an
//! entry that the table does not hold yet. Since the entry may still be on its way, in a process that lies still, a
//! `sweep` entry comes first: what the ledger holds before it is read again, and what is not there cannot come after it.
//! A compaction's files are named by no entry, and have names of their own; the table itself gets a mark, that a compaction
//! looks at before it names what it wrote. So no clock decides over data.

use std::collections::{BTreeSet, HashSet};

use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use super::{Bound, Found, Old};
use crate::error::{Doing, Error, Result};
use crate::ledger::keep::opened;
use crate::ledger::{Appended, Entry, Kind, Ledger};
use crate::outcome::Outcome;
use crate::sink::delta::{load, log};
use crate::sink::files::WrittenFor;
use crate::store::{self, failed};

/// How far from each other entries may be opened and come in another order, milliseconds: one is open for seconds.
const NEAR: i64 = 10 * 60 * 1000;

/// What a sweep found and did.
pub(super) struct Swept {
    /// per table, in their order
    pub orphans: Vec<Found>,
    /// number of the entry that says so
    pub entry: Option<u64>,
}

/// What lies in a table's folder without being part of it.
struct Astray {
    found: Found,
    orphans: Vec<(WrittenFor, ObjectMeta)>,
}

/// Removes the orphans of some tables.
pub(super) async fn sweep(ledger: &Ledger, tables: &[Bound<'_>], old: Old, dry_run: bool) -> Result<Swept> {
    let head = ledger.head().await?;
    let mut astray = Vec::new();
    for bound in tables {
        astray.push(look(ledger, bound, head, old).await?);
    }
    let mut ids: BTreeSet<Uuid> = astray.iter().flat_map(|one| one.orphans.iter().filter_map(entry)).collect();
    for known in appended(ledger, &ids, head).await? {
        ids.remove(&known);
    }
    let mut new = None;
    if !ids.is_empty() && !dry_run {
        let fence = fence(ledger, &ids).await?;
        new = fence.new;
        let mut late = HashSet::new();
        for (_, came) in entries(ledger, head, fence.at).await? {
            late.insert(came);
        }
        for one in &mut astray {
            one.orphans.retain(|orphan| entry(orphan).is_none_or(|id| !late.contains(&id)));
        }
    }
    let mut orphans = Vec::new();
    for (bound, mut one) in tables.iter().zip(astray) {
        let (store, _) = store::open(bound.location)?;
        if !one.orphans.is_empty() && !dry_run {
            // no compaction names a file from here on that it has written before
            bound.delta()?.begin_sweep().await?;
            let named = named(bound).await?;
            one.orphans.retain(|(_, file)| file.location.filename().is_none_or(|name| !named.contains(name)));
        }
        for (_, file) in one.orphans {
            match if dry_run { Ok(()) } else { store.delete(&file.location).await } {
                Ok(()) => one.found.old.add(file.size),
                // another maintainer was faster
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(failed(format!("cannot remove {}", file.location), e)),
            }
        }
        orphans.push(one.found);
    }
    Ok(Swept { orphans, entry: new })
}

/// The entry that a file was written for, where it was written for one.
fn entry((written_for, _): &(WrittenFor, ObjectMeta)) -> Option<Uuid> {
    match written_for {
        WrittenFor::Entry(entry) => Some(*entry),
        WrittenFor::Table => None,
    }
}

/// Those of the ids whose entries are in the ledger, and cannot come once more: files that a compaction gave up long ago are
/// no reason for the ledger to remember their entries for ever. Entries come nearly in the order of their ids; one that is
/// far from its place is not found, and fenced like one that never came.
async fn appended(ledger: &Ledger, ids: &BTreeSet<Uuid>, head: u64) -> Result<Vec<Uuid>> {
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(Vec::new()) };
    let mut reached = ledger.opened_before(opened(*first) - NEAR).await?;
    let mut found = Vec::new();
    while reached < head {
        for (n, entry) in ledger.page(reached, head).await? {
            if opened(entry.id) > opened(*last) + NEAR {
                return Ok(found);
            }
            found.extend(ids.get(&entry.id));
            reached = n;
        }
    }
    Ok(found)
}

/// The names of all files that a table holds or has given up lately.
async fn named(bound: &Bound<'_>) -> Result<HashSet<String>> {
    let (whole, _) = store::open(bound.location)?;
    // of the table as it is now, since whoever tends it beside us may have removed the log files of the version that was
    // opened; a later version names all that an earlier one did
    let read = async || {
        let mut named = HashSet::new();
        let now = load(bound.location, whole.clone()).await?;
        let now = now.ok_or_else(|| deltalake::DeltaTableError::NotATable(bound.location.written.clone()))?;
        let state = now.snapshot()?;
        named.extend(state.log_data().iter().map(|file| last(&file.path())));
        let log_store = now.log_store();
        let mut tombstones = state.all_tombstones(log_store.as_ref());
        while let Some(tombstone) = tombstones.try_next().await? {
            named.insert(last(&tombstone.path()));
        }
        Ok::<_, deltalake::DeltaTableError>(named)
    };
    log::beside_others(read).await.doing(|| format!("cannot read {}", bound.table.name()))
}

/// What lies in a table's folder and is named by neither the table nor an entry up to `head` that it does not hold.
async fn look(ledger: &Ledger, bound: &Bound<'_>, head: u64, old: Old) -> Result<Astray> {
    let table = &bound.table;
    let mut named = named(bound).await?;
    waiting(ledger, table.outcome, table.mark, head, &mut named).await?;

    let (store, prefix) = store::open(bound.location)?;
    let mut listed = store.list(Some(&prefix));
    let mut astray = Astray { found: Found::default(), orphans: Vec::new() };
    while let Some(file) = listed.try_next().await.map_err(|e| failed(format!("cannot list {prefix}"), e))? {
        let is_log = file.location.prefix_match(&prefix).and_then(|mut parts| parts.next());
        let Some(name) = file.location.filename().filter(|name| name.ends_with(".parquet")) else { continue };
        if is_log.is_some_and(|first| first.as_ref() == "_delta_log") || named.contains(name) {
            continue;
        }
        match WrittenFor::of(name) {
            None => astray.found.foreign.add(file.size),
            Some(_) if !old.is_at(file.last_modified) => astray.found.young.add(file.size),
            Some(written_for) => astray.orphans.push((written_for, file)),
        }
    }
    Ok(astray)
}

/// Names are compared, not paths: they are unique by themselves, and need no word on how a path is encoded.
fn last(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// The files that entries in `(after, up_to]` name for an outcome.
async fn waiting(ledger: &Ledger, outcome: Outcome, after: u64, up_to: u64, named: &mut HashSet<String>) -> Result<()> {
    let mut reached = after;
    while reached < up_to {
        for (n, entry) in ledger.page(reached, up_to).await? {
            let files = entry.sinks.get(&outcome).into_iter().flat_map(|actions| &actions.files);
            named.extend(files.map(|file| last(&file.path)));
            reached = n;
        }
    }
    Ok(())
}

/// The entries in `(after, up_to]`.
async fn entries(ledger: &Ledger, after: u64, up_to: u64) -> Result<Vec<(u64, Uuid)>> {
    let mut found = Vec::new();
    let mut reached = after;
    while reached < up_to {
        for (n, entry) in ledger.page(reached, up_to).await? {
            found.push((n, entry.id));
            reached = n;
        }
    }
    Ok(found)
}

struct Fence {
    /// the last entry that had to be looked at
    at: u64,
    /// the entry that was appended, where none had said so before
    new: Option<u64>,
}

/// Makes sure that none of these entries is appended from here on.
async fn fence(ledger: &Ledger, ids: &BTreeSet<Uuid>) -> Result<Fence> {
    let fold = ledger.fold().await?;
    if ids.is_subset(&fold.swept) {
        return Ok(Fence { at: fold.head, new: None });
    }
    let generation = fold.generation.unwrap_or_default();
    let entry = Entry { swept: ids.iter().copied().collect(), ..Entry::new(Kind::Sweep, &generation) };
    match ledger.append(&entry).await? {
        Appended::At(n) => Ok(Fence { at: n, new: Some(n) }),
        Appended::Moved { .. } => Err(Error::Host("an entry without partitions cannot find them moved".into())),
    }
}
