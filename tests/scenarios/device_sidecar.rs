//! `device-sidecar`: visits joined with a table of devices that changes, statistics of each commit; killed at every step.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use sluice_host::generate::Output;
use sluice_host::generate::devices::{self, ADDED, BATCHES, DEVICES};
use sluice_host::source::kafka::produce::Producer;

use crate::broker;
use crate::peer;
use crate::project::Project;
use crate::reload::Running;

const TOML: &str = include_str!("device-sidecar/sluice.toml");
const SQL: &str = include_str!("device-sidecar/visits.sql");

/// After each batch: enriched rows, rows of statistics, visits that they count.
const EXPECTED: [(u64, u64, u64); BATCHES] = [(10, 5, 10), (70, 10, 70), (83, 16, 83), (89, 21, 89), (93, 22, 93)];

/// The pipeline with its first devices, over files or over a topic.
struct Sidecar {
    project: Project,
    topic: Option<String>,
}

impl Sidecar {
    fn files() -> Sidecar {
        Sidecar::new(TOML, None)
    }

    fn topic(commit: &str) -> Sidecar {
        let (broker, topic) = (broker::shared().bootstrap(), broker::topic("sidecar"));
        let mut producer = Producer::new(&properties()).expect("settings");
        producer.create_topic(&topic, 2).expect("the topic is new");
        let session = "\"session.timeout.ms\" = 2000\n\"heartbeat.interval.ms\" = 500";
        let source = format!(
            "{commit}\n[kafka]\nbrokers = \"{broker}\"\n[kafka.properties]\n{session}\n[source]\nkafka = [\"{topic}\"]\ngroup = \"{topic}\"\n"
        );
        let files = TOML.lines().find(|line| line.starts_with("files = ")).expect("the source's line");
        Sidecar::new(&TOML.replace(&format!("[source]\n{files}\n"), &source), Some(topic))
    }

    fn new(toml: &str, topic: Option<String>) -> Sidecar {
        let sidecar = Sidecar { project: Project::new(&[("sluice.toml", toml), ("visits.sql", SQL)]), topic };
        sidecar.devices(&DEVICES);
        sidecar
    }

    fn devices(&self, devices: &[devices::Device]) {
        let folder = self.project.path().join("lake/devices");
        std::fs::create_dir_all(&folder).unwrap();
        let url = url::Url::from_directory_path(&folder).unwrap();
        tokio::runtime::Runtime::new().unwrap().block_on(devices::append(&url, devices)).unwrap();
    }

    /// Puts a batch where the pipeline reads; before b3 the table changes.
    fn put(&self, n: usize) {
        let visits = devices::batch(n);
        let mut output = match &self.topic {
            Some(topic) => {
                let mut producer = Producer::new(&properties()).expect("settings");
                producer.create_topic(topic, 2).expect("it is there");
                Output::Topic(producer)
            }
            None => {
                self.project.write("in/.keep", "");
                Output::file(&self.project.path().join(format!("in/b{n}.ndjson"))).unwrap()
            }
        };
        devices::records(&visits).for_each(|record| output.put(&record).unwrap());
        output.finish().unwrap();
    }

    fn tables(&self) -> Vec<(&'static str, PathBuf)> {
        let lake = self.project.path().join("lake");
        vec![("enriched", lake.join("visits_enriched")), ("stats", lake.join("devices_stats"))]
    }

    fn sql(&self, sql: &str) -> Value {
        peer::sql(sql, &self.tables())
    }

    fn one(&self, sql: &str) -> u64 {
        self.sql(&format!("SELECT {sql} AS n"))[0]["n"].as_u64().unwrap_or_else(|| panic!("{sql}"))
    }

    /// Enriched rows, rows of statistics, visits that they count, by another reader.
    fn counted(&self) -> (u64, u64, u64) {
        let rows = self.sql(
            "SELECT (SELECT count(*) FROM enriched) AS enriched, (SELECT count(*) FROM stats) AS stats, \
             (SELECT coalesce(sum(count), 0) FROM stats) AS sum",
        );
        let n = |name: &str| rows[0][name].as_u64().unwrap_or_else(|| panic!("{name} in {rows}"));
        (n("enriched"), n("stats"), n("sum"))
    }

