/*
 * Several jobs at a time (compact_pick.c): what may run beside what, where a flush may go, and the questions that a merge asks.
 */
#include "tests/engine/pick_bed.h"

#include <stdio.h>

static struct slice str(const struct key_buf *k)
{
	return key_buf_slice(k);
}

static unsigned flush_level(const char *smallest, const char *largest)
{
	return flush_pick_level(&hand.vs, &hand.running, slice_str(smallest), slice_str(largest));
}

/* ---- several at a time ---- */

/* What runs is not picked again; a disjoint range of the same level is. */
START_TEST(two_jobs_on_disjoint_ranges)
{
	struct compaction *a, *b;

	pick_begin();
	hand_add(&next, 1, 1, 30000, "a", "c");
	hand_add(&next, 1, 2, 30000, "d", "f");
	hand_add(&next, 2, 3, 500, "b", "c");
	hand_add(&next, 2, 4, 500, "e", "f");
	hand_install(&hand, &next);
	a = pick_size();
	pick_expect(a, 1, "1", "3");
	compaction_start(&hand.running, a);
	ck_assert(hand_file(&hand, 1)->compacting && hand_file(&hand, 3)->compacting);
	b = pick_size();
	pick_expect(b, 1, "2", "4");
	compaction_start(&hand.running, b);
	ck_assert_ptr_null(pick_size());
	compaction_end(&hand.running, a);
	ck_assert(!hand_file(&hand, 1)->compacting && hand_file(&hand, 2)->compacting);
	pick_end(b);
}
END_TEST

/* A file that would need, below, what a running job rewrites waits: two jobs must not both replace one file. */
START_TEST(shared_input_below_waits)
{
	struct compaction *a;

	pick_begin();
	hand_add(&next, 1, 1, 30000, "a", "c");
	hand_add(&next, 1, 2, 30000, "d", "f");
	hand_add(&next, 2, 3, 500, "b", "e"); /* the running job writes up to e */
	hand_install(&hand, &next);
	hand.vs.options.max_file_bytes = 100; /* no expansion */
	a = pick_size();
	pick_expect(a, 1, "1", "3");
	compaction_start(&hand.running, a);
	ck_assert_ptr_null(pick_size());
	pick_end(a);
}
END_TEST

/* The job of another level that shares a level and a range waits, in both directions; without a common level it does not. */
START_TEST(neighbour_levels_conflict_on_common_range)
{
	struct compaction *a, *b;

	pick_begin();
	hand_add(&next, 1, 1, 60000, "a", "m");
	hand_add(&next, 2, 2, 300000, "n", "p");
	hand_add(&next, 3, 3, 500, "k", "q"); /* makes the range of 2 reach down to k */
	hand_add(&next, 4, 4, 900000000, "a", "z");
	hand_install(&hand, &next);
	a = pick_size(); /* level 4, score 90 */
	pick_expect(a, 4, "4", "");
	compaction_start(&hand.running, a);
	b = pick_size(); /* level 1, score 6: same keys, no level in common */
	pick_expect(b, 1, "1", "");
	compaction_start(&hand.running, b);
	ck_assert_ptr_null(pick_size()); /* level 2 → 3 meets level 1 → 2 in [k, m], and 4 → 5 not at all */
	compaction_end(&hand.running, b);
	compaction_end(&hand.running, a);
	a = NULL;
	hand.vs.options.level1_bytes = 100000; /* now level 1 is below its target, level 4 too */
	edit_init(&next);
	ck_ok(edit_delete_file(&next, 4, 4));
	hand_add(&next, 2, 5, 2000000, "r", "s");
	hand_install(&hand, &next);
	b = pick_size();
	pick_expect(b, 2, "2", "3");
	compaction_start(&hand.running, b);
	hand.vs.options.level1_bytes = 10000;
	a = pick_size(); /* level 2 again: 5 is clear of it */
	pick_expect(a, 2, "5", "");
	compaction_start(&hand.running, a);
	ck_assert_ptr_null(pick_size()); /* level 1 → 2 would write where 2 → 3 reads */
	compaction_end(&hand.running, a);
	pick_end(b);
}
END_TEST

