//! `sluice check`: every mistake of a pipeline at once, and nothing read or written.
//!
//! Walks the very code that `run` walks and stops before the first record. What it cannot know offline (whether brokers
//! answer, whether tables fit) it does not claim. A plugin is looked at in [`plugin`].

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::Verdict;
use super::text::plural;
use crate::config::{Config, EnrichConfig, JoinConfig, Judges, Mistake, Mistakes, SinkKind, SourceKind, Wasi, Window};
use crate::error::{Error, Result};

pub mod plugin;

/// Find every mistake of a pipeline at once, without reading or writing a record; or see whether a plugin keeps the contract
///
/// Of a plugin: its world, imports and size, columns that it does not need, and whether its verdicts depend on their row
/// alone: the same rows are judged in new and in used instances, together, apart and shuffled.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    /// The pipeline file, or the folder that it is in; or a component, a folder with one or with a plugin's source, or a script
    #[arg(value_name = "FILE", default_value = "sluice.toml")]
    pub(super) file: PathBuf,
    /// Print the mistakes as JSON: file, line, column, message, label, help
    #[arg(long)]
    json: bool,
    /// Of a plugin: records whose rows are judged, beside those of its cases
    #[arg(long, value_name = "FILE")]
    data: Option<String>,
    /// Of a plugin: its settings, as JSON; by default those of its cases
    #[arg(long, value_name = "JSON", value_parser = settings)]
    config: Option<serde_json::Value>,
    /// Of a finished component that imports WASI 0.2: serve it by stand-ins, as `wasi = "inert"` does in a pipeline
    #[arg(long, value_parser = ["inert"], value_name = "inert")]
    wasi: Option<String>,
}

impl CheckArgs {
    fn wasi(&self) -> Wasi {
        if self.wasi.is_some() { Wasi::Inert } else { Wasi::None }
    }
}

const EXAMPLES: &str = "\
Examples:
  sluice check
  sluice check pipelines/visits.toml
  sluice check plugins/consent --data visits.ndjson
  sluice check --json | jq -r '.mistakes[] | \"\\(.file):\\(.line): \\(.message)\"'

Exit codes: 0 no mistakes; 1 there are mistakes; 2 the file cannot be read";

/// A plugin's settings.
pub(super) fn settings(text: &str) -> Result<serde_json::Value, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("this is not JSON: {e}"))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err("settings are a JSON object, such as {\"allow\": [\"a\"]}".to_owned())
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'m> {
    ok: bool,
    mistakes: Vec<&'m Mistake>,
}

/// Runs the command. `further` looks at what judges (plans expressions, loads plugins) and pushes what is wrong there.
/// Mistakes go to standard error, as compilers do it; what a script reads goes to standard output.
pub fn run(args: &CheckArgs, further: &mut dyn FnMut(&Judges<'_>, &mut Mistakes)) -> Result<Verdict> {
    let inside = args.file.join("sluice.toml");
    let file = if args.file.is_dir() { &inside } else { &args.file };
    let checked = Config::load_with(file, &|name| std::env::var(name).ok(), further);
    let mistakes = match &checked {
        Ok(_) => &Mistakes::default(),
        Err(Error::Mistakes(mistakes)) => &**mistakes,
        Err(_) => return checked.map(|_| Verdict::Done),
    };
    let text = match &checked {
        _ if args.json => json(mistakes),
        Ok(config) => summary(file, config),
        Err(_) => {
            complain(mistakes);
            String::new()
        }
    };
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| Error::environment("cannot write to standard output", error))?;
    Ok(if mistakes.is_empty() { Verdict::Done } else { Verdict::No })
}

/// Shows mistakes on standard error, in colour on a terminal, and how many there are.
pub fn complain(mistakes: &Mistakes) {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    eprint!("{}", complaint(mistakes, colour));
}

fn complaint(mistakes: &Mistakes, colour: bool) -> String {
    let rendered: String = mistakes.rendered(colour).into_iter().map(|rendered| rendered + "\n\n").collect();
    let errors = if mistakes.len() == 1 { "1 error".to_owned() } else { format!("{} errors", mistakes.len()) };
    format!("{rendered}{errors}; nothing was read or written\n")
}

fn json(mistakes: &Mistakes) -> String {
    let report = Report { ok: mistakes.is_empty(), mistakes: mistakes.sorted() };
    serde_json::to_string_pretty(&report).expect("strings and numbers are JSON") + "\n"
}

