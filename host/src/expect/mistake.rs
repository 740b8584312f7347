//! What can be wrong with a piece of SQL before it sees a row: values for whoever shows mistakes.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use arrow::datatypes::{DataType, Schema};
use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::ast::{Expr as Ast, ExprWithAlias, Ident, visit_expressions};

use super::paths::is_known;
use super::words;
use crate::columns;
use crate::config::{Place, Sql};
use crate::schema::name::sql_name;

/// A mistake in a piece of SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlMistake {
    /// where the SQL stands
    pub place: Place,
    /// the bytes within the SQL, where they are known
    pub span_in_sql: Option<Range<usize>>,
    /// what is wrong, in one sentence
    pub title: String,
    /// beside the marked text; may be empty
    pub label: String,
    /// what to do; may be empty
    pub help: String,
}

/// Where the columns are declared, so that a mistake can point there.
#[derive(Clone, Copy, Debug)]
pub struct Declared<'a> {
    /// the schema file, as shown
    pub file: &'a str,
    /// path → line
    pub lines: &'a BTreeMap<String, usize>,
}

impl Declared<'_> {
    /// ``visits.sql:3 declares `user_id STRING` ``, for the declared column whose name is most like `path`.
    pub(super) fn nearest(self, path: &str, schema: &Schema) -> Option<String> {
        let mut paths = Vec::new();
        for field in schema.fields() {
            collect(field.name().clone(), field.data_type(), &mut paths);
        }
        paths.extend(columns::PSEUDO.iter().filter_map(|p| Some(((*p).to_owned(), columns::pseudo_type(p)?))));
        let (found, data_type) = paths
            .into_iter()
            .map(|(candidate, data_type)| (distance(path, &candidate), candidate, data_type))
            // beyond a third of its letters it is another word
            .filter(|((distance, _), candidate, _)| *distance * 3 <= candidate.len().max(path.len()))
            .min_by_key(|(distance, ..)| *distance)
            .map(|(_, candidate, data_type)| (candidate, data_type))?;
        Some(match self.lines.get(&found) {
            Some(line) => format!("{}:{line} declares `{found} {}`", self.file, sql_name(&data_type)),
            None => format!("there is `{found} {}`", sql_name(&data_type)),
        })
    }
}

/// The paths of a column and of everything within.
fn collect(path: String, data_type: &DataType, paths: &mut Vec<(String, DataType)>) {
    if let DataType::Struct(fields) = data_type {
        for field in fields {
            collect(format!("{path}.{}", field.name()), field.data_type(), paths);
        }
    }
    paths.push((path, data_type.clone()));
}

/// How far apart two paths are: by their letters without and with case, or by their last names alone where one name was
/// written.
fn distance(written: &str, candidate: &str) -> (usize, usize) {
    let by_letters = strsim::damerau_levenshtein;
    let (lower, candidate_lower) = (written.to_lowercase(), candidate.to_lowercase());
    let exact = by_letters(written, candidate);
    // `login` where `context.user.login` is meant
    let is_last = candidate_lower.rsplit_once('.').is_some_and(|(_, last)| last == lower);
    (if is_last { 1 } else { by_letters(&lower, &candidate_lower) }, exact)
}

/// A mistake about the whole expression.
pub(super) fn mistake(sql: &Sql, title: String, help: &str) -> SqlMistake {
    SqlMistake { place: sql.place.clone(), span_in_sql: None, title, label: String::new(), help: help.to_owned() }
}

/// Every name in the expression that is no column, with its place.
pub(super) fn unknown_columns(
    what: &str,
    sql: &Sql,
    schema: &Schema,
    declared: Declared<'_>,
    ast: &ExprWithAlias,
) -> Vec<SqlMistake> {
    let mut mistakes = Vec::new();
    let _: ControlFlow<()> = visit_expressions(&ast.expr, |node| {
        let names: &[Ident] = match node {
            Ast::Identifier(name) => std::slice::from_ref(name),
            Ast::CompoundIdentifier(names) => names,
            _ => return ControlFlow::Continue(()),
        };
        if is_known(names, schema) {
            return ControlFlow::Continue(());
        }
        let path = names.iter().map(|name| name.value.as_str()).collect::<Vec<_>>().join(".");
        let (first, last) = (span(&sql.text, &names[0]), span(&sql.text, &names[names.len() - 1]));
        let label = match path.as_str() {
            "_batch" | "_attempt" | "_findings" => {
                "it says how a row was handled, and no verdict may depend on that".into()
            }
            path => declared.nearest(path, schema).unwrap_or_default(),
        };
        mistakes.push(SqlMistake {
            place: sql.place.clone(),
            span_in_sql: first.zip(last).map(|(first, last)| first.start..last.end),
            title: format!("{what} reads `{path}`, which the schema does not have"),
            label,
            help: String::new(),
        });
        ControlFlow::Continue(())
    });
    mistakes
}

/// The bytes of a name within the SQL.
pub(super) fn span(sql: &str, name: &Ident) -> Option<Range<usize>> {
    let start = byte(sql, name.span.start.line, name.span.start.column)?;
    let end = byte(sql, name.span.end.line, name.span.end.column)?;
    (start < end).then_some(start..end)
}

/// The byte at a line and column, both from 1.
fn byte(sql: &str, line: u64, column: u64) -> Option<usize> {
    let before: usize = sql.split_inclusive('\n').take(line.checked_sub(1)? as usize).map(str::len).sum();
    let within = sql[before..].char_indices().nth(column.checked_sub(1)? as usize);
    Some(within.map_or(sql.len(), |(at, _)| before + at))
}

/// The parser's refusal; it names the place at its end.
pub(super) fn unparsable(what: &str, sql: &Sql, error: &DataFusionError) -> SqlMistake {
    let words = words::of(error);
    let (message, at) = words.rsplit_once(" at Line: ").unwrap_or((&words, ""));
    let start = at.split_once(", Column: ").and_then(|(line, column)| {
        let column = column.split(|c: char| !c.is_ascii_digit()).next()?;
        byte(&sql.text, line.parse().ok()?, column.parse().ok()?)
    });
    let span_in_sql = start.map(|start| {
        let len = sql.text[start..].find(char::is_whitespace).unwrap_or(sql.text.len() - start);
        start..start + len
    });
    SqlMistake { span_in_sql, ..mistake(sql, format!("{what} is not SQL: {message}"), "") }
}
