//! Writes records to a topic: generated data, and nothing else. Every record is either acknowledged by all in-sync
//! replicas, or [`Producer::finish`] says that it is not.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use super::settings::refused;
use super::trouble::failed;
use crate::error::{Error, Result};

/// For brokers to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What users may replace: throughput before latency, order and no doubles in spite of it.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "sluice"),
    ("enable.idempotence", "true"),
    ("compression.type", "lz4"),
    ("linger.ms", "20"),
    ("batch.size", "1000000"),
    ("queue.buffering.max.messages", "200000"),
    ("queue.buffering.max.kbytes", "131072"),
];

/// Writes to one topic.
pub struct Producer {
    inner: BaseProducer<Deliveries>,
    config: ClientConfig,
    topic: String,
    sent: u64,
}

/// What became of the records.
#[derive(Default)]
struct Deliveries {
    delivered: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<String>>,
    cause: Mutex<Option<String>>,
    /// whether the cause will not go away by waiting
    is_hopeless: AtomicBool,
}

impl Deliveries {
    fn keep(place: &Mutex<Option<String>>, text: String, first: bool) {
        let mut kept = place.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !(first && kept.is_some()) {
            *kept = Some(text);
        }
    }

    fn text(place: &Mutex<Option<String>>) -> Option<String> {
        place.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        // that all brokers are down says less than what was said of each
        Deliveries::keep(&self.cause, reason.to_owned(), code == Some(RDKafkaErrorCode::AllBrokersDown));
        if matches!(code, Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)) {
            self.is_hopeless.store(true, Ordering::Relaxed);
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => _ = self.delivered.fetch_add(1, Ordering::Relaxed),
            Err((error, _)) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                Deliveries::keep(&self.first_failure, error.to_string(), true);
            }
        }
    }
}

impl Producer {
    /// A producer with these librdkafka settings, `bootstrap.servers` among them.
    pub fn new(properties: &BTreeMap<String, String>) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        for (property, value) in DEFAULTS {
            config.set(*property, *value);
        }
        for (property, value) in properties {
            config.set(property, value);
        }
        let inner = config.create_with_context(Deliveries::default()).map_err(refused)?;
        Ok(Producer { inner, config, topic: String::new(), sent: 0 })
    }

    /// Makes `topic` what records are sent to; creates it with so many partitions unless it exists.
    pub fn create_topic(&mut self, topic: &str, partitions: i32) -> Result<()> {
        self.topic = topic.to_owned();
        self.reach()?;
        let doing = || format!("cannot create topic {topic}");
        let mut settings = self.config.clone();
        for (property, _) in DEFAULTS.iter().filter(|(property, _)| *property != "client.id") {
            settings.remove(property); // properties of a producer only
        }
        let admin: AdminClient<DefaultClientContext> = settings.create().map_err(refused)?;
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)); // as many replicas as the brokers' default
        let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
        let created = futures::executor::block_on(admin.create_topics([&new], &options))
            .map_err(|error| failed(doing(), error.to_string()))?;
        match created.into_iter().next() {
            Some(Ok(_)) | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code))) => Err(failed(doing(), code.to_string())),
            None => Err(failed(doing(), "no answer".to_owned())),
        }
    }

    /// Waits until a broker answers, so that a wrong address or password is seen before data is made.
    fn reach(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.inner.poll(Duration::ZERO);
            match self.inner.client().fetch_metadata(None, Duration::from_millis(500)) {
                Ok(_) => return Ok(()),
                Err(error) if self.is_hopeless() || begun.elapsed() >= PATIENCE / 3 => {
                    let cause = Deliveries::text(&self.inner.context().cause).unwrap_or_else(|| error.to_string());
                    let brokers = self.config.get("bootstrap.servers").unwrap_or_default();
                    return Err(failed(format!("cannot reach any broker of {brokers}"), cause));
                }
                Err(_) => {}
            }
        }
    }

    fn is_hopeless(&self) -> bool {
        self.inner.context().is_hopeless.load(Ordering::Relaxed)
    }

    /// Sends one record, to `partition` or by its key; `timestamp` in milliseconds since the epoch, default (and for 0) now. Waits
    /// while librdkafka's queue is full.
    pub fn send(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        partition: impl Into<Option<i32>>,
        timestamp: Option<i64>,
    ) -> Result<()> {
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic);
        record.key = key;
        record.payload = value;
        record.partition = partition.into();
        record.timestamp = timestamp;
        loop {
            match self.inner.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.inner.poll(Duration::from_millis(10));
                    self.check()?;
                }
                Err((error, _)) => return Err(failed(self.doing(), error.to_string())),
            }
        }
        self.sent += 1;
        if self.sent.is_multiple_of(1024) {
            self.inner.poll(Duration::ZERO); // delivery reports are served here, and they take memory
            self.check()?;
        }
        Ok(())
    }

    fn doing(&self) -> String {
        format!("cannot write to topic {}", self.topic)
    }

    /// Fails if a record was not delivered.
    fn check(&self) -> Result<()> {
        match self.inner.context().failed.load(Ordering::Relaxed) {
            0 => Ok(()),
            n => {
                let context = self.inner.context();
                let first = Deliveries::text(&context.cause).or(Deliveries::text(&context.first_failure));
                Err(failed(
                    format!("{}: {n} records were not delivered", self.doing()),
                    first.unwrap_or_else(|| "no reason given".to_owned()),
                ))
            }
        }
    }

    /// Waits until everything is acknowledged; answers how many records were written.
    pub fn finish(self) -> Result<u64> {
        let waited = Instant::now();
        while self.inner.in_flight_count() > 0 {
            self.inner.poll(Duration::from_millis(20));
            self.check()?;
            if self.is_hopeless() || waited.elapsed() > PATIENCE * 10 {
                let cause = Deliveries::text(&self.inner.context().cause).unwrap_or_else(|| "no answer".to_owned());
                return Err(failed(
                    format!("{}: {} records are not acknowledged", self.doing(), self.inner.in_flight_count()),
                    cause,
                ));
            }
        }
        self.check()?;
        let delivered = self.inner.context().delivered.load(Ordering::Relaxed);
        if delivered != self.sent {
            return Err(Error::Host(format!("{} records were sent, {delivered} acknowledged", self.sent)));
        }
        Ok(delivered)
    }
}
