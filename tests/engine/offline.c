#include "tests/engine/offline.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void test_in_memory(void)
{
	const char *tmp = getenv("TMPDIR"), *name = tmp ? strrchr(tmp, '/') : NULL;
	char path[256] = "/dev/shm";

	if (access(path, W_OK))
		return;
	/* run.sh removes the folder of its run, whatever becomes of a test. */
	if (name && !strncmp(name, "/shale-check.", 13) && strlen(name) < 100) {
		snprintf(path, sizeof(path), "/dev/shm%s", name);
		mkdir(path, 0755);
	}
	setenv("TMPDIR", path, 1);
}

char *in_dir(const char *dir, const char *name)
{
	static char path[4][1024];
	static unsigned at;
	char *p = path[at++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct stored_file *)a)->name, ((const struct stored_file *)b)->name);
}

void stored_take(struct stored *s, const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	s->count = 0;
	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d))) {
		struct stored_file *f = &s->at[s->count];
		struct stat st;
		FILE *in;

		if (*e->d_name == '.' || stat(in_dir(dir, e->d_name), &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		ck_assert_uint_lt(s->count++, STORED_MAX);
		ck_assert_uint_lt(strlen(e->d_name), sizeof(f->name));
		strcpy(f->name, e->d_name);
		f->size = (size_t)st.st_size;
		f->bytes = malloc(f->size + 1);
		in = fopen(in_dir(dir, e->d_name), "r");
		ck_assert_uint_eq(fread(f->bytes, 1, f->size, in), f->size);
		fclose(in);
	}
	closedir(d);
	qsort(s->at, s->count, sizeof(s->at[0]), by_name);
}

void stored_free(struct stored *s)
{
	for (size_t i = 0; i < s->count; i++)
		free(s->at[i].bytes);
	s->count = 0;
}

static void empty_dir(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	struct stat st;
	char path[1024];

	while (d && (e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		snprintf(path, sizeof(path), "%.500s/%.255s", dir, e->d_name);
		if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
			empty_dir(path);
			rmdir(path);
		} else {
			unlink(path);
		}
	}
	if (d)
		closedir(d);
}

void overwrite(const char *dir, const char *name, const void *bytes, size_t size)
{
	FILE *out = fopen(in_dir(dir, name), "w");

	ck_assert_ptr_nonnull(out);
	ck_assert_uint_eq(fwrite(bytes, 1, size, out), size);
	fclose(out);
}

void stored_put(const struct stored *s, const char *dir)
{
	empty_dir(dir);
	for (size_t i = 0; i < s->count; i++)
		overwrite(dir, s->at[i].name, s->at[i].bytes, s->at[i].size);
}

struct stored_file *stored_find(struct stored *s, const char *name)
{
	for (size_t i = 0; i < s->count; i++)
		if (!strcmp(s->at[i].name, name))
			return &s->at[i];
	return NULL;
}

void flip_in(const char *dir, const char *name, size_t offset, unsigned bit)
{
	FILE *f = fopen(in_dir(dir, name), "r+");
	int c;

	ck_assert_msg(f != NULL, "%s", name);
	fseek(f, (long)offset, SEEK_SET);
	c = fgetc(f);
	ck_assert_int_ne(c, EOF);
	fseek(f, (long)offset, SEEK_SET);
	fputc(c ^ (1 << bit), f);
	fclose(f);
}

const char *nth_file(const char *dir, const char *suffix, unsigned n)
{
	static struct stored s;
	static char name[4][64];
	static unsigned at;
	char *out = name[at++ % 4];

	*out = 0;
	stored_take(&s, dir);
	for (size_t i = 0; i < s.count && !*out; i++) {
		const char *found = strstr(s.at[i].name, suffix);

		if (found && (found == s.at[i].name || !found[strlen(suffix)]) && n-- == 0)
			snprintf(out, sizeof(name[0]), "%.63s", s.at[i].name);
	}
	ck_assert_msg(*out, "no file like %s", suffix);
	stored_free(&s);
	return out;
}

static void keep(struct exam *x, const struct finding *f)
{
	struct looked *l = container_of(x, struct looked, exam);
	size_t used = strlen(l->text);

	ck_assert_ptr_nonnull(f->kind);
	ck_assert_ptr_nonnull(f->file);
	ck_assert(*f->what);
	ck_assert_ptr_nonnull(f->cause);
	snprintf(l->text + used, sizeof(l->text) - used, "%s %s %s %llu %s\n", f->note ? "note" : "problem", f->kind,
		 f->file, (unsigned long long)f->offset, f->what);
}

void looked_open(struct looked *l, const char *dir)
{
	struct err_info err = {0};

	memset(l, 0, sizeof(*l));
	l->exam.found = keep;
	ck_assert_msg(io_env_open(dir, IO_BACKEND_POSIX, false, &l->exam.env, &err) == 0, "%s", err.text);
	ck_assert_msg(io_lock(l->exam.env, "LOCK", &err) == 0, "%s", err.text);
	ck_ok(io_queue_new(l->exam.env, 8, &l->exam.q));
}

void looked_close(struct looked *l)
{
	io_queue_free(l->exam.q);
	io_env_close(l->exam.env);
}
