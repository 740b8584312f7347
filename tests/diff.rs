//! `sluice diff`: exactly those records that flip, from tables, files and topics, and an exit code that a gate can use.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::commands::{edit, json_lines};
use crate::project::Project;

const SCHEMA: &str = "CREATE TABLE t (id BIGINT, page STRING, big BIGINT)";

/// A pipeline over `in/*.ndjson`; `extra` goes to the end of `[source]`.
fn toml(extra: &str, expect: &str, enrich: &str) -> String {
    format!(
        r#"name  = "t"
state = "lake/_sluice/t"
[source]
files = ["in/*.ndjson"]
{extra}
[schema]
file = "t.sql"
{enrich}
[expect]
{expect}
[sink]
valid = {{ delta = "lake/visits" }}
error = {{ delta = "lake/visits_errors" }}
dlq   = {{ delta = "lake/visits_dlq" }}
"#
    )
}

/// 1,000 records; every tenth has no page and is an error. `next.toml` wants `big` below 900, too: of those with a page,
/// line 126, 251, … have a large one: 8.
fn project() -> Project {
    let project = Project::new(&[
        ("sluice.toml", &toml("", "paged = \"page IS NOT NULL\"", "")),
        ("next.toml", &toml("", "paged = \"page IS NOT NULL\"\nsmall = \"big < 900\"", "")),
        ("t.sql", SCHEMA),
    ]);
    let line = |n: u64| {
        let page = if n % 10 == 9 { "null" } else { "\"main\"" };
        format!("{{\"id\": {n}, \"page\": {page}, \"big\": {}}}\n", if n.is_multiple_of(125) { 900 } else { 1 })
    };
    project.write("in/a.ndjson", (0..1000).map(line).collect::<String>());
    project
}

/// Offsets of the rows that flip, and the summary.
#[track_caller]
fn diff(project: &Project, arguments: &[&str], code: i32) -> (BTreeSet<i64>, Value) {
    let all = [&["diff", "--with", "next.toml", "--json"], arguments].concat();
    let mut lines = json_lines(&project.sluice(&all).expect(code));
    let summary = lines.pop().expect("a summary")["summary"].clone();
    let flips = lines.iter().map(|line| &line["difference"]).filter(|d| d["before"] != d["after"]);
    (flips.map(|difference| difference["offset"].as_i64().unwrap()).collect(), summary)
}

fn flipping() -> BTreeSet<i64> {
    (0..8).map(|n| n * 125 + 1).collect()
}

#[test]
fn a_rule_that_flips_eight_records_of_a_thousand_is_told_of_exactly_those() {
    let project = project();
    let (flips, summary) = diff(&project, &["--on", "in/a.ndjson"], 1);
    assert_eq!(flips, flipping());
    assert_eq!((&summary["records"], &summary["flipped_records"]), (&1000.into(), &8.into()));
    assert_eq!(summary["flipped_percent"], 0.8);
    let flip = &summary["flips"][0];
    assert_eq!((&flip["before"], &flip["after"], &flip["rows"]), (&"valid".into(), &"error".into(), &8.into()));
    assert_eq!(flip["reasons"]["expect/small"]["rows"], 8);
    assert_eq!(flip["samples"][0]["offset"], 1);
    assert_eq!(summary["gained"]["expect/small"]["rows"], 8);

    // nothing was run yet, and nothing is written
    assert!(!project.path().join("lake").exists());
    assert_eq!(diff(&project, &["--on", "topic"], 1).0, flipping(), "whatever the pipeline reads");
    assert_eq!(diff(&project, &["--on", "topic", "--limit", "300"], 1).1["records"], 300);
    let (flips, summary) = diff(&project, &["--on", "topic", "--from", "in/a.ndjson:500"], 1);
    assert_eq!((flips, &summary["records"]), (flipping().split_off(&500), &501.into()));

    project.sluice(&["run", "--until-end"]).expect(0);
    let (flips, summary) = diff(&project, &["--on", "valid"], 1);
    assert_eq!((flips, &summary["records"]), (flipping(), &900.into()));
    let (flips, _) = diff(&project, &["--on", "valid", "--where", "_offset > 500"], 1);
    assert_eq!(flips, flipping().split_off(&500));
    let (flips, summary) = diff(&project, &["--on", "error"], 0);
    assert_eq!((flips, &summary["records"], &summary["ok"]), (BTreeSet::new(), &100.into(), &true.into()));
}

