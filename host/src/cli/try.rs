//! `sluice try`: records through the chain, in memory. It writes nothing, and needs no broker and no ledger.

use std::collections::{BTreeMap, VecDeque};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::text::{Paint, plural, thousands};
use super::{PipelineArg, Verdict, open};
use crate::chain::{Chain, Judge, Judged, Waiting};
use crate::config::{Config, EnrichConfig, PluginCode};
use crate::error::{Error, Result};
use crate::ledger::Counts;
use crate::outcome::{Finding, Outcome, Severity};
use crate::record::{RawBatch, TopicPartition};
use crate::source::files::FilesSource;
use crate::source::stdin::StdinSource;
use crate::source::{Command, Intake, Known, Source, StartAt};

/// Run records in memory and print where each goes, and why.
///
/// One JSON object per line, from a file (.gz and .zst are read as they are) or from standard input. Nothing is written.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice try visits.ndjson\n  echo '{\"user_id\": null}' | sluice try\n  \
sluice try visits.ndjson --watch        again whenever the pipeline changes\n  sluice try visits.ndjson --json | jq .outcome")]
pub struct TryArgs {
    /// A file of records, or - for standard input
    #[arg(default_value = "-", value_name = "FILE")]
    pub input: String,
    /// whose chain
    #[command(flatten)]
    pub pipeline: PipelineArg,
    /// Rows that are shown at most; the others are counted
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub limit: usize,
    /// Show valid rows too, not only errors and dead letters (a single record is always shown)
    #[arg(long)]
    pub all: bool,
    /// Run again whenever the pipeline file, or a file that it names, changes
    #[arg(long)]
    pub watch: bool,
    /// One JSON object per row: coordinates, outcome, findings, columns
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &TryArgs) -> Result<Verdict> {
    if !args.watch {
        return once(args);
    }
    if args.input == "-" {
        return Err(Error::Config("--watch needs a file: standard input cannot be read again".into()));
    }
    loop {
        if std::io::stdout().is_terminal() {
            print!("\x1b[2J\x1b[H");
        }
        let before = fingerprint(args);
        if let Err(error) = once(args) {
            super::complain(&error);
        }
        println!("{}", Paint::stdout().dim("watching; ctrl-c ends"));
        while fingerprint(args) == before {
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// The content of everything that a verdict depends on: files are compared by what is in them, never by their times.
fn fingerprint(args: &TryArgs) -> Vec<u8> {
    let file = &args.pipeline.config;
    let mut files = vec![file.clone(), PathBuf::from(&args.input)];
    if let Ok(config) = Config::load(file) {
        let plugins = config.rules.iter().chain(config.enrich.iter().filter_map(|step| match step {
            EnrichConfig::Plugin(plugin) => Some(plugin),
            EnrichConfig::Sql { .. } => None,
        }));
        files.extend(plugins.filter_map(|plugin| match &plugin.code {
            PluginCode::Wasm(_, path) => Some(path.clone()),
            PluginCode::Builtin(_) => None,
        }));
    } else if let Some(folder) = file.parent() {
        // it cannot be read now: whatever lies beside it may be what mends it
        let beside = std::fs::read_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        files.extend(beside.into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    let mut all = Sha256::new();
    for file in files {
        all.update(Sha256::digest(std::fs::read(file).unwrap_or_default()));
    }
    all.finalize().to_vec()
}

fn once(args: &TryArgs) -> Result<Verdict> {
    let chain = open::chain(&args.pipeline.config)?;
    let max_record = chain.config.source.max_record;
    let mut source: Box<dyn Source> = if args.input == "-" {
        Box::new(StdinSource::new(max_record))
    } else {
        let here = std::env::current_dir().map_err(|e| Error::environment("cannot find the working folder", e))?;
        Box::new(FilesSource::new(&here, std::slice::from_ref(&args.input), max_record)?)
    };
    let trial = Trial(Mutex::new(State {
        judge: chain.judge()?,
        chain: &chain,
        args,
        paint: Paint::stdout(),
        counts: Counts::default(),
        shown: 0,
        hidden: 0,
        held: VecDeque::new(),
        known: BTreeMap::new(),
    }));
    // guests run on this thread's stack, so it gets as large a one as a worker's
    let ended = std::thread::scope(|scope| {
        let reading = std::thread::Builder::new().stack_size(8 << 20).spawn_scoped(scope, || source.run(&trial, true));
        let reading = reading.map_err(|e| Error::environment("cannot start a thread", e))?;
        reading.join().unwrap_or_else(|_| Err(Error::Host("the thread that reads panicked".into())))
    });
    ended?;
    let mut state = trial.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    state.end();
    Ok(Verdict::Done)
}

/// Takes batches from a source and shows what becomes of them.
struct Trial<'a>(Mutex<State<'a>>);

struct State<'a> {
    judge: Judge,
    chain: &'a Chain,
    args: &'a TryArgs,
    paint: Paint,
    counts: Counts,
    shown: usize,
    hidden: u64,
    /// the only row so far, valid and not yet shown
    held: VecDeque<String>,
    known: BTreeMap<TopicPartition, Known>,
}

impl State<'_> {
    fn take(&mut self, batch: RawBatch) -> Result<()> {
        let mut waiting = Waiting::from(batch);
        while let Some(judged) = self.judge.next(&mut waiting)? {
            self.show(&judged)?;
        }
        Ok(())
    }

    fn show(&mut self, judged: &Judged) -> Result<()> {
        self.counts.add(&judged.counts);
        for line in Lines::of(judged) {
            match line.outcome() {
                Outcome::Valid if !self.args.all && !self.args.json => {
                    if self.counts.rows == 1 {
                        self.held.push_back(line.text(self.chain, self.paint));
                    }
                }
                Outcome::Valid | Outcome::Error | Outcome::Dlq => {
                    if self.shown >= self.args.limit && !self.args.json {
                        self.hidden += 1;
                        continue;
                    }
                    self.shown += 1;
                    let text = if self.args.json { line.json(self.chain)? } else { line.text(self.chain, self.paint) };
                    // whoever reads us may have seen enough
                    if writeln!(std::io::stdout(), "{text}").is_err() {
                        std::process::exit(0);
                    }
                }
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        if self.args.json {
            return;
        }
        if self.counts.rows == 1 {
            self.held.drain(..).for_each(|line| println!("{line}"));
        }
        if self.hidden > 0 {
            println!("… and {} more; --limit shows them", plural(self.hidden, "row"));
        }
        let counts = &self.counts;
        println!(
            "{}: {} valid, {} error, {} dlq, {} skipped",
            plural(counts.records, "record"),
            thousands(counts.of(Outcome::Valid)),
            thousands(counts.of(Outcome::Error)),
            thousands(counts.of(Outcome::Dlq)),
            thousands(counts.skipped),
        );
    }
}

impl<'a> Trial<'a> {
    fn state(&self) -> std::sync::MutexGuard<'_, State<'a>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Intake for Trial<'_> {
    fn positions(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Known>> {
        let state = self.state();
        Ok(partitions.iter().filter_map(|p| Some((p.clone(), state.known.get(p)?.clone()))).collect())
    }

    fn start(&self, partitions: BTreeMap<TopicPartition, StartAt>) -> Result<BTreeMap<TopicPartition, Known>> {
        let known = partitions.into_iter().map(|(p, at)| (p, Known { offset: at.offset, topic_id: at.topic_id }));
        let known: BTreeMap<_, _> = known.collect();
        self.state().known.extend(known.clone());
        Ok(known)
    }

    fn identify(&self, _: BTreeMap<TopicPartition, String>) {}

    fn offer(&self, batch: RawBatch) -> Result<Option<RawBatch>> {
        self.state().take(batch)?;
        Ok(None)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn lost(&self, _: &[TopicPartition]) {}

    fn lag(&self, _: BTreeMap<TopicPartition, u64>) {}

    fn command(&self) -> Option<Command> {
        None
    }

    fn stopping(&self) -> bool {
        false
    }
}

/// One row or dead record of a judged batch, as it is shown.
pub(super) struct Line<'a> {
    judged: &'a Judged,
    what: What<'a>,
}

enum What<'a> {
    Row(usize, Vec<&'a Finding>),
    Dead(&'a crate::outcome::Dead),
}

/// The lines of a judged batch in the order of its records.
pub(super) struct Lines;

impl Lines {
    /// All of them.
    pub(super) fn of(judged: &Judged) -> Vec<Line<'_>> {
        let mut findings: Vec<Vec<&Finding>> = vec![Vec::new(); judged.batch.len()];
        for finding in &judged.findings {
            findings[finding.row as usize].push(finding);
        }
        let rows =
            findings.into_iter().enumerate().map(|(row, found)| (judged.batch.origin[row], What::Row(row, found)));
        let dead = judged.dead.iter().map(|dead| (dead.record, What::Dead(dead)));
        let mut lines: Vec<_> = rows.chain(dead).collect();
        lines.sort_by_key(|(record, _)| *record);
        lines.into_iter().map(|(_, what)| Line { judged, what }).collect()
    }
}

impl Line<'_> {
    fn record(&self) -> usize {
        match &self.what {
            What::Row(row, _) => self.judged.batch.origin[*row] as usize,
            What::Dead(dead) => dead.record as usize,
        }
    }

    /// Where it goes.
    pub(super) fn outcome(&self) -> Outcome {
        match &self.what {
            What::Row(row, _) => self.judged.outcomes[*row],
            What::Dead(_) => Outcome::Dlq,
        }
    }

    fn coordinates(&self) -> String {
        let raw = &self.judged.batch.raw;
        let topic = &*raw.partition(self.record()).topic;
        // standard input has a name of its own for each run, which nobody needs here
        let topic = if topic.starts_with("stdin/") { "stdin" } else { topic };
        format!("{topic}:{}", raw.records[self.record()].offset)
    }

    /// For people: coordinates, outcome, and a line for every reason.
    pub(super) fn text(&self, chain: &Chain, paint: Paint) -> String {
        let outcome = self.outcome();
        let name = format!("{:<5}", outcome.as_str());
        let name = match outcome {
            Outcome::Valid => paint.green(&name),
            Outcome::Error => paint.red(&name),
            Outcome::Dlq => paint.yellow(&name),
        };
        let mut text = format!("{:<24}  {name}", self.coordinates());
        match &self.what {
            What::Row(row, findings) => {
                for finding in findings {
                    let sign = match finding.severity {
                        Severity::Error => paint.red("✗"),
                        Severity::Warn => paint.yellow("!"),
                    };
                    text += &format!("\n  {sign} {}", super::values::reason(chain, &self.judged.batch, *row, finding));
                }
            }
            What::Dead(dead) => {
                text += &format!("\n  {} {}   {}", paint.yellow("†"), crate::chain::dead_key(dead), dead.detail)
            }
        }
        text
    }

    /// For scripts.
    fn json(&self, chain: &Chain) -> Result<String> {
        let raw = &self.judged.batch.raw;
        let record = self.record();
        let partition = raw.partition(record);
        let mut object = serde_json::json!({
            "topic": &*partition.topic, "partition": partition.partition, "offset": raw.records[record].offset,
            "outcome": self.outcome(),
        });
        match &self.what {
            What::Row(row, findings) => {
                object["row"] = self.judged.batch.ordinal[*row].into();
                object["findings"] = findings
                    .iter()
                    .map(|f| serde_json::json!({ "rule": &*f.rule, "code": &*f.code, "severity": f.severity, "column": f.column.as_deref(), "detail": f.detail }))
                    .collect();
                object["columns"] = columns_json(&self.judged.batch.columns.slice(*row, 1))?;
                super::values::mask_json(&mut object["columns"], &chain.config.mask);
            }
            What::Dead(dead) => {
                object["row"] = dead.ordinal.into();
                object["stage"] = dead.stage.as_str().into();
                object["reason"] = dead.reason.as_str().into();
                object["detail"] = dead.detail.as_str().into();
                object["plugin"] = dead.plugin.as_ref().map(|(name, _)| &**name).into();
            }
        }
        Ok(object.to_string())
    }
}

/// One row as a JSON object.
pub(super) fn columns_json(row: &arrow::array::RecordBatch) -> Result<serde_json::Value> {
    let bug = |e: &dyn std::fmt::Display| Error::Host(format!("a row cannot be shown as JSON: {e}"));
    let mut lines = arrow::json::LineDelimitedWriter::new(Vec::new());
    lines.write(row).map_err(|e| bug(&e))?;
    lines.finish().map_err(|e| bug(&e))?;
    serde_json::from_slice(&lines.into_inner()).map_err(|e| bug(&e))
}
