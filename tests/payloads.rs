//! Hostile payloads, from `payloads/cases.toml`: read from a file and from a real topic, each between two good records.
//!
//! Every one ends where its case says, with the bytes that it had; nothing around it suffers. The README's table names
//! exactly the reasons that the cases show.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use sluice_host::source::kafka::produce::Producer;

use crate::broker;
use crate::peer;
use crate::project::Project;

/// What the payloads are decoded to.
const SCHEMA: &str = "CREATE TABLE odd (
  id BIGINT, small TINYINT, count INT, big BIGINT, ratio DOUBLE, price DECIMAL(6, 2), flag BOOLEAN, day DATE,
  at TIMESTAMP, text STRING, blob BINARY, user STRUCT<name: STRING, age: INT>, tags ARRAY<STRING>, sizes MAP<STRING, INT>
)";

/// Bytes that are kept of a line beyond 4 MiB.
const KEPT: usize = (1 << 20) + 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

/// One payload and where it ends; what the fields mean stands at the head of the data.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    payload: Option<String>,
    hex: Option<String>,
    #[serde(default)]
    parts: Vec<Part>,
    #[serde(default)]
    null: bool,
    row: Option<Map<String, Value>>,
    dead: Option<String>,
    detail: Option<String>,
    #[serde(default)]
    skipped: bool,
    #[serde(default)]
    source: String,
    only: Option<String>,
    #[serde(default)]
    joined: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    text: String,
    times: usize,
}

impl Case {
    fn bytes(&self) -> Option<Vec<u8>> {
        let hex = |hex: &String| -> Vec<u8> {
            let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
            digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
        };
        let given = [self.payload.is_some(), self.hex.is_some(), !self.parts.is_empty(), self.null];
        assert_eq!(given.iter().filter(|given| **given).count(), 1, "{}: one payload", self.name);
        let ends = [self.row.is_some(), self.dead.is_some(), self.skipped];
        assert_eq!(ends.iter().filter(|end| **end).count(), 1, "{}: one end", self.name);
        match (&self.payload, &self.hex) {
            _ if self.null => None,
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(digits)) => Some(hex(digits)),
            (None, None) => Some(self.parts.iter().map(|part| part.text.repeat(part.times)).collect::<String>().into()),
        }
    }
}

fn cases() -> Vec<Case> {
    toml::from_str::<Cases>(include_str!("payloads/cases.toml")).unwrap_or_else(|e| panic!("{e}")).case
}

/// Cases that one pipeline reads, in order.
fn groups<'a>(cases: &'a [Case], only: &str) -> BTreeMap<String, Vec<&'a Case>> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for case in cases.iter().filter(|case| case.only.as_deref().is_none_or(|o| o == only)) {
        groups.entry(case.source.clone()).or_default().push(case);
    }
    groups
}

/// The records of a group: good ones, whose `id` counts from 0, and the cases between them.
fn records<'a>(cases: &[&'a Case]) -> Vec<(Option<Vec<u8>>, Option<&'a Case>)> {
    let mut records = Vec::new();
    let mut id = 0..;
    let mut good = || (Some(format!("{{\"id\":{}}}", id.next().unwrap()).into_bytes()), None);
    records.push(good());
    for case in cases {
        records.push((case.bytes(), Some(*case)));
        if !case.joined {
            records.push(good());
        }
    }
    records
}

fn project(source: &str, kafka: &str) -> Project {
    let toml = format!(
        "name = \"odd\"\nstate = \"lake/_sluice/odd\"\n{kafka}\n[source]\n{source}\n[schema]\nfile = \"odd.sql\"\n\
         [sink]\nvalid = {{ delta = \"lake/visits\" }}\nerror = {{ delta = \"lake/visits_errors\" }}\n\
         dlq = {{ delta = \"lake/visits_dlq\" }}\n"
    );
    Project::new(&[("sluice.toml", &toml), ("odd.sql", SCHEMA)])
}

