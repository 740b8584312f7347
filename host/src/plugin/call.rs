//! Calling a plugin with a batch: cut into calls, retried once, isolated where it fails again.
//!
//! A verdict depends on its row alone, so cutting, retrying and halving change nothing but the time it takes. `Err` is
//! for the pipeline that must stop; a row at which the plugin fails is a [`DeadRow`].

use std::cell::Cell;
use std::collections::BTreeMap;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, new_empty_array};
use arrow::compute::concat;

use super::answer::{Enriched, RawFinding};
use super::breaker::Breaker;
use super::describe::Instances;
use super::isolate::{Budget, Cost, isolate};
use super::pass::{Passed, Prepared};
use super::sandbox::{Failure, Instance};
use super::{Kind, Plugin};
use crate::config::OnFailure;
use crate::error::{Error, Result};
use crate::outcome::{Finding, Reason};
use crate::record::Batch;
use crate::reference::Pinned;

/// Calls that a batch may spend on isolating. One poison row among 4096 costs 24 at most; a plugin that needs more for one
/// batch has itself failed.
pub const PROBES: u32 = 64;
/// What a call counts that ran into its time or fuel: 16 of them at most, since each may take `limits.time`. One such
/// row among 4096 costs 60.
pub(super) const TIMEOUT_COST: u32 = 4;
/// Calls after which a reused instance is replaced: its memory only grows, and 3 ms for a new one vanish in them.
const RECYCLE: u32 = 256;
/// Rows at which a plugin fails may come in every batch; a line each would bury the log. All of them are counted.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// What a finding takes beside its detail: in memory, and once more as it is stored.
pub const FINDING: usize = 192;

impl Cost for Failure {
    fn cost(&self) -> u32 {
        if self.reason == Reason::PluginTimeout { TIMEOUT_COST } else { 1 }
    }
}

/// A row that the plugin could not judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadRow {
    /// index of the row in the batch
    pub row: u32,
    /// why
    pub reason: Reason,
    /// what a person needs; clean, at most 1 KiB
    pub detail: String,
}

/// What a rule said about a batch.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// by row
    pub findings: Vec<Finding>,
    /// by row
    pub dead: Vec<DeadRow>,
}

/// What an enricher made of a batch.
#[derive(Clone, Debug, Default)]
pub struct Added {
    /// the input row of each output row, ascending; dead rows are not among them
    pub rows: Vec<u32>,
    /// the added columns, one value per output row, in the order of [`Plugin::adds`]
    pub columns: Vec<ArrayRef>,
    /// by row
    pub dead: Vec<DeadRow>,
}

/// One thread's way to call one plugin.
pub struct Caller {
    plugin: Arc<Plugin>,
    breaker: Arc<Breaker>,
    live: Live,
    /// when rows at which the plugin failed were last worth a warning
    warned: Option<Instant>,
}

/// What was done with a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// time spent in it, passing and checking included
    pub busy: Duration,
    /// rows that it was asked about
    pub rows: u64,
    /// calls, retries and probes included
    pub calls: u64,
    /// fuel that the calls burnt
    pub fuel: u64,
    /// bytes of columns that were passed, each row once
    pub passed: u64,
    /// the most bytes of memory that an instance had
    pub memory: usize,
    /// calls that failed, by reason
    pub failures: BTreeMap<Reason, u64>,
}

/// The instance that is kept between calls, where the plugin asks for that.
#[derive(Default)]
struct Live {
    instance: Option<Instance>,
    /// calls of `instance`
    calls: u32,
    /// what it may look up
    pinned: Pinned,
    tally: Tally,
    /// overrules what the plugin asks for
    instances: Option<Instances>,
}

/// What a batch came to before it has a kind.
struct Ran<T> {
    /// in the order of rows
    answers: Vec<(Range<usize>, T)>,
    dead: Vec<DeadRow>,
}

impl Caller {
    /// A caller for one thread; the breaker is shared by all threads that call the plugin.
    pub fn new(plugin: Arc<Plugin>, breaker: Arc<Breaker>) -> Self {
        Caller { plugin, breaker, live: Live::default(), warned: None }
    }

    /// Runs instances in this way, whatever the plugin asks for: to compare.
    pub fn with_instances(mut self, instances: Instances) -> Self {
        self.live.instances = Some(instances);
        self
    }

