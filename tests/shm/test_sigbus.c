#include "shm/sigbus.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"

enum { PAGES = 8, PAGE = 4096, SIZE = PAGES * PAGE };

/* Shared memory as a channel is: mapped here, and the descriptor in somebody else's hands. */
static volatile unsigned char *channel(int *fd_out)
{
	void *p;
	int fd = memfd_create("channel", MFD_CLOEXEC);

	ck_ok(ftruncate(fd, SIZE));
	p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	memset(p, 'x', SIZE);
	*fd_out = fd;
	return p;
}

/*
 * The client truncates its channel: reads see zeros, writes go nowhere, the session is marked, its neighbour is
 * untouched.
 */
START_TEST(truncated_channel_is_survived)
{
	int fd, other_fd, slot, other_slot;
	volatile unsigned char *p = channel(&fd), *other = channel(&other_fd);

	ck_ok(sigbus_guard_install());
	slot = sigbus_guard_add((void *)p, SIZE);
	other_slot = sigbus_guard_add((void *)other, SIZE);
	ck_assert_int_ge(slot, 0);
	ck_assert_int_ne(slot, other_slot);
	ck_assert_uint_eq(p[5 * PAGE], 'x');
	ck_assert(!sigbus_guard_broken(slot));

	ck_ok(ftruncate(fd, PAGE));
	ck_assert_uint_eq(p[5 * PAGE], 0);
	ck_assert(sigbus_guard_broken(slot));
	/* The whole range is zero pages now: nothing in it can fault a second time. */
	for (int i = 0; i < PAGES; i++) {
		ck_assert_uint_eq(p[i * PAGE], 0);
		p[i * PAGE + 1] = 'w';
	}
	ck_assert(!sigbus_guard_broken(other_slot));
	ck_assert_uint_eq(other[0], 'x');
	sigbus_guard_remove(slot);
	sigbus_guard_remove(other_slot);
	ck_ok(munmap((void *)p, SIZE));
	ck_ok(munmap((void *)other, SIZE));
}
END_TEST

/* A fault by a write, and one in the range's last byte, are caught as well. */
START_TEST(write_and_last_byte_are_caught)
{
	int fd, slot;
	volatile unsigned char *p = channel(&fd);

	ck_ok(sigbus_guard_install());
	slot = sigbus_guard_add((void *)p, SIZE);
	ck_ok(ftruncate(fd, 0));
	p[SIZE - 1] = 'w';
	ck_assert(sigbus_guard_broken(slot));
	ck_assert_uint_eq(p[SIZE - 1], 'w');
	sigbus_guard_remove(slot);
}
END_TEST

/* errno is the interrupted code's own. */
START_TEST(errno_survives)
{
	int fd, slot;
	volatile unsigned char *p = channel(&fd);

	ck_ok(sigbus_guard_install());
	slot = sigbus_guard_add((void *)p, SIZE);
	ck_ok(ftruncate(fd, 0));
	errno = 4242;
	(void)p[0];
	ck_assert_int_eq(errno, 4242);
	sigbus_guard_remove(slot);
}
END_TEST

static void *touch(void *arg)
{
	volatile unsigned char *p = arg;

	for (int i = 0; i < PAGES; i++)
		(void)p[i * PAGE];
	return NULL;
}

/* Two threads that fault in one range at the same time both come through. */
START_TEST(threads_fault_together)
{
	ck_ok(sigbus_guard_install());
	for (int round = 0; round < 100; round++) {
		pthread_t a, b;
		int fd, slot;
		volatile unsigned char *p = channel(&fd);

		slot = sigbus_guard_add((void *)p, SIZE);
		ck_ok(ftruncate(fd, 0));
		ck_ok(pthread_create(&a, NULL, touch, (void *)p));
		ck_ok(pthread_create(&b, NULL, touch, (void *)p));
		ck_ok(pthread_join(a, NULL));
		ck_ok(pthread_join(b, NULL));
		ck_assert(sigbus_guard_broken(slot));
		sigbus_guard_remove(slot);
		munmap((void *)p, SIZE);
		close(fd);
	}
}
END_TEST

/* Runs @act in a child with the guard installed; returns the signal that ended it, or -1. */
static int dies_of(void (*act)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (sigbus_guard_install() < 0)
			_exit(1);
		act();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : -1;
}

static void fault_outside(void)
{
	int fd, other_fd;
	volatile unsigned char *p = channel(&fd), *other = channel(&other_fd);

	sigbus_guard_add((void *)other, SIZE);
	if (ftruncate(fd, 0) == 0)
		(void)p[0];
}

static void fault_after_remove(void)
{
	int fd;
	volatile unsigned char *p = channel(&fd);

	sigbus_guard_remove(sigbus_guard_add((void *)p, SIZE));
	if (ftruncate(fd, 0) == 0)
		(void)p[0];
}

static void sent_by_somebody(void)
{
	raise(SIGBUS);
	pause();
}

/*
 * A fault that no client can cause is a bug, and must end the process as it always did, not be papered over with zeros.
 */
START_TEST(real_faults_still_kill)
{
	ck_assert_int_eq(dies_of(fault_outside), SIGBUS);
	ck_assert_int_eq(dies_of(fault_after_remove), SIGBUS);
	ck_assert_int_eq(dies_of(sent_by_somebody), SIGBUS);
}
END_TEST

/* Slots are reused, start unbroken, and a full table says so. */
START_TEST(table_fills_and_frees)
{
	static unsigned char dummy[1];
	int n = 0, slot;

	while ((slot = sigbus_guard_add(dummy, 1)) >= 0)
		ck_assert_int_eq(slot, n++);
	ck_assert_int_eq(slot, -ENOSPC);
	ck_assert_int_ge(n, 4096);
	sigbus_guard_remove(1234);
	ck_assert_int_eq(sigbus_guard_add(dummy, 1), 1234);
	ck_assert(!sigbus_guard_broken(1234));
}
END_TEST

TEST_MAIN("sigbus", 30, truncated_channel_is_survived, write_and_last_byte_are_caught, errno_survives,
	  threads_fault_together, real_faults_still_kill, table_fills_and_frees)
