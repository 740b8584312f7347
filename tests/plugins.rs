//! Pipelines with components, and the commands that make and test them, through the binary.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::broker;
use crate::guests::{Guest, INT64, NOTHING, at_thirteen, enricher, rule};
use crate::peer;
use crate::project::{Counted, Project, VISITS_SQL, visits_toml};

/// Copies `n`.
const COPY: &str = "(call $column (local.get $rows) (i32.const 3) (i32.load offset=4 (local.get $columns))
    (i32.mul (local.get $rows) (i32.const 8)) (i32.const 0) (i32.const 0))";

/// A pipeline over `records` lines whose `n` counts from 0, with a component in `guest.wasm`.
fn counting(records: u64, guest: &Guest, section: &str) -> Project {
    let toml = format!(
        r#"name  = "counting"
state = "lake/_sluice/counting"
[source]
files = ["n.ndjson"]
[schema]
file = "n.sql"
{section}
[sink]
valid = {{ delta = "lake/visits" }}
error = {{ delta = "lake/visits_errors" }}
dlq   = {{ delta = "lake/visits_dlq" }}
"#
    );
    let project = Project::new(&[("sluice.toml", &toml), ("n.sql", "CREATE TABLE t (n BIGINT)")]);
    let lines: String = (0..records).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    project.write("n.ndjson", lines);
    project.write("guest.wasm", guest.component());
    project
}

/// The folder of this repository's plugins.
fn plugins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").canonicalize().unwrap()
}

#[test]
fn a_rule_that_traps_at_one_record_of_many_costs_that_record() {
    let project = counting(100_000, &at_thirteen("(unreachable)"), "[rule.unlucky]\nwasm = \"guest.wasm\"");
    let screen = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(screen.contains("100,000 consumed = 99,999 valid + 0 error + 1 dlq + 0 skipped"), "{screen}");
    assert_eq!(project.counted(), Counted { valid: 99_999, error: 0, dlq: 1, doubled: 0 });
    let rows = peer::sql(
        "SELECT _offset, stage, reason, plugin, digest, detail, cast(_value AS VARCHAR) AS value FROM dlq",
        &project.tables(),
    );
    let [row] = &rows.as_array().unwrap()[..] else { panic!("{rows}") };
    let inspected = project.sluice(&["inspect", "plugin", "guest.wasm", "--json"]).expect(0);
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(row["digest"], inspected["digest"]);
    assert_eq!((&row["_offset"], &row["value"]), (&14.into(), &"{\"n\": 13}".into()));
    assert_eq!((&row["reason"], &row["plugin"]), (&"plugin-trap".into(), &"unlucky".into()));
    assert!(row["detail"].as_str().is_some_and(|detail| detail.contains("unreachable")), "{row}");
    let story = project.sluice(&["explain", "n.ndjson:14"]).expect(0);
    assert!(story.contains("plugin-trap") && story.contains("would say: dlq"), "{story}");
    project.sluice(&["reconcile"]).expect(0);
}

const FOR_EVER: &str = "(loop $ever (br $ever)) (unreachable)";
const TIGHT: &str = "[rule.endless]\nwasm = \"guest.wasm\"\nlimits = { time = \"30ms\" }\nmax_failures = \"3 in 1m\"\n";

/// A call has 4,096 rows at most: these are five of them.
const FIVE_CALLS: u64 = 20_000;

/// A run that is over in one call is stopped all the same.
const ONE_CALL: u64 = 1_000;

