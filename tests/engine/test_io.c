#include "engine/io.h"
#include "tests/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/error.h"

static const enum io_backend backends[] = {IO_BACKEND_URING, IO_BACKEND_POSIX};

struct bed {
	char *dir;
	struct io_env *env;
	struct io_queue *q;
	struct io_file *file;
};

/* False when this machine forbids io_uring: then only the fall-back can be tested. */
static bool bed_make(struct bed *b, enum io_backend backend, unsigned depth)
{
	struct err_info err = {0};
	int rc;

	b->dir = test_tmpdir();
	rc = io_env_open(b->dir, backend, false, &b->env, &err);
	if (rc < 0 && backend == IO_BACKEND_URING) {
		ck_assert(err.text[0]);
		printf("skipped on io_uring: %s\n", err.text);
		free(b->dir);
		return false;
	}
	ck_ok(rc);
	ck_ok(io_queue_new(b->env, depth, &b->q));
	ck_ok(io_open(b->env, "f", IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_EXCL, &b->file));
	return true;
}

static void bed_drop(struct bed *b)
{
	io_close(b->file);
	io_queue_free(b->q);
	io_env_close(b->env);
	test_rmtree(b->dir);
	free(b->dir);
}

#define FOR_BACKENDS(bed, depth)                                                                                       \
	for (size_t i_ = 0; i_ < ARRAY_SIZE(backends); i_++)                                                           \
		if (bed_make(&(bed), backends[i_], (depth)))

static void count_done(struct io_req *req)
{
	++*(unsigned *)req->context;
}

/* What is written is read back; a read past the end says how much there was; the helper calls that an error. */
START_TEST(write_read_back)
{
	struct bed b;

	FOR_BACKENDS(b, 8)
	{
		char out[1000], in[2000] = {0};
		unsigned done = 0;
		struct io_req req = {
			.op = IO_READ, .file = b.file, .buf = in, .len = 2000, .done = count_done, .context = &done};
		uint64_t size;

		memset(out, 'a', sizeof(out));
		ck_ok(io_pwrite(b.q, b.file, out, sizeof(out), 100));
		ck_ok(io_fdatasync(b.q, b.file));
		ck_ok(io_size(b.file, &size));
		ck_assert_uint_eq(size, 1100);
		ck_ok(io_pread(b.q, b.file, in, 1000, 100));
		ck_assert_mem_eq(in, out, 1000);
		io_submit(b.q, &req);
		ck_assert_int_eq(io_queue_wait(b.q, UINT64_MAX), 1);
		ck_assert_int_eq(req.result, 1100);
		ck_assert_uint_eq(done, 1);
		ck_assert_int_eq(io_pread(b.q, b.file, in, 1101, 0), -EIO);
		bed_drop(&b);
	}
}
END_TEST

/* Reserved space does not change the size: a reader must not take it for data. */
START_TEST(allocate_keeps_size)
{
	struct bed b;

	FOR_BACKENDS(b, 8)
	{
		struct stat st;
		int rc = io_allocate(b.q, b.file, 0, 1 << 20);

		ck_assert(rc == 0 || rc == -EOPNOTSUPP);
		ck_assert_int_eq(fstat(b.file->fd, &st), 0);
		ck_assert_int_eq(st.st_size, 0);
		if (!rc)
			ck_assert_int_ge(st.st_blocks, 2048);
		bed_drop(&b);
	}
}
END_TEST

/* Far more operations than the ring has entries: all complete, each once. */
START_TEST(more_than_depth)
{
	enum { N = 3000 };
	static struct io_req req[N];
	static uint64_t data[N];
	struct bed b;

	FOR_BACKENDS(b, 8)
	{
		unsigned done = 0;
		uint64_t check;

		for (unsigned i = 0; i < N; i++) {
			data[i] = i;
			req[i] = (struct io_req){.op = IO_WRITE,
						 .file = b.file,
						 .buf = &data[i],
						 .len = 8,
						 .offset = 8 * i,
						 .done = count_done,
						 .context = &done};
			io_submit(b.q, &req[i]);
		}
		ck_assert_uint_eq(b.q->in_flight + done, N);
		while (b.q->in_flight)
			ck_assert_int_gt(io_queue_wait(b.q, UINT64_MAX), 0);
		ck_assert_uint_eq(done, N);
		for (unsigned i = 0; i < N; i += 7) {
			ck_assert_int_eq(req[i].result, 8);
			ck_ok(io_pread(b.q, b.file, &check, 8, 8 * i));
			ck_assert_uint_eq(check, i);
		}
		ck_assert_int_eq(io_queue_poll(b.q), 0);
		bed_drop(&b);
	}
}
END_TEST

