//! What a plugin says about itself, and the checks on it.
//!
//! The checks compare the answer of `configure` with the contract and with the rows' schema. They run nothing.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use serde::Serialize;

use super::Kind;
use super::audit::Metric;
use super::log::clean;
use crate::columns;
use crate::outcome::Severity;

/// What a column holds on the wire; `logical-type` in the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // the contract describes them
pub enum Type {
    Boolean,
    Int32,
    Int64,
    Float64,
    Date32,
    TimestampUs,
    Decimal,
    Utf8,
    Binary,
    Json,
}

impl Type {
    /// As the contract writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Type::Boolean => "boolean",
            Type::Int32 => "int32",
            Type::Int64 => "int64",
            Type::Float64 => "float64",
            Type::Date32 => "date32",
            Type::TimestampUs => "timestamp-us",
            Type::Decimal => "decimal",
            Type::Utf8 => "utf8",
            Type::Binary => "binary",
            Type::Json => "json",
        }
    }

    /// Whether a column of Arrow type `from` can be passed as this type: the same, or wider.
    pub fn accepts(self, from: &DataType) -> bool {
        use DataType as D;
        match self {
            Type::Boolean => matches!(from, D::Boolean),
            Type::Int32 => matches!(from, D::Int8 | D::Int16 | D::Int32),
            Type::Int64 => matches!(from, D::Int8 | D::Int16 | D::Int32 | D::Int64),
            Type::Float64 => from.is_numeric() && !matches!(from, D::Decimal256(..)),
            Type::Date32 => matches!(from, D::Date32),
            Type::TimestampUs => matches!(from, D::Timestamp(..)),
            Type::Decimal => matches!(from, D::Decimal128(..)),
            Type::Utf8 => {
                matches!(from, D::Utf8 | D::LargeUtf8 | D::Utf8View | D::Date32 | D::Timestamp(..) | D::Decimal128(..))
            }
            Type::Binary => {
                matches!(from, D::Binary | D::LargeBinary | D::BinaryView | D::Utf8 | D::LargeUtf8 | D::Utf8View)
            }
            Type::Json => true,
        }
    }
}

/// A column that a plugin reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    /// path into the row, or a pseudo-column
    pub path: String,
    /// the type it is passed as
    #[serde(rename = "type")]
    pub ty: Type,
    /// without the column the plugin cannot be loaded
    pub required: bool,
}

/// One reason why a rule objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Code {
    /// kebab-case
    pub code: String,
    /// what it does to the row
    pub severity: Severity,
    /// one sentence
    pub help: String,
    /// indexes into [`Described::columns`]
    pub reads: Vec<u16>,
}

/// A column that an enricher adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Produced {
    /// new to the row
    pub name: String,
    /// its type
    #[serde(rename = "type")]
    pub ty: Type,
    /// total digits of a decimal
    pub precision: u8,
    /// digits of a decimal behind the point
    pub scale: i8,
}

impl Produced {
    /// The type in Arrow. JSON becomes text: a table has no type for it.
    pub fn data_type(&self) -> DataType {
        match self.ty {
            Type::Boolean => DataType::Boolean,
            Type::Int32 => DataType::Int32,
            Type::Int64 => DataType::Int64,
            Type::Float64 => DataType::Float64,
            Type::Date32 => DataType::Date32,
            Type::TimestampUs => columns::timestamp_type(),
            Type::Decimal => DataType::Decimal128(self.precision, self.scale),
            Type::Utf8 | Type::Json => DataType::Utf8,
            Type::Binary => DataType::Binary,
        }
    }
}

/// How instances are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Instances {
    /// a new one for every call
    Fresh,
    /// one for many calls
    Reused,
}

/// The answer of `configure`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Described {
    /// the plugin's own name
    pub name: String,
    /// the plugin's own version
    pub version: String,
    /// what it reads, in the order in which it is passed
    pub columns: Vec<Request>,
    /// a rule's reasons
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<Code>,
    /// an enricher's columns
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub produces: Vec<Produced>,
    /// whether an enricher may make several rows of one
    pub one_to_many: bool,
    /// what an auditor wants computed
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// past windows that an auditor wants to see
    #[serde(skip_serializing_if = "is_zero")]
    pub history: u32,
    /// how instances are run
    pub instances: Instances,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Numbers that one auditor may want: each is a query.
