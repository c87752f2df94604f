#include "tests/daemon/rig.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shm/sigbus.h"

enum { ARENA = 256 << 10 };

struct rig rig;

static void jobs_ready(struct engine_host *host)
{
	(void)host;
	workers_wake(&rig.workers);
}

static void progress(struct engine_host *host)
{
	(void)host;
	if (rig.up)
		service_progress(&rig.service);
}

static void key_changes(struct engine_host *host, struct slice user_key)
{
	(void)host;
	row_cache_drop(&rig.rows.cache, user_key);
}

static void quiet(struct engine_host *host, int priority, const char *text)
{
	(void)host, (void)priority, (void)text;
}

/*
 * The service's queue, whose fdatasync can be made to fail: what is submitted for a closed descriptor is answered -EBADF. Its reads can be held back.
 */
static const struct io_queue_ops *real_ops;
static struct io_req *held[64];

static void submit(struct io_queue *q, struct io_req *req)
{
	static struct io_file closed = {.fd = -1};

	if (req->op == IO_FDATASYNC && atomic_load(&rig.fail_sync))
		req->file = &closed;
	if (req->op == IO_READ && atomic_load(&rig.hold_reads)) {
		ck_assert_uint_lt(rig.held, ARRAY_SIZE(held));
		held[rig.held++] = req;
		return;
	}
	while (rig.held && !atomic_load(&rig.hold_reads))
		real_ops->submit(q, held[--rig.held]);
	real_ops->submit(q, req);
}

static void wrap(struct io_queue *q)
{
	static struct io_queue_ops ops;

	real_ops = q->ops;
	ops = *real_ops;
	ops.submit = submit;
	q->ops = &ops;
}

static struct io_queue *queue;

/* As in daemon.c. */
static void set_up(void)
{
	struct engine_options options;
	struct engine_recovery recovery;
	struct err_info err = {0};

	ck_ok(io_queue_new(rig.env, 64, &queue));
	wrap(queue);
	config_engine_options(&rig.config, &options);
	rig.host = (struct engine_host){
		.jobs_ready = jobs_ready, .progress = progress, .log = quiet, .key_changes = key_changes};
	ck_assert_msg(engine_open(rig.env, queue, &options, &rig.host, &recovery, &rig.engine, &err) == 0, "%s",
		      err.text);
	ck_ok(region_create(&rig.region, rig.instance, rig.dir, 0600, &err));
	ck_ok(rows_open(&rig.rows, rig.instance, ROW_CACHE_MIN, &err));
	ck_ok(service_init(&rig.service, &rig.config, rig.engine, queue, &rig.region, &err));
	rig.service.rows = &rig.rows;
	if (rig.set_aside_every_ns)
		rig.service.set_aside_every_ns = rig.set_aside_every_ns;
	rig.up = true;
	stats_init(&rig.service, &recovery, rig.env);
}

/* The whole life of the daemon's middle, in one thread. */
static void *serve(void *arg)
{
	(void)arg;
	set_up();
	if (!rig.no_workers)
		rig_work();
	sem_post(&rig.ready);
	rig.rc = service_run(&rig.service);
	if (atomic_load_explicit(&rig.working, memory_order_acquire))
		workers_stop(&rig.workers);
	if (rig.rc < 0)
		engine_abandon(rig.engine);
	else
		ck_ok(engine_close(rig.engine));
	io_queue_free(queue);
	return NULL;
}

void rig_work(void)
{
	struct err_info err = {0};

	ck_ok(workers_start(&rig.workers, rig.env, rig.engine, 1, &err));
	atomic_store_explicit(&rig.working, true, memory_order_release);
}

void rig_start(void)
{
	struct err_info err = {0};

	config_default(&rig.config);
	ck_ok(config_set(&rig.config, "engine.write_buffer=1M", &err));
	ck_ok(config_set(&rig.config, "limits.snapshots=4", &err));
	if (rig.setting)
		ck_ok(config_set(&rig.config, rig.setting, &err));
	rig.dir = test_tmpdir();
	rig.next_id = UINT64_C(7) << 32;
	workers_init(&rig.workers);
	ck_ok(sigbus_guard_install());
	ck_ok(io_env_open(rig.dir, IO_BACKEND_AUTO, true, &rig.env, &err));
	ck_ok(segment_instance(io_env_dirfd(rig.env), rig.instance));
	if (rig.still) {
		set_up();
		return;
	}
	sem_init(&rig.ready, 0, 0);
	ck_assert_int_eq(pthread_create(&rig.thread, NULL, serve, NULL), 0);
	sem_wait(&rig.ready);
}

void rig_stop_as(int rc)
{
	if (rig.still) {
		/* Nothing of a still service waits when its sessions are closed. */
		request_pool_fini(&rig.service.pool);
		ck_ok(engine_close(rig.engine));
		io_queue_free(queue);
	} else {
		service_stop(&rig.service);
		pthread_join(rig.thread, NULL);
		ck_assert_int_eq(rig.rc, rc);
	}
	service_fini(&rig.service);
	rows_close(&rig.rows);
	region_close(&rig.region, true);
	io_env_close(rig.env);
	test_rmtree(rig.dir);
	free(rig.dir);
	memset(&rig, 0, sizeof(rig));
}

