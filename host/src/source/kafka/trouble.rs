//! What to make of librdkafka's errors: which will not go away by waiting, which may, and for how long.
//!
//! librdkafka takes a wrong password for something that passes: it connects again in a tight loop, and calls end in a
//! timeout without a cause. The cause is in error events only, so they are kept here and shown.

use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::native::ClientError;
use crate::error::Error;

/// How long brokers may be away while the pipeline runs: a restart of all of them takes less.
const AWAY: Duration = Duration::from_secs(60);

/// The property that bounds an answer; librdkafka names it where one is larger, and has no code for that alone.
const TOO_LARGE: &str = "receive.message.max.bytes";

/// What went wrong lately.
#[derive(Debug, Default)]
pub struct Trouble {
    /// the last cause that names a broker
    cause: Option<String>,
    /// the last line of the log about a failure, where no event names a cause
    warning: Option<String>,
    /// since when no broker has been there
    down: Option<Instant>,
    /// since when the group has not let this process in
    shut_out: Option<Instant>,
}

/// An error of librdkafka with the words of an event, for [`Error::Environment`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cause(String);

impl Trouble {
    /// Takes note of an error event. An answer means that there is no point in going on.
    pub fn note(&mut self, error: &ClientError, brokers: &str) -> Option<Error> {
        let text = sentence(&error.text, error.code);
        match error.code {
            Code::FencedInstanceId => Some(failed(
                format!(
                    "another process joined the group at {brokers} with the same `group.instance.id`, so this one is out (give \
                     each process one of its own, in [kafka.properties])"
                ),
                text,
            )),
            _ if error.fatal => Some(failed(format!("the kafka client of {brokers} cannot go on"), text)),
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => Some(failed(
                format!("{brokers} refused to let sluice in (check username, password and security in [kafka])"),
                text,
            )),
            Code::SSL => Some(failed(
                format!("no secure connection to {brokers} (check security and the certificates in [kafka])"),
                text,
            )),
            Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                Some(failed(
                    format!("{brokers} does not allow sluice to read (it needs Read on the topics and the group)"),
                    text,
                ))
            }
            code if is_gone(code) => Some(failed(format!("a topic or a partition of it is gone from {brokers}"), text)),
            // librdkafka connects again and gets the same answer, for ever
            Code::BadMessage if text.contains(TOO_LARGE) => Some(failed(
                format!(
                    "{brokers} sent more at once than sluice takes (raise `{TOO_LARGE}` in [kafka.properties]; at the first \
                     contact, check security in [kafka]: a port that speaks TLS looks like this)"
                ),
                text,
            )),
            Code::AllBrokersDown => {
                // it comes with every attempt, several times a second
                if self.down.is_none() {
                    tracing::warn!(brokers, cause = self.cause(&text), "no broker can be reached; trying again");
                }
                self.down.get_or_insert_with(Instant::now);
                None
            }
            // one of them may be about to leave
            Code::InconsistentGroupProtocol => {
                let doing = format!(
                    "the group at {brokers} does not let this process in: its other processes divide the partitions by another \
                     `partition.assignment.strategy` (stop them first, or use theirs, or name another `group`)"
                );
                match self.shut_out {
                    None => tracing::warn!("{doing}; trying again"),
                    Some(since) if since.elapsed() > AWAY => return Some(failed(doing, text)),
                    Some(_) => {}
                }
                self.shut_out.get_or_insert_with(Instant::now);
                None
            }
            code => {
                tracing::debug!(?code, text, "kafka error that may pass");
                if matches!(code, Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut) {
                    self.cause = Some(hinted(text));
                }
                None
            }
        }
    }

    /// Takes note of a line of the log that may say why something fails.
    pub fn warned(&mut self, text: String) {
        self.warning = Some(hinted(text));
    }

    /// A broker answered.
    pub fn over(&mut self) {
        if let Some(since) = self.down {
            tracing::info!(seconds = since.elapsed().as_secs(), "brokers can be reached again");
        }
        *self = Trouble::default();
    }

    /// Whether no broker was there at last.
    pub fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Whether no broker has been there for longer than brokers may be away.
    pub fn is_long(&self) -> bool {
        self.down.is_some_and(|since| since.elapsed() > AWAY)
    }

    /// The last cause that an event named, or else `text`.
    pub fn cause(&self, text: &str) -> String {
        self.cause.as_ref().or(self.warning.as_ref()).map_or(text, String::as_str).to_owned()
    }

    /// A call that failed, with the cause that an event named, if any.
    pub fn failed(&self, doing: impl Into<String>, error: &KafkaError) -> Error {
        let text = match error.rdkafka_error_code() {
            Some(code) => code.to_string(),
            None => error.to_string(),
        };
        failed(doing.into(), self.cause(&text))
    }
}

