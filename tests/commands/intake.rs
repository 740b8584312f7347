//! `run` from standard input, from packed files, to standard output: the ways in and out beside plain files and tables.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use super::{END, RECORDS, edit, json_lines, project};
use crate::peer;
use crate::project::{Counted, Project};

fn from_stdin() -> Project {
    let project = project();
    edit(&project, "sluice.toml", "files = [\"visits.ndjson\"]", "stdin = true");
    project
}

#[test]
fn two_runs_from_standard_input_do_not_collide_and_the_screen_says_what_is_not_promised() {
    let project = from_stdin();
    for _ in 0..2 {
        let screen = project.feed(&["run"], RECORDS.as_bytes()).expect(0);
        assert!(screen.contains("  but      standard input cannot be read again"), "{screen}");
        assert!(screen.contains(END), "{screen}");
    }
    assert_eq!(project.counted(), Counted { valid: 4, error: 4, dlq: 4, doubled: 0 });
    assert_eq!(project.sluice(&["reconcile"]).expect(0), "reconciled: 14 consumed, no gap, no overlap\n");
}

#[test]
fn rows_on_standard_output_are_json_lines() {
    let project = project();
    edit(&project, "sluice.toml", "valid = { delta = \"lake/visits\" }", "valid = { stdout = true }");
    let screen = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(screen.contains("valid: no guarantee (stdout)\n           error, dlq: exactly once (delta)"), "{screen}");
    let rows: Vec<_> = screen.lines().filter(|line| line.starts_with('{')).collect();
    let rows = json_lines(&rows.join("\n"));
    let users: Vec<_> =
        rows.iter().map(|row| (row["_outcome"].as_str().unwrap(), row["user_id"].as_str().unwrap())).collect();
    assert_eq!(users, [("valid", "u1"), ("valid", "u5")]);
    let report = project.sluice(&["reconcile"]).expect(0);
    assert!(report.contains("valid cannot be proven: what went to standard output is gone"), "{report}");
    assert!(project.sluice(&["show"]).expect(0).contains("valid  standard output"));
    let refused = project.sluice(&["show", "valid"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("is standard output"), "{}", refused.stderr);
}

#[test]
fn packed_files_are_read_as_they_are() {
    let project = project();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(RECORDS.as_bytes()).unwrap();
    project.write("in/a.ndjson.gz", gz.finish().unwrap());
    project.write("in/b.ndjson.zst", zstd::encode_all(RECORDS.as_bytes(), 3).unwrap());
    edit(&project, "sluice.toml", "visits.ndjson", "in/*");
    let screen = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(screen.contains("14 consumed = 4 valid + 4 error + 4 dlq + 2 skipped"), "{screen}");
    assert_eq!(project.counted(), Counted { valid: 4, error: 4, dlq: 4, doubled: 0 });
    for file in ["in/a.ndjson.gz:7", "in/b.ndjson.zst:7"] {
        assert!(project.sluice(&["explain", file]).expect(0).contains("expect/has-user"));
    }
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn a_packed_file_that_breaks_off_is_refused_by_name() {
    let project = project();
    let whole = zstd::encode_all(RECORDS.repeat(100).as_bytes(), 3).unwrap();
    project.write("broken.ndjson.zst", &whole[..whole.len() - 20]);
    edit(&project, "sluice.toml", "visits.ndjson", "broken.ndjson.zst");
    let refused = project.sluice(&["run", "--until-end"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("broken.ndjson.zst"), "{}", refused.stderr);
}

#[test]
fn a_table_is_partitioned_by_a_column() {
    let project = project();
    edit(
        &project,
        "sluice.toml",
        "delta = \"lake/visits_errors\"",
        "delta = \"lake/visits_errors\", partition_by = [\"page\"]",
    );
    project.sluice(&["run", "--until-end"]).expect(0);
    assert!(project.path().join("lake/visits_errors/page=main").is_dir());
    let rows = peer::sql("SELECT page, _offset FROM error ORDER BY _offset", &project.tables());
    assert_eq!(rows, serde_json::json!([{ "page": null, "_offset": 2 }, { "page": "main", "_offset": 7 }]));
    assert!(project.sluice(&["show", "error"]).expect(0).contains("page=main"));
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn fail_on_says_no_but_loses_nothing() {
    for (limits, code) in [
        (&["--fail-on", "error=50%"][..], 0),
        (&["--fail-on", "error=33%"], 1),
        (&["--fail-on", "error=50%", "--fail-on", "dlq=0%"], 1),
    ] {
        let project = project();
        let ran = project.sluice(&[&["run", "--until-end"], limits].concat());
        assert_eq!(ran.code, Some(code), "{limits:?}: {}", ran.stderr);
        if code == 1 {
            assert!(ran.stderr.contains("2 of 6 rows, more than"), "{}", ran.stderr);
        }
        assert_eq!(project.counted(), Counted { valid: 2, error: 2, dlq: 2, doubled: 0 });
    }
    assert_eq!(project().sluice(&["run", "--until-end", "--fail-on", "valid=1%"]).code, Some(2));
}

#[test]
fn run_prints_an_object_for_each_entry_and_one_at_the_end() {
    let lines = json_lines(&project().sluice(&["run", "--until-end", "--json"]).expect(0));
    let [entry, end] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&entry["entry"], &end["head"], &end["entries"]), (&3.into(), &3.into(), &1.into()));
    assert_eq!(entry["counts"], end["counts"]);
    assert_eq!(end["counts"]["outcomes"], serde_json::json!({ "valid": 2, "error": 2, "dlq": 2 }));
    assert_eq!(end["counts"]["findings"]["expect/ad-tagged"], 1);
    assert_eq!(end["counts"]["unknown"]["expect/ad-tagged"], 3);
    assert_eq!(end["counts"]["skipped"], 1);
}

/// A run from a pipe that stays open: the first line is committed, then ctrl-c.
#[test]
fn ctrl_c_stops_a_run_cleanly() {
    let project = from_stdin();
    edit(&project, "sluice.toml", "[source]", "commit = { every = \"20ms\" }\n[source]");
    let mut child = project.start(&["run"], Stdio::piped());
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(b"{\"user_id\": \"u1\"}\n").unwrap();
    let mut screen = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains(" entry ") {
        line.clear();
        assert_ne!(screen.read_line(&mut line).unwrap(), 0, "the run ended by itself");
    }
    // SAFETY: kill takes no pointers, and the child is not reaped yet
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let mut rest = String::new();
    screen.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(rest.contains("1 consumed = 1 valid + 0 error + 0 dlq + 0 skipped"), "{rest}");
    drop(pipe);
    assert_eq!(project.counted(), Counted { valid: 1, error: 0, dlq: 0, doubled: 0 });
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn constraints_of_the_ddl_are_expectations() {
    let project = project();
    project.write(
        "visits.sql",
        "CREATE TABLE visits (user_id STRING NOT NULL, age INT CHECK (age >= 0), page STRING, keep_private BOOLEAN, context STRUCT<referral: STRING, ad_id: STRING, user: STRUCT<login: STRING>>, CONSTRAINT known_page CHECK (page IN ('index', 'main')))",
    );
    project.write(
        "visits.ndjson",
        "{\"user_id\": \"a\", \"age\": 1, \"page\": \"main\"}\n{\"age\": 1}\n{\"user_id\": \"b\", \"age\": -1}\n{\"user_id\": \"c\"}\n{\"user_id\": \"d\", \"page\": \"x\"}\n",
    );
    edit(&project, "sluice.toml", "skip ", "# skip ");
    project.sluice(&["run", "--until-end"]).expect(0);
    let rows =
        peer::sql("SELECT _offset, _findings[1]['code'] AS code FROM error ORDER BY _offset, code", &project.tables());
    let codes: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["_offset"].as_i64().unwrap(), row["code"].as_str().unwrap()))
        .collect();
    assert_eq!(codes.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [2, 3, 5], "{rows}");
    assert_eq!(codes[2].1, "known_page", "{rows}");
    // null passes a CHECK, and is counted beside it
    let report: serde_json::Value = serde_json::from_str(&project.sluice(&["reconcile", "--json"]).expect(0)).unwrap();
    assert_eq!(report["counts"]["unknown"]["expect/known_page"], 3, "{report}");
}