#[test]
fn a_rule_that_loops_for_ever_stops_the_pipeline_and_nothing_is_lost() {
    let project = counting(ONE_CALL, &rule(FOR_EVER), TIGHT);
    let stopped = project.sluice(&["run", "--until-end"]);
    assert_eq!(stopped.code, Some(2), "{}", stopped.stdout);
    let sentence = stopped.stderr.lines().last().unwrap_or_default();
    let said =
        "error: plugin `endless` failed 4 times within 1m, the last time with plugin-timeout: it ran longer than";
    assert!(sentence.starts_with(said), "{}", stopped.stderr);
    assert_eq!(project.counted(), Counted { valid: 0, error: 0, dlq: 0, doubled: 0 });
    // mended, it goes on where it was: at the first record
    project.write("guest.wasm", rule(NOTHING).component());
    project.write("sluice.toml", project.read("sluice.toml").replace("limits =", "# limits ="));
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(project.counted(), Counted { valid: ONE_CALL, error: 0, dlq: 0, doubled: 0 });
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn a_rule_that_loops_for_ever_fills_the_dead_letter_where_that_is_wanted() {
    let project = counting(FIVE_CALLS, &rule(FOR_EVER), &format!("{TIGHT}on_failure = \"dead-letter\"\n"));
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(project.counted(), Counted { valid: 0, error: 0, dlq: FIVE_CALLS, doubled: 0 });
    let reasons = peer::sql("SELECT DISTINCT reason FROM dlq ORDER BY reason", &project.tables());
    assert_eq!(reasons, json!([{ "reason": "plugin-failed" }, { "reason": "plugin-timeout" }]));
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn columns_of_an_enricher_arrive_in_the_table_and_rules_see_them() {
    let section = "[[enrich]]\nname = \"copy\"\nwasm = \"guest.wasm\"\n[[enrich]]\nname = \"square\"\nsql = { squared = \"added * added\" }\n\
                   [expect]\nsmall = \"squared < 50\"\n";
    let project = counting(10, &enricher(INT64, COPY), section);
    project.sluice(&["run", "--until-end"]).expect(0);
    let rows = peer::sql("SELECT n, added, squared FROM valid WHERE n > 5 ORDER BY n", &project.tables());
    assert_eq!(rows, json!([{ "n": 6, "added": 6, "squared": 36 }, { "n": 7, "added": 7, "squared": 49 }]));
    let rows = peer::sql("SELECT n, added, _findings[1]['code'] AS code FROM error ORDER BY n", &project.tables());
    assert_eq!(rows[0], json!({ "n": 8, "added": 8, "code": "small" }));
    let story = project.sluice(&["explain", "n.ndjson:9"]).expect(0);
    assert!(story.contains("squared = 64") && story.contains("would say: error (small)"), "{story}");
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn an_enricher_that_makes_rows_out_of_one_keeps_their_order_and_reconciles() {
    // every row twice
    let twice = "(local $i i32) (local $many i32) (local $at i32)
        (local.set $many (i32.mul (local.get $rows) (i32.const 2)))
        (local.set $at (call $allocate (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (local.get $many) (i32.const 12))))
        (loop $next
            (i32.store (i32.add (local.get $at) (i32.mul (local.get $i) (i32.const 4))) (i32.div_u (local.get $i) (i32.const 2)))
            (i64.store (i32.add (i32.add (local.get $at) (i32.mul (local.get $many) (i32.const 4))) (i32.mul (local.get $i) (i32.const 8)))
                (i64.extend_i32_u (i32.and (local.get $i) (i32.const 1))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $i) (local.get $many))))
        (drop (call $column (local.get $rows) (i32.const 3) (i32.add (local.get $at) (i32.mul (local.get $many) (i32.const 4)))
            (i32.mul (local.get $many) (i32.const 8)) (i32.const 0) (i32.const 0)))
        (call $origin (local.get $at) (local.get $many))
        (i32.const 2048)";
    let mut guest = enricher(INT64, twice);
    guest.says.one_to_many = true;
    let project =
        counting(5_000, &guest, "[[enrich]]\nname = \"twice\"\nwasm = \"guest.wasm\"\n[expect]\nodd = \"added = 1\"\n");
    let screen = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(screen.contains("5,000 consumed = 5,000 valid + 5,000 error + 0 dlq + 0 skipped"), "{screen}");
    assert!(screen.contains("(5,000 records made 10,000 rows)"), "{screen}");
    assert_eq!(project.counted(), Counted { valid: 5_000, error: 5_000, dlq: 0, doubled: 0 });
    let rows = peer::sql("SELECT count(*) AS n FROM valid WHERE _row <> 1 OR _offset <> n + 1", &project.tables());
    assert_eq!(rows, json!([{ "n": 0 }]));
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn timely_of_the_binary_finds_the_late_records_of_a_topic() {
    let broker = broker::shared().bootstrap();
    let topic = broker::topic("late");
    let timely = "[rule.timely]\nbuiltin = \"timely\"\nconfig = { max_late = \"7d\", max_ahead = \"5m\" }\n";
    let toml = visits_toml(&format!("kafka = [\"{topic}\"]"), &format!("[kafka]\nbrokers = \"{broker}\"\n{timely}"));
    let project = Project::new(&[("sluice.toml", &toml), ("visits.sql", VISITS_SQL)]);
    let generate =
        ["generate", "visits", "--records", "5000", "--damage", "0%", "--late", "2%", "--tally", "tally.json"];
    project.sluice(&[&generate[..], &["--topic", &topic, "--brokers", &broker]].concat()).expect(0);
    project.sluice(&["run", "--until-end"]).expect(0);
    let rows = peer::sql(
        "SELECT _findings[1]['rule'] AS rule, _findings[1]['code'] AS code, count(*) AS n FROM error \
         WHERE _findings[1]['rule'] = 'timely' GROUP BY 1, 2",
        &project.tables(),
    );
    let tally: serde_json::Value = serde_json::from_str(&project.read("tally.json")).unwrap();
    assert_eq!(rows, json!([{ "rule": "timely", "code": "late", "n": 100 }]), "{tally}");
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn the_rule_of_the_demo_reads_its_configuration() {
    let (project, _) =
        Project::visits(10, "[rule.consent]\nwasm = \"consent.wasm\"\nconfig = { allow = [\"root\"] }\n");
    project.write("consent.wasm", sluice_host::component::demo_rule().unwrap());
    project.write("sluice.toml", project.read("sluice.toml").replace("login-exposed", "# login-exposed"));
    let visit = |login: &str| {
        format!(
            "{{\"user_id\": \"u\", \"keep_private\": true, \"context\": {{\"user\": {{\"login\": \"{login}\"}}}}}}\n"
        )
    };
    project.write("visits.ndjson", visit("root") + &visit("mlind"));
    project.sluice(&["run", "--until-end"]).expect(0);
    let rows = peer::sql(
        "SELECT _offset, _findings[1]['rule'] AS rule, _findings[1]['code'] AS code FROM error",
        &project.tables(),
    );
    assert_eq!(rows, json!([{ "_offset": 2, "rule": "consent", "code": "login-exposed" }]));
    let story = project.sluice(&["explain", "visits.ndjson:2"]).expect(0);
    assert!(story.contains("✗ consent/login-exposed     consent "), "{story}");
    assert!(story.contains("keep_private = true, context.user.login = \"mlind\""), "{story}");

    // what the rule refuses is said at its place
    project.write("sluice.toml", project.read("sluice.toml").replace("allow =", "allows ="));
    let refused = project.sluice(&["check"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("allows"), "{}", refused.stderr);
}

#[test]
fn the_plugins_of_this_repository_pass_their_cases_through_wasm() {
    let project = Project::new(&[]);
    let names = ["timely", "consent", "browser-engine", "visit-complete"];
    let mut components = Vec::new();
    for name in names {
        let out = project.path().join(format!("{name}.wasm"));
        let out = out.to_str().unwrap();
        let folder = plugins().join(name);
        project.sluice(&["build", folder.to_str().unwrap(), "-o", out]).expect(0);
        let cases = folder.join("cases");
        components.push(project.sluice(&["test", out, "--cases", cases.to_str().unwrap()]).expect(0));
    }
    for (name, screen) in names.iter().zip(components) {
        assert!(screen.starts_with(&format!("{name} ")), "{screen}");
        let (passed, all) = screen.trim().rsplit_once(") ").unwrap().1.trim().split_once(" of ").unwrap();
        assert_eq!(all, format!("{passed} cases"), "{screen}");
    }
}

/// The files of `plugins/sdk/README.md`, in the order in which they stand there.
fn readme() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(plugins().join("sdk/README.md")).unwrap();
    let mut files = Vec::new();
    for section in text.split("\n**").skip(1) {
        let name = section.split("**").next().unwrap();
        let block = section.split("```").nth(1).unwrap();
        let (_, content) = block.split_once('\n').unwrap();
        files.push((name.to_owned(), content.to_owned()));
    }
    files
}

#[test]
fn a_rule_written_as_the_readme_says_is_built_and_tested_and_judges() {
    let project = Project::new(&[]);
    let files = readme();
    assert_eq!(
        files.iter().map(|(name, _)| &**name).collect::<Vec<_>>(),
        ["Cargo.toml", "src/lib.rs", "cases/no-future.ndjson"]
    );
    let sdk = plugins().join("sdk");
    for (name, content) in &files {
        let content = content.replace("../sluice/plugins/sdk", sdk.to_str().unwrap());
        project.write(&format!("plugins/no-future/{name}"), content);
    }
    // what it depends on is compiled once, at the versions that this repository uses, and stays for the next test
    project.write("plugins/no-future/Cargo.lock", include_str!("../Cargo.lock"));
    let target = peer::cache().join("plugins");
    std::fs::create_dir_all(&target).unwrap();
    std::os::unix::fs::symlink(target, project.path().join("plugins/no-future/target")).unwrap();
    let built = project.sluice(&["build", "plugins/no-future"]).expect(0);
    assert!(built.starts_with("plugins/no_future.wasm  rule no-future, "), "{built}");
    let tested = project.sluice(&["test", "plugins/no-future"]).expect(0);
    assert!(tested.starts_with("no-future 1.0.0 (") && tested.trim_end().ends_with("4 of 4 cases"), "{tested}");

    // a case that fails, and none at all
    let cases = "plugins/no-future/cases/no-future.ndjson";
    project.write(cases, project.read(cases).replacen("[\"too-far\"]", "[]", 1));
    let component = ["test", "plugins/no_future.wasm", "--cases", "plugins/no-future/cases"];
    let failed = project.sluice(&component).expect(1);
    assert!(failed.contains("3 of 4 cases"), "{failed}");
    assert!(failed.contains("no-future.ndjson:1\n      finds: + too-far  came and was not expected"), "{failed}");
    std::fs::remove_file(project.path().join(cases)).unwrap();
    let none = project.sluice(&component);
    assert_eq!(none.code, Some(1), "{}", none.stdout);
    assert!(none.stderr.contains("there are no cases in plugins/no-future/cases"), "{}", none.stderr);

    // and in a pipeline
    project.write(
        "sluice.toml",
        r#"
name  = "orders"
state = "lake/_sluice/orders"
source.files = ["orders.ndjson"]
schema.file  = "orders.sql"
rule.no-future = { wasm = "plugins/no_future.wasm", config = { last = "2026-12-31" } }
sink.valid.delta = "lake/visits"
sink.error.delta = "lake/visits_errors"
sink.dlq.delta   = "lake/visits_dlq"
"#,
    );
    project.write("orders.sql", "CREATE TABLE orders (delivery STRUCT<date: DATE>)");
    project.write(
        "orders.ndjson",
        "{\"delivery\": {\"date\": \"2027-01-02\"}}\n{\"delivery\": {\"date\": \"2026-12-31\"}}\n",
    );
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(project.counted(), Counted { valid: 1, error: 1, dlq: 0, doubled: 0 });
}
