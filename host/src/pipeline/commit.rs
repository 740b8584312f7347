//! The end of an entry: append it, then let every sink follow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::intake::{Shared, lock};
use super::judging::Opening;
use super::worker::{Example, Written};
use crate::chain::Chain;
use crate::crash;
use crate::error::Result;
use crate::ledger::apply::{self, Backlog};
use crate::ledger::{Appended, Counts, Entry, EntryRange, FileAction, Fold, Kind, Ledger, SinkActions, Staged};
use crate::memory;
use crate::outcome::Outcome;
use crate::record::{Positions, TopicPartition};
use crate::sink::{Applied, Sink};
use crate::telemetry::metrics::Step;

/// The ledger and those who follow it.
#[derive(Clone)]
pub struct Follow {
    /// what happened, in order
    pub ledger: Arc<Ledger>,
    /// in the order in which they follow
    pub sinks: Vec<Arc<dyn Sink>>,
    /// where their futures run
    pub runtime: Handle,
}

impl Follow {
    /// Reads to the head: what all entries mean.
    pub fn fold(&self) -> Result<Fold> {
        self.runtime.block_on(self.ledger.fold())
    }

    /// Reads to the head and applies every sink: nothing that the ledger says is left undone.
    pub fn catch_up(&self) -> Result<(Fold, BTreeMap<Outcome, Applied>)> {
        self.runtime.block_on(async {
            let fold = self.ledger.fold().await?;
            let applied = apply::apply_all(&self.sinks, &self.ledger, fold.head).await?;
            Ok((fold, applied))
        })
    }

    /// Makes what `chain` derives from the rows in `files`, those of one entry, and adds it to them. Whatever appends rows
    /// comes by here: a derived table has what every row of its sink makes.
    pub(crate) fn derive(
        &self,
        chain: &Chain,
        entry: Uuid,
        files: &mut BTreeMap<Outcome, Vec<FileAction>>,
    ) -> Result<()> {
        let sink = |outcome| self.sinks.iter().find(|sink| sink.outcome() == outcome);
        for derive in &chain.parts.derives {
            let rows = files.get(&derive.from()).filter(|files| !files.is_empty());
            let (Some(rows), Some(from), Some(to)) = (rows, sink(derive.from()), sink(derive.outcome())) else {
                continue;
            };
            let made = derive.fill(entry, rows, &from.files(), to.files(), &self.runtime)?;
            files.extend(made.map(|actions| (derive.outcome(), actions.files)));
        }
        crash::point("write/derived-durable");
        Ok(())
    }

    /// Removes the files of an entry that is not in the ledger. What cannot be removed is an orphan, which costs space only.
    pub(crate) async fn discard(&self, entry: &Entry) {
        for sink in &self.sinks {
            let target = sink.files();
            for file in entry.sinks.get(&sink.outcome()).iter().flat_map(|actions| &actions.files) {
                // as it was written: only a table's log makes it part of a URL
                let Ok(path) = Path::parse(format!("{}/{}", target.prefix, file.path)) else { continue };
                if let Err(error) = target.store.delete(&path).await {
                    tracing::debug!(%path, %error, "a file of a dropped entry stays behind");
                }
            }
        }
    }
}

/// An entry whose files are durable.
pub(super) struct Closed {
    pub opening: Arc<Opening>,
    pub ranges: BTreeMap<TopicPartition, (i64, i64)>,
    pub written: Written,
    /// when its first record came
    pub opened: Instant,
    /// when it was to be closed
    pub due: Instant,
}

/// What became of an entry.
pub(super) enum Committed {
    At(Box<Landed>),
    /// a position had moved: nothing of the entry is in the ledger
    Moved(Positions),
}

/// An entry that is in the ledger and in every sink.
pub struct Landed {
    /// its number
    pub number: u64,
    /// what it says
    pub counts: Counts,
    /// the positions that it reached
    pub positions: Positions,
    /// how far each sink is
    pub applied: BTreeMap<Outcome, Applied>,
    /// the first dead letter of each kind
    pub examples: BTreeMap<String, Example>,
    /// from its first record to its end
    pub took: Duration,
    /// when it was to be closed
    pub due: Instant,
}

pub(super) struct Committer {
    pub follow: Follow,
    pub shared: Arc<Shared>,
    pub lagging: Mutex<Lagging>,
}

/// Error and dead letter get few rows, and a version of a table costs the same for one row as for a million: with rapid
/// commits they follow a little later. Nobody should wait longer than this for a row to show.
const LAG: Duration = Duration::from_secs(5);

/// Free memory goes back to the system after so many entries, as often as checkpoints are made.
const GIVE_BACK: u64 = 100;

