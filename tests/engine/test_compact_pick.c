#include "engine/compact_pick.h"
#include "tests/engine/hand_made.h"
#include "tests/test.h"

#include <stdio.h>

#include "shm/error.h"

/* Sizes below are chosen so that one level alone is over its target: level 1 past 10,000 bytes, level 2 past 100,000. */

static struct hand h;
static struct edit e;

static void setup(void)
{
	hand_init(&h);
	edit_init(&e);
}

static void finish(struct compaction *c)
{
	compaction_end(&h.running, c);
	ck_assert_ptr_null(h.running.head);
	hand_fini(&h);
}

static void expect(const struct compaction *c, unsigned level, const char *inputs0, const char *inputs1)
{
	ck_assert_ptr_nonnull(c);
	ck_assert_uint_eq(c->level, level);
	ck_assert_uint_eq(c->output_level, level + 1);
	hand_expect(c->inputs[0], c->input_count[0], inputs0);
	hand_expect(c->inputs[1], c->input_count[1], inputs1);
}

static struct slice str(const struct key_buf *k)
{
	return key_buf_slice(k);
}

/* ---- scores ---- */

/* Below every target nothing is compacted. */
START_TEST(nothing_below_targets)
{
	setup();
	hand_add(&e, 0, 1, 1000000, "a", "z");
	hand_add(&e, 0, 2, 1000000, "a", "z");
	hand_add(&e, 0, 3, 1000000, "a", "z");
	hand_add(&e, 1, 4, 9999, "a", "z");
	hand_install(&h, &e);
	ck_assert(!compact_needed(&h.vs));
	ck_assert_ptr_null(compact_pick_size(&h.vs, &h.running));
	finish(NULL);
}
END_TEST

/* Level 0 counts files, deeper levels bytes against ten times more each; the last level is never scored. */
START_TEST(scores_by_files_then_bytes)
{
	setup();
	for (unsigned i = 0; i < 8; i++)
		hand_add(&e, 0, 10 + i, 1, "a", "b");
	hand_add(&e, 1, 1, 5000, "a", "z");
	hand_add(&e, 2, 2, 300000, "a", "z");
	hand_add(&e, 6, 3, UINT64_C(1) << 60, "a", "z");
	hand_install(&h, &e);
	ck_assert_double_eq(h.vs.current->score[0], 2.0);
	ck_assert_double_eq(h.vs.current->score[1], 0.5);
	ck_assert_double_eq(h.vs.current->score[2], 3.0);
	ck_assert_double_eq(h.vs.current->score[6], 0.0);
	ck_assert(compact_needed(&h.vs));
	ck_assert_uint_eq(level_target(&h.vs.options, 1), 10000);
	ck_assert_uint_eq(level_target(&h.vs.options, 4), 10000000);
	finish(NULL);
}
END_TEST

/* The level furthest over its target goes first. */
START_TEST(highest_score_first)
{
	struct compaction *c;

	setup();
	hand_add(&e, 1, 1, 12000, "a", "c");
	hand_add(&e, 2, 2, 500000, "m", "n");
	hand_install(&h, &e);
	c = compact_pick_size(&h.vs, &h.running);
	expect(c, 2, "2", "");
	ck_assert_int_eq(c->reason, REASON_SIZE);
	finish(c);
}
END_TEST

/* ---- inputs ---- */

/* The first file past the compact pointer, which moves at once, and wraps. */
START_TEST(pointer_goes_round_the_level)
{
	static const char *const order[] = {"1", "2", "3", "1"};

	setup();
	hand_add(&e, 1, 1, 5000, "a", "c");
	hand_add(&e, 1, 2, 5000, "d", "f");
	hand_add(&e, 1, 3, 5000, "g", "i");
	hand_install(&h, &e);
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		struct compaction *c = compact_pick_size(&h.vs, &h.running);

		expect(c, 1, order[i], "");
		ck_assert(slice_equal(str(&c->pointer), str(&c->inputs[0][0]->largest)));
		ck_assert(slice_equal(str(&h.vs.compact_pointer[1]), str(&c->pointer)));
		compaction_end(&h.running, c); /* as if it had failed: the next try is another range */
	}
	finish(NULL);
}
END_TEST

