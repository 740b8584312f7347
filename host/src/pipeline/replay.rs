//! Rows of error and dead letters, judged once more by the generation in force: a new attempt of the same coordinates.
//!
//! Tables are append-only: the old row stays, and the highest `_attempt` of its coordinates is what counts. One replay is
//! one entry, written, appended and applied as any other, so that a crash leaves all of it or nothing. A row is sent only
//! where something else is said of it now: another outcome, other findings, another reason. So a replay that is repeated
//! finds nothing to do, and what is said for the hundredth time is stored once.
//!
//! A dead letter is judged from its bytes. A row of error is judged from its columns; where a rule reads what was not
//! stored, the row stays where it is. Both keep their coordinates. Positions and totals do not change.
//!
//! It is an operator's word, and goes past windows: what it sends is valid or error at once, and waits in no staging. What
//! an audit said stands, though: a row that is in error for the sake of its window, as a late one, a copy, or one of a
//! window that was rejected, stays there whatever the rules say of it.

use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::thread;

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use futures::TryStreamExt;
use serde_json::Value;
use uuid::Uuid;

use super::judging::{self, Judging};
use super::shape::{Put, Shaper};
use super::{Follow, WORKER_STACK};
use crate::audit;
use crate::chain::{Chain, Judge, Judged, Waiting};
use crate::crash;
use crate::error::{Doing, Error, Result};
use crate::ledger::entry::Replay;
use crate::ledger::{Appended, Counts, Entry, FileAction, Kind, SinkActions, apply};
use crate::outcome::Outcome;
use crate::record::{Range, TopicPartition};
use crate::sink::files::TableWriter;
use crate::stored::tables::{self, Tables};
use crate::stored::{Layout, Provenance, letters, said, slices};

mod choose;
mod pick;

use choose::{Chosen, Stored};
use pick::pick;

/// Rows that are judged at a time, and bytes of payloads.
const ROWS: usize = 4096;
const BYTES: usize = 4 << 20;

/// How often a replay begins again because another one was faster.
const ATTEMPTS: u32 = 3;

/// What is to be replayed.
#[derive(Clone, Debug)]
pub struct Request {
    /// error or dlq
    pub of: Outcome,
    /// which rows, a SQL expression over the table
    pub condition: Option<String>,
    /// judge and count, and write nothing
    pub dry_run: bool,
}

/// What a replay did, or would do.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// rows that are the latest of their coordinates, for which the condition holds
    pub chosen: u64,
    /// what becomes of those that are sent
    pub counts: Counts,
    /// rows of which the same is said as before: they stay as they are
    pub unchanged: u64,
    /// rows that the generation does not make any more, or skips: they stay as they are
    pub gone: u64,
    /// rows that cannot be judged again, since a rule reads what was not stored: they stay as they are
    pub unasked: u64,
    /// rows that are in error for the sake of their window: they stay as they are
    pub decided: u64,
    /// who cannot be asked, and what it reads
    pub needs: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    /// the number of the entry, where there was anything to send
    pub entry: Option<u64>,
}

/// Judges the chosen rows by `chain` and appends what it says as one entry.
///
/// Safe beside a running pipeline, and beside other replays: of two that chose the same rows, one begins again.
pub fn replay(follow: &Follow, chain: &Arc<Chain>, request: &Request) -> Result<Replayed> {
    for _ in 0..ATTEMPTS {
        if let Some(replayed) = once(follow, chain, request)? {
            return Ok(replayed);
        }
    }
    Err(Error::Diverged(format!(
        "other replays of this pipeline came first {ATTEMPTS} times; nothing was written. Let them end, and replay again"
    )))
}

