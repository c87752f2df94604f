#include "tests/engine/pick_bed.h"

/* Sizes below are chosen so that one level alone is over its target: level 1 past 10,000 bytes, level 2 past 100,000. */

static struct slice str(const struct key_buf *k)
{
	return key_buf_slice(k);
}

/* ---- scores ---- */

/* Below every target nothing is compacted. */
START_TEST(nothing_below_targets)
{
	pick_begin();
	hand_add(&next, 0, 1, 1000000, "a", "z");
	hand_add(&next, 0, 2, 1000000, "a", "z");
	hand_add(&next, 0, 3, 1000000, "a", "z");
	hand_add(&next, 1, 4, 9999, "a", "z");
	hand_install(&hand, &next);
	ck_assert(!compact_needed(&hand.vs));
	ck_assert_ptr_null(pick_size());
	pick_end(NULL);
}
END_TEST

/* Level 0 counts files, deeper levels bytes against ten times more each; the last level is never scored. */
START_TEST(scores_by_files_then_bytes)
{
	pick_begin();
	for (unsigned i = 0; i < 8; i++)
		hand_add(&next, 0, 10 + i, 1, "a", "b");
	hand_add(&next, 1, 1, 5000, "a", "z");
	hand_add(&next, 2, 2, 300000, "a", "z");
	hand_add(&next, 6, 3, UINT64_C(1) << 60, "a", "z");
	hand_install(&hand, &next);
	ck_assert_double_eq(hand.vs.current->score[0], 2.0);
	ck_assert_double_eq(hand.vs.current->score[1], 0.5);
	ck_assert_double_eq(hand.vs.current->score[2], 3.0);
	ck_assert_double_eq(hand.vs.current->score[6], 0.0);
	ck_assert(compact_needed(&hand.vs));
	ck_assert_uint_eq(level_target(&hand.vs.options, 1), 10000);
	ck_assert_uint_eq(level_target(&hand.vs.options, 4), 10000000);
	pick_end(NULL);
}
END_TEST

/*
 * Beside a level 1 that is worth sparing, small files gather in level 0 until they hold twice what level 1 was given, or are as many as may gather: together
 * they cost one rewriting of level 1. Without l0_gather_files four are due, as in LevelDB.
 */
START_TEST(level0_gathers_small_files)
{
	pick_begin();
	for (unsigned i = 0; i < 4; i++)
		hand_add(&next, 0, 1 + i, 2000, "a", "z");
	hand_add(&next, 1, 10, 4999, "a", "m");
	hand_install(&hand, &next);
	ck_assert_uint_eq(level0_due(hand.vs.current), 4);
	ck_assert(compact_needed(&hand.vs));
	hand.vs.options.l0_gather_files = 7;
	ck_assert_uint_eq(level0_due(hand.vs.current), 4); /* level 1 is not half full */
	edit_init(&next);
	hand_add(&next, 1, 11, 1, "n", "z");
	hand_install(&hand, &next);
	ck_assert_double_eq(hand.vs.current->score[0], 4.0 / 5);
	ck_assert_ptr_null(pick_size());
	edit_init(&next);
	hand_add(&next, 0, 5, 11999, "a", "z");
	hand_install(&hand, &next); /* 19,999 */
	ck_assert_double_eq(hand.vs.current->score[0], 5.0 / 6);
	edit_init(&next);
	hand_add(&next, 0, 6, 1, "a", "z");
	hand_install(&hand, &next); /* 20,000 */
	ck_assert_double_eq(hand.vs.current->score[0], 6.0 / 4);
	hand.vs.options.level1_bytes = 10001;
	ck_assert_uint_eq(level0_due(hand.vs.current), 7);
	hand.vs.options.l0_gather_files = 6;
	ck_assert_uint_eq(level0_due(hand.vs.current), 4); /* so many, however small */
	pick_end(NULL);
}
END_TEST

