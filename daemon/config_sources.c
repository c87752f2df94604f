/*
 * config_sources.c - the settings as a whole: where they come from, and what changes when they are read again.
 *
 * A later word goes over an earlier one: defaults, files in the order of the command line, each with the *.conf of its folder FILE.d behind it, --set.
 */
#include "daemon/config_keys.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>

#include "shm/error.h"

static int is_setting_file(const struct dirent *entry)
{
	size_t n = strlen(entry->d_name);

	return entry->d_name[0] != '.' && n > 5 && !strcmp(entry->d_name + n - 5, ".conf");
}

/* Byte order: the same in every locale. */
static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* That there is no such folder is usual. */
static int read_folder(struct config *c, const char *path, struct err_info *err)
{
	char folder[PATH_MAX], file[PATH_MAX];
	struct dirent **list = NULL;
	int n, rc = 0;

	if (snprintf(folder, sizeof(folder), "%s.d", path) >= (int)sizeof(folder))
		return err_set(err, -ENAMETOOLONG, "the configuration %s: the name is too long", path);
	n = scandir(folder, &list, is_setting_file, by_bytes);
	if (n < 0)
		return errno == ENOENT || errno == ENOTDIR
			       ? 0
			       : err_set(err, -errno, "cannot read the configuration folder %s: %s", folder,
					 shale_strerror(-errno));
	for (int i = 0; i < n; i++) {
		if (rc == 0 && snprintf(file, sizeof(file), "%s/%s", folder, list[i]->d_name) >= (int)sizeof(file))
			rc = err_set(err, -ENAMETOOLONG, "%s: a name there is too long", folder);
		if (rc == 0)
			rc = config_read(c, file, err);
		free(list[i]);
	}
	free(list);
	return rc;
}

static int read_source(struct config *c, const char *word, struct err_info *err)
{
	bool optional = *word == '-';
	const char *path = word + optional;
	int rc = config_read(c, path, err);

	if (rc == -ENOENT && optional)
		rc = 0;
	return rc < 0 ? rc : read_folder(c, path, err);
}

int config_gather(const struct config_sources *from, struct config *out, struct err_info *err)
{
	int rc = 0;

	config_default(out);
	for (unsigned i = 0; i < from->files && rc == 0; i++)
		rc = read_source(out, from->file[i], err);
	for (unsigned i = 0; i < from->sets && rc == 0; i++)
		rc = config_set(out, from->set[i], err);
	return rc == 0 ? config_check(out, err) : rc;
}

/* ---- again ---- */

static void tell_change(const struct config *running, const struct config *asked, const struct config_key *k,
			void (*tell)(void *context, const struct config_change *change), void *context)
{
	char before[CONFIG_VALUE], after[CONFIG_VALUE];
	const char *origin = asked->origin[k - config_keys];
	struct config_change change = {
		.section = k->section,
		.name = k->name,
		.before = before,
		.after = after,
		.origin = *origin ? origin : "default",
		.at_once = k->effect == AT_ONCE,
	};

	config_value_print(running, k, before, sizeof(before));
	config_value_print(asked, k, after, sizeof(after));
	tell(context, &change);
}

int config_merge(const struct config *running, const struct config *asked, struct config *next_out,
		 void (*tell)(void *context, const struct config_change *change), void *context, struct err_info *err)
{
	struct config next = *running;
	int changed = 0, rc;

	for (unsigned i = 0; i < CONFIG_KEYS; i++) {
		const struct config_key *k = &config_keys[i];
		bool same = config_value_equal(running, asked, k);

		if (!same && k->effect == AT_START)
			continue;
		config_value_copy(&next, asked, k);
		memcpy(next.origin[i], asked->origin[i], CONFIG_ORIGIN);
		changed += !same;
	}
	rc = config_check(&next, err);
	if (rc < 0) {
		err_prefix(err, "with the settings that need a restart as they are: ");
		return rc;
	}
	for (unsigned i = 0; i < CONFIG_KEYS && tell; i++)
		if (!config_value_equal(running, asked, &config_keys[i]))
			tell_change(running, asked, &config_keys[i], tell, context);
	*next_out = next;
	return changed;
}

void config_summary(const struct config *c, char *buf, size_t cap)
{
	struct config standard;
	char value[CONFIG_VALUE];
	size_t used = 0;

	config_default(&standard);
	*buf = '\0';
	for (unsigned i = 0; i < CONFIG_KEYS && used < cap; i++) {
		if (config_value_equal(c, &standard, &config_keys[i]))
			continue;
		config_value_print(c, &config_keys[i], value, sizeof(value));
		used += (size_t)snprintf(buf + used, cap - used, "%s%s.%s=%s (%s)", used ? ", " : "",
					 config_keys[i].section, config_keys[i].name, value,
					 *c->origin[i] ? c->origin[i] : "default");
	}
}
