//! Seeded visits, in memory and in files, and the pipelines that read them.

use std::path::{Path, PathBuf};
use std::process::Command;

use sluice_host::component;
use sluice_host::config::Config;
use sluice_host::generate::{Damage, Kind, Share, Spec, Visits};
use sluice_host::record::{Range, RawBatch, RawRecord, Span, TopicPartition};
use sluice_host::schema::Schema;

/// The columns of a visit, the example's own.
pub const SCHEMA: &str = include_str!("../../src/cli/demo/visits.sql");

/// Records of a batch, as sources make them.
pub const BATCH: usize = 8192;

/// Visits in memory, with these shares of damaged records and of payloads that are not JSON.
pub fn payloads(records: u64, damaged: Share, not_json: Share) -> Vec<Vec<u8>> {
    let spec = Spec { records, damage: Damage::Records(damaged, Kind::demo()), not_json, ..Spec::default() };
    let mut visits = Visits::new(spec).expect("a good spec");
    let mut payloads = Vec::with_capacity(records as usize);
    while let Some(visit) = visits.next() {
        payloads.push(visit.value.to_vec());
    }
    payloads
}

/// Payloads as a source hands them over, `size` of them in a batch.
pub fn batches(payloads: &[Vec<u8>], size: usize) -> Vec<RawBatch> {
    let partition = TopicPartition::new("visits", 0);
    let mut from = 0;
    let batch = |chunk: &[Vec<u8>]| {
        let mut start = 0;
        let records = chunk.iter().enumerate().map(|(i, payload)| {
            let value = Span { start, len: payload.len() as u32 };
            start += value.len;
            RawRecord {
                range: 0,
                offset: from + i as i64,
                timestamp: None,
                key: Span::NULL,
                value,
                headers: None,
                truncated_from: None,
            }
        });
        let records: Vec<_> = records.collect();
        let to = from + chunk.len() as i64;
        let ranges = vec![Range { partition: partition.clone(), from, to }];
        from = to;
        RawBatch { ranges, records, data: chunk.concat().into(), headers: Vec::new() }
    };
    payloads.chunks(size).map(batch).collect()
}

/// What a pipeline does to each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// nothing: every record that decodes is valid
    None,
    /// three: one in SQL, a ready-made component, a user's component
    Three,
    /// what the peers can say too: two in SQL
    Sql,
}

impl Rules {
    fn sections(self) -> &'static str {
        match self {
            Rules::None => "",
            Rules::Three => {
                "[expect]\nhas-user = \"user_id IS NOT NULL\"\n\n[rule.timely]\nbuiltin = \"timely\"\n\
                 config  = { max_late = \"7d\", max_ahead = \"5m\" }\n\n[rule.consent]\nwasm = \"consent.wasm\"\n"
            }
            Rules::Sql => {
                "[expect]\nhas-user = \"user_id IS NOT NULL\"\n\
                 login-exposed = \"NOT keep_private OR context.user.login IS NULL\"\n"
            }
        }
    }
}

/// A folder with a pipeline, and nothing in its tables yet; gone when dropped.
pub struct Pipeline {
    folder: tempfile::TempDir,
}

impl Pipeline {
    /// Over `source`, the text of its `[source]` section and of those before it.
    pub fn new(home: &Path, rules: Rules, source: &str) -> Pipeline {
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(home).expect("a folder");
        let text = format!(
            "name  = \"visits\"\nstate = \"lake/_sluice/visits\"\n\n{source}\n[schema]\nfile = \"visits.sql\"\n\
             event_time = \"event_time\"\n\n{}\n[sink]\nvalid = {{ delta = \"lake/visits\" }}\n\
             error = {{ delta = \"lake/visits_errors\" }}\ndlq   = {{ delta = \"lake/visits_dlq\" }}\n",
            rules.sections()
        );
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("a file");
        write("sluice.toml", text.as_bytes());
        write("visits.sql", SCHEMA.as_bytes());
        write("consent.wasm", &component::demo_rule().expect("the embedded rule"));
        Pipeline { folder }
    }

    /// Over a file in `home`. A link to it would touch it, and what was touched a moment ago is digested twice.
    pub fn of_file(home: &Path, rules: Rules, file: &Path) -> Pipeline {
        let name = file.file_name().expect("a file has a name").display();
        Pipeline::new(home, rules, &format!("[source]\nfiles = [\"../{name}\"]\n"))
    }

    /// Over a topic.
    pub fn of_topic(home: &Path, rules: Rules, brokers: &str, topic: &str) -> Pipeline {
        let source = format!("[kafka]\nbrokers = {brokers:?}\n\n[source]\nkafka = [{topic:?}]\n");
        Pipeline::new(home, rules, &source)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// This binary as `sluice`.
pub fn sluice() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the binary has a path"));
    command.arg(crate::SLUICE);
    command
}

/// A file of visits, with these shares of damaged ones and of payloads that are not JSON.
pub fn file(home: &Path, records: u64, damage: &str, not_json: &str) -> PathBuf {
    file_from(home, records, damage, not_json, "2026-11-01T00:00:00Z")
}

/// The same, the first of them at this time.
pub fn file_from(home: &Path, records: u64, damage: &str, not_json: &str, start: &str) -> PathBuf {
    let path = home.join(format!("visits-{}-{}.ndjson", damage.trim_end_matches('%'), not_json.trim_end_matches('%')));
    let mut command = sluice();
    command.args(["generate", "visits", "--records", &records.to_string(), "--damage", damage, "--start", start]);
    generate(command.args(["--not-json", not_json, "--out"]).arg(&path));
    path
}

/// Fills a topic of four partitions.
pub fn topic(brokers: &str, name: &str, records: u64) {
    let mut command = sluice();
    command.args(["generate", "visits", "--records", &records.to_string(), "--partitions", "4"]);
    generate(command.args(["--topic", name, "--brokers", brokers]));
}

fn generate(command: &mut Command) {
    let output = command.output().expect("this binary starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The declared schema.
pub fn schema() -> Schema {
    let folder = tempfile::tempdir().expect("a folder");
    let pipeline = Pipeline::new(folder.path(), Rules::None, "[source]\nstdin = true\n");
    let config = Config::load(&pipeline.folder().join("sluice.toml")).unwrap_or_else(|error| panic!("{error}"));
    Schema::clone(&config.schema)
}
