//! One instance of a plugin and what it may use: memory, fuel, time, and how much it may hand back.
//!
//! An instance that failed is never used again: whoever sees a [`Failure`] drops the store.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{ResourceLimiter, Store, Trap, WasmBacktrace};

use super::answer::{self, Enriched, RawColumn, RawFinding};
use super::audit::{Opinion, Summary};
use super::bindings::{Entry, Guest, Said};
use super::describe::{Described, Request};
use super::engine::{Engine, ticks};
use super::inert::Clock;
use super::lend::{self, Lent};
use super::log::{LINE, Level, LogGate, clean};
use super::pass::Passed;
use crate::config::Limits;
use crate::outcome::Reason;
use crate::reference::Pinned;

/// Fuel for instantiating and configuring: about a second of work. A JSON Schema compiles and an interpreter starts in less.
const START_FUEL: u64 = 2_000_000_000;
/// Wall-clock time for the same, on a machine that is busy with other things.
const START_TIME: Duration = Duration::from_secs(10);
/// What `configure` may hand back: names, help texts.
const START_ANSWER: usize = 1 << 20;
/// Bytes that an enricher may add for each byte that it may be passed in a call: room for long texts and for joins.
const ADDED: usize = 16;
/// Bytes of a failure's text that are kept in the dead letter.
const DETAIL: usize = 1024;
/// Modules, memories and tables of one component: more than any toolchain makes.
const PARTS: usize = 100;

/// What every instance of one plugin starts from.
pub(super) struct Template {
    pub engine: Engine,
    pub entry: Entry,
    /// JSON for `configure`
    pub config: String,
    pub limits: Limits,
    pub log: Arc<LogGate>,
}

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub reason: Reason,
    /// clean, bounded
    pub detail: String,
}

impl Failure {
    pub(super) fn new(reason: Reason, detail: impl AsRef<str>) -> Self {
        Failure { reason, detail: clean(detail.as_ref(), DETAIL) }
    }
}

/// What the host keeps beside an instance.
pub(super) struct State {
    /// of a guest that is given stand-ins for WASI
    pub clock: Clock,
    limiter: Limiter,
    log: Arc<LogGate>,
    /// the tables of the entry whose rows are judged; none while the plugin is configured
    pinned: Pinned,
    /// bytes of one answer of them
    most: usize,
    /// the last error that the guest logged: an SDK's panic hook says there why it is about to trap
    last_error: Option<String>,
}

impl State {
    /// `reference.lookup`.
    pub(super) fn lookup(
        &self,
        table: &str,
        rows: usize,
        keys: Vec<RawColumn>,
        wanted: &[Request],
    ) -> Result<Lent, String> {
        lend::lookup(&self.pinned, table, rows, keys, wanted, self.most)
    }

    /// `host.log`.
    pub(super) fn log(&mut self, level: Level, message: &str) {
        let line = clean(message, LINE);
        self.log.write(level, &line);
        if level == Level::Error {
            self.last_error = Some(line);
        }
    }
}

/// Adds up memories and tables of a store; wasmtime's own `StoreLimits` looks at each of them alone.
#[derive(Debug)]
struct Limiter {
    used: usize,
    last: usize,
    most: usize,
    /// the guest asked for more than it may have
    denied: bool,
}

impl Limiter {
    fn grow(&mut self, by: usize) -> bool {
        self.last = 0;
        match self.used.checked_add(by).filter(|sum| *sum <= self.most) {
            Some(sum) => {
                self.used = sum;
                self.last = by;
                true
            }
            None => {
                self.denied = true;
                false
            }
        }
    }

    fn failed(&mut self) {
        self.denied = true;
        self.used -= std::mem::take(&mut self.last);
    }
}

// A refusal is what `memory.grow` answers, −1, and not a trap: an allocator may then still give an error of its own.
impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, now: usize, wanted: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(wanted.saturating_sub(now)))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.failed();
        Ok(())
    }

    fn table_growing(&mut self, now: usize, wanted: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(wanted.saturating_sub(now).saturating_mul(size_of::<usize>())))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.failed();
        Ok(())
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}

/// A configured instance in a store of its own.
pub(super) struct Instance {
    store: Store<State>,
    guest: Guest,
    /// fuel of the call that is or was under way
    fuel: u64,
}

impl Instance {
    /// Instantiates and configures. Answers what the plugin says about itself, unchecked.
    pub(super) fn start(template: &Template) -> Result<(Instance, Described), Failure> {
        let state = State {
            clock: Clock::default(),
            limiter: Limiter { used: 0, last: 0, most: template.limits.memory, denied: false },
            log: Arc::clone(&template.log),
            pinned: Pinned::default(),
            most: template.limits.memory,
            last_error: None,
        };
        let mut store = Store::new(template.engine.wasm(), state);
        store.limiter(|state| &mut state.limiter);
        allow(&mut store, START_FUEL, START_TIME, START_ANSWER);
        let guest = template
            .entry
            .instantiate(&mut store)
            .map_err(|e| failure(&e, store.data(), &template.limits, START_TIME))?;
        let mut instance = Instance { store, guest, fuel: 0 };
        let said = instance.guest.configure(&mut instance.store, &template.config);
        let said = instance.said(said, &template.limits, START_TIME)?;
        Ok((instance, said))
    }

    /// Lends these tables from now on.
    pub(super) fn lend(&mut self, pinned: &Pinned) {
        self.store.data_mut().pinned = pinned.clone();
    }