/* Level 0: everything that overlaps, and what overlaps that, goes together, or an older value would stay above a newer one. */
START_TEST(level0_takes_the_closure)
{
	struct compaction *c;

	setup();
	hand_add(&e, 0, 1, 100, "a", "c");
	hand_add(&e, 0, 2, 100, "c", "e");
	hand_add(&e, 0, 3, 100, "e", "g");
	hand_add(&e, 0, 4, 100, "x", "z");
	hand_install(&h, &e);
	c = compact_pick_size(&h.vs, &h.running);
	expect(c, 0, "1 2 3", "");
	ck_assert(slice_equal(str(&c->smallest), slice_str("a")));
	ck_assert(slice_equal(str(&c->largest), slice_str("g")));
	finish(c);
}
END_TEST

/* All of the next level that overlaps by user key. */
START_TEST(next_level_by_overlap)
{
	struct compaction *c;

	setup();
	hand_add(&e, 1, 1, 20000, "d", "m");
	hand_add(&e, 2, 2, 500, "a", "c");
	hand_add(&e, 2, 3, 500, "c2", "d");
	hand_add(&e, 2, 4, 500, "k", "l");
	hand_add(&e, 2, 5, 500, "m", "p");
	hand_add(&e, 2, 6, 500, "q", "r");
	hand_add(&e, 3, 7, 500, "a", "b");
	hand_add(&e, 3, 8, 500, "o", "z");
	hand_install(&h, &e);
	c = compact_pick_size(&h.vs, &h.running);
	expect(c, 1, "1", "3 4 5");
	ck_assert(slice_equal(str(&c->smallest), slice_str("c2")));
	ck_assert(slice_equal(str(&c->largest), slice_str("p")));
	hand_expect(c->grandparents, c->grandparent_count, "8");
	finish(c);
}
END_TEST

/* Boundary, inputs 0: the file that goes on with the user key with which the input ends joins, on and on. */
START_TEST(boundary_joins_inputs0)
{
	struct compaction *c;

	setup();
	hand_add_at(&e, 1, 1, 9000, "a", 9, "k", 9);
	hand_add_at(&e, 1, 2, 9000, "k", 8, "k", 5);
	hand_add_at(&e, 1, 3, 9000, "k", 4, "p", 5);
	hand_add_at(&e, 1, 4, 9000, "q", 4, "z", 5);
	hand_install(&h, &e);
	c = compact_pick_size(&h.vs, &h.running);
	expect(c, 1, "1 2 3", "");
	ck_assert(!c->trivial);
	finish(c);
}
END_TEST

/* Boundary, inputs 1: the same below. */
START_TEST(boundary_joins_inputs1)
{
	struct compaction *c;

	setup();
	hand_add(&e, 1, 1, 50000, "a", "c");
	hand_add_at(&e, 2, 2, 500, "b", 9, "k", 9);
	hand_add_at(&e, 2, 3, 500, "k", 8, "m", 5);
	hand_add_at(&e, 2, 4, 500, "n", 8, "z", 5);
	hand_install(&h, &e);
	c = compact_pick_size(&h.vs, &h.running);
	expect(c, 1, "1", "2 3");
	ck_assert(slice_equal(str(&c->largest), slice_str("m")));
	finish(c);
}
END_TEST

/* Expansion: more of the upper level comes along when the lower one does not grow for it. */
START_TEST(expansion_when_free)
{
	struct compaction *c;

	setup();
	hand_add(&e, 1, 1, 6000, "a", "c");
	hand_add(&e, 1, 2, 6000, "d", "f");
	hand_add(&e, 1, 3, 6000, "p", "q");
	hand_add(&e, 2, 4, 500, "b", "g");
	hand_install(&h, &e);
	c = compact_pick_size(&h.vs, &h.running);
	expect(c, 1, "1 2", "4");
	ck_assert(slice_equal(str(&c->pointer), str(&hand_file(&h, 2)->largest)));
	finish(c);
}
END_TEST

