//! The name of every metric, once: what it counts, and by which labels. `sluice top --list` prints this table.
//!
//! Label values come from closed sets: words of ours, names and codes of the pipeline file, topics of the source. None is
//! ever taken from a record.

use std::fmt::Write;

/// A metric's type, in Prometheus's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// only grows, from 0 at the start of the process
    Counter,
    /// goes up and down
    Gauge,
    /// observations in buckets, with their sum and number
    Histogram,
}

impl Kind {
    /// As it is written in the exposition.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Name {
    /// as it is scraped, `_total` included
    pub name: &'static str,
    /// its type
    pub kind: Kind,
    /// the labels of each of its series
    pub labels: &'static [&'static str],
    /// what it says, without a full stop
    pub help: &'static str,
}

macro_rules! names {
    ($($constant:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Name =
                Name { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*
        /// Every metric, in the order in which people look for them.
        pub const ALL: &[&Name] = &[$(&$constant),*];
    };
}

names! {
    RECORDS Counter "sluice_records_total" ["outcome"] "rows per outcome, and skipped records, that are in the ledger";
    CONSUMED Counter "sluice_consumed_records_total" [] "records that are in the ledger, whatever became of them";
    FINDINGS Counter "sluice_findings_total" ["rule", "code", "severity"] "findings of rules and expectations";
    UNKNOWN Counter "sluice_unknown_rows_total" ["rule", "code"] "rows for which an expectation was unknown: null passes";
    DEAD_LETTERS Counter "sluice_dead_letters_total" ["at", "reason"] "dead letters by the stage or plugin they died in";
    LAG Gauge "sluice_lag_records" ["topic", "partition"] "records that the source has and did not deliver yet";
    READ_RECORDS Counter "sluice_read_records_total" [] "records that the source delivered; what is judged again counts again";
    READ_BYTES Counter "sluice_read_bytes_total" [] "bytes of keys and payloads that the source delivered";
    PLUGIN_SECONDS Counter "sluice_plugin_seconds_total" ["plugin"] "time in a plugin, passing and checking included";
    PLUGIN_ROWS Counter "sluice_plugin_rows_total" ["plugin"] "rows that a plugin was asked about";
    PLUGIN_CALLS Counter "sluice_plugin_calls_total" ["plugin"] "calls of a plugin, retries and probes included";
    PLUGIN_FUEL Counter "sluice_plugin_fuel_total" ["plugin"] "fuel that a plugin burnt, configuring excluded";
    PLUGIN_FAILURES Counter "sluice_plugin_failures_total" ["plugin", "reason"] "calls that failed, retries and probes included";
    STAGE_SECONDS Counter "sluice_stage_seconds_total" ["stage"] "time of the threads that judge: decode, enrich, expect, rule, write";
    JUDGED_ROWS Counter "sluice_judged_rows_total" [] "rows that came to expectations and rules";
    LEDGER_HEAD Gauge "sluice_ledger_head" [] "number of the ledger's last entry that this process knows";
    LEDGER_ENTRIES Counter "sluice_ledger_entries_total" [] "entries with rows that this process appended";
    DROPPED_ENTRIES Counter "sluice_dropped_entries_total" [] "entries that were dropped and judged again, because a position moved";
    WINDOWS Counter "sluice_windows_total" ["verdict"] "windows over which this process decided: publish, hold, reject";
    COMMIT_SECONDS Histogram "sluice_commit_seconds" [] "from an entry that is due to its rows in the tables";
    COMMIT_STEP_SECONDS Counter "sluice_commit_step_seconds_total" ["step"] "time of commits by step: close, append, apply";
    LAST_COMMIT Gauge "sluice_last_commit_timestamp_seconds" [] "Unix time of the last commit, 0 before the first";
    SINK_LAG Gauge "sluice_sink_lag_entries" ["outcome"] "entries that wait for a sink to follow";
    SINK_RETRIES Counter "sluice_sink_retries_total" ["outcome"] "times that a sink began to apply anew";
    OPEN_SECONDS Gauge "sluice_open_entry_seconds" [] "age of the open entry, 0 where none is open";
    OPEN_RECORDS Gauge "sluice_open_entry_records" [] "records in the open entry";
    IN_FLIGHT_BATCHES Gauge "sluice_in_flight_batches" [] "batches between the source and the end of their judgement";
    IN_FLIGHT_BATCHES_LIMIT Gauge "sluice_in_flight_batches_limit" [] "the most of them that there can be";
    IN_FLIGHT_BYTES Gauge "sluice_in_flight_bytes" [] "memory that these batches hold";
    IN_FLIGHT_BYTES_LIMIT Gauge "sluice_in_flight_bytes_limit" [] "what they may hold together; a single larger batch passes alone";
    PARTITIONS Gauge "sluice_assigned_partitions" [] "partitions that the consumer group gave to this process";
    REBALANCES Counter "sluice_rebalances_total" ["event"] "changes by the consumer group: assigned, revoked, lost";
    PAUSED Gauge "sluice_source_paused" [] "1 while the source waits for room";
    SOURCE_UP Gauge "sluice_source_up" [] "0 while no broker can be reached";
    WORKERS Gauge "sluice_worker_threads" [] "threads that judge";
    MEMORY Gauge "process_resident_memory_bytes" [] "memory of the process";
    ANONYMOUS Gauge "sluice_anonymous_memory_bytes" [] "the part of it that is no file";
    CPU Counter "process_cpu_seconds_total" [] "processor time of the process";
    STARTED Gauge "process_start_time_seconds" [] "Unix time of the process's start";
    BUILD Gauge "sluice_build_info" ["version"] "1: what runs";
    PIPELINE Gauge "sluice_pipeline_info" ["pipeline", "generation", "state"] "1: the pipeline, what judges, and a hash of its state folder's place";
    GENERATION Gauge "sluice_generation_info" ["generation"] "1: the generation that judges the open entry";
    SHADOW Gauge "sluice_shadow_info" ["generation"] "1: the candidate that judges beside";
    SHADOW_RECORDS Counter "sluice_shadow_records_total" [] "records that the candidate judged, too";
    SHADOW_FLIPS Counter "sluice_shadow_flipped_rows_total" ["before", "after"] "rows whose outcome the candidate changes";
    SHADOW_FINDINGS Counter "sluice_shadow_findings_total" ["code", "change"] "rows by a code or reason that the candidate adds or takes: gained, lost";
    SHADOW_COLUMNS Counter "sluice_shadow_changed_values_total" ["column"] "rows with another value in a column";
    SHADOW_SECONDS Counter "sluice_shadow_seconds_total" ["of"] "time of judging the same batches: active, candidate";
    SHADOW_FUEL Counter "sluice_shadow_fuel_total" ["of"] "fuel of judging the same batches: active, candidate";
    RELOADS Counter "sluice_reloads_total" ["result"] "changes of what judges while it runs: activated, followed, refused";
    PLUGIN Gauge "sluice_plugin_info" ["plugin", "kind", "version", "digest"] "1: a component that is loaded";
}

/// The table, in Markdown.
pub fn table() -> String {
    let mut text = String::from("| metric | type | labels | |\n|---|---|---|---|\n");
    for Name { name, kind, labels, help } in ALL {
        let labels = labels.join(", ");
        writeln!(text, "| `{name}` | {} | {labels} | {help} |", kind.as_str()).expect("a String takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_convention_and_stand_once() {
        let mut seen = std::collections::BTreeSet::new();
        for name in ALL {
            assert!(seen.insert(name.name), "{} stands twice", name.name);
            assert!(name.name.starts_with("sluice_") || name.name.starts_with("process_"), "{}", name.name);
            assert_eq!(name.name.ends_with("_total"), name.kind == Kind::Counter, "{}", name.name);
            assert!(!name.help.ends_with('.'), "the exposition adds one: {}", name.help);
        }
        assert_eq!(table().lines().count(), ALL.len() + 2);
    }
}
