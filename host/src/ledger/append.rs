//! How an entry gets into the ledger: read to the head, require that nothing moved, create the next number only if absent.
//!
//! No lock, no lease, no clock: of two processes that create the same number, the store lets one win, and the other reads
//! what won. It judges nothing and touches no table.

use std::sync::Arc;

use chrono::Utc;
use object_store::{PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};

use crate::crash;
use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::record::TopicPartition;
use crate::store::{failed, shown};

use super::entry::{Entry, FORMAT, Kind};
use super::window::Verdict;
use super::{Ledger, Seen, seal};

/// What became of an entry that was to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Appended {
    /// it is in the ledger, durably, under this number
    At(u64),
    /// it is not, and never will be: these partitions no longer stand where it begins, a window that it touches was decided
    /// meanwhile, another replay came first, or (of an `activate`) another generation came into force meanwhile
    Moved {
        /// what another process accounted for, or started, meanwhile; empty where a window, a replay or another generation
        /// is in the way
        partitions: Vec<TopicPartition>,
    },
}

impl Appended {
    /// Whether the entry is in the ledger.
    pub fn is_at(&self) -> bool {
        match self {
            Appended::At(_) => true,
            Appended::Moved { .. } => false,
        }
    }
}

/// How often a create is tried whose answer was unclear and which left nothing behind. The stores repeat what is worth
/// repeating themselves; this is for the answer that got lost.
const UNCLEAR: u32 = 3;

/// `pipeline.json`: whose state folder it is.
#[derive(Serialize, Deserialize)]
struct Owner {
    format: u32,
    name: String,
}

impl Ledger {
    /// Appends an entry, or says that it can no longer be.
    ///
    /// When this answers [`Appended::At`], the entry is durable. When it fails, the entry may be in the ledger all the
    /// same: to append the same entry (the same id) again is safe, and finds out.
    pub async fn append(&self, entry: &Entry) -> Result<Appended> {
        check(entry)?;
        let mut seen = self.seen.lock().await;
        self.claim(&mut seen).await?;
        let shared = Arc::new(entry.clone());
        let text = PutPayload::from(seal::seal(entry));
        let mut unclear = 0;
        loop {
            self.catch_up(&mut seen).await?;
            // an earlier attempt whose answer was lost
            if let Some(n) = seen.recent.iter().find(|(_, known)| known.id == entry.id).map(|(n, _)| *n) {
                self.confirm(&mut seen, n, entry).await?;
                return Ok(Appended::At(n));
            }
            if let Some((outcome, from)) = seen.fold.lets_go(entry)
                && Utc::now() < from
            {
                // with its next id it would be as old
                return Err(Error::environment(
                    format!("cannot append an entry of {}", Utc::now()),
                    format!("{outcome} keeps no rows from before {from}: set the clock of this machine"),
                ));
            }
            let partitions = seen.fold.moved(entry);
            let fold = &seen.fold;
            if !partitions.is_empty() || fold.overtakes(entry) || fold.outdated(entry).is_some() {
                return Ok(Appended::Moved { partitions });
            }
            if seen.fold.overtook(entry) {
                return Ok(Appended::Moved { partitions: Vec::new() });
            }
            if let Some((outcome, bound, new)) = seen.fold.rebinds(entry) {
                return Err(Error::Diverged(format!(
                    "the table behind {outcome} is {new}, but the ledger binds {bound}: the table was replaced. \
                     `sluice adopt` takes the new one over"
                )));
            }
            let head = seen.fold.head;
            if head > 0 && !self.exists(head).await? {
                return Err(self.missing(head));
            }
            let n = head + 1;
            if let Some(why) = seen.fold.refuse(n, entry) {
                return Err(Error::Host(format!("entry {} would be ledger entry {n}, which {why}", entry.id)));
            }
            let path = self.entry_path(n);
            crash::point("append/before-create");
            let answer = self.store.put_opts(&path, text.clone(), PutOptions::from(PutMode::Create)).await;
            let lost = match answer {
                Ok(_) => {
                    crash::point("append/created");
                    seen.accept(n, shared)?;
                    seen.durable = n;
                    self.checkpoint_if_due(&seen).await;
                    return Ok(Appended::At(n));
                }
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => None,
                Err(e) => Some(e),
            };
            // Whose is it? Asked here and not in the next round alone: a process that slept in between may find more entries
            // after n than it keeps, and would take its own for one that was never written
            match (self.read(n).await?, lost) {
                (Some(there), _) if there.id == entry.id => {
                    self.catch_up(&mut seen).await?;
                    self.confirm(&mut seen, n, entry).await?;
                    return Ok(Appended::At(n));
                }
                (None, Some(e)) => {
                    unclear += 1;
                    if unclear == UNCLEAR {
                        return Err(failed(format!("cannot create ledger entry {n} ({})", shown(&path)), e));
                    }
                }
                (Some(_), _) | (None, None) => {}
            }
        }
    }

    /// An entry of ours that is in the ledger although nobody told us so.
    async fn confirm(&self, seen: &mut Seen, n: u64, entry: &Entry) -> Result<()> {
        if n > seen.durable {
            self.ensure_durable(n, entry).await?;
            crash::point("append/created");
            seen.durable = n;
        }
        Ok(())
    }

