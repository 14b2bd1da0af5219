#!/usr/bin/env bash
# Runs the same plan against ringhook and against what else can receive webhooks on this machine.
#
#   loadtest/compare/all.sh [--plan steady|saturate|FILE] [--rounds N] [--seconds S] [--tls 1.2|1.3]
#                           [--cpus SERVER,GENERATOR] [--out DIR] [--install] [SUBJECT,SUBJECT...]
#
# Subjects (all of them unless named):
#
#   memory, written, synced   ringhook with that meaning of a 200; synced only if it is named
#   nginx     `return 200`: looks at no token, parses no body, keeps nothing
#   hyper     hyper, tokio-rustls, simd-json: receivers/src/bin/receiver-hyper.rs
#   axum      axum, tokio-rustls, serde_json into frankenstein's types: receiver-axum.rs
#   node      Node's https: receivers/node.mjs
#   aiohttp   Python's aiohttp: receivers/aiohttp_receiver.py; --install gets it into an environment
#             of its own under the target directory where python3 has none
#
# What is missing is skipped with a word. The first subject is what the others are compared with.
#
# All have one certificate (ECDSA P-256, ringhook's own), TLS 1.2 and 1.3 of which the generator takes
# what --tls says, keep-alive, and one CPU for all of their threads; the generator has another one.
# Subjects take turns, and every other round goes backwards. Two seconds of warm-up come before the
# seconds that count: handshakes and first requests are in no figure but the peak memory.
#
# Prints the medians of all rounds with their ratios: the server's CPU time (user and system, of the
# whole tree of processes) for an update, the latency from when an update was due, the peak of resident
# memory, summed over processes. Writes into --out (target/compare): the table, each round's report as
# JSON, and report.html with the middle round of each.
#
# Needs python3 (3.10 or later) and release builds: cargo build --release --workspace. The other
# receivers are built when they are first needed. The journal is in TMPDIR, which should be on the
# disk that is meant.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/loadtest/compare
target=${CARGO_TARGET_DIR:-$root/target}
bin=$target/release
plan=steady rounds=3 seconds=10 tls=1.3 cpus=0,1 out=$target/compare install=
names=memory,written,nginx,hyper,axum,node,aiohttp
port=18447
warmup=2

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
    exit "$1"
}

command_line="loadtest/compare/all.sh $*"
while (($#)); do
    case $1 in
    --plan | --rounds | --seconds | --tls | --cpus | --out)
        [[ $# -ge 2 ]] || usage 2 >&2
        declare "${1#--}=$2"
        shift
        ;;
    --install) install=yes ;;
    -h | --help) usage 0 ;;
    -*) usage 2 >&2 ;;
    *) names=$1 ;;
    esac
    shift
done
for number in "$rounds" "$seconds"; do
    if ! [[ $number =~ ^[1-9][0-9]*$ ]]; then
        echo "--rounds and --seconds: expected whole numbers above 0, not $number" >&2
        exit 2
    fi
done
server_cpu=${cpus%,*} generator_cpu=${cpus#*,}
for program in ringhook loadtest; do
    if [[ ! -x $bin/$program ]]; then
        echo "$bin/$program is missing: cargo build --release --workspace" >&2
        exit 2
    fi
done

mkdir -p "$out"
out=$(cd "$out" && pwd)
dir=$(mktemp -d)
server= sampler=
trap 'kill $server $sampler 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$dir"' EXIT
cert=$dir/data/cert.pem key=$dir/data/key.pem token=$dir/data/secret-token
python=$(command -v python3)

measure() { "$python" "$here/measure.py" "$@"; }

# Runs a command as the server, on its CPU.
serve() {
    taskset -c "$server_cpu" "$@" >"$dir/server.log" 2>&1 &
    server=$!
}

stop() {
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}

nginx_conf() {
    cat <<CONF
daemon off; pid $dir/nginx.pid; worker_processes 1; error_log stderr error;
worker_rlimit_nofile 20000;
events { worker_connections 8192; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 75s; tcp_nodelay on;
  client_body_temp_path $dir/nginx; proxy_temp_path $dir/nginx; fastcgi_temp_path $dir/nginx;
  uwsgi_temp_path $dir/nginx; scgi_temp_path $dir/nginx;
  server {
    listen 127.0.0.1:$port ssl;
    ssl_certificate $cert; ssl_certificate_key $key;
    ssl_protocols TLSv1.2 TLSv1.3; client_body_buffer_size 64k; client_max_body_size 2m;
    location / { return 200; }
  }
}
CONF
}

# start SUBJECT: until it answers.
start() {
    local flags=(--cert "$cert" --key "$key" --secret-token-file "$token")
    case $1 in
    memory | written | synced)
        rm -rf "$dir/data/journal"
        serve "$bin/ringhook" serve --listen "127.0.0.1:$port" --data-dir "$dir/data" --ack "$1" \
            --sink null --report "$dir/server.json"
        ;;
    nginx)
        mkdir -p "$dir/nginx"
        nginx_conf >"$dir/nginx.conf"
        serve nginx -p "$dir" -c "$dir/nginx.conf"
        ;;
    hyper | axum) serve "$bin/receiver-$1" --listen "127.0.0.1:$port" "${flags[@]}" ;;
    node) serve node "$here/receivers/node.mjs" 127.0.0.1 "$port" "$cert" "$key" "$token" ;;
    aiohttp)
        serve "$aiohttp" "$here/receivers/aiohttp_receiver.py" 127.0.0.1 "$port" "$cert" "$key" "$token"
        ;;
    esac
    if ! measure ready "$1" "$port" "$cert" "$token"; then
        cat "$dir/server.log" >&2
        exit 1
    fi
}

