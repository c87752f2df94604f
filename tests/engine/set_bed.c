#include "tests/engine/set_bed.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/engine/hand_made.h"
#include "tests/test.h"

static void note_gone(void *context, struct file_meta *m)
{
	struct bed *b = context;

	b->gone++;
	file_meta_free(m);
}

void bed_init(struct bed *b)
{
	memset(b, 0, sizeof(*b));
	b->dir = test_tmpdir();
	faulty_env_init(&b->env, b->dir);
	ck_ok(io_queue_new(&b->env.base, 8, &b->q));
	pthread_mutex_init(&b->lock, NULL);
	b->options = (struct version_set_options){
		.l0_compaction_trigger = 4,
		.level1_bytes = 10 << 20,
		.level_multiplier = 10,
		.max_file_bytes = 2 << 20,
		.max_manifest_bytes = 64 << 20,
		.tombstone_percent = 50,
	};
	ck_ok(version_set_init(&b->vs, &b->env.base, &b->lock, &b->options, note_gone, b));
}

void bed_restart(struct bed *b)
{
	version_set_fini(&b->vs);
	b->env.countdown = -1;
	b->env.base.dir_failed = b->env.inner->dir_failed = false; /* what a process knows ends with it */
	memset(&b->err, 0, sizeof(b->err));
	ck_ok(version_set_init(&b->vs, &b->env.base, &b->lock, &b->options, note_gone, b));
}

void bed_fini(struct bed *b)
{
	version_set_fini(&b->vs);
	io_queue_free(b->q);
	faulty_env_fini(&b->env);
	test_rmtree(b->dir);
	free(b->dir);
}

void bed_create(struct bed *b)
{
	int rc = version_set_create(&b->vs, b->q, &b->err);

	ck_assert_msg(rc == 0, "%s", b->err.text);
}

void bed_recover(struct bed *b)
{
	int rc;

	bed_restart(b);
	rc = version_set_recover(&b->vs, b->q, &b->err);
	ck_assert_msg(rc == 0, "%s", b->err.text);
	ck_ok(version_check(b->vs.current, &b->err));
}

void expect_recovery(struct bed *b, int want, const char *const *words, size_t count)
{
	int rc;

	bed_restart(b);
	rc = version_set_recover(&b->vs, b->q, &b->err);
	ck_assert_msg(rc == want, "%d, not %d: %s", rc, want, b->err.text);
	for (size_t i = 0; i < count; i++)
		ck_assert_msg(strstr(b->err.text, words[i]), "'%s' does not say '%s'", b->err.text, words[i]);
	ck_assert_uint_eq(b->vs.current->count[1], 0); /* nothing half taken over */
	ck_assert_uint_eq(b->vs.manifest_number, 0);
}

char *path_of(const struct bed *b, const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", b->dir, name);
	return path;
}

void write_file(const struct bed *b, const char *name, const void *data, size_t size)
{
	int fd = open(path_of(b, name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, data, size), (ssize_t)size);
	close(fd);
}

unsigned char *read_whole(const struct bed *b, const char *name, size_t *size_out)
{
	int fd = open(path_of(b, name), O_RDONLY);
	struct stat st;
	unsigned char *data;

	ck_assert_int_ge(fd, 0);
	ck_ok(fstat(fd, &st));
	data = malloc((size_t)st.st_size + 1);
	ck_assert_int_eq(read(fd, data, (size_t)st.st_size), st.st_size);
	close(fd);
	*size_out = (size_t)st.st_size;
	return data;
}

void make_table(const struct bed *b, uint64_t number, uint64_t size)
{
	char name[FILE_NAME_MAX];

	write_file(b, file_name(name, FILE_TABLE, number), "", 0);
	ck_ok(truncate(path_of(b, name), (off_t)size));
}

uint64_t add_one(struct bed *b, struct edit *e)
{
	uint64_t number = version_set_new_number(&b->vs);
	char key[16];

	snprintf(key, sizeof(key), "k%06llu", (unsigned long long)number);
	make_table(b, number, 100 + number);
	hand_add(e, 1, number, 100 + number, key, key);
	return number;
}

int apply_one(struct bed *b, uint64_t *number_out)
{
	struct edit e;
	int rc;

	edit_init(&e);
	*number_out = add_one(b, &e);
	e.has_log_number = true;
	e.log_number = *number_out;
	rc = version_set_apply(&b->vs, &e, b->q, &b->err);
	edit_fini(&e);
	return rc;
}

uint64_t must_apply(struct bed *b)
{
	uint64_t number;
	int rc = apply_one(b, &number);

	ck_assert_msg(rc == 0, "%s", b->err.text);
	return number;
}

unsigned count_files(const struct bed *b, enum file_type type)
{
	DIR *d = opendir(b->dir);
	struct dirent *entry;
	unsigned n = 0;

	while ((entry = readdir(d))) {
		enum file_type t;
		uint64_t number;

		n += file_parse(entry->d_name, &t, &number) && t == type;
	}
	closedir(d);
	return n;
}
