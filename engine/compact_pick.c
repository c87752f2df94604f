/*
 * compact_pick.c - which files to compact next.
 *
 * A compaction of level L takes, in this order (LevelDB's rules):
 *
 *	inputs[0]   one file (size), a piece of a range (manual), at level 0 all that overlaps it; then boundary files
 *	inputs[1]   all of level L+1 that overlap their user keys; then boundary files
 *	inputs[0]   again: all of level L that overlap the whole, if that makes inputs[1] no longer and the job no more than 25 files' worth
 *
 * Boundary files: a user key may span two files of a level, the newer entries in the first. If the first went down alone, its newer
 * entries would lie below the older ones, and reads would find the older. So the file that goes on with the user key with which an
 * input ends joins it.
 *
 * Several jobs at a time, beyond LevelDB. Two jobs conflict when their ranges of user keys meet and they have a level in common, as input
 * or as output. A job that conflicts with a running one is not picked. What this gives:
 *
 *	1. no file is the input of two jobs;
 *	2. outputs never overlap each other, nor files that were there when the job was picked (those are inputs), nor what a flush
 *	   installs meanwhile, because flush_pick_level stops above a level where a running output overlaps;
 *	3. of one key, entries never overtake newer ones: a job that could carry newer entries down past the one running shares a level
 *	   and a range with it.
 * Level 0 has one job at a time: its files overlap, so an older and a newer half must not go down in the wrong order. Flushes into level 0
 * conflict with nothing: they only add a file that is newer than all.
 */
#include "engine/compact_pick.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/plant.h"

const char *compaction_reason_name(enum compaction_reason r)
{
	static const char *const names[REASON_COUNT] = {"flush", "manual", "size", "seek", "tombstones"};

	return (unsigned)r < REASON_COUNT ? names[r] : "unknown";
}

enum { GRANDPARENT_FACTOR = 10, EXPANSION_FACTOR = 25, FLUSH_LEVEL_MAX = 2 };

static uint64_t files_bytes(struct file_meta *const *files, size_t count)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += files[i]->size;
	return sum;
}

static bool any_compacting(struct file_meta *const *files, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (files[i]->compacting)
			return true;
	}
	return false;
}

/* ---- conflicts ---- */

static bool ranges_meet(struct slice a_smallest, struct slice a_largest, struct slice b_smallest,
			struct slice b_largest)
{
	return slice_compare(a_smallest, b_largest) <= 0 && slice_compare(b_smallest, a_largest) <= 0;
}

/* Whether a job of @level over the user keys [smallest, largest] must not run beside one that runs. */
static bool conflicts(const struct running *running, unsigned level, struct slice smallest, struct slice largest)
{
	for (const struct compaction *r = running->head; r; r = r->next) {
		bool flush = r->reason == REASON_FLUSH;

		if (flush && r->output_level == 0)
			continue;
		if (!flush && level == 0 && r->level == 0)
			return true;
		/* A flush is at one level only: its level and output_level are the same. */
		if (r->level != level && r->level != level + 1 && r->output_level != level &&
		    r->output_level != level + 1)
			continue;
		if (ranges_meet(smallest, largest, key_buf_slice(&r->smallest), key_buf_slice(&r->largest)))
			return true;
	}
	return false;
}

/* ---- lists of files ---- */

struct list {
	struct file_meta **files;
	size_t count;
};

/* Smallest and largest internal key of a list that is not empty. */
static void list_range(const struct list *l, struct slice *smallest_out, struct slice *largest_out)
{
	struct slice smallest = key_buf_slice(&l->files[0]->smallest), largest = key_buf_slice(&l->files[0]->largest);

	for (size_t i = 1; i < l->count; i++) {
		if (ikey_compare(key_buf_slice(&l->files[i]->smallest), smallest) < 0)
			smallest = key_buf_slice(&l->files[i]->smallest);
		if (ikey_compare(key_buf_slice(&l->files[i]->largest), largest) > 0)
			largest = key_buf_slice(&l->files[i]->largest);
	}
	*smallest_out = smallest;
	*largest_out = largest;
}

/* Range of two lists, either of which may be empty but not both. */
static void lists_range(const struct list *a, const struct list *b, struct slice *smallest_out,
			struct slice *largest_out)
{
	struct slice smallest, largest;

