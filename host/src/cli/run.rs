//! `sluice run`: the pipeline, until it is stopped or its source ends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::runtime::Runtime;

use super::text::{Paint, plural, thousands};
use super::{Verdict, open};
use crate::admin::{self, Host, SharedStatus};
use crate::audit::auditor::{Auditor, Beside};
use crate::audit::decide::Decided;
use crate::chain::Chain;
use crate::config::SourceKind;
use crate::error::{Doing, Error, Result};
use crate::generation::Generation;
use crate::ledger::{Counts, Verdict as LedgerVerdict, apply};
use crate::maintain::Upkeep;
use crate::outcome::Outcome;
use crate::pipeline::{Follow, Options, Pipeline, Ran, Stop};
use crate::reload::{Reload, Reloaded, Written};
use crate::sink::Applied;
use crate::source::Source;
use crate::source::files::{FilesSource, Progress};
use crate::source::kafka::KafkaSource;
use crate::source::stdin::StdinSource;
use crate::telemetry::{Metrics, http};

mod lines;
mod reloads;
mod watch;

pub use lines::short;
use watch::{Watch, say};

/// Run a pipeline until it is stopped.
///
/// Every record ends in exactly one of valid, error and dlq. Stop it with ctrl-c or SIGTERM: it commits what it has read
/// and ends. Start it again and it goes on where it was. While it runs, it serves metrics on 127.0.0.1:9187 or the next free
/// port (`[metrics] listen`), with /livez and /readyz beside them; `sluice top` shows them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice run                              until ctrl-c\n  \
sluice run --until-end                  for cron and Airflow: stop when there is nothing more\n  \
sluice run --until-end --fail-on error=1%   exit with 1 when more than 1 % of the rows are errors")]
pub struct RunArgs {
    /// The pipeline file
    #[arg(default_value = "sluice.toml", value_name = "FILE")]
    pub file: PathBuf,
    /// Stop when the source has nothing more for now
    #[arg(long)]
    pub until_end: bool,
    /// Decide over every window before the run ends, as if nothing more came: for topics; files do so with --until-end
    #[arg(long)]
    pub close_windows: bool,
    /// Exit with 1 when an outcome's share of this run's rows is above this, `error=1%`; may be given more than once
    #[arg(long, value_name = "OUTCOME=SHARE", value_parser = parse_fail_on)]
    pub fail_on: Vec<FailOn>,
    /// Threads that judge [default: one per core]
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// One JSON object per entry and one at the end, on standard output
    #[arg(long)]
    pub json: bool,
}

/// `error=1%`: more than that and the run says no.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailOn {
    outcome: Outcome,
    percent: f64,
}

fn parse_fail_on(text: &str) -> Result<FailOn, String> {
    let expected = || format!("expected an outcome and a share, like error=1% or dlq=0%, not `{text}`");
    let (outcome, percent) = text.split_once('=').ok_or_else(expected)?;
    let outcome = match outcome {
        "error" => Outcome::Error,
        "dlq" => Outcome::Dlq,
        _ => return Err(format!("{}; the outcomes are error and dlq", expected())),
    };
    let percent: f64 = percent.strip_suffix('%').and_then(|p| p.trim().parse().ok()).ok_or_else(expected)?;
    if !(0.0..=100.0).contains(&percent) {
        return Err(format!("a share is between 0% and 100%, not {percent}%"));
    }
    Ok(FailOn { outcome, percent })
}

impl FailOn {
    fn is_broken_by(self, counts: &Counts) -> bool {
        counts.of(self.outcome) as f64 * 100.0 > self.percent * counts.rows as f64
    }
}

/// What a finished run shows.
pub struct Finished {
    /// what judged
    pub chain: Arc<Chain>,
    /// what it did
    pub ran: Ran,
    /// what became of windows, where there are any
    pub decided: Option<Decisions>,
    /// how far each sink is
    pub applied: BTreeMap<Outcome, Applied>,
    /// the ledger's head
    pub head: u64,
}

