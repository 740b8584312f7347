//! Records of a topic or of files, for [`Diff`]: read from where the user says, judged, and forgotten.
//!
//! A topic is read in a group of its own, which commits nothing: the pipeline's group never hears of it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use uuid::Uuid;

use super::Diff;
use crate::config::{self, SourceKind};
use crate::error::{Error, Result};
use crate::record::{RawBatch, TopicPartition};
use crate::source::files::FilesSource;
use crate::source::kafka::KafkaSource;
use crate::source::{Command, Intake, Known, Source, StartAt};

/// Whatever the pipeline reads.
pub(super) fn source(diff: &mut Diff<'_>) -> Result<()> {
    let config = &diff.before.config;
    // the larger of the two: what one generation takes must not be cut off for the other
    let max_record = config.source.max_record.max(diff.after.config.source.max_record);
    let mut source: Box<dyn Source> = match &config.source.kind {
        SourceKind::Files(patterns) => Box::new(FilesSource::new(&config.base, patterns, max_record)?),
        SourceKind::Kafka(kafka) => {
            let group = format!("{}-diff-{}", kafka.group, Uuid::now_v7());
            Box::new(KafkaSource::new(&config::KafkaSource {
                group,
                start: config::StartPoint::Earliest,
                ..kafka.clone()
            })?)
        }
        SourceKind::Stdin => {
            return Err(Error::Config(
                "what came by standard input is gone; name a table or a file: --on error, --on FILE".into(),
            ));
        }
    };
    read(diff, &mut *source)
}

/// One file of records, wherever it is.
pub(super) fn file(diff: &mut Diff<'_>, file: &str) -> Result<()> {
    let here = std::env::current_dir().map_err(|e| Error::environment("cannot find the working folder", e))?;
    let max_record = diff.before.config.source.max_record.max(diff.after.config.source.max_record);
    read(diff, &mut FilesSource::new(&here, &[file.to_owned()], max_record)?)
}

fn read(diff: &mut Diff<'_>, source: &mut dyn Source) -> Result<()> {
    let wanted = diff.args.from.iter().map(|at| (at.partition.clone(), at.offset)).collect();
    let reading = Reading(Mutex::new(State { diff, wanted, known: BTreeMap::new() }));
    source.run(&reading, true)?;
    let state = reading.state();
    let unknown: Vec<String> =
        state.wanted.keys().filter(|partition| !state.known.contains_key(partition)).map(ToString::to_string).collect();
    if !unknown.is_empty() && state.diff.left > 0 {
        return Err(Error::Config(format!(
            "--from names {}, which {} does not have",
            unknown.join(", "),
            source.describe()
        )));
    }
    Ok(())
}

struct Reading<'a, 'b>(Mutex<State<'a, 'b>>);

struct State<'a, 'b> {
    diff: &'a mut Diff<'b>,
    /// where to begin; empty: everywhere at the beginning
    wanted: BTreeMap<TopicPartition, i64>,
    known: BTreeMap<TopicPartition, Known>,
}

impl<'a, 'b> Reading<'a, 'b> {
    fn state(&self) -> std::sync::MutexGuard<'_, State<'a, 'b>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Intake for Reading<'_, '_> {
    fn positions(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Known>> {
        let mut state = self.state();
        for partition in partitions {
            // the source says itself what it finds there
            if let Some(offset) = state.wanted.get(partition).copied() {
                let known = Known { offset, topic_id: None };
                state.known.entry(partition.clone()).or_insert(known);
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
        let mut state = self.state();
        let batch = match state.wanted.is_empty() {
            true => Some(batch),
            false => crate::source::kafka::keep(batch, |range| state.wanted.contains_key(&range.partition)),
        };
        if let Some(batch) = batch {
            state.diff.records(batch)?;
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
        self.state().diff.left == 0
    }
}
