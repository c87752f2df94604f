/*
 * recover.c - from a directory to a database: what engine_open does before anybody may write.
 *
 *	1. look       what files are there; refuse what is no database, or one that lost its CURRENT
 *	2. versions   CURRENT and MANIFEST
 *	3. window     bytes that a killed process had acknowledged but not yet written go into their log files
 *	4. replay     logs that the MANIFEST does not know to be in tables, in order, through memtables into level-0 tables
 *	5. begin      a new log; one edit (in a new MANIFEST) that names the tables and the log; only now are old logs not needed
 *	6. sweep      files that nothing refers to; never a name that is not LevelDB's
 * Nothing that was there is changed before step 5, but for complete logs in step 3: an open that fails can be tried again.
 *
 * Replay gives a prefix of what was acknowledged. So it ends for good at the first thing that is not as it must be:
 *	a torn tail            the last record of a log is cut short: the usual end after a power failure. If a later log does not follow on in
 *	                       sequence, something between them is lost, and it is not applied. Nor is a first record that does not follow
 *	                       on what the tables hold: then a whole log before it is lost
 *	                       A flipped bit in the last record of the last log looks exactly like it: that record's sync may never have returned, and
 *	                       nothing behind it could tell. It is logged either way. (test_bit_flips tries every bit)
 *	a bad record           paranoid: the open fails. Else what comes before it is kept; its log and all later ones are renamed
 *	                       lost-NNNNNN.log.bak instead of being deleted
 */
#include "engine/engine_internal.h"
#include "engine/plant.h"
#include "engine/log_exam.h"
#include "engine/kill_point.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Numbers of the log files in the directory, and what else was seen there. */
struct listing {
	uint64_t *logs;
	size_t count, cap;
	uint64_t highest; /* number in any name */
	bool current, tables;
	int rc;
	char impossible[FILE_NAME_MAX]; /* a name whose number is */
};

enum { TELL_BYTES = 1 << 20 }; /* of log between two words about it */

struct replay {
	struct engine *engine;
	struct io_queue *queue;
	struct engine_recovery *found;
	struct listing list;
	struct memtable *mem;
	struct edit edit;
	struct file_meta **made;
	size_t made_count;
	uint64_t known;	  /* the MANIFEST's last sequence */
	uint64_t last;	  /* highest sequence replayed; 0: none yet */
	uint64_t bad_log; /* its record failed; 0: none */
	bool ended;	  /* later logs are not applied */
};

/* For whoever waits for the open, and wants to know that it gets on. */
static void tell(struct engine *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct engine *e, const char *fmt, ...)
{
	char text[128];
	va_list args;

	if (!e->host->recovering)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	e->host->recovering(e->host, text);
}

/* ---- looking ---- */

