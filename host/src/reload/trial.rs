//! The trial of a candidate before anything depends on it: does it judge at all?
//!
//! It loaded, and every component was configured. Here the cases that its components carry are run, and the records that
//! the running generation judged last. A verdict that differs is no reason to refuse it: that is what changes are for. Nothing
//! is written.

use std::collections::BTreeSet;

use crate::cases::plugin::run_carried;
use crate::chain::{Chain, Judged};
use crate::error::{Error, Result};
use crate::outcome::Dead;
use crate::record::RawBatch;

/// What a candidate passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// cases that its components carry, all of which passed
    pub cases: usize,
    /// records of the running pipeline that it could judge
    pub records: usize,
}

/// Tries `candidate` on its own cases and on `sample`, records that the `running` generation judged.
///
/// # Errors
/// [`Error::Plugin`] where a case fails, or where a component can judge none of the records although the running generation
/// judged some.
pub fn of(candidate: &Chain, running: &Chain, sample: Option<RawBatch>) -> Result<Tried> {
    let known: BTreeSet<&str> = running.plugins().map(|plugin| &**plugin.digest()).collect();
    let mut cases = 0;
    for (plugin, code) in candidate.components() {
        // code that judges already has passed
        if !known.contains(&**plugin.digest()) {
            cases += run_carried(&candidate.engine, plugin.name(), code)?;
        }
    }
    let records = sample.map_or(Ok(0), |sample| on_records(candidate, running, sample))?;
    Ok(Tried { cases, records })
}

fn on_records(candidate: &Chain, running: &Chain, sample: RawBatch) -> Result<usize> {
    if sample.records.is_empty() {
        return Ok(0);
    }
    let records = sample.records.len();
    let judged = candidate.judge()?.judge(sample.clone())?;
    let Some(dead) = died_in_a_plugin(&judged) else { return Ok(records) };
    if !judged.batch.is_empty() || running.judge()?.judge(sample)?.batch.is_empty() {
        return Ok(records); // a poison record costs itself, whoever judges
    }
    let (plugin, _) = dead.plugin.clone().unwrap_or_default();
    Err(Error::plugin(
        &*plugin,
        format!(
            "can judge none of the {records} records that it was tried on: {} ({})",
            dead.detail,
            dead.reason.as_str()
        ),
    ))
}

fn died_in_a_plugin(judged: &Judged) -> Option<&Dead> {
    judged.dead.iter().find(|dead| dead.plugin.is_some())
}
