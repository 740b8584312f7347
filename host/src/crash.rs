//! Named places at which a test makes the process die as by `kill -9`.
//!
//! Compiled out of release builds. `SLUICE_CRASH_AT=append/created` aborts at the first pass of that point,
//! `append/created:3` at the third.

/// The named steps of Write, Append and Apply, in their order; the crash tests go through all of them.
pub const POINTS: &[&str] = &[
    "write/first-file-open",
    "write/files-durable",
    "append/before-create",
    "append/created",
    "apply/before-valid",
    "apply/after-valid",
    "apply/after-error",
    "apply/after-dlq",
    "checkpoint/before",
    "checkpoint/after",
];

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
    static TARGET: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSES: AtomicU32 = AtomicU32::new(0);
    let target = TARGET.get_or_init(|| {
        let text = std::env::var("SLUICE_CRASH_AT").ok()?;
        Some(match text.split_once(':') {
            Some((name, n)) => (name.to_owned(), n.parse().unwrap_or(1)),
            None => (text, 1),
        })
    });
    let Some((wanted, nth)) = target else { return };
    if wanted == name && PASSES.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
        // SAFETY: kill takes no pointers; SIGKILL to ourselves ends the process without unwinding or flushing
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}
