#include "tests/proc/proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <leveldb/c.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

const char *proc_build(void)
{
	static char self[512];
	const char *given = getenv("SHALE_BUILD");
	ssize_t n;

	if (given && *given)
		return given;
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	ck_assert_int_gt(n, 0);
	self[n] = 0;
	for (int up = 0; up < 3; up++) /* <build>/tests/proc/test_x */
		*strrchr(self, '/') = 0;
	return self;
}

void proc_init(struct private_daemon *d, const char *database, ...)
{
	struct err_info err = {0};
	const char *setting;
	va_list ap;

	ck_assert_msg(private_daemon_init(d, proc_build(), database, &err) == 0, "%s", err.text);
	va_start(ap, database);
	while ((setting = va_arg(ap, const char *))) {
		private_daemon_arg(d, "--set");
		private_daemon_arg(d, setting);
	}
	va_end(ap);
	snprintf(d->log, sizeof(d->log), "%s/log", d->scratch);
}

void proc_begin(struct private_daemon *d)
{
	proc_init(d, NULL, NULL);
	proc_start(d);
}

const char *proc_log_tail(const struct private_daemon *d)
{
	static char text[4096];
	int fd = open(d->log, O_RDONLY);
	off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
	ssize_t n = fd >= 0 ? pread(fd, text, sizeof(text) - 1, size > 3000 ? size - 3000 : 0) : 0;

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	return text;
}

double proc_start(struct private_daemon *d)
{
	struct err_info err = {0};
	uint64_t begin = monotonic_ns();

	ck_assert_msg(private_daemon_start(d, &err) == 0, "%s\n%s", err.text, proc_log_tail(d));
	return (double)(monotonic_ns() - begin) / 1e6;
}

void proc_stop(struct private_daemon *d)
{
	int status;

	ck_assert_msg(d->pid != 0, "the daemon does not run");
	status = private_daemon_stop(d);
	ck_assert_msg(status == 0, "the daemon ended with status %#x\n%s", (unsigned)status, proc_log_tail(d));
	ck_assert_int_eq(private_daemon_segments(d), 0);
}

int proc_refused(struct private_daemon *d, char *text, size_t cap)
{
	struct err_info err = {0};

	unlink(d->log);
	ck_assert_int_eq(private_daemon_spawn(d, &err), 0);
	for (int i = 0; i < 1000 * PATIENCE; i++) {
		if (waitpid(d->pid, &d->status, WNOHANG) == d->pid) {
			d->pid = 0;
			snprintf(text, cap, "%s", proc_log_tail(d));
			ck_assert_msg(WIFEXITED(d->status), "ended by signal %d\n%s", WTERMSIG(d->status), text);
			return WEXITSTATUS(d->status);
		}
		usleep(10000);
	}
	ck_abort_msg("the daemon runs, although it should have refused to start\n%s", proc_log_tail(d));
}

struct shale_db *proc_open(const struct private_daemon *d)
{
	struct shale_db *db;
	int rc = shale_open(d->socket, NULL, &db);

	ck_assert_msg(rc == 0, "open: %s\n%s", shale_last_error(NULL), proc_log_tail(d));
	return db;
}

/* How often thread @pid gave up its core; 0 while it wants one. (The service is its daemon's first thread.) */
static unsigned long long slept(pid_t pid)
{
	unsigned long long given = 0, taken = 0;
	char path[64], line[128], state = 'X';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		sscanf(line, "State: %c", &state);
		sscanf(line, "voluntary_ctxt_switches: %llu", &given);
		sscanf(line, "nonvoluntary_ctxt_switches: %llu", &taken);
	}
	if (f)
		fclose(f);
	return state == 'R' || state == 'D' ? 0 : 1 + given + taken;
}

/* Of all its threads; 0 while one wants a core. */
static unsigned long long all_slept(pid_t pid)
{
	unsigned long long sum = 0, one = 1;
	struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && one && (entry = readdir(dir)))
		if (entry->d_name[0] != '.') {
			one = slept((pid_t)atoi(entry->d_name));
			sum += one;
		}
	if (dir)
		closedir(dir);
	return one ? sum : 0;
}

