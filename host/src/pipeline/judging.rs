//! One generation at work in a pipeline, and how the next one takes its place.
//!
//! An entry is judged by one generation from its first batch to its last: the loop takes the next one when it opens an entry,
//! and at no other time. Loading and checking happen elsewhere, on whatever thread has the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::Follow;
use super::intake::{Shared, Staged, lock};
use super::shape::Shaper;
use crate::chain::Chain;
use crate::crash;
use crate::error::{Error, Result};
use crate::ledger::entry::{Activation, Cause};
use crate::ledger::{Appended, Entry, Kind};
use crate::outcome::Outcome;
use crate::record::RawBatch;
use crate::reference::Pinned;
use crate::shadow::Shadow;

/// A generation with what its rows need of the sinks.
pub(super) struct Judging {
    pub chain: Arc<Chain>,
    /// Delta's schema JSON of each sink
    pub schemas: BTreeMap<Outcome, serde_json::Value>,
}

/// An entry as its batches see it: all of them are judged alike.
pub(super) struct Opening {
    pub id: Uuid,
    pub judging: Arc<Judging>,
    /// what its rows are joined with
    pub pinned: Pinned,
    /// judges its batches, too
    pub shadow: Option<Arc<Shadow>>,
    /// which windows they have rows for
    pub staged: Arc<Staged>,
}

impl Judging {
    pub fn new(chain: Arc<Chain>) -> Result<Judging> {
        let mut schemas = BTreeMap::new();
        for shaper in shapers(&chain)? {
            schemas.insert(shaper.outcome(), crate::sink::delta::delta_schema(shaper.schema())?);
        }
        for derive in &chain.parts.derives {
            schemas.insert(derive.outcome(), crate::sink::delta::delta_schema(derive.schema())?);
        }
        // read before it judges: an entry that opens must not wait for a table
        chain.parts.references.pinned()?;
        Ok(Judging { chain, schemas })
    }

    pub fn hash(&self) -> &str {
        &self.chain.generation.hash
    }
}

/// The shaper of each sink, in the order in which rows are written.
pub(super) fn shapers(chain: &Chain) -> Result<Vec<Shaper>> {
    let config = &chain.config;
    if config.audit.is_some() != config.sinks.staging.is_some() {
        return Err(Error::Config(format!(
            "generation {} and the pipeline file do not agree on whether rows wait for an audit: `[audit]` and \
             `sink.staging` go together",
            chain.generation.short()
        )));
    }
    let shapers = Outcome::ALL.iter().map(|outcome| Shaper::of(*outcome, &config.sinks, chain.schema()));
    shapers.filter_map(Result::transpose).collect()
}

/// What became of a generation that was to come into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activated {
    /// it is in force, by this `activate` entry
    At(u64),
    /// it was in force already
    Already,
}

/// Puts generations in force while a pipeline runs. Clones speak to the same pipeline.
#[derive(Clone)]
pub struct Swap {
    pub(super) shared: Arc<Shared>,
    pub(super) follow: Follow,
}

impl Swap {
    /// Makes `chain` the generation in force: stores it, appends `activate`, and lets the next entry be judged by it.
    ///
    /// # Errors
    /// Its rows do not fit a table; nothing has changed then.
    pub fn activate(&self, chain: Arc<Chain>, cause: Cause) -> Result<Activated> {
        let (activated, judging) = activate(&self.follow, chain, cause)?;
        self.shared.judge_with(judging);
        Ok(activated)
    }

    /// Hears from the ledger which generation is in force, also where this process has nothing to append.
    pub fn look(&self) -> Result<()> {
        let active = self.follow.fold()?.active;
        self.shared.hear_active(active.as_deref());
        Ok(())
    }

    /// Lets the next entry be judged by `chain`, which the ledger says is in force already: another process activated it.
    pub fn follow(&self, chain: Arc<Chain>) -> Result<()> {
        self.shared.judge_with(prepare(&self.follow, chain)?);
        Ok(())
    }

    /// The generation that the ledger says is in force, where the next entry would not be judged by it.
    pub fn wanted(&self) -> Option<String> {
        lock(&self.shared.turn).wanted.clone()
    }

    /// Lets a candidate judge beside, or none, from the next entry on.
    pub fn shadow(&self, shadow: Option<Arc<Shadow>>) {
        lock(&self.shared.turn).shadow = shadow;
    }

    /// Something was changed from elsewhere in this process: whoever follows looks at once.
    pub fn poke(&self) {
        self.shared.poked.store(true, Ordering::SeqCst);
    }

    /// Whether it was, since this was last asked.
    pub fn was_poked(&self) -> bool {
        self.shared.poked.swap(false, Ordering::SeqCst)
    }

    /// The first records of the entry that was opened last, for trying a candidate; none before the first.
    pub fn sample(&self) -> Option<RawBatch> {
        lock(&self.shared.sample).clone()
    }

