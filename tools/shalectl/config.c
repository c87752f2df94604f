/*
 * config.c - the verb config: what a daemon runs with and where each value comes from; and what is wrong with a file.
 *
 * The words for settings, what they allow, and "did you mean" are the daemon's own code. Its reader stops at the first error; to tell all of them, a line
 * that is wrong is blanked in a copy, and the copy read again.
 */
#include "daemon/config.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config_keys.h"
#include "shm/error.h"
#include "tools/shalectl/picture.h"

static const char standard_file[] = "/etc/shale/shaled.conf";

/* ---- show ---- */

struct setting {
	char name[2 * 64], value[CONFIG_VALUE], standard[CONFIG_VALUE], origin[CONFIG_ORIGIN];
	bool known, changed; /* known: this program has such a setting, too */
};

static void compare(struct setting *s, const char *section, const char *name, const struct config *standard)
{
	const struct config_key *k = config_key_find(section, name);

	s->known = k != NULL;
	if (k)
		config_value_print(standard, k, s->standard, sizeof(s->standard));
	s->changed = k && strcmp(s->standard, s->value) != 0;
}

/* One line of config_write(CONFIG_WITH_ORIGINS): "name = value ; origin". False: it is none. */
static bool read_setting(char *line, const char *section, const struct config *standard, struct setting *out)
{
	char *equals = strstr(line, " ="), *origin = NULL, *value;

	if (!equals)
		return false;
	*equals = '\0';
	value = equals + 2;
	for (char *p = value; (p = strstr(p, " ; ")) != NULL; p++)
		origin = p; /* the last one: a value may hold such characters */
	if (!origin)
		return false;
	*origin = '\0';
	snprintf(out->name, sizeof(out->name), "%s.%s", section, line);
	snprintf(out->value, sizeof(out->value), "%s", value + (*value == ' '));
	snprintf(out->origin, sizeof(out->origin), "%s", origin + 3);
	compare(out, section, line, standard);
	return true;
}

static void show_row(struct libscols_table *t, const struct setting *s)
{
	char cells[4][CELL];

	snprintf(cells[0], CELL, "%.*s", CELL - 1, s->name);
	snprintf(cells[1], CELL, "%.*s", CELL - 1, s->value);
	snprintf(cells[2], CELL, "%.*s", CELL - 1, s->changed ? s->standard : "");
	snprintf(cells[3], CELL, "%.*s", CELL - 1, s->origin);
	table_row(t, cells, ARRAY_SIZE(cells));
}

static json_t *setting_json(const struct setting *s)
{
	json_t *row = json_pack("{s:s,s:s,s:s}", "setting", s->name, "value", s->value, "origin", s->origin);

	json_object_set_new(row, "default", s->known ? json_string(s->standard) : json_null());
	json_object_set_new(row, "changed", json_boolean(s->changed));
	return row;
}

/* Shows what config_write(CONFIG_WITH_ORIGINS) wrote. */
static int show_text(struct ctl *ctl, char *text)
{
	static const char *const columns[] = {"SETTING", "VALUE", "DEFAULT", "ORIGIN"};
	struct libscols_table *t = ctl->json ? NULL : table_new(columns, ARRAY_SIZE(columns), 0);
	json_t *list = ctl->json ? json_array() : NULL;
	static struct config standard;
	char section[64] = "", *save = NULL;

	config_default(&standard);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		struct setting s = {0};

		if (*line == '[')
			snprintf(section, sizeof(section), "%.*s", (int)strcspn(line + 1, "]"), line + 1);
		else if (read_setting(line, section, &standard, &s) && list)
			json_array_append_new(list, setting_json(&s));
		else if (*s.name)
			show_row(t, &s);
	}
	if (list)
		print_json(json_pack("{s:o}", "settings", list));
	table_print(t);
	return ctl_finish_output();
}

static int show_daemon(struct ctl *ctl)
{
	struct shale_db *db;
	char *text = NULL;
	int code = ctl_open(ctl, true, &db), rc;

	if (code != EXIT_OK)
		return code;
	rc = shale_property(db, "shale.config", &text);
	if (rc == 0) {
		code = show_text(ctl, text);
	} else if (rc == SHALE_NOTFOUND) {
		complain("this daemon does not tell its settings: it is of an older release");
		code = EXIT_FAILED;
	} else {
		code = ctl_failed(db, "config", rc);
	}
	shale_free(text);
	shale_close(db);
	return code;
}

static int show_file(struct ctl *ctl, const char *path)
{
	struct config_sources from = {.files = 1, .file = {path}};
	static struct config config;
	struct err_info err = {0};
	char *text = NULL;
	size_t size;
	int rc = config_gather(&from, &config, &err), code;
	FILE *f;

	if (rc < 0) {
		complain("%s", err.text);
		return rc == -SHALE_ECONFIG ? EXIT_PROBLEM : EXIT_FAILED;
	}
	f = open_memstream(&text, &size);
	if (f)
		config_write(&config, CONFIG_WITH_ORIGINS, f);
	if (!f || fclose(f) != 0) {
		complain("no memory");
		return EXIT_FAILED;
	}
	code = show_text(ctl, text);
	free(text);
	return code;
}

/* ---- check ---- */

struct checking {
	struct ctl *ctl;
	struct config config;
	unsigned problems;
	json_t *list;
};

