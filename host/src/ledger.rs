//! The commit point: a sequence of numbered objects, each created only if absent.
//!
//! ```text
//! <state>/pipeline.json              whose ledger this is
//! <state>/ledger/<20 digits>.json    one Entry each; their order is the order of everything that happened
//! <state>/checkpoint/<20 digits>.json  the fold of all entries up to that number, to begin reading there
//! ```
//!
//! It does not know what is in a table, and never runs anything again: sinks follow it ([`apply`]), sources ask it for
//! positions. Entries are never changed and, so far, never deleted.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::Mutex;

use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::store::{failed, shown};

pub mod append;
pub mod apply;
mod checkpoint;
pub mod entry;
pub mod fold;
pub mod keep;
pub mod operate;
pub(crate) mod seal;
#[cfg(test)]
pub(crate) mod tests;
pub mod window;

pub use append::Appended;
pub use entry::{Counts, Entry, EntryRange, FileAction, Kind, SinkActions};
pub use fold::{Fold, Position};
use seal::Broken;
pub use window::{Decision, Extent, Objection, Past, Staged, Staying, Verdict, Waiting};

/// Entries that a handle keeps: what a sink that is at most sixteen entries behind asks for, several times over.
const RECENT: usize = 64;

/// Entries that are in memory together, where many are followed: each names its files with their statistics, some ten
/// kilobytes, and a year of commits every 5 s is six million of them. A sink that gets no rows moves its mark after as many.
pub const PAGE: u64 = 128;

/// A handle on a pipeline's ledger. Several, in one process or many, may work on the same one.
pub struct Ledger {
    store: Arc<dyn ObjectStore>,
    state: Path,
    pipeline: String,
    /// what this handle has read; held while reading and appending, so that one handle does one thing at a time
    seen: Mutex<Seen>,
}

/// What a handle has read of its ledger.
#[derive(Default)]
struct Seen {
    /// whether the entries were listed once
    opened: bool,
    fold: Fold,
    /// the last entries up to the fold's head
    recent: VecDeque<(u64, Arc<Entry>)>,
    /// highest number that is known to survive a power cut
    durable: u64,
    /// whether `pipeline.json` is known to stand
    claimed: bool,
}