/// Whether the error says that what is read is not there any more.
pub fn is_gone(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition)
}

/// An [`Error::Environment`] from words.
pub fn failed(doing: String, why: String) -> Error {
    Error::environment(doing, Cause(why))
}

/// Whether a failed call may succeed in a moment: an election, a topic just made, a broker that starts.
pub fn may_pass(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::UnknownPartition
                | Code::UnknownTopicOrPartition
                | Code::WaitingForCoordinator
                | Code::NetworkException
        )
    )
}

/// The words of an event, or those of its code where it has none.
fn sentence(text: &str, code: Code) -> String {
    if text.is_empty() { code.to_string() } else { text.to_owned() }
}

/// A connection that the other side closed at once, with what that mostly means.
fn hinted(text: String) -> String {
    // the first request, in the clear
    if text.contains("Disconnected: connection closed by peer") && text.contains("in state APIVERSION_QUERY") {
        return text + ": a port that speaks TLS answers like this";
    }
    // librdkafka asks so itself in some of these messages, and in others it does not
    if text.contains("SSL connection closed by peer") && !text.contains("PLAINTEXT") {
        return text + ": connecting to a PLAINTEXT broker listener?";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(code: Code, text: &str) -> ClientError {
        ClientError { code, text: text.to_owned(), fatal: false, partition: None }
    }

    #[test]
    fn what_waiting_cannot_mend_stops_with_its_cause() {
        for code in [Code::Authentication, Code::SSL, Code::GroupAuthorizationFailed, Code::UnknownTopicOrPartition] {
            let error = Trouble::default().note(&event(code, "broker 1 says no"), "b:9092").unwrap();
            assert!(matches!(error, Error::Environment { .. }));
            let text = error.to_string();
            assert!(text.contains("b:9092") && text.ends_with(": broker 1 says no"), "{text}");
        }
        let fatal = ClientError { fatal: true, ..event(Code::Fatal, "fenced") };
        assert!(Trouble::default().note(&fatal, "b").unwrap().to_string().ends_with("fenced"));
    }

    #[test]
    fn an_answer_that_is_too_large_stops_and_other_bad_ones_may_pass() {
        let text = "Receive failed: Invalid response size 300000000 (0..268435456): increase receive.message.max.bytes";
        let error = Trouble::default().note(&event(Code::BadMessage, text), "b:9092").unwrap().to_string();
        assert!(error.starts_with("b:9092 sent more at once") && error.contains("in [kafka.properties]; "), "{error}");
        assert!(error.ends_with(text), "{error}");
        assert!(Trouble::default().note(&event(Code::BadMessage, "correlation id"), "b:9092").is_none());
    }

    #[test]
    fn a_fenced_process_and_one_that_the_group_keeps_out_are_told_why() {
        let fenced = ClientError { fatal: true, ..event(Code::FencedInstanceId, "Static consumer fenced") };
        let text = Trouble::default().note(&fenced, "b:9092").unwrap().to_string();
        assert!(text.contains("`group.instance.id`") && text.ends_with(": Static consumer fenced"), "{text}");

        let mut trouble = Trouble::default();
        let other = event(Code::InconsistentGroupProtocol, "JoinGroup failed");
        assert!(trouble.note(&other, "b:9092").is_none(), "the others may be about to leave");
        trouble.shut_out = Instant::now().checked_sub(AWAY * 2);
        let text = trouble.note(&other, "b:9092").unwrap().to_string();
        assert!(text.contains("`partition.assignment.strategy`") && text.ends_with(": JoinGroup failed"), "{text}");
    }

    #[test]
    fn what_may_pass_is_kept_as_the_cause() {
        let mut trouble = Trouble::default();
        assert!(trouble.note(&event(Code::BrokerTransportFailure, "b:9092: refused"), "b").is_none());
        assert!(trouble.note(&event(Code::AllBrokersDown, "1/1 brokers are down"), "b").is_none());
        let late = KafkaError::MetadataFetch(Code::OperationTimedOut);
        assert_eq!(trouble.failed("cannot reach b", &late).to_string(), "cannot reach b: b:9092: refused");
        assert!(!trouble.is_long());
        let closed = "b/1: Disconnected: connection closed by peer: receive 0 after POLLIN (after 2ms in state ";
        for (state, is_tls) in [("APIVERSION_QUERY)", true), ("UP)", false)] {
            let mut trouble = Trouble::default();
            trouble.warned(format!("{closed}{state}"));
            assert_eq!(
                trouble.failed("cannot reach b", &late).to_string().ends_with("speaks TLS answers like this"),
                is_tls
            );
        }
        trouble.over();
        assert!(!trouble.failed("cannot reach b", &late).to_string().contains("refused"));
    }
}
