"""The visits of a file through DuckDB: two rules, three Parquet files. No transaction, no position, no provenance.

usage: duck.py FILE FOLDER   prints {"valid": n, "error": n, "dlq": n}

Each line is parsed once, into a temporary table, from which the three files are written; the dead letter keeps the line. This
was the fastest of what was tried that keeps it (read_json with ignore_errors loses it, and is not faster).
"""

import json
import os
import sys

import duckdb

SHAPE = {
    "visit_id": "VARCHAR",
    "event_time": "TIMESTAMPTZ",
    "user_id": "VARCHAR",
    "keep_private": "BOOLEAN",
    "page": "VARCHAR",
    "context": {
        "referral": "VARCHAR",
        "ad_id": "VARCHAR",
        "user": {"ip": "VARCHAR", "login": "VARCHAR", "connected_since": "TIMESTAMPTZ"},
        "technical": {
            "browser": "VARCHAR",
            "browser_version": "VARCHAR",
            "network_type": "VARCHAR",
            "device_type": "VARCHAR",
            "device_version": "VARCHAR",
        },
    },
}

file, folder = sys.argv[1:3]
os.makedirs(folder)
duck = duckdb.connect()
duck.execute("SET preserve_insertion_order = false")
duck.execute(
    f"""
    CREATE TEMP TABLE judged AS
    WITH lines AS (
      SELECT line, json_valid(line) AS is_json
      FROM read_csv('{file}', columns = {{'line': 'VARCHAR'}}, delim = '\x01', quote = '', escape = '', header = false, auto_detect = false)
    ), visits AS (
      SELECT line, is_json, CASE WHEN is_json THEN json_transform(line, '{json.dumps(SHAPE)}') END AS visit FROM lines
    )
    SELECT
      visit,
      CASE WHEN NOT is_json THEN line END AS line,
      CASE
        WHEN NOT is_json THEN 'dlq'
        WHEN visit.user_id IS NULL OR (visit.keep_private AND visit.context.user.login IS NOT NULL) THEN 'error'
        ELSE 'valid'
      END AS outcome
    FROM visits
    """
)
for outcome, columns in {"valid": "visit.*", "error": "visit.*", "dlq": "line"}.items():
    duck.execute(
        f"COPY (SELECT {columns} FROM judged WHERE outcome = '{outcome}') "
        f"TO '{folder}/{outcome}.parquet' (COMPRESSION zstd, COMPRESSION_LEVEL 1)"
    )
print(json.dumps(dict(duck.execute("SELECT outcome, count(*) FROM judged GROUP BY outcome").fetchall())))
