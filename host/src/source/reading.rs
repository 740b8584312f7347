//! Reads a source to its end, or until enough was seen, for commands that keep nothing: no ledger, no positions.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::error::{Error, Result};
use crate::record::{RawBatch, TopicPartition};
use crate::source::{Command, Intake, Known, Source, StartAt};

/// Hands every batch of `source` to `take`, until it answers `false`. Guests may run in `take`: it is called on a thread
/// with as much stack as a worker's.
pub fn read(source: &mut dyn Source, take: impl FnMut(RawBatch) -> Result<bool> + Send) -> Result<()> {
    read_from(source, BTreeMap::new(), take).map(drop)
}

/// As [`read`], of these partitions alone, and of each from this offset on; all of them from the beginning where none is
/// named. Answers which of them the source turned out not to have.
pub fn read_from(
    source: &mut dyn Source,
    wanted: BTreeMap<TopicPartition, i64>,
    take: impl FnMut(RawBatch) -> Result<bool> + Send,
) -> Result<Vec<TopicPartition>> {
    let reading = Reading { wanted, state: Mutex::new(State { take, known: BTreeMap::new(), enough: false }) };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(crate::plugin::THREAD_STACK);
        let thread = thread.spawn_scoped(scope, || source.run(&reading, true));
        let thread = thread.map_err(|e| Error::environment("cannot start a thread", e))?;
        thread.join().unwrap_or_else(|_| Err(Error::Host("the thread that reads panicked".into())))
    })?;
    let state = reading.state();
    // a source that was left early may have more than it came to say
    let is_unknown = |partition: &&TopicPartition| !state.enough && !state.known.contains_key(*partition);
    Ok(reading.wanted.keys().filter(is_unknown).cloned().collect())
}

struct Reading<F> {
    /// where to begin; empty: everywhere at the beginning
    wanted: BTreeMap<TopicPartition, i64>,
    state: Mutex<State<F>>,
}

struct State<F> {
    take: F,
    known: BTreeMap<TopicPartition, Known>,
    enough: bool,
}

impl<F> Reading<F> {
    fn state(&self) -> std::sync::MutexGuard<'_, State<F>> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<F: FnMut(RawBatch) -> Result<bool> + Send> Intake for Reading<F> {
    fn positions(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Known>> {
        let mut state = self.state();
        for partition in partitions {
            // the source says itself what it finds there
            if let Some(offset) = self.wanted.get(partition).copied() {
                state.known.entry(partition.clone()).or_insert(Known { offset, topic_id: None });
            }
        }
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
        let batch = match self.wanted.is_empty() {
            true => Some(batch),
            false => super::kafka::keep(batch, |range| self.wanted.contains_key(&range.partition)),
        };
        let mut state = self.state();
        if let Some(batch) = batch.filter(|_| !state.enough) {
            state.enough = !(state.take)(batch)?;
        }
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
        self.state().enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::files::FilesSource;

    #[test]
    fn a_source_is_read_to_its_end_or_until_enough_was_seen() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["a", "b"] {
            std::fs::write(folder.path().join(file), "1\n2\n").unwrap();
        }
        let read_until = |most: usize| {
            let mut source = FilesSource::new(folder.path(), &["*".to_owned()], 1 << 20).unwrap();
            let mut seen = 0;
            read(&mut source, |batch| {
                seen += batch.records.len();
                Ok(seen < most)
            })
            .unwrap();
            seen
        };
        assert_eq!((read_until(usize::MAX), read_until(1)), (4, 2));
        let mut source = FilesSource::new(folder.path(), &["*".to_owned()], 1 << 20).unwrap();
        assert!(read(&mut source, |_| Err(Error::Config("no".into()))).is_err());
    }
}