struct chain {
	struct io_queue *q;
	struct io_req req;
	unsigned left;
};

static void chain_done(struct io_req *req)
{
	struct chain *c = req->context;

	if (c->left-- > 1)
		io_submit(c->q, &c->req);
}

/* done() may submit the same request again: a loop of completions must neither be lost nor run away in one poll. */
START_TEST(done_may_submit)
{
	struct bed b;

	FOR_BACKENDS(b, 8)
	{
		struct chain c = {.q = b.q, .left = 100};

		c.req = (struct io_req){.op = IO_NOP, .done = chain_done, .context = &c};
		io_submit(b.q, &c.req);
		for (unsigned expect = 100; expect; expect--) {
			ck_assert_uint_eq(c.left, expect);
			ck_assert_int_eq(io_queue_wait(b.q, UINT64_MAX), 1);
		}
		ck_assert_uint_eq(b.q->in_flight, 0);
		bed_drop(&b);
	}
}
END_TEST

/* An event wakes the waiter with its count, on blocking and non-blocking eventfds; without one the wait times out. */
START_TEST(event_wakes)
{
	static const int flags[] = {EFD_CLOEXEC, EFD_CLOEXEC | EFD_NONBLOCK};
	struct bed b;

	FOR_BACKENDS(b, 8)
	{
		for (size_t f = 0; f < ARRAY_SIZE(flags); f++) {
			uint64_t count = 0, five = 5;
			unsigned done = 0;
			int fd = eventfd(0, flags[f]);
			struct io_req req = {.op = IO_EVENT,
					     .fd = fd,
					     .buf = &count,
					     .len = 8,
					     .done = count_done,
					     .context = &done};

			io_submit(b.q, &req);
			ck_assert_int_eq(io_queue_wait(b.q, 2000000), 0);
			ck_assert_int_eq(io_queue_poll(b.q), 0);
			ck_assert_int_eq(write(fd, &five, 8), 8);
			ck_assert_int_eq(io_queue_wait(b.q, UINT64_MAX), 1);
			ck_assert_int_eq(req.result, 8);
			ck_assert_uint_eq(count, 5);
			/* A loop too busy to wait hears it, too. */
			io_submit(b.q, &req);
			ck_assert_int_eq(write(fd, &five, 8), 8);
			while (done < 2)
				ck_assert_int_ge(io_queue_poll(b.q), 0);
			ck_assert_uint_eq(count, 5);
			close(fd);
		}
		bed_drop(&b);
	}
}
END_TEST

/* A waiting event can be taken back, and one that already came keeps its answer: who shares the eventfd cannot hold us. */
START_TEST(cancel_ends_event)
{
	struct bed b;

	FOR_BACKENDS(b, 8)
	{
		for (int flags = 0; flags <= EFD_NONBLOCK; flags += EFD_NONBLOCK) {
			int fd = eventfd(0, EFD_CLOEXEC | flags);
			uint64_t count = 0;
			unsigned done = 0;
			struct io_req req = {.op = IO_EVENT,
					     .fd = fd,
					     .buf = &count,
					     .len = 8,
					     .done = count_done,
					     .context = &done};

			io_submit(b.q, &req);
			ck_assert_int_eq(io_queue_wait(b.q, 1000000), 0); /* it waits in the kernel */
			ck_ok(io_cancel(b.q, &req));
			ck_assert_int_eq(io_queue_wait(b.q, 5000000000), 1);
			ck_assert_uint_eq(done, 1);
			ck_assert_int_eq(req.result, -ECANCELED);
			io_submit(b.q, &req); /* submitted and taken back before anybody looked */
			ck_ok(io_cancel(b.q, &req));
			ck_assert_int_eq(io_queue_wait(b.q, 5000000000), 1);
			ck_assert_int_eq(req.result, -ECANCELED);
			close(fd);
		}
		bed_drop(&b);
	}
}
END_TEST

