//! The part of librdkafka that its Rust binding does not show: events of a consumer with all that they say, the ids of
//! topics, and watermarks that need no request. All `unsafe` of the Kafka source stands here.
//!
//! The binding's own `poll` drops the topic and the offset of an end-of-partition event, and would run a rebalance inside
//! its callback, where nothing can be borrowed. Polled here, both are plain values. What is decided about them is not
//! known here.

use std::ffi::{CStr, CString, c_char, c_int};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::bindings as rd;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use crate::record::{Headers, TopicPartition};

/// Sends librdkafka's log to ours. The rebalances that it sees are those of closing: the binding's default is right.
pub struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level as i32, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka reports an error while it closes");
    }
}

impl ConsumerContext for Context {}

/// As in syslog.
const WARNING: c_int = 4;

/// librdkafka repeats at level 3 what it reports as an error event, so its log is for debugging.
fn log(level: i32, facility: &str, message: &str) {
    match level {
        ..=2 => tracing::error!(facility, message, "librdkafka"),
        3..=WARNING => tracing::debug!(facility, message, "librdkafka"),
        _ => tracing::trace!(facility, message, "librdkafka"),
    }
}

/// How long the group may take to let a consumer go. Where no broker answers there is nobody to part from, and where
/// librdkafka waits for an answer to a rebalance that nobody will give, it waits for ever.
const PARTING: Duration = Duration::from_secs(8);

/// A consumer whose events are polled here. Dropping it leaves the group and closes it.
pub struct Consumer {
    queue: ManuallyDrop<Queue>,
    base: ManuallyDrop<BaseConsumer<Context>>,
}

/// What librdkafka has to say.
pub enum Polled<'a> {
    /// nothing for now, or nothing that matters
    Nothing,
    /// a record
    Message(Message<'a>),
    /// the end of a partition, as far as it may be read: every record below `offset` was polled before
    End(TopicPartition, i64),
    /// something is wrong, perhaps only for a while
    Error(ClientError),
    /// these partitions are ours from now on, once they are assigned
    Assign(Vec<TopicPartition>),
    /// these partitions are ours until they are unassigned
    Revoke(Vec<TopicPartition>),
    /// the group's offsets were not committed
    NotCommitted(RDKafkaErrorCode),
    /// the topic is another one of the same name, with this id: every record polled before is of the old one
    MadeAnew(String, String),
    /// a line of librdkafka's log that warns or says why a connection failed: it may be the only sign of a cause
    Warning(String),
}

/// What librdkafka reports as wrong.
#[derive(Debug)]
pub struct ClientError {
    /// which error
    pub code: RDKafkaErrorCode,
    /// its cause, in words
    pub text: String,
    /// whether the client cannot go on
    pub fatal: bool,
    /// the partition that it is about, and the offset, if any
    pub partition: Option<(TopicPartition, i64)>,
}

impl Consumer {
    /// A consumer that is not subscribed yet.
    pub fn new(config: &ClientConfig) -> KafkaResult<Consumer> {
        let base: BaseConsumer<Context> = config.create_with_context(Context)?;
        // SAFETY: the client lives as long as `base`, and the queue is dropped before it
        let queue = unsafe { rd::rd_kafka_queue_get_consumer(base.client().native_ptr()) };
        let queue = NonNull::new(queue)
            .ok_or_else(|| KafkaError::ClientCreation("the consumer has no queue; is group.id set?".to_owned()))?;
        Ok(Consumer { queue: ManuallyDrop::new(Queue(queue)), base: ManuallyDrop::new(base) })
    }

    /// Leaves the group. Answers false where that does not come to an end.
    fn part(&self) -> bool {
        if self.base.close_queue().is_err() {
            return true; // it failed for good, and is in no group
        }
        let begun = Instant::now();
        while !self.base.closed() {
            if begun.elapsed() > PARTING {
                return false;
            }
            self.base.poll(Duration::from_millis(100));
        }
        true
    }

    /// All that the binding does show.
    pub fn base(&self) -> &BaseConsumer<Context> {
        &self.base
    }

