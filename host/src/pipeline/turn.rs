//! The loop itself, one event at a time: batches to the workers, entries to the committer, seeks to the source.
//!
//! It runs on one thread and blocks on nothing but its events; whatever takes long is done by others.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, after, never, select};
use uuid::Uuid;

use super::commit::{Closed, Committed};
use super::intake::{Offered, Shared, Word, lock};
use super::judging::{Judging, Opening};
use super::worker::{Worker, Written, merge_examples};
use super::{Happening, Ran};
use crate::config::CommitConfig;
use crate::error::{Error, Result};
use crate::record::{Positions, RawBatch, TopicPartition};
use crate::source::Command;
use crate::telemetry::Metrics;
use crate::telemetry::health::BEAT;
use crate::telemetry::metrics::Step;

/// Records that a candidate is tried on: so few that each of them can be isolated within the probes of one batch.
const SAMPLE_RECORDS: usize = 16;

/// Bytes of them.
const SAMPLE_BYTES: usize = 1 << 20;

/// What a worker is told.
pub(super) enum Work {
    Batch(Arc<Opening>, RawBatch),
    /// close the entry's files; every worker takes one of these
    Close,
    Discard,
}

/// What a worker answers.
pub(super) enum Done {
    /// how it went, and what the batch weighed
    Judged(Result<()>, u64),
    Closed(Box<Result<Written>>),
    Discarded(Result<()>),
}

/// Runs a thread's work; a panic is an error like any other, so that nobody waits for a thread that is gone.
pub(super) fn calmly<T>(who: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(Error::Host(format!("the thread that {who} panicked"))))
}

pub(super) fn work_off(
    n: usize,
    worker: &mut Worker,
    queue: &Receiver<Work>,
    results: &Sender<Done>,
    barrier: &Barrier,
    metrics: &Metrics,
) {
    for work in queue {
        let answer = match work {
            Work::Batch(opening, raw) => {
                let bytes = raw.weight();
                metrics.health.judging(n, true);
                let judged = calmly("judges", || worker.process(&opening, raw));
                metrics.health.judging(n, false);
                let (spent, writing) = worker.take_spent();
                metrics.spent(&spent, writing);
                Done::Judged(judged, bytes)
            }
            Work::Close => {
                // nobody takes a second one before everybody has taken the first
                barrier.wait();
                Done::Closed(Box::new(calmly("judges", || worker.close())))
            }
            Work::Discard => {
                barrier.wait();
                Done::Discarded(calmly("judges", || {
                    worker.discard();
                    Ok(())
                }))
            }
        };
        if results.send(answer).is_err() {
            return;
        }
    }
}

/// The entry that takes batches.
pub(super) struct Open {
    opening: Arc<Opening>,
    /// see [`Entries`](super::intake::Entries)
    number: u64,
    since: Instant,
    records: u64,
    bytes: u64,
    /// batches that are still with the workers
    pending: usize,
    /// what it holds will be read again
    discard: bool,
    ranges: BTreeMap<TopicPartition, (i64, i64)>,
}

/// The entry whose files are being closed.
pub(super) struct Closing {
    open: Open,
    missing: usize,
    written: Written,
    /// since when
    due: Instant,
}

pub(super) struct Loop<'a> {
    pub shared: &'a Shared,
    pub commit: CommitConfig,
    /// what entries are judged by
    pub judging: Arc<Judging>,
    pub workers: usize,
    pub work: Sender<Work>,
    pub done: Receiver<Done>,
    pub close: Sender<Closed>,
    pub open: Option<Open>,
    pub closing: Option<Closing>,
    pub committing: bool,
    /// the number of the entry that is being committed
    pub under_way: u64,
    pub epoch: u64,
    /// the next offset of each partition that was taken
    pub next: Positions,
    /// times in a row that a partition went on out of turn
    pub torn: u32,
    pub flushing: Vec<Sender<()>>,
    pub ended: bool,
    pub failed: Option<Error>,
    pub ran: Ran,
}

