//! `sluice test`: the cases of a plugin, through Wasm, in the sandbox that a pipeline uses.
//!
//! A case is a line of `cases/*.ndjson`: `{"row": {…}, "config": {…}, "finds": ["code", …]}` for a rule, `"adds": {…}` for an
//! enricher. Rows are decoded by the strict decoder, with the types that the plugin asks for. Every case is judged
//! twice, together with all others and alone: a verdict depends on its row and on nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema as ArrowSchema};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::Verdict;
use super::run::short;
use super::text::{Paint, plural};
use crate::columns;
use crate::config::{MaxFailures, OnFailure, Place, PluginCode, PluginConfig, UnknownFields, defaults};
use crate::decode::JsonDecoder;
use crate::error::{Doing, Error, Result};
use crate::plugin::{Breaker, Caller, Engine, Kind, Plugin, Request, Type, inspect_with};
use crate::record::{Batch, Range, RawBatch, RawRecord, Span, TopicPartition};
use crate::schema::Schema;

/// Run the cases of plugins.
///
/// PATH is a plugin's folder with `cases/*.ndjson` in it (one with a Cargo.toml is built first), or a component with
/// `cases/` beside it. Exits with 1 when a case fails, or when there is none.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sluice test plugins/consent\n  sluice test plugins/consent.wasm --cases plugins/consent/cases\n\n\
A case is one line: {\"row\": {\"keep_private\": true, \"context\": {\"user\": {\"login\": \"mlind\"}}}, \"finds\": [\"login-exposed\"]}"
)]
pub struct TestArgs {
    /// Folders or components
    #[arg(default_value = ".", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The folder of cases, where it is not beside the component
    #[arg(long, value_name = "FOLDER")]
    pub cases: Option<PathBuf>,
    /// One JSON object per case
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseLine {
    row: Value,
    #[serde(default)]
    config: Option<Value>,
    #[serde(default)]
    finds: Option<Vec<String>>,
    #[serde(default)]
    adds: Option<Value>,
    #[serde(default)]
    #[allow(dead_code)] // for people who read the file
    name: Option<String>,
}

struct Case {
    file: PathBuf,
    line: usize,
    case: CaseLine,
}

/// Runs the command.
pub fn run(args: &TestArgs) -> Result<Verdict> {
    let engine = Engine::new(None)?;
    let mut passed = true;
    for path in &args.paths {
        let (component, folder) = subject(path, args.cases.as_deref())?;
        let code = std::fs::read(&component).doing(|| format!("cannot read {}", component.display()))?;
        passed &= test(&engine, &component, &code, &folder, args.json)?;
    }
    Ok(Verdict::of(passed))
}

/// The component and the folder of its cases; builds a folder that holds a crate.
fn subject(path: &Path, cases: Option<&Path>) -> Result<(PathBuf, PathBuf)> {
    let component = if path.join("Cargo.toml").exists() {
        crate::component::build(path, None)?.path
    } else if path.is_dir() {
        let entries = std::fs::read_dir(path).doing(|| format!("cannot list {}", path.display()))?;
        let mut found: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|p| p.extension().is_some_and(|e| e == "wasm") && !p.to_string_lossy().ends_with(".core.wasm"))
            .collect();
        match (found.pop(), found.is_empty()) {
            (Some(only), true) => only,
            (Some(_), false) => {
                return Err(Error::Config(format!("{} holds several components: name one of them", path.display())));
            }
            (None, _) => {
                return Err(Error::Config(format!(
                    "{} holds neither a Cargo.toml nor a component (*.wasm)",
                    path.display()
                )));
            }
        }
    } else {
        path.to_owned()
    };
    let beside = if path.is_dir() { path } else { component.parent().unwrap_or(Path::new(".")) };
    Ok((component.clone(), cases.map_or_else(|| beside.join("cases"), Path::to_owned)))
}

fn read_cases(folder: &Path) -> Result<Vec<Case>> {
    let mut files: Vec<PathBuf> = match std::fs::read_dir(folder) {
        Ok(entries) => {
            entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "ndjson")).collect()
        }
        Err(_) => Vec::new(),
    };
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).doing(|| format!("cannot read {}", file.display()))?;
        for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong =
                |e: &dyn std::fmt::Display| Error::Config(format!("{}:{}: not a case: {e}", file.display(), n + 1));
            let case: CaseLine = serde_json::from_str(line).map_err(|e| wrong(&e))?;
            if !case.row.is_object() {
                return Err(wrong(&"`row` is no object"));
            }
            if case.finds.is_some() == case.adds.is_some() {
                return Err(wrong(&"it needs `finds` (of a rule) or `adds` (of an enricher)"));
            }
            cases.push(Case { file: file.clone(), line: n + 1, case });
        }
    }
    if cases.is_empty() {
        return Err(Error::Config(format!(
            "there are no cases in {}: write one per line, like {{\"row\": {{…}}, \"finds\": [\"code\"]}}",
            folder.display()
        )));
    }
    Ok(cases)
}

