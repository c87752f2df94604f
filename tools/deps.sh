#!/bin/sh
# Brings Debian packages. deps.sh: those that building and testing shale need; deps.sh ci: also those of the checks that CI runs
# beside them (fuzzers, models, valgrind, real file systems, …); deps.sh bench: the engines to compare with; deps.sh deb: what
# building and trying out the Debian packages takes. Silent when nothing is missing.
set -eu
packages="gcc make libc6-dev pkg-config liburing-dev libjemalloc-dev libzstd-dev libsnappy-dev libisal-dev
 libinih-dev libsystemd-dev libsmartcols-dev libjansson-dev systemtap-sdt-dev check libsubunit-dev libleveldb-dev"
case "${1:-}" in
"") ;;
ci) packages="$packages clang clang-format g++ scdoc mandoc spin valgrind e2fsprogs xfsprogs gcovr systemd systemd-container dbus
 prometheus" ;;
bench) packages="$packages librocksdb-dev liblmdb-dev libhiredis-dev redis-server" ;;
deb) packages="$packages debhelper dpkg-dev po-debconf fakeroot lintian debootstrap scdoc systemd-container" ;;
*) echo "usage: deps.sh [ci|bench|deb]" >&2 && exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
	# shellcheck disable=SC2086
	echo "not a Debian system: make sure that there is an equivalent of:" $packages >&2
	exit 0 # the compiler says what is missing
fi

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
echo "installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# Of prometheus only promtool is wanted: the server that comes along is not to be started, now or at the next boot.
case "$missing " in
*" prometheus "*)
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		trap '$sudo rm -f /usr/sbin/policy-rc.d' EXIT
		printf '#!/bin/sh\nexit 101\n' | $sudo tee /usr/sbin/policy-rc.d >/dev/null
		$sudo chmod 755 /usr/sbin/policy-rc.d
	fi
	no_server=yes
	;;
*) no_server="" ;;
esac
# A failed update is no failure yet: the lists that are there may do.
$sudo apt-get update -q=2 >&2 || true
# shellcheck disable=SC2086
$sudo $install -q=2 >&2
[ -z "$no_server" ] || ! command -v systemctl >/dev/null 2>&1 || $sudo systemctl -q disable prometheus >&2 || true
