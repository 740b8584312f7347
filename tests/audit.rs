//! Whole windows: what waits in staging, what is decided over it, and what another reader then finds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::peer;
use crate::project::{Project, VISITS_SQL};

mod again;
mod copied;
mod hand;
mod learned;
mod running;
mod scenario;
mod windows;

/// A pipeline with windows; `audit` is the `[audit]` section's text, `source` that of `[source]`.
fn pipeline(source: &str, audit: &str) -> String {
    format!(
        r#"name  = "visits"
state = "lake/_sluice/visits"

[source]
{source}

[schema]
file       = "visits.sql"
event_time = "event_time"

[expect]
complete = "user_id IS NOT NULL AND page IS NOT NULL"

[audit]
{audit}

[sink]
staging = {{ delta = "lake/visits_staging" }}
valid   = {{ delta = "lake/visits" }}
error   = {{ delta = "lake/visits_errors" }}
dlq     = {{ delta = "lake/visits_dlq" }}
"#
    )
}

/// A folder with a pipeline over files.
fn project(audit: &str) -> Project {
    let toml = pipeline("files = [\"in/*.ndjson\"]", audit);
    Project::new(&[("sluice.toml", toml.as_str()), ("visits.sql", VISITS_SQL), ("in/readme.txt", "no records")])
}

/// A visit at a minute of the 20th of November; `user` is null where it is empty.
fn visit(id: &str, minute: i64, user: &str) -> String {
    let time = chrono::DateTime::from_timestamp(1_763_640_000 + minute * 60, 0).expect("a time");
    let user = if user.is_empty() { Value::Null } else { user.into() };
    json!({"visit_id": id, "event_time": time.to_rfc3339(), "user_id": user, "page": "index"}).to_string() + "\n"
}

/// The key of the window of so many minutes that a minute of [`visit`] lies in.
fn window(minute: i64, length: i64) -> String {
    let time = 1_763_640_000 + minute.div_euclid(length) * length * 60;
    chrono::DateTime::from_timestamp(time, 0).expect("a time").format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn tables(project: &Project) -> Vec<(&'static str, PathBuf)> {
    let mut tables = project.tables();
    tables.push(("staging", project.path().join("lake/visits_staging")));
    tables
}

/// Rows in valid, error, dlq and staging, counted by another reader; a coordinate must not be twice in the first three.
fn counted(project: &Project) -> [u64; 4] {
    let tables = tables(project);
    let sql = "SELECT (SELECT count(*) FROM valid) AS valid, (SELECT count(*) FROM error) AS error, \
               (SELECT count(*) FROM dlq) AS dlq, (SELECT count(*) FROM staging) AS staging";
    let rows = peer::sql(sql, &tables);
    let doubled = project.counted().doubled;
    assert_eq!(doubled, 0, "rows are twice in valid, error and dlq");
    ["valid", "error", "dlq", "staging"].map(|name| rows[0][name].as_u64().unwrap_or_else(|| panic!("{rows}")))
}

/// Code of an audit finding → rows in error that carry it.
fn reasons(project: &Project) -> BTreeMap<String, u64> {
    let sql = "SELECT f['code'] AS code, count(*) AS n FROM (SELECT unnest(_findings) AS f FROM error) \
               WHERE f['rule'] = 'audit' GROUP BY 1 ORDER BY 1";
    let rows = peer::sql(sql, &tables(project));
    let rows = rows.as_array().expect("a list").iter();
    rows.map(|row| (row["code"].as_str().unwrap_or_default().to_owned(), row["n"].as_u64().unwrap_or(0))).collect()
}

/// What `sluice audit list --json` says, in order: window, state, rows.
fn listed(project: &Project) -> Vec<(String, String, u64)> {
    let text = project.sluice(&["audit", "list", "--json"]).expect(0);
    let line = |line: &str| {
        let of: Value = serde_json::from_str(line).expect("a line of JSON");
        let rows = of["rows"].as_u64().or(of["decision"]["rows"].as_u64()).unwrap_or_else(|| panic!("{of}"));
        (of["window"].as_str().unwrap_or_default().into(), of["state"].as_str().unwrap_or_default().into(), rows)
    };
    text.lines().map(line).collect()
}

fn run(project: &Project) -> String {
    project.sluice(&["run", "--until-end"]).expect(0)
}

fn reconciled(project: &Project) {
    project.sluice(&["reconcile"]).expect(0);
}