/* A queue freed while an event waits does not wait for ever, and the request gets its answer. */
START_TEST(free_cancels_events)
{
	struct bed b;

	FOR_BACKENDS(b, 8)
	{
		uint64_t count[2];
		unsigned done = 0;
		int fd = eventfd(0, EFD_CLOEXEC), fd2 = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		struct io_req req = {
			.op = IO_EVENT, .fd = fd, .buf = &count[0], .len = 8, .done = count_done, .context = &done};
		struct io_req req2 = {
			.op = IO_EVENT, .fd = fd2, .buf = &count[1], .len = 8, .done = count_done, .context = &done};

		io_submit(b.q, &req);
		io_submit(b.q, &req2);
		ck_assert_int_eq(io_queue_wait(b.q, 1000000), 0);
		io_queue_free(b.q);
		b.q = NULL;
		ck_assert_uint_eq(done, 2);
		ck_assert_int_eq(req.result, -ECANCELED);
		close(fd);
		close(fd2);
		bed_drop(&b);
	}
}
END_TEST

static void *write_in_thread(void *context)
{
	struct bed *b = context;
	int rc = io_pwrite(b->q, b->file, "there", 5, 5);

	return (void *)(intptr_t)rc;
}

/* Recovery runs in the main thread, service in another, on one queue: it must change hands. */
START_TEST(queue_changes_threads)
{
	struct bed b;

	FOR_BACKENDS(b, 8)
	{
		char text[10];
		pthread_t t;
		void *rc;

		ck_ok(io_pwrite(b.q, b.file, "hello", 5, 0));
		for (int i = 0; i < 3; i++) {
			ck_assert_int_eq(pthread_create(&t, NULL, write_in_thread, &b), 0);
			pthread_join(t, &rc);
			ck_assert_ptr_null(rc);
		}
		ck_ok(io_pread(b.q, b.file, text, 10, 0));
		ck_assert_mem_eq(text, "hellothere", 10);
		bed_drop(&b);
	}
}
END_TEST

/* Failures come as results: a full file limit (a short write goes on, then fails), a read-only descriptor. */
START_TEST(errors_are_results)
{
	struct rlimit old, limit;
	struct bed b;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	FOR_BACKENDS(b, 8)
	{
		static char data[64 << 10];
		struct io_file *ro;

		limit = old;
		limit.rlim_cur = 10000;
		setrlimit(RLIMIT_FSIZE, &limit);
		ck_assert_int_eq(io_pwrite(b.q, b.file, data, sizeof(data), 0), -EFBIG);
		setrlimit(RLIMIT_FSIZE, &old);
		ck_ok(io_open(b.env, "f", IO_OPEN_READ, &ro));
		ck_assert_int_eq(io_pwrite(b.q, ro, data, 10, 0), -EBADF);
		io_close(ro);
		ck_assert_int_eq(io_open(b.env, "absent", IO_OPEN_READ, &ro), -ENOENT);
		ck_assert_int_eq(io_open(b.env, "f", IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_EXCL, &ro), -EEXIST);
		bed_drop(&b);
	}
}
END_TEST

static void count_names(void *context, const char *name)
{
	ck_assert(!strcmp(name, "f") || !strcmp(name, "g"));
	++*(unsigned *)context;
}

/* Names: rename replaces, list shows each once and no dots, a whole file is read with its limit. */
START_TEST(names_and_small_files)
{
	struct bed b;

	FOR_BACKENDS(b, 8)
	{
		unsigned count = 0;
		size_t size;
		char *data;

		ck_ok(io_pwrite(b.q, b.file, "abc", 3, 0));
		ck_ok(io_rename(b.env, "f", "g"));
		ck_ok(io_sync_dir(b.env));
		ck_ok(io_list(b.env, count_names, &count));
		ck_assert_uint_eq(count, 1);
		ck_ok(io_read_file(b.q, b.env, "g", 3, &data, &size));
		ck_assert_uint_eq(size, 3);
		ck_assert_str_eq(data, "abc");
		free(data);
		ck_assert_int_eq(io_read_file(b.q, b.env, "g", 2, &data, &size), -EFBIG);
		ck_ok(io_truncate(b.file, 0));
		ck_ok(io_read_file(b.q, b.env, "g", 0, &data, &size));
		ck_assert_str_eq(data, "");
		free(data);
		ck_ok(io_unlink(b.env, "g"));
		ck_assert_int_eq(io_unlink(b.env, "g"), -ENOENT);
		bed_drop(&b);
	}
}
END_TEST

