/*
 * engine.c - an engine's life: options, open, close, state, statistics. See engine/README.md for the order to read the rest in.
 */
#include "engine/engine_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

void engine_options_default(struct engine_options *o)
{
	*o = (struct engine_options){
		.write_buffer_bytes = 16 << 20,
		.max_immutables = 2,
		.wal_ring_bytes = 8 << 20,
		.block_cache_bytes = 64 << 20,
		.max_open_tables = 1000,
		.table = {.block_bytes = 4096,
			  .restart_interval = 16,
			  .bloom_bits_per_key = 10,
			  .compression = COMPRESS_SNAPPY,
			  .with_counts = true},
		.levels = {.l0_compaction_trigger = 4,
			   .l0_gather_files = 6,
			   .level1_bytes = 10 << 20,
			   .level_multiplier = 10,
			   .max_file_bytes = 2 << 20,
			   .max_manifest_bytes = 64 << 20,
			   .tombstone_percent = 50},
		.l0_slowdown_trigger = 8,
		.l0_stop_trigger = 12,
		.limits = {.max_key = 64 << 10, .max_value = 64 << 20},
		.max_batch_bytes = (64 << 20) + (128 << 10),
		.create_if_missing = true,
	};
}

/* ---- saying what happens ---- */

void engine_log(struct engine *e, int priority, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	if (!e->host->log)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	e->host->log(e->host, priority, text);
}

void engine_wake_jobs(struct engine *e)
{
	if (e->host->jobs_ready)
		e->host->jobs_ready(e->host);
}

void engine_wake_service(struct engine *e)
{
	if (e->host->progress)
		e->host->progress(e->host);
}

int engine_fail(struct engine *e, int code, const struct err_info *err)
{
	bool first;

	pthread_mutex_lock(&e->lock);
	first = !atomic_load_explicit(&e->failed, memory_order_relaxed);
	if (first) {
		if (err)
			e->error = *err;
		else
			err_set(&e->error, code, "%s", shale_strerror(code));
		atomic_store_explicit(&e->failed, code, memory_order_relaxed);
		engine_wake_service(e);
	}
	pthread_mutex_unlock(&e->lock);
	if (first)
		engine_log(e, PRIORITY_ERROR, "%s. Nothing is written any more; restart to recover", e->error.text);
	return code;
}

bool failure_heals(int code)
{
	switch (code) {
	case -ENOSPC:
	case -EDQUOT:
	case -EFBIG:
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
		return true;
	default:
		return false;
	}
}

void engine_pause(struct engine *e, int code, const struct err_info *err)
{
	/* Whatever lacks space is reported as the one code that callers know to wait for. */
	int shown = code == -EDQUOT || code == -EFBIG ? -ENOSPC : code;
	bool first;

	pthread_mutex_lock(&e->lock);
	first = !atomic_load_explicit(&e->paused, memory_order_relaxed);
	e->error = *err;
	atomic_store_explicit(&e->paused, shown, memory_order_relaxed);
	pthread_mutex_unlock(&e->lock);
	if (first)
		engine_log(e, PRIORITY_WARNING, "%s. Background work waits, and goes on by itself", err->text);
}

int engine_state(struct engine *e, struct err_info *err)
{
	int rc;

	pthread_mutex_lock(&e->lock);
	rc = atomic_load_explicit(&e->failed, memory_order_relaxed);
	if (!rc)
		rc = atomic_load_explicit(&e->paused, memory_order_relaxed);
	if (rc && err) {
		*err = e->error;
		err->code = rc;
	}
	pthread_mutex_unlock(&e->lock);
	return rc;
}

/* ---- open ---- */

