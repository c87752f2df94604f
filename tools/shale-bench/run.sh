#!/bin/sh
# make bench: shale beside LevelDB in process, with the same memtable, cache, filter and compression.
# The last column is how many times as many operations a second shale does.
set -eu
bench="$1/shale-bench"
num="${NUM:-1000000}"
echo "$num keys of 16 bytes, values of 100 bytes, 4 MiB memtable, 8 MiB cache, Bloom 10, Snappy; median of 3 rounds"
echo
echo "one client"
"$bench" --num="$num" --rounds=3
echo
echo "two clients (shale: processes; leveldb: threads of one process)"
"$bench" --num="$num" --rounds=3 --procs=2 --benchmarks=fillrandom,fillsync,compact,readrandom
