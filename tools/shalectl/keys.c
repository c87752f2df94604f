#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/shalectl/shalectl.h"

static void print_hex(struct slice bytes)
{
	for (size_t i = 0; i < bytes.size; i++)
		printf("%02x", bytes.data[i]);
	putchar('\n');
}

int cmd_get(struct ctl *ctl)
{
	struct slice key = slice_str(ctl->args[0]);
	struct shale_db *db;
	void *value;
	size_t len;
	int code = ctl_open(ctl, true, &db), rc;

	if (code != EXIT_OK)
		return code;
	rc = shale_get_alloc(db, NULL, key.data, key.size, &value, &len);
	if (rc == 0) {
		struct slice v = slice_of(value, len);

		if (ctl->json) {
			json_t *obj = json_object();

			json_set_bytes(obj, "key", key);
			json_set_bytes(obj, "value", v);
			print_json(obj);
		} else if (ctl->hex) {
			print_hex(v);
		} else {
			fwrite(value, 1, len, stdout);
			if (isatty(STDOUT_FILENO))
				putchar('\n');
		}
		shale_free(value);
		code = ctl_finish_output();
	} else if (rc == SHALE_NOTFOUND) {
		complain("no such key: %s", ctl->args[0]);
		code = EXIT_NOT_FOUND;
	} else {
		code = ctl_failed(db, "get", rc);
	}
	shale_close(db);
	return code;
}

/* All of stdin, NUL-terminated, owned by the caller; NULL after having said why. */
static char *read_stdin(size_t *len_out)
{
	size_t len = 0, cap = 64 << 10, n;
	char *buf = malloc(cap);

	while (buf && (n = fread(buf + len, 1, cap - len - 1, stdin)) > 0) {
		len += n;
		if (cap - len < cap / 4) {
			char *more = realloc(buf, cap *= 2);

			if (!more)
				free(buf);
			buf = more;
		}
	}
	if (!buf || ferror(stdin)) {
		complain("reading standard input: %m");
		free(buf);
		return NULL;
	}
	buf[len] = 0;
	*len_out = len;
	return buf;
}

int cmd_put(struct ctl *ctl)
{
	struct shale_write_options options = SHALE_WRITE_OPTIONS_INIT;
	const char *key = ctl->args[0], *value = ctl->args[1];
	size_t len = strlen(value);
	char *input = NULL;
	struct shale_db *db;
	int code, rc;

	options.sync = ctl->sync;
	if (strcmp(value, "-") == 0) {
		input = read_stdin(&len);
		if (!input)
			return EXIT_FAILED;
		value = input;
	}
	code = ctl_open(ctl, false, &db);
	if (code == EXIT_OK) {
		rc = shale_put(db, &options, key, strlen(key), value, len);
		if (rc < 0)
			code = ctl_failed(db, "put", rc);
		shale_close(db);
	}
	free(input);
	return code;
}

int cmd_del(struct ctl *ctl)
{
	struct shale_write_options options = SHALE_WRITE_OPTIONS_INIT;
	struct shale_batch *batch;
	struct shale_db *db;
	int code = ctl_open(ctl, false, &db), rc = 0;

	if (code != EXIT_OK)
		return code;
	options.sync = ctl->sync;
	batch = shale_batch_new();
	rc = batch ? 0 : -ENOMEM;
	for (int i = 0; i < ctl->nargs && rc == 0; i++)
		rc = shale_batch_delete(batch, ctl->args[i], strlen(ctl->args[i]));
	if (rc == 0)
		rc = shale_write(db, &options, batch, NULL);
	if (rc < 0)
		code = ctl_failed(db, "del", rc);
	shale_batch_free(batch);
	shale_close(db);
	return code;
}

static void print_entry(const struct ctl *ctl, const struct shale_iter *it)
{
	struct slice key, value;

	key.data = shale_iter_key(it, &key.size);
	value.data = shale_iter_value(it, &value.size);
	if (ctl->json) {
		json_t *obj = json_object();

		json_set_bytes(obj, "key", key);
		if (!ctl->keys_only)
			json_set_bytes(obj, "value", value);
		print_json(obj);
		return;
	}
	print_escaped(stdout, key);
	if (!ctl->keys_only) {
		putchar('\t');
		print_escaped(stdout, value);
	}
	putchar('\n');
}

/* The smallest key after all that begin with @prefix, malloc'ed; NULL with *@len_out 0 when there is none (all 0xff). */
static unsigned char *prefix_end(const char *prefix, size_t *len_out)
{
	size_t len = strlen(prefix);
	unsigned char *end = (unsigned char *)strdup(prefix);

	while (end && len > 0 && end[len - 1] == 0xff)
		len--;
	if (end && len > 0)
		end[len - 1]++;
	*len_out = len;
	return end;
}

static int scan_bounds(struct ctl *ctl, struct shale_read_options *options, unsigned char **owned_out)
{
	*owned_out = NULL;
	if (ctl->prefix && (ctl->from || ctl->to)) {
		complain("--prefix sets both ends of the scan; leave --from and --to out");
		return EXIT_USAGE;
	}
	if (ctl->prefix && *ctl->prefix) {
		*owned_out = prefix_end(ctl->prefix, &options->upper_len);
		options->lower = ctl->prefix;
		options->upper = options->upper_len ? *owned_out : NULL;
	} else {
		options->lower = ctl->from;
		options->upper = ctl->to;
		options->upper_len = ctl->to ? strlen(ctl->to) : 0;
	}
	options->lower_len = options->lower ? strlen(options->lower) : 0;
	return EXIT_OK;
}

int cmd_scan(struct ctl *ctl)
{
	struct shale_read_options options = SHALE_READ_OPTIONS_INIT;
	uint64_t left = ctl->limit;
	struct shale_iter *it;
	struct shale_db *db;
	unsigned char *owned;
	int code, rc;

	options.no_fill_cache = 1;
	code = scan_bounds(ctl, &options, &owned);
	if (code == EXIT_OK)
		code = ctl_open(ctl, true, &db);
	if (code != EXIT_OK) {
		free(owned);
		return code;
	}
	rc = shale_iter_open(db, &options, &it);
	if (rc == 0) {
		void (*step)(struct shale_iter *) = ctl->reverse ? shale_iter_prev : shale_iter_next;

		(ctl->reverse ? shale_iter_seek_last : shale_iter_seek_first)(it);
		for (; left > 0 && shale_iter_valid(it) && !ferror(stdout); step(it), left--)
			print_entry(ctl, it);
		rc = left > 0 && !ferror(stdout) ? shale_iter_error(it) : 0;
		shale_iter_close(it);
	}
	code = rc < 0 ? ctl_failed(db, "scan", rc) : ctl_finish_output();
	shale_close(db);
	free(owned);
	return code;
}
