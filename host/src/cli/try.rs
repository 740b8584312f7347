//! `sluice try`: records through the chain, in memory. It writes nothing, and needs no broker and no ledger.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;

use super::capture::is_cases;
use super::text::{Paint, plural, thousands};
use super::{PipelineArg, Verdict, open};
use crate::cases;
use crate::chain::{Chain, Judge, Judged, Waiting};
use crate::error::{Error, Result};
use crate::ledger::Counts;
use crate::outcome::{Finding, Outcome, Severity};
use crate::record::RawBatch;
use crate::source::files::FilesSource;
use crate::source::stdin::StdinSource;
use crate::source::{Source, reading};
use crate::workbench::on_guest_stack;

mod watch;

/// Run records in memory and print where each goes, and why.
///
/// One JSON object per line, from a file (.gz and .zst are read as they are) or from standard input. In a folder `cases` the
/// lines of a file are cases, as `sluice capture` writes them. Nothing is written.
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
    /// Run again whenever the pipeline file, its schema, a plugin or the records change
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
    watch::again(&args.pipeline.config, Path::new(&args.input), || once(args))
}

fn once(args: &TryArgs) -> Result<Verdict> {
    let chain = open::chain(&args.pipeline.config)?;
    let max_record = chain.config.source.max_record;
    let file = Path::new(&args.input);
    let mut source: Option<Box<dyn Source>> = if is_cases(file) {
        None
    } else if args.input == "-" {
        Some(Box::new(StdinSource::new(max_record)))
    } else {
        let here = std::env::current_dir().map_err(|e| Error::environment("cannot find the working folder", e))?;
        Some(Box::new(FilesSource::new(&here, std::slice::from_ref(&args.input), max_record)?))
    };
    let mut state = State {
        judge: chain.judge()?,
        chain: &chain,
        args,
        paint: Paint::stdout(),
        counts: Counts::default(),
        shown: 0,
        hidden: 0,
        held: VecDeque::new(),
    };
    match &mut source {
        Some(source) => reading::read(&mut **source, |batch| state.take(batch).map(|()| true))?,
        None => on_guest_stack(|| state.take(cases::pipeline::records(file)?))?,
    }
    state.end();
    Ok(Verdict::Done)
}

/// Takes batches from a source and shows what becomes of them.
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
                Outcome::Valid | Outcome::Error | Outcome::Dlq | Outcome::Staging | Outcome::Derived(_) => {
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
            Outcome::Dlq | Outcome::Staging => paint.yellow(&name),
            Outcome::Derived(_) => name,
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
pub(crate) fn columns_json(row: &arrow::array::RecordBatch) -> Result<serde_json::Value> {
    let bug = |e: &dyn std::fmt::Display| Error::Host(format!("a row cannot be shown as JSON: {e}"));
    let mut lines = arrow::json::LineDelimitedWriter::new(Vec::new());
    lines.write(row).map_err(|e| bug(&e))?;
    lines.finish().map_err(|e| bug(&e))?;
    serde_json::from_slice(&lines.into_inner()).map_err(|e| bug(&e))
}
