//! Rows joined with a table that is no code: what comes out, what is refused, and how a new version comes in.

use serde_json::{Value, json};

use crate::commands::edit;
use crate::guests::{UTF8, enricher};
use crate::peer;
use crate::project::Project;
use crate::reload::Running;

const SCHEMA: &str = "CREATE TABLE t (id BIGINT, device STRUCT<type: STRING, version: STRING>, code INT)";

const DEVICES: &str = "type,version,full_name\n\
                       galaxy,11,\"Galaxy, Y\"\n\
                       iphone,14,APPLE iPhone SE\n\
                       iphone,14,APPLE iPhone 12\n\
                       ,14,nobody\n";

/// A pipeline with a CSV file of devices; `source` and `more` are lines of it.
fn toml(source: &str, reference: &str, more: &str) -> String {
    format!(
        r#"name  = "t"
state = "lake/_sluice/t"
[source]
{source}
[schema]
file = "t.sql"
[reference.devices]
{reference}
[[enrich]]
reference = "devices"
on        = {{ type = "device.type", version = "device.version" }}
columns   = ["full_name AS device_name"]
{more}
[commit]
every = "200ms"
[sink]
valid = {{ delta = "lake/visits" }}
error = {{ delta = "lake/visits_errors" }}
dlq   = {{ delta = "lake/visits_dlq" }}
"#
    )
}

const FILES: &str = "files = [\"in/*.ndjson\"]";
const FANS_OUT: &str = "csv = \"devices.csv\"\nkey = [\"type\", \"version\"]\non_duplicate = \"fan-out\"";

fn project(toml: &str) -> Project {
    Project::new(&[("sluice.toml", toml), ("t.sql", SCHEMA), ("devices.csv", DEVICES)])
}

fn row(id: u32, device: Option<(Option<&str>, Option<&str>)>) -> String {
    let device = device.map(|(ty, version)| json!({"type": ty, "version": version}));
    json!({"id": id, "device": device, "code": id}).to_string() + "\n"
}

/// `id`, `_row` and the name of each valid row.
fn joined(project: &Project) -> Vec<(u64, u64, Option<String>)> {
    let rows = peer::sql("SELECT id, _row, device_name FROM valid ORDER BY id, _row", &project.tables());
    let row = |row: &Value| {
        let n = |name: &str| row[name].as_u64().expect("a number");
        (n("id"), n("_row"), row["device_name"].as_str().map(str::to_owned))
    };
    rows.as_array().expect("rows").iter().map(row).collect()
}

/// The entries that have rows: what `references` they name.
fn versions(project: &Project) -> Vec<Value> {
    let entries = project.sluice(&["inspect", "ledger", "--limit", "1000", "--json"]).expect(0);
    let entries = entries.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let rows = entries.filter(|line| line["entry"]["kind"] == "rows");
    rows.map(|line| line["entry"]["references"].clone()).collect()
}