/* Level 0 has one job at a time, even when ranges are disjoint. */
START_TEST(one_level0_job_at_a_time)
{
	struct compaction *a;

	pick_begin();
	for (unsigned i = 0; i < 12; i++) {
		char key[2] = {(char)('a' + i), 0};

		hand_add(&next, 0, 1 + i, 100, key, key);
	}
	hand_install(&hand, &next);
	a = pick_size();
	pick_expect(a, 0, "1", "");
	compaction_start(&hand.running, a);
	ck_assert_ptr_null(pick_size());
	pick_end(a);
}
END_TEST

/* When the highest level is busy, the next one over its target is taken. */
START_TEST(next_level_when_the_first_is_busy)
{
	struct compaction *a, *b;

	pick_begin();
	hand_add(&next, 1, 1, 90000, "a", "c");
	hand_add(&next, 2, 2, 200000, "m", "n");
	hand_install(&hand, &next);
	a = pick_size();
	pick_expect(a, 1, "1", "");
	compaction_start(&hand.running, a);
	b = pick_size();
	pick_expect(b, 2, "2", "");
	compaction_start(&hand.running, b);
	compaction_end(&hand.running, a);
	pick_end(b);
}
END_TEST

/* Bytes that a running job is taking away no longer count, so that workers do not pile on one level. */
START_TEST(score_without_what_is_leaving)
{
	struct compaction *a;

	pick_begin();
	hand_add(&next, 1, 1, 8000, "a", "c");
	hand_add(&next, 1, 2, 8000, "d", "f");
	hand_install(&hand, &next);
	a = pick_size();
	pick_expect(a, 1, "1", "");
	compaction_start(&hand.running, a);
	ck_assert_ptr_null(pick_size()); /* 8,000 of 10,000 are left */
	ck_assert(compact_needed(&hand.vs));
	pick_end(a);
}
END_TEST

/*
 * Past what was to gather, level 0 goes before levels with a higher score, and where a job that reads level 1 stands in its way, no second such job
 * begins, unless the one was set aside; deeper ones do.
 */
START_TEST(full_level0_goes_first)
{
	struct compaction *a, *b;

	pick_begin();
	hand.vs.options.l0_gather_files = 6;
	for (unsigned i = 0; i < 7; i++)
		hand_add(&next, 0, 1 + i, 100, "a", "m");
	hand_add(&next, 1, 11, 40000, "a", "c");
	hand_add(&next, 1, 12, 40000, "d", "f");
	hand_add(&next, 2, 13, 500, "a", "f");
	hand_install(&hand, &next);
	hand.vs.options.max_file_bytes = 100; /* no expansion */
	ck_assert(hand.vs.current->score[1] > hand.vs.current->score[0]);
	a = pick_size();
	pick_expect(a, 0, "1 2 3 4 5 6 7", "11 12");
	compaction_end(&hand.running, a);

	hand.vs.options.l0_gather_files = 7;
	a = pick_size();
	pick_expect(a, 1, "11", "13");
	compaction_start(&hand.running, a);
	edit_init(&next);
	hand_add(&next, 0, 8, 100, "a", "m");
	hand_add(&next, 1, 14, 40000, "p", "q"); /* clear of what runs */
	hand_install(&hand, &next);
	ck_assert_ptr_null(pick_size());
	a->set_aside = true; /* what cannot be read: nobody knows for how long */
	b = pick_size();
	pick_expect(b, 1, "14", "");
	compaction_end(&hand.running, b);
	a->set_aside = false;
	edit_init(&next);
	hand_add(&next, 2, 15, 900000, "p", "q");
	hand_install(&hand, &next);
	b = pick_size();
	pick_expect(b, 2, "15", "");
	compaction_end(&hand.running, b);
	pick_end(a);
}
END_TEST

