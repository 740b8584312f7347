//! `sluice audit`: windows that wait, windows that were decided, and a person's word on those that are held.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use tokio::runtime::Runtime;

use super::run::{Screen, decided_line, tell_decided, watch_signals};
use super::text::{Paint, plural, thousands};
use super::{PipelineArg, Verdict, open};
use crate::audit::auditor::{Auditor, alone};
use crate::audit::decide::{ByHand, Decided, Decider, held};
use crate::chain::Chain;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::ledger::window::Past;
use crate::ledger::{Extent, Fold, Verdict as Word, Waiting};
use crate::pipeline::{Follow, Stop};

/// Look at windows, and decide over those that are held.
///
/// With `[audit]`, rows wait in staging until their window is over. Then the window is published (rows without an error
/// finding to valid, the others to error), rejected (every row to error) or held for a person. `sluice run` does so while it
/// writes; `sluice audit run` does so in a process of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice audit list\n  sluice audit show 2026-11-20T21:00:00Z\n  \
sluice audit release 2026-11-20T21:00:00Z --reason \"a holiday\"\n  \
sluice audit reject visits/0@150000 --reason \"sent twice\"")]
pub struct AuditArgs {
    #[command(subcommand)]
    action: Action,
}

impl AuditArgs {
    /// Whether it decides over windows, and does not only show them.
    pub fn decides(&self) -> bool {
        match self.action {
            Action::Run { .. } | Action::Release { .. } | Action::Reject { .. } => true,
            Action::List { .. } | Action::Show { .. } => false,
        }
    }
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Decide over windows as they end, beside processes that write; until it is stopped
    Run {
        /// The pipeline file
        #[arg(default_value = "sluice.toml", value_name = "FILE")]
        file: PathBuf,
        /// Decide over what has ended by now, and stop
        #[arg(long)]
        once: bool,
        /// Decide over every window, as if nothing more came, and stop
        #[arg(long, conflicts_with = "once")]
        close_windows: bool,
        /// One JSON object per decision
        #[arg(long)]
        json: bool,
    },
    /// List windows that wait, and the last that were decided
    List {
        #[command(flatten)]
        pipeline: PipelineArg,
        /// Decided windows to show
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        /// One JSON object per window
        #[arg(long)]
        json: bool,
    },
    /// Show what was decided over a window, and why
    Show {
        /// As `list` shows it: 2026-11-20T21:00:00Z, visits/0@150000, in/a.ndjson@1f3a9c
        window: String,
        #[command(flatten)]
        pipeline: PipelineArg,
        /// JSON
        #[arg(long)]
        json: bool,
    },
    /// Publish a window that is held
    Release {
        /// As `list` shows it
        window: String,
        #[command(flatten)]
        pipeline: PipelineArg,
        /// Why; it is kept with the decision
        #[arg(long, default_value = "released by hand")]
        reason: String,
        /// Also where staging lost rows: they are given up
        #[arg(long)]
        anyway: bool,
    },
    /// Send every row of a window that is held to error
    Reject {
        /// As `list` shows it
        window: String,
        #[command(flatten)]
        pipeline: PipelineArg,
        /// Why; every row carries it
        #[arg(long)]
        reason: String,
        /// Also where staging lost rows: they are given up
        #[arg(long)]
        anyway: bool,
    },
}

/// Runs the command.
pub fn run(args: &AuditArgs) -> Result<Verdict> {
    let runtime = open::runtime()?;
    match &args.action {
        Action::Run { file, once, close_windows, json } => {
            let screen = if *json { Screen::Json } else { Screen::Text(Paint::stdout()) };
            watch(file, &runtime, *once, *close_windows, screen)
        }
        Action::List { pipeline, limit, json } => list(pipeline, &runtime, *limit, *json),
        Action::Show { window, pipeline, json } => show(window, pipeline, &runtime, *json),
        Action::Release { window, pipeline, reason, anyway } => {
            let word = ByHand { verdict: Word::Publish, reason: reason.clone(), anyway: *anyway };
            decide(window, pipeline, &runtime, &word)
        }
        Action::Reject { window, pipeline, reason, anyway } => {
            let word = ByHand { verdict: Word::Reject, reason: reason.clone(), anyway: *anyway };
            decide(window, pipeline, &runtime, &word)
        }
    }
}

