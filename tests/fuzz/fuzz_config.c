/*
 * A configuration file: what is read and passes the check can be written and is then read as the same; what is not, is refused with words.
 *
 * Input: the file. A first line that begins with "--set " is given to config_set instead.
 */
#include "daemon/config.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/error.h"
#include "tests/fuzz/fuzz.h"

static char *text_of(const struct config *c)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	ENSURE(f);
	config_write(c, false, f);
	ENSURE(fclose(f) == 0);
	return text;
}

static int read_text(struct config *c, const void *text, size_t size, struct err_info *err)
{
	int fd = memfd_create("config", MFD_CLOEXEC), rc;
	char path[64];

	ENSURE(fd >= 0 && write(fd, text, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	rc = config_read(c, path, err);
	close(fd);
	return rc;
}

static int set_from(struct config *c, const uint8_t *data, size_t size, struct err_info *err)
{
	char *line = strndup((const char *)data, size);
	int rc;

	ENSURE(line);
	rc = config_set(c, line, err);
	free(line);
	return rc;
}

FUZZ_TARGET(config)
{
	struct err_info err = {0}, none = {0};
	struct config c, again;
	char *text, *text2;
	int rc;

	config_default(&c);
	if (size >= 6 && memcmp(data, "--set ", 6) == 0)
		rc = set_from(&c, data + 6, size - 6, &err);
	else
		rc = read_text(&c, data, size, &err);
	if (rc < 0) {
		ENSURE(rc == -SHALE_ECONFIG && err.text[0]);
		return 0;
	}
	if (config_check(&c, &err) < 0) {
		ENSURE(err.text[0]);
		return 0;
	}
	text = text_of(&c);
	config_default(&again);
	ENSURE(read_text(&again, text, strlen(text), &none) == 0 && config_check(&again, &none) == 0);
	text2 = text_of(&again);
	ENSURE(strcmp(text, text2) == 0);
	free(text);
	free(text2);
	return 0;
}
