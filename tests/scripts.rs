//! Rules and enrichers that are a text, judged by the engines of JavaScript and Python: with no tool but `sluice`.
//!
//! Python's engine is made once, by the command that a user is told (pip fetches what it needs), and kept in Cargo's folder.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use serde_json::json;

use crate::peer;
use crate::project::{Counted, Project, Ran};
use crate::reload::Running;

/// The data folder with Python's engine, which is made by `sluice build` where it is missing or of other sources.
fn data() -> &'static Path {
    static DATA: OnceLock<PathBuf> = OnceLock::new();
    DATA.get_or_init(|| {
        let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("data");
        let home = data.to_str().expect("the folder's name is UTF-8");
        let made = Project::new(&[]).sluice_with(("XDG_DATA_HOME", home), &["build", "--engine", "python"]).expect(0);
        assert!(made.contains("sluice-python.wasm  the engine of scripts in Python"), "{made}");
        data
    })
}

/// The command, with Python's engine.
pub fn sluice(project: &Project, arguments: &[&str]) -> Ran {
    project.sluice_with(("XDG_DATA_HOME", data().to_str().expect("it is UTF-8")), arguments)
}

fn plugins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").canonicalize().unwrap()
}

/// A pipeline over rows of `n` and `note`; `sections` say what judges.
pub fn pipeline(sections: &str, rows: &[serde_json::Value]) -> Project {
    let toml = format!(
        r#"name  = "t"
state = "lake/_sluice/t"
[source]
files = ["in/*.ndjson"]
[schema]
file = "t.sql"
{sections}
[commit]
every = "200ms"
[sink]
valid = {{ delta = "lake/visits" }}
error = {{ delta = "lake/visits_errors" }}
dlq   = {{ delta = "lake/visits_dlq" }}
"#
    );
    let project = Project::new(&[("sluice.toml", &toml), ("t.sql", "CREATE TABLE t (n BIGINT, note STRING)")]);
    project.write("in/a.ndjson", rows.iter().map(|row| format!("{row}\n")).collect::<String>());
    project
}

/// A rule whose body, in JavaScript, is `body`; it begins on line 6.
fn js(body: &str) -> String {
    format!(
        "import {{ defineRule, int, text }} from \"sluice\";\nexport const rule = defineRule({{\n  \
         name: \"r\", version: \"1.0.0\", reads: {{ n: int(\"n\"), note: text(\"note\") }},\n  \
         codes: {{ bad: \"it is bad\" }},\n  check(row, settings, found) {{\n{body}\n  }},\n}});\n"
    )
}

/// The same in Python; its body begins on line 4.
fn py(body: &str) -> String {
    format!(
        "from sluice import code, col, rule\nBAD = code(\"bad\", \"it is bad\")\ndef check(row, settings, found):\n{body}\n\
         Rule = rule(\"r\", \"1.0.0\", check, codes=[BAD], n=col(\"n\", int), note=col(\"note\", str))\n"
    )
}

#[test]
fn the_same_rule_as_a_script_passes_the_same_cases() {
    let (plugins, project) = (plugins(), Project::new(&[]));
    for (script, passed) in [
        ("consent-js/rule.js", "12 of 12 cases"),
        ("consent-python/rule.py", "12 of 12 cases"),
        ("browser-engine-js/enricher.js", "11 of 11 cases"),
        ("browser-engine-python/enricher.py", "11 of 11 cases"),
    ] {
        let screen = sluice(&project, &["test", plugins.join(script).to_str().unwrap()]).expect(0);
        assert!(screen.contains(passed), "{script}: {screen}");
    }
}

/// The first code block of the README that begins so.
fn of_readme(begin: &str) -> String {
    let readme = include_str!("../README.md");
    let from = readme.find(begin).unwrap_or_else(|| panic!("the README has {begin}"));
    readme[from..].split_once("```").expect("the block ends").0.to_owned()
}

