#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "shm/error.h"
#include "tests/test.h"

/* An instance name that no other test and no daemon has; its segments are swept at the end. */
static const char *instance(void)
{
	static char name[INSTANCE_LEN + 1];

	snprintf(name, sizeof(name), "7e57%012x", (unsigned)getpid());
	return name;
}

static bool exists(const char *what)
{
	char path[128];

	snprintf(path, sizeof(path), "/dev/shm/shale.%s.%s", instance(), what);
	return access(path, F_OK) == 0;
}

/* Page-rounded, zeroed, allocated in full, with the mode asked for whatever the umask is. */
START_TEST(create_makes_what_was_asked)
{
	struct segment s;
	struct err_info err;
	struct stat st;

	umask(077);
	ck_ok(segment_create(instance(), "a", 10000, 0644, false, &s, &err));
	ck_assert_uint_eq(s.size, 12288);
	ck_ok(fstat(s.fd, &st));
	ck_assert_uint_eq(st.st_mode & 07777, 0644);
	ck_assert_uint_eq((size_t)st.st_size, s.size);
	ck_assert_uint_ge((size_t)st.st_blocks * 512, s.size); /* no page is left to be found missing later */
	ck_assert_int_eq(fcntl(s.fd, F_GETFD), FD_CLOEXEC);
	for (size_t i = 0; i < s.size; i++)
		ck_assert_msg(((unsigned char *)s.base)[i] == 0, "byte %zu is not zero", i);
	segment_unlink(&s);
	ck_assert(!exists("a"));
	segment_unlink(&s);
	segment_close(&s);
	segment_close(&s);
	segment_close(NULL);
}
END_TEST

/* What one process wrote, the next one finds: the WAL window depends on it. */
START_TEST(contents_outlive_the_mapping)
{
	struct segment s, again;
	struct err_info err;

	ck_ok(segment_create(instance(), "wal", 4096, 0600, false, &s, &err));
	memcpy(s.base, "kept", 5);
	segment_close(&s);
	ck_ok(segment_open(instance(), "wal", &again, &err));
	ck_assert_str_eq(again.base, "kept");
	ck_assert_uint_eq(again.size, 4096);
	segment_unlink(&again);
	segment_close(&again);
	ck_assert_int_eq(segment_open(instance(), "wal", &again, &err), -ENOENT);
}
END_TEST

/*
 * A left-over is an error unless replacing was asked for; then it is new and zero. Outputs stay untouched on failure.
 */
START_TEST(replace_only_when_asked)
{
	struct segment s, t = {.fd = 77};
	struct err_info err;

	ck_ok(segment_create(instance(), "r", 4096, 0600, false, &s, &err));
	memcpy(s.base, "old", 4);
	ck_assert_int_eq(segment_create(instance(), "r", 4096, 0600, false, &t, &err), -EEXIST);
	ck_assert_ptr_nonnull(strstr(err.text, instance()));
	ck_assert_int_eq(t.fd, 77);
	ck_ok(segment_create(instance(), "r", 4096, 0600, true, &t, &err));
	ck_assert_uint_eq(*(unsigned char *)t.base, 0);
	ck_assert_str_eq(s.base, "old"); /* the old memory is the old owner's until it lets go */
	segment_unlink(&t);
	segment_close(&s);
	segment_close(&t);
}
END_TEST

/* A daemon killed while creating leaves an empty file: that is no segment. */
START_TEST(empty_leftover_is_no_segment)
{
	struct segment s;
	struct err_info err;
	char name[64];

	snprintf(name, sizeof(name), "/shale.%s.e", instance());
	close(shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600));
	ck_assert_int_eq(segment_open(instance(), "e", &s, &err), -ENOENT);
	ck_ok(segment_create(instance(), "e", 4096, 0600, true, &s, &err));
	segment_unlink(&s);
	segment_close(&s);
}
END_TEST

/* The handed-over descriptor cannot be written through, and is the same memory even when the name is gone or reused. */
START_TEST(readonly_descriptor)
{
	struct segment s, other;
	struct err_info err;
	char *p;
	int fd;

	ck_ok(segment_create(instance(), "ro", 4096, 0600, false, &s, &err));
	segment_unlink(&s);
	ck_ok(segment_create(instance(), "ro", 4096, 0600, false, &other, &err));
	fd = segment_reopen_readonly(&s);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	memcpy(s.base, "here", 5);
	p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	ck_assert_str_eq(p, "here");
	munmap(p, 4096);
	close(fd);
	segment_unlink(&other);
	segment_close(&other);
	segment_close(&s);
}
END_TEST

