//! The numbers of a running pipeline, as Prometheus scrapes them.
//!
//! They are added up per batch and per commit, never per row, and nothing depends on them: what is true stands in the
//! ledger. What went into an entry is counted when the entry has landed, so that these numbers, too, are exactly once for
//! as long as the process lives.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sha2::{Digest, Sha256};

use super::health::Health;
use super::names;
use crate::audit::decide::OPERATOR;
use crate::audit::{self, AHEAD, DUPLICATE, LATE};
use crate::chain::{Chain, Spent};
use crate::compare;
use crate::config::Config;
use crate::expect;
use crate::ledger::{Counts, Verdict};
use crate::outcome::{Outcome, Reason};
use crate::record::TopicPartition;
use crate::shadow;
use crate::source::Notice;

mod labels;
mod now;

pub use labels::{Reload, Step};

use labels::{Counters, Gauges, Seconds, labelled, registered};
use now::Now;

/// Upper bounds of the commit histogram, in seconds: a commit on a local disk takes some 50 ms, one on an object store about
/// a second; a minute is trouble.
const COMMIT_BUCKETS: [f64; 11] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Every number, and the health of the process.
#[derive(Debug)]
pub struct Metrics {
    /// whether anything hangs
    pub health: Health,
    registry: Registry,
    records: Counters,
    consumed: Counter,
    findings: Counters,
    unknown: Counters,
    dead_letters: Counters,
    read_records: Counter,
    read_bytes: Counter,
    plugin_seconds: Seconds,
    plugin_rows: Counters,
    plugin_calls: Counters,
    plugin_fuel: Counters,
    plugin_failures: Counters,
    stage_seconds: Seconds,
    judged_rows: Counter,
    head: Gauge<u64, AtomicU64>,
    entries: Counter,
    dropped: Counter,
    windows: Counters,
    commit_seconds: Histogram,
    commit_steps: Seconds,
    last_commit: Gauge<f64, AtomicU64>,
    sink_lag: Gauges,
    sink_retries: Counters,
    partitions: Gauge,
    rebalances: Counters,
    paused: Gauge,
    source_up: Gauge,
    workers: Gauge,
    in_flight_batches_limit: Gauge,
    in_flight_bytes_limit: Gauge<u64, AtomicU64>,
    build: Gauges,
    pipeline: Gauges,
    generation: Gauges,
    reloads: Counters,
    shadow: Gauges,
    shadow_records: Counter,
    shadow_flips: Counters,
    shadow_findings: Counters,
    shadow_columns: Counters,
    shadow_seconds: Seconds,
    shadow_fuel: Counters,
    plugins: Gauges,
    /// `rule/code` → severity; held while an entry is counted and while somebody looks, who sees all of it or nothing
    severities: Mutex<BTreeMap<String, &'static str>>,
    now: Now,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// All at zero; what is known beforehand is there from the first scrape on.
    pub fn new() -> Metrics {
        let mut registry = Registry::default();
        let r = &mut registry;
        let now = Now::default();
        r.register_collector(Box::new(now.clone()));
        let metrics = Metrics {
            health: Health::default(),
            records: labelled(r, &names::RECORDS),
            consumed: registered(r, &names::CONSUMED, Counter::default()),
            findings: labelled(r, &names::FINDINGS),
            unknown: labelled(r, &names::UNKNOWN),
            dead_letters: labelled(r, &names::DEAD_LETTERS),
            read_records: registered(r, &names::READ_RECORDS, Counter::default()),
            read_bytes: registered(r, &names::READ_BYTES, Counter::default()),
            plugin_seconds: labelled(r, &names::PLUGIN_SECONDS),
            plugin_rows: labelled(r, &names::PLUGIN_ROWS),
            plugin_calls: labelled(r, &names::PLUGIN_CALLS),
            plugin_fuel: labelled(r, &names::PLUGIN_FUEL),
            plugin_failures: labelled(r, &names::PLUGIN_FAILURES),
            stage_seconds: labelled(r, &names::STAGE_SECONDS),
            judged_rows: registered(r, &names::JUDGED_ROWS, Counter::default()),
            head: registered(r, &names::LEDGER_HEAD, Gauge::default()),
            entries: registered(r, &names::LEDGER_ENTRIES, Counter::default()),
            dropped: registered(r, &names::DROPPED_ENTRIES, Counter::default()),
            windows: labelled(r, &names::WINDOWS),
            commit_seconds: registered(r, &names::COMMIT_SECONDS, Histogram::new(COMMIT_BUCKETS)),
            commit_steps: labelled(r, &names::COMMIT_STEP_SECONDS),
            last_commit: registered(r, &names::LAST_COMMIT, Gauge::default()),
            sink_lag: labelled(r, &names::SINK_LAG),
            sink_retries: labelled(r, &names::SINK_RETRIES),
            partitions: registered(r, &names::PARTITIONS, Gauge::default()),
            rebalances: labelled(r, &names::REBALANCES),
            paused: registered(r, &names::PAUSED, Gauge::default()),
            source_up: registered(r, &names::SOURCE_UP, Gauge::default()),
            workers: registered(r, &names::WORKERS, Gauge::default()),
            in_flight_batches_limit: registered(r, &names::IN_FLIGHT_BATCHES_LIMIT, Gauge::default()),
            in_flight_bytes_limit: registered(r, &names::IN_FLIGHT_BYTES_LIMIT, Gauge::default()),
            build: labelled(r, &names::BUILD),
            pipeline: labelled(r, &names::PIPELINE),
            generation: labelled(r, &names::GENERATION),
            reloads: labelled(r, &names::RELOADS),
            shadow: labelled(r, &names::SHADOW),
            shadow_records: registered(r, &names::SHADOW_RECORDS, Counter::default()),
            shadow_flips: labelled(r, &names::SHADOW_FLIPS),
            shadow_findings: labelled(r, &names::SHADOW_FINDINGS),
            shadow_columns: labelled(r, &names::SHADOW_COLUMNS),
            shadow_seconds: labelled(r, &names::SHADOW_SECONDS),
            shadow_fuel: labelled(r, &names::SHADOW_FUEL),
            plugins: labelled(r, &names::PLUGIN),
            severities: Mutex::default(),
            now,
            registry,
        };
        metrics.begin();
        metrics
    }

