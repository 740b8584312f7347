//! Topics of a Kafka cluster, read in a consumer group from the ledger's positions.
//!
//! The group divides the partitions among processes and does nothing else: where to read stands in the ledger, and what
//! is committed to the group is for lag tools. A partition that moves is flushed before it goes. Offsets that the log
//! does not have, and a topic that was made anew, stop the source; it never skips on its own.
//!
//! Everything happens on the thread that calls [`Source::run`]; librdkafka's own threads fetch ahead, up to a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _, RebalanceProtocol};
use rdkafka::types::RDKafkaErrorCode;

use crate::config;
use crate::error::Result;
use crate::record::{Positions, RawBatch, TopicPartition};
use crate::source::{Command, Intake, Notice, Source};

mod assign;
mod batch;
mod changed;
mod native;
pub mod peek;
mod position;
pub mod produce;
mod reach;
mod seek;
mod settings;
mod trouble;

use assign::{Part, Start, list};
pub(crate) use batch::keep;
use batch::{Payload, Pending};
use native::{ClientError, Consumer, Message, Polled};
pub use position::Log;
use trouble::Trouble;

/// How long to wait for records when there are none: a stop is heard within this.
const IDLE: Duration = Duration::from_millis(100);
/// Records polled before other things are looked after.
const BURST: usize = 512;
/// A queue that is full for longer pauses the partitions, so that polling can go on without fetching.
const FULL: Duration = Duration::from_secs(1);
/// How often the lag is reported.
const LAG: Duration = Duration::from_secs(1);
/// How often topics are asked for their ids: whether they are still the same, and whether anybody is there.
const PROBE: Duration = Duration::from_secs(60);
/// The same while no broker can be reached.
const PROBE_DOWN: Duration = Duration::from_secs(2);
/// Under `until_end`, a member of the group that was given nothing waits so long for others to give something up.
const SETTLE: Duration = Duration::from_secs(10);

/// Topics of a cluster.
pub struct KafkaSource {
    source: config::KafkaSource,
    settings: rdkafka::ClientConfig,
    brokers: String,
}

impl KafkaSource {
    /// The topics that `source` names. Nothing is connected yet; settings that librdkafka does not know, and those
    /// that would break the promise, are refused here.
    pub fn new(source: &config::KafkaSource) -> Result<Self> {
        let settings = settings::consumer(source)?;
        let brokers = settings.get("bootstrap.servers").unwrap_or_default().to_owned();
        Ok(KafkaSource { source: source.clone(), settings, brokers })
    }
}