/* Boundary, expanded inputs 0: a file that the expansion splits from its continuation brings it along. */
START_TEST(boundary_joins_expanded_inputs0)
{
	struct compaction *c;

	setup();
	hand_add(&e, 1, 1, 6000, "a", "c");
	hand_add_at(&e, 1, 2, 6000, "d", 9, "h", 9);
	hand_add_at(&e, 1, 3, 6000, "h", 5, "i", 4);
	hand_add(&e, 2, 4, 500, "b", "e");
	hand_install(&h, &e);
	c = compact_pick_size(&h.vs, &h.running);
	expect(c, 1, "1 2 3", "4");
	finish(c);
}
END_TEST

/* Boundary, expanded inputs 1: when the boundary file below makes the lower level grow, there is no expansion. */
START_TEST(boundary_joins_expanded_inputs1)
{
	struct compaction *c;

	setup();
	hand_add(&e, 1, 1, 6000, "a", "c");
	hand_add(&e, 1, 2, 6000, "d", "h");
	hand_add_at(&e, 2, 4, 500, "b", 9, "e", 9);
	hand_add_at(&e, 2, 5, 500, "g", 9, "m", 9);
	hand_add_at(&e, 2, 6, 500, "m", 5, "n", 4);
	hand_install(&h, &e);
	c = compact_pick_size(&h.vs, &h.running);
	expect(c, 1, "1", "4");
	finish(c);
}
END_TEST

/* No expansion when the lower level would grow. */
START_TEST(no_expansion_when_below_grows)
{
	struct compaction *c;

	setup();
	hand_add(&e, 1, 1, 6000, "a", "c");
	hand_add(&e, 1, 2, 6000, "d", "k");
	hand_add(&e, 2, 4, 500, "b", "e");
	hand_add(&e, 2, 5, 500, "j", "k");
	hand_install(&h, &e);
	c = compact_pick_size(&h.vs, &h.running);
	expect(c, 1, "1", "4");
	finish(c);
}
END_TEST

/* No expansion past 25 files' worth of bytes. */
START_TEST(no_expansion_past_the_limit)
{
	struct compaction *c;

	setup();
	hand_add(&e, 1, 1, 12000, "a", "c");
	hand_add(&e, 1, 2, 12500, "d", "f");
	hand_add(&e, 2, 4, 500, "b", "g");
	hand_install(&h, &e);
	c = compact_pick_size(&h.vs, &h.running); /* 12,000 + 12,500 + 500 is not below 25 × 1000 */
	expect(c, 1, "1", "4");
	finish(c);
}
END_TEST

/* A trivial move: one file, nothing below, no more than ten files' worth two levels below. */
START_TEST(trivial_move_rule)
{
	struct compaction *c;

	setup();
	hand_add(&e, 1, 1, 12000, "a", "c");
	hand_add(&e, 3, 2, 10000, "a", "z");
	hand_install(&h, &e);
	c = compact_pick_size(&h.vs, &h.running);
	expect(c, 1, "1", "");
	ck_assert(c->trivial);
	compaction_end(&h.running, c);
	edit_init(&e);
	ck_ok(edit_delete_file(&e, 3, 2));
	hand_add(&e, 3, 3, 10001, "a", "z");
	hand_install(&h, &e);
	c = compact_pick_size(&h.vs, &h.running);
	expect(c, 1, "1", "");
	ck_assert(!c->trivial);
	finish(c);
}
END_TEST

/* ---- several at a time ---- */