fn test(engine: &Engine, component: &Path, code: &[u8], folder: &Path, json: bool) -> Result<bool> {
    let cases = match read_cases(folder) {
        Ok(cases) => cases,
        Err(Error::Config(why)) => {
            eprintln!("{}: {why}", component.display());
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let mut by_config: BTreeMap<String, Vec<&Case>> = BTreeMap::new();
    for case in &cases {
        let config = case.case.config.clone().unwrap_or_else(|| Value::Object(Default::default()));
        by_config.entry(config.to_string()).or_default().push(case);
    }
    let paint = Paint::stdout();
    let mut failures = Vec::new();
    let mut title = component.display().to_string();
    for (config, cases) in &by_config {
        let subject = Subject::load(engine, component, code, config, cases)?;
        title =
            format!("{} {} ({})", subject.plugin.own_name(), subject.plugin.version(), short(subject.plugin.digest()));
        let together = subject.answers(cases)?;
        for (case, answer) in cases.iter().zip(together) {
            let alone = subject.answers(std::slice::from_ref(case))?.pop();
            let wrong = wrong(&case.case, &answer, alone.as_ref());
            if json {
                let line = serde_json::json!({ "plugin": subject.plugin.own_name(), "file": case.file, "line": case.line, "passed": wrong.is_none(), "problem": wrong });
                println!("{line}");
            }
            failures
                .extend(wrong.map(|why| format!("  {} {}:{}   {why}", paint.red("✗"), case.file.display(), case.line)));
        }
    }
    if !json {
        let passed = cases.len() - failures.len();
        println!("{:<40} {passed} of {}", title, plural(cases.len() as u64, "case"));
        failures.iter().for_each(|failure| println!("{failure}"));
    }
    Ok(failures.is_empty())
}

/// What a plugin made of one row.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Finds(Vec<String>),
    Adds(Vec<Value>),
    Dead(String),
}

fn wrong(case: &CaseLine, together: &Answer, alone: Option<&Answer>) -> Option<String> {
    if alone.is_some_and(|alone| alone != together) {
        return Some(format!("depends on its neighbours: {together:?} among the others, {alone:?} alone"));
    }
    match (together, &case.finds, &case.adds) {
        (Answer::Dead(why), ..) => Some(why.clone()),
        (Answer::Finds(found), Some(expected), _) => {
            let mut expected = expected.clone();
            expected.sort();
            (*found != expected).then(|| format!("finds {found:?}, expected {expected:?}"))
        }
        (Answer::Adds(rows), _, Some(expected)) => {
            let mut expected = match expected {
                Value::Array(rows) => rows.clone(),
                one => vec![one.clone()],
            };
            for (expected, row) in expected.iter_mut().zip(rows) {
                with_nulls(expected, row);
            }
            (*rows != expected)
                .then(|| format!("adds {}, expected {}", Value::Array(rows.clone()), Value::Array(expected)))
        }
        (Answer::Finds(_), None, _) => Some("is a rule: a case says what it `finds`".into()),
        (Answer::Adds(_), _, None) => Some("is an enricher: a case says what it `adds`".into()),
    }
}

/// A plugin that is configured, and the shape of the rows it is given.
struct Subject {
    plugin: Arc<Plugin>,
    schema: Arc<Schema>,
}

impl Subject {
    fn load(engine: &Engine, component: &Path, code: &[u8], config: &str, cases: &[&Case]) -> Result<Subject> {
        let name = component.display().to_string();
        let inspection = inspect_with(engine, code, config);
        let (Some(description), Some(kind)) = (inspection.description, inspection.kind) else {
            let why = inspection.problem.unwrap_or_else(|| "it does not describe itself".into());
            return Err(Error::Config(format!("{name} cannot be tested: {why}")));
        };
        let rows: Vec<&Value> = cases.iter().map(|case| &case.case.row).collect();
        let schema = Arc::new(Schema {
            arrow: Arc::new(ArrowSchema::new(fields(&description.columns, &rows))),
            constraints: Vec::new(),
            file: name.as_str().into(),
            text: String::new(),
            lines: BTreeMap::new(),
        });
        let config = PluginConfig {
            name: description.name.as_str().into(),
            code: PluginCode::Wasm(name.clone(), component.to_owned()),
            place: Place { file: name.into(), span: 0..0 },
            config: serde_json::from_str(config)
                .map_err(|e| Error::Host(format!("JSON was read a moment ago: {e}")))?,
            limits: defaults::LIMITS,
            on_failure: OnFailure::Stop,
            max_failures: defaults::MAX_FAILURES,
        };
        Ok(Subject { plugin: Plugin::load(engine, kind, &config, code, &schema.arrow)?, schema })
    }

    fn answers(&self, cases: &[&Case]) -> Result<Vec<Answer>> {
        let batch = self.batch(cases)?;
        let unlimited = MaxFailures { count: u32::MAX, ..defaults::MAX_FAILURES };
        let mut caller = Caller::new(self.plugin.clone(), Arc::new(Breaker::new(unlimited, OnFailure::Stop)));
        let dead =
            |row: &crate::plugin::DeadRow| (row.row, Answer::Dead(format!("{}: {}", row.reason.as_str(), row.detail)));
        let mut answers: Vec<Answer>;
        match self.plugin.kind() {
            Kind::Rule => {
                let checked = caller.check(&batch)?;
                let mut found = vec![Vec::new(); cases.len()];
                for finding in checked.findings {
                    found[finding.row as usize].push(finding.code.to_string());
                }
                answers = found
                    .into_iter()
                    .map(|mut codes| {
                        codes.sort();
                        Answer::Finds(codes)
                    })
                    .collect();
                checked.dead.iter().map(dead).for_each(|(row, answer)| answers[row as usize] = answer);
            }
            Kind::Enricher => {
                let added = caller.enrich(&batch)?;
                let schema = ArrowSchema::new(self.plugin.adds().to_vec());
                let columns = arrow::array::RecordBatch::try_new(Arc::new(schema), added.columns);
                let columns = columns.map_err(|e| Error::Host(format!("checked columns do not make a batch: {e}")))?;
                let mut rows = vec![Vec::new(); cases.len()];
                for (answer, &row) in added.rows.iter().enumerate() {
                    rows[row as usize].push(explicit(&columns.slice(answer, 1))?);
                }
                answers = rows.into_iter().map(Answer::Adds).collect();
                added.dead.iter().map(dead).for_each(|(row, answer)| answers[row as usize] = answer);
            }
        }
        Ok(answers)
    }

    /// The cases as a batch: each row is its payload, its pseudo-columns are those of its record.
    fn batch(&self, cases: &[&Case]) -> Result<Batch> {
        let mut data = Vec::new();
        let mut records = Vec::new();
        for (n, case) in cases.iter().enumerate() {
            let row = &case.case.row;
            let mut span = |text: &str| {
                let start = data.len() as u32;
                data.extend_from_slice(text.as_bytes());
                Span { start, len: text.len() as u32 }
            };
            let wrong = |what: &str| Error::Config(format!("{}:{}: {what}", case.file.display(), case.line));
            let timestamp = match &row["_timestamp"] {
                Value::Null => None,
                Value::String(text) => {
                    let time = chrono::DateTime::parse_from_rfc3339(text);
                    Some(
                        time.map_err(|_| wrong("`_timestamp` is no time like 2026-11-20T21:03:11Z"))?
                            .timestamp_millis(),
                    )
                }
                _ => return Err(wrong("`_timestamp` is a text like 2026-11-20T21:03:11Z")),
            };
            records.push(RawRecord {
                range: 0,
                offset: row["_offset"].as_i64().unwrap_or(n as i64),
                timestamp,
                key: row["_key"].as_str().map_or(Span::NULL, &mut span),
                value: span(&row.to_string()),
                headers: None,
                truncated_from: None,
            });
        }
        let raw = RawBatch {
            ranges: vec![Range { partition: TopicPartition::new("cases", 0), from: 0, to: records.len() as i64 }],
            records,
            data: Bytes::from(data),
            headers: Vec::new(),
        };
        let mut decoder = JsonDecoder::new(self.schema.clone(), UnknownFields::Ignore, usize::MAX)?;
        let decoded = decoder.decode(&raw, |_| false);
        if let Some(dead) = decoded.dead.first() {
            let case = cases[dead.record as usize];
            return Err(Error::Config(format!(
                "{}:{}: the row does not decode: {}",
                case.file.display(),
                case.line,
                dead.detail
            )));
        }
        Ok(Batch {
            columns: decoded.rows,
            origin: decoded.origin,
            ordinal: decoded.ordinal,
            raw: Arc::new(raw),
            pipeline: columns::pipeline_namespace("cases"),
        })
    }
}

/// A null may be left out of a case: writes it out where the row has one.
fn with_nulls(expected: &mut Value, row: &Value) {
    let (Some(expected), Some(row)) = (expected.as_object_mut(), row.as_object()) else { return };
    for (name, _) in row.iter().filter(|(_, value)| value.is_null()) {
        expected.entry(name.clone()).or_insert(Value::Null);
    }
}

/// One added row as JSON, nulls written out.
fn explicit(row: &arrow::array::RecordBatch) -> Result<Value> {
    let mut object = super::r#try::columns_json(row)?;
    if let Some(map) = object.as_object_mut() {
        for field in row.schema_ref().fields() {
            map.entry(field.name().clone()).or_insert(Value::Null);
        }
    }
    Ok(object)
}

/// A node of the row's shape: what a path leads to.
#[derive(Default)]
struct Node {
    leaf: Option<DataType>,
    children: BTreeMap<String, Node>,
}

/// The columns that the requests imply; a column that is wanted as JSON has the shape that the cases give it.
fn fields(requests: &[Request], rows: &[&Value]) -> Vec<Field> {
    let mut root = Node::default();
    for request in requests.iter().filter(|request| columns::pseudo_type(&request.path).is_none()) {
        let mut node = &mut root;
        for name in request.path.split('.') {
            node = node.children.entry(name.to_owned()).or_default();
        }
        let pointer = format!("/{}", request.path.replace('.', "/"));
        node.leaf = Some(match request.ty {
            Type::Boolean => DataType::Boolean,
            Type::Int32 => DataType::Int32,
            Type::Int64 => DataType::Int64,
            Type::Float64 => DataType::Float64,
            Type::Date32 => DataType::Date32,
            Type::TimestampUs => columns::timestamp_type(),
            Type::Decimal => DataType::Decimal128(38, 10),
            Type::Utf8 => DataType::Utf8,
            Type::Binary => DataType::Binary,
            Type::Json => shape(&rows.iter().filter_map(|row| row.pointer(&pointer)).collect::<Vec<_>>()),
        });
    }
    root.children.into_iter().map(|(name, node)| Field::new(name, node.data_type(), true)).collect()
}

impl Node {
    fn data_type(self) -> DataType {
        let nested: Vec<Field> =
            self.children.into_iter().map(|(name, node)| Field::new(name, node.data_type(), true)).collect();
        match self.leaf {
            Some(leaf) if nested.is_empty() => leaf,
            Some(DataType::Struct(known)) => {
                let more = known.iter().filter(|field| !nested.iter().any(|n| n.name() == field.name()));
                let all: Vec<Field> = more.map(|field| field.as_ref().clone()).chain(nested.iter().cloned()).collect();
                DataType::Struct(Fields::from(all))
            }
            Some(_) | None => DataType::Struct(Fields::from(nested)),
        }
    }
}

/// The type that holds all these values; text where they are of no one kind.
fn shape(values: &[&Value]) -> DataType {
    let present: Vec<&&Value> = values.iter().filter(|value| !value.is_null()).collect();
    if present.is_empty() {
        return DataType::Utf8;
    }
    if present.iter().all(|v| v.is_boolean()) {
        return DataType::Boolean;
    }
    if present.iter().all(|v| v.is_i64()) {
        return DataType::Int64;
    }
    if present.iter().all(|v| v.is_number()) {
        return DataType::Float64;
    }
    if present.iter().all(|v| v.is_array()) {
        let items: Vec<&Value> = present.iter().filter_map(|v| v.as_array()).flatten().collect();
        return DataType::List(Arc::new(Field::new_list_field(shape(&items), true)));
    }
    if present.iter().all(|v| v.is_object()) {
        let mut names: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for (name, value) in present.iter().filter_map(|v| v.as_object()).flatten() {
            names.entry(name).or_default().push(value);
        }
        return DataType::Struct(
            names.into_iter().map(|(name, values)| Field::new(name, shape(&values), true)).collect(),
        );
    }
    DataType::Utf8
}
