//! Numbers that are looked at when somebody asks for them, and counted nowhere.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::labels::labels;
use crate::record::TopicPartition;
use crate::telemetry::names::{self, Kind, Name};
use crate::telemetry::process;

/// What is looked at when somebody asks: ages, queues, the process. Partitions come and go, and so do their series.
#[derive(Clone, Default)]
pub(super) struct Now(Arc<Mutex<Seen>>);

#[derive(Default)]
pub(super) struct Seen {
    pub lag: BTreeMap<TopicPartition, u64>,
    /// since when an entry is open, and its records
    pub open: Option<(Instant, u64)>,
    pub batches: u64,
    pub bytes: u64,
}

impl Now {
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now")
    }
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let (lag, open, batches, bytes) = {
            let seen = self.seen();
            (seen.lag.clone(), seen.open, seen.batches, seen.bytes)
        };
        let mut described = encoder.encode_descriptor(names::LAG.name, names::LAG.help, None, MetricType::Gauge)?;
        for (partition, records) in lag {
            let series = labels(&names::LAG, [&partition.topic, &partition.partition.to_string()]);
            ConstGauge::new(records).encode(described.encode_family(&series)?)?;
        }
        let (age, records) = open.map_or((0.0, 0), |(since, records)| (since.elapsed().as_secs_f64(), records));
        let mut one = |name: &Name, value: f64| match name.kind {
            Kind::Counter => {
                let name = (name.name.trim_end_matches("_total"), name.help);
                ConstCounter::new(value).encode(encoder.encode_descriptor(name.0, name.1, None, MetricType::Counter)?)
            }
            Kind::Gauge | Kind::Histogram => ConstGauge::new(value).encode(encoder.encode_descriptor(
                name.name,
                name.help,
                None,
                MetricType::Gauge,
            )?),
        };
        one(&names::OPEN_SECONDS, age)?;
        one(&names::OPEN_RECORDS, records as f64)?;
        one(&names::IN_FLIGHT_BATCHES, batches as f64)?;
        one(&names::IN_FLIGHT_BYTES, bytes as f64)?;
        let Some(process) = process::look() else { return Ok(()) };
        one(&names::MEMORY, process.resident as f64)?;
        one(&names::ANONYMOUS, process.anonymous as f64)?;
        one(&names::CPU, process.cpu)?;
        one(&names::STARTED, process.started)
    }
}
