/*
 * What passes between the daemon and a supervisor: words in one direction, sockets in the other.
 */
#include "tests/test.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/listen.h"
#include "daemon/notify.h"
#include "daemon/service.h"
#include "shm/error.h"

static char *folder;
static int ear;
static struct service service; /* large */

static void listen_to_it(const char *watchdog_usec)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	folder = test_tmpdir();
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.80s/notify", folder);
	ear = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_ok(bind(ear, (struct sockaddr *)&addr, sizeof(addr)));
	setenv("NOTIFY_SOCKET", addr.sun_path, 1);
	if (watchdog_usec)
		setenv("WATCHDOG_USEC", watchdog_usec, 1);
	mailbox_init(&service.inbox);
}

static void stop_listening(void)
{
	mailbox_fini(&service.inbox);
	close(ear);
	test_rmtree(folder);
	free(folder);
}

/* The next message, or "". */
static const char *heard(void)
{
	static char text[512];
	ssize_t n = recv(ear, text, sizeof(text) - 1, 0);

	text[n < 0 ? 0 : n] = '\0';
	return text;
}

/* The watchdog hears of a loop that turns, and of one that sleeps with nothing to do; of no other. */
START_TEST(watchdog_of_the_loop)
{
	struct notifier n;

	listen_to_it("3600000000");
	notifier_init(&n);
	ck_assert_uint_eq(n.period_ns, UINT64_C(3600000000000));
	atomic_store(&service.beats, 1);
	ck_assert_int_gt(notifier_tend(&n, &service, 0), 1000000); /* half an hour */
	ck_assert_str_eq(heard(), "WATCHDOG=1");
	ck_assert_int_gt(notifier_tend(&n, &service, 0), 1000000);
	ck_assert_str_eq(heard(), ""); /* not yet due */

	n.look_ns = 0; /* due, and the loop stands still */
	ck_assert_int_lt(notifier_tend(&n, &service, 0), 1000000);
	ck_assert_str_eq(heard(), "");
	n.look_ns = 0;
	atomic_store(&service.sleeping, true);
	notifier_tend(&n, &service, 0);
	ck_assert_str_eq(heard(), "WATCHDOG=1");
	n.look_ns = 0; /* it sleeps, but was called, and did not come */
	atomic_store(&service.progress, true);
	notifier_tend(&n, &service, 0);
	ck_assert_str_eq(heard(), "");
	n.look_ns = 0; /* it came */
	atomic_store(&service.beats, 2);
	notifier_tend(&n, &service, 0);
	ck_assert_str_eq(heard(), "WATCHDOG=1");
	stop_listening();
}
END_TEST

/* The number of sessions is told when it changes, and not again and again; without anything to tell there is no reason to wake. */
START_TEST(status_of_sessions)
{
	struct notifier n;

	listen_to_it(NULL);
	notifier_init(&n);
	ck_assert_int_eq(notifier_tend(&n, &service, 0), -1);
	ck_assert_int_eq(notifier_tend(&n, &service, 1), -1);
	ck_assert_str_eq(heard(), "STATUS=Serving 1 session");
	ck_assert_int_gt(notifier_tend(&n, &service, 2), 0); /* too soon: in a while */
	ck_assert_str_eq(heard(), "");
	n.told_ns = 1;
	ck_assert_int_eq(notifier_tend(&n, &service, 2), -1);
	ck_assert_str_eq(heard(), "STATUS=Serving 2 sessions");
	stop_listening();
}
END_TEST

/* Nobody listens: nothing is due, ever. */
START_TEST(nobody_listens)
{
	struct notifier n;

	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	notifier_init(&n);
	ck_assert_int_eq(notifier_tend(&n, &service, 5), -1);
}
END_TEST

/* What recovery tells is a request for more time; not for each word, for there may be many. */
START_TEST(recovery_asks_for_time)
{
	listen_to_it(NULL);
	notify_recovering("replaying 000012.log: 1 of 2 MiB");
	notify_recovering("replaying 000012.log: 2 of 2 MiB");
	ck_assert_str_eq(heard(), "STATUS=Recovering: replaying 000012.log: 1 of 2 MiB\nEXTEND_TIMEOUT_USEC=60000000");
	ck_assert_str_eq(heard(), "");
	notify_reloading();
	ck_assert_int_eq(strncmp(heard(), "RELOADING=1\nMONOTONIC_USEC=", 27), 0);
	stop_listening();
}
END_TEST

/* ---- passed sockets ---- */

enum { PASSED = 3, WORDS = 512 };

/* In a child, because the socket must be descriptor 3. What listen_passed says of it, and its words in @words. */
static int passed(int fd, unsigned count, char words[WORDS])
{
	int ends[2], rc = 0, status;
	pid_t pid;

	memset(words, 0, WORDS);
	ck_ok(pipe(ends));
	pid = fork();
	if (pid == 0) {
		struct err_info err = {0};
		char path[PATH_MAX] = "", number[32];
		ssize_t ignored;
		int out = dup2(ends[1], 20);

		dup2(fd, 21);
		dup2(21, PASSED);
		snprintf(number, sizeof(number), "%d", (int)getpid());
		setenv("LISTEN_PID", number, 1);
		snprintf(number, sizeof(number), "%u", count);
		setenv("LISTEN_FDS", number, 1);
		rc = listen_passed(path, &err);
		if (getenv("LISTEN_FDS"))
			rc = -1;
		ignored = write(out, &rc, sizeof(rc));
		ignored = write(out, rc < 0 ? err.text : path,
				WORDS - 1 < sizeof(err.text) ? WORDS - 1 : sizeof(err.text));
		(void)ignored;
		_exit(0);
	}
	close(ends[1]);
	ck_assert_int_eq(read(ends[0], &rc, sizeof(rc)), sizeof(rc));
	ck_assert_int_gt(read(ends[0], words, WORDS - 1), 0);
	close(ends[0]);
	waitpid(pid, &status, 0);
	return rc;
}

/* Only a listening socket of the right type is taken; of anything else it is said what the unit must say. */
START_TEST(sockets_that_are_passed)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char words[WORDS];
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0),
	    stream = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	folder = test_tmpdir();
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.80s/socket", folder);
	ck_ok(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
	ck_assert_int_eq(passed(fd, 1, words), -SHALE_ECONFIG); /* it does not listen */
	ck_assert_ptr_nonnull(strstr(words, "ListenSequentialPacket="));
	ck_ok(listen(fd, 5));
	ck_assert_int_eq(passed(fd, 1, words), PASSED);
	ck_assert_str_eq(words, addr.sun_path);
	ck_assert_int_eq(passed(stream, 1, words), -SHALE_ECONFIG);
	ck_assert_int_eq(passed(fd, 2, words), -SHALE_ECONFIG);
	ck_assert_ptr_nonnull(strstr(words, "2 sockets"));
	ck_assert_int_eq(access(addr.sun_path, F_OK), 0);
	/* Meant for another process: none of our business. */
	setenv("LISTEN_FDS", "1", 1);
	setenv("LISTEN_PID", "1", 1);
	ck_assert_int_eq(listen_passed(words, NULL), -ENOENT);
	close(fd);
	close(stream);
	test_rmtree(folder);
	free(folder);
}
END_TEST

TEST_MAIN("supervisor", 20, watchdog_of_the_loop, status_of_sessions, nobody_listens, recovery_asks_for_time,
	  sockets_that_are_passed)
