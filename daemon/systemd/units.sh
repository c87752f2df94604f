#!/bin/sh
# units.sh BINDIR FOLDER: makes the units in FOLDER: shaled for the database "default", shaled@NAME for others.
set -eu
source=$(dirname "$0")
# make_unit UNIT DESCRIPTION NAME SOCKET CONFIG
make_unit() {
	for kind in service socket; do
		sed -e '1d' -e "s|@bindir@|$bindir|" -e "s|@unit@|$1|" -e "s|@description@|$2|" -e "s|@name@|$3|g" -e "s|@socket@|$4|" \
			-e "s|@config@|$5|" "$source/shaled.$kind.in" >"$out/$1.$kind"
	done
}
bindir=$1 out=$2
mkdir -p "$out"
make_unit shaled 'shale: one LevelDB database for every process' default shale '--config -/etc/shale/shaled.conf'
make_unit shaled@ 'shale: the LevelDB database %i' %i %i '--config -/etc/shale/shaled.conf --config -/etc/shale/%i.conf'
# In a template the other unit of the same instance is meant.
sed -i 's|^Also=shaled@.socket|Also=shaled@%i.socket|' "$out/shaled@.service"
