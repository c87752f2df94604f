/*
 * wal_recover.c - completes log files from the window that a killed process left.
 *
 * The window may be anybody's: of another directory, of a machine that has restarted since (then its bytes may be half old), or
 * scribbled over. Writing foreign bytes into a log would destroy what it protects, so everything is checked before
 * the first write, and a doubt means that nothing is written:
 *
 *	1. magic, version, sizes and positions are possible
 *	2. machine boot, directory, and the identity of each log file are those of now
 *	3. the last drained bytes, which are still in the ring, are what the file holds there
 *
 * A log that is gone while a newer one of the window exists was flushed to a table and deleted: nothing of it is needed.
 * Writing is idempotent: a kill in the middle leaves the window as it was.
 */
#include "engine/wal_impl.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/filename.h"
#include "engine/plant.h"
#include "engine/kill_point.h"
#include "shm/error.h"

static const uint64_t POSITION_MAX = UINT64_C(1) << 62;

/* ---- identity ---- */

uint64_t wal_entry_check(uint64_t salt, const struct wal_window_log *entry)
{
	const uint64_t words[] = {entry->number, entry->base, entry->inode};
	uint64_t h = salt ^ UINT64_C(0x9e3779b97f4a7c15);

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		h = (h ^ words[i]) * UINT64_C(0xd6e8feb86659fd93);
		h ^= h >> 32;
	}
	return h;
}

void wal_identity(struct io_env *env, struct wal_identity *out)
{
	struct stat st;
	ssize_t n = 0;
	int fd;

	memset(out, 0, sizeof(*out));
	if (io_env_dirfd(env) >= 0 && !fstat(io_env_dirfd(env), &st)) {
		out->dev = (uint64_t)st.st_dev;
		out->ino = (uint64_t)st.st_ino;
	}
	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, out->boot_id, sizeof(out->boot_id) - 1);
	close(fd);
	out->boot_id[n > 0 ? n : 0] = '\0';
	out->boot_id[strcspn(out->boot_id, "\n")] = '\0';
}

uint64_t wal_file_inode(const struct io_file *file)
{
	struct stat st;

	return file->fd >= 0 && !fstat(file->fd, &st) ? (uint64_t)st.st_ino : 0;
}

/* ---- judging ---- */

/* A log of the window, read once and checked. */
struct lost_log {
	uint64_t number, base, inode;
	uint64_t end;	      /* of what was appended to it */
	struct io_file *file; /* NULL: gone */
};

struct recovery {
	struct io_env *env;
	struct io_queue *q;
	const struct wal_window *window;
	const unsigned char *ring;
	uint64_t ring_size, drained, appended;
	struct lost_log log[WINDOW_LOGS];
	unsigned logs;
	struct wal_recovery *out;
};

__attribute__((format(printf, 2, 3))) static bool doubt(struct recovery *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->out->why, sizeof(r->out->why), fmt, ap);
	va_end(ap);
	r->out->ignored = true;
	return false;
}

/* Check 1. False: nothing to do, or a doubt. Reads each word of the window once. */
static bool header_possible(struct recovery *r, size_t size)
{
	const struct wal_window *win = r->window;
	/* Acquire, here and below: pairs with the releases of the process that was; a kill leaves its stores in their order. */
	uint64_t magic = atomic_load_explicit(&win->magic, memory_order_acquire);

	if (!magic)
		return false;
	if (magic != WINDOW_MAGIC)
		return doubt(r, "its first bytes are not a WAL window's");
	if (win->version != WINDOW_VERSION || win->log_slots != WINDOW_LOGS)
		return doubt(r, "it has version %u; this program knows %u", win->version, WINDOW_VERSION);
	r->ring_size = win->ring_size;
	if (!is_power_of_two(r->ring_size) || r->ring_size < WINDOW_PROOF || r->ring_size > size - WINDOW_PAGE)
		return doubt(r, "its ring of %" PRIu64 " bytes does not fit its memory", r->ring_size);
	r->appended = atomic_load_explicit(&win->appended, memory_order_acquire);
	r->drained = atomic_load_explicit(&win->drained, memory_order_acquire);
	if (r->drained > r->appended || r->appended - r->drained > r->ring_size || r->appended > POSITION_MAX)
		return doubt(r, "its positions are impossible (drained %" PRIu64 ", appended %" PRIu64 ")", r->drained,
			     r->appended);
	return r->drained < r->appended;
}

static int by_base(const void *a, const void *b)
{
	const struct lost_log *x = a, *y = b;

	return (x->base > y->base) - (x->base < y->base);
}

/* Check 1, of the logs: sorted, apart, and numbered upwards. */
static bool logs_possible(struct recovery *r)
{
	for (unsigned i = 0; i < WINDOW_LOGS; i++) {
		const struct wal_window_log *entry = &r->window->log[i];
		uint64_t used = atomic_load_explicit(&entry->used, memory_order_acquire);
		struct lost_log *log = &r->log[r->logs];

		if (!used)
			continue;
		*log = (struct lost_log){
			.number = entry->number,
			.base = entry->base,
			.inode = entry->inode,
			.end = atomic_load_explicit(&entry->end, memory_order_acquire),
		};
		if (used != 1 || entry->check != wal_entry_check(r->window->salt, entry) ||
		    log->base % WAL_BASE_ALIGN || log->base > r->appended || log->end < log->base)
			return doubt(r, "its entry for log %" PRIu64 " is damaged", log->number);
		log->end = log->end < r->appended ? log->end : r->appended;
		r->logs++;
	}
	qsort(r->log, r->logs, sizeof(r->log[0]), by_base);
	for (unsigned i = 0; i + 1 < r->logs; i++)
		if (r->log[i].number >= r->log[i + 1].number || r->log[i].end > r->log[i + 1].base)
			return doubt(r, "its logs %" PRIu64 " and %" PRIu64 " overlap", r->log[i].number,
				     r->log[i + 1].number);
	if (!r->logs)
		return doubt(r, "it names no log");
	return true;
}