    /// The plugin that is called.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// Lends these reference tables from now on.
    pub fn pin(&mut self, pinned: &Pinned) {
        self.live.pinned = pinned.clone();
    }

    /// Bytes of memories and tables of the instance that is kept between calls; 0 where there is none.
    pub fn memory(&self) -> usize {
        self.live.instance.as_ref().map_or(0, Instance::memory)
    }

    /// What was done with the plugin since this was last asked.
    pub fn take_tally(&mut self) -> Tally {
        mem::take(&mut self.live.tally)
    }

    /// Lets a rule judge a batch. `Err` when the breaker stops the pipeline.
    pub fn check(&mut self, batch: &Batch) -> Result<Checked> {
        self.check_within(batch, usize::MAX).map(|checked| checked.expect("nothing is larger than all of memory"))
    }

    /// The same; `None` where the findings take more than `most` bytes.
    pub fn check_within(&mut self, batch: &Batch, most: usize) -> Result<Option<Checked>> {
        self.expect(Kind::Rule)?;
        let weigh = |found: &Vec<RawFinding>| {
            let details = found.iter().filter_map(|finding| finding.detail.as_ref()).map(String::len);
            details.sum::<usize>() + found.len() * FINDING
        };
        let call = |instance: &mut Instance, plugin: &Plugin, rows, columns: &[Passed]| {
            instance.check(rows, columns, &plugin.described, &plugin.template.limits)
        };
        let Some(ran) = self.run(batch, call, weigh, most)? else { return Ok(None) };
        let mut findings = Vec::with_capacity(ran.answers.iter().map(|(_, found)| found.len()).sum());
        for (range, found) in ran.answers {
            findings.extend(found.into_iter().map(|raw| self.finding(raw, range.start)));
        }
        Ok(Some(Checked { findings, dead: ran.dead }))
    }

    /// Lets an enricher add to a batch. `Err` when the breaker stops the pipeline.
    pub fn enrich(&mut self, batch: &Batch) -> Result<Added> {
        self.enrich_within(batch, usize::MAX).map(|added| added.expect("nothing is larger than all of memory"))
    }

    /// The same; `None` where the added columns take more than `most` bytes.
    pub fn enrich_within(&mut self, batch: &Batch, most: usize) -> Result<Option<Added>> {
        self.expect(Kind::Enricher)?;
        let weigh = |enriched: &Enriched| {
            let columns: usize = enriched.columns.iter().map(|column| column.get_array_memory_size()).sum();
            columns + enriched.rows.len() * size_of::<u32>()
        };
        let call = |instance: &mut Instance, plugin: &Plugin, rows, columns: &[Passed]| {
            instance.enrich(rows, columns, &plugin.described, &plugin.template.limits)
        };
        let Some(ran) = self.run(batch, call, weigh, most)? else { return Ok(None) };
        let rows =
            ran.answers.iter().flat_map(|(range, e)| e.rows.iter().map(|row| row + range.start as u32)).collect();
        Ok(Some(Added { rows, columns: self.join(&ran.answers)?, dead: ran.dead }))
    }

    /// No row is judged: what the rule finds on them is too much.
    pub fn find_nothing(&self, batch: &Batch, most: usize) -> Checked {
        let detail = format!("its findings on the rows of this record take more than {most} bytes");
        Checked { findings: Vec::new(), dead: too_much(batch, &detail) }
    }

    /// No row is enriched: what would be added to them is too much.
    pub fn add_nothing(&self, batch: &Batch, most: usize) -> Added {
        let detail = format!("it adds more than {most} bytes to the rows of this record");
        let columns = self.plugin.adds().iter().map(|field| new_empty_array(field.data_type())).collect();
        Added { rows: Vec::new(), columns, dead: too_much(batch, &detail) }
    }

    fn expect(&self, kind: Kind) -> Result<()> {
        if self.plugin.kind == kind {
            return Ok(());
        }
        Err(Error::Host(format!("plugin `{}` was called as {kind}", self.plugin.name)))
    }

