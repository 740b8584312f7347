//! What is wrong is shown where it stands, all of it at once.

use super::*;

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
