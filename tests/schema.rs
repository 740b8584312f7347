//! A schema written as `CREATE TABLE`: its shape, what it demands, and what is wrong in it.

use expect_test::{Expect, expect};
use sluice_host::schema::Schema;

/// One column a line, then the constraints.
fn shape(ddl: &str, expected: Expect) {
    let schema = Schema::from_ddl(ddl, "t.sql").unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let mut shown: Vec<_> = schema
        .arrow
        .fields()
        .iter()
        .map(|field| {
            assert!(field.is_nullable(), "{field}");
            format!("{}: {}", field.name(), field.data_type())
        })
        .collect();
    shown.extend(schema.constraints.iter().map(|c| format!("line {} {}: {}", c.line, c.name, c.sql)));
    expected.assert_eq(&shown.join("\n"));
}

fn wrong(ddl: &str, expected: Expect) {
    let mistakes = Schema::from_ddl(ddl, "t.sql").expect_err("the schema has mistakes");
    expected.assert_eq(&mistakes.to_string());
}

#[test]
fn every_type_has_its_arrow_type() {
    shape(
        "create table t (a STRING, b BOOLEAN, c TINYINT, d SMALLINT, e INT, f BIGINT, g FLOAT, h DOUBLE,
           i DECIMAL, j DECIMAL(5), k decimal(38, 10), l DATE, m TIMESTAMP, n BINARY, o LONG);",
        expect![[r#"
            a: Utf8
            b: Boolean
            c: Int8
            d: Int16
            e: Int32
            f: Int64
            g: Float32
            h: Float64
            i: Decimal128(10, 0)
            j: Decimal128(5, 0)
            k: Decimal128(38, 10)
            l: Date32
            m: Timestamp(µs, "UTC")
            n: Binary
            o: Int64"#]],
    );
}

#[test]
fn types_nest() {
    shape(
        "CREATE TABLE t (
           a STRUCT<b: STRING, c: STRUCT<d: INT, `é-f`: INT>>,
           g ARRAY<STRING>,
           h ARRAY<STRUCT<i: ARRAY<ARRAY<INT>>>>,
           j MAP<STRING, MAP<STRING, ARRAY<INT>>>,
           k STRUCT<l INT COMMENT 'without colon', m: DECIMAL(3,1)>
         )",
        expect![[r#"
            a: Struct("b": Utf8, "c": Struct("d": Int32, "é-f": Int32))
            g: List(Utf8, field: 'element')
            h: List(Struct("i": List(List(Int32, field: 'element'), field: 'element')), field: 'element')
            j: Map("key_value": non-null Struct("key": non-null Utf8, "value": Map("key_value": non-null Struct("key": non-null Utf8, "value": List(Int32, field: 'element')), unsorted)), unsorted)
            k: Struct("l": Int32, "m": Decimal128(3, 1))"#]],
    );
}

#[test]
fn declarations_become_constraints() {
    shape(
        "CREATE TABLE IF NOT EXISTS shop.t (
           id BIGINT NOT NULL COMMENT 'never null',
           price DOUBLE CHECK (price >= 0 AND (price < 1e6)),
           `order` STRING NOT NULL,
           who STRUCT<name: STRING NOT NULL, at: STRUCT<city: STRING NOT NULL>>,
           CONSTRAINT known CHECK (id <> 7), -- CHECK (in a comment)
           CHECK (price IN (1, 2) OR id IS NULL)
         ) USING DELTA COMMENT 'all of it';",
        expect![[r#"
            id: Int64
            price: Float64
            order: Utf8
            who: Struct("name": Utf8, "at": Struct("city": Utf8))
            line 2 not-null-id: id IS NOT NULL
            line 3 check-1: price >= 0 AND (price < 1e6)
            line 4 not-null-order: order IS NOT NULL
            line 5 not-null-who.name: who IS NULL OR who.name IS NOT NULL
            line 5 not-null-who.at.city: who.at IS NULL OR who.at.city IS NOT NULL
            line 6 known: id <> 7
            line 7 check-2: price IN (1, 2) OR id IS NULL"#]],
    );
}

#[test]
fn lines_of_columns_are_known() {
    let schema =
        Schema::from_ddl("CREATE TABLE t (\n  a STRUCT<\n    b: INT,\n    c: STRUCT<d: INT>>,\n\n  e INT)", "t.sql");
    let lines: Vec<_> = schema.unwrap().lines.into_iter().map(|(path, line)| format!("{path} {line}")).collect();
    assert_eq!(lines, ["a 2", "a.b 3", "a.c 4", "a.c.d 4", "e 6"]);
}

#[test]
fn columns_are_found_by_path() {
    let schema = Schema::from_ddl("CREATE TABLE t (a STRUCT<b: STRUCT<c: INT>>, d INT)", "t.sql").unwrap();
    for (path, expected) in [("a.b.c", Some("Int32")), ("d", Some("Int32")), ("d.e", None), ("a.c", None), ("", None)] {
        assert_eq!(schema.data_type(path).map(ToString::to_string).as_deref(), expected, "{path}");
    }
}

#[test]
fn types_that_do_not_fit_are_refused_together() {
    wrong(
        "CREATE TABLE t (\n  a TIMESTAMP_NTZ,\n  b VARCHAR(10),\n  c STRNG,\n  d STRUCT<x: BLOB<INT>, y: JSON>,\n  e DECIMAL(39, 2)\n)",
        expect![[r#"
            error: the type `TIMESTAMP_NTZ` is not available
             --> t.sql:2:5
              |
            2 |   a TIMESTAMP_NTZ,
              |     ^^^^^^^^^^^^^
              |
              = help: use TIMESTAMP, an instant in UTC: TIMESTAMP_NTZ would raise the protocol of the table

            error: the type `VARCHAR` is not available
             --> t.sql:3:5
              |
            3 |   b VARCHAR(10),
              |     ^^^^^^^
              |
              = help: use STRING, and `CHECK (length(…) <= …)` for a bound

            error: the type `STRNG` is not available
             --> t.sql:4:5
              |
            4 |   c STRNG,
              |     ^^^^^ did you mean `STRING`?

            error: the type `BLOB` is not available
             --> t.sql:5:15
              |
            5 |   d STRUCT<x: BLOB<INT>, y: JSON>,
              |               ^^^^

            error: the type `JSON` is not available
             --> t.sql:5:29
              |
            5 |   d STRUCT<x: BLOB<INT>, y: JSON>,
              |                             ^^^^
              |
              = help: use STRING: a nested value is then kept as JSON text

            error: such a decimal does not exist
             --> t.sql:6:12
              |
            6 |   e DECIMAL(39, 2)
              |            ^^^^^^^
              |
              = help: at most 38 digits in all, and no more than that behind the point"#]],
    );
}

#[test]
fn names_that_do_not_fit_are_refused_together() {
    wrong(
        "CREATE TABLE t (\n  `a b` INT,\n  _Topic STRING,\n  c STRUCT<d: INT, D: INT>,\n  e INT,\n  E INT\n)",
        expect![[r#"
            error: `a b` cannot be the name of a column
             --> t.sql:2:3
              |
            2 |   `a b` INT,
              |   ^^^^^
              |
              = help: names have no space, and none of , ; { } ( ) = . and quotes: Parquet and paths forbid them

            error: `_Topic` is reserved
             --> t.sql:3:3
              |
            3 |   _Topic STRING,
              |   ^^^^^^
              |
              = help: every row has a column of that name; rename it at the producer

            error: `D` is declared twice
             --> t.sql:4:20
              |
            4 |   c STRUCT<d: INT, D: INT>,
              |                    ^
              |
              = help: names are the same whatever their case

            error: `E` is declared twice
             --> t.sql:6:3
              |
            6 |   E INT
              |   ^
              |
              = help: names are the same whatever their case"#]],
    );
}

#[test]
fn what_a_schema_does_not_say_is_refused() {
    wrong(
        "CREATE TABLE t (\n  a INT PRIMARY KEY,\n  b INT DEFAULT (1 + 2) NOT NULL,\n  c ARRAY<STRUCT<d: INT NOT NULL>>,\n  UNIQUE (a, b),\n  CONSTRAINT f FOREIGN KEY (a) REFERENCES u (a),\n  g INT\n)\nPARTITIONED BY (a)",
        expect![[r#"
            error: `PRIMARY` is not available
             --> t.sql:2:9
              |
            2 |   a INT PRIMARY KEY,
              |         ^^^^^^^
              |
              = help: a schema has types, `NOT NULL`, `CHECK` and `COMMENT`: keys and defaults mean nothing to a stream

            error: `DEFAULT` is not available
             --> t.sql:3:9
              |
            3 |   b INT DEFAULT (1 + 2) NOT NULL,
              |         ^^^^^^^
              |
              = help: a schema has types, `NOT NULL`, `CHECK` and `COMMENT`: keys and defaults mean nothing to a stream

            error: `NOT NULL` inside an array or a map is not available
             --> t.sql:4:18
              |
            4 |   c ARRAY<STRUCT<d: INT NOT NULL>>,
              |                  ^
              |
              = help: say it as an expectation over the whole column

            error: `UNIQUE` is not available
             --> t.sql:5:3
              |
            5 |   UNIQUE (a, b),
              |   ^^^^^^
              |
              = help: a schema has types, `NOT NULL`, `CHECK` and `COMMENT`: keys and defaults mean nothing to a stream

            error: `FOREIGN` is not available
             --> t.sql:6:16
              |
            6 |   CONSTRAINT f FOREIGN KEY (a) REFERENCES u (a),
              |                ^^^^^^^
              |
              = help: a schema has types, `NOT NULL`, `CHECK` and `COMMENT`: keys and defaults mean nothing to a stream

            error: this clause is not available
             --> t.sql:9:1
              |
            9 | PARTITIONED BY (a)
              | ^^^^^^^^^^^
              |
              = help: say `partition_by` on the sink instead"#]],
    );
}

#[test]
fn expressions_are_checked_in_their_place() {
    wrong(
        "CREATE TABLE t (\n  a INT,\n  CHECK (a >),\n  CONSTRAINT x CHECK (a < 1 b)\n)",
        expect![[r#"
        error: this is not an expression: Expected: an expression, found: EOF
         --> t.sql:3:10
          |
        3 |   CHECK (a >),
          |          ^^^

        error: this is not an expression: Expected: EOF, found: b
         --> t.sql:4:23
          |
        4 |   CONSTRAINT x CHECK (a < 1 b)
          |                       ^^^^^^^"#]],
    );
}

#[test]
fn errors_of_syntax_say_what_was_expected() {
    for (ddl, expected) in [
        (
            "",
            expect![[r#"
            error: expected `CREATE`
             --> t.sql:1:1
              |
            1 |
              | ^ the text ends here
              |
              = help: a schema is one `CREATE TABLE name (column TYPE, …)`"#]],
        ),
        (
            "CREATE TABLE t (a INT",
            expect![[r#"
            error: expected `,` or `)`
             --> t.sql:1:22
              |
            1 | CREATE TABLE t (a INT
              |                      ^ the text ends here
              |
              = help: a schema is one `CREATE TABLE name (column TYPE, …)`"#]],
        ),
        (
            "CREATE TABLE t ()",
            expect![[r#"
            error: expected a column's name
             --> t.sql:1:17
              |
            1 | CREATE TABLE t ()
              |                 ^
              |
              = help: a schema is one `CREATE TABLE name (column TYPE, …)`"#]],
        ),
        (
            "CREATE TABLE t (a STRUCT<b INT)",
            expect![[r#"
            error: expected `,` or `>`
             --> t.sql:1:31
              |
            1 | CREATE TABLE t (a STRUCT<b INT)
              |                               ^
              |
              = help: a schema is one `CREATE TABLE name (column TYPE, …)`"#]],
        ),
        (
            "CREATE TABLE t (a INT, 'b' INT)",
            expect![[r#"
            error: expected a column's name
             --> t.sql:1:24
              |
            1 | CREATE TABLE t (a INT, 'b' INT)
              |                        ^^^
              |
              = help: a schema is one `CREATE TABLE name (column TYPE, …)`"#]],
        ),
        (
            "CREATE TABLE t (a INT); CREATE TABLE u (b INT)",
            expect![[r#"
            error: a second table
             --> t.sql:1:25
              |
            1 | CREATE TABLE t (a INT); CREATE TABLE u (b INT)
              |                         ^^^^^^
              |
              = help: a pipeline has one schema: a file declares one table"#]],
        ),
        (
            "CREATE TABLE t (a INT) -- ok\nLOCATION 'x'",
            expect![[r#"
            error: this clause is not available
             --> t.sql:2:1
              |
            2 | LOCATION 'x'
              | ^^^^^^^^
              |
              = help: the schema says what a row looks like; where it is stored is said in `[sink]`"#]],
        ),
        (
            "CREATE TABLE t (a 'unclosed",
            expect![[r#"
            error: this is not SQL: Unterminated string literal
             --> t.sql:1:19
              |
            1 | CREATE TABLE t (a 'unclosed
              |                   ^^^^^^^^^"#]],
        ),
        (
            "CREATE TABLE t (ä INT)",
            expect![[r#"
                error: expected a column's name
                 --> t.sql:1:17
                  |
                1 | CREATE TABLE t (ä INT)
                  |                 ^
                  |
                  = help: names with letters beyond a to z stand in backticks"#]],
        ),
        (
            "CREATE VIEW v AS SELECT 1",
            expect![[r#"
            error: expected `TABLE`
             --> t.sql:1:8
              |
            1 | CREATE VIEW v AS SELECT 1
              |        ^^^^
              |
              = help: a schema is one `CREATE TABLE name (column TYPE, …)`"#]],
        ),
    ] {
        wrong(ddl, expected);
    }
}

#[test]
fn nesting_is_bounded() {
    let ddl = format!("CREATE TABLE t (a {}INT{})", "ARRAY<".repeat(100_000), ">".repeat(100_000));
    let mistakes = Schema::from_ddl(&ddl, "t.sql").expect_err("too deep");
    assert_eq!(mistakes.sorted()[0].message, "this type is nested too deep");
}
