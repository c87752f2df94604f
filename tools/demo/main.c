/*
 * demo - the main job on real input, with things going wrong in the middle.
 *
 *	1. a private shaled on an empty directory, with a small memtable, so that compaction has work
 *	2. four writer processes index every regular file below /usr/include and /usr/share (path → first 4 KiB);
 *	   a fifth process scans snapshots
 *	3. when a third is acknowledged one writer is killed with SIGKILL and started again; at two thirds, the daemon
 *	4. every acknowledged key is read back and compared with its file
 *	5. the daemon ends; stock LevelDB opens the directory and must see exactly the same
 *
 * Exits with 0 only if nothing was lost, changed or left behind.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/park.h"
#include "shm/region.h"
#include "tools/demo/demo.h"
#include "tools/private_daemon.h"

static const char *const standard_roots[] = {"/usr/include", "/usr/share", NULL};

struct demo {
	struct plan *plan;
	struct private_daemon daemon;
	pid_t writer[WRITERS], scanner; /* 0: not running */
	unsigned writer_restarts, daemon_restarts, failures;
	double restart_ms; /* the daemon's, from its death to serving */
	double write_s;
	uint64_t flushes, compactions, moves, bytes_compacted; /* of daemons that ended */
	struct region_stats last;			       /* of the present one */
	struct verdict by_shale, by_stock;
};

static volatile sig_atomic_t interrupted;
static bool on_terminal;

static void on_signal(int sig)
{
	interrupted = sig;
}

void note(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* One call, so that lines of several processes stay whole; it begins by wiping the progress line. */
	fprintf(stderr, "%sdemo: %s\n", on_terminal ? "\r\033[K" : "", text);
	fflush(stderr);
}

static uint64_t total(const struct plan *p, size_t field)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < WRITERS; i++)
		n += tally_get((const _Atomic uint64_t *)((const char *)&p->writer[i] + field));
	return n;
}

#define TOTAL(plan, field) total(plan, offsetof(struct tally, field))

/* ---- processes ---- */

static pid_t start(struct demo *d, int writer)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		note("cannot start a process: %m");
	if (pid)
		return pid < 0 ? 0 : pid;
	signal(SIGINT, SIG_IGN); /* the parent ends its children */
	signal(SIGTERM, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (writer >= 0)
		writer_run(d->plan, (unsigned)writer);
	scanner_run(d->plan);
}

/* Notes which of our processes ended. Returns how many writers run. */
static unsigned reap(struct demo *d)
{
	unsigned running = 0;
	int status;

	for (unsigned i = 0; i <= WRITERS; i++) {
		pid_t *pid = i < WRITERS ? &d->writer[i] : &d->scanner;

		if (*pid && waitpid(*pid, &status, WNOHANG) == *pid) {
			*pid = 0;
			if (status) {
				note("%s ended with status %#x", i < WRITERS ? "a writer" : "the scanner",
				     (unsigned)status);
				d->failures++;
			}
		}
		running += i < WRITERS && *pid;
	}
	return running;
}

static void kill_and_wait(pid_t *pid)
{
	if (*pid) {
		kill(*pid, SIGKILL);
		waitpid(*pid, NULL, 0);
	}
	*pid = 0;
}

static void read_stats(struct demo *d)
{
	char instance[INSTANCE_LEN + 1];
	struct region region;

	if (private_daemon_instance(&d->daemon, instance) < 0 || region_open(&region, instance, NULL) < 0)
		return;
	region_read_stats(&region, &d->last);
	region_close(&region, false);
}

/* What the daemon counted so far goes to the sums: it is about to end. */
static void keep_stats(struct demo *d)
{
	read_stats(d);
	d->flushes += d->last.flushes;
	d->compactions += d->last.compactions;
	d->moves += d->last.trivial_moves;
	d->bytes_compacted += d->last.compaction_bytes_written;
}

static void kill_writer(struct demo *d)
{
	if (!d->writer[1])
		return; /* it was quick */
	kill_and_wait(&d->writer[1]);
	d->writer[1] = start(d, 1);
	d->writer_restarts++;
}

static int kill_daemon(struct demo *d)
{
	struct err_info err = {0};
	uint64_t begin;

	keep_stats(d);
	private_daemon_kill(&d->daemon);
	begin = monotonic_ns();
	if (private_daemon_start(&d->daemon, &err) < 0) {
		note("%s", err.text);
		return -1;
	}
	d->restart_ms = (double)(monotonic_ns() - begin) / 1e6;
	d->daemon_restarts++;
	return 0;
}