static void look_at(void *context, const char *name)
{
	struct listing *l = context;
	enum file_type type;
	uint64_t number;

	if (!file_parse(name, &type, &number))
		return;
	if (type == FILE_CURRENT)
		l->current = true;
	if (type == FILE_TABLE || type == FILE_SST)
		l->tables = true;
	if (number >= NUMBER_IMPOSSIBLE) {
		snprintf(l->impossible, sizeof(l->impossible), "%s", name);
		return;
	}
	if (type == FILE_LOG || type == FILE_TABLE || type == FILE_SST || type == FILE_MANIFEST || type == FILE_TEMP)
		l->highest = number > l->highest ? number : l->highest;
	if (type != FILE_LOG)
		return;
	if (l->count == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 16;
		uint64_t *grown = reallocarray(l->logs, cap, sizeof(*grown));

		if (!grown) {
			l->rc = -ENOMEM;
			return;
		}
		l->logs = grown;
		l->cap = cap;
	}
	l->logs[l->count++] = number;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int look(struct engine *e, struct listing *l, struct err_info *err)
{
	int rc = io_list(e->env, look_at, l);

	if (rc == 0)
		rc = l->rc;
	if (rc < 0)
		return err_set(err, rc, "listing the database directory: %s", shale_strerror(rc));
	if (l->impossible[0])
		return err_set(err, -SHALE_ECORRUPT,
			       "%s: no database makes files with such a number; somebody put it there. Move it away",
			       l->impossible);
	if (l->count)
		qsort(l->logs, l->count, sizeof(l->logs[0]), by_number);
	return 0;
}

/*
 * The oldest log that is still needed was made durable before the MANIFEST named it, and goes only after a newer edit. If it is not there,
 * somebody removed it, or that newer edit is lost: in both cases acknowledged writes are, and the sweep would remove the tables that hold them.
 */
static int check_oldest_log(struct engine *e, const struct listing *l, struct err_info *err)
{
	uint64_t number = e->versions.log_number;

	if (!number || (l->count && bsearch(&number, l->logs, l->count, sizeof(number), by_number)))
		return 0;
	return err_set(
		err, -SHALE_EMISSING,
		"%06llu.log is missing: MANIFEST-%06llu names it as the oldest log that is still needed. Somebody "
		"removed "
		"it, or copied the directory incompletely, or the MANIFEST lost its last records. Put it back, "
		"restore the database from a backup, or run `shalectl repair`",
		(unsigned long long)number, (unsigned long long)e->versions.manifest_number);
}

/*
 * With best_effort: tables that nobody will be able to read, each told with its keys. Of one that opens, a block may still be damaged; that is seen
 * when it is read, with and without best_effort.
 */
static void look_at_tables(struct engine *e, struct io_queue *q, struct engine_recovery *found)
{
	const struct version *v = e->versions.current;

	for (unsigned level = 0; level < LEVELS; level++) {
		for (size_t i = 0; i < v->count[level]; i++) {
			const struct file_meta *m = v->files[level][i];
			struct slice first = ikey_user(key_buf_slice(&m->smallest)),
				     last = ikey_user(key_buf_slice(&m->largest));
			struct err_info why = {0};
			struct table *t = NULL;

			tell(e, "looking at table %06llu", (unsigned long long)m->number);
			if (table_open(e->env, q, m->number, m->size, &t, &why) == 0) {
				table_unref(t);
				continue;
			}
			found->damaged_tables++;
			engine_log(e, PRIORITY_ERROR,
				   "best effort: %s. Keys from \"%.*s\" to \"%.*s\" that are not in newer tables "
				   "answer an error until it is "
				   "back, or `shalectl repair` has taken it out",
				   why.text, (int)min_size(first.size, 60), (const char *)first.data,
				   (int)min_size(last.size, 60), (const char *)last.data);
		}
	}
	if (found->damaged_tables)
		err_set(&found->damage, -SHALE_ECORRUPT,
			"served with best effort: %llu of the tables cannot be read, and reads of their keys fail; put "
			"the files back, or stop "
			"shaled and run `shalectl repair`",
			(unsigned long long)found->damaged_tables);
}

/* A database: recovered, or made when there is none and that was asked for. */
static int open_versions(struct engine *e, struct io_queue *q, const struct listing *l, struct engine_recovery *r,
			 struct err_info *err)
{
	int rc;

	if (l->current) {
		if (e->options.error_if_exists)
			return err_set(err, -EEXIST,
				       "the directory holds a database already, and a new one was asked for");
		e->versions.best_effort = e->options.best_effort;
		rc = version_set_recover(&e->versions, q, err);
		if (rc == 0)
			rc = check_oldest_log(e, l, err);
		if (rc == 0 && e->options.best_effort)
			look_at_tables(e, q, r);
		return rc;
	}
	if (l->tables || l->count)
		return err_set(
			err, -SHALE_ECORRUPT,
			"CURRENT is missing, but there are tables or logs: a new database would delete them. "
			"Restore CURRENT (one line: the "
			"name of the newest MANIFEST), or the whole directory from a backup, or run `shalectl repair`");
	if (!e->options.create_if_missing)
		return err_set(err, -SHALE_ENODATABASE,
			       "the directory holds no database (no CURRENT), and creating one was not asked for");
	r->created = true;
	return version_set_create(&e->versions, q, err);
}

/* ---- replay ---- */

/* The memtable goes into a level-0 table. */
static int replay_flush(struct replay *r, struct err_info *err)
{
	struct file_meta *meta = NULL, **grown;
	struct job_record did;
	int rc;

	if (!r->mem)
		return 0;
	grown = reallocarray(r->made, r->made_count + 1, sizeof(*grown));
	if (!grown)
		return err_set(err, -ENOMEM, "no memory to replay a log");
	r->made = grown;
	rc = flush_build(r->engine, r->queue, r->mem, NULL, &meta, &did, err);
	if (rc < 0)
		return rc;
	tell(r->engine, "wrote table %llu of what was replayed", (unsigned long long)r->found->tables_written + 1);
	memtable_unref(r->mem);
	r->mem = NULL;
	if (!meta)
		return 0;
	r->made[r->made_count++] = meta;
	KILL_POINT("replay_flushed");
	r->found->tables_written++;
	return edit_add_file(&r->edit, 0, meta) < 0 ? err_set(err, -ENOMEM, "no memory for a version edit") : 0;
}

/*
 * A memtable with room for one more record. Records of one batch may end in two tables: all tables come with one edit. So a batch of many small records,
 * which may take thirty times its bytes, needs no memtable that holds it whole.
 */
static int replay_room(struct replay *r, const struct batch_record *record, struct err_info *err)
{
	const struct engine_options *o = &r->engine->options;
	size_t need = memtable_space(1, record->key.size, record->value.size) + 4096;
	int rc = 0;

	if (r->mem && (memtable_used(r->mem) >= o->write_buffer_bytes ||
		       !memtable_has_room(r->mem, 1, record->key.size, record->value.size)))
		rc = replay_flush(r, err);
	if (rc < 0 || r->mem)
		return rc;
	rc = memtable_new(&memory_provider_anonymous, max_size(align_up(need, 4096), memtable_arena(o)), 0, &r->mem);
	return rc < 0 ? err_set(err, rc, "no memory to replay a log") : 0;
}

static int replay_insert(struct replay *r, struct slice batch, const struct batch_info *info, struct err_info *err)
{
	uint64_t sequence = batch_sequence(batch.data);
	struct batch_reader reader;
	struct batch_record record;

	batch_reader_init(&reader, batch);
	while (batch_reader_next(&reader, &record)) {
		int rc = replay_room(r, &record, err);

		if (rc < 0)
			return rc;
		if (PLANT("batch-half-applied") && sequence - batch_sequence(batch.data) > info->count / 2)
			sequence++;
		else
			memtable_add(r->mem, sequence++, record.type, record.key, record.value);
	}
	r->last = sequence - 1;
	return 0;
}

/* A record that ends the replay. 0 when it may end there, else the failure of the open. */
static int replay_end(struct replay *r, uint64_t number, uint64_t offset, uint64_t size, enum verdict_of_record verdict,
		      const char *why, struct err_info *err)
{
	struct engine *e = r->engine;

	if (verdict == RECORD_GAP) {
		engine_log(
			e, PRIORITY_WARNING,
			"%06llu.log: its first record (sequence numbers missing before it) does not follow on the log "
			"before, whose end was "
			"lost in a power failure; it and later logs are not applied, and set aside as lost-*.log.bak",
			(unsigned long long)number);
		r->found->dropped_bytes += size;
		if (number == e->versions.log_number)
			r->bad_log = number; /* the MANIFEST names it until the next edit: it goes after that */
		r->ended = true;
		return 0;
	}
	if (e->options.paranoid)
		return err_set(err, -SHALE_ECORRUPT,
			       "%06llu.log: the record at offset %llu cannot be used: %s. Likely a damaged disk or "
			       "file. Restore the file, or start "
			       "with engine.paranoid = no: everything before it is kept, the rest set aside",
			       (unsigned long long)number, (unsigned long long)offset, why);
	engine_log(e, PRIORITY_ERROR,
		   "%06llu.log: the record at offset %llu cannot be used: %s. What was written before it is recovered; "
		   "%llu bytes of this log "
		   "and all later logs are not, and are set aside as lost-*.log.bak",
		   (unsigned long long)number, (unsigned long long)offset, why, (unsigned long long)(size - offset));
	r->found->dropped_bytes += size - offset;
	r->bad_log = number;
	r->ended = true;
	return 0;
}

static int replay_records(struct replay *r, uint64_t number, uint64_t size, struct log_reader *reader,
			  struct err_info *err)
{
	struct slice record;
	uint64_t told = 0;
	bool first = true;
	int rc;

	while ((rc = log_reader_next(reader, &record)) == 0) {
		enum verdict_of_record verdict;
		struct batch_info info = {0};
		const char *why = "";

		verdict = record_judge(r->known, r->last, record, first, &info, &why);
		if (verdict != RECORD_GOOD && !PLANT("stale-tail"))
			return replay_end(r, number, log_reader_record_offset(reader), size, verdict, why, err);
		first = false;
		if (info.count)
			rc = replay_insert(r, record, &info, err);
		if (rc < 0)
			return rc;
		r->found->records++;
		if (log_reader_end_offset(reader) - told >= TELL_BYTES) {
			told = log_reader_end_offset(reader);
			tell(r->engine, "replaying %06llu.log: %llu of %llu MiB", (unsigned long long)number,
			     (unsigned long long)(told >> 20), (unsigned long long)(size >> 20));
		}
	}
	r->found->log_bytes += log_reader_end_offset(reader);
	if (rc == -SHALE_ECORRUPT && PLANT("stale-tail")) {
		log_reader_skip(reader);
		return replay_records(r, number, size, reader, err);
	}
	if (rc == -SHALE_ECORRUPT)
		return replay_end(r, number, log_reader_end_offset(reader), size, RECORD_BAD, log_reader_reason(reader),
				  err);
	if (rc < 0)
		return err_set(err, rc, "%06llu.log: reading: %s", (unsigned long long)number, shale_strerror(rc));
	if (log_reader_end_offset(reader) < size)
		engine_log(r->engine, PRIORITY_NOTICE,
			   "%06llu.log: ends after %llu of %llu bytes; what follows is no whole record (a write that a "
			   "crash tore; a "
			   "damaged last record looks the same)",
			   (unsigned long long)number, (unsigned long long)log_reader_end_offset(reader),
			   (unsigned long long)size);
	return 0;
}

static int replay_log(struct replay *r, uint64_t number, struct err_info *err)
{
	struct log_reader *reader = NULL;
	struct io_file *file = NULL;
	char name[FILE_NAME_MAX];
	uint64_t size = 0;
	int rc = io_open(r->engine->env, file_name(name, FILE_LOG, number), IO_OPEN_READ, &file);

	if (rc == 0)
		rc = io_size(file, &size);
	if (rc == 0)
		rc = log_reader_new(r->queue, file, &reader);
	if (rc < 0)
		err_set(err, rc, "%s: cannot be read: %s", name, shale_strerror(rc));
	else
		rc = replay_records(r, number, size, reader, err);
	log_reader_free(reader);
	io_close(file);
	return rc;
}

/* Under a name that no sweep knows. */
static int set_aside(struct engine *e, uint64_t number, struct err_info *err)
{
	char from[FILE_NAME_MAX], to[FILE_NAME_MAX + 16];
	int rc;

	snprintf(to, sizeof(to), "lost-%06llu.log.bak", (unsigned long long)number);
	rc = io_rename(e->env, file_name(from, FILE_LOG, number), to);
	return rc < 0 ? err_set(err, rc, "%s: cannot be renamed to %s: %s", from, to, shale_strerror(rc)) : 0;
}

static int replay_all(struct replay *r, struct err_info *err)
{
	struct engine *e = r->engine;

	for (size_t i = 0; i < r->list.count; i++) {
		uint64_t number = r->list.logs[i];
		bool was_ended;
		int rc = 0;

		if (number < e->versions.log_number)
			continue;
		was_ended = r->ended;
		if (!r->ended)
			rc = replay_log(r, number, err);
		/* Logs that are not applied go out of the way before the edit that would let them be swept. */
		if (rc == 0 && r->ended && (was_ended || number != r->bad_log))
			rc = set_aside(e, number, err);
		if (rc < 0)
			return rc;
	}
	return replay_flush(r, err);
}

/* ---- a new beginning ---- */

static int begin(struct replay *r, struct wal_log **log_out, struct err_info *err)
{
	struct engine *e = r->engine;
	uint64_t number = version_set_new_number(&e->versions), last = atomic_load(&e->versions.last_sequence);
	struct wal_log *log;
	int rc = wal_log_prepare(e->env, r->queue, number, log_reserve(&e->options), &log);

	if (rc < 0)
		return err_set(err, rc, "%06llu.log: cannot be created: %s", (unsigned long long)number,
			       shale_strerror(rc));
	/* No number that any file may have carried is given out twice. */
	if (r->last > last)
		atomic_store_explicit(&e->versions.last_sequence, r->last, memory_order_release);
	r->edit.has_log_number = true;
	r->edit.log_number = number;
	rc = directory_sync(e, err);
	if (rc == 0)
		rc = edit_apply(e, &r->edit, r->queue, err);
	KILL_POINT("recovery_installed");
	if (rc == 0 && r->bad_log) {
		struct err_info ignored;

		if (set_aside(e, r->bad_log, &ignored) < 0)
			engine_log(e, PRIORITY_WARNING, "%s", ignored.text);
	}
	if (rc < 0) {
		if (atomic_load_explicit(&e->failed, memory_order_relaxed))
			wal_log_forget(log); /* the MANIFEST may name it */
		else
			wal_log_discard(e->env, log);
		return rc;
	}
	*log_out = log;
	return 0;
}

struct sweep {
	struct engine *engine;
	uint64_t *live; /* numbers of the current version's tables, ascending */
	size_t live_count;
	struct obsolete *list;
	size_t count, cap;
};

static bool swept(const struct sweep *s, enum file_type type, uint64_t number)
{
	const struct version_set *vs = &s->engine->versions;

	switch (type) {
	case FILE_TABLE:
	case FILE_SST:
		return !s->live_count || !bsearch(&number, s->live, s->live_count, sizeof(number), by_number);
	case FILE_LOG:
		return number < vs->log_number;
	case FILE_MANIFEST:
		return number != vs->manifest_number;
	case FILE_TEMP:
		return true;
	default:
		return false;
	}
}

static void sweep_look(void *context, const char *name)
{
	struct sweep *s = context;
	enum file_type type;
	uint64_t number;

	if (!file_parse(name, &type, &number) || !swept(s, type, number))
		return;
	if (s->count == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 64;
		struct obsolete *grown = reallocarray(s->list, cap, sizeof(*grown));

		if (!grown)
			return; /* the next open will */
		s->list = grown;
		s->cap = cap;
	}
	s->list[s->count++] = (struct obsolete){type, number};
}

/* Nobody else has the engine yet, so there is one version and no need for the lock. */
static void sweep(struct engine *e)
{
	const struct version *v = e->versions.current;
	struct sweep s = {.engine = e};
	size_t total = 0;

	for (unsigned level = 0; level < LEVELS; level++)
		total += v->count[level];
	s.live = malloc((total + 1) * sizeof(*s.live));
	if (!s.live)
		return; /* without the list nothing is known to be a stray */
	for (unsigned level = 0; level < LEVELS; level++) {
		for (size_t i = 0; i < v->count[level]; i++)
			s.live[s.live_count++] = v->files[level][i]->number;
	}
	qsort(s.live, s.live_count, sizeof(*s.live), by_number);
	io_list(e->env, sweep_look, &s);
	obsolete_remove(e, s.list, s.count);
	free(s.live);
	free(s.list);
}

/* ---- all of it ---- */

static int recover_window(struct replay *r, struct err_info *err)
{
	struct engine *e = r->engine;
	struct wal_recovery window = {0};
	/* All the memory that the host has: the process that was killed may have had a larger ring than this one is told to have. */
	size_t size = e->host->window ? e->host->window_size : e->window_size;
	int rc = PLANT("window-ignored") ? 0 : wal_window_recover(e->env, r->queue, e->window, size, &window, err);

	if (rc < 0)
		return rc;
	r->found->window_bytes = window.bytes;
	if (window.ignored)
		engine_log(e, PRIORITY_NOTICE, "the WAL window in memory is not used: %s", window.why);
	else if (window.bytes)
		engine_log(e, PRIORITY_NOTICE,
			   "completed the log with %llu bytes that a killed process left in its WAL window",
			   (unsigned long long)window.bytes);
	return 0;
}

static int recover_all(struct replay *r, struct wal_log **log_out, struct err_info *err)
{
	struct engine *e = r->engine;
	int rc = look(e, &r->list, err);

	tell(e, "reading the MANIFEST");
	if (rc == 0)
		rc = open_versions(e, r->queue, &r->list, r->found, err);
	if (rc < 0)
		return rc;
	version_set_number_used(&e->versions, r->list.highest);
	r->known = engine_last_sequence(e);
	if (!r->found->created) {
		tell(e, "completing the log");
		rc = recover_window(r, err);
		if (rc == 0)
			rc = replay_all(r, err);
	}
	if (rc == 0)
		rc = begin(r, log_out, err);
	return rc;
}

int engine_recover(struct engine *e, struct io_queue *q, struct engine_recovery *found, struct wal_log **log_out,
		   struct err_info *err)
{
	struct replay r = {.engine = e, .queue = q, .found = found};
	int rc;

	edit_init(&r.edit);
	rc = recover_all(&r, log_out, err);
	outputs_release(e, &r.edit, r.made, r.made_count, rc == 0);
	memtable_unref(r.mem);
	free(r.made);
	free(r.list.logs);
	if (rc == 0)
		sweep(e);
	KILL_POINT("recovery_swept");
	return rc;
}
