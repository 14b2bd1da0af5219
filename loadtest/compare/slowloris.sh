#!/usr/bin/env bash
# What thousands of slow connections do to updates.
#
#   loadtest/compare/slowloris.sh [ROUNDS] [SECONDS] [SLOW]
#
# Each round: 200 connections with 1,000 updates a second alone, then beside SLOW connections (5,000)
# that send a head or a body at a byte a second and are made anew whenever the server closes them.
# The server is on CPU 0 with all its threads, the generators are on CPU 1, the steady one as
# SCHED_FIFO where that is allowed, so that its clock is not the machine's noise; so is the server.
#
# Prints p50 and p99 in microseconds as the steady generator saw them, and what the server closed.
# Needs python3 and release builds.
set -euo pipefail

rounds=${1:-3}
seconds=${2:-10}
slow=${3:-5000}
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${CARGO_TARGET_DIR:-$root/target}/release
dir=$(mktemp -d)
server= attack=
trap 'kill $server $attack 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$dir"' EXIT
fifo=(chrt --fifo 1)
"${fifo[@]}" true 2>/dev/null || fifo=()

start() {
    : >"$dir/log"
    "${fifo[@]}" taskset -c 0 "$bin/ringhook" serve --listen 127.0.0.1:18446 \
        --data-dir "$dir/data" --ack memory --output null --report "$dir/server.json" 2>"$dir/log" &
    server=$!
    for _ in $(seq 100); do
        if grep -q '^ready ' "$dir/log"; then return; fi
        sleep 0.1
    done
    cat "$dir/log" >&2
    exit 1
}

# load NAME COMMAND... -- ARGS...: a generator started by COMMAND; its report is in NAME.json.
load() {
    local name=$1 command=()
    shift
    while [[ $1 != -- ]]; do
        command+=("$1")
        shift
    done
    shift
    "${command[@]}" "$bin/loadtest" --target https://127.0.0.1:18446/webhook \
        --ca "$dir/data/cert.pem" --secret-token-file "$dir/data/secret-token" --tls 1.3 --quiet \
        --report "$dir/$name.json" "$@"
}

# round alone|attack: one row.
round() {
    start
    attack=
    if [[ $1 == attack ]]; then
        : >"$dir/attack.log"
        load attack taskset -c 1 chrt --idle 0 -- --connections 1 --rate 10 --slow "$slow" \
            --duration "$((seconds + 1))s" --first-update-id 100000000 >"$dir/attack.log" &
        attack=$!
        for _ in $(seq 600); do
            if [[ $(ls "/proc/$server/fd" | wc -l) -gt $slow ]]; then break; fi
            sleep 0.1
        done
    fi
    load steady "${fifo[@]}" -- --connections 200 --rate 1000 --duration "${seconds}s" --pin 1 \
        >/dev/null || true
    if [[ -n $attack ]]; then
        wait "$attack" || true
        attack=
    fi
    kill "$server"
    wait "$server" 2>/dev/null || true
    python3 - "$1" "$dir" <<'PY'
import json, sys
mode, dir = sys.argv[1:]
steady, server = json.load(open(f"{dir}/steady.json")), json.load(open(f"{dir}/server.json"))
closed = {why: n for why, n in server["connections_closed"].items() if why not in ("peer", "asked")}
row = dict(mode=mode, lost=steady["planned"] - steady["acknowledged"],
           p50=steady["latency_us"]["p50"], p99=steady["latency_us"]["p99"],
           max=steady["latency_us"]["max"], answer_p99=server["latency_us"]["answer"]["p99"])
print(mode, {key: round(value) for key, value in row.items() if key != "mode"}, closed, flush=True)
open(f"{dir}/rows", "a").write(json.dumps(row) + "\n")
PY
    if [[ $1 == attack ]]; then grep '^beside' "$dir/attack.log" || true; fi
}

for _ in $(seq "$rounds"); do
    round alone
    round attack
done
python3 - "$dir/rows" <<'PY'
import json, statistics, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
for name, pick in (("median", statistics.median), ("lowest", min)):
    of = lambda mode, key: pick(row[key] for row in rows if row["mode"] == mode)
    print(f"{name}: " + ", ".join(
        f"{key} {of('alone', key):.0f} -> {of('attack', key):.0f} us ({of('attack', key) / of('alone', key):.2f})"
        for key in ("p50", "p99", "answer_p99")))
PY