    /// Series that exist whatever happens: a rate over one that appears late would miss its first value.
    fn begin(&self) {
        for outcome in Outcome::LAST {
            let outcome = outcome.as_str();
            self.records.at([outcome]);
            self.sink_lag.at([outcome]);
            self.sink_retries.at([outcome]);
        }
        self.records.at([SKIPPED]);
        for stage in STAGES {
            self.stage_seconds.at([stage]);
        }
        for step in Step::ALL {
            self.commit_steps.at([step.as_str()]);
        }
        for event in ["assigned", "revoked", "lost"] {
            self.rebalances.at([event]);
        }
        for result in Reload::ALL {
            self.reloads.at([result.as_str()]);
        }
        self.source_up.set(1);
        self.build.at([env!("CARGO_PKG_VERSION")]).set(1);
    }

    /// What judges from now on: its generation, its plugins and their codes. Counters go on.
    pub fn judges(&self, chain: &Chain) {
        let config = &chain.config;
        // those of the generation before stay: its last entry is counted after this
        let mut severities = lock(&self.severities);
        for expectation in &config.expect {
            let code = &expectation.name;
            severities.insert(format!("{}/{code}", expect::RULE), expectation.severity.as_str());
            self.unknown.at([expect::RULE, code]);
        }
        if let Some(windows) = &config.audit {
            let codes = [LATE, DUPLICATE, OPERATOR].into_iter().chain(windows.expect.iter().map(|e| &*e.name));
            severities.extend(codes.map(|code| (format!("{}/{code}", audit::RULE), "error")));
            severities.insert(format!("{}/{AHEAD}", audit::RULE), "warn");
            for verdict in [Verdict::Publish, Verdict::Hold, Verdict::Reject] {
                self.windows.at([verdict.as_str()]);
            }
        }
        self.plugins.clear();
        for plugin in chain.plugins() {
            let (name, kind) = (&**plugin.name(), plugin.kind().interface());
            for code in plugin.codes() {
                severities.insert(format!("{name}/{}", code.code), code.severity.as_str());
            }
            self.plugins.at([name, kind, plugin.version(), plugin.digest()]).set(1);
            self.plugin_seconds.at([name]);
            self.plugin_rows.at([name]);
            self.plugin_calls.at([name]);
            self.plugin_fuel.at([name]);
            for reason in FAILURES {
                self.plugin_failures.at([name, reason.as_str()]);
            }
        }
        for (code, severity) in &*severities {
            self.findings.at(finding(code, severity));
        }
        self.pipeline.clear();
        self.pipeline.at([&config.name, chain.generation.short(), &state_hash(config)]).set(1);
        self.generation.clear();
        self.generation.at([chain.generation.short()]).set(1);
    }

    /// What became of a change while it runs.
    pub fn reloaded(&self, result: Reload) {
        self.reloads.at([result.as_str()]).inc();
    }

    /// Which candidate judges beside.
    pub fn shadows(&self, generation: Option<&str>) {
        self.shadow.clear();
        if let Some(generation) = generation {
            self.shadow.at([generation]).set(1);
        }
    }

