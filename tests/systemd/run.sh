#!/bin/bash
# run.sh BUILD: the service as make install leaves it, under a real systemd as PID 1: in a container (systemd-nspawn) whose root is an overlay
# of this system's, so that nothing here is changed. One line for each case; at last "N passed, M failed". Some forty seconds.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=$1
what=systemd
. tests/container.sh
needs "make deps-ci" systemd-nspawn systemctl systemd-analyze nsenter
[ -x /lib/systemd/systemd ] || skip "systemd is not installed (make deps-ci brings it)"

# ---- the container ----

container_make /
make -s --no-print-directory install OUT="$build" DESTDIR="$root" PREFIX=/usr LIBDIR=/usr/lib >"$temporary/install.log" 2>&1 ||
	{ cat "$temporary/install.log"; echo "0 passed, 1 failed"; exit 1; }
install -m 755 "$build/tests/systemd/worker" "$root/usr/bin/shale-worker"
mkdir -p "$root/etc/shale" "$root/var/log/journal"
rm -rf "$root"/etc/shale/* "$root"/var/lib/shale
# Of this system's own services none is wanted.
cat >"$root/etc/systemd/system/shale-test.target" <<'UNIT'
[Unit]
Requires=sysinit.target
After=sysinit.target
AllowIsolate=yes
UNIT

container_boot shale-test.target --private-network systemd.unit=shale-test.target

# ---- words ----

sc() { in_container systemctl "$@"; }
property() { sc show -P "$2" "$1"; }
mainpid() { property "$1" MainPID; }
is_active() { [ "$(property "$1" ActiveState)" = active ]; }
log_has() { in_container journalctl -q -u "$1" -o cat --no-pager | grep -qF -- "$2"; }
drop_in() { # UNIT TEXT
	mkdir -p "$root/etc/systemd/system/$1.d"
	printf '%b' "$2" >"$root/etc/systemd/system/$1.d/test.conf"
	sc daemon-reload
}
no_drop_in() {
	rm -rf "$root/etc/systemd/system/$1.d"
	sc daemon-reload
}
more_about_it() { in_container journalctl -q -o cat --no-pager -n 15 -u 'shaled*' | sed 's/^/        /'; }

# ---- cases ----

units=(/usr/lib/systemd/system/shaled.service /usr/lib/systemd/system/shaled.socket
	/usr/lib/systemd/system/shaled@.service /usr/lib/systemd/system/shaled@.socket)
verified() {
	local out
	# The manual may not be readable here: without scdoc there is none.
	out=$(in_container systemd-analyze verify --man=no "${units[@]}" 2>&1 | grep -i shale)
	[ -z "$out" ] || { why=$out; return 1; }
}
hardened() {
	local unit score
	for unit in "${units[0]}" "${units[2]}"; do
		score=$(in_container systemd-analyze security --offline=true --no-pager "$unit" | sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\).*/\1/p')
		awk -v s="$score" 'BEGIN { exit !(s != "" && s <= 1.0) }' || { why="$unit: $score"; return 1; }
	done
}
user_made() {
	must in_container id shale && must test "$(in_container stat -c %U /run/shale)" = shale
}

starts() {
	must sc start shaled.service && must is_active shaled.service &&
		must in_container shalectl put greeting hello &&
		must test "$(in_container shalectl get greeting)" = hello &&
		must until_true 10 status_is 'Serving'
}
status_is() { property shaled.service StatusText | grep -q "$1"; }
stops() {
	must sc stop shaled.service && must test "$(property shaled.service Result)" = success &&
		must test -z "$(in_container ls /dev/shm)" && must_not in_container test -e /run/shale/shale.sock
}

activated() {
	must sc start shaled.socket && must_not is_active shaled.service &&
		must test "$(in_container shalectl get greeting)" = hello && must is_active shaled.service &&
		must log_has shaled.service 'which the supervisor made' &&
		must test "$(in_container stat -c '%a %U %G' /run/shale/shale.sock)" = "660 shale shale"
}
stays_activated() { # a stopped service comes back with the next client; the socket outlives it
	must sc stop shaled.service && must test -z "$(in_container ls /dev/shm)" &&
		must test "$(in_container shalectl get greeting)" = hello && must is_active shaled.service
}
wrong_socket() {
	local result
	sc stop shaled.service shaled.socket
	drop_in shaled.socket '[Socket]\nListenSequentialPacket=\nListenStream=/run/shale/shale.sock\n'
	sc start shaled.socket
	sc start shaled.service 2>/dev/null
	result=$(property shaled.service ExecMainStatus)
	sc stop shaled.socket
	no_drop_in shaled.socket
	sc reset-failed
	must test "$result" = 2 && must log_has shaled.service 'must say ListenSequentialPacket=' && must sc start shaled.socket
}

members() {
	must in_container useradd -G shale alice && must as alice shalectl put mine yes && must test "$(as alice shalectl get mine)" = yes &&
		must_not as alice ls /var/lib/shale/default && must_not as alice cat /var/lib/shale/default/CURRENT
}
outsiders() {
	local out rc
	must in_container useradd bob || return 1
	out=$(as bob shalectl get mine 2>&1)
	rc=$?
	why="exit $rc: $out"
	[ $rc != 0 ] && [ $rc != 3 ] && echo "$out" | grep -qi 'permission'
}