/* What runs is not picked again; a disjoint range of the same level is. */
START_TEST(two_jobs_on_disjoint_ranges)
{
	struct compaction *a, *b;

	setup();
	hand_add(&e, 1, 1, 30000, "a", "c");
	hand_add(&e, 1, 2, 30000, "d", "f");
	hand_add(&e, 2, 3, 500, "b", "c");
	hand_add(&e, 2, 4, 500, "e", "f");
	hand_install(&h, &e);
	a = compact_pick_size(&h.vs, &h.running);
	expect(a, 1, "1", "3");
	compaction_start(&h.running, a);
	ck_assert(hand_file(&h, 1)->compacting && hand_file(&h, 3)->compacting);
	b = compact_pick_size(&h.vs, &h.running);
	expect(b, 1, "2", "4");
	compaction_start(&h.running, b);
	ck_assert_ptr_null(compact_pick_size(&h.vs, &h.running));
	compaction_end(&h.running, a);
	ck_assert(!hand_file(&h, 1)->compacting && hand_file(&h, 2)->compacting);
	finish(b);
}
END_TEST

/* A file that would need, below, what a running job rewrites waits: two jobs must not both replace one file. */
START_TEST(shared_input_below_waits)
{
	struct compaction *a;

	setup();
	hand_add(&e, 1, 1, 30000, "a", "c");
	hand_add(&e, 1, 2, 30000, "d", "f");
	hand_add(&e, 2, 3, 500, "b", "e"); /* the running job writes up to e */
	hand_install(&h, &e);
	h.vs.options.max_file_bytes = 100; /* no expansion */
	a = compact_pick_size(&h.vs, &h.running);
	expect(a, 1, "1", "3");
	compaction_start(&h.running, a);
	ck_assert_ptr_null(compact_pick_size(&h.vs, &h.running));
	finish(a);
}
END_TEST

/* The job of another level that shares a level and a range waits, in both directions; without a common level it does not. */
START_TEST(neighbour_levels_conflict_on_common_range)
{
	struct compaction *a, *b;

	setup();
	hand_add(&e, 1, 1, 60000, "a", "m");
	hand_add(&e, 2, 2, 300000, "n", "p");
	hand_add(&e, 3, 3, 500, "k", "q"); /* makes the range of 2 reach down to k */
	hand_add(&e, 4, 4, 900000000, "a", "z");
	hand_install(&h, &e);
	a = compact_pick_size(&h.vs, &h.running); /* level 4, score 90 */
	expect(a, 4, "4", "");
	compaction_start(&h.running, a);
	b = compact_pick_size(&h.vs, &h.running); /* level 1, score 6: same keys, no level in common */
	expect(b, 1, "1", "");
	compaction_start(&h.running, b);
	ck_assert_ptr_null(compact_pick_size(
		&h.vs, &h.running)); /* level 2 → 3 meets level 1 → 2 in [k, m], and 4 → 5 not at all */
	compaction_end(&h.running, b);
	compaction_end(&h.running, a);
	a = NULL;
	h.vs.options.level1_bytes = 100000; /* now level 1 is below its target, level 4 too */
	edit_init(&e);
	ck_ok(edit_delete_file(&e, 4, 4));
	hand_add(&e, 2, 5, 2000000, "r", "s");
	hand_install(&h, &e);
	b = compact_pick_size(&h.vs, &h.running);
	expect(b, 2, "2", "3");
	compaction_start(&h.running, b);
	h.vs.options.level1_bytes = 10000;
	a = compact_pick_size(&h.vs, &h.running); /* level 2 again: 5 is clear of it */
	expect(a, 2, "5", "");
	compaction_start(&h.running, a);
	ck_assert_ptr_null(compact_pick_size(&h.vs, &h.running)); /* level 1 → 2 would write where 2 → 3 reads */
	compaction_end(&h.running, a);
	finish(b);
}
END_TEST

/* Level 0 has one job at a time, even when ranges are disjoint. */
START_TEST(one_level0_job_at_a_time)
{
	struct compaction *a;

	setup();
	for (unsigned i = 0; i < 12; i++) {
		char key[2] = {(char)('a' + i), 0};

		hand_add(&e, 0, 1 + i, 100, key, key);
	}
	hand_install(&h, &e);
	a = compact_pick_size(&h.vs, &h.running);
	expect(a, 0, "1", "");
	compaction_start(&h.running, a);
	ck_assert_ptr_null(compact_pick_size(&h.vs, &h.running));
	finish(a);
}
END_TEST