/* Level 1 may hold what comes from level 0 at once, though no more than half of level 2; deeper targets are LevelDB's. */
START_TEST(level1_holds_what_level0_brings)
{
	struct version_set_options o = {.l0_compaction_trigger = 4, .level1_bytes = 10000, .level_multiplier = 10};

	o.l0_file_bytes = 3000;
	ck_assert_uint_eq(level_target(&o, 1), 12000);
	o.l0_gather_files = 6;
	ck_assert_uint_eq(level_target(&o, 1), 18000);
	o.l0_file_bytes = 4000;
	ck_assert_uint_eq(level_target(&o, 1), 20000); /* gathers no more than twice its target */
	o.l0_file_bytes = 8000;
	ck_assert_uint_eq(level_target(&o, 1), 32000); /* four come all the same */
	o.l0_file_bytes = 20000;
	ck_assert_uint_eq(level_target(&o, 1), 50000);
	o.l0_file_bytes = 1000;
	ck_assert_uint_eq(level_target(&o, 1), 10000);
	ck_assert_uint_eq(level_target(&o, 2), 100000);
	o.l0_file_bytes = 0;
	ck_assert_uint_eq(level_target(&o, 1), 10000);
	pick_begin();
	pick_end(NULL);
}
END_TEST

/* The level furthest over its target goes first. */
START_TEST(highest_score_first)
{
	struct compaction *c;

	pick_begin();
	hand_add(&next, 1, 1, 12000, "a", "c");
	hand_add(&next, 2, 2, 500000, "m", "n");
	hand_install(&hand, &next);
	c = pick_size();
	pick_expect(c, 2, "2", "");
	ck_assert_int_eq(c->reason, REASON_SIZE);
	pick_end(c);
}
END_TEST

/* ---- inputs ---- */

/* The first file past the compact pointer, which moves at once, and wraps. */
START_TEST(pointer_goes_round_the_level)
{
	static const char *const order[] = {"1", "2", "3", "1"};

	pick_begin();
	hand_add(&next, 1, 1, 5000, "a", "c");
	hand_add(&next, 1, 2, 5000, "d", "f");
	hand_add(&next, 1, 3, 5000, "g", "i");
	hand_install(&hand, &next);
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		struct compaction *c = pick_size();

		pick_expect(c, 1, order[i], "");
		ck_assert(slice_equal(str(&c->pointer), str(&c->inputs[0][0]->largest)));
		ck_assert(slice_equal(str(&hand.vs.compact_pointer[1]), str(&c->pointer)));
		compaction_end(&hand.running, c); /* as if it had failed: the next try is another range */
	}
	pick_end(NULL);
}
END_TEST

/* Level 0: everything that overlaps, and what overlaps that, goes together, or an older value would stay above a newer one. */
START_TEST(level0_takes_the_closure)
{
	struct compaction *c;

	pick_begin();
	hand_add(&next, 0, 1, 100, "a", "c");
	hand_add(&next, 0, 2, 100, "c", "e");
	hand_add(&next, 0, 3, 100, "e", "g");
	hand_add(&next, 0, 4, 100, "x", "z");
	hand_install(&hand, &next);
	c = pick_size();
	pick_expect(c, 0, "1 2 3", "");
	ck_assert(slice_equal(str(&c->smallest), slice_str("a")));
	ck_assert(slice_equal(str(&c->largest), slice_str("g")));
	pick_end(c);
}
END_TEST

/* All of the next level that overlaps by user key. */
START_TEST(next_level_by_overlap)
{
	struct compaction *c;

	pick_begin();
	hand_add(&next, 1, 1, 20000, "d", "m");
	hand_add(&next, 2, 2, 500, "a", "c");
	hand_add(&next, 2, 3, 500, "c2", "d");
	hand_add(&next, 2, 4, 500, "k", "l");
	hand_add(&next, 2, 5, 500, "m", "p");
	hand_add(&next, 2, 6, 500, "q", "r");
	hand_add(&next, 3, 7, 500, "a", "b");
	hand_add(&next, 3, 8, 500, "o", "z");
	hand_install(&hand, &next);
	c = pick_size();
	pick_expect(c, 1, "1", "3 4 5");
	ck_assert(slice_equal(str(&c->smallest), slice_str("c2")));
	ck_assert(slice_equal(str(&c->largest), slice_str("p")));
	hand_expect(c->grandparents, c->grandparent_count, "8");
	pick_end(c);
}
END_TEST

/* Boundary, inputs 0: the file that goes on with the user key with which the input ends joins, on and on. */
START_TEST(boundary_joins_inputs0)
{
	struct compaction *c;

	pick_begin();
	hand_add_at(&next, 1, 1, 9000, "a", 9, "k", 9);
	hand_add_at(&next, 1, 2, 9000, "k", 8, "k", 5);
	hand_add_at(&next, 1, 3, 9000, "k", 4, "p", 5);
	hand_add_at(&next, 1, 4, 9000, "q", 4, "z", 5);
	hand_install(&hand, &next);
	c = pick_size();
	pick_expect(c, 1, "1 2 3", "");
	ck_assert(!c->trivial);
	pick_end(c);
}
END_TEST