#[test]
fn a_script_written_as_the_readme_says_passes_its_case_and_judges() {
    let rows = [
        json!({"context": {"technical": {"browser": "Googlebot"}}}),
        json!({"context": {"technical": {"browser": "Firefox"}}}),
        json!({"context": null}),
    ];
    let project = pipeline(&of_readme("[rule.no-bots]\n"), &rows);
    project.write("t.sql", "CREATE TABLE t (context STRUCT<technical: STRUCT<browser: STRING>>)");
    project.write("rules/no-bots.js", of_readme("import { defineRule, text } from \"sluice\""));
    project.write("rules/cases/no-bots.ndjson", of_readme("{\"row\": {\"context\": {\"technical\""));
    let tested = project.sluice(&["test", "rules"]).expect(0);
    assert!(tested.contains("1 of 1 cases") || tested.contains("1 of 1 case"), "{tested}");
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(project.counted(), Counted { valid: 2, error: 1, dlq: 0, doubled: 0 });
}

#[test]
fn cases_of_scripts_lie_beside_them() {
    let project = Project::new(&[("rules/small.js", &js("if (row.n > settings.most) found(\"bad\");"))]);
    project.write("rules/small_too.py", py("    if row.n is not None and row.n > settings[\"most\"]: found(BAD)"));
    let cases = "{\"row\": {\"n\": 3}, \"config\": {\"most\": 2}, \"finds\": [\"bad\"]}\n{\"row\": {\"n\": 2}, \"config\": {\"most\": 2}, \"finds\": []}\n\
                 {\"row\": {\"n\": null}, \"config\": {\"most\": 2}, \"finds\": []}\n";
    project.write("rules/cases/small.ndjson", cases);
    project.write("rules/cases/small_too.ndjson", cases);
    project.write("rules/without.js", "no cases, and no script");
    let screen = sluice(&project, &["test", "rules"]).expect(0);
    assert_eq!(screen.matches("3 of 3 cases").count(), 2, "{screen}");
    let none = project.sluice(&["test", "rules/without.js"]);
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("there are no cases in rules/cases/without.ndjson"), "{}", none.stderr);
    project.write("rules/small.js", js("row.note.length;"));
    let failed = project.sluice(&["test", "rules/small.js"]).expect(1);
    assert!(failed.contains("rules/small.js:6:1: TypeError: cannot read property 'length' of null"), "{failed}");
    project.write("rules/small.js", js("row..n"));
    let wrong = project.sluice(&["test", "rules/small.js"]);
    assert!(wrong.stderr.contains(" --> rules/small.js:6:5\n"), "{}", wrong.stderr);
}

#[test]
fn a_script_from_nothing_with_no_tool_but_sluice() {
    for (language, key, ending) in [("javascript", "js", "js"), ("python", "python", "py")] {
        let (project, _) = Project::visits(2_000, "");
        let nowhere = project.path().join("nowhere");
        let alone = |arguments: &[&str]| {
            let mut command = project.command(arguments);
            command.env("XDG_DATA_HOME", data()).env("PATH", &nowhere).stdin(Stdio::null());
            Ran::of(command.output().expect("sluice starts"))
        };
        let new = ["new", "rule", "no-exposure", "--lang", language, "--script"];
        let made = alone(&new).expect(0);
        let section = format!("[rule.no-exposure]\n{key} = \"rules/no-exposure.{ending}\"\n");
        let printed: String = made.lines().map(|line| format!("{}\n", line.trim_start())).collect();
        assert!(printed.contains(&section), "{made}");
        let tested = alone(&["test", &format!("rules/no-exposure.{ending}")]).expect(0);
        assert!(tested.contains("no-exposure 0.1.0") && tested.contains("12 of 12 cases"), "{tested}");
        // the same in SQL would hide whether the script finds anything
        let toml = project.read("sluice.toml");
        let toml: String =
            toml.lines().filter(|line| !line.starts_with("login-exposed")).map(|l| format!("{l}\n")).collect();
        project.write("sluice.toml", toml + &section);
        alone(&["run", "--until-end"]).expect(0);
        let sql = "SELECT count(*) AS rows, \
                   count(*) FILTER (WHERE 'login-exposed' IN (_findings[1]['code'], _findings[2]['code'])) AS found FROM error \
                   WHERE keep_private AND context['user']['login'] IS NOT NULL";
        let counted = &peer::sql(sql, &project.tables())[0];
        assert!(counted["rows"].as_u64() > Some(0) && counted["rows"] == counted["found"], "{language}: {counted}");
        alone(&["reconcile"]).expect(0);
        let again = alone(&new);
        assert!(again.code == Some(2) && again.stderr.contains("is there already"), "{}", again.stderr);
    }
}

