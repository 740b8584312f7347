//! Records of a topic or of files, for [`Diff`]: read from where the user says, judged, and forgotten.
//!
//! A topic is read in a group of its own, which commits nothing: the pipeline's group never hears of it.

use uuid::Uuid;

use super::Diff;
use crate::config::{self, SourceKind};
use crate::error::{Error, Result};
use crate::source::files::FilesSource;
use crate::source::kafka::KafkaSource;
use crate::source::{Source, reading};

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
    let unknown = reading::read_from(source, wanted, |batch| {
        diff.records(batch)?;
        Ok(diff.left > 0)
    })?;
    if unknown.is_empty() {
        return Ok(());
    }
    let unknown: Vec<_> = unknown.iter().map(ToString::to_string).collect();
    Err(Error::Config(format!("--from names {}, which {} does not have", unknown.join(", "), source.describe())))
}
