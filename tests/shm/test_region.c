#include "shm/region.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/park.h"
#include "tests/test.h"

static const char *instance(void)
{
	static char name[INSTANCE_LEN + 1];

	snprintf(name, sizeof(name), "7e58%012x", (unsigned)getpid());
	return name;
}

static void create(struct region *r)
{
	struct err_info err;
	int rc = region_create(r, instance(), "/var/lib/shale/db", 0644, &err);

	ck_assert_msg(rc == 0, "%s", err.text);
}

/*
 * A client that is handed the descriptor sees what the daemon wrote, cannot write itself, and keeps it after the daemon
 * went.
 */
START_TEST(client_sees_the_daemons_words)
{
	struct region r, c, named;
	struct err_info err;
	int fd;

	create(&r);
	ck_assert_uint_eq(r.header->state, REGION_STARTING);
	fd = segment_reopen_readonly(&r.segment);
	ck_ok(region_map(&c, fd, &err));
	close(fd);
	ck_ok(region_open(&named, instance(), &err));
	atomic_store(&r.header->state, REGION_SERVING);
	atomic_store(&r.header->last_sequence, 4711);
	ck_assert_uint_eq(atomic_load(&c.header->state), REGION_SERVING);
	ck_assert_uint_eq(atomic_load(&named.header->last_sequence), 4711);
	ck_assert_str_eq(c.header->database, "/var/lib/shale/db");
	ck_assert_str_eq(c.header->version, SHALE_VERSION);
	ck_assert_uint_eq(c.header->daemon_pid, (uint32_t)getpid());
	ck_assert_mem_eq(c.header->boot_id, r.header->boot_id, sizeof(r.header->boot_id));
	ck_assert_int_lt(mprotect(c.segment.base, SHM_PAGE, PROT_READ | PROT_WRITE), 0);
	region_close(&r, true);
	ck_assert_uint_eq(atomic_load(&c.header->last_sequence), 4711);
	region_close(&c, false);
	region_close(&c, false);
	region_close(&named, false);
	region_close(NULL, false);
	ck_assert_int_eq(region_open(&named, instance(), &err), -ENOENT);
}
END_TEST

/* Each run of the daemon has its own boot id: that is how a client knows that its snapshots are gone. */
START_TEST(boot_ids_differ)
{
	struct region a, b;

	create(&a);
	create(&b); /* replaces the first, as after a crash */
	ck_assert_mem_ne(a.header->boot_id, b.header->boot_id, sizeof(a.header->boot_id));
	region_close(&a, false);
	region_close(&b, true);
}
END_TEST

/* A region with anything of its layout off is refused with the right code: never mapped and believed. */
START_TEST(foreign_regions_are_refused)
{
	struct region r, c = {.segment.fd = 77};
	struct region_header *h, good;
	struct err_info err;
	char *dir = test_tmpdir(), path[256];
	int fd;

	create(&r);
	h = r.header;
	memcpy((void *)&good, h, sizeof(good));
#define REFUSED(field, value, want)                                                                                    \
	do {                                                                                                           \
		h->field = value;                                                                                      \
		ck_assert_int_eq(region_map(&c, r.segment.fd, &err), want);                                            \
		ck_assert_int_eq(err.code, want);                                                                      \
		h->field = good.field;                                                                                 \
	} while (0)
	REFUSED(magic, 0, -ENOENT);
	REFUSED(magic, 12345, -SHALE_ENOTSHALE);
	REFUSED(abi, SHM_ABI + 1, -SHALE_EABI);
	REFUSED(fingerprint, 1, -SHALE_EABI);
	REFUSED(total_size, SHM_PAGE, -SHALE_ENOTSHALE);
	REFUSED(snapshots_off, 1, -SHALE_ENOTSHALE);
	REFUSED(sessions_off, UINT64_MAX, -SHALE_ENOTSHALE);
	REFUSED(stats_off, UINT64_MAX - 4095, -SHALE_ENOTSHALE);
	ck_ok(ftruncate(r.segment.fd, 2 * SHM_PAGE));
	ck_assert_int_eq(region_map(&c, r.segment.fd, &err), -SHALE_ENOTSHALE);
	ck_ok(ftruncate(r.segment.fd, 0));
	ck_assert_int_eq(region_map(&c, r.segment.fd, &err), -ENOENT);
	ck_assert_int_eq(c.segment.fd, 77);
	region_close(&r, true);

	snprintf(path, sizeof(path), "%s/short", dir);
	fd = open(path, O_CREAT | O_RDWR, 0600);
	ck_assert_int_eq(write(fd, "hello", 5), 5);
	ck_assert_int_eq(region_map(&c, fd, &err), -SHALE_ENOTSHALE);
	close(fd);
	ck_assert_int_eq(region_map(&c, -1, &err), -EBADF);
	test_rmtree(dir);
	free(dir);
}
END_TEST