/// What is wrong in a script's text, what is said of it, and where: line and column.
const WRONG_JS: &[(&str, &str, &str)] = &[
    ("let a;\nexport const rule = nothing();", "ReferenceError: nothing is not defined", "2:21"),
    ("let a = 1;\nexport const rule = ;", "SyntaxError: unexpected token in expression: ';'", "2:21"),
    ("// a file\nimport fs from \"fs\";", "a script imports { names } from \"sluice\", and nothing else", "2:1"),
    ("import {\n  bool,\n  number,\n} from \"sluice\";", "\"sluice\" has no `number`, but ", "3:3"),
    ("let a;\nexport const enricher = 1;", "a script for a rule says `export const rule = …`", "2:1"),
    ("let a;\n", "a script exports its plugin: `export const rule = defineRule({ … })`", "1:1"),
    ("export default {};", "what a script exports is made by defineRule({ … })", "1:1"),
    (
        "export const rule = 1;\nexport const more = 2;",
        "a script exports one rule or enricher, and nothing else",
        "2:1",
    ),
    ("export const rule = Date.now();", "Error: a verdict depends on its row alone: there is no clock", "1:26"),
    ("import { defineRule } from \"sluice\";\nexport const rule = defineRule({ check() {} });", "TypeError: ", "2:21"),
];

/// The same in Python, which knows a column only of what it cannot parse.
const WRONG_PY: &[(&str, &str, &str)] = &[
    ("a = 1\nRule = nothing()", "NameError: name 'nothing' is not defined", "2:1"),
    ("a = 1\nRule = (", "SyntaxError: '(' was never closed", "2:8"),
    ("def f():\nreturn 1", "IndentationError: expected an indented block", "2:1"),
    ("import os", "ImportError: a script has no module `os`, but abc, ", "1:1"),
    ("import json\n\njson.loads('{')", "JSONDecodeError: Expecting property name", "3:1"),
    ("Enricher = 1", "a script for a rule assigns `Rule`, and not `Enricher`", "1:1"),
    ("a = 1", "a script assigns its plugin: `Rule = rule(…)`", "1:1"),
    ("\n\nopen('/etc/passwd')", "OSError: a verdict depends on its row alone: there is no file", "3:1"),
];

#[test]
fn a_mistake_in_a_script_is_shown_with_its_place() {
    for (key, ending, wrong) in [("js", "js", WRONG_JS), ("python", "py", WRONG_PY)] {
        let sections = (0..wrong.len()).map(|n| format!("[rule.r{n}]\n{key} = \"rules/{n}.{ending}\"\n"));
        let project = pipeline(&sections.collect::<String>(), &[]);
        for (n, (text, ..)) in wrong.iter().enumerate() {
            project.write(&format!("rules/{n}.{ending}"), text);
        }
        let checked = sluice(&project, &["check"]);
        assert_eq!(checked.code, Some(1));
        for (n, (_, said, place)) in wrong.iter().enumerate() {
            let title = format!("error: rule `r{n}` cannot be loaded: {said}");
            assert!(checked.stderr.contains(&title), "{title}\n{}", checked.stderr);
            let place = format!(" --> rules/{n}.{ending}:{place}\n");
            assert!(checked.stderr.contains(&place), "{place}\n{}", checked.stderr);
        }
        // a run says the same, and begins nothing
        let run = sluice(&project, &["run", "--until-end"]);
        assert!(run.code == Some(2) && run.stderr.contains(" --> rules/0."), "{}", run.stderr);
        assert!(!project.path().join("lake").exists());
    }
}

