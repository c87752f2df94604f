#!/bin/sh
# build.sh FOLDER: makes the manual pages in FOLDER/man3, with a link for each further function that a page names. Without scdoc it says so
# and makes none.
set -eu
out=$1/man3
if ! command -v scdoc >/dev/null 2>&1; then
	echo "man: scdoc is not installed (make deps-ci brings it): no manual pages" >&2
	exit 0
fi
mkdir -p "$out"
rm -f "$out"/*.3
for source in "$(dirname "$0")"/*.3.scd; do
	page=$(basename "$source" .3.scd)
	scdoc <"$source" >"$out/$page.3"
	# The line after NAME: "a, b, c - what they do".
	for name in $(sed -n '/^# NAME$/{n;n;s/ - .*//;s/,//g;p;q;}' "$source"); do
		[ "$name" = "$page" ] || echo ".so man3/$page.3" >"$out/$name.3"
	done
done
