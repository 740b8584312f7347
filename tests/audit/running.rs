//! Windows while a pipeline runs: a real broker, partitions that fall silent, records that come too late.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;
use sluice_host::source::kafka::produce::Producer;

use super::{counted, pipeline, reasons, reconciled};
use crate::broker;
use crate::project::{Project, VISITS_SQL};
use crate::reload::Running;

/// Records of a batch, as sources make them.
const BATCH: usize = 8192;

/// A visit, so many minutes ago.
fn visit(id: &str, ago: i64) -> (String, i64) {
    let time = chrono::Utc::now() - chrono::TimeDelta::minutes(ago);
    let row = serde_json::json!({"visit_id": id, "event_time": time.to_rfc3339(), "user_id": "u", "page": "index"});
    (row.to_string(), time.timestamp_millis())
}

#[test]
fn a_silent_partition_holds_nothing_back_for_ever_and_what_comes_after_the_decision_is_late() {
    let (brokers, topic) = (broker::shared().bootstrap(), broker::topic("windows"));
    let properties = BTreeMap::from([("bootstrap.servers".to_owned(), brokers.clone())]);
    let send = |partition, visits: &[(String, i64)]| {
        let mut producer = Producer::new(&properties).expect("a producer");
        producer.create_topic(&topic, 2).expect("it is there, or can be made");
        for (value, time) in visits {
            producer.send(None, Some(value.as_bytes()), partition, Some(*time)).expect("it is sent");
        }
        producer.finish().expect("it is there");
    };
    // the second partition has nothing to say, ever
    send(0, &[visit("a", 90), visit("b", 89), visit("c", 2)]);
    let audit = "window = \"10m\"\nlateness = \"1m\"\nidle = \"2s\"";
    let toml = pipeline(&format!("kafka = [\"{topic}\"]"), audit);
    let toml = toml
        .replace("[source]", &format!("[kafka]\nbrokers = \"{brokers}\"\n\n[commit]\nevery = \"200ms\"\n\n[source]"));
    // a group of its own
    let toml = toml.replace("name  = \"visits\"", &format!("name = \"{topic}\""));
    let project = Project::new(&[("sluice.toml", &toml), ("visits.sql", VISITS_SQL)]);
    let mut running = project.start(&["run", "--json"], Stdio::null());
    let lines = BufReader::new(running.stdout.take().expect("it is piped")).lines();
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.expect("a line")).expect("it is JSON"));
    let mut rows = 0;
    while rows < 3 {
        let line = lines.next().expect("it runs until every window is decided");
        rows += line["decision"]["rows"].as_u64().unwrap_or(0);
    }
    send(1, &[visit("d", 88), visit("e", -15)]);
    let mut late = 0;
    while late == 0 {
        let line = lines.next().expect("it runs until the late one is there");
        late = line["counts"]["findings"]["audit/late"].as_u64().unwrap_or(0);
    }
    let pid = libc::pid_t::try_from(running.id()).expect("a process id");
    // SAFETY: a signal to a child that was not waited for
    unsafe { libc::kill(pid, libc::SIGINT) };
    assert!(lines.last().is_some_and(|end| end["head"].is_u64()));
    assert!(running.wait().expect("it ends").success());
    project.sluice(&["run", "--until-end", "--close-windows"]).expect(0);
    assert_eq!(counted(&project), [4, 1, 0, 4]);
    assert_eq!(reasons(&project), BTreeMap::from([("late".to_owned(), 1)]));
    reconciled(&project);
}

#[test]
fn an_entry_that_is_open_for_long_holds_back_no_window_that_it_has_no_rows_of() {
    let audit = "window = \"10m\"\nlateness = \"1m\"";
    let toml = pipeline("stdin = true", audit) + "\n[commit]\nrows = 1000\nevery = \"1h\"\n";
    let project = Project::new(&[("sluice.toml", &toml), ("visits.sql", VISITS_SQL)]);
    let mut running = Running::of(&project);
    // three batches that are an entry each, and a small one: its entry is open when the last of those closes the window
    let rows =
        |n: usize, minute| (0..n).map(|i| super::visit(&format!("{minute}-{i}"), minute, "u")).collect::<String>();
    running.put(&[rows(2 * BATCH, 0), rows(BATCH, 15), rows(50, 16)].concat());
    running.until("publish  valid 16,384");
    running.end();
    assert_eq!(counted(&project)[..3], [2 * BATCH as u64, 0, 0]);
    project.sluice(&["run", "--until-end", "--close-windows"]).expect(0);
    assert_eq!(counted(&project)[..3], [3 * BATCH as u64 + 50, 0, 0]);
    reconciled(&project);
}
