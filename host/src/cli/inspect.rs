//! `sluice inspect`: what a plugin, a table, the ledger or a generation is. It looks, and changes nothing.

use std::path::PathBuf;

use super::run::short;
use super::text::{bytes, plural, thousands};
use super::{PipelineArg, Verdict, open};
use crate::config::{Config, SinkKind};
use crate::error::{Doing, Error, Result};
use crate::generation::Generation;
use crate::ledger::{Entry, Kind};
use crate::outcome::Outcome;
use crate::plugin::Engine;
use crate::sink::look;
use crate::{component, plugin, store};

/// Show what a plugin, a table, the ledger or a generation is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice inspect plugin plugins/consent.wasm\n  sluice inspect plugin timely\n  \
sluice inspect table valid\n  sluice inspect ledger            the last entries\n  sluice inspect ledger 412        one entry, whole\n  \
sluice inspect generation        the one in force")]
pub struct InspectArgs {
    #[command(subcommand)]
    thing: Thing,
}

#[derive(Debug, clap::Subcommand)]
enum Thing {
    /// A component, whether or not it can be loaded
    Plugin {
        /// A file, or the name of a ready-made component
        #[arg(value_name = "FILE|NAME")]
        file: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The table behind a sink
    Table {
        /// valid, error or dlq
        #[arg(value_parser = parse_outcome)]
        sink: Outcome,
        #[command(flatten)]
        pipeline: PipelineArg,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The last entries of the ledger, or one of them
    Ledger {
        /// Number of the entry
        entry: Option<u64>,
        #[command(flatten)]
        pipeline: PipelineArg,
        /// Entries that are listed
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u64,
        /// As JSON, one object per entry
        #[arg(long)]
        json: bool,
    },
    /// What judges: the pipeline file's generation, or a past one
    Generation {
        /// Hash, or the beginning of one
        hash: Option<String>,
        #[command(flatten)]
        pipeline: PipelineArg,
    },
}

/// `valid`, `error`, `dlq`.
pub fn parse_outcome(text: &str) -> Result<Outcome, String> {
    let known = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == text);
    known.ok_or_else(|| format!("`{text}` is no sink: valid, error or dlq"))
}

/// Runs the command.
pub fn run(args: &InspectArgs) -> Result<Verdict> {
    match &args.thing {
        Thing::Plugin { file, json } => inspect_plugin(file, *json),
        Thing::Table { sink, pipeline, json } => inspect_table(*sink, pipeline, *json),
        Thing::Ledger { entry, pipeline, limit, json } => inspect_ledger(*entry, pipeline, *limit, *json),
        Thing::Generation { hash, pipeline } => inspect_generation(hash.as_deref(), pipeline),
    }
}

fn inspect_plugin(file: &std::path::Path, json: bool) -> Result<Verdict> {
    let builtin = file.to_str().filter(|_| !file.exists()).and_then(component::builtin);
    let code = match builtin {
        Some(code) => code?,
        None => std::fs::read(file).doing(|| format!("cannot read {}", file.display()))?,
    };
    let found = plugin::inspect(&Engine::new(None)?, &code);
    if json {
        println!("{}", serde_json::to_string_pretty(&found).map_err(|e| Error::Host(e.to_string()))?);
    } else {
        println!("{found}");
    }
    Ok(Verdict::of(found.problem.is_none()))
}

fn inspect_table(outcome: Outcome, pipeline: &PipelineArg, json: bool) -> Result<Verdict> {
    let runtime = open::runtime()?;
    let config = Config::load(&pipeline.config)?;
    let sink = match outcome {
        Outcome::Valid => &config.sinks.valid,
        Outcome::Error => &config.sinks.error,
        Outcome::Dlq => &config.sinks.dlq,
    };
    let SinkKind::Delta(location) = &sink.kind else {
        return Err(Error::Config(format!("sink `{outcome}` is no table")));
    };
    let (counts, described) = runtime.block_on(async {
        let table = look::open(location, store::open(location)?.0).await?;
        let table = table.ok_or_else(|| Error::Config(format!("there is no table at {} yet", location.written)))?;
        Ok::<_, Error>((table.counts().await?, table.describe()?))
    })?;
    if json {
        println!("{}", serde_json::json!({ "location": location.written, "table": described, "counts": counts }));
        return Ok(Verdict::Done);
    }
    println!("{outcome}  {}  version {}", location.written, described.version);
    println!("  id          {}", described.id);
    println!("  protocol    reader {}, writer {}", described.protocol.0, described.protocol.1);
    println!(
        "  rows        {} in {}, {}",
        thousands(counts.rows),
        plural(counts.files as u64, "file"),
        bytes(counts.bytes)
    );
    if !described.partition_columns.is_empty() {
        println!("  partitions  {} by {}", counts.partitions.len(), described.partition_columns.join(", "));
    }
    println!("  columns");
    for (name, ty) in &described.columns {
        println!("    {name:<24} {ty}");
    }
    Ok(Verdict::Done)
}

fn inspect_ledger(number: Option<u64>, pipeline: &PipelineArg, limit: u64, json: bool) -> Result<Verdict> {
    let runtime = open::runtime()?;
    let config = Config::load(&pipeline.config)?;
    let follow = open::follow(&config, &runtime)?;
    let ledger = &follow.ledger;
    let head = runtime.block_on(ledger.head())?;
    let (after, up_to) = match number {
        Some(n) if n == 0 || n > head => {
            return Err(Error::Config(format!(
                "there is no entry {n}: the ledger in {} ends at {head}",
                config.state.written
            )));
        }
        Some(n) => (n - 1, n),
        None => (head.saturating_sub(limit), head),
    };
    let entries = runtime.block_on(ledger.entries(after, up_to))?;
    for (n, entry) in &entries {
        let object =
            || serde_json::to_value(&**entry).map_err(|e| Error::Host(format!("an entry cannot be shown: {e}")));
        if json {
            println!("{}", serde_json::json!({ "number": n, "entry": object()? }));
        } else if number.is_some() {
            println!(
                "entry {n}\n{}",
                serde_json::to_string_pretty(&object()?).map_err(|e| Error::Host(e.to_string()))?
            );
        } else {
            println!("{}", entry_line(*n, entry));
        }
    }
    if entries.is_empty() {
        println!("the ledger in {} is empty", config.state.written);
    }
    Ok(Verdict::Done)
}

fn entry_line(n: u64, entry: &Entry) -> String {
    let kind = match entry.kind {
        Kind::Start => "start",
        Kind::Rows => "rows",
        Kind::Gap => "gap",
        Kind::Adopt => "adopt",
        Kind::Reset => "reset",
        Kind::Sweep => "sweep",
    };
    let at = entry.at.format("%Y-%m-%d %H:%M:%S");
    let ranges: Vec<String> = entry.ranges.iter().map(|r| format!("{} [{}, {})", r.partition, r.from, r.to)).collect();
    let what = match ranges.len() {
        0 if !entry.swept.is_empty() => format!("files of {} that never came", entries(entry.swept.len())),
        0 => entry.tables.keys().map(|outcome| format!("{outcome} is bound")).collect::<Vec<_>>().join(", "),
        1..=4 => ranges.join("  "),
        more => format!("{}  … and {} more", ranges[..3].join("  "), more - 3),
    };
    format!(
        "{n:>6}  {at}  {kind:<6} {}  {:>9} records  {what}",
        short(&entry.generation),
        thousands(entry.counts.records)
    )
}

fn entries(n: usize) -> String {
    if n == 1 { "1 entry".into() } else { format!("{} entries", thousands(n as u64)) }
}

fn inspect_generation(hash: Option<&str>, pipeline: &PipelineArg) -> Result<Verdict> {
    let runtime = open::runtime()?;
    let generation = match hash {
        None => open::chain(&pipeline.config)?.generation,
        Some(hash) => {
            let config = Config::load(&pipeline.config)?;
            let follow = open::follow(&config, &runtime)?;
            let (store, state) = follow.ledger.place();
            let mut known = runtime.block_on(Generation::find(store, state, hash))?;
            match (known.pop(), known.is_empty()) {
                (Some(hash), true) => runtime.block_on(Generation::load(store, state, &hash))?,
                (None, _) => return Err(Error::Config(format!("no generation of this pipeline begins with `{hash}`"))),
                (Some(_), false) => {
                    return Err(Error::Config(format!("several generations begin with `{hash}`: give more of it")));
                }
            }
        }
    };
    println!("generation {}", generation.hash);
    let text = serde_json::to_string_pretty(&generation.judgement).map_err(|e| Error::Host(e.to_string()))?;
    println!("{text}");
    Ok(Verdict::Done)
}
