//! The pipeline file: what is right in it is understood, what is wrong is shown, all of it, in its place.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use expect_test::{Expect, expect};
use sluice_host::config::{
    CommitConfig, Config, Limits, Location, MaxFailures, Mistakes, OnFailure, SinkKind, SourceKind, StartPoint,
    UnknownFields, defaults,
};
use sluice_host::error::Error;

mod blocks;
mod mistakes;
mod values;

/// The schema that the blocks of the reference use.
const VISITS: &str = "\
-- types are the shape (misfit → dlq); NOT NULL and CHECK become expectations (→ error)
CREATE TABLE visits (
  visit_id STRING, event_time TIMESTAMP, user_id STRING, keep_private BOOLEAN, page STRING,
  context STRUCT<referral: STRING, ad_id: STRING,
    user: STRUCT<ip: STRING, login: STRING, connected_since: TIMESTAMP>,
    technical: STRUCT<browser: STRING, browser_version: STRING, network_type: STRING, device_type: STRING, device_version: STRING>>
)
";

/// A pipeline without mistakes, to be broken.
const RIGHT: &str = r#"name = "visits"
state = "lake/_sluice/visits"
[source]
files = ["in/*.ndjson"]
[schema]
file = "visits.sql"
[sink]
valid = { delta = "lake/visits" }
error = { delta = "lake/visits_errors" }
dlq = { delta = "lake/visits_dlq" }
"#;

/// A folder with these files; paths in messages are shown relative to it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(toml: &str, schema: &str) -> Folder {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sluice.toml"), toml).unwrap();
        std::fs::write(folder.path().join("visits.sql"), schema).unwrap();
        std::fs::write(folder.path().join("kafka-password"), "hunter2\n").unwrap();
        Folder(folder)
    }

    fn load(&self) -> Result<Config, Mistakes> {
        let variables = BTreeMap::from([
            ("LAKE", "/data/lake"),
            ("KAFKA_BROKERS", "one:9092,two:9092"),
            ("KAFKA_USER", "mlind"),
            ("SECRET", "hunter2"),
        ]);
        let variable = |name: &str| variables.get(name).map(|value| value.to_string());
        match Config::load_with(&self.path(), &variable, &mut |_, _| ()) {
            Ok(config) => Ok(config),
            Err(Error::Mistakes(mistakes)) => Err(*mistakes),
            Err(other) => panic!("{other}"),
        }
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("sluice.toml")
    }

    fn shown(&self, mistakes: &Mistakes) -> String {
        mistakes.to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// The mistakes of a pipeline file, as they are shown.
fn check(toml: &str, expected: Expect) {
    check_with(toml, VISITS, expected);
}

fn check_with(toml: &str, schema: &str, expected: Expect) {
    let folder = Folder::new(toml, schema);
    let mistakes = folder.load().expect_err("the file has mistakes");
    let shown = folder.shown(&mistakes);
    assert!(!shown.contains("hunter2"), "a secret is shown:\n{shown}");
    expected.assert_eq(&shown);
}

/// The messages alone, each with its line.
fn messages(toml: &str) -> Vec<String> {
    match Folder::new(toml, VISITS).load() {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.sorted().iter().map(|m| format!("{}: {}", m.line, m.message)).collect(),
    }
}