/* A rewrite in place keeps clear of jobs that read or write its range of the level, and they of it; elsewhere both go on. */
START_TEST(rewrites_and_merges_keep_apart)
{
	struct compaction *merge, *rewrite = NULL, *none = NULL;

	pick_begin();
	hand_add(&next, 1, 1, 20000, "a", "c");
	hand_add(&next, 2, 2, 500, "a", "b");
	hand_add(&next, 2, 3, 500, "m", "n");
	hand_install(&hand, &next);
	merge = pick_size();
	pick_expect(merge, 1, "1", "2");
	compaction_start(&hand.running, merge);
	ck_assert_int_eq(compact_pick_rewrite(&hand.vs, &hand.running, 2, 0, 1, REASON_TOMBSTONES, &none), -EAGAIN);
	ck_ok(compact_pick_rewrite(&hand.vs, &hand.running, 2, 1, 1, REASON_TOMBSTONES, &rewrite));
	compaction_end(&hand.running, rewrite);
	compaction_end(&hand.running, merge);
	ck_ok(compact_pick_rewrite(&hand.vs, &hand.running, 2, 0, 1, REASON_TOMBSTONES, &rewrite));
	ck_assert_uint_eq(rewrite->output_level, 2);
	ck_assert(!rewrite->trivial);
	hand_expect(rewrite->inputs[0], rewrite->input_count[0], "2");
	compaction_start(&hand.running, rewrite);
	ck_assert_ptr_null(pick_size());
	ck_assert_ptr_null(compact_pick_file(&hand.vs, &hand.running, 1, hand_file(&hand, 1), REASON_SEEK));
	ck_assert_uint_eq(flush_level("b", "b"), 0); /* over 1; its output is as good as there */
	pick_end(rewrite);
}
END_TEST

/* A compaction for a file's own sake takes what it overlaps, level 0's closure too, and may be a move. */
START_TEST(file_brings_its_overlaps)
{
	struct compaction *c;

	pick_begin();
	hand_add(&next, 0, 5, 100, "a", "c");
	hand_add(&next, 0, 6, 100, "b", "d");
	hand_add(&next, 1, 1, 100, "c", "k");
	hand_add(&next, 1, 2, 100, "m", "n");
	hand_install(&hand, &next);
	c = compact_pick_file(&hand.vs, &hand.running, 0, hand_file(&hand, 6), REASON_SEEK);
	pick_expect(c, 0, "5 6", "1");
	ck_assert_int_eq(c->reason, REASON_SEEK);
	compaction_end(&hand.running, c);
	c = compact_pick_file(&hand.vs, &hand.running, 1, hand_file(&hand, 2), REASON_TOMBSTONES);
	pick_expect(c, 1, "2", "");
	ck_assert(c->trivial);
	pick_end(c);
}
END_TEST

/* An expansion never takes what runs: it is just not made. */
START_TEST(expansion_leaves_running_files)
{
	struct compaction *a, *b;

	pick_begin();
	hand_add(&next, 1, 1, 6000, "a", "c");
	hand_add(&next, 1, 2, 6000, "d", "f");
	hand_add(&next, 1, 3, 16000, "x", "z");
	hand_add(&next, 2, 4, 500, "b", "g");
	hand_install(&hand, &next);
	hand_file(&hand, 2)->compacting = true;
	a = pick_size();
	pick_expect(a, 1, "1", "4");
	hand_file(&hand, 2)->compacting = false;
	compaction_end(&hand.running, a);
	hand.vs.compact_pointer[1].size = 0;
	b = pick_size();
	pick_expect(b, 1, "1 2", "4");
	pick_end(b);
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

	pick_begin();
	hand.vs.options.l0_gather_files = (unsigned)(test_random(&seed) % 9);
	for (int round = 0; round < 3000; round++) {
		if (test_random(&seed) % 3 == 0 && hand.vs.current->count[0] < 12) {
			char lo[8], hi[8];
			unsigned from = (unsigned)(test_random(&seed) % 900), level;

			snprintf(lo, sizeof(lo), "%03u", from);
			snprintf(hi, sizeof(hi), "%03u", from + (unsigned)(test_random(&seed) % 20));
			level = flush_pick_level(&hand.vs, &hand.running, slice_str(lo), slice_str(hi));
			edit_init(&next);
			hand_add_at(&next, level, number, 200 + test_random(&seed) % 2000, lo, 2 * number, hi,
				    2 * number - 1);
			number++;
			hand_install(&hand, &next);
		} else if (running < 4 && test_random(&seed) % 2) {
			struct compaction *c = pick_size();

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
			compaction_start(&hand.running, c); /* asserts that no input is taken */
			jobs[running++] = c;
			picked++;
		} else if (running) {
			unsigned which = (unsigned)(test_random(&seed) % running);
			struct compaction *c = jobs[which];
			uint64_t bytes = 0;

			edit_init(&next);
			for (unsigned i = 0; i < 2; i++) {
				for (size_t k = 0; k < c->input_count[i]; k++) {
					ck_ok(edit_delete_file(&next, c->level + i, c->inputs[i][k]->number));
					bytes += c->inputs[i][k]->size;
				}
			}
			if (c->trivial) {
				ck_ok(edit_add_file(&next, c->output_level, c->inputs[0][0]));
			} else {
				char lo[8] = {0}, hi[8] = {0};

				memcpy(lo, c->smallest.data, c->smallest.size);
				memcpy(hi, c->largest.data, c->largest.size);
				hand_add_at(&next, c->output_level, number, bytes, lo, 2 * number, hi, 1);
				number++;
			}
			hand.gone_count = 0;
			hand_install(&hand, &next);
			compaction_end(&hand.running, c);
			jobs[which] = jobs[--running];
		}
	}
	ck_assert_uint_gt(picked, 100);
	while (running)
		compaction_end(&hand.running, jobs[--running]);
	pick_end(NULL);
}
END_TEST

