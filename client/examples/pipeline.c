/*
 * pipeline.c - thousands of operations under way from one thread, in an epoll loop of its own.
 *
 * Writes N items, then reads all of them back. Other
 * descriptors could be waited for in the same loop.
 *
 *	cc pipeline.c $(pkg-config --cflags --libs shale) -o pipeline && ./pipeline SOCKET-OR-DIRECTORY [NUMBER]
 */
#include <shale.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

struct run {
	struct shale_db *db;
	struct shale_queue *queue;
	int epoll;
	long total, begun, ended, found, failed;
};

/* One more operation. 0, or -EAGAIN: enough are under way. */
static int submit(struct run *r, int writing)
{
	char key[32], value[32];
	int key_len = snprintf(key, sizeof(key), "item/%08ld", r->begun);
	int value_len = snprintf(value, sizeof(value), "%ld", r->begun * r->begun);
	void *user = (void *)r->begun;

	/* Key and value are copied: they may go out of scope. */
	if (writing)
		return shale_submit_put(r->queue, NULL, key, (size_t)key_len, value, (size_t)value_len, user);
	return shale_submit_get(r->queue, NULL, key, (size_t)key_len, NULL, 0, user);
}

static void completed(struct run *r, const struct shale_completion *c)
{
	r->ended++;
	if (c->result < 0) {
		r->failed++;
		fprintf(stderr, "item %ld: %s\n", (long)c->user, shale_strerror(c->result));
	} else if (c->value) {
		long n = (long)c->user;

		r->found += strtol(c->value, NULL, 10) == n * n;
		shale_free(c->value);
	}
}

static int pass(struct run *r, int writing)
{
	r->begun = r->ended = 0;
	while (r->ended < r->total) {
		struct shale_completion done[64];
		struct epoll_event event;
		int n, rc = 0;

		while (r->begun < r->total && (rc = submit(r, writing)) == 0)
			r->begun++;
		if (rc < 0 && rc != -EAGAIN)
			return rc;
		while ((n = shale_poll(r->queue, done, 64)) > 0)
			for (int i = 0; i < n; i++)
				completed(r, &done[i]);
		/* Nothing is there now. Only when that is still so with the alarm set, sleep. */
		if (n < 0 || (r->ended < r->total && shale_queue_pending(r->queue) && shale_arm(r->queue) == 0 &&
			      epoll_wait(r->epoll, &event, 1, -1) < 0 && errno != EINTR))
			return -1;
	}
	return 0;
}

static int run(struct run *r)
{
	struct epoll_event event = {.events = EPOLLIN};
	int rc = shale_queue_open(r->db, NULL, &r->queue);

	if (rc < 0)
		return rc;
	r->epoll = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl(r->epoll, EPOLL_CTL_ADD, shale_event_fd(r->queue), &event);
	rc = pass(r, 1);
	if (rc == 0)
		rc = pass(r, 0);
	shale_queue_close(r->queue);
	return rc;
}

int main(int argc, char **argv)
{
	struct run r = {.total = argc > 2 ? atol(argv[2]) : 10000};
	int rc;

	if (argc < 2) {
		fprintf(stderr, "usage: pipeline SOCKET-OR-DIRECTORY [NUMBER]\n");
		return 2;
	}
	if (shale_open(argv[1], NULL, &r.db) < 0) {
		fprintf(stderr, "open: %s\n", shale_last_error(NULL));
		return 1;
	}
	rc = run(&r);
	if (rc < 0)
		fprintf(stderr, "pipeline: %s\n", shale_last_error(r.db));
	printf("%ld written, %ld read back right, %ld failed\n", r.total, r.found, r.failed);
	shale_close(r.db);
	return rc < 0 || r.failed || r.found != r.total;
}
