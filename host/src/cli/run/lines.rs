//! The lines of a run: how it begins, what each entry brought, how it ended; for people, and as JSON. Nothing here decides.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use super::super::text::{Paint, plural, rate, thousands};
use super::{Decisions, Finished, say};
use crate::chain::Chain;
use crate::config::{EnrichConfig, PluginCode, PluginConfig};
use crate::error::Result;
use crate::outcome::Outcome;
use crate::pipeline::{Follow, Landed, Ran, Refreshed};
use crate::record::TopicPartition;
use crate::sink::Sink;
use crate::source::Source;

/// What runs, what it promises, and how to stop it.
pub(super) fn introduce(
    chain: &Chain,
    follow: &Follow,
    source: &dyn Source,
    metrics: Option<&str>,
    paint: Paint,
) -> Result<()> {
    let head = follow.runtime.block_on(follow.ledger.head())?;
    let generation = chain.generation.short();
    let name = paint.bold(&chain.config.name);
    say(&format!("{name} · generation {generation} · {} · ledger {head}", source.describe()));
    for (n, line) in promises(&follow.sinks).into_iter().enumerate() {
        say(&format!("  {}  {line}", if n == 0 { "promise" } else { "       " }));
    }
    if let Some(caveat) = source.caveat() {
        say(&format!("  {}  {caveat}", paint.yellow("but    ")));
    }
    say(&format!("  rules    {}", rules(chain)));
    match metrics {
        Some(url) => say(&format!("  metrics  {url} · ctrl-c flushes and stops")),
        None => say("  ctrl-c flushes and stops"),
    }
    Ok(())
}

/// `valid, error, dlq: exactly once (delta)`, a line per kind of sink.
pub(super) fn promises(sinks: &[Arc<dyn Sink>]) -> Vec<String> {
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for sink in sinks {
        let promise = format!("{} ({})", sink.guarantee(), sink.kind());
        match lines.iter_mut().find(|(known, _)| *known == promise) {
            Some((_, names)) => names.push(sink.outcome().as_str()),
            None => lines.push((promise, vec![sink.outcome().as_str()])),
        }
    }
    lines.into_iter().map(|(promise, names)| format!("{}: {promise}", names.join(", "))).collect()
}

/// `expect (3), timely, consent 1.2.0 (9c1e04)`.
pub(super) fn rules(chain: &Chain) -> String {
    let mut names = Vec::new();
    if !chain.config.expect.is_empty() {
        names.push(format!("expect ({})", chain.config.expect.len()));
    }
    let enrichers = chain.config.enrich.iter().filter_map(|enricher| match enricher {
        EnrichConfig::Sql { .. } | EnrichConfig::Reference(_) => None,
        EnrichConfig::Plugin(plugin) => Some(&**plugin),
    });
    let configs: Vec<_> = enrichers.chain(&chain.config.rules).collect();
    names.extend(chain.plugins().map(|plugin| {
        let is_ours = |config: &&PluginConfig| match config.code {
            PluginCode::Builtin(_) => config.name == *plugin.name(),
            PluginCode::Wasm(..) | PluginCode::Script(_) | PluginCode::Stored(..) => false,
        };
        match configs.iter().copied().find(is_ours) {
            // of this very binary
            Some(_) => plugin.name().to_string(),
            None => format!("{} {} ({})", plugin.name(), plugin.version(), short(plugin.digest())),
        }
    }));
    if names.is_empty() { "none: every record that decodes is valid".into() } else { names.join(", ") }
}

/// The first six digits of a digest.
pub fn short(digest: &str) -> &str {
    digest.get(..6).unwrap_or(digest)
}

/// Columns of the terminal; `None` where standard output is none.
pub(super) fn width() -> Option<usize> {
    let is_terminal = std::io::stdout().is_terminal();
    is_terminal.then(|| ratatui::crossterm::terminal::size().ok()).flatten().map(|(columns, _)| usize::from(columns))
}

/// `21:03:10 assigned  visits p0 p1 p2  lag 12,408`.
pub(super) fn assigned_line(lag: &BTreeMap<TopicPartition, u64>) -> String {
    /// more would fill the screen
    const SHOWN: usize = 12;
    let mut line = format!("{} assigned ", chrono::Local::now().format("%H:%M:%S"));
    let mut topic = "";
    for partition in lag.keys().take(SHOWN) {
        if topic != &*partition.topic {
            topic = &partition.topic;
            line += &format!(" {topic}");
        }
        line += &format!(" p{}", partition.partition);
    }
    match lag.len() {
        0 => line + " nothing: other processes of the group have every partition",
        n if n > SHOWN => format!("{line} and {} more  lag {}", n - SHOWN, thousands(lag.values().sum())),
        _ => format!("{line}  lag {}", thousands(lag.values().sum())),
    }
}

