/*
 * libshale as others see it: what it needs, what it exports, and whether an installed one can be built against.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/proc/proc.h"

static char out[1 << 16];

static const char *const sanitize =
#if defined(__SANITIZE_ADDRESS__)
	"-fsanitize=address,undefined";
#elif defined(__SANITIZE_THREAD__)
	"-fsanitize=thread";
#else
	"";
#endif

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

/* Header, library and manual agree: what shale.h declares is exported, nothing else is, and each function is on a page. */
START_TEST(header_library_and_manual_agree)
{
	ck_assert_msg(
		proc_shell(out, sizeof(out),
			   "exec 2>&1; set -e; dir=$(mktemp -d); trap 'rm -rf $dir' EXIT; "
			   "nm -D --defined-only %s/libshale.so.0 | awk '{print $3}' | sed 's/@.*//' | grep ^shale_ | "
			   "sort >$dir/so; "
			   "gcc -fpreprocessed -dD -E -P client/shale.h | grep -o 'shale_[a-z_]*(' | tr -d '(' | sort "
			   "-u >$dir/h; "
			   "for f in client/man/*.3.scd; do sed -n '/^# NAME$/{n;n;s/ - .*//;s/,//g;p;q;}' $f; done | "
			   "tr ' ' '\n' | grep ^shale_ | sort >$dir/man; "
			   "echo 'header (<), library (>):'; diff $dir/h $dir/so; echo 'library (<), manual (>):'; "
			   "diff $dir/so $dir/man",
			   proc_build()) == 0,
		"%s", out);
}
END_TEST

/* The pages can be made and have no errors, where the programs for that are installed. */
START_TEST(manual_pages_are_well_formed)
{
	char *dir = test_tmpdir();
	int rc;

	if (proc_shell(out, sizeof(out), "command -v scdoc && command -v mandoc") != 0) {
		puts("skipped: scdoc and mandoc are not installed (make deps-ci)");
	} else {
		rc = proc_shell(out, sizeof(out),
				"exec 2>&1; set -e; client/man/build.sh %s; cd %s; mandoc -T lint -W error man*/*", dir,
				dir);
		ck_assert_msg(rc == 0, "%s", out);
		ck_assert_int_eq(proc_shell(out, sizeof(out), "cat %s/man3/shale_delete.3", dir), 0);
		ck_assert_str_eq(out, ".so man3/shale_put.3\n");
	}
	test_rmtree(dir);
	free(dir);
}
END_TEST

/* From C++ the header compiles without a warning, and its functions link by their names in C. */
START_TEST(works_from_cpp)
{
	char *dir = test_tmpdir();
	int rc;

	if (proc_shell(out, sizeof(out), "command -v g++") != 0) {
		puts("skipped: g++ is not installed (make deps-ci)");
	} else {
		rc = proc_shell(out, sizeof(out),
				"exec 2>&1; cat >%s/a.cc <<'EOF'\n"
				"#include <shale.h>\n"
				"int main() {\n"
				"	struct shale_options o = SHALE_OPTIONS_INIT;\n"
				"	struct shale_write_options w = SHALE_WRITE_OPTIONS_INIT;\n"
				"	struct shale_read_options r = SHALE_READ_OPTIONS_INIT;\n"
				"	struct shale_snapshot_options s = SHALE_SNAPSHOT_OPTIONS_INIT;\n"
				"	struct shale_queue_options q = SHALE_QUEUE_OPTIONS_INIT;\n"
				"	struct shale_compact_options c = SHALE_COMPACT_OPTIONS_INIT;\n"
				"	struct shale_db *db;\n"
				"	(void)w; (void)r; (void)s; (void)q; (void)c;\n"
				"	return shale_open(\"/nowhere\", &o, &db) == -2 ? 0 : 1;\n"
				"}\n"
				"EOF\n"
				"g++ -std=c++11 -Wall -Wextra -Wpedantic -Werror %s -I client %s/a.cc -L %s -lshale "
				"-Wl,-rpath,%s -o %s/a && %s/a",
				dir, sanitize, dir, proc_build(), proc_build(), dir, dir);
		ck_assert_msg(rc == 0, "%s", out);
	}
	test_rmtree(dir);
	free(dir);
}
END_TEST

static struct private_daemon d;

/* valgrind finds no leak and no bad access in what the examples do. It cannot run what a sanitizer was built into. */
START_TEST(valgrind_finds_nothing)
{
	static const char *const runs[][2] = {{"hello", ""}, {"pipeline", "500"}, {"watch", "hello 3 1"}};
	char *dir = test_tmpdir();

	if (*sanitize || proc_shell(out, sizeof(out), "command -v valgrind") != 0) {
		puts("skipped: valgrind is not installed (make deps-ci), or this build has a sanitizer of its own");
	} else {
		proc_begin(&d);
		for (size_t i = 0; i < ARRAY_SIZE(runs); i++) {
			int rc = proc_shell(out, sizeof(out),
					    "exec 2>&1; set -e; gcc -g -I client client/examples/%s.c -L %s -lshale "
					    "-Wl,-rpath,%s -o %s/%s; "
					    "valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=all "
					    "--errors-for-leak-kinds=all %s/%s %s %s",
					    runs[i][0], proc_build(), proc_build(), dir, runs[i][0], dir, runs[i][0],
					    d.socket, runs[i][1]);

			ck_assert_msg(rc == 0, "%s: exit %d\n%s", runs[i][0], rc, out);
		}
		proc_stop(&d);
		private_daemon_fini(&d);
	}
	test_rmtree(dir);
	free(dir);
}
END_TEST

/* What pkg-config is told leads to a program that runs; CI does the same with an installed copy. */
START_TEST(pkg_config)
{
	char *dir = test_tmpdir();
	int rc;

	rc = proc_shell(out, sizeof(out),
			"exec 2>&1; set -e; mkdir -p %s/lib/pkgconfig %s/include; cp client/shale.h %s/include; "
			"cp %s/libshale.so.0 %s/lib; ln -s libshale.so.0 %s/lib/libshale.so; "
			"sed -e 's|@PREFIX@|%s|' -e 's|@LIBDIR@|${prefix}/lib|' -e 's|@VERSION@|1|' client/shale.pc.in "
			">%s/lib/pkgconfig/shale.pc; "
			"export PKG_CONFIG_PATH=%s/lib/pkgconfig; "
			"gcc %s client/examples/hello.c $(pkg-config --cflags --libs shale) -o %s/hello; "
			"LD_LIBRARY_PATH=%s/lib %s/hello %s/nobody || test $? = 1",
			dir, dir, dir, proc_build(), dir, dir, dir, dir, dir, sanitize, dir, dir, dir, dir);
	ck_assert_msg(rc == 0, "%s", out);
	ck_assert_msg(strstr(out, "nobody"), "%s", out);
	test_rmtree(dir);
	free(dir);
}
END_TEST
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

TEST_MAIN("library", 120, needs_libc_only, exports_its_header_only, header_library_and_manual_agree,
	  manual_pages_are_well_formed, works_from_cpp, valgrind_finds_nothing, pkg_config, threads_outlive_dlclose)
