//! The pipeline as its source sees it: a bounded queue of batches, and the ledger's word on positions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};

use super::judging::Turn;
use super::refresh::Refreshed;
use super::{Follow, Stop};
use crate::audit::assign::Closed;
use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::ledger::{Appended, Entry, EntryRange, Fold, Kind};
use crate::record::{RawBatch, TopicPartition};
use crate::reference::References;
use crate::source::{Command, Intake, Known, Notice, StartAt};
use crate::telemetry::Metrics;

/// How long an offer waits for room before the source gets its batch back.
const PATIENCE: Duration = Duration::from_millis(100);

/// Bytes of batches that are in memory at once. Ordinary batches are a few MiB each; it is there for payloads of many
/// megabytes, each of which is in memory twice more while it becomes a dead letter.
pub(super) const MOST_BYTES: u64 = 64 << 20;

/// A batch on its way to a worker, and the epoch in which it was read.
pub(super) type Offered = (u64, RawBatch);

/// What a source says to the loop beside batches.
pub(super) enum Word {
    /// commit what is buffered, then answer
    Flush(Sender<()>),
    /// these partitions are gone without notice; answered when nothing of them is under way to an entry any more
    Lost(Vec<TopicPartition>, Sender<()>),
    /// these partitions are read now, and have so many records left
    Assigned(BTreeMap<TopicPartition, u64>),
    /// a reference table has a new version, or cannot be read
    Refreshed(Box<Refreshed>),
    /// the source has ended
    Ended(Result<()>),
}

/// What the loop and the source's thread share.
pub(super) struct Shared {
    pub stop: Stop,
    pub metrics: Arc<Metrics>,
    /// the epoch of the batches that the source delivers now; it moves when the source takes a `Seek`
    epoch: AtomicU64,
    /// the batches between the source and the end of their judgement
    held: Mutex<Held>,
    lighter: Condvar,
    commands: Mutex<VecDeque<(u64, Command)>>,
    lag: Mutex<BTreeMap<TopicPartition, u64>>,
    topic_ids: Mutex<BTreeMap<TopicPartition, String>>,
    /// which generation judges, and which will
    pub turn: Mutex<Turn>,
    /// what rows are joined with, by the generation that judges next: what is kept fresh
    pub references: Mutex<References>,
    /// the first records of the entry that was opened last
    pub sample: Mutex<Option<RawBatch>>,
    /// somebody in this process changed what the ledger or the state folder says
    pub poked: AtomicBool,
    /// windows that are decided, or about to be: rows that come for them are late
    closed: RwLock<Closed>,
    /// windows of time up to here are about to be decided by this process
    closing: Mutex<Option<i64>>,
    /// where partitions end for good, as far as the source has told
    ends: Mutex<BTreeMap<TopicPartition, i64>>,
    /// entries that were opened, and those of them that are in the ledger or dropped: windows wait for what is under way
    pub entries: Entries,
    /// the generation that judges from the next entry on, until the auditor has heard of it
    pub auditing: Mutex<Option<Arc<Chain>>>,
    /// rings when an entry is settled
    pub bell: Bell,
    /// why the run cannot go on, where that is nobody's fault who takes part in it
    pub trouble: Mutex<Option<Error>>,
}

/// Wakes whoever waits for something new; rung twice, it is heard once.
pub(super) struct Bell {
    rung: Sender<()>,
    heard: Receiver<()>,
}

impl Default for Bell {
    fn default() -> Self {
        let (rung, heard) = bounded(1);
        Bell { rung, heard }
    }
}

impl Bell {
    /// Wakes.
    pub fn ring(&self) {
        let _ = self.rung.try_send(());
    }

    /// Waits for a ring, and not for longer than this.
    pub fn wait(&self, most: Duration) {
        let _ = self.heard.recv_timeout(most);
    }
}

/// Entries of this process, counted from 1 in the order in which they are opened. One that is dropped may be settled before
/// one that is being committed.
#[derive(Default)]
pub(super) struct Entries {
    opened: AtomicU64,
    /// those that are under way, and what they have staged
    staged: Mutex<VecDeque<(u64, Arc<Staged>)>>,
}

/// For which windows of time an entry that is under way has rows: the end of the earliest, microseconds since the epoch.
pub(super) struct Staged(AtomicI64);

impl Staged {
    /// Rows were staged for a window that ends then, and for none before it.
    pub fn note(&self, end: i64) {
        self.0.fetch_min(end, Ordering::SeqCst);
    }
}

impl Entries {
    /// The number of an entry that is opened now, and where it says what it stages.
    pub fn open(&self) -> (u64, Arc<Staged>) {
        let mut staged = lock(&self.staged);
        let number = self.opened.fetch_add(1, Ordering::SeqCst) + 1;
        let nothing = Arc::new(Staged(AtomicI64::new(i64::MAX)));
        staged.push_back((number, nothing.clone()));
        (number, nothing)
    }

    /// An entry is in the ledger, or dropped.
    pub fn settle(&self, number: u64) {
        lock(&self.staged).retain(|(under_way, _)| *under_way != number);
    }

