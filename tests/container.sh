# container.sh - for scripts that try things in a container with systemd as PID 1: the container, and the words that cases are told in. To be sourced,
# with $what set: the name of what is tried.
#
#	container_make FOLDER          a root that shows FOLDER (/: this system), and takes what changes; nothing here is changed
#	container_boot UNIT OPTION…    boots it (OPTION…: systemd-nspawn's) and waits for UNIT
#	check NAME FUNCTION            a case, one line for each
#	summary                        "N passed, M failed", the last line; what it returns is the script's exit code
#
# What cannot be had is told by skip, which ends the script: cases that ran until then decide how.

passed=0 failed=0 why="" note=""
temporary=$(mktemp -d "${TMPDIR:-/tmp}/shale-$what.XXXXXX")
root=$temporary/root nspawn="" leader=""
environment=() # of commands in the container, besides PATH and locale

# Each step whatever the one before said; what a mount still holds is let go when its last user ends.
clean_up() {
	if [ -n "$nspawn" ] && kill -0 "$nspawn" 2>/dev/null; then
		kill -TERM "$nspawn" 2>/dev/null
		for _ in $(seq 100); do kill -0 "$nspawn" 2>/dev/null || break; sleep 0.1; done
		[ -z "$leader" ] || kill -KILL "$leader" 2>/dev/null
		kill -KILL "$nspawn" 2>/dev/null
		wait "$nspawn" 2>/dev/null
	fi
	mountpoint -q "$root" && umount -l "$root"
	mountpoint -q "$temporary/mount" && umount -l "$temporary/mount"
	rm -rf --one-file-system "$temporary"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

summary() {
	echo "$passed passed, $failed failed"
	[ "$failed" = 0 ]
}
skip() {
	echo "$what: skipped: $1"
	summary
	exit
}
# needs HINT PROGRAM…
needs() {
	local hint=$1 program
	shift
	[ "$(id -u)" = 0 ] || skip "this needs root"
	for program in "$@"; do
		command -v "$program" >/dev/null || skip "there is no $program ($hint brings it)"
	done
}

# ---- the container ----

# A tmpfs holds what changes: an overlay cannot lie on another one, as /tmp may.
container_make() {
	mkdir "$temporary/mount" "$root"
	mount -t tmpfs -o mode=755 "shale-$what" "$temporary/mount" || skip "nothing can be mounted here"
	mkdir "$temporary/mount/upper" "$temporary/mount/work"
	mount -t overlay overlay -o "lowerdir=$1,upperdir=$temporary/mount/upper,workdir=$temporary/mount/work" "$root" ||
		skip "there is no overlay file system here"
}
booted() {
	leader=$(pgrep -P "$nspawn" | head -1)
	[ -n "$leader" ] && in_container systemctl is-active -q "$1"
}
container_boot() {
	local unit=$1
	shift
	systemd-nspawn -q -D "$root" --register=no --keep-unit -M "shale-$what-$$" -b --link-journal=no "$@" >"$temporary/console.log" 2>&1 </dev/null &
	nspawn=$!
	until_true 60 booted "$unit" || skip "systemd does not start in a container here: $(tail -2 "$temporary/console.log")"
}
in_container() { # COMMAND…
	nsenter -t "$leader" -a env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "${environment[@]}" "$@"
}
as() { # USER COMMAND…
	local user=$1
	shift
	in_container setpriv --reuid "$user" --regid "$user" --init-groups "$@"
}

# ---- words ----

# What went wrong, for the reader of the log.
must() {
	local out
	out=$("$@" 2>&1) || { why="$*: $(tail -c 800 <<<"$out")"; return 1; }
}
must_not() {
	local out
	! out=$("$@" 2>&1) || { why="succeeded: $*: $(tail -c 800 <<<"$out")"; return 1; }
}
# says TEXT COMMAND…: it succeeds, and its output, of both kinds, has TEXT in it.
says() {
	local text=$1 out
	shift
	out=$("$@" 2>&1) && [[ $out == *"$text"* ]] || { why="$*: $(tail -c 800 <<<"$out")"; return 1; }
}
# until_true SECONDS COMMAND…: repeats it until it succeeds.
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}
more_about_it() { :; } # after a case that failed: for the script to define anew
check() { # NAME FUNCTION; $note: what the function adds to a good line
	local start=$SECONDS
	why="" note=""
	if "$2"; then
		passed=$((passed + 1))
		echo "ok      $1 ($((SECONDS - start)) s$note)"
	else
		failed=$((failed + 1))
		echo "FAILED  $1: $why"
		more_about_it
	fi
}
# needed NAME FUNCTION: without this case the rest says nothing.
needed() {
	local before=$failed
	check "$1" "$2"
	[ "$failed" = "$before" ] || { summary; exit 1; }
}