# A python3 that has aiohttp.
find_aiohttp() {
    local own=$target/compare-venv
    for aiohttp in "$python" "$own/bin/python3"; do
        if "$aiohttp" -c 'import aiohttp' 2>/dev/null; then return; fi
    done
    [[ -n $install ]] || return 1
    "$python" -m venv "$own" && "$own/bin/pip" install --quiet 'aiohttp>=3,<4' >&2
}

# missing SUBJECT: prints why it cannot take part, or nothing.
missing() {
    case $1 in
    memory | written | synced) ;;
    nginx) command -v nginx >/dev/null || echo "no nginx in PATH" ;;
    node) node --version >/dev/null 2>&1 || echo "no node in PATH" ;;
    hyper | axum)
        if ! command -v cargo >/dev/null; then
            [[ -x $bin/receiver-$1 ]] || echo "no cargo to build it with"
        elif ! cargo build --release --locked --quiet --manifest-path "$here/receivers/Cargo.toml" \
            --target-dir "$target" --bin "receiver-$1" >&2; then
            echo "it does not build"
        fi
        ;;
    aiohttp) find_aiohttp || echo "python3 has no aiohttp (--install gets it)" ;;
    *)
        echo "no such subject: $1" >&2
        exit 2
        ;;
    esac
}

version() {
    case $1 in
    memory | written | synced) "$bin/ringhook" --version ;;
    nginx) nginx -v 2>&1 | sed 's/.*: //;s,/, ,' ;;
    hyper | axum)
        sed -n "/^name = \"$1\"/{n;s/version = \"\(.*\)\"/$1 \1/p}" "$here/receivers/Cargo.lock"
        ;;
    node) echo "node $(node --version)" ;;
    aiohttp) "$aiohttp" -c 'import aiohttp, sys; print("aiohttp", aiohttp.__version__, "on Python", sys.version.split()[0])' ;;
    esac
}

# round NUMBER SUBJECT
round() {
    local file=$out/$2-$1.json status=0
    # Nothing of an earlier comparison must be taken for this one's.
    rm -f "$file" "${file%.json}.server.json"
    start "$2"
    # measure.py itself, so that it is the process that SIGTERM reaches.
    taskset -c "$generator_cpu" "$python" "$here/measure.py" sample "$server" "$dir/samples" &
    sampler=$!
    "$bin/loadtest" run --plan "$plan" --target "https://127.0.0.1:$port/webhook" \
        --duration "$((seconds + warmup))s" --warmup "${warmup}s" --first-update-id 1000 \
        --secret-token-file "$token" --ca "$cert" --tls "$tls" --pin "$generator_cpu" --quiet \
        --report "$file" >"$dir/load.log" 2>&1 || status=$?
    kill "$sampler" 2>/dev/null || true
    wait "$sampler" 2>/dev/null || true
    sampler=
    # 1 is a plan's expectation that does not hold; that is a figure like any other.
    if ((status > 1)); then
        cat "$dir/load.log" "$dir/server.log" >&2
        exit 1
    fi
    stop
    if [[ -f $dir/server.json ]]; then mv "$dir/server.json" "$out/$2-$1.server.json"; fi
    measure row "$2" "$file" "$dir/samples" "$warmup" >>"$dir/rows"
}

IFS=, read -ra asked <<<"$names"
subjects=() versions=()
for subject in "${asked[@]}"; do
    why=$(missing "$subject")
    if [[ -n $why ]]; then
        echo "$subject: skipped, $why" >&2
        continue
    fi
    [[ $subject != aiohttp ]] || find_aiohttp
    subjects+=("$subject")
    versions+=("$(version "$subject")")
done
if ((${#subjects[@]} == 0)); then
    echo "nothing is left to compare" >&2
    exit 1
fi

# Certificate and token for all.
serve "$bin/ringhook" serve --listen "127.0.0.1:$port" --data-dir "$dir/data" --ack memory --sink null
for _ in $(seq 100); do
    if grep -q '^ready ' "$dir/server.log"; then break; fi
    sleep 0.1
done
stop

: >"$dir/rows"
for number in $(seq "$rounds"); do
    order=("${subjects[@]}")
    if ((number % 2 == 0)); then
        mapfile -t order < <(printf '%s\n' "${subjects[@]}" | tac)
    fi
    for subject in "${order[@]}"; do
        echo "round $number of $rounds: $subject" >&2
        round "$number" "$subject"
    done
done
cp "$dir/rows" "$out/rounds.ndjson"

page=() labels=() servers=()
for subject in "${subjects[@]}"; do
    file=$(measure middle "$dir/rows" "$subject")
    page+=("$file")
    labels+=(--label "$subject")
    # Only ringhook writes one, and the page takes them in the order of the runs.
    if [[ -f ${file%.json}.server.json ]] && ((${#servers[@]} == 2 * (${#page[@]} - 1))); then
        servers+=(--server "${file%.json}.server.json")
    fi
done
"$bin/loadtest" report "${page[@]}" "${labels[@]}" "${servers[@]}" -o "$out/report.html"
{
    echo "\$ $command_line"
    echo "$(date -u +%F), $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(uname -sr), TLS $tls, plan $plan"
    printf '%s\n' "${versions[@]}" | uniq | paste -sd, | sed 's/,/, /g'
    measure table "$dir/rows" "${subjects[@]}"
} | tee "$out/table.txt"
echo "the page: $out/report.html" >&2
