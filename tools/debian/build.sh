#!/bin/sh
# build.sh FOLDER: builds the Debian packages into FOLDER, from an export of the tracked files (without git: of all but build/) in FOLDER/source.
# The folder of this script becomes debian/ there. Tests are run only with DEB_BUILD_OPTIONS that lacks nocheck: make check is their place.
set -eu
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
for tool in dpkg-buildpackage dh fakeroot; do
	command -v $tool >/dev/null 2>&1 || { echo "deb: there is no $tool; tools/deps.sh deb brings it" >&2 && exit 1; }
done

rm -rf "$out/source"
rm -f "$out"/*.deb "$out"/*.changes "$out"/*.buildinfo
mkdir "$out/source"
if git rev-parse --git-dir >/dev/null 2>&1; then
	# A file that is tracked and gone is about to be removed.
	git ls-files | while IFS= read -r f; do [ ! -e "$f" ] || printf '%s\n' "$f"; done | tar --no-recursion -cf - -T -
else
	tar -cf - --exclude=./build .
fi | tar -xf - -C "$out/source"
cp -r tools/debian "$out/source/debian"
cd "$out/source"
rm debian/build.sh

# The version is the header's. A release that the changelog does not know yet gets an entry in the export.
version=$(sed -n 's/^#define SHALE_VERSION "\(.*\)"/\1/p' client/shale.h)
if [ "$(dpkg-parsechangelog -S Version)" != "$version" ]; then
	{
		printf 'shale (%s) unstable; urgency=medium\n\n  * New release.\n\n' "$version"
		printf ' -- %s  %s\n\n' "$(dpkg-parsechangelog -S Maintainer)" "$(date -R -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}")"
		cat debian/changelog
	} >debian/changelog.new
	mv debian/changelog.new debian/changelog
fi

# What make was told for its own build does not concern this one.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL BUILD OUT CC CFLAGS LDFLAGS
DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS-nocheck} parallel=$(nproc)"
export DEB_BUILD_OPTIONS
if ! dpkg-buildpackage -us -uc -b >"$out/build.log" 2>&1; then
	tail -40 "$out/build.log" >&2
	echo "deb: failed; all of it is in $out/build.log" >&2
	exit 1
fi
ls "$out"/*.deb
