//! When a plugin has failed too often: a count within a sliding time, shared by all threads that call the plugin.
//!
//! **One failure** is a call (at most `limits.call_rows` rows) that failed after the batch's probes were used up, or a
//! batch of which the plugin could judge no row at all. A poison row that was isolated is none: it costs itself, however
//! often that happens. So a plugin that traps on one row of a million never trips, and one that traps on every row
//! trips within one or a few batches.
//!
//! With `on_failure = "stop"` no row is given up for a failure that is still tolerated: the plugin is called again with
//! those rows at once, and each further failure counts. So a small run of a broken plugin stops, too.
//!
//! The breaker trips when there are more than `max_failures.count` within `max_failures.within`, or that many with not
//! one judged batch between them: a plugin that takes long to fail does not escape by being slow. It never closes
//! again in a run; a new generation brings a new one.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::config::{MaxFailures, OnFailure};

type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

/// Counts a plugin's failures.
pub struct Breaker {
    most: MaxFailures,
    then: OnFailure,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// times within the window, oldest first; at most `most.count` of them while closed
    recent: VecDeque<Instant>,
    in_a_row: u32,
    /// why it tripped
    open: Option<String>,
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("most", &self.most).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Breaker {
    /// A closed breaker by the process's clock: more failures than `most`, and `then` happens.
    pub fn new(most: MaxFailures, then: OnFailure) -> Self {
        Breaker::with_clock(most, then, Instant::now)
    }

    /// A closed breaker by another clock; for tests.
    pub fn with_clock(most: MaxFailures, then: OnFailure, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Breaker { most, then, clock: Box::new(clock), state: Mutex::default() }
    }

    /// What happens when it trips.
    pub fn then(&self) -> OnFailure {
        self.then
    }

    /// Why the plugin is not called any more; `None` while it is.
    pub fn tripped(&self) -> Option<String> {
        self.lock().open.clone()
    }

    /// Counts a failure. Answers why the breaker is open, if it now is.
    pub(super) fn failed(&self, why: &str) -> Option<String> {
        let now = (self.clock)();
        let within = self.most.within;
        let mut state = self.lock();
        while state.recent.front().is_some_and(|at| now.saturating_duration_since(*at) > within) {
            state.recent.pop_front();
        }
        state.recent.push_back(now);
        state.in_a_row = state.in_a_row.saturating_add(1);
        if state.open.is_none() {
            let count = state.recent.len();
            if count > self.most.count as usize {
                let within = humantime::format_duration(within);
                state.open = Some(format!("failed {count} times within {within}, the last time with {why}"));
            } else if state.in_a_row > self.most.count {
                let count = state.in_a_row;
                state.open = Some(format!("failed {count} times in a row, the last time with {why}"));
            }
        }
        if state.open.is_some() {
            state.recent.clear(); // bounded, whatever comes after
        }
        state.open.clone()
    }

    /// Counts a batch of which the plugin judged something.
    pub(super) fn judged(&self) {
        self.lock().in_a_row = 0;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    /// Failures at these seconds, a judged batch before those that are marked; which of them finds it open?
    fn first_open(seconds: &[(u64, bool)]) -> Option<usize> {
        let now = Arc::new(AtomicU64::new(0));
        let (start, clock) = (Instant::now(), Arc::clone(&now));
        let most = MaxFailures { count: 3, within: Duration::from_secs(60) };
        let breaker = Breaker::with_clock(most, OnFailure::Stop, move || {
            start + Duration::from_secs(clock.load(Ordering::Relaxed))
        });
        seconds.iter().position(|(second, judged)| {
            now.store(*second, Ordering::Relaxed);
            if *judged {
                breaker.judged();
            }
            breaker.failed("plugin-trap").is_some()
        })
    }

    #[test]
    fn so_many_failures_within_so_long_are_tolerated() {
        let (yes, no) = (true, false);
        for (seconds, expected) in [
            (&[(0, yes), (1, yes), (2, yes)][..], None),
            (&[(0, yes), (1, yes), (2, yes), (3, yes)][..], Some(3)),
            (&[(0, yes), (20, yes), (40, yes), (61, yes), (81, yes)][..], None),
            (&[(0, yes), (20, yes), (40, yes), (60, yes)][..], Some(3)),
            (&[(0, no), (100, no), (200, no), (300, no)][..], Some(3)),
            (&[(0, no), (100, no), (200, yes), (300, no), (400, no)][..], None),
        ] {
            assert_eq!(first_open(seconds), expected, "{seconds:?}");
        }
    }

    #[test]
    fn it_stays_open_and_says_why() {
        let breaker = Breaker::new(MaxFailures { count: 0, within: Duration::from_secs(60) }, OnFailure::Stop);
        assert_eq!(breaker.tripped(), None);
        breaker.failed("plugin-timeout");
        breaker.judged();
        let expected = "failed 1 times within 1m, the last time with plugin-timeout";
        assert_eq!(breaker.tripped().as_deref(), Some(expected));
    }
}
