//! Attempts: what replays wrote against what was there before, over all tables and entries.
//!
//! That a replay's counts equal its rows is proven with those of all entries. Here: no row has the same attempt twice, and
//! none has an attempt that does not follow another one.

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::prelude::{DataFrame, SessionContext, col};

use crate::error::{Doing, Result};
use crate::outcome::Outcome;

use super::account::Account;
use super::{Report, Table, thousands};
use crate::schema::COORDINATES;

/// Rows that two replay entries wrote.
const TWICE: &str = "SELECT \"_topic\", \"_partition\", \"_offset\", \"_row\", \"_attempt\", count(*) OVER () AS n \
    FROM attempts WHERE \"_attempt\" > 0 GROUP BY 1, 2, 3, 4, 5 HAVING count(DISTINCT \"_batch\") > 1 \
    ORDER BY 1, 2, 3, 4, 5 LIMIT 1";

/// Rows whose record has no row of the attempt before.
const FIRST: &str = "SELECT \"_topic\", \"_partition\", \"_offset\", \"_row\", \"_attempt\", count(*) OVER () AS n \
    FROM (SELECT * FROM attempts WHERE \"_attempt\" > 0) AS later LEFT ANTI JOIN attempts AS before \
    ON before.\"_topic\" = later.\"_topic\" AND before.\"_partition\" = later.\"_partition\" \
    AND before.\"_offset\" = later.\"_offset\" AND before.\"_attempt\" = later.\"_attempt\" - 1 \
    ORDER BY 1, 2, 3, 4, 5 LIMIT 1";

/// Compares the attempts in the tables with each other, where anything was ever replayed.
pub(super) async fn compare(account: &Account, tables: &[&Table], report: &mut Report) -> Result<()> {
    let replays: Vec<_> = account.claims.iter().filter(|claim| claim.is_replay).collect();
    if replays.is_empty() {
        return Ok(());
    }
    let count = |outcome| -> u64 { replays.iter().filter_map(|claim| claim.rows.get(&outcome)).sum() };
    let counts = Outcome::LAST.map(|outcome| format!("{outcome} {}", thousands(count(outcome))));
    let noun = if replays.len() == 1 { "replay" } else { "replays" };
    report.notes.push(format!(
        "{} {noun} judged rows once more: {}",
        thousands(replays.len() as u64),
        counts.join(", ")
    ));
    let session = SessionContext::new();
    let doing = || "cannot compare the attempts in the tables".to_owned();
    let mut union: Option<DataFrame> = None;
    for table in tables {
        let provider = table.table.table_provider().await.doing(doing)?;
        table.table.update_datafusion_session(&session.state()).doing(doing)?;
        let columns = COORDINATES.map(|name| col(format!("\"{name}\"")));
        let rows = session.read_table(provider).doing(doing)?.select(columns.to_vec()).doing(doing)?;
        union = Some(match union {
            Some(union) => union.union(rows).doing(doing)?,
            None => rows,
        });
    }
    let Some(union) = union else { return Ok(()) };
    session.register_table("attempts", union.into_view()).doing(doing)?;
    // of what is not looked at, nobody knows which attempts it has
    let is_whole = |table: &&&Table| account.unproven(table).is_none() && account.gone(table).0 == 0;
    let all_seen =
        Outcome::LAST.iter().all(|outcome| tables.iter().filter(is_whole).any(|table| table.outcome == *outcome));
    if tables.iter().any(|table| account.gone(table).0 > 0) {
        report.notes.push("rows expired, so that an attempt without the one before it would not be noticed".into());
    }
    let twice = (TWICE, "is the same attempt in two entries");
    let first = (FIRST, "follows no attempt before it");
    for (sql, what) in [Some(twice), all_seen.then_some(first)].into_iter().flatten() {
        for rows in session.sql(sql).await.doing(doing)?.collect().await.doing(doing)? {
            if rows.num_rows() > 0 {
                report.wrong(sentence(&rows, what).doing(doing)?);
            }
        }
    }
    Ok(())
}

/// `visits/0 offset 7 row 0, attempt 2 follows no attempt before it, and 3 more like it`.
fn sentence(rows: &RecordBatch, what: &str) -> std::result::Result<String, arrow::error::ArrowError> {
    let column = |at: usize| cast(rows.column(at), &DataType::Int64);
    let (partition, offset, row) = (column(1)?, column(2)?, column(3)?);
    let (attempt, n) = (column(4)?, column(5)?);
    let of = |column: &ArrayRef| column.as_primitive::<Int64Type>().value(0);
    let more = if of(&n) > 1 { format!(", and {} more like it", thousands(of(&n) as u64 - 1)) } else { String::new() };
    let topic = cast(rows.column(0), &DataType::Utf8)?;
    Ok(format!(
        "{}/{} offset {} row {}: attempt {} {what}{more}",
        topic.as_string::<i32>().value(0),
        of(&partition),
        of(&offset),
        of(&row),
        of(&attempt)
    ))
}
