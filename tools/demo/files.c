#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/demo/demo.h"

/* Paths found so far, in private memory, each NUL-terminated. */
struct listing {
	char *bytes;
	size_t size, cap;
	size_t count;
};

static int listing_add(struct listing *l, const char *path)
{
	size_t n = strlen(path) + 1;

	if (l->cap - l->size < n) {
		size_t cap = l->cap ? l->cap * 2 : 4 << 20;
		char *more = realloc(l->bytes, cap);

		if (!more)
			return -ENOMEM;
		l->bytes = more;
		l->cap = cap;
	}
	memcpy(l->bytes + l->size, path, n);
	l->size += n;
	l->count++;
	return 0;
}

static int list_folder(struct listing *l, const char *folder)
{
	struct dirent *entry;
	DIR *dir = opendir(folder);
	char path[4096];
	int rc = 0;

	if (!dir)
		return 0; /* not there, or not ours to read: nothing to index */
	while (rc == 0 && (entry = readdir(dir))) {
		int n = snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		unsigned type = entry->d_type;
		struct stat st;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || n >= (int)sizeof(path))
			continue;
		if (type == DT_UNKNOWN && lstat(path, &st) == 0)
			type = S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG : DT_UNKNOWN;
		if (type == DT_DIR)
			rc = list_folder(l, path);
		else if (type == DT_REG)
			rc = listing_add(l, path);
	}
	closedir(dir);
	return rc;
}

static void *shared(size_t size)
{
	void *p = mmap(NULL, size ? size : 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b); /* bytewise, as the database's order */
}

static struct plan *plan_of(const struct listing *l)
{
	const char **sorted = malloc((l->count + 1) * sizeof(*sorted));
	struct plan *p = shared(sizeof(*p));
	size_t off = 0;

	if (p) {
		p->files = shared(l->count * sizeof(*p->files));
		p->paths = shared(l->size);
	}
	if (!sorted || !p || !p->files || !p->paths) {
		free(sorted);
		return NULL;
	}
	for (const char *s = l->bytes; s < l->bytes + l->size; s += strlen(s) + 1)
		sorted[p->nfiles++] = s;
	qsort(sorted, p->nfiles, sizeof(*sorted), by_path);
	for (uint32_t i = 0; i < p->nfiles; i++) {
		size_t n = strlen(sorted[i]);

		memcpy(p->paths + off, sorted[i], n + 1);
		p->files[i].path_off = (uint32_t)off;
		p->files[i].path_len = (uint32_t)n;
		off += n + 1;
	}
	free(sorted);
	return p;
}

struct plan *plan_new(const char *const *roots)
{
	struct listing l = {0};
	struct plan *p = NULL;
	int rc = 0;

	for (; *roots && rc == 0; roots++)
		rc = list_folder(&l, *roots);
	if (rc == 0)
		p = plan_of(&l);
	free(l.bytes);
	return p;
}

long file_read_head(const char *path, unsigned char *buf)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	size_t got = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	while (got < HEAD_BYTES && (n = read(fd, buf + got, HEAD_BYTES - got)) > 0)
		got += (size_t)n;
	n = got < HEAD_BYTES && n < 0 ? -errno : (ssize_t)got;
	close(fd);
	return n;
}

uint64_t hash_bytes(struct slice s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < s.size; i++)
		h = (h ^ s.data[i]) * UINT64_C(0x100000001b3);
	return h;
}