    /// Creates an entry that was read once more: "exists" is answered only for what is durable, and should it have
    /// vanished in between, then the very same entry is there again.
    pub(super) async fn ensure_durable(&self, n: u64, entry: &Entry) -> Result<()> {
        let path = self.entry_path(n);
        let text = PutPayload::from(seal::seal(entry));
        let mut unclear = 0;
        loop {
            match self.store.put_opts(&path, text.clone(), PutOptions::from(PutMode::Create)).await {
                Ok(_) | Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    return Ok(());
                }
                Err(e) => {
                    unclear += 1;
                    if unclear == UNCLEAR {
                        return Err(failed(format!("cannot make sure of ledger entry {n} ({})", shown(&path)), e));
                    }
                }
            }
        }
    }

    /// Refuses a state folder of another pipeline; answers whether it has an owner at all.
    pub(super) async fn owner(&self) -> Result<bool> {
        let path = self.state.clone().join("pipeline.json");
        let Some(text) = self.bytes(&path).await? else { return Ok(false) };
        let owner: Owner = seal::open(&text, FORMAT).map_err(|broken| {
            let path = shown(&path);
            Error::Diverged(format!("{path} {broken}. It holds the pipeline's name only: `mv '{path}' '{path}.lost'`"))
        })?;
        if owner.name != self.pipeline {
            return Err(Error::Config(format!(
                "the state folder {} belongs to pipeline `{}`, not to `{}`: give each pipeline a `state` of its own, or \
                 keep the name (renaming starts a new pipeline)",
                shown(&self.state),
                owner.name,
                self.pipeline
            )));
        }
        Ok(true)
    }

    pub(super) async fn claim(&self, seen: &mut Seen) -> Result<()> {
        if seen.claimed {
            return Ok(());
        }
        if !self.owner().await? {
            let path = self.state.clone().join("pipeline.json");
            let text = PutPayload::from(seal::seal(&Owner { format: FORMAT, name: self.pipeline.clone() }));
            match self.store.put_opts(&path, text, PutOptions::from(PutMode::Create)).await {
                Ok(_) => {}
                // another process was faster, or the answer got lost: what stands there counts
                Err(e) => {
                    if !self.owner().await? {
                        return Err(failed(format!("cannot create {}", shown(&path)), e));
                    }
                }
            }
        }
        seen.claimed = true;
        Ok(())
    }
}

/// What no entry may say, whoever made it.
fn check(entry: &Entry) -> Result<()> {
    let wrong = |what: String| Err(Error::Host(format!("entry {} ({:?}) {what}", entry.id, entry.kind)));
    let counts = &entry.counts;
    if entry.format != FORMAT {
        return wrong(format!("has format {}, this version writes {FORMAT}", entry.format));
    }
    if let Some(range) = entry.ranges.iter().find(|range| range.to < range.from) {
        return wrong(format!("goes backwards on {}: from {} to {}", range.partition, range.from, range.to));
    }
    let sum: u64 = counts.outcomes.values().sum();
    if counts.rows != sum {
        return wrong(format!("counts {} rows, but {sum} outcomes", counts.rows));
    }
    if counts.skipped > counts.records || counts.rows < counts.records - counts.skipped {
        return wrong(format!(
            "counts {} records, {} of them skipped, and {} rows",
            counts.records, counts.skipped, counts.rows
        ));
    }
    if (entry.kind == Kind::Decision) != entry.decision.is_some() {
        return wrong("is a decision in one place only".to_owned());
    }
    if let Some(decision) = &entry.decision {
        let made = match decision.verdict {
            Verdict::Hold => 0,
            Verdict::Publish | Verdict::Reject => decision.rows.saturating_sub(decision.missing),
        };
        if counts.records > 0 || counts.rows != made || counts.of(Outcome::Valid) + counts.of(Outcome::Error) != made {
            return wrong(format!("decides over {} rows and counts {}", decision.rows, counts.rows));
        }
    }
    let staged: u64 = entry.windows.iter().map(|staged| staged.rows).sum();
    if staged != counts.of(Outcome::Staging) {
        return wrong(format!("stages {} rows, but {staged} for its windows", counts.of(Outcome::Staging)));
    }
    if !matches!(entry.kind, Kind::Rows | Kind::Decision | Kind::Replay)
        && (!entry.sinks.is_empty() || counts.records > 0 || counts.rows > 0)
    {
        return wrong("has rows, which its kind cannot".to_owned());
    }
    if (entry.kind == Kind::Replay) != entry.replay.is_some() || (entry.replay.is_some() && !entry.ranges.is_empty()) {
        return wrong("is a replay that does not say of what, or moves a position".to_owned());
    }
    // not those of `sinks` alone: what is counted and named nowhere would be lost
    for outcome in Outcome::ALL {
        let (counted, files) = (counts.of(outcome), entry.sinks.get(&outcome).map(|actions| &actions.files));
        let rows: u64 = files.into_iter().flatten().map(|file| file.rows).sum();
        if rows != counted {
            return wrong(format!("counts {counted} rows for {outcome}, but its files hold {rows}"));
        }
    }
    Ok(())
}