    /// Judges one call's rows; the answer is checked.
    pub(super) fn check(
        &mut self,
        rows: usize,
        columns: &[Passed],
        said: &Described,
        limits: &Limits,
    ) -> Result<Vec<RawFinding>, Failure> {
        // per finding the record itself and its detail; 1 MiB on top, so that long details are cut and not refused. Never
        // more than it can have in its memory: the same bytes may be named again and again
        let findings = rows.saturating_mul(limits.findings_per_row.min(said.codes.len()));
        let answer = (1 << 20) + findings.saturating_mul(64 + limits.detail);
        self.begin(rows, limits, answer.min(limits.memory));
        let answer = self.guest.check(&mut self.store, rows as u32, columns);
        let found = self.said(answer, limits, limits.time)?;
        answer::findings(found, rows, said.codes.len(), said.columns.len(), limits).map_err(broken)
    }

    /// Enriches one call's rows; the answer is checked.
    pub(super) fn enrich(
        &mut self,
        rows: usize,
        columns: &[Passed],
        said: &Described,
        limits: &Limits,
    ) -> Result<Enriched, Failure> {
        // added columns may be larger than those read, but within reason: all answers of a batch are held at once
        self.begin(rows, limits, limits.memory.min(limits.call_bytes.saturating_mul(ADDED).max(ADDED << 10)));
        let answer = self.guest.enrich(&mut self.store, rows as u32, columns);
        let enriched = self.said(answer, limits, limits.time)?;
        answer::enriched(enriched, rows, &said.produces, said.one_to_many).map_err(broken)
    }

    /// Lets an auditor decide.
    pub(super) fn audit(&mut self, summary: &Summary, limits: &Limits) -> Result<Opinion, Failure> {
        // the past is what it works through
        self.begin(summary.history.len(), limits, START_ANSWER);
        let answer = self.guest.audit(&mut self.store, summary);
        self.said(answer, limits, limits.time)
    }

    fn begin(&mut self, rows: usize, limits: &Limits, answer: usize) {
        let fuel = limits.fuel.saturating_add(limits.fuel_per_row.saturating_mul(rows as u64));
        let state = self.store.data_mut();
        state.last_error = None;
        state.limiter.denied = false;
        allow(&mut self.store, fuel, limits.time, answer);
        self.fuel = fuel;
    }

    /// Bytes of all its memories and tables. They only grow, so this is the most it ever had.
    pub(super) fn memory(&self) -> usize {
        self.store.data().limiter.used
    }

    /// Fuel that the last call burnt.
    pub(super) fn burnt(&self) -> u64 {
        self.store.get_fuel().map_or(0, |left| self.fuel.saturating_sub(left))
    }

    fn said<T>(&self, said: wasmtime::Result<Said<T>>, limits: &Limits, time: Duration) -> Result<T, Failure> {
        match said {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(text)) => Err(Failure::new(Reason::PluginError, text)),
            Err(e) => Err(failure(&e, self.store.data(), limits, time)),
        }
    }
}

fn allow(store: &mut Store<State>, fuel: u64, time: Duration, answer: usize) {
    store.set_fuel(fuel).expect("the engine is configured for fuel");
    store.set_epoch_deadline(ticks(time));
    store.set_hostcall_fuel(answer);
}

fn broken(text: String) -> Failure {
    Failure::new(Reason::PluginOutput, text)
}

/// What a library's error means.
fn failure(error: &wasmtime::Error, state: &State, limits: &Limits, time: Duration) -> Failure {
    let trap = error.downcast_ref::<Trap>();
    let (reason, text) = match trap {
        // an allocator that is refused memory traps as it likes
        _ if state.limiter.denied && trap != Some(&Trap::OutOfFuel) && trap != Some(&Trap::Interrupt) => {
            let most = limits.memory;
            (Reason::PluginMemory, format!("it wanted more than its {most} bytes of memory (limits.memory)"))
        }
        Some(Trap::OutOfFuel) => (Reason::PluginTimeout, "it used up its fuel (limits.fuel)".into()),
        Some(Trap::Interrupt) => {
            (Reason::PluginTimeout, format!("it ran longer than {} (limits.time)", humantime::format_duration(time)))
        }
        Some(trap) => (Reason::PluginTrap, trap.to_string()),
        // no trap: wasmtime refused a string that is not UTF-8, a list out of bounds, an unknown case, too much of all
        None => (Reason::PluginOutput, error.root_cause().to_string()),
    };
    let place = error.downcast_ref::<WasmBacktrace>().map(place).unwrap_or_default();
    let said = state.last_error.as_deref().map(|line| format!("; it said: {line}")).unwrap_or_default();
    Failure::new(reason, format!("{text}{place}{said}"))
}

/// The innermost functions that have names: ` in parse < check`.
fn place(trace: &WasmBacktrace) -> String {
    let names: Vec<&str> = trace.frames().iter().filter_map(|frame| frame.func_name()).take(3).collect();
    if names.is_empty() { String::new() } else { format!(" in {}", names.join(" < ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_sum() {
        let mut limiter = Limiter { used: 0, last: 0, most: 100, denied: false };
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 60, None).unwrap(), "a second memory");
        assert!(limiter.denied);
        assert!(limiter.table_growing(0, 5, None).unwrap());
        assert!(!limiter.table_growing(5, 6, None).unwrap());
        assert!(!limiter.memory_growing(0, usize::MAX, None).unwrap());
        assert_eq!(limiter.used, 100);
    }
}