    /// What a candidate would have done otherwise in an entry that landed.
    pub fn shadowed(&self, seen: &shadow::Seen) {
        let summary = &seen.summary;
        self.shadow_records.inc_by(summary.records);
        for ((before, after), tally) in &summary.flips {
            self.shadow_flips.at([compare::name(*before), compare::name(*after)]).inc_by(tally.rows);
        }
        for (change, all) in [("gained", &summary.gained), ("lost", &summary.lost)] {
            for (code, tally) in all {
                self.shadow_findings.at([code, change]).inc_by(tally.rows);
            }
        }
        for (column, tally) in &summary.columns {
            self.shadow_columns.at([column]).inc_by(tally.rows);
        }
        for (of, side) in [("active", seen.active), ("candidate", seen.candidate)] {
            self.shadow_seconds.at([of]).inc_by(side.nanos as f64 / 1e9);
            self.shadow_fuel.at([of]).inc_by(side.fuel);
        }
    }

    /// Threads that judge, and what may be in flight.
    pub fn bounds(&self, workers: usize, batches: usize, bytes: u64) {
        self.workers.set(workers as i64);
        self.in_flight_batches_limit.set(batches as i64);
        self.in_flight_bytes_limit.set(bytes);
    }

    /// The ledger ends at `head`, and every sink follows it up to there.
    pub fn caught_up(&self, head: u64) {
        self.head.set(head);
        for outcome in Outcome::LAST {
            self.sink_lag.at([outcome.as_str()]).set(0);
        }
    }

    /// The source delivered a batch; the open entry holds so many records now, since then.
    pub fn read(&self, records: u64, bytes: u64, open: (Instant, u64)) {
        self.read_records.inc_by(records);
        self.read_bytes.inc_by(bytes);
        self.now.seen().open = Some(open);
    }

    /// No entry is open.
    pub fn closed(&self) {
        self.now.seen().open = None;
    }

    /// Batches and bytes between the source and the end of their judgement.
    pub fn in_flight(&self, batches: u64, bytes: u64) {
        let mut now = self.now.seen();
        (now.batches, now.bytes) = (batches, bytes);
    }

    /// A worker's time for a batch, and what plugins did in it.
    pub fn spent(&self, spent: &Spent, writing: Duration) {
        let times = [spent.decode, spent.enrich, spent.expect, spent.rules, writing];
        for (stage, time) in STAGES.iter().zip(times) {
            self.stage_seconds.at([stage]).inc_by(time.as_secs_f64());
        }
        self.judged_rows.inc_by(spent.judged);
        for (plugin, tally) in &spent.plugins {
            let name = &**plugin;
            self.plugin_seconds.at([name]).inc_by(tally.busy.as_secs_f64());
            self.plugin_rows.at([name]).inc_by(tally.rows);
            self.plugin_calls.at([name]).inc_by(tally.calls);
            self.plugin_fuel.at([name]).inc_by(tally.fuel);
            for (reason, calls) in &tally.failures {
                self.plugin_failures.at([name, reason.as_str()]).inc_by(*calls);
            }
        }
    }

    /// An entry is in the ledger and the sinks whose turn it was have followed. `took`: from its due time.
    pub fn landed(&self, number: u64, counts: &Counts, took: Duration) {
        let severities = lock(&self.severities);
        for (outcome, rows) in &counts.outcomes {
            self.records.at([outcome.as_str()]).inc_by(*rows);
        }
        self.records.at([SKIPPED]).inc_by(counts.skipped);
        self.consumed.inc_by(counts.records);
        for (code, n) in &counts.findings {
            let severity = severities.get(code).copied().unwrap_or("error");
            self.findings.at(finding(code, severity)).inc_by(*n);
        }
        for (code, n) in &counts.unknown {
            let (rule, code) = code.split_once('/').unwrap_or((code, ""));
            self.unknown.at([rule, code]).inc_by(*n);
        }
        for (key, n) in &counts.dead {
            let (at, reason) = key.split_once('/').unwrap_or((key, ""));
            self.dead_letters.at([at, reason]).inc_by(*n);
        }
        self.entries.inc();
        self.head.set(number);
        self.commit_seconds.observe(took.as_secs_f64());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_commit.set(now.as_secs_f64());
    }

    /// A window was decided; its rows left staging.
    pub fn decided(&self, verdict: Verdict, counts: &Counts) {
        self.windows.at([verdict.as_str()]).inc();
        for (outcome, rows) in &counts.outcomes {
            self.records.at([outcome.as_str()]).inc_by(*rows);
        }
        for (code, n) in &counts.findings {
            self.findings.at(finding(code, "error")).inc_by(*n);
        }
    }

    /// An entry was dropped; its records are judged again.
    pub fn dropped(&self) {
        self.dropped.inc();
    }

    /// A step of a commit took so long.
    pub fn step(&self, step: Step, took: Duration) {
        self.commit_steps.at([step.as_str()]).inc_by(took.as_secs_f64());
    }