/// Which sinks have entries to follow, and since when.
pub(super) struct Lagging {
    backlog: Backlog,
    applied: BTreeMap<Outcome, Applied>,
    since: BTreeMap<Outcome, Instant>,
}

impl Lagging {
    pub fn new(head: u64, applied: BTreeMap<Outcome, Applied>) -> Lagging {
        let since = applied.keys().map(|outcome| (*outcome, Instant::now())).collect();
        Lagging { backlog: Backlog::at(head, &applied), applied, since }
    }

    /// Whether a sink follows now: always for valid and what is read beside it, else when it waited long enough or has as much as may wait.
    fn is_due(&self, outcome: Outcome, head: u64) -> bool {
        matches!(outcome, Outcome::Valid | Outcome::Derived(_))
            || self.backlog.must_apply(head).contains(&outcome)
            || self.since.get(&outcome).is_none_or(|since| since.elapsed() >= LAG)
    }

    fn reached(&mut self, outcome: Outcome, applied: Applied, head: u64) {
        self.backlog.reached(outcome, head);
        self.applied.insert(outcome, applied);
        self.since.insert(outcome, Instant::now());
    }
}

impl Committer {
    pub fn commit(&self, closed: Closed) -> Result<Committed> {
        crash::point("write/files-durable");
        let Closed { opening, ranges, mut written, opened, due } = closed;
        let judging = &opening.judging;
        self.follow.derive(&judging.chain, opening.id, &mut written.files)?;
        let positions: Positions = ranges.iter().map(|(p, (_, to))| (p.clone(), *to)).collect();
        let sinks = std::mem::take(&mut written.files).into_iter().filter(|(_, files)| !files.is_empty());
        let entry = Entry {
            id: opening.id,
            ranges: ranges
                .into_iter()
                .map(|(partition, (from, to))| EntryRange {
                    from,
                    to,
                    topic_id: self.shared.topic_id(&partition),
                    latest_event_time: written.latest_event_time.get(&partition).copied(),
                    ended: self.shared.is_end(&partition, to),
                    partition,
                })
                .collect(),
            counts: written.counts.clone(),
            windows: std::mem::take(&mut written.windows)
                .into_iter()
                .map(|(window, (rows, rejected))| Staged { window, rows, rejected })
                .collect(),
            references: opening.pinned.versions(),
            sinks: sinks
                .map(|(outcome, files)| (outcome, SinkActions { schema: judging.schemas[&outcome].clone(), files }))
                .collect(),
            ..Entry::new(Kind::Rows, judging.hash())
        };
        self.follow.runtime.block_on(async {
            let metrics = &self.shared.metrics;
            let begun = Instant::now();
            let appended = self.follow.ledger.append(&entry).await?;
            metrics.step(Step::Append, begun.elapsed());
            let number = match appended {
                Appended::At(number) => number,
                Appended::Moved { .. } => {
                    self.follow.discard(&entry).await;
                    let fold = self.follow.ledger.fold().await?;
                    // what it staged for a window that is decided comes late now
                    self.shared.hear_closed(&fold);
                    let ours = fold.positions.iter().filter(|(p, _)| positions.contains_key(*p));
                    return Ok(Committed::Moved(ours.map(|(p, at)| (p.clone(), at.offset)).collect()));
                }
            };
            self.shared.hear_active(self.follow.ledger.active().await.as_deref());
            if judging.chain.config.audit.is_some() {
                self.shared.hear_closed(&self.follow.ledger.fold().await?);
            }
            let begun = Instant::now();
            let applied = self.apply(number).await?;
            metrics.step(Step::Apply, begun.elapsed());
            if number.is_multiple_of(GIVE_BACK) {
                memory::give_back();
            }
            if let Some(shadow) = &opening.shadow {
                shadow.landed(number, written.shadow.take()).await;
            }
            let Written { counts, examples, .. } = written;
            let took = opened.elapsed();
            Ok(Committed::At(Box::new(Landed { number, counts, positions, applied, examples, took, due })))
        })
    }

    /// Lets the sinks follow whose turn it is; answers how far each is.
    async fn apply(&self, head: u64) -> Result<BTreeMap<Outcome, Applied>> {
        let sinks = &self.follow.sinks;
        let due: Vec<_> = {
            let lagging = lock(&self.lagging);
            sinks.iter().filter(|sink| lagging.is_due(sink.outcome(), head)).cloned().collect()
        };
        let applied = apply::apply_all(&due, &self.follow.ledger, head).await?;
        let mut lagging = lock(&self.lagging);
        for (outcome, applied) in applied {
            lagging.reached(outcome, applied, head);
        }
        for sink in sinks {
            let waiting = lagging.backlog.waiting(sink.outcome(), head);
            self.shared.metrics.follows(sink.outcome(), waiting, sink.retries());
        }
        Ok(lagging.applied.clone())
    }
}
