//! What a plugin costs: to compile, to start, and per row, as a pipeline would call it.
//!
//! Times are medians over many calls of one thread, passing the columns and checking the answer included. They compare
//! plugins on one machine; between machines only fuel compares.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Subject, pick, rowless};
use crate::error::Result;
use crate::plugin::{Engine, Instances, Kind, Tally, compile_time};
use crate::record::Batch;

/// Starts that are timed.
const STARTS: usize = 21;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// name of the plugin, by itself
    pub plugin: String,
    /// its version
    pub version: String,
    /// SHA-256 of the component
    pub digest: String,
    /// what it is
    pub kind: Kind,
    /// of the component
    pub bytes: usize,
    /// nanoseconds to compile it
    pub compile_ns: u64,
    /// nanoseconds to instantiate and configure it
    pub start_ns: u64,
    /// how a pipeline runs its instances
    pub instances: Instances,
    /// nanoseconds a row, so run
    pub ns_per_row: f64,
    /// nanoseconds a row with an instance for every call
    pub fresh_ns_per_row: f64,
    /// nanoseconds a row with one instance for many calls
    pub reused_ns_per_row: f64,
    /// fuel a row
    pub fuel_per_row: f64,
    /// fuel that a row may burn
    pub fuel_limit_per_row: u64,
    /// bytes of columns passed, a row
    pub passed_per_row: f64,
    /// columns that are passed
    pub columns: usize,
    /// the most memory that an instance had
    pub memory: usize,
    /// the most it may have
    pub memory_limit: usize,
    /// rows of a call
    pub rows_per_call: usize,
    /// distinct rows
    pub rows: usize,
    /// objections to them, or rows made of them
    pub answers: usize,
    /// rows at which it failed
    pub failed: usize,
}

/// Measures for about `time`, with calls of `rows_per_call` rows of `batch`, again and again. Call it on a thread with enough
/// stack, see [`super::on_guest_stack`].
pub fn measure(
    engine: &Engine,
    subject: &Subject,
    code: &[u8],
    batch: &Batch,
    rows_per_call: usize,
    time: Duration,
) -> Result<Measured> {
    let plugin = &subject.plugin;
    let compile = compile_time(engine, code)?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(plugin.start()?.time);
    }
    let calls = calls(batch, rows_per_call)?;
    let (fresh, fresh_tally) = per_row(subject, &calls, Instances::Fresh, time / 2)?;
    let (reused, reused_tally) = per_row(subject, &calls, Instances::Reused, time / 2)?;
    let (ns_per_row, tally) = match plugin.instances() {
        Instances::Fresh => (fresh, &fresh_tally),
        Instances::Reused => (reused, &reused_tally),
    };
    let (mut answers, mut failed) = (0, 0);
    let mut caller = subject.caller();
    match plugin.kind() {
        Kind::Rule => {
            let checked = caller.check(batch)?;
            (answers, failed) = (answers + checked.findings.len(), failed + checked.dead.len());
        }
        Kind::Auditor => return Err(rowless(plugin.name())),
        Kind::Enricher => {
            let added = caller.enrich(batch)?;
            (answers, failed) = (answers + added.rows.len(), failed + added.dead.len());
        }
    }
    let rows = tally.rows.max(1) as f64;
    Ok(Measured {
        plugin: plugin.own_name().to_owned(),
        version: plugin.version().to_owned(),
        digest: plugin.digest().to_string(),
        kind: plugin.kind(),
        bytes: subject.bytes,
        compile_ns: compile.as_nanos() as u64,
        start_ns: median(starts.iter().map(|time| time.as_nanos() as f64).collect()) as u64,
        instances: plugin.instances(),
        ns_per_row,
        fresh_ns_per_row: fresh,
        reused_ns_per_row: reused,
        fuel_per_row: tally.fuel as f64 / rows,
        fuel_limit_per_row: plugin.limits().fuel_per_row,
        passed_per_row: tally.passed as f64 / rows,
        columns: plugin.requests().len(),
        memory: fresh_tally.memory.max(reused_tally.memory),
        memory_limit: plugin.limits().memory,
        rows_per_call: calls.first().map_or(0, Batch::len),
        rows: batch.len(),
        answers,
        failed,
    })
}

/// The rows in calls of the same size; the first ones again where they do not suffice.
fn calls(batch: &Batch, rows_per_call: usize) -> Result<Vec<Batch>> {
    /// more would measure the caches of the host
    const MOST: usize = 64;
    let rows = batch.len();
    let calls = rows.div_ceil(rows_per_call).clamp(1, MOST);
    (0..calls)
        .map(|call| {
            let first = call * rows_per_call;
            let numbers: Vec<usize> = (first..first + rows_per_call).map(|row| row % rows).collect();
            pick(batch, &numbers)
        })
        .collect()
}

/// The median over calls, in nanoseconds, and the tally of all.
fn per_row(subject: &Subject, calls: &[Batch], instances: Instances, time: Duration) -> Result<(f64, Tally)> {
    let mut caller = subject.caller().with_instances(instances);
    let mut all = Tally::default();
    let mut times = Vec::new();
    let begun = Instant::now();
    // the first round fills caches and is not counted
    for round in 0.. {
        if round > 1 && begun.elapsed() > time {
            break;
        }
        for batch in calls {
            match subject.plugin.kind() {
                Kind::Rule => drop(caller.check(batch)?),
                Kind::Enricher => drop(caller.enrich(batch)?),
                Kind::Auditor => return Err(rowless(subject.plugin.name())),
            }
            let tally = caller.take_tally();
            all.memory = all.memory.max(tally.memory);
            if round > 0 {
                times.push(tally.busy.as_nanos() as f64 / batch.len().max(1) as f64);
                (all.rows, all.fuel) = (all.rows + tally.rows, all.fuel + tally.fuel);
                (all.calls, all.passed) = (all.calls + tally.calls, all.passed + tally.passed);
            }
            if round > 1 && begun.elapsed() > time {
                break;
            }
        }
    }
    Ok((median(times), all))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
