//! The loop: read, judge, write, commit.
//!
//! ```text
//! source thread ──batches──► loop ──► workers (judge, shape, write files)
//!       ▲  seek, applied      │  ▲        │
//!       └─────────────────────┘  └────────┴──► committer (append to the ledger, apply every sink)
//! ```
//!
//! An *entry* is open while batches go to the workers. When it is due, every worker closes its files; the committer appends
//! the entry and lets the sinks follow, while the workers are already busy with the next one. Every queue is bounded:
//! with one entry open and one on its way, the loop takes no more batches.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};

use crate::chain::Chain;
use crate::config::EnrichConfig;
use crate::error::{Error, Result};
use crate::ledger::entry::Cause;
use crate::ledger::{Appended, Counts, Entry, Kind};
use crate::outcome::Outcome;
use crate::plugin::PROBES;
use crate::record::{Positions, TopicPartition};
use crate::source::Source;
use crate::telemetry::Metrics;

mod beside;
mod commit;
mod intake;
mod judging;
mod refresh;
pub mod replay;
pub mod shape;
mod turn;
mod underway;
pub mod worker;

use commit::{Closed, Committed, Committer, Lagging};
pub use commit::{Follow, Landed};
use intake::{Gate, Offered, Shared, Word};
use judging::Judging;
pub use judging::{Activated, Swap, activate_stopped};
pub use refresh::Refreshed;
use refresh::Refresher;
use turn::{Done, Loop, Work, calmly, work_off};
pub use underway::Underway;
pub use worker::Example;
use worker::{Place, Worker};

/// Stack of a thread that runs guests: their frames come on top of ours.
const WORKER_STACK: usize = 8 << 20;

/// Batches that wait between source and workers; with one in each worker's hands that is all there is in memory.
const QUEUE: usize = 2;

/// How one run behaves; what the pipeline *is* stands in its file.
#[derive(Clone, Debug)]
pub struct Options {
    /// stop when the source has nothing more for now
    pub until_end: bool,
    /// threads that judge
    pub workers: usize,
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// what became of the records that this run consumed
    pub counts: Counts,
    /// number of the last entry that it appended
    pub head: Option<u64>,
    /// entries that it appended
    pub entries: u64,
    /// hash of the generation that judged last
    pub generation: String,
    /// the first dead letter of each kind
    pub examples: BTreeMap<String, Example>,
}

