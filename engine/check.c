/*
 * check.c - all invariants of a running database, one after the other, over one pinned moment; as a job that somebody asked for, or here and now.
 *
 * Where the levels of the version are wrong, entries are not looked at: there is no order to hold them to.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/check_impl.h"

/* ---- findings ---- */

void check_key_set(struct check_key *k, struct slice user)
{
	k->size = (uint32_t)user.size;
	memcpy(k->bytes, user.data, min_size(user.size, sizeof(k->bytes)));
}

void check_range_set(struct check_finding *f, const struct file_meta *a, const struct file_meta *b)
{
	f->has_range = a->smallest.size >= IKEY_TRAILER && b->largest.size >= IKEY_TRAILER;
	if (!f->has_range)
		return;
	check_key_set(&f->first, ikey_user(key_buf_slice(&a->smallest)));
	check_key_set(&f->last, ikey_user(key_buf_slice(&b->largest)));
}

void check_tell(struct checking *c, const char *kind, int code, int level, const char *file, const char *fmt, ...)
{
	struct check_finding f = {.code = code, .level = level};
	va_list ap;

	snprintf(f.kind, sizeof(f.kind), "%s", kind);
	snprintf(f.file, sizeof(f.file), "%s", file ? file : "");
	va_start(ap, fmt);
	vsnprintf(f.what, sizeof(f.what), fmt, ap);
	va_end(ap);
	c->found(c, &f);
}

int check_over(const struct checking *c)
{
	return c->errand && errand_is_over(c->engine, c->errand) ? -ECANCELED : 0;
}

/* found() of a job. A table that is not there is missed by who looks for it and again by who reads it. */
static void keep(struct checking *c, const struct check_finding *f)
{
	struct check_result *r = c->result;

	for (unsigned i = 0; i < r->kept && strcmp(f->kind, "missing") == 0; i++) {
		if (strcmp(r->finding[i].kind, "missing") == 0 && strcmp(r->finding[i].file, f->file) == 0)
			return;
	}
	r->problems++;
	if (r->kept < CHECK_FINDINGS)
		r->finding[r->kept++] = *f;
}

/* ---- the moment ---- */

static void pin(struct checking *c)
{
	struct engine *e = c->engine;

	pthread_mutex_lock(&e->lock);
	c->version = version_ref(e->versions.current);
	c->memtables[c->memtable_count++] = memtable_ref(e->mem);
	for (unsigned i = e->immutable_count; i-- > 0;) {
		/* One whose table is installed stays in the list for a moment: its entries must not come twice. */
		if (e->immutables[i].next_log > e->versions.log_number)
			c->memtables[c->memtable_count++] = memtable_ref(e->immutables[i].mem);
	}
	c->sequence = engine_last_sequence(e); /* last: tables hold nothing after it */
	pthread_mutex_unlock(&e->lock);
	c->result->sequence = c->sequence;
	c->result->memtables = c->memtable_count;
	for (unsigned level = 0; level < LEVELS; level++) {
		c->result->tables += c->version->count[level];
		c->result->table_bytes += c->version->bytes[level];
	}
}

static void unpin(struct checking *c)
{
	while (c->memtable_count)
		memtable_unref(c->memtables[--c->memtable_count]);
	pthread_mutex_lock(&c->engine->lock);
	version_unref(c->version);
	engine_wake_jobs(c->engine); /* there may be something to delete */
	pthread_mutex_unlock(&c->engine->lock);
}

/* ---- the steps ---- */

/* 0: fine; 1: told; a failure. */
static int check_levels(struct checking *c)
{
	struct version_fault fault = {0};
	struct check_finding f = {.code = -SHALE_ECORRUPT, .level = -1};
	struct err_info why = {0};
	char name[FILE_NAME_MAX];
	int rc = version_check_at(c->version, &fault, &why);

	if (rc == 0)
		return 0;
	if (rc != -SHALE_ECORRUPT)
		return err_set(c->err, rc, "%s", why.text);
	f.level = fault.level;
	snprintf(f.kind, sizeof(f.kind), "%s", fault.kind);
	snprintf(f.what, sizeof(f.what), "%.*s", (int)sizeof(f.what) - 1, why.text);
	if (fault.a) {
		snprintf(f.file, sizeof(f.file), "%s", file_name(name, FILE_TABLE, fault.a->number));
		check_range_set(&f, fault.a, fault.b ? fault.b : fault.a);
	}
	c->found(c, &f);
	return 1;
}

