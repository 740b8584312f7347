//! On a real Kafka: keys and headers come back with dead letters, and a topic is compared from anywhere in it.

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};

use super::{edit, json_lines, latest, reconciled, replay};
use crate::broker;
use crate::kafka::live::{self, PATIENCE};
use crate::project::Project;

fn project(topic: &str) -> Project {
    let brokers = broker::shared().bootstrap();
    let toml = format!(
        r#"name  = "t"
state = "lake/_sluice/t"
[kafka]
brokers = "{brokers}"
[source]
kafka = ["{topic}"]
group = "{topic}"
unknown_fields = "reject"
[schema]
file = "t.sql"
[expect]
small = "id < 10"
keyed = "_key IS NOT NULL"
[commit]
every = "200ms"
[sink]
valid = {{ delta = "lake/visits" }}
error = {{ delta = "lake/visits_errors" }}
dlq   = {{ delta = "lake/visits_dlq" }}
"#
    );
    Project::new(&[("sluice.toml", &toml), ("t.sql", "CREATE TABLE t (id BIGINT)")])
}

fn put(topic: &str, values: impl Iterator<Item = String>) {
    let producer: BaseProducer = live::client().create().unwrap();
    for (n, value) in values.enumerate() {
        let headers = OwnedHeaders::new().insert(Header { key: "n", value: Some(&n.to_string()) });
        let record = BaseRecord::to(topic).partition((n % 2) as i32).key("k").payload(&value).headers(headers);
        producer.send(record).unwrap_or_else(|(e, _)| panic!("{e}"));
    }
    producer.flush(PATIENCE).unwrap();
}

#[test]
fn a_topic_is_replayed_from_its_tables_and_compared_from_its_log() {
    let topic = broker::topic("replayed");
    live::create(&topic, 2, &[]);
    let project = project(&topic);
    let line = |n: i64| if n < 4 { format!("{{\"id\": {n}, \"more\": 1}}") } else { format!("{{\"id\": {n}}}") };
    put(&topic, (0..20).map(line));
    project.sluice(&["run", "--until-end"]).expect(0);

    // the log is read in a group of its own, from the beginning or from where one says
    project.write("next.toml", project.read("sluice.toml").replace("id < 10", "id < 12"));
    let diff = |arguments: &[&str]| -> Value {
        let all = [&["diff", "--with", "next.toml", "--on", "topic", "--json"], arguments].concat();
        json_lines(&project.sluice(&all).expect(1)).pop().unwrap()["summary"].clone()
    };
    let summary = diff(&[]);
    assert_eq!((&summary["records"], &summary["flipped_records"]), (&20.into(), &2.into()), "{summary}");
    let from = format!("{topic}/1/5");
    let summary = diff(&["--from", &from]);
    assert_eq!((&summary["records"], &summary["flipped_records"]), (&5.into(), &1.into()), "{summary}");
    assert_eq!(live::committed(&topic, &topic, 2), [Some(10), Some(10)]);

    // keys are not stored beside columns: whoever reads them cannot be asked about rows of error, but about dead letters
    edit(&project, "sluice.toml", "unknown_fields = \"reject\"\n", "");
    let headed = "headed = \"_headers[1]['key'] = 'n'\"";
    edit(&project, "sluice.toml", "keyed = \"_key IS NOT NULL\"", &format!("keyed = \"_key IS NOT NULL\"\n{headed}"));
    let replayed = replay(&project, &["dlq"]);
    assert_eq!(replayed["sent"]["outcomes"], json!({ "valid": 4, "error": 0, "dlq": 0 }), "{replayed}");
    edit(&project, "sluice.toml", "id < 10", "id < 12");
    let replayed = replay(&project, &["error"]);
    assert_eq!(replayed["needs"], json!({ "keyed": ["_key"], "headed": ["_headers"] }), "{replayed}");
    assert_eq!((&replayed["unasked"], &replayed["entry"]), (&10.into(), &Value::Null));
    edit(&project, "sluice.toml", &format!("keyed = \"_key IS NOT NULL\"\n{headed}"), "");
    assert_eq!(replay(&project, &["error"])["sent"]["outcomes"], json!({ "valid": 2, "error": 0, "dlq": 0 }));
    reconciled(&project);
    let story = project.sluice(&["explain", &format!("{topic}/0/0")]).expect(0);
    assert!(story.contains("attempt 0, superseded") && story.contains("attempt 1\n"), "{story}");
}

#[test]
fn a_replay_beside_a_running_pipeline_is_one_entry_among_others() {
    let topic = broker::topic("replayed");
    live::create(&topic, 2, &[]);
    let project = project(&topic);
    edit(&project, "sluice.toml", "keyed = \"_key IS NOT NULL\"\n", "");
    put(&topic, (0..20).map(|n| format!("{{\"id\": {n}}}")));
    project.sluice(&["run", "--until-end"]).expect(0);
    edit(&project, "sluice.toml", "id < 10", "id < 15");
    let mut running = live::Live::start(&project);
    let few = || put(&topic, (0..10).map(|n| format!("{{\"id\": {n}}}")));
    few();
    running.until_consumed(10);
    assert_eq!(replay(&project, &["error"])["sent"]["rows"], 5);
    few();
    running.until_consumed(20);
    running.stop();
    assert_eq!(latest(&project), json!({ "valid": 35, "error": 5, "dlq": 0, "rows": 45, "doubled": 0 }));
    assert_eq!(replay(&project, &["error"])["sent"]["rows"], 0);
    reconciled(&project);
}