/// Runs, and compares the tables with what the records should have become. The first record has the offset `first`;
/// `kept` says what is stored of a dead payload.
fn check(project: &Project, records: &[(Option<Vec<u8>>, Option<&Case>)], first: i64, kept: impl Fn(&[u8]) -> usize) {
    let screen = project.sluice(&["run", "--until-end"]).expect(0);
    let count = |of: &dyn Fn(&Case) -> bool| records.iter().filter(|(_, case)| case.is_some_and(of)).count();
    let (dead, skipped) = (count(&|case| case.dead.is_some()), count(&|case| case.skipped));
    let said = format!(
        "{} consumed = {} valid + 0 error + {dead} dlq + {skipped} skipped",
        records.len(),
        records.len() - dead - skipped
    );
    assert!(screen.contains(&said), "{said}\n{screen}");
    project.sluice(&["reconcile"]).expect(0);

    let good = records.iter().filter(|(_, case)| case.is_none()).count();
    let ids = peer::sql("SELECT id FROM valid WHERE id IS NOT NULL ORDER BY id", &project.tables());
    let ids: Vec<_> = ids.as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (0..good as u64).collect::<Vec<_>>(), "the good records");

    let mut wrong = Vec::new();
    let sql = "SELECT _offset, stage, reason, detail, encode(sha256(_value), 'hex') AS value FROM dlq";
    let letters = by_offset(&peer::sql(sql, &project.tables()));
    let columns = records.iter().filter_map(|(_, case)| case.as_ref()?.row.as_ref()).flat_map(Map::keys);
    let columns: BTreeSet<_> = columns.map(|column| format!(", {column} AS \"{column}\"")).collect();
    let columns: String = columns.into_iter().collect();
    let rows =
        by_offset(&peer::sql(&format!("SELECT _offset{columns} FROM valid WHERE id IS NULL"), &project.tables()));
    for ((payload, case), offset) in records.iter().zip(first..) {
        let Some(case) = case else { continue };
        let (letter, row) = (letters.get(&offset), rows.get(&offset));
        let expected = case.dead.as_ref().map(|reason| {
            let value = payload.as_deref().map(|bytes| Sha256::digest(&bytes[..kept(bytes)]));
            let value = value.map(|digest| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
            serde_json::json!({ "_offset": offset, "stage": "decode", "reason": reason, "detail": case.detail, "value": value })
        });
        if letter != expected.as_ref() {
            wrong.push(format!("{}: {letter:?}, not {expected:?}", case.name));
        }
        let is_as_said = |row: &Value, expected: &Map<String, Value>| {
            expected
                .iter()
                .all(|(column, value)| if value == "null" { row[column].is_null() } else { &row[column] == value })
        };
        match (row, &case.row) {
            (Some(row), Some(expected)) if is_as_said(row, expected) => {}
            (None, None) => {}
            (row, expected) => wrong.push(format!("{}: {row:?}, not {expected:?}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn by_offset(rows: &Value) -> BTreeMap<i64, Value> {
    let rows = rows.as_array().expect("a list of rows");
    let found: BTreeMap<_, _> = rows.iter().map(|row| (row["_offset"].as_i64().unwrap(), row.clone())).collect();
    assert_eq!(found.len(), rows.len(), "an offset stands twice");
    found
}

#[test]
fn payloads_of_a_file_end_where_their_cases_say() {
    let cases = cases();
    for (source, group) in groups(&cases, "files") {
        let project = project(&format!("files = [\"odd.ndjson\"]\n{source}"), "");
        let records = records(&group);
        let lines: Vec<&[u8]> =
            records.iter().map(|(payload, _)| payload.as_deref().expect("a line has bytes")).collect();
        project.write("odd.ndjson", [&lines.join(&b'\n')[..], b"\n"].concat());
        // a line that is not kept whole is longer than a block
        check(&project, &records, 1, |bytes| if bytes.len() > 4 << 20 { KEPT } else { bytes.len() });
    }
}

#[tokio::test]
async fn payloads_of_a_topic_end_where_their_cases_say() {
    let cases = cases();
    let brokers = broker::shared().bootstrap();
    for (source, group) in groups(&cases, "kafka") {
        let topic = broker::topic("odd");
        let mut client = ClientConfig::new();
        let admin: AdminClient<DefaultClientContext> = client.set("bootstrap.servers", &brokers).create().unwrap();
        let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "30000000");
        admin.create_topics([&new], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();

        let records = records(&group);
        let settings = [("bootstrap.servers", &*brokers), ("message.max.bytes", "30000000")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let (written, sent) = (topic.clone(), records.iter().map(|(payload, _)| payload.clone()).collect::<Vec<_>>());
        let produce = move || {
            let mut producer = Producer::new(&settings).unwrap();
            producer.create_topic(&written, 1).unwrap();
            for payload in &sent {
                producer.send(None, payload.as_deref(), 0, None).unwrap();
            }
            assert_eq!(producer.finish().unwrap(), sent.len() as u64);
        };
        tokio::task::spawn_blocking(produce).await.unwrap();
        let project =
            project(&format!("kafka = [\"{topic}\"]\n{source}"), &format!("[kafka]\nbrokers = \"{brokers}\""));
        check(&project, &records, 0, <[u8]>::len);
    }
}

#[test]
fn the_readme_names_the_reasons_that_the_cases_show() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let section = readme.split("## Payloads, odd ones too").nth(1).expect("the README's section");
    let table = section.split("\n\n").find(|part| part.starts_with('|')).expect("its table");
    let reason = |line: &'_ str| line.trim_matches('|').rsplit('|').next().map(|cell| cell.trim().replace('`', ""));
    let told: BTreeSet<_> = table.lines().skip(2).filter_map(reason).filter(|reason| !reason.is_empty()).collect();
    let cases = cases();
    let shown: BTreeSet<_> = cases.iter().filter_map(|case| case.dead.clone()).collect();
    assert_eq!(told, shown);
}
