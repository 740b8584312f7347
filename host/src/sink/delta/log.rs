//! The upkeep of a Delta table's log: checkpoints, and the removal of what they made superfluous.
//!
//! Both are safe beside everything else. A checkpoint of a version says the same whoever writes it. What is removed is
//! older than the table's retention *and* older than a checkpoint that every version within the retention can be read
//! from: readers that began a moment ago go on. No data file is ever touched.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use deltalake::DeltaTableError;
use deltalake::kernel::{Metadata, Snapshot};
use deltalake::logstore::LogStoreRef;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use crate::maintain::Files;

type DeltaResult<T> = std::result::Result<T, DeltaTableError>;

/// How long a log keeps what a checkpoint made superfluous where the table does not say: Delta's default, 30 days.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How often a log is looked at anew where that fails: whoever shortens it beside us removes files between our list of them
/// and our look into them, once for each checkpoint.
const ATTEMPTS: usize = 5;

/// What `look` makes of a log that others may be shortening.
pub async fn beside_others<T>(look: impl AsyncFn() -> DeltaResult<T>) -> DeltaResult<T> {
    let mut seen = look().await;
    for _ in 1..ATTEMPTS {
        if seen.is_ok() {
            break;
        }
        seen = look().await;
    }
    seen
}

/// After a commit at which one is due: a checkpoint of that version, and a shorter log.
pub async fn tend(log: &LogStoreRef, version: u64) -> DeltaResult<()> {
    let snapshot = checkpoint(log, version).await?;
    let listed = list(log).await?;
    // The clock that the files' times are of: our own may be another. The commit was written just now.
    let now = listed.iter().map(|file| file.last_modified).max().unwrap_or_else(Utc::now);
    let old = superfluous(&listed, version, now - retention(snapshot.metadata()));
    remove(log, old).await.map(drop)
}

/// Writes a checkpoint of `version`, unless there is one; answers the snapshot.
pub async fn checkpoint(log: &LogStoreRef, version: u64) -> DeltaResult<Snapshot> {
    let snapshot = Snapshot::try_new(log.as_ref(), Some(version)).await?;
    // deltalake has this for a table that holds all its files in memory only; its kernel goes through them in batches
    let kernel = snapshot.scan_builder().build()?.snapshot().clone();
    let engine = log.engine(None);
    tokio::task::spawn_blocking(move || kernel.checkpoint(engine.as_ref(), None).map(drop))
        .await
        .map_err(DeltaTableError::generic)??;
    Ok(snapshot)
}

/// The objects of a table's log. Temporaries are not among them.
pub async fn list(log: &LogStoreRef) -> DeltaResult<Vec<ObjectMeta>> {
    Ok(log.object_store(None).list(Some(log.log_path())).try_collect().await?)
}

/// How long a table's log keeps what a checkpoint made superfluous.
pub fn retention(metadata: &Metadata) -> TimeDelta {
    let written = metadata.configuration().get("delta.logRetentionDuration");
    let retention = written.and_then(|text| interval(text)).unwrap_or(RETENTION);
    TimeDelta::from_std(retention).unwrap_or(TimeDelta::MAX)
}

/// `interval 1 day`, as Delta writes durations; `None` where it is something else.
fn interval(text: &str) -> Option<Duration> {
    let mut words = text.split_whitespace();
    let (Some("interval"), Some(number), Some(unit), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return None;
    };
    let seconds = match unit.trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 60 * 60,
        "day" => 24 * 60 * 60,
        "week" => 7 * 24 * 60 * 60,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
}

/// What an object in a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Commit,
    /// part of a checkpoint that has so many parts
    Checkpoint {
        parts: u32,
    },
    /// of a version, and not needed to read any other: checksums, compacted commits
    Other,
}

fn kind(path: &Path) -> Option<(u64, Kind)> {
    let (digits, rest) = path.filename()?.split_at_checked(20)?;
    let version = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    let kind = match rest.split('.').collect::<Vec<_>>()[..] {
        ["", "json"] => Kind::Commit,
        ["", "checkpoint", "parquet"] | ["", "checkpoint", _, "parquet" | "json"] => Kind::Checkpoint { parts: 1 },
        ["", "checkpoint", _, parts, "parquet"] => Kind::Checkpoint { parts: parts.parse().ok()? },
        ["", "crc"] => Kind::Other,
        _ => return None,
    };
    Some((version, kind))
}

/// Version of the last whole checkpoint in a log.
pub fn last_checkpoint(listed: &[ObjectMeta]) -> Option<u64> {
    checkpoints(listed).last().copied()
}

/// The checkpoint that a dry run does not write.
pub fn promised(version: u64) -> ObjectMeta {
    ObjectMeta {
        location: Path::from(format!("_delta_log/{version:020}.checkpoint.parquet")),
        last_modified: Utc::now(),
        size: 0,
        e_tag: None,
        version: None,
    }
}