#[test]
fn a_gate_lets_through_what_its_budget_allows() {
    let project = project();
    for (budget, code) in [("0.8%", 0), ("0.79%", 1), ("1%", 0), ("0%", 1)] {
        let arguments = ["diff", "--with", "next.toml", "--on", "in/a.ndjson", "--max-flips", budget];
        project.sluice(&arguments).expect(code);
    }
    let wrong = project.sluice(&["diff", "--with", "next.toml", "--on", "in/a.ndjson", "--max-flips", "2"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
}

#[test]
fn a_pull_request_gets_a_table_and_a_terminal_gets_lines() {
    let project = project();
    let generations = |text: &str| {
        let words = text.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 6);
        words.fold(text.to_owned(), |text, word| text.replace(word, "······"))
    };
    let on = ["diff", "--with", "next.toml", "--on", "in/a.ndjson"];
    let text = project.sluice(&[&on[..], &["--markdown"]].concat()).expect(1);
    expect_test::expect![[r#"
        ### ❌ `in/a.ndjson`: 8 of 1,000 records flip (0.8 %, and 0 % may)

        Generation `······` → `······`, changed: + expect/small

        | flip | why | rows | for example |
        |---|---|---:|---|
        | valid → error | expect/small | 8 | `in/a.ndjson:1` `in/a.ndjson:126` `in/a.ndjson:251` `in/a.ndjson:376` `in/a.ndjson:501` |

        | | |
        |---|---|
        | finding expect/small | +8 −0 |
    "#]]
    .assert_eq(&generations(&text));
    let text = project.sluice(&[&on[..], &["--max-flips", "1%"]].concat()).expect(0);
    expect_test::expect![[r#"
        in/a.ndjson: 8 of 1,000 records flip (0.8 %, 1 % may)
          generation  ······ → ······   changed: + expect/small
          valid → error            8
            expect/small                         8   in/a.ndjson:1  in/a.ndjson:126  in/a.ndjson:251  in/a.ndjson:376  in/a.ndjson:501
          finding expect/small                     +8 −0
    "#]]
    .assert_eq(&generations(&text));
}

#[test]
fn the_same_generation_flips_nothing() {
    let project = project();
    project.write("next.toml", project.read("sluice.toml"));
    let text = project.sluice(&["diff", "--with", "next.toml", "--on", "in/a.ndjson"]).expect(0);
    assert!(text.contains("0 of 1,000 records flip") && text.contains("they are the same generation"), "{text}");
}

#[test]
fn columns_and_warnings_are_told_of_and_flip_nothing() {
    let project = project();
    let enrich = |sql: &str| format!("[[enrich]]\nsql = {{ score = \"{sql}\" }}\n");
    project.write("sluice.toml", toml("", "paged = \"page IS NOT NULL\"", &enrich("id + 1")));
    let expect = "paged = { sql = \"page IS NOT NULL\", severity = \"error\" }\nodd = { sql = \"id % 500 <> 0\", severity = \"warn\" }";
    project.write("next.toml", toml("", expect, &enrich("CASE WHEN id < 10 THEN id ELSE id + 1 END")));
    let (flips, summary) = diff(&project, &["--on", "in/a.ndjson"], 0);
    assert_eq!(flips, BTreeSet::new());
    assert_eq!(summary["columns"]["score"]["rows"], 10);
    assert_eq!(summary["gained"]["expect/odd"]["rows"], 2);
}

#[test]
fn dead_letters_are_judged_from_their_bytes() {
    let project = project();
    edit(&project, "sluice.toml", "[schema]", "unknown_fields = \"reject\"\n[schema]");
    project.write("in/b.ndjson", "{\"id\": 1, \"page\": \"a\", \"more\": 1}\nnot json\n{\"id\": 1, \"more\": 1}\n");
    project.sluice(&["run", "--until-end"]).expect(0);
    project.write("next.toml", toml("", "paged = \"page IS NOT NULL\"", ""));
    let (flips, summary) = diff(&project, &["--on", "dlq"], 1);
    assert_eq!((flips, &summary["records"]), (BTreeSet::from([1, 3]), &3.into()));
    let ways: Vec<_> = summary["flips"].as_array().unwrap().iter().map(|flip| flip["after"].clone()).collect();
    assert_eq!(ways, ["valid", "error"]);
    assert_eq!(summary["lost"]["decode/unknown-field"]["rows"], 2);
}

#[test]
fn who_reads_what_a_table_does_not_store_is_not_asked_and_named() {
    let project = project();
    project.sluice(&["run", "--until-end"]).expect(0);
    project.write("more.sql", "CREATE TABLE t (id BIGINT, page STRING, big BIGINT, country STRING)");
    let expect = "paged = \"page IS NOT NULL\"\nsized = \"_value IS NULL\"\nfrom = \"country IS NOT NULL\"";
    let next = toml("", expect, "").replace("t.sql", "more.sql");
    project.write("next.toml", next);
    let (flips, summary) = diff(&project, &["--on", "valid"], 0);
    assert_eq!(flips, BTreeSet::new());
    assert_eq!(summary["unasked"], serde_json::json!({ "sized": ["_value"], "from": ["country"] }));
    let text = project.sluice(&["diff", "--with", "next.toml", "--on", "valid"]).expect(0);
    assert!(text.contains("sized was not asked about all rows: it reads _value, which valid does not store"), "{text}");
    // a file has the bytes
    assert_eq!(diff(&project, &["--on", "in/a.ndjson"], 1).0.len(), 900);
}

#[test]
fn a_stored_generation_can_be_the_one_that_is_compared_with() {
    let project = project();
    project.sluice(&["run", "--until-end"]).expect(0);
    let first = json_lines(&project.sluice(&["history", "--json"]).expect(0))[0]["generation"].clone();
    // edited in place, as people do
    project.write("sluice.toml", project.read("next.toml"));
    let hash = &first.as_str().unwrap()[..8];
    let (flips, summary) = diff(&project, &["--against", hash, "--on", "valid"], 1);
    assert_eq!((flips, &summary["before"]), (flipping(), &first));
}

#[test]
fn options_that_choose_nothing_there_are_refused() {
    let project = project();
    for (arguments, said) in [
        (&["--on", "valid", "--from", "in/a.ndjson:1"][..], "--from is for topics and files"),
        (&["--on", "topic", "--where", "id = 1"], "--where is for tables"),
        (&["--on", "valid"], "valid is no table, or not there yet"),
        (&["--on", "topic", "--from", "in/z.ndjson:1"], "--from names in/z.ndjson/0"),
    ] {
        let refused = project.sluice(&[&["diff", "--with", "next.toml"], arguments].concat());
        assert_eq!(refused.code, Some(2), "{arguments:?}: {}", refused.stdout);
        assert!(refused.stderr.contains(said), "{arguments:?}: {}", refused.stderr);
    }
    project.sluice(&["run", "--until-end"]).expect(0);
    let refused = project.sluice(&["diff", "--with", "next.toml", "--on", "valid", "--where", "nothing = 1"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("--where cannot be understood"), "{}", refused.stderr);
}
