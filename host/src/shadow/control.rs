//! Who decides about a shadow: the operator's word as it stands in the state folder, and the rules of the pipeline file.
//!
//! It works on the thread that watches files: candidates are loaded there, off the hot path. In a group every process decides
//! for itself by the same numbers; the ledger lets one promotion win, and the others find it there.

use std::sync::Arc;

use uuid::Uuid;

use super::{Order, Progress, Shadow, State, progress};
use crate::admin::percent;
use crate::chain::Chain;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::generation::{Generation, short};
use crate::ledger::Counts;
use crate::ledger::entry::Cause;
use crate::outcome::Outcome;
use crate::pipeline::{Activated, Follow, Swap, activate_stopped};
use crate::plugin::Engine;
use crate::telemetry::Metrics;

/// Rows after a promotion before their share of errors says anything.
const ENOUGH: u64 = 1_000;

/// Follows the order of a pipeline that runs.
pub struct Control {
    follow: Follow,
    swap: Swap,
    metrics: Arc<Metrics>,
    at_work: Option<Arc<Shadow>>,
    /// an order that is over, so that it is looked at no more
    done: Option<Uuid>,
}

impl Control {
    /// Nothing is looked at yet.
    pub fn new(follow: Follow, swap: Swap, metrics: Arc<Metrics>) -> Control {
        Control { follow, swap, metrics, at_work: None, done: None }
    }

    /// Looks at the order and does what it wants; answers what there is to say. `running` is what judges.
    pub fn look(&mut self, running: &Chain) -> Result<Option<String>> {
        let Some(order) = read(&self.follow)? else { return Ok(None) };
        if self.done == Some(order.id) {
            return Ok(None);
        }
        match &order.state {
            State::Running if self.follow.fold()?.active.as_ref() == Some(&order.candidate) => {
                // it was promoted, and whoever did that died before he could say so here
                end(&self.follow, order, |follow, order| promoted(follow, order, "the ledger says so"))?;
                Ok(None)
            }
            State::Running => self.run(order, running),
            State::Promoted { watched: true, rows, bad, .. } => {
                self.leave();
                let (rows, bad) = (*rows, *bad);
                self.guard(order, running, rows, bad)
            }
            State::Promoted { why, .. } | State::Stopped { why } | State::Undone { why } => {
                let said = self.at_work.as_ref().map(|shadow| {
                    format!("the shadow of generation {} is over: {why}", shadow.chain.generation.short())
                });
                self.leave();
                self.done = Some(order.id);
                Ok(said)
            }
        }
    }

    fn leave(&mut self) {
        if self.at_work.take().is_some() {
            self.swap.shadow(None);
            self.metrics.shadows(None);
        }
    }

    fn run(&mut self, order: Order, running: &Chain) -> Result<Option<String>> {
        if self.at_work.as_ref().is_none_or(|shadow| shadow.order.id != order.id) {
            self.leave();
            return match Shadow::open(order.clone(), running, &self.follow, self.metrics.clone()) {
                Ok(shadow) => {
                    let shadow = Arc::new(shadow);
                    self.swap.shadow(Some(shadow.clone()));
                    self.at_work = Some(shadow);
                    let share = percent(order.share);
                    Ok(Some(format!(
                        "generation {} judges beside, on {share} % of the batches",
                        short(&order.candidate)
                    )))
                }
                Err(error) => {
                    let why = format!("it cannot judge here: {}", error.sentence());
                    self.done = Some(order.id);
                    let said = format!("the shadow of generation {} ends: {why}", short(&order.candidate));
                    stop(&self.follow, order, why)?;
                    Ok(Some(said))
                }
            };
        }
        let mut seen = self.follow.runtime.block_on(progress(&self.follow, &order))?;
        seen.failed = seen.failed.or_else(|| self.at_work.as_ref().and_then(|shadow| shadow.failure()));
        let hash = short(&order.candidate).to_owned();
        match verdict(&order, &seen) {
            Verdict::GoOn => Ok(None),
            Verdict::Stop(why) => {
                let said = format!("the shadow of generation {hash} ends: {why}");
                self.leave();
                self.done = Some(order.id);
                stop(&self.follow, order, why)?;
                Ok(Some(said))
            }
            Verdict::Promote(why) => {
                let chain = self.at_work.as_ref().map(|shadow| shadow.chain.clone());
                let chain = chain.ok_or_else(|| Error::Host("a shadow is promoted that is not at work".into()))?;
                let said = format!("generation {hash} is promoted: {why}");
                self.swap.activate(chain, Cause::Promote)?;
                end(&self.follow, order, |follow, order| promoted(follow, order, &why))?;
                Ok(Some(said))
            }
        }
    }