static int check_options(const struct engine_options *o, struct err_info *err)
{
	if (o->write_buffer_bytes < 4096 || o->write_buffer_bytes > UINT32_C(1) << 30)
		return err_set(err, -EINVAL, "write_buffer_bytes must be between 4 KiB and 1 GiB");
	if (o->max_immutables < 1 || o->max_immutables > IMMUTABLES_MAX)
		return err_set(err, -EINVAL, "max_immutables must be between 1 and %d", IMMUTABLES_MAX);
	if (!is_power_of_two(o->wal_ring_bytes) || wal_window_size(o->wal_ring_bytes) < WAL_WINDOW_MIN)
		return err_set(err, -EINVAL, "wal_ring_bytes must be a power of two, and at least 256 KiB");
	if (o->l0_stop_trigger < o->levels.l0_compaction_trigger || !o->levels.l0_compaction_trigger)
		return err_set(err, -EINVAL,
			       "l0_stop_trigger must not be below l0_compaction_trigger, which must not be 0");
	return 0;
}

static void table_obsolete(void *context, struct file_meta *meta)
{
	struct engine *e = context;

	obsolete_add(e, FILE_TABLE, meta->number);
	file_meta_free(meta);
	engine_wake_jobs(e); /* the last reference may have been a reader's */
}

static int window_take(struct engine *e, struct err_info *err)
{
	size_t size = wal_window_size(e->options.wal_ring_bytes);

	if (e->host->window) {
		if (e->host->window_size < size)
			return err_set(err, -EINVAL, "the WAL window has %zu bytes, a ring of %zu needs %zu",
				       e->host->window_size, e->options.wal_ring_bytes, size);
		e->window = e->host->window;
		e->window_size = size;
		return 0;
	}
	e->own_window = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (e->own_window == MAP_FAILED) {
		e->own_window = NULL;
		return err_set(err, -ENOMEM, "no memory for the WAL window");
	}
	e->window = e->own_window;
	e->window_size = size;
	return 0;
}

static int make_parts(struct engine *e, struct err_info *err)
{
	int rc = version_set_init(&e->versions, e->env, &e->lock, &e->options.levels, table_obsolete, e);

	if (rc == 0)
		rc = table_cache_new(e->options.max_open_tables, &e->shared.tables);
	if (rc == 0)
		rc = block_cache_new(e->options.block_cache_bytes, &e->shared.blocks);
	if (rc < 0)
		return err_set(err, rc, "no memory for an engine");
	e->shared.env = e->env;
	e->shared.queue = e->queue;
	return window_take(e, err);
}

