/*
 * A database whose newest log is any bytes: it opens, or is refused with words and is left as it was. What it opens to can be read from
 * end to end, passes its checks, takes a write, and opens again with that write in it.
 *
 * Input: a byte (bit 0: checksums are put right first; bit 1: paranoid), then 000003.log.
 */
#include <errno.h>

#include "engine/check.h"
#include "engine/engine.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_env.h"
#include "tests/fuzz/seal.h"

struct place {
	struct memory_env m;
	struct io_queue *q;
	struct engine_options options;
	struct engine_host host;
};

static void quiet(struct engine_host *h, int priority, const char *text)
{
	(void)h, (void)priority, (void)text;
}

static void place_make(struct place *p, bool paranoid)
{
	memset(p, 0, sizeof(*p));
	memory_env_init(&p->m);
	p->q = memory_queue(&p->m);
	engine_options_default(&p->options);
	p->options.write_buffer_bytes = 64 << 10;
	p->options.wal_ring_bytes = 256 << 10;
	p->options.max_batch_bytes = 32 << 10;
	p->options.block_cache_bytes = 64 << 10;
	p->options.table.compression = COMPRESS_NONE;
	p->options.create_if_missing = true;
	p->options.paranoid = paranoid;
	p->host.log = quiet;
}

static int open_it(struct place *p, struct engine **out)
{
	struct engine_recovery recovery;
	struct err_info err = {0};
	int rc = engine_open(&p->m.base, p->q, &p->options, &p->host, &recovery, out, &err);

	ENSURE(rc == 0 || (rc < 0 && rc != -ENOMEM && err.text[0]));
	return rc;
}

static const unsigned char key[] = "\xff\xff written after it was opened";

static void write_one(struct engine *e)
{
	unsigned char batch[128], *end = batch_begin(batch);
	uint64_t before = engine_last_sequence(e), sequence, position;
	uint16_t why;

	end = batch_append_put(end, slice_of(key, sizeof(key)), slice_of("v", 1));
	batch_set_count(batch, 1);
	if (before == SEQUENCE_MAX)
		return; /* the log said that none is left */
	ENSURE(engine_write(e, batch, (size_t)(end - batch), &sequence, &position, &why) == 0);
	ENSURE(sequence == before + 1);
}

static void arrived(struct read_ctx *ctx)
{
	(void)ctx; /* probe() looks at in_flight */
}

static int probe(struct place *p, struct engine *e, struct view *v, struct scan *scan)
{
	struct read_ctx ctx;
	struct slice value;
	bool scanning = true;
	int rc;

	read_ctx_init(&ctx, engine_read_shared(e));
	for (unsigned rounds = 0;; rounds++) {
		rc = scanning ? engine_scan(v, &ctx, scan)
			      : engine_get(v, &ctx, engine_last_sequence(e), slice_of(key, sizeof(key)), &value);
		if (rc == READ_MISS) {
			ENSURE(rounds < 10000 && read_ctx_fetch(&ctx, arrived) == 0);
			while (ctx.in_flight)
				ENSURE(io_queue_wait(p->q, UINT64_MAX) >= 0);
			continue;
		}
		if (!scanning)
			break;
		ENSURE(rc == 0);
		scanning = false;
	}
	read_ctx_fini(&ctx);
	return rc;
}

/* Reads it all in one chunk; whether the key is there. */
static int look(struct place *p, struct engine *e)
{
	static unsigned char chunk[4 << 20];
	struct scan scan = {.sequence = engine_last_sequence(e), .out = chunk, .out_size = sizeof(chunk)};
	struct view *v = engine_view(e);
	struct err_info err = {0};
	int rc;

	ENSURE(v);
	rc = probe(p, e, v, &scan);
	scan_fini(&scan);
	view_unref(v);
	ENSURE(engine_check(e, &err) == 0 && engine_check_deep(e, p->q, &err) == 0);
	return rc;
}

FUZZ_TARGET(recovery)
{
	struct input in = {data, data + size};
	unsigned mode = input_byte(&in);
	struct slice bytes = input_slice(&in, 1 << 20);
	unsigned char *copy = input_copy(bytes);
	struct engine *e;
	struct place p;

	if (mode & 1)
		seal_log(copy, bytes.size);
	place_make(&p, mode & 2);
	ENSURE(open_it(&p, &e) == 0 && engine_close(e) == 0);
	memory_env_put(&p.m, "000003.log", copy, bytes.size);
	if (open_it(&p, &e) == 0) {
		uint64_t last;

		look(&p, e);
		write_one(e);
		last = engine_last_sequence(e);
		ENSURE(engine_close(e) == 0);
		p.options.paranoid = false;
		if (open_it(&p, &e) == 0) {
			ENSURE(engine_last_sequence(e) == last);
			ENSURE(last == SEQUENCE_MAX || look(&p, e) == 0);
			ENSURE(engine_close(e) == 0);
		} else {
			ENSURE(!"what was open opens again");
		}
	}
	free(copy);
	io_queue_free(p.q);
	memory_env_fini(&p.m);
	return 0;
}