#[test]
fn every_row_stays_null_matches_nothing_and_two_devices_make_two_rows() {
    let known = "[expect]\nknown = { sql = \"device_name IS NOT NULL\", severity = \"warn\" }";
    let project = project(&toml(FILES, FANS_OUT, known));
    project.write(
        "in/a.ndjson",
        [
            row(1, Some((Some("galaxy"), Some("11")))),
            row(2, Some((Some("iphone"), Some("14")))),
            row(3, Some((Some("Galaxy"), Some("11")))),
            row(4, Some((None, Some("14")))),
            row(5, Some((Some("galaxy"), None))),
            row(6, None),
        ]
        .concat(),
    );
    let screen = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(
        screen.contains("expect/known") && screen.contains("(5 records made 6 rows)")
            || screen.contains("6 records made 7 rows"),
        "{screen}"
    );
    let name = |text: &str| Some(text.to_owned());
    assert_eq!(
        joined(&project),
        [
            (1, 0, name("Galaxy, Y")),
            (2, 0, name("APPLE iPhone SE")),
            (2, 1, name("APPLE iPhone 12")),
            (3, 0, None),
            (4, 0, None),
            (5, 0, None),
            (6, 0, None)
        ]
    );
    let warned = peer::sql("SELECT count(*) AS n FROM valid WHERE array_length(_findings) > 0", &project.tables());
    assert_eq!(warned[0]["n"], 4, "an expectation sees what was joined");
    let version = &versions(&project)[0]["devices"];
    assert!(version.as_str().is_some_and(|version| version.starts_with("sha256:")), "{version}");
    let story = project.sluice(&["explain", "in/a.ndjson:2"]).expect(0);
    assert!(story.contains(&format!(" · devices {}", version.as_str().unwrap())), "{story}");
    assert!(story.contains("row 2 of 2"), "{story}");
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn text_of_a_file_is_compared_as_what_rows_have() {
    let with = "csv = \"codes.csv\"\nkey = [\"code\"]";
    let toml = toml(FILES, with, "")
        .replace("on        = { type = \"device.type\", version = \"device.version\" }", "on = { code = \"code\" }");
    let project = project(&toml.replace("full_name AS device_name", "name AS device_name"));
    project.write("codes.csv", "code,name\n007,seven\n8,eight\n");
    project.write("in/a.ndjson", [row(7, None), row(8, None), row(9, None)].concat());
    project.sluice(&["run", "--until-end"]).expect(0);
    let names: Vec<_> = joined(&project).into_iter().map(|(_, _, name)| name).collect();
    assert_eq!(names, [Some("seven".to_owned()), Some("eight".to_owned()), None]);
    project.write("codes.csv", "code,name\nseven,7\n");
    let refused = project.sluice(&["run", "--until-end"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("column `code` of the reference codes.csv is not Int32"), "{}", refused.stderr);
}

#[test]
fn what_is_wrong_with_a_reference_is_said_before_a_row_is_read() {
    let on = "on        = { type = \"device.type\", version = \"device.version\" }";
    let right = toml(FILES, FANS_OUT, "");
    for (toml, code, said) in [
        (right.replace("devices.csv", "gone.csv"), 1, "reference `devices` cannot be read"),
        (
            right.replace("csv = \"devices.csv\"", "delta = \"lake/devices\""),
            1,
            "reference `devices` cannot be read: there is no Delta table in lake/devices",
        ),
        (right.replace("key = [\"type\"", "key = [\"typ\""), 1, "reference `devices` has no column `typ`"),
        (right.replace("full_name AS", "fullname AS"), 1, "reference `devices` has no column `fullname`"),
        (right.replace("reference = \"devices\"", "reference = \"device\""), 1, "there is no `[reference.device]`"),
        (right.replace(", version = \"device.version\"", ""), 1, "`on` lacks `version`"),
        (
            right.replace("{ type = \"device.type\"", "{ typ = \"device.type\", type = \"device.type\""),
            1,
            "`typ` is not in the key",
        ),
        (right.replace("\"device.version\"", "\"device.versoin\""), 1, "there is no column `device.versoin`"),
        (right.replace("AS device_name", "AS id"), 1, "the name `id` is taken"),
        (
            right.replace("refresh", "refersh").replace("[[enrich]]", "refersh = \"1s\"\n[[enrich]]"),
            1,
            "unknown key `refersh`",
        ),
        // what only the rows tell
        (
            right.replace("fan-out", "error"),
            2,
            "reference `devices` has the key type = \"iphone\", version = \"14\" twice, in rows 1 and 2",
        ),
    ] {
        assert!(toml != right && right.contains(on), "{said}");
        let project = project(&toml);
        project.write("in/a.ndjson", row(1, None));
        if code == 1 {
            let checked = project.sluice(&["check"]);
            assert_eq!(checked.code, Some(1), "{said}:\n{}{}", checked.stdout, checked.stderr);
            assert!(checked.stderr.contains(said), "{said}:\n{}", checked.stderr);
        }
        let ran = project.sluice(&["run", "--until-end"]);
        assert_eq!(ran.code, Some(2), "{said}:\n{}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(said), "{said}:\n{}", ran.stderr);
        assert!(!project.path().join("lake/visits").exists(), "{said}: nothing is written");
    }
}

#[test]
fn a_column_of_another_type_is_named_on_both_sides() {
    let project = project(&toml(FILES, "delta = \"lake/devices\"\nkey = [\"type\", \"version\"]", ""));
    let code = "import pyarrow as pa\n\
                deltalake.write_deltalake(folder, pa.table({'type': ['a'], 'version': [14], 'full_name': ['x']}))";
    let made = peer::script(&project.path().join("lake/devices"), code).output().expect("python starts");
    if !made.status.success() {
        // without pyarrow the table comes from the library's own types
        let code = "f = deltalake.schema.Field\np = deltalake.schema.PrimitiveType\n\
                    deltalake.DeltaTable.create(folder, schema=deltalake.Schema([f('type', p('string')), \
                    f('version', p('long')), f('full_name', p('string'))]))";
        let made = peer::script(&project.path().join("lake/devices"), code).output().expect("python starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let checked = project.sluice(&["check"]);
    let said = "`device.version` is STRING, but `version` of reference `devices` is BIGINT";
    assert!(checked.stderr.contains(said), "{}{}", checked.stdout, checked.stderr);
}

#[test]
fn a_new_version_comes_in_while_running_and_a_broken_one_does_not() {
    let first_only = FANS_OUT.replace("fan-out", "error").replace("devices.csv", "one.csv");
    let project = project(&toml("stdin = true", &first_only, ""));
    project.write("one.csv", "type,version,full_name\niphone,14,old\n");
    let mut running = Running::of(&project);
    let row = |id| row(id, Some((Some("iphone"), Some("14"))));
    running.put(&row(1));
    running.until(" entry ");
    project.write("one.csv", "type,version,full_name\niphone,14,new\n");
    let asked = project.sluice(&["reference", "refresh", "devices"]).expect(0);
    assert!(asked.contains("1 row") && asked.contains("with their next entry"), "{asked}");
    let line = running.until(" reference ");
    assert!(line.contains("devices sha256:") && line.contains("1 row, from the next entry on"), "{line}");
    running.put(&row(2));
    running.until(" entry ");
    // the command refuses it by itself, and so does the run
    project.write("one.csv", "type,version,full_name\niphone,14,new\niphone,14,newer\n");
    let refused = project.sluice(&["reference", "refresh"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("twice, in rows 0 and 1"), "{}", refused.stderr);
    running.put(&row(3));
    running.until(" entry ");
    running.stop();
    let names: Vec<_> = joined(&project).into_iter().map(|(id, _, name)| (id, name.unwrap())).collect();
    assert_eq!(names, [(1, "old".to_owned()), (2, "new".to_owned()), (3, "new".to_owned())]);
    let versions = versions(&project);
    assert_ne!(versions[0], versions[1]);
    assert_eq!(versions[1], versions[2]);
}

#[test]
fn a_new_version_comes_in_by_itself_at_the_interval() {
    let often = format!("{FANS_OUT}\nrefresh = \"1s\"");
    let project = project(&toml("stdin = true", &often, ""));
    let running = Running::of(&project);
    running.until("metrics");
    project.write("devices.csv", "type,version,full_name\n");
    let line = running.until(" reference ");
    assert!(line.contains(": 0 rows"), "{line}");
    // gone is no version: it stays, and that is said once
    std::fs::remove_file(project.path().join("devices.csv")).unwrap();
    let line = running.until(" reference ");
    assert!(line.contains("stays at sha256:"), "{line}");
    project.write("devices.csv", DEVICES);
    let line = running.until(" → ");
    assert!(line.contains(": 4 rows"), "{line}");
    running.stop();
}

#[test]
fn a_generation_is_the_binding_and_not_the_place() {
    let generation = |toml: &str| {
        let project = project(toml);
        project.write("elsewhere/devices.csv", "type,version,full_name\nother,1,content\n");
        let text = project.sluice(&["inspect", "generation"]).expect(0);
        text.lines().next().expect("the hash").to_owned()
    };
    let right = toml(FILES, FANS_OUT, "");
    let hash = generation(&right);
    assert_eq!(generation(&right.replace("devices.csv", "elsewhere/devices.csv")), hash);
    assert_eq!(generation(&right.replace("fan-out\"", "fan-out\"\nrefresh = \"5m\"")), hash);
    assert_ne!(generation(&right.replace("fan-out", "first")), hash);
    assert_ne!(generation(&right.replace("AS device_name", "AS called")), hash);
}

#[test]
fn a_generation_with_a_reference_is_put_in_force_again() {
    let right = toml(FILES, FANS_OUT, "");
    let project = project(&right);
    project.write("in/a.ndjson", row(1, Some((Some("iphone"), Some("14")))));
    project.sluice(&["run", "--until-end"]).expect(0);
    project.write("sluice.toml", right.replace("fan-out", "first"));
    project.write("in/b.ndjson", row(2, Some((Some("iphone"), Some("14")))));
    project.sluice(&["run", "--until-end"]).expect(0);
    let history = project.sluice(&["history"]).expect(0);
    assert!(history.contains("reference devices"), "{history}");
    project.sluice(&["rollback"]).expect(0);
    project.write("in/c.ndjson", row(3, Some((Some("iphone"), Some("14")))));
    project.sluice(&["run", "--until-end"]).expect(0);
    let rows: Vec<_> = joined(&project).into_iter().map(|(id, row, _)| (id, row)).collect();
    assert_eq!(rows, [(1, 0), (1, 1), (2, 0), (3, 0), (3, 1)]);
}

#[test]
fn a_row_that_matches_too_many_costs_that_row() {
    let project = project(&toml(FILES, FANS_OUT, ""));
    let mut devices = String::from("type,version,full_name\n");
    for n in 0..600_000 {
        devices += &format!("iphone,14,{n}\n");
    }
    project.write("devices.csv", devices + "galaxy,11,Galaxy Y\n");
    project.write(
        "in/a.ndjson",
        [row(1, Some((Some("galaxy"), Some("11")))), row(2, Some((Some("iphone"), Some("14")))), row(3, None)].concat(),
    );
    project.sluice(&["run", "--until-end"]).expect(0);
    let ids: Vec<_> = joined(&project).into_iter().map(|(id, ..)| id).collect();
    assert_eq!(ids, [1, 3]);
    let dead = peer::sql("SELECT stage, reason, detail FROM dlq", &project.tables());
    assert_eq!((&dead[0]["stage"], &dead[0]["reason"]), (&json!("enrich"), &json!("too-large")), "{dead}");
    assert!(dead[0]["detail"].as_str().unwrap().contains("its rows of `devices` would take more than"), "{dead}");
    project.sluice(&["reconcile"]).expect(0);
}

/// An enricher that looks up the column it reads, one key of text, in the table `name`, and answers what it is told: the
/// answer of `lookup` is laid out as that of `enrich`.
fn looks_up(name: &str, column: &str, one_to_many: bool) -> Vec<u8> {
    let lookup = r#"(import "sluice:plugin/reference@VERSION" "lookup"
        (func $lookup (param i32 i32 i32 i32 i32 i32 i32 i32)))"#;
    let mut guest = enricher(
        UTF8,
        &format!(
            "(call $lookup (i32.const 3000) (i32.const {}) (local.get $rows) (local.get $columns) (i32.const 1)
               (i32.const 3200) (i32.const 1) (i32.const 3300))
             (if (i32.load8_u (i32.const 3300)) (then
               (return (call $refuse (i32.const 1) (i32.load (i32.const 3304)) (i32.load (i32.const 3308))))))
             (i32.const 3300)",
            name.len()
        ),
    );
    guest.imports = lookup.into();
    guest.says.reads = vec![("device.type".into(), UTF8, true)];
    guest.says.one_to_many = one_to_many;
    // a column-request: path, type, whether it is required
    let request = [3100u32.to_le_bytes(), (column.len() as u32).to_le_bytes(), [UTF8, 1, 0, 0]].concat();
    let request: String = request.iter().map(|byte| format!("\\{byte:02x}")).collect();
    guest.extra(&format!(
        "(data (i32.const 3000) \"{name}\") (data (i32.const 3100) \"{column}\") (data (i32.const 3200) \"{request}\")"
    )).component()
}

const LENT: &str = r#"
[reference.names]
csv = "names.csv"
key = ["type"]
on_duplicate = "fan-out"
[[enrich]]
name = "looks-up"
wasm = "looks_up.wasm"
"#;

#[test]
fn a_component_looks_up_a_batch_in_the_table_of_the_entry() {
    let project = project(&toml(FILES, FANS_OUT, LENT));
    project.write("names.csv", "type,name\ngalaxy,Samsung\niphone,Apple\niphone,Cupertino\n");
    project.write("looks_up.wasm", looks_up("names", "name", true));
    project.write(
        "in/a.ndjson",
        [
            row(1, Some((Some("galaxy"), Some("11")))),
            row(2, Some((Some("iphone"), None))),
            row(3, Some((None, None))),
            row(4, Some((Some("lg"), None))),
        ]
        .concat(),
    );
    project.sluice(&["run", "--until-end"]).expect(0);
    let rows = peer::sql("SELECT id, _row, added FROM valid ORDER BY id, _row", &project.tables());
    let expected = json!([
        {"id": 1, "_row": 0, "added": "Samsung"},
        {"id": 2, "_row": 0, "added": "Apple"},
        {"id": 2, "_row": 1, "added": "Cupertino"},
        {"id": 3, "_row": 0, "added": null},
        {"id": 4, "_row": 0, "added": null},
    ]);
    assert_eq!(rows, expected);
    let names = &versions(&project)[0]["names"];
    assert!(names.as_str().is_some_and(|version| version.starts_with("sha256:")), "{names}");
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn a_component_that_asks_for_what_is_not_there_is_told() {
    for (table, column, said) in [
        ("nomes", "name", "there is no reference `nomes`"),
        ("names", "nome", "`names` has no column `nome`"),
        ("devices", "full_name", "the key of `devices` has 2 columns, not 1"),
    ] {
        let lenient = format!("{LENT}on_failure = \"dead-letter\"\n");
        let project = project(&toml(FILES, FANS_OUT, &lenient));
        project.write("names.csv", "type,name\ngalaxy,Samsung\n");
        project.write("looks_up.wasm", looks_up(table, column, true));
        project.write("in/a.ndjson", row(1, Some((Some("galaxy"), None))));
        project.sluice(&["run", "--until-end"]).expect(0);
        let dead = peer::sql("SELECT detail FROM dlq", &project.tables());
        assert!(dead[0]["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{said}: {dead}");
    }
}

#[test]
fn a_replay_joins_with_the_table_of_today_and_says_which() {
    let known = "[expect]\nknown = \"device_name IS NOT NULL\"\nsmall = \"id < 3\"";
    let project = project(&toml(FILES, FANS_OUT, known));
    let iphone = Some((Some("iphone"), Some("14")));
    let rows = [row(1, iphone), row(2, Some((Some("pixel"), Some("9")))), row(3, iphone)];
    project.write("in/a.ndjson", rows.concat());
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(joined(&project).len(), 2, "the two names of the first");
    // nothing is said of a table that changed: the rows are the same, what they are joined with is not
    project.write("devices.csv", format!("{DEVICES}pixel,9,Pixel 9\n"));
    project.sluice(&["replay", "error"]).expect(0);
    let name = |text: &str| Some(text.to_owned());
    assert_eq!(joined(&project)[2..], [(2, 0, name("Pixel 9"))]);
    edit(&project, "sluice.toml", "id < 3", "id < 4");
    project.sluice(&["replay", "error"]).expect(0);
    // each of the rows that one became is replayed as itself
    assert_eq!(joined(&project)[3..], [(3, 0, name("APPLE iPhone SE")), (3, 1, name("APPLE iPhone 12"))]);
    let ledger = project.sluice(&["inspect", "ledger", "--limit", "1000", "--json"]).expect(0);
    let entries = ledger.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut versions: Vec<Value> = entries
        .filter(|line| line["entry"]["kind"] == "rows" || line["entry"]["kind"] == "replay")
        .map(|line| line["entry"]["references"]["devices"].clone())
        .collect();
    assert_eq!(versions.len(), 3, "{ledger}");
    versions.dedup();
    assert_eq!(versions.len(), 2, "{ledger}");
    assert!(!project.sluice(&["replay", "error"]).expect(0).contains("sent"));
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn a_reload_reads_no_table_again_and_a_new_one_comes_with_it() {
    let once = FANS_OUT.replace("fan-out", "first").replace("devices.csv", "gone.csv");
    let project = project(&toml("stdin = true", &once, ""));
    project.write("gone.csv", DEVICES);
    let mut running = Running::of(&project);
    running.put(&row(1, Some((Some("galaxy"), Some("11")))));
    running.until(" entry ");
    // were it read again, it would be another version
    project.write("gone.csv", "type,version,full_name\ngalaxy,11,another\n");
    edit(&project, "sluice.toml", "[commit]", "[expect]\nsmall = \"id < 10\"\n[commit]");
    running.until(" reload ");
    running.put(&row(2, Some((Some("galaxy"), Some("11")))));
    running.until(" entry ");
    let more = "[reference.codes]\ncsv = \"codes.csv\"\nkey = [\"type\"]\n\
                [[enrich]]\nreference = \"codes\"\non = { type = \"device.type\" }\ncolumns = [\"code_name\"]\n";
    project.write("codes.csv", "type,code_name\ngalaxy,G\n");
    edit(&project, "sluice.toml", "[commit]", &format!("{more}[commit]"));
    running.until(" reload ");
    running.put(&row(3, Some((Some("galaxy"), Some("11")))));
    let all = running.end();
    let names: Vec<_> = joined(&project).into_iter().map(|(id, _, name)| (id, name.unwrap_or_default())).collect();
    assert_eq!(names, [(1, "Galaxy, Y".to_owned()), (2, "Galaxy, Y".to_owned()), (3, "Galaxy, Y".to_owned())]);
    let codes = peer::sql("SELECT code_name FROM valid WHERE code_name IS NOT NULL", &project.tables());
    assert_eq!(codes, json!([{ "code_name": "G" }]));
    let versions = versions(&project);
    assert_eq!(versions.len(), 3, "{versions:#?} {all:#?}");
    assert_eq!((&versions[0]["devices"], &versions[1]["devices"]), (&versions[2]["devices"], &versions[2]["devices"]));
    assert!(versions[2]["codes"].is_string(), "{versions:?}");
}

#[test]
fn a_candidate_beside_joins_with_what_the_entry_is_joined_with() {
    let base = toml("stdin = true", FANS_OUT, "[expect]\nsmall = \"id < 100\"");
    let project = project(&base);
    project.write("next.toml", base.replace("id < 100", "id < 4"));
    let mut running = Running::of(&project);
    running.until("metrics");
    project.sluice(&["shadow", "start", "--with", "next.toml"]).expect(0);
    running.until("judges beside");
    let galaxy = |id| row(id, Some((Some("galaxy"), Some("11"))));
    running.put(&galaxy(1));
    running.until(" entry ");
    project.write("devices.csv", "type,version,full_name\ngalaxy,11,another\n");
    project.sluice(&["reference", "refresh"]).expect(0);
    running.until(" reference ");
    running.put(&[galaxy(2), galaxy(3), galaxy(4)].concat());
    running.until(" entry ");
    running.end();
    let status: Value = serde_json::from_str(&project.sluice(&["shadow", "status", "--json"]).expect(0)).expect("JSON");
    let seen = &status["seen"];
    assert_eq!((&seen["records"], &seen["flipped"]), (&json!(4), &json!(1)), "{status:#}");
    assert_eq!(seen["columns"], json!({}), "{status:#}");
    assert_eq!(joined(&project)[1].2.as_deref(), Some("another"));
}

#[test]
fn a_diff_takes_the_tables_that_either_file_names() {
    let project = project(&toml(FILES, FANS_OUT, ""));
    project.write("in/a.ndjson", row(1, Some((Some("galaxy"), Some("11")))) + &row(2, None));
    project.sluice(&["run", "--until-end"]).expect(0);
    let more = "[reference.codes]\ncsv = \"codes.csv\"\nkey = [\"type\"]\n\
                [[enrich]]\nreference = \"codes\"\non = { type = \"device.type\" }\ncolumns = [\"code_name\"]\n\
                [expect]\ncoded = \"code_name IS NOT NULL OR device IS NULL\"";
    project.write("codes.csv", "type,code_name\niphone,I\n");
    project.write("next.toml", toml(FILES, FANS_OUT, more));
    let diff = project.sluice(&["diff", "--on", "valid", "--with", "next.toml", "--json"]);
    assert_eq!(diff.code, Some(1), "one of two flips: {}{}", diff.stdout, diff.stderr);
    let last = crate::commands::json_lines(&diff.stdout).pop().expect("a summary");
    assert!(last.to_string().contains("expect/coded"), "{last}");
}