void proc_await_sleep(pid_t pid)
{
	unsigned long long before = all_slept(pid), now;

	for (int i = 0; i < 1000 * PATIENCE; i++, before = now) {
		usleep(20000);
		now = all_slept(pid);
		if (now && now == before)
			return;
	}
	ck_abort_msg("process %d does not sleep", (int)pid);
}

/*
 * A daemon with work publishes ten times a second, one that goes to sleep 2 ms later at most: so either a page comes that is younger than the call,
 * or the daemon slept all the time between two looks and the page that it left is read after the second. However slow the machine is.
 */
struct region_stats proc_stats(const struct private_daemon *d)
{
	uint64_t asked = monotonic_ns(), until = asked + UINT64_C(10000000000) * PATIENCE;
	unsigned long long before = slept(d->pid), now;
	char instance[INSTANCE_LEN + 1];
	struct region_stats stats;
	struct region region;

	ck_ok(private_daemon_instance(d, instance));
	ck_ok(region_open(&region, instance, NULL));
	for (;;) {
		usleep(20000);
		now = slept(d->pid);
		ck_ok(region_read_stats(&region, &stats));
		if (stats.published_monotonic_ns >= asked || monotonic_ns() > until ||
		    (now && now == before && !stats.jobs_running))
			break;
		before = now;
	}
	region_close(&region, false);
	return stats;
}

pid_t proc_fork(int (*fn)(void *arg), void *arg)
{
	pid_t parent = getpid(), pid;

	fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	_exit(fn(arg));
}

int proc_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		ck_assert_int_eq(errno, EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

unsigned proc_fds(pid_t pid)
{
	char path[64];
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

int proc_shell(char *out, size_t cap, const char *fmt, ...)
{
	char command[4096];
	size_t used = 0, n;
	va_list ap;
	FILE *f;
	int status;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	f = popen(command, "r");
	ck_assert_ptr_nonnull(f);
	while ((n = fread(out + used, 1, cap - 1 - used, f)) > 0)
		used += n;
	out[used] = 0;
	status = pclose(f);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void *proc_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	return p;
}

void proc_put(struct shale_db *db, const char *key, const char *value)
{
	int rc = shale_put(db, NULL, key, strlen(key), value, strlen(value));

	ck_assert_msg(rc == 0, "put %s: %s", key, shale_last_error(db));
}

const char *proc_get(struct shale_db *db, const char *key)
{
	static char buf[4096];
	size_t len;
	int rc = shale_get(db, NULL, key, strlen(key), buf, sizeof(buf) - 1, &len);

	if (rc == SHALE_NOTFOUND)
		return NULL;
	ck_assert_msg(rc == 0, "get %s: %s", key, shale_last_error(db));
	ck_assert_uint_lt(len, sizeof(buf));
	buf[len] = 0;
	return buf;
}

void stock_fill(const char *path, int n, int first, bool snappy, int bloom_bits)
{
	leveldb_options_t *options = leveldb_options_create();
	leveldb_writeoptions_t *write = leveldb_writeoptions_create();
	leveldb_filterpolicy_t *filter = bloom_bits ? leveldb_filterpolicy_create_bloom(bloom_bits) : NULL;
	char *error = NULL, key[32], value[64];
	leveldb_t *db;

	leveldb_options_set_create_if_missing(options, 1);
	leveldb_options_set_write_buffer_size(options, 64 << 10);
	leveldb_options_set_compression(options, snappy ? leveldb_snappy_compression : leveldb_no_compression);
	leveldb_options_set_filter_policy(options, filter);
	db = leveldb_open(options, path, &error);
	ck_assert_msg(!error, "stock open: %s", error);
	for (int i = first; i < first + n; i++) {
		int kn = snprintf(key, sizeof(key), "key%06d", i), vn = snprintf(value, sizeof(value), "value%d", i);

		leveldb_put(db, write, key, (size_t)kn, value, (size_t)vn, &error);
		if (i % 7 == 0)
			leveldb_delete(db, write, key, (size_t)kn, &error);
		ck_assert_msg(!error, "stock write: %s", error);
	}
	leveldb_close(db);
	leveldb_options_destroy(options);
	leveldb_writeoptions_destroy(write);
	if (filter)
		leveldb_filterpolicy_destroy(filter);
}
