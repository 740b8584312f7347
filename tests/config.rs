//! The pipeline file: what is right in it is understood, what is wrong is shown, all of it, in its place.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use expect_test::{Expect, expect};
use sluice_host::config::{
    CommitConfig, Config, Limits, Location, MaxFailures, Mistakes, OnFailure, SinkKind, SourceKind, StartPoint,
    UnknownFields, defaults,
};
use sluice_host::error::Error;

/// The schema that the blocks of the reference use.
const VISITS: &str = "\
-- types are the shape (misfit → dlq); NOT NULL and CHECK become expectations (→ error)
CREATE TABLE visits (
  visit_id STRING, event_time TIMESTAMP, user_id STRING, keep_private BOOLEAN, page STRING,
  context STRUCT<referral: STRING, ad_id: STRING,
    user: STRUCT<ip: STRING, login: STRING, connected_since: TIMESTAMP>,
    technical: STRUCT<browser: STRING, browser_version: STRING, network_type: STRING, device_type: STRING, device_version: STRING>>
)
";

/// A pipeline without mistakes, to be broken.
const RIGHT: &str = r#"name = "visits"
state = "lake/_sluice/visits"
[source]
files = ["in/*.ndjson"]
[schema]
file = "visits.sql"
[sink]
valid = { delta = "lake/visits" }
error = { delta = "lake/visits_errors" }
dlq = { delta = "lake/visits_dlq" }
"#;