    /// The next event, waiting at most so long for it.
    pub fn poll(&self, wait: Duration) -> Polled<'_> {
        let Some(event) = self.queue.poll(wait) else { return Polled::Nothing };
        let raw = event.0.as_ptr();
        // SAFETY: `raw` is a live event in every call below; what they return belongs to it unless said otherwise
        unsafe {
            match rd::rd_kafka_event_type(raw) {
                rd::RD_KAFKA_EVENT_FETCH => match NonNull::new(rd::rd_kafka_event_message_next(raw).cast_mut()) {
                    Some(message) => Polled::Message(Message { message, _event: event, _client: PhantomData }),
                    None => Polled::Nothing,
                },
                rd::RD_KAFKA_EVENT_ERROR => {
                    let partition = partition_of(raw);
                    match (rd::rd_kafka_event_error(raw), partition) {
                        (RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF, Some((partition, offset))) => {
                            Polled::End(partition, offset)
                        }
                        (error, partition) => {
                            let fatal = rd::rd_kafka_event_error_is_fatal(raw) != 0;
                            let text = text(rd::rd_kafka_event_error_string(raw));
                            let code = if fatal { self.fatal_error() } else { error };
                            Polled::Error(ClientError { code: code.into(), text, fatal, partition })
                        }
                    }
                }
                rd::RD_KAFKA_EVENT_REBALANCE => {
                    let partitions = partitions(rd::rd_kafka_event_topic_partition_list(raw));
                    match rd::rd_kafka_event_error(raw) {
                        RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Polled::Assign(partitions),
                        _ => Polled::Revoke(partitions), // librdkafka: any other code means that all are gone
                    }
                }
                rd::RD_KAFKA_EVENT_OFFSET_COMMIT => match rd::rd_kafka_event_error(raw) {
                    RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR | RDKafkaRespErr::RD_KAFKA_RESP_ERR__NO_OFFSET => {
                        Polled::Nothing
                    }
                    error => Polled::NotCommitted(error.into()),
                },
                rd::RD_KAFKA_EVENT_LOG => {
                    let (mut facility, mut message, mut level) = (ptr::null(), ptr::null(), 0);
                    if rd::rd_kafka_event_log(raw, &mut facility, &mut message, &mut level) != 0 {
                        return Polled::Nothing;
                    }
                    let (facility, message) = (text(facility), text(message));
                    log(level, &facility, &message);
                    if let Some((topic, id)) = new_id(&message) {
                        return Polled::MadeAnew(topic.to_owned(), id.to_owned());
                    }
                    // a connection that a broker closes at once is no error to librdkafka: only this line says why
                    let is_cause = level <= WARNING || facility == "FAIL";
                    if is_cause { Polled::Warning(without_thread(&message).to_owned()) } else { Polled::Nothing }
                }
                _ => Polled::Nothing, // a kind of event that nobody asked for
            }
        }
    }

    /// The error behind the one that only says that it is fatal.
    fn fatal_error(&self) -> RDKafkaRespErr {
        // SAFETY: the client is alive, and a text is not asked for
        unsafe { rd::rd_kafka_fatal_error(self.base.client().native_ptr(), ptr::null_mut(), 0) }
    }

    /// The end of a partition as the last answer to a fetch said, without a request; `None` before the first answer.
    pub fn known_end(&self, partition: &TopicPartition) -> Option<i64> {
        let topic = CString::new(&*partition.topic).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client is alive, the string ends with 0, and the two integers are ours
        let error = unsafe {
            let client = self.base.client().native_ptr();
            rd::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition.partition, &mut low, &mut high)
        };
        (error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }

    /// The ids of topics, which differ when a topic is deleted and made again. `None` where the brokers are too old to
    /// have ids (before 2.8): such a topic is known by its name alone.
    pub fn topic_ids(&self, topics: &[&str], wait: Duration) -> Result<Vec<(String, Option<String>)>, ClientError> {
        let failed = |code: RDKafkaErrorCode, text: String| ClientError { code, text, fatal: false, partition: None };
        let names: Result<Vec<CString>, _> = topics.iter().map(|topic| CString::new(*topic)).collect();
        let names = names.map_err(|e| failed(RDKafkaErrorCode::InvalidTopic, e.to_string()))?;
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let millis = millis(wait);
        // SAFETY: collection, options and queue are made here and destroyed here, after their last use; the result and
        // everything read from it belong to the event, which lives to the end of the block
        unsafe {
            let client = self.base.client().native_ptr();
            let Some(queue) = NonNull::new(rd::rd_kafka_queue_new(client)) else {
                return Err(failed(RDKafkaErrorCode::Fail, "no queue".to_owned()));
            };
            let queue = Queue(queue);
            let options =
                rd::rd_kafka_AdminOptions_new(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
            let mut error = [0; 256];
            rd::rd_kafka_AdminOptions_set_request_timeout(options, millis, error.as_mut_ptr(), error.len());
            let collection = rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            rd::rd_kafka_DescribeTopics(client, collection, options, queue.0.as_ptr());
            rd::rd_kafka_TopicCollection_destroy(collection);
            rd::rd_kafka_AdminOptions_destroy(options);

            let Some(event) = queue.poll(wait + Duration::from_secs(1)) else {
                return Err(failed(RDKafkaErrorCode::RequestTimedOut, "no answer".to_owned()));
            };
            let raw = event.0.as_ptr();
            match rd::rd_kafka_event_error(raw) {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE => {
                    return Ok(topics.iter().map(|topic| ((*topic).to_owned(), None)).collect());
                }
                error => return Err(failed(error.into(), text(rd::rd_kafka_event_error_string(raw)))),
            }
            let mut count = 0;
            let answers =
                rd::rd_kafka_DescribeTopics_result_topics(rd::rd_kafka_event_DescribeTopics_result(raw), &mut count);
            let mut ids = Vec::with_capacity(count);
            for i in 0..count {
                let topic = *answers.add(i);
                let name = text(rd::rd_kafka_TopicDescription_name(topic));
                let error = rd::rd_kafka_TopicDescription_error(topic);
                if !error.is_null() && rd::rd_kafka_error_code(error) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                    let why = text(rd::rd_kafka_error_string(error));
                    return Err(failed(rd::rd_kafka_error_code(error).into(), format!("topic {name}: {why}")));
                }
                ids.push((name, uuid(rd::rd_kafka_TopicDescription_topic_id(topic))));
            }
            Ok(ids)
        }
    }
}