/* When the highest level is busy, the next one over its target is taken. */
START_TEST(next_level_when_the_first_is_busy)
{
	struct compaction *a, *b;

	setup();
	hand_add(&e, 1, 1, 90000, "a", "c");
	hand_add(&e, 2, 2, 200000, "m", "n");
	hand_install(&h, &e);
	a = compact_pick_size(&h.vs, &h.running);
	expect(a, 1, "1", "");
	compaction_start(&h.running, a);
	b = compact_pick_size(&h.vs, &h.running);
	expect(b, 2, "2", "");
	compaction_start(&h.running, b);
	compaction_end(&h.running, a);
	finish(b);
}
END_TEST

/* Bytes that a running job is taking away no longer count, so that workers do not pile on one level. */
START_TEST(score_without_what_is_leaving)
{
	struct compaction *a;

	setup();
	hand_add(&e, 1, 1, 8000, "a", "c");
	hand_add(&e, 1, 2, 8000, "d", "f");
	hand_install(&h, &e);
	a = compact_pick_size(&h.vs, &h.running);
	expect(a, 1, "1", "");
	compaction_start(&h.running, a);
	ck_assert_ptr_null(compact_pick_size(&h.vs, &h.running)); /* 8,000 of 10,000 are left */
	ck_assert(compact_needed(&h.vs));
	finish(a);
}
END_TEST

/* An expansion never takes what runs: it is just not made. */
START_TEST(expansion_leaves_running_files)
{
	struct compaction *a, *b;

	setup();
	hand_add(&e, 1, 1, 6000, "a", "c");
	hand_add(&e, 1, 2, 6000, "d", "f");
	hand_add(&e, 1, 3, 16000, "x", "z");
	hand_add(&e, 2, 4, 500, "b", "g");
	hand_install(&h, &e);
	hand_file(&h, 2)->compacting = true;
	a = compact_pick_size(&h.vs, &h.running);
	expect(a, 1, "1", "4");
	hand_file(&h, 2)->compacting = false;
	compaction_end(&h.running, a);
	h.vs.compact_pointer[1].size = 0;
	b = compact_pick_size(&h.vs, &h.running);
	expect(b, 1, "1 2", "4");
	finish(b);
}
END_TEST

/*
 * Jobs picked and ended in random order, with random files: whatever runs together never shares a file, nor a range on a common level. The
 * versions stay valid when outputs that span their whole range are installed.
 */
START_TEST(random_jobs_never_collide)
{
	uint64_t seed = test_seed(), number = 1;
	struct compaction *jobs[4];
	unsigned running = 0, picked = 0;

	setup();
	for (int round = 0; round < 3000; round++) {
		if (test_random(&seed) % 3 == 0 && h.vs.current->count[0] < 12) {
			char lo[8], hi[8];
			unsigned from = (unsigned)(test_random(&seed) % 900), level;

			snprintf(lo, sizeof(lo), "%03u", from);
			snprintf(hi, sizeof(hi), "%03u", from + (unsigned)(test_random(&seed) % 20));
			level = flush_pick_level(&h.vs, &h.running, slice_str(lo), slice_str(hi));
			edit_init(&e);
			hand_add_at(&e, level, number, 200 + test_random(&seed) % 2000, lo, 2 * number, hi,
				    2 * number - 1);
			number++;
			hand_install(&h, &e);
		} else if (running < 4 && test_random(&seed) % 2) {
			struct compaction *c = compact_pick_size(&h.vs, &h.running);

			if (!c)
				continue;
			for (unsigned i = 0; i < running; i++) {
				const struct compaction *o = jobs[i];
				bool common = c->level == o->level || c->level == o->output_level ||
					      c->output_level == o->level;

				ck_assert(!common || slice_compare(str(&c->smallest), str(&o->largest)) > 0 ||
					  slice_compare(str(&o->smallest), str(&c->largest)) > 0);
				ck_assert(c->level > 0 || o->level > 0);
			}
			compaction_start(&h.running, c); /* asserts that no input is taken */
			jobs[running++] = c;
			picked++;
		} else if (running) {
			unsigned which = (unsigned)(test_random(&seed) % running);
			struct compaction *c = jobs[which];
			uint64_t bytes = 0;

			edit_init(&e);
			for (unsigned i = 0; i < 2; i++) {
				for (size_t k = 0; k < c->input_count[i]; k++) {
					ck_ok(edit_delete_file(&e, c->level + i, c->inputs[i][k]->number));
					bytes += c->inputs[i][k]->size;
				}
			}
			if (c->trivial) {
				ck_ok(edit_add_file(&e, c->output_level, c->inputs[0][0]));
			} else {
				char lo[8] = {0}, hi[8] = {0};

				memcpy(lo, c->smallest.data, c->smallest.size);
				memcpy(hi, c->largest.data, c->largest.size);
				hand_add_at(&e, c->output_level, number, bytes, lo, 2 * number, hi, 1);
				number++;
			}
			h.gone_count = 0;
			hand_install(&h, &e);
			compaction_end(&h.running, c);
			jobs[which] = jobs[--running];
		}
	}
	ck_assert_uint_gt(picked, 100);
	while (running)
		compaction_end(&h.running, jobs[--running]);
	finish(NULL);
}
END_TEST

