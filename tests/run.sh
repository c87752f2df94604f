#!/bin/sh
# Runs the test programs named on the command line, two at a time, and sums up what Check reported.
# Programs under tests/proc/ start real daemons and mostly wait: they come last, three at a time; those that hold a daemon to a time run alone.
set -u
logs="$SHALE_BUILD/test-logs"
rm -rf "$logs" && mkdir -p "$logs"
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/shale-check.XXXXXX") || exit 1
chmod 755 "$TMPDIR" # some tests become another user
export TMPDIR SHALE_BUILD logs
# Test databases lie below TMPDIR, and a region names its database: so what a failed test left in /dev/shm is known.
clean_up() {
	for r in /dev/shm/shale.*.region; do
		! grep -qsF "$TMPDIR/" "$r" || rm -f "${r%.region}".*
	done
	rm -rf "$TMPDIR" "/dev/shm/${TMPDIR##*/}" # some tests take the folder of that name in memory
}
trap clean_up EXIT
trap 'exit 130' INT TERM

one='
	name=$(echo "${1##*/tests/}" | tr / -)
	start=$(date +%s%N)
	timeout -k 5 600 "$1" >"$logs/$name.log" 2>&1
	rc=$?
	echo "$rc" >"$logs/$name.rc"
	printf "%-34s %6d ms  %s\n" "$name" $((($(date +%s%N) - start) / 1000000)) \
		"$([ $rc = 0 ] && grep -aE "^[0-9]+%: " "$logs/$name.log" | tail -1 || echo "FAILED (exit $rc): $logs/$name.log")"
	[ $rc = 0 ] || tail -40 "$logs/$name.log"
'
unit="" proc="" alone=""
for t in "$@"; do
	case "$t" in
	*/tests/proc/test_idle | */tests/proc/test_kill_client | */tests/proc/test_hostile_*) alone="$alone $t" ;;
	*/tests/proc/*) proc="$proc $t" ;;
	*) unit="$unit $t" ;;
	esac
done
[ -z "$unit" ] || printf '%s\n' $unit | xargs -P 2 -I{} sh -c "$one" sh {}
[ -z "$proc" ] || printf '%s\n' $proc | xargs -P 3 -I{} sh -c "$one" sh {}
for t in $alone; do sh -c "$one" sh "$t"; done

checks=$(cat "$logs"/*.log | grep -aE '^[0-9]+%: Checks: ' | sed -E 's/.*Checks: ([0-9]+), Failures: ([0-9]+), Errors: ([0-9]+).*/\1 \2 \3/' |
	awk '{c += $1; f += $2 + $3} END {print c + 0, f + 0}')
total=${checks% *} failed=${checks#* }
for rc in "$logs"/*.rc; do # a program that died before its closing line failed as well
	[ "$(cat "$rc")" = 0 ] || grep -qaE '^[0-9]+%: Checks: ' "${rc%.rc}.log" || { total=$((total + 1)); failed=$((failed + 1)); }
done
for rc in "$logs"/*.rc; do # once more, where the end of a long output is read
	[ "$(cat "$rc")" = 0 ] || { echo "FAILED: ${rc%.rc}.log"; grep -aE '^[^ ]+:[0-9]+:[FE]:' "${rc%.rc}.log" | cut -c1-1000; }
done
echo "$((total - failed)) passed, $failed failed"
[ "$failed" = 0 ] && [ "$total" -gt 0 ]
