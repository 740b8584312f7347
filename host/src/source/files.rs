//! Files with one record per line, `.gz` and `.zst` among them, read one after the other in sorted order.
//!
//! A file is known by its path relative to the pipeline file, its digest and its length: what changed since its lines
//! were judged is refused, also when it changes while it is read. The offset of a record is its line, from 1; an empty
//! line is a record; the `\r` of a `\r\n` is none of it. A file that was read to its end before costs one digest.
//!
//! It does not watch folders: the run ends after the last file that was there when it began. It follows no growing
//! file: append-only files are rotated.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Doing, Error, Result};
use crate::record::{Range, RawBatch, TopicPartition};
use crate::source::{Command, Intake, Known, Source, StartAt, reset_command};

mod blocks;
pub mod find;
mod identity;
pub(crate) mod lines;
#[cfg(test)]
mod tests;

use find::Found;
use identity::{Content, Format, Survey, SurveyError};
use lines::{Bounds, Cut, LineBatch, Lines};

/// A group of files gets its `start` entry when reading reaches it: so many files …
const GROUP_FILES: usize = 256;
/// … or so many bytes, whichever is less: they are digested before the first of them is read.
const GROUP_BYTES: u64 = 1 << 30;

/// How far reading has got, in bytes as they are stored.
#[derive(Debug, Default)]
pub struct Progress {
    /// bytes that need no more reading
    pub done: Arc<AtomicU64>,
    /// bytes of all files
    pub total: AtomicU64,
}

/// The files that a pipeline's patterns mean.
pub struct FilesSource {
    files: Vec<Item>,
    patterns: Vec<String>,
    bounds: Bounds,
    progress: Arc<Progress>,
}

/// One of the files.
struct Item {
    found: Found,
    partition: TopicPartition,
    /// known once reading has reached its group
    survey: Option<Survey>,
    /// the line to read from
    from: i64,
}

impl Item {
    fn stored_length(&self) -> u64 {
        self.survey.map_or(self.found.length, |s| s.identity.length)
    }
}

impl FilesSource {
    /// The files that `patterns` mean, relative to `base`, the folder of the pipeline file; see [`find::find`].
    /// Payloads are decoded up to `max_record` bytes: much longer lines are not kept whole.
    pub fn new(base: &Path, patterns: &[String], max_record: usize) -> Result<Self> {
        let files: Vec<Item> = find::find(base, patterns)?
            .into_iter()
            .map(|found| Item { partition: TopicPartition::new(found.topic.as_str(), 0), found, survey: None, from: 1 })
            .collect();
        let progress = Arc::new(Progress::default());
        progress.total.store(files.iter().map(|f| f.found.length).sum(), Ordering::Relaxed);
        Ok(FilesSource { files, patterns: patterns.to_vec(), bounds: Bounds::new(max_record), progress })
    }

    /// Counters for a progress bar; they go on while [`Source::run`] does.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Digests the next group, from `first` on, and learns or sets where to begin in each. `None`: asked to stop.
    fn begin_group(
        &mut self,
        intake: &dyn Intake,
        first: usize,
        pending: &mut BTreeSet<usize>,
    ) -> Result<Option<usize>> {
        let mut bytes = 0;
        let fitting = self.files[first..].iter().take(GROUP_FILES).take_while(|file| {
            bytes += file.found.length;
            bytes <= GROUP_BYTES
        });
        let end = first + fitting.count().max(1);
        let partitions: Vec<_> = self.files[first..end].iter().map(|f| f.partition.clone()).collect();
        let mut known = intake.positions(&partitions)?;

        let mut unknown = BTreeMap::new();
        for file in &mut self.files[first..end] {
            let position = known.get(&file.partition);
            if let Some(id) = position.and_then(|p| p.topic_id.as_deref())
                && let Some(length) = identity::length_of(id)
                && length != file.found.length
            {
                return Err(changed_since(file, id, file.found.length)); // no need to digest it
            }
            let count = position.is_some_and(|p| p.offset > 1);
            let survey = match identity::survey(&file.found.path, count, &|| intake.stopping()) {
                Ok(survey) => survey,
                Err(SurveyError::Stopped) => return Ok(None),
                Err(SurveyError::Changed) => return Err(changed_meanwhile(&file.found)),
                Err(SurveyError::Io(error)) => {
                    return Err(Error::environment(format!("cannot read {}", file.found.path.display()), error));
                }
            };
            file.survey = Some(survey);
            if position.is_none() {
                let start = StartAt { offset: 1, topic_id: Some(survey.identity.to_string()) };
                unknown.insert(file.partition.clone(), start);
            }
        }
        if !unknown.is_empty() {
            known.extend(intake.start(unknown)?);
        }
        let mut identified = BTreeMap::new();
        for index in first..end {
            let file = &mut self.files[index];
            let position = known.get(&file.partition).ok_or_else(|| {
                Error::Host(format!("the ledger answered no position for {} after its start", file.partition))
            })?;
            if let (None, Some(survey)) = (&position.topic_id, file.survey) {
                identified.insert(file.partition.clone(), survey.identity.to_string());
            }
            if file.resume(position)? {
                intake.ends(&file.partition, position.offset);
                pending.remove(&index);
                self.progress.done.fetch_add(file.stored_length(), Ordering::Relaxed);
            }
        }
        intake.identify(identified);
        Ok(Some(end))
    }