/* A full /dev/shm is -ENOSPC at creation, in words that say how much there is and what to do; nothing stays behind. */
START_TEST(full_shm_is_said_clearly)
{
	struct segment s = {.fd = 77};
	struct err_info err = {0};
	struct statvfs vfs;

	ck_ok(statvfs("/dev/shm", &vfs));
	ck_assert_int_eq(
		segment_create(instance(), "big", ((size_t)vfs.f_blocks + 1024) * vfs.f_frsize, 0600, false, &s, &err),
		-ENOSPC);
	ck_assert_int_eq(err.code, -ENOSPC);
	ck_assert_ptr_nonnull(strstr(err.text, "/dev/shm"));
	ck_assert_ptr_nonnull(strstr(err.text, "KiB free"));
	ck_assert_ptr_nonnull(strstr(err.text, "remount"));
	ck_assert(!exists("big"));
	ck_assert_int_eq(s.fd, 77);
}
END_TEST

/* Sizes and names that cannot be are refused, not rounded to something else. */
START_TEST(impossible_requests_are_refused)
{
	static const char long_name[] = "0123456789012345678901234567890123456789012345678901234567890123456789";
	struct segment s;
	struct err_info err;

	ck_assert_int_eq(segment_create(instance(), "z", 0, 0600, false, &s, &err), -EINVAL);
	ck_assert_int_eq(segment_create(instance(), "z", SIZE_MAX, 0600, false, &s, &err), -EINVAL);
	ck_assert_int_eq(segment_create(instance(), "../z", 4096, 0600, false, &s, &err), -EINVAL);
	ck_assert_int_eq(segment_create(instance(), "", 4096, 0600, false, &s, &err), -EINVAL);
	ck_assert_int_eq(segment_create(instance(), long_name, 4096, 0600, false, &s, NULL), -ENAMETOOLONG);
	ck_assert_int_eq(segment_open(instance(), long_name, &s, &err), -ENAMETOOLONG);
}
END_TEST

/*
 * What another user put there under our name is not believed: it could hold a log that nobody wrote. Needs root to
 * stage.
 */
START_TEST(foreign_segment_is_refused)
{
	struct segment s, t;
	struct err_info err;

	ck_ok(segment_create(instance(), "f", 4096, 0666, false, &s, &err));
	if (geteuid() == 0) {
		ck_ok(fchown(s.fd, 65534, 65534));
		ck_assert_int_eq(segment_open(instance(), "f", &t, &err), -EACCES);
		ck_assert_ptr_nonnull(strstr(err.text, "65534"));
	}
	segment_unlink(&s);
	segment_close(&s);
}
END_TEST

/* A sweep takes this instance's segments, except those to keep, and nobody else's. */
START_TEST(sweep_is_exact)
{
	static const char *const whats[] = {"wal", "wal2", "region", "chan.1", "chan.2"};
	static const char *const keep[] = {"wal", NULL};
	struct segment s;
	struct err_info err;
	char other[64];
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(whats); i++) {
		ck_ok(segment_create(instance(), whats[i], 4096, 0600, false, &s, &err));
		segment_close(&s);
	}
	snprintf(other, sizeof(other), "/shale.%sx.wal", instance());
	fd = shm_open(other, O_CREAT | O_RDWR, 0600);
	ck_assert_int_eq(segment_sweep(instance(), keep), 4);
	ck_assert(exists("wal"));
	ck_assert(!exists("wal2") && !exists("region") && !exists("chan.1"));
	ck_assert_int_eq(segment_sweep(instance(), NULL), 1);
	ck_assert_int_eq(segment_sweep(instance(), NULL), 0);
	ck_ok(shm_unlink(other)); /* still there */
	close(fd);
	ck_assert_int_eq(segment_sweep("", NULL), -EINVAL); /* would be every daemon's */
}
END_TEST

/* The instance follows the directory, not its name, and differs between directories. */
START_TEST(instance_names_the_directory)
{
	char a[INSTANCE_LEN + 1], b[INSTANCE_LEN + 1], *one = test_tmpdir(), *two = test_tmpdir();
	char moved[256];
	int fd = open(one, O_RDONLY | O_DIRECTORY);

	ck_ok(segment_instance(fd, a));
	ck_assert_uint_eq(strlen(a), INSTANCE_LEN);
	close(fd);
	snprintf(moved, sizeof(moved), "%s.moved", one);
	ck_ok(rename(one, moved));
	fd = open(moved, O_RDONLY | O_DIRECTORY);
	ck_ok(segment_instance(fd, b));
	ck_assert_str_eq(a, b);
	close(fd);
	fd = open(two, O_RDONLY | O_DIRECTORY);
	ck_ok(segment_instance(fd, b));
	ck_assert_str_ne(a, b);
	close(fd);
	fd = open("/dev/null", O_RDONLY);
	ck_assert_int_eq(segment_instance(fd, b), -ENOTDIR);
	close(fd);
	ck_assert_int_eq(segment_instance(-1, b), -EBADF);
	test_rmtree(moved);
	test_rmtree(two);
	free(one);
	free(two);
}
END_TEST

TEST_MAIN("segment", 30, create_makes_what_was_asked, contents_outlive_the_mapping, replace_only_when_asked,
	  empty_leftover_is_no_segment, readonly_descriptor, full_shm_is_said_clearly, impossible_requests_are_refused,
	  foreign_segment_is_refused, sweep_is_exact, instance_names_the_directory)