impl Seen {
    fn accept(&mut self, n: u64, entry: Arc<Entry>) -> Result<()> {
        self.fold.apply(n, &entry)?;
        self.recent.push_back((n, entry));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        Ok(())
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("pipeline", &self.pipeline).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Ledger {
    /// The ledger of `pipeline` in the state folder `state` of `store`. Nothing is written before the first append.
    ///
    /// Refuses a state folder that another pipeline owns.
    pub async fn open(store: Arc<dyn ObjectStore>, state: Path, pipeline: &str) -> Result<Ledger> {
        let ledger = Ledger { store, state, pipeline: pipeline.to_owned(), seen: Mutex::default() };
        ledger.owner().await?;
        Ok(ledger)
    }

    /// The name of its pipeline.
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// The store that it lies in, and the state folder within it: generations lie there too.
    pub fn place(&self) -> (&Arc<dyn ObjectStore>, &Path) {
        (&self.store, &self.state)
    }

    /// The application id of its progress marks: `sluice/<pipeline>`.
    pub fn application(&self) -> String {
        format!("sluice/{}", self.pipeline)
    }

    /// Reads to the head: the number of the last entry, 0 = none.
    pub async fn head(&self) -> Result<u64> {
        let mut seen = self.seen.lock().await;
        self.catch_up(&mut seen).await?;
        Ok(seen.fold.head)
    }

    /// Reads to the head: what all entries mean.
    pub async fn fold(&self) -> Result<Fold> {
        let mut seen = self.seen.lock().await;
        self.catch_up(&mut seen).await?;
        Ok(seen.fold.clone())
    }

    /// Hash of the generation in force, as far as this handle has read.
    pub async fn active(&self) -> Option<String> {
        self.seen.lock().await.fold.active.clone()
    }

    /// Reads to the head: the identity of the table that the ledger binds to an outcome.
    pub async fn bound(&self, outcome: Outcome) -> Result<Option<String>> {
        let mut seen = self.seen.lock().await;
        self.catch_up(&mut seen).await?;
        Ok(seen.fold.tables.get(&outcome).cloned())
    }

    /// The entries in `(after, up_to]`, in order, all of them in memory. Each number is there, except before an `adopt`
    /// entry that took over after entries were lost.
    pub async fn entries(&self, after: u64, up_to: u64) -> Result<Vec<(u64, Arc<Entry>)>> {
        self.first_entries(after, up_to, usize::MAX).await
    }

    /// The first [`PAGE`] entries in `(after, up_to]`, in order: fewer only where that is all, and at least one unless
    /// `after` is `up_to`.
    pub async fn page(&self, after: u64, up_to: u64) -> Result<Vec<(u64, Arc<Entry>)>> {
        self.first_entries(after, up_to, PAGE as usize).await
    }

    /// The last entry for which something holds: read backwards from the head, one at a time.
    pub async fn last_entry(&self, holds: impl Fn(&Entry) -> bool) -> Result<Option<(u64, Arc<Entry>)>> {
        let head = self.head().await?;
        for n in self.numbers_after(0).await?.into_iter().rev().filter(|n| *n <= head) {
            let Some(entry) = self.read(n).await? else { return Err(self.missing(n)) };
            if holds(&entry) {
                return Ok(Some((n, Arc::new(entry))));
            }
        }
        Ok(None)
    }

    /// The last entry before the first that was opened at this time or later, milliseconds since the epoch: 0 where that is
    /// the first of all. As near as entries are in the order in which they were opened.
    pub async fn opened_before(&self, time: i64) -> Result<u64> {
        let numbers = self.numbers_after(0).await?;
        let (mut from, mut to) = (0, numbers.len());
        while from < to {
            let middle = from.midpoint(to);
            let Some(entry) = self.read(numbers[middle]).await? else { return Err(self.missing(numbers[middle])) };
            match keep::opened(entry.id) < time {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        Ok(from.checked_sub(1).map_or(0, |last| numbers[last]))
    }

    async fn first_entries(&self, after: u64, up_to: u64, most: usize) -> Result<Vec<(u64, Arc<Entry>)>> {
        let mut found = Vec::new();
        let recent: Vec<(u64, Arc<Entry>)> = self.seen.lock().await.recent.iter().cloned().collect();
        let mut last = after;
        while last < up_to && found.len() < most {
            let next = match recent.iter().find(|(n, _)| *n == last + 1) {
                Some(kept) => Some(kept.clone()),
                None => self.next_after(last).await?.filter(|(n, _)| *n <= up_to),
            };
            let Some((n, entry)) = next else { return Err(self.missing(last + 1)) };
            found.push((n, entry));
            last = n;
        }
        Ok(found)
    }

    /// Makes sure that the entries up to `head`, which another process may have created a moment ago, survive a power
    /// cut, before anything refers to them.
    ///
    /// Creating the same object again is answered "exists" only when the object is durable, on every store.
    pub async fn settle(&self, head: u64) -> Result<()> {
        let mut seen = self.seen.lock().await;
        if head <= seen.durable {
            return Ok(());
        }
        let Some(entry) = self.read(head).await? else { return Err(self.missing(head)) };
        self.ensure_durable(head, &entry).await?;
        seen.durable = seen.durable.max(head);
        Ok(())
    }

    /// Folds everything that was appended since the last look.
    async fn catch_up(&self, seen: &mut Seen) -> Result<()> {
        if !seen.opened {
            let mut fresh = Seen { claimed: seen.claimed, ..Seen::default() };
            if let Some(fold) = self.last_checkpoint().await? {
                fresh.fold = fold;
            }
            // listed, not probed: a hole would look like the end
            for n in self.numbers_after(fresh.fold.head).await? {
                let Some(entry) = self.read(n).await? else { return Err(self.missing(n)) };
                let next = fresh.fold.head + 1;
                if n != next && entry.kind != Kind::Adopt {
                    return Err(self.missing(next));
                }
                fresh.accept(n, Arc::new(entry))?;
            }
            fresh.opened = true;
            *seen = fresh;
        }
        loop {
            let next = seen.fold.head + 1;
            match self.read(next).await? {
                Some(entry) => seen.accept(next, Arc::new(entry))?,
                // someone may have created both since the first question, so that is asked again
                None if self.exists(next + 1).await? => match self.read(next).await? {
                    Some(entry) => seen.accept(next, Arc::new(entry))?,
                    None => return Err(self.missing(next)),
                },
                None => return Ok(()),
            }
        }
    }

    /// The first entry after `n`, which has the number `n + 1` unless entries were lost.
    async fn next_after(&self, n: u64) -> Result<Option<(u64, Arc<Entry>)>> {
        if let Some(entry) = self.read(n + 1).await? {
            return Ok(Some((n + 1, Arc::new(entry))));
        }
        let Some(&later) = self.numbers_after(n).await?.first() else { return Ok(None) };
        match self.read(later).await? {
            Some(entry) if later == n + 1 || entry.kind == Kind::Adopt => Ok(Some((later, Arc::new(entry)))),
            Some(_) => Err(self.missing(n + 1)),
            None => Err(self.missing(later)),
        }
    }

    /// The numbers of the entries after `n`, ascending.
    async fn numbers_after(&self, n: u64) -> Result<Vec<u64>> {
        let folder = self.state.clone().join("ledger");
        let listed: Vec<_> = self
            .store
            .list_with_offset(Some(&folder), &self.entry_path(n))
            .try_collect()
            .await
            .map_err(|e| failed(format!("cannot list {}", shown(&folder)), e))?;
        let mut numbers = Vec::with_capacity(listed.len());
        for object in listed {
            numbers.push(number(&object.location).ok_or_else(|| {
                let path = shown(&object.location);
                Error::Diverged(format!("{path} is no ledger entry; move it out of the ledger's folder"))
            })?);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn entry_path(&self, n: u64) -> Path {
        self.state.clone().join("ledger").join(format!("{n:020}.json"))
    }

    /// Entry `n` as it stands in the store, or `None` where there is none.
    async fn read(&self, n: u64) -> Result<Option<Entry>> {
        let path = self.entry_path(n);
        let Some(text) = self.bytes(&path).await? else { return Ok(None) };
        match seal::open::<Entry>(&text, entry::FORMAT) {
            Ok(entry) => Ok(Some(entry)),
            Err(broken @ Broken::Newer(..)) => {
                Err(Error::Diverged(format!("ledger entry {n} ({}) {broken}", shown(&path))))
            }
            Err(broken @ Broken::Damaged(_)) => {
                let (path, way_out) = (shown(&path), self.way_out());
                Err(Error::Diverged(format!("ledger entry {n} ({path}) {broken}. {way_out}")))
            }
        }
    }

    async fn bytes(&self, path: &Path) -> Result<Option<bytes::Bytes>> {
        let read = async { self.store.get(path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed(format!("cannot read {}", shown(path)), e)),
        }
    }

    async fn exists(&self, n: u64) -> Result<bool> {
        let path = self.entry_path(n);
        match self.store.head(&path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(failed(format!("cannot read {}", shown(&path)), e)),
        }
    }

    fn missing(&self, n: u64) -> Error {
        Error::Diverged(format!(
            "ledger entry {n} ({}) is missing: someone removed it, or a part of the ledger was lost. {}",
            shown(&self.entry_path(n)),
            self.way_out()
        ))
    }

    /// What to do about a ledger that is not whole; a sentence of its own.
    fn way_out(&self) -> String {
        let folder = shown(&self.state.clone().join("ledger"));
        format!(
            "Put it back from a copy. Where there is none, stop every process of the pipeline, put the ledger aside, \
             `mv '{folder}' '{folder}.lost'`, and take the tables over as they are: `sluice adopt`"
        )
    }
}

/// The number in the name of an entry or a checkpoint.
fn number(path: &Path) -> Option<u64> {
    let digits = path.filename()?.strip_suffix(".json")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}
