//! Records of several partitions on their way into one batch, and how far each partition is then accounted for.
//!
//! Offsets that are skipped over within a range (control records of transactions, what compaction removed) belong to it.
//! Records below the position are dropped here: the ledger has them.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::record::{Headers, Range, RawBatch, RawRecord, Span, TopicPartition};

/// A batch of this many records is handed over …
const RECORDS: usize = 8192;
/// … or of so many bytes (beyond it only by the record that reaches it) …
const BYTES: usize = 4 << 20;
/// … or of so many partitions, which are 16 bits in a record …
const PARTITIONS: usize = 1 << 12;
/// … or so long after its first record.
const LINGER: Duration = Duration::from_millis(50);

/// What a record has beside its offset.
#[derive(Clone, Copy, Debug, Default)]
pub struct Payload<'a> {
    /// the key
    pub key: Option<&'a [u8]>,
    /// the value; `None` for a tombstone
    pub value: Option<&'a [u8]>,
    /// milliseconds since the epoch
    pub timestamp: Option<i64>,
}

/// A batch in the making.
#[derive(Debug, Default)]
pub struct Pending {
    data: Vec<u8>,
    records: Vec<RawRecord>,
    headers: Vec<Headers>,
    /// what the headers take in memory
    header_bytes: usize,
    ranges: Vec<Range>,
    since: Option<Instant>,
    /// bytes and records of the last batch: the next will be like it
    last: (usize, usize),
}

