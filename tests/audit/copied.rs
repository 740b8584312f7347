//! Windows whose rows are published as they are: what another reader finds is what was staged, whichever way it came.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::json;

use super::{counted, pipeline, project, reasons, reconciled, run, tables, visit};
use crate::peer;
use crate::project::{Project, VISITS_SQL};

/// Rows of the windows here: enough that row groups are worth to be taken over.
const ROWS: usize = 12_000;

/// One visit in so many is refused: enough in each batch that the table of errors can take them over, too.
const REFUSED: usize = 20;

/// Visits of which every 20th is refused and every 1,000th has a warning, with something in every column.
fn visits(n: usize) -> String {
    let line = |i: usize| {
        let user = if i.is_multiple_of(REFUSED) { String::new() } else { format!("u{i}") };
        let mut line: serde_json::Value = serde_json::from_str(&visit(&format!("v{i}"), 1, &user)).expect("it is JSON");
        if !i.is_multiple_of(3) {
            line["context"] = json!({
                "ad_id": format!("a{}", i % 7), "user": {"login": format!("l{i}")}, "technical": {"browser": "b"},
            });
        }
        if i % 1_000 == 1 {
            line["event_time"] = "2999-01-01T00:00:00Z".into();
        }
        line.to_string() + "\n"
    };
    (0..n).map(line).collect()
}

/// Rows that only one of a table and the rows of staging that it should have has, each in all its columns.
fn differences(project: &Project, table: &str, columns: &str) -> u64 {
    let is_of = if table == "error" { "_rejected" } else { "NOT _rejected" };
    let (published, staged) =
        (format!("SELECT {columns} FROM {table}"), format!("SELECT {columns} FROM staging WHERE {is_of}"));
    let sql = format!(
        "SELECT (SELECT count(*) FROM ({published} EXCEPT {staged})) + (SELECT count(*) FROM ({staged} EXCEPT {published})) \
         AS n"
    );
    peer::sql(&sql, &tables(project))[0]["n"].as_u64().expect("a count")
}

const COLUMNS: &str = "visit_id, event_time, user_id, keep_private, page, context['ad_id'] AS ad, context['user']['login'] AS login, \
                       context['technical']['browser'] AS browser, context IS NULL AS none, _topic, _partition, _offset, _row, \
                       _attempt, coalesce(array_length(_findings), 0) AS findings, _findings[1]['code'] AS code, \
                       _findings[1]['rule'] AS rule";

/// Files of a table that were put together from row groups of others: they do not say where pages are.
fn put_together(table: &Path) -> usize {
    let files = std::fs::read_dir(table).expect("a table").map(|file| file.expect("a file").path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "parquet"));
    let is_put_together = |path: &std::path::PathBuf| {
        let reader = SerializedFileReader::new(File::open(path).expect("it is there")).expect("it is Parquet");
        reader.metadata().row_group(0).column(0).offset_index_offset().is_none()
    };
    files.filter(is_put_together).count()
}

#[test]
fn rows_that_are_taken_over_are_those_that_were_staged() {
    let project = project(&format!("window = \"{ROWS} rows\"\nunique = [\"visit_id\"]"));
    project.write("in/a.ndjson", visits(2 * ROWS));
    run(&project);
    let refused = (2 * ROWS / REFUSED) as u64;
    assert_eq!(counted(&project), [2 * ROWS as u64 - refused, refused, 0, 2 * ROWS as u64]);
    for (table, folder) in [("valid", "lake/visits"), ("error", "lake/visits_errors")] {
        assert_eq!(differences(&project, table, COLUMNS), 0, "{table}");
        assert!(put_together(&project.path().join(folder)) > 0, "every row of {table} was read and written again");
    }
    let warned = peer::sql("SELECT count(*) AS n FROM valid WHERE array_length(_findings) > 0", &tables(&project));
    assert_eq!(warned, json!([{ "n": 2 * ROWS / 1_000 }]));
    reconciled(&project);
}

#[test]
fn a_copy_among_rows_that_could_be_taken_over_is_found_and_refused() {
    let project = project(&format!("window = \"{ROWS} rows\"\nunique = [\"visit_id\"]"));
    let lines = visits(ROWS - 1) + &visits(3).lines().last().map(|line| format!("{line}\n")).expect("three lines");
    project.write("in/a.ndjson", lines);
    run(&project);
    let refused = ROWS.div_ceil(REFUSED) as u64 + 1;
    assert_eq!(counted(&project), [ROWS as u64 - refused, refused, 0, ROWS as u64]);
    assert_eq!(reasons(&project), BTreeMap::from([("duplicate".to_owned(), 1)]));
    reconciled(&project);
}

#[test]
fn tables_with_partitions_or_other_columns_get_the_same_rows() {
    for (sink, columns, n) in [
        ("valid   = { delta = \"lake/visits\", partition_by = [\"page\"] }", COLUMNS, 0),
        (
            "valid   = { delta = \"lake/visits\", columns = [\"visit_id\", \"user_id\"] }",
            "visit_id, user_id, _offset",
            1,
        ),
        ("valid   = { delta = \"lake/visits\", columns = [\"page as visit_id\"] }", "_offset", 0),
    ] {
        let toml = pipeline("files = [\"in/*.ndjson\"]", &format!("window = \"{ROWS} rows\""));
        let toml = toml.replace("valid   = { delta = \"lake/visits\" }", sink);
        let project = Project::new(&[("sluice.toml", toml.as_str()), ("visits.sql", VISITS_SQL)]);
        project.write("in/a.ndjson", visits(ROWS));
        run(&project);
        assert_eq!(counted(&project)[0], (ROWS - ROWS / REFUSED) as u64, "{sink}");
        assert_eq!(differences(&project, "valid", columns), 0, "{sink}");
        assert_eq!(differences(&project, "error", COLUMNS), 0, "{sink}");
        let is_whole = |n| put_together(&project.path().join("lake/visits")).min(1) == n;
        assert!(!sink.contains("partition_by") && is_whole(n) || sink.contains("partition_by"), "{sink}");
        reconciled(&project);
    }
}