/// Asks the brokers of `source` what the logs of these partitions are now: for commands of an operator.
pub fn logs(source: &config::KafkaSource, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Log>> {
    let KafkaSource { settings, brokers, .. } = KafkaSource::new(source)?;
    let consumer = Consumer::new(&settings).map_err(settings::refused)?;
    let mut trouble = Trouble::default();
    let topics: BTreeSet<&str> = partitions.iter().map(|partition| &*partition.topic).collect();
    let topics: Vec<&str> = topics.into_iter().collect();
    reach::topics(&consumer, &|| false, &mut trouble, &topics, &brokers)?;
    let logs = assign::logs(&consumer, &|| false, &trouble, partitions)?;
    Ok(logs.unwrap_or_default()) // nobody asks it to stop
}

impl Source for KafkaSource {
    fn describe(&self) -> String {
        let name = |topic: &String| match topic.strip_prefix('^') {
            // as the user wrote it, see `config`
            Some(whole) => {
                let pattern = whole.strip_prefix('(').and_then(|rest| rest.strip_suffix(")$")).unwrap_or(whole);
                format!("topics like {pattern}")
            }
            None => topic.clone(),
        };
        self.source.topics.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    fn run(&mut self, intake: &dyn Intake, until_end: bool) -> Result<()> {
        let consumer = Consumer::new(&self.settings).map_err(settings::refused)?;
        let mut trouble = Trouble::default();
        let topics: Vec<&str> = self.source.topics.iter().map(String::as_str).collect();
        let stopping = || intake.stopping();
        let Some(known) = reach::topics(&consumer, &stopping, &mut trouble, &topics, &self.brokers)? else {
            return Ok(());
        };
        consumer
            .base()
            .subscribe(&topics)
            .map_err(|e| trouble.failed(format!("cannot subscribe to {}", self.describe()), &e))?;
        let mut reader = Reader {
            source: self,
            intake,
            consumer: &consumer,
            until_end,
            known,
            parts: BTreeMap::new(),
            current: None,
            pending: Pending::default(),
            waiting: None,
            is_paused: false,
            assigned: None,
            trouble,
            lag_due: Instant::now(),
            probe_due: Instant::now() + PROBE,
        };
        reader.run()
    }
}

/// A run: the partitions that are ours, and what was read of them and not handed over.
struct Reader<'a> {
    source: &'a KafkaSource,
    intake: &'a dyn Intake,
    consumer: &'a Consumer,
    until_end: bool,
    /// topics that were there before any of them was read
    known: BTreeSet<String>,
    parts: BTreeMap<TopicPartition, Part>,
    /// topic handle, partition and place in `pending` of the last record: most records come from where the last came
    current: Option<(usize, i32, usize)>,
    pending: Pending,
    /// a batch that the intake had no room for, and since when
    waiting: Option<(RawBatch, Instant)>,
    is_paused: bool,
    /// when the group last gave or took something
    assigned: Option<Instant>,
    trouble: Trouble,
    lag_due: Instant,
    probe_due: Instant,
}

impl Reader<'_> {
    fn run(&mut self) -> Result<()> {
        while !self.intake.stopping() {
            self.obey()?;
            if !self.offer_waiting()? {
                continue; // full, but not for long: librdkafka has enough fetched already
            }
            self.poll()?;
            if self.waiting.is_none() && (self.pending.is_full() || self.pending.patience() == Some(Duration::ZERO)) {
                self.hand_over();
            }
            self.look_after()?;
            if self.until_end && self.is_done() && self.finish()? {
                return Ok(());
            }
        }
        // whoever gets the partitions once this process leaves the group would judge again what is not in the ledger
        self.intake.flush()?;
        while let Some(command) = self.intake.command() {
            match command {
                Command::Applied(positions) => self.tell_group(&positions), // librdkafka sends it before it leaves
                Command::Seek(_) => {}                                      // nothing is read any more
            }
        }
        Ok(())
    }

    /// Takes what librdkafka has, up to a burst or a full batch.
    fn poll(&mut self) -> Result<()> {
        let consumer = self.consumer;
        for _ in 0..BURST {
            let wait = match &self.waiting {
                Some(_) => Duration::ZERO, // the intake itself waits a little at each offer
                None => self.pending.patience().unwrap_or(IDLE).min(IDLE),
            };
            match consumer.poll(wait) {
                Polled::Nothing => return Ok(()),
                Polled::Message(message) => {
                    self.take(&message);
                    if self.pending.is_full() {
                        return Ok(());
                    }
                }
                Polled::End(partition, offset) => self.end(&partition, offset),
                Polled::Error(error) => return self.failed(&error),
                Polled::MadeAnew(topic, id) => self.made_anew(&topic, &id)?,
                Polled::Assign(partitions) => return self.assign(&partitions),
                Polled::Revoke(partitions) => return self.revoke(&partitions),
                Polled::Warning(text) => self.trouble.warned(text),
                Polled::NotCommitted(code) => {
                    tracing::debug!(%code, "the group's offsets were not committed; lag tools show more lag than there is");
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, message: &Message<'_>) {
        let slot = match self.current {
            Some((handle, partition, slot)) if handle == message.topic_handle() && partition == message.partition() => {
                slot
            }
            Some(_) | None => {
                let partition = TopicPartition::new(message.topic(), message.partition());
                // fetched before the partition was taken away
                let Some(part) = self.parts.get(&partition) else { return };
                let slot = self.pending.slot(&partition, part.next);
                self.current = Some((message.topic_handle(), message.partition(), slot));
                slot
            }
        };
        let payload = Payload { key: message.key(), value: message.value(), timestamp: message.timestamp() };
        self.pending.push(slot, message.offset(), payload, message.headers());
    }

    /// Reading has reached the end of the log, beyond control records and holes.
    fn end(&mut self, partition: &TopicPartition, offset: i64) {
        let Some(part) = self.parts.get_mut(partition) else { return };
        part.has_ended = true;
        if offset > self.pending.position(partition).unwrap_or(part.next) {
            let slot = self.pending.slot(partition, part.next);
            self.pending.advance(slot, offset);
        }
    }

    /// Makes a batch of what is pending. The positions go on; whether the batch gets through is seen at the next offer.
    fn hand_over(&mut self) {
        self.current = None;
        let Some(batch) = self.pending.take() else { return };
        for range in &batch.ranges {
            if let Some(part) = self.parts.get_mut(&range.partition) {
                part.next = range.to;
            }
        }
        self.waiting = Some((batch, Instant::now()));
    }

    /// Offers the batch that waits. Answers whether to poll: there is room again, or the partitions are paused.
    fn offer_waiting(&mut self) -> Result<bool> {
        let Some((batch, since)) = self.waiting.take() else { return Ok(true) };
        match self.intake.offer(batch)? {
            None => {
                self.resume()?;
                Ok(true)
            }
            Some(batch) => {
                self.waiting = Some((batch, since));
                if since.elapsed() >= FULL {
                    self.pause()?;
                }
                Ok(self.is_paused)
            }
        }
    }

    fn pause(&mut self) -> Result<()> {
        if !self.is_paused {
            tracing::debug!("the queue is full: partitions pause");
            let all = list(self.parts.iter().map(|(partition, part)| (partition, part.next)));
            self.consumer.base().pause(&all).map_err(|e| self.trouble.failed("cannot pause partitions", &e))?;
            self.is_paused = true;
            self.intake.notice(Notice::Paused(true));
        }
        Ok(())
    }

    /// What was fetched before the pause is thrown away by librdkafka; it begins again where we are.
    fn resume(&mut self) -> Result<()> {
        if self.is_paused {
            self.is_paused = false;
            self.intake.notice(Notice::Paused(false));
            let all: Positions = self.parts.keys().map(|p| (p.clone(), self.position(p))).collect();
            self.seek(&all)?;
            let all = list(all.iter().map(|(partition, offset)| (partition, *offset)));
            self.consumer.base().resume(&all).map_err(|e| self.trouble.failed("cannot resume partitions", &e))?;
        }
        Ok(())
    }

    /// Everything below is handed over, waits, or is pending.
    fn position(&self, partition: &TopicPartition) -> i64 {
        let next = self.parts.get(partition).map_or(0, |part| part.next);
        self.pending.position(partition).unwrap_or(next)
    }

    fn seek(&mut self, positions: &Positions) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let wanted = list(positions.iter().map(|(partition, offset)| (partition, *offset)));
        seek::seek(self.consumer, wanted)
            .map_err(|e| self.trouble.failed(format!("cannot go back to {}", shown(positions)), &e))
    }

    /// Does what the pipeline wants beside reading. Answers whether something is to be read again.
    fn obey(&mut self) -> Result<bool> {
        let mut again = false;
        while let Some(command) = self.intake.command() {
            match command {
                Command::Applied(positions) => self.tell_group(&positions),
                Command::Seek(positions) => {
                    let ours: Positions =
                        positions.into_iter().filter(|(partition, _)| self.parts.contains_key(partition)).collect();
                    self.forget(|partition| ours.contains_key(partition));
                    for (partition, offset) in &ours {
                        if let Some(part) = self.parts.get_mut(partition) {
                            part.next = *offset;
                            part.has_ended = false;
                        }
                    }
                    self.seek(&ours)?;
                    again |= !ours.is_empty();
                }
            }
        }
        Ok(again)
    }

    /// Commits the group's offsets, for lag tools.
    fn tell_group(&self, applied: &Positions) {
        let ours = applied.iter().filter(|(partition, _)| self.parts.contains_key(partition));
        let ours = list(ours.map(|(partition, offset)| (partition, *offset)));
        if ours.count() > 0
            && let Err(error) = self.consumer.base().commit(&ours, CommitMode::Async)
        {
            tracing::debug!(%error, "the group's offsets were not committed");
        }
    }

    /// Drops what was read of some partitions and not handed over.
    fn forget(&mut self, is_gone: impl Fn(&TopicPartition) -> bool) {
        self.current = None;
        self.pending.forget(&is_gone);
        self.waiting = self
            .waiting
            .take()
            .and_then(|(batch, since)| Some((batch::keep(batch, |range| !is_gone(&range.partition))?, since)));
    }

    fn assign(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let is_cooperative = self.is_cooperative();
        let start = Start { point: self.source.source.start, known: &self.known };
        let Some(parts) = assign::resolve(self.consumer, self.intake, &self.trouble, start, partitions)? else {
            return Ok(()); // asked to stop: closing answers the group
        };
        let offsets = list(parts.iter().map(|(partition, part)| (partition, part.next)));
        let base = self.consumer.base();
        let assigned = if is_cooperative { base.incremental_assign(&offsets) } else { base.assign(&offsets) };
        assigned.map_err(|e| self.trouble.failed("cannot take the partitions that the group assigned", &e))?;
        if self.is_paused {
            base.pause(&offsets).map_err(|e| self.trouble.failed("cannot pause partitions", &e))?;
        }
        for (partition, part) in &parts {
            tracing::info!(%partition, offset = part.next, end = part.end, "partition assigned");
        }
        self.intake.notice(Notice::Assigned);
        self.parts.extend(parts);
        self.trouble.over(); // the group let us in
        self.current = None;
        self.assigned = Some(Instant::now());
        self.lag_due = Instant::now();
        Ok(())
    }

    fn revoke(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let base = self.consumer.base();
        if base.assignment_lost() {
            tracing::warn!(partitions = partitions.len(), "partitions were lost to another member of the group");
            self.forget(|partition| partitions.contains(partition));
            self.intake.notice(Notice::Lost);
            self.intake.lost(partitions);
        } else if partitions.iter().any(|partition| self.parts.contains_key(partition)) {
            // what is not in the ledger before another member begins would be judged twice, and dropped once
            self.hand_over_all()?;
            self.intake.flush()?;
            self.intake.notice(Notice::Revoked);
        }
        for partition in partitions {
            tracing::info!(%partition, "partition revoked");
            self.parts.remove(partition);
        }
        self.current = None;
        let list = list(partitions.iter().map(|partition| (partition, 0)));
        let unassigned = if self.is_cooperative() { base.incremental_unassign(&list) } else { base.unassign() };
        unassigned.map_err(|e| self.trouble.failed("cannot give up the partitions that the group revoked", &e))?;
        self.assigned = Some(Instant::now());
        self.lag_due = Instant::now();
        Ok(())
    }

    fn is_cooperative(&self) -> bool {
        matches!(self.consumer.base().rebalance_protocol(), RebalanceProtocol::Cooperative)
    }

    /// Waits until everything that was read is with the pipeline, or the pipeline stops.
    fn hand_over_all(&mut self) -> Result<()> {
        loop {
            while let Some((batch, since)) = self.waiting.take() {
                if self.intake.stopping() {
                    return Ok(());
                }
                self.waiting = self.intake.offer(batch)?.map(|batch| (batch, since));
            }
            if self.pending.is_empty() {
                return self.resume();
            }
            self.hand_over();
        }
    }

    fn failed(&mut self, error: &ClientError) -> Result<()> {
        if error.code == RDKafkaErrorCode::AutoOffsetReset {
            return self.out_of_range(error);
        }
        let Some(end) = self.trouble.note(error, &self.source.brokers) else { return Ok(()) };
        if trouble::is_gone(error.code) {
            // what was read may be all that there is of it now
            self.hand_over_all()?;
            self.intake.flush()?;
        }
        Err(end)
    }

    /// What is due from time to time: the lag, and whether topics and brokers are still there.
    fn look_after(&mut self) -> Result<()> {
        let now = Instant::now();
        if now >= self.lag_due {
            self.lag_due = now + LAG;
            let lag = self.parts.iter().map(|(partition, part)| {
                let end = self.consumer.known_end(partition).unwrap_or(part.end);
                (partition.clone(), (end - self.position(partition)).max(0) as u64)
            });
            self.intake.lag(lag.collect());
            self.intake.notice(Notice::Reachable(!self.trouble.is_down()));
        }
        if now >= self.probe_due || (self.trouble.is_down() && now + PROBE - PROBE_DOWN >= self.probe_due) {
            self.probe_due = now + PROBE;
            self.probe()?;
        }
        Ok(())
    }

    fn probe(&mut self) -> Result<()> {
        let mut topics: Vec<&str> = self.parts.keys().map(|partition| &*partition.topic).collect();
        topics.dedup(); // keys are sorted
        let answer = match topics.is_empty() {
            true if !self.trouble.is_down() => return Ok(()),
            true => match self.consumer.base().fetch_metadata(None, IDLE * 5) {
                Ok(_) => Ok(Vec::new()),
                Err(error) => Err(error.to_string()),
            },
            false => self.consumer.topic_ids(&topics, IDLE * 5).map_err(|error| error.text),
        };
        match answer {
            Ok(ids) => {
                self.trouble.over();
                // from brokers whose fetches know topics by name: whose records were read last, nobody knows
                ids.into_iter()
                    .try_for_each(|(topic, id)| id.map_or(Ok(()), |id| self.check(&self.others(&topic, &id))))
            }
            Err(error) if self.trouble.is_long() => Err(trouble::failed(
                format!("cannot reach any broker of {}", self.source.brokers),
                self.trouble.cause(&error),
            )),
            Err(_) => Ok(()),
        }
    }

    /// Whether everything that was there when the partitions were assigned has been read.
    fn is_done(&self) -> bool {
        match self.assigned {
            None => false,
            Some(since) if self.parts.is_empty() => since.elapsed() >= SETTLE,
            Some(_) => self.parts.iter().all(|(partition, part)| part.is_done(self.position(partition))),
        }
    }

    /// Hands over the rest and has it committed. `false` where something is to be read again.
    fn finish(&mut self) -> Result<bool> {
        self.hand_over_all()?;
        self.intake.flush()?;
        Ok(!self.obey()?)
    }
}

fn shown(positions: &Positions) -> String {
    positions.iter().map(|(partition, offset)| format!("{partition}/{offset}")).collect::<Vec<_>>().join(", ")
}
