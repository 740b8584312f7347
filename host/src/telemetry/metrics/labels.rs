//! Metrics with labels: their series, and the values that labels have.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use crate::telemetry::names::Name;

pub(super) type Labels = Vec<(&'static str, String)>;
pub(super) type Counters = Labelled<Counter>;
pub(super) type Seconds = Labelled<Counter<f64, AtomicU64>>;
pub(super) type Gauges = Labelled<Gauge<u64, AtomicU64>>;

/// The labels of a series, in the order of [`Name::labels`].
pub(super) fn labels<const N: usize>(name: &Name, values: [&str; N]) -> Labels {
    debug_assert_eq!(name.labels.len(), N, "{}", name.name);
    name.labels.iter().copied().zip(values.map(str::to_owned)).collect()
}

/// A metric with labels.
#[derive(Debug)]
pub(super) struct Labelled<M> {
    name: &'static Name,
    series: Family<Labels, M>,
}

impl<M: Clone + Default> Labelled<M> {
    /// The series of these label values, which exists from now on.
    pub(super) fn at<const N: usize>(&self, values: [&str; N]) -> M {
        self.series.get_or_create_owned(&labels(self.name, values))
    }

    /// Forgets every series.
    pub(super) fn clear(&self) {
        self.series.clear();
    }
}

/// A metric that is exposed from now on.
pub(super) fn registered<M: Metric + Clone>(registry: &mut Registry, name: &Name, metric: M) -> M {
    // the exposition puts the ending back
    registry.register(name.name.trim_end_matches("_total"), name.help, metric.clone());
    metric
}

/// One with labels.
pub(super) fn labelled<M>(registry: &mut Registry, name: &'static Name) -> Labelled<M>
where
    M: Clone + Default,
    Family<Labels, M>: Metric,
{
    Labelled { name, series: registered(registry, name, Family::default()) }
}

/// What became of a change of what judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// this process put a generation in force
    Activated,
    /// another process did, or an operator
    Followed,
    /// the candidate cannot be
    Refused,
}

impl Reload {
    pub(super) const ALL: [Reload; 3] = [Reload::Activated, Reload::Followed, Reload::Refused];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Reload::Activated => "activated",
            Reload::Followed => "followed",
            Reload::Refused => "refused",
        }
    }
}

/// The steps of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// files are finished and durable
    Close,
    /// the entry is in the ledger
    Append,
    /// the sinks follow
    Apply,
}

impl Step {
    pub(super) const ALL: [Step; 3] = [Step::Close, Step::Append, Step::Apply];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Step::Close => "close",
            Step::Append => "append",
            Step::Apply => "apply",
        }
    }
}