/// What was understood, in a few lines.
fn summary(file: &Path, config: &Config) -> String {
    let names = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let source = match &config.source.kind {
        SourceKind::Kafka(kafka) => format!("kafka {} · group {}", kafka.topics.join(", "), kafka.group),
        SourceKind::Files(globs) => format!("files {}", globs.join(", ")),
        SourceKind::Stdin => "stdin".to_owned(),
    };
    let enrich = config.enrich.iter().map(|enricher| match enricher {
        EnrichConfig::Sql { name, .. } | EnrichConfig::Reference(JoinConfig { name, .. }) => &**name,
        EnrichConfig::Plugin(plugin) => &plugin.name,
    });
    let sink = |kind: &SinkKind| match kind {
        SinkKind::Delta(location) => format!("delta {}", location.written),
        SinkKind::Stdout => "stdout".to_owned(),
    };
    let columns = match config.schema.arrow.fields().len() {
        1 => "1 column".to_owned(),
        several => format!("{several} columns"),
    };
    let mut lines = vec![
        ("source", source),
        ("schema", columns),
        ("enrich", names(enrich.collect())),
        ("expect", names(config.expect.iter().map(|expectation| &*expectation.name).collect())),
        ("rules", names(config.rules.iter().map(|rule| &*rule.name).collect())),
    ];
    if let Some(audit) = &config.audit {
        let expect = audit.expect.iter().map(|expectation| &*expectation.name);
        let asked = names(expect.chain(audit.auditors.iter().map(|auditor| &*auditor.name)).collect());
        let window = match audit.window {
            Window::Time(length) => format!("{} of event time", humantime::format_duration(length)),
            Window::Rows(rows) => format!("{} of a partition", plural(rows, "offset")),
            Window::File => "a file".to_owned(),
        };
        lines.push(("audit", format!("{window}: {asked}")));
    }
    for (outcome, config) in config.sinks.each() {
        lines.push((outcome.as_str(), sink(&config.kind)));
    }
    let references = config.references.iter().map(|r| format!("{} {}", r.name, r.place.written()));
    lines.extend(references.map(|reference| ("with", reference)));
    let derived = config.derives.iter().map(|d| format!("{} of {}, delta {}", d.name, d.from, d.location.written));
    lines.extend(derived.map(|derived| ("derive", derived)));
    let lines: String = lines.into_iter().map(|(name, what)| format!("  {name:<8} {what}\n")).collect();
    format!("{} · {} has no mistakes\n{lines}", config.name, file.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn checked(toml: &str) -> (Result<Config>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sluice.toml");
        std::fs::write(&file, toml).unwrap();
        std::fs::write(folder.path().join("visits.sql"), "CREATE TABLE visits (user_id STRING NOT NULL)").unwrap();
        (Config::load_with(&file, &|_| None, &mut |_, _| ()), folder)
    }

    const RIGHT: &str = r#"
name = "visits"
state = "lake/_sluice/visits"
source.files = ["in/*.ndjson"]
schema.file = "visits.sql"
sink.valid.delta = "lake/visits"
sink.error.delta = "lake/visits_errors"
sink.dlq.stdout = true
"#;

    #[test]
    fn what_was_understood_is_summed_up() {
        let (config, _folder) = checked(RIGHT);
        expect![[r#"
            visits · sluice.toml has no mistakes
              source   files in/*.ndjson
              schema   1 column
              enrich   none
              expect   not-null-user_id
              rules    none
              valid    delta lake/visits
              error    delta lake/visits_errors
              dlq      stdout
        "#]]
        .assert_eq(&summary(Path::new("sluice.toml"), &config.unwrap()));
    }

    #[test]
    fn windows_are_among_it() {
        let audited = "sink.staging.delta = \"lake/staging\"\n[audit]\nwindow = \"1000 rows\"\nexpect.volume = \"count(*) > 1\"\n";
        let (config, _folder) = checked(&format!("{RIGHT}{audited}"));
        let said = summary(Path::new("sluice.toml"), &config.unwrap());
        assert!(said.contains("  audit    1,000 offsets of a partition: volume\n"), "{said}");
        assert!(said.contains("  staging  delta lake/staging\n"), "{said}");
    }

    #[test]
    fn mistakes_are_counted_and_given_to_scripts() {
        let (config, folder) = checked(&RIGHT.replace("sink.dlq.stdout", "max_recrod"));
        let Err(Error::Mistakes(mistakes)) = config else { panic!("no mistakes") };
        let relative = |text: String| text.replace(&format!("{}/", folder.path().display()), "");
        expect![[r#"
            error: `sink.dlq` is missing
             --> sluice.toml:6:1
              |
            6 | sink.valid.delta = "lake/visits"
              | ^^^^
              |
              = help: records that nobody can judge go there; nothing is ever dropped

            error: unknown key `max_recrod`
             --> sluice.toml:8:1
              |
            8 | max_recrod = true
              | ^^^^^^^^^^
              |
              = help: known here: `admin`, `audit`, `auditor`, `commit`, `derive`, `enrich`, `expect`, `kafka`, `limits`, `mask`, `metrics`, `name`, `reference`, `rule`, `schema`, `shadow`, `sink`, `source`, `state` and `upkeep`

            2 errors; nothing was read or written
        "#]].assert_eq(&relative(complaint(&mistakes, false)));
        expect![[r#"
            {
              "ok": false,
              "mistakes": [
                {
                  "file": "sluice.toml",
                  "line": 6,
                  "column": 1,
                  "message": "`sink.dlq` is missing",
                  "help": "records that nobody can judge go there; nothing is ever dropped"
                },
                {
                  "file": "sluice.toml",
                  "line": 8,
                  "column": 1,
                  "message": "unknown key `max_recrod`",
                  "help": "known here: `admin`, `audit`, `auditor`, `commit`, `derive`, `enrich`, `expect`, `kafka`, `limits`, `mask`, `metrics`, `name`, `reference`, `rule`, `schema`, `shadow`, `sink`, `source`, `state` and `upkeep`"
                }
              ]
            }
        "#]].assert_eq(&relative(json(&mistakes)));
        assert!(complaint(&mistakes, true).contains("\u{1b}["));
    }
}