    /// Does what the intake wants beside reading: files to read again become pending. Answers whether there were any.
    fn obey(&mut self, intake: &dyn Intake, pending: &mut BTreeSet<usize>) -> bool {
        let mut again = false;
        while let Some(command) = intake.command() {
            match command {
                Command::Applied(_) => {} // the ledger is the only place that knows a file's position
                Command::Seek(positions) => {
                    for (index, file) in self.files.iter_mut().enumerate() {
                        let Some(line) = positions.get(&file.partition) else { continue };
                        let ends_before = file.survey.and_then(|s| s.lines).is_some_and(|lines| *line > lines);
                        if ends_before && !pending.contains(&index) {
                            continue; // every file that was ever read is named: this one is done
                        }
                        file.from = *line;
                        again = true;
                        if pending.insert(index) {
                            self.progress.done.fetch_sub(file.stored_length(), Ordering::Relaxed);
                        }
                    }
                }
            }
        }
        again
    }

    /// Reads one file from its line on and hands its records over; it stays pending unless its end was reached.
    fn read(&mut self, intake: &dyn Intake, index: usize, pending: &mut BTreeSet<usize>) -> Result<()> {
        let Item { found, partition, survey, from } = &self.files[index];
        let (found, partition, from) = (found.clone(), partition.clone(), *from);
        let survey = survey.ok_or_else(|| Error::Host(format!("{} is read before it is digested", found.topic)))?;
        let reading = |line: i64| format!("cannot read {} at line {line}", found.path.display());

        let opened = File::open(&found.path).doing(|| reading(1))?;
        let (format, done) = (Format::of(&found.path), self.progress.done.clone());
        let content = Content::of(opened, format, &survey, done).doing(|| reading(1))?;
        let mut lines = Lines::new(content, from, self.bounds);
        loop {
            let cut = lines.next().map_err(|error| {
                let changed = lines.input().stamp().is_ok_and(|stamp| stamp != survey.stamp);
                if changed { changed_meanwhile(&found) } else { Error::environment(reading(error.line), error.source) }
            })?;
            if lines.input().stamp().doing(|| reading(lines.line()))? != survey.stamp {
                return Err(changed_meanwhile(&found)); // before its lines are handed over
            }
            match cut {
                Cut::Batch(batch) => {
                    self.files[index].from = batch.to;
                    let handed = hand_over(intake, raw(&partition, batch))?;
                    if handed == Handed::Stopping || self.obey(intake, pending) {
                        // where something is to be read again, the loop begins anew at the first of it
                        self.progress.done.fetch_sub(lines.input().stored_bytes_read(), Ordering::Relaxed);
                        return Ok(());
                    }
                }
                Cut::Idle => {} // not of a file: it has more, or it has ended
                Cut::End => break,
            }
        }
        let end = lines.line();
        let is_same = match lines.into_input().compare(&survey).doing(|| reading(end))? {
            Some(is_same) => is_same,
            // something about it changed, if only its rights or the number of its names
            None => match identity::survey(&found.path, false, &|| intake.stopping()) {
                Ok(again) => again.identity == survey.identity,
                Err(SurveyError::Stopped) => return Ok(()),
                Err(SurveyError::Changed) => false,
                Err(SurveyError::Io(error)) => return Err(Error::environment(reading(end), error)),
            },
        };
        if !is_same {
            return Err(changed_meanwhile(&found));
        }
        intake.ends(&partition, end);
        self.files[index].survey = Some(Survey { lines: Some(end - 1), ..survey });
        pending.remove(&index);
        Ok(())
    }
}