/* The lock excludes a second env here, another process by either kind of lock, and goes with its env. */
START_TEST(lock_excludes)
{
	struct bed b;

	FOR_BACKENDS(b, 8)
	{
		struct err_info err = {0};
		struct io_env *second;
		char expect[64];
		int status;
		pid_t child;

		ck_ok(io_lock(b.env, "LOCK", &err));
		ck_ok(io_pwrite(b.q, b.file, "x", 1, 0)); /* the ring holds the descriptor now */
		snprintf(expect, sizeof(expect), "process %d", getpid());
		ck_ok(io_env_open(b.dir, backends[i_], false, &second, &err));
		ck_assert_int_eq(io_lock(second, "LOCK", &err), -SHALE_ELOCKED);
		ck_assert_ptr_nonnull(strstr(err.text, expect));
		io_env_close(second);

		child = fork();
		if (!child) {
			/* As stock LevelDB locks: the whole file. */
			struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
			char path[256];
			int fd;

			snprintf(path, sizeof(path), "%s/LOCK", b.dir);
			fd = open(path, O_RDWR);
			_exit(fd >= 0 && fcntl(fd, F_SETLK, &lock) == -1 && fcntl(fd, F_GETLK, &lock) == 0 &&
					      lock.l_pid == getppid()
				      ? 0
				      : 1);
		}
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert_int_eq(status, 0);

		io_close(b.file);
		io_queue_free(b.q);
		io_env_close(b.env);
		ck_ok(io_env_open(b.dir, backends[i_], false, &b.env, &err));
		ck_ok(io_lock(b.env, "LOCK", &err));
		ck_ok(io_queue_new(b.env, 8, &b.q));
		b.file = NULL;
		bed_drop(&b);
	}
}
END_TEST

/* Our lock is refused while another process holds it, naming it, and had at once after that process was killed. */
START_TEST(lock_names_owner)
{
	struct bed b;

	FOR_BACKENDS(b, 8)
	{
		struct err_info err = {0};
		char expect[64], byte;
		int fds[2], status;
		pid_t child;

		ck_assert_int_eq(pipe(fds), 0);
		child = fork();
		if (!child) {
			struct io_env *env;
			struct io_queue *q;

			if (io_env_open(b.dir, backends[i_], false, &env, NULL) || io_lock(env, "LOCK", NULL) ||
			    io_queue_new(env, 8, &q) || io_pwrite(q, b.file, "x", 1, 0) || write(fds[1], "x", 1) != 1)
				_exit(1);
			for (;;)
				pause();
		}
		ck_assert_int_eq(read(fds[0], &byte, 1), 1);
		snprintf(expect, sizeof(expect), "in use by process %d (", child);
		ck_assert_int_eq(io_lock(b.env, "LOCK", &err), -SHALE_ELOCKED);
		ck_assert_msg(strstr(err.text, expect) != NULL, "%s", err.text);
		kill(child, SIGKILL);
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_ok(io_lock(b.env, "LOCK", &err));
		close(fds[0]);
		close(fds[1]);
		bed_drop(&b);
	}
}
END_TEST

/* A wrong directory is told by what is wrong with it. */
START_TEST(wrong_directories)
{
	char *dir = test_tmpdir();
	struct err_info err = {0};
	struct io_env *env = NULL;
	char path[256];

	snprintf(path, sizeof(path), "%s/none", dir);
	ck_assert_int_eq(io_env_open(path, IO_BACKEND_AUTO, false, &env, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "does not exist"));
	snprintf(path, sizeof(path), "%s/none/deep", dir);
	ck_assert_int_eq(io_env_open(path, IO_BACKEND_AUTO, true, &env, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "parent"));
	snprintf(path, sizeof(path), "%s/file", dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	ck_assert_int_eq(io_env_open(path, IO_BACKEND_AUTO, true, &env, &err), -ENOTDIR);
	ck_assert_ptr_nonnull(strstr(err.text, "not a directory"));
	ck_assert_ptr_null(env);

	snprintf(path, sizeof(path), "%s/made", dir);
	ck_ok(io_env_open(path, IO_BACKEND_AUTO, true, &env, &err));
	ck_assert_int_ge(io_env_dirfd(env), 0);
	io_env_close(env);
	if (geteuid() == 0 && seteuid(65534) == 0) {
		ck_assert_int_eq(io_env_open(path, IO_BACKEND_POSIX, false, &env, &err), -EACCES);
		ck_assert_ptr_nonnull(strstr(err.text, "owner and mode"));
		ck_assert_int_eq(seteuid(0), 0);
	}
	test_rmtree(dir);
	free(dir);
}
END_TEST

TEST_MAIN("io", 30, write_read_back, allocate_keeps_size, more_than_depth, done_may_submit, event_wakes,
	  cancel_ends_event, free_cancels_events, queue_changes_threads, errors_are_results, names_and_small_files,
	  lock_excludes, lock_names_owner, wrong_directories)