/* ---- the steps ---- */

static void progress(const struct demo *d, double seconds)
{
	uint64_t files = TOTAL(d->plan, files), bytes = TOTAL(d->plan, bytes);

	if (!on_terminal)
		return;
	fprintf(stderr, "\r\033[Kdemo: %3.0f%%  %llu of %u files, %.1f MB/s, %llu scans, %u restarts",
		100.0 * (double)files / d->plan->nfiles, (unsigned long long)files, d->plan->nfiles,
		(double)bytes / 1e6 / (seconds > 0 ? seconds : 1), (unsigned long long)tally_get(&d->plan->scans),
		d->writer_restarts + d->daemon_restarts);
	fflush(stderr);
}

/* Writers write, the scanner scans, one of each kind is killed. 0, or -1 after having said why. */
static int write_everything(struct demo *d)
{
	uint64_t begin = monotonic_ns(), files = d->plan->nfiles;
	bool writer_killed = false, daemon_killed = false;

	for (int i = 0; i < WRITERS; i++)
		d->writer[i] = start(d, i);
	d->scanner = start(d, -1);
	while (reap(d) > 0) {
		uint64_t done = TOTAL(d->plan, files);

		if (interrupted || d->failures)
			return -1;
		if (!writer_killed && done * 3 >= files) {
			kill_writer(d);
			writer_killed = true;
		}
		if (!daemon_killed && done * 3 >= files * 2) {
			if (kill_daemon(d) < 0)
				return -1;
			daemon_killed = true;
		}
		progress(d, (double)(monotonic_ns() - begin) / 1e9);
		usleep(2000);
	}
	d->write_s = (double)(monotonic_ns() - begin) / 1e9;
	/* Release: the scanner's last scan begins after all of this. Pairs with the acquire in scanner_run(). */
	atomic_store_explicit(&d->plan->stop, 1, memory_order_release);
	while (d->scanner && !interrupted) {
		reap(d);
		usleep(2000);
	}
	if (!writer_killed || !daemon_killed || !d->writer_restarts) {
		note("too quick: not both a writer and the daemon could be killed in the middle");
		return -1;
	}
	return interrupted || d->failures ? -1 : 0;
}

static int run(struct demo *d)
{
	struct err_info err = {0};
	int left;

	if (private_daemon_start(&d->daemon, &err) < 0) {
		note("%s", err.text);
		return -1;
	}
	if (write_everything(d) < 0)
		return -1;
	progress(d, d->write_s);
	if (verify_shale(d->plan, &d->by_shale) < 0)
		return -1;
	keep_stats(d);
	if (private_daemon_stop(&d->daemon)) {
		note("the daemon did not end cleanly (status %#x)", (unsigned)d->daemon.status);
		return -1;
	}
	left = private_daemon_segments(&d->daemon);
	if (left) {
		note("%d segments of a stopped daemon in /dev/shm", left);
		d->failures++;
	}
	return verify_stock(d->plan, d->daemon.database, &d->by_stock);
}

/* ---- the table ---- */

static void row(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void row(const char *name, const char *fmt, ...)
{
	va_list ap;

	printf("  %-22s ", name);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static uint64_t count_state(const struct plan *p, uint32_t state)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < p->nfiles; i++)
		n += file_state(&p->files[i]) == state;
	return n;
}

static uint64_t mismatches(const struct demo *d)
{
	return d->by_shale.mismatches + d->by_stock.mismatches + tally_get(&d->plan->scan_mismatches) +
	       TOTAL(d->plan, errors);
}