#[test]
fn what_is_no_mistake_of_the_text_is_shown_in_the_pipeline_file() {
    let project = pipeline("[rule.gone]\njs = \"rules/gone.js\"\n[rule.r]\njs = \"r.js\"\n", &[]);
    project.write("r.js", js("").replace("\"note\"", "\"nota\""));
    let checked = project.sluice(&["check"]).stderr;
    assert!(checked.contains("cannot read `rules/gone.js`") && checked.contains(" --> sluice.toml:8:6\n"), "{checked}");
    project.write("rules/gone.js", js("").replace("reads:", "settings() { throw new Error(\"no limit\") }, reads:"));
    let checked = project.sluice(&["check"]).stderr;
    assert!(checked.contains("its configuration is wrong: no limit"), "{checked}");
    assert!(checked.contains("`nota`"), "{checked}");
    assert!(checked.contains(" --> sluice.toml:8:6\n") && checked.contains(" --> sluice.toml:10:6\n"), "{checked}");
    let toml = project.read("sluice.toml");
    project.write("sluice.toml", toml.replace("js = \"r.js\"", "js = \"r.js\"\nwasi = \"inert\""));
    let checked = project.sluice(&["check"]).stderr;
    assert!(checked.contains("`rule.r.wasi` says nothing of a script"), "{checked}");
    let empty = project.path().to_str().unwrap();
    project.write("sluice.toml", toml.replace("js = \"r.js\"", "python = \"r.js\""));
    let missing = project.sluice_with(("XDG_DATA_HOME", empty), &["check"]).stderr;
    assert!(missing.contains("the engine of Python is not there: neither "), "{missing}");
    assert!(missing.contains("`sluice build --engine python` makes it"), "{missing}");
}

/// Rows of which one, in the middle, makes the rules below misbehave.
fn rows(misbehaving: &str) -> Vec<serde_json::Value> {
    (0..9).map(|n| json!({ "n": n, "note": if n == 4 { misbehaving } else { "ok" } })).collect()
}

#[test]
fn a_row_at_which_a_script_throws_or_never_ends_costs_that_row() {
    let scripts = [
        (
            "js",
            "r.js",
            js(
                "if (row.n === 2) found(\"bad\", \"two\");\nif (row.note === \"throw\") null.x;\nif (row.note === \"loop\") for (;;) {}",
            ),
        ),
        (
            "python",
            "r.py",
            py(
                "    if row.n == 2: found(BAD, \"two\")\n    if row.note == \"throw\": None.x\n    while row.note == \"loop\": pass",
            ),
        ),
    ];
    for (key, file, text) in scripts {
        for (note, reason, detail) in [
            ("throw", "plugin-error", format!("rules/{file}:{}", if key == "js" { "7:" } else { "5: AttributeError" })),
            ("loop", "plugin-timeout", "it used up its fuel (limits.fuel)".to_owned()),
        ] {
            let project = pipeline(&format!("[rule.r]\n{key} = \"rules/{file}\"\n"), &rows(note));
            project.write(&format!("rules/{file}"), &text);
            sluice(&project, &["run", "--until-end"]).expect(0);
            assert_eq!(project.counted(), Counted { valid: 7, error: 1, dlq: 1, doubled: 0 }, "{key} {note}");
            let dead = peer::sql("SELECT _offset, reason, detail, plugin FROM dlq", &project.tables());
            assert_eq!((&dead[0]["_offset"], &dead[0]["plugin"]), (&5.into(), &"r".into()), "{dead}");
            assert_eq!(dead[0]["reason"], reason, "{dead}");
            assert!(dead[0]["detail"].as_str().unwrap().starts_with(&detail), "{detail}: {dead}");
        }
    }
}

