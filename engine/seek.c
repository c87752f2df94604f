/*
 * seek.c - compaction because of reads: a file that costs them a block in vain too often is merged into the level below.
 *
 * LevelDB's rule: a file may cost max(100, size / 16 KiB) seeks, since one seek takes about as long as compacting 40 KiB. As written it charges
 * every probe that had to go on to a second file, even when a filter had answered for the first; so databases that are only read rewrite
 * themselves for ever. Here
 *	a get charges the first table in which it searched a block in vain, and only if it had to search another one as well;
 *	a scan samples: at a random point of every 2 MiB that it reads (so one of 1 MiB on average) it charges the first of the files
 *	whose range holds the key there, if there are two or more.
 *
 * The service thread counts. What has run out is left in one place, e->seek_file, as a number, because the file may be gone when a worker looks; while that
 * is taken others wait for their next charge.
 *
 * Off unless asked for: the trade of a seek against 40 KiB is that of a disk arm. Where a block comes in tens of microseconds, or from the cache, merging
 * seldom pays it back, and it writes while nobody does. The counters (bytes_read_by_reason, bytes_written_by_reason) say what it costs.
 */
#include "engine/engine_internal.h"

enum { SAMPLE_BYTES = 2 << 20 };

void seek_charge(struct engine *e, struct file_meta *m)
{
	uint64_t none = 0;

	/* Relaxed: this thread alone counts down; whoever sets it anew (seek_next, a move) means from now on. */
	if (atomic_load_explicit(&m->allowed_seeks, memory_order_relaxed) > 1) {
		atomic_fetch_sub_explicit(&m->allowed_seeks, 1, memory_order_relaxed);
		return;
	}
	/* Relaxed: a bare number; what it stands for is looked up under the lock. */
	if (atomic_compare_exchange_strong_explicit(&e->seek_file, &none, m->number, memory_order_relaxed,
						    memory_order_relaxed))
		engine_wake_jobs(e);
}

static bool holds(const struct file_meta *m, struct slice user)
{
	return slice_compare(user, ikey_user(key_buf_slice(&m->smallest))) >= 0 &&
	       slice_compare(user, ikey_user(key_buf_slice(&m->largest))) <= 0;
}

void seek_sample(struct view *v, struct slice ikey)
{
	struct engine *e = v->engine;
	const struct version *version = v->version;
	struct file_meta *first = NULL;
	struct slice user = ikey_user(ikey);
	unsigned files = 0;

	e->sample_random ^= e->sample_random << 13;
	e->sample_random ^= e->sample_random >> 7;
	e->sample_random ^= e->sample_random << 17;
	e->sample_left += (int64_t)(e->sample_random % SAMPLE_BYTES) + 1;
	if (!e->options.seek_compaction)
		return;
	for (unsigned level = 0; level < LEVELS && files < 2; level++) {
		size_t i = level ? version_find_file(version, level, ikey) : 0;
		size_t end = level ? min_size(i + 1, version->count[level]) : version->count[0];

		for (; i < end && files < 2; i++) {
			if (!holds(version->files[level][i], user))
				continue;
			files++;
			first = first ? first : version->files[level][i];
		}
	}
	if (files == 2)
		seek_charge(e, first);
}

struct compaction *seek_next(struct engine *e)
{
	uint64_t number = atomic_load_explicit(&e->seek_file, memory_order_relaxed);
	const struct version *v = e->versions.current;
	struct compaction *c;

	if (!number)
		return NULL;
	for (unsigned level = 0; level < LEVELS - 1; level++) {
		for (size_t i = 0; i < v->count[level]; i++) {
			struct file_meta *m = v->files[level][i];

			if (m->number != number)
				continue;
			c = compact_pick_file(&e->versions, &e->running, level, m, REASON_SEEK);
			if (c) {
				file_meta_allow_seeks(m);
				atomic_store_explicit(&e->seek_file, 0, memory_order_relaxed);
			}
			return c; /* or it waits for what runs */
		}
	}
	atomic_store_explicit(&e->seek_file, 0, memory_order_relaxed); /* compacted for another reason */
	return NULL;
}