/* Boundary, inputs 1: the same below. */
START_TEST(boundary_joins_inputs1)
{
	struct compaction *c;

	pick_begin();
	hand_add(&next, 1, 1, 50000, "a", "c");
	hand_add_at(&next, 2, 2, 500, "b", 9, "k", 9);
	hand_add_at(&next, 2, 3, 500, "k", 8, "m", 5);
	hand_add_at(&next, 2, 4, 500, "n", 8, "z", 5);
	hand_install(&hand, &next);
	c = pick_size();
	pick_expect(c, 1, "1", "2 3");
	ck_assert(slice_equal(str(&c->largest), slice_str("m")));
	pick_end(c);
}
END_TEST

/* Expansion: more of the upper level comes along when the lower one does not grow for it. */
START_TEST(expansion_when_free)
{
	struct compaction *c;

	pick_begin();
	hand_add(&next, 1, 1, 6000, "a", "c");
	hand_add(&next, 1, 2, 6000, "d", "f");
	hand_add(&next, 1, 3, 6000, "p", "q");
	hand_add(&next, 2, 4, 500, "b", "g");
	hand_install(&hand, &next);
	c = pick_size();
	pick_expect(c, 1, "1 2", "4");
	ck_assert(slice_equal(str(&c->pointer), str(&hand_file(&hand, 2)->largest)));
	pick_end(c);
}
END_TEST

/* Boundary, expanded inputs 0: a file that the expansion splits from its continuation brings it along. */
START_TEST(boundary_joins_expanded_inputs0)
{
	struct compaction *c;

	pick_begin();
	hand_add(&next, 1, 1, 6000, "a", "c");
	hand_add_at(&next, 1, 2, 6000, "d", 9, "h", 9);
	hand_add_at(&next, 1, 3, 6000, "h", 5, "i", 4);
	hand_add(&next, 2, 4, 500, "b", "e");
	hand_install(&hand, &next);
	c = pick_size();
	pick_expect(c, 1, "1 2 3", "4");
	pick_end(c);
}
END_TEST

/* Boundary, expanded inputs 1: when the boundary file below makes the lower level grow, there is no expansion. */
START_TEST(boundary_joins_expanded_inputs1)
{
	struct compaction *c;

	pick_begin();
	hand_add(&next, 1, 1, 6000, "a", "c");
	hand_add(&next, 1, 2, 6000, "d", "h");
	hand_add_at(&next, 2, 4, 500, "b", 9, "e", 9);
	hand_add_at(&next, 2, 5, 500, "g", 9, "m", 9);
	hand_add_at(&next, 2, 6, 500, "m", 5, "n", 4);
	hand_install(&hand, &next);
	c = pick_size();
	pick_expect(c, 1, "1", "4");
	pick_end(c);
}
END_TEST

/* No expansion when the lower level would grow. */
START_TEST(no_expansion_when_below_grows)
{
	struct compaction *c;

	pick_begin();
	hand_add(&next, 1, 1, 6000, "a", "c");
	hand_add(&next, 1, 2, 6000, "d", "k");
	hand_add(&next, 2, 4, 500, "b", "e");
	hand_add(&next, 2, 5, 500, "j", "k");
	hand_install(&hand, &next);
	c = pick_size();
	pick_expect(c, 1, "1", "4");
	pick_end(c);
}
END_TEST

/* No expansion past 25 files' worth of bytes. */
START_TEST(no_expansion_past_the_limit)
{
	struct compaction *c;

	pick_begin();
	hand_add(&next, 1, 1, 12000, "a", "c");
	hand_add(&next, 1, 2, 12500, "d", "f");
	hand_add(&next, 2, 4, 500, "b", "g");
	hand_install(&hand, &next);
	c = pick_size(); /* 12,000 + 12,500 + 500 is not below 25 × 1000 */
	pick_expect(c, 1, "1", "4");
	pick_end(c);
}
END_TEST

