//! An intake for the unit tests of sources: a ledger in memory, and everything that was handed over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use crate::error::Result;
use crate::record::{Positions, RawBatch, TopicPartition};
use crate::source::{Command, Intake, Known, StartAt};

/// Commits everything at once, unless told otherwise.
#[derive(Default)]
pub struct Collecting(Mutex<State>);

#[derive(Default)]
struct State {
    known: BTreeMap<TopicPartition, Known>,
    batches: Vec<RawBatch>,
    starts: usize,
    asked: Vec<usize>,
    /// (batches handed over before it is given, command)
    commands: VecDeque<(usize, Command)>,
    refusals: usize,
    stop_after: Option<usize>,
    on_offer: Option<Box<dyn FnMut() + Send>>,
}

/// A record as it was handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    pub partition: TopicPartition,
    pub offset: i64,
    pub value: Option<Vec<u8>>,
    pub truncated_from: Option<u64>,
}

impl Collected {
    pub fn text(&self) -> String {
        String::from_utf8(self.value.clone().unwrap_or_default()).unwrap()
    }
}

impl Collecting {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Every record, in the order in which it came.
    pub fn records(&self) -> Vec<Collected> {
        let mut all = Vec::new();
        for batch in &self.state().batches {
            for (i, record) in batch.records.iter().enumerate() {
                all.push(Collected {
                    partition: batch.partition(i).clone(),
                    offset: record.offset,
                    value: batch.value(i).map(<[u8]>::to_vec),
                    truncated_from: record.truncated_from,
                });
            }
        }
        all
    }

    /// How many partitions were started.
    pub fn starts(&self) -> usize {
        self.state().starts
    }

    /// How many partitions each call of `positions` asked for.
    pub fn asked(&self) -> Vec<usize> {
        self.state().asked.clone()
    }

    /// The positions.
    pub fn positions(&self) -> Positions {
        self.state().known.iter().map(|(partition, known)| (partition.clone(), known.offset)).collect()
    }

    /// Sets a position, as an earlier run would have.
    pub fn set(&self, partition: TopicPartition, offset: i64, topic_id: Option<&str>) {
        self.state().known.insert(partition, Known { offset, topic_id: topic_id.map(str::to_owned) });
    }

    /// Gives this command once so many batches were handed over.
    pub fn command_after(&self, batches: usize, command: Command) {
        self.state().commands.push_back((batches, command));
    }

    /// Gives the next so many offers back.
    pub fn refuse(&self, offers: usize) {
        self.state().refusals = offers;
    }

    /// Says stop once so many batches were handed over.
    pub fn stop_after(&self, batches: usize) {
        self.state().stop_after = Some(batches);
    }

    /// Runs at every offer.
    pub fn on_offer(&self, action: impl FnMut() + Send + 'static) {
        self.state().on_offer = Some(Box::new(action));
    }
}

impl Intake for Collecting {
    fn positions(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Known>> {
        let mut state = self.state();
        state.asked.push(partitions.len());
        Ok(partitions.iter().filter_map(|p| Some((p.clone(), state.known.get(p)?.clone()))).collect())
    }

    fn start(&self, partitions: BTreeMap<TopicPartition, StartAt>) -> Result<BTreeMap<TopicPartition, Known>> {
        let mut state = self.state();
        state.starts += partitions.len();
        let mut answer = BTreeMap::new();
        for (partition, start) in partitions {
            let known = Known { offset: start.offset, topic_id: start.topic_id };
            answer.insert(partition.clone(), state.known.entry(partition).or_insert(known).clone());
        }
        Ok(answer)
    }

    fn identify(&self, ids: BTreeMap<TopicPartition, String>) {
        let mut state = self.state();
        for (partition, id) in ids {
            state.known.get_mut(&partition).expect("an identified partition has a position").topic_id = Some(id);
        }
    }

    fn offer(&self, batch: RawBatch) -> Result<Option<RawBatch>> {
        let mut state = self.state();
        if let Some(mut action) = state.on_offer.take() {
            action();
            state.on_offer = Some(action);
        }
        if state.refusals > 0 {
            state.refusals -= 1;
            return Ok(Some(batch));
        }
        for range in &batch.ranges {
            let known = state.known.get_mut(&range.partition).expect("a partition is started before it is read");
            known.offset = range.to;
        }
        state.batches.push(batch);
        Ok(None)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn lost(&self, _: &[TopicPartition]) {}

    fn lag(&self, _: BTreeMap<TopicPartition, u64>) {}

    fn command(&self) -> Option<Command> {
        let mut state = self.state();
        let handed = state.batches.len();
        let due = state.commands.front().is_some_and(|(after, _)| *after <= handed);
        if due { state.commands.pop_front().map(|(_, command)| command) } else { None }
    }

    fn stopping(&self) -> bool {
        let state = self.state();
        state.stop_after.is_some_and(|after| state.batches.len() >= after)
    }
}
