//! `[source]` and `[kafka]`: where records come from, and how to reach them.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::DeValue;

use super::section::{Kind, Reader, Section, Text, Value};
use super::{KafkaSource, SourceConfig, SourceKind, Sql, StartPoint, UnknownFields, defaults, hide};

/// What librdkafka is told. Prints the names of settings, and the values only of those that cannot be secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl From<BTreeMap<String, String>> for Properties {
    fn from(properties: BTreeMap<String, String>) -> Self {
        Properties(properties)
    }
}

impl FromIterator<(String, String)> for Properties {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(properties: I) -> Self {
        Properties(properties.into_iter().collect())
    }
}

impl std::ops::Deref for Properties {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'p> IntoIterator for &'p Properties {
    type Item = (&'p String, &'p String);
    type IntoIter = std::collections::btree_map::Iter<'p, String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // a list of what may be shown, not of what must be hidden: a forgotten name hides too much, never too little
        const SHOWN: [&str; 5] = ["security.protocol", "sasl.mechanism", "ssl.ca.location", "client.id", "debug"];
        let shown = |key: &str, value: &str| if SHOWN.contains(&key) { value.to_owned() } else { "***".to_owned() };
        f.debug_map().entries(self.0.iter().map(|(key, value)| (key, shown(key, value)))).finish()
    }
}

/// Settings that Sluice decides: with other values offsets would not be the ledger's.
const OURS: [&str; 5] =
    ["group.id", "enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset", "enable.partition.eof"];

/// Keys of `[kafka]` beside `mechanism` and `properties`, and what librdkafka calls them.
const KAFKA: [(&str, &str); 8] = [
    ("brokers", "bootstrap.servers"),
    ("security", "security.protocol"),
    ("username", "sasl.username"),
    ("password", "sasl.password"),
    ("ca", "ssl.ca.location"),
    ("certificate", "ssl.certificate.location"),
    ("key", "ssl.key.location"),
    ("key_password", "ssl.key.password"),
];

/// `[kafka]`: the connection, as librdkafka's settings.
pub(super) fn kafka(r: &mut Reader<'_>, mut section: Section<'_>) -> Properties {
    let mut properties = BTreeMap::new();
    section.required("brokers", "for example `brokers = \"${KAFKA_BROKERS}\"`");
    let security = section.expanded(r, "security").and_then(|text| {
        let choices = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"].map(|word| (word, word));
        r.chosen("kafka.security", &text, &choices)
    });
    let security_known = security.is_some() || !section.has("security");
    properties.insert("security.protocol".to_owned(), security.unwrap_or(defaults::SECURITY).to_owned());
    for (key, property) in KAFKA.into_iter().filter(|(key, _)| *key != "security") {
        let Some(mut text) = section.expanded(r, key) else { continue };
        if hide::is_secret(key) && !hide::is_placeholder(&text.written) {
            let title = format!("`kafka.{key}` is written down in the pipeline file");
            r.mistake(text.place.span.clone(), title, "", "say where it is: `${NAME}` or `${file:path}`");
        }
        if ["ca", "certificate", "key"].contains(&key) {
            text.value = r.base.join(&text.value).to_string_lossy().into_owned();
        }
        properties.insert(property.to_owned(), text.value);
    }

    if let Some(further) = section.section(r, "properties") {
        pass_through(r, "kafka.properties", &further, "", &mut properties);
    }
    // another mechanism, through the properties, brings its own settings with it
    let other = properties.contains_key("sasl.mechanism") || properties.contains_key("sasl.mechanisms");
    let sasl = security.is_some_and(|security| security.starts_with("sasl_"));
    let mechanism = section.expanded(r, "mechanism");
    if sasl && !other {
        for key in ["username", "password"].into_iter().filter(|key| !section.has(key)) {
            r.mistake(section.key_span("security"), format!("`kafka.{key}` is missing"), "this needs it", "");
        }
        if security == Some("sasl_plaintext") && mechanism.is_none() {
            let help = "for example `mechanism = \"SCRAM-SHA-512\"`; PLAIN would send the password in the clear";
            r.mistake(section.key_span("security"), "`kafka.mechanism` is missing", "this needs it", help);
        }
        // others go through the properties
        let choices = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].map(|word| (word, word));
        let mechanism = mechanism.and_then(|text| r.chosen("kafka.mechanism", &text, &choices));
        let mechanism = mechanism.unwrap_or(defaults::MECHANISM);
        properties.insert("sasl.mechanism".to_owned(), mechanism.to_owned());
    } else if !sasl && security_known {
        for key in ["username", "password", "mechanism"].into_iter().filter(|key| section.has(key)) {
            let help = "set `security = \"sasl_ssl\"`, or leave it out";
            r.mistake(section.key_span(key), format!("`kafka.{key}` would not be used"), "", help);
        }
    }

    section.finish(r);
    Properties(properties)
}