static void problem(struct checking *c, const char *file, unsigned line, const char *text)
{
	c->problems++;
	if (c->list)
		json_array_append_new(c->list, json_pack("{s:s,s:o,s:s}", "file", file, "line",
							 line ? json_integer(line) : json_null(), "text", text));
	else if (line)
		printf("%s:%u: %s\n", file, line, text);
	else
		printf("%s: %s\n", file, text);
}

/* Blanks line @number of @text. False: there is no such line, or nothing in it. */
static bool blank(char *text, unsigned number)
{
	size_t n;

	for (; number > 1; number--) {
		text = strchr(text, '\n');
		if (!text)
			return false;
		text++;
	}
	n = strcspn(text, "\n");
	if (n == strspn(text, " "))
		return false;
	memset(text, ' ', n);
	return true;
}

/* Reads @text as the daemon does. 0, or what is wrong: *@line_out (0: no single line) and words without the file's name. */
static int try_text(struct config *c, const char *text, size_t size, unsigned *line_out, struct err_info *err)
{
	int fd = memfd_create("config", MFD_CLOEXEC), rc, prefix = 0;
	char path[64];

	if (fd < 0 || write(fd, text, size) != (ssize_t)size) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return err_set(err, rc, "%s", shale_strerror(rc));
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	rc = config_read(c, path, err);
	close(fd);
	*line_out = 0;
	if (rc < 0 && strncmp(err->text, path, strlen(path)) == 0 &&
	    sscanf(err->text + strlen(path), ":%u: %n", line_out, &prefix) == 1 && prefix)
		memmove(err->text, err->text + strlen(path) + (size_t)prefix,
			strlen(err->text + strlen(path) + (size_t)prefix) + 1);
	return rc;
}

/* The whole file, NUL-terminated, owned by the caller; NULL and errno. */
static char *read_file(const char *path, size_t *size_out)
{
	static const size_t most = 16 << 20;
	FILE *f = fopen(path, "re"), *to;
	char *text = NULL;
	int c;

	if (!f)
		return NULL;
	to = open_memstream(&text, size_out);
	while (to && (c = getc(f)) != EOF && (size_t)ftell(to) < most)
		putc(c, to);
	if (!to || ferror(f) || fclose(to) != 0) {
		c = errno ? errno : EIO;
		free(text);
		text = NULL;
		errno = c;
	}
	fclose(f);
	return text;
}

/* EXIT_OK when it could be looked at. */
static int check_file(struct checking *c, const char *path)
{
	static struct config scratch;
	struct err_info err = {0};
	unsigned line;
	size_t size;
	char *text = read_file(path, &size);
	int rc;

	if (!text) {
		complain("%s: %m", path);
		return EXIT_FAILED;
	}
	for (;;) {
		scratch = c->config;
		rc = try_text(&scratch, text, size, &line, &err);
		if (rc == 0)
			c->config = scratch;
		if (rc == 0)
			break;
		problem(c, path, line, err.text);
		if (rc != -SHALE_ECONFIG || !line || !blank(text, line))
			break;
	}
	free(text);
	return EXIT_OK;
}

static int is_conf(const struct dirent *entry)
{
	size_t n = strlen(entry->d_name);

	return entry->d_name[0] != '.' && n > 5 && strcmp(entry->d_name + n - 5, ".conf") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* The files beside it that the daemon reads after it. */
static int check_folder(struct checking *c, const char *path)
{
	char folder[PATH_MAX], file[PATH_MAX + NAME_MAX + 2];
	struct dirent **list = NULL;
	int n, code = EXIT_OK;

	snprintf(folder, sizeof(folder), "%s.d", path);
	n = scandir(folder, &list, is_conf, by_bytes);
	if (n < 0 && errno != ENOENT && errno != ENOTDIR) {
		complain("%s: %m", folder);
		return EXIT_FAILED;
	}
	for (int i = 0; i < n; i++) {
		snprintf(file, sizeof(file), "%s/%s", folder, list[i]->d_name);
		if (code == EXIT_OK)
			code = check_file(c, file);
		free(list[i]);
	}
	free(list);
	return code;
}

static int check(struct ctl *ctl, const char *path)
{
	static struct checking c;
	struct err_info err = {0};
	struct stat st;
	int code;

	c = (struct checking){.ctl = ctl, .list = ctl->json ? json_array() : NULL};
	config_default(&c.config);
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		complain("%s is a directory; give the file, and %s.d beside it is looked at as well", path, path);
		return EXIT_FAILED;
	}
	code = check_file(&c, path);
	if (code == EXIT_OK)
		code = check_folder(&c, path);
	if (code != EXIT_OK) {
		json_decref(c.list);
		return code;
	}
	if (config_check(&c.config, &err) < 0)
		problem(&c, path, 0, err.text);
	if (c.list)
		print_json(json_pack("{s:s,s:o}", "file", path, "problems", c.list));
	else if (!c.problems)
		printf("%s: no problem\n", path);
	code = ctl_finish_output();
	return code != EXIT_OK ? code : c.problems ? EXIT_PROBLEM : EXIT_OK;
}

int cmd_config(struct ctl *ctl)
{
	const char *file = ctl->nargs > 1 ? ctl->args[1] : NULL;

	if (strcmp(ctl->args[0], "check") == 0)
		return check(ctl, file ? file : standard_file);
	return file ? show_file(ctl, file) : show_daemon(ctl);
}
