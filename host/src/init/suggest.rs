//! What could be expected of every row, by what was seen: each suggestion holds for the whole sample, or is a comment.
//!
//! That something is there, and texts are not empty: error. That a text is one of few, that a number is not negative: a
//! warning, since a sample does not know what else is right.

use super::profile::Profile;
use super::shape::{Field, Shape};
use crate::cli::text::{share, thousands};
use crate::config::is_name;
use crate::schema::ddl::quoted;

/// A text that is one of few has come so often for each of them.
const EACH: u64 = 20;
/// Numbers of which none is negative.
const NUMBERS: u64 = 50;
/// What so many of a hundred have is worth a comment.
const NEARLY: u64 = 95;
/// So many of a hundred have their time.
const TIMED: u64 = 99;

/// An expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// the finding's code
    pub name: String,
    /// what must hold
    pub sql: String,
    /// whether it only warns
    pub warns: bool,
    /// what was seen
    pub evidence: String,
    /// whether it holds for the sample; else it is mentioned in a comment
    pub holds: bool,
}

/// All of them, in the order of the columns. `records`: objects that were seen.
pub(super) fn expectations(fields: &[Field<'_>], records: u64) -> Vec<Suggestion> {
    let mut all = Vec::new();
    walk(fields, "", &mut |path, profile, shape| leaf(path, profile, shape, records, &mut all));
    let mut taken = std::collections::BTreeSet::new();
    for suggestion in &mut all {
        let wanted = suggestion.name.clone();
        let mut n = 1;
        while !taken.insert(suggestion.name.clone()) {
            n += 1;
            let end = format!("-{n}");
            suggestion.name = format!("{}{end}", &wanted[..wanted.len().min(64 - end.len())]);
        }
    }
    all
}

/// Every declared column that is no struct, with its path; those within arrays and maps have none.
fn walk(fields: &[Field<'_>], above: &str, see: &mut dyn FnMut(&str, &Profile, &Shape<'_>)) {
    for field in fields {
        let path = format!("{above}{}", field.name);
        match &field.shape {
            Ok(Shape::Struct(inner)) => walk(inner, &format!("{path}."), see),
            Ok(shape) => see(&path, field.profile, shape),
            Err(_) => {}
        }
    }
}

fn leaf(path: &str, seen: &Profile, shape: &Shape<'_>, records: u64, all: &mut Vec<Suggestion>) {
    let (present, column) = (seen.present(), quoted(path));
    // a value that is tolerated but does not fit is a dead letter: nobody judges it
    let is_text = matches!(shape, Shape::Text);
    let never_empty = is_text && seen.text.empty == 0;
    let sql =
        if never_empty { format!("{column} IS NOT NULL AND {column} <> ''") } else { format!("{column} IS NOT NULL") };
    let named = |what: &str| name(what, path);
    if present == records {
        let empty = if never_empty { ", never empty" } else { "" };
        let evidence = format!("all {} records have it{empty}", thousands(records));
        all.push(Suggestion { name: named("has"), sql, warns: false, evidence, holds: true });
    } else if present * 100 >= records * NEARLY {
        let missing = records - present;
        let evidence = format!(
            "{} of {} records have it: with this, {} would be refused",
            thousands(present),
            thousands(records),
            if missing == 1 { "1 record".to_owned() } else { format!("{} records", thousands(missing)) },
        );
        all.push(Suggestion { name: named("has"), sql, warns: false, evidence, holds: false });
    }
    let few = seen.text.distinct.as_ref().filter(|few| is_text && is_closed(seen, few.len() as u64));
    if let Some(few) = few {
        let values: Vec<String> = few.keys().map(|text| format!("'{}'", text.replace('\'', "''"))).collect();
        let most = few.iter().max_by_key(|(_, n)| **n);
        let most = most.map_or_else(String::new, |(text, n)| {
            format!(", mostly {} ({})", if text.is_empty() { "empty" } else { text }, share(*n, seen.texts.count))
        });
        let sql = format!("{column} IN ({})", values.join(", "));
        let evidence = format!("{} values in {} texts{most}", few.len(), thousands(seen.texts.count));
        all.push(Suggestion { name: named("known"), sql, warns: true, evidence, holds: true });
    }
    let is_number = matches!(shape, Shape::BigInt | Shape::Unsigned | Shape::Double);
    if let (true, Some((least, _))) = (is_number && seen.numbers.count >= NUMBERS, seen.number.range)
        && least >= 0.0
    {
        let evidence = format!("{} in {} numbers", seen.number.describe(), thousands(seen.numbers.count));
        let sql = format!("{column} >= 0");
        all.push(Suggestion { name: named("not-negative"), sql, warns: true, evidence, holds: true });
    }
}

/// Whether a text is one of few: each came often, none was new in the second half, and all can be written into SQL.
fn is_closed(seen: &Profile, few: u64) -> bool {
    let plain = |text: &str| !text.contains(['\\', '`', '"']) && !text.contains(char::is_control);
    few > 0
        && seen.texts.count >= few * EACH
        && seen.text.last_new * 2 <= seen.texts.count
        && seen.text.distinct.iter().flatten().all(|(text, _)| plain(text))
}

/// `has-context-user-login`: of the characters that a name may have, and no longer.
fn name(what: &str, path: &str) -> String {
    let plain: String = path.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let name: String = format!("{what}-{plain}").chars().take(64).collect();
    debug_assert!(is_name(&name), "{name}");
    name
}

/// The TIMESTAMP that most likely says when a row happened: one that nearly every record has, by its name, else the only one.
pub(super) fn event_time(fields: &[Field<'_>], records: u64) -> Option<(String, String)> {
    const NAMES: [&str; 9] =
        ["event_time", "eventtime", "event_timestamp", "timestamp", "occurred_at", "ts", "time", "created_at", "at"];
    let mut times: Vec<(usize, usize, String, u64)> = Vec::new();
    walk(fields, "", &mut |path, seen, shape| {
        if !matches!(shape, Shape::Timestamp) || seen.present() * 100 < records * TIMED {
            return;
        }
        let last = path.rsplit('.').next().unwrap_or(path).to_lowercase();
        let rank = NAMES.iter().position(|name| *name == last).unwrap_or(NAMES.len());
        times.push((rank, path.matches('.').count(), path.to_owned(), seen.present()));
    });
    times.sort();
    let only = times.len() == 1;
    let (rank, _, path, present) = times.into_iter().next()?;
    (rank < NAMES.len() || only).then(|| {
        let all = if present == records { "all".to_owned() } else { format!("{} of", thousands(present)) };
        (path, format!("a time in {all} {} records", thousands(records)))
    })
}
