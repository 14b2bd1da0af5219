#!/usr/bin/env bash
# Compares servers with each other round by round: the same certificate, the same generator, TLS 1.3,
# the server on CPU 0 and the generator on CPU 1, alternating rounds.
#
#   loadtest/compare/compare.sh SUBJECT,SUBJECT... [ROUNDS] [SECONDS] [RATE|max]
#
# subjects.sh tells which subjects there are; memory,nginx unless others are named. The last one is what
# the others are compared with. A second of warm-up comes before the seconds that count.
#
# Prints the server's CPU time (user and system, all threads) per update of each round, with the
# minimum and the median, and the latency percentiles that the generator saw. Needs python3 (3.10 or
# later) and builds: cargo build --profile dist --workspace. The journal is in TMPDIR, which should
# be on the disk that is meant.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=subjects.sh
. "$(dirname "$0")/subjects.sh"
case ${1:-} in
-h | --help) usage 0 ;;
esac
IFS=, read -ra asked <<<"${1:-memory,nginx}"
rounds=${2:-5} seconds=${3:-4} rate=${4:-max}
whole_numbers ROUNDS "$rounds" SECONDS "$seconds"
begin
take_part "${asked[@]}"

: >"$dir/rows"
for number in $(seq "$rounds"); do
    for subject in $(in_turn "$number" "${subjects[@]}"); do
        one_round "$subject" "$dir/report.json" 1 --connections 200 --rate "$rate" \
            --duration "$((seconds + 1))s" >>"$dir/rows"
    done
done
measure rounds "$dir/rows" "${subjects[@]}"