/// What a run decided over windows.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    /// windows; several empty intervals in a row are one
    pub windows: u64,
    /// windows that are held, all of them
    pub held: u64,
    /// what became of their rows
    pub counts: Counts,
    /// rows that wait in staging, all of them
    pub waiting: u64,
}

impl Finished {
    /// Where rows ended in this run: those that were judged and those that windows were decided over.
    pub fn outcomes(&self) -> Counts {
        let mut counts = self.ran.counts.clone();
        if let Some(decided) = &self.decided {
            let staged = counts.outcomes.remove(&Outcome::Staging).unwrap_or(0);
            counts.rows -= staged;
            counts.add(&decided.counts);
        }
        counts
    }
}

/// Runs the command.
pub fn run(args: &RunArgs) -> Result<Verdict> {
    let options = Options { until_end: args.until_end, workers: workers(args.workers) };
    let screen = if args.json { Screen::Json } else { Screen::Text(Paint::stdout()) };
    let finished = pipeline(&args.file, &options, args.close_windows, screen)?;
    let counts = &finished.outcomes();
    let broken: Vec<_> = args.fail_on.iter().filter(|limit| limit.is_broken_by(counts)).collect();
    for limit in &broken {
        let n = counts.of(limit.outcome);
        eprintln!(
            "{}: {} of {} rows, more than {} %",
            limit.outcome,
            thousands(n),
            thousands(counts.rows),
            limit.percent
        );
    }
    Ok(Verdict::of(broken.is_empty()))
}

/// Threads that judge, where the user names none: one per core.
pub fn workers(wanted: Option<usize>) -> usize {
    wanted.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()))
}

/// What a run shows.
#[derive(Clone, Copy, Debug)]
pub enum Screen {
    /// lines and progress bars for people
    Text(Paint),
    /// a progress bar and nothing else
    Bar,
    /// JSON lines
    Json,
}

