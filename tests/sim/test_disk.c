/* The simulated disk must lose what a real one may lose, keep what it must keep, and nothing else: all that the simulation says rests on it. */
#include <errno.h>
#include <stdio.h>

#include "tests/sim/env.h"
#include "tests/test.h"

enum { SEEDS = 200 };

struct bed {
	struct disk disk;
	struct sim_env env;
	uint64_t now;
	struct io_queue *q;
};

static void bed_env(struct bed *b)
{
	sim_env_init(&b->env, &b->disk, 7, &b->now);
	ck_ok(io_queue_new(&b->env.base, 16, &b->q));
}

static void bed_init(struct bed *b)
{
	memset(b, 0, sizeof(*b));
	disk_init(&b->disk);
	bed_env(b);
}

static void bed_fini(struct bed *b)
{
	io_queue_free(b->q);
	sim_env_fini(&b->env);
	disk_fini(&b->disk);
}

static struct io_file *create(struct bed *b, const char *name)
{
	struct io_file *f;

	ck_ok(io_open(&b->env.base, name, IO_OPEN_WRITE | IO_OPEN_CREATE, &f));
	return f;
}

static void ignore(struct io_req *req)
{
	(void)req;
}

/* Bytes of @name, or -1 when it is not there. */
static long contents(struct bed *b, const char *name, unsigned char *buf, size_t cap)
{
	struct disk_inode *i = disk_find(&b->disk, name);

	return i ? (long)disk_read(i, buf, cap, 0) : -1;
}

/* What was synced, file and name, is there after a power loss, whatever the seed; what was not may be gone. */
START_TEST(synced_bytes_stay)
{
	bool lost = false, kept = false;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		unsigned char buf[100] = "";
		struct io_file *f;
		struct bed b;
		long n;

		bed_init(&b);
		f = create(&b, "a");
		ck_ok(io_pwrite(b.q, f, "safe", 4, 0));
		ck_ok(io_fdatasync(b.q, f));
		ck_ok(io_sync_dir(&b.env.base));
		ck_ok(io_pwrite(b.q, f, "?", 1, 4));
		io_close(f);
		disk_power_loss(&b.disk, seed);
		n = contents(&b, "a", buf, sizeof(buf));
		ck_assert_int_ge(n, 4);
		ck_assert_mem_eq(buf, "safe", 4);
		lost |= n == 4;
		kept |= n == 5 && buf[4] == '?';
		bed_fini(&b);
	}
	ck_assert(lost && kept);
}
END_TEST

/* Sectors are kept or lost one by one: there must be tears, reordering, and a size without its data; but never half a sector. */
START_TEST(power_loss_tears_by_sector)
{
	bool torn = false, later_only = false, zeros = false;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		unsigned char data[4 * DISK_SECTOR], buf[sizeof(data)] = {0};
		struct io_file *f;
		struct bed b;
		long n;

		memset(data, 'x', sizeof(data));
		bed_init(&b);
		f = create(&b, "a");
		ck_ok(io_sync_dir(&b.env.base));
		ck_ok(io_pwrite(b.q, f, data, sizeof(data), 0));
		io_close(f);
		disk_power_loss(&b.disk, seed);
		n = contents(&b, "a", buf, sizeof(buf));
		for (unsigned s = 0; s < 4; s++) {
			const unsigned char *sector = buf + s * DISK_SECTOR;

			ck_assert(memcmp(sector, sector + 1, DISK_SECTOR - 1) == 0);
		}
		torn |= buf[0] == 'x' && !buf[DISK_SECTOR];
		later_only |= !buf[0] && buf[3 * DISK_SECTOR] == 'x';
		zeros |= n == sizeof(data) && !buf[0] && !buf[DISK_SECTOR] && !buf[2 * DISK_SECTOR] &&
			 !buf[3 * DISK_SECTOR];
		bed_fini(&b);
	}
	ck_assert(torn && later_only && zeros);
}
END_TEST

/* A sync covers what was written before it was submitted, not what came while it was on its way. */
START_TEST(sync_covers_what_was_complete)
{
	bool lost = false;

	for (uint64_t seed = 0; seed < SEEDS && !lost; seed++) {
		struct io_req sync = {.op = IO_FDATASYNC},
			      late = {.op = IO_WRITE, .buf = (void *)"b", .len = 1, .offset = 1};
		unsigned char buf[2] = "";
		struct io_file *f;
		struct bed b;

		bed_init(&b);
		f = create(&b, "a");
		ck_ok(io_sync_dir(&b.env.base));
		ck_ok(io_pwrite(b.q, f, "a", 1, 0));
		sync.file = late.file = f;
		sync.done = late.done = ignore;
		io_submit(b.q, &sync);
		io_submit(b.q, &late);
		ck_assert(sim_env_perform(&b.env, 1)); /* the write first */
		ck_assert(sim_env_perform(&b.env, 0));
		io_queue_poll(b.q);
		io_close(f);
		disk_power_loss(&b.disk, seed);
		ck_assert_int_ge(contents(&b, "a", buf, sizeof(buf)), 1);
		ck_assert_int_eq(buf[0], 'a');
		lost = buf[1] != 'b';
		bed_fini(&b);
	}
	ck_assert(lost);
}
END_TEST

