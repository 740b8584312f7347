//! A schema written as `CREATE TABLE`, in the language of Spark and Databricks.
//!
//! sqlparser cuts the text into tokens and checks the expressions of `CHECK`; the declaration itself is read here, since
//! its grammar for this dialect has no `MAP<…>` and no `NOT NULL` inside a `STRUCT`, and stops at the first mistake.
//! What a declaration may say elsewhere and would mean nothing here (keys, defaults, partitions, locations) is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{Field, Fields};
use sqlparser::ast::Expr;
use sqlparser::dialect::DatabricksDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Word};

use super::{Constraint, NAME_HELP, RESERVED, Schema, is_column_name};
use crate::config::{Mistakes, Place, Sources};
use tokens::Tokens;

mod tokens;
mod types;

/// Deeper than any payload is decoded.
const DEEPEST: usize = 64;

/// A syntax error was reported; nothing behind it can be read.
struct Stop;

type Step<T> = Result<T, Stop>;

impl Schema {
    /// Reads one `CREATE TABLE`. `file` is the path as shown in mistakes, which are all reported at once, except that
    /// nothing is read behind an error of syntax.
    pub fn from_ddl(text: &str, file: &str) -> Result<Schema, Mistakes> {
        let file: Arc<str> = file.into();
        let mut sources = Sources::default();
        sources.add(file.clone(), text);
        let mut ddl = Ddl {
            file,
            text,
            tokens: Tokens::default(),
            mistakes: Mistakes::new(sources),
            constraints: Vec::new(),
            lines: BTreeMap::new(),
            checks: 0,
        };
        let fields = match Tokens::new(text) {
            Ok(tokens) => {
                ddl.tokens = tokens;
                ddl.table().ok()
            }
            Err((span, why)) => {
                ddl.mistake(span, format!("this is not SQL: {why}"), "", "");
                None
            }
        };
        let Ddl { file, mistakes, constraints, lines, .. } = ddl;
        match fields {
            Some(fields) if mistakes.is_empty() => Ok(Schema {
                arrow: Arc::new(arrow::datatypes::Schema::new(fields)),
                constraints,
                file,
                text: text.to_owned(),
                lines,
            }),
            _ => Err(mistakes),
        }
    }
}

/// A declaration while it is read.
struct Ddl<'t> {
    file: Arc<str>,
    text: &'t str,
    tokens: Tokens,
    mistakes: Mistakes,
    constraints: Vec<Constraint>,
    lines: BTreeMap<String, usize>,
    checks: usize,
}

/// Where a field stands: its path, or `None` inside arrays and maps, which have no paths.
type Path = Option<String>;