/// The versions that have a whole checkpoint.
fn checkpoints(listed: &[ObjectMeta]) -> BTreeSet<u64> {
    let mut found: BTreeMap<(u64, u32), u32> = BTreeMap::new();
    for (version, kind) in listed.iter().filter_map(|file| kind(&file.location)) {
        if let Kind::Checkpoint { parts } = kind {
            *found.entry((version, parts)).or_default() += 1;
        }
    }
    found.into_iter().filter(|((_, parts), there)| there >= parts).map(|((version, _), _)| version).collect()
}

/// What of a log at `version` can go: written before `cutoff`, and before a checkpoint at or before the first version that
/// was written since.
pub fn superfluous(listed: &[ObjectMeta], version: u64, cutoff: DateTime<Utc>) -> Vec<ObjectMeta> {
    let known = || listed.iter().filter_map(|file| Some((file, kind(&file.location)?)));
    let recent = known().filter(|(file, (_, kind))| *kind == Kind::Commit && file.last_modified >= cutoff);
    let keep_from = recent.map(|(_, (version, _))| version).min().unwrap_or(version).min(version);
    let Some(safe) = checkpoints(listed).range(..=keep_from).next_back().copied() else { return Vec::new() };
    known()
        .filter(|(file, (version, _))| *version < safe && file.last_modified < cutoff)
        .map(|(file, _)| file.clone())
        .collect()
}

/// Removes objects from a log, oldest version first, so that what is left has no hole. What is gone already was removed
/// by another process. Answers what this process removed.
pub async fn remove(log: &LogStoreRef, mut files: Vec<ObjectMeta>) -> DeltaResult<Files> {
    let store = log.object_store(None);
    files.sort_by(|a, b| a.location.cmp(&b.location));
    let mut removed = Files::default();
    for file in files {
        match store.delete(&file.location).await {
            Ok(()) => removed.add(file.size),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log from `name age-in-hours` lines.
    fn log(lines: &[(&str, i64)]) -> Vec<ObjectMeta> {
        let file = |(name, hours): &(&str, i64)| ObjectMeta {
            location: Path::from(format!("_delta_log/{name}")),
            last_modified: DateTime::UNIX_EPOCH + TimeDelta::hours(1000 - hours),
            size: 1,
            e_tag: None,
            version: None,
        };
        lines.iter().map(file).collect()
    }

    fn commit(version: u64) -> String {
        format!("{version:020}.json")
    }

    fn whole(version: u64) -> String {
        format!("{version:020}.checkpoint.parquet")
    }

    /// Names of what goes, with 24 hours of retention.
    fn goes(lines: &[(String, i64)], version: u64) -> Vec<String> {
        let lines: Vec<_> = lines.iter().map(|(name, hours)| (name.as_str(), *hours)).collect();
        let cutoff = DateTime::UNIX_EPOCH + TimeDelta::hours(1000 - 24);
        let gone = superfluous(&log(&lines), version, cutoff);
        gone.iter().filter_map(|file| file.location.filename()).map(str::to_owned).collect()
    }

    #[test]
    fn only_what_is_older_than_a_checkpoint_that_every_kept_version_can_be_read_from_goes() {
        let ages = |ages: &[i64]| ages.iter().enumerate().map(|(n, age)| (commit(n as u64), *age)).collect::<Vec<_>>();
        // versions 0 to 5, the last two within a day
        let mut lines = ages(&[60, 50, 40, 30, 20, 10]);
        assert!(goes(&lines, 5).is_empty(), "no checkpoint");
        lines.push((whole(5), 10));
        assert!(goes(&lines, 5).is_empty(), "version 4 is kept, and needs all before it");
        lines.push((whole(3), 30));
        assert_eq!(goes(&lines, 5), [commit(0), commit(1), commit(2)]);
        lines.push((whole(1), 50));
        lines.push((format!("{:020}.crc", 1), 50));
        assert_eq!(goes(&lines, 5), [commit(0), commit(1), commit(2), whole(1), format!("{:020}.crc", 1)]);
        // an idle table: all is old, and the last version stays readable
        let idle: Vec<_> = lines.iter().map(|(name, age)| (name.clone(), age + 100)).collect();
        assert!(!goes(&idle, 5).contains(&commit(5)) && !goes(&idle, 5).contains(&whole(5)));
        assert_eq!(goes(&idle, 5).len(), 8);
    }

    #[test]
    fn half_a_checkpoint_is_none_and_strange_names_stay() {
        let mut lines: Vec<_> = (0..4).map(|n| (commit(n), 60)).collect();
        lines.push((format!("{:020}.checkpoint.{:010}.{:010}.parquet", 3, 1, 2), 50));
        for name in ["_last_checkpoint", "00000000000000000001.txt", "note.json", "0.json"] {
            lines.push((name.to_owned(), 60));
        }
        assert!(goes(&lines, 3).is_empty());
        lines.push((format!("{:020}.checkpoint.{:010}.{:010}.parquet", 3, 2, 2), 50));
        assert_eq!(goes(&lines, 3), [commit(0), commit(1), commit(2)]);
    }

    #[test]
    fn intervals_are_read_as_delta_writes_them() {
        for (text, hours) in [("interval 1 day", Some(24)), ("interval 2 weeks", Some(336)), ("1 day", None)] {
            assert_eq!(interval(text).map(|d| d.as_secs() / 3600), hours, "{text}");
        }
    }
}