    /// Whether no entry that is under way, of those up to this one, has rows for windows that end up to then.
    pub fn is_clear(&self, number: u64, end: i64) -> bool {
        let staged = lock(&self.staged);
        staged.iter().take_while(|(under_way, _)| *under_way <= number).all(|(_, it)| it.0.load(Ordering::SeqCst) > end)
    }

    /// The last entry that was opened.
    pub fn last(&self) -> u64 {
        self.opened.load(Ordering::SeqCst)
    }

    /// Whether nothing that was opened up to here is under way.
    pub fn is_settled(&self, number: u64) -> bool {
        lock(&self.staged).front().is_none_or(|(under_way, _)| *under_way > number)
    }
}

/// Batches that are in memory.
#[derive(Default)]
struct Held {
    batches: u64,
    bytes: u64,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(stop: Stop, metrics: Arc<Metrics>) -> Shared {
        Shared {
            stop,
            metrics,
            epoch: AtomicU64::new(0),
            held: Mutex::default(),
            lighter: Condvar::new(),
            commands: Mutex::default(),
            lag: Mutex::default(),
            topic_ids: Mutex::default(),
            turn: Mutex::default(),
            references: Mutex::default(),
            sample: Mutex::default(),
            poked: AtomicBool::new(false),
            closed: RwLock::default(),
            closing: Mutex::default(),
            ends: Mutex::default(),
            entries: Entries::default(),
            auditing: Mutex::default(),
            bell: Bell::default(),
            trouble: Mutex::default(),
        }
    }

    /// Takes a batch's weight upon us, if there is room within a moment; a batch that is alone has room whatever it weighs.
    pub fn lift(&self, weight: u64) -> bool {
        let heavy = |held: &mut Held| held.bytes > 0 && held.bytes + weight > MOST_BYTES;
        let waited = self.lighter.wait_timeout_while(lock(&self.held), PATIENCE, heavy);
        let (mut held, out_of_time) = waited.unwrap_or_else(PoisonError::into_inner);
        if out_of_time.timed_out() && heavy(&mut held) {
            return false;
        }
        held.bytes += weight;
        held.batches += 1;
        self.metrics.in_flight(held.batches, held.bytes);
        true
    }

    /// A batch is judged, or dropped.
    pub fn landed(&self, weight: u64) {
        let mut held = lock(&self.held);
        held.bytes -= weight;
        held.batches -= 1;
        self.metrics.in_flight(held.batches, held.bytes);
        self.lighter.notify_all();
    }

    /// Tells the source; `epoch` counts from the moment it takes the command.
    pub fn tell(&self, epoch: u64, command: Command) {
        lock(&self.commands).push_back((epoch, command));
    }

    /// The next thing that the source was told; it acts on it before it delivers anything else.
    pub fn command(&self) -> Option<Command> {
        let (epoch, command) = lock(&self.commands).pop_front()?;
        if matches!(command, Command::Seek(_)) {
            self.epoch.store(epoch, Ordering::SeqCst);
        }
        Some(command)
    }

    pub fn topic_id(&self, partition: &TopicPartition) -> Option<String> {
        lock(&self.topic_ids).get(partition).cloned()
    }

