#!/usr/bin/env bash
# Prints how far ringhook is from what it should reach: each figure with its target, what was measured
# beside it in the same run, their ratio, and whether that is enough. docs/performance.md says what each
# figure means.
#
#   loadtest/compare/table.sh [--rounds N] [--seconds S] [--only PART,PART...] [--idle N]
#                             [--cpus SERVER,GENERATOR] [--proxies NAME,NAME...] [--others NAME,NAME...]
#                             [--json FILE] [--keep DIR]
#
# Parts (all of them unless named):
#
#   cpu          CPU time for an update, as fast as they go on 200 connections: `memory` and `written`
#                against nginx's `return 200` and against hyper with tokio-rustls
#   floor        the same of `memory` and nginx against the floor: cargo bench --bench floor
#   handshakes   CPU time for a connection with one request: full handshakes and resumed ones
#   idle         memory for an idle TLS connection: after its handshake, and after one request
#   allocations  of the heap, for an update: cargo test --test allocations
#   calls        system calls for an update, counted by perf, which needs root
#   shards       how evenly 40 connections are spread over 16 shards: cargo test --test it spread_evenly
#   latency      at 1,000 updates a second on 200 connections, ringhook's and nginx's
#   ordinary     CPU time and context switches for an update at 1,000 and 5,000 a second on 200 connections:
#                `memory`, `written` with lines in a file, nginx, and HAProxy, Caddy and h2o with a fixed
#                answer, or those that --others names; and the answers of `written` beside nginx's
#   proxy        CPU time and context switches for an update that is passed on to a backend, at 1,000 and
#                5,000 a second and as fast as they go: `written` with a forward against nginx, HAProxy,
#                Caddy and h2o, or those that --proxies names
#   delay        the sender's answer at 1,000 a second while the backend takes 0, 10 ms and 1 s: the
#                forward's and nginx's
#
# All have one certificate (ECDSA P-256) and TLS 1.3; the server has CPU 0 with all of its threads and the
# generator CPU 1, with the backend where there is one. Subjects take turns, every other round backwards: N rounds (5) of S seconds (3), each
# after a second of warm-up that is in no figure. Memory takes two rounds of --idle (10,000)
# connections, calls take one: they hardly vary. The CPU time is what the kernel's clock of the process
# says, user and system, of all threads and child processes.
#
# A figure is reached if both minimum and median of all rounds are. All of it takes under ten minutes on a
# machine that does nothing else; what cannot be measured there is left out with a word. --json writes
# everything as JSON, --keep keeps each round's report in DIR.
#
# Needs python3 (3.10 or later), nginx and builds: cargo build --profile dist --workspace. Receiver,
# bench and tests are built when they are first needed, before anything is measured.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=subjects.sh
. "$(dirname "$0")/subjects.sh"
# shellcheck source-path=SCRIPTDIR source=proxies.sh
. "$(dirname "$0")/proxies.sh"
rounds=5 seconds=3 idle=10000 json='' keep='' proxies=nginx,haproxy,caddy,h2o others=haproxy,caddy,h2o
only=cpu,floor,handshakes,idle,allocations,calls,shards,latency,ordinary,proxy,delay
warmup=1

command_line="loadtest/compare/table.sh $*"
while (($#)); do
    case $1 in
    --rounds | --seconds | --only | --idle | --cpus | --json | --keep | --proxies | --others)
        [[ $# -ge 2 ]] || usage 2 >&2
        declare "${1#--}=$2"
        shift
        ;;
    -h | --help) usage 0 ;;
    *) usage 2 >&2 ;;
    esac
    shift
done
whole_numbers --rounds "$rounds" --seconds "$seconds" --idle "$idle"
if [[ -n ${cpus:-} ]]; then server_cpu=${cpus%,*} generator_cpu=${cpus#*,}; fi
asked_only=$only
IFS=, read -ra parts <<<"$only"
for part in "${parts[@]}"; do
    case $part in
    cpu | floor | handshakes | idle | allocations | calls | shards | latency | ordinary | proxy | delay) ;;
    *)
        echo "--only: no such part: $part" >&2
        exit 2
        ;;
    esac
done
wants() { [[ ,$only, == *,$1,* ]]; }
takes_part() { [[ " ${subjects[*]} " == *" $1 "* ]]; }
say() { echo "$(date +%T) $*" >&2; }
# skip PART WHY
skip() {
    say "$1: skipped, $2"
    note skipped "$1" "$2"
}

# note ROW KEY VALUE: one line for what is printed at the end.
note() { measure note "$1" "$2" "$3" >>"$dir/rows"; }

# has KIND NAME: whether there is such a bench or test.
has() { [[ -f $root/$1/$2.rs || -d $root/$1/$2 ]]; }

