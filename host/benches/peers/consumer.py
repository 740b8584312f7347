"""The visits of a topic through a plain Python consumer: two rules, three Delta tables, the offsets in each commit's transaction.

usage: consumer.py BROKERS TOPIC FOLDER   prints {"valid": n, "error": n, "dlq": n}

As one would write it: messages in batches, orjson, a dictionary a row, one Arrow table and one commit per 250,000 messages
and outcome. It takes its partitions itself, so that it waits for no group. Nothing makes the three commits one.
"""

import json
import os
import sys
from datetime import datetime

import orjson
import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from deltalake import CommitProperties, Transaction, write_deltalake

TEXT, TIME = pa.string(), pa.timestamp("us", "UTC")
COORDINATES = [("_partition", pa.int32()), ("_offset", pa.int64())]
VISIT = pa.schema(
    [
        ("visit_id", TEXT),
        ("event_time", TIME),
        ("user_id", TEXT),
        ("keep_private", pa.bool_()),
        ("page", TEXT),
        (
            "context",
            pa.struct(
                [
                    ("referral", TEXT),
                    ("ad_id", TEXT),
                    ("user", pa.struct([("ip", TEXT), ("login", TEXT), ("connected_since", TIME)])),
                    (
                        "technical",
                        pa.struct(
                            [
                                (name, TEXT)
                                for name in ("browser", "browser_version", "network_type", "device_type", "device_version")
                            ]
                        ),
                    ),
                ]
            ),
        ),
        *COORDINATES,
    ]
)
DEAD = pa.schema([("_value", pa.binary()), ("reason", TEXT), *COORDINATES])
SCHEMAS = {"valid": VISIT, "error": VISIT, "dlq": DEAD}
COMMIT = 250_000

brokers, topic, folder = sys.argv[1:4]
os.makedirs(folder)
consumer = Consumer(
    {
        "bootstrap.servers": brokers,
        "group.id": "plain",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": False,
        "queued.min.messages": 1_000_000,
    }
)
partitions = list(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[1] for p in partitions}
consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])


def time(text):
    return None if text is None else datetime.fromisoformat(text)


def judge(message, rows):
    value, place = message.value(), {"_partition": message.partition(), "_offset": message.offset()}
    try:
        visit = orjson.loads(value)
        visit["event_time"] = time(visit["event_time"])
        user = visit["context"]["user"]
        user["connected_since"] = time(user["connected_since"])
    except (ValueError, TypeError, KeyError) as error:
        rows["dlq"].append({"_value": value, "reason": str(error), **place})
        return
    visit.update(place)
    is_error = visit["user_id"] is None or (visit["keep_private"] and user["login"] is not None)
    rows["error" if is_error else "valid"].append(visit)


counts = dict.fromkeys(SCHEMAS, 0)
version = 0


def commit(rows):
    global version
    version += 1
    for outcome, schema in SCHEMAS.items():
        if rows[outcome]:
            table = pa.Table.from_pylist(rows[outcome], schema=schema)
            properties = CommitProperties(app_transactions=[Transaction("plain", version)])
            write_deltalake(f"{folder}/{outcome}", table, mode="append", commit_properties=properties)
            counts[outcome] += len(rows[outcome])


rows, read, left = {outcome: [] for outcome in SCHEMAS}, 0, sum(ends.values())
while left > 0:
    for message in consumer.consume(10_000, timeout=1.0):
        if message.error():
            raise SystemExit(str(message.error()))
        judge(message, rows)
        read += 1
        left -= 1
    if read >= COMMIT or left == 0:
        commit(rows)
        rows, read = {outcome: [] for outcome in SCHEMAS}, 0
consumer.close()
print(json.dumps(counts))
