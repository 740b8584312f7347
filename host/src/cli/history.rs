//! `sluice history`: which generation judged from when on, why it came into force, and what it changed.

use std::path::PathBuf;

use serde_json::json;

use super::{Verdict, open};
use crate::config::Config;
use crate::error::Result;
use crate::generation::{Generation, short};
use crate::ledger::entry::Activation;
use crate::ledger::{Entry, Kind};

/// List the generations that were in force, what changed from each to the next, and why.
#[derive(Debug, clap::Args)]
pub struct HistoryArgs {
    /// The pipeline file
    #[arg(default_value = "sluice.toml", value_name = "FILE")]
    pub file: PathBuf,
    /// One JSON object per generation
    #[arg(long)]
    pub json: bool,
}

/// A generation that came into force.
struct Turn {
    entry: u64,
    at: chrono::DateTime<chrono::Utc>,
    hash: String,
    cause: &'static str,
    changes: Vec<String>,
}

/// Runs the command.
pub fn run(args: &HistoryArgs) -> Result<Verdict> {
    let config = Config::load(&args.file)?;
    let runtime = open::runtime()?;
    let follow = open::follow(&config, &runtime)?;
    let turns = runtime.block_on(async {
        let (store, state) = follow.ledger.place();
        let head = follow.ledger.head().await?;
        let mut turns: Vec<Turn> = Vec::new();
        let mut before: Option<Generation> = None;
        let mut after = 0;
        while after < head {
            let page = follow.ledger.page(after, head).await?;
            for (n, entry) in &page {
                let Some(cause) = cause(entry, turns.is_empty()) else { continue };
                let generation = Generation::load(store, state, &entry.generation).await?;
                let changes = before.as_ref().map(|before| generation.changes(before)).unwrap_or_default();
                turns.push(Turn { entry: *n, at: entry.at, hash: entry.generation.clone(), cause, changes });
                before = Some(generation);
            }
            after = page.last().map_or(head, |(n, _)| *n);
        }
        Ok::<_, crate::error::Error>(turns)
    })?;
    if args.json {
        for turn in &turns {
            let Turn { entry, at, hash, cause, changes } = turn;
            println!("{}", json!({"entry": entry, "at": at, "generation": hash, "cause": cause, "changes": changes}));
        }
        return Ok(Verdict::Done);
    }
    if turns.is_empty() {
        println!("the ledger in {} is empty: nothing was in force yet", config.state.written);
        return Ok(Verdict::Done);
    }
    let last = turns.len() - 1;
    println!("{:>6}  {:<19}  {:<10}  {:<8}  changed", "entry", "at (UTC)", "generation", "by");
    for (n, turn) in turns.iter().enumerate() {
        let changes = if n == 0 { "the first".to_owned() } else { turn.changes.join(", ") };
        let mark = if n == last { "  ← in force" } else { "" };
        let at = turn.at.format("%Y-%m-%d %H:%M:%S");
        println!("{:>6}  {at}  {:<10}  {:<8}  {changes}{mark}", turn.entry, short(&turn.hash), turn.cause);
    }
    Ok(Verdict::Done)
}

/// Why an entry put its generation in force; `None` where it did not.
fn cause(entry: &Entry, first: bool) -> Option<&'static str> {
    match (&entry.activation, entry.kind) {
        (Some(Activation { cause, .. }), _) => Some(cause.as_str()),
        (None, Kind::Start | Kind::Adopt) if first => Some("file"),
        (None, _) => None,
    }
}