# tested PART TEST FILTER: runs the test that proves a part, and keeps what it prints.
tested() {
    local ok=no
    say "$1: cargo test --test $2"
    if cargo test --locked --quiet --manifest-path "$root/Cargo.toml" --test "$2" -- --nocapture "$3" \
        >"$dir/$1.log" 2>&1; then
        ok=yes
    fi
    measure tested "$1" "$ok" "$dir/$1.log" >>"$dir/rows"
}

begin
: >"$dir/rows"
wanted=()
for part in "${parts[@]}"; do
    case $part in
    ordinary | proxy | delay) ;;
    *) wanted=(memory) ;;
    esac
done
if wants cpu; then wanted+=(written); fi
if wants cpu || wants floor || wants handshakes || wants idle || wants calls || wants latency; then
    wanted+=(nginx)
fi
if wants cpu || wants calls; then wanted+=(hyper); fi
# Those of a part of their own.
ordinary=()
if wants ordinary; then
    IFS=, read -ra asked_others <<<"$others"
    take_part memory lines nginx "${asked_others[@]}"
    ordinary=("${subjects[@]}")
    subjects=()
fi
IFS=, read -ra asked_proxies <<<"$proxies"
passing=()
if wants proxy || wants delay; then passing=(forward "${asked_proxies[@]/#/proxy-}"); fi
if ((${#wanted[@]} + ${#passing[@]})); then take_part "${wanted[@]}" "${passing[@]}"; fi
# Those that pass updates on take part in parts of their own.
passing=()
for subject in "${subjects[@]}"; do
    if [[ $subject == forward || $subject == proxy-* ]]; then passing+=("$subject"); fi
done
subjects=("${subjects[@]:0:${#subjects[@]}-${#passing[@]}}")
both=(memory)
if takes_part nginx; then both+=(nginx); fi

# Whatever is built is built first.
if wants floor; then
    if ! has benches floor; then
        skip floor "there is no such bench"
        only=${only//floor/}
    elif ! cargo bench --locked --quiet --manifest-path "$root/Cargo.toml" --bench floor --no-run >&2; then
        skip floor "the bench does not build"
        only=${only//floor/}
    fi
fi
for part in allocations shards; do
    test=allocations
    if [[ $part == shards ]]; then test=it; fi
    if wants "$part"; then
        if ! has tests "$test"; then
            skip "$part" "there is no such test"
            only=${only//$part/}
        elif ! cargo test --locked --quiet --manifest-path "$root/Cargo.toml" --test "$test" --no-run >&2; then
            skip "$part" "the test does not build"
            only=${only//$part/}
        fi
    fi
done
if wants calls && ! perf stat -e raw_syscalls:sys_enter true >/dev/null 2>&1; then
    skip calls "perf cannot count them here: it needs root"
    only=${only//calls/}
fi
if wants idle; then
    # Some descriptors are for something else.
    room=$(($(ulimit -n) - 100))
    if ((room < idle)); then
        say "idle: $room connections, for want of more file descriptors"
        idle=$room
    fi
fi

began=$SECONDS

# as_fast SUBJECT NUMBER: a closed loop on 200 connections.
as_fast() {
    one_round "$1" "$dir/cpu-$1-$2.json" "$warmup" --connections 200 --rate max \
        --duration "$((seconds + warmup))s" | measure tag cpu >>"$dir/rows"
}

# handshakes SUBJECT: full ones, then resumed ones with the same server.
handshakes() {
    local kind resume
    start "$1"
    for kind in full resumed; do
        resume=()
        if [[ $kind == resumed ]]; then resume=(--resume); fi
        sampled "$1" "$dir/$kind-$1-$2.json" "$warmup" --connections 50 --rate max --churn --unchecked \
            "${resume[@]}" --duration "$((seconds + warmup))s" | measure tag "$kind" >>"$dir/rows"
    done
    stop
}

# resting SUBJECT KIND: what many silent connections cost in memory.
resting() {
    local asked=()
    if [[ $2 == asked ]]; then asked=(--idle-asked); fi
    start "$1"
    generate "$dir/idle.json" --connections 10 --rate 100 --duration 1s --idle "$idle" "${asked[@]}" \
        --server-pid "$server"
    measure memory "$1" "$2" "$dir/load.log" >>"$dir/rows"
    stop
}

# counted SUBJECT: system calls while the generator goes as fast as it can.
counted() {
    local stretch=$((seconds < 3 ? 3 : seconds)) generator
    start "$1"
    generate "$dir/calls.json" --connections 200 --rate max --duration "$((stretch + warmup + 2))s" &
    generator=$!
    sleep "$((warmup + 1))"
    taskset -c "$generator_cpu" "$python" "$here/measure.py" calls "$server" "$stretch" "$dir/calls"
    wait "$generator"
    measure counted "$1" "$dir/calls.json" "$dir/calls" >>"$dir/rows" ||
        skip calls "$1 had nothing to count"
    stop
}

if wants cpu || wants floor; then
    fast=("${subjects[@]}")
    if ! wants cpu; then fast=("${both[@]}"); fi
    for number in $(seq "$rounds"); do
        for subject in $(in_turn "$number" "${fast[@]}"); do
            say "cpu: round $number of $rounds, $subject"
            as_fast "$subject" "$number"
        done
    done
fi
if wants floor; then
    say "floor: cargo bench --bench floor"
    if cargo bench --locked --quiet --manifest-path "$root/Cargo.toml" --bench floor -- \
        --json "$dir/floor.json" --rounds "$rounds" --seconds "$((seconds < 2 ? seconds : 2))" >"$dir/floor.log" 2>&1; then
        cat "$dir/floor.log" >&2
    else
        tail -n 20 "$dir/floor.log" >&2
        rm -f "$dir/floor.json"
        skip floor "the bench failed"
    fi
fi
if wants handshakes; then
    for number in $(seq "$rounds"); do
        for subject in $(in_turn "$number" "${both[@]}"); do
            say "handshakes: round $number of $rounds, $subject"
            handshakes "$subject" "$number"
        done
    done
fi
if wants idle; then
    for number in $(seq "$((rounds < 2 ? rounds : 2))"); do
        for subject in $(in_turn "$number" "${both[@]}"); do
            say "idle: round $number, $subject with $idle connections"
            resting "$subject" silent
            resting "$subject" asked
        done
    done
fi
if wants calls; then
    for subject in "${subjects[@]}"; do
        # What it writes to the journal is another figure.
        if [[ $subject == written ]]; then continue; fi
        say "calls: $subject"
        counted "$subject"
    done
fi
if wants latency; then
    for number in $(seq "$rounds"); do
        for subject in $(in_turn "$number" "${both[@]}"); do
            say "latency: round $number of $rounds, $subject"
            one_round "$subject" "$dir/latency-$subject-$number.json" "$warmup" --connections 200 \
                --rate 1000 --duration "$((seconds + 2 + warmup))s" | measure tag latency >>"$dir/rows"
        done
    done
fi
if wants ordinary; then
    for number in $(seq "$rounds"); do
        for rate in 1000 5000; do
            for subject in $(in_turn "$number" "${ordinary[@]}"); do
                say "ordinary: round $number of $rounds, $subject at $rate/s"
                one_round "$subject" "$dir/ordinary-$subject-$rate-$number.json" "$warmup" --connections 200 \
                    --rate "$rate" --duration "$((seconds + warmup))s" | measure tag "ordinary-$rate" >>"$dir/rows"
            done
        done
    done
fi
# passing_on SUBJECT RATE NUMBER: what it costs to pass an update on.
passing_on() {
    start_backend
    counter=$backend_port one_round "$1" "$dir/proxy-$1-$2-$3.json" "$warmup" --connections 200 \
        --rate "$2" --duration "$((seconds + warmup))s" | measure tag "proxy-$2" >>"$dir/rows"
    stop_backend
}
if wants proxy; then
    for number in $(seq "$rounds"); do
        for rate in 1000 5000 max; do
            for subject in $(in_turn "$number" "${passing[@]}"); do
                say "proxy: round $number of $rounds, $subject at $rate/s"
                passing_on "$subject" "$rate" "$number"
            done
        done
    done
fi
if wants delay; then
    # As many connections as a proxy needs that has a second's updates open; their handshakes take more
    # than a second.
    for number in $(seq "$rounds"); do
        for delay in 0 0.01 1; do
            for subject in $(in_turn "$number" "${passing[@]}"); do
                if [[ $subject != forward && $subject != proxy-nginx ]]; then continue; fi
                say "delay: round $number of $rounds, $subject, a backend that takes $delay s"
                start_backend "$delay"
                one_round "$subject" "$dir/delay-$subject-$delay-$number.json" 2 \
                    --connections 1200 --rate 1000 --duration "$((seconds + 2))s" |
                    measure tag "delay-$delay" >>"$dir/rows"
                stop_backend
            done
        done
    done
fi
if wants allocations; then tested allocations allocations ""; fi
if wants shards; then tested shards it spread_evenly; fi

note about parts "$asked_only"
note about command "$command_line"
note about machine "$(machine)"
note about versions "$(told_versions)"
note about idle "$idle"
note about took "$((SECONDS - began)) s"
if [[ -n $keep ]]; then
    mkdir -p "$keep"
    cp "$dir"/*.json "$dir/rows" "$keep"
fi
"$python" "$here/targets.py" "$dir/rows" "$dir/floor.json" "$json"
