//! `sluice diff`: history, judged by two generations. It writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::explain::{At, parse_place};
use super::{PipelineArg, Verdict, open};
use crate::admin;
use crate::chain::{Chain, Judge, Judged, Waiting};
use crate::compare::{self, Summary};
use crate::error::{Doing, Error, Result};
use crate::generation::Generation;
use crate::outcome::Outcome;
use crate::record::{RawBatch, TopicPartition};
use crate::stored::tables::{self, Tables};
use crate::stored::{Layout, Provenance, has_provenance, letters, slices};

mod read;
mod report;

use report::Report;

/// Rows that are judged at a time, and bytes of payloads.
const ROWS: usize = 4096;
const BYTES: usize = 4 << 20;

/// Judge history with another generation: which rows flip, and why.
///
/// Both generations judge the same records; what the pipeline file says is the one, `--with` the other. Rows of valid and
/// error are judged from their columns, dead letters and topics from their bytes. Nothing is written.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice diff --with next.toml --on valid\n  \
sluice diff --with next.toml --on visits.ndjson --max-flips 0.5%\n  \
sluice diff --with next.toml --on topic --from visits/0/180000 --limit 100000 --markdown\n  \
sluice diff --with sluice.toml --against 7f3a1c --on error --json\n\n\
Exit codes: 0 as many records flip as may (--max-flips), or fewer; 1 more do; 2 it could not be found out")]
pub struct DiffArgs {
    /// The pipeline file of the other generation; only what judges counts of it
    #[arg(long, value_name = "FILE")]
    pub with: PathBuf,
    /// What is judged: valid, error, dlq, `topic` (whatever the pipeline reads, from its beginning), or a file of records
    #[arg(long, value_name = "WHAT")]
    pub on: String,
    /// A stored generation instead of what the pipeline file says: the beginning of its hash
    #[arg(long, value_name = "GENERATION")]
    pub against: Option<String>,
    /// Which rows of a table: a SQL expression over its columns
    #[arg(long = "where", value_name = "SQL")]
    pub condition: Option<String>,
    /// Where to begin in a topic or file, TOPIC/PARTITION/OFFSET or FILE:LINE; may be given more than once, and then
    /// nothing else is read
    #[arg(long, value_name = "WHERE", value_parser = parse_place)]
    pub from: Vec<At>,
    /// Records, or rows of a table, that are judged at most
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// The share of records that may flip
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value = "0%")]
    pub max_flips: f64,
    /// For a pull request
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// One JSON object per row that differs, and the summary at the end
    #[arg(long)]
    pub json: bool,
    /// Whose tables and topic
    #[command(flatten)]
    pub pipeline: PipelineArg,
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.strip_suffix('%').and_then(|percent| percent.trim().parse::<f64>().ok());
    let wrong = || format!("expected a share between 0% and 100%, like 0.5%, not `{text}`");
    share.filter(|share| (0.0..=100.0).contains(share)).ok_or_else(wrong)
}

/// Where history is.
enum On {
    Table(Outcome),
    Source,
    File(String),
}

impl On {
    fn of(text: &str) -> On {
        match text {
            "valid" => On::Table(Outcome::Valid),
            "error" => On::Table(Outcome::Error),
            "dlq" => On::Table(Outcome::Dlq),
            "staging" => On::Table(Outcome::Staging),
            "topic" => On::Source,
            file => On::File(file.to_owned()),
        }
    }
}