/* ---- manual ---- */

/* Pieces of at most the size limit, each telling where the next begins; never a trivial move. */
START_TEST(manual_goes_piece_by_piece)
{
	struct slice begin = slice_str("b"), end = slice_str("k"), next;
	struct compaction *c;

	setup();
	hand_add(&e, 1, 1, 600, "a", "c");
	hand_add(&e, 1, 2, 600, "d", "f");
	hand_add(&e, 1, 3, 600, "g", "i");
	hand_add(&e, 1, 4, 600, "l", "m");
	hand_install(&h, &e);
	ck_ok(compact_pick_manual(&h.vs, &h.running, 1, &begin, &end, &c));
	expect(c, 1, "1 2", "");
	ck_assert_int_eq(c->reason, REASON_MANUAL);
	ck_assert(slice_equal(str(&c->manual_end), str(&hand_file(&h, 2)->largest)));
	compaction_end(&h.running, c);
	next = slice_str("f2");
	ck_ok(compact_pick_manual(&h.vs, &h.running, 1, &next, &end, &c));
	expect(c, 1, "3", "");
	ck_assert(!c->trivial);
	ck_assert_uint_eq(c->manual_end.size, 0);
	compaction_end(&h.running, c);
	next = slice_str("j");
	ck_ok(compact_pick_manual(&h.vs, &h.running, 1, &next, &end, &c));
	ck_assert_ptr_null(c);
	ck_ok(compact_pick_manual(&h.vs, &h.running, 1, NULL, NULL, &c));
	expect(c, 1, "1 2", "");
	finish(c);
}
END_TEST

/* Level-0 inputs are not cut, whatever their size. */
START_TEST(manual_does_not_cut_level0)
{
	struct compaction *c;

	setup();
	hand_add(&e, 0, 1, 6000, "a", "c");
	hand_add(&e, 0, 2, 6000, "b", "f");
	hand_add(&e, 0, 3, 6000, "e", "i");
	hand_install(&h, &e);
	ck_ok(compact_pick_manual(&h.vs, &h.running, 0, NULL, NULL, &c));
	expect(c, 0, "1 2 3", "");
	ck_assert_uint_eq(c->manual_end.size, 0);
	finish(c);
}
END_TEST

