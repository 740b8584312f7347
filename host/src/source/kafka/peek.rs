//! Some records of a topic, for a person who wants to see what is in it. It joins no group and commits nothing, so nobody who
//! reads the topic is disturbed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::Consumer as _;

use super::assign::{self, list};
use super::native::{Consumer, Polled};
use super::settings::refused;
use super::trouble::{Trouble, failed};
use super::{KafkaSource, reach};
use crate::config::{self, Properties, StartPoint};
use crate::error::{Error, Result};
use crate::record::{Headers, TopicPartition};

/// For an answer to one request.
const REQUEST: Duration = Duration::from_secs(10);
/// Without a record for so long, there is something wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// A name is needed to fetch, though no group is joined.
const GROUP: &str = "sluice-look";
/// Places of a partition at which an even sample is taken.
const PLACES: u64 = 10;

/// Which records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// the first ones there are
    Earliest,
    /// the last ones
    Latest,
    /// from several places all over the topic
    Spread,
}

/// A record as the topic has it.
#[derive(Clone, Debug)]
pub struct Peeked {
    /// its partition
    pub partition: i32,
    /// its offset
    pub offset: i64,
    /// milliseconds since the epoch
    pub timestamp: Option<i64>,
    /// its key
    pub key: Option<Bytes>,
    /// its payload
    pub value: Option<Bytes>,
    /// its headers, in order
    pub headers: Headers,
}

/// Up to `records` records of `topic`, by partition and offset, and how many offsets the topic has in all. Stops before they
/// take much more than `most_bytes`.
pub fn peek(
    properties: &Properties,
    topic: &str,
    records: usize,
    pick: Pick,
    most_bytes: usize,
) -> Result<(Vec<Peeked>, u64)> {
    let source = config::KafkaSource {
        topics: vec![topic.to_owned()],
        group: GROUP.to_owned(),
        start: StartPoint::Earliest,
        properties: properties.clone(),
    };
    let KafkaSource { settings, brokers, .. } = KafkaSource::new(&source)?;
    let consumer = Consumer::new(&settings).map_err(refused)?;
    let mut trouble = Trouble::default();
    reach::topics(&consumer, &|| false, &mut trouble, &[topic], &brokers)?;
    let metadata = consumer.base().fetch_metadata(Some(topic), REQUEST);
    let metadata = metadata.map_err(|e| trouble.failed(format!("cannot ask for the partitions of {topic}"), &e))?;
    let count = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let partitions: Vec<_> = (0..count as i32).map(|partition| TopicPartition::new(topic, partition)).collect();
    let logs = assign::logs(&consumer, &|| false, &trouble, &partitions)?.unwrap_or_default(); // nobody asks it to stop
    let ranges: Vec<(i64, i64)> = partitions.iter().map(|p| logs.get(p).map_or((0, 0), |l| (l.low, l.high))).collect();

    let mut peeked = Vec::new();
    let mut bytes = 0;
    for slice in slices(&ranges, records as u64, pick) {
        let partition = &partitions[slice.partition];
        let position = list([(partition, slice.from)]);
        consumer.base().assign(&position).map_err(|e| trouble.failed(format!("cannot read {partition}"), &e))?;
        let mut left = slice.records;
        let mut heard = Instant::now();
        while left > 0 {
            match consumer.poll(Duration::from_millis(100)) {
                Polled::Message(message) => {
                    let here = message.partition() == partition.partition;
                    if !here || message.offset() < slice.from {
                        continue; // of the slice before
                    }
                    if message.offset() >= slice.to {
                        break;
                    }
                    heard = Instant::now();
                    left -= 1;
                    let owned = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
                    let record = Peeked {
                        partition: message.partition(),
                        offset: message.offset(),
                        timestamp: message.timestamp(),
                        key: owned(message.key()),
                        value: owned(message.value()),
                        headers: message.headers().unwrap_or_default(),
                    };
                    bytes += record.value.as_ref().map_or(0, Bytes::len) + record.key.as_ref().map_or(0, Bytes::len);
                    peeked.push(record);
                }
                Polled::End(ended, offset) if ended == *partition && offset >= slice.from => break,
                Polled::Error(error) => {
                    if let Some(error) = trouble.note(&error, &brokers) {
                        return Err(error);
                    }
                }
                Polled::Warning(text) => trouble.warned(text),
                Polled::Nothing
                | Polled::End(..)
                | Polled::Assign(_)
                | Polled::Revoke(_)
                | Polled::MadeAnew(..)
                | Polled::NotCommitted(_) => {}
            }
            if heard.elapsed() > PATIENCE {
                let why = trouble.cause("no record, and no end");
                return Err(failed(format!("cannot read {partition} from offset {} on", slice.from), why));
            }
            if bytes > most_bytes {
                break;
            }
        }
        if bytes > most_bytes {
            break;
        }
    }
    consumer.base().unassign().map_err(|e| Error::environment(format!("cannot stop reading {topic}"), e))?;
    peeked.sort_by_key(|record| (record.partition, record.offset));
    peeked.dedup_by_key(|record| (record.partition, record.offset));
    Ok((peeked, ranges.iter().map(|(low, high)| (high - low).max(0) as u64).sum()))
}

