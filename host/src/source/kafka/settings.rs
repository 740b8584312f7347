//! What librdkafka is told: our defaults, the user's properties over them, and what the promise needs over both.
//!
//! Nothing here connects.

use std::path::Path;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::config::KafkaSource;
use crate::error::{Error, Result};

/// What users may replace, with the reason for each value.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "sluice"),
    // records of transactions that were aborted never happened
    ("isolation.level", "read_committed"),
    // a partition moves without stopping the others
    ("partition.assignment.strategy", "cooperative-sticky"),
    // how long the partitions of a process that was killed lie idle; heartbeats come from a thread of librdkafka's own,
    // so a busy pipeline does not miss them, and if one is taken for dead after all, the ledger lets nothing in twice
    ("session.timeout.ms", "10000"),
    // 1000 ms, librdkafka's own, caps a fast consumer at 130 thousand records a second
    ("fetch.queue.backoff.ms", "20"),
    // the bound below counts, not this one
    ("queued.min.messages", "1000000"),
    // bytes fetched ahead: some tenths of a second of reading
    ("queued.max.messages.kbytes", "32768"),
    // one answer may exceed the bound above by this
    ("fetch.max.bytes", "8388608"),
    // a batch of the producer's comes whole, beyond the bound above, and zstd's are unpacked up to this; it reserves nothing.
    // A broker's port that speaks TLS looks like an answer of 336 MiB, which must stay an error
    ("receive.message.max.bytes", "268435456"),
    // new partitions, and new topics of a pattern, are seen within a minute; librdkafka's own is five
    ("topic.metadata.refresh.interval.ms", "60000"),
    ("socket.keepalive.enable", "true"),
];

/// What nobody may replace, and why.
const FIXED: &[(&str, &str, &str)] = &[
    ("enable.auto.commit", "false", "positions are committed in the ledger, after their rows"),
    ("enable.auto.offset.store", "false", "positions are committed in the ledger, after their rows"),
    (
        "auto.offset.reset",
        "error",
        "offsets that are gone must not be skipped silently; `start` in [source] says where to begin",
    ),
    ("enable.partition.eof", "true", "`--until-end` and the lag need to know where a partition ends"),
];

/// Properties that have their own key in the pipeline file, or would take events away from the source.
const ELSEWHERE: &[(&str, &str)] = &[
    ("group.id", "write `group` in [source]"),
    ("auto.commit.enable", "positions are committed in the ledger, after their rows"),
    ("log.queue", "the log goes to sluice's own"),
    ("enabled_events", "the source needs all events"),
];

/// Names that mean the same to librdkafka.
fn canonical(property: &str) -> &str {
    match property {
        "metadata.broker.list" => "bootstrap.servers",
        other => other,
    }
}

/// The settings of a consumer; a property that librdkafka does not know, or that would break the promise, is a mistake.
pub fn consumer(source: &KafkaSource) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Debug); // some things are told by the log alone: see `native`
    let has_new_protocol = source.properties.get("group.protocol").is_some_and(|p| p.eq_ignore_ascii_case("consumer"));
    for (property, value) in DEFAULTS {
        // with the new group protocol the brokers decide both, and librdkafka refuses them
        let is_brokers = matches!(*property, "partition.assignment.strategy" | "session.timeout.ms");
        if !(has_new_protocol && is_brokers) {
            config.set(*property, *value);
        }
    }
    for (property, value) in &source.properties {
        if let Some((_, fixed, why)) = FIXED.iter().find(|(name, ..)| name == property) {
            if value == fixed {
                continue;
            }
            return Err(Error::Config(format!("kafka property `{property}` must stay `{fixed}`: {why}")));
        }
        if let Some((_, why)) = ELSEWHERE.iter().find(|(name, _)| name == property) {
            return Err(Error::Config(format!("kafka property `{property}` cannot be set: {why}")));
        }
        config.set(canonical(property), value);
    }
    for (property, value, _) in FIXED {
        config.set(*property, *value);
    }
    // that a topic has another id is told here and nowhere else; apart from that a few lines per rebalance
    let debug = config.get("debug").map_or_else(|| "topic".to_owned(), |asked| format!("{asked},topic"));
    config.set("debug", debug);
    config.set("group.id", &source.group);
    if config.get("bootstrap.servers").is_none_or(str::is_empty) {
        return Err(Error::Config("no brokers: write `brokers` in [kafka]".to_owned()));
    }
    config.create_native_config().map_err(refused)?;
    for (property, key) in FILES {
        if let Some(path) = config.get(property) {
            readable(Path::new(path), key)?;
        }
    }
    Ok(config)
}