    /// Everything that the scenario says of its tables in the end.
    fn check(&self) {
        assert_eq!(self.counted(), EXPECTED[BATCHES - 1]);
        let columns = self.sql("SELECT * FROM enriched LIMIT 1");
        for column in ["visit_id", "event_time", "user_id", "page", "context", "type", "full_name", "version"] {
            assert!(columns[0].get(column).is_some(), "{column} in {columns}");
        }
        // per batch of the scenario: device → how often its statistics count it
        let expected = [
            "galaxy/Android 11=2 galaxy/Android 13=2 htc/Android 14=2 iphone/iOS 13=2 iphone/iOS 14=2",
            "galaxy/Android 11=12 galaxy/Android 13=12 htc/Android 14=12 iphone/iOS 13=12 iphone/iOS 14=12",
            "-/-=8 galaxy/Android 11=1 galaxy/Android 13=1 htc/Android 14=1 iphone/iOS 13=1 iphone/iOS 14=1",
            "galaxy/Android 11=1 galaxy/Android 13=1 htc/Android 14=1 iphone/iOS 13=1 iphone/iOS 14=2",
            "-/-=4",
        ];
        let stats = self.sql(
            "SELECT DISTINCT split_part(e.visit_id, '-', 2) AS batch, coalesce(s.type, '-') AS type, \
             coalesce(s.version, '-') AS version, s.count AS n \
             FROM stats s JOIN (SELECT DISTINCT _batch, visit_id FROM enriched) e ON s.batch_id = e._batch \
             ORDER BY batch, type, version",
        );
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let text = |row: &Value, name: &str| row[name].as_str().expect(name).to_owned();
        for row in stats.as_array().expect("rows") {
            let device = format!("{}/{}={}", text(row, "type"), text(row, "version"), row["n"]);
            found.entry(text(row, "batch")).or_default().push(device);
        }
        let found: Vec<String> = found.into_values().map(|devices| devices.join(" ")).collect();
        assert_eq!(found, expected);
        let twice = "count(*) - count(DISTINCT concat(_topic, '/', _partition, '/', _offset, '/', _row)) FROM enriched";
        assert_eq!(self.one(&format!("(SELECT {twice})")), 0);
        // what did not match is null in every column of the table
        let unknown = "(SELECT count(*) FROM enriched WHERE full_name IS NULL AND type IS NULL AND version IS NULL)";
        assert_eq!(self.one(unknown), 12);
        let ios = format!("(SELECT count(*) FROM enriched WHERE full_name = '{}')", ADDED.1);
        assert_eq!(self.one(&ios), 1);
        self.project.sluice(&["reconcile"]).expect(0);
    }

    /// Version of the devices → rows of statistics, from the ledger.
    fn versions(&self) -> Vec<String> {
        let entries = self.project.sluice(&["inspect", "ledger", "--limit", "1000", "--json"]).expect(0);
        let entries = entries.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let rows = entries.filter(|line| line["entry"]["kind"] == "rows");
        rows.map(|line| line["entry"]["references"]["devices"].as_str().expect("a version").to_owned()).collect()
    }
}

fn properties() -> BTreeMap<String, String> {
    [("bootstrap.servers".to_owned(), broker::shared().bootstrap())].into()
}

/// All batches, each read by a run of its own: it commits at the end of its input, so a batch is a commit.
fn batch_by_batch(sidecar: &Sidecar) {
    for (n, expected) in EXPECTED.iter().enumerate() {
        if n == 3 {
            sidecar.devices(&[ADDED]);
        }
        sidecar.put(n);
        sidecar.project.sluice(&["run", "--until-end"]).expect(0);
        assert_eq!(sidecar.counted(), *expected, "b{n}");
        if n == 1 {
            let again = sidecar.project.sluice(&["run", "--until-end"]).expect(0);
            assert!(again.contains(" 0 consumed"), "{again}");
            assert_eq!(sidecar.counted(), *expected, "b1 again");
        }
    }
    sidecar.check();
    assert_eq!(sidecar.versions(), ["0", "0", "0", "1", "1"]);
}

#[test]
fn every_number_from_files() {
    let sidecar = Sidecar::files();
    batch_by_batch(&sidecar);
    // undecodable input is a dead letter, not a row of nulls
    sidecar.project.write("in/b5.ndjson", "{........\n");
    sidecar.project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(sidecar.counted(), EXPECTED[BATCHES - 1]);
    let dead = peer::sql("SELECT reason FROM t", &[("t", sidecar.project.path().join("lake/visits_dlq"))]);
    assert_eq!(dead, serde_json::json!([{"reason": "not-json"}]));
}

#[test]
fn every_number_from_a_topic() {
    batch_by_batch(&Sidecar::topic(""));
}

