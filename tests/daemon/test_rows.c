/*
 * What the service puts into the row cache, and what it must not.
 */
#include "tests/daemon/rig.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct row_reader reader;

static void begin(const char *setting)
{
	struct err_info err = {0};
	uint64_t size;
	int fd;

	rig.setting = setting;
	rig_start();
	fd = rows_descriptor(&rig.rows, &size);
	ck_assert_int_ge(fd, 0);
	ck_ok(row_reader_map(&reader, fd, &err));
	close(fd);
}

static void end(void)
{
	row_reader_unmap(&reader);
	rig_stop();
}

/* What a client would find without asking; NULL: it would ask. */
static const char *cached(const char *key)
{
	static char buf[128];
	size_t len;
	int rc = row_reader_get(&reader, slice_str(key), buf, sizeof(buf) - 1, &len, NULL);

	if (rc)
		return rc == ROW_MISS ? NULL : "(absent)";
	buf[len] = '\0';
	return buf;
}

/* The newest state, found or not; not what a snapshot sees, nor what is not to fill caches. */
START_TEST(what_is_kept)
{
	struct client c;
	struct cqe snap;

	begin(NULL);
	client_open(&c, false);
	put(&c, 0, "k", "one");
	ck_assert_ptr_null(cached("k"));
	ck_assert_int_eq(call(&c, OP_GET, SQE_NO_FILL, 0, "k", 1).res, 0);
	ck_assert_ptr_null(cached("k"));
	ck_get(&c, 0, "k", "one");
	ck_assert_str_eq(cached("k"), "one");
	ck_get(&c, 0, "none", NULL);
	ck_assert_str_eq(cached("none"), "(absent)");
	snap = call(&c, OP_SNAPSHOT, 0, 0, NULL, 0);
	put(&c, 0, "k", "two");
	ck_assert_ptr_null(cached("k"));
	ck_get(&c, snap.sequence, "k", "one");
	ck_assert_ptr_null(cached("k"));
	put(&c, 0, "k", NULL);
	ck_get(&c, 0, "k", NULL);
	ck_assert_str_eq(cached("k"), "(absent)");
	client_close(&c);
	end();
}
END_TEST

/* A read that waited for a block brings what was the newest state when it began: that is not kept when the key was written meanwhile. */
START_TEST(late_reads_are_not_kept)
{
	struct client reading, writing;
	struct cqe cqe;

	begin("engine.block_cache=64K");
	client_open(&reading, false);
	client_open(&writing, false);
	put(&writing, 0, "k", "old");
	ck_assert_int_eq(call(&writing, OP_FLUSH, 0, 0, NULL, 0).res, 0);
	atomic_store(&rig.hold_reads, true);
	prepare(&reading, 0, OP_GET)->in_len = 1;
	reading.arena[0] = 'k';
	publish(&reading, 1);
	for (unsigned ms = 0; !atomic_load(&rig.held); ms++) {
		ck_assert_uint_lt(ms, 8000);
		nap();
	}
	put(&writing, 0, "k", "new");
	atomic_store(&rig.hold_reads, false);
	put(&writing, SQE_SYNC, "other", "x"); /* goes to the disk, and what was held with it */
	cqe = take(&reading);
	ck_assert_int_eq(cqe.res, 0);
	ck_assert_mem_eq(answer(&reading), "old", 3);
	ck_assert_ptr_null(cached("k"));
	ck_get(&reading, 0, "k", "new");
	ck_assert_str_eq(cached("k"), "new");
	client_close(&reading);
	client_close(&writing);
	end();
}
END_TEST

TEST_MAIN("rows", 60, what_is_kept, late_reads_are_not_kept)
