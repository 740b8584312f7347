//! `sluice bench`: what a plugin costs, see [`crate::workbench::measure`].

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::text::{bytes, plural, share, thousands};
use crate::cases::plugin as cases;
use crate::config::Wasi;
use crate::error::{Error, Result};
use crate::plugin::{Engine, Instances, Kind};
use crate::workbench::measure::{Measured, measure};
use crate::workbench::rows::{Row, made_up, objects};
use crate::workbench::{Subject, find_one, on_guest_stack};

/// Measure a plugin: nanoseconds and fuel per row, bytes passed, compile time, cold start, memory
///
/// Its rows come from --data, else from its cases, else they are made up.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sluice bench plugins/consent --data visits.ndjson\n  sluice bench consent.wasm --json | jq .ns_per_row\n  \
sluice bench timely --config '{\"max_late\": \"7d\"}'"
)]
pub struct BenchArgs {
    /// A component, a folder with one or with a plugin's source, a script, or the name of a ready-made one
    #[arg(value_name = "PLUGIN", default_value = ".")]
    plugin: PathBuf,
    /// A file of records
    #[arg(long, value_name = "FILE")]
    data: Option<String>,
    /// The plugin's settings, as JSON; by default those of its first case
    #[arg(long, value_name = "JSON", value_parser = super::check::settings)]
    config: Option<Value>,
    /// Serve a finished component that imports WASI 0.2 by stand-ins, as `wasi = "inert"` does in a pipeline
    #[arg(long, value_parser = ["inert"], value_name = "inert")]
    wasi: Option<String>,
    /// Rows of a call
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rows: u32,
    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Rows that are made up, where there are no others.
const MADE_UP: usize = 4096;

/// Runs the command.
pub fn run(args: &BenchArgs) -> Result<()> {
    let wasi = if args.wasi.is_some() { Wasi::Inert } else { Wasi::None };
    let found = find_one(&args.plugin, wasi)?;
    // compiled anew, and measured without what another run has left
    let engine = Engine::new(None)?;
    let cases = cases::cases(&found)?;
    let settings = args.config.clone().or_else(|| cases.first().map(|case| case.config.clone()));
    let settings = settings.unwrap_or_else(|| json!({}));
    let (shapes, source): (Vec<Value>, String) = match &args.data {
        Some(file) => (objects(file, 1000)?, file.clone()),
        None if !cases.is_empty() => (cases.iter().map(|case| case.row.clone()).collect(), "its cases".to_owned()),
        None => {
            let requests = found.inspect(&engine, &settings).description.map(|said| said.columns).unwrap_or_default();
            (made_up(&requests, MADE_UP, 7), "made up".to_owned())
        }
    };
    let subject = Subject::load(&engine, &found, &settings, &shapes.iter().collect::<Vec<_>>())?;
    let (batch, left_out) = match &args.data {
        Some(file) => subject.records(file)?,
        None => {
            let rows = shapes.iter().enumerate();
            let rows: Vec<Row<'_>> = rows.map(|(n, row)| Row { place: format!("row {}", n + 1), row }).collect();
            (subject.batch(&rows)?, 0)
        }
    };
    let measured = on_guest_stack(|| measure(&engine, &subject, &found.code, &batch, args.rows as usize, args.time))?;
    if args.json {
        let mut object = serde_json::to_value(&measured).map_err(|e| Error::Host(e.to_string()))?;
        object["data"] = source.into();
        object["left_out"] = left_out.into();
        println!("{object}");
    } else {
        print!("{}", table(&measured, &source, left_out));
    }
    Ok(())
}

fn table(m: &Measured, source: &str, left_out: u64) -> String {
    let kept = match m.instances {
        Instances::Fresh => "an instance for every call, as it asks",
        Instances::Reused => "one instance for many calls, as it asks",
    };
    let (other, what) = match m.instances {
        Instances::Fresh => (m.reused_ns_per_row, "the same with one instance for many calls"),
        Instances::Reused => (m.fresh_ns_per_row, "the same with an instance for every call"),
    };
    let answers = match m.kind {
        Kind::Rule => plural(m.answers as u64, "finding"),
        Kind::Auditor => plural(m.answers as u64, "decision"),
        Kind::Enricher => format!("{} made of them", plural(m.answers as u64, "row")),
    };
    let mut rows = format!("{answers} on {} ({source})", plural(m.rows as u64, "row"));
    if m.failed > 0 {
        rows += &format!(", failed on {}", thousands(m.failed as u64));
    }
    if left_out > 0 {
        rows += &format!(", {} left out: they do not have its columns' types", plural(left_out, "record"));
    }
    let lines = [
        ("compile", time(m.compile_ns as f64), "once, then cached by its digest".to_owned()),
        ("cold start", time(m.start_ns as f64), "instantiate and configure".to_owned()),
        ("a row", time(m.ns_per_row), format!("{kept}; calls of {}", plural(m.rows_per_call as u64, "row"))),
        ("", time(other), what.to_owned()),
        (
            "fuel",
            format!("{:.1}", m.fuel_per_row),
            format!("a row; {} of what a row may burn", share(m.fuel_per_row as u64, m.fuel_limit_per_row)),
        ),
        ("passed", format!("{:.1} B", m.passed_per_row), format!("a row, in {}", plural(m.columns as u64, "column"))),
        ("memory", bytes(m.memory as u64), format!("at most; it may have {}", bytes(m.memory_limit as u64))),
        ("found", String::new(), rows),
    ];
    let mut text =
        format!("{} {} · {} · {} · {}\n", m.plugin, m.version, m.kind, bytes(m.bytes as u64), &m.digest[..6]);
    for (what, value, comment) in lines {
        text += format!("  {what:<11}{value:>10}   {comment}").trim_end();
        text.push('\n');
    }
    text
}

/// `12.3 ns`, `1.2 ms`.
fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.1} ns"),
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.1} ms", ns / 1e6),
        ns => format!("{:.1} s", ns / 1e9),
    }
}