/// Runs the pipeline of a file: what `sluice run` and `sluice demo` share.
pub fn pipeline(file: &std::path::Path, options: &Options, close_windows: bool, screen: Screen) -> Result<Finished> {
    let runtime = open::runtime()?;
    let stop = Stop::default();
    let interrupted = watch_signals(&runtime, stop.clone())?;
    let since = SystemTime::now();
    let chain = open::chain(file)?;
    if close_windows && chain.config.audit.is_none() {
        return Err(Error::Config("`--close-windows` has no use: there is no `[audit]` in the pipeline file".into()));
    }
    // before anything is written: a run that cannot be watched as it should be does not start
    let endpoint = match screen {
        Screen::Text(_) | Screen::Json => http::bind(&chain.config.metrics)?,
        Screen::Bar => None, // a demo touches nothing outside its folder
    };
    let admin = match &chain.config.admin {
        Some(admin) if !options.until_end => {
            Some((http::take(&admin.listen, "the admin endpoint", "[admin] listen")?, admin.clone()))
        }
        Some(_) | None => None,
    };
    let url = endpoint.as_ref().map(http::Endpoint::url);
    let follow = open::follow(&chain.config, &runtime)?;
    let (config, generation) = (chain.config.clone(), chain.generation.hash.clone());
    let chain = Arc::new(in_force(chain, &follow)?);
    let (mut source, progress) = source(&chain)?;
    let metrics = Arc::new(Metrics::new());
    metrics.judges(&chain);
    let serving = endpoint.map(|it| it.serve(http::router(metrics.clone()), runtime.handle())).transpose()?;
    let pipeline = Pipeline::open(chain.clone(), follow.clone(), stop.clone(), metrics.clone())?;
    let status = SharedStatus::default();
    chain.generation.hash.clone_into(&mut status.lock().unwrap_or_else(PoisonError::into_inner).generation);
    let admin = admin.map(|(endpoint, config)| {
        let (follow, swap, engine) = (follow.clone(), pipeline.swap(), chain.engine.clone());
        let host = Host { follow, swap, today: chain.config.clone(), engine, status: status.clone() };
        endpoint.serve(admin::router(host, &config), runtime.handle())
    });
    let admin = admin.transpose()?;
    let mut watch = Watch::new(screen, progress, options.until_end);
    watch.begin(&chain, &follow, &*source, url.as_deref())?;
    // a run that ends by itself judges by what it began with
    let reload = (!options.until_end).then(|| {
        let bar = watch.bar.clone();
        let told = metrics.clone();
        let tell = move |reloaded: Reloaded<'_>| bar.suspend(|| reloads::tell(&reloaded, screen, &told, &status));
        let written = Written { config: &config, generation, since };
        Reload::watch(chain.clone(), written, follow.clone(), pipeline.swap(), stop.clone(), metrics.clone(), tell)
    });
    let reload = reload.transpose()?;
    let upkeep =
        chain.config.upkeep.map(|every| Upkeep::begin(chain.config.clone(), every, follow.clone(), stop.clone()));
    let upkeep = upkeep.transpose()?;
    let underway = Arc::new(pipeline.underway());
    let decisions = Arc::new(Mutex::new(Decisions::default()));
    let tell = {
        let (bar, decisions) = (watch.bar.clone(), decisions.clone());
        move |decided: &Decided| {
            metrics.decided(decided.decision.verdict, &decided.counts);
            decisions.lock().unwrap_or_else(PoisonError::into_inner).take(decided);
            bar.suspend(|| tell_decided(decided, screen));
        }
    };
    let is_audited = chain.config.audit.is_some();
    let audit = is_audited.then(|| Beside::watch(chain.clone(), underway.clone(), stop.clone(), tell.clone()));
    let audit = audit.transpose()?;
    let ran = pipeline.run(&mut *source, options, &mut |happening| watch.see(happening));
    stop.stop();
    if let Some(reload) = reload {
        reload.join();
    }
    if let Some(upkeep) = upkeep {
        upkeep.join();
    }
    audit.map(Beside::join).transpose()?;
    let ran = ran?;
    if let Some(error) = underway.trouble() {
        return Err(error);
    }
    if is_audited && !interrupted.load(Ordering::SeqCst) {
        // files are read to their end, a topic has none
        let is_bounded = !matches!(chain.config.source.kind, SourceKind::Kafka(_));
        let ended = close_windows || (options.until_end && is_bounded);
        let chain = underway.changed().unwrap_or_else(|| chain.clone());
        Auditor::new(chain, follow.clone())?.all(ended, Some(&underway), &mut tell.clone())?;
    }
    watch.bar.finish_and_clear();
    let (head, applied) = runtime.block_on(async {
        let head = follow.ledger.head().await?;
        Ok::<_, Error>((head, apply::apply_all(&follow.sinks, &follow.ledger, head).await?))
    })?;
    drop((serving, admin));
    let decided = is_audited.then(|| {
        let mut decided = decisions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fold = follow.fold()?;
        decided.waiting = fold.totals.of(Outcome::Staging);
        decided.held = fold.windows.values().filter(|waiting| waiting.held.is_some()).count() as u64;
        Ok::<_, Error>(decided)
    });
    let finished = Finished { chain, ran, decided: decided.transpose()?, applied, head };
    watch.end(&finished);
    Ok(finished)
}

/// What judges from the first record on: what the file says, unless something else was put in force since it last changed.
pub(super) fn in_force(chain: Chain, follow: &Follow) -> Result<Chain> {
    let fold = follow.fold()?;
    let hash = &chain.generation.hash;
    let Some(active) = fold.active.filter(|active| active != hash && fold.proposed.as_ref() == Some(hash)) else {
        return Ok(chain);
    };
    let (store, state) = follow.ledger.place();
    let generation = follow.runtime.block_on(Generation::load(store, state, &active))?;
    say(&format!(
        "generation {} is in force, by `sluice promote` or `sluice rollback`; what {} says is generation {}, which has not \
         changed since",
        generation.short(),
        chain.config.file.display(),
        chain.generation.short()
    ));
    Chain::revive(generation, &chain.config, &chain.engine)
}

type Reading = (Box<dyn Source>, Option<Arc<Progress>>);

