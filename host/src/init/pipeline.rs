//! The pipeline file: source, schema, expectations with their evidence, and three tables beside it.

use std::collections::BTreeMap;

use super::{Described, Draft};
use crate::cli::text::thousands;
use crate::config::{defaults, is_secret};

/// Where the records come from, as the pipeline file says it.
#[derive(Clone, Debug)]
pub enum From {
    /// paths or globs, relative to the pipeline file
    Files(Vec<String>),
    /// a topic, and what librdkafka is told
    Topic(String, BTreeMap<String, String>),
}

/// The pipeline file's text.
pub fn write(name: &str, header: &str, from: &From, schema: &str, described: &Described, draft: &Draft) -> String {
    let mut lines = Lines::default();
    for line in header.lines() {
        lines.comment(line);
    }
    lines.key("name ", &quote(name), "identity in the ledger");
    lines.key("state", &quote(&format!("lake/_sluice/{name}")), "ledger and generations");
    if let From::Topic(_, properties) = from {
        kafka(&mut lines, properties);
    }
    lines.section("source");
    match from {
        From::Files(files) => {
            let files: Vec<String> = files.iter().map(|file| quote(file)).collect();
            lines.key("files", &format!("[{}]", files.join(", ")), "one record per line");
        }
        From::Topic(topic, _) => lines.key("kafka", &format!("[{}]", quote(topic)), ""),
    }
    if described.tombstones > 0 {
        let evidence =
            format!("{} records have no value: counted as skipped, stored nowhere", thousands(described.tombstones));
        lines.key("skip", &quote("_value IS NULL"), &evidence);
    }
    if described.longest > defaults::MAX_RECORD {
        let mib = (described.longest >> 20) + 1;
        let evidence = format!("the longest record has {} bytes", thousands(described.longest as u64));
        lines.key("max_record", &quote(&format!("{}MiB", mib.next_power_of_two())), &evidence);
    }
    for (reason, n) in &described.unusable {
        let verb = if *n == 1 { "record was" } else { "records were" };
        lines.comment(&format!("{} {verb} {reason}: a dead letter, whatever the schema", thousands(*n)));
    }
    lines.section("schema");
    match &draft.event_time {
        Some((path, evidence)) => {
            lines.key("file      ", &quote(schema), "the shape: what does not fit is a dead letter");
            lines.key("event_time", &quote(path), evidence);
        }
        None => lines.key("file", &quote(schema), "the shape: what does not fit is a dead letter"),
    }
    expect(&mut lines, draft);
    lines.section("sink");
    for (sink, table) in
        [("valid", name.to_owned()), ("error", format!("{name}_errors")), ("dlq  ", format!("{name}_dlq"))]
    {
        lines.key(sink, &format!("{{ delta = {} }}", quote(&format!("lake/{table}"))), "");
    }
    lines.end()
}

fn kafka(lines: &mut Lines, properties: &BTreeMap<String, String>) {
    /// keys of `[kafka]`, and what librdkafka calls them
    const KEYS: [(&str, &str); 9] = [
        ("brokers", "bootstrap.servers"),
        ("security", "security.protocol"),
        ("mechanism", "sasl.mechanism"),
        ("username", "sasl.username"),
        ("password", "sasl.password"),
        ("ca", "ssl.ca.location"),
        ("certificate", "ssl.certificate.location"),
        ("key", "ssl.key.location"),
        ("key_password", "ssl.key.password"),
    ];
    let value = |key: &str, property: &str, value: &str| match is_secret(key) || is_secret(property) {
        // never written down: the pipeline file refuses it, and so would any reader of it
        true => (quote(&format!("${{KAFKA_{}}}", variable(key))), "set this variable: secrets are not written down"),
        false => (quote(value), ""),
    };
    lines.section("kafka");
    for (key, property) in KEYS {
        if let Some(given) = properties.get(property) {
            let (text, why) = value(key, property, given);
            lines.key(key, &text, why);
        }
    }
    let further: Vec<_> = properties.iter().filter(|(p, _)| !KEYS.iter().any(|(_, known)| known == p)).collect();
    if !further.is_empty() {
        lines.section("kafka.properties");
        for (property, given) in further {
            let (text, why) = value(property, property, given);
            lines.key(&quote(property), &text, why);
        }
    }
}

fn expect(lines: &mut Lines, draft: &Draft) {
    lines.section("expect");
    lines.comment(
        "what must hold, by what the sample showed; where one is false the row goes to error, a warning stays valid",
    );
    for suggestion in &draft.suggestions {
        let sql = match suggestion.warns {
            true => format!("{{ sql = {}, severity = \"warn\" }}", quote(&suggestion.sql)),
            false => quote(&suggestion.sql),
        };
        let name = match suggestion.holds {
            true => suggestion.name.clone(),
            false => format!("# {}", suggestion.name),
        };
        lines.key(&name, &sql, &suggestion.evidence);
    }
    if draft.suggestions.is_empty() {
        lines.comment("no field is in every record");
    }
}

/// A name of the environment.
fn variable(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// A TOML string.
pub fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Lines of a file, the comments of each section below each other.
#[derive(Default)]
struct Lines {
    text: String,
    /// key and value, and what to say of it
    waiting: Vec<(String, String)>,
}

impl Lines {
    fn key(&mut self, key: &str, value: &str, comment: &str) {
        self.waiting.push((format!("{key} = {value}"), comment.to_owned()));
    }

    fn comment(&mut self, line: &str) {
        self.waiting.push((format!("# {line}"), String::new()));
    }

    fn section(&mut self, name: &str) {
        self.flush();
        self.text += &format!("\n[{name}]\n");
    }

    fn flush(&mut self) {
        const WIDEST: usize = 64;
        let commented = self.waiting.iter().filter(|(_, comment)| !comment.is_empty());
        let width = commented.map(|(line, _)| line.chars().count()).filter(|n| *n <= WIDEST).max().unwrap_or(0);
        for (line, comment) in self.waiting.drain(..) {
            if comment.is_empty() {
                self.text += &format!("{line}\n");
            } else {
                self.text += &format!("{line:<width$}  # {comment}\n");
            }
        }
    }

    fn end(mut self) -> String {
        self.flush();
        self.text
    }
}
