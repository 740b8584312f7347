//! Whether the process is alive, and whether it does its work.
//!
//! *Live*: nothing hangs. What would bring it back is a restart, so only that counts which a restart mends: a thread that
//! does not come back. *Ready*: the source knows where to read, and the tables follow the ledger. It decides nothing else
//! and ends nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the loop turns when nothing happens.
pub const BEAT: Duration = Duration::from_secs(1);

/// The loop waits for events only, and takes the longest with handing work out: ten missed beats are no load any more.
const LOOP: Duration = Duration::from_secs(10);

/// A worker's batch takes a fraction of a second; a guest is ended by its limits, which are added to this.
const BATCH: Duration = Duration::from_secs(60);

/// An object store repeats requests for minutes before it gives up, which is an error then and not a hang.
const COMMIT: Duration = Duration::from_secs(600);

/// A source looks up several times a second, except where it waits for a commit or for a broker's answer.
const SOURCE: Duration = Duration::from_secs(660);

/// A commit that takes longer than this leaves the tables behind.
const SLOW_COMMIT: Duration = Duration::from_secs(60);

type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

/// What threads reported last.
pub struct Health {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    turned: Instant,
    /// worker → since when it has its batch
    judging: BTreeMap<usize, Instant>,
    /// what a batch may take
    batch: Duration,
    committing: Option<Instant>,
    source: Instant,
    source_ended: bool,
    is_positioned: bool,
    is_reachable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// tables and ledger are looked at
    Starting,
    Running,
    /// what was read is committed, nothing more is read
    Stopping,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}

impl Default for Health {
    fn default() -> Health {
        Health::with_clock(Instant::now)
    }
}

