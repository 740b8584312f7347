//! What these tests share: a topic and its records made by hand, and a run that is watched while it goes on.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::broker;
use crate::project::{Project, VISITS_SQL, visits_toml};

/// How long a test waits for something that must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A pipeline in a group of its own whose `[source]` says this; `kafka` are further lines of `[kafka]`, `top` what goes
/// before it.
pub fn pipeline(group: &str, source: &str, kafka: &str, top: &str) -> Project {
    let brokers = broker::shared().bootstrap();
    let source = format!("{source}\ngroup = \"{group}\"");
    let toml = visits_toml(&source, &format!("{top}\n[kafka]\nbrokers = \"{brokers}\"\n{kafka}\n"));
    Project::new(&[("sluice.toml", &toml), ("visits.sql", VISITS_SQL)])
}

/// A client's settings for the shared broker.
pub fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker::shared().bootstrap());
    config
}

fn admin() -> AdminClient<DefaultClientContext> {
    client().create().unwrap()
}

/// Makes a topic with these settings of its own.
pub fn create(topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    futures::executor::block_on(admin().create_topics([&new], &options)).unwrap()[0].as_ref().unwrap();
}

/// Deletes a topic, and returns when its name is free.
pub fn delete(topic: &str) {
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    futures::executor::block_on(admin().delete_topics(&[topic], &options)).unwrap()[0].as_ref().unwrap();
}

/// Gives a topic so many partitions in all.
pub fn grow(topic: &str, partitions: usize) {
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let more = NewPartitions::new(topic, partitions);
    futures::executor::block_on(admin().create_partitions([&more], &options)).unwrap()[0].as_ref().unwrap();
}

/// Deletes the records below an offset.
pub fn cut(topic: &str, partition: i32, below: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(below)).unwrap();
    futures::executor::block_on(admin().delete_records(&list, &AdminOptions::new())).unwrap();
}

/// Writes so many valid visits to a partition.
pub fn put(topic: &str, partition: i32, visits: usize) {
    let producer: BaseProducer = client().create().unwrap();
    put_with(&producer, topic, partition, visits);
    producer.flush(PATIENCE).unwrap();
}

/// The same by a producer of one's own; the key of visit `i` is `i % 10`.
pub fn put_with(producer: &BaseProducer, topic: &str, partition: i32, visits: usize) {
    for i in 0..visits {
        let (key, value) = ((i % 10).to_string(), format!("{{\"visit_id\": \"v{i}\", \"user_id\": \"u{i}\"}}"));
        let record = BaseRecord::to(topic).payload(&value).key(&key).partition(partition);
        producer.send(record).unwrap_or_else(|(e, _)| panic!("{e}"));
    }
}

/// Beginning and end of a partition's log.
pub fn watermarks(topic: &str, partition: i32) -> (i64, i64) {
    let reader: BaseConsumer = client().create().unwrap();
    reader.fetch_watermarks(topic, partition, PATIENCE).unwrap()
}

/// The offsets that a group has committed, as any lag tool sees them; `None` where it has none.
pub fn committed(group: &str, topic: &str, partitions: i32) -> Vec<Option<i64>> {
    let reader: BaseConsumer = client().set("group.id", group).create().unwrap();
    let mut asked = TopicPartitionList::new();
    for partition in 0..partitions {
        asked.add_partition(topic, partition);
    }
    let answer = reader.committed_offsets(asked, PATIENCE).unwrap();
    let offset = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    answer.elements().iter().map(offset).collect()
}

/// `sluice run --json`, going on.
pub struct Live {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
    /// the entries that it has told of
    pub entries: Vec<Value>,
}

impl Live {
    /// Starts it.
    pub fn start(project: &Project) -> Live {
        let mut child = project.start(&["run", "--json"], Stdio::null());
        let lines = follow(child.stdout.take().expect("stdout is piped"));
        let errors = follow(child.stderr.take().expect("stderr is piped"));
        Live { child, lines, errors, entries: Vec::new() }
    }

    /// Records that its entries account for.
    pub fn consumed(&self) -> u64 {
        self.entries.iter().filter_map(|entry| entry["counts"]["records"].as_u64()).sum()
    }

    /// Waits until it has accounted for so many records in all.
    #[track_caller]
    pub fn until_consumed(&mut self, records: u64) {
        let begun = Instant::now();
        while self.consumed() < records {
            match self.lines.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
                Ok(line) => self.entries.push(serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))),
                Err(why) => {
                    let _ = self.child.kill();
                    let said: Vec<String> = self.errors.iter().collect();
                    panic!("{} of {records} consumed ({why}):\n{}", self.consumed(), said.join("\n"));
                }
            }
        }
        assert_eq!(self.consumed(), records);
    }

    /// Asks it to stop, and waits until it has ended well.
    #[track_caller]
    pub fn stop(mut self) {
        // SAFETY: kill takes no pointers, and the child is not reaped yet
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        let status = self.child.wait().expect("the run ends");
        let said: Vec<String> = self.errors.iter().collect();
        assert_eq!(status.code(), Some(0), "{}", said.join("\n"));
    }

    /// Waits until it has ended by itself: exit code, entries' records in all, what it said on standard error.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, u64, String) {
        let mut said = Vec::new();
        loop {
            match self.errors.recv_timeout(PATIENCE * 2) {
                Ok(line) => said.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it goes on and on:\n{}", said.join("\n")),
            }
        }
        let status = self.child.wait().expect("the run ends");
        let entries = self.lines.iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        self.entries.extend(entries.filter(|line| !line["entry"].is_null()));
        (status.code(), self.consumed(), said.join("\n"))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill(); // of a test that failed
        let _ = self.child.wait();
    }
}

fn follow(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|l| send.send(l)));
    lines
}