/// A record in librdkafka's memory.
pub struct Message<'a> {
    message: NonNull<rd::rd_kafka_message_t>,
    _event: Event,
    _client: PhantomData<&'a Consumer>,
}

impl Message<'_> {
    fn raw(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: the message lives as long as its event, which `self` holds
        unsafe { self.message.as_ref() }
    }

    /// Tells topics apart without comparing names: equal handles mean equal topics, the reverse need not hold.
    pub fn topic_handle(&self) -> usize {
        self.raw().rkt as usize
    }

    /// Name of the topic.
    pub fn topic(&self) -> &str {
        // SAFETY: the name belongs to the topic, which lives as long as the message; it is ASCII by Kafka's rules
        let name = unsafe { CStr::from_ptr(rd::rd_kafka_topic_name(self.raw().rkt)) };
        name.to_str().unwrap_or("")
    }

    /// Number of the partition.
    pub fn partition(&self) -> i32 {
        self.raw().partition
    }

    /// Its offset.
    pub fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// The payload; `None` for a tombstone, which is not the empty payload.
    pub fn value(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: librdkafka's buffer of `len` bytes, alive as long as the message
        (!raw.payload.is_null()).then(|| unsafe { std::slice::from_raw_parts(raw.payload.cast::<u8>(), raw.len) })
    }

    /// The key.
    pub fn key(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: as for the payload
        (!raw.key.is_null()).then(|| unsafe { std::slice::from_raw_parts(raw.key.cast::<u8>(), raw.key_len) })
    }

    /// Milliseconds since the epoch.
    pub fn timestamp(&self) -> Option<i64> {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, the answer's kind is ours
        let time = unsafe { rd::rd_kafka_message_timestamp(self.message.as_ptr(), &mut kind) };
        (kind != rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && time >= 0).then_some(time)
    }

    /// The headers, if there are any. A name that is not UTF-8 is shown with replacement characters.
    pub fn headers(&self) -> Option<Headers> {
        let mut headers = ptr::null_mut();
        // SAFETY: the headers belong to the message; name and value of each belong to the headers and are copied
        unsafe {
            if rd::rd_kafka_message_headers(self.message.as_ptr(), &mut headers)
                != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                return None;
            }
            let mut all = Headers::new();
            loop {
                let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
                if rd::rd_kafka_header_get_all(headers, all.len(), &mut name, &mut value, &mut size)
                    != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
                {
                    return (!all.is_empty()).then_some(all);
                }
                let value = (!value.is_null())
                    .then(|| Bytes::copy_from_slice(std::slice::from_raw_parts(value.cast::<u8>(), size)));
                all.push((text(name), value));
            }
        }
    }
}

