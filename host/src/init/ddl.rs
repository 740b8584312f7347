//! The schema file: one field a line, what was seen of it beside it, and fields that no type holds as comments.

use super::profile::Profile;
use super::shape::{Field, Shape};
use crate::cli::text::thousands;
use crate::schema::ddl::quoted;

/// Evidence stands here, unless the declaration is longer.
const COMMENTS: usize = 40;

/// `CREATE TABLE`. `records`: how many objects the fields were seen in; `header` says where they came from.
pub(super) fn write(table: &str, header: &str, fields: &[Field<'_>], records: u64) -> String {
    let mut text = String::new();
    for line in header.lines() {
        text += &format!("-- {line}\n");
    }
    text += "-- Types are the shape: what does not fit them is a dead letter. Fields in comments are left out of every row.\n";
    text += &format!("CREATE TABLE {} (\n", quoted(table));
    let mut lines = Lines { text, unit: "records" };
    lines.fields(fields, records, 1, " ");
    lines.text += ")\n";
    lines.text
}

struct Lines {
    text: String,
    /// what counts are counted in: records, objects within them, or items of their arrays
    unit: &'static str,
}

impl Lines {
    /// The fields of an object of which there were `of`; `colon` stands between name and type.
    fn fields(&mut self, fields: &[Field<'_>], of: u64, level: usize, colon: &str) {
        let declared = fields.iter().filter(|field| field.shape.is_ok()).count();
        let width = fields.iter().filter(|f| f.shape.is_ok()).map(|f| name(f.name).chars().count()).max().unwrap_or(0);
        let mut written = 0;
        for field in fields {
            let shape = match &field.shape {
                Ok(shape) => shape,
                Err(why) => {
                    let (name, seen) = (shown(field.name), field.profile.present());
                    let counted = if seen == 0 { String::new() } else { format!("; {}", self.presence(seen, of)) };
                    self.text += &format!("{}-- {name}: {why}{counted}\n", "  ".repeat(level));
                    continue;
                }
            };
            written += 1;
            let comma = if written < declared { "," } else { "" };
            let head = format!("{}{colon}", name(field.name));
            let head = format!("{}{head:<1$}", "  ".repeat(level), width + colon.len());
            let evidence = self.evidence(field, shape, of);
            self.declared(&head, shape, field.profile, comma, &evidence, level);
        }
    }

    fn declared(
        &mut self,
        head: &str,
        shape: &Shape<'_>,
        profile: &Profile,
        comma: &str,
        evidence: &str,
        level: usize,
    ) {
        let (open, inner, close) = nesting(shape);
        let Shape::Struct(fields) = inner else {
            let line = format!("{head}{open}{comma}");
            self.text += &format!("{line:<COMMENTS$}  -- {evidence}\n");
            return;
        };
        let line = format!("{head}{open}");
        self.text += &format!("{line:<COMMENTS$}  -- {evidence}\n");
        let mut innermost = profile;
        let outside = std::mem::replace(&mut self.unit, "objects");
        while let (0, Some(items)) = (innermost.objects.count, innermost.items.as_deref()) {
            innermost = items;
            self.unit = "items";
        }
        self.fields(fields, innermost.objects.count, level + 1, ": ");
        self.unit = outside;
        self.text += &format!("{}{close}{comma}\n", "  ".repeat(level));
    }

    fn presence(&self, n: u64, of: u64) -> String {
        match n == of {
            true if of == 1 => format!("the one {}", self.unit.trim_end_matches('s')),
            true => format!("all {} {}", thousands(of), self.unit),
            false => format!("{} of {} {}", thousands(n), thousands(of), self.unit),
        }
    }

    fn evidence(&self, field: &Field<'_>, shape: &Shape<'_>, of: u64) -> String {
        let seen = field.profile;
        let mut parts = vec![self.presence(seen.present(), of)];
        match shape {
            Shape::BigInt | Shape::Unsigned | Shape::Double => {
                parts.push(seen.number.describe());
            }
            Shape::Text => {
                let few = seen.text.distinct.as_ref().filter(|few| few.len() as u64 * 20 <= seen.texts.count);
                match (few, seen.text.empty) {
                    (Some(few), _) => parts.push(format!("{} distinct", few.len())),
                    (None, 0) => {}
                    (None, empty) => parts.push(format!("{} empty", thousands(empty))),
                }
                for (what, n) in [("timestamps", seen.text.timestamps), ("dates", seen.text.dates)] {
                    if n > 0 {
                        parts.push(format!("{} are {what}", thousands(n)));
                    }
                }
            }
            Shape::Map(_) => parts.push(format!("{} names", thousands(seen.fields.len() as u64))),
            Shape::Boolean | Shape::Timestamp | Shape::Date | Shape::Struct(_) | Shape::Array(_) => {}
        }
        if let Some(note) = &field.note {
            parts.push(format!("{note}: those are dead letters"));
        }
        parts.join("; ")
    }
}

/// `ARRAY<STRUCT<`, the struct, `>>`; of other types the whole in one piece.
fn nesting<'s, 'p>(shape: &'s Shape<'p>) -> (String, &'s Shape<'p>, String) {
    match shape {
        Shape::Struct(_) => ("STRUCT<".to_owned(), shape, ">".to_owned()),
        Shape::Array(items) => wrapped("ARRAY<", items),
        Shape::Map(values) => wrapped("MAP<STRING, ", values),
        Shape::Boolean => ("BOOLEAN".to_owned(), shape, String::new()),
        Shape::BigInt => ("BIGINT".to_owned(), shape, String::new()),
        Shape::Unsigned => ("DECIMAL(20,0)".to_owned(), shape, String::new()),
        Shape::Double => ("DOUBLE".to_owned(), shape, String::new()),
        Shape::Timestamp => ("TIMESTAMP".to_owned(), shape, String::new()),
        Shape::Date => ("DATE".to_owned(), shape, String::new()),
        Shape::Text => ("STRING".to_owned(), shape, String::new()),
    }
}

fn wrapped<'s, 'p>(outer: &str, inner: &'s Shape<'p>) -> (String, &'s Shape<'p>, String) {
    let (open, innermost, close) = nesting(inner);
    match innermost {
        Shape::Struct(_) => (format!("{outer}{open}"), innermost, format!("{close}>")),
        _ => (format!("{outer}{open}>"), innermost, String::new()),
    }
}

/// A name as the schema's language takes it.
fn name(name: &str) -> String {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    // words that begin a constraint of the table
    let word = ["CHECK", "CONSTRAINT", "UNIQUE", "PRIMARY", "FOREIGN"].iter().any(|w| w.eq_ignore_ascii_case(name));
    if plain && !word { name.to_owned() } else { format!("`{name}`") }
}

/// A name of any characters within a comment: in one line.
fn shown(name: &str) -> String {
    let cut: String = name.chars().take(60).collect();
    format!("{cut:?}").trim_matches('"').to_owned()
}