static int check_all(struct checking *c)
{
	int levels, rc;

	pin(c);
	levels = check_levels(c);
	rc = levels < 0 ? levels : check_files(c);
	if (rc == 0)
		rc = check_over(c);
	if (rc == 0 && levels == 0)
		rc = check_entries(c);
	unpin(c);
	return rc;
}

/* ---- here and now ---- */

/* Of those who want to know of the first thing alone. */
struct check_now {
	struct checking checking;
	struct check_result result;
	struct err_info first, failure;
};

static void keep_first(struct checking *c, const struct check_finding *f)
{
	struct check_now *now = container_of(c, struct check_now, checking);

	if (!now->first.code)
		err_set(&now->first, f->code, "%s: %s", *f->file ? f->file : "in memory", f->what);
}

static int check_now(struct engine *e, struct io_queue *q, int (*steps)(struct checking *c), struct err_info *err)
{
	struct check_now *now = calloc(1, sizeof(*now));
	int rc;

	if (!now)
		return err_set(err, -ENOMEM, "no memory to check a database");
	now->checking = (struct checking){
		.engine = e, .queue = q, .found = keep_first, .result = &now->result, .err = &now->failure};
	rc = steps(&now->checking);
	if (now->first.code || rc < 0) {
		const struct err_info *why = now->first.code ? &now->first : &now->failure;

		rc = why->code;
		if (err)
			*err = *why;
	}
	free(now);
	return rc;
}

static int files_alone(struct checking *c)
{
	int rc;

	pin(c);
	rc = check_files(c);
	unpin(c);
	return rc;
}

int engine_check_files(struct engine *e, struct err_info *err)
{
	return check_now(e, NULL, files_alone, err);
}

int engine_check_deep(struct engine *e, struct io_queue *queue, struct err_info *err)
{
	return check_now(e, queue, check_all, err);
}

void check_installed(struct engine *e)
{
#ifdef SHALE_DEBUG
	struct err_info err = {0};

	if (engine_check_files(e, &err) == -SHALE_ECORRUPT) {
		engine_log(e, PRIORITY_ERROR, "%s", err.text);
		assert(!"the directory and the version do not fit");
	}
#else
	(void)e;
#endif
}

/* ---- as a job ---- */

struct check {
	struct errand errand;
	struct check_result result;
};

int engine_check_start(struct engine *e, uint64_t *ticket_out)
{
	struct check *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->errand.kind = ERRAND_CHECK;
	return errand_start(e, &c->errand, ticket_out);
}

int engine_check_done(struct engine *e, uint64_t ticket, struct check_result *out, struct err_info *err)
{
	struct errand *a;
	int rc = errand_take(e, ERRAND_CHECK, ticket, &a, err);

	if (rc > 0) {
		struct check *c = container_of(a, struct check, errand);

		*out = c->result;
		free(c);
	}
	return rc;
}

int engine_check_cancel(struct engine *e, uint64_t ticket)
{
	return errand_cancel(e, ERRAND_CHECK, ticket);
}

bool check_claim(struct engine *e, struct job_note *note)
{
	const struct version *v = e->versions.current;

	if (!errand_claim(e, ERRAND_CHECK))
		return false;
	for (unsigned level = 0; level < LEVELS; level++) {
		note->record.files[0] += v->count[level];
		note->record.bytes[0] += v->bytes[level];
	}
	return true;
}

int check_run(struct engine *e, struct job_note *note, struct io_queue *q, struct err_info *err)
{
	struct check *check = container_of(e->errands[ERRAND_CHECK], struct check, errand);
	struct checking c = {
		.engine = e,
		.queue = q,
		.errand = &check->errand,
		.note = note,
		.found = keep,
		.result = &check->result,
		.err = err,
	};
	int rc = check_all(&c);

	if (rc == -ECANCELED)
		err_set(err, rc, "cancelled");
	pthread_mutex_lock(&e->lock);
	note->record.bytes_read = c.bytes_read;
	note->record.entries_in = check->result.entries;
	check->errand.err = *err;
	errand_end(e, &check->errand, rc);
	pthread_mutex_unlock(&e->lock);
	return rc;
}
