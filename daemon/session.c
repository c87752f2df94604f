#include "daemon/session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/error.h"

/* A random name keeps other users from guessing it in the moment before it is unlinked; the mode (0600) keeps them out. */
static int make_channel(const char *instance, size_t size, struct segment *out, struct err_info *err)
{
	uint64_t noise[2];
	char what[40];
	int rc;

	if (getrandom(noise, sizeof(noise), 0) != sizeof(noise))
		return err_set(err, -EIO, "no random bytes for the channel's name");
	snprintf(what, sizeof(what), "chan.%016" PRIx64, noise[0] ^ noise[1]);
	rc = segment_create(instance, what, size, 0600, false, out, err);
	if (rc == 0)
		segment_unlink(out);
	return rc;
}

int session_new(const char *instance, uint64_t id, const struct session_wish *wish, struct session **out,
		struct err_info *err)
{
	size_t size = channel_size(wish->entries, wish->arena_size);
	struct session *s;
	int rc;

	if (!size)
		return err_set(err, -EINVAL, "a channel of %u entries and %zu bytes of arena cannot be made",
			       wish->entries, wish->arena_size);
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(err, -ENOMEM, "no memory for another session");
	s->id = id;
	s->channel.fd = s->doorbell = s->socket = s->pidfd = -1;
	s->guard = s->row = -1;
	s->read_only = wish->read_only;
	s->arena_size = wish->arena_size;
	mail_init(&s->in);
	mail_init(&s->out);
	list_init(&s->link);
	list_init(&s->dirty);
	list_init(&s->stalled_link);
	list_init(&s->stalled);
	list_init(&s->requests);
	list_init(&s->answering);
	list_init(&s->answer_link);
	list_init(&s->crowd);
	list_init(&s->crowd_link);
	list_init(&s->turn);
	list_init(&s->light);
	list_init(&s->leased);
	rc = make_channel(instance, size, &s->channel, err);
	if (rc < 0)
		goto fail;
	ring_daemon_init(&s->ring, s->channel.base, id, wish->entries, wish->arena_size, &s->arena);
	s->doorbell = eventfd(0, EFD_CLOEXEC);
	if (s->doorbell < 0) {
		rc = err_set(err, -errno, "no doorbell for another session: %s", shale_strerror(-errno));
		goto fail;
	}
	*out = s;
	return 0;
fail:
	session_free(s);
	return rc;
}

/* The peer never blocks us: a full socket holds a byte that it has not taken yet, so it is readable already. */
static void send_byte(const struct session *s)
{
	const char byte = 1;
	ssize_t ignored = send(s->socket, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);

	(void)ignored;
}

void session_wake(struct session *s, enum ring_wake how)
{
	if (how == RING_WAKE_FUTEX)
		ring_wake_client(&s->ring);
	else if (how == RING_WAKE_SOCKET)
		send_byte(s);
}

void session_tell(struct session *s, enum channel_state state)
{
	if (ring_daemon_set_state(&s->ring, state) == RING_WAKE_SOCKET)
		send_byte(s);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void session_free(struct session *s)
{
	if (!s)
		return;
	close_fd(s->socket);
	close_fd(s->pidfd);
	close_fd(s->doorbell);
	segment_close(&s->channel);
	free(s->snapshots);
	free(s);
}
