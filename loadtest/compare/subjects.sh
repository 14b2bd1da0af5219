# What all.sh, compare.sh and table.sh share: the servers that are compared, one round with one of
# them, and the certificate that all have. To be sourced.
#
# Subjects:
#
#   memory, written, synced   ringhook with that meaning of a 200
#   profiled  `memory` while it writes its profile
#   nginx     `return 200`: looks at no token, parses no body, keeps nothing
#   hyper     hyper, tokio-rustls, simd-json: receivers/src/bin/receiver-hyper.rs
#   axum      axum, tokio-rustls, serde_json into frankenstein's types: receiver-axum.rs
#   node      Node's https: receivers/node.mjs
#   aiohttp   Python's aiohttp: receivers/aiohttp_receiver.py; with `install` set it is fetched into
#             an environment of its own under the target directory where python3 has none
#   lines     `written`, with the updates as lines in a file
#   haproxy, caddy, h2o, forward, proxy-nginx, proxy-haproxy, proxy-caddy, proxy-h2o   see proxies.sh
#
# All have one certificate (ECDSA P-256, ringhook's own), keep-alive, and one CPU for all of their
# threads; the generator has another one. RINGHOOK_FLAGS are more flags for ringhook.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$root/loadtest/compare
target=${CARGO_TARGET_DIR:-$root/target}
bin=$target/${RINGHOOK_PROFILE:-dist}
python=$(command -v python3)
# What flags of the scripts may change.
tls=1.3 server_cpu=0 generator_cpu=1 install=''
port=18447
server='' sampler='' backend=''
subjects=() versions=()

# Once flags are read: looks for what is needed, and makes the scratch directory and the certificate.
begin() {
    local program
    for program in ringhook loadtest; do
        if [[ ! -x $bin/$program ]]; then
            echo "$bin/$program is missing: cargo build --profile dist --workspace" >&2
            exit 2
        fi
    done
    # Ten thousand connections need as many.
    ulimit -Sn "$(ulimit -Hn)" 2>/dev/null || true
    dir=$(mktemp -d)
    trap 'kill $server $sampler $backend 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$dir"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    cert=$dir/data/cert.pem key=$dir/data/key.pem token=$dir/data/secret-token
    serve "$bin/ringhook" serve --listen "127.0.0.1:$port" --data-dir "$dir/data" --ack memory --output null
    for _ in $(seq 100); do
        if grep -q '^ready ' "$dir/server.log"; then break; fi
        sleep 0.1
    done
    stop
    if [[ ! -f $token ]]; then
        cat "$dir/server.log" >&2
        exit 1
    fi
}

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

# As one who knows it would set it up for this load: no log, connections that last, one worker for
# its one CPU, requests that fit the first buffer. Sessions are resumed by tickets alone: a cache of
# them makes full handshakes slower and connections larger.
nginx_conf() {
    cat <<CONF
daemon off; pid $dir/nginx.pid; worker_processes 1; error_log stderr error;
worker_rlimit_nofile $(ulimit -Hn);
events { worker_connections 16384; multi_accept on; }
http {
  access_log off; server_tokens off; tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 75s;
  client_header_buffer_size 4k; client_body_buffer_size 64k; client_max_body_size 2m;
  client_body_temp_path $dir/nginx; proxy_temp_path $dir/nginx; fastcgi_temp_path $dir/nginx;
  uwsgi_temp_path $dir/nginx; scgi_temp_path $dir/nginx;
  server {
    listen 127.0.0.1:$port ssl backlog=4096;
    ssl_certificate $cert; ssl_certificate_key $key; ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_tickets on;
    location / { return 200; }
  }
}
CONF
}

# start SUBJECT: until it answers.
start() {
    local flags=(--cert "$cert" --key "$key" --secret-token-file "$token") more ack=$1 output=null
    case $1 in
    memory | written | synced | profiled | lines)
        rm -rf "$dir/data/journal" "$dir/lines"
        read -ra more <<<"${RINGHOOK_FLAGS:-}"
        if [[ $1 == profiled ]]; then
            ack=memory more+=(--profile "$dir/profile" --profile-slow 50ms)
        elif [[ $1 == lines ]]; then
            ack=written output=ndjson:$dir/lines
        fi
        serve "$bin/ringhook" serve --listen "127.0.0.1:$port" --data-dir "$dir/data" --ack "$ack" \
            --output "$output" --report "$dir/server.json" "${more[@]}"
        ;;
    nginx)
        mkdir -p "$dir/nginx"
        nginx_conf >"$dir/nginx.conf"
        serve nginx -p "$dir" -c "$dir/nginx.conf"
        ;;
    hyper | axum) serve "$target/release/receiver-$1" --listen "127.0.0.1:$port" "${flags[@]}" ;;
    node) serve node "$here/receivers/node.mjs" 127.0.0.1 "$port" "$cert" "$key" "$token" ;;
    aiohttp)
        serve "$aiohttp" "$here/receivers/aiohttp_receiver.py" 127.0.0.1 "$port" "$cert" "$key" "$token"
        ;;
    haproxy | caddy | h2o | forward | proxy-*) start_proxy "$1" ;;
    esac
    if ! measure ready "$1" "$port" "$cert" "$token"; then
        cat "$dir/server.log" >&2
        # Here and not by the trap: this may be a subshell.
        stop
        exit 1
    fi
}

