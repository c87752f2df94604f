#!/bin/bash
# run.sh FOLDER TARGET…: runs each fuzz program of the folder for FUZZ_SECONDS, two at a time, from the kept corpus and what earlier
# runs in this tree found; one line each. Non-zero when an input broke something: its file and how to run it again are told.
set -u
cd "$(dirname "$0")/../.." || exit 1
folder=$1
shift
export folder FUZZ_SECONDS
one() {
	local name=$1 work=$folder/work/$1 log=$folder/$1.log rc runs new
	mkdir -p "$work"
	ASAN_OPTIONS=detect_leaks=1:${ASAN_OPTIONS-} "$folder/$name" -max_total_time="$FUZZ_SECONDS" -timeout=20 -rss_limit_mb=2048 \
		-print_final_stats=1 -artifact_prefix="$folder/$name-" "$work" "tests/fuzz/corpus/$name" >"$log" 2>&1
	rc=$?
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	new=$(sed -n 's/^stat::new_units_added: *//p' "$log")
	echo "fuzz: target=$name runs=${runs:-0} new=${new:-0}$([ $rc = 0 ] || echo " FAILED (exit $rc): $log")"
	[ $rc = 0 ] || { grep -aE 'does not hold|ERROR: |SUMMARY: |runtime error|Test unit written' "$log" | head -5; return 1; }
}
export -f one
printf '%s\n' "$@" | xargs -P 2 -I{} bash -c 'one {}' || exit 1
