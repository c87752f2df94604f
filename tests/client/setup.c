#include "tests/client/setup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/test.h"

struct setup setup_dark(void)
{
	struct setup s = {.dir = test_tmpdir()};

	ck_assert_int_gt(asprintf(&s.path, "%s/shale.sock", s.dir), 0);
	s.fake = fake_new(s.path);
	return s;
}

void setup_open(struct setup *s, const struct shale_options *options)
{
	struct shale_options o = SHALE_OPTIONS_INIT;
	int rc;

	o.reconnect_ms = 2000;
	rc = shale_open(s->path, options ? options : &o, &s->db);
	ck_assert_msg(rc == 0, "open: %d, %s", rc, shale_last_error(NULL));
}

struct setup setup_new(void)
{
	struct setup s = setup_dark();

	fake_start(s.fake);
	setup_open(&s, NULL);
	return s;
}

void setup_free(struct setup *s)
{
	shale_close(s->db);
	fake_free(s->fake);
	test_rmtree(s->dir);
	free(s->dir);
	free(s->path);
}

int put(struct shale_db *db, const char *key, const char *value)
{
	return shale_put(db, NULL, key, strlen(key), value, strlen(value));
}

void expect(struct shale_db *db, const struct shale_snapshot *snapshot, const char *key, const char *value)
{
	struct shale_read_options o = SHALE_READ_OPTIONS_INIT;
	void *got;
	size_t len;
	int rc;

	o.snapshot = snapshot;
	rc = shale_get_alloc(db, &o, key, strlen(key), &got, &len);
	if (!value) {
		ck_assert_msg(rc == SHALE_NOTFOUND, "%s: %d, %s", key, rc, shale_last_error(db));
		return;
	}
	ck_assert_msg(rc == 0, "%s: %d, %s", key, rc, shale_last_error(db));
	ck_assert_uint_eq(len, strlen(value));
	ck_assert_str_eq(got, value); /* a NUL follows each value */
	shale_free(got);
}

void eventually(const _Atomic unsigned *word, unsigned value)
{
	for (int i = 0; i < 60000 && atomic_load(word) != value; i++)
		usleep(1000);
	ck_assert_uint_eq(atomic_load(word), value);
}

void expect_words(const struct shale_db *db, const char *part)
{
	ck_assert_msg(strstr(shale_last_error(db), part), "\"%s\" is not in \"%s\"", part, shale_last_error(db));
}
