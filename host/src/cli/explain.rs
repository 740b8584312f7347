//! `sluice explain`: why a record went where it did, and what today's generation would say.
//!
//! It reads the tables and the ledger, and judges again in memory. It changes nothing.

mod story;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::text::Paint;
use super::{PipelineArg, Verdict, open};
use crate::config::{Config, SinkKind, SourceKind};
use crate::error::{Error, Result};
use crate::ledger::keep::is_before;
use crate::ledger::{Entry, Kind, Ledger};
use crate::outcome::Outcome;
use crate::pipeline::Follow;
use crate::record::TopicPartition;
use crate::sink::look;
use crate::store;

use story::Story;

/// Tell why a record went where it did, and what today's generation would say.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice explain visits/0/184311        topic, partition, offset\n  \
sluice explain visits.ndjson:1042     file and line")]
pub struct ExplainArgs {
    /// TOPIC/PARTITION/OFFSET, or FILE:LINE as in `_topic` and `_offset`
    #[arg(value_name = "WHERE", value_parser = parse_place)]
    pub at: At,
    /// whose tables
    #[command(flatten)]
    pub pipeline: PipelineArg,
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The coordinates of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// topic and partition, or file
    pub partition: TopicPartition,
    /// offset, or line
    pub offset: i64,
}

/// `visits/0/184311`, `visits.ndjson:1042`.
pub fn parse_place(text: &str) -> Result<At, String> {
    let wrong = || format!("`{text}` names no record: expected TOPIC/PARTITION/OFFSET or FILE:LINE");
    let at = |topic: &str, partition: i32, offset: i64| At { partition: TopicPartition::new(topic, partition), offset };
    if let Some((file, line)) = text.rsplit_once(':') {
        return Ok(at(file, 0, line.parse().map_err(|_| wrong())?));
    }
    let mut parts = text.rsplitn(3, '/');
    let (offset, partition, topic) = (parts.next(), parts.next(), parts.next());
    let (Some(offset), Some(partition), Some(topic)) = (offset, partition, topic) else { return Err(wrong()) };
    Ok(at(topic, partition.parse().map_err(|_| wrong())?, offset.parse().map_err(|_| wrong())?))
}

/// A record's coordinates as people type them: `visits.ndjson:1042`, `visits/0/184311`.
pub fn place(config: &Config, partition: &TopicPartition, offset: i64) -> String {
    match config.source.kind {
        SourceKind::Kafka(_) => format!("{partition}/{offset}"),
        SourceKind::Files(_) | SourceKind::Stdin => format!("{}:{offset}", partition.topic),
    }
}

/// Runs the command.
pub fn run(args: &ExplainArgs) -> Result<Verdict> {
    let runtime = open::runtime()?;
    let chain = open::chain(&args.pipeline.config)?;
    let follow = open::follow(&chain.config, &runtime)?;
    let At { partition, offset } = &args.at;
    let (entries, found, unseen) = runtime.block_on(async {
        let mut entries = Vec::new();
        let (mut found, mut unseen) = (Vec::new(), Vec::new());
        let head = follow.ledger.head().await?;
        let whole = 0..head;
        if let Some(last) = entry_of(&follow.ledger, &args.at, whole.clone(), |e| e.kind == Kind::Rows).await? {
            let replays = last.0..follow.ledger.fold().await?.replays.last;
            let replay = entry_of(&follow.ledger, &args.at, replays, |e| e.kind == Kind::Replay).await?;
            let numbers = [Some(last.0), replay.map(|(number, _)| number)];
            (found, unseen) = rows_at(&chain.config, &args.at, &follow, numbers.into_iter().flatten()).await?;
            let batches: Vec<String> = found.iter().filter_map(|found| story::batch(&found.row)).collect();
            entries.push(last);
            // rows of a replay, or from before the operator had the record read again
            for batch in batches {
                if entries.iter().any(|(_, entry)| entry.id.to_string() == batch) {
                    continue;
                }
                let is_its = |entry: &Entry| entry.id.to_string() == batch;
                entries.extend(last_entry(&follow.ledger, whole.clone(), is_its).await?);
            }
        }
        Ok::<_, Error>((entries, found, unseen))
    })?;
    if entries.is_empty() {
        let fold = runtime.block_on(follow.ledger.fold())?;
        let here = place(&chain.config, partition, *offset);
        let known = fold.positions.get(partition).map(|position| position.offset);
        return Err(Error::Config(match known {
            Some(next) if *offset >= next => format!("{here} has not been read yet: the next record is {next}"),
            Some(_) => format!("{here} lies before the first record that this pipeline read"),
            None => format!("{here}: this pipeline never read `{partition}`; it knows {}", list(fold.positions.keys())),
        }));
    }
    let kept_from = runtime.block_on(follow.ledger.fold())?.kept_from;
    let expired = entries.first().and_then(|(_, entry)| {
        // what was staged went on with the decision over its window, which is younger
        let put = |outcome: &Outcome| entry.sinks.contains_key(outcome) || entry.sinks.contains_key(&Outcome::Staging);
        kept_from.into_iter().find(|(outcome, from)| put(outcome) && is_before(entry.id, *from))
    });
    let story = Story {
        chain: &chain,
        at: &args.at,
        entries: &entries,
        found: &found,
        unseen: &unseen,
        expired,
        paint: Paint::stdout(),
    };
    if args.json {
        println!("{}", story.json()?)
    } else {
        print!("{}", story.text()?)
    }
    Ok(Verdict::Done)
}