/* A manual piece waits for a running job that it would collide with, and then goes on. */
START_TEST(manual_waits_for_running)
{
	struct compaction *a, *c = NULL;
	struct slice x = slice_str("x");

	setup();
	hand_add(&e, 1, 1, 20000, "a", "c");
	hand_add(&e, 1, 2, 600, "x", "y");
	hand_install(&h, &e);
	a = compact_pick_size(&h.vs, &h.running);
	compaction_start(&h.running, a);
	ck_assert_int_eq(compact_pick_manual(&h.vs, &h.running, 1, NULL, NULL, &c), -EAGAIN);
	ck_assert_ptr_null(c);
	ck_ok(compact_pick_manual(&h.vs, &h.running, 1, &x, NULL, &c));
	expect(c, 1, "2", "");
	compaction_end(&h.running, c);
	compaction_end(&h.running, a);
	ck_ok(compact_pick_manual(&h.vs, &h.running, 1, NULL, NULL, &c));
	expect(c, 1, "1", "");
	finish(c);
}
END_TEST

/* ---- flush ---- */

static unsigned flush_level(const char *smallest, const char *largest)
{
	return flush_pick_level(&h.vs, &h.running, slice_str(smallest), slice_str(largest));
}

/* Down to level 2 at most, not past an overlap, and not onto more than ten files' worth two levels down. */
START_TEST(flush_level_rule)
{
	setup();
	ck_assert_uint_eq(flush_level("a", "z"), 2);
	hand_add(&e, 0, 1, 100, "a", "b");
	hand_add(&e, 1, 2, 100, "c", "d");
	hand_add(&e, 2, 3, 100, "e", "f");
	hand_add(&e, 2, 4, 10001, "g", "h");
	hand_add(&e, 3, 5, 10001, "i", "j");
	hand_install(&h, &e);
	ck_assert_uint_eq(flush_level("b", "b"), 0);
	ck_assert_uint_eq(flush_level("d", "d"), 0);
	ck_assert_uint_eq(flush_level("f", "f"), 1);
	ck_assert_uint_eq(flush_level("h", "h"), 0);
	ck_assert_uint_eq(flush_level("j", "j"), 1);
	ck_assert_uint_eq(flush_level("k", "z"), 2);
	finish(NULL);
}
END_TEST

/* LevelDB's hazard: a flush must not be pushed into the gap between the inputs of a running job, at the level where its output will be. */
START_TEST(flush_keeps_out_of_running_outputs)
{
	struct slice all = slice_str("a");
	struct compaction *c;

	setup();
	hand_add(&e, 1, 1, 100, "a", "c");
	hand_add(&e, 1, 2, 100, "x", "z");
	hand_install(&h, &e);
	ck_assert_uint_eq(flush_level("m", "n"), 2);
	ck_ok(compact_pick_manual(&h.vs, &h.running, 1, &all, NULL, &c));
	expect(c, 1, "1 2", "");
	compaction_start(&h.running, c);
	ck_assert_uint_eq(flush_level("m", "n"), 1);
	finish(c);
}
END_TEST

/* The other way round: where a flush is about to install its table, no compaction is picked; a flush into level 0 hinders none. */
START_TEST(compaction_keeps_out_of_a_running_flush)
{
	struct compaction *flush = calloc(1, sizeof(*flush)), *c;
	struct slice all = slice_str("a");

	setup();
	hand_add(&e, 1, 1, 100, "a", "c");
	hand_add(&e, 1, 2, 100, "x", "z");
	hand_install(&h, &e);
	flush->reason = REASON_FLUSH;
	flush->level = flush->output_level = 2;
	flush->version = version_ref(h.vs.current);
	ck_ok(key_buf_set(&flush->smallest, slice_str("m")));
	ck_ok(key_buf_set(&flush->largest, slice_str("n")));
	compaction_start(&h.running, flush);
	ck_assert_int_eq(compact_pick_manual(&h.vs, &h.running, 1, &all, NULL, &c), -EAGAIN);
	flush->level = flush->output_level = 0;
	ck_ok(compact_pick_manual(&h.vs, &h.running, 1, &all, NULL, &c));
	compaction_end(&h.running, c);
	edit_init(&e);
	for (unsigned i = 0; i < 4; i++)
		hand_add(&e, 0, 10 + i, 100, "a", "z");
	hand_install(&h, &e);
	c = compact_pick_size(&h.vs, &h.running);
	expect(c, 0, "10 11 12 13", "1 2");
	compaction_end(&h.running, c);
	finish(flush);
}
END_TEST

