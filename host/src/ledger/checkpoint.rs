//! Shortcuts: the fold up to some entry, so that a start does not read the ledger from its beginning.
//!
//! A checkpoint proves nothing and is never needed: one that is missing, damaged, or does not fit its entry is passed over
//! with a warning, and the entries are read instead. Only a checkpoint *beyond* the entries is taken seriously: entries were
//! lost.

use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::crash;
use crate::error::{Error, Result};
use crate::maintain::{Checkpoint as Checkpointed, Files};
use crate::store::{failed, shown};

use super::{Fold, Ledger, Seen, number, seal};

/// The format of checkpoints that this version writes.
const FORMAT: u32 = 1;

/// A checkpoint every so many entries: a start then reads 99 small entries at most, a few milliseconds each on an object
/// store, and at a commit every 5 s a checkpoint is written every eight minutes.
pub(super) const EVERY: u64 = 100;

/// Checkpoints that are kept: the newest, and one to fall back to.
const KEPT: usize = 2;

#[derive(Serialize, Deserialize)]
struct Checkpoint {
    format: u32,
    pipeline: String,
    entry: u64,
    id: Uuid,
    fold: Fold,
}

impl Ledger {
    /// Writes a checkpoint where one is due. Best effort: whatever happens, the ledger is as good without.
    pub(super) async fn checkpoint_if_due(&self, seen: &Seen) {
        if !seen.fold.head.is_multiple_of(EVERY) {
            return;
        }
        if let Err(error) = self.checkpoint(&seen.fold).await {
            tracing::warn!(entry = seen.fold.head, %error, "no checkpoint was written; the next start reads more entries");
        }
    }

    async fn checkpoint(&self, fold: &Fold) -> Result<()> {
        self.write_checkpoint(fold).await?;
        self.forget_checkpoints().await.map(drop)
    }

    async fn write_checkpoint(&self, fold: &Fold) -> Result<()> {
        let Some(id) = fold.last else { return Ok(()) };
        let checkpoint =
            Checkpoint { format: FORMAT, pipeline: self.pipeline.clone(), entry: fold.head, id, fold: fold.clone() };
        let path = self.state.clone().join("checkpoint").join(format!("{:020}.json", fold.head));
        crash::point("checkpoint/before");
        let text = PutPayload::from(seal::seal(&checkpoint));
        match self.store.put_opts(&path, text, PutOptions::from(PutMode::Create)).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(e) => return Err(failed(format!("cannot create {path}"), e)),
        }
        crash::point("checkpoint/after");
        Ok(())
    }

    /// Removes all checkpoints but the newest; answers what this process removed.
    async fn forget_checkpoints(&self) -> Result<Files> {
        let mut removed = Files::default();
        for (_, object) in self.checkpoints().await?.iter().rev().skip(KEPT) {
            match self.store.delete(&object.location).await {
                Ok(()) => removed.add(object.size),
                // another process tidies up too
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(failed(format!("cannot delete {}", object.location), e)),
            }
        }
        Ok(removed)
    }

    /// Reads to the head and writes a checkpoint of it where there is none; removes superfluous ones. Answers the newest
    /// one, and what was removed; in a dry run, what would be.
    pub(crate) async fn tend_checkpoints(&self, dry_run: bool) -> Result<(Option<Checkpointed>, Files)> {
        let fold = self.fold().await?;
        let there = self.checkpoints().await?;
        let is_new = fold.head > 0 && there.last().is_none_or(|(n, _)| *n < fold.head);
        let newest = there.last().map(|(n, _)| *n).filter(|_| !is_new).or(is_new.then_some(fold.head));
        let newest = newest.map(|of| Checkpointed { of, new: is_new });
        if dry_run {
            let superfluous = there.iter().rev().skip(KEPT - usize::from(is_new));
            return Ok((newest, superfluous.map(|(_, object)| Files { files: 1, bytes: object.size }).sum()));
        }
        if is_new {
            // what it is of must survive longer than itself
            self.settle(fold.head).await?;
            self.write_checkpoint(&fold).await?;
        }
        Ok((newest, self.forget_checkpoints().await?))
    }

    /// The checkpoints by their numbers, ascending.
    async fn checkpoints(&self) -> Result<Vec<(u64, ObjectMeta)>> {
        let folder = self.state.clone().join("checkpoint");
        let listed: Vec<_> = self
            .store
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(|e| failed(format!("cannot list {folder}"), e))?;
        let numbered = |object: ObjectMeta| Some((number(&object.location)?, object));
        let mut numbers: Vec<(u64, ObjectMeta)> = listed.into_iter().filter_map(numbered).collect();
        numbers.sort_unstable_by_key(|(n, _)| *n);
        Ok(numbers)
    }

    /// The entries are gone and their checkpoint is not.
    fn lost_up_to(&self, n: u64) -> Error {
        let folder = shown(&self.state.clone().join("checkpoint"));
        Error::Diverged(format!(
            "a part of the ledger was lost: {folder} knows of ledger entry {n}, but {} has neither that nor a later one. \
             Put them back from a copy. Where there is none, put the checkpoints aside, too, `mv '{folder}' \
             '{folder}.lost'`, and take the tables over as they are: `sluice adopt`",
            shown(&self.state.clone().join("ledger"))
        ))
    }

    /// The newest checkpoint that can be relied upon.
    pub(super) async fn last_checkpoint(&self) -> Result<Option<Fold>> {
        for (n, object) in self.checkpoints().await?.into_iter().rev() {
            let path = object.location;
            let Some(text) = self.bytes(&path).await? else { continue };
            let checkpoint = match seal::open::<Checkpoint>(&text, FORMAT) {
                Ok(checkpoint) => checkpoint,
                Err(broken) => {
                    tracing::warn!(%path, %broken, "a checkpoint is passed over");
                    continue;
                }
            };
            if checkpoint.pipeline != self.pipeline {
                return Err(Error::Config(format!(
                    "{path} belongs to pipeline `{}`, not to `{}`: give each pipeline a `state` of its own",
                    checkpoint.pipeline, self.pipeline
                )));
            }
            if checkpoint.entry != n || checkpoint.fold.head != n || checkpoint.fold.last != Some(checkpoint.id) {
                tracing::warn!(%path, "a checkpoint under a name that is not its own is passed over");
                continue;
            }
            match self.read(n).await? {
                Some(entry) if entry.id == checkpoint.id => return Ok(Some(checkpoint.fold)),
                Some(_) => tracing::warn!(%path, "a checkpoint of other entries is passed over"),
                None => match self.numbers_after(n).await?.first() {
                    // an `adopt` entry took over after the loss
                    Some(_) => tracing::warn!(%path, "a checkpoint of an entry that was lost is passed over"),
                    None => return Err(self.lost_up_to(n)),
                },
            }
        }
        Ok(None)
    }
}