    /// Entries that wait for a sink, and how often it began anew since it was opened.
    pub fn follows(&self, outcome: Outcome, waiting: u64, retries: u64) {
        let outcome = outcome.as_str();
        self.sink_lag.at([outcome]).set(waiting);
        let counter = self.sink_retries.at([outcome]);
        counter.inc_by(retries.saturating_sub(counter.get()));
    }

    /// What the source has not delivered yet, per partition of ours; others are forgotten.
    pub fn lag(&self, lag: &BTreeMap<TopicPartition, u64>) {
        self.partitions.set(lag.len() as i64);
        self.now.seen().lag.clone_from(lag);
    }

    /// What the source says of itself.
    pub fn notice(&self, notice: Notice) {
        let rebalance = |event| {
            self.rebalances.at([event]).inc();
        };
        match notice {
            Notice::Assigned => {
                rebalance("assigned");
                self.health.positioned();
            }
            Notice::Revoked => rebalance("revoked"),
            Notice::Lost => rebalance("lost"),
            Notice::Paused(is) => {
                self.paused.set(is.into());
            }
            Notice::Reachable(is) => {
                self.source_up.set(is.into());
                self.health.reachable(is);
            }
        }
    }

    /// Everything, in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let whole = lock(&self.severities);
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("a String takes all");
        drop(whole);
        text
    }
}

/// The value of `outcome` for records that the `skip` predicate left out.
const SKIPPED: &str = "skipped";

/// The values of `stage`, in the order of a record's way.
const STAGES: [&str; 5] = ["decode", "enrich", "expect", "rule", "write"];

/// How a call of a plugin can fail.
const FAILURES: [Reason; 5] =
    [Reason::PluginTrap, Reason::PluginTimeout, Reason::PluginMemory, Reason::PluginOutput, Reason::PluginError];

/// The label values of a finding.
fn finding<'c>(code: &'c str, severity: &'c str) -> [&'c str; 3] {
    let (rule, code) = code.split_once('/').unwrap_or((code, ""));
    [rule, code, severity]
}

/// Which of several pipelines of one name: a hash, since a location may hold what is secret.
pub fn state_hash(config: &Config) -> String {
    let digest = Sha256::digest(config.state.url.as_str());
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exposed_with_their_types_and_partitions_come_and_go() {
        let metrics = Metrics::new();
        metrics.lag(&[(TopicPartition::new("visits", 3), 12)].into());
        let text = metrics.render();
        for name in names::ALL {
            let typed = format!("# TYPE {} {}\n", name.name.trim_end_matches("_total"), name.kind.as_str());
            let n = text.matches(&typed).count();
            // without a pipeline there is no series yet for its names and codes
            assert!(n == 1 || (n == 0 && !name.labels.is_empty()), "{typed} stands {n} times in\n{text}");
        }
        assert!(text.contains("sluice_lag_records{topic=\"visits\",partition=\"3\"} 12\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
        metrics.lag(&BTreeMap::new());
        assert!(!metrics.render().contains("topic=\"visits\""), "a partition that went away is not shown");
    }

    #[test]
    fn an_entry_counts_once_it_has_landed() {
        let metrics = Metrics::new();
        lock(&metrics.severities).insert("expect/ad-tagged".into(), "warn");
        metrics.read(10, 1000, (Instant::now(), 10));
        assert!(metrics.render().contains("sluice_records_total{outcome=\"valid\"} 0\n"));
        let counts = Counts {
            records: 10,
            skipped: 1,
            rows: 9,
            outcomes: [(Outcome::Valid, 6), (Outcome::Error, 2), (Outcome::Dlq, 1)].into(),
            findings: [("expect/ad-tagged".to_owned(), 4)].into(),
            unknown: [("expect/ad-tagged".to_owned(), 1)].into(),
            dead: [("decode/not-json".to_owned(), 1)].into(),
        };
        metrics.landed(7, &counts, Duration::from_millis(70));
        let text = metrics.render();
        for line in [
            "sluice_records_total{outcome=\"valid\"} 6",
            "sluice_records_total{outcome=\"error\"} 2",
            "sluice_records_total{outcome=\"dlq\"} 1",
            "sluice_records_total{outcome=\"skipped\"} 1",
            "sluice_consumed_records_total 10",
            "sluice_findings_total{rule=\"expect\",code=\"ad-tagged\",severity=\"warn\"} 4",
            "sluice_unknown_rows_total{rule=\"expect\",code=\"ad-tagged\"} 1",
            "sluice_dead_letters_total{at=\"decode\",reason=\"not-json\"} 1",
            "sluice_ledger_head 7",
            "sluice_commit_seconds_bucket{le=\"0.1\"} 1",
            "sluice_read_bytes_total 1000",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nin\n{text}");
        }
    }
}