const METRICS: usize = 64;
/// Bytes of one of them as SQL.
const SQL: usize = 4096;
/// Past windows that an auditor may see: what the ledger remembers.
const HISTORY: u32 = 1_000;
/// Bytes of a name, a version, a code: they stand in tables, logs and metric labels.
const NAME: usize = 64;
/// Bytes of a code's help: one sentence on a screen.
const HELP: usize = 1024;
/// Columns that one plugin may read or add: beyond what any table has.
const COLUMNS: usize = 1024;
/// Codes that one rule may declare: each is a metric label.
const CODES: usize = 1024;

/// Checks what does not depend on the schema: names, codes, indexes. The error reads on from "plugin `x`".
pub(super) fn check(said: &Described, kind: Kind) -> Result<(), String> {
    label("name", &said.name)?;
    label("version", &said.version)?;
    if said.columns.len() > COLUMNS || said.produces.len() > COLUMNS {
        return Err(format!("asks for or adds more than {COLUMNS} columns"));
    }
    if let Some(path) = said.columns.iter().map(|c| &c.path).find(|path| path.is_empty() || has_control(path)) {
        return Err(format!("asks for the column {}, which is no path", quoted(path)));
    }
    if said.codes.len() > CODES {
        return Err(format!("declares {} codes; {CODES} are allowed", said.codes.len()));
    }
    let mut seen = BTreeSet::new();
    for code in &said.codes {
        if !is_kebab(&code.code) {
            return Err(format!(
                "declares the code {}, which is not kebab-case of at most {NAME} characters: `login-exposed`",
                quoted(&code.code)
            ));
        }
        if !seen.insert(&code.code) {
            return Err(format!("declares the code `{}` twice", code.code));
        }
        if code.help.len() > HELP || has_control(&code.help) {
            return Err(format!("has a help for `{}` that is not one line of at most {HELP} bytes", code.code));
        }
        if let Some(index) = code.reads.iter().find(|index| usize::from(**index) >= said.columns.len()) {
            return Err(format!(
                "says that `{}` reads its column number {index}, but it asks for {}",
                code.code,
                said.columns.len()
            ));
        }
    }
    if said.metrics.len() > METRICS || said.history > HISTORY {
        return Err(format!("wants more than {METRICS} metrics, or to see more than {HISTORY} windows"));
    }
    let mut names = BTreeSet::new();
    for metric in &said.metrics {
        if !is_kebab(&metric.name) || !names.insert(&metric.name) {
            return Err(format!("has the metric {}, which is not kebab-case or there twice", quoted(&metric.name)));
        }
        if metric.sql.is_empty() || metric.sql.len() > SQL || metric.sql.contains('\0') {
            return Err(format!("has SQL for `{}` that is not 1 to {SQL} bytes of text", metric.name));
        }
    }
    match kind {
        Kind::Rule if said.codes.is_empty() => Err("declares no codes, so it can object to nothing".into()),
        Kind::Enricher if said.produces.is_empty() => Err("produces no columns, so it adds nothing".into()),
        Kind::Rule | Kind::Enricher | Kind::Auditor => Ok(()),
    }
}

/// Checks the columns against the rows' schema. Answers whether each request is there to be passed.
pub(super) fn resolve(said: &Described, schema: &Schema) -> Result<Vec<bool>, String> {
    let mut present = Vec::with_capacity(said.columns.len());
    for request in &said.columns {
        match columns::data_type(schema, &request.path) {
            Some(found) if request.ty.accepts(&found) => present.push(true),
            Some(found) => return Err(wrong_type(request, &found)),
            None if request.required => return Err(missing(request, schema)),
            None => present.push(false),
        }
    }
    let mut names: BTreeSet<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    for produced in &said.produces {
        if produced.name.is_empty() || produced.name.len() > 128 || has_control(&produced.name) {
            return Err(format!("adds a column called {}, which is no name", quoted(&produced.name)));
        }
        if produced.name.starts_with('_') {
            return Err(format!("adds `{}`, but names that begin with `_` belong to sluice", produced.name));
        }
        if !names.insert(&produced.name) {
            return Err(format!("adds `{}`, which the row already has; columns are never replaced", produced.name));
        }
        let (p, s) = (produced.precision, produced.scale);
        if produced.ty == Type::Decimal && (p == 0 || p > 38 || s < 0 || s > p as i8) {
            return Err(format!("adds `{}` as decimal({p}, {s}); precision is 1 to 38, scale 0 to it", produced.name));
        }
    }
    Ok(present)
}

