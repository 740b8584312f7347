#!/bin/sh
# The main job on a real Kafka, in a folder that one can look into: start a broker, fill a topic of four partitions, run
# the pipeline to the topic's end, run it again (nothing changes), prove that every record is accounted for.
#
#   tests/demo-kafka.sh DIR [RECORDS]      `sluice` is on the PATH; `make demo-kafka` sees to it
set -eu

dir=${1:?usage: tests/demo-kafka.sh DIR [RECORDS]}
records=${2:-200000}
broker_sh=$(cd "$(dirname "$0")" && pwd)/broker.sh

broker=$(mktemp -d)
trap '"$broker_sh" stop "$broker"' EXIT
trap 'exit 130' INT TERM
brokers=$("$broker_sh" start "$broker")
echo "Kafka serves at $brokers until this ends"
echo

show() {
    echo
    echo "\$ $*"
    "$@"
}
sluice demo --dir "$dir" --brokers "$brokers" --records "$records"
cd "$dir"
show sluice run --until-end
show sluice reconcile
show sluice show --sql 'SELECT _partition, count(*) AS refused FROM error GROUP BY _partition ORDER BY _partition'