/* A trivial move: one file, nothing below, no more than ten files' worth two levels below. */
START_TEST(trivial_move_rule)
{
	struct compaction *c;

	pick_begin();
	hand_add(&next, 1, 1, 12000, "a", "c");
	hand_add(&next, 3, 2, 10000, "a", "z");
	hand_install(&hand, &next);
	c = pick_size();
	pick_expect(c, 1, "1", "");
	ck_assert(c->trivial);
	compaction_end(&hand.running, c);
	edit_init(&next);
	ck_ok(edit_delete_file(&next, 3, 2));
	hand_add(&next, 3, 3, 10001, "a", "z");
	hand_install(&hand, &next);
	c = pick_size();
	pick_expect(c, 1, "1", "");
	ck_assert(!c->trivial);
	pick_end(c);
}
END_TEST

/* ---- manual ---- */

/* Pieces of at most the size limit, each telling where the next begins; never a trivial move. */
START_TEST(manual_goes_piece_by_piece)
{
	struct slice begin = slice_str("b"), end = slice_str("k"), from;
	struct compaction *c;

	pick_begin();
	hand_add(&next, 1, 1, 600, "a", "c");
	hand_add(&next, 1, 2, 600, "d", "f");
	hand_add(&next, 1, 3, 600, "g", "i");
	hand_add(&next, 1, 4, 600, "l", "m");
	hand_install(&hand, &next);
	ck_ok(compact_pick_manual(&hand.vs, &hand.running, 1, &begin, &end, &c));
	pick_expect(c, 1, "1 2", "");
	ck_assert_int_eq(c->reason, REASON_MANUAL);
	ck_assert(slice_equal(str(&c->manual_end), str(&hand_file(&hand, 2)->largest)));
	compaction_end(&hand.running, c);
	from = slice_str("f2");
	ck_ok(compact_pick_manual(&hand.vs, &hand.running, 1, &from, &end, &c));
	pick_expect(c, 1, "3", "");
	ck_assert(!c->trivial);
	ck_assert_uint_eq(c->manual_end.size, 0);
	compaction_end(&hand.running, c);
	from = slice_str("j");
	ck_ok(compact_pick_manual(&hand.vs, &hand.running, 1, &from, &end, &c));
	ck_assert_ptr_null(c);
	ck_ok(compact_pick_manual(&hand.vs, &hand.running, 1, NULL, NULL, &c));
	pick_expect(c, 1, "1 2", "");
	pick_end(c);
}
END_TEST

/* Level-0 inputs are not cut, whatever their size. */
START_TEST(manual_does_not_cut_level0)
{
	struct compaction *c;

	pick_begin();
	hand_add(&next, 0, 1, 6000, "a", "c");
	hand_add(&next, 0, 2, 6000, "b", "f");
	hand_add(&next, 0, 3, 6000, "e", "i");
	hand_install(&hand, &next);
	ck_ok(compact_pick_manual(&hand.vs, &hand.running, 0, NULL, NULL, &c));
	pick_expect(c, 0, "1 2 3", "");
	ck_assert_uint_eq(c->manual_end.size, 0);
	pick_end(c);
}
END_TEST

/* A manual piece waits for a running job that it would collide with, and then goes on. */
START_TEST(manual_waits_for_running)
{
	struct compaction *a, *c = NULL;
	struct slice x = slice_str("x");

	pick_begin();
	hand_add(&next, 1, 1, 20000, "a", "c");
	hand_add(&next, 1, 2, 600, "x", "y");
	hand_install(&hand, &next);
	a = pick_size();
	compaction_start(&hand.running, a);
	ck_assert_int_eq(compact_pick_manual(&hand.vs, &hand.running, 1, NULL, NULL, &c), -EAGAIN);
	ck_assert_ptr_null(c);
	ck_ok(compact_pick_manual(&hand.vs, &hand.running, 1, &x, NULL, &c));
	pick_expect(c, 1, "2", "");
	compaction_end(&hand.running, c);
	compaction_end(&hand.running, a);
	ck_ok(compact_pick_manual(&hand.vs, &hand.running, 1, NULL, NULL, &c));
	pick_expect(c, 1, "1", "");
	pick_end(c);
}
END_TEST

TEST_MAIN("compact_pick", 30, nothing_below_targets, scores_by_files_then_bytes, level0_gathers_small_files,
	  level1_holds_what_level0_brings, highest_score_first, pointer_goes_round_the_level, level0_takes_the_closure,
	  next_level_by_overlap, boundary_joins_inputs0, boundary_joins_inputs1, expansion_when_free,
	  boundary_joins_expanded_inputs0, boundary_joins_expanded_inputs1, no_expansion_when_below_grows,
	  no_expansion_past_the_limit, trivial_move_rule, manual_goes_piece_by_piece, manual_does_not_cut_level0,
	  manual_waits_for_running)