/// The pipeline's source, and how far it has got where that can be said in bytes.
fn source(chain: &Chain) -> Result<Reading> {
    let config = &chain.config;
    let max_record = config.source.max_record;
    Ok(match &config.source.kind {
        SourceKind::Files(patterns) => {
            let source = FilesSource::new(&config.base, patterns, max_record)?;
            let progress = source.progress();
            (Box::new(source), Some(progress))
        }
        SourceKind::Stdin => (Box::new(StdinSource::new(max_record)), None),
        SourceKind::Kafka(kafka) => (Box::new(KafkaSource::new(kafka)?), None),
    })
}

/// The first signal flushes and stops; the second ends the process at once, which loses nothing either.
pub(super) fn watch_signals(runtime: &Runtime, stop: Stop) -> Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let _inside = runtime.enter();
    let watched = |kind| signal(kind).doing(|| "cannot watch signals".into());
    let (mut int, mut term) = (watched(SignalKind::interrupt())?, watched(SignalKind::terminate())?);
    let interrupted = Arc::new(AtomicBool::new(false));
    let heard = interrupted.clone();
    runtime.spawn(async move {
        for last in [false, true] {
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
            if last {
                std::process::exit(130);
            }
            heard.store(true, Ordering::SeqCst);
            stop.stop();
        }
    });
    Ok(interrupted)
}

impl Decisions {
    fn take(&mut self, decided: &Decided) {
        self.windows += 1;
        self.counts.add(&decided.counts);
    }
}

/// A decision, as it is shown while a pipeline runs.
pub(super) fn tell_decided(decided: &Decided, screen: Screen) {
    match screen {
        Screen::Text(paint) => say(&decided_line(decided, paint)),
        Screen::Json => say(&decided_json(decided).to_string()),
        Screen::Bar => {}
    }
}

/// `21:03:15 window 2026-11-20T21:00:00Z  publish  valid 48  error 1  entry 413`.
pub(super) fn decided_line(decided: &Decided, paint: Paint) -> String {
    let Decided { entry, decision, counts, .. } = decided;
    let verdict = match decision.verdict {
        LedgerVerdict::Publish => paint.green("publish"),
        LedgerVerdict::Hold => paint.yellow("hold"),
        LedgerVerdict::Reject => paint.red("reject"),
    };
    let rows = match decision.verdict {
        LedgerVerdict::Hold => format!("{} wait", thousands(decision.rows)),
        LedgerVerdict::Publish | LedgerVerdict::Reject => {
            let of = |outcome| thousands(counts.of(outcome));
            format!("valid {}  error {}", of(Outcome::Valid), of(Outcome::Error))
        }
    };
    let empty = match decision.intervals {
        1 => String::new(),
        n => format!(" and {} more without rows", thousands(n - 1)),
    };
    let why: Vec<String> = decision.objections.iter().map(|o| format!("\n  {}  {}", o.code, o.detail)).collect();
    let at = chrono::Local::now().format("%H:%M:%S");
    format!("{at} window {}{empty}  {verdict}  {rows}  entry {entry}{}", decision.window, why.concat())
}

/// The same for scripts.
pub(super) fn decided_json(decided: &Decided) -> serde_json::Value {
    let Decided { entry, decision, counts, took } = decided;
    let (seconds, window) = (took.as_secs_f64(), decision.window.key());
    serde_json::json!({ "entry": entry, "window": window, "decision": decision, "counts": counts, "seconds": seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fail_on_reads_outcome_and_share() {
        assert_eq!(parse_fail_on("error=1%"), Ok(FailOn { outcome: Outcome::Error, percent: 1.0 }));
        for wrong in ["error", "error=1", "valid=1%", "dlq=101%", "dlq=x%"] {
            assert!(parse_fail_on(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn fail_on_is_broken_above_its_share_only() {
        let counts = Counts { rows: 100, outcomes: [(Outcome::Error, 1)].into(), ..Counts::default() };
        let at = |percent| FailOn { outcome: Outcome::Error, percent }.is_broken_by(&counts);
        assert!(at(0.9));
        assert!(!at(1.0));
        assert!(!FailOn { outcome: Outcome::Dlq, percent: 0.0 }.is_broken_by(&counts));
    }
}
