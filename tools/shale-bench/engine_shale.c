#include <stdlib.h>
#include <unistd.h>

#include "client/shale.h"
#include "shm/error.h"
#include "shm/region.h"
#include "tools/private_daemon.h"
#include "tools/shale-bench/bench.h"

struct session {
	struct shale_db *db;
	struct shale_batch *batch;
	struct shale_iter *it;
	struct shale_queue *queue; /* made when it is first needed */
	char *buf;
	size_t cap;
};

static struct private_daemon daemon_;
static char settings[5][64];
static uint64_t peak_l0, peak_rss_kib;

static int failed(int rc)
{
	const char *story = shale_last_error(NULL);

	fprintf(stderr, "shale-bench: shale: %s\n", *story ? story : shale_strerror(rc));
	return rc;
}

static int start(const struct bench_options *o, const char *database)
{
	struct err_info err = {0};
	int rc = private_daemon_init(&daemon_, NULL, database, &err);
	uint64_t row_bytes = 64 << 10;

	while (row_bytes * 2 <= o->cache_bytes / 8)
		row_bytes *= 2;

	snprintf(settings[0], 64, "engine.write_buffer=%llu", (unsigned long long)o->write_buffer_bytes);
	/* The same memory as the others' one cache: an eighth of it, or the power of two below, for rows. */
	snprintf(settings[1], 64, "engine.block_cache=%llu", (unsigned long long)(o->cache_bytes - row_bytes));
	snprintf(settings[4], 64, "service.row_cache=%llu", (unsigned long long)row_bytes);
	snprintf(settings[2], 64, "engine.bloom_bits=%llu", (unsigned long long)o->bloom_bits);
	snprintf(settings[3], 64, "engine.compression=%s", o->compress ? "snappy" : "none");
	for (unsigned i = 0; i < ARRAY_SIZE(settings); i++) {
		private_daemon_arg(&daemon_, "--set");
		private_daemon_arg(&daemon_, settings[i]);
	}
	snprintf(daemon_.log, sizeof(daemon_.log), "%s/log", daemon_.scratch);
	if (rc == 0)
		rc = private_daemon_start(&daemon_, &err);
	if (rc < 0)
		fprintf(stderr, "shale-bench: %s\n", err.text);
	peak_l0 = peak_rss_kib = 0;
	return rc;
}

static int stop(void)
{
	int status = private_daemon_stop(&daemon_);

	if (status)
		fprintf(stderr, "shale-bench: shaled ended with status %#x\n", (unsigned)status);
	private_daemon_fini(&daemon_);
	return status ? -1 : 0;
}

