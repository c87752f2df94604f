#include "tests/fuzz/service_bed.h"

#include <unistd.h>

#include "daemon/ops.h"
#include "daemon/pending.h"
#include "daemon/roster.h"
#include "tests/fuzz/fuzz.h"

enum { INPUTS_MAX = 20000, MEMORY_MAX = 64 << 20, ROUNDS_MAX = 100000 };

struct bed bed;

static void jobs_ready(struct engine_host *h)
{
	(void)h;
}

static void progress(struct engine_host *h)
{
	(void)h; /* bed_settle() looks at everything in each round */
}

static void quiet(struct engine_host *h, int priority, const char *text)
{
	(void)h, (void)priority, (void)text;
}

static void must(int rc, const struct err_info *err)
{
	if (rc < 0)
		fprintf(stderr, "%s\n", err->text);
	ENSURE(rc >= 0);
}

static void write_some(void)
{
	unsigned char batch[512], *end;
	char key[16], value[64];
	uint64_t sequence, position;
	uint16_t why;

	for (unsigned i = 0; i < 100; i++) {
		end = batch_begin(batch);
		snprintf(key, sizeof(key), "key%03u", i);
		snprintf(value, sizeof(value), "value %u of some length", i);
		end = i % 10 == 9 ? batch_append_delete(end, slice_str(key))
				  : batch_append_put(end, slice_str(key), slice_str(value));
		batch_set_count(batch, 1);
		ENSURE(engine_write(bed.engine, batch, (size_t)(end - batch), &sequence, &position, &why) == 0);
	}
}

static void make(void)
{
	static const char *const settings[] = {"engine.write_buffer=64K", "wal.ring=1M",
					       "limits.max_request=256K", "limits.max_key=1K",
					       "limits.snapshots=4",	  "engine.block_cache=1M"};
	struct engine_options options;
	struct engine_recovery recovery;
	struct err_info err = {0};
	char instance[INSTANCE_LEN + 1];

	memset(&bed, 0, sizeof(bed));
	memory_env_init(&bed.memory);
	bed.queue = memory_queue(&bed.memory);
	bed.worker = memory_queue(&bed.memory);
	config_default(&bed.config);
	for (unsigned i = 0; i < ARRAY_SIZE(settings); i++)
		must(config_set(&bed.config, settings[i], &err), &err);
	must(config_check(&bed.config, &err), &err);
	config_engine_options(&bed.config, &options);
	bed.host = (struct engine_host){.jobs_ready = jobs_ready, .progress = progress, .log = quiet};
	must(engine_open(&bed.memory.base, bed.queue, &options, &bed.host, &recovery, &bed.engine, &err), &err);
	snprintf(instance, sizeof(instance), "f022%012x", (unsigned)getpid());
	must(region_create(&bed.region, instance, "memory", 0600, &err), &err);
	segment_unlink(&bed.region.segment); /* so that a crash leaves nothing */
	must(service_init(&bed.service, &bed.config, bed.engine, bed.queue, &bed.region, &err), &err);
	write_some();
}

static void unmake(void)
{
	bed_end_session();
	ENSURE(!bed.service.pool.busy);
	service_fini(&bed.service);
	region_close(&bed.region, false);
	ENSURE(engine_close(bed.engine) == 0);
	io_queue_free(bed.queue);
	io_queue_free(bed.worker);
	memory_env_fini(&bed.memory);
	bed.engine = NULL;
}

static void connect_one(void)
{
	static uint64_t next_id = UINT64_C(7) << 32;
	struct session_wish wish = {.entries = BED_ENTRIES, .arena_size = BED_ARENA};
	struct err_info err = {0};
	char instance[INSTANCE_LEN + 1];
	size_t arena_size;
	uint64_t id;

	snprintf(instance, sizeof(instance), "f022%012x", (unsigned)getpid());
	must(session_new(instance, next_id++, &wish, &bed.s, &err), &err);
	ENSURE(ring_client_init(&bed.ring, bed.s->channel.base, bed.s->channel.size, &id, &bed.arena, &arena_size) ==
	       0);
	service_post(&bed.service, bed.s, SESSION_ADOPT);
	ENSURE(roster_read_mail(&bed.service) == 1 && !bed.s->ending);
}

void bed_ready(void)
{
	if (bed.engine && (bed.inputs++ > INPUTS_MAX || bed.memory.bytes > MEMORY_MAX))
		unmake();
	if (!bed.engine)
		make();
	bed.service.now_ns = monotonic_ns();
	/* Lines about sessions that broke are not what is looked for. */
	bed.service.broken_brake = (struct log_brake){.window_ns = bed.service.now_ns, .lines = LOG_BURST};
	if (!bed.s)
		connect_one();
}

bool bed_visit(void)
{
	struct service *svc = &bed.service;
	struct session *s = bed.s;
	int room = ring_cq_room(&s->ring), n;

	n = room < 0 ? room : ring_sq_take(&s->ring, svc->taken, min_size((size_t)room, VISIT_TAKE));
	if (n < 0)
		session_break(svc, s, "its ring indices are out of bounds");
	for (int i = 0; i < n && !s->ending; i++)
		ops_execute(svc, s, &svc->taken[i]);
	return !s->ending;
}

static void show(void)
{
	struct list *l;

	while ((l = list_pop(&bed.service.dirty)))
		ring_cq_publish(&container_of(l, struct session, dirty)->ring);
}

static void round_of_work(void)
{
	struct service *svc = &bed.service;
	struct job *job;

	ENSURE(io_queue_poll(svc->queue) >= 0);
	pending_run_ready(svc);
	svc->stall_retry_ns = 0;
	pending_retry_stalled(svc);
	ENSURE(engine_pump(svc->engine, true) == 0);
	pending_complete_synced(svc);
	pending_check_jobs(svc);
	job = engine_next_job(svc->engine, JOB_LOG | JOB_FLUSH | JOB_COMPACT | JOB_DELETE | JOB_CHECK);
	if (job)
		ENSURE(engine_run_job(svc->engine, job, bed.worker) == 0);
	show();
	roster_let_go(svc);
}

void bed_settle(void)
{
	struct session *s = bed.s;

	for (unsigned rounds = 0;; rounds++) {
		const char *why = "";

		round_of_work();
		if (!s->ending && ring_daemon_check(&s->ring, &why) < 0)
			break; /* a hostile index: the next visit ends the session */
		if (s->ending || list_empty(&s->requests))
			break;
		ENSURE(rounds < ROUNDS_MAX);
	}
	ENSURE(engine_state(bed.engine, &(struct err_info){0}) == 0);
}

void bed_end_session(void)
{
	struct service *svc = &bed.service;
	struct session *s = bed.s;
	struct mail *mail;
	unsigned bits;
	bool gone = false;

	if (!s)
		return;
	service_post(svc, s, SESSION_END);
	roster_read_mail(svc);
	/* Reads and jobs of the session may be under way still. */
	for (unsigned rounds = 0; svc->pool.busy; rounds++) {
		round_of_work();
		ENSURE(rounds < ROUNDS_MAX);
	}
	roster_let_go(svc);
	while ((mail = mailbox_take(&svc->outbox, &bits)))
		gone |= mail == &s->out && (bits & SESSION_GONE);
	ENSURE(gone && !s->snapshot_count && list_empty(&s->requests));
	session_free(s);
	bed.s = NULL;
}