#[test]
fn a_device_is_added_while_the_pipeline_runs_on_a_topic() {
    let sidecar = Sidecar::topic("[commit]\nevery = \"1s\"");
    let running = Running::of(&sidecar.project);
    let mut consumed = 0;
    for (n, (enriched, _, sum)) in EXPECTED.into_iter().enumerate() {
        if n == 3 {
            sidecar.devices(&[ADDED]);
            let asked = sidecar.project.sluice(&["reference", "refresh"]).expect(0);
            assert!(asked.contains("version 1: 6 rows"), "{asked}");
            let line = running.until(" reference ");
            assert!(line.contains("devices 0 → 1: 6 rows"), "{line}");
        }
        sidecar.put(n);
        consumed += devices::batch(n).len();
        let mut landed = 0;
        while landed < devices::batch(n).len() {
            let line = running.until(" entry ");
            let rows = line.split(" rows").next().and_then(|line| line.split_whitespace().last()).expect("rows");
            landed += rows.parse::<usize>().unwrap_or_else(|_| panic!("{line}"));
        }
        // however many commits a batch came in: the sums are those of the scenario
        let (rows, _, counted) = sidecar.counted();
        assert_eq!((rows, counted), (enriched, sum), "b{n}, {consumed} consumed");
    }
    running.stop();
    let versions = sidecar.versions();
    assert!(versions.is_sorted() && versions.contains(&"0".to_owned()) && versions.contains(&"1".to_owned()));
    sidecar.project.sluice(&["reconcile"]).expect(0);
}

/// All batches; the run of each is first killed at one of `points` in turn, from `shift` on.
fn killed_at(sidecar: &Sidecar, points: &[String], shift: usize) {
    for n in 0..BATCHES {
        if n == 3 {
            sidecar.devices(&[ADDED]);
        }
        sidecar.put(n);
        let point = &points[(n + shift) % points.len()];
        let killed = sidecar.project.sluice_with(("SLUICE_CRASH_AT", point), &["run", "--until-end"]);
        assert_eq!(killed.code, None, "b{n}: {point} was never passed:\n{}{}", killed.stdout, killed.stderr);
        sidecar.project.sluice(&["run", "--until-end"]).expect(0);
        assert_eq!(sidecar.counted(), EXPECTED[n], "b{n} after {point}");
    }
    sidecar.check();
}

/// Every step of a commit, where it makes rows: what comes before is only the start.
fn points() -> Vec<String> {
    let points = sluice_host::crash::POINTS
        .iter()
        .filter(|point| point.starts_with("write/") || point.starts_with("append/") || point.starts_with("apply/"));
    let pass = |point: &str| match point.split('/').next() {
        // applied at the start, before reading, and for the entry
        Some("apply") => 3,
        // the file's start, and the rows
        Some("append") => 2,
        _ => 1,
    };
    points.map(|point| format!("{point}:{}", pass(point))).collect()
}

#[test]
fn killed_at_every_step_every_number_is_the_same() {
    let points = points();
    for shift in (0..points.len()).step_by(BATCHES) {
        killed_at(&Sidecar::files(), &points, shift);
    }
}

#[test]
fn killed_between_the_rows_and_their_statistics_both_are_there_once() {
    let sidecar = Sidecar::topic("");
    sidecar.put(0);
    sidecar.project.sluice(&["run", "--until-end"]).expect(0);
    sidecar.put(1);
    let killed = sidecar.project.sluice_with(("SLUICE_CRASH_AT", "apply/after-valid:3"), &["run", "--until-end"]);
    assert_eq!(killed.code, None, "{}{}", killed.stdout, killed.stderr);
    assert_eq!(sidecar.counted(), (70, 5, 10), "the rows are there, their statistics are not");
    sidecar.project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(sidecar.counted(), EXPECTED[1]);
}

#[test]
fn the_demo_compares_every_number() {
    let project = Project::new(&[]);
    for more in [vec![], vec!["--brokers".to_owned(), broker::shared().bootstrap()]] {
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let screen = project.sluice(&[&["demo", "device-sidecar", "--dir", "demo"], &more[..]].concat()).expect(0);
        assert!(screen.contains("reconciled: 92 consumed, no gap, no overlap"), "{screen}");
        assert!(screen.contains("b1 again") && !screen.contains("instead of"), "{screen}");
        let ledger = project.sluice(&["inspect", "ledger", "-c", "demo/sluice.toml"]).expect(0);
        assert!(ledger.contains("with devices 0") && ledger.contains("with devices 1"), "{ledger}");
    }
}

#[test]
fn the_pipeline_reads_standard_input_too() {
    let toml = TOML.lines().map(|line| if line.starts_with("files = ") { "stdin = true" } else { line });
    let sidecar = Sidecar::new(&toml.collect::<Vec<_>>().join("\n"), None);
    let mut child = sidecar.project.start(&["run", "--until-end"], Stdio::piped());
    {
        use std::io::Write;
        let mut input = child.stdin.take().expect("stdin is piped");
        devices::batch(1).iter().for_each(|visit| writeln!(input, "{}", visit.value).expect("the run reads"));
    }
    assert!(child.wait().expect("the run ends").success());
    assert_eq!(sidecar.counted(), (60, 5, 60));
}