/* The daemon's private and shared pages: what it has touched. */
static uint64_t resident_kib(pid_t pid)
{
	unsigned long long kib = 0;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmRSS: %llu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static int read_stats(struct region_stats *out)
{
	char instance[INSTANCE_LEN + 1];
	struct region region;
	int rc = private_daemon_instance(&daemon_, instance);

	if (rc == 0)
		rc = region_open(&region, instance, NULL);
	if (rc < 0)
		return rc;
	rc = region_read_stats(&region, out);
	region_close(&region, false);
	return rc;
}

static void sample(void)
{
	uint64_t rss = resident_kib(daemon_.pid);
	struct region_stats stats;

	if (rss > peak_rss_kib)
		peak_rss_kib = rss;
	if (read_stats(&stats) == 0 && stats.level[0].files > peak_l0)
		peak_l0 = stats.level[0].files;
}

static int tables_written(uint64_t *out)
{
	struct region_stats stats;
	int rc = read_stats(&stats);

	if (rc == 0)
		*out = stats.flush_bytes + stats.compaction_bytes_written;
	return rc;
}

static void report(FILE *out)
{
	struct region_stats stats;

	fprintf(out, "shale: at most %llu files in level 0, %.1f MiB resident in the daemon\n",
		(unsigned long long)peak_l0, (double)peak_rss_kib / 1024);
	if (read_stats(&stats) == 0)
		fprintf(out,
			"shale: writes waited for level 0 %.3f s, a free memtable %.3f s, a log %.3f s, pacing %.3f "
			"s\n",
			(double)stats.stall_l0_us / 1e6, (double)stats.stall_memtable_us / 1e6,
			(double)stats.stall_log_us / 1e6, (double)stats.stall_slowdown_us / 1e6);
}

static void close_session(void *p)
{
	struct session *s = p;

	shale_batch_free(s->batch);
	shale_queue_close(s->queue);
	shale_close(s->db);
	free(s->buf);
	free(s);
}

static pid_t server_pid(void)
{
	return daemon_.pid;
}

static void *open_session(void)
{
	struct session *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return NULL;
	s->cap = 64 << 10;
	s->buf = malloc(s->cap);
	s->batch = shale_batch_new();
	rc = s->buf && s->batch ? shale_open(daemon_.socket, NULL, &s->db) : -ENOMEM;
	if (rc == 0)
		return s;
	failed(rc);
	close_session(s);
	return NULL;
}

static int put(void *p, struct slice key, struct slice value, bool sync)
{
	static const struct shale_write_options synced = {.struct_size = sizeof(synced), .sync = 1};
	struct session *s = p;

	return shale_put(s->db, sync ? &synced : NULL, key.data, key.size, value.data, value.size);
}

static int del(void *p, struct slice key)
{
	return shale_delete(((struct session *)p)->db, NULL, key.data, key.size);
}

static int batch_put(void *p, struct slice key, struct slice value)
{
	struct session *s = p;

	return shale_batch_put(s->batch, key.data, key.size, value.data, value.size);
}

static int batch_commit(void *p)
{
	struct session *s = p;
	int rc = shale_write(s->db, NULL, s->batch, NULL);

	shale_batch_clear(s->batch);
	return rc;
}

static int get(void *p, struct slice key)
{
	struct session *s = p;
	size_t len;

	return shale_get(s->db, NULL, key.data, key.size, s->buf, s->cap, &len);
}

static int nop(void *p)
{
	return shale_ping(((struct session *)p)->db);
}

/* ---- several in flight ---- */

static int need_queue(struct session *s)
{
	return s->queue ? 0 : shale_queue_open(s->db, NULL, &s->queue);
}

static int submit_get(void *p, struct slice key)
{
	struct session *s = p;
	int rc = need_queue(s);

	/* All values go to the same place, one after the other: nobody looks at them. */
	return rc < 0 ? rc : shale_submit_get(s->queue, NULL, key.data, key.size, s->buf, s->cap, NULL);
}

static int submit_put(void *p, struct slice key, struct slice value)
{
	struct session *s = p;
	int rc = need_queue(s);

	return rc < 0 ? rc : shale_submit_put(s->queue, NULL, key.data, key.size, value.data, value.size, NULL);
}

static int reap(void *p, unsigned left, uint64_t *ended, uint64_t *found)
{
	struct session *s = p;

	while (s->queue && shale_queue_pending(s->queue) > left) {
		struct shale_completion done[64];
		int n = shale_wait(s->queue, done, ARRAY_SIZE(done), UINT64_MAX);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			if (done[i].result < 0)
				return done[i].result;
			*found += done[i].result == 0;
		}
		*ended += (uint64_t)n;
	}
	return 0;
}

static int compact(void *p)
{
	return shale_compact_range(((struct session *)p)->db, NULL, 0, NULL, 0);
}

static int cursor_open(void *p, bool fill_cache)
{
	struct shale_read_options options = SHALE_READ_OPTIONS_INIT;
	struct session *s = p;

	options.no_fill_cache = !fill_cache;
	return shale_iter_open(s->db, &options, &s->it);
}

static void cursor_first(void *p)
{
	shale_iter_seek_first(((struct session *)p)->it);
}

static void cursor_last(void *p)
{
	shale_iter_seek_last(((struct session *)p)->it);
}

static void cursor_seek(void *p, struct slice key)
{
	shale_iter_seek(((struct session *)p)->it, key.data, key.size);
}

static void cursor_next(void *p)
{
	shale_iter_next(((struct session *)p)->it);
}

static void cursor_prev(void *p)
{
	shale_iter_prev(((struct session *)p)->it);
}

static bool cursor_valid(void *p)
{
	return shale_iter_valid(((struct session *)p)->it);
}

static struct slice cursor_key(void *p)
{
	struct slice k;

	k.data = shale_iter_key(((struct session *)p)->it, &k.size);
	return k;
}

static struct slice cursor_value(void *p)
{
	struct slice v;

	v.data = shale_iter_value(((struct session *)p)->it, &v.size);
	return v;
}

static int cursor_close(void *p)
{
	struct session *s = p;
	int rc = shale_iter_error(s->it);

	shale_iter_close(s->it);
	s->it = NULL;
	return rc;
}

const struct driver shale_driver = {
	.name = "shale",
	.by_process = true,
	.start = start,
	.stop = stop,
	.sample = sample,
	.report = report,
	.tables_written = tables_written,
	.tables_written_how = "bytes of flushes and compactions in the stats page",
	.server_pid = server_pid,
	.open = open_session,
	.close = close_session,
	.put = put,
	.del = del,
	.batch_put = batch_put,
	.batch_commit = batch_commit,
	.get = get,
	.nop = nop,
	.submit_get = submit_get,
	.submit_put = submit_put,
	.reap = reap,
	.compact = compact,
	.cursor_open = cursor_open,
	.cursor_first = cursor_first,
	.cursor_last = cursor_last,
	.cursor_seek = cursor_seek,
	.cursor_next = cursor_next,
	.cursor_prev = cursor_prev,
	.cursor_valid = cursor_valid,
	.cursor_key = cursor_key,
	.cursor_value = cursor_value,
	.cursor_close = cursor_close,
};
