#!/bin/sh
# A real Apache Kafka, one node in KRaft mode, from its Maven artifacts: for the tests and for `make demo-kafka`.
# It listens on loopback only and keeps everything it writes in the folder that it is given.
#
#   tests/broker.sh prepare                        fetch the jars and make the class archive, once
#   tests/broker.sh exec DIR PORT CPORT [sasl_ssl=SPORT] [K=V]...
#                                                  become the broker; its log goes to standard output
#   tests/broker.sh start DIR [PORT]               start it in the background, wait, print its address
#   tests/broker.sh stop DIR                       stop what `start` started, and remove DIR
#   tests/broker.sh certificate DIR                make DIR/ca.pem, and with it DIR/server.pem: key and certificate
#
# PORT is for clients, CPORT for the controller; K=V are further lines of server.properties. With SPORT there is a
# second listener for clients, SASL over TLS: users alice (SCRAM-SHA-256 and -512) and bob (PLAIN), their passwords
# alice-secret and bob-secret, and DIR/tls/ca.pem is the authority to trust.
set -eu

kafka=4.4.0
scala=2.13
home=${SLUICE_KAFKA_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice/kafka-$kafka}

fail() {
    echo "broker.sh: $*" >&2
    exit 2
}

# Debian's packages where they can be installed, else one sentence that names what is missing.
need() {
    command -v "$1" >/dev/null 2>&1 && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        { apt-get update -q && apt-get install -y -q --no-install-recommends "$2"; } >&2 </dev/null || true
    fi
    command -v "$1" >/dev/null 2>&1 || fail "a real Kafka needs $3, and \`$1\` is not on the PATH: install it and run this again"
}

