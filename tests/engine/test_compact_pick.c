#include "engine/compact_pick.h"
#include "tests/engine/hand_made.h"
#include "tests/test.h"

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

TEST_MAIN("compact_pick", 30, nothing_below_targets, scores_by_files_then_bytes, highest_score_first,
	  pointer_goes_round_the_level, level0_takes_the_closure, next_level_by_overlap, boundary_joins_inputs0,
	  boundary_joins_inputs1, expansion_when_free, boundary_joins_expanded_inputs0, boundary_joins_expanded_inputs1,
	  no_expansion_when_below_grows, no_expansion_past_the_limit, trivial_move_rule, manual_goes_piece_by_piece,
	  manual_does_not_cut_level0, manual_waits_for_running)
