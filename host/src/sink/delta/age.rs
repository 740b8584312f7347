//! How old the rows of a table's files are, as far as it can be known without opening them.
//!
//! A row is as old as the entry that put it into the table ([`keep`](crate::ledger::keep)). Where rows have their `_batch`, the
//! table's statistics bound it; where they have not, a file has the rows of one entry, and its name says of which.

use chrono::{DateTime, Utc};
use datafusion::prelude::{Expr, col, lit};
use deltalake::kernel::{Add, LogicalFileView, StructType};
use serde::Deserialize;

use crate::ledger::keep::{first_id, opened};
use crate::schema::COORDINATES;
use crate::sink::files::WrittenFor;

/// When the first and the last of the entries were opened that rows of a file are of, milliseconds since the epoch.
pub type Span = (i64, i64);

/// Rows of a file against the time from which on rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// all of them are older
    Past,
    /// some of them may be older
    Mixed,
    /// none of them is older
    Young,
}

/// Whether the rows of a table say where they came from.
pub fn has_coordinates(schema: &StructType) -> bool {
    COORDINATES.iter().all(|column| schema.field(column).is_some())
}

/// Between which times a file's rows came into the table; `None` where nobody knows.
pub fn span(file: &LogicalFileView, has_coordinates: bool) -> Option<Span> {
    if !has_coordinates {
        let path = file.path();
        return match WrittenFor::of(path.rsplit('/').next().unwrap_or(&path))? {
            WrittenFor::Entry(entry) => Some((opened(entry), opened(entry))),
            WrittenFor::Table => None,
        };
    }
    let stats: Stats = serde_json::from_str(&file.stats()?).ok()?;
    Some((milliseconds(&stats.min_values?.batch?)?, milliseconds(&stats.max_values?.batch?)?))
}

/// What a table says of a file, as far as it is asked here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    min_values: Option<Bounds>,
    max_values: Option<Bounds>,
}

#[derive(Deserialize)]
struct Bounds {
    #[serde(rename = "_batch")]
    batch: Option<String>,
}

/// The time in the text of a UUIDv7, of which a bound in statistics has the most part.
fn milliseconds(id: &str) -> Option<i64> {
    let (high, rest) = id.split_once('-')?;
    let low = rest.get(..4)?;
    (high.len() == 8).then(|| i64::from_str_radix(&format!("{high}{low}"), 16).ok())?
}

/// How old a file is. One of which nobody knows may have rows of any age, if its rows say so themselves.
pub fn age(file: &LogicalFileView, has_coordinates: bool, kept_from: DateTime<Utc>) -> Age {
    let from = kept_from.timestamp_millis();
    match span(file, has_coordinates) {
        Some((_, last)) if last < from => Age::Past,
        Some((first, _)) if first >= from => Age::Young,
        Some(_) => Age::Mixed,
        None if has_coordinates => Age::Mixed,
        None => Age::Young,
    }
}

/// Rows that are older, where rows say how old they are.
pub fn is_older(kept_from: DateTime<Utc>) -> Expr {
    col(format!("\"{}\"", COORDINATES[0])).lt(lit(first_id(kept_from).to_string()))
}

/// A file as a reader must know it: what others deleted in it stays deleted.
pub fn live(file: &LogicalFileView) -> Add {
    Add {
        path: file.path().into_owned(),
        size: file.size(),
        modification_time: file.modification_time(),
        partition_values: file.partition_values_map(),
        deletion_vector: file.deletion_vector_descriptor(),
        ..Add::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_bound_that_was_cut_has_its_time() {
        let id = Uuid::now_v7();
        let text = id.to_string();
        let up: String = text.chars().take(31).chain(['g']).collect();
        for bound in [&text, &text[..32], &up] {
            assert_eq!(milliseconds(bound), Some(opened(id)), "{bound}");
        }
        for strange in ["", "null", "0199", "visits-0", "01990000-zzzz"] {
            assert_eq!(milliseconds(strange), None, "{strange}");
        }
    }
}