impl Source for FilesSource {
    fn describe(&self) -> String {
        let size = indicatif::BinaryBytes(self.files.iter().map(|f| f.found.length).sum());
        match &self.files[..] {
            [] => format!("no file matches {}", self.patterns.join(", ")),
            [one] => format!("{}, {size}", one.found.topic),
            many => format!("{} files, {size}", many.len()),
        }
    }

    fn run(&mut self, intake: &dyn Intake, _until_end: bool) -> Result<()> {
        let mut pending: BTreeSet<usize> = (0..self.files.len()).collect();
        let mut begun = 0;
        while !intake.stopping() {
            self.obey(intake, &mut pending);
            match pending.first().copied() {
                Some(index) if index < begun => self.read(intake, index, &mut pending)?,
                Some(_) => match self.begin_group(intake, begun, &mut pending)? {
                    Some(end) => begun = end,
                    None => break,
                },
                None => {
                    // only when the ledger has it all is nothing left that might have to be read again
                    intake.flush()?;
                    if !self.obey(intake, &mut pending) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Item {
    /// Takes the ledger's position over, if it is one in this very file. Answers whether nothing is left to read.
    fn resume(&mut self, position: &Known) -> Result<bool> {
        let survey = self.survey.ok_or_else(|| Error::Host(format!("{} has no digest", self.found.topic)))?;
        let identity = survey.identity.to_string();
        if let Some(id) = &position.topic_id
            && *id != identity
        {
            return Err(changed_since(self, id, survey.identity.length));
        }
        self.from = position.offset;
        match survey.lines {
            Some(lines) if position.offset > lines + 1 => Err(Error::Diverged(format!(
                "{} has {lines} lines, but in the ledger its next line is {}: the position is not one of this file; \
                 to read it from its first line: `{}`",
                self.found.path.display(),
                position.offset,
                reset_command(&self.partition, 1, false)
            ))),
            Some(lines) => Ok(position.offset == lines + 1),
            None => Ok(false),
        }
    }
}

/// Whether a batch is in the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handed {
    /// it is
    Over,
    /// it is not: the pipeline stops
    Stopping,
}

/// Offers a batch until the queue has room for it.
pub(crate) fn hand_over(intake: &dyn Intake, batch: RawBatch) -> Result<Handed> {
    let mut batch = Some(batch);
    while let Some(offered) = batch.take() {
        if intake.stopping() {
            return Ok(Handed::Stopping);
        }
        batch = intake.offer(offered)?;
    }
    Ok(Handed::Over)
}

/// Lines as the pipeline takes them.
pub(crate) fn raw(partition: &TopicPartition, lines: LineBatch) -> RawBatch {
    let range = Range { partition: partition.clone(), from: lines.from, to: lines.to };
    RawBatch { ranges: vec![range], records: lines.records, data: lines.data, headers: Vec::new() }
}

fn changed_since(file: &Item, known: &str, length: u64) -> Error {
    let was = match identity::length_of(known) {
        Some(was) if was != length => format!("it had {was} bytes, it has {length}"),
        Some(_) | None => format!("it is no longer {known}"),
    };
    Error::Diverged(format!(
        "{} changed after lines of it were judged: {was}; append-only files are rotated: give the new part a new name, \
         and this file its old content; or judge all of it again, from its first line: `{}`",
        file.found.path.display(),
        reset_command(&file.partition, 1, false)
    ))
}

fn changed_meanwhile(found: &Found) -> Error {
    Error::Diverged(format!(
        "{} changed while it was read; append-only files are rotated: give the new part a new name, and let a file be \
         complete before it gets the name that `files` matches",
        found.path.display()
    ))
}
