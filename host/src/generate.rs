//! Seeded test data, and the tally of what was planted in it.
//!
//! The tally is counted when a record is written, from what was done to it. Nothing here knows how a rule is written or
//! evaluated, so a test may compare the two. The same [`Spec`] gives the same bytes.

pub mod awap;
pub mod devices;
mod output;
mod plan;
mod tally;
mod visits;

pub use output::{Output, Pace};
pub use plan::{Kind, Share};
pub use tally::{Planted, Tally};
pub use visits::{Generated, Visits};

/// 2026-11-01T00:00:00Z: where a flow to a file begins unless told otherwise, so that the bytes depend on the seed alone.
pub const START: i64 = 1_793_491_200_000;

/// Milliseconds between two records of the flow.
pub const STEP: i64 = 360;

/// Where a flow of so many records begins that ends now. A broker deletes what is older than its retention by the
/// record's time, so a flow to a topic must not lie in the past.
pub fn ending_now(records: u64) -> i64 {
    let flow = i64::try_from(records).unwrap_or(i64::MAX).saturating_mul(STEP);
    chrono::Utc::now().timestamp_millis().saturating_sub(flow)
}

/// What to generate.
#[derive(Clone, Debug)]
pub struct Spec {
    /// how many records, of whatever kind
    pub records: u64,
    /// the same seed gives the same bytes
    pub seed: u64,
    /// what is wrong with some of them
    pub damage: Damage,
    /// payloads that are not JSON
    pub not_json: Share,
    /// good records that come a second time
    pub duplicates: Share,
    /// good records whose event time lies 8 to 30 days before the flow
    pub late: Share,
    /// partitions to spread the visits over
    pub partitions: u32,
    /// time of the first record, milliseconds since the epoch
    pub start: i64,
}

/// How damage is spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// exactly this share of the records, each violating one rule of the demo; kinds with their weights
    Records(Share, Vec<(Kind, u32)>),
    /// this share of the visits: each of their records nulls 1 to 6 top-level fields, and those stay null to the visit's end
    Visits(Share),
}

impl Default for Spec {
    /// The demo's data.
    fn default() -> Self {
        Spec {
            records: 100_000,
            seed: 7,
            damage: Damage::Records(Share::percent(2), Kind::demo()),
            not_json: Share::per_mille(5),
            duplicates: Share::percent(0),
            late: Share::percent(0),
            partitions: 1,
            start: START,
        }
    }
}