fn list<'a>(partitions: impl Iterator<Item = &'a TopicPartition>) -> String {
    let names: Vec<String> = partitions.take(8).map(ToString::to_string).collect();
    if names.is_empty() { "no partition yet".into() } else { names.join(", ") }
}

/// Entries that are held in memory at once while looking for one.
const LOOK_BACK: u64 = 256;

/// The last entry after the one number and up to the other that accounts for a record, or judged it once more, and fits:
/// there are several where the operator had it read again or replayed.
async fn entry_of(
    ledger: &Ledger,
    at: &At,
    numbers: std::ops::Range<u64>,
    fits: impl Fn(&Entry) -> bool,
) -> Result<Option<(u64, Arc<Entry>)>> {
    let covers = |entry: &Entry| match &entry.replay {
        Some(replay) => replay.spans.iter().any(|r| r.partition == at.partition && (r.from..r.to).contains(&at.offset)),
        None => {
            entry.kind == Kind::Rows
                && entry.ranges.iter().any(|r| r.partition == at.partition && (r.from..r.to).contains(&at.offset))
        }
    };
    last_entry(ledger, numbers, |entry| covers(entry) && fits(entry)).await
}

/// The last entry after the one number and up to the other for which something holds.
async fn last_entry(
    ledger: &Ledger,
    numbers: std::ops::Range<u64>,
    holds: impl Fn(&Entry) -> bool,
) -> Result<Option<(u64, Arc<Entry>)>> {
    let mut up_to = numbers.end;
    while up_to > numbers.start {
        let after = up_to.saturating_sub(LOOK_BACK).max(numbers.start);
        let found = ledger.entries(after, up_to).await?.into_iter().rev().find(|(_, entry)| holds(entry));
        if found.is_some() {
            return Ok(found);
        }
        up_to = after;
    }
    Ok(None)
}

/// A row of the record.
struct Found {
    /// whose table it is in
    outcome: Outcome,
    /// that table
    place: String,
    /// the row alone
    row: RecordBatch,
    /// its ordinal within the record
    ordinal: i32,
    /// how often it had been judged before
    attempt: i32,
    /// whether a later attempt took its place
    superseded: bool,
}

/// The rows of a record, in whatever table they are, by ordinal and attempt; and the sinks in which nobody can look for
/// them. `entries` are those that may have put them there.
async fn rows_at(
    config: &Config,
    at: &At,
    follow: &Follow,
    entries: impl Iterator<Item = u64> + Clone,
) -> Result<(Vec<Found>, Vec<String>)> {
    let (mut found, mut unseen): (Vec<Found>, _) = (Vec::new(), Vec::new());
    for (outcome, sink) in config.sinks.each() {
        let SinkKind::Delta(location) = &sink.kind else {
            unseen.push(format!("{outcome} is no table"));
            continue;
        };
        if !sink.provenance {
            unseen.push(format!("{outcome} stores no coordinates (`provenance = false`)"));
            continue;
        }
        let follower = follow.sinks.iter().find(|follower| follower.outcome() == outcome);
        let has_files = |entry: &Entry| entry.sinks.contains_key(&outcome);
        let mark = match follower {
            Some(follower) => follower.mark().await?.unwrap_or(0),
            None => u64::MAX,
        };
        for entry in entries.clone().filter(|entry| mark < *entry) {
            if follow.ledger.entries(entry - 1, entry).await?.iter().any(|(_, entry)| has_files(entry)) {
                unseen.push(format!("{outcome} does not have entry {entry} yet"));
            }
        }
        let topic = at.partition.topic.replace('\'', "''");
        let sql = format!(
            "SELECT * FROM {outcome} WHERE _topic = '{topic}' AND _partition = {} AND _offset = {} ORDER BY _row",
            at.partition.partition, at.offset
        );
        let Some(table) = look::open(location, store::open(location)?.0).await? else { continue };
        let place = format!("{} version {}", location.written, table.describe()?.version);
        let session = look::session(&[(outcome.to_string(), &table)].into()).await?;
        let (_, batches) = look::collect(look::query(&session, &sql).await?).await?;
        for batch in batches {
            for row in 0..batch.num_rows() {
                let row = batch.slice(row, 1);
                let [ordinal, attempt] = ["_row", "_attempt"].map(|name| story::int(&row, name));
                found.push(Found { outcome, place: place.clone(), row, ordinal, attempt, superseded: false });
            }
        }
    }
    // what left staging is told where it went
    let decided: BTreeSet<i32> = found.iter().filter(|f| f.outcome != Outcome::Staging).map(|f| f.ordinal).collect();
    found.retain(|found| found.outcome != Outcome::Staging || !decided.contains(&found.ordinal));
    found.sort_by_key(|found| (found.ordinal, found.attempt));
    for next in (1..found.len()).rev() {
        let (before, later) = (&found[next - 1], &found[next]);
        // of two rows with the same attempt, the record was read twice: neither took the other's place
        found[next - 1].superseded =
            before.ordinal == later.ordinal && (later.superseded || before.attempt < later.attempt);
    }
    Ok((found, unseen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        let at = |topic: &str, partition, offset| At { partition: TopicPartition::new(topic, partition), offset };
        assert_eq!(parse_place("visits/0/184311"), Ok(at("visits", 0, 184_311)));
        assert_eq!(parse_place("in/visits.ndjson:1042"), Ok(at("in/visits.ndjson", 0, 1042)));
        assert_eq!(parse_place("dev.orders/12/7"), Ok(at("dev.orders", 12, 7)));
        for wrong in ["visits", "visits/0", "visits/a/1", "x.ndjson:"] {
            assert!(parse_place(wrong).is_err(), "{wrong}");
        }
    }
}