/// Files that librdkafka opens when it is made, and the keys of `[kafka]` that name them.
const FILES: [(&str, &str); 3] =
    [("ssl.ca.location", "ca"), ("ssl.certificate.location", "certificate"), ("ssl.key.location", "key")];

/// What OpenSSL says of a file that it cannot use does not name it.
fn readable(path: &Path, key: &str) -> Result<()> {
    if key == "ca" && path.is_dir() {
        return Ok(()); // one file per authority
    }
    let wrong = |why: String| Error::Config(format!("`{key}` in [kafka] names {}: {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    if !bytes.windows(10).any(|window| window == b"-----BEGIN") {
        return Err(wrong("it is not PEM, which begins with -----BEGIN".to_owned()));
    }
    Ok(())
}

/// Why librdkafka refuses settings, without the value: it may be a password.
pub fn refused(error: KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, problem, property, value) => {
            let problem = if value.is_empty() { problem } else { problem.replace(&value, "…") };
            Error::Config(format!("kafka property `{property}`: {problem}"))
        }
        KafkaError::ClientCreation(problem) => Error::Config(format!("kafka: {problem}")),
        other => Error::Config(format!("kafka: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StartPoint;

    fn with(properties: &[(&str, &str)]) -> Result<ClientConfig> {
        let mut all = vec![("bootstrap.servers", "127.0.0.1:1")];
        all.extend_from_slice(properties);
        consumer(&KafkaSource {
            topics: vec!["visits".to_owned()],
            group: "g".to_owned(),
            start: StartPoint::Earliest,
            properties: all.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        })
    }

    #[test]
    fn users_replace_defaults_but_not_the_promise() {
        let config = with(&[("fetch.queue.backoff.ms", "5"), ("enable.auto.commit", "false")]).unwrap();
        assert_eq!(config.get("fetch.queue.backoff.ms"), Some("5"));
        assert_eq!(config.get("isolation.level"), Some("read_committed"));
        assert_eq!(config.get("group.id"), Some("g"));
        assert!(config.get("receive.message.max.bytes").unwrap().parse::<u32>().unwrap() >= 128 << 20);
        let config = with(&[("receive.message.max.bytes", "500000000")]).unwrap();
        assert_eq!(config.get("receive.message.max.bytes"), Some("500000000"));
        for (property, value, says) in [
            ("enable.auto.commit", "true", "must stay `false`: positions are committed in the ledger"),
            ("auto.offset.reset", "earliest", "must stay `error`"),
            ("group.id", "h", "write `group` in [source]"),
            ("no.such.property", "1", "`no.such.property`: No such configuration property"),
            ("fetch.queue.backoff.ms", "many", "fetch.queue.backoff.ms"),
        ] {
            let error = with(&[(property, value)]).unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{error:?}");
            assert!(error.to_string().contains(says), "{error}");
        }
        assert!(with(&[("bootstrap.servers", "")]).unwrap_err().to_string().contains("no brokers"));
    }

    #[test]
    fn a_refused_value_is_not_shown() {
        let error = with(&[("security.protocol", "s3cret")]).unwrap_err().to_string();
        assert!(error.contains("security.protocol") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn a_file_of_the_connection_that_cannot_be_used_is_named() {
        let garbage = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(garbage.path(), "not a certificate").unwrap();
        for (property, path, says) in [
            ("ssl.ca.location", "/no/such.pem", "`ca` in [kafka] names /no/such.pem: No such file"),
            ("ssl.key.location", "/no/such.key", "`key` in [kafka] names /no/such.key: No such file"),
            ("ssl.certificate.location", garbage.path().to_str().unwrap(), "`certificate` in [kafka] names"),
        ] {
            let error = with(&[(property, path)]).unwrap_err();
            assert!(matches!(error, Error::Config(_)) && error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn the_new_group_protocol_gets_no_strategy() {
        let config = with(&[("group.protocol", "consumer")]).unwrap();
        assert_eq!(config.get("partition.assignment.strategy"), None);
    }
}
