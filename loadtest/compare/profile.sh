#!/usr/bin/env bash
# Shows where a receiver's CPU time goes at saturation: perf's samples of `ringhook serve`, by what they
# are spent for, and the functions that take most.
#
#   loadtest/compare/profile.sh [--ack memory|written] [--seconds S] [--functions N] [--binary FILE]
#
# 200 connections, TLS 1.3, as fast as they go; the server on CPU 0, the generator on CPU 1. Needs perf,
# the right to profile the kernel (root, or kernel.perf_event_paranoid at 1 or less) and release
# builds: cargo build --profile dist --workspace.
#
# A sample belongs to the first group that one of its callers is of, from the inside out: copying on
# behalf of the JSON parser counts as JSON, all that happens within a send as sending. In the kernel,
# sending over loopback is most of receiving, too: the peer's half of TCP runs in the sender's time.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
ack=memory seconds=4 functions=15 binary=$root/target/${RINGHOOK_PROFILE:-dist}/ringhook
while (($#)); do
    case $1 in
    --ack | --seconds | --functions | --binary)
        [[ $# -ge 2 ]] || { echo "$1 needs a value" >&2; exit 2; }
        declare "${1#--}=$2"
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

if ! perf --version >/dev/null 2>&1; then
    echo "skipped: no perf"
    exit 0
fi
for program in "$binary" "$root/target/${RINGHOOK_PROFILE:-dist}/loadtest"; do
    [[ -x $program ]] || { echo "$program is not there: cargo build --profile dist --workspace" >&2; exit 1; }
done

dir=$(mktemp -d)
server='' generator=''
cleanup() {
    for process in $generator $server; do kill "$process" 2>/dev/null || true; done
    [[ -z $server ]] || wait "$server" 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT

taskset -c 0 "$binary" serve --listen 127.0.0.1:0 --data-dir "$dir/data" --ack "$ack" --output null \
    2>"$dir/log" &
server=$!
for ((i = 0; i < 200; i++)); do
    url=$(sed -n 's/^ready //p' "$dir/log")
    [[ -z $url ]] || break
    sleep 0.05
done
[[ -n $url ]] || { cat "$dir/log" >&2; exit 1; }
taskset -c 1 "$root/target/${RINGHOOK_PROFILE:-dist}/loadtest" --target "$url" --ca "$dir/data/cert.pem" \
    --secret-token-file "$dir/data/secret-token" --tls 1.3 --quiet --connections 200 --rate max \
    --duration "$((seconds + 3))s" --report "$dir/report.json" >/dev/null &
generator=$!
sleep 1.5
# Not a round number, so that it never runs in step with a timer.
if ! perf record -F 4999 -g -p "$server" -o "$dir/perf" -- sleep "$seconds" >"$dir/perf.log" 2>&1; then
    echo "skipped: perf cannot record"
    tail -n 3 "$dir/perf.log"
    exit 0
fi
wait "$generator"
generator=''

perf script -i "$dir/perf" -F ip,sym,dso 2>/dev/null >"$dir/samples"
echo "$ loadtest/compare/profile.sh --ack $ack --seconds $seconds"
echo "$(date -u +%F), Linux $(uname -r | cut -d- -f1), $(nproc) CPUs, $("$binary" --version)"
python3 - "$dir/samples" "$dir/report.json" "$functions" <<'PYTHON'
import collections
import json
import re
import sys

samples_file, report_file, functions = sys.argv[1], sys.argv[2], int(sys.argv[3])

# In this order; the first that fits a frame wins. The kernel's own frames are looked at first.
KERNEL = [
    ("kernel: send", r"^(io_send|io_sendmsg|__sys_send|sock_sendmsg|tcp_sendmsg|inet_sendmsg|__tcp_push|io_write$|ksys_write)"),
    ("kernel: receive", r"^(io_recv|io_recvmsg|__sys_recv|sock_recvmsg|tcp_recvmsg|inet_recvmsg|io_poll|io_read$|ksys_read|io_async_wake|sock_poll|tcp_poll)"),
]
PROCESS = [
    ("allocator", r"malloc|realloc|calloc|_int_free|(^|_)free$|cfree|__rust_(no_)?alloc|mi_(malloc|free|heap)|unlink_chunk|sysmalloc|brk"),
    ("JSON", r"simd_json|UpdateParser|update::(document|head|parser|value|kind|chat_key)|Deserializer"),
    ("AES-GCM", r"aes|gcm|ghash|aead|AEAD|chacha|poly1305|CRYPTO_|EVP_"),
    ("TLS besides", r"rustls|tls::(records|recv_buffer|stream|session|tls12)|Records|RecvBuffer|Tls12|TlsStream"),
    ("HTTP and route", r"httparse|http::|HttpSession|route::|subtle"),
    ("hand-off, worker", r"dispatch::|worker::|crossbeam|Scheduler|dedup|Dispatcher|Worker(Context|Parker)?|futex|parking"),
    ("clock, metrics", r"clock_gettime|Instant|Timespec|histogram|metrics::"),
    ("ring, tasks", r"monoio|io_uring|connection::|shard::"),
]
kernel = [(name, re.compile(pattern)) for name, pattern in KERNEL]
process = [(name, re.compile(pattern)) for name, pattern in PROCESS]


def group(stack):
    """The group of a sample, given its frames from the inside out."""
    inside = [symbol for symbol, is_kernel in stack if is_kernel]
    if inside:
        for symbol in inside:
            for name, pattern in kernel:
                if pattern.search(symbol):
                    return name
        return "kernel: other"
    for symbol, _ in stack:
        for name, pattern in process:
            if pattern.search(symbol):
                return name
    return "rest"


groups, leaves, total = collections.Counter(), collections.Counter(), 0
for block in open(samples_file, encoding="utf-8", errors="replace").read().split("\n\n"):
    stack = []
    for line in block.splitlines():
        match = re.match(r"\s*[0-9a-f]+ (.*) \((.*)\)$", line)
        if match:
            symbol = re.sub(r"\+0x[0-9a-f]+$", "", match[1])
            stack.append((symbol, "kernel" in match[2] or match[2].endswith(".ko")))
    if stack:
        total += 1
        name = group(stack)
        groups[name] += 1
        leaves[name, stack[0][0]] += 1
if not total:
    sys.exit("perf has taken no samples")
report = json.load(open(report_file, encoding="utf-8"))
rate = report["acknowledged"] / report["duration_s"]
print(f"{total} samples, {rate:,.0f} updates a second\n")
order = [name for name, _ in KERNEL] + ["kernel: other"] + [name for name, _ in PROCESS] + ["rest"]
for name in order:
    print(f"{name:<18} {100 * groups[name] / total:5.1f} %")
print("\nthe functions that take most by themselves")
for (name, symbol), count in leaves.most_common(functions):
    print(f"{100 * count / total:5.1f} %  {name:<18} {symbol[:90]}")
PYTHON
