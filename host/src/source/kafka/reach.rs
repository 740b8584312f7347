//! Before anything is read: is somebody there, may we in, and do the topics exist?
//!
//! librdkafka would wait for all three without a word.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::Metadata;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use super::native::{Consumer, Polled};
use super::trouble::Trouble;
use crate::error::{Error, Result};

/// One request. A refusal shows in an event meanwhile.
const REQUEST: Duration = Duration::from_millis(500);
/// All attempts: a broker that is just starting gets a chance, a person at the keyboard gets an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Events looked at after each attempt; lines of the log that do not matter are among them.
const EVENTS: usize = 64;

/// Makes sure that the topics are there; answers all that are. Those of a pattern, `^…`, may come later. `None`: asked to
/// stop.
pub fn topics(
    consumer: &Consumer,
    stopping: &dyn Fn() -> bool,
    trouble: &mut Trouble,
    topics: &[&str],
    brokers: &str,
) -> Result<Option<BTreeSet<String>>> {
    let begun = Instant::now();
    loop {
        let answer = find(consumer, topics);
        // the subscription comes later, so there is nothing among the events but errors and the log
        for _ in 0..EVENTS {
            match consumer.poll(Duration::ZERO) {
                Polled::Error(error) => {
                    if let Some(error) = trouble.note(&error, brokers) {
                        return Err(error);
                    }
                }
                Polled::Warning(text) => trouble.warned(text),
                Polled::Nothing
                | Polled::Message(_)
                | Polled::End(..)
                | Polled::Assign(_)
                | Polled::Revoke(_)
                | Polled::MadeAnew(..)
                | Polled::NotCommitted(_) => {}
            }
        }
        match answer {
            Ok(Found::All(topics)) => {
                trouble.over();
                return Ok(Some(topics));
            }
            Ok(Found::Missing(topic, all)) => return Err(unknown(&topic, &all, brokers)),
            Err(_) if stopping() => return Ok(None),
            Err(error) if begun.elapsed() >= PATIENCE => {
                return Err(trouble.failed(
                    format!("cannot reach any broker of {brokers} (check brokers and security in [kafka])"),
                    &error,
                ));
            }
            Err(_) => {}
        }
    }
}

enum Found {
    /// the topics that are there
    All(BTreeSet<String>),
    /// a topic that is not, and those that are
    Missing(String, Vec<String>),
}

fn find(consumer: &Consumer, topics: &[&str]) -> KafkaResult<Found> {
    let fetch = |topic: Option<&str>| consumer.base().fetch_metadata(topic, REQUEST);
    let names: Vec<_> = topics.iter().filter(|topic| !topic.starts_with('^')).collect();
    if names.len() < topics.len() {
        return Ok(Found::All(existing(&fetch(None)?).into_iter().collect()));
    }
    for name in &names {
        let metadata = fetch(Some(name))?;
        let error = metadata.topics().iter().find(|topic| topic.name() == **name).and_then(|topic| topic.error());
        match error {
            None | Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) => {}
            Some(
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                | RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION
                | RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            ) => return Ok(Found::Missing((**name).to_owned(), existing(&fetch(None)?))),
            Some(error) => return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::from(error))),
        }
    }
    Ok(Found::All(names.into_iter().map(|name| (*name).to_owned()).collect()))
}

fn existing(metadata: &Metadata) -> Vec<String> {
    metadata.topics().iter().map(|topic| topic.name().to_owned()).filter(|name| !name.starts_with("__")).collect()
}

fn unknown(topic: &str, existing: &[String], brokers: &str) -> Error {
    let near = near(topic, existing);
    let hint = if near.is_empty() {
        match existing.len() {
            0 => "there are none that this user may see".to_owned(),
            n => format!("none of the {n} topics there has a similar name"),
        }
    } else {
        format!("did you mean {}?", near.join(" or "))
    };
    Error::Config(format!("there is no topic {topic} at {brokers}, or this user may not see it; {hint}"))
}

/// Up to three names like this one, the nearest first.
fn near<'a>(topic: &str, existing: &'a [String]) -> Vec<&'a str> {
    let mut all: Vec<_> = existing
        .iter()
        .map(|name| (strsim::jaro_winkler(topic, name), name.as_str()))
        .filter(|(likeness, _)| *likeness > 0.8)
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.into_iter().take(3).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_topic_names_those_like_it() {
        let existing = ["orders", "visits", "visits-eu", "payments"].map(str::to_owned);
        let text = unknown("vists", &existing, "b:9092").to_string();
        assert!(
            text.contains("no topic vists at b:9092") && text.contains("did you mean visits or visits-eu?"),
            "{text}"
        );
        assert!(unknown("zzz", &existing, "b").to_string().contains("none of the 4 topics"));
        assert!(unknown("zzz", &[], "b").to_string().contains("there are none"));
    }
}