/// Runs the command.
pub fn run(args: &DiffArgs) -> Result<Verdict> {
    let on = On::of(&args.on);
    refuse_misfits(args, &on)?;
    let runtime = open::runtime()?;
    let today = open::chain(&args.pipeline.config)?;
    // in the pipeline of today: ids of rows depend on its name
    let other = Chain::load_with(&args.with, today.engine.clone())?;
    let mut after = Chain::revive(other.generation, &other.config.within(&today.config), &today.engine)?;
    // one copy of each table, and of one version
    let references = today.parts.references.clone();
    after.parts.references.share(&references);
    let mut before = match &args.against {
        Some(beginning) => {
            let follow = open::follow(&today.config, &runtime)?;
            let hash = admin::find(&follow, beginning)?;
            let (store, state) = follow.ledger.place();
            let generation = runtime.block_on(Generation::load(store, state, &hash))?;
            Chain::revive(generation, &today.config, &today.engine)?
        }
        None => today,
    };
    before.parts.references.share(&references);
    let mut diff = Diff::new(args, &before, &after)?;
    // guests run on this thread's stack, so it gets as large a one as a worker's
    let judged = std::thread::scope(|scope| {
        let diff = &mut diff;
        let worker = std::thread::Builder::new().stack_size(8 << 20);
        let worker = worker.spawn_scoped(scope, || match &on {
            On::Table(outcome) => diff.table(&runtime, *outcome),
            On::Source => read::source(diff),
            On::File(file) => read::file(diff, file),
        });
        let worker = worker.map_err(|e| Error::environment("cannot start a thread", e))?;
        worker.join().unwrap_or_else(|_| Err(Error::Host("the thread that judges panicked".into())))
    });
    judged?;
    let ok = diff.summary.flipped_percent() <= args.max_flips;
    let report = Report { args, before: &before, after: &after, summary: &diff.summary, unasked: &diff.unasked, ok };
    print!("{}", report.render());
    Ok(Verdict::of(ok))
}

/// Options that say nothing about what is judged are mistakes, not silence.
fn refuse_misfits(args: &DiffArgs, on: &On) -> Result<()> {
    let is_table = match on {
        On::Table(_) => true,
        On::Source | On::File(_) => false,
    };
    if is_table && !args.from.is_empty() {
        return Err(Error::Config("--from is for topics and files; rows of a table are chosen by --where".into()));
    }
    if !is_table && args.condition.is_some() {
        return Err(Error::Config(
            "--where is for tables; records of a topic or file are chosen by --from, --limit".into(),
        ));
    }
    Ok(())
}

/// Two generations at work on the same records.
struct Diff<'a> {
    args: &'a DiffArgs,
    before: &'a Chain,
    after: &'a Chain,
    judges: [Judge; 2],
    summary: Summary,
    /// who was not asked about all rows, and what it reads
    unasked: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// records, or rows of a table, that may still be judged
    left: u64,
}

