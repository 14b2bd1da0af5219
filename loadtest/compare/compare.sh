#!/usr/bin/env bash
# Compares servers with each other: the same certificate, the same generator, TLS 1.3, the server on
# one CPU and the generator on another, alternating rounds.
#
#   loadtest/compare/compare.sh SUBJECT,SUBJECT... [ROUNDS] [SECONDS] [RATE|max]
#
# Subjects: `memory`, `written` and `synced` are ringhook with that meaning of a 200, `profiled` is
# `memory` while it writes its profile, `nginx` is its `return 200`, which parses no body and keeps
# nothing. The last subject is what the others are
# compared with.
#
# Prints the server's CPU time (user and system, all threads) per update of each round, with the
# minimum and the median, and the latency percentiles that the generator saw. Needs python3, nginx
# if it is a subject, and release builds: cargo build --release --workspace. The journal is in
# TMPDIR, which should be on the disk that is meant.
set -euo pipefail

IFS=, read -ra subjects <<<"${1:-memory,nginx}"
rounds=${2:-5}
seconds=${3:-4}
rate=${4:-max}
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${CARGO_TARGET_DIR:-$root/target}/release
dir=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$dir"' EXIT
ticks=$(getconf CLK_TCK)

# CPU ticks used so far by a process and its children that still live.
cpu_ticks() {
    local sum=0 pid
    for pid in "$1" $(pgrep -P "$1" || true); do
        set -- $(sed 's/.*) //' "/proc/$pid/stat")
        sum=$((sum + ${12} + ${13}))
    done
    echo "$sum"
}

wait_for() {
    for _ in $(seq 100); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "not ready: $*" >&2
    exit 1
}

# With this meaning of a 200.
start_ringhook() {
    rm -rf "$dir/data/journal"
    : >"$dir/ringhook.log"
    local ack=$1 flags=${RINGHOOK_FLAGS:-}
    if [[ $ack == profiled ]]; then
        ack=memory flags+=" --profile $dir/profile --profile-slow 50ms"
    fi
    # shellcheck disable=SC2086 # the flags are words
    taskset -c 0 "$bin/ringhook" serve --listen 127.0.0.1:18443 --data-dir "$dir/data" \
        --ack "$ack" --sink null $flags 2>"$dir/ringhook.log" &
    server=$!
    wait_for grep -q '^ready ' "$dir/ringhook.log"
}

start_nginx() {
    cat >"$dir/nginx.conf" <<CONF
daemon off; pid $dir/nginx.pid; worker_processes 1; error_log stderr error;
worker_rlimit_nofile 20000;
events { worker_connections 8192; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 75s; tcp_nodelay on;
  server {
    listen 127.0.0.1:18444 ssl;
    ssl_certificate $dir/data/cert.pem; ssl_certificate_key $dir/data/key.pem;
    ssl_protocols TLSv1.3; client_body_buffer_size 64k; client_max_body_size 2m;
    location / { return 200; }
  }
}
CONF
    taskset -c 0 nginx -p "$dir" -c "$dir/nginx.conf" 2>"$dir/nginx.log" &
    server=$!
    wait_for openssl s_client -connect 127.0.0.1:18444 -CAfile "$dir/data/cert.pem" -verify_return_error </dev/null
}

# One round against a subject.
round() {
    local before after port=18443
    case $1 in
    nginx) start_nginx && port=18444 ;;
    *) start_ringhook "$1" ;;
    esac
    "$bin/loadtest" --target "https://127.0.0.1:$port/webhook" --connections 200 --rate max --duration 1s \
        --secret-token-file "$dir/data/secret-token" --ca "$dir/data/cert.pem" --tls 1.3 --pin 1 \
        --quiet >/dev/null
    before=$(cpu_ticks "$server")
    "$bin/loadtest" --target "https://127.0.0.1:$port/webhook" --connections 200 --rate "$rate" \
        --duration "${seconds}s" --secret-token-file "$dir/data/secret-token" \
        --ca "$dir/data/cert.pem" --tls 1.3 --pin 1 --quiet --report "$dir/report.json" >/dev/null
    after=$(cpu_ticks "$server")
    python3 - "$1" "$dir/report.json" $((after - before)) "$ticks" >>"$dir/rows" <<'PY'
import json, sys
name, path, used, hz = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
r = json.load(open(path))
n = r["acknowledged"]
lat = r["latency_us"]
row = dict(name=name, updates=n, per_s=round(r["rate_per_s"]), cpu_us=used / hz * 1e6 / n,
           cpu_share=used / hz / r["duration_s"], p50=lat["p50"], p99=lat["p99"])
print(json.dumps(row))
PY
    kill "$server"
    wait "$server" 2>/dev/null || true
}

# Certificate and token for all.
start_ringhook memory
kill "$server"
wait "$server" 2>/dev/null || true
for _ in $(seq "$rounds"); do
    for subject in "${subjects[@]}"; do
        round "$subject"
    done
done
python3 - "$dir/rows" "${subjects[@]}" <<'PY'
import json, statistics, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
print(f"{'server':<10}{'updates/s':>11}{'cpu us/update':>15}{'cpu share':>11}{'p50 us':>9}{'p99 us':>9}")
for row in rows:
    print(f"{row['name']:<10}{row['per_s']:>11}{row['cpu_us']:>15.2f}{row['cpu_share']:>11.2f}{row['p50']:>9.0f}{row['p99']:>9.0f}")
stat = {}
for name in sys.argv[2:]:
    mine = [row for row in rows if row["name"] == name]
    stat[name] = [f([row[key] for row in mine]) for key, f in
                  (("cpu_us", min), ("cpu_us", statistics.median), ("p50", statistics.median), ("p99", statistics.median))]
    low, mid, p50, p99 = stat[name]
    print(f"{name}: cpu us/update min {low:.2f}, median {mid:.2f}; p50 {p50:.0f} us, p99 {p99:.0f} us (medians)")
*others, last = sys.argv[2:]
for name in others:
    ratio = [a / b for a, b in zip(stat[name], stat[last])]
    print(f"{name} / {last}: cpu min {ratio[0]:.2f}, median {ratio[1]:.2f}; p50 {ratio[2]:.2f}, p99 {ratio[3]:.2f}")
PY