    /// The added columns of all calls, end to end.
    fn join(&self, answers: &[(Range<usize>, Enriched)]) -> Result<Vec<ArrayRef>> {
        self.plugin
            .adds()
            .iter()
            .enumerate()
            .map(|(i, field)| {
                let parts: Vec<&dyn Array> = answers.iter().map(|(_, e)| e.columns[i].as_ref()).collect();
                match parts.as_slice() {
                    [] => Ok(new_empty_array(field.data_type())),
                    [_] => Ok(Arc::clone(&answers[0].1.columns[i])),
                    parts => concat(parts).map_err(|e| {
                        let problem = format!("adds too much to one batch as `{}`: {e}", field.name());
                        Error::plugin(&*self.plugin.name, problem)
                    }),
                }
            })
            .collect()
    }

    fn finding(&self, raw: RawFinding, first: usize) -> Finding {
        let code = &self.plugin.codes[usize::from(raw.code)];
        Finding {
            row: raw.row + first as u32,
            rule: Arc::clone(&self.plugin.name),
            code: Arc::clone(&code.code),
            severity: code.severity,
            column: raw.column.map(|column| Arc::clone(&self.plugin.reads[usize::from(column)])),
            detail: raw.detail,
        }
    }

    fn run<T>(
        &mut self,
        batch: &Batch,
        call: impl Fn(&mut Instance, &Plugin, usize, &[Passed]) -> Result<T, Failure>,
        weigh: impl Fn(&T) -> usize,
        most: usize,
    ) -> Result<Option<Ran<T>>> {
        let begun = Instant::now();
        let ran = self.judge(batch, call, weigh, most);
        self.live.tally.busy += begun.elapsed();
        self.live.tally.rows += batch.len() as u64;
        ran
    }

    fn judge<T>(
        &mut self,
        batch: &Batch,
        call: impl Fn(&mut Instance, &Plugin, usize, &[Passed]) -> Result<T, Failure>,
        weigh: impl Fn(&T) -> usize,
        most: usize,
    ) -> Result<Option<Ran<T>>> {
        let Caller { plugin, breaker, live, warned } = self;
        let mut ran = Ran { answers: Vec::new(), dead: Vec::new() };
        if batch.is_empty() {
            return Ok(Some(ran));
        }
        if let Some(why) = breaker.tripped() {
            ran.dead = give_up(plugin, breaker.then(), 0..batch.len(), &why)?;
            return Ok(Some(ran));
        }
        let prepared = Prepared::new(batch, &plugin.described.columns, &plugin.present)?;
        live.tally.passed += prepared.bytes(0..batch.len()) as u64;
        let weight = Cell::new(0usize);
        let mut judge = |rows: Range<usize>| -> Result<T, Failure> {
            let answer = live.call(plugin, &prepared, rows, &call)?;
            weight.set(weight.get().saturating_add(weigh(&answer)));
            Ok(answer)
        };
        let mut budget = Budget(PROBES);
        let mut culprits: Vec<(usize, Failure)> = Vec::new();
        let mut tripped = None;
        let mut failed = false;
        for piece in prepared.pieces(&plugin.template.limits) {
            let mut left = Vec::new();
            match judge(piece.clone()) {
                Ok(answer) => ran.answers.push((piece.clone(), answer)),
                // the probes are used up: no more searching, but what the plugin can judge it may
                Err(failure) if budget.0 == 0 => left.push((piece.clone(), failure)),
                // a new instance, once more
                Err(_) => match judge(piece.clone()) {
                    Ok(answer) => ran.answers.push((piece.clone(), answer)),
                    Err(failure) if piece.len() == 1 => culprits.push((piece.start, failure)),
                    Err(failure) => {
                        let found = isolate(piece.clone(), failure, &mut budget, &mut judge);
                        ran.answers.extend(found.answers);
                        culprits.extend(found.culprits);
                        left = found.left;
                    }
                },
            }
            if weight.get() > most {
                return Ok(None);
            }
            let Some((_, last)) = left.last() else { continue };
            failed = true;
            tripped = breaker.failed(&reasons(last));
            // a pipeline that should rather stop gives up no row for a plugin's sake: the plugin is called with what is left
            // until it answers, or has failed as often as is tolerated
            while let (None, OnFailure::Stop, Some((rows, _))) = (&tripped, breaker.then(), left.last().cloned()) {
                match judge(rows.clone()) {
                    Ok(answer) => {
                        ran.answers.push((rows, answer));
                        left.pop();
                    }
                    Err(failure) => tripped = breaker.failed(&reasons(&failure)),
                }
            }
            for (rows, failure) in left {
                let detail = reasons(&failure);
                ran.dead.extend(rows.map(|row| dead(row, Reason::PluginFailed, &detail)));
            }
            if let Some(why) = &tripped {
                ran.dead.extend(give_up(plugin, breaker.then(), piece.end..batch.len(), why)?);
                break;
            }
        }
        if !ran.answers.is_empty() {
            breaker.judged();
        } else if let Some((_, failure)) = culprits.last().filter(|_| !failed) {
            tripped = breaker.failed(&reasons(failure));
            if let Some(why) = &tripped {
                give_up(plugin, breaker.then(), 0..0, why)?; // every row is a culprit already
            }
        }
        ran.dead.extend(culprits.into_iter().map(|(row, failure)| dead(row, failure.reason, &failure.detail)));
        ran.dead.sort_by_key(|dead| dead.row);
        ran.answers.sort_by_key(|(rows, _)| rows.start);
        if let Some(first) = ran.dead.first() {
            let (plugin, rows, reason) = (&*plugin.name, ran.dead.len(), first.reason.as_str());
            match tripped {
                Some(why) => tracing::error!(plugin, rows, why, "a plugin is not called any more; its rows are dead"),
                None if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) => {
                    *warned = Some(Instant::now());
                    tracing::warn!(plugin, rows, reason, detail = first.detail, "a plugin failed on rows");
                }
                None => tracing::debug!(plugin, rows, reason, detail = first.detail, "a plugin failed on rows again"),
            }
        }
        Ok(Some(ran))
    }
}