/// The topic and its new id, where a line of librdkafka's log says that a topic has one.
///
/// librdkafka goes on reading at the old position of the new topic (as of 2.12, with a "FIXME"), and has no other sign of
/// it. The line is written when the new id is learnt, before anything is fetched under it, so it is in the queue first.
fn new_id(line: &str) -> Option<(&str, &str)> {
    let (before, ids) = line.split_once(" changed id from ")?;
    let (_, topic) = before.rsplit_once("Topic ")?;
    let (_, id) = ids.split_once(" to ")?;
    Some((topic, id.trim()))
}

/// A line of librdkafka's log without the thread that wrote it.
fn without_thread(line: &str) -> &str {
    line.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")).map_or(line, |(_, text)| text)
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if !self.part() {
            // destroying it would wait for the same, without end; its threads end with the process
            tracing::warn!("the group could not be left: it gives these partitions away when the session times out");
            return;
        }
        // SAFETY: each is dropped once, here; the queue first, since it holds a reference to the client
        unsafe {
            ManuallyDrop::drop(&mut self.queue);
            ManuallyDrop::drop(&mut self.base);
        }
    }
}

struct Queue(NonNull<rd::rd_kafka_queue_t>);

impl Queue {
    fn poll(&self, wait: Duration) -> Option<Event> {
        // SAFETY: the queue is alive; the event that it gives is ours to destroy
        NonNull::new(unsafe { rd::rd_kafka_queue_poll(self.0.as_ptr(), millis(wait)) }).map(Event)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka for us, dropped once
        unsafe { rd::rd_kafka_queue_destroy(self.0.as_ptr()) };
    }
}

// SAFETY: librdkafka's queues and clients may be used from any thread; `Consumer` is used from one at a time
unsafe impl Send for Queue {}

struct Event(NonNull<rd::rd_kafka_event_t>);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: an event is destroyed once, after the last use of what belongs to it
        unsafe { rd::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

fn millis(wait: Duration) -> c_int {
    wait.as_millis().try_into().unwrap_or(c_int::MAX)
}

/// A copy of a C string; empty for null.
///
/// # Safety
/// `string` is null, or points to bytes that end with 0.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises
    unsafe { CStr::from_ptr(string) }.to_string_lossy().trim().to_owned()
}

/// The partition that an event is about, with its offset.
///
/// # Safety
/// `event` is alive.
unsafe fn partition_of(event: *mut rd::rd_kafka_event_t) -> Option<(TopicPartition, i64)> {
    // SAFETY: the answer is a copy that is destroyed here
    unsafe {
        let raw = rd::rd_kafka_event_topic_partition(event);
        let copied = raw.as_ref().map(|p| (TopicPartition::new(text(p.topic), p.partition), p.offset));
        if !raw.is_null() {
            rd::rd_kafka_topic_partition_destroy(raw);
        }
        copied
    }
}

/// The partitions of a list.
///
/// # Safety
/// `list` is null or alive.
unsafe fn partitions(list: *const rd::rd_kafka_topic_partition_list_t) -> Vec<TopicPartition> {
    // SAFETY: `cnt` elements stand at `elems`
    unsafe {
        let Some(list) = list.as_ref() else { return Vec::new() };
        (0..list.cnt as usize)
            .map(|i| &*list.elems.add(i))
            .map(|element| TopicPartition::new(text(element.topic), element.partition))
            .collect()
    }
}

/// A topic's id as Kafka's tools print it; `None` for the zero id of a broker that has none.
///
/// # Safety
/// `id` is null or alive.
unsafe fn uuid(id: *const rd::rd_kafka_Uuid_t) -> Option<String> {
    if id.is_null() {
        return None;
    }
    // SAFETY: alive, as the caller promises; the text belongs to the id
    unsafe {
        let bits = (rd::rd_kafka_Uuid_most_significant_bits(id), rd::rd_kafka_Uuid_least_significant_bits(id));
        (bits != (0, 0)).then(|| text(rd::rd_kafka_Uuid_base64str(id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_tells_that_a_topic_was_made_anew() {
        let line = "[thrd:main]: Topic visits changed id from INdY0ZQURpe9ge7EybN6Nw to GLtssEGTSFey48GOAOp7hw";
        assert_eq!(new_id(line), Some(("visits", "GLtssEGTSFey48GOAOp7hw")));
        assert_eq!(new_id("[thrd:main]: Topic visits [0]: leader is up"), None);
        assert_eq!(without_thread("[thrd:b:9092/1]: b:9092/1: [no]: text"), "b:9092/1: [no]: text");
        assert_eq!(without_thread("text"), "text");
    }
}