    /// Ends the run with an error: it cannot go on with what the ledger says is in force.
    pub fn give_up(&self, error: Error) {
        lock(&self.shared.trouble).get_or_insert(error);
        self.shared.stop.stop();
    }
}

/// Makes `chain` the generation in force, whether the pipeline runs or not: running processes follow at their next entry.
pub fn activate_stopped(follow: &Follow, chain: Arc<Chain>, cause: Cause) -> Result<Activated> {
    Ok(activate(follow, chain, cause)?.0)
}

pub(super) fn activate(follow: &Follow, chain: Arc<Chain>, cause: Cause) -> Result<(Activated, Arc<Judging>)> {
    let judging = prepare(follow, chain)?;
    crash::point("activate/stored");
    loop {
        let fold = follow.fold()?;
        // the file's word is written down also where an operator was faster: it counts as unchanged from now on
        let is_said = cause != Cause::File || fold.proposed.as_deref() == Some(judging.hash());
        if fold.active.as_deref() == Some(judging.hash()) && is_said {
            return Ok((Activated::Already, judging));
        }
        let activation = Activation { cause, previous: fold.active };
        let activate = Entry { activation: Some(activation), ..Entry::new(Kind::Activate, judging.hash()) };
        match follow.runtime.block_on(follow.ledger.append(&activate))? {
            Appended::At(number) => {
                crash::point("activate/appended");
                return Ok((Activated::At(number), judging));
            }
            // another process was faster; what it put in force is what this one replaces
            Appended::Moved { .. } => {}
        }
    }
}

/// Nothing refers to a generation before it is stored, and none whose rows do not fit the tables comes into force.
pub(super) fn prepare(follow: &Follow, chain: Arc<Chain>) -> Result<Arc<Judging>> {
    for shaper in shapers(&chain)? {
        let sink = follow.sinks.iter().find(|sink| sink.outcome() == shaper.outcome());
        let sink = sink.ok_or_else(|| {
            Error::Config(format!("`sink.{}` is new: stop the pipeline, and start it again", shaper.outcome()))
        })?;
        follow.runtime.block_on(sink.check(shaper.schema()))?;
    }
    let begun = if chain.parts.derives.is_empty() { BTreeMap::new() } else { follow.fold()?.tables };
    for derive in &chain.parts.derives {
        let outcome = derive.outcome();
        let sink = follow.sinks.iter().find(|sink| sink.outcome() == outcome && begun.contains_key(&outcome));
        let sink = sink.ok_or_else(|| {
            let why = "is a new table, and tables begin when a run does: start or restart it";
            Error::Config(format!("{outcome} {why}"))
        })?;
        follow.runtime.block_on(sink.check(derive.schema()))?;
    }
    let (store, state) = follow.ledger.place();
    follow.runtime.block_on(chain.generation.store(store, state))?;
    Ok(Arc::new(Judging::new(chain)?))
}

/// What judges, what will, and what should.
#[derive(Default)]
pub(super) struct Turn {
    /// hash of the generation that judges the open entry, or the last one
    pub judging: String,
    /// what the next entry is judged by, where that is another generation
    pub next: Option<Arc<Judging>>,
    /// hash of the generation in force, where nobody here has it ready
    pub wanted: Option<String>,
    /// judges beside
    pub shadow: Option<Arc<Shadow>>,
}

impl Shared {
    /// The next entry is judged by this.
    fn judge_with(&self, judging: Arc<Judging>) {
        *lock(&self.auditing) = Some(judging.chain.clone());
        *lock(&self.references) = judging.chain.parts.references.clone();
        let mut turn = lock(&self.turn);
        turn.wanted.take_if(|wanted| wanted == judging.hash());
        let is_other = turn.judging != judging.hash();
        turn.next = is_other.then_some(judging);
    }

    /// Hears which generation is in force.
    pub fn hear_active(&self, active: Option<&str>) {
        let mut turn = lock(&self.turn);
        let coming = turn.next.as_ref().map_or(turn.judging.as_str(), |judging| judging.hash());
        turn.wanted = active.filter(|active| *active != coming).map(str::to_owned);
    }

    /// What judges the entry that is opened now, where that changes.
    pub fn next_judging(&self) -> Option<Arc<Judging>> {
        let mut turn = lock(&self.turn);
        let next = turn.next.take()?;
        next.hash().clone_into(&mut turn.judging);
        Some(next)
    }

    /// What judges the entry beside that is opened now.
    pub fn beside(&self) -> Option<Arc<Shadow>> {
        let turn = lock(&self.turn);
        let is_other = |shadow: &&Arc<Shadow>| shadow.chain.generation.hash != turn.judging && !shadow.has_failed();
        turn.shadow.as_ref().filter(is_other).cloned()
    }
}