    /// Watches what a promoted generation makes of as many records as were compared before.
    fn guard(&mut self, mut order: Order, running: &Chain, rows: u64, bad: u64) -> Result<Option<String>> {
        let fold = self.follow.fold()?;
        let (Some(most), Some(after)) = (order.rules.max_errors, order.rules.promote_after) else {
            self.done = Some(order.id);
            return Ok(None);
        };
        if fold.active.as_ref() != Some(&order.candidate) {
            self.done = Some(order.id); // somebody put another one in force meanwhile
            return Ok(None);
        }
        let seen = fold.totals.rows.saturating_sub(rows);
        let wrong = bad_rows(&fold.totals).saturating_sub(bad);
        let percent = wrong as f64 * 100.0 / seen.max(1) as f64;
        if seen >= ENOUGH.min(after) && percent > most {
            let why =
                format!("{wrong} of {seen} rows since its promotion are errors or dead letters, more than {most} %");
            let hash = short(&order.candidate).to_owned();
            let mut before = revive(&self.follow, &order.base, &running.config, &running.engine)?;
            before.parts.references.share(&running.parts.references);
            let said = format!("generation {} is in force again, instead of {hash}: {why}", before.generation.short());
            self.swap.activate(Arc::new(before), Cause::Rollback)?;
            order.state = State::Undone { why };
            self.done = Some(order.id);
            write(&self.follow, &order)?;
            return Ok(Some(said));
        }
        if seen >= after {
            self.done = Some(order.id);
        }
        Ok(None)
    }
}

/// What the rules say.
enum Verdict {
    GoOn,
    Stop(String),
    Promote(String),
}

fn verdict(order: &Order, seen: &Progress) -> Verdict {
    if let Some(why) = &seen.failed {
        return Verdict::Stop(format!("it failed: {why}"));
    }
    let Some(after) = order.rules.promote_after.filter(|after| seen.records >= *after) else { return Verdict::GoOn };
    let (percent, most) = (seen.flipped_percent(), order.rules.max_flips);
    let what = format!("{} of {} records flip, {percent:.3} %", seen.flipped, seen.records);
    if percent <= most {
        Verdict::Promote(format!("after {after} records, {what}, and {most} % may (`[shadow]`)"))
    } else {
        Verdict::Stop(format!("{what}, and {most} % may (`[shadow] max_flips`)"))
    }
}

fn bad_rows(counts: &Counts) -> u64 {
    counts.of(Outcome::Error) + counts.of(Outcome::Dlq)
}

/// The order of a pipeline, running or not.
pub fn read(follow: &Follow) -> Result<Option<Order>> {
    let (store, state) = follow.ledger.place();
    follow.runtime.block_on(Order::read(store, state))
}

/// Replaces it.
pub fn write(follow: &Follow, order: &Order) -> Result<()> {
    let (store, state) = follow.ledger.place();
    follow.runtime.block_on(order.write(store, state))
}

/// Ends a shadow without a promotion.
pub fn stop(follow: &Follow, mut order: Order, why: String) -> Result<()> {
    order.state = State::Stopped { why };
    write(follow, &order)
}

/// Puts the candidate of a shadow in force, whether the pipeline runs or not.
pub fn promote(follow: &Follow, order: Order, today: &Config, engine: &Engine) -> Result<Activated> {
    let chain = revive(follow, &order.candidate, today, engine)?;
    let activated = activate_stopped(follow, Arc::new(chain), Cause::Promote)?;
    end(follow, order, |follow, order| promoted(follow, order, "by an operator"))?;
    Ok(activated)
}

/// The generation with this hash, as it would judge in the pipeline of today.
pub fn revive(follow: &Follow, hash: &str, today: &Config, engine: &Engine) -> Result<Chain> {
    let (store, state) = follow.ledger.place();
    let generation = follow.runtime.block_on(Generation::load(store, state, hash))?;
    Chain::revive(generation, today, engine)
}

fn promoted(follow: &Follow, order: &Order, why: &str) -> Result<State> {
    let totals = follow.fold()?.totals;
    let watched = order.rules.max_errors.is_some();
    Ok(State::Promoted { why: why.to_owned(), rows: totals.rows, bad: bad_rows(&totals), watched })
}

fn end(follow: &Follow, mut order: Order, how: impl FnOnce(&Follow, &Order) -> Result<State>) -> Result<()> {
    order.state = how(follow, &order)?;
    write(follow, &order)
}