/// `[kafka.properties]`; a dotted key makes tables, which are put together again.
fn pass_through(
    r: &mut Reader<'_>,
    name: &str,
    section: &Section<'_>,
    prefix: &str,
    properties: &mut BTreeMap<String, String>,
) {
    for (key, value) in section.table {
        let property = format!("{prefix}{}", key.get_ref());
        let text = match value.get_ref() {
            DeValue::Table(_) => {
                if let Some(inner) = r.section(name.to_owned(), value) {
                    pass_through(r, name, &inner, &format!("{property}."), properties);
                }
                continue;
            }
            DeValue::String(_) => r.expanded(&format!("{name}.\"{property}\""), value),
            DeValue::Integer(integer) => Some(plain_text(r, integer.as_str(), value)),
            DeValue::Boolean(flag) => Some(plain_text(r, if *flag { "true" } else { "false" }, value)),
            DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) => {
                r.wrong_type(&format!("{name}.\"{property}\""), value, "a string, an integer or a boolean");
                None
            }
        };
        let Some(text) = text else { continue };
        if OURS.contains(&property.as_str()) {
            let title = format!("sluice decides `{property}`");
            r.mistake(key.span(), title, "", "positions live in the ledger; `[source] group` and `start` are yours");
        } else if let Some((key_of_section, _)) = KAFKA.iter().find(|(_, named)| *named == property) {
            let help = format!("write `{key_of_section} = …` in `[kafka]`");
            r.mistake(key.span(), format!("`{property}` has a key of its own"), "", help);
        } else if hide::is_secret(&property) && !hide::is_placeholder(&text.written) {
            let title = format!("`{property}` is written down in the pipeline file");
            r.mistake(value.span(), title, "", "say where it is: `${NAME}` or `${file:path}`");
        } else {
            properties.insert(property, text.value);
        }
    }
}

fn plain_text(r: &Reader<'_>, text: &str, value: &Value<'_>) -> Text {
    Text { written: text.to_owned(), value: text.to_owned(), place: r.place(value.span()) }
}

/// `[source]`. `kafka` is the connection, where `[kafka]` is there; `name` the pipeline's, the group's default.
pub(super) fn source(
    r: &mut Reader<'_>,
    mut section: Section<'_>,
    kafka: Option<Properties>,
    name: &str,
) -> Option<SourceConfig> {
    section.later(r, &["format", "explode"]);
    let kind = section.kind(r, "the source", &["kafka", "pattern", "files", "stdin"], &[]);
    let group = section.expanded(r, "group");
    let start = start(r, &mut section);
    let skip = section.text(r, "skip").map(|text| Sql { text: text.value, place: text.place });
    let max_record = section.size(r, "max_record");
    // a batch holds payloads behind 32-bit offsets
    const LARGEST: u64 = 1 << 30;
    if max_record.is_some_and(|bytes| bytes > LARGEST) {
        let span = section.table.get("max_record").map_or(section.span.clone(), |value| value.span());
        r.mistake(span, "`source.max_record` must be at most 1GiB", "", "");
    }
    let unknown_fields = section.choice(
        r,
        "unknown_fields",
        &[("ignore", UnknownFields::Ignore), ("reject", UnknownFields::Reject)],
        &[],
    );

    let kind = match kind {
        Kind::Refused => None,
        Kind::One(key @ ("kafka" | "pattern"), value) => {
            if kafka.is_none() {
                let help = "add `[kafka]` with `brokers = \"${KAFKA_BROKERS}\"`";
                r.mistake(section.key_span(key), "a Kafka source needs `[kafka]`", "", help);
            }
            let topics = if key == "kafka" { topics(r, value) } else { pattern(r, value) };
            topics.map(|topics| {
                let group = group.map_or_else(|| name.to_owned(), |text| text.value);
                let start = start.unwrap_or(defaults::START);
                SourceKind::Kafka(KafkaSource { topics, group, start, properties: kafka.unwrap_or_default() })
            })
        }
        Kind::One(key, value) => {
            for unused in ["group", "start"].into_iter().filter(|unused| section.has(unused)) {
                let title = format!("`source.{unused}` belongs to a Kafka source");
                r.mistake(section.key_span(unused), title, format!("the source is `{key}`"), "leave it out");
            }
            if key == "files" { files(r, value) } else { stdin(r, value) }
        }
    };
    section.finish(r);
    Some(SourceConfig {
        kind: kind?,
        skip,
        max_record: max_record.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(defaults::MAX_RECORD),
        unknown_fields: unknown_fields.unwrap_or(defaults::UNKNOWN_FIELDS),
    })
}