# generate FILE ARGS...: the generator against what was started; its report is FILE, what it prints is
# in load.log.
generate() {
    local file=$1 status=0 trust=(--ca "$cert")
    shift
    if [[ " $* " == *" --unchecked "* ]]; then trust=(); fi
    "$bin/loadtest" run --target "https://127.0.0.1:$port/webhook" --first-update-id 1000 \
        --secret-token-file "$token" "${trust[@]}" --tls "$tls" --pin "$generator_cpu" --quiet \
        --report "$file" "$@" >"$dir/load.log" 2>&1 || status=$?
    # 1 is a plan's expectation that does not hold; that is a figure like any other.
    if ((status > 1)) || [[ ! -f $file ]]; then
        cat "$dir/load.log" "$dir/server.log" >&2
        exit 1
    fi
}

# sampled SUBJECT FILE WARMUP ARGS...: the same, while the server's CPU time and memory are watched.
# Prints the figures of the time after the warm-up, in seconds, as a line of JSON. Where `counter` is the
# port of a backend that counts, they are those of updates that have been passed on to it.
sampled() {
    local subject=$1 file=$2 warmup=$3
    shift 3
    # measure.py itself, so that it is the process that SIGTERM reaches.
    taskset -c "$generator_cpu" "$python" "$here/measure.py" sample "$server" "$dir/samples" "${counter:-}" &
    sampler=$!
    generate "$file" --warmup "${warmup}s" "$@"
    # What is passed on later is paid for later.
    if [[ -n ${counter:-} ]]; then measure passed_on "$dir/samples"; fi
    kill "$sampler" 2>/dev/null || true
    wait "$sampler" 2>/dev/null || true
    sampler=
    measure row "$subject" "$file" "$dir/samples" "$warmup"
}

# one_round SUBJECT FILE WARMUP ARGS...: starts it, measures as `sampled` does, and stops it. Its own
# report, if it writes one, is beside FILE.
one_round() {
    local subject=$1 file=$2
    # Nothing of an earlier comparison must be taken for this one's.
    rm -f "$file" "${file%.json}.server.json" "$dir/server.json"
    start "$subject"
    sampled "$@"
    stop
    if [[ -f $dir/server.json ]]; then mv "$dir/server.json" "${file%.json}.server.json"; fi
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
    memory | written | synced | profiled | lines) ;;
    nginx) command -v nginx >/dev/null || echo "no nginx in PATH" ;;
    node) node --version >/dev/null 2>&1 || echo "no node in PATH" ;;
    hyper | axum)
        if ! command -v cargo >/dev/null; then
            [[ -x $target/release/receiver-$1 ]] || echo "no cargo to build it with"
        elif ! cargo build --release --locked --quiet --manifest-path "$here/receivers/Cargo.toml" \
            --target-dir "$target" --bin "receiver-$1" >&2; then
            echo "it does not build"
        fi
        ;;
    aiohttp) find_aiohttp || echo "python3 has no aiohttp (--install gets it)" ;;
    haproxy | caddy | h2o | forward | proxy-*) missing_proxy "$1" ;;
    *)
        echo "no such subject: $1" >&2
        exit 2
        ;;
    esac
}

version() {
    case $1 in
    memory | written | synced | profiled | lines) "$bin/ringhook" --version ;;
    nginx) nginx -v 2>&1 | sed 's/.*: //;s,/, ,' ;;
    hyper | axum)
        sed -n "/^name = \"$1\"/{n;s/version = \"\(.*\)\"/$1 \1/p}" "$here/receivers/Cargo.lock"
        ;;
    node) echo "node $(node --version)" ;;
    aiohttp) "$aiohttp" -c 'import aiohttp, sys; print("aiohttp", aiohttp.__version__, "on Python", sys.version.split()[0])' ;;
    haproxy | caddy | h2o | forward | proxy-*) version_proxy "$1" ;;
    esac
}

# take_part SUBJECT...: those that can; the others are skipped with a word.
take_part() {
    local subject why
    for subject in "$@"; do
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
}

# in_turn ROUND SUBJECT...: in which order they are in that round: every other one goes backwards.
in_turn() {
    local number=$1
    shift
    if ((number % 2)); then printf '%s\n' "$@"; else printf '%s\n' "$@" | tac; fi
}

# The machine, on one line.
machine() {
    local cpu
    cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    echo "$(date -u '+%F %H:%M UTC'), ${cpu:-$(uname -m)}, $(nproc) CPUs, Linux $(uname -r | cut -d- -f1), TLS $tls"
}

# What took part, on one line.
told_versions() { printf '%s\n' "${versions[@]}" | uniq | paste -sd, | sed 's/,/, /g'; }

# The words at the top of a script.
usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
    exit "$1"
}

# whole_numbers NAME VALUE...: both names and values are told where a value is none above 0.
whole_numbers() {
    while (($#)); do
        if ! [[ $2 =~ ^[1-9][0-9]*$ ]]; then
            echo "$1: expected a whole number above 0, not $2" >&2
            exit 2
        fi
        shift 2
    done
}
