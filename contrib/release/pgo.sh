#!/usr/bin/env bash
# Builds the binary that is published: the profile `dist` (one unit, fat LTO), optimised for what it does
# under load (PGO).
#
#   contrib/release/pgo.sh [--target-cpu CPU] [--seconds S] [--keep DIR]
#
# It builds ringhook with counters, loads it for S seconds (5) in each of five ways (`memory`, `written`,
# lines in a file, a forward, handshakes), and builds it again with what was counted. The result is
# target/pgo/dist/ringhook. --target-cpu is rustc's: x86-64-v3 runs on machines since about 2015 alone.
# --keep keeps the merged profile in DIR, which is then used as it is if it is there already.
#
# Needs rustup's component llvm-tools for the toolchain, python3, and about twelve minutes on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

cpu='' seconds=5 keep=''
while (($#)); do
    case $1 in
    --target-cpu | --seconds | --keep)
        [[ $# -ge 2 ]] || { echo "$1 needs a value" >&2; exit 2; }
        case $1 in
        --target-cpu) cpu=$2 ;;
        --seconds) seconds=$2 ;;
        --keep) keep=$2 ;;
        esac
        shift
        ;;
    *)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
        [[ $1 == -h || $1 == --help ]] && exit 0
        exit 2
        ;;
    esac
    shift
done

sysroot=$(rustc --print sysroot)
host=$(rustc -vV | sed -n 's/^host: //p')
profdata=$sysroot/lib/rustlib/$host/bin/llvm-profdata
if [[ ! -x $profdata ]]; then
    echo "llvm-profdata is missing: rustup component add llvm-tools" >&2
    exit 2
fi

target=${CARGO_TARGET_DIR:-$PWD/target}
flags=${cpu:+-Ctarget-cpu=$cpu}
dir=$(mktemp -d)
server='' backend=''
cleanup() {
    for process in $server $backend; do kill "$process" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# build FLAGS DIR: --target keeps the flags from build scripts and macros.
build() {
    RUSTFLAGS="${RUSTFLAGS:-} $flags $1" \
        cargo build --locked --profile dist --package ringhook-cli --target "$host" --target-dir "$2"
}

# wait_for FILE PATTERN: the rest of the first line with it.
wait_for() {
    for _ in $(seq 300); do
        found=$(sed -n "s/^$2//p" "$1" 2>/dev/null | head -n 1)
        [[ -z $found ]] || return 0
        sleep 0.1
    done
    cat "$1" >&2
    return 1
}

# load NAME SERVE-ARGS... -- LOADTEST-ARGS...
load() {
    local name=$1 serve=()
    shift
    while [[ $1 != -- ]]; do
        serve+=("$1")
        shift
    done
    shift
    echo "load: $name" >&2
    "$counted" serve --listen 127.0.0.1:0 --data-dir "$dir/data" "${serve[@]}" 2>"$dir/$name.log" &
    server=$!
    wait_for "$dir/$name.log" 'ready '
    "$target/release/loadtest" run --target "$found" --ca "$dir/data/cert.pem" \
        --secret-token-file "$dir/data/secret-token" --first-update-id "$((first += 10000000))" \
        --duration "${seconds}s" --quiet --report "$dir/$name.json" "$@"
    # The counters are written at its end.
    kill "$server"
    wait "$server"
    server=
}

merged=${keep:+$keep/ringhook.profdata}
if [[ -z $merged || ! -f $merged ]]; then
    merged=${merged:-$dir/ringhook.profdata}
    mkdir -p "$(dirname "$merged")"
    build "-Cprofile-generate=$dir/counters" "$target/pgo-counted"
    cargo build --locked --release --package loadtest
    counted=$target/pgo-counted/$host/dist/ringhook
    port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
    python3 loadtest/compare/delaying_backend.py "$port" 0 &
    backend=$!
    first=1000
    load memory --ack memory --output null -- --rate max
    load written --ack written --output null -- --rate 5000
    load lines --ack written --output "ndjson:$dir/lines" -- --rate 5000
    load forward --ack written --output "http://127.0.0.1:$port/" -- --rate 2000
    load handshakes --ack memory --output null -- --plan handshakes
    "$profdata" merge --output "$merged" "$dir/counters"
fi
build "-Cprofile-use=$(realpath "$merged")" "$target/pgo-used"
mkdir -p "$target/pgo/dist"
cp "$target/pgo-used/$host/dist/ringhook" "$target/pgo/dist/ringhook"
echo "$target/pgo/dist/ringhook"
