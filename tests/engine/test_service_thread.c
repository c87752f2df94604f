/* What the service thread must leave to workers: it answers everybody, so it neither maps, unmaps nor waits for a lock that a worker holds. */
#include <semaphore.h>
#include <unistd.h>

#include "engine/engine_internal.h"
#include "tests/engine/world.h"

static unsigned maps, unmaps;

static void *counting_map(struct memory_provider *p, size_t size)
{
	(void)p;
	maps++;
	return memory_provider_anonymous.map(&memory_provider_anonymous, size);
}

static void counting_unmap(struct memory_provider *p, void *base, size_t size)
{
	(void)p;
	unmaps++;
	memory_provider_anonymous.unmap(&memory_provider_anonymous, base, size);
}

static struct memory_provider counting = {.map = counting_map, .unmap = counting_unmap};
static struct world w;

static void begin(void)
{
	world_init(&w, IO_BACKEND_POSIX);
	w.host.memory = &counting;
	world_open(&w);
	world_run_all(&w, JOBS_ALL);
}

/* A switch takes a memtable that JOB_LOG mapped, and what the last view lets go of is unmapped by JOB_DELETE. */
START_TEST(memtables_come_and_go_by_jobs)
{
	struct view *v;
	uint64_t ticket;
	unsigned before;

	begin();
	world_put(&w, slice_str("key"), slice_str("value"));
	before = maps;
	ck_ok(engine_flush_start(w.e, &ticket));
	ck_assert_uint_eq(maps, before);
	v = engine_view(w.e); /* of the full memtable, too */
	world_run_all(&w, JOB_LOG | JOB_FLUSH);
	ck_assert_uint_eq(maps, before + 1); /* the one for the next switch */
	ck_assert_int_eq(engine_flush_done(w.e, ticket), 1);
	ck_ok(engine_pump(w.e, true)); /* a newer view */
	ck_assert_uint_eq(unmaps, 0);
	view_unref(v);
	ck_assert_uint_eq(unmaps, 0);
	world_run_all(&w, JOB_DELETE);
	ck_assert_uint_eq(unmaps, 1);
	world_close(&w);
	ck_assert_uint_eq(unmaps, maps);
	world_fini(&w);
}
END_TEST

/* A batch that needs more than an ordinary memtable gets its own; the one that was ready goes. */
START_TEST(large_batch_maps_its_own)
{
	struct slice value = {0};
	unsigned before;

	begin();
	value.size = 4 * memtable_arena(&w.options);
	value.data = calloc(1, value.size);
	w.options.limits.max_value = value.size;
	world_close(&w);
	w.options.max_batch_bytes = 2 * value.size;
	w.options.wal_ring_bytes = 4 << 20;
	w.host.window = NULL;
	world_open(&w);
	world_run_all(&w, JOBS_ALL);
	world_put(&w, slice_str("small"), slice_str("value"));
	before = maps;
	world_put(&w, slice_str("large"), value);
	ck_assert_uint_ge(maps, before + 1);
	world_run_all(&w, JOBS_ALL);
	ck_ok(engine_pump(w.e, true));
	world_check(&w);
	world_close(&w);
	ck_assert_uint_eq(unmaps, maps);
	free((void *)value.data);
	world_fini(&w);
}
END_TEST

/* While somebody holds the lock, reads go on with the view that is there; the next look finds the new one. */
START_TEST(view_waits_for_nobody)
{
	struct view *old, *v;

	begin();
	old = engine_view(w.e);
	pthread_mutex_lock(&w.e->lock);
	view_changed(w.e);
	v = engine_view(w.e); /* with a lock that is not free a deadlock, were it to wait */
	ck_assert_ptr_eq(v, old);
	pthread_mutex_unlock(&w.e->lock);
	view_unref(v);
	v = engine_view(w.e);
	ck_assert_ptr_ne(v, old);
	view_unref(v);
	view_unref(old);
	world_fini(&w);
}
END_TEST

static void *hold_lock(void *held)
{
	pthread_mutex_lock(&w.e->lock);
	sem_post(held);
	usleep(50000);
	pthread_mutex_unlock(&w.e->lock);
	return NULL;
}

/* Before a sleep, which may last for hours, it does wait: what an old view keeps is a memtable, and the files of tables that were replaced. */
START_TEST(view_is_new_before_a_sleep)
{
	pthread_t holder;
	sem_t held;

	begin();
	ck_ok(engine_pump(w.e, true));
	view_changed(w.e);
	ck_ok(sem_init(&held, 0, 0));
	ck_ok(pthread_create(&holder, NULL, hold_lock, &held));
	ck_ok(sem_wait(&held));
	ck_ok(engine_pump(w.e, true));
	ck_assert_uint_eq(w.e->view->generation, w.e->generation);
	ck_ok(pthread_join(holder, NULL));
	sem_destroy(&held);
	world_fini(&w);
}
END_TEST

TEST_MAIN("service_thread", 30, memtables_come_and_go_by_jobs, large_batch_maps_its_own, view_waits_for_nobody,
	  view_is_new_before_a_sleep)