impl Health {
    /// By another clock; for tests.
    pub fn with_clock(clock: impl Fn() -> Instant + Send + Sync + 'static) -> Health {
        let now = clock();
        let state = State {
            phase: Phase::Starting,
            turned: now,
            judging: BTreeMap::new(),
            batch: BATCH,
            committing: None,
            source: now,
            source_ended: false,
            is_positioned: false,
            is_reachable: true,
        };
        Health { clock: Box::new(clock), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop begins to run; plugins may take so long for one batch on top of everything else.
    pub fn running(&self, plugins: Duration) {
        let now = (self.clock)();
        let mut state = self.state();
        (state.phase, state.turned, state.source) = (Phase::Running, now, now);
        state.batch = BATCH + plugins;
    }

    /// The loop turned; `stopping` once it only commits what it has.
    pub fn turned(&self, stopping: bool) {
        let now = (self.clock)();
        let mut state = self.state();
        state.turned = now;
        if stopping {
            state.phase = Phase::Stopping;
        }
    }

    /// A worker has a batch, or has done with it.
    pub fn judging(&self, worker: usize, has: bool) {
        let now = (self.clock)();
        let mut state = self.state();
        if has {
            state.judging.insert(worker, now);
        } else {
            state.judging.remove(&worker);
        }
    }

    /// An entry is on its way, or has landed.
    pub fn committing(&self, is: bool) {
        let now = (self.clock)();
        self.state().committing = is.then_some(now);
    }

    /// The source gave a sign of life.
    pub fn source_seen(&self) {
        let now = (self.clock)();
        self.state().source = now;
    }

    /// The source knows where to read.
    pub fn positioned(&self) {
        self.state().is_positioned = true;
    }

    /// Whether the source can reach what it reads from.
    pub fn reachable(&self, is: bool) {
        self.state().is_reachable = is;
    }

    /// The source has ended.
    pub fn source_ended(&self) {
        self.state().source_ended = true;
    }

    /// Whether nothing hangs, or what does.
    pub fn live(&self) -> Result<(), String> {
        let now = (self.clock)();
        let state = self.state();
        let since = |at: Instant| now.saturating_duration_since(at);
        if state.phase == Phase::Starting {
            return Ok(()); // a restart would begin the same again
        }
        if since(state.turned) > LOOP {
            return Err(format!("the loop has not turned for {}", seconds(since(state.turned))));
        }
        if let Some((worker, at)) = state.judging.iter().find(|(_, at)| since(**at) > state.batch) {
            return Err(format!("thread judge-{worker} has been with one batch for {}", seconds(since(*at))));
        }
        if let Some(at) = state.committing.filter(|at| since(*at) > COMMIT) {
            return Err(format!("a commit has been on its way for {}", seconds(since(at))));
        }
        if !state.source_ended && since(state.source) > SOURCE {
            return Err(format!("the source has given no sign of life for {}", seconds(since(state.source))));
        }
        Ok(())
    }

    /// Whether it works as it should, or why not.
    pub fn ready(&self) -> Result<(), String> {
        self.live()?;
        let now = (self.clock)();
        let state = self.state();
        match state.phase {
            Phase::Starting => return Err("starting: the ledger is read and the tables follow it".into()),
            Phase::Stopping => return Err("stopping: what was read is committed".into()),
            Phase::Running => {}
        }
        if !state.is_reachable {
            return Err("no broker can be reached".into());
        }
        if !state.is_positioned {
            return Err("the source does not know yet where to read: no partition was assigned so far".into());
        }
        match state.committing.map(|at| now.saturating_duration_since(at)).filter(|took| *took > SLOW_COMMIT) {
            Some(took) => Err(format!("the tables are behind: a commit has been on its way for {}", seconds(took))),
            None => Ok(()),
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A health whose clock is the number of seconds in the second value.
    fn health() -> (Health, Arc<AtomicU64>) {
        let (begun, passed) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let seconds = passed.clone();
        (Health::with_clock(move || begun + Duration::from_secs(seconds.load(Ordering::SeqCst))), passed)
    }

    fn running() -> (Health, Arc<AtomicU64>) {
        let (health, clock) = health();
        health.running(Duration::from_secs(16));
        health.positioned();
        assert_eq!((health.live(), health.ready()), (Ok(()), Ok(())));
        (health, clock)
    }

    #[test]
    fn ready_from_the_first_position_to_the_stop() {
        let (health, clock) = health();
        clock.store(10_000, Ordering::SeqCst);
        assert_eq!(health.live(), Ok(()), "a long catch-up is no reason to restart");
        assert!(health.ready().is_err_and(|why| why.starts_with("starting")));
        health.running(Duration::ZERO);
        assert!(health.ready().is_err_and(|why| why.contains("where to read")));
        health.positioned();
        assert_eq!(health.ready(), Ok(()));
        health.reachable(false);
        assert_eq!((health.live(), health.ready()), (Ok(()), Err("no broker can be reached".into())));
        health.reachable(true);
        health.turned(true);
        assert!(health.ready().is_err_and(|why| why.starts_with("stopping")));
    }

    #[test]
    fn whatever_hangs_shows() {
        type Hang = fn(&Health);
        let cases: [(Hang, u64, &str); 4] = [
            (|_| (), 11, "the loop has not turned for 11 s"),
            (|health| health.judging(1, true), 77, "thread judge-1 has been with one batch for 77 s"),
            (|health| health.committing(true), 601, "a commit has been on its way for 601 s"),
            (|_| (), 661, "the source has given no sign of life for 661 s"),
        ];
        for (i, (hang, after, expected)) in cases.into_iter().enumerate() {
            let (health, clock) = running();
            hang(&health);
            for (time, live) in [(after - 1, Ok(())), (after, Err(expected.to_owned()))] {
                clock.store(time, Ordering::SeqCst);
                if i > 0 {
                    health.turned(false);
                }
                if i < 3 {
                    health.source_seen();
                }
                assert_eq!(health.live(), live, "at {time}");
            }
        }
    }

    #[test]
    fn what_comes_back_is_forgiven() {
        let (health, clock) = running();
        health.judging(0, true);
        health.committing(true);
        clock.store(100, Ordering::SeqCst);
        health.turned(false);
        assert!(health.live().is_err());
        health.judging(0, false);
        assert_eq!(health.live(), Ok(()));
        assert!(health.ready().is_err_and(|why| why.contains("behind")));
        health.committing(false);
        assert_eq!(health.ready(), Ok(()));
        clock.store(5_000, Ordering::SeqCst);
        health.source_ended();
        health.turned(false);
        assert_eq!(health.live(), Ok(()), "a source that ended is silent");
    }
}
