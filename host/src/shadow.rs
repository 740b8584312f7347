//! A candidate generation beside the one in force, on the same batches: what it would do otherwise, and nothing else.
//!
//! ```text
//! batch ──► the generation in force ──► tables
//!      └──► the candidate ──► compared ──► differences (a Delta table under the state folder), numbers, metrics
//! ```
//!
//! What is wanted stands in one object of the state folder ([`Order`]), so that every process of a group takes part and a
//! restart goes on. Each process keeps its own numbers ([`Progress`]) and appends its own differences, after the ledger's
//! entry: a process that is killed in between loses the differences of one entry, and never doubles any. A candidate that
//! fails ends its shadow and nothing else. It routes nothing and writes no row of the pipeline.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use object_store::path::Path;
use uuid::Uuid;

use crate::chain::Chain;
use crate::compare::Summary;
use crate::config::{Config, Location};
use crate::error::Result;
use crate::generation::Generation;
use crate::ledger::FileAction;
use crate::outcome::Outcome;
use crate::pipeline::Follow;
use crate::sink::delta::{DeltaSink, delta_schema};
use crate::sink::{FileTarget, Sink};
use crate::telemetry::Metrics;

pub mod control;
pub mod differences;
mod order;
mod progress;

pub use order::{Order, Rules, State};
pub use progress::{Progress, Side};

/// A shadow at work in this process.
pub struct Shadow {
    /// what was asked for
    pub order: Order,
    /// the candidate
    pub chain: Arc<Chain>,
    table: DeltaSink,
    schema: SchemaRef,
    delta_schema: serde_json::Value,
    follow: Follow,
    metrics: Arc<Metrics>,
    /// whose numbers these are
    process: Uuid,
    progress: Mutex<Progress>,
    failed: AtomicBool,
}

/// What one worker saw for one entry.
#[derive(Debug, Default)]
pub struct Seen {
    /// the differences in numbers
    pub summary: Summary,
    /// batches that were judged twice
    pub batches: u64,
    /// what judging them cost
    pub active: Side,
    /// and what it cost the candidate
    pub candidate: Side,
    /// durable files with the differences
    pub files: Vec<FileAction>,
}

impl Seen {
    /// Adds what another worker saw for the same entry.
    pub fn merge(&mut self, other: Seen) {
        self.summary.merge(other.summary);
        self.batches += other.batches;
        self.active.add(other.active);
        self.candidate.add(other.candidate);
        self.files.extend(other.files);
    }
}

impl Shadow {
    /// Loads the candidate and makes its table. Off the hot path: components may have to be compiled.
    ///
    /// # Errors
    /// The candidate cannot judge here any more: its code is gone, or its rows cannot be made.
    pub fn open(order: Order, today: &Chain, follow: &Follow, metrics: Arc<Metrics>) -> Result<Shadow> {
        let (store, state) = follow.ledger.place();
        let generation = follow.runtime.block_on(Generation::load(store, state, &order.candidate))?;
        let mut chain = Chain::revive(generation, &today.config, &today.engine)?;
        chain.parts.references.share(&today.parts.references);
        // read here: who judges must not wait for a table
        chain.parts.references.pinned()?;
        let location = place(&today.config, &order.id);
        let prefix = folder(state, &order.id).join(TABLE);
        let pipeline = format!("{}/shadow", today.config.name);
        let table = DeltaSink::new(Outcome::Valid, location, store.clone(), prefix, Vec::new(), &pipeline);
        let schema = differences::schema();
        follow.runtime.block_on(table.create(&schema))?;
        metrics.shadows(Some(chain.generation.short()));
        Ok(Shadow {
            order,
            chain: Arc::new(chain),
            table,
            delta_schema: delta_schema(&schema)?,
            schema,
            follow: follow.clone(),
            metrics,
            process: Uuid::now_v7(),
            progress: Mutex::default(),
            failed: AtomicBool::new(false),
        })
    }

    /// Where its files go before an entry lands.
    pub fn files(&self) -> FileTarget {
        self.table.files()
    }

    /// The columns of a difference.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The candidate cannot go on: it is not asked any more, and the order's end says why.
    pub fn fail(&self, why: String) {
        if !self.failed.swap(true, Ordering::SeqCst) {
            tracing::warn!(generation = self.chain.generation.short(), why, "the shadow failed");
            self.progress.lock().unwrap_or_else(PoisonError::into_inner).failed = Some(why);
        }
    }

    /// Whether it judges no more.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Why it judges no more; `None` while it does.
    pub fn failure(&self) -> Option<String> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }

    /// An entry is in the ledger: what was seen for it counts. What cannot be kept fails the shadow, and not the pipeline.
    pub async fn landed(&self, entry: u64, seen: Option<Seen>) {
        if let Some(seen) = &seen {
            self.metrics.shadowed(seen);
            if !seen.files.is_empty()
                && let Err(error) = self.table.append(&seen.files, &self.delta_schema, entry).await
            {
                self.fail(format!("its differences cannot be kept: {}", error.sentence()));
            }
        }
        let progress = {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            seen.iter().for_each(|seen| progress.count(seen));
            progress.clone()
        };
        let (store, state) = self.follow.ledger.place();
        if let Err(error) = progress.write(store, &folder(state, &self.order.id), self.process).await {
            tracing::warn!(error = error.sentence(), "the shadow's numbers were not kept; the next entry's are");
        }
    }
}

/// The folder's name of the differences.
const TABLE: &str = "differences";

/// What is kept of one order.
fn folder(state: &Path, order: &Uuid) -> Path {
    state.clone().join("shadow").join(order.to_string())
}

/// Where the differences of an order can be read.
pub fn place(config: &Config, order: &Uuid) -> Location {
    let mut url = config.state.url.clone();
    let path = format!("{}/shadow/{order}/{TABLE}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Location { written: format!("{}/shadow/{order}/{TABLE}", config.state.written.trim_end_matches('/')), url }
}

/// The numbers of every process that took part in an order.
pub async fn progress(follow: &Follow, order: &Order) -> Result<Progress> {
    let (store, state) = follow.ledger.place();
    Progress::read(store, &folder(state, &order.id)).await
}
