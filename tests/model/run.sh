#!/bin/bash
# run.sh - verifies park.pml in its variants, then that each planted fault is found. One line each; non-zero when one is not as it must be.
# MODEL="name …": only these.
set -u
cd "$(dirname "$0")" || exit 1
for tool in spin "${CC:=gcc}"; do
	command -v "$tool" >/dev/null || { echo "model: skipped: there is no $tool (make deps-ci brings spin)"; exit 77; }
done
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
model=$PWD/park.pml
rc=0

# check NAME holds|fails DEFINE… fails: somebody sleeps for ever, which is what each fault comes to; another failure is "broken".
check() {
	local name=$1 want=$2 dir=$work/$1 opt=-O0 out got states
	shift 2
	[ "$want" = fails ] || opt=-O1 # what compiles fast, where the search is short
	mkdir "$dir" && cd "$dir" || exit 1
	spin "$@" -a "$model" >spin.log 2>&1 && $CC $opt -w -DSAFETY -DMEMLIM=2048 -DVECTORSZ=2048 -o pan pan.c || { cat spin.log; rc=1; return; }
	out=$(./pan -m1000000 2>&1)
	got=holds
	grep -q 'errors: 0$' <<<"$out" || got=broken
	grep -q '^pan:.*invalid end state' <<<"$out" && got=fails
	grep -qE 'max search depth too small|out of memory|reached -DMEMLIM' <<<"$out" && got=incomplete
	states=$(sed -nE 's/^ *([0-9.e+]+) states, stored.*/\1/p' <<<"$out")
	printf 'model: %-28s %-10s %9s states%s\n' "$name" "$got" "$states" "$([ "$got" = "$want" ] || echo "  WRONG: should be $want")"
	[ "$got" = "$want" ] || { rc=1; grep -E '^pan:|error' <<<"$out"; }
	cd "$work" || exit 1
}

verify() {
	case " ${MODEL:-$1} " in *" $1 "*) check "$@" ;; esac
}

# What is built.
verify protocol holds
verify three-requests holds -DREQUESTS=3 -DFUTEX_ONLY
verify mail holds -DPOSTER -DREQUESTS=1
verify close holds -DCLOSE -DSLICES
verify close-by-socket holds -DCLOSE -DSOCKET_ONLY
verify kill holds -DKILL -DSLICES
# What would go wrong without each of its parts.
for fault in NO_FENCE_CLIENT_PUBLISH NO_FENCE_CLIENT_PARK NO_FENCE_DAEMON_PUBLISH NO_FENCE_DAEMON_PARK \
	LOOK_BEFORE_CLIENT_PUBLISH LOOK_BEFORE_DAEMON_PUBLISH \
	NO_RECHECK_CLIENT NO_RECHECK_DAEMON NO_RECHECK_SOCKET NO_COMPARE ONE_TICKET DRAIN_LAST; do
	verify "$fault" fails "-D$fault"
done
for fault in NO_FENCE_SLEEP NO_FENCE_POST NO_RECHECK_SLEEP; do
	verify "$fault" fails "-D$fault" -DPOSTER -DREQUESTS=1 -DFUTEX_ONLY
done
# A change of state is not covered by the futex's comparison: without bounded slices it can be slept through.
verify close-without-slices fails -DCLOSE -DFUTEX_ONLY
# By socket it cannot, and that takes the fence behind the state.
verify NO_FENCE_STATE fails -DNO_FENCE_STATE -DCLOSE -DSOCKET_ONLY
exit $rc
