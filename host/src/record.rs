//! The nouns everyone speaks: a *record* is one thing from the source, a *row* is a record shaped to the schema.
//!
//! Nothing here reads, judges or writes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One ordered stream of records: a Kafka topic's partition, or a file (path relative to the pipeline file, partition 0).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// topic, or path of the file
    pub topic: Arc<str>,
    /// 0 for files
    pub partition: i32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// The next offset to read, per partition. For files the offset is the line, from 1.
pub type Positions = BTreeMap<TopicPartition, i64>;

/// A place in [`RawBatch::data`]; [`Span::NULL`] for a null value or key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// first byte
    pub start: u32,
    /// length in bytes; `u32::MAX` marks null
    pub len: u32,
}

impl Span {
    /// No value at all, which is not the empty value.
    pub const NULL: Span = Span { start: 0, len: u32::MAX };

    /// Whether there is no value.
    pub fn is_null(self) -> bool {
        self.len == u32::MAX
    }
}

/// One record as the source delivered it, within its [`RawBatch`].
#[derive(Clone, Copy, Debug)]
pub struct RawRecord {
    /// index into [`RawBatch::ranges`]
    pub range: u16,
    /// offset, or line from 1
    pub offset: i64,
    /// milliseconds since the epoch; `None` where the source has no time
    pub timestamp: Option<i64>,
    /// the key's bytes
    pub key: Span,
    /// the payload's bytes
    pub value: Span,
    /// index into [`RawBatch::headers`]
    pub headers: Option<u32>,
    /// bytes of the value as the source has it, where the batch holds only its beginning (a line beyond any bound)
    pub truncated_from: Option<u64>,
}

/// A record's headers, in order; names may repeat and values may be null.
pub type Headers = Vec<(String, Option<Bytes>)>;

/// The offsets `[from, to)` of one partition that a batch or an entry accounts for. `to` is the source's position, which
/// may lie beyond the last record + 1 (control records, compaction).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// whose offsets
    #[serde(flatten)]
    pub partition: TopicPartition,
    /// first offset
    pub from: i64,
    /// one past the last
    pub to: i64,
}

/// Records that travel together from the source to the decoder, with the bytes that they point into.
#[derive(Clone, Debug, Default)]
pub struct RawBatch {
    /// what the batch accounts for, one per partition in it
    pub ranges: Vec<Range>,
    /// in the source's order within each partition
    pub records: Vec<RawRecord>,
    /// keys and payloads
    pub data: Bytes,
    /// headers of the records that have any
    pub headers: Vec<Headers>,
}

impl RawBatch {
    /// Bytes that the batch holds in memory, headers and descriptors included.
    pub fn weight(&self) -> u64 {
        let headers =
            self.headers.iter().flatten().map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len) + 64);
        (self.data.len() + self.records.len() * size_of::<RawRecord>() + headers.sum::<usize>()) as u64
    }

    /// Some of the records, with the same bytes behind them.
    pub fn part(&self, records: std::ops::Range<usize>) -> RawBatch {
        RawBatch {
            ranges: self.ranges.clone(),
            records: self.records[records].to_vec(),
            data: self.data.clone(),
            headers: self.headers.clone(),
        }
    }

    /// The first records, with bytes of their own: so many, and as long as they have fewer bytes than that. No headers.
    pub fn head(&self, records: usize, bytes: usize) -> RawBatch {
        let mut data = Vec::new();
        let mut head = Vec::new();
        for record in self.records.iter().take(records) {
            let sizes = [record.key, record.value].map(|span| self.bytes(span).map_or(0, <[u8]>::len));
            if data.len() + sizes.iter().sum::<usize>() > bytes {
                break;
            }
            let mut copied = |span: Span| match self.bytes(span) {
                None => Span::NULL,
                Some(there) => {
                    data.extend_from_slice(there);
                    Span { start: (data.len() - there.len()) as u32, len: there.len() as u32 }
                }
            };
            let (key, value) = (copied(record.key), copied(record.value));
            head.push(RawRecord { key, value, headers: None, ..*record });
        }
        RawBatch { ranges: self.ranges.clone(), records: head, data: data.into(), headers: Vec::new() }
    }

    /// The bytes of a span; `None` for null.
    pub fn bytes(&self, span: Span) -> Option<&[u8]> {
        (!span.is_null()).then(|| &self.data[span.start as usize..][..span.len as usize])
    }

    /// The payload of a record; `None` for a tombstone.
    pub fn value(&self, record: usize) -> Option<&[u8]> {
        self.bytes(self.records[record].value)
    }

    /// The key of a record.
    pub fn key(&self, record: usize) -> Option<&[u8]> {
        self.bytes(self.records[record].key)
    }

    /// The partition that a record came from.
    pub fn partition(&self, record: usize) -> &TopicPartition {
        &self.ranges[self.records[record].range as usize].partition
    }

    /// The headers of a record, empty where it has none.
    pub fn headers(&self, record: usize) -> &[(String, Option<Bytes>)] {
        self.records[record].headers.map_or(&[], |i| &self.headers[i as usize])
    }
}

/// Rows on their way through the chain: the columns, and where each row came from.
#[derive(Clone, Debug)]
pub struct Batch {
    /// declared columns, then those that enrichers added
    pub columns: RecordBatch,
    /// row → index of its record in [`Batch::raw`]
    pub origin: Vec<u32>,
    /// row → its ordinal within the record, from 0 (`_row`)
    pub ordinal: Vec<u32>,
    /// the records behind the rows
    pub raw: Arc<RawBatch>,
    /// namespace of the pipeline's row ids, see [`columns::row_id`](crate::columns::row_id)
    pub pipeline: Uuid,
}

impl Batch {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.origin.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.origin.is_empty()
    }

    /// Some of the rows, with the same records behind them.
    pub fn part(&self, rows: std::ops::Range<usize>) -> Batch {
        Batch {
            columns: self.columns.slice(rows.start, rows.len()),
            origin: self.origin[rows.clone()].to_vec(),
            ordinal: self.ordinal[rows].to_vec(),
            raw: self.raw.clone(),
            pipeline: self.pipeline,
        }
    }
}