/// What decides: the generation in force, and the ledger. Refuses pipelines that have no windows, or have not begun.
fn loaded(file: &std::path::Path, runtime: &Runtime) -> Result<(Arc<Chain>, Follow)> {
    let chain = open::chain(file)?;
    let follow = open::follow(&chain.config, runtime)?;
    if follow.fold()?.head == 0 {
        let state = &chain.config.state.written;
        return Err(Error::Config(format!("the ledger in {state} is empty: `sluice run` begins it")));
    }
    // what a changed file says is in force when `sluice run` has put it there
    let active = follow.fold()?.active.filter(|active| *active != chain.generation.hash);
    let chain = match active {
        None => Arc::new(chain),
        Some(active) => {
            let (store, state) = follow.ledger.place();
            let generation = runtime.block_on(Generation::load(store, state, &active))?;
            Arc::new(Chain::revive(generation, &chain.config, &chain.engine)?)
        }
    };
    if chain.config.audit.is_none() {
        return Err(Error::Config("this pipeline has no windows: there is no `[audit]` in its file".into()));
    }
    Ok((chain, follow))
}

fn watch(file: &std::path::Path, runtime: &Runtime, once: bool, close: bool, screen: Screen) -> Result<Verdict> {
    let stop = Stop::default();
    watch_signals(runtime, stop.clone())?;
    let (chain, follow) = loaded(file, runtime)?;
    let mut tell = |decided: &Decided| tell_decided(decided, screen);
    if once || close {
        Auditor::new(chain, follow)?.all(close, None, &mut tell)?;
    } else {
        alone(chain, follow, &stop, &mut tell)?;
    }
    Ok(Verdict::Done)
}

fn decide(window: &str, pipeline: &PipelineArg, runtime: &Runtime, word: &ByHand) -> Result<Verdict> {
    let (chain, follow) = loaded(&pipeline.config, runtime)?;
    let decider = Decider::new(chain, follow.clone())?;
    loop {
        let due = held(&follow.fold()?, window)?;
        // somebody else may have been faster: then the next look says what they decided
        if let Some(decided) = decider.decide(&due, Some(word))? {
            decider.finish()?;
            println!("{}", decided_line(&decided, Paint::stdout()));
            return Ok(Verdict::Done);
        }
    }
}

fn folded(pipeline: &PipelineArg, runtime: &Runtime) -> Result<(Follow, Fold)> {
    let config = Config::load(&pipeline.config)?;
    let follow = open::follow(&config, runtime)?;
    let fold = follow.fold()?;
    Ok((follow, fold))
}

fn list(pipeline: &PipelineArg, runtime: &Runtime, limit: usize, json: bool) -> Result<Verdict> {
    let (_, fold) = folded(pipeline, runtime)?;
    let mut waiting: Vec<&Waiting> = fold.windows.values().collect();
    waiting.sort_by(|one, other| one.staged.window.cmp(&other.staged.window));
    let past: Vec<&Past> = fold.past.iter().skip(fold.past.len().saturating_sub(limit)).collect();
    if json {
        for past in past {
            println!("{}", past_json(past));
        }
        for waiting in waiting {
            println!("{}", waiting_json(waiting));
        }
        return Ok(Verdict::Done);
    }
    if past.is_empty() && waiting.is_empty() {
        println!("no window was staged yet");
        return Ok(Verdict::Done);
    }
    let keys: Vec<String> = past
        .iter()
        .map(|p| name(&p.decision.window, p.decision.intervals))
        .chain(waiting.iter().map(|w| w.staged.window.key()))
        .collect();
    let wide = keys.iter().map(|key| key.chars().count()).max().unwrap_or(0).max(6);
    println!("  {:wide$}   {:<8} {:>12} {:>12}   entry  why", "window", "", "rows", "rejected");
    for (past, key) in past.iter().zip(&keys) {
        let decision = &past.decision;
        let why: Vec<&str> = decision.objections.iter().map(|objection| &*objection.code).collect();
        let line = format!(
            "  {key:wide$}   {:<8} {:>12} {:>12}   {:>5}  {}",
            decision.verdict,
            thousands(decision.rows),
            thousands(decision.rejected + decision.duplicates),
            past.entry,
            why.join(", ")
        );
        println!("{}", line.trim_end());
    }
    for (waiting, key) in waiting.iter().zip(&keys[past.len()..]) {
        let staged = &waiting.staged;
        let (state, entry) = match waiting.held {
            Some(entry) => ("hold", entry),
            None => ("open", waiting.since),
        };
        let (rows, rejected) = (thousands(staged.rows), thousands(staged.rejected));
        println!("  {key:wide$}   {state:<8} {rows:>12} {rejected:>12}   {entry:>5}");
    }
    Ok(Verdict::Done)
}