/// `21:03:15 entry 412   98,140 rows  19.6 k/s  valid 96,201  error 1,457  dlq 482  lag 3,104`. Where that does not fit, the
/// number of valid rows goes, which is what the others leave.
pub(super) fn entry_line(landed: &Landed, since: Duration, lag: Option<u64>, width: Option<usize>) -> String {
    let counts = &landed.counts;
    let of = |outcome: Outcome| format!("  {outcome} {}", thousands(counts.of(outcome)));
    let start = format!(
        "{} entry {:<4} {:>9} rows {:>10}",
        chrono::Local::now().format("%H:%M:%S"),
        landed.number,
        thousands(counts.rows),
        rate(counts.records, since.as_secs_f64()),
    );
    let skipped = if counts.skipped > 0 { format!("  skipped {}", thousands(counts.skipped)) } else { String::new() };
    let lag = lag.map_or_else(String::new, |lag| format!("  lag {}", thousands(lag)));
    let end = format!("{}{}{skipped}{lag}", of(Outcome::Error), of(Outcome::Dlq));
    let first = if counts.outcomes.contains_key(&Outcome::Staging) { Outcome::Staging } else { Outcome::Valid };
    let line = format!("{start}{}{end}", of(first));
    if width.is_some_and(|width| line.chars().count() > width) { format!("{start}{end}") } else { line }
}

/// `21:03:40 reference   devices 3 → 4: 6 rows, from the next entry on`.
pub(super) fn refreshed_line(refreshed: &Refreshed) -> String {
    let Refreshed { name, from, result, .. } = refreshed;
    let now = chrono::Local::now().format("%H:%M:%S");
    match result {
        Ok((version, rows)) => {
            let rows = plural(*rows as u64, "row");
            format!("{now} reference   {name} {from} → {version}: {rows}, from the next entry on")
        }
        Err(error) => format!("{now} reference   {name} stays at {from}: {}", error.sentence()),
    }
}

pub(super) fn refreshed_json(refreshed: &Refreshed) -> String {
    let Refreshed { name, from, result, took } = refreshed;
    let seconds = took.as_secs_f64();
    match result {
        Ok((version, rows)) => {
            serde_json::json!({ "reference": &**name, "version": version, "rows": rows, "seconds": seconds })
        }
        Err(error) => {
            serde_json::json!({ "reference": &**name, "version": from, "error": error.sentence() })
        }
    }
    .to_string()
}

pub(super) fn entry_json(landed: &Landed, lag: u64) -> String {
    let seconds = landed.took.as_secs_f64();
    serde_json::json!({ "entry": landed.number, "counts": landed.counts, "seconds": seconds, "lag": lag }).to_string()
}

pub(super) fn end_line(finished: &Finished) -> String {
    let counts = &finished.ran.counts;
    let first = if finished.decided.is_some() { Outcome::Staging } else { Outcome::Valid };
    let mut line = format!(
        "stopped at entry {} · {} consumed = {} {first} + {} error + {} dlq + {} skipped",
        finished.head,
        thousands(counts.records),
        thousands(counts.of(first)),
        thousands(counts.of(Outcome::Error)),
        thousands(counts.of(Outcome::Dlq)),
        thousands(counts.skipped),
    );
    if counts.rows + counts.skipped != counts.records {
        line +=
            &format!(" ({} made {})", plural(counts.records - counts.skipped, "record"), plural(counts.rows, "row"));
    }
    if let Some(decided) = &finished.decided {
        let of = |outcome| thousands(decided.counts.of(outcome));
        let windows = plural(decided.windows, "window");
        line += &format!("\n{windows} decided: {} valid, {} error", of(Outcome::Valid), of(Outcome::Error));
        if decided.waiting > 0 || decided.held > 0 {
            line += &format!(" · {} wait in staging", plural(decided.waiting, "row"));
        }
        if decided.held > 0 {
            line += &format!(", {} held: `sluice audit list`", plural(decided.held, "window"));
        }
    }
    line
}

pub(super) fn end_json(finished: &Finished) -> String {
    let Finished { ran, head, .. } = finished;
    let Ran { entries, generation, counts, .. } = ran;
    let mut end = serde_json::json!({ "head": head, "entries": entries, "generation": generation, "counts": counts });
    if let Some(decided) = &finished.decided {
        let Decisions { windows, held, counts, waiting } = decided;
        end["decided"] = serde_json::json!({ "windows": windows, "held": held, "counts": counts, "waiting": waiting });
    }
    end.to_string()
}