/* ---- flush ---- */

/* Down to level 2 at most, not past an overlap, and not onto more than ten files' worth two levels down. */
START_TEST(flush_level_rule)
{
	pick_begin();
	ck_assert_uint_eq(flush_level("a", "z"), 2);
	hand_add(&next, 0, 1, 100, "a", "b");
	hand_add(&next, 1, 2, 100, "c", "d");
	hand_add(&next, 2, 3, 100, "e", "f");
	hand_add(&next, 2, 4, 10001, "g", "h");
	hand_add(&next, 3, 5, 10001, "i", "j");
	hand_install(&hand, &next);
	ck_assert_uint_eq(flush_level("b", "b"), 0);
	ck_assert_uint_eq(flush_level("d", "d"), 0);
	ck_assert_uint_eq(flush_level("f", "f"), 1);
	ck_assert_uint_eq(flush_level("h", "h"), 0);
	ck_assert_uint_eq(flush_level("j", "j"), 1);
	ck_assert_uint_eq(flush_level("k", "z"), 2);
	pick_end(NULL);
}
END_TEST

/* LevelDB's hazard: a flush must not be pushed into the gap between the inputs of a running job, at the level where its output will be. */
START_TEST(flush_keeps_out_of_running_outputs)
{
	struct slice all = slice_str("a");
	struct compaction *c;

	pick_begin();
	hand_add(&next, 1, 1, 100, "a", "c");
	hand_add(&next, 1, 2, 100, "x", "z");
	hand_install(&hand, &next);
	ck_assert_uint_eq(flush_level("m", "n"), 2);
	ck_ok(compact_pick_manual(&hand.vs, &hand.running, 1, &all, NULL, &c));
	pick_expect(c, 1, "1 2", "");
	compaction_start(&hand.running, c);
	ck_assert_uint_eq(flush_level("m", "n"), 1);
	pick_end(c);
}
END_TEST

/* The other way round: where a flush is about to install its table, no compaction is picked; a flush into level 0 hinders none. */
START_TEST(compaction_keeps_out_of_a_running_flush)
{
	struct compaction *flush = calloc(1, sizeof(*flush)), *c;
	struct slice all = slice_str("a");

	pick_begin();
	hand_add(&next, 1, 1, 100, "a", "c");
	hand_add(&next, 1, 2, 100, "x", "z");
	hand_install(&hand, &next);
	flush->reason = REASON_FLUSH;
	flush->level = flush->output_level = 2;
	flush->version = version_ref(hand.vs.current);
	ck_ok(key_buf_set(&flush->smallest, slice_str("m")));
	ck_ok(key_buf_set(&flush->largest, slice_str("n")));
	compaction_start(&hand.running, flush);
	ck_assert_int_eq(compact_pick_manual(&hand.vs, &hand.running, 1, &all, NULL, &c), -EAGAIN);
	flush->level = flush->output_level = 0;
	ck_ok(compact_pick_manual(&hand.vs, &hand.running, 1, &all, NULL, &c));
	compaction_end(&hand.running, c);
	edit_init(&next);
	for (unsigned i = 0; i < 4; i++)
		hand_add(&next, 0, 10 + i, 100, "a", "z");
	hand_install(&hand, &next);
	c = pick_size();
	pick_expect(c, 0, "10 11 12 13", "1 2");
	compaction_end(&hand.running, c);
	pick_end(flush);
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

	pick_begin();
	hand_add(&next, 1, 1, 20000, "a", "z");
	hand_add(&next, 2, 2, 500, "a", "z");
	hand_add(&next, 3, 3, 50000, "a", "b");
	hand_add(&next, 3, 4, 6000, "e", "f");
	hand_add(&next, 3, 5, 4000, "g", "h");
	hand_add(&next, 3, 6, 1, "i", "j");
	hand_add(&next, 3, 7, 9000, "k", "l");
	hand_install(&hand, &next);
	c = pick_size();
	pick_expect(c, 1, "1", "2");
	compaction_cursor_init(&cur, c);
	ck_assert(!compaction_stop_before(&cur, ikey("c"), 1000, 0)); /* 3 lies before the first key */
	ck_assert(!compaction_stop_before(&cur, ikey("g"), 1000, 0));
	ck_assert(!compaction_stop_before(&cur, ikey("i"), 1000, 0)); /* 10,000: at the limit */
	ck_assert(compaction_stop_before(&cur, ikey("k"), 1000, 0));  /* 10,001 */
	ck_assert(!compaction_stop_before(&cur, ikey("m"), 1000, 0)); /* begun anew */
	pick_end(c);
}
END_TEST