/* Everything is recovered: the WAL, the first memtable, the first view. Takes @log. */
static int start(struct engine *e, struct wal_log *log, struct err_info *err)
{
	uint64_t number = log->number;
	int rc = wal_open(e->env, e->queue, e->window, e->window_size, &e->wal, err);

	if (rc < 0) {
		wal_log_forget(log); /* the MANIFEST names it: the next open wants to see it */
		return rc;
	}
	rc = wal_switch(e->wal, log);
	if (rc < 0) {
		wal_log_forget(log);
		return err_set(err, rc, "beginning the log: %s", shale_strerror(rc));
	}
	rc = memtable_new(e->memory, memtable_arena(&e->options), number, &e->mem);
	e->view = rc == 0 ? view_alloc(e) : NULL;
	if (!e->view)
		return err_set(err, rc < 0 ? rc : -ENOMEM, "no memory for a memtable of %zu bytes",
			       memtable_arena(&e->options));
	e->mem_ordinal = 1;
	pthread_mutex_lock(&e->lock);
	e->manifest_seen = e->versions.manifest_number;
	e->versions.tables_sequence = engine_last_sequence(e); /* all logs are replayed */
	version_installed(e);
	view_fill(e->view);
	engine_wake_jobs(e);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

static int open_in(struct engine *e, struct engine_recovery *r, struct err_info *err)
{
	struct wal_log *log = NULL;
	int rc = io_lock(e->env, "LOCK", err);

	if (rc == 0)
		rc = make_parts(e, err);
	if (rc == 0)
		rc = engine_recover(e, e->queue, r, &log, err);
	if (rc == 0)
		rc = start(e, log, err);
	return rc;
}

int engine_open(struct io_env *env, struct io_queue *queue, const struct engine_options *options,
		struct engine_host *host, struct engine_recovery *recovery_out, struct engine **out,
		struct err_info *err)
{
	struct engine_recovery recovery = {0};
	uint64_t begin = io_now_ns(env);
	struct engine *e;
	int rc = check_options(options, err);

	if (rc < 0)
		return rc;
	e = calloc(1, sizeof(*e));
	if (!e)
		return err_set(err, -ENOMEM, "no memory for an engine");
	e->env = env;
	e->queue = queue;
	e->host = host;
	e->memory = host->memory ? host->memory : &memory_provider_anonymous;
	e->options = *options;
	/* Writers must not be slowed down while files gather, nor by the two that come while the others are merged. */
	if (e->options.levels.l0_gather_files + 2 > options->l0_slowdown_trigger)
		e->options.levels.l0_gather_files =
			options->l0_slowdown_trigger > 2 ? options->l0_slowdown_trigger - 2 : 0;
	if (e->options.levels.l0_gather_files) /* a table takes less than its memtable, which has pointers */
		e->options.levels.l0_file_bytes = e->options.write_buffer_bytes / 6 * 5;
	atomic_store_explicit(&e->background_rate, options->background_rate, memory_order_relaxed);
	e->sample_random = 1;
	e->sample_left = 1 << 20;
	pthread_mutex_init(&e->lock, NULL);
	rc = open_in(e, &recovery, err);
	if (rc < 0) {
		wal_abandon(e->wal);
		engine_destroy(e);
		return rc;
	}
	recovery.micros = (io_now_ns(env) - begin) / 1000;
	if (recovery_out)
		*recovery_out = recovery;
	*out = e;
	return 0;
}

/* ---- close ---- */

void engine_destroy(struct engine *e)
{
	assert(e->stats.jobs_running == 0);
	pthread_mutex_lock(&e->lock);
	quarantine_clear(e);
	manual_free_all(e);
	errands_free(e);
	pthread_mutex_unlock(&e->lock);
	view_unref(e->view);
	memtable_unref(e->mem);
	memtable_unref(e->next_mem);
	for (unsigned i = 0; i < e->immutable_count; i++)
		memtable_unref(e->immutables[i].mem);
	if (e->versions.env)
		version_set_fini(&e->versions);
	table_cache_free(e->shared.tables);
	block_cache_free(e->shared.blocks);
	if (e->own_window)
		munmap(e->own_window, e->window_size);
	free(e->scratch);
	free(e->large.copy);
	free(e->snapshots);
	free(e->obsolete);
	for (unsigned i = 0; i < e->closing_count; i++)
		io_close(e->closing[i]);
	for (unsigned i = 0; i < e->gone_count; i++)
		memtable_free(e->gone[i]);
	free(e->pending);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

int engine_close(struct engine *e)
{
	int unfinished = large_finish(e), rc = wal_close(e->wal);

	rc = rc ? rc : unfinished;
	if (rc == 0 && !atomic_load_explicit(&e->failed, memory_order_relaxed)) {
		wal_log_discard(e->env, e->next_log);
		e->next_log = NULL;
		obsolete_remove(e, e->obsolete, e->obsolete_count);
	} else {
		wal_log_forget(e->next_log);
	}
	engine_destroy(e);
	return rc;
}

void engine_abandon(struct engine *e)
{
	wal_abandon(e->wal);
	wal_log_forget(e->next_log);
	engine_destroy(e);
}

/* ---- looking ---- */

static void fill_levels(const struct engine *e, struct engine_stats *out)
{
	const struct version *v = e->versions.current;
	uint64_t largest_run = 0;

	for (unsigned level = 0; level < LEVELS; level++) {
		struct engine_level_stats *l = &out->level[level];

		l->files = v->count[level];
		l->bytes = v->bytes[level];
		l->score = v->score[level];
		l->dead_bytes = v->dead_bytes[level];
		l->target_bytes = level ? level_target(&e->options.levels, level) : 0;
		out->live_files += v->count[level];
		out->live_bytes += v->bytes[level];
		if (level && v->bytes[level] > largest_run)
			largest_run = v->bytes[level];
		/* The last level has no target: nothing lies below it. Level 0 goes down as a whole. */
		if (level && level < LEVELS - 1 && v->bytes[level] > l->target_bytes)
			out->debt_bytes += v->bytes[level] - l->target_bytes;
		else if (!level && v->score[0] >= 1)
			out->debt_bytes += v->bytes[0];
	}
	for (size_t i = 0; i < v->count[0]; i++) {
		if (v->files[0][i]->size > largest_run)
			largest_run = v->files[0][i]->size;
	}
	out->space_amplification = largest_run ? (double)out->live_bytes / (double)largest_run : 0;
	if (out->flush_bytes)
		out->write_amplification =
			(double)(out->flush_bytes + out->compaction_bytes_written) / (double)out->flush_bytes;
}

static void fill_busy(const struct engine *e, struct engine_stats *out)
{
	for (const struct job_note *n = e->jobs.running; n; n = n->next) {
		const struct job_record *r = &n->record;

		for (unsigned which = 0; r->kind == JOB_COMPACT && which < 2; which++) {
			struct engine_level_stats *l = &out->level[which ? r->output_level : r->level];

			l->busy_files += r->files[which];
			l->busy_bytes += r->bytes[which];
		}
		/* One piece at a time is worked on. */
		if (r->kind == JOB_COMPACT && r->reason == REASON_MANUAL)
			out->manual.bytes_done += job_note_progress(n);
	}
}

void engine_stats(struct engine *e, struct engine_stats *out)
{
	struct engine_stats s;

	pthread_mutex_lock(&e->lock);
	s = e->stats;
	fill_levels(e, &s);
	manual_stats(e, &s.manual);
	fill_busy(e, &s);
	for (const struct version *v = e->versions.versions.next; v != &e->versions.versions; v = v->next)
		s.live_versions++;
	s.memtable_bytes = memtable_used(e->mem);
	for (unsigned i = 0; i < e->immutable_count; i++)
		s.memtable_bytes += memtable_used(e->immutables[i].mem);
	s.immutables = e->immutable_count;
	s.snapshots = e->snapshot_count;
	s.obsolete_waiting = e->obsolete_count;
	s.manifest_number = e->versions.manifest_number;
	pthread_mutex_unlock(&e->lock);
	s.last_sequence = engine_last_sequence(e);
	s.wal_bytes = wal_log_bytes(e->wal);
	s.wal_syncs = wal_syncs(e->wal);
	s.wal_appended = wal_appended(e->wal);
	s.wal_drained = wal_drained(e->wal);
	s.wal_synced = wal_synced(e->wal);
	s.wal_ring = wal_ring_size(e->wal);
	s.wal_sync_times = *wal_sync_times(e->wal);
	s.log_number = wal_log_number(e->wal);
	s.tables_open = table_cache_count(e->shared.tables);
	block_cache_stats(e->shared.blocks, &s.cache);
	*out = s;
}

struct read_shared *engine_read_shared(struct engine *e)
{
	return &e->shared;
}

static int check_memtable(struct memtable *mem, struct err_info *err)
{
	struct key_buf before = {0};
	struct iter *it;
	int rc = memtable_iter_new(mem, &it);

	if (rc < 0)
		return err_set(err, rc, "no memory to check a memtable");
	for (iter_seek_first(it); rc == 0 && it->valid; iter_next(it)) {
		if (!ikey_valid(it->key))
			rc = err_set(err, -SHALE_ECORRUPT, "a memtable holds a key that is no internal key");
		else if (before.size && ikey_compare(key_buf_slice(&before), it->key) >= 0)
			rc = err_set(err, -SHALE_ECORRUPT, "a memtable is out of order at sequence %llu",
				     (unsigned long long)ikey_sequence(it->key));
		else
			rc = key_buf_set(&before, it->key);
	}
	iter_free(it);
	key_buf_fini(&before);
	return rc;
}

int engine_check(struct engine *e, struct err_info *err)
{
	struct view *v = engine_view(e);
	int rc = version_check(v->version, err);

	if (rc == 0)
		rc = check_memtable(v->mem, err);
	for (unsigned i = 0; rc == 0 && i < v->immutable_count; i++)
		rc = check_memtable(v->immutables[i], err);
	view_unref(v);
	return rc;
}
