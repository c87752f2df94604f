/*
 * shale-fairness - what a client that floods costs another one.
 *
 * A light client asks for one thing at a time, first alone, then beside flooders that keep their submission rings full. Each row is one way of
 * asking; the columns are its latencies. Numbers mean something on a machine with nothing else to do and a core for each process; with fewer, the
 * scheduler's turns are measured, too.
 *
 * Flooders speak the ring by hand, so that nothing of the library slows them down.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/shale.h"
#include "shm/batch.h"
#include "shm/error.h"
#include "shm/handshake.h"
#include "shm/park.h"
#include "shm/ring.h"
#include "tools/private_daemon.h"

enum { KEYS = 10000, KEY = 16, FLOODERS_MAX = 4, SLOT = 4096, DEPTH_DEFAULT = 128 };

static struct private_daemon d;
static unsigned seconds = 3, depth = DEPTH_DEFAULT, flood_value = 100;
static uint64_t *samples;
static size_t sample_cap = 20000000;

static void die(const char *what, int rc)
{
	fprintf(stderr, "shale-fairness: %s: %s\n", what, shale_strerror(rc));
	private_daemon_fini(&d);
	exit(1);
}

static size_t make_key(char key[KEY + 1], uint64_t n)
{
	return (size_t)snprintf(key, KEY + 1, "key%013llu", (unsigned long long)(n % KEYS));
}

/* ---- a flooder ---- */

struct flooder {
	struct ring_client ring;
	unsigned char *arena;
	uint64_t session;
	int bell;
};

static void flooder_connect(struct flooder *f)
{
	struct hello hello = {
		.magic = HELLO_MAGIC,
		.size = sizeof(hello),
		.abi = SHM_ABI,
		.fingerprint = layout_fingerprint(),
		.ring_entries = depth,
		.arena_size = (uint64_t)SLOT * 2 * depth + ((uint64_t)flood_value + SLOT) * depth,
	};
	int sock, fds[WELCOME_FDS], rc;
	struct welcome w;
	size_t arena_size;
	void *base;

	rc = handshake_connect(d.socket, &hello, 5000, &sock, &w, fds, NULL);
	if (rc < 0)
		_exit(1);
	base = mmap(NULL, w.channel_size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	if (base == MAP_FAILED ||
	    ring_client_init(&f->ring, base, w.channel_size, &f->session, &f->arena, &arena_size) < 0)
		_exit(1);
	f->bell = fds[2];
}

static void fill_slot(struct flooder *f, uint32_t ahead, unsigned op, uint64_t n)
{
	static const unsigned char value[1 << 20];
	const size_t stride = SLOT + align_up(flood_value, 64);
	unsigned char *at = f->arena + (f->ring.sq_tail + ahead) % depth * stride, *end;
	char key[KEY + 1];
	size_t len = make_key(key, n * 7919);
	struct sqe sqe = {.session = f->session, .op = (uint16_t)op, .in_off = (uint64_t)(at - f->arena)};

	if (op == OP_GET) {
		memcpy(at, key, len);
		sqe.in_len = (uint32_t)len;
		sqe.out_off = sqe.in_off + 64;
		sqe.out_len = (uint32_t)(stride - 64);
	} else {
		end = batch_append_put(batch_begin(at), slice_of((const unsigned char *)key, len),
				       slice_of(value, min_size(flood_value, sizeof(value))));
		batch_set_count(at, 1);
		sqe.in_len = (uint32_t)(end - at);
	}
	*ring_sq_slot(&f->ring, ahead) = sqe;
}

static int flood(unsigned op)
{
	const uint64_t one = 1;
	struct flooder f;
	uint64_t n = 0, in_flight = 0;

	flooder_connect(&f);
	for (;;) {
		uint32_t room = ring_sq_room(&f.ring), filled = 0;

		while (ring_cq_peek(&f.ring)) {
			ring_cq_pop(&f.ring);
			in_flight--;
		}
		while (filled < room && in_flight < depth) {
			fill_slot(&f, filled++, op, n++);
			in_flight++;
		}
		if (filled && ring_sq_publish(&f.ring, filled) && write(f.bell, &one, sizeof(one)) < 0)
			return 1;
		if (!filled)
			ring_client_park(&f.ring, 100000000);
	}
}

static pid_t start_flooder(unsigned op)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		die("fork", -errno);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	_exit(getppid() != parent ? 1 : flood(op));
}

/* ---- the light client ---- */

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

struct result {
	double p50, p99, p999;
};

static struct result measure(struct shale_db *db, bool write, unsigned pause_us)
{
	const struct timespec pause = {.tv_nsec = (long)pause_us * 1000};
	uint64_t end = monotonic_ns() + (uint64_t)seconds * 1000000000, before, now = 0;
	char key[KEY + 1], value[256] = "";
	size_t count = 0, len;

