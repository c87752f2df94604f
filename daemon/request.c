#include "daemon/request.h"

#include <stdlib.h>

enum {
	CHUNK = 64,		/* requests allocated at once */
	IN_KEEP_MAX = 64 << 10, /* a larger payload buffer is freed with its request's use */
};

struct chunk {
	struct list link;
	struct request requests[CHUNK];
};

void request_pool_init(struct request_pool *pool, struct service *service, struct read_shared *shared)
{
	pool->service = service;
	pool->shared = shared;
	pool->busy = 0;
	list_init(&pool->idle);
	list_init(&pool->chunks);
}

static void drop_buffer(struct request *r)
{
	if (r->in != r->in_space)
		free(r->in);
	r->in = r->in_space;
	r->in_cap = sizeof(r->in_space);
}

void request_pool_fini(struct request_pool *pool)
{
	struct list *l;

	assert(!pool->busy);
	while ((l = list_pop(&pool->chunks))) {
		struct chunk *c = container_of(l, struct chunk, link);

		for (unsigned i = 0; i < CHUNK; i++) {
			read_ctx_fini(&c->requests[i].ctx);
			drop_buffer(&c->requests[i]);
		}
		free(c);
	}
	list_init(&pool->idle);
}

static int grow(struct request_pool *pool)
{
	struct chunk *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	list_push_back(&pool->chunks, &c->link);
	for (unsigned i = 0; i < CHUNK; i++) {
		struct request *r = &c->requests[i];

		r->service = pool->service;
		list_init(&r->of_session);
		r->in = r->in_space;
		r->in_cap = sizeof(r->in_space);
		read_ctx_init(&r->ctx, pool->shared);
		list_push_back(&pool->idle, &r->link);
	}
	return 0;
}

struct request *request_get(struct request_pool *pool, struct session *s, const struct sqe *sqe)
{
	struct list *l = list_pop(&pool->idle);
	struct request *r;

	if (unlikely(!l)) {
		if (grow(pool) < 0)
			return NULL;
		l = list_pop(&pool->idle);
	}
	pool->busy++;
	r = container_of(l, struct request, link);
	r->session = s;
	r->sqe = *sqe;
	r->state = REQUEST_RUNNING;
	r->delay = 0;
	r->flags = 0;
	r->taken_ns = 0;
	r->part = REGION_PARTS;
	r->waited = false;
	r->sequence = 0;
	return r;
}

void request_drop_view(struct request *r)
{
	if (!r->view)
		return;
	read_ctx_reset(&r->ctx);
	r->ctx.no_fill = false;
	r->ctx.readahead = 0;
	view_unref(r->view);
	r->view = NULL;
}

void request_put(struct request_pool *pool, struct request *r)
{
	assert(!r->ctx.in_flight && !r->room && !r->reader && !r->timed.place);
	list_remove(&r->link);
	list_remove(&r->of_session);
	request_drop_view(r);
	if (r->scan.out) {
		scan_fini(&r->scan);
		memset(&r->scan, 0, sizeof(r->scan));
	}
	if (unlikely(r->in_cap > IN_KEEP_MAX))
		drop_buffer(r);
	r->session = NULL;
	pool->busy--;
	/* The one used last is the one in the CPU's cache: it is the next to go out. */
	list_push_back(pool->idle.next, &r->link);
}

int request_copy_in(struct request *r, const unsigned char *from, size_t size)
{
	if (unlikely(size > r->in_cap)) {
		size_t cap = size < IN_KEEP_MAX ? IN_KEEP_MAX : size;
		unsigned char *in = malloc(cap);

		if (!in)
			return -ENOMEM;
		drop_buffer(r);
		r->in = in;
		r->in_cap = cap;
	}
	if (size)
		memcpy(r->in, from, size);
	/* The copy is made now, once: the compiler must not look at the client's bytes again later. */
	__asm__ __volatile__("" ::: "memory");
	return 0;
}
