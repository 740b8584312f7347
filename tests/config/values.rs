//! What values mean, and which of them cannot be.

use super::*;

#[test]
fn right_file_has_no_mistakes() {
    let folder = Folder::new(RIGHT, VISITS);
    let config = folder.load().unwrap();
    assert_eq!(config.name, "visits");
    let base = folder.0.path().canonicalize().unwrap();
    assert_eq!(config.state.url.to_file_path().unwrap(), base.join("lake/_sluice/visits"));
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
fn rows_leave_tables_after_a_time_and_nothing_else() {
    let toml = RIGHT.replace("{ delta = \"lake/visits_dlq\" }", "{ stdout = true, keep = \"1d\" }");
    assert_eq!(messages(&toml), ["10: `sink.dlq.keep`: what went to standard output cannot be taken back"]);
}

#[test]
fn line_ends_of_windows_change_no_place() {
    let toml = RIGHT.replace("visits_dlq\" }", "visits_dlq\", keep = \"9s\" }").replace('\n', "\r\n");
    check(
        &toml,
        expect![[r#"
        error: `sink.dlq.keep` is less than twice `commit.every`
          --> sluice.toml:10:36
           |
        10 | dlq = { delta = "lake/visits_dlq", keep = "9s" }
           |                                    ^^^^
           |
           = help: an entry is open for up to `commit.every`, and its rows must not be gone before they are there"#]],
    );
}
