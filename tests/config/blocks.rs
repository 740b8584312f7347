//! The complete pipelines under `config/reference`: what is understood of them, and what is not built yet.

use super::*;

/// The pipelines of the reference, each complete.
fn reference(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../tests/config/reference/{name}.toml", env!("CARGO_MANIFEST_DIR")))
        .unwrap()
        .replace("/run/secrets/kafka", "kafka-password")
}

#[test]
fn first_pipeline_of_the_reference_is_understood() {
    let folder = Folder::new(&reference("kafka-to-delta"), VISITS);
    let config = folder.load().unwrap();
    let days = |n: u64| Some(Duration::from_secs(n * 24 * 60 * 60));
    let keep: Vec<_> = config.sinks.each().map(|(_, sink)| sink.keep).collect();
    assert_eq!(keep, [None, days(90), days(30)]);
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
                    keep: None,
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
                    keep: Some(
                        7776000s,
                    ),
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
                    keep: Some(
                        2592000s,
                    ),
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
        ("reference-join", expect![[r#""#]]),
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