impl Ddl<'_> {
    fn mistake(
        &mut self,
        span: Range<usize>,
        title: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.mistakes.push(Place { file: self.file.clone(), span }, title, label, help);
    }

    fn stop<T>(&mut self, wanted: &str) -> Step<T> {
        let (title, span) = (format!("expected {wanted}"), self.tokens.span());
        let label = if self.tokens.is_end() { "the text ends here" } else { "" };
        let help = match self.text[span.clone()].is_ascii() {
            true => "a schema is one `CREATE TABLE name (column TYPE, …)`",
            false => "names with letters beyond a to z stand in backticks",
        };
        self.mistake(span, title, label, help);
        Err(Stop)
    }

    fn expect(&mut self, token: Token, wanted: &str) -> Step<()> {
        if self.tokens.take(&token) { Ok(()) } else { self.stop(wanted) }
    }

    fn expect_words(&mut self, words: &[&str]) -> Step<()> {
        for word in words {
            if !self.tokens.take_word(word) {
                return self.stop(&format!("`{word}`"));
            }
        }
        Ok(())
    }

    /// A name, quoted or not, and its place.
    fn name(&mut self, wanted: &str) -> Step<(Word, Range<usize>)> {
        match self.tokens.take_any_word() {
            Some(found) => Ok(found),
            None => self.stop(wanted),
        }
    }

    fn text(&mut self, wanted: &str) -> Step<()> {
        if self.tokens.take_text() { Ok(()) } else { self.stop(wanted) }
    }

    /// `CREATE TABLE name ( … )` and the end.
    fn table(&mut self) -> Step<Fields> {
        self.expect_words(&["CREATE"])?;
        if self.tokens.take_word("OR") {
            self.expect_words(&["REPLACE"])?;
        }
        self.expect_words(&["TABLE"])?;
        if self.tokens.take_word("IF") {
            self.expect_words(&["NOT", "EXISTS"])?;
        }
        self.name("the table's name")?;
        while self.tokens.take(&Token::Period) {
            self.name("the table's name")?;
        }
        let open = self.tokens.span();
        self.expect(Token::LParen, "`(` and the columns")?;
        let mut fields = Vec::new();
        loop {
            if self.is_table_constraint() {
                self.table_constraint()?;
            } else {
                fields.push(self.column()?);
            }
            if !self.tokens.take(&Token::Comma) {
                break;
            }
        }
        self.expect(Token::RParen, "`,` or `)`")?;
        self.refuse_duplicates(fields.iter().map(|(field, span)| (field.name().as_str(), span.clone())));
        if fields.is_empty() {
            self.mistake(open, "this table has no columns", "", "");
        }
        self.clauses()?;
        Ok(fields.into_iter().map(|(field, _)| field).collect())
    }

    /// What may stand behind the columns.
    fn clauses(&mut self) -> Step<()> {
        loop {
            let span = self.tokens.span();
            if self.tokens.take_word("USING") {
                if !self.tokens.take_word("DELTA") {
                    return self.stop("`DELTA`");
                }
            } else if self.tokens.take_word("COMMENT") {
                self.text("a comment in quotes")?;
            } else if self.tokens.take(&Token::SemiColon) {
            } else if self.tokens.is_end() {
                return Ok(());
            } else if self.tokens.is_word("CREATE") {
                self.mistake(span, "a second table", "", "a pipeline has one schema: a file declares one table");
                return Err(Stop);
            } else {
                let help = match self.tokens.is_word("PARTITIONED") {
                    true => "say `partition_by` on the sink instead",
                    false => "the schema says what a row looks like; where it is stored is said in `[sink]`",
                };
                self.mistake(span, "this clause is not available", "", help);
                return Err(Stop);
            }
        }
    }

    /// Two names that differ in case only are one name to Delta.
    fn refuse_duplicates<'n>(&mut self, names: impl Iterator<Item = (&'n str, Range<usize>)>) {
        let mut seen = BTreeSet::new();
        for (name, span) in names {
            if !seen.insert(name.to_lowercase()) {
                self.mistake(span, format!("`{name}` is declared twice"), "", "names are the same whatever their case");
            }
        }
    }

    /// `name TYPE [NOT NULL] …`
    fn column(&mut self) -> Step<(Field, Range<usize>)> {
        let (word, span) = self.name("a column's name")?;
        let name = self.legal(&word, &span);
        if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(&name)) {
            let help = "every row has a column of that name; rename it at the producer";
            self.mistake(span.clone(), format!("`{name}` is reserved"), "", help);
        }
        self.lines.insert(name.clone(), self.tokens.line(span.start));
        let data_type = self.data_type(&Some(name.clone()), 1)?;
        loop {
            if self.tokens.take_words(&["NOT", "NULL"]) {
                self.not_null(&Some(name.clone()), &span);
            } else if self.tokens.take_word("NULL") {
            } else if self.tokens.take_word("COMMENT") {
                self.text("a comment in quotes")?;
            } else if self.is_table_constraint() {
                self.table_constraint()?;
            } else if self.tokens.is(&Token::Comma) || self.tokens.is(&Token::RParen) || self.tokens.is_end() {
                return Ok((Field::new(name, data_type, true), span));
            } else {
                self.refuse_option()?;
            }
        }
    }

    /// `DEFAULT 1`, `PRIMARY KEY`, …: refused, and skipped to the end of the column.
    fn refuse_option(&mut self) -> Step<()> {
        let span = self.tokens.span();
        if self.tokens.take_any_word().is_none() {
            return self.stop("`,` or `)`");
        }
        let option = self.text[span.clone()].to_uppercase();
        let help = "a schema has types, `NOT NULL`, `CHECK` and `COMMENT`: keys and defaults mean nothing to a stream";
        self.mistake(span, format!("`{option}` is not available"), "", help);
        self.tokens.skip_item();
        Ok(())
    }

    fn is_table_constraint(&self) -> bool {
        let (first, second) = (self.tokens.word_at(0), self.tokens.word_at(1));
        match first.as_deref() {
            Some("CONSTRAINT") => matches!(
                self.tokens.word_at(2).as_deref(),
                Some("CHECK" | "PRIMARY" | "FOREIGN" | "UNIQUE" | "NOT" | "REFERENCES")
            ),
            Some("CHECK" | "UNIQUE") => self.tokens.is_at(1, &Token::LParen),
            Some("PRIMARY" | "FOREIGN") => second.as_deref() == Some("KEY"),
            _ => false,
        }
    }

    /// `[CONSTRAINT name] CHECK (…)`; keys are refused.
    fn table_constraint(&mut self) -> Step<()> {
        let given = if self.tokens.take_word("CONSTRAINT") { Some(self.name("the constraint's name")?) } else { None };
        if !self.tokens.is_word("CHECK") {
            return self.refuse_option();
        }
        self.expect_words(&["CHECK"])?;
        let (sql, span) = self.parenthesised()?;
        let (name, named_at) = match given {
            Some((word, at)) => (word.value, at),
            None => {
                self.checks += 1;
                (format!("check-{}", self.checks), span.clone())
            }
        };
        self.constraint(name, sql, span, named_at);
        Ok(())
    }

    fn constraint(&mut self, name: String, sql: String, span: Range<usize>, named_at: Range<usize>) {
        if self.constraints.iter().any(|other| other.name == name) {
            self.mistake(
                named_at,
                format!("two constraints are called `{name}`"),
                "",
                "it is the code of a finding: rename one",
            );
            return;
        }
        let line = self.tokens.line(span.start);
        self.constraints.push(Constraint { name, sql, line, span });
    }

    /// `NOT NULL`: a value must be there wherever its parent is.
    fn not_null(&mut self, path: &Path, span: &Range<usize>) {
        let Some(path) = path else {
            let help = "say it as an expectation over the whole column";
            self.mistake(span.clone(), "`NOT NULL` inside an array or a map is not available", "", help);
            return;
        };
        let sql = match path.rsplit_once('.') {
            Some((parent, _)) => format!("{} IS NULL OR {} IS NOT NULL", quoted(parent), quoted(path)),
            None => format!("{} IS NOT NULL", quoted(path)),
        };
        self.constraint(format!("not-null-{path}"), sql, span.clone(), span.clone());
    }

    /// The text between parentheses, checked to be one expression.
    fn parenthesised(&mut self) -> Step<(String, Range<usize>)> {
        self.expect(Token::LParen, "`(` and an expression")?;
        let Some(inner) = self.tokens.skip_to_closing() else { return self.stop("`)`") };
        let slice = &self.text[inner.clone()];
        let start = inner.start + slice.len() - slice.trim_start().len();
        let span = start..start + slice.trim().len();
        let sql = &self.text[span.clone()];
        let dialect = DatabricksDialect {};
        let parsed = Parser::new(&dialect).try_with_sql(sql).and_then(|mut parser| {
            parser.parse_expr()?;
            parser.expect_token(&Token::EOF).map(|_| ())
        });
        if let Err(error) = parsed {
            let why = error.to_string();
            let why = why.trim_start_matches("sql parser error: ");
            let why = why.rsplit_once(" at Line: ").map_or(why, |(why, _)| why);
            self.mistake(span.clone(), format!("this is not an expression: {why}"), "", "");
        }
        Ok((sql.to_owned(), span))
    }

    /// The name as written, reported where files cannot carry it.
    fn legal(&mut self, word: &Word, span: &Range<usize>) -> String {
        let name = word.value.clone();
        if !is_column_name(&name) {
            self.mistake(span.clone(), format!("`{name}` cannot be the name of a column"), "", NAME_HELP);
        }
        name
    }
}

/// The path as an expression: in backticks where a word of it means something else to SQL.
pub(crate) fn quoted(path: &str) -> String {
    let dialect = DatabricksDialect {};
    let plain = Parser::new(&dialect).try_with_sql(path).and_then(|mut parser| {
        let expression = parser.parse_expr()?;
        parser.expect_token(&Token::EOF)?;
        Ok(matches!(expression, Expr::Identifier(_) | Expr::CompoundIdentifier(_)))
    });
    if plain.unwrap_or(false) {
        return path.to_owned();
    }
    path.split('.').map(|name| format!("`{name}`")).collect::<Vec<_>>().join(".")
}