/// `start`: a word, a string with a time, or TOML's own time.
fn start(r: &mut Reader<'_>, section: &mut Section<'_>) -> Option<StartPoint> {
    let value = section.value("start")?;
    let written = match value.get_ref() {
        DeValue::Datetime(time) => time.to_string(),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => r.expanded("source.start", value)?.value,
    };
    match written.as_str() {
        "earliest" => return Some(StartPoint::Earliest),
        "latest" => return Some(StartPoint::Latest),
        time => {
            if let Ok(time) = chrono::DateTime::parse_from_rfc3339(time) {
                return Some(StartPoint::Timestamp(time.timestamp_millis()));
            }
        }
    }
    let help = "a time carries its offset, as in \"2026-11-20T00:00:00Z\"";
    r.mistake(value.span(), "`source.start` must be `earliest`, `latest` or a time", "", help);
    None
}

fn topics(r: &mut Reader<'_>, value: &Value<'_>) -> Option<Vec<String>> {
    let topics = r.texts("source.kafka", value, Reader::expanded)?;
    if topics.is_empty() {
        r.mistake(value.span(), "`source.kafka` names no topic", "", "for example `kafka = [\"visits\"]`");
    }
    let mut names: Vec<String> = Vec::new();
    for topic in topics {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let span = topic.place.span.clone();
        if topic.value.is_empty() || topic.value.len() > 249 || !topic.value.chars().all(legal) {
            let help = "a topic has letters, digits, `.`, `_` and `-`; for a regular expression use `pattern`";
            r.mistake(span, format!("`{}` is not the name of a topic", topic.written), "", help);
        } else if names.contains(&topic.value) {
            r.mistake(span, format!("topic `{}` is named twice", topic.written), "", "");
        } else {
            names.push(topic.value);
        }
    }
    Some(names)
}

/// A regular expression for whole names: librdkafka takes `^` as the mark of one, and would match beginnings.
fn pattern(r: &mut Reader<'_>, value: &Value<'_>) -> Option<Vec<String>> {
    let text = r.expanded("source.pattern", value)?;
    let inner = text.value.strip_prefix('^').unwrap_or(&text.value);
    let inner = inner.strip_suffix('$').unwrap_or(inner);
    if inner.is_empty() {
        r.mistake(value.span(), "`source.pattern` matches nothing", "", "for example `pattern = \"visits-.*\"`");
        return None;
    }
    Some(vec![format!("^({inner})$")])
}

fn files(r: &mut Reader<'_>, value: &Value<'_>) -> Option<SourceKind> {
    let globs = r.texts("source.files", value, Reader::expanded)?;
    if globs.is_empty() {
        r.mistake(value.span(), "`source.files` names no file", "", "for example `files = [\"in/*.ndjson\"]`");
    }
    for text in &globs {
        if let Err(error) = glob::Pattern::new(&text.value) {
            r.mistake(text.place.span.clone(), format!("`{}` is not a glob", text.written), error.msg, "");
        }
    }
    Some(SourceKind::Files(globs.into_iter().map(|text| text.value).collect()))
}

fn stdin(r: &mut Reader<'_>, value: &Value<'_>) -> Option<SourceKind> {
    if value.get_ref().as_bool() != Some(true) {
        r.mistake(value.span(), "`source.stdin` can only be `true`", "", "leave it out to read from elsewhere");
    }
    Some(SourceKind::Stdin)
}
