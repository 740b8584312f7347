//! Named places at which a test makes the process die as by `kill -9`, or lie still as by `kill -STOP`.
//!
//! Compiled out of release builds. `SLUICE_CRASH_AT=append/created` aborts at the first pass of that point,
//! `append/created:3` at the third; `SLUICE_STOP_AT` likewise stops there until it gets a SIGCONT.

use chrono::{DateTime, Utc};

/// The named steps of Write, Append and Apply, in their order, which the crash tests go through; then those that an
/// ordinary run does not pass.
pub const POINTS: &[&str] = &[
    "write/first-file-open",
    "write/files-durable",
    "write/derived-durable",
    "append/before-create",
    "append/created",
    "apply/before-valid",
    "apply/after-valid",
    "apply/after-error",
    "apply/after-dlq",
    "apply/after-staging",
    "apply/after-derived",
    "activate/stored",
    "activate/appended",
    "checkpoint/before",
    "checkpoint/after",
    "compact/written",
    "compact/committed",
    "expire/appended",
    "expire/rewritten",
    "expire/applied",
    "audit/before",
    "audit/measured",
    "audit/files-durable",
    "audit/appended",
    "audit/applied",
    "audit/expired",
];

/// The time by which rows grow old. `SLUICE_AS_OF=2026-11-20T12:00:00Z` makes it another one.
pub fn now() -> DateTime<Utc> {
    #[cfg(debug_assertions)]
    if let Some(time) = std::env::var("SLUICE_AS_OF").ok().and_then(|text| text.parse().ok()) {
        return time;
    }
    Utc::now()
}

/// Dies here if the environment says so.
#[inline]
pub fn point(name: &'static str) {
    debug_assert!(POINTS.contains(&name), "{name} is not a crash point");
    #[cfg(debug_assertions)]
    armed(name);
}

#[cfg(debug_assertions)]
fn armed(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    static TARGET: OnceLock<Option<(String, u32, libc::c_int)>> = OnceLock::new();
    static PASSES: AtomicU32 = AtomicU32::new(0);
    let target = TARGET.get_or_init(|| {
        let asked = |variable, signal| Some((std::env::var(variable).ok()?, signal));
        let (text, signal) =
            asked("SLUICE_CRASH_AT", libc::SIGKILL).or_else(|| asked("SLUICE_STOP_AT", libc::SIGSTOP))?;
        Some(match text.split_once(':') {
            Some((name, n)) => (name.to_owned(), n.parse().unwrap_or(1), signal),
            None => (text, 1, signal),
        })
    });
    let Some((wanted, nth, signal)) = target else { return };
    if wanted == name && PASSES.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
        // SAFETY: kill takes no pointers; SIGKILL to ourselves ends the process without unwinding or flushing
        unsafe { libc::kill(libc::getpid(), *signal) };
    }
}
