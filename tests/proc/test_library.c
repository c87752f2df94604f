/*
 * libshale as others see it: what it needs, what it exports, and whether an installed one can be built against.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static char out[1 << 16];

/* It depends on libc alone (and a sanitizer's run time, in such a build). */
START_TEST(needs_libc_only)
{
	char *save, *line;
	unsigned libc = 0;

	ck_assert_int_eq(proc_shell(out, sizeof(out), "readelf -d %s/libshale.so.0 | grep NEEDED", proc_build()), 0);
	for (line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (strstr(line, "[libc.so.6]"))
			libc++;
		else if (strstr(line, "[ld-linux")) /* of the same package; for thread-local storage */
			continue;
		else if (PATIENCE == 1 ||
			 !(strstr(line, "san.so") || strstr(line, "[libm.so.6]") || strstr(line, "[libgcc_s.so.1]")))
			ck_abort_msg("needs %s", line);
	}
	ck_assert_uint_eq(libc, 1);
}
END_TEST

/* It exports what shale.h declares, and nothing else. */
START_TEST(exports_its_header_only)
{
	ck_assert_int_eq(
		proc_shell(
			out, sizeof(out),
			"nm -D --defined-only %s/libshale.so.0 | awk '$2 ~ /[A-Z]/ && $3 !~ /^SHALE_0/ {print $3}' | "
			"sed 's/@.*//' | grep -v '^shale_'",
			proc_build()),
		1);
	ck_assert_str_eq(out, "");
}
END_TEST

static struct private_daemon d;
static void *library;
static pthread_barrier_t steps;

static void *use_and_outlive(void *arg)
{
	int (*open)(const char *, const struct shale_options *, struct shale_db **);
	int (*ping)(struct shale_db *);
	void (*close)(struct shale_db *);
	struct shale_db *db;

	(void)arg;
	*(void **)&open = dlsym(library, "shale_open");
	*(void **)&ping = dlsym(library, "shale_ping");
	*(void **)&close = dlsym(library, "shale_close");
	ck_ok(open(d.socket, NULL, &db));
	ck_ok(ping(db));
	close(db);
	pthread_barrier_wait(&steps);
	pthread_barrier_wait(&steps);
	return NULL;
}

/* A plugin that used it may be closed while threads that made calls still live: their ends must not run code that is gone. */
START_TEST(threads_outlive_dlclose)
{
	char path[600];
	pthread_t thread;

	proc_begin(&d);
	snprintf(path, sizeof(path), "%s/libshale.so.0", proc_build());
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	ck_assert_msg(library != NULL, "%s", dlerror());
	ck_ok(pthread_barrier_init(&steps, NULL, 2));
	ck_ok(pthread_create(&thread, NULL, use_and_outlive, NULL));
	pthread_barrier_wait(&steps);
	dlclose(library);
	pthread_barrier_wait(&steps);
	pthread_join(thread, NULL);
	proc_stop(&d);
	private_daemon_fini(&d);
}
END_TEST

TEST_MAIN("library", 60, needs_libc_only, exports_its_header_only, threads_outlive_dlclose)