impl Pending {
    /// How far the batch accounts for a partition, if it is in it.
    pub fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.find(partition).map(|slot| self.ranges[slot].to)
    }

    /// The place of a partition in this batch, made if it is new; `next` is its position before the batch.
    pub fn slot(&mut self, partition: &TopicPartition, next: i64) -> usize {
        self.find(partition).unwrap_or_else(|| {
            self.ranges.push(Range { partition: partition.clone(), from: next, to: next });
            self.ranges.len() - 1
        })
    }

    fn find(&self, partition: &TopicPartition) -> Option<usize> {
        self.ranges.iter().position(|range| range.partition == *partition)
    }

    /// Adds a record; drops it if the partition is already accounted for beyond it.
    pub fn push(&mut self, slot: usize, offset: i64, payload: Payload<'_>, headers: Option<Headers>) {
        let range = &mut self.ranges[slot];
        if offset < range.to {
            return;
        }
        range.to = offset + 1;
        self.since.get_or_insert_with(Instant::now);
        if self.records.is_empty() {
            self.data.reserve(self.last.0);
            self.records.reserve(self.last.1);
        }
        let key = append(&mut self.data, payload.key);
        let value = append(&mut self.data, payload.value);
        let headers = headers.map(|headers| {
            self.header_bytes += size(&headers);
            self.headers.push(headers);
            (self.headers.len() - 1) as u32
        });
        self.records.push(RawRecord {
            range: slot as u16,
            offset,
            timestamp: payload.timestamp,
            key,
            value,
            headers,
            truncated_from: None,
        });
    }

    /// Accounts for everything below `offset`, where no record is.
    pub fn advance(&mut self, slot: usize, offset: i64) {
        let range = &mut self.ranges[slot];
        if offset > range.to {
            range.to = offset;
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// Whether there is nothing to hand over.
    pub fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// Whether it is as large as a batch should be.
    pub fn is_full(&self) -> bool {
        let bytes = self.data.len() + self.header_bytes;
        self.records.len() >= RECORDS || bytes >= BYTES || self.ranges.len() >= PARTITIONS
    }

    /// How long to wait for further records: `None` for as long as one likes, zero when it is time to hand over.
    pub fn patience(&self) -> Option<Duration> {
        self.since.map(|since| LINGER.saturating_sub(since.elapsed()))
    }

    /// The batch, if there is anything in it.
    pub fn take(&mut self) -> Option<RawBatch> {
        let whole = std::mem::take(self);
        self.last = whole.last;
        whole.since?;
        self.last = (whole.data.len(), whole.records.len());
        let batch = RawBatch {
            ranges: whole.ranges,
            records: whole.records,
            data: Bytes::from(whole.data),
            headers: whole.headers,
        };
        // a partition of which every record was below the position has nothing to say
        match batch.ranges.iter().any(|range| range.from == range.to) {
            true => keep(batch, |range| range.from < range.to),
            false => Some(batch),
        }
    }

    /// Drops everything of some partitions.
    pub fn forget(&mut self, is_gone: impl Fn(&TopicPartition) -> bool) {
        let Some(batch) = self.take().and_then(|batch| keep(batch, |range| !is_gone(&range.partition))) else { return };
        *self = Pending {
            data: batch.data.into(),
            header_bytes: batch.headers.iter().map(size).sum(),
            records: batch.records,
            headers: batch.headers,
            ranges: batch.ranges,
            since: Some(Instant::now()),
            last: self.last,
        };
    }
}

fn append(data: &mut Vec<u8>, bytes: Option<&[u8]>) -> Span {
    let Some(bytes) = bytes else { return Span::NULL };
    let start = data.len() as u32; // below BYTES, and Kafka's records are below 2 GiB
    data.extend_from_slice(bytes);
    Span { start, len: bytes.len() as u32 }
}

/// What headers take in memory: thousands of empty ones are not for nothing.
fn size(headers: &Headers) -> usize {
    let of = |(name, value): &(String, Option<Bytes>)| name.len() + value.as_ref().map_or(0, Bytes::len);
    size_of_val(&headers[..]) + headers.iter().map(of).sum::<usize>()
}

/// A batch without the ranges, and their records, that are not wanted; `None` if nothing is left.
pub fn keep(mut batch: RawBatch, wanted: impl Fn(&Range) -> bool) -> Option<RawBatch> {
    let mut next = 0;
    let places: Vec<Option<u16>> = batch
        .ranges
        .iter()
        .map(|range| {
            let place = wanted(range).then_some(next);
            next += u16::from(place.is_some());
            place
        })
        .collect();
    batch.records.retain_mut(|record| match places[record.range as usize] {
        Some(place) => {
            record.range = place;
            true
        }
        None => false,
    });
    let mut kept = places.iter().map(Option::is_some);
    batch.ranges.retain(|_| kept.next().unwrap_or(false));
    (!batch.ranges.is_empty()).then_some(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(partition: i32) -> TopicPartition {
        TopicPartition::new("visits", partition)
    }

    fn value(text: &str) -> Payload<'_> {
        Payload { value: Some(text.as_bytes()), ..Payload::default() }
    }

    fn put(pending: &mut Pending, partition: i32, next: i64, records: &[(i64, &str)]) {
        let slot = pending.slot(&part(partition), next);
        for (offset, text) in records {
            pending.push(slot, *offset, value(text), None);
        }
    }

    /// `partition[from, to) offset=value …` of each range.
    fn shown(batch: &RawBatch) -> Vec<String> {
        let of = |range: &Range| {
            let records = (0..batch.records.len()).filter(|i| batch.partition(*i) == &range.partition);
            let records: Vec<_> = records
                .map(|i| format!(" {}={}", batch.records[i].offset, String::from_utf8_lossy(batch.value(i).unwrap())))
                .collect();
            format!("{}[{}, {}){}", range.partition.partition, range.from, range.to, records.concat())
        };
        batch.ranges.iter().map(of).collect()
    }

    #[test]
    fn holes_belong_to_the_range_and_old_records_do_not() {
        let mut pending = Pending::default();
        assert!(pending.is_empty() && pending.patience().is_none());
        put(&mut pending, 0, 5, &[(3, "old"), (6, "a"), (9, "b")]);
        put(&mut pending, 1, 0, &[(0, "c")]);
        put(&mut pending, 0, 5, &[(9, "again"), (10, "d")]);
        let slot = pending.slot(&part(0), 5);
        pending.advance(slot, 12);
        pending.advance(slot, 2);
        assert_eq!(pending.position(&part(0)), Some(12));
        assert_eq!(shown(&pending.take().unwrap()), ["0[5, 12) 6=a 9=b 10=d", "1[0, 1) 0=c"]);
        assert!(pending.take().is_none());
    }

    #[test]
    fn an_end_without_records_is_accounted_for() {
        let mut pending = Pending::default();
        let slot = pending.slot(&part(0), 5);
        pending.advance(slot, 5);
        assert!(pending.is_empty());
        pending.advance(slot, 6);
        assert_eq!(shown(&pending.take().unwrap()), ["0[5, 6)"]);
    }

    #[test]
    fn a_partition_of_old_records_is_left_out() {
        let mut pending = Pending::default();
        put(&mut pending, 0, 5, &[(3, "old")]);
        assert!(pending.take().is_none());
        put(&mut pending, 0, 5, &[(3, "old")]);
        put(&mut pending, 1, 5, &[(5, "new")]);
        assert_eq!(shown(&pending.take().unwrap()), ["1[5, 6) 5=new"]);
    }

    #[test]
    fn what_is_forgotten_leaves_the_rest_as_it_was() {
        let mut pending = Pending::default();
        for partition in 0..3 {
            put(&mut pending, partition, 0, &[(0, "x"), (1, "y")]);
        }
        pending.forget(|p| p.partition == 1);
        put(&mut pending, 1, 0, &[(0, "z")]);
        put(&mut pending, 2, 0, &[(2, "w")]);
        assert_eq!(shown(&pending.take().unwrap()), ["0[0, 2) 0=x 1=y", "2[0, 3) 0=x 1=y 2=w", "1[0, 1) 0=z"]);
        put(&mut pending, 0, 0, &[(0, "x")]);
        pending.forget(|_| true);
        assert!(pending.is_empty());
    }

    #[test]
    fn null_is_not_empty() {
        let mut pending = Pending::default();
        let slot = pending.slot(&part(0), 0);
        pending.push(slot, 0, Payload { key: Some(b""), value: None, timestamp: Some(7) }, None);
        let header = ("h".to_owned(), None);
        pending.push(slot, 1, Payload { key: None, value: Some(b""), timestamp: None }, Some(vec![header.clone()]));
        let batch = pending.take().unwrap();
        assert_eq!((batch.key(0), batch.value(0), batch.records[0].timestamp), (Some(&b""[..]), None, Some(7)));
        assert_eq!((batch.key(1), batch.value(1)), (None, Some(&b""[..])));
        assert_eq!((batch.headers(0), batch.headers(1)), (&[][..], &[header][..]));
    }

    #[test]
    fn a_batch_is_full_by_records_or_by_bytes() {
        let mut pending = Pending::default();
        let slot = pending.slot(&part(0), 0);
        pending.push(slot, 0, value(&"x".repeat(BYTES)), None);
        assert!(pending.is_full());
        let mut pending = Pending::default();
        let slot = pending.slot(&part(0), 0);
        for offset in 0..RECORDS as i64 {
            assert!(!pending.is_full());
            pending.push(slot, offset, value("x"), None);
        }
        assert!(pending.is_full());
        assert!(pending.patience().unwrap() <= LINGER);
    }

    #[test]
    fn headers_fill_a_batch_too() {
        let (half, header) =
            ("x".repeat(BYTES / 2), |name: &str, value: &str| (name.to_owned(), Some(Bytes::from(value.to_owned()))));
        for (headers, is_full) in [
            (vec![header("h", &half)], false),
            (vec![header(&half, &half)], true),
            (vec![header("", ""); BYTES / 32], true),
        ] {
            let mut pending = Pending::default();
            let slot = pending.slot(&part(0), 0);
            pending.push(slot, 0, value("x"), Some(headers));
            assert_eq!(pending.is_full(), is_full);
            pending.forget(|partition| partition.partition == 1);
            assert_eq!(pending.is_full(), is_full, "also when other partitions are forgotten");
            pending.take();
            assert!(!pending.is_full(), "the next batch begins empty");
        }
    }
}
