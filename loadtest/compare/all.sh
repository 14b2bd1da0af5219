#!/usr/bin/env bash
# Runs the same plan against ringhook and against what else can receive webhooks on this machine.
#
#   loadtest/compare/all.sh [--plan steady|saturate|FILE] [--rounds N] [--seconds S] [--tls 1.2|1.3]
#                           [--cpus SERVER,GENERATOR] [--out DIR] [--install] [SUBJECT,SUBJECT...]
#
# Subjects are memory, written, nginx, hyper, axum, node and aiohttp unless others are named;
# subjects.sh tells what they are. What is missing is skipped with a word; --install gets aiohttp into
# an environment of its own. The first subject is what the others are compared with.
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
# Needs python3 (3.10 or later) and builds: cargo build --profile dist --workspace. The other
# receivers are built when they are first needed. The journal is in TMPDIR, which should be on the
# disk that is meant.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=subjects.sh
. "$(dirname "$0")/subjects.sh"
plan=steady rounds=3 seconds=10 out=$target/compare
names=memory,written,nginx,hyper,axum,node,aiohttp
warmup=2

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
whole_numbers --rounds "$rounds" --seconds "$seconds"
if [[ -n ${cpus:-} ]]; then server_cpu=${cpus%,*} generator_cpu=${cpus#*,}; fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
begin
IFS=, read -ra asked <<<"$names"
take_part "${asked[@]}"

: >"$dir/rows"
for number in $(seq "$rounds"); do
    for subject in $(in_turn "$number" "${subjects[@]}"); do
        echo "round $number of $rounds: $subject" >&2
        one_round "$subject" "$out/$subject-$number.json" "$warmup" --plan "$plan" \
            --duration "$((seconds + warmup))s" >>"$dir/rows"
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
    echo "$(machine), plan $plan"
    told_versions
    measure table "$dir/rows" "${subjects[@]}"
} | tee "$out/table.txt"
echo "the page: $out/report.html" >&2
