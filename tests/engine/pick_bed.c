#include "tests/engine/pick_bed.h"

struct hand hand;
struct edit next;

void pick_begin(void)
{
	hand_init(&hand);
	edit_init(&next);
}

void pick_end(struct compaction *c)
{
	compaction_end(&hand.running, c);
	ck_assert_ptr_null(hand.running.head);
	hand_fini(&hand);
}

struct compaction *pick_size(void)
{
	return compact_pick_size(&hand.vs, &hand.running);
}

void pick_expect(const struct compaction *c, unsigned level, const char *inputs0, const char *inputs1)
{
	ck_assert_ptr_nonnull(c);
	ck_assert_uint_eq(c->level, level);
	ck_assert_uint_eq(c->output_level, level + 1);
	hand_expect(c->inputs[0], c->input_count[0], inputs0);
	hand_expect(c->inputs[1], c->input_count[1], inputs1);
}
