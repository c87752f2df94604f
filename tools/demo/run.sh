#!/bin/sh
# make demo: the demo of the build in $1.
set -eu
echo "shale demo: every file below /usr/include and /usr/share, four writers, a scanner, two kills"
exec "$1/demo"
