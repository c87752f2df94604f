/*
 * log_queue.c - one thread writes what others say.
 *
 * The journal's socket is a datagram socket that blocks while journald does not read; a file blocks while the disk does. So neither is for the service thread. The
 * queue has a fixed number of places, and a brake: so many lines per ten seconds, errors excepted. What it does not take it counts.
 */
#include "daemon/log_queue.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>
#include <time.h>
#include <unistd.h>

#include "shm/base.h"

enum {
	PLACES = 128,
	LINES_PER_WINDOW = 1000,
	FILE_BYTES_MAX = 16 << 20, /* then it becomes LOG.old, too */
	STOP_SECONDS = 2,
};
static const uint64_t WINDOW_NS = UINT64_C(10000000000);

struct line {
	struct log_about about;
	int priority;
	bool journal;
	struct timespec at; /* CLOCK_REALTIME: for people */
	size_t size;
	char text[LOG_LINE_BYTES];
};

static struct {
	pthread_mutex_t lock; /* over what follows up to `thread` */
	pthread_cond_t some;
	struct line *lines; /* PLACES; NULL: there is no thread */
	unsigned first, count;
	unsigned dropped;
	uint64_t window_ns;
	unsigned in_window;
	bool stop;

	pthread_t thread;
	/* the thread's alone */
	char *database_field;
	bool file, journal;
	int dirfd, fd; /* fd -1: no file now */
	size_t file_bytes;
} q = {.lock = PTHREAD_MUTEX_INITIALIZER, .some = PTHREAD_COND_INITIALIZER};

/* `journalctl MESSAGE_ID=…` */
static const char *const message_ids[LOG_EVENTS] = {
	[EVENT_STARTED] = "5b1f3a3f6d5c4f0f9a6be0a6c1f3d001",	[EVENT_STOPPED] = "5b1f3a3f6d5c4f0f9a6be0a6c1f3d002",
	[EVENT_FAILED] = "5b1f3a3f6d5c4f0f9a6be0a6c1f3d003",	[EVENT_RELOADED] = "5b1f3a3f6d5c4f0f9a6be0a6c1f3d004",
	[EVENT_DISK_FULL] = "5b1f3a3f6d5c4f0f9a6be0a6c1f3d005", [EVENT_DISK_ROOM] = "5b1f3a3f6d5c4f0f9a6be0a6c1f3d006",
	[EVENT_FALLBACK] = "5b1f3a3f6d5c4f0f9a6be0a6c1f3d007",
};

/* ---- the file ---- */

/* As LevelDB does it: the last one is kept. Never through a link that somebody put there. */
static void file_begin(void)
{
	if (q.fd >= 0)
		close(q.fd);
	renameat(q.dirfd, "LOG", q.dirfd, "LOG.old");
	q.fd = openat(q.dirfd, "LOG", O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644);
	q.file_bytes = 0;
}

static void to_file(const struct line *l)
{
	static const char *const word[] = {"emergency", "alert",  "critical", "error",
					   "warning",	"notice", "info",     "debug"};
	char text[LOG_LINE_BYTES + 64];
	ssize_t written;
	struct tm tm;
	int n;

	gmtime_r(&l->at.tv_sec, &tm);
	n = snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ %-7s %.*s\n", tm.tm_year + 1900,
		     tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, l->at.tv_nsec / 1000,
		     word[l->priority & 7], (int)l->size, l->text);
	written = write(q.fd, text, (size_t)n); /* a full disk has a line less */
	q.file_bytes += written > 0 ? (size_t)written : 0;
	if (q.file_bytes >= FILE_BYTES_MAX)
		file_begin();
}

/* ---- the journal ---- */