/* ---- the merge's questions ---- */

static struct slice ikey(const char *user)
{
	static unsigned char buf[64];

	return ikey_make(buf, slice_str(user), 50, IKEY_VALUE);
}

/* An output ends when it spans more than ten files' worth of grandparents; those before its first key do not count. */
START_TEST(stop_before_too_many_grandparents)
{
	struct compaction_cursor cur;
	struct compaction *c;

	setup();
	hand_add(&e, 1, 1, 20000, "a", "z");
	hand_add(&e, 2, 2, 500, "a", "z");
	hand_add(&e, 3, 3, 50000, "a", "b");
	hand_add(&e, 3, 4, 6000, "e", "f");
	hand_add(&e, 3, 5, 4000, "g", "h");
	hand_add(&e, 3, 6, 1, "i", "j");
	hand_add(&e, 3, 7, 9000, "k", "l");
	hand_install(&h, &e);
	c = compact_pick_size(&h.vs, &h.running);
	expect(c, 1, "1", "2");
	compaction_cursor_init(&cur, c);
	ck_assert(!compaction_stop_before(&cur, ikey("c"), 1000)); /* 3 lies before the first key */
	ck_assert(!compaction_stop_before(&cur, ikey("g"), 1000));
	ck_assert(!compaction_stop_before(&cur, ikey("i"), 1000)); /* 10,000: at the limit */
	ck_assert(compaction_stop_before(&cur, ikey("k"), 1000));  /* 10,001 */
	ck_assert(!compaction_stop_before(&cur, ikey("m"), 1000)); /* begun anew */
	finish(c);
}
END_TEST

/* A tombstone may go only when no level below the output holds its key; gaps between files count as not holding it. */
START_TEST(base_level_looks_below_the_output)
{
	struct compaction_cursor cur;
	struct compaction *c;

	setup();
	hand_add(&e, 1, 1, 20000, "a", "z");
	hand_add(&e, 2, 2, 500, "a", "z");
	hand_add(&e, 3, 3, 500, "c", "e");
	hand_add(&e, 4, 4, 500, "g", "h");
	hand_add(&e, 6, 5, 500, "d", "k");
	hand_add(&e, 6, 6, 500, "x", "y");
	hand_install(&h, &e);
	c = compact_pick_size(&h.vs, &h.running);
	compaction_cursor_init(&cur, c);
	ck_assert(compaction_is_base_level(&cur, slice_str("a"))); /* 2 is an input, not below */
	ck_assert(!compaction_is_base_level(&cur, slice_str("c")));
	ck_assert(!compaction_is_base_level(&cur, slice_str("f")));
	ck_assert(!compaction_is_base_level(&cur, slice_str("k")));
	ck_assert(compaction_is_base_level(&cur, slice_str("l")));
	ck_assert(!compaction_is_base_level(&cur, slice_str("y")));
	ck_assert(compaction_is_base_level(&cur, slice_str("z")));
	finish(c);
}
END_TEST

TEST_MAIN("compact_pick", 30, nothing_below_targets, scores_by_files_then_bytes, highest_score_first,
	  pointer_goes_round_the_level, level0_takes_the_closure, next_level_by_overlap, boundary_joins_inputs0,
	  boundary_joins_inputs1, expansion_when_free, boundary_joins_expanded_inputs0, boundary_joins_expanded_inputs1,
	  no_expansion_when_below_grows, no_expansion_past_the_limit, trivial_move_rule, two_jobs_on_disjoint_ranges,
	  shared_input_below_waits, neighbour_levels_conflict_on_common_range, one_level0_job_at_a_time,
	  next_level_when_the_first_is_busy, score_without_what_is_leaving, expansion_leaves_running_files,
	  random_jobs_never_collide, manual_goes_piece_by_piece, manual_does_not_cut_level0, manual_waits_for_running,
	  flush_level_rule, flush_keeps_out_of_running_outputs, compaction_keeps_out_of_a_running_flush,
	  stop_before_too_many_grandparents, base_level_looks_below_the_output)
