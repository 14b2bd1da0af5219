#!/usr/bin/env bash
# What a flood of full TLS handshakes does to connections that are established.
#
#   loadtest/compare/flood.sh BINARY[,BINARY...] [ROUNDS] [SECONDS] [RATE|max]
#
# Each round runs every binary of `ringhook` twice: 200 connections with 1,000 updates a second, alone
# and beside a second generator that makes a new connection with a full handshake for each of its
# requests, up to 200 at a time, as fast as it can (max) or at RATE a second. The server is on CPU 0 with
# all its threads, the generators are on CPU 1: the flood as SCHED_IDLE, so that it takes only what the
# steady one leaves, and the steady one as SCHED_FIFO where that is allowed. So is the server where RATE
# leaves it idle at times. Then a busy machine shows less in the figures.
#
# Prints p50 and p99 in microseconds as the steady generator saw them (from when a request was due to
# its answer) and as the server did (`answer`: from a request's last byte to its 200; `whole`: to the
# end of the handler), and the handshakes a second. Needs python3 and release builds.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${CARGO_TARGET_DIR:-$root/target}/release
IFS=, read -ra binaries <<<"${1:-$bin/ringhook}"
rounds=${2:-3}
seconds=${3:-6}
rate=${4:-max}
dir=$(mktemp -d)
server= flood=
trap 'kill $server $flood 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$dir"' EXIT

start() {
    : >"$dir/log"
    "${server_class[@]}" taskset -c 0 "$1" serve --listen 127.0.0.1:18445 --data-dir "$dir/data" --ack memory \
        --output null --report "$dir/server.json" 2>"$dir/log" &
    server=$!
    for _ in $(seq 100); do
        if grep -q '^ready ' "$dir/log"; then return; fi
        sleep 0.1
    done
    cat "$dir/log" >&2
    exit 1
}

fifo=(chrt --fifo 1)
"${fifo[@]}" true 2>/dev/null || fifo=()
# A server that is never idle would meet the kernel's bound on real-time classes.
server_class=("${fifo[@]}")
[[ $rate != max ]] || server_class=()

# load NAME COMMAND... -- ARGS...: a generator started by COMMAND; its report is in NAME.json.
load() {
    local name=$1 command=()
    shift
    while [[ $1 != -- ]]; do
        command+=("$1")
        shift
    done
    shift
    "${command[@]}" "$bin/loadtest" --target https://127.0.0.1:18445/webhook --ca "$dir/data/cert.pem" \
        --secret-token-file "$dir/data/secret-token" --tls 1.3 --pin 1 --quiet \
        --report "$dir/$name.json" "$@" >/dev/null
}

# round NUMBER alone|flood: one row.
round() {
    rm -f "$dir"/{flood,steady,server}.json
    start "${binaries[$1]}"
    flood=
    if [[ $2 == flood ]]; then
        # Ids of its own, or the server would take them for copies.
        load flood chrt --idle 0 -- --connections 200 --rate "$rate" --churn --duration "$((seconds + 3))s" \
            --first-update-id 100000000 &
        flood=$!
        sleep 1
    fi
    load steady "${fifo[@]}" -- --connections 200 --rate 1000 --warmup 1s \
        --duration "$((seconds + 1))s" || true
    [[ -z $flood ]] || wait "$flood" || true
    flood=
    kill "$server"
    wait "$server" 2>/dev/null || true
    python3 - "$1" "$2" "$dir" >>"$dir/rows" <<'PY'
import json, os, sys
name, mode, dir = sys.argv[1:]
load = lambda file: json.load(open(f"{dir}/{file}.json"))
steady, server = load("steady"), load("server")
flood = load("flood") if os.path.exists(f"{dir}/flood.json") else None
stage = server["latency_us"]
print(json.dumps(dict(
    name=name, mode=mode, lost=steady["planned"] - steady["acknowledged"],
    p50=steady["latency_us"]["p50"], p99=steady["latency_us"]["p99"],
    send_p99=steady["send_to_answer_us"]["p99"],
    answer=stage["answer"]["p99"], whole=stage["whole"]["p99"],
    late=steady["lateness_us"]["p99"],
    shakes=flood["handshakes_full"] / flood["duration_s"] if flood else 0)))
PY
}

for _ in $(seq "$rounds"); do
    for index in "${!binaries[@]}"; do
        round "$index" alone
        round "$index" flood
    done
done
python3 - "$dir/rows" "${binaries[@]}" <<'PY'
import json, statistics, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
keys = ["p50", "p99", "send_p99", "answer", "whole", "late", "shakes", "lost"]
print(f"{'server':<8}{'load':<7}" + "".join(f"{key:>10}" for key in keys))
for row in rows:
    print(f"{row['name']:<8}{row['mode']:<7}" + "".join(f"{row[key]:>10.0f}" for key in keys))
for index, path in enumerate(sys.argv[2:]):
    pick = lambda mode, key: statistics.median(
        row[key] for row in rows if row["name"] == str(index) and row["mode"] == mode)
    print(f"{index} = {path}: flood / alone, medians: " + ", ".join(
        f"{key} {pick('alone', key):.0f} -> {pick('flood', key):.0f} ({pick('flood', key) / pick('alone', key):.2f})"
        for key in ["p50", "p99", "answer", "whole"]))
    least = lambda mode: min(
        row["p99"] for row in rows if row["name"] == str(index) and row["mode"] == mode)
    print(f"    the lowest p99: {least('alone'):.0f} -> {least('flood'):.0f} ({least('flood') / least('alone'):.2f})")
PY