static struct iovec field(const char *text)
{
	return (struct iovec){.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
}

static void to_journal(struct line *l)
{
	char message[LOG_LINE_BYTES + 16], priority[16], id[64], job[48];
	struct iovec v[6];
	int n = 0;

	snprintf(message, sizeof(message), "MESSAGE=%.*s", (int)l->size, l->text);
	snprintf(priority, sizeof(priority), "PRIORITY=%d", l->priority);
	v[n++] = field(message);
	v[n++] = field(priority);
	v[n++] = field("SYSLOG_IDENTIFIER=shaled");
	v[n++] = field(q.database_field);
	if (l->about.event) {
		snprintf(id, sizeof(id), "MESSAGE_ID=%s", message_ids[l->about.event]);
		v[n++] = field(id);
	}
	if (l->about.job) {
		snprintf(job, sizeof(job), "SHALE_JOB=%llu", (unsigned long long)l->about.job);
		v[n++] = field(job);
	}
	sd_journal_sendv(v, n); /* there is nowhere to tell that it failed */
}

/* ---- the thread ---- */

static void tell_loss(unsigned dropped)
{
	struct line l = {.priority = LOG_WARNING, .journal = q.journal};

	clock_gettime(CLOCK_REALTIME, &l.at);
	l.size = (size_t)snprintf(l.text, sizeof(l.text), "%u lines were held back, because too many came", dropped);
	if (q.fd >= 0)
		to_file(&l);
	if (l.journal)
		to_journal(&l);
}

/* Waits for a line. False: it is the end. */
static bool next_line(struct line *out, unsigned *dropped_out)
{
	bool some;

	pthread_mutex_lock(&q.lock);
	while (!q.count && !q.stop)
		pthread_cond_wait(&q.some, &q.lock);
	some = q.count > 0;
	if (some) {
		*out = q.lines[q.first];
		q.first = (q.first + 1) % PLACES;
		q.count--;
	}
	*dropped_out = q.dropped;
	q.dropped = 0;
	pthread_mutex_unlock(&q.lock);
	return some;
}

static void *write_lines(void *arg)
{
	static struct line l; /* large, and one thread's */
	unsigned dropped;
	bool some;

	(void)arg;
	prctl(PR_SET_NAME, "shaled-log");
	do {
		some = next_line(&l, &dropped);
		if (some && q.fd >= 0)
			to_file(&l);
		if (some && l.journal)
			to_journal(&l);
		if (dropped)
			tell_loss(dropped);
	} while (some);
	return NULL;
}

static void release(void)
{
	free(q.lines);
	free(q.database_field);
	q.lines = NULL;
	q.database_field = NULL;
	if (q.fd >= 0)
		close(q.fd);
	if (q.dirfd >= 0)
		close(q.dirfd);
	q.fd = q.dirfd = -1;
}

int log_queue_start(const char *database, int dirfd, bool file, bool journal)
{
	int rc = 0;

	q.fd = q.dirfd = -1;
	q.first = q.count = q.dropped = q.in_window = 0;
	q.stop = false;
	q.journal = journal;
	if (asprintf(&q.database_field, "SHALE_DATABASE=%s", database) < 0)
		q.database_field = NULL;
	q.lines = calloc(PLACES, sizeof(*q.lines));
	if (!q.lines || !q.database_field)
		rc = -ENOMEM;
	if (rc == 0 && file) {
		q.dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
		file_begin();
		rc = q.fd < 0 ? -errno : 0;
	}
	if (rc == 0)
		rc = -pthread_create(&q.thread, NULL, write_lines, NULL);
	if (rc < 0)
		release();
	return rc;
}

void log_queue_stop(void)
{
	struct timespec until;

	if (!q.lines)
		return;
	pthread_mutex_lock(&q.lock);
	q.stop = true;
	pthread_cond_signal(&q.some);
	pthread_mutex_unlock(&q.lock);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_SECONDS;
	/* One that hangs in the journal or the disk ends with the process; what is its stays. */
	if (pthread_timedjoin_np(q.thread, NULL, &until) == 0)
		release();
}

static bool too_many(int priority)
{
	struct timespec now;
	uint64_t now_ns;

	if (priority <= LOG_ERR)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	if (now_ns - q.window_ns >= WINDOW_NS) {
		q.window_ns = now_ns;
		q.in_window = 0;
	}
	return q.in_window++ >= LINES_PER_WINDOW;
}

void log_queue_add(const struct log_about *about, int priority, bool journal, const char *text, size_t size)
{
	pthread_mutex_lock(&q.lock);
	if (!q.lines || q.stop) {
		pthread_mutex_unlock(&q.lock);
		return;
	}
	if (q.count == PLACES || too_many(priority)) {
		q.dropped++;
	} else {
		struct line *l = &q.lines[(q.first + q.count++) % PLACES];

		l->about = *about;
		l->priority = priority;
		l->journal = journal;
		clock_gettime(CLOCK_REALTIME, &l->at);
		l->size = min_size(size, sizeof(l->text));
		memcpy(l->text, text, l->size);
	}
	pthread_cond_signal(&q.some);
	pthread_mutex_unlock(&q.lock);
}