/// A folder with these files; paths in messages are shown relative to it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(toml: &str, schema: &str) -> Folder {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sluice.toml"), toml).unwrap();
        std::fs::write(folder.path().join("visits.sql"), schema).unwrap();
        std::fs::write(folder.path().join("kafka-password"), "hunter2\n").unwrap();
        Folder(folder)
    }

    fn load(&self) -> Result<Config, Mistakes> {
        let variables = BTreeMap::from([
            ("LAKE", "/data/lake"),
            ("KAFKA_BROKERS", "one:9092,two:9092"),
            ("KAFKA_USER", "mlind"),
            ("SECRET", "hunter2"),
        ]);
        let variable = |name: &str| variables.get(name).map(|value| value.to_string());
        match Config::load_with(&self.path(), &variable, &mut |_, _| ()) {
            Ok(config) => Ok(config),
            Err(Error::Mistakes(mistakes)) => Err(*mistakes),
            Err(other) => panic!("{other}"),
        }
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("sluice.toml")
    }

    fn shown(&self, mistakes: &Mistakes) -> String {
        mistakes.to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// The mistakes of a pipeline file, as they are shown.
fn check(toml: &str, expected: Expect) {
    check_with(toml, VISITS, expected);
}

fn check_with(toml: &str, schema: &str, expected: Expect) {
    let folder = Folder::new(toml, schema);
    let mistakes = folder.load().expect_err("the file has mistakes");
    let shown = folder.shown(&mistakes);
    assert!(!shown.contains("hunter2"), "a secret is shown:\n{shown}");
    expected.assert_eq(&shown);
}

/// The messages alone, each with its line.
fn messages(toml: &str) -> Vec<String> {
    match Folder::new(toml, VISITS).load() {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.sorted().iter().map(|m| format!("{}: {}", m.line, m.message)).collect(),
    }
}

#[test]
fn right_file_has_no_mistakes() {
    let folder = Folder::new(RIGHT, VISITS);
    let config = folder.load().unwrap();
    assert_eq!(config.name, "visits");
    let base = folder.0.path().canonicalize().unwrap();
    assert_eq!(config.state.url.to_file_path().unwrap(), base.join("lake/_sluice/visits"));
}

#[test]
fn unknown_key_is_refused_with_a_suggestion() {
    check(
        &RIGHT.replace("files =", "max_recrod = \"1MiB\"\nfiles ="),
        expect![[r#"
        error: unknown key `max_recrod` in `source`
         --> sluice.toml:4:1
          |
        4 | max_recrod = "1MiB"
          | ^^^^^^^^^^ did you mean `max_record`?"#]],
    );
}

#[test]
fn mistyped_kind_is_one_mistake() {
    check(
        &RIGHT.replace("files =", "file ="),
        expect![[r#"
        error: unknown key `file` in `source`
         --> sluice.toml:4:1
          |
        4 | file = ["in/*.ndjson"]
          | ^^^^ did you mean `files`?"#]],
    );
}

#[test]
fn two_kinds_of_source_are_refused() {
    check(
        &RIGHT.replace("files =", "stdin = true\nfiles ="),
        expect![[r#"
        error: the source needs exactly one of `kafka`, `pattern`, `files` and `stdin`
         --> sluice.toml:5:1
          |
        5 | files = ["in/*.ndjson"]
          | ^^^^^ `stdin` is there already"#]],
    );
}

#[test]
fn no_kind_of_source_is_refused() {
    check(
        &RIGHT.replace("files = [\"in/*.ndjson\"]\n", ""),
        expect![[r#"
        error: the source needs exactly one of `kafka`, `pattern`, `files` and `stdin`
         --> sluice.toml:3:1
          |
        3 | [source]
          | ^^^^^^^^ there is none"#]],
    );
}

#[test]
fn missing_dlq_is_refused() {
    check(
        &RIGHT.replace("dlq = { delta = \"lake/visits_dlq\" }\n", ""),
        expect![[r#"
        error: `sink.dlq` is missing
         --> sluice.toml:7:1
          |
        7 | [sink]
          | ^^^^^^
          |
          = help: records that nobody can judge go there; nothing is ever dropped"#]],
    );
}

#[test]
fn size_without_unit_is_refused() {
    check(
        &RIGHT.replace("files =", "max_record = 1_000_000\nfiles ="),
        expect![[r#"
        error: `source.max_record` must be a size
         --> sluice.toml:4:14
          |
        4 | max_record = 1_000_000
          |              ^^^^^^^^^ a size needs a unit, as in "64MiB": B, KiB, MiB, GiB, kB, MB or GB"#]],
    );
}

#[test]
fn unset_variable_is_marked() {
    check(
        &RIGHT.replace("lake/visits_errors", "${LAKEHOUSE}/errors"),
        expect![[r#"
        error: the environment variable `LAKEHOUSE` is not set
         --> sluice.toml:9:20
          |
        9 | error = { delta = "${LAKEHOUSE}/errors" }
          |                    ^^^^^^^^^^^^
          |
          = help: set it, or give a default: `${LAKEHOUSE:-…}`"#]],
    );
}

#[test]
fn placeholder_in_an_expectation_is_refused() {
    check(
        &format!("{RIGHT}[expect]\nhas-user = \"user_id <> '${{LAKE}}'\"\n"),
        expect![[r#"
        error: `expect.has-user` cannot have a placeholder
          --> sluice.toml:12:25
           |
        12 | has-user = "user_id <> '${LAKE}'"
           |                         ^^^^^^^
           |
           = help: placeholders are expanded only in locations and connections: what judges must be the same everywhere"#]],
    );
}

#[test]
fn what_is_not_built_yet_is_refused() {
    check(
        &format!("{RIGHT}[registry]\nurl = \"http://localhost:8081\"\n"),
        expect![[r#"
        error: `registry` is not available yet
          --> sluice.toml:11:2
           |
        11 | [registry]
           |  ^^^^^^^^
           |
           = help: leave it out: what cannot be done is refused, never ignored"#]],
    );
}

#[test]
fn syntax_error_is_marked() {
    check(
        &RIGHT.replace("file = \"visits.sql\"", "file = visits.sql"),
        expect![[r#"
        error: this is not TOML
         --> sluice.toml:6:8
          |
        6 | file = visits.sql
          |        ^^^^^^^^^^ string values must be quoted, expected literal string"#]],
    );
}

#[test]
fn mistakes_of_the_schema_are_shown_in_its_file() {
    check_with(
        RIGHT,
        "CREATE TABLE visits (\n  user_id STRING NOT NULL,\n  User_ID BIGINT,\n  at TIMESTAMP_NTZ,\n  _offset INT\n)\n",
        expect![[r#"
            error: `User_ID` is declared twice
             --> visits.sql:3:3
              |
            3 |   User_ID BIGINT,
              |   ^^^^^^^
              |
              = help: names are the same whatever their case

            error: the type `TIMESTAMP_NTZ` is not available
             --> visits.sql:4:6
              |
            4 |   at TIMESTAMP_NTZ,
              |      ^^^^^^^^^^^^^
              |
              = help: use TIMESTAMP, an instant in UTC: TIMESTAMP_NTZ would raise the protocol of the table

            error: `_offset` is reserved
             --> visits.sql:5:3
              |
            5 |   _offset INT
              |   ^^^^^^^
              |
              = help: every row has a column of that name; rename it at the producer"#]],
    );
}

#[test]
fn all_mistakes_come_at_once() {
    let toml = r#"
name = "my visits"
state = "${NOWHERE}/x"
comit = 1

[kafka]
brokers = "one:9092"
security = "sasl_ssl"
username = "me"
password = "hunter2"
[kafka.properties]
"group.id" = "mine"

[source]
kafka = ["a b"]
start = "yesterday"

[schema]
file = "visits.sql"
event_time = "event_tme"

[expect]
has-user = 7

[rule.expect]
builtin = "timely"
limits = { time = 1 }
max_failures = "10"
on_failure = "rollback"

[[enrich]]
sql = {}

[sink]
valid = { delta = "lake/visits", columns = ["page", "context.page AS page", "context.user.login"] }
error = { delta = "lake/visits/errors" }
"#;
    check(
        toml,
        expect![[r#"
            error: `my visits` cannot be the name of a pipeline
             --> sluice.toml:2:8
              |
            2 | name = "my visits"
              |        ^^^^^^^^^^^
              |
              = help: a name has letters, digits, `-` and `_`, begins with a letter, and is at most 64 long

            error: the environment variable `NOWHERE` is not set
             --> sluice.toml:3:10
              |
            3 | state = "${NOWHERE}/x"
              |          ^^^^^^^^^^
              |
              = help: set it, or give a default: `${NOWHERE:-…}`

            error: unknown key `comit`
             --> sluice.toml:4:1
              |
            4 | comit = 1
              | ^^^^^ did you mean `commit`?

            error: `kafka.password` is written down in the pipeline file
              --> sluice.toml:10:12
               |
            10 | password = "*******"
               |            ^^^^^^^^^
               |
               = help: say where it is: `${NAME}` or `${file:path}`

            error: sluice decides `group.id`
              --> sluice.toml:12:1
               |
            12 | "group.id" = "mine"
               | ^^^^^^^^^^
               |
               = help: positions live in the ledger; `[source] group` and `start` are yours

            error: `a b` is not the name of a topic
              --> sluice.toml:15:10
               |
            15 | kafka = ["a b"]
               |          ^^^^^
               |
               = help: a topic has letters, digits, `.`, `_` and `-`; for a regular expression use `pattern`

            error: `source.start` must be `earliest`, `latest` or a time
              --> sluice.toml:16:9
               |
            16 | start = "yesterday"
               |         ^^^^^^^^^^^
               |
               = help: a time carries its offset, as in "2026-11-20T00:00:00Z"

            error: the schema has no column `event_tme`
              --> sluice.toml:20:14
               |
            20 | event_time = "event_tme"
               |              ^^^^^^^^^^^ did you mean `event_time`?

            error: `expect.has-user` must be an expression, or a table with `sql`
              --> sluice.toml:23:12
               |
            23 | has-user = 7
               |            ^ this is an integer

            error: `expect` cannot be the name of a rule
              --> sluice.toml:25:7
               |
            25 | [rule.expect]
               |       ^^^^^^
               |
               = help: findings of expectations carry it: choose another

            error: `rule.expect.limits.time` must be a duration
              --> sluice.toml:27:19
               |
            27 | limits = { time = 1 }
               |                   ^ a duration needs a unit, as in "5s": ms, s, m, h or d

            error: `rule.expect.max_failures` must be a number and a time
              --> sluice.toml:28:16
               |
            28 | max_failures = "10"
               |                ^^^^
               |
               = help: for example `max_failures = "10 in 1m"`

            error: `rule.expect.on_failure = "rollback"` is not available yet
              --> sluice.toml:29:14
               |
            29 | on_failure = "rollback"
               |              ^^^^^^^^^^
               |
               = help: leave it out: what cannot be done is refused, never ignored

            error: this enricher adds no column
              --> sluice.toml:32:7
               |
            32 | sql = {}
               |       ^^

            error: `sink.dlq` is missing
              --> sluice.toml:34:1
               |
            34 | [sink]
               | ^^^^^^
               |
               = help: records that nobody can judge go there; nothing is ever dropped

            error: two columns are called `page`
              --> sluice.toml:35:53
               |
            35 | valid = { delta = "lake/visits", columns = ["page", "context.page AS page", "context.user.login"] }
               |                                                     ^^^^^^^^^^^^^^^^^^^^^^ the other is `page`
               |
               = help: name one with AS

            error: `context.user.login` cannot be the name of a column in a table
              --> sluice.toml:35:77
               |
            35 | valid = { delta = "lake/visits", columns = ["page", "context.page AS page", "context.user.login"] }
               |                                                                             ^^^^^^^^^^^^^^^^^^^^
               |
               = help: name it, as in `context.user.login AS login`

            error: `sink.valid` and `sink.error` share a folder
              --> sluice.toml:36:9
               |
            36 | error = { delta = "lake/visits/errors" }
               |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ `lake/visits` and `lake/visits/errors`
               |
               = help: each needs one of its own, and none inside another's"#]],
    );
}

#[test]
fn secrets_are_never_shown() {
    // each line is marked by a mistake, and holds a secret
    let kafka = RIGHT.replace("files = [\"in/*.ndjson\"]", "kafka = [\"visits\"]");
    for line in [
        "kafka = { brokers = 7, security = \"sasl_ssl\", username = \"u\", password = \"hunter2\" }",
        "kafka = { brokers = \"${SECRET}\", security = \"${SECRET}\", bogus = 1 }",
        "kafka = { brokers = \"b\", password = \"hunter2",
        "kafka = { brokers = \"b\", properties = { \"ssl.key.password\" = \"hunter2\" } }",
        "kafka = { brokers = \"b\", username = \"u\", password = \"${file:kafka-password}\", security = \"ssl\" }",
        "kafka = { brokers = \"b\", properties = { \"sasl.jaas.config\" = \"x hunter2\", \"group.id\" = \"g\" } }",
    ] {
        let folder = Folder::new(&format!("{line}\n{kafka}"), VISITS);
        let mistakes = folder.load().expect_err(line);
        let everything = format!(
            "{mistakes} {mistakes:?} {} {}",
            mistakes.rendered(true).join("\n"),
            serde_json::to_string(&mistakes.sorted()).unwrap()
        );
        assert!(!everything.contains("hunter2"), "{line}\n{everything}");
    }
    // and a right one
    let line =
        "kafka = { brokers = \"b\", username = \"${SECRET}\", password = \"${SECRET}\", security = \"sasl_ssl\" }";
    let config =
        Folder::new(&format!("{line}\n{kafka}").replace("lake/visits_dlq", "/x/${SECRET}"), VISITS).load().unwrap();
    let debug = format!("{config:?}");
    assert!(!debug.contains("hunter2"), "{debug}");
    assert!(debug.contains("sasl_ssl"), "{debug}");
}

/// The pipelines of the reference, each complete.
fn reference(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../tests/config/reference/{name}.toml", env!("CARGO_MANIFEST_DIR")))
        .unwrap()
        .replace("/run/secrets/kafka", "kafka-password")
}

#[test]
fn first_pipeline_of_the_reference_is_understood() {
    let whole = reference("kafka-to-delta");
    assert_eq!(
        messages(&whole),
        ["35: `sink.error.keep` is not available yet", "36: `sink.dlq.keep` is not available yet"]
    );
    let without = whole.replace(", keep = \"90d\"", "").replace(", keep = \"30d\"", "");
    let folder = Folder::new(&without, VISITS);
    let config = folder.load().unwrap();
    let base = folder.0.path().canonicalize().unwrap();
    let mut shown = format!("{config:#?}").replace(&base.display().to_string(), "BASE");
    shown = shown.replace(&folder.0.path().display().to_string(), "BASE");
    // the schema has tests of its own
    let schema = shown.find("    schema: Schema").unwrap()..shown.find("    event_time").unwrap();
    shown.replace_range(schema, "");
    expect![[r#"
        Config {
            file: "BASE/sluice.toml",
            base: "BASE",
            name: "visits",
            state: Location(
                "${LAKE}/_sluice/visits",
            ),
            source: SourceConfig {
                kind: Kafka(
                    KafkaSource {
                        topics: [
                            "visits",
                        ],
                        group: "visits",
                        start: Earliest,
                        properties: {
                            "bootstrap.servers": "***",
                            "sasl.mechanism": "PLAIN",
                            "sasl.password": "***",
                            "sasl.username": "***",
                            "security.protocol": "sasl_ssl",
                        },
                    },
                ),
                skip: Some(
                    Sql {
                        text: "_value IS NULL",
                        place: Place {
                            file: "BASE/sluice.toml",
                            span: 460..476,
                        },
                    },
                ),
                max_record: 1048576,
                unknown_fields: Ignore,
            },
            event_time: Some(
                "event_time",
            ),
            references: [],
            enrich: [],
            expect: [
                Expectation {
                    name: "has-user",
                    sql: Sql {
                        text: "user_id IS NOT NULL",
                        place: Place {
                            file: "BASE/sluice.toml",
                            span: 695..716,
                        },
                    },
                    severity: Error,
                    help: None,
                },
                Expectation {
                    name: "has-page",
                    sql: Sql {
                        text: "page IS NOT NULL AND page <> ''",
                        place: Place {
                            file: "BASE/sluice.toml",
                            span: 729..762,
                        },
                    },
                    severity: Error,
                    help: None,
                },
                Expectation {
                    name: "ad-tagged",
                    sql: Sql {
                        text: "context.referral <> 'Google Ads' OR context.ad_id IS NOT NULL",
                        place: Place {
                            file: "BASE/sluice.toml",
                            span: 783..846,
                        },
                    },
                    severity: Warn,
                    help: None,
                },
            ],
            rules: [
                PluginConfig {
                    name: "consent",
                    code: Wasm(
                        "plugins/consent.wasm",
                        "BASE/plugins/consent.wasm",
                    ),
                    place: Place {
                        file: "BASE/sluice.toml",
                        span: 1117..1139,
                    },
                    config: Object {
                        "allow": Array [
                            String("healthcheck"),
                        ],
                    },
                    limits: Limits {
                        time: 250ms,
                        memory: 67108864,
                        fuel: 100000000,
                        fuel_per_row: 25000,
                        findings_per_row: 16,
                        detail: 512,
                        log_lines: 10,
                        component: 33554432,
                        compile: 60s,
                        call_rows: 4096,
                        call_bytes: 1048576,
                    },
                    wasi: None,
                    on_failure: Stop,
                    max_failures: MaxFailures {
                        count: 10,
                        within: 60s,
                    },
                },
                PluginConfig {
                    name: "timely",
                    code: Builtin(
                        "timely",
                    ),
                    place: Place {
                        file: "BASE/sluice.toml",
                        span: 966..974,
                    },
                    config: Object {
                        "max_ahead": String("5m"),
                        "max_late": String("7d"),
                    },
                    limits: Limits {
                        time: 250ms,
                        memory: 67108864,
                        fuel: 100000000,
                        fuel_per_row: 25000,
                        findings_per_row: 16,
                        detail: 512,
                        log_lines: 10,
                        component: 33554432,
                        compile: 60s,
                        call_rows: 4096,
                        call_bytes: 1048576,
                    },
                    wasi: None,
                    on_failure: Stop,
                    max_failures: MaxFailures {
                        count: 10,
                        within: 60s,
                    },
                },
            ],
            sinks: SinksConfig {
                valid: SinkConfig {
                    kind: Delta(
                        Location(
                            "${LAKE}/visits",
                        ),
                    ),
                    columns: None,
                    provenance: true,
                    partition_by: [],
                },
                error: SinkConfig {
                    kind: Delta(
                        Location(
                            "${LAKE}/visits_errors",
                        ),
                    ),
                    columns: None,
                    provenance: true,
                    partition_by: [],
                },
                dlq: SinkConfig {
                    kind: Delta(
                        Location(
                            "${LAKE}/visits_dlq",
                        ),
                    ),
                    columns: None,
                    provenance: true,
                    partition_by: [],
                },
                staging: None,
            },
            audit: None,
            derives: [],
            commit: CommitConfig {
                every: 5s,
                rows: 500000,
                bytes: 268435456,
            },
            mask: [],
            metrics: Default,
            admin: None,
            upkeep: None,
            shadow: Rules {
                promote_after: None,
                max_flips: 0.0,
                max_errors: None,
            },
            sources: {
                "BASE/sluice.toml",
                "BASE/visits.sql",
            },
        }"#]]
    .assert_eq(&shown);
    let SourceKind::Kafka(kafka) = &config.source.kind else { panic!("{:?}", config.source.kind) };
    assert_eq!(
        kafka.properties.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
        [
            "bootstrap.servers=one:9092,two:9092",
            "sasl.mechanism=PLAIN",
            "sasl.password=hunter2",
            "sasl.username=mlind",
            "security.protocol=sasl_ssl",
        ]
    );
    assert_eq!(
        config.sinks.valid.kind,
        SinkKind::Delta(Location {
            written: "${LAKE}/visits".into(),
            url: "file:///data/lake/visits".parse().unwrap(),
        })
    );
}

#[test]
fn further_pipelines_of_the_reference_lack_only_what_is_not_built() {
    for (name, expected) in [
        ("audited-windows", expect![[r#""#]]),
        (
            "reference-join",
            expect![[r#"
            45: `sink.error.keep` is not available yet
            46: `sink.dlq.keep` is not available yet"#]],
        ),
        (
            "avro-to-parquet",
            expect![[r#"
            11: `registry` is not available yet
            16: `source.format` is not available yet
            17: `source.explode` is not available yet
            20: `schema.subject` is not available yet
            28: `sink.valid.parquet` is not available yet
            33: `sink.error.parquet` is not available yet
            35: `sink.dlq.parquet` is not available yet"#]],
        ),
        (
            "lines-to-postgres",
            expect![[r#"
            5: `postgres` is not available yet
            12: a schema in `event.schema.json` is not available yet
            13: `schema.formats` is not available yet
            14: `schema.mismatch` is not available yet
            27: `sink.staging.postgres` is not available yet
            28: `sink.valid.postgres` is not available yet
            29: `sink.error.postgres` is not available yet
            30: `sink.dlq.postgres` is not available yet"#]],
        ),
    ] {
        expected.assert_eq(&messages(&reference(name)).join("\n"));
    }
}

#[test]
fn numbers_sizes_and_times_are_understood() {
    let toml = format!(
        "commit.every = \"1m30s\"\ncommit.rows = 1_000\nlimits = {{ time = \"1s\", fuel = 5 }}\n{}{}",
        RIGHT.replace(
            "files = [\"in/*.ndjson\"]",
            "files = [\"in/*.ndjson\"]\nmax_record = \"2MB\"\nunknown_fields = \"reject\""
        ),
        "[rule.a]\nbuiltin = \"a\"\nlimits.memory = \"1GiB\"\nmax_failures = \"3 in 2h\"\non_failure = \"dead-letter\"\n",
    );
    let config = Folder::new(&toml, VISITS).load().unwrap();
    let rule = &config.rules[0];
    let limits = Limits { time: Duration::from_secs(1), fuel: 5, memory: 1 << 30, ..defaults::LIMITS };
    assert_eq!(config.commit, CommitConfig { every: Duration::from_secs(90), rows: 1_000, bytes: 256 << 20 });
    assert_eq!((config.source.max_record, config.source.unknown_fields), (2_000_000, UnknownFields::Reject));
    assert_eq!((&rule.limits, rule.on_failure), (&limits, OnFailure::DeadLetter));
    assert_eq!(rule.max_failures, MaxFailures { count: 3, within: Duration::from_secs(7200) });
}

#[test]
fn constraints_of_the_schema_become_expectations() {
    let toml = format!("{RIGHT}[expect]\nhas-page = \"page IS NOT NULL\"\n");
    let schema = "CREATE TABLE v (\n  page STRING,\n  id BIGINT NOT NULL CHECK (id > 0),\n  CONSTRAINT short CHECK (length(page) < 9)\n)";
    let config = Folder::new(&toml, schema).load().unwrap();
    let shown: Vec<_> = config
        .expect
        .iter()
        .map(|e| {
            let marked = &config.sources.text(&e.sql.place.file).unwrap()[e.sql.place.span.clone()];
            format!("{}: {} | {marked}", e.name, e.sql.text)
        })
        .collect();
    assert_eq!(
        shown,
        [
            "has-page: page IS NOT NULL | \"page IS NOT NULL\"",
            "not-null-id: id IS NOT NULL | id",
            "check-1: id > 0 | id > 0",
            "short: length(page) < 9 | length(page) < 9",
        ]
    );
}

#[test]
fn later_checks_add_to_the_mistakes_of_the_file() {
    let toml = RIGHT.replace("dlq =", "dql =") + "[expect]\nhas-user = \"usr_id IS NOT NULL\"\n";
    let folder = Folder::new(&toml, VISITS);
    let result = Config::load_with(&folder.path(), &|_| None, &mut |judges, mistakes| {
        let sql = &judges.expect[0].sql;
        let place = mistakes.sources().within(&sql.place, 0..6);
        let title = "expectation `has-user` reads `usr_id`, which the schema does not have";
        mistakes.push(place, title, "visits.sql:3 declares `user_id STRING`", "");
    });
    let Err(Error::Mistakes(mistakes)) = result else { panic!("no mistakes") };
    expect![[r#"
        error: unknown key `dql` in `sink`
          --> sluice.toml:10:1
           |
        10 | dql = { delta = "lake/visits_dlq" }
           | ^^^ did you mean `dlq`?

        error: expectation `has-user` reads `usr_id`, which the schema does not have
          --> sluice.toml:12:13
           |
        12 | has-user = "usr_id IS NOT NULL"
           |             ^^^^^^ visits.sql:3 declares `user_id STRING`"#]]
    .assert_eq(&folder.shown(&mistakes));
}

#[test]
fn tables_must_not_share_a_folder() {
    let messages_of = |from: &str, to: &str| messages(&RIGHT.replace(from, to));
    assert_eq!(messages_of("visits_dlq", "visits"), ["10: `sink.valid` and `sink.dlq` share a folder"]);
    assert_eq!(messages_of("visits_dlq", "visits/../visits/dlq"), ["10: `sink.valid` and `sink.dlq` share a folder"]);
    assert_eq!(messages_of("\"lake/visits_dlq", "\"lake/_sluice"), ["10: `state` and `sink.dlq` share a folder"]);
    assert_eq!(messages_of("visits_dlq", "visits2"), [""; 0]);
}

#[test]
fn columns_that_do_not_exist_are_refused() {
    let toml =
        RIGHT.replace("\"lake/visits\"", "\"lake/visits\", columns = [\"pge\", \"_key AS key\", \"host.a AS b\"]");
    let toml = format!("{toml}[[enrich]]\nsql = {{ host = \"x\" }}\n[mask]\ncolumns = [\"context.user.logn\"]\n");
    assert_eq!(messages(&toml), ["8: there is no column `pge`", "14: there is no column `context.user.logn`"]);
}

/// Each line is one more in `[kafka]` of a pipeline that reads topics; the messages that it causes.
#[test]
fn connections_are_checked() {
    for (lines, expected) in [
        ("", vec!["`kafka.brokers` is missing"]),
        (
            "brokers = \"b\"\nsecurity = \"tls\"",
            vec!["`kafka.security` must be `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`"],
        ),
        ("brokers = \"b\"\nusername = \"u\"", vec!["`kafka.username` would not be used"]),
        ("brokers = \"b\"\nsecurity = \"sasl_ssl\"\nusername = \"u\"", vec!["`kafka.password` is missing"]),
        (
            "brokers = \"b\"\nsecurity = \"sasl_plaintext\"\nusername = \"u\"\npassword = \"${SECRET}\"",
            vec!["`kafka.mechanism` is missing"],
        ),
        ("brokers = \"b\"\nsecurity = \"sasl_ssl\"\nproperties = { \"sasl.mechanism\" = \"OAUTHBEARER\" }", vec![]),
        ("brokers = \"b\"\nproperties.fetch.min.bytes = 7", vec![]),
        (
            "brokers = \"b\"\nproperties = { \"bootstrap.servers\" = \"c\" }",
            vec!["`bootstrap.servers` has a key of its own"],
        ),
        (
            "brokers = \"b\"\nproperties = { \"linger.ms\" = 0.5 }",
            vec!["`kafka.properties.\"linger.ms\"` must be a string, an integer or a boolean"],
        ),
        (
            "brokers = \"b\"\nproperties = { \"sasl.password\" = \"hunter2\" }",
            vec!["`sasl.password` has a key of its own"],
        ),
        (
            "brokers = \"b\"\nproperties = { \"ssl.key.password\" = \"hunter2\" }",
            vec!["`ssl.key.password` has a key of its own"],
        ),
        (
            "brokers = \"b\"\nproperties = { \"oauth.client.secret\" = \"hunter2\" }",
            vec!["`oauth.client.secret` is written down in the pipeline file"],
        ),
    ] {
        let toml = RIGHT.replace("files = [\"in/*.ndjson\"]", "kafka = [\"visits\"]");
        let found = messages(&format!("{toml}[kafka]\n{lines}\n"));
        let found: Vec<_> = found.iter().map(|message| message.split_once(": ").unwrap().1).collect();
        assert_eq!(found, expected, "{lines}");
    }
}

#[test]
fn sources_are_checked() {
    for (source, expected) in [
        ("files = [\"in/*.ndjson\"]\nstart = \"latest\"", vec!["`source.start` belongs to a Kafka source"]),
        ("files = []", vec!["`source.files` names no file"]),
        ("files = \"in/*.ndjson\"", vec!["`source.files` must be an array of strings"]),
        ("files = [\"in/***\"]", vec!["`in/***` is not a glob"]),
        ("stdin = false", vec!["`source.stdin` can only be `true`"]),
        ("kafka = [\"a\"]", vec!["a Kafka source needs `[kafka]`"]),
        ("stdin = true\nmax_record = \"2GiB\"", vec!["`source.max_record` must be at most 1GiB"]),
        ("stdin = true\nmax_record = \"0B\"", vec!["`source.max_record` must be more than nothing"]),
        ("stdin = true\nunknown_fields = \"drop\"", vec!["`source.unknown_fields` must be `ignore` or `reject`"]),
        ("stdin = true\nformat = \"avro\"", vec!["`source.format` is not available yet"]),
    ] {
        let found = messages(&RIGHT.replace("files = [\"in/*.ndjson\"]", source));
        let found: Vec<_> = found.iter().map(|message| message.split_once(": ").unwrap().1).collect();
        assert_eq!(found, expected, "{source}");
    }
}

#[test]
fn starting_points_and_patterns_are_understood() {
    for (lines, topics, start) in [
        ("kafka = [\"a\", \"b\"]", vec!["a", "b"], StartPoint::Earliest),
        ("pattern = \"visits-.*\"\nstart = \"latest\"", vec!["^(visits-.*)$"], StartPoint::Latest),
        ("pattern = \"^a|b$\"\nstart = 1970-01-01T00:00:01Z", vec!["^(a|b)$"], StartPoint::Timestamp(1_000)),
        ("kafka = [\"a\"]\nstart = \"1970-01-01T01:00:00.5+01:00\"", vec!["a"], StartPoint::Timestamp(500)),
    ] {
        let toml = RIGHT.replace("files = [\"in/*.ndjson\"]", &format!("{lines}\ngroup = \"g\""));
        let config =
            Folder::new(&format!("{toml}kafka.brokers = \"b\"\n").replace("kafka.brokers", "[kafka]\nbrokers"), VISITS)
                .load()
                .unwrap();
        let SourceKind::Kafka(kafka) = config.source.kind else { panic!("{lines}") };
        assert_eq!(
            (kafka.topics, kafka.start, kafka.group.as_str()),
            (topics.into_iter().map(String::from).collect(), start, "g")
        );
    }
}

#[test]
fn enrichers_add_columns_and_replace_none() {
    let enrich = "[[enrich]]\nsql = { host = \"a\", Page = \"b\", \"a b\" = \"c\", _id = \"d\" }\n[[enrich]]\nsql = { HOST = \"e\" }\n";
    assert_eq!(
        messages(&format!("{RIGHT}{enrich}")),
        [
            "12: the name `page` is taken",
            "12: `a b` cannot be the name of a column",
            "12: `_id` cannot be the name of a column",
            "14: the name `host` is taken",
        ]
    );
}

#[test]
fn keys_of_the_file_that_is_not_there_are_said() {
    let missing = std::path::Path::new("nowhere/sluice.toml");
    let Err(Error::Config(message)) = Config::load(missing) else { panic!("it is there") };
    assert_eq!(message, "cannot read the pipeline file nowhere/sluice.toml: there is no such file");
    assert_eq!(
        messages(""),
        [
            "1: `name` is missing",
            "1: `state` is missing",
            "1: `source` is missing",
            "1: `schema` is missing",
            "1: `sink` is missing",
        ]
    );
}

#[test]
fn partitions_are_single_columns_of_the_table() {
    for (sink, partition, expected) in [
        ("visits", "page", vec![]),
        ("visits", "_topic", vec![]),
        ("visits", "pgae", vec!["8: there is no column `pgae`"]),
        ("visits", "context", vec!["8: `context` cannot partition a table"]),
        ("visits_dlq", "reason", vec![]),
        ("visits_dlq", "page", vec!["10: a dead letter has no column `page`"]),
    ] {
        let table = format!("\"lake/{sink}\"");
        let found = messages(&RIGHT.replace(&table, &format!("{table}, partition_by = [\"{partition}\"]")));
        assert_eq!(found, expected, "{sink} {partition}");
    }
}

#[test]
fn names_of_plugins_are_unique() {
    let toml = format!("{RIGHT}[[enrich]]\nname = \"a\"\nbuiltin = \"b\"\n[rule.a]\nbuiltin = \"c\"\n");
    assert_eq!(messages(&toml), ["14: the name `a` is taken"]);
}

#[test]
fn line_ends_of_windows_change_no_place() {
    let toml = RIGHT.replace("visits_dlq\" }", "visits_dlq\", keep = \"1d\" }").replace('\n', "\r\n");
    check(
        &toml,
        expect![[r#"
        error: `sink.dlq.keep` is not available yet
          --> sluice.toml:10:36
           |
        10 | dlq = { delta = "lake/visits_dlq", keep = "1d" }
           |                                    ^^^^
           |
           = help: leave it out: what cannot be done is refused, never ignored"#]],
    );
}
