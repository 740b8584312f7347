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
