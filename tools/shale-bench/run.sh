#!/bin/sh
# make bench: every engine that was built in, the same loops, memtable, cache, filter and compression. Leaves results.jsonl, results.md and
# results.svg in build/bench. NUM: keys (1000000); ROUNDS: 3; ENGINES: of shale,engine,leveldb,rocksdb,lmdb,redis. Some 30 minutes.
set -eu
bench="$1/shale-bench"
num="${NUM:-1000000}"
rounds="${ROUNDS:-3}"
out=build/bench
known=$("$bench" --help | sed -n 's/^  --engine=LIST *of \([^;]*\);.*/\1/p' | tr -d ' ')
engines="${ENGINES:-$known}"
mkdir -p "$out"
: >"$out/results.jsonl"

run() {
	echo "$*" >&2
	"$bench" --json --engine="$engines" --num="$num" --rounds="$rounds" "$@" >>"$out/results.jsonl"
}

run --benchmarks=fillseq,fillbatch,fillsync,fill100K,fillrandom,overwrite,readwhilewriting,compact,readrandom,readmissing,readhot,readseq,readreverse,seekrandom,deleterandom
run --procs=2 --benchmarks=fillrandom,fillsync,overwrite,readwhilewriting,compact,readrandom,readhot
run --procs=8 --benchmarks=fillrandom,fillsync,compact,readrandom
run --depth=32 --benchmarks=fillrandom,overwrite,compact,readrandom,readhot
run --benchmarks=fillrandom,compact,ycsba,ycsbb,ycsbc,ycsbd,ycsbe,ycsbf
{
	echo "# $num keys of 16 bytes; memtable 4 MiB, cache 8 MiB, Bloom 10, Snappy; median of $rounds rounds"
	echo
	echo "$(date -u +%Y-%m-%d), $(nproc) cores, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), Linux $(uname -r): \`NUM=$num ROUNDS=$rounds make bench\`."
	echo "Engines in process (engine, leveldb, rocksdb) run their clients as threads, the others as processes. LMDB keeps no log: MDB_NOSYNC, and mdb_env_sync for"
	echo "synced writes. Redis: unix socket, appendonly, appendfsync no (always for synced writes). CPU: client and daemon together."
} >"$out/results.md"
"$bench" --render="$out/results.jsonl" --markdown="$out/tables.md" --svg="$out/results.svg"
cat "$out/tables.md" >>"$out/results.md"
rm "$out/tables.md"
cat "$out/results.md"