void rig_stop(void)
{
	rig_stop_as(0);
}

/* ---- a client ---- */

static void open_session(struct client *c, bool read_only, int socket, uid_t uid, size_t arena)
{
	struct session_wish wish = {.entries = 16, .arena_size = arena, .read_only = read_only};
	struct err_info err = {0};
	uint64_t id;

	memset(c, 0, sizeof(*c));
	ck_assert_msg(session_new(rig.instance, rig.next_id++, &wish, &c->s, &err) == 0, "%s", err.text);
	ck_ok(ring_client_init(&c->ring, c->s->channel.base, c->s->channel.size, &id, &c->arena, &c->arena_size));
	ck_assert_uint_eq(id, c->s->id);
	c->s->socket = socket;
	c->s->uid = uid;
	service_post(&rig.service, c->s, SESSION_ADOPT);
	if (rig.still)
		ck_assert_uint_eq(roster_read_mail(&rig.service), 1);
}

void client_open_with(struct client *c, bool read_only, int socket)
{
	open_session(c, read_only, socket, 0, ARENA);
}

void client_open(struct client *c, bool read_only)
{
	open_session(c, read_only, -1, 0, ARENA);
}

void client_open_as(struct client *c, uid_t uid)
{
	open_session(c, false, -1, uid, ARENA);
}

void client_open_large(struct client *c, size_t arena)
{
	open_session(c, false, -1, 0, arena);
}

void client_open_large_as(struct client *c, uid_t uid, size_t arena)
{
	open_session(c, false, -1, uid, arena);
}

void publish(struct client *c, unsigned n)
{
	if (ring_sq_publish(&c->ring, n))
		service_ring(c->s->doorbell);
}

void nap(void)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	nanosleep(&pause, NULL);
}

struct cqe take(struct client *c)
{
	const struct cqe *seen;
	struct cqe cqe;

	while (!(seen = ring_cq_peek(&c->ring)))
		ck_assert_msg(ring_client_park(&c->ring, UINT64_C(8000000000)) == 0, "no completion in 8 s");
	cqe = *seen;
	ring_cq_pop(&c->ring);
	return cqe;
}

struct sqe *prepare(struct client *c, unsigned ahead, unsigned op)
{
	struct sqe *sqe = ring_sq_slot(&c->ring, ahead);

	*sqe = (struct sqe){.user_data = ++c->user_data, .session = c->s->id, .op = (uint16_t)op};
	sqe->out_off = c->arena_size / 2;
	sqe->out_len = (uint32_t)(c->arena_size / 2);
	return sqe;
}

struct cqe call(struct client *c, unsigned op, unsigned flags, uint64_t sequence, const void *in, size_t size)
{
	struct sqe *sqe = prepare(c, 0, op);
	struct cqe cqe;

	if (size)
		memcpy(c->arena, in, size);
	sqe->in_len = (uint32_t)size;
	sqe->flags = (uint16_t)flags;
	sqe->sequence = sequence;
	publish(c, 1);
	cqe = take(c);
	ck_assert_uint_eq(cqe.user_data, c->user_data);
	return cqe;
}

const unsigned char *answer(const struct client *c)
{
	return c->arena + c->arena_size / 2;
}

struct cqe put(struct client *c, unsigned flags, const char *key, const char *value)
{
	unsigned char batch[4096], *end = batch_begin(batch);

	end = value ? batch_append_put(end, slice_str(key), slice_str(value))
		    : batch_append_delete(end, slice_str(key));
	batch_set_count(batch, 1);
	return call(c, OP_WRITE, flags, 0, batch, (size_t)(end - batch));
}

void ck_get(struct client *c, uint64_t sequence, const char *key, const char *value)
{
	struct cqe cqe = call(c, OP_GET, 0, sequence, key, strlen(key));

	if (!value) {
		ck_assert_int_eq(cqe.res, SHALE_NOTFOUND);
		return;
	}
	ck_assert_int_eq(cqe.res, 0);
	ck_assert_uint_eq(cqe.len, strlen(value));
	ck_assert_int_eq(memcmp(answer(c), value, cqe.len), 0);
}

/* As the control thread: the mail that says @bits about @s. */
void await_mail(struct session *s, unsigned bits)
{
	unsigned got = 0, more;

	for (int i = 0; i < 8000 && !(got & bits); i++) {
		struct mail *mail = mailbox_take(&rig.service.outbox, &more);

		if (mail) {
			ck_assert_ptr_eq(mail, &s->out);
			got |= more;
		} else {
			nap();
		}
	}
	ck_assert_msg(got & bits, "the session was not told of (%u)", bits);
}

void client_close(struct client *c)
{
	service_post(&rig.service, c->s, SESSION_END);
	if (rig.still) {
		ck_assert_uint_gt(roster_read_mail(&rig.service), 0);
		for (int i = 0; c->s->bell_armed && i < 1000; i++)
			io_queue_wait(queue, 1000000);
		roster_let_go(&rig.service);
	}
	await_mail(c->s, SESSION_GONE);
	session_free(c->s);
}