impl Loop<'_> {
    /// Until the source has ended and everything is committed, or something failed and nothing is under way.
    pub fn run(
        &mut self,
        offered: &Receiver<Offered>,
        heard: &Receiver<Word>,
        landed: &Receiver<Result<Committed>>,
        watch: &mut dyn FnMut(Happening),
    ) {
        let (closed_ear, no_batches) = (never::<Word>(), never::<Offered>());
        loop {
            self.shared.metrics.health.turned(self.shared.stop.is_asked() || self.ended);
            self.close_if_due(offered);
            if self.is_idle() && offered.is_empty() {
                for done in self.flushing.drain(..) {
                    // the source waits, and everything is committed: what it reads next is the ledger's word, not ours
                    self.next.clear();
                    let _ = done.send(());
                }
                if self.ended {
                    return;
                }
            }
            let over = self.ended && offered.is_empty();
            let batches = if self.has_room() && !over { offered } else { &no_batches };
            let words = if self.ended { &closed_ear } else { heard };
            select! {
                recv(batches) -> offered => if let Ok(offered) = offered { self.take(offered) },
                recv(self.done) -> done => if let Ok(done) = done { self.hear_worker(done) },
                recv(landed) -> landed => if let Ok(landed) = landed { self.land(landed, watch) },
                recv(words) -> word => if let Ok(word) = word { self.hear_source(word, offered, watch) },
                recv(self.alarm()) -> _ => {},
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.open.is_none() && self.closing.is_none() && !self.committing
    }

    /// Whether another batch may go to the workers.
    fn has_room(&self) -> bool {
        let takes = |open: &Open| open.pending < self.workers * 2 && !open.discard;
        self.failed.is_some() || (!self.is_due() && self.open.as_ref().is_none_or(takes))
    }

    fn is_due(&self) -> bool {
        let commit = &self.commit;
        self.open.as_ref().is_some_and(|open| {
            open.records >= commit.rows || open.bytes >= commit.bytes || open.since.elapsed() >= commit.every
        })
    }

    /// When the open entry is due by time, or the loop shows that it turns.
    fn alarm(&self) -> Receiver<Instant> {
        match &self.open {
            Some(open) if !self.is_due() => after(self.commit.every.saturating_sub(open.since.elapsed()).min(BEAT)),
            Some(_) | None => after(BEAT),
        }
    }

    fn take(&mut self, (epoch, batch): Offered) {
        if epoch != self.epoch || self.failed.is_some() {
            // read before a seek, or nobody will commit it: it is read again
            if self.skip(&batch) && self.failed.is_none() {
                self.epoch += 1;
                self.shared.tell(self.epoch, Command::Seek(self.next.clone()));
            }
            return;
        }
        if self.open.is_none() {
            self.begin(&batch);
        }
        let pinned = match &self.open {
            Some(open) => open.opening.pinned.clone(),
            None => match self.judging.chain.parts.references.pinned() {
                Ok(pinned) => pinned,
                Err(error) => {
                    self.shared.landed(batch.weight());
                    return self.fail(error);
                }
            },
        };
        let open = self.open.get_or_insert_with(|| {
            let (number, staged) = self.shared.entries.open();
            let (judging, shadow) = (self.judging.clone(), self.shared.beside());
            Open {
                opening: Arc::new(Opening { id: Uuid::now_v7(), judging, pinned, shadow, staged }),
                number,
                since: Instant::now(),
                records: 0,
                bytes: 0,
                pending: 0,
                discard: false,
                ranges: BTreeMap::new(),
            }
        });
        // a partition that was lost and came back goes on elsewhere, and its word may come after its batch
        if let Some(range) =
            batch.ranges.iter().find(|r| open.ranges.get(&r.partition).is_some_and(|(_, to)| *to != r.from))
        {
            self.shared.landed(batch.weight());
            self.torn += 1;
            let (partition, offset) = (&range.partition, range.from);
            tracing::warn!(%partition, offset, "a partition went on out of turn; what is not committed is read again");
            let why = format!("{partition} went on at {offset} out of turn");
            return if self.torn > 3 { self.fail(Error::Host(why)) } else { self.drop_open(Positions::new()) };
        }
        for range in &batch.ranges {
            let known = open.ranges.entry(range.partition.clone()).or_insert((range.from, range.from));
            known.1 = range.to;
            self.next.insert(range.partition.clone(), range.to);
        }
        open.records += batch.records.len() as u64;
        open.bytes += batch.data.len() as u64;
        open.pending += 1;
        let (records, bytes) = (batch.records.len() as u64, batch.data.len() as u64);
        self.shared.metrics.read(records, bytes, (open.since, open.records));
        let _ = self.work.send(Work::Batch(open.opening.clone(), batch));
    }

    /// An entry is about to be opened: here, and nowhere else, another generation takes over.
    fn begin(&mut self, batch: &RawBatch) {
        if let Some(next) = self.shared.next_judging() {
            self.shared.metrics.judges(&next.chain);
            self.judging = next;
        }
        *lock(&self.shared.sample) = Some(batch.head(SAMPLE_RECORDS, SAMPLE_BYTES));
    }

    /// Drops a batch that nobody will commit. Answers whether it begins a partition that no seek has named yet: assigned
    /// a moment ago, none of its batches was ever taken, so the source does not know that it must go back.
    fn skip(&mut self, batch: &RawBatch) -> bool {
        self.shared.landed(batch.weight());
        let known = self.next.len();
        for range in &batch.ranges {
            self.next.entry(range.partition.clone()).or_insert(range.from);
        }
        self.next.len() > known
    }

    /// Closes the open entry when it is due, or when somebody waits for it; one at a time.
    fn close_if_due(&mut self, offered: &Receiver<Offered>) {
        let asked = (self.ended || !self.flushing.is_empty()) && offered.is_empty();
        let discards = self.failed.is_some() || self.open.as_ref().is_some_and(|open| open.discard);
        if !(self.is_due() || asked || discards) || self.closing.is_some() || (self.committing && !discards) {
            return;
        }
        let Some(open) = self.open.take_if(|open| open.pending == 0) else { return };
        for _ in 0..self.workers {
            let _ = self.work.send(if discards { Work::Discard } else { Work::Close });
        }
        self.shared.metrics.closed();
        let (missing, due) = (self.workers, Instant::now());
        self.closing = Some(Closing { open, missing, written: Written::default(), due });
    }

    fn hear_worker(&mut self, done: Done) {
        match done {
            Done::Judged(result, bytes) => {
                self.shared.landed(bytes);
                if let Some(open) = &mut self.open {
                    open.pending -= 1;
                }
                if let Err(error) = result {
                    self.fail(error);
                }
            }
            Done::Closed(written) => match (*written, &mut self.closing) {
                (Ok(written), Some(closing)) => {
                    closing.written.merge(written);
                    self.one_closed();
                }
                (Err(error), _) => {
                    self.fail(error);
                    self.one_closed();
                }
                (Ok(_), None) => {}
            },
            Done::Discarded(result) => {
                if let Err(error) = result {
                    self.fail(error);
                }
                self.one_closed();
            }
        }
    }

    fn one_closed(&mut self) {
        let Some(closing) = &mut self.closing else { return };
        closing.missing -= 1;
        if closing.missing > 0 {
            return;
        }
        let Some(Closing { open, written, due, .. }) = self.closing.take() else { return };
        if self.failed.is_some() || open.discard {
            self.settle(open.number);
            return;
        }
        self.committing = true;
        self.under_way = open.number;
        self.shared.metrics.health.committing(true);
        self.shared.metrics.step(Step::Close, due.elapsed());
        let (opening, ranges, opened) = (open.opening, open.ranges, open.since);
        let _ = self.close.send(Closed { opening, ranges, written, opened, due });
    }

    fn land(&mut self, landed: Result<Committed>, watch: &mut dyn FnMut(Happening)) {
        self.committing = false;
        self.settle(self.under_way);
        self.shared.metrics.health.committing(false);
        match landed {
            Ok(Committed::At(landed)) => {
                self.shared.tell(self.epoch, Command::Applied(landed.positions.clone()));
                self.ran.counts.add(&landed.counts);
                self.ran.head = Some(landed.number);
                self.ran.entries += 1;
                self.torn = 0;
                self.shared.metrics.landed(landed.number, &landed.counts, landed.due.elapsed());
                merge_examples(&mut self.ran.examples, landed.examples.clone());
                watch(Happening::Landed(&landed, self.shared.total_lag()));
            }
            Ok(Committed::Moved(positions)) => {
                watch(Happening::Dropped);
                self.drop_open(positions);
            }
            Err(error) => self.fail(error),
        }
    }

    /// Nothing of an entry is under way any more.
    fn settle(&mut self, number: u64) {
        self.shared.entries.settle(number);
        self.shared.bell.ring();
    }

    /// Drops the open entry and whatever waits in the queue: all of it is read again. `known` are positions that the
    /// ledger just told; the other partitions go back to where the open entry began.
    fn drop_open(&mut self, known: Positions) {
        self.epoch += 1;
        self.shared.metrics.dropped();
        if let Some(open) = &mut self.open {
            open.discard = true;
            self.next.extend(open.ranges.iter().map(|(partition, (from, _))| (partition.clone(), *from)));
        }
        self.next.extend(known);
        self.shared.tell(self.epoch, Command::Seek(self.next.clone()));
    }

    fn hear_source(&mut self, word: Word, offered: &Receiver<Offered>, watch: &mut dyn FnMut(Happening)) {
        match word {
            Word::Flush(done) => self.flushing.push(done),
            Word::Lost(partitions, done) => {
                self.lose(&partitions, offered);
                let _ = done.send(());
            }
            Word::Assigned(lag) => watch(Happening::Assigned(&lag)),
            Word::Refreshed(refreshed) => watch(Happening::Refreshed(&refreshed)),
            Word::Ended(result) => {
                self.ended = true;
                self.shared.metrics.health.source_ended();
                if let Err(error) = result {
                    self.fail(error);
                }
            }
        }
    }

    fn lose(&mut self, partitions: &[TopicPartition], offered: &Receiver<Offered>) {
        // the source waits for the answer, so all that is there was read before; what is still ours is read again
        while let Ok((_, batch)) = offered.try_recv() {
            self.skip(&batch);
        }
        for partition in partitions {
            self.next.remove(partition);
            if let Some(open) = &mut self.open {
                // gone from the entry, so that nobody seeks back to it; its rows go with the entry's files
                open.discard |= open.ranges.remove(partition).is_some();
            }
        }
        self.drop_open(Positions::new());
    }

    /// The first error is the one that people see; the run ends.
    fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
        self.shared.stop.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stop;
    use super::*;
    use crate::config::defaults::COMMIT;
    use crate::record::Range;
    use crossbeam_channel::{bounded, unbounded};

    const PIPELINE: &str = r#"
name = "visits"
state = "lake/_sluice/visits"
[source]
files = ["*.ndjson"]
[schema]
file = "visits.sql"
[sink]
valid = { delta = "lake/visits" }
error = { delta = "lake/visits_errors" }
dlq = { delta = "lake/visits_dlq" }
"#;

    fn part(partition: i32) -> TopicPartition {
        TopicPartition::new("visits", partition)
    }

    fn batch(ranges: &[(i32, i64, i64)]) -> RawBatch {
        let ranges = ranges.iter().map(|(p, from, to)| Range { partition: part(*p), from: *from, to: *to }).collect();
        RawBatch { ranges, records: vec![], data: bytes::Bytes::new(), headers: vec![] }
    }

    /// Runs `steps` on a loop whose workers never answer; answers the seeks that the source was told, in order.
    fn told(steps: impl FnOnce(&mut Loop)) -> Vec<Vec<(i32, i64)>> {
        let shared = Shared::new(Stop::default(), Arc::default());
        (0..16).for_each(|_| assert!(shared.lift(1 << 10), "the batches of a test are light"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sluice.toml");
        std::fs::write(folder.path().join("visits.sql"), "CREATE TABLE visits (page STRING)").unwrap();
        std::fs::write(&file, PIPELINE).unwrap();
        let chain = Arc::new(crate::chain::Chain::load(&file, None).unwrap());
        let judging = Arc::new(Judging::new(chain).unwrap());
        let ((work, _queue), (_results, done), (close, _closed)) = (bounded(16), unbounded(), bounded(1));
        steps(&mut Loop {
            shared: &shared,
            commit: COMMIT,
            judging,
            workers: 1,
            work,
            done,
            close,
            open: None,
            closing: None,
            committing: false,
            under_way: 0,
            epoch: 0,
            next: Positions::new(),
            torn: 0,
            flushing: Vec::new(),
            ended: false,
            failed: None,
            ran: Ran::default(),
        });
        let seeks = std::iter::from_fn(|| shared.command()).filter_map(|command| match command {
            Command::Seek(to) => Some(to.into_iter().map(|(partition, at)| (partition.partition, at)).collect()),
            Command::Applied(_) => None,
        });
        seeks.collect()
    }

    #[test]
    fn dropped_entry_is_read_again_from_the_ledgers_word_or_from_where_it_began() {
        let seeks = told(|run| {
            run.take((0, batch(&[(0, 5, 9), (1, 0, 4)])));
            run.take((0, batch(&[(0, 9, 12)])));
            run.drop_open([(part(1), 7)].into());
        });
        assert_eq!(seeks, [[(0, 5), (1, 7)]]);
    }

    #[test]
    fn partition_that_was_read_but_never_taken_is_named_as_soon_as_its_batch_is_dropped() {
        let seeks = told(|run| {
            run.take((0, batch(&[(0, 5, 9)])));
            run.drop_open(Positions::new());
            // read before the source heard of the seek, which does not name partition 2
            run.take((0, batch(&[(0, 9, 10), (2, 30, 31)])));
            run.take((0, batch(&[(2, 31, 40)])));
            run.take((1, batch(&[(2, 40, 41)])));
        });
        assert_eq!(seeks, [vec![(0, 5)], vec![(0, 5), (2, 30)]]);
    }

    #[test]
    fn what_is_lost_is_not_read_again_and_what_waited_beside_it_is() {
        let (batches, offered) = unbounded();
        let seeks = told(|run| {
            run.take((0, batch(&[(0, 5, 9), (1, 0, 4)])));
            batches.send((0, batch(&[(1, 4, 6), (3, 70, 71)]))).expect("there is room");
            run.lose(&[part(1)], &offered);
            assert!(offered.is_empty());
        });
        assert_eq!(seeks, [[(0, 5), (3, 70)]]);
    }
}
