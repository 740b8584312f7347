//! `sluice maintain`: small files put together, rows let go that were kept for long enough, checkpoints, shorter logs, and
//! the removal of what crashes left behind.

use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::Verdict;
use super::open;
use super::text::{bytes, plural, thousands};
use crate::config::{Config, units};
use crate::error::{Error, Result};
use crate::maintain::{self, Checkpoint, Compacted, Expired, Options, Report};

/// Tend tables and ledger: put small files together, write checkpoints, shorten logs, remove what crashes left behind.
///
/// It removes no row but those that a sink was told to `keep` for a time only, and may run beside the pipeline and beside itself, from cron for example. Files that nothing refers
/// to may be of a process that is writing them for an entry to come: they are left alone until they are old. A process
/// that was taken for dead judges its records again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sluice maintain --dry-run\n  sluice maintain pipelines/visits.toml --older-than 6h\n  \
sluice maintain --json | jq .sinks"
)]
pub struct MaintainArgs {
    /// The pipeline file
    #[arg(value_name = "FILE", default_value = "sluice.toml")]
    pub file: PathBuf,
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Leave small files as they are
    #[arg(long)]
    pub no_compact: bool,
    /// Leave files alone that nothing refers to until they are older than this: longer than any entry takes to be written
    #[arg(long, value_name = "AGE", default_value = "1h", value_parser = units::duration)]
    pub older_than: Duration,
    /// As one JSON object: sinks, ledger, expire, sweep
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &MaintainArgs, config: &Config, runtime: &Runtime) -> Result<Verdict> {
    let options = Options { dry_run: args.dry_run, compact: !args.no_compact, older_than: args.older_than };
    let follow = open::follow(config, runtime)?;
    let report = runtime.block_on(maintain::pipeline(config, &follow, &options))?;
    if args.json {
        let text =
            serde_json::to_string_pretty(&report).map_err(|e| Error::Host(format!("a report is no JSON: {e}")))?;
        println!("{text}");
    } else {
        print(&report, args.older_than);
    }
    Ok(Verdict::Done)
}

fn print(report: &Report, older_than: Duration) {
    let mut rows = vec![
        ["", "place", "at", "expired", "compacted", "checkpoint", "log", "orphans", "temporaries", "younger"]
            .map(str::to_owned),
    ];
    for sink in &report.sinks {
        rows.push([
            sink.outcome.to_string(),
            sink.location.clone(),
            format!("version {}", thousands(sink.version)),
            expired(sink.expired),
            compacted(sink.compacted, report.dry_run),
            checkpoint(sink.checkpoint),
            sink.log.to_string(),
            sink.orphans.to_string(),
            sink.temporaries.to_string(),
            sink.young.to_string(),
        ]);
    }
    let ledger = &report.ledger;
    rows.push([
        "ledger".into(),
        ledger.location.clone(),
        format!("entry {}", thousands(ledger.head)),
        "-".into(),
        "-".into(),
        checkpoint(ledger.checkpoint),
        ledger.checkpoints.to_string(),
        "-".into(),
        ledger.temporaries.to_string(),
        ledger.young.to_string(),
    ]);
    let widths: Vec<usize> =
        (0..rows[0].len()).map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
    let removed = report.removed();
    let what = format!("{}, {}", plural(removed.files, "file"), bytes(removed.bytes));
    match report.dry_run {
        true => println!("would remove {what}; nothing was changed"),
        false => println!("removed {what}"),
    }
    for sink in &report.sinks {
        let Some(before) = sink.expired.before else { continue };
        let (rows, how) = (thousands(sink.expired.rows), if report.dry_run { "would leave" } else { "left" });
        let entry = report.expire.map(|n| format!(" (entry {})", thousands(n))).unwrap_or_default();
        println!("{}: {rows} rows from before {before} {how}{entry}", sink.outcome);
    }
    if let Some(n) = report.sweep {
        println!("entry {} says which entries can come no more: their files were orphans", thousands(n));
    }
    for sink in report.sinks.iter().filter(|sink| sink.foreign.files > 0) {
        println!("{} in {} are not of sluice and not in the table: left alone", sink.foreign, sink.location);
    }
    if report.sinks.iter().any(|sink| sink.young.files > 0) || ledger.young.files > 0 {
        println!(
            "younger: less than {} old, maybe of a process that is writing",
            humantime::format_duration(older_than)
        );
    }
}

/// Rows, and the files that they were in.
fn expired(expired: Expired) -> String {
    match expired.whole.files + expired.mixed.files {
        0 => "-".into(),
        files => format!("{} in {}", plural(expired.rows, "row"), plural(files, "file")),
    }
}

fn compacted(compacted: Compacted, dry_run: bool) -> String {
    match (compacted.from.files, dry_run) {
        (0, _) => "-".into(),
        (_, true) => compacted.from.to_string(),
        (_, false) => format!("{} → {}", compacted.from, compacted.into),
    }
}

fn checkpoint(checkpoint: Option<Checkpoint>) -> String {
    match checkpoint {
        Some(Checkpoint { of, new: true }) => format!("{}, new", thousands(of)),
        Some(Checkpoint { of, new: false }) => thousands(of),
        None => "-".into(),
    }
}