/* A half full output ends where a table of the level below it ends, so that it will not be merged with the next one as well. */
START_TEST(outputs_end_with_grandparents)
{
	struct compaction_cursor cur;
	struct compaction *c;

	pick_begin();
	hand_add(&next, 1, 1, 20000, "a", "z");
	hand_add(&next, 2, 2, 500, "a", "z");
	hand_add(&next, 3, 3, 700, "a", "c");
	hand_add(&next, 3, 4, 700, "d", "f");
	hand_add(&next, 3, 5, 700, "g", "i");
	hand_install(&hand, &next);
	c = pick_size();
	compaction_cursor_init(&cur, c);
	ck_assert(!compaction_stop_before(&cur, ikey("a"), 1000, 0));
	ck_assert(!compaction_stop_before(&cur, ikey("c"), 1000, 700)); /* half full, but 3 goes on */
	ck_assert(!compaction_stop_before(&cur, ikey("d"), 1000, 499)); /* past 3, not half full */
	ck_assert(!compaction_stop_before(&cur, ikey("e"), 1000, 600));
	ck_assert(compaction_stop_before(&cur, ikey("h"), 1000, 600)); /* past 4 */
	ck_assert(!compaction_stop_before(&cur, ikey("h"), 1000, 600));
	ck_assert(compaction_stop_before(&cur, ikey("j"), 1000, 500)); /* past 5, the last */
	ck_assert(!compaction_stop_before(&cur, ikey("k"), 1000, 900));
	pick_end(c);
}
END_TEST

/* A tombstone may go only when no level below the output holds its key; gaps between files count as not holding it. */
START_TEST(base_level_looks_below_the_output)
{
	struct compaction_cursor cur;
	struct compaction *c;

	pick_begin();
	hand_add(&next, 1, 1, 20000, "a", "z");
	hand_add(&next, 2, 2, 500, "a", "z");
	hand_add(&next, 3, 3, 500, "c", "e");
	hand_add(&next, 4, 4, 500, "g", "h");
	hand_add(&next, 6, 5, 500, "d", "k");
	hand_add(&next, 6, 6, 500, "x", "y");
	hand_install(&hand, &next);
	c = pick_size();
	compaction_cursor_init(&cur, c);
	ck_assert(compaction_is_base_level(&cur, slice_str("a"))); /* 2 is an input, not below */
	ck_assert(!compaction_is_base_level(&cur, slice_str("c")));
	ck_assert(!compaction_is_base_level(&cur, slice_str("f")));
	ck_assert(!compaction_is_base_level(&cur, slice_str("k")));
	ck_assert(compaction_is_base_level(&cur, slice_str("l")));
	ck_assert(!compaction_is_base_level(&cur, slice_str("y")));
	ck_assert(compaction_is_base_level(&cur, slice_str("z")));
	pick_end(c);
}
END_TEST

TEST_MAIN("compact_jobs", 30, two_jobs_on_disjoint_ranges, shared_input_below_waits,
	  neighbour_levels_conflict_on_common_range, one_level0_job_at_a_time, next_level_when_the_first_is_busy,
	  score_without_what_is_leaving, full_level0_goes_first, rewrites_and_merges_keep_apart,
	  file_brings_its_overlaps, expansion_leaves_running_files, random_jobs_never_collide, flush_level_rule,
	  flush_keeps_out_of_running_outputs, compaction_keeps_out_of_a_running_flush,
	  stop_before_too_many_grandparents, outputs_end_with_grandparents, base_level_looks_below_the_output)
