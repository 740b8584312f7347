//! An operator's word, written down as entries: `adopt` takes tables over as they are, `reset` sets positions anew.
//!
//! Nothing here is ever done on its own: each of the two can leave records unread or read them again, and says which. It
//! writes no rows and removes none.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::{PutMode, PutOptions, PutPayload};

use crate::error::{Error, Result};
use crate::reconcile::Table;
use crate::record::TopicPartition;
use crate::sink::delta::DeltaSink;
use crate::store::failed;

use super::entry::{Entry, EntryRange, Kind};
use super::{Fold, Ledger, seal};

/// What was done, and what the operator should know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// number of the entry that says so
    pub entry: u64,
    /// one fact each
    pub lines: Vec<String>,
}

/// What the rows of all tables together say about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// lowest offset
    pub first: i64,
    /// highest offset
    pub last: i64,
    /// different offsets
    pub offsets: u64,
}

/// A table that can be adopted: as it is now, and the sink that writes into it.
pub struct Adoptable<'a> {
    /// as it is now
    pub table: &'a Table,
    /// sets its mark
    pub sink: &'a DeltaSink,
}

/// Binds the ledger to the tables as they are now.
///
/// Where the ledger is whole, a table with another identity than the bound one is followed from here on: what earlier
/// entries wrote is not written into it again. Where marks are beyond the head, a part of the ledger was lost: numbering
/// goes on after the highest mark, and `seen` (positions from the provenance columns of all tables, asked for only then)
/// says where to read on. Tables whose marks differ then are refused unless `accept_lag`: what the lost entries wrote for
/// the ones behind cannot be known.
pub async fn adopt(
    ledger: &Ledger,
    tables: &[Adoptable<'_>],
    generation: &str,
    accept_lag: bool,
    seen: impl AsyncFn() -> Result<BTreeMap<TopicPartition, Seen>>,
) -> Result<Done> {
    loop {
        let fold = ledger.fold().await?;
        // A table that is not the bound one says nothing of this ledger: its mark may be of an adoption that was
        // interrupted between the mark and the entry.
        let bound = |table: &Table| fold.tables.get(&table.outcome).is_none_or(|bound| *bound == table.identity);
        let highest = tables.iter().map(|one| one.table).filter(|table| bound(table)).map(|table| table.mark).max();
        let highest = highest.unwrap_or(0);
        let lost = highest > fold.head;
        let n = highest.max(fold.head) + 1;
        let mut entry = Entry {
            tables: tables.iter().map(|one| (one.table.outcome, one.table.identity.clone())).collect(),
            ..Entry::new(Kind::Adopt, generation)
        };
        let mut lines = Vec::new();
        if lost {
            lag(tables, highest, accept_lag, &mut lines)?;
            entry.ranges = positions(&fold, seen().await?, &mut lines);
            lines.insert(0, format!("entries {} to {highest} are lost; numbering goes on at {n}", fold.head + 1));
        }
        for Adoptable { table, sink } in tables {
            if fold.tables.get(&table.outcome) == Some(&table.identity) {
                continue;
            }
            // first, so that nobody fills the table with entries from before; then the entry under this very number
            if !lost || table.mark == 0 || !bound(table) {
                sink.set_mark(n).await?;
            }
            lines.push(format!("{} is followed from entry {n} on, as table {}", table.name(), table.identity));
        }
        if ledger.append_as(n, &entry).await? {
            return Ok(Done { entry: n, lines });
        }
    }
}

fn lag(tables: &[Adoptable<'_>], highest: u64, accept: bool, lines: &mut Vec<String>) -> Result<()> {
    let behind: Vec<String> = tables
        .iter()
        .map(|one| one.table)
        .filter(|table| table.mark < highest)
        .map(|table| format!("{} holds entries up to {} of {highest}", table.name(), table.mark))
        .collect();
    if !behind.is_empty() && !accept {
        return Err(Error::Diverged(format!(
            "{}: whether the lost entries had rows for it cannot be known, and such rows would be missing for good. \
             `sluice adopt --accept-lag` adopts all the same",
            behind.join("; ")
        )));
    }
    lines.extend(behind);
    Ok(())
}

/// Where to read on after entries were lost: behind everything that any table or the rest of the ledger has seen.
fn positions(fold: &Fold, seen: BTreeMap<TopicPartition, Seen>, lines: &mut Vec<String>) -> Vec<EntryRange> {
    let mut next: BTreeMap<TopicPartition, i64> = fold.offsets();
    for (partition, seen) in seen {
        let position = next.entry(partition.clone()).or_insert(seen.last + 1);
        *position = (*position).max(seen.last + 1);
        let unseen = (seen.last - seen.first + 1) as u64 - seen.offsets;
        lines.push(format!(
            "{partition}: read on from {position}; of the offsets {} to {}, {unseen} are in no table: skipped, never \
             there, or lost with the entries, which cannot be known",
            seen.first, seen.last
        ));
    }
    let range = |(partition, to): (TopicPartition, i64)| {
        let known = fold.positions.get(&partition);
        EntryRange {
            from: to,
            to,
            topic_id: known.and_then(|p| p.topic_id.clone()),
            latest_event_time: known.and_then(|p| p.latest_event_time),
            ended: false,
            partition,
        }
    };
    next.into_iter().map(range).collect()
}

/// A position that the operator names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPosition {
    /// whose
    pub partition: TopicPartition,
    /// next offset to read
    pub to: i64,
    /// id of the topic or file that the offset points into; `None`: whichever the source finds there
    pub topic_id: Option<String>,
}

/// Sets positions anew. Forward only with `gap`, which gives up the offsets in between as lost; back always, and records
/// from there on are judged again, into rows of a new entry. In a topic that was made anew there is no forward and no back.
pub async fn reset(ledger: &Ledger, generation: &str, to: &[NewPosition], gap: bool) -> Result<Done> {
    if to.is_empty() {
        return Err(Error::Config("no position was named: say which partition goes where, `visits/0=4711`".into()));
    }
    loop {
        let fold = ledger.fold().await?;
        let mut ranges = Vec::new();
        let mut lines = Vec::new();
        for new in to {
            let NewPosition { partition, to, topic_id } = new;
            let position = fold.positions.get(partition);
            let at = position.map(|position| position.offset);
            let known_id = position.and_then(|position| position.topic_id.as_ref());
            let is_other = topic_id.is_some() && known_id.is_some_and(|known| Some(known) != topic_id.as_ref());
            if gap && is_other {
                return Err(Error::Config(format!(
                    "topic {} was deleted and made again, and a gap is one in the same log: without `--gap` the position \
                     is set anew",
                    partition.topic
                )));
            }
            let from = match (at, gap) {
                (Some(at), true) if *to < at => {
                    return Err(Error::Config(format!(
                        "{partition} stands at {at}: a gap cannot go back to {to}. Without `--gap` it can, and records \
                         from there on are judged again"
                    )));
                }
                (None, true) => {
                    return Err(Error::Config(format!(
                        "{partition} has no position yet, so that nothing of it is lost"
                    )));
                }
                (Some(at), false) if is_other => {
                    lines.push(format!(
                        "{partition}: set from {at} of the old topic to {to} of the one that is there now"
                    ));
                    *to
                }
                (Some(at), false) if *to > at => {
                    return Err(Error::Config(format!(
                        "{partition} stands at {at}: going on from {to} would pass over {} offsets that nobody judged. \
                         `--gap` gives them up as lost",
                        to - at
                    )));
                }
                (Some(at), true) => {
                    lines.push(format!("{partition}: {} offsets from {at} on are given up as lost", to - at));
                    at
                }
                (Some(at), false) => {
                    lines.push(format!(
                        "{partition}: set back from {at} to {to}; records from there on are judged again"
                    ));
                    *to
                }
                (None, false) => {
                    lines.push(format!("{partition}: starts at {to}"));
                    *to
                }
            };
            ranges.push(EntryRange {
                partition: partition.clone(),
                from,
                to: *to,
                topic_id: topic_id.clone(),
                latest_event_time: None,
                ended: false,
            });
        }
        let kind = if gap { Kind::Gap } else { Kind::Reset };
        let entry = Entry { ranges, ..Entry::new(kind, generation) };
        // under this very number: what was said holds for the positions that were looked at
        if ledger.append_as(fold.head + 1, &entry).await? {
            return Ok(Done { entry: fold.head + 1, lines });
        }
    }
}

impl Ledger {
    /// Creates an entry under a number that the caller has prepared for, or answers false: another entry came first.
    async fn append_as(&self, n: u64, entry: &Entry) -> Result<bool> {
        let mut seen = self.seen.lock().await;
        self.claim(&mut seen).await?;
        self.catch_up(&mut seen).await?;
        if seen.fold.head >= n {
            return Ok(false);
        }
        if let Some(why) = seen.fold.refuse(n, entry) {
            return Err(Error::Host(format!("an operator's entry {n} {why}")));
        }
        let path = self.entry_path(n);
        let text = PutPayload::from(seal::seal(entry));
        let answer = self.store.put_opts(&path, text, PutOptions::from(PutMode::Create)).await;
        match (answer, self.read(n).await?) {
            (_, Some(there)) if there.id == entry.id => {
                self.ensure_durable(n, entry).await?;
                seen.accept(n, Arc::new(there))?;
                seen.durable = n;
                Ok(true)
            }
            (_, Some(_)) => Ok(false),
            (Err(e), None) => Err(failed(format!("cannot create ledger entry {n} ({path})"), e)),
            (Ok(_), None) => Err(self.missing(n)),
        }
    }
}

#[cfg(test)]
mod tests;
