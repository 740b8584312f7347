//! `sluice inspect`: what a plugin, a table, the ledger or a generation is. It looks, and changes nothing.

use std::path::PathBuf;

use super::run::short;
use super::text::{bytes, plural, thousands};
use super::{PipelineArg, Verdict, open};
use crate::config::Config;
use crate::error::{Doing, Error, Result};
use crate::generation::Generation;
use crate::ledger::{Entry, Kind};
use crate::outcome::Outcome;
use crate::plugin::Engine;
use crate::script::{Language, Script};
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
    /// A component or a script, whether or not it can be loaded
    Plugin {
        /// A component, a script, or the name of a ready-made component
        #[arg(value_name = "FILE|NAME")]
        file: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The table behind a sink
    Table {
        /// valid, error, dlq or derive/NAME
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

/// `valid`, `error`, `dlq`, `derive/NAME`.
pub fn parse_outcome(text: &str) -> Result<Outcome, String> {
    let none = || format!("`{text}` is no sink: valid, error, dlq, staging or derive/NAME");
    Outcome::parse(text).ok_or_else(none)
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
    if let Some(language) = Language::of_file(file) {
        let engine = Engine::new(open::compiled_cache())?;
        let shown = file.display().to_string();
        let script = Script::read(language, &shown, &shown, file).doing(|| format!("cannot read {shown}"))?;
        let code = component::engine(language)?;
        return print_inspection(&plugin::inspect_script(&engine, &code, &script, &serde_json::Value::Null), json);
    }
    let builtin = file.to_str().filter(|_| !file.exists()).and_then(component::builtin);
    let code = match builtin {
        Some(code) => code?,
        None => std::fs::read(file).doing(|| format!("cannot read {}", file.display()))?,
    };
    print_inspection(&plugin::inspect(&Engine::new(None)?, &code), json)
}

fn print_inspection(found: &plugin::Inspection, json: bool) -> Result<Verdict> {
    if json {
        println!("{}", serde_json::to_string_pretty(found).map_err(|e| Error::Host(e.to_string()))?);
    } else {
        println!("{found}");
    }
    Ok(Verdict::of(found.problem.is_none()))
}

fn inspect_table(outcome: Outcome, pipeline: &PipelineArg, json: bool) -> Result<Verdict> {
    let runtime = open::runtime()?;
    let config = Config::load(&pipeline.config)?;
    let Some(location) = config.table(outcome) else {
        return Err(Error::Config(format!("sink `{outcome}` is no table of {}", pipeline.config.display())));
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
        Kind::Activate => "activate",
        Kind::Decision => "decision",
        Kind::Expire => "expire",
        Kind::Sweep => "sweep",
        Kind::Replay => "replay",
    };
    let at = entry.at.format("%Y-%m-%d %H:%M:%S");
    let ranges: Vec<String> = entry.ranges.iter().map(|r| format!("{} [{}, {})", r.partition, r.from, r.to)).collect();
    let what = match ranges.len() {
        _ if entry.replay.is_some() => replayed(entry),
        0 if !entry.expired.is_empty() => format!("{} leave staging", windows(entry.expired.len())),
        0 if !entry.kept_from.is_empty() => {
            let gone = entry.kept_from.iter().map(|(outcome, from)| format!("{outcome} before {from}"));
            format!("rows leave: {}", gone.collect::<Vec<_>>().join(", "))
        }
        0 if entry.decision.is_some() => {
            let decision = entry.decision.iter();
            decision.map(|of| format!("window {}: {}", of.window, of.verdict)).collect()
        }
        0 if !entry.swept.is_empty() => format!("files of {} that never came", entries(entry.swept.len())),
        0 => entry.tables.keys().map(|outcome| format!("{outcome} is bound")).collect::<Vec<_>>().join(", "),
        1..=4 => ranges.join("  "),
        more => format!("{}  … and {} more", ranges[..3].join("  "), more - 3),
    };
    let joined: String = entry.references.iter().map(|(name, version)| format!("  with {name} {version}")).collect();
    format!(
        "{n:>6}  {at}  {kind:<6} {}  {:>9} records  {what}{joined}",
        short(&entry.generation),
        thousands(entry.counts.records)
    )
}

fn windows(n: usize) -> String {
    if n == 1 { "1 window".into() } else { format!("{} windows", thousands(n as u64)) }
}

/// `of error WHERE page = 'main': valid 3, error 1, dlq 0`.
fn replayed(entry: &Entry) -> String {
    let Some(replay) = &entry.replay else { return String::new() };
    let condition = replay.condition.as_ref().map(|sql| format!(" WHERE {sql}")).unwrap_or_default();
    let counts = Outcome::LAST.map(|outcome| format!("{outcome} {}", thousands(entry.counts.of(outcome))));
    format!("of {}{condition}: {}", replay.of, counts.join(", "))
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
            let hash = crate::admin::find(&follow, hash)?;
            runtime.block_on(Generation::load(store, state, &hash))?
        }
    };
    println!("generation {}", generation.hash);
    let text = serde_json::to_string_pretty(&generation.judgement).map_err(|e| Error::Host(e.to_string()))?;
    println!("{text}");
    Ok(Verdict::Done)
}