/// `2026-11-20T21:00:00Z`, or `2026-11-20T21:00:00Z and 3 more`.
fn name(window: &Extent, intervals: u64) -> String {
    match intervals {
        1 => window.key(),
        n => format!("{window} and {} more", thousands(n - 1)),
    }
}

fn past_json(past: &Past) -> serde_json::Value {
    json!({ "window": past.decision.window.key(), "state": past.decision.verdict, "entry": past.entry, "decision": past.decision })
}

fn waiting_json(waiting: &Waiting) -> serde_json::Value {
    let staged = &waiting.staged;
    let state = if waiting.held.is_some() { "hold" } else { "open" };
    json!({
        "window": staged.window.key(), "state": state, "entry": waiting.held.unwrap_or(waiting.since),
        "rows": staged.rows, "rejected": staged.rejected,
    })
}

/// Every entry that says something of a window: it may be long ago, so all of them are read.
fn show(window: &str, pipeline: &PipelineArg, runtime: &Runtime, json: bool) -> Result<Verdict> {
    let (follow, fold) = folded(pipeline, runtime)?;
    let mut decided: Vec<(u64, Arc<crate::ledger::Entry>)> = Vec::new();
    let (mut reached, mut staged) = (0, 0);
    while reached < fold.head {
        for (n, entry) in runtime.block_on(follow.ledger.page(reached, fold.head))? {
            reached = n;
            staged += entry.windows.iter().filter(|staged| staged.window.key() == window).map(|s| s.rows).sum::<u64>();
            if entry.decision.as_ref().is_some_and(|decision| decision.window.key() == window) {
                decided.push((n, entry));
            }
        }
    }
    let waiting = fold.windows.get(window);
    if decided.is_empty() && waiting.is_none() {
        return Err(Error::Config(format!("no window {window} was staged; `sluice audit list` shows those that were")));
    }
    if json {
        let decisions = decided.iter().map(
            |(n, entry)| json!({ "entry": n, "at": entry.at, "decision": entry.decision, "counts": entry.counts }),
        );
        let waiting = waiting.map(waiting_json);
        println!(
            "{}",
            json!({ "window": window, "staged": staged, "waiting": waiting, "decisions": decisions.collect::<Vec<_>>() })
        );
        return Ok(Verdict::Done);
    }
    println!("window {window} · {} staged", plural(staged, "row"));
    for (n, entry) in &decided {
        let Some(decision) = &entry.decision else { continue };
        let of = |outcome| thousands(entry.counts.of(outcome));
        let (valid, error) = (of(crate::outcome::Outcome::Valid), of(crate::outcome::Outcome::Error));
        let by = if decision.by_hand { " by hand" } else { "" };
        let at = entry.at.format("%Y-%m-%d %H:%M:%SZ");
        let rows =
            if decision.verdict == Word::Hold { String::new() } else { format!(" · valid {valid}, error {error}") };
        println!("  {}{by} · entry {n} · {at}{rows}", decision.verdict);
        for objection in &decision.objections {
            println!("    {}   {}", objection.code, objection.detail);
        }
        if decision.duplicates > 0 {
            println!("    duplicate   {} are later copies of a key", plural(decision.duplicates, "row"));
        }
    }
    match waiting {
        Some(waiting) if waiting.held.is_some() => {
            println!("  waits for `sluice audit release {window}` or `sluice audit reject {window} --reason …`");
        }
        Some(_) => println!("  open: it is not over yet"),
        None => {}
    }
    Ok(Verdict::Done)
}