fetch() {
    [ -d "$home/libs" ] && return
    need mvn maven "Maven 3 (once, to fetch Kafka's jars)"
    mkdir -p "$home"
    work=$(mktemp -d "$home/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cat >"$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>sluice</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_$scala</artifactId><version>$kafka</version>
      <!-- named by the artifact, never published, and not needed to run -->
      <exclusions><exclusion><groupId>org.apache.kafka</groupId><artifactId>kafka-tools-api</artifactId></exclusion></exclusions>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.5</version>
    </dependency>
  </dependencies>
</project>
POM
    echo "fetching Apache Kafka $kafka from Maven, once" >&2
    (cd "$work" && mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=libs </dev/null >&2) ||
        fail "Maven could not fetch Apache Kafka $kafka (see above)"
    # a log that outlives the shutdown hooks, and tells when the broker is ready
    cat >"$home/log4j2.properties" <<'LOG'
shutdownHook=disable
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{HH:mm:ss.SSS} %p %c{1}: %m%n
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=out
logger.ready.name=kafka.server
logger.ready.level=INFO
LOG
    # one rename, so that a folder that exists is complete
    [ -d "$home/libs" ] || mv "$work/libs" "$home/libs"
    rm -rf "$work"
    trap - EXIT
}

# A class archive makes the broker start in 2 s instead of 5; it belongs to these jars and this Java.
archive() {
    [ -f "$home/broker.jsa" ] && return
    scratch=$(mktemp -d)
    (archive_to=$home/broker.jsa.$$ launch "$scratch" "$(free_port 20192)" "$(free_port 21192)" >"$scratch/log" 2>&1) &
    await "$scratch/log" $! || { cat "$scratch/log" >&2; fail "the broker did not start"; }
    kill -TERM $!
    wait $! || true
    mv "$home/broker.jsa.$$" "$home/broker.jsa" || fail "java made no class archive: $(tail -n 3 "$scratch/log")"
    rm -rf "$scratch"
}

prepare() {
    need java default-jre-headless "Java 17 or newer"
    fetch
    archive
}

# The first port from $1 on where nothing listens; below 32768, since above outgoing connections take them.
free_port() {
    port=$1
    while awk -v "port=$(printf ':%04X' "$port")" \
        '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }' /proc/net/tcp /proc/net/tcp6 2>/dev/null; do
        port=$((port + 1))
    done
    echo "$port"
}

# An authority of its own, and a certificate for loopback signed by it, as Kafka reads them: PEM, the key first.
certificate() {
    need openssl openssl "openssl (for the listener that speaks TLS)"
    mkdir -p "$1"
    key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout"
    echo "subjectAltName=DNS:localhost,IP:127.0.0.1" >"$1/server.ext"
    # shellcheck disable=SC2086 # $key is words, not one argument
    {
        openssl req -x509 $key "$1/ca.key" -out "$1/ca.pem" -days 3650 -subj "/CN=sluice test authority" &&
            openssl req -new $key "$1/server.key" -out "$1/server.csr" -subj "/CN=sluice test broker" &&
            openssl x509 -req -in "$1/server.csr" -CA "$1/ca.pem" -CAkey "$1/ca.key" -CAcreateserial -days 3650 \
                -extfile "$1/server.ext" -out "$1/server.crt"
    } >"$1/log" 2>&1 || fail "openssl made no certificate: $(tail -n 3 "$1/log")"
    cat "$1/server.key" "$1/server.crt" "$1/ca.pem" >"$1/server.pem"
}

# secure DIR: the lines of server.properties for SASL over TLS; the listener itself stands in `launch`.
secure() {
    [ -f "$1/tls/server.pem" ] || certificate "$1/tls"
    listener=listener.name.sasl_ssl
    module=org.apache.kafka.common.security
    cat <<CONF
$listener.ssl.keystore.type=PEM
$listener.ssl.keystore.location=$1/tls/server.pem
$listener.ssl.client.auth=none
$listener.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN
$listener.scram-sha-256.sasl.jaas.config=$module.scram.ScramLoginModule required;
$listener.scram-sha-512.sasl.jaas.config=$module.scram.ScramLoginModule required;
$listener.plain.sasl.jaas.config=$module.plain.PlainLoginModule required user_bob="bob-secret";
CONF
}

# launch DIR PORT CPORT [sasl_ssl=SPORT] [K=V]...: becomes the broker.
launch() {
    dir=$1 port=$2 cport=$3
    shift 3
    clients=PLAINTEXT://127.0.0.1:$port
    protocols=PLAINTEXT:PLAINTEXT
    sport=
    case ${1:-} in
    sasl_ssl=*)
        sport=${1#sasl_ssl=}
        clients=$clients,SASL_SSL://127.0.0.1:$sport
        protocols=$protocols,SASL_SSL:SASL_SSL
        shift
        ;;
    esac
    mkdir -p "$dir"
    cat >"$dir/server.properties" <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$cport
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=$clients,CONTROLLER://127.0.0.1:$cport
advertised.listeners=$clients
listener.security.protocol.map=$protocols,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.cleaner.dedupe.buffer.size=4194304
CONF
    [ -z "$sport" ] || secure "$dir" >>"$dir/server.properties"
    for line in "$@"; do echo "$line" >>"$dir/server.properties"; done
    if [ ! -f "$dir/data/meta.properties" ]; then
        set --
        if [ -n "$sport" ]; then
            for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
                set -- "$@" --add-scram "$mechanism=[name=alice,password=alice-secret]"
            done
        fi
        java -cp "$home/libs/*" "-Dlog4j2.configurationFile=$home/log4j2.properties" -Xmx128m -XX:TieredStopAtLevel=1 \
            kafka.tools.StorageTool format --cluster-id MkU3OEVBNTcwNTJENDM2Qg --config "$dir/server.properties" "$@"
    fi
    if [ -n "${archive_to:-}" ]; then
        classes="-XX:ArchiveClassesAtExit=$archive_to"
    else
        classes="-XX:SharedArchiveFile=$home/broker.jsa"
    fi
    exec java -cp "$home/libs/*" "-Dlog4j2.configurationFile=$home/log4j2.properties" -Xms128m -Xmx512m \
        -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xlog:cds=off -Xlog:cds+dynamic=off "$classes" -XX:+ExitOnOutOfMemoryError \
        kafka.Kafka "$dir/server.properties"
}

# await LOG PID: until the broker says that it is ready; fails when it ends before.
await() {
    while kill -0 "$2" 2>/dev/null; do
        grep -q 'Kafka Server started' "$1" 2>/dev/null && return 0
        sleep 0.1
    done
    return 1
}

start() {
    dir=$1
    mkdir -p "$dir"
    port=${2:-$(free_port 19092)}
    cport=$(free_port $((port + 1)))
    launch "$dir" "$port" "$cport" >"$dir/broker.log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    await "$dir/broker.log" $! || { tail -n 20 "$dir/broker.log" >&2; fail "the broker ended before it was ready (above)"; }
    echo "127.0.0.1:$port"
}

stop() {
    [ -f "$1/pid" ] || return 0
    pid=$(cat "$1/pid")
    kill -TERM "$pid" 2>/dev/null || true
    tries=100
    while kill -0 "$pid" 2>/dev/null && [ "$tries" -gt 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
    kill -KILL "$pid" 2>/dev/null || true
    rm -rf "$1"
}

usage() {
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

case ${1:-} in
prepare) prepare ;;
exec)
    [ $# -ge 4 ] || usage
    shift
    prepare
    launch "$@"
    ;;
start)
    [ $# -ge 2 ] || usage
    prepare
    start "$2" "${3:-}"
    ;;
stop)
    [ $# -eq 2 ] || usage
    stop "$2"
    ;;
certificate)
    [ $# -eq 2 ] || usage
    certificate "$2"
    ;;
*) usage ;;
esac