/// `None`: another replay came first, and nothing was written.
fn once(follow: &Follow, chain: &Arc<Chain>, request: &Request) -> Result<Option<Replayed>> {
    // what is in the ledger and not in a table would be missed, or sent twice
    let fold = if request.dry_run { follow.fold()? } else { follow.catch_up()?.0 };
    let runtime = &follow.runtime;
    let (tables, schema) = runtime.block_on(async {
        let tables = Tables::open(&chain.config).await?;
        if let Some(why) = tables.is_blind(&chain.config).await? {
            let what = request.of;
            return Err(Error::Config(format!("{what} cannot be replayed: {why}")));
        }
        let schema = tables.schema(request.of).await?;
        Ok((tables, schema))
    })?;
    let chosen = runtime.block_on(Chosen::find(&tables, request))?;
    let replayed = Replayed { chosen: chosen.len(), ..Replayed::default() };
    if replayed.chosen == 0 {
        return Ok(Some(replayed));
    }
    let judging =
        if request.dry_run { Arc::new(Judging::new(chain.clone())?) } else { judging::prepare(follow, chain.clone())? };
    let written = match request.of {
        Outcome::Dlq => BTreeMap::new(),
        Outcome::Valid | Outcome::Error | Outcome::Staging | Outcome::Derived(_) => {
            runtime.block_on(tables::written(&follow.ledger, request.of, chosen.batches()))?
        }
    };
    let entry = Uuid::now_v7();
    let pinned = chain.parts.references.pinned()?;
    let mut judge = chain.judge()?;
    judge.pin(&pinned);
    let mut sending = Sending {
        follow,
        request,
        layout: Layout::new(chain, tables::sink(&chain.config, request.of)?, request.of),
        schema,
        judge,
        chain,
        shapers: judging::shapers(chain)?,
        writers: BTreeMap::new(),
        entry,
        chosen,
        written,
        replayed,
        spans: BTreeMap::new(),
        records: HashSet::new(),
    };
    // guests run on this thread's stack
    let sent = thread::scope(|scope| {
        let sending = &mut sending;
        let worker = thread::Builder::new().name("judge".into()).stack_size(WORKER_STACK);
        let worker = worker.spawn_scoped(scope, || sending.run(&tables));
        let worker = worker.map_err(|e| Error::environment("cannot start a thread", e))?;
        worker.join().unwrap_or_else(|_| Err(Error::Host("the thread that judges panicked".into())))
    });
    sent?;
    let mut files = sending.close()?;
    let Sending { replayed: mut done, spans, records, .. } = sending;
    done.counts.records = records.len() as u64;
    if request.dry_run || done.counts.rows == 0 {
        return Ok(Some(done));
    }
    crash::point("write/files-durable");
    follow.derive(chain, entry, &mut files)?;
    let spans = spans.into_iter().map(|(partition, (from, to))| Range { partition, from, to });
    let entry = Entry {
        id: entry,
        counts: done.counts.clone(),
        references: pinned.versions(),
        sinks: files
            .into_iter()
            .map(|(outcome, files)| (outcome, SinkActions { schema: judging.schemas[&outcome].clone(), files }))
            .collect(),
        replay: Some(Replay {
            of: request.of,
            after: fold.replays.last,
            condition: request.condition.clone(),
            spans: spans.collect(),
        }),
        ..Entry::new(Kind::Replay, judging.hash())
    };
    runtime.block_on(async {
        match follow.ledger.append(&entry).await? {
            Appended::At(number) => {
                apply::apply_all(&follow.sinks, &follow.ledger, number).await?;
                done.entry = Some(number);
                Ok(Some(done))
            }
            Appended::Moved { .. } => {
                follow.discard(&entry).await;
                Ok(None)
            }
        }
    })
}

/// A replay under way.
struct Sending<'a> {
    follow: &'a Follow,
    request: &'a Request,
    chain: &'a Chain,
    layout: Layout,
    /// columns of the table that is replayed
    schema: arrow::datatypes::SchemaRef,
    judge: Judge,
    shapers: Vec<Shaper>,
    writers: BTreeMap<Outcome, TableWriter>,
    entry: Uuid,
    chosen: Chosen,
    /// `_batch` → with which columns its rows were written
    written: BTreeMap<String, Arc<Value>>,
    replayed: Replayed,
    spans: BTreeMap<TopicPartition, (i64, i64)>,
    records: HashSet<(TopicPartition, i64)>,
}

