//! The bare work, for comparison: decode, shape, write Parquet, commit to Delta, in a straight loop on each thread.
//!
//! What a pipeline has beside it is absent: no ledger, no positions, no digest of the file, no consumer group, no rules, no queues
//! between threads, no memory budget. It decodes, shapes and writes by the very code that the pipeline uses, into the same columns and through the same
//! store that syncs. It gets as many threads as the pipeline has judges, one per core: each takes the next
//! piece of the file or topic under a lock and does all else alone, so that no core waits for another. Each thread commits its own files
//! after its share of `commit.rows`, so that there are as many files as the pipeline makes, and twice as many commits on two cores.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TableReference};
use deltalake::kernel::{Action, Add};
use deltalake::protocol::{DeltaOperation, SaveMode};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use sluice_host::chain::{Chain, Judged};
use sluice_host::cli::{open, run};
use sluice_host::decode::JsonDecoder;
use sluice_host::ledger::{Counts, FileAction};
use sluice_host::outcome::Outcome;
use sluice_host::pipeline::shape::Shaper;
use sluice_host::record::{Batch, Range, RawBatch, RawRecord, Span, TopicPartition};
use sluice_host::sink::Sink;
use sluice_host::sink::delta::unloaded;
use sluice_host::sink::files::TableWriter;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Bytes of a piece of the file, as the files source reads it.
const PIECE: usize = 4 << 20;

/// `--ceiling PIPELINE FILE` or `--ceiling PIPELINE BROKERS TOPIC`: records into the tables of a pipeline.
pub fn run(arguments: &[String]) -> ExitCode {
    let (pipeline, pieces) = match arguments {
        [pipeline, file] => (pipeline, Pieces::File(Lines::open(Path::new(file)))),
        [pipeline, brokers, topic] => (pipeline, Pieces::Topic(Topic::open(brokers, topic))),
        _ => panic!("usage: {} PIPELINE FILE, or PIPELINE BROKERS TOPIC", crate::CEILING),
    };
    let chain = open::chain(Path::new(pipeline)).unwrap_or_else(|error| panic!("{error}"));
    let runtime = open::runtime().expect("a runtime");
    let threads = run::workers(None);
    let ceiling = Ceiling {
        sinks: open::sinks(&chain.config).expect("the sinks of a checked pipeline"),
        commit_rows: chain.config.commit.rows / threads as u64,
        pieces: Mutex::new(pieces),
        committing: Mutex::new(()),
        runtime,
        chain,
    };
    let shapers: Vec<Shaper> = ceiling.shapers();
    for (sink, shaper) in ceiling.sinks.iter().zip(&shapers) {
        ceiling.runtime.block_on(sink.create(shaper.schema())).expect("a new table");
    }
    let rows: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| ceiling.work())).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
    });
    println!("{rows}");
    ExitCode::SUCCESS
}

struct Ceiling {
    chain: Chain,
    sinks: Vec<Arc<dyn Sink>>,
    commit_rows: u64,
    pieces: Mutex<Pieces>,
    committing: Mutex<()>,
    runtime: Runtime,
}

impl Ceiling {
    fn shapers(&self) -> Vec<Shaper> {
        let sinks = &self.chain.config.sinks;
        [(Outcome::Valid, &sinks.valid), (Outcome::Error, &sinks.error), (Outcome::Dlq, &sinks.dlq)]
            .into_iter()
            .map(|(outcome, sink)| Shaper::new(outcome, sink, self.chain.schema()).expect("a checked sink"))
            .collect()
    }

    /// The straight loop; answers the rows that it wrote.
    fn work(&self) -> u64 {
        let source = &self.chain.config.source;
        let mut decoder = JsonDecoder::new(self.chain.config.schema.clone(), source.unknown_fields, source.max_record)
            .expect("a schema that JSON has");
        let shapers = self.shapers();
        let mut writers: BTreeMap<usize, TableWriter> = BTreeMap::new();
        let (mut entry, mut open, mut all) = (Uuid::now_v7(), 0, 0);
        loop {
            let piece = self.pieces.lock().expect("no thread panics").next();
            let is_last = piece.is_none();
            if let Some(raw) = piece {
                let judged = judged(&mut decoder, raw);
                open += judged.batch.raw.records.len() as u64;
                all += judged.counts.rows;
                for (i, shaper) in shapers.iter().enumerate() {
                    let Some(rows) = shaper.shape(&judged, entry).expect("columns that fit") else { continue };
                    let writer = writers.entry(i).or_insert_with(|| {
                        let (target, runtime) = (self.sinks[i].files(), self.runtime.handle().clone());
                        TableWriter::new(target, shaper.schema().clone(), entry, runtime).expect("a writer")
                    });
                    writer.write(&rows).expect("rows can be written");
                }
            }
            if is_last || open >= self.commit_rows {
                for (i, writer) in std::mem::take(&mut writers) {
                    self.commit(i, writer.finish().expect("files can be finished"));
                }
                (entry, open) = (Uuid::now_v7(), 0);
            }
            if is_last {
                return all;
            }
        }
    }

    fn commit(&self, sink: usize, files: Vec<FileAction>) {
        let sinks = &self.chain.config.sinks;
        let location = match &[&sinks.valid, &sinks.error, &sinks.dlq][sink].kind {
            sluice_host::config::SinkKind::Delta(location) => location,
            sluice_host::config::SinkKind::Stdout => unreachable!("the pipeline has Delta tables"),
        };
        let adds = files.into_iter().map(|file| {
            Action::Add(Add {
                path: file.path,
                size: file.size,
                data_change: true,
                stats: Some(file.stats),
                ..Add::default()
            })
        });
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
        let _one_at_a_time = self.committing.lock().expect("no thread panics");
        self.runtime.block_on(async {
            let mut table = unloaded(location, self.sinks[sink].files().store).expect("a table");
            table.load().await.expect("the table is there");
            let state: &dyn TableReference = table.snapshot().expect("it is loaded");
            CommitBuilder::from(CommitProperties::default().with_max_retries(0))
                .with_actions(adds.collect())
                .build(Some(state), table.log_store(), operation)
                .await
                .expect("nobody else commits");
        });
    }
}