static void print_table(const struct demo *d)
{
	const struct plan *p = d->plan;
	uint64_t files = count_state(p, FILE_ACKNOWLEDGED), bytes = TOTAL(p, bytes);
	unsigned long long excluded = count_state(p, FILE_EXCLUDED);
	char levels[128] = "";

	for (unsigned i = 0, n = 0; i < REGION_LEVELS; i++)
		n += (unsigned)snprintf(levels + n, sizeof(levels) - n, "%s%llu", i ? " " : "",
					(unsigned long long)d->last.level[i].files);
	printf("\n");
	row("files", "%llu, %.1f MB in %.1f s by %d processes", (unsigned long long)files, (double)bytes / 1e6,
	    d->write_s, WRITERS);
	row("rate", "%.0f files/s, %.1f MB/s", (double)files / d->write_s, (double)bytes / 1e6 / d->write_s);
	row("batches", "%llu, of which %llu were written again", (unsigned long long)TOTAL(p, batches),
	    (unsigned long long)TOTAL(p, unknown));
	row("snapshot scans", "%llu, %llu entries; %llu snapshots ended with the daemon",
	    (unsigned long long)tally_get(&p->scans), (unsigned long long)tally_get(&p->scanned_entries),
	    (unsigned long long)tally_get(&p->ousted));
	row("flushes", "%llu", (unsigned long long)d->flushes);
	row("compactions", "%llu, %llu moves, %.1f MB written", (unsigned long long)d->compactions,
	    (unsigned long long)d->moves, (double)d->bytes_compacted / 1e6);
	row("files in levels 0 to 6", "%s", levels);
	row("killed and restarted", "%u writer, %u daemon (serving again after %.0f ms)", d->writer_restarts,
	    d->daemon_restarts, d->restart_ms);
	row("recovered", "%.1f MB of log, %.1f KB of it from shared memory", (double)d->last.recovered_log_bytes / 1e6,
	    (double)d->last.recovered_window_bytes / 1e3);
	row("read back by shaled", "%llu keys", (unsigned long long)d->by_shale.compared);
	row("read by stock LevelDB", "%llu keys", (unsigned long long)d->by_stock.compared);
	if (excluded || d->by_shale.changed || d->by_stock.changed)
		row("files that changed", "%llu vanished, %llu changed meanwhile", excluded,
		    (unsigned long long)(d->by_shale.changed > d->by_stock.changed ? d->by_shale.changed
										   : d->by_stock.changed));
	row("mismatches", "%llu", (unsigned long long)mismatches(d));
}

/* ---- */

static void prepare_daemon(struct demo *d)
{
	static char settings[3][64];
	uint32_t buffer = d->plan->nfiles * 64; /* about a thirtieth of all, at some 2 KiB a file */

	buffer = buffer < 256 << 10 ? 256 << 10 : buffer > 4 << 20 ? 4 << 20 : buffer;
	snprintf(settings[0], sizeof(settings[0]), "engine.write_buffer=%u", buffer);
	snprintf(settings[1], sizeof(settings[1]), "engine.level1_size=%u", 2 * buffer);
	snprintf(settings[2], sizeof(settings[2]), "engine.compression=snappy");
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		private_daemon_arg(&d->daemon, "--set");
		private_daemon_arg(&d->daemon, settings[i]);
	}
	strcpy(d->plan->socket, d->daemon.socket);
	snprintf(d->daemon.log, sizeof(d->daemon.log), "%s/log", d->daemon.scratch);
}

/* On failure the daemon's own words are what one wants to see. */
static void print_log(const struct demo *d)
{
	FILE *f = fopen(d->daemon.log, "r");
	char line[1024];

	while (f && fgets(line, sizeof(line), f))
		fprintf(stderr, "shaled: %s", line);
	if (f)
		fclose(f);
}

int main(int argc, char **argv)
{
	const char *const *roots = argc > 1 ? (const char *const *)argv + 1 : standard_roots;
	struct sigaction action = {.sa_handler = on_signal};
	struct err_info err = {0};
	struct demo d = {0};
	int rc = -1;

	on_terminal = isatty(STDERR_FILENO);
	setvbuf(stderr, NULL, _IOFBF, 4096);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	d.plan = plan_new(roots);
	if (!d.plan || d.plan->nfiles == 0)
		note("no files to index");
	else if (private_daemon_init(&d.daemon, NULL, NULL, &err) < 0)
		note("%s", err.text);
	else {
		prepare_daemon(&d);
		rc = run(&d);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		kill_and_wait(&d.writer[i]);
	kill_and_wait(&d.scanner);
	if (d.plan && d.write_s > 0) {
		if (on_terminal)
			fprintf(stderr, "\r\033[K");
		fflush(stderr);
		print_table(&d);
	}
	if (rc < 0 && !interrupted)
		print_log(&d);
	private_daemon_fini(&d.daemon);
	return rc == 0 && !d.failures && mismatches(&d) == 0 ? 0 : 1;
}
