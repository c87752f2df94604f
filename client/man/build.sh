#!/bin/sh
# build.sh FOLDER [SHALED]: makes the manual pages in FOLDER/man1, man3, man5, man7, man8: of the tools, the library (with a link for each further function
# that a page names), the configuration (from what SHALED says of it; without it there is none), the daemon. Without scdoc it says so and makes none.
set -eu
root=$(dirname "$0")/../.. out=$1 shaled=${2:-}
if ! command -v scdoc >/dev/null 2>&1; then
	echo "man: scdoc is not installed (make deps-ci brings it): no manual pages" >&2
	exit 0
fi
mkdir -p "$out/man1" "$out/man3" "$out/man5" "$out/man7" "$out/man8"
rm -f "$out"/man[13578]/*
for source in "$root"/client/man/*.3.scd "$root"/tools/man/*.1.scd "$root"/daemon/man/*.[78].scd; do
	page=$(basename "$source" .scd)
	section=${page##*.}
	scdoc <"$source" >"$out/man$section/$page"
	[ "$section" = 3 ] || continue
	# The line after NAME: "a, b, c - what they do".
	for name in $(sed -n '/^# NAME$/{n;n;s/ - .*//;s/,//g;p;q;}' "$source"); do
		[ "$name.3" = "$page" ] || echo ".so man3/$page" >"$out/man3/$name.3"
	done
done
[ -n "$shaled" ] || exit 0
# What follows @settings@ comes from the table in the daemon, so that it never differs: "[section]", "# text", "# Allowed: …", "#name = value".
"$shaled" --explain-config | sed 's/[\\_*<>`]/\\&/g' | awk '
	/^\[/ { gsub(/[][]/, ""); print "# " toupper($0) "\n"; next }
	/^# / { text = text (text == "" ? "" : " ") substr($0, 3); next }
	/^#/ { print "*" substr($1, 2) "* " substr($0, length($1) + 2) "\n\t" text "\n"; text = "" }' >"$out/settings"
sed -e "/^@settings@\$/{r $out/settings" -e 'd;}' "$root/daemon/man/shaled.conf.5.scd.in" | scdoc >"$out/man5/shaled.conf.5"
rm -f "$out/settings"
# So does all of shalectl's page.
shalectl=${shaled%/*}/shalectl
[ ! -x "$shalectl" ] || "$shalectl" help --scdoc | scdoc >"$out/man1/shalectl.1"