begin_load() {
	rm -f "$root/var/tmp/notes"
	in_container shale-worker load /run/shale/shale.sock /var/tmp/notes >"$temporary/load.out" 2>&1 &
	worker=$!
	until_true 20 test -s "$root/var/tmp/notes" || { why="the worker: $(tail -3 "$temporary/load.out")"; return 1; }
}
end_load() {
	in_container sh -c 'kill -TERM $(pgrep -x shale-worker)'
	wait $worker && note="; $(tail -1 "$temporary/load.out")" && return 0
	why="the worker: $(tail -3 "$temporary/load.out")"
	return 1
}
nothing_lost() {
	must in_container shale-worker verify /run/shale/shale.sock /var/tmp/notes
}

watchdog() {
	local pid
	drop_in shaled.service '[Service]\nWatchdogSec=2\nLimitCORE=0\n'
	must sc restart shaled.service || return 1
	pid=$(mainpid shaled.service)
	sleep 5 # idle, for more than two periods: nobody kills it
	must test "$(mainpid shaled.service)" = "$pid" && begin_load || return 1
	sleep 1
	in_container kill -STOP "$pid"
	must until_true 30 log_has shaled.service 'Watchdog timeout' && must until_true 20 another_runs "$pid" || return 1
	sleep 1
	end_load && nothing_lost
}
another_runs() { is_active shaled.service && [ "$(mainpid shaled.service)" != "$1" ] && [ "$(mainpid shaled.service)" != 0 ]; }
killed() {
	local pid
	begin_load || return 1
	for _ in 1 2 3; do
		pid=$(mainpid shaled.service)
		sleep 0.5
		in_container kill -KILL "$pid"
		must until_true 20 another_runs "$pid" || return 1
	done
	no_drop_in shaled.service
	sc reset-failed
	end_load && nothing_lost
}

restarts() {
	begin_load || return 1
	for _ in 1 2 3; do
		sleep 0.5
		must sc restart shaled.service || return 1
	done
	sleep 0.5
	end_load && nothing_lost
}

reloads() {
	mkdir -p "$root/etc/shale/shaled.conf.d"
	printf '[limits]\nsessions_per_uid = 77\n' >"$root/etc/shale/shaled.conf"
	printf '[engine]\nblock_cache = 32M\n' >"$root/etc/shale/shaled.conf.d/cache.conf"
	must sc reload shaled.service &&
		must until_true 10 log_has shaled.service 'limits.sessions_per_uid: 2048 → 77 (/etc/shale/shaled.conf:2)' &&
		must until_true 10 log_has shaled.service 'engine.block_cache: 64M → 32M (/etc/shale/shaled.conf.d/cache.conf:2): needs a restart' &&
		must is_active shaled.service
}
bad_reload() {
	echo 'sesions = 3' >>"$root/etc/shale/shaled.conf"
	must sc reload shaled.service &&
		must until_true 10 log_has shaled.service 'nothing was changed: /etc/shale/shaled.conf:3: there is no setting "limits.sesions"' &&
		must is_active shaled.service && must test "$(in_container shalectl get greeting)" = hello
	local rc=$?
	rm -rf "$root"/etc/shale/*
	return $rc
}

instance() {
	printf '[engine]\nwrite_buffer = 2M\n' >"$root/etc/shale/orders.conf"
	must sc start shaled@orders.socket &&
		must in_container env SHALE_SOCKET=/run/shale/orders.sock shalectl put order one &&
		must is_active shaled@orders.service && must in_container test -e /var/lib/shale/orders/CURRENT &&
		must log_has shaled@orders.service 'engine.write_buffer=2M (/etc/shale/orders.conf:2)' &&
		must_not in_container shalectl get order &&
		must sc stop shaled@orders.socket shaled@orders.service && must test "$(in_container shalectl get greeting)" = hello
}

fields() {
	local entry
	entry=$(in_container journalctl -q -o export --no-pager -n 1 SHALE_DATABASE=/var/lib/shale/default MESSAGE_ID=5b1f3a3f6d5c4f0f9a6be0a6c1f3d001)
	why=$entry
	for field in PRIORITY=5 SYSLOG_IDENTIFIER=shaled 'MESSAGE=serving /var/lib/shale/default' _SYSTEMD_UNIT=shaled.service; do
		echo "$entry" | grep -q "^$field" || return 1
	done
	must in_container grep -q 'serving /var/lib/shale/default' /var/lib/shale/default/LOG &&
		must in_container test -e /var/lib/shale/default/LOG.old
}

all_gone() {
	must sc stop shaled.socket shaled.service && must test "$(property shaled.service Result)" = success &&
		must test -z "$(in_container ls /dev/shm)" && must test -z "$(in_container ls /run/shale)" &&
		must test -z "$(in_container pgrep -x shaled)"
}

check "units: systemd-analyze verify finds nothing" verified
check "units: systemd-analyze security says at most 1.0" hardened
check "user and folders are made at boot" user_made
check "start: ready when clients can connect" starts
check "stop: clean, and nothing left in /dev/shm" stops
check "socket activation: the first client starts the daemon" activated
check "socket activation: a stopped service comes back with a client" stays_activated
check "a socket of another type is refused in words" wrong_socket
check "a member of the group may use the database, not the files" members
check "another user is refused in words" outsiders
check "a hung daemon is killed and replaced; nothing acknowledged is lost" watchdog
check "kill -9 under load, three times; nothing acknowledged is lost" killed
check "restart under load, three times: reads never fail" restarts
check "reload: what changes, from what to what, and where it says so" reloads
check "reload: a bad file changes nothing" bad_reload
check "a template instance beside it" instance
check "journal: fields; LOG in the directory" fields
check "stop: no process, socket or segment left" all_gone
summary