/* A path that does not fit the header is refused in words, not cut: a cut one would name another directory. */
START_TEST(long_database_path_is_refused)
{
	char path[2000];
	struct region r;
	struct err_info err;

	memset(path, 'd', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	ck_assert_int_eq(region_create(&r, instance(), path, 0600, &err), -ENAMETOOLONG);
}
END_TEST

/* Where clients connect is told as an absolute path, and a path that does not fit not at all: tools connect to what they read there. */
START_TEST(socket_path)
{
	char path[2000], here[1024], full[1100];
	struct region r;

	create(&r);
	ck_assert_str_eq(r.header->socket, "");
	region_set_socket(&r, "/run/shale/shale.sock");
	ck_assert_str_eq(r.header->socket, "/run/shale/shale.sock");
	memset(path, 's', sizeof(path) - 1);
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	region_set_socket(&r, path);
	ck_assert_str_eq(r.header->socket, "/run/shale/shale.sock");
	ck_assert_ptr_nonnull(getcwd(here, sizeof(here)));
	snprintf(full, sizeof(full), "%s/x.sock", here);
	region_set_socket(&r, "x.sock");
	ck_assert_str_eq(r.header->socket, full);
	region_close(&r, true);
}
END_TEST

struct publisher {
	struct region *r;
	_Atomic bool stop;
};

/* Fills all of the stats with one number, so that any mix of two publications shows. */
static void *publish(void *arg)
{
	struct publisher *p = arg;
	struct region_stats stats;

	for (unsigned char n = 1; !atomic_load(&p->stop); n++) {
		memset(&stats, n, sizeof(stats));
		region_publish_stats(p->r, &stats);
		sched_yield();
	}
	return NULL;
}

/* Readers get one publication whole, never a mix, while the writer writes at every turn. */
START_TEST(stats_are_never_torn)
{
	struct region r;
	struct region_stats stats, want;
	struct publisher p = {.r = &r};
	pthread_t thread;
	unsigned got = 0, different = 0;
	unsigned char last = 0;
	uint64_t end;

	create(&r);
	p.r = &r;
	ck_ok(pthread_create(&thread, NULL, publish, &p));
	end = monotonic_ns() + 1000000000;
	while ((got < 20000 || different < 2) && monotonic_ns() < end) {
		unsigned char n;

		if (region_read_stats(&r, &stats) < 0)
			continue;
		n = *(unsigned char *)&stats;
		memset(&want, n, sizeof(want));
		if (memcmp(&stats, &want, sizeof(want)) != 0)
			ck_abort_msg("a torn copy");
		different += n != last;
		last = n;
		got++;
	}
	atomic_store(&p.stop, true);
	ck_ok(pthread_join(thread, NULL));
	ck_assert_uint_gt(got, 0);
	region_close(&r, true);
}
END_TEST

/* A writer that was stopped or killed in the middle of a publication leaves the one before it whole. */
START_TEST(dead_writer_leaves_the_last_whole)
{
	struct region r;
	struct region_stats stats = {.gets = 77}, seen;

	create(&r);
	ck_ok(region_read_stats(&r, &seen));
	ck_assert_uint_eq(seen.gets, 0);
	for (unsigned i = 0; i < 3; i++) {
		stats.gets++;
		region_publish_stats(&r, &stats);
		memset(&r.stats->copy[(r.stats->published + 1) & 1], 0xab, 100);
		ck_ok(region_read_stats(&r, &seen));
		ck_assert_mem_eq(&seen, &stats, sizeof(seen));
	}
	region_close(&r, true);
}
END_TEST

/* Every slot can be pinned, one more cannot, and a freed one comes back. Sequence 0 is a state like any other. */
START_TEST(snapshot_table_fills_and_frees)
{
	struct region r;

	create(&r);
	for (int i = 0; i < REGION_SNAPSHOTS; i++)
		ck_assert_int_eq(region_snapshot_take(&r, (uint64_t)i, 9, 1000, 0), i);
	ck_assert_int_eq(region_snapshot_take(&r, 1, 9, 1000, 0), -ENOSPC);
	ck_assert_uint_eq(r.snapshots[0].sequence_plus_1, 1);
	region_snapshot_free(&r, 500);
	ck_assert_uint_eq(r.snapshots[500].sequence_plus_1, 0);
	ck_assert_int_eq(region_snapshot_take(&r, 123456, 10, 2000, 0), 500);
	ck_assert_uint_eq(r.snapshots[500].sequence_plus_1, 123457);
	ck_assert_uint_eq(r.snapshots[500].session, 10);
	ck_assert_uint_eq(r.snapshots[500].taken_monotonic_ns, 2000);
	region_close(&r, true);
}
END_TEST

/* A row starts clean whoever had it before, and a long command is cut, not spilled. */
START_TEST(session_rows_are_clean)
{
	struct region r;
	struct region_session *row;
	int slot;

	create(&r);
	slot = region_session_add(&r, 0x100000001, 42, 1000, "a-command-with-a-name-far-too-long-for-it", 7);
	ck_assert_int_eq(slot, 1); /* where the low half of the id points */
	row = &r.sessions[slot];
	ck_assert_uint_eq(strlen(row->command), sizeof(row->command) - 1);
	atomic_store(&row->operations, 99);
	atomic_store(&row->snapshots, 3);
	ck_assert_int_eq(region_session_add(&r, 0x300000001, 43, 1000, NULL, 7), 2); /* taken: the next one */
	region_session_remove(&r, slot);
	ck_assert_uint_eq(row->session, 0);
	ck_assert_int_eq(region_session_add(&r, 0x200000001, 44, 1001, "sh", 8), slot);
	ck_assert_uint_eq(row->operations, 0);
	ck_assert_uint_eq(row->snapshots, 0);
	ck_assert_uint_eq(row->pid, 44);
	ck_assert_str_eq(row->command, "sh");
	for (int i = 3; i < REGION_SESSIONS + 1; i++)
		ck_assert_int_eq(region_session_add(&r, (uint64_t)i + (UINT64_C(9) << 32), 1, 1, "x", 1),
				 i % REGION_SESSIONS);
	ck_assert_int_eq(region_session_add(&r, 99999, 1, 1, "x", 1), -ENOSPC);
	region_close(&r, true);
}
END_TEST

TEST_MAIN("region", 30, client_sees_the_daemons_words, boot_ids_differ, foreign_regions_are_refused,
	  long_database_path_is_refused, socket_path, stats_are_never_torn, dead_writer_leaves_the_last_whole,
	  snapshot_table_fills_and_frees, session_rows_are_clean)