impl Live {
    fn call<T>(
        &mut self,
        plugin: &Plugin,
        prepared: &Prepared,
        rows: Range<usize>,
        call: impl Fn(&mut Instance, &Plugin, usize, &[Passed]) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.tally.calls += 1;
        let answer = self.try_call(plugin, prepared, rows, call);
        answer.inspect_err(|failure| *self.tally.failures.entry(failure.reason).or_default() += 1)
    }

    fn try_call<T>(
        &mut self,
        plugin: &Plugin,
        prepared: &Prepared,
        rows: Range<usize>,
        call: impl Fn(&mut Instance, &Plugin, usize, &[Passed]) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => {
                let (instance, said) = Instance::start(&plugin.template)?;
                if said != plugin.described {
                    let text = "configure answers otherwise than when the plugin was loaded";
                    return Err(Failure::new(Reason::PluginOutput, text));
                }
                self.calls = 0;
                instance
            }
        };
        instance.lend(&self.pinned);
        let len = rows.len();
        let answer = call(&mut instance, plugin, len, &prepared.slice(rows));
        self.tally.fuel += instance.burnt();
        self.tally.memory = self.tally.memory.max(instance.memory());
        // an instance that fails is dropped here, with its store
        let answer = answer?;
        self.calls += 1;
        let instances = self.instances.unwrap_or(plugin.described.instances);
        if instances == Instances::Reused && self.calls < RECYCLE {
            self.instance = Some(instance);
        }
        Ok(answer)
    }
}

/// What becomes of rows when the breaker is open: the pipeline stops, or they are dead.
fn give_up(plugin: &Plugin, then: OnFailure, rows: Range<usize>, why: &str) -> Result<Vec<DeadRow>> {
    match then {
        OnFailure::Stop => Err(Error::plugin(
            &*plugin.name,
            format!(
                "{why}; nothing of this batch is committed: mend the plugin, raise its limits, or let its rows go to \
                 the dead letter with on_failure = \"dead-letter\""
            ),
        )),
        OnFailure::DeadLetter => Ok(rows.map(|row| dead(row, Reason::PluginFailed, why)).collect()),
    }
}

fn too_much(batch: &Batch, detail: &str) -> Vec<DeadRow> {
    (0..batch.len()).map(|row| dead(row, Reason::PluginOutput, detail)).collect()
}

fn reasons(failure: &Failure) -> String {
    format!("{}: {}", failure.reason.as_str(), failure.detail)
}

fn dead(row: usize, reason: Reason, detail: &str) -> DeadRow {
    DeadRow { row: row as u32, reason, detail: detail.to_owned() }
}
