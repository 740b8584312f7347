//! Going back (or on) to other offsets of partitions that are assigned.
//!
//! It does not know why: that is the reader's business, and so is what was read before.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{TopicPartitionList, TopicPartitionListElem};
use rdkafka::types::RDKafkaErrorCode;

use super::native::Consumer;

/// For librdkafka to do it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Reads on at these offsets. A partition that was assigned a moment ago, and that librdkafka has not begun to fetch, is
/// tried again.
pub fn seek(consumer: &Consumer, positions: TopicPartitionList) -> KafkaResult<()> {
    let begun = Instant::now();
    let mut wanted = positions;
    while wanted.count() > 0 {
        let answer = consumer.base().seek_partitions(wanted, PATIENCE)?;
        wanted = TopicPartitionList::new();
        for element in answer.elements() {
            match element.error() {
                Ok(()) => {}
                Err(error) if is_early(&error) && begun.elapsed() < PATIENCE => again(&mut wanted, &element)?,
                Err(error) => return Err(error),
            }
        }
        if wanted.count() > 0 {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

fn is_early(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::State | RDKafkaErrorCode::PreviousInProgress))
}

fn again(wanted: &mut TopicPartitionList, element: &TopicPartitionListElem<'_>) -> KafkaResult<()> {
    wanted.add_partition_offset(element.topic(), element.partition(), element.offset())
}