/// Consecutive records of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slice {
    partition: usize,
    from: i64,
    /// one past the last offset
    to: i64,
    /// records at most
    records: u64,
}

/// Where to read: as evenly over the partitions as they have records. Compaction and control records leave gaps between
/// offsets, so there may be fewer records than offsets.
fn slices(ranges: &[(i64, i64)], records: u64, pick: Pick) -> Vec<Slice> {
    let has = |(low, high): (i64, i64)| (high - low).max(0) as u64;
    // the least first: what it does not use, the others may
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by_key(|partition| has(ranges[*partition]));
    let mut left = records;
    let mut slices = Vec::new();
    for (n, &partition) in order.iter().enumerate() {
        let (low, high) = ranges[partition];
        let all = has(ranges[partition]);
        let quota = left.div_ceil((order.len() - n) as u64).min(all);
        left -= quota;
        if quota == 0 {
            continue;
        }
        match pick {
            Pick::Earliest => slices.push(Slice { partition, from: low, to: high, records: quota }),
            Pick::Latest => slices.push(Slice { partition, from: high - quota as i64, to: high, records: quota }),
            Pick::Spread => {
                let places = PLACES.min(quota);
                let places = if quota == all { 1 } else { places };
                for place in 0..places {
                    let begin = |n: u64| low + (u128::from(all) * u128::from(n) / u128::from(places)) as i64;
                    let share = quota / places + u64::from(place < quota % places);
                    slices.push(Slice { partition, from: begin(place), to: begin(place + 1), records: share });
                }
            }
        }
    }
    slices.sort_by_key(|slice| (slice.partition, slice.from));
    slices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ranges: &[(i64, i64)], records: u64, pick: Pick) -> Vec<(usize, i64, i64, u64)> {
        slices(ranges, records, pick).into_iter().map(|s| (s.partition, s.from, s.to, s.records)).collect()
    }

    #[test]
    fn records_are_taken_evenly_from_partitions_that_have_them() {
        let ranges = [(0, 100), (10, 12), (0, 0), (50, 1050)];
        assert_eq!(of(&ranges, 20, Pick::Earliest), [(0, 0, 100, 9), (1, 10, 12, 2), (3, 50, 1050, 9)]);
        assert_eq!(of(&ranges, 20, Pick::Latest), [(0, 91, 100, 9), (1, 10, 12, 2), (3, 1041, 1050, 9)]);
        assert_eq!(of(&ranges, 5000, Pick::Latest), [(0, 0, 100, 100), (1, 10, 12, 2), (3, 50, 1050, 1000)]);
        assert_eq!(of(&ranges, 0, Pick::Latest), []);
    }

    #[test]
    fn an_even_sample_comes_from_several_places() {
        let slices = of(&[(0, 1000)], 25, Pick::Spread);
        assert_eq!(slices.len(), 10);
        assert_eq!((slices[0], slices[9]), ((0, 0, 100, 3), (0, 900, 1000, 2)));
        assert_eq!(slices.iter().map(|s| s.3).sum::<u64>(), 25);
        assert_eq!(of(&[(0, 10)], 25, Pick::Spread), [(0, 0, 10, 10)], "all of it in one go");
        assert_eq!(of(&[(0, 1000)], 3, Pick::Spread).len(), 3);
    }
}
