//! Types of columns: SQL's name → Arrow's type, as Delta stores it at its lowest protocol.

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, TimeUnit};
use sqlparser::tokenizer::Token;

use super::{DEEPEST, Ddl, Path, Step};
use crate::config::suggest::did_you_mean;

/// Names of types without arguments, aliases of Spark included.
const SIMPLE: [(&str, DataType); 17] = [
    ("STRING", DataType::Utf8),
    ("BOOLEAN", DataType::Boolean),
    ("TINYINT", DataType::Int8),
    ("BYTE", DataType::Int8),
    ("SMALLINT", DataType::Int16),
    ("SHORT", DataType::Int16),
    ("INT", DataType::Int32),
    ("INTEGER", DataType::Int32),
    ("BIGINT", DataType::Int64),
    ("LONG", DataType::Int64),
    ("FLOAT", DataType::Float32),
    ("REAL", DataType::Float32),
    ("DOUBLE", DataType::Float64),
    ("DATE", DataType::Date32),
    ("BINARY", DataType::Binary),
    // their arguments are read below; here for suggestions
    ("TIMESTAMP", DataType::Null),
    ("DECIMAL", DataType::Null),
];

/// A type that nobody can use, so that reading goes on behind a mistake.
const UNKNOWN: DataType = DataType::Null;

impl Ddl<'_> {
    /// A type, with the paths and constraints of the fields in it.
    pub(super) fn data_type(&mut self, path: &Path, depth: usize) -> Step<DataType> {
        let (word, span) = self.name("a type")?;
        let name = word.value.to_uppercase();
        if depth > DEEPEST {
            self.mistake(span, "this type is nested too deep", "", format!("at most {DEEPEST} levels"));
            return Err(super::Stop);
        }
        match name.as_str() {
            "TIMESTAMP" | "TIMESTAMP_LTZ" => {
                return Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
            }
            "DECIMAL" | "DEC" | "NUMERIC" => return self.decimal(),
            "STRUCT" => return self.structure(path, depth),
            "ARRAY" => {
                self.expect(Token::Lt, "`<` and the type of the elements")?;
                let element = self.data_type(&None, depth + 1)?;
                self.element_not_null();
                self.expect(Token::Gt, "`>`")?;
                return Ok(DataType::List(Arc::new(Field::new("element", element, true))));
            }
            "MAP" => return self.map(depth),
            _ => {}
        }
        if let Some((_, simple)) = SIMPLE.iter().find(|(known, _)| *known == name) {
            return Ok(simple.clone());
        }
        let help = match name.as_str() {
            "TIMESTAMP_NTZ" | "DATETIME" => {
                "use TIMESTAMP, an instant in UTC: TIMESTAMP_NTZ would raise the protocol of the table"
            }
            "VARCHAR" | "CHAR" | "CHARACTER" | "TEXT" | "NVARCHAR" => {
                "use STRING, and `CHECK (length(…) <= …)` for a bound"
            }
            "JSON" | "VARIANT" | "OBJECT" => "use STRING: a nested value is then kept as JSON text",
            "INTERVAL" | "TIME" | "VOID" | "UUID" => "use STRING or BIGINT",
            _ => "",
        };
        let suggestion = match help.is_empty() {
            true => did_you_mean(&name, SIMPLE.iter().map(|(known, _)| *known).chain(["STRUCT", "ARRAY", "MAP"])),
            false => String::new(),
        };
        self.mistake(span, format!("the type `{name}` is not available"), suggestion, help);
        self.tokens.skip_arguments();
        Ok(UNKNOWN)
    }

    /// `DECIMAL`, `DECIMAL(p)`, `DECIMAL(p, s)`; alone it is `DECIMAL(10, 0)`, as in Spark.
    fn decimal(&mut self) -> Step<DataType> {
        if !self.tokens.is(&Token::LParen) {
            return Ok(DataType::Decimal128(10, 0));
        }
        let start = self.tokens.span().start;
        self.expect(Token::LParen, "`(`")?;
        let Some(precision) = self.tokens.take_number() else { return self.stop("a number of digits") };
        let mut scale = 0;
        if self.tokens.take(&Token::Comma) {
            let Some(given) = self.tokens.take_number() else { return self.stop("a number of digits") };
            scale = given;
        }
        let end = self.tokens.span().end;
        self.expect(Token::RParen, "`)`")?;
        let fits = |p: u64| (1..=u64::from(DECIMAL128_MAX_PRECISION)).contains(&p).then_some(p)?.try_into().ok();
        match (fits(precision), i8::try_from(scale)) {
            (Some(digits), Ok(scale)) if scale as u64 <= precision => Ok(DataType::Decimal128(digits, scale)),
            _ => {
                let help =
                    format!("at most {DECIMAL128_MAX_PRECISION} digits in all, and no more than that behind the point");
                self.mistake(start..end, "such a decimal does not exist", "", help);
                Ok(UNKNOWN)
            }
        }
    }

    /// `STRUCT<name: TYPE [NOT NULL] [COMMENT '…'], …>`
    fn structure(&mut self, path: &Path, depth: usize) -> Step<DataType> {
        self.expect(Token::Lt, "`<` and the fields")?;
        let mut fields = Vec::new();
        loop {
            let (word, span) = self.name("a field's name")?;
            let name = self.legal(&word, &span);
            self.tokens.take(&Token::Colon);
            let inner = path.as_ref().map(|path| format!("{path}.{name}"));
            if let Some(inner) = &inner {
                let line = self.tokens.line(span.start);
                self.lines.insert(inner.clone(), line);
            }
            let data_type = self.data_type(&inner, depth + 1)?;
            if self.tokens.take_words(&["NOT", "NULL"]) {
                self.not_null(&inner, &span);
            }
            if self.tokens.take_word("COMMENT") {
                self.text("a comment in quotes")?;
            }
            fields.push((Field::new(name, data_type, true), span));
            if !self.tokens.take(&Token::Comma) {
                break;
            }
        }
        self.expect(Token::Gt, "`,` or `>`")?;
        self.refuse_duplicates(fields.iter().map(|(field, span)| (field.name().as_str(), span.clone())));
        Ok(DataType::Struct(fields.into_iter().map(|(field, _)| field).collect()))
    }

    /// `MAP<K, V>`; keys are never null in Arrow.
    fn map(&mut self, depth: usize) -> Step<DataType> {
        self.expect(Token::Lt, "`<` and the types of key and value")?;
        let key = self.data_type(&None, depth + 1)?;
        self.expect(Token::Comma, "`,` and the type of the values")?;
        let value = self.data_type(&None, depth + 1)?;
        self.element_not_null();
        self.expect(Token::Gt, "`>`")?;
        let entries = vec![Field::new("key", key, false), Field::new("value", value, true)];
        let entries = Field::new("key_value", DataType::Struct(entries.into()), false);
        Ok(DataType::Map(Arc::new(entries), false))
    }

    fn element_not_null(&mut self) {
        let span = self.tokens.span();
        if self.tokens.take_words(&["NOT", "NULL"]) {
            self.not_null(&None, &span);
        }
    }
}