/// What the chain makes of a batch where nothing judges.
fn judged(decoder: &mut JsonDecoder, raw: RawBatch) -> Judged {
    let decoded = decoder.decode(&raw, |_| false);
    let rows = decoded.origin.len();
    let counts = Counts { rows: (rows + decoded.dead.len()) as u64, ..Counts::default() };
    let batch = Batch {
        columns: decoded.rows,
        origin: decoded.origin,
        ordinal: decoded.ordinal,
        raw: Arc::new(raw),
        pipeline: Uuid::nil(),
    };
    Judged {
        batch,
        findings: Vec::new(),
        outcomes: vec![Outcome::Valid; rows],
        windows: None,
        dead: decoded.dead,
        counts,
    }
}

/// What is left to read.
enum Pieces {
    File(Lines),
    Topic(Topic),
}

impl Pieces {
    fn next(&mut self) -> Option<RawBatch> {
        match self {
            Pieces::File(lines) => lines.next(),
            Pieces::Topic(topic) => topic.next(),
        }
    }
}

/// All that a topic has, polled message by message without a group.
struct Topic {
    consumer: BaseConsumer,
    name: String,
    left: i64,
}

impl Topic {
    fn open(brokers: &str, name: &str) -> Topic {
        let mut settings = ClientConfig::new();
        // what the pipeline's own consumer has, as far as it matters for speed
        settings.set("bootstrap.servers", brokers).set("group.id", "bare").set("enable.auto.commit", "false");
        settings.set("queued.min.messages", "1000000").set("queued.max.messages.kbytes", "32768");
        settings.set("fetch.queue.backoff.ms", "20");
        let consumer: BaseConsumer = settings.create().expect("good settings");
        let patience = Duration::from_secs(30);
        let metadata = consumer.fetch_metadata(Some(name), patience).expect("the broker answers");
        let (mut list, mut left) = (TopicPartitionList::new(), 0);
        for partition in metadata.topics()[0].partitions() {
            let (low, high) = consumer.fetch_watermarks(name, partition.id(), patience).expect("the broker answers");
            list.add_partition_offset(name, partition.id(), Offset::Offset(low)).expect("a good offset");
            left += high - low;
        }
        consumer.assign(&list).expect("the partitions are there");
        Topic { consumer, name: name.to_owned(), left }
    }

    fn next(&mut self) -> Option<RawBatch> {
        let (mut data, mut records, mut ranges) = (Vec::with_capacity(PIECE), Vec::new(), Vec::<Range>::new());
        while self.left > 0 && records.len() < crate::visits::BATCH && data.len() < PIECE {
            let Some(message) = self.consumer.poll(Duration::from_secs(1)) else { continue };
            let message = message.expect("the broker serves");
            let (partition, offset) = (message.partition(), message.offset());
            let range = ranges.iter().position(|range| range.partition.partition == partition).unwrap_or_else(|| {
                let partition = TopicPartition::new(self.name.as_str(), partition);
                ranges.push(Range { partition, from: offset, to: offset });
                ranges.len() - 1
            });
            ranges[range].to = offset + 1;
            let mut append = |bytes: Option<&[u8]>| {
                let Some(bytes) = bytes else { return Span::NULL };
                data.extend_from_slice(bytes);
                Span { start: (data.len() - bytes.len()) as u32, len: bytes.len() as u32 }
            };
            records.push(RawRecord {
                range: range as u16,
                offset,
                timestamp: message.timestamp().to_millis(),
                key: append(message.key()),
                value: append(message.payload()),
                headers: None,
                truncated_from: None,
            });
            self.left -= 1;
        }
        (!records.is_empty()).then(|| RawBatch { ranges, records, data: data.into(), headers: Vec::new() })
    }
}

/// A file, cut into pieces of whole lines.
struct Lines {
    file: File,
    partition: TopicPartition,
    line: i64,
    /// of the next piece: what follows the last line break
    rest: Vec<u8>,
}

impl Lines {
    fn open(path: &Path) -> Lines {
        let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Lines { file, partition: TopicPartition::new("visits.ndjson", 0), line: 1, rest: Vec::new() }
    }

    fn next(&mut self) -> Option<RawBatch> {
        let mut data = std::mem::take(&mut self.rest);
        data.reserve(PIECE);
        let room = PIECE - data.len();
        (&self.file).take(room as u64).read_to_end(&mut data).expect("the file can be read");
        let whole = memchr::memrchr(b'\n', &data).map_or(0, |at| at + 1);
        self.rest = data.split_off(whole);
        if data.is_empty() {
            return None;
        }
        let mut records = Vec::with_capacity(data.len() / 256);
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &data) {
            records.push(RawRecord {
                range: 0,
                offset: self.line + records.len() as i64,
                timestamp: None,
                key: Span::NULL,
                value: Span { start: start as u32, len: (end - start) as u32 },
                headers: None,
                truncated_from: None,
            });
            start = end + 1;
        }
        let from = self.line;
        self.line += records.len() as i64;
        let ranges = vec![Range { partition: self.partition.clone(), from, to: self.line }];
        Some(RawBatch { ranges, records, data: data.into(), headers: Vec::new() })
    }
}
