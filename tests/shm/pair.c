#include "tests/shm/pair.h"

#include <sys/mman.h>

void pair_init(struct pair *p, uint32_t entries)
{
	unsigned char *arena;
	uint64_t session;

	p->size = channel_size(entries, ARENA_SIZE_MIN);
	p->base = mmap(NULL, p->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(p->base, MAP_FAILED);
	ring_daemon_init(&p->daemon, p->base, 0x5e55, entries, ARENA_SIZE_MIN, &arena);
	ck_ok(ring_client_init(&p->client, p->base, p->size, &session, &p->arena, &p->arena_size));
	ck_assert_uint_eq(session, 0x5e55);
	ck_assert_ptr_eq(arena, p->arena);
	ck_assert_uint_eq(p->arena_size, ARENA_SIZE_MIN);
}

void pair_fini(struct pair *p)
{
	munmap(p->base, p->size);
}

void pair_start_at(struct pair *p, uint32_t start)
{
	p->client.sq_tail = p->client.sq_head = p->client.cq_head = start;
	p->daemon.sq_head = p->daemon.cq_tail = p->daemon.cq_shown = p->daemon.cq_head = start;
	p->daemon.mine->sq_head = p->daemon.mine->cq_tail = start;
	p->client.mine->sq_tail = p->client.mine->cq_head = start;
}

void pair_check(const struct pair *p)
{
	const char *why = "";

	ck_assert_msg(ring_daemon_check(&p->daemon, &why) == 0, "%s", why);
}

bool pair_submit(struct pair *p, uint64_t user_data)
{
	ck_assert_uint_gt(ring_sq_room(&p->client), 0);
	*ring_sq_slot(&p->client, 0) = (struct sqe){.user_data = user_data};
	return ring_sq_publish(&p->client, 1);
}

int pair_complete(struct pair *p, uint64_t user_data)
{
	struct cqe cqe = {.user_data = user_data};

	return ring_cq_push(&p->daemon, &cqe);
}
