/*
 * What a client may conclude from a hang-up: that nothing more is taken from its ring. So a daemon that lives must have ended the session first.
 */
#include "tests/daemon/rig.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/control.h"
#include "daemon/turns.h"
#include "shm/park.h"

static bool hung_up(int socket)
{
	struct pollfd p = {.fd = socket, .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0;
}

/*
 * The control thread lets a client go (its user may not stay) while the service thread has not heard of it and still takes a write. Had the client seen the
 * hang-up with the write in its ring, it would have sent it once more by another session.
 */
START_TEST(not_before_the_end)
{
	struct control control = {.service = &rig.service};
	struct client c;
	int sockets[2];

	rig.still = rig.no_workers = true;
	rig_start();
	rig.service.now_ns = monotonic_ns();
	control.epoll = epoll_create1(EPOLL_CLOEXEC);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets), 0);
	client_open_with(&c, false, sockets[0]);
	prepare(&c, 0, OP_NOP);
	ring_sq_publish(&c.ring, 1);
	control_hang_up(&control, c.s);
	ck_assert(!hung_up(sockets[1]));
	turns_take(&rig.service);
	ck_assert_uint_eq(atomic_load(&c.ring.theirs->sq_head), 1);
	client_close(&c);
	ck_assert(hung_up(sockets[1]));
	close(sockets[1]);
	close(control.epoll);
	rig_stop();
}
END_TEST

TEST_MAIN("hang_up", 30, not_before_the_end)
