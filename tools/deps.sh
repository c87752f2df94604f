#!/bin/sh
# Brings the Debian packages that building and testing shale need. Silent when nothing is missing.
set -eu
packages="gcc make libc6-dev pkg-config liburing-dev libjemalloc-dev libzstd-dev libsnappy-dev libisal-dev
 libinih-dev libsmartcols-dev libjansson-dev check libsubunit-dev libleveldb-dev"

missing=""
for p in $packages; do
	[ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$p" 2>/dev/null | cut -c1-2)" = "ii" ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
	sudo=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
	sudo="sudo"
else
	echo "shale needs Debian packages that are not installed. Run this, then make again:" >&2
	echo "  sudo $install" >&2
	exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -q=2 >&2 || true
# shellcheck disable=SC2086
$sudo $install -q=2 >&2