/// What happens while a pipeline runs, for whoever watches.
pub enum Happening<'a> {
    /// the partitions that the source now reads, and the records that it still has of each
    Assigned(&'a BTreeMap<TopicPartition, u64>),
    /// an entry is in the ledger and in every sink; records that the source still has
    Landed(&'a Landed, u64),
    /// another process moved a position: an entry was dropped and its records are judged again
    Dropped,
    /// a reference table has a new version, which the next entry takes; or it cannot be read, and stays as it is
    Refreshed(&'a Refreshed),
}

/// Asks a run to stop: it commits what it has and returns.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Flush and stop.
    pub fn stop(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it was asked to stop.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// How long plugins may keep a batch at the most: as many probes as isolating may cost, each as long as the limit allows.
fn patience(chain: &Chain) -> Duration {
    let plugins = chain.config.enrich.iter().filter_map(|enricher| match enricher {
        EnrichConfig::Sql { .. } | EnrichConfig::Reference(_) => None,
        EnrichConfig::Plugin(plugin) => Some(&**plugin),
    });
    plugins.chain(&chain.config.rules).map(|plugin| plugin.limits.time * PROBES).sum()
}

/// A pipeline that is ready to run: tables exist, the ledger is read, every sink has caught up.
pub struct Pipeline {
    judging: Arc<Judging>,
    follow: Follow,
    shared: Arc<Shared>,
    lagging: Lagging,
    /// the ledger's last entry, in every sink
    head: u64,
}

impl Pipeline {
    /// Stores the generation, creates missing tables and brings every sink up to the ledger's head. `stop` ends the run from elsewhere,
    /// `metrics` hear what happens.
    pub fn open(chain: Arc<Chain>, follow: Follow, stop: Stop, metrics: Arc<Metrics>) -> Result<Pipeline> {
        let fold = follow.runtime.block_on(follow.ledger.fold())?;
        if let (None, Some((key, _))) = (&chain.config.audit, fold.windows.first_key_value()) {
            return Err(Error::Config(format!(
                "{} windows wait in staging ({key} is the first): keep `[audit]` and `sink.staging` until they are \
                 decided, see `sluice audit list`",
                fold.windows.len()
            )));
        }
        let mut tables = BTreeMap::new();
        let mut missing = Vec::new();
        let shaped = judging::shapers(&chain)?.into_iter().map(|shaper| (shaper.outcome(), shaper.schema().clone()));
        let derived = chain.parts.derives.iter().map(|derive| (derive.outcome(), derive.schema().clone()));
        let mut schemas: BTreeMap<_, _> = shaped.chain(derived).collect();
        for sink in &follow.sinks {
            let outcome = sink.outcome();
            let Some(schema) = schemas.remove(&outcome) else { continue };
            // also where the table is bound: an entry that does not fit it could never be applied
            follow.runtime.block_on(sink.check(&schema))?;
            if !fold.tables.contains_key(&outcome) {
                let mark = follow.runtime.block_on(sink.mark())?.unwrap_or(0);
                if mark > fold.head {
                    return Err(Error::Diverged(format!(
                        "{outcome} ({}) holds ledger entry {mark}, but the ledger in {} ends at entry {}: the ledger was lost. Put it \
                         back from a copy; `sluice adopt` goes on from what the tables hold",
                        sink.location(),
                        chain.config.state.written,
                        fold.head
                    )));
                }
                missing.push((sink, schema));
            }
        }
        // whatever a table lacks is said before anything is written
        let judging = Arc::new(Judging::new(chain.clone())?);
        // before any entry refers to it
        let (store, state) = follow.ledger.place();
        follow.runtime.block_on(chain.generation.store(store, state))?;
        // only after every table was looked at: nothing is written where one of them is refused
        for (sink, schema) in missing {
            tables.insert(sink.outcome(), follow.runtime.block_on(sink.create(&schema))?);
        }
        if !tables.is_empty() {
            let start = Entry { tables, ..Entry::new(Kind::Start, &chain.generation.hash) };
            if let Appended::Moved { .. } = follow.runtime.block_on(follow.ledger.append(&start))? {
                return Err(Error::Host("an entry without partitions cannot find them moved".into()));
            }
        }
        let before = follow.fold()?.active;
        if before.as_ref().is_some_and(|active| *active != chain.generation.hash) {
            judging::activate(&follow, chain.clone(), Cause::File)?;
        }
        let (fold, applied) = follow.catch_up()?;
        let shared = Shared::new(stop, metrics);
        shared.hear_closed(&fold);
        chain.generation.hash.clone_into(&mut intake::lock(&shared.turn).judging);
        *intake::lock(&shared.references) = chain.parts.references.clone();
        Ok(Pipeline {
            judging,
            follow,
            shared: Arc::new(shared),
            lagging: Lagging::new(fold.head, applied),
            head: fold.head,
        })
    }

    /// Puts other generations in force while it runs.
    pub fn swap(&self) -> Swap {
        Swap { shared: self.shared.clone(), follow: self.follow.clone() }
    }

    /// Runs until the source ends or [`Stop::stop`]; everything that was consumed is committed on return.
    pub fn run(self, source: &mut dyn Source, options: &Options, watch: &mut dyn FnMut(Happening)) -> Result<Ran> {
        let workers = options.workers.max(1);
        let (batches, offered) = bounded::<Offered>(QUEUE);
        let (words, heard) = unbounded::<Word>();
        let (work, queue) = bounded::<Work>(workers * 2);
        let (results, done) = unbounded::<Done>();
        let (close, closed) = bounded::<Closed>(1);
        let (committed, landed) = unbounded::<Result<Committed>>();
        let places: Vec<Place> = Outcome::ALL
            .iter()
            .filter_map(|&outcome| self.follow.sinks.iter().find(|s| s.outcome() == outcome))
            .map(|sink| Place { outcome: sink.outcome(), target: sink.files() })
            .collect();
        let (shared, chain) = (self.shared, &self.judging.chain);
        let metrics = shared.metrics.clone();
        metrics.judges(chain);
        metrics.bounds(workers, QUEUE + workers * 2 + 1, intake::MOST_BYTES);
        metrics.caught_up(self.head);
        metrics.health.running(patience(chain));
        let gate = Gate { shared: shared.clone(), batches, words: words.clone(), follow: self.follow.clone() };
        let committer = Committer { follow: self.follow.clone(), shared: shared.clone(), lagging: self.lagging.into() };
        let barrier = Arc::new(Barrier::new(workers));
        thread::scope(|scope| {
            for n in 0..workers {
                let mut worker =
                    Worker::new(&self.judging, places.clone(), shared.clone(), self.follow.runtime.clone())?;
                let (queue, results, barrier) = (queue.clone(), results.clone(), barrier.clone());
                let metrics = metrics.clone();
                thread::Builder::new()
                    .name(format!("judge-{n}"))
                    .stack_size(WORKER_STACK)
                    .spawn_scoped(scope, move || work_off(n, &mut worker, &queue, &results, &barrier, &metrics))
                    .map_err(|e| Error::environment("cannot start a thread", e))?;
            }
            drop(results);
            scope.spawn(move || {
                for entry in closed {
                    if committed.send(calmly("commits", || committer.commit(entry))).is_err() {
                        return;
                    }
                }
            });
            let until_end = options.until_end;
            // closed when the loop has ended, so that nobody waits for a turn
            let (_running, over) = bounded::<()>(0);
            let refresher = Refresher { shared: shared.clone(), follow: self.follow.clone(), words: words.clone() };
            scope.spawn(move || {
                if let Err(error) = calmly("refreshes reference tables", || {
                    refresher.run(&over);
                    Ok(())
                }) {
                    tracing::error!(%error, "reference tables are not refreshed any more");
                }
            });
            scope.spawn(move || {
                let _ = words.send(Word::Ended(calmly("reads", || source.run(&gate, until_end))));
            });
            let mut run = Loop {
                shared: &shared,
                commit: chain.config.commit,
                judging: self.judging.clone(),
                workers,
                work,
                done,
                close,
                open: None,
                closing: None,
                committing: false,
                under_way: 0,
                epoch: 0,
                next: Positions::new(),
                torn: 0,
                flushing: Vec::new(),
                ended: false,
                failed: None,
                ran: Ran::default(),
            };
            run.run(&offered, &heard, &landed, watch);
            // from here on the source gets no room and sees that it should stop
            shared.stop.stop();
            let Loop { failed, mut ran, judging, .. } = run;
            judging.hash().clone_into(&mut ran.generation);
            let trouble = intake::lock(&shared.trouble).take();
            failed.or(trouble).map_or(Ok(ran), Err)
        })
    }
}
