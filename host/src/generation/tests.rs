use super::*;
use object_store::memory::InMemory;

const PIPELINE: &str = r#"
name  = "visits"
state = "lake/_sluice/visits"
[source]
files = ["in/*.ndjson"]
skip  = "_value IS NULL"
[schema]
file = "visits.sql"
event_time = "event_time"
[[enrich]]
sql = { host = "lower(page)" }
[expect]
has-user = "user_id IS NOT NULL"
has-page = { sql = "page <> ''", severity = "warn" }
[rule.consent]
wasm   = "consent.wasm"
config = { allow = ["healthcheck"], deep = { b = 1, a = 2.5 } }
[sink]
valid = { delta = "lake/visits" }
error = { delta = "lake/errors" }
dlq   = { delta = "lake/dlq" }
"#;

const SCHEMA: &str = "CREATE TABLE visits (event_time TIMESTAMP, user_id STRING, page STRING)";

fn load(pipeline: &str, schema: &str, code: &'static [u8]) -> Generation {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("sluice.toml", pipeline.as_bytes());
    write("visits.sql", schema.as_bytes());
    write("consent.wasm", code);
    write("renamed.wasm", code);
    let config = Config::load_with(&folder.path().join("sluice.toml"), &|_| None, &mut |_, _| ())
        .unwrap_or_else(|e| panic!("{e}"));
    Generation::of(&config, &[Code { name: "consent".into(), bytes: Bytes::from_static(code) }]).unwrap()
}

fn changed(from: &str, to: &str) -> Generation {
    assert!(PIPELINE.contains(from), "{from}");
    load(&PIPELINE.replace(from, to), SCHEMA, b"code")
}

#[test]
fn what_judges_changes_the_hash_and_nothing_else_does() {
    let first = load(PIPELINE, SCHEMA, b"code");
    assert_eq!(first.short(), &first.hash[..6]);
    for (from, to) in [
        ("user_id IS NOT NULL", "user_id IS NOT NULL AND true"),
        ("severity = \"warn\"", "severity = \"error\""),
        ("has-user", "has-a-user"),
        ("lower(page)", "upper(page)"),
        ("host =", "hostname ="),
        ("b = 1", "b = 2"),
        ("[rule.consent]", "[rule.consent]\nlimits = { time = \"1s\" }"),
        ("[rule.consent]", "[rule.consent]\non_failure = \"dead-letter\""),
        ("skip  = \"_value IS NULL\"", "skip  = \"_key IS NULL\""),
        ("[source]", "[source]\nmax_record = \"2MiB\""),
        ("[source]", "[source]\nunknown_fields = \"reject\""),
        ("event_time = \"event_time\"", ""),
    ] {
        assert_ne!(changed(from, to).hash, first.hash, "{from} → {to}");
    }
    assert_ne!(load(PIPELINE, SCHEMA, b"other").hash, first.hash, "code");
    assert_ne!(
        load(PIPELINE, &SCHEMA.replace("page STRING", "page STRING, x INT"), b"code").hash,
        first.hash,
        "schema"
    );
    for (from, to) in [
        ("lake/visits", "elsewhere/visits"),
        ("lake/_sluice", "elsewhere"),
        ("in/*.ndjson", "out/*.ndjson"),
        ("consent.wasm", "renamed.wasm"),
        ("name  = \"visits\"", "name  = \"others\""),
        ("b = 1, a = 2.5", "a = 2.5, b = 1"),
        ("[sink]", "[commit]\nrows = 7\n[sink]"),
        (
            "has-user = \"user_id IS NOT NULL\"\nhas-page = { sql = \"page <> ''\", severity = \"warn\" }",
            "has-page = { severity = \"warn\", sql = \"page <> ''\" }\nhas-user = \"user_id IS NOT NULL\"",
        ),
    ] {
        assert_eq!(changed(from, to).hash, first.hash, "{from} → {to}");
    }
}