#[test]
fn a_script_that_always_throws_does_what_on_failure_says() {
    let section = "[rule.r]\njs = \"r.js\"\nmax_failures = \"0 in 1m\"\n";
    let project = pipeline(section, &rows("ok"));
    project.write("r.js", js("throw new RangeError(\"out of order\");"));
    let stopped = project.sluice(&["run", "--until-end"]);
    assert_eq!(stopped.code, Some(2), "{}", stopped.stdout);
    assert!(stopped.stderr.contains("r.js:6:"), "{}", stopped.stderr);
    assert_eq!(project.counted(), Counted { valid: 0, error: 0, dlq: 0, doubled: 0 });
    let toml = project.read("sluice.toml").replace(section, &format!("{section}on_failure = \"dead-letter\"\n"));
    project.write("sluice.toml", toml);
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(project.counted(), Counted { valid: 0, error: 0, dlq: 9, doubled: 0 });
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn all_scripts_of_a_process_share_one_compilation() {
    let sections =
        "[[enrich]]\nname = \"twice\"\njs = \"twice.js\"\n[rule.a]\njs = \"a.js\"\n[rule.b]\njs = \"b.js\"\n";
    let project = pipeline(sections, &rows("ok"));
    project.write("a.js", js("if (row.n === 1) found(\"bad\");"));
    project.write("b.js", js("if (row.n === 2) found(\"bad\");").replace("reads: {", "reads: { two: int(\"two\"),"));
    let twice = "import { defineEnricher, int } from \"sluice\";\nexport const enricher = defineEnricher({ name: \"twice\", version: \"1\", \
                 reads: { n: int(\"n\") }, adds: { two: int }, add: (row) => ({ two: 2 * row.n }) });";
    project.write("twice.js", twice);
    // nothing was compiled by anyone before
    let cache = project.path().join("cache");
    let ran =
        project.sluice_with(("XDG_CACHE_HOME", cache.to_str().unwrap()), &["--log", "debug", "run", "--until-end"]);
    let compiled = ran.stderr.lines().filter(|line| line.contains("a component was compiled")).count();
    assert_eq!((ran.code, compiled), (Some(0), 1), "{}", ran.stderr);
    assert_eq!(project.counted(), Counted { valid: 7, error: 2, dlq: 0, doubled: 0 });
    let added = peer::sql("SELECT n, two FROM valid WHERE n = 7", &project.tables());
    assert_eq!(added, json!([{ "n": 7, "two": 14 }]));
}

#[test]
fn what_a_script_prints_is_logged() {
    for (key, file, text) in [
        ("js", "r.js", js("console.log(\"saw\", row.n, [1n]);")),
        ("python", "r.py", py("    print(\"saw\", row.n, [1])")),
    ] {
        let project = pipeline(&format!("[rule.r]\n{key} = \"{file}\"\n"), &[json!({ "n": 7 })]);
        project.write(file, text);
        let ran = sluice(&project, &["--log", "info", "run", "--until-end"]);
        assert!(
            ran.code == Some(0) && ran.stderr.contains("saw 7 [") && ran.stderr.contains("plugin=\"r\""),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn a_script_is_a_part_of_its_generation_and_past_ones_judge_again() {
    for (key, file, small, large) in [
        ("js", "r.js", js("if (row.n > 1) found(\"bad\");"), js("if (row.n > 100) found(\"bad\");")),
        ("python", "r.py", py("    if row.n > 1: found(BAD)"), py("    if row.n > 100: found(BAD)")),
    ] {
        let project = pipeline(&format!("[rule.r]\n{key} = \"{file}\"\n"), &[json!({ "n": 1 }), json!({ "n": 50 })]);
        project.write(file, &small);
        sluice(&project, &["run", "--until-end"]).expect(0);
        assert_eq!(project.counted(), Counted { valid: 1, error: 1, dlq: 0, doubled: 0 });
        project.write(file, &large);
        project.write("in/b.ndjson", "{\"n\": 50}\n");
        sluice(&project, &["run", "--until-end"]).expect(0);
        assert_eq!(project.counted(), Counted { valid: 2, error: 1, dlq: 0, doubled: 0 });
        // back, to a text that lies nowhere but in the state folder
        let back = sluice(&project, &["rollback"]).expect(0);
        assert!(back.contains("changed  r ") && back.contains(" → "), "{back}");
        project.write("in/c.ndjson", "{\"n\": 50}\n");
        sluice(&project, &["run", "--until-end"]).expect(0);
        assert_eq!(project.counted(), Counted { valid: 2, error: 2, dlq: 0, doubled: 0 }, "{key}");
        sluice(&project, &["reconcile"]).expect(0);
    }
}

#[test]
fn a_changed_script_judges_what_comes_next() {
    let project = pipeline("[rule.r]\njs = \"rules/r.js\"\n", &[json!({ "n": 50 })]);
    project.write("rules/r.js", js("if (row.n > 1) found(\"bad\");"));
    let toml = project.read("sluice.toml").replace("files = [\"in/*.ndjson\"]", "stdin = true");
    project.write("sluice.toml", toml);
    let mut child = project.start(&["run"], Stdio::piped());
    let mut records = child.stdin.take().expect("stdin is piped");
    let running = Running::child(child);
    let row = b"{\"n\": 50}\n";
    records.write_all(row).expect("the run reads");
    running.until("valid 0  error 1");
    project.write("rules/r.js", js("if (row.n > ) found(\"bad\");"));
    running.until("rules/r.js:6: rule `r` cannot be loaded: SyntaxError");
    project.write("rules/r.js", js("if (row.n > 100) found(\"bad\");"));
    running.until("reload");
    records.write_all(row).expect("the run reads");
    running.until("valid 1  error 0");
    running.stop();
}
