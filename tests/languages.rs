//! A plugin in every language, from nothing to rejected records, by the commands of its README as they stand.
//!
//! The tools are real: cargo, go, clang or Zig, componentize-py, esbuild. `sluice build` fetches what pip and npm
//! can fetch into this user's cache; the others are set up by `.ci/setup`. A tool that is missing fails the test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::broker;
use crate::peer;
use crate::project::Project;
use crate::scripts;

/// A folder made by `sluice new`, within a folder of its own.
struct Plugin {
    project: Project,
    name: String,
}

impl Plugin {
    fn new(kind: &str, name: &str, language: &str) -> Plugin {
        let project = Project::new(&[]);
        project.sluice(&["new", kind, name, "--lang", language]).expect(0);
        Plugin { project, name: name.to_owned() }
    }

    fn folder(&self) -> PathBuf {
        self.project.path().join(&self.name)
    }

    /// Where its component is.
    fn component(&self) -> PathBuf {
        self.folder().join(self.name.replace('-', "_")).with_extension("wasm")
    }

    /// The `sh` blocks of its README.
    fn commands(&self) -> Vec<String> {
        let readme = self.project.read(&format!("{}/README.md", self.name));
        readme.split("```sh\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0.to_owned())).collect()
    }

    /// Runs commands as a person would type them; answers standard output.
    #[track_caller]
    fn shell(&self, commands: &str) -> String {
        let binary = Path::new(env!("CARGO_BIN_EXE_sluice"));
        let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", commands]).current_dir(self.folder()).env("PATH", path).env("NO_COLOR", "1");
        shell.env("KAFKA_BROKERS", broker::shared().bootstrap());
        let output = shell.env_remove("SLUICE_LOG").stdin(Stdio::null()).output().expect("sh starts");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{commands}\nstdout:\n{stdout}\nstderr:\n{stderr}");
        stdout.into_owned()
    }

    fn table(&self, name: &'static str, folder: &str) -> (&'static str, PathBuf) {
        (name, self.folder().join("lake").join(folder))
    }

    /// The component that the README names, as another tool of this binary sees it.
    fn inspected(&self) -> serde_json::Value {
        let text = self.shell(&format!("sluice inspect plugin {} --json", self.component().display()));
        serde_json::from_str(&text).expect("inspect prints JSON")
    }
}

/// No template's component imports more than the contract.
fn imports_nothing_foreign(inspected: &serde_json::Value) {
    let imports = inspected["imports"].as_array().expect("imports are listed");
    let foreign: Vec<_> = imports.iter().filter(|name| !name.as_str().unwrap().starts_with("sluice:plugin/")).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

/// A new rule, from the first command of its README to the rows that it rejects, of a file and of a topic.
fn a_rule_from_nothing(language: &str) {
    let plugin = Plugin::new("rule", &format!("no-exposure-{language}"), language);
    let [make, try_out, on_topic, ..] = &plugin.commands()[..] else { panic!("three blocks of commands") };
    let tested = plugin.shell(make);
    assert!(tested.contains("12 of 12 cases"), "{tested}");
    plugin.shell(try_out);
    imports_nothing_foreign(&plugin.inspected());
    // the cases travel with the component
    let elsewhere = Project::new(&[]);
    elsewhere.write("it.wasm", std::fs::read(plugin.component()).unwrap());
    let tested = elsewhere.sluice(&["test", "it.wasm"]).expect(0);
    assert!(tested.contains("12 of 12 cases"), "{tested}");
    plugin.shell(on_topic);
    for lake in ["", "topic/"] {
        rejected(&plugin, lake);
    }
    plugin.shell("sluice reconcile");
    plugin.shell("sluice reconcile topic.toml");
}

/// That the rule objects to a row; an expectation may, too.
const FOUND: &str = "_findings[1]['code'] = 'login-exposed' OR _findings[2]['code'] = 'login-exposed'";

/// The tables below that folder of the lake hold what the rule rejects, and what it lets pass.
#[track_caller]
fn rejected(plugin: &Plugin, lake: &str) {
    let sql = format!(
        "SELECT count(*) FILTER (WHERE keep_private AND context['user']['login'] IS NOT NULL) AS exposed, \
         count(*) FILTER (WHERE {FOUND}) AS found FROM error"
    );
    let counted = &peer::sql(&sql, &[plugin.table("error", &format!("{lake}visits_errors"))])[0];
    assert!(counted["exposed"].as_u64() > Some(0) && counted["exposed"] == counted["found"], "{counted}");
    let sql = "SELECT count(*) AS rows FROM valid WHERE keep_private AND context['user']['login'] IS NOT NULL";
    assert_eq!(peer::sql(sql, &[plugin.table("valid", &format!("{lake}visits"))])[0]["rows"], 0);
}

/// A new enricher, built and tested by the first commands of its README.
fn an_enricher_from_nothing(language: &str) {
    let plugin = Plugin::new("enricher", "engine-name", language);
    let tested = plugin.shell(&plugin.commands()[0]);
    assert!(tested.contains("11 of 11 cases"), "{tested}");
    imports_nothing_foreign(&plugin.inspected());
}

/// The commands under `By hand` make a component that passes its cases.
fn by_hand(language: &str) -> Plugin {
    let plugin = Plugin::new("rule", "by-hand", language);
    let commands = plugin.commands();
    plugin.shell(commands.last().expect("the README ends with them"));
    let tested = plugin.shell("sluice test by_hand.wasm");
    assert!(tested.contains("12 of 12 cases"), "{tested}");
    imports_nothing_foreign(&plugin.inspected());
    plugin
}

#[test]
fn a_rule_in_go_from_nothing() {
    a_rule_from_nothing("go");
    an_enricher_from_nothing("go");
    by_hand("go");
}

#[test]
fn a_rule_in_c_from_nothing() {
    a_rule_from_nothing("c");
    an_enricher_from_nothing("c");
    by_hand("c");
}

#[test]
fn a_rule_in_python_from_nothing() {
    a_rule_from_nothing("python");
}

#[test]
fn an_enricher_in_python_from_nothing() {
    an_enricher_from_nothing("python");
}

#[test]
fn a_rule_in_javascript_from_nothing() {
    a_rule_from_nothing("javascript");
    an_enricher_from_nothing("javascript");
}

#[test]
fn a_rule_in_typescript_from_nothing() {
    a_rule_from_nothing("typescript");
    an_enricher_from_nothing("typescript");
}

#[test]
fn a_rule_in_rust_from_nothing() {
    a_rule_from_nothing("rust");
}

/// A folder of cargo's may lie within another one's workspace, and must not become a part of it.
#[test]
fn a_rule_in_rust_within_a_workspace() {
    let project = Project::new(&[("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"plugins/*\"]\n")]);
    std::fs::create_dir(project.path().join("plugins")).unwrap();
    project.sluice(&["new", "rule", "inner", "--lang", "rust", "--path", "plugins/inner"]).expect(0);
    let metadata = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(project.path().join("plugins/inner"))
        .output()
        .expect("cargo starts");
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).expect("cargo reads the folder");
    let root = metadata["workspace_root"].as_str().unwrap_or_default();
    assert!(root.ends_with("plugins/inner"), "{root}");
}

/// The least that is a rule in JavaScript, without an SDK: it finds rows that are private and have a login.
const BARE: &str = r#"export const rule = {
  configure: () => ({
    name: "bare", version: "0.1.0", instances: "reused",
    columns: [["keep_private", "boolean"], ["context.user.login", "utf8"]].map(([path, ty]) => ({ path, ty, required: true })),
    codes: [{ code: "login-exposed", severity: "error", help: "a private visit carries a login", reads: [0, 1] }],
  }),
  check({ rows, columns: [shut, login] }) {
    const is = (bits, row) => ((bits[row >> 3] >> (row & 7)) & 1) === 1;
    const has = ({ val: { validity } }, row) => validity.length === 0 || is(validity, row);
    const exposed = (row) => has(shut, row) && is(shut.val.data, row) && has(login, row);
    return [...Array(rows).keys()].filter(exposed).map((row) => ({ row, code: 0, column: null, detail: null }));
  },
};
"#;

/// A finished component that imports WASI 0.2, as another tool makes it where it is not told otherwise: of two versions of
/// WASI at once.
#[test]
fn a_finished_component_that_imports_wasi_is_served_by_stand_ins() {
    let plugin = by_hand("javascript");
    plugin.project.write("by-hand/bare.js", BARE);
    plugin.shell("npm install --silent --no-audit --no-fund componentize-qjs@0.4.5");
    let wrap =
        "npx componentize-qjs --wit wit/plugin.wit --js bare.js --world rule-plugin --sync --output by_hand.wasm";
    plugin.shell(wrap);
    plugin.shell("sluice generate visits --records 2000 --out visits.ndjson");

    let refused = plugin.project.sluice(&["test", "by-hand/by_hand.wasm"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("it imports wasi:"), "{}", refused.stderr);
    let checked = plugin.shell("sluice check 2>&1 || true");
    assert!(checked.contains("rebuild it with `sluice build`, or set `wasi = \"inert\"`"), "{checked}");

    let row = r#"{"keep_private": true, "context": {"user": {"login": "a"}}}"#;
    let cases = format!("{{\"row\": {row}, \"finds\": [\"login-exposed\"]}}\n{{\"row\": {{}}, \"finds\": []}}\n");
    plugin.project.write("by-hand/cases/by-hand.ndjson", cases);
    assert!(plugin.shell("sluice test --wasi inert by_hand.wasm").contains("2 of 2 cases"));
    let toml = plugin.project.read("by-hand/sluice.toml");
    let key = "wasm   = \"by_hand.wasm\"";
    assert!(toml.contains(key), "{toml}");
    plugin.project.write("by-hand/sluice.toml", toml.replace(key, &format!("{key}\nwasi   = \"inert\"")));
    plugin.shell("sluice run --until-end");
    let sql = format!("SELECT count(*) AS rows FROM error WHERE {FOUND}");
    let found = &peer::sql(&sql, &[plugin.table("error", "visits_errors")])[0];
    assert!(found["rows"].as_u64() > Some(0), "{found}");
    // what was activated can be revived: the stand-ins are part of the generation
    plugin.shell("sluice reconcile");
    assert!(plugin.shell("sluice inspect generation").contains("\"wasi\": \"inert\""));
}

/// A Go rule that does what only a runtime with a clock and a scheduler can do.
const RESTLESS: &str = r#"package main

import (
	"fmt"
	"os"
	"time"

	"sluice"
)

type Visit struct {
	Page *string `row:"page"`
}

var odd = sluice.Error("odd", "something is not as it should be")

func restless(v Visit, _ *sluice.None, found *sluice.Found) {
	if *v.Page == "panic" {
		panic("no such page")
	}
	before := time.Now()
	time.Sleep(3 * time.Second)
	slept := time.Since(before)
	answer := make(chan int)
	go func() { answer <- len(*v.Page) }()
	_, err := os.ReadFile("/etc/passwd")
	if slept < 3*time.Second || before.IsZero() || <-answer != len(*v.Page) || err == nil || os.Getenv("HOME") != "" {
		found.PushDetail(odd, fmt.Sprint(slept, err))
	}
	if _, err := fmt.Println("a line of standard output"); err != nil {
		found.PushDetail(odd, err.Error())
	}
}

func init() { sluice.Rule("restless", "1.0.0", restless, odd) }

func main() {}
"#;

#[test]
fn what_go_asks_of_wasi_is_stood_in_for() {
    let plugin = Plugin::new("rule", "restless", "go");
    plugin.project.write("restless/rule.go", RESTLESS);
    plugin.project.write(
        "restless/cases/restless.ndjson",
        "{\"row\": {\"page\": \"index\"}, \"finds\": []}\n{\"row\": {\"page\": \"\"}, \"finds\": []}\n",
    );
    plugin.shell("sluice build");
    let tested = plugin.shell("sluice --log info test 2>&1");
    assert!(tested.contains("2 of 2 cases") && tested.contains("a line of standard output"), "{tested}");
    imports_nothing_foreign(&plugin.inspected());
    // what is printed goes to the host's log, and a panic costs its row and says its line
    let line = "{\"row\": {\"page\": \"panic\"}, \"finds\": []}\n";
    plugin.project.write("restless/cases/restless.ndjson", line);
    let failed = plugin.shell("sluice --log info test 2>&1 || true");
    assert!(failed.contains("rule.go:19: no such page (row 0 of the call)"), "{failed}");
}

/// A rule that says of each row what it reads.
const ECHO_GO: &str = r#"package main

import (
	"strconv"

	"sluice"
)

type Row struct {
	N     *int64  `row:"n"`
	Note  *string `row:"note"`
	Blank *string `row:"blank"`
	None  *string `row:"none"`
	Flag  *bool   `row:"flag"`
	Gone  *string `row:"gone,optional"`
}

var seen = sluice.Error("seen", "what a row holds")

func quoted(text *string) string {
	if text == nil {
		return "null"
	}
	return "'" + *text + "'"
}

func echo(row Row, _ *sluice.None, found *sluice.Found) {
	flag := "null"
	if row.Flag != nil {
		flag = strconv.FormatBool(*row.Flag)
	}
	said := strconv.FormatInt(*row.N, 10) + quoted(row.Note) + quoted(row.Blank) + quoted(row.None) + flag
	found.PushDetail(seen, said+quoted(row.Gone))
}

func init() { sluice.Rule("echo", "1.0.0", echo, seen) }

func main() {}
"#;

/// The same, which objects too where its rows are not those made in C.
const ECHO_PYTHON: &str = r#"import sluice
from sluice import code, col, rule

SEEN = code("seen", "what a row holds")


def quoted(text):
    return "null" if text is None else f"'{text}'"


def echo(row, settings, found):
    flag = "null" if row.flag is None else str(row.flag).lower()
    found(SEEN, f"{row.n}{quoted(row.note)}{quoted(row.blank)}{quoted(row.none)}{flag}{quoted(row.gone)}")
    if sluice._rows is None:
        found(SEEN, "rows in Python")


TEXTS = {name: col(name, str) for name in ("note", "blank", "none")}
Rule = rule("echo", "1.0.0", echo, codes=[SEEN], n=col("n", int), flag=col("flag", bool), gone=col("gone", str, False), **TEXTS)
"#;

/// Texts of all lengths, some many times and some once, some null, some of more bytes than characters.
fn notes() -> impl Iterator<Item = Option<String>> {
    (0..6_001_usize).map(|n| match (n % 11, n / 1_500 % 2) {
        (0, _) => None,
        (1, _) => Some(String::new()),
        (2, _) => Some("ü€".repeat(n % 9)),
        (_, 0) => Some("abcdefghijklmnopqrstuvwxyz0123456789"[..n * 7 % 37].to_owned()),
        (_, _) => Some(format!("{n} of many")),
    })
}

#[test]
fn a_row_is_read_as_it_is() {
    let flag = |n| [None, Some(false), Some(true)][n / 5 % 3];
    let row = |(n, note)| json!({ "n": n, "note": note, "blank": "", "none": null, "flag": flag(n) });
    let rows: Vec<_> = notes().enumerate().map(row).collect();
    let section = |name: &str, code: &str| format!("[rule.{name}]\n{code}\n");
    let sections = section("go", "wasm = \"echo-go.wasm\"")
        + &section("python", "wasm = \"echo-python.wasm\"")
        + &section("script", "python = \"rule.py\"");
    let project = scripts::pipeline(&sections, &rows);
    project.write("t.sql", "CREATE TABLE t (n BIGINT, note STRING, blank STRING, none STRING, flag BOOLEAN)");
    for (language, file, text) in [("go", "rule.go", ECHO_GO), ("python", "rule.py", ECHO_PYTHON)] {
        let name = format!("echo-{language}");
        project.sluice(&["new", "rule", &name, "--lang", language]).expect(0);
        project.write(&format!("{name}/{file}"), text);
        project.sluice(&["build", &name, "-o", &format!("{name}.wasm")]).expect(0);
    }
    project.write("rule.py", ECHO_PYTHON);
    scripts::sluice(&project, &["run", "--until-end"]).expect(0);
    let sql = "SELECT count(*) AS rows, count(*) FILTER (WHERE array_length(_findings) = 3 \
               AND _findings[1]['detail'] = said AND _findings[2]['detail'] = said AND _findings[3]['detail'] = said) AS good \
               FROM (SELECT _findings, concat(n, CASE WHEN note IS NULL THEN 'null' ELSE concat('''', note, '''') END, \
               '''''null', CASE WHEN flag IS NULL THEN 'null' WHEN flag THEN 'true' ELSE 'false' END, 'null') AS said FROM error)";
    let counted = &peer::sql(sql, &project.tables())[0];
    assert_eq!(*counted, json!({ "rows": rows.len(), "good": rows.len() }));
}

#[test]
fn a_folder_without_a_plugin_is_told_so() {
    let project = Project::new(&[("readme.txt", "")]);
    let refused = project.sluice(&["build"]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("is no plugin's folder: it has no Cargo.toml (Rust), no go.mod (Go)"),
        "{}",
        refused.stderr
    );
    let refused = project.sluice(&["new", "rule", "Late", "--lang", "go"]);
    assert!(refused.stderr.contains("`Late` is no name for a plugin"), "{}", refused.stderr);
}

#[test]
fn a_tool_that_is_missing_is_named() {
    for (language, said) in [
        ("go", "is a Go plugin: install Go 1.24 or newer"),
        ("c", "a C plugin needs clang and lld (Debian: apt-get install clang-14 lld-14), or Zig"),
        ("python", "a Python plugin needs Python 3 with its module venv"),
        ("typescript", "a JavaScript plugin needs Node.js and npm"),
    ] {
        let plugin = Plugin::new("rule", "lonely", language);
        let mut command = plugin.project.command(&["build", "lonely"]);
        let empty = plugin.project.path();
        let output = command.env("PATH", empty).env("XDG_CACHE_HOME", empty).output().expect("sluice starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(said), "{language}: {stderr}");
    }
}

/// `consent` gives the same answers in every language: whatever lies beside it under its name passes its cases.
#[test]
fn consent_gives_the_same_answers_in_every_language() {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").canonicalize().unwrap();
    let listed = std::fs::read_dir(&plugins).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let mut folders: Vec<String> = listed.filter(|name| name.starts_with("consent")).collect();
    folders.retain(|name| plugins.join(name).is_dir());
    folders.sort();
    let languages = ["consent", "consent-c", "consent-go", "consent-js", "consent-python", "consent-ts"];
    assert_eq!(folders, languages);
    let cases = std::fs::read_to_string(plugins.join("consent/cases/consent.ndjson")).unwrap();
    assert!(cases.contains("\"login\": \"\"") && cases.contains("\"login\": null"), "{cases}");
    let project = Project::new(&[]);
    for folder in languages {
        let own = std::fs::read_to_string(plugins.join(folder).join("cases/consent.ndjson")).unwrap();
        assert_eq!(own, cases, "{folder}");
        let out = format!("{folder}.wasm");
        project.sluice(&["build", plugins.join(folder).to_str().unwrap(), "-o", &out]).expect(0);
        let screen = project.sluice(&["test", &out]).expect(0);
        assert!(screen.contains("12 of 12 cases"), "{folder}: {screen}");
    }
}

/// Enrichers of this repository in other languages answer the same cases as their Rust twin.
#[test]
fn the_repository_s_own_enrichers_build_where_they_stand() {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").canonicalize().unwrap();
    let project = Project::new(&[]);
    for folder in ["browser-engine-c", "browser-engine-js"] {
        let out = format!("{folder}.wasm");
        project.sluice(&["build", plugins.join(folder).to_str().unwrap(), "-o", &out]).expect(0);
        let screen = project.sluice(&["test", &out]).expect(0);
        assert!(screen.contains("11 of 11 cases"), "{folder}: {screen}");
    }
}