#[test]
fn canonical_json_has_sorted_keys_at_every_depth() {
    let value: Value =
        serde_json::from_str(r#"{"b": [1, {"z": null, "a": "\"é\n"}], "a": {"y": 1.50, "x": true}}"#).unwrap();
    assert_eq!(canonical(&value), r#"{"a":{"x":true,"y":1.5},"b":[1,{"a":"\"é\n","z":null}]}"#);
}

#[tokio::test]
async fn a_stored_generation_loads_again_and_damage_is_noticed() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let state = Path::from("state");
    let generation = load(PIPELINE, SCHEMA, b"code");
    generation.store(&store, &state).await.unwrap();
    generation.store(&store, &state).await.unwrap();
    assert_eq!(Generation::load(&store, &state, &generation.hash).await.unwrap(), generation);
    assert_eq!(Generation::find(&store, &state, generation.short()).await.unwrap(), vec![generation.hash.clone()]);
    assert!(Generation::find(&store, &state, "zz").await.unwrap().is_empty());
    for path in
        [object(&state, &digest(b"code")), object(&state, &digest(SCHEMA.as_bytes())), file(&state, &generation.hash)]
    {
        let good = store.get(&path).await.unwrap().bytes().await.unwrap();
        store.put(&path, "{}".into()).await.unwrap();
        let error = Generation::load(&store, &state, &generation.hash).await.unwrap_err().to_string();
        assert!(error.contains("is damaged") && error.contains(path.as_ref()), "{error}");
        store.delete(&path).await.unwrap();
        let error = Generation::load(&store, &state, &generation.hash).await.unwrap_err().to_string();
        assert!(error.contains("is missing"), "{error}");
        store.put(&path, good.into()).await.unwrap();
    }
}

#[test]
fn a_stored_generation_judges_again_whatever_the_pipeline_file_says_today() {
    let first = load(PIPELINE, SCHEMA, b"code");
    let other =
        PIPELINE.replace("user_id IS NOT NULL", "true").replace("has-page", "has-any-page").replace("lake/errors", "e");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sluice.toml"), other.replace("max_record", "x")).unwrap();
    std::fs::write(folder.path().join("visits.sql"), "CREATE TABLE visits (event_time TIMESTAMP, page STRING)")
        .unwrap();
    std::fs::write(folder.path().join("consent.wasm"), b"newer").unwrap();
    let today = Config::load_with(&folder.path().join("sluice.toml"), &|_| None, &mut |_, _| ()).unwrap();
    let revived = first.revive(&today).unwrap();
    assert_eq!(revived.schema.arrow.fields().len(), 3);
    assert_eq!(revived.expect.iter().map(|e| &*e.name).collect::<Vec<_>>(), ["has-page", "has-user"]);
    assert!(matches!(&revived.rules[0].code, crate::config::PluginCode::Stored(_, bytes) if &bytes[..] == b"code"));
    let crate::config::SinkKind::Delta(errors) = &revived.sinks.error.kind else { panic!("a table") };
    assert_eq!(errors.written, "e", "locations are of today");
}

/// The pipeline with a script as its rule, and the engine's bytes.
fn script(text: &str, engine: &'static [u8]) -> (Config, Generation) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("sluice.toml", &PIPELINE.replace("wasm   = \"consent.wasm\"", "js = \"consent.js\""));
    write("visits.sql", SCHEMA);
    write("consent.js", text);
    let config = Config::load_with(&folder.path().join("sluice.toml"), &|_| None, &mut |_, _| ()).unwrap();
    let code = Code { name: "consent".into(), bytes: Bytes::from_static(engine) };
    let generation = Generation::of(&config, &[code]).unwrap();
    (config, generation)
}

#[tokio::test]
async fn a_script_is_stored_beside_its_engine_and_both_are_hashed() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let state = Path::from("state");
    let (_, first) = script("text", b"engine");
    assert_eq!(script("text", b"engine").1.hash, first.hash);
    let (today, other) = script("other text", b"engine");
    assert_ne!(other.hash, first.hash);
    assert_ne!(script("text", b"another engine").1.hash, first.hash);
    let [changed] = &other.changes(&first)[..] else { panic!("one change") };
    assert!(changed.starts_with("consent ") && changed.contains(short(&digest(b"text"))), "{changed}");
    first.store(&store, &state).await.unwrap();
    let stored = Generation::load(&store, &state, &first.hash).await.unwrap();
    let PluginCode::Script(revived) = &stored.revive(&today).unwrap().rules[0].code else { panic!("a script") };
    assert_eq!((&*revived.text, &*revived.file), ("text", "consent.js"));
    assert_eq!(revived.engine.as_deref(), Some(&b"engine"[..]));
}

#[test]
fn what_changed_is_said_in_a_phrase_each() {
    let first = load(PIPELINE, SCHEMA, b"code");
    let check = |other: Generation, expected: &[&str]| assert_eq!(other.changes(&first), expected);
    check(load(PIPELINE, SCHEMA, b"code"), &[]);
    check(changed("has-user", "has-a-user"), &["+ expect/has-a-user", "- expect/has-user"]);
    check(changed("user_id IS NOT NULL", "true"), &["expect/has-user"]);
    check(changed("b = 1", "b = 2"), &["consent (its settings or limits)"]);
    check(changed("lower(page)", "upper(page)"), &["SQL enrichers"]);
    check(changed("skip  = \"_value IS NULL\"", ""), &["source.skip _value IS NULL → null"]);
    let code = load(PIPELINE, SCHEMA, b"newer").changes(&first);
    assert!(code.len() == 1 && code[0].starts_with("consent ") && code[0].contains(" → "), "{code:?}");
    let columns = load(PIPELINE, &SCHEMA.replace("page STRING", "page STRING, at BIGINT"), b"code");
    check(columns, &["+ column at"]);
}