impl<'a> Diff<'a> {
    fn new(args: &'a DiffArgs, before: &'a Chain, after: &'a Chain) -> Result<Diff<'a>> {
        Ok(Diff {
            args,
            before,
            after,
            judges: [before.judge()?, after.judge()?],
            summary: Summary::default(),
            unasked: BTreeMap::new(),
            left: args.limit.unwrap_or(u64::MAX),
        })
    }

    /// Judges records from their bytes, as many as are left.
    fn records(&mut self, raw: RawBatch) -> Result<()> {
        let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(raw.records.len());
        self.left -= take as u64;
        let raw = if take < raw.records.len() { raw.part(0..take) } else { raw };
        if raw.records.is_empty() {
            return Ok(());
        }
        let mut judged = self.judges.iter_mut().map(|judge| {
            let mut waiting = Waiting::from(raw.clone());
            let mut pieces = Vec::new();
            while let Some(judged) = judge.next(&mut waiting)? {
                pieces.push(judged);
            }
            Ok::<_, Error>(pieces)
        });
        let (before, after) = (judged.next().unwrap_or(Ok(Vec::new()))?, judged.next().unwrap_or(Ok(Vec::new()))?);
        drop(judged);
        self.compare(&before, &after);
        Ok(())
    }

    fn compare(&mut self, before: &[Judged], after: &[Judged]) {
        let compared = compare::compare(before, after);
        if self.args.json {
            for difference in &compared.differences {
                println!("{}", serde_json::json!({ "difference": difference }));
            }
        }
        self.summary.add(&compared);
    }

    /// Judges the rows of a table, without those that have a later attempt.
    fn table(&mut self, runtime: &Runtime, outcome: Outcome) -> Result<()> {
        let config = &self.before.config;
        let follow = open::follow(config, runtime)?;
        let doing = || format!("cannot read the rows of {outcome}");
        let (mut rows, table, written) = runtime.block_on(async {
            let tables = Tables::open(config).await?;
            if tables.get(outcome).is_none() {
                return Err(Error::Config(format!("{outcome} is no table, or not there yet: `sluice run` creates it")));
            }
            let schema = tables.schema(outcome).await?;
            if !has_provenance(&schema) {
                return Err(Error::Config(format!("{outcome} stores no coordinates (`provenance = false`)")));
            }
            let condition = self.args.condition.as_deref();
            let chosen = tables.latest(outcome, condition).await?;
            let written = match outcome {
                Outcome::Dlq => BTreeMap::new(),
                Outcome::Valid | Outcome::Error | Outcome::Staging | Outcome::Derived(_) => {
                    let entries = chosen.clone().select_columns(&["_batch"]).doing(doing)?.distinct().doing(doing)?;
                    let mut ids = BTreeSet::new();
                    for rows in entries.collect().await.doing(doing)? {
                        let texts = crate::stored::texts(&rows, "_batch");
                        ids.extend(texts.iter().flatten().flatten().map(str::to_owned));
                    }
                    tables::written(&follow.ledger, outcome, ids).await?
                }
            };
            Ok((chosen.execute_stream().await.doing(doing)?, schema, written))
        })?;
        let sink = tables::sink(config, outcome)?;
        let layouts = [Layout::new(self.before, sink, outcome), Layout::new(self.after, sink, outcome)];
        let mut seen: BTreeSet<(TopicPartition, i64)> = BTreeSet::new();
        while self.left > 0
            && let Some(batch) = runtime.block_on(rows.try_next()).doing(doing)?
        {
            for rows in slices(&batch, ROWS, BYTES) {
                match outcome {
                    Outcome::Dlq => {
                        let mut raw = letters(&rows)?;
                        // several rows of a record may be dead, and each has all of it
                        let ranges = raw.ranges.clone();
                        let partition = |range: u16| ranges[usize::from(range)].partition.clone();
                        raw.records.retain(|record| seen.insert((partition(record.range), record.offset)));
                        self.records(raw)?;
                    }
                    Outcome::Valid | Outcome::Error | Outcome::Staging | Outcome::Derived(_) => {
                        self.stored(&rows, &table, &written, &layouts)?
                    }
                }
            }
        }
        Ok(())
    }

    /// Judges rows from their columns. Those of an entry have the same columns, and so the same rules that can be asked.
    fn stored(
        &mut self,
        rows: &arrow::array::RecordBatch,
        table: &SchemaRef,
        written: &BTreeMap<String, Arc<Value>>,
        layouts: &[Layout; 2],
    ) -> Result<()> {
        let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(rows.num_rows());
        self.left -= take as u64;
        let rows = rows.slice(0, take);
        let of = Provenance::of(&rows)?;
        let mut from = 0;
        while from < of.len() {
            let of_row = |row: usize| written.get(of.batch.value(row));
            let same = |row: &usize| of_row(*row).map(Arc::as_ptr) == of_row(from).map(Arc::as_ptr);
            let to = (from..of.len()).take_while(same).last().unwrap_or(from) + 1;
            let these = rows.slice(from, to - from);
            let by = of_row(from).map(AsRef::as_ref);
            let chains = [self.before, self.after];
            let mut unasked: BTreeMap<Arc<str>, Vec<Arc<str>>> = BTreeMap::new();
            for (chain, layout) in chains.iter().zip(layouts) {
                unasked.extend(chain.parts.unasked(|path| layout.is_lost(path, table, by)));
            }
            let mut judged = Vec::new();
            for (judge, layout) in self.judges.iter_mut().zip(layouts) {
                let mut pieces = judge.judge_stored(layout.batch(&these)?)?;
                for piece in &mut pieces {
                    compare::without(piece, |judge| unasked.contains_key(judge));
                }
                judged.push(pieces);
            }
            self.compare(&judged[0], &judged[1]);
            for (name, reads) in unasked {
                self.unasked.entry(name).or_default().extend(reads);
            }
            from = to;
        }
        Ok(())
    }
}
