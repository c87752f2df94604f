#!/bin/sh
# Real crashes, many of them: runs the programs named on the command line with $SHALE_CRASH set, and adds up what they print.
set -u
SHALE_CRASH=1 SHALE_BUILD="$SHALE_BUILD" "$(dirname "$0")/run.sh" "$@"
rc=$?
cat "$SHALE_BUILD"/test-logs/proc-test_crash_*.log | grep -a '^skipped' | sort | uniq
cat "$SHALE_BUILD"/test-logs/proc-test_crash_*.log | sed -n 's/^crash: //p' | tr ' =' '\n ' |
	awk '{sum[$1] += $2} END {printf "crash: cycles=%d kills=%d shutdowns=%d batches=%d lost=%d\n", sum["cycles"], sum["kills"],
		sum["shutdowns"], sum["batches"], sum["lost"]}'
exit $rc