/* A name that was not synced may be there or not; a rename is there whole or not at all. */
START_TEST(names_vanish_until_synced)
{
	bool lost = false, kept = false, old = false, renamed = false;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct bed b;

		bed_init(&b);
		io_close(create(&b, "sure"));
		io_close(create(&b, "from"));
		ck_ok(io_sync_dir(&b.env.base));
		io_close(create(&b, "new"));
		ck_ok(io_rename(&b.env.base, "from", "to"));
		disk_power_loss(&b.disk, seed);
		ck_assert_ptr_nonnull(disk_find(&b.disk, "sure"));
		lost |= !disk_find(&b.disk, "new");
		kept |= disk_find(&b.disk, "new") != NULL;
		old |= disk_find(&b.disk, "from") != NULL;
		renamed |= disk_find(&b.disk, "to") != NULL;
		ck_assert(!disk_find(&b.disk, "from") != !disk_find(&b.disk, "to"));
		bed_fini(&b);
	}
	ck_assert(lost && kept && old && renamed);
}
END_TEST

/* Linux after a failed fsync: the cache shows the data, the next fsync says 0, and a power loss takes it. */
START_TEST(failed_sync_leaves_clean_pages)
{
	bool lost = false;

	for (uint64_t seed = 0; seed < SEEDS && !lost; seed++) {
		unsigned char buf[8] = "";
		struct io_file *f;
		struct bed b;

		bed_init(&b);
		b.env.random = seed;
		f = create(&b, "a");
		ck_ok(io_sync_dir(&b.env.base));
		ck_ok(io_pwrite(b.q, f, "data", 4, 0));
		b.env.fault_in[FAULT_SYNC] = 0;
		ck_assert_int_eq(io_fdatasync(b.q, f), -EIO);
		ck_ok(io_fdatasync(b.q, f));
		ck_ok(io_pread(b.q, f, buf, 4, 0));
		ck_assert_mem_eq(buf, "data", 4);
		io_close(f);
		disk_power_loss(&b.disk, seed);
		memset(buf, 0, sizeof(buf));
		contents(&b, "a", buf, sizeof(buf));
		lost = memcmp(buf, "data", 4) != 0;
		bed_fini(&b);
	}
	ck_assert(lost);
}
END_TEST

/* A full disk refuses what is new, and takes what was reserved before. */
START_TEST(reserved_space_is_there)
{
	struct io_file *f, *g;
	char block[DISK_BLOCK] = "";
	struct bed b;

	bed_init(&b);
	f = create(&b, "reserved");
	g = create(&b, "other");
	ck_ok(io_allocate(b.q, f, 0, 2 * DISK_BLOCK));
	b.disk.capacity = b.disk.used;
	ck_assert_int_eq(io_pwrite(b.q, g, block, 1, 0), -ENOSPC);
	ck_assert_int_eq(io_allocate(b.q, f, 0, 3 * DISK_BLOCK), -ENOSPC);
	ck_ok(io_pwrite(b.q, f, block, sizeof(block), DISK_BLOCK));
	io_close(f);
	ck_ok(io_unlink(&b.env.base, "reserved"));
	ck_ok(io_sync_dir(&b.env.base));
	ck_ok(io_pwrite(b.q, g, block, 1, 0));
	io_close(g);
	bed_fini(&b);
}
END_TEST

/* A killed process changes nothing any more, but for writes that were in flight: they may land later, and until then its lock is held. */
START_TEST(dead_process_is_silent_but_for_late_writes)
{
	bool landed = false, vanished = false;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct io_req write = {.op = IO_WRITE, .buf = (void *)"late", .len = 4};
		unsigned char buf[8] = "";
		struct err_info *no_words = NULL;
		struct io_file *f;
		struct bed b;

		bed_init(&b);
		f = create(&b, "a");
		write.file = f;
		write.done = ignore;
		io_submit(b.q, &write);
		sim_env_die(&b.env);
		io_queue_poll(b.q);
		ck_assert_int_eq(write.result, -EIO);
		ck_assert_int_lt(io_pwrite(b.q, f, "no", 2, 0), 0);
		ck_assert_int_lt(io_unlink(&b.env.base, "a"), 0);
		ck_assert_int_eq(contents(&b, "a", buf, sizeof(buf)), 0);
		io_close(f);
		io_queue_free(b.q);
		bed_env(&b);
		ck_assert_int_lt(io_lock(&b.env.base, "LOCK", no_words), 0);
		disk_land(&b.disk, seed);
		ck_ok(io_lock(&b.env.base, "LOCK", no_words));
		landed |= contents(&b, "a", buf, sizeof(buf)) == 4;
		vanished |= contents(&b, "a", buf, sizeof(buf)) == 0;
		bed_fini(&b);
	}
	ck_assert(landed && vanished);
}
END_TEST

TEST_MAIN("sim_disk", 60, synced_bytes_stay, power_loss_tears_by_sector, sync_covers_what_was_complete,
	  names_vanish_until_synced, failed_sync_leaves_clean_pages, reserved_space_is_there,
	  dead_process_is_silent_but_for_late_writes)