    /// Gives rows their windows, by those for which rows come late. Whoever closes another one waits for it, and finds in
    /// `entries` what was staged before.
    pub fn assign<T>(&self, windows: impl FnOnce(&Closed) -> T) -> T {
        windows(&self.closed.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hears from the ledger which windows are decided.
    pub fn hear_closed(&self, fold: &Fold) {
        // made while nobody else can write: what is about to be decided is never forgotten again
        let mut closed = self.closed.write().unwrap_or_else(PoisonError::into_inner);
        *closed = Closed::of(fold, *lock(&self.closing));
    }

    /// Windows of time that end up to here are about to be decided; what comes for them from now on is late.
    pub fn closing_until(&self, until: i64, fold: &Fold) {
        let mut closing = lock(&self.closing);
        *closing = (*closing).max(Some(until));
        drop(closing);
        self.hear_closed(fold);
    }

    /// Whether a partition ends at this offset for good.
    pub fn is_end(&self, partition: &TopicPartition, offset: i64) -> bool {
        lock(&self.ends).get(partition) == Some(&offset)
    }

    /// Records that the source still has of each partition.
    pub fn lag_of(&self, partition: &TopicPartition) -> u64 {
        lock(&self.lag).get(partition).copied().unwrap_or(0)
    }

    /// Records that the source has not delivered yet, over all partitions.
    pub fn total_lag(&self) -> u64 {
        lock(&self.lag).values().sum()
    }
}

/// The source's end.
pub(super) struct Gate {
    pub shared: Arc<Shared>,
    pub batches: Sender<Offered>,
    pub words: Sender<Word>,
    pub follow: Follow,
}

impl Gate {
    fn known(&self, fold: &Fold, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Known> {
        let known: BTreeMap<_, _> = partitions
            .iter()
            .filter_map(|partition| {
                let position = fold.positions.get(partition)?;
                Some((partition.clone(), Known { offset: position.offset, topic_id: position.topic_id.clone() }))
            })
            .collect();
        let ids = known.iter().filter_map(|(p, k)| Some((p.clone(), k.topic_id.clone()?)));
        lock(&self.shared.topic_ids).extend(ids);
        known
    }

    fn append_start(&self, ranges: Vec<EntryRange>) -> Result<()> {
        let generation = lock(&self.shared.turn).judging.clone();
        let entry = Entry { ranges, ..Entry::new(Kind::Start, &generation) };
        match self.follow.runtime.block_on(self.follow.ledger.append(&entry))? {
            // another process may have been first with a partition: then what it says counts, and the caller looks again
            Appended::At(_) | Appended::Moved { .. } => Ok(()),
        }
    }
}

impl Intake for Gate {
    fn positions(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Known>> {
        let (fold, _) = self.follow.catch_up()?;
        self.shared.metrics.health.positioned();
        Ok(self.known(&fold, partitions))
    }

    fn start(&self, partitions: BTreeMap<TopicPartition, StartAt>) -> Result<BTreeMap<TopicPartition, Known>> {
        let names: Vec<_> = partitions.keys().cloned().collect();
        self.shared.metrics.health.positioned();
        loop {
            let fold = self.follow.runtime.block_on(self.follow.ledger.fold())?;
            let missing = partitions.iter().filter(|(partition, _)| !fold.positions.contains_key(*partition));
            let ranges: Vec<_> = missing
                .map(|(partition, start)| EntryRange {
                    partition: partition.clone(),
                    from: start.offset,
                    to: start.offset,
                    topic_id: start.topic_id.clone(),
                    latest_event_time: None,
                    ended: false,
                })
                .collect();
            if ranges.is_empty() {
                return Ok(self.known(&fold, &names));
            }
            self.append_start(ranges)?;
        }
    }

    fn identify(&self, ids: BTreeMap<TopicPartition, String>) {
        lock(&self.shared.topic_ids).extend(ids);
    }

    fn ends(&self, partition: &TopicPartition, offset: i64) {
        lock(&self.shared.ends).insert(partition.clone(), offset);
    }

    fn offer(&self, batch: RawBatch) -> Result<Option<RawBatch>> {
        let weight = batch.weight();
        if !self.shared.lift(weight) {
            return Ok(Some(batch));
        }
        match self.batches.send_timeout((self.shared.epoch.load(Ordering::SeqCst), batch), PATIENCE) {
            Ok(()) => Ok(None),
            Err(SendTimeoutError::Timeout((_, batch))) => {
                self.shared.landed(weight);
                Ok(Some(batch))
            }
            Err(SendTimeoutError::Disconnected(_)) => Err(Error::Host("the pipeline ended before its source".into())),
        }
    }

    fn flush(&self) -> Result<()> {
        let (done, wait) = bounded(1);
        // when the loop has ended, nothing is buffered any more
        if self.words.send(Word::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
        Ok(())
    }

    fn lost(&self, partitions: &[TopicPartition]) {
        let (done, wait) = bounded(1);
        // answered at once; without the answer, what is read after a new assignment could overtake the word
        if self.words.send(Word::Lost(partitions.to_vec(), done)).is_ok() {
            let _ = wait.recv();
        }
    }

    fn lag(&self, lag: BTreeMap<TopicPartition, u64>) {
        self.shared.metrics.lag(&lag);
        let mut known = lock(&self.shared.lag);
        if !known.keys().eq(lag.keys()) {
            let _ = self.words.send(Word::Assigned(lag.clone()));
        }
        *known = lag;
    }

    fn notice(&self, notice: Notice) {
        self.shared.metrics.notice(notice);
    }

    fn command(&self) -> Option<Command> {
        self.shared.command()
    }

    fn stopping(&self) -> bool {
        self.shared.metrics.health.source_seen();
        self.shared.stop.is_asked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_waits_for_the_entries_that_have_rows_of_it() {
        let entries = Entries::default();
        let (first, staged) = entries.open();
        let (second, none) = entries.open();
        assert!(entries.is_clear(second, 20));
        staged.note(30);
        staged.note(20);
        assert_eq!([10, 19, 20, 40].map(|end| entries.is_clear(first, end)), [true, true, false, false]);
        assert!(!entries.is_clear(second, 20), "an earlier entry has some");
        none.note(15);
        assert!(entries.is_clear(first, 15), "only a later entry has some");
        entries.settle(first);
        assert!(entries.is_clear(first, 40) && !entries.is_clear(second, 15) && !entries.is_settled(second));
        let (third, _) = entries.open();
        entries.settle(third);
        assert!(
            !entries.is_settled(third) && !entries.is_clear(third, 15),
            "dropped before one that is being committed"
        );
        entries.settle(second);
        assert!(entries.is_settled(third) && entries.is_clear(third, i64::MAX - 1));
    }
}
