//! What plugins write to the log: rate-limited, cut off, and escaped. A log line is a guest's text on an operator's
//! terminal.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How loud a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Bytes of a line that are kept: a panic message with its place fits, a dump does not.
pub(super) const LINE: usize = 1024;

/// The lines of one plugin, counted over all its instances and threads.
#[derive(Debug)]
pub(super) struct LogGate {
    plugin: Arc<str>,
    per_second: u32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    since: Option<Instant>,
    written: u32,
    dropped: u64,
}

impl LogGate {
    pub(super) fn new(plugin: Arc<str>, per_second: u32) -> Self {
        LogGate { plugin, per_second, window: Mutex::new(Window { since: None, written: 0, dropped: 0 }) }
    }

    /// Writes a line unless this second's are used up. `line` is clean.
    pub(super) fn write(&self, level: Level, line: &str) {
        let Some(dropped) = self.admit(Instant::now()) else { return };
        let plugin = &*self.plugin;
        if dropped > 0 {
            tracing::warn!(plugin, dropped, "the plugin logs too much; lines were dropped");
        }
        match level {
            Level::Trace => tracing::trace!(plugin, "{line}"),
            Level::Debug => tracing::debug!(plugin, "{line}"),
            Level::Info => tracing::info!(plugin, "{line}"),
            Level::Warn => tracing::warn!(plugin, "{line}"),
            Level::Error => tracing::error!(plugin, "{line}"),
        }
    }

    /// Whether a line may be written now; then how many were dropped since the last one.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            window.since = Some(now);
            window.written = 0;
        }
        if window.written >= self.per_second {
            window.dropped += 1;
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.dropped))
    }
}

/// A guest's text made fit for logs and tables: control characters, and characters that turn the direction of text,
/// are escaped; what lies beyond `limit` bytes is cut off at a character.
pub(super) fn clean(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len().min(limit));
    for c in text.chars() {
        let before = out.len();
        if c.is_control() || matches!(c, '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        if out.len() > limit {
            out.truncate(before);
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_cut_at_a_character() {
        for (text, limit, expected) in [
            ("plain", 10, "plain"),
            ("a\nb\u{1b}[31m", 100, "a\\nb\\u{1b}[31m"),
            ("ab\ncd", 3, "ab"),
            ("aéé", 4, "aé"),
            ("\u{202e}abc", 100, "\\u{202e}abc"),
            ("anything", 0, ""),
        ] {
            assert_eq!(clean(text, limit), expected, "{text:?} {limit}");
        }
    }

    #[test]
    fn a_second_has_so_many_lines_and_the_next_says_how_many_were_dropped() {
        let gate = LogGate::new("p".into(), 2);
        let start = Instant::now();
        let at = |ms| gate.admit(start + Duration::from_millis(ms));
        assert_eq!([at(0), at(1), at(2), at(999)], [Some(0), Some(0), None, None]);
        assert_eq!([at(1000), at(1001), at(1002)], [Some(2), Some(0), None]);
    }
}