impl Sending<'_> {
    fn run(&mut self, tables: &Tables) -> Result<()> {
        let runtime = &self.follow.runtime;
        let doing = || "cannot read the rows that are to be replayed".to_owned();
        let mut rows = runtime.block_on(async {
            let rows = tables.rows(self.request.of, self.request.condition.as_deref()).await?;
            rows.execute_stream().await.doing(doing)
        })?;
        while let Some(batch) = runtime.block_on(rows.try_next()).doing(doing)? {
            for rows in slices(&batch, ROWS, BYTES) {
                self.take(&rows)?;
            }
        }
        Ok(())
    }

    /// Judges those of the rows that were chosen.
    fn take(&mut self, rows: &RecordBatch) -> Result<()> {
        let of = Provenance::of(rows)?;
        let picked: Vec<Option<Stored>> = (0..of.len()).map(|row| self.chosen.take(&of, row)).collect();
        if picked.iter().all(Option::is_none) {
            return Ok(());
        }
        let mask = BooleanArray::from_iter(picked.iter().map(|stored| Some(stored.is_some())));
        let rows = filter_record_batch(rows, &mask).map_err(bug)?;
        let mut stored: Vec<Stored> = picked.into_iter().flatten().collect();
        for (stored, said) in stored.iter_mut().zip(said(&rows, self.request.of)) {
            stored.said = said;
        }
        let (rows, stored) = self.without_decided(rows, stored)?;
        match self.request.of {
            Outcome::Dlq => self.judge_letters(&rows, &stored),
            Outcome::Valid | Outcome::Error | Outcome::Staging | Outcome::Derived(_) => self.judge_rows(&rows, stored),
        }
    }

    /// Leaves out what the audit put where it is, and forgets what it merely remarked.
    fn without_decided(&mut self, rows: RecordBatch, mut stored: Vec<Stored>) -> Result<(RecordBatch, Vec<Stored>)> {
        if self.request.of == Outcome::Dlq {
            return Ok((rows, stored));
        }
        let is_audits = |said: &String| said.split_once('/').is_some_and(|(rule, _)| rule == audit::RULE);
        let is_decided = |stored: &Stored| stored.said.iter().any(|said| is_audits(said) && said.ends_with('!'));
        let mask = BooleanArray::from_iter(stored.iter().map(|stored| Some(!is_decided(stored))));
        let rows = filter_record_batch(&rows, &mask).map_err(bug)?;
        let chosen = stored.len();
        stored.retain(|stored| !is_decided(stored));
        self.replayed.decided += (chosen - stored.len()) as u64;
        stored.iter_mut().for_each(|stored| stored.said.retain(|said| !is_audits(said)));
        Ok((rows, stored))
    }

    fn judge_letters(&mut self, rows: &RecordBatch, stored: &[Stored]) -> Result<()> {
        let mut waiting = Waiting::from(letters(rows)?);
        let mut rest = stored;
        while let Some(judged) = self.judge.next(&mut waiting)? {
            // pieces come in the order of their records
            let (these, after) = rest.split_at(judged.batch.raw.records.len());
            rest = after;
            self.send(judged, these)?;
        }
        Ok(())
    }

    /// Rows of one entry have the same columns, and so the same rules that can be asked.
    fn judge_rows(&mut self, rows: &RecordBatch, mut stored: Vec<Stored>) -> Result<()> {
        let of = Provenance::of(rows)?;
        let mut groups: BTreeMap<Option<*const Value>, Vec<u32>> = BTreeMap::new();
        for row in 0..of.len() {
            let written = self.written.get(of.batch.value(row)).map(Arc::as_ptr);
            groups.entry(written).or_default().push(row as u32);
        }
        for group in groups.into_values() {
            let first = group.first().map_or("", |row| of.batch.value(*row as usize));
            let written = self.written.get(first).map(AsRef::as_ref);
            let needs = self.chain.parts.unasked(|path| self.layout.is_lost(path, &self.schema, written));
            if !needs.is_empty() {
                self.replayed.unasked += group.len() as u64;
                self.replayed.needs.extend(needs);
                continue;
            }
            let these: Vec<Stored> = group.iter().map(|row| std::mem::take(&mut stored[*row as usize])).collect();
            let rows = take_record_batch(rows, &UInt32Array::from(group)).map_err(bug)?;
            for judged in self.judge.judge_stored(self.layout.batch(&rows)?)? {
                self.send(judged, &these)?;
            }
        }
        Ok(())
    }

    /// Writes what is said otherwise than before. `stored` are the rows behind the records of the batch, one each.
    fn send(&mut self, judged: Judged, stored: &[Stored]) -> Result<()> {
        let picked = pick(judged, stored, self.request.of)?;
        self.replayed.unchanged += picked.unchanged;
        self.replayed.gone += picked.gone;
        let judged = picked.judged;
        self.replayed.counts.add(&judged.counts);
        let raw = &judged.batch.raw;
        for record in judged.batch.origin.iter().copied().chain(judged.dead.iter().map(|dead| dead.record)) {
            let (partition, offset) = (raw.partition(record as usize), raw.records[record as usize].offset);
            let (from, to) = self.spans.entry(partition.clone()).or_insert((offset, offset + 1));
            (*from, *to) = ((*from).min(offset), (*to).max(offset + 1));
            self.records.insert((partition.clone(), offset));
        }
        if self.request.dry_run {
            return Ok(());
        }
        let attempts: Vec<i32> = stored.iter().map(|stored| stored.attempt + 1).collect();
        for shaper in &self.shapers {
            let put = Put { entry: self.entry, attempts: &attempts };
            let Some(rows) = shaper.shape_again(&judged, put)? else { continue };
            let sink = self.follow.sinks.iter().find(|sink| sink.outcome() == shaper.outcome());
            let Some(sink) = sink else { return Err(Error::Host(format!("no sink takes {}", shaper.outcome()))) };
            let writer = match self.writers.entry(shaper.outcome()) {
                Occupied(open) => open.into_mut(),
                Vacant(none) => {
                    let runtime = self.follow.runtime.clone();
                    none.insert(TableWriter::new(sink.files(), shaper.schema().clone(), self.entry, runtime)?)
                }
            };
            writer.write(&rows)?;
            crash::point("write/first-file-open");
        }
        Ok(())
    }

    fn close(&mut self) -> Result<BTreeMap<Outcome, Vec<FileAction>>> {
        std::mem::take(&mut self.writers).into_iter().map(|(outcome, writer)| Ok((outcome, writer.finish()?))).collect()
    }
}

fn bug(error: arrow::error::ArrowError) -> Error {
    Error::Host(format!("stored rows cannot be taken apart: {error}"))
}