	for (uint64_t n = 0; now < end && count < sample_cap; n++) {
		size_t key_len = make_key(key, n * 104729);
		int rc;

		if (pause_us)
			nanosleep(&pause, NULL);
		before = monotonic_ns();
		rc = write ? shale_put(db, NULL, key, key_len, value, 100)
			   : shale_get(db, NULL, key, key_len, value, sizeof(value), &len);
		now = monotonic_ns();
		if (rc < 0)
			die(write ? "put" : "get", rc);
		samples[count++] = now - before;
	}
	qsort(samples, count, sizeof(*samples), by_size);
	return (struct result){(double)samples[count / 2] / 1e3, (double)samples[count * 99 / 100] / 1e3,
			       (double)samples[count * 999 / 1000] / 1e3};
}

static void row(struct shale_db *db, bool light_writes, bool flooders_write, unsigned pause_us)
{
	static const unsigned beside[] = {0, 1, FLOODERS_MAX};
	static double alone; /* of the row before, too */

	for (size_t i = 0; i < ARRAY_SIZE(beside); i++) {
		pid_t pids[FLOODERS_MAX];
		struct result r;

		if (beside[i] == 0 && flooders_write != light_writes)
			continue; /* as in the row before */
		for (unsigned k = 0; k < beside[i]; k++)
			pids[k] = start_flooder(flooders_write ? OP_WRITE : OP_GET);
		if (beside[i])
			usleep(200000);
		r = measure(db, light_writes, pause_us);
		for (unsigned k = 0; k < beside[i]; k++) {
			kill(pids[k], SIGKILL);
			waitpid(pids[k], NULL, 0);
		}
		alone = beside[i] ? alone : r.p99;
		printf("%-5s %-6s %-8s %8.2f %8.2f %8.2f", light_writes ? "put" : "get", pause_us ? "1 ms" : "none",
		       !beside[i]	? "alone"
		       : beside[i] == 1 ? (flooders_write ? "1 put" : "1 get")
					: (flooders_write ? "4 put" : "4 get"),
		       r.p50, r.p99, r.p999);
		if (beside[i] && alone > 0)
			printf("   p99 × %.2f", r.p99 / alone);
		putchar('\n');
		fflush(stdout);
	}
}

static void fill(struct shale_db *db)
{
	char key[KEY + 1], value[100] = {1};

	for (uint64_t n = 0; n < KEYS; n++) {
		size_t len = make_key(key, n);
		int rc = shale_put(db, NULL, key, len, value, sizeof(value));

		if (rc < 0)
			die("put", rc);
	}
}

int main(int argc, char **argv)
{
	struct err_info err = {0};
	struct shale_db *db;
	int c, rc;

	while ((c = getopt(argc, argv, "s:d:v:h")) != -1) {
		if (c == 's')
			seconds = (unsigned)atoi(optarg);
		else if (c == 'd')
			depth = (unsigned)atoi(optarg);
		else if (c == 'v')
			flood_value = (unsigned)atoi(optarg);
		else {
			fputs("usage: shale-fairness [-s SECONDS] [-d DEPTH] [-v VALUE] [shaled's --set S.K=V ...]\n"
			      "  -s  seconds for each number (3)\n  -d  requests that a flooder keeps in flight, a "
			      "power of two (128)\n"
			      "  -v  bytes of a flooder's values (100)\n",
			      c == 'h' ? stdout : stderr);
			return c == 'h' ? 0 : 2;
		}
	}
	if (!seconds || !is_power_of_two(depth) || depth < RING_ENTRIES_MIN || depth > RING_ENTRIES_MAX ||
	    flood_value > (1 << 20)) {
		fputs("shale-fairness: SECONDS is positive, DEPTH a power of two from 8 to 4096, VALUE at most "
		      "1048576\n",
		      stderr);
		return 2;
	}
	samples = malloc(sample_cap * sizeof(*samples));
	rc = samples ? private_daemon_init(&d, NULL, NULL, &err) : -ENOMEM;
	for (; optind < argc; optind++) {
		private_daemon_arg(&d, "--set");
		private_daemon_arg(&d, argv[optind]);
	}
	if (rc == 0)
		rc = private_daemon_start(&d, &err);
	if (rc < 0) {
		fprintf(stderr, "shale-fairness: %s\n", *err.text ? err.text : shale_strerror(rc));
		private_daemon_fini(&d);
		return 1;
	}
	rc = shale_open(d.socket, NULL, &db);
	if (rc < 0)
		die("open", rc);
	fill(db);
	printf("%-5s %-6s %-8s %8s %8s %8s   (microseconds; depth %u, %u bytes, %ld cores)\n", "light", "pause",
	       "beside", "p50", "p99", "p99.9", depth, flood_value, sysconf(_SC_NPROCESSORS_ONLN));
	for (unsigned pause = 0; pause <= 1000; pause += 1000)
		for (unsigned light = 0; light < 2; light++)
			for (unsigned heavy = 0; heavy < 2; heavy++)
				row(db, light, heavy ? !light : light, pause);
	shale_close(db);
	private_daemon_stop(&d);
	private_daemon_fini(&d);
	free(samples);
	return 0;
}