fn wrong_type(request: &Request, found: &DataType) -> String {
    let can: Vec<&str> = [
        Type::Boolean,
        Type::Int32,
        Type::Int64,
        Type::Float64,
        Type::Date32,
        Type::TimestampUs,
        Type::Decimal,
        Type::Utf8,
        Type::Binary,
        Type::Json,
    ]
    .into_iter()
    .filter(|ty| ty.accepts(found))
    .map(Type::as_str)
    .collect();
    format!(
        "reads `{}` as {}, but the schema has it as {found}, which can be passed as {}",
        request.path,
        request.ty.as_str(),
        can.join(", ")
    )
}

fn missing(request: &Request, schema: &Schema) -> String {
    let mut paths = Vec::new();
    collect(schema.fields(), "", &mut paths);
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let best = paths
        .iter()
        .map(|path| {
            let near = strsim::jaro_winkler(path, &request.path);
            // `login` for `context.user.login`: the last name alone says what was meant
            let tail = if last(path) == last(&request.path) { 0.95 } else { 0.0 };
            (near.max(tail), path)
        })
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let path = &request.path;
    match best {
        Some((_, near)) => format!("reads `{path}`, which the schema does not have; it has `{near}`"),
        None => format!(
            "reads `{path}`, which the schema does not have; declare it, or make the plugin ask for it as optional"
        ),
    }
}

fn collect(fields: &Fields, above: &str, into: &mut Vec<String>) {
    for field in fields {
        let path = format!("{above}{}", field.name());
        if let DataType::Struct(children) = field.data_type() {
            collect(children, &format!("{path}."), into);
        }
        into.push(path);
    }
}

/// The added columns as fields of the row.
pub(super) fn fields(said: &Described) -> Vec<Field> {
    said.produces.iter().map(|p| Field::new(&p.name, p.data_type(), true)).collect()
}

fn label(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > NAME || has_control(text) {
        return Err(format!("gives {} as its {what}; 1 to {NAME} printable bytes are allowed", quoted(text)));
    }
    Ok(())
}

/// A guest's text in a sentence: its beginning, escaped, so that the sentence is read to its end.
fn quoted(text: &str) -> String {
    format!("\"{}\"", clean(text, NAME))
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

fn is_kebab(code: &str) -> bool {
    code.len() <= NAME
        && code
            .split('-')
            .all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(codes: &[(&str, &[u16])]) -> Described {
        Described {
            name: "r".into(),
            version: "1".into(),
            columns: vec![Request { path: "a".into(), ty: Type::Utf8, required: true }],
            codes: codes
                .iter()
                .map(|(code, reads)| Code {
                    code: (*code).into(),
                    severity: Severity::Error,
                    help: "h".into(),
                    reads: reads.to_vec(),
                })
                .collect(),
            produces: vec![],
            one_to_many: false,
            metrics: vec![],
            history: 0,
            instances: Instances::Fresh,
        }
    }

    #[test]
    fn codes_are_kebab_unique_and_read_known_columns() {
        let long = "a".repeat(65);
        for (codes, expected) in [
            (&[("login-exposed", &[0u16][..]), ("x2", &[][..])][..], Ok(())),
            (&[("Login", &[][..])][..], Err("kebab-case")),
            (&[("a--b", &[][..])][..], Err("kebab-case")),
            (&[("", &[][..])][..], Err("kebab-case")),
            (&[(long.as_str(), &[][..])][..], Err("kebab-case")),
            (&[("a", &[][..]), ("a", &[][..])][..], Err("twice")),
            (&[("a", &[1][..])][..], Err("column number 1")),
            (&[][..], Err("no codes")),
        ] {
            let found = check(&rule(codes), Kind::Rule);
            match expected {
                Ok(()) => assert_eq!(found, Ok(()), "{codes:?}"),
                Err(part) => assert!(found.clone().is_err_and(|e| e.contains(part)), "{codes:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_missing_column_is_named_with_what_was_meant() {
        let user = DataType::Struct(vec![Field::new("login", DataType::Utf8, true)].into());
        let schema = Schema::new(vec![Field::new("page", DataType::Utf8, true), Field::new("user", user, true)]);
        for (path, expected) in [("pge", "it has `page`"), ("login", "it has `user.login`"), ("zzz", "declare it")] {
            let text = missing(&Request { path: path.into(), ty: Type::Utf8, required: true }, &schema);
            assert!(text.contains(expected), "{path}: {text}");
        }
    }
}