/* Check 2, of machine and directory. */
static bool is_ours(struct recovery *r)
{
	const struct wal_window *win = r->window;
	struct wal_identity id;

	wal_identity(r->env, &id);
	if (win->dir_dev != id.dev || win->dir_ino != id.ino)
		return doubt(r, "it belongs to another directory");
	if (!id.boot_id[0])
		return doubt(
			r, "/proc/sys/kernel/random/boot_id cannot be read to tell whether the machine has restarted");
	if (memcmp(win->boot_id, id.boot_id, sizeof(id.boot_id)))
		return doubt(r, "it was made before the machine restarted");
	return true;
}

/* Check 2, of files. 0 fine, 1 a doubt, negative: failure. */
static int open_log(struct recovery *r, struct lost_log *log, bool newest)
{
	char name[FILE_NAME_MAX];
	int rc = io_open(r->env, file_name(name, FILE_LOG, log->number), IO_OPEN_WRITE, &log->file);

	if (rc == -ENOENT && newest)
		return !doubt(r, "its newest log %s does not exist", name);
	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return rc;
	if (wal_file_inode(log->file) != log->inode)
		return !doubt(r, "%s is another file than the one that it was filled for", name);
	return 0;
}

/* Check 3: the bytes before `drained`, as far as they belong to @log, stand in the file. 0, 1 a doubt, negative: failure. */
static int check_proof(struct recovery *r, const struct lost_log *log)
{
	uint64_t from = r->drained > WINDOW_PROOF ? r->drained - WINDOW_PROOF : 0, size;
	unsigned char bytes[WINDOW_PROOF];
	int rc;

	if (!log->file || r->drained <= log->base || r->drained > log->end)
		return 0;
	from = from > log->base ? from : log->base;
	rc = io_size(log->file, &size);
	if (rc < 0)
		return rc;
	if (size < r->drained - log->base)
		return !doubt(r, "log %" PRIu64 " is shorter than what had been written to it", log->number);
	if (size > log->end - log->base)
		return !doubt(r,
			      "log %" PRIu64 " is longer than what had been appended to it: another program wrote it",
			      log->number);
	rc = io_pread(r->q, log->file, bytes, (size_t)(r->drained - from), from - log->base);
	if (rc < 0)
		return rc;
	for (uint64_t at = from; at < r->drained; at++)
		if (bytes[at - from] != r->ring[at & (r->ring_size - 1)])
			return !doubt(r, "log %" PRIu64 " holds other bytes than what had been written to it",
				      log->number);
	return 0;
}

/* ---- writing ---- */

static int complete(struct recovery *r, const struct lost_log *log)
{
	uint64_t at = log->base > r->drained ? log->base : r->drained;
	bool any = log->file && at < log->end;
	int rc;

	while (log->file && at < log->end) {
		uint64_t ring_at = at & (r->ring_size - 1), n = log->end - at;

		n = n < r->ring_size - ring_at ? n : r->ring_size - ring_at;
		if (PLANT("window-wrap") && at != (log->base > r->drained ? log->base : r->drained))
			ring_at += LOG_HEADER;
		rc = io_pwrite(r->q, log->file, r->ring + ring_at, (size_t)n, at - log->base);
		if (rc < 0)
			return rc;
		r->out->bytes += n;
		at += n;
		KILL_POINT("window_written_back");
	}
	return any ? io_fdatasync(r->q, log->file) : 0;
}

static int recover(struct recovery *r, uint64_t *failed_out)
{
	int rc = 0;

	for (unsigned i = r->logs; !rc && i-- > 0;) {
		*failed_out = r->log[i].number;
		rc = open_log(r, &r->log[i], i == r->logs - 1);
	}
	for (unsigned i = 0; !rc && i < r->logs; i++) {
		*failed_out = r->log[i].number;
		rc = check_proof(r, &r->log[i]);
	}
	for (unsigned i = 0; !rc && i < r->logs; i++) {
		*failed_out = r->log[i].number;
		rc = complete(r, &r->log[i]);
	}
	for (unsigned i = 0; i < r->logs; i++)
		io_close(r->log[i].file);
	return rc < 0 ? rc : 0;
}

int wal_window_recover(struct io_env *env, struct io_queue *q, void *memory, size_t size, struct wal_recovery *out,
		       struct err_info *err)
{
	struct recovery r = {.env = env, .q = q, .window = window_of(memory), .ring = ring_of(memory), .out = out};
	char name[FILE_NAME_MAX];
	uint64_t failed = 0;
	int rc;

	memset(out, 0, sizeof(*out));
	if (size < WINDOW_PAGE || !header_possible(&r, size) || !is_ours(&r) || !logs_possible(&r))
		return 0;
	rc = recover(&r, &failed);
	if (rc < 0)
		return err_set(err, rc,
			       "%s cannot be completed from the WAL window: %s. Nothing is lost: remove the cause, "
			       "then start again",
			       file_name(name, FILE_LOG, failed), shale_strerror(rc));
	return 0;
}