	if (!a->count || !b->count) {
		list_range(a->count ? a : b, smallest_out, largest_out);
		return;
	}
	list_range(a, smallest_out, largest_out);
	list_range(b, &smallest, &largest);
	if (ikey_compare(smallest, *smallest_out) < 0)
		*smallest_out = smallest;
	if (ikey_compare(largest, *largest_out) > 0)
		*largest_out = largest;
}

/* Files of @level that overlap the user keys of [smallest, largest] (internal keys). 0 or -ENOMEM. */
static int overlapping(const struct version *v, unsigned level, struct slice smallest, struct slice largest,
		       struct list *out)
{
	struct slice begin = ikey_user(smallest), end = ikey_user(largest);

	return version_overlapping(v, level, &begin, &end, &out->files, &out->count);
}

/* Adds the files that go on with the user key with which the list ends. Level 0 needs none: its closure is by user key. 0 or -ENOMEM. */
static int add_boundary(const struct version *v, unsigned level, struct list *l)
{
	struct slice smallest, largest;
	struct file_meta **grown;
	size_t last, more = 0;

	if (level == 0 || l->count == 0)
		return 0;
	list_range(l, &smallest, &largest);
	last = version_find_file(v, level, largest);
	while (last + more + 1 < v->count[level] &&
	       slice_equal(ikey_user(key_buf_slice(&v->files[level][last + more]->largest)),
			   ikey_user(key_buf_slice(&v->files[level][last + more + 1]->smallest))))
		more++;
	if (!more)
		return 0;
	grown = reallocarray(l->files, l->count + more, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	l->files = grown;
	memcpy(l->files + l->count, v->files[level] + last + 1, more * sizeof(*grown));
	l->count += more;
	return 0;
}

/* ---- gathering inputs ---- */

/* A job that is being put together. */
struct plan {
	struct version_set *vs;
	const struct running *running;
	const struct version *v;
	unsigned level;
	struct list inputs[2];
	struct slice smallest, largest; /* internal keys of all inputs */
};

static void plan_fini(struct plan *p)
{
	free(p->inputs[0].files);
	free(p->inputs[1].files);
}

static bool plan_conflicts(const struct plan *p, const struct list *inputs0, const struct list *inputs1)
{
	struct slice smallest, largest;

	if (any_compacting(inputs0->files, inputs0->count) || any_compacting(inputs1->files, inputs1->count))
		return true;
	lists_range(inputs0, inputs1, &smallest, &largest);
	return conflicts(p->running, p->level, ikey_user(smallest), ikey_user(largest));
}

/* inputs[1] for @inputs0. 0 or -ENOMEM. */
static int plan_below(const struct plan *p, const struct list *inputs0, struct list *out)
{
	struct slice smallest, largest;
	int rc;

	list_range(inputs0, &smallest, &largest);
	rc = overlapping(p->v, p->level + 1, smallest, largest, out);
	return rc ? rc : add_boundary(p->v, p->level + 1, out);
}

/* Takes more of the upper level where that costs nothing below. A conflict, or no memory, just means: not more. */
static void plan_expand(struct plan *p)
{
	struct list upper = {0}, lower = {0};
	struct slice smallest, largest;
	uint64_t limit = EXPANSION_FACTOR * p->vs->options.max_file_bytes;
	bool take;

	if (!p->inputs[1].count)
		return;
	lists_range(&p->inputs[0], &p->inputs[1], &smallest, &largest);
	take = overlapping(p->v, p->level, smallest, largest, &upper) == 0 &&
	       add_boundary(p->v, p->level, &upper) == 0 && upper.count > p->inputs[0].count &&
	       files_bytes(upper.files, upper.count) + files_bytes(p->inputs[1].files, p->inputs[1].count) < limit &&
	       plan_below(p, &upper, &lower) == 0 && lower.count == p->inputs[1].count &&
	       !plan_conflicts(p, &upper, &lower);
	if (take) {
		struct list old[2] = {p->inputs[0], p->inputs[1]};

		p->inputs[0] = upper;
		p->inputs[1] = lower;
		upper = old[0];
		lower = old[1];
	}
	free(upper.files);
	free(lower.files);
}

/* The rest of the inputs, when inputs[0] has its first files. 0; -EAGAIN when that conflicts with a running job; -ENOMEM. */
static int plan_complete(struct plan *p)
{
	int rc = add_boundary(p->v, p->level, &p->inputs[0]);

	if (rc == 0)
		rc = plan_below(p, &p->inputs[0], &p->inputs[1]);
	if (rc < 0)
		return rc;
	if (plan_conflicts(p, &p->inputs[0], &p->inputs[1]))
		return -EAGAIN;
	plan_expand(p);
	lists_range(&p->inputs[0], &p->inputs[1], &p->smallest, &p->largest);
	return 0;
}

static void compaction_free(struct compaction *c)
{
	if (!c)
		return;
	version_unref(c->version);
	free(c->inputs[0]);
	free(c->inputs[1]);
	free(c->grandparents);
	key_buf_fini(&c->smallest);
	key_buf_fini(&c->largest);
	key_buf_fini(&c->pointer);
	key_buf_fini(&c->manual_end);
	free(c);
}

/* Makes the job of a complete plan, whose lists it takes, and moves the level's compact pointer. 0 or -ENOMEM with nothing moved. */
static int plan_commit(struct plan *p, enum compaction_reason reason, struct compaction **out)
{
	struct compaction *c = calloc(1, sizeof(*c));
	struct list grandparents = {0};
	struct slice smallest, largest;

	if (!c)
		return -ENOMEM;
	c->reason = reason;
	c->level = p->level;
	c->output_level = p->level + 1;
	list_range(&p->inputs[0], &smallest, &largest);
	if ((c->output_level + 1 < LEVELS &&
	     overlapping(p->v, c->output_level + 1, p->smallest, p->largest, &grandparents) < 0) ||
	    key_buf_set(&c->smallest, ikey_user(p->smallest)) < 0 ||
	    key_buf_set(&c->largest, ikey_user(p->largest)) < 0 || key_buf_set(&c->pointer, largest) < 0 ||
	    key_buf_set(&p->vs->compact_pointer[p->level], largest) < 0) {
		free(grandparents.files);
		compaction_free(c);
		return -ENOMEM;
	}
	c->grandparents = grandparents.files;
	c->grandparent_count = grandparents.count;
	for (unsigned i = 0; i < 2; i++) {
		c->inputs[i] = p->inputs[i].files;
		c->input_count[i] = p->inputs[i].count;
		p->inputs[i] = (struct list){0};
	}
	c->version = version_ref(p->vs->current);
	/* Not into a place with much below it: the moved file would be the dear one to compact later. */
	c->trivial = reason != REASON_MANUAL && c->input_count[0] == 1 && c->input_count[1] == 0 &&
		     files_bytes(c->grandparents, c->grandparent_count) <=
			     GRANDPARENT_FACTOR * p->vs->options.max_file_bytes;
	*out = c;
	return 0;
}

/* ---- from one file ---- */

struct compaction *compact_pick_file(struct version_set *vs, const struct running *running, unsigned level,
				     struct file_meta *first, enum compaction_reason reason)
{
	struct plan p = {.vs = vs, .running = running, .v = vs->current, .level = level};
	struct slice smallest = key_buf_slice(&first->smallest), largest = key_buf_slice(&first->largest);
	struct compaction *c = NULL;
	int rc;

	/* Cheap answers first: a level may hold thousands of files. */
	if (first->compacting || conflicts(running, level, ikey_user(smallest), ikey_user(largest)))
		return NULL;
	if (level == 0) {
		rc = overlapping(p.v, 0, smallest, largest, &p.inputs[0]);
	} else {
		p.inputs[0].files = malloc(sizeof(*p.inputs[0].files));
		rc = p.inputs[0].files ? 0 : -ENOMEM;
		if (rc == 0)
			p.inputs[0].files[p.inputs[0].count++] = first;
	}
	if (rc == 0)
		rc = plan_complete(&p);
	if (rc == 0)
		plan_commit(&p, reason, &c);
	plan_fini(&p);
	return c;
}

/* ---- by size ---- */

/* Level 0 lists its newest file first; a walk in order of age takes the oldest first, as its keys should go down first. */
static struct file_meta *walk_file(const struct version *v, unsigned level, size_t i)
{
	return level ? v->files[level][i] : v->files[0][v->count[0] - 1 - i];
}

/* Where the walk begins: the first file that reaches past the compact pointer; the count of files when none does. */
static size_t walk_start(const struct version *v, unsigned level, struct slice pointer)
{
	size_t i = 0;

	if (!pointer.size)
		return 0;
	if (level > 0)
		i = version_find_file(v, level, pointer);
	while (i < v->count[level] && ikey_compare(key_buf_slice(&walk_file(v, level, i)->largest), pointer) <= 0)
		i++;
	return i;
}

/* The first file past the compact pointer from which a job can be made, round the level once. */
static struct compaction *pick_at_level(struct version_set *vs, const struct running *running, unsigned level)
{
	const struct version *v = vs->current;
	size_t n = v->count[level], start = walk_start(v, level, key_buf_slice(&vs->compact_pointer[level]));
	struct compaction *c = NULL;

	for (size_t i = 0; i < n && !c; i++)
		c = compact_pick_file(vs, running, level, walk_file(v, level, (start + i) % n), REASON_SIZE);
	return c;
}

/* Files of level 0 that no running job takes. */
static size_t level0_left(const struct version_set *vs, const struct running *running)
{
	size_t files = vs->current->count[0];

	for (const struct compaction *r = running->head; r; r = r->next) {
		if (r->level == 0)
			files -= r->input_count[0] < files ? r->input_count[0] : files;
	}
	return files;
}

/* The score without what running jobs are already taking away from the level, so that several workers spread out. */
static double score_left(const struct version_set *vs, const struct running *running, unsigned level)
{
	const struct version *v = vs->current;
	uint64_t bytes = 0;

	if (level == LEVELS - 1)
		return 0;
	if (level == 0)
		return (double)level0_left(vs, running) / (double)level0_due(v);
	for (const struct compaction *r = running->head; r; r = r->next) {
		if (r->level == level)
			bytes += files_bytes(r->inputs[0], r->input_count[0]);
	}
	return (double)(v->bytes[level] - (bytes < v->bytes[level] ? bytes : v->bytes[level])) /
	       (double)level_target(&vs->options, level);
}

/* A job that reads or writes level 0 or 1 and that will end. */
static bool level1_busy(const struct running *running)
{
	const struct compaction *r = running->head;

	while (r && (r->set_aside || r->level > 1))
		r = r->next;
	return r != NULL;
}

/*
 * The highest score first. But when more files gathered in level 0 than were meant to, writers are about to wait, and it goes before all; where that
 * has to wait for jobs that read level 1, no further one of them is begun, or with several workers there would always be one. (It does not wait for what
 * was set aside: the rest of level 1 would pile up for as long as a table cannot be read.)
 */
struct compaction *compact_pick_size(struct version_set *vs, const struct running *running)
{
	unsigned gather = vs->options.l0_gather_files;
	struct compaction *c = NULL;
	double score[LEVELS];

	for (unsigned level = 0; level < LEVELS; level++)
		score[level] = score_left(vs, running, level);
	if (gather && score[0] >= 1 && level0_left(vs, running) > gather) {
		c = pick_at_level(vs, running, 0);
		score[0] = 0;
		score[1] = level1_busy(running) ? 0 : score[1];
	}
	while (!c) {
		unsigned best = 0;

		for (unsigned level = 1; level < LEVELS; level++) {
			if (score[level] > score[best])
				best = level;
		}
		if (score[best] < 1)
			break;
		c = pick_at_level(vs, running, best);
		score[best] = 0;
	}
	return c;
}

bool compact_needed(const struct version_set *vs)
{
	for (unsigned level = 0; level < LEVELS; level++) {
		if (vs->current->score[level] >= 1)
			return true;
	}
	return false;
}

/* ---- manual ---- */

/* Leaves the first files of a range that together reach the size limit. True when it cut some off. */
static bool cut_piece(struct list *l, uint64_t limit)
{
	uint64_t total = 0;

	for (size_t i = 0; i + 1 < l->count; i++) {
		total += l->files[i]->size;
		if (total >= limit) {
			l->count = i + 1;
			return true;
		}
	}
	return false;
}

/* Sets manual_end to where the next piece begins. 0 or -ENOMEM. */
static int mark_end(struct compaction *c)
{
	struct list inputs = {c->inputs[0], c->input_count[0]};
	struct slice smallest, largest;

	list_range(&inputs, &smallest, &largest);
	return key_buf_set(&c->manual_end, largest);
}

int compact_pick_manual(struct version_set *vs, const struct running *running, unsigned level,
			const struct slice *begin, const struct slice *end, struct compaction **out)
{
	struct plan p = {.vs = vs, .running = running, .v = vs->current, .level = level};
	struct compaction *c = NULL;
	bool cut;
	int rc = version_overlapping(p.v, level, begin, end, &p.inputs[0].files, &p.inputs[0].count);

	assert(level + 1 < LEVELS);
	if (rc < 0)
		return rc;
	if (!p.inputs[0].count) {
		*out = NULL;
		return 0;
	}
	/* Level-0 files overlap, so that one without the other cannot go. */
	cut = level > 0 && cut_piece(&p.inputs[0], vs->options.max_file_bytes);
	rc = plan_complete(&p);
	if (rc == 0)
		rc = plan_commit(&p, REASON_MANUAL, &c);
	if (rc == 0 && cut)
		rc = mark_end(c);
	plan_fini(&p);
	if (rc < 0) {
		compaction_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

/* ---- in place ---- */

/* Something that runs reads or writes the user keys [smallest, largest] of @level. */
static bool in_use(const struct running *running, unsigned level, struct slice smallest, struct slice largest)
{
	for (const struct compaction *r = running->head; r; r = r->next) {
		if ((r->level == level || r->output_level == level) &&
		    ranges_meet(smallest, largest, key_buf_slice(&r->smallest), key_buf_slice(&r->largest)))
			return true;
	}
	return false;
}

int compact_pick_rewrite(struct version_set *vs, const struct running *running, unsigned level, size_t first,
			 size_t count, enum compaction_reason reason, struct compaction **out)
{
	struct file_meta **files = &vs->current->files[level][first];
	struct slice smallest = ikey_user(key_buf_slice(&files[0]->smallest));
	struct slice largest = ikey_user(key_buf_slice(&files[count - 1]->largest));
	struct compaction *c;

	assert(level > 0 && count > 0); /* files of level 0 overlap: what one hides may lie in another */
	if (any_compacting(files, count) || in_use(running, level, smallest, largest))
		return -EAGAIN;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->reason = reason;
	c->level = c->output_level = level;
	c->inputs[0] = malloc(count * sizeof(*files));
	if (!c->inputs[0] || key_buf_set(&c->smallest, smallest) < 0 || key_buf_set(&c->largest, largest) < 0) {
		compaction_free(c);
		return -ENOMEM;
	}
	memcpy(c->inputs[0], files, count * sizeof(*files));
	c->input_count[0] = count;
	c->version = version_ref(vs->current);
	*out = c;
	return 0;
}

/* ---- running jobs ---- */

static void mark_inputs(struct compaction *c, bool compacting)
{
	for (unsigned i = 0; i < 2; i++) {
		for (size_t k = 0; k < c->input_count[i]; k++) {
			assert(c->inputs[i][k]->compacting != compacting);
			c->inputs[i][k]->compacting = compacting;
		}
	}
}

void compaction_start(struct running *running, struct compaction *c)
{
	assert(!c->started);
	mark_inputs(c, true);
	c->started = true;
	c->next = running->head;
	running->head = c;
}

void compaction_end(struct running *running, struct compaction *c)
{
	struct compaction **link = &running->head;

	if (c && c->started) {
		while (*link != c)
			link = &(*link)->next;
		*link = c->next;
		mark_inputs(c, false);
	}
	compaction_free(c);
}

/* ---- where a flush goes ---- */

/* True when a table with these user keys at @level would overlap one that is there, or one that a running job is about to put there. */
static bool taken(const struct version_set *vs, const struct running *running, unsigned level, struct slice smallest,
		  struct slice largest)
{
	if (version_overlaps(vs->current, level, &smallest, &largest))
		return true;
	for (const struct compaction *r = running->head; r; r = r->next) {
		if (r->output_level == level &&
		    ranges_meet(smallest, largest, key_buf_slice(&r->smallest), key_buf_slice(&r->largest)))
			return true;
	}
	return false;
}

/* True when too much of @level would have to be rewritten with the table later. */
static bool too_much_below(const struct version_set *vs, unsigned level, struct slice smallest, struct slice largest)
{
	struct list l;
	bool much = true;

	if (version_overlapping(vs->current, level, &smallest, &largest, &l.files, &l.count) == 0) {
		much = files_bytes(l.files, l.count) > GRANDPARENT_FACTOR * vs->options.max_file_bytes;
		free(l.files);
	}
	return much;
}

unsigned flush_pick_level(const struct version_set *vs, const struct running *running, struct slice smallest,
			  struct slice largest)
{
	const struct running none = {0};
	unsigned level = 0;

	running = PLANT("in-flight-overlap") ? &none : running;
	if (taken(vs, running, 0, smallest, largest))
		return 0;
	while (level < FLUSH_LEVEL_MAX && !taken(vs, running, level + 1, smallest, largest) &&
	       !too_much_below(vs, level + 2, smallest, largest))
		level++;
	return level;
}
