/*
 * Backups beside writers: what a checkpoint holds, that it is whole or not there, and the way back; entries out and in.
 *
 * Writers count: batch n of writer w sets its counter to n and two keys of slot n % SLOTS to n. So what a state must hold follows from the counter: less
 * would be half a batch, another value an older or newer one out of turn.
 */
#include <dirent.h>
#include <jansson.h>
#include <leveldb/c.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/proc/loopfs.h"
#include "tests/proc/proc.h"

enum { WRITERS = 2, SLOTS = 400 };

static struct private_daemon d;
static char out[1 << 16], target[300], *place;
static pid_t pids[WRITERS];

struct counts {
	_Atomic uint64_t sent[WRITERS], acknowledged[WRITERS];
	_Atomic bool stop;
};
static struct counts *counts;

/* stdout and stderr in `out`. */
#define ctl(...) shell_ctl(__VA_ARGS__)
static int shell_ctl(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int shell_ctl(const char *fmt, ...)
{
	char words[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(words, sizeof(words), fmt, ap);
	va_end(ap);
	return proc_shell(out, sizeof(out), "%s/shalectl --socket %s %s 2>&1", proc_build(), d.socket, words);
}

static void begin(const char *setting)
{
	place = test_tmpdir();
	snprintf(target, sizeof(target), "%s/copy", place);
	proc_init(&d, NULL, "engine.write_buffer=64K", "engine.max_file_size=64K", "engine.level1_size=256K",
		  "wal.ring=256K", "limits.max_request=1M", setting, NULL);
	counts = proc_shared(sizeof(*counts));
	proc_start(&d);
}

static void end(void)
{
	proc_stop(&d);
	private_daemon_fini(&d);
	test_rmtree(place);
	free(place);
}

/* ---- the load ---- */

static void put_number(struct shale_batch *b, const char *what, unsigned w, unsigned slot, uint64_t n)
{
	char key[40], value[120];

	snprintf(key, sizeof(key), "%s-%u-%03u", what, w, slot);
	snprintf(value, sizeof(value), "%020llu %080u", (unsigned long long)n, 0);
	ck_assert_int_eq(shale_batch_put(b, key, strlen(key), value, strlen(value)), 0);
}

static uint64_t number_of(struct shale_db *db, const char *what, unsigned w, unsigned slot)
{
	char key[40];
	const char *value;

	snprintf(key, sizeof(key), "%s-%u-%03u", what, w, slot);
	value = proc_get(db, key);
	return value ? strtoull(value, NULL, 10) : 0;
}

static int write_batches(void *arg)
{
	unsigned w = *(const unsigned *)arg;
	struct shale_batch *b = shale_batch_new();
	struct shale_db *db;

	if (!b || shale_open(d.socket, NULL, &db) < 0)
		return 1;
	/* A batch that was under way when a daemon died may be there or not. */
	for (uint64_t n = number_of(db, "counter", w, 0) + 1; !atomic_load(&counts->stop); n++) {
		shale_batch_clear(b);
		put_number(b, "a", w, (unsigned)(n % SLOTS), n);
		put_number(b, "b", w, (unsigned)(n % SLOTS), n);
		put_number(b, "counter", w, 0, n);
		atomic_store(&counts->sent[w], n);
		if (shale_write(db, NULL, b, NULL) < 0)
			break;
		atomic_store(&counts->acknowledged[w], n);
	}
	shale_batch_free(b);
	shale_close(db);
	return 0;
}

static void load_begin(void)
{
	static unsigned numbers[WRITERS];

	atomic_store(&counts->stop, false);
	for (unsigned w = 0; w < WRITERS; w++) {
		numbers[w] = w;
		pids[w] = proc_fork(write_batches, &numbers[w]);
	}
}

static void load_end(void)
{
	atomic_store(&counts->stop, true);
	for (unsigned w = 0; w < WRITERS; w++)
		ck_assert_int_eq(proc_wait(pids[w]), 0);
}

static void load_for(uint64_t batches)
{
	uint64_t until = atomic_load(&counts->acknowledged[0]) + batches;

	for (unsigned ms = 0; atomic_load(&counts->acknowledged[0]) < until; ms++) {
		ck_assert_msg(ms < 60000, "the writers stand still: %s", proc_log_tail(&d));
		usleep(1000);
	}
}

/* ---- the judge ---- */

/* A state of whole batches, in turn, between the counters given (NULL: any). */
static void judge(struct shale_db *db, const uint64_t *low, const uint64_t *high)
{
	for (unsigned w = 0; w < WRITERS; w++) {
		uint64_t n = number_of(db, "counter", w, 0);

		ck_assert_msg(!low || n >= low[w], "writer %u: %llu, but %llu was acknowledged before", w,
			      (unsigned long long)n, (unsigned long long)low[w]);
		ck_assert_msg(!high || n <= high[w], "writer %u: %llu, but only %llu were sent", w,
			      (unsigned long long)n, (unsigned long long)high[w]);
		for (unsigned slot = 0; slot < SLOTS; slot++) {
			uint64_t want = n >= slot ? n - (n - slot) % SLOTS : 0;

			ck_assert_uint_eq(number_of(db, "a", w, slot), want);
			ck_assert_uint_eq(number_of(db, "b", w, slot), want);
		}
	}
}

/* The checkpoint restores, with every check on the way, and a daemon serves it. */
static void judge_checkpoint(const uint64_t *low, const uint64_t *high)
{
	struct private_daemon other;
	char restored[320];
	struct shale_db *db;

	snprintf(restored, sizeof(restored), "%s/restored", place);
	ck_assert_msg(ctl("restore --link %s %s", target, restored) == 0, "%s", out);
	proc_init(&other, restored, NULL);
	proc_start(&other);
	db = proc_open(&other);
	judge(db, low, high);
	shale_close(db);
	proc_stop(&other);
	private_daemon_fini(&other);
	test_rmtree(restored);
}

static bool part_left(void)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/.copy.shale-part", place);
	return access(path, F_OK) == 0;
}

static void read_counts(_Atomic uint64_t *from, uint64_t to[WRITERS])
{
	for (unsigned w = 0; w < WRITERS; w++)
		to[w] = atomic_load(&from[w]);
}

/* ---- checkpoints ---- */

/* While writers go on: all from before the call, whole batches, nothing from after its end; the first, and those that follow into the same place. */
START_TEST(beside_writers)
{
	begin(NULL);
	load_begin();
	for (unsigned round = 0; round < 5; round++) {
		uint64_t low[WRITERS], high[WRITERS];

		load_for(300);
		read_counts(counts->acknowledged, low);
		ck_assert_msg(ctl("checkpoint %s", target) == 0, "%s", out);
		read_counts(counts->sent, high);
		judge_checkpoint(low, high);
		ck_assert(!part_left());
	}
	load_end();
	end();
}
END_TEST

#ifdef SHALE_DEBUG

/* The daemon dies at @point of a checkpoint. False: it never came there. */
static bool dies_at(const char *point)
{
	setenv("SHALE_KILL_POINT", point, 1);
	proc_start(&d);
	unsetenv("SHALE_KILL_POINT");
	load_begin();
	load_for(200);
	if (ctl("checkpoint %s", target) == 0) {
		load_end();
		return false;
	}
	ck_assert_ptr_nonnull(strstr(out, "the daemon has ended"));
	for (unsigned w = 0; w < WRITERS; w++) { /* they would wait for a daemon to come back */
		kill(pids[w], SIGKILL);
		proc_wait(pids[w]);
	}
	ck_assert(WIFSIGNALED(private_daemon_kill(&d)));
	return true;
}

/* Killed at any step, there is no checkpoint or a whole one, the old or the new; and the next attempt succeeds. */
START_TEST(killed_in_the_middle)
{
	static const struct {
		const char *point;
		bool fresh, update; /* where it is reached */
	} points[] = {
		{"backup_begun", true, false},
		{"checkpoint_pinned", true, true},
		{"checkpoint_table_added", true, true},
		{"checkpoint_memtables_added", true, true},
		{"checkpoint_manifest_written", true, true},
		{"checkpoint_switched", true, true},
		{"backup_filled", true, false},
		{"backup_renamed", true, false},
		{"checkpoint_removed", false, true},
	};

	begin(NULL);
	load_begin();
	load_for(500);
	load_end();
	for (unsigned i = 0; i < ARRAY_SIZE(points); i++) {
		for (int update = 0; update < 2; update++) {
			uint64_t low[WRITERS] = {0}, high[WRITERS];

			if (update ? !points[i].update : !points[i].fresh)
				continue;
			if (update) {
				read_counts(counts->acknowledged, low);
				ck_assert_msg(ctl("checkpoint %s", target) == 0, "%s", out);
			}
			proc_stop(&d);
			ck_assert_msg(dies_at(points[i].point), "%s (update %d) was not reached", points[i].point,
				      update);
			read_counts(counts->sent, high);
			if (update || access(target, F_OK) == 0)
				judge_checkpoint(low, high);
			proc_start(&d);
			ck_assert_msg(ctl("checkpoint %s", target) == 0, "%s", out);
			read_counts(counts->acknowledged, low);
			if (update)
				judge_checkpoint(low, high);
			ck_assert(!part_left());
			test_rmtree(target);
		}
	}
	end();
}
END_TEST

#else

START_TEST(killed_in_the_middle)
{
	printf("skipped: this build has no named points\n");
}
END_TEST

#endif

/* Another file system, slowly; it fills up on the way, or Ctrl-C comes: the place is as it was, writers do not notice, and the words say why. */
START_TEST(elsewhere)
{
	const char *missing = loopfs_missing("tmpfs");
	struct loopfs fs;
	char path[400];
	uint64_t before;

	if (missing) {
		printf("skipped: %s\n", missing);
		return;
	}
	loopfs_private(64 << 10, 256);
	begin(NULL);
	loopfs_make(&fs, "tmpfs", 16, NULL);
	snprintf(target, sizeof(target), "%s/copy", fs.root);
	load_begin();
	load_for(2000);
	/* full */
	loopfs_fill(fs.root, "filler", 8 << 10); /* compacted, all that there is may take no more than 64 KiB */
	ck_assert_int_eq(ctl("checkpoint %s", target), 1);
	ck_assert_msg(strstr(out, "No space left") && strstr(out, target), "%s", out);
	ck_assert_int_ne(access(target, F_OK), 0);
	snprintf(path, sizeof(path), "%s/.copy.shale-part", fs.root);
	ck_assert_int_ne(access(path, F_OK), 0);
	before = atomic_load(&counts->acknowledged[0]);
	load_for(100);
	ck_assert_uint_gt(atomic_load(&counts->acknowledged[0]), before);
	snprintf(path, sizeof(path), "%s/filler", fs.root);
	unlink(path);
	/* copies, and then keeps them */
	ck_assert_msg(ctl("--json checkpoint %s", target) == 0, "%s", out);
	ck_assert_ptr_null(strstr(out, "\"copied\":0"));
	load_end();
	ck_assert_int_eq(ctl("compact"), 0);
	ck_assert_int_eq(ctl("checkpoint %s", target), 0);
	ck_assert_msg(ctl("--json checkpoint %s", target) == 0, "%s", out);
	ck_assert_ptr_nonnull(strstr(out, "\"copied\":0"));
	ck_assert_ptr_null(strstr(out, "\"kept\":0"));
	{
		uint64_t n[WRITERS];

		read_counts(counts->sent, n);
		judge_checkpoint(n, n);
	}
	proc_stop(&d);
	private_daemon_fini(&d);
	loopfs_fini(&fs);
	test_rmtree(place);
	free(place);
}
END_TEST

/* Ctrl-C in the middle of a slow copy: exit code 1, nothing there, and the daemon goes on; progress comes as lines of JSON meanwhile. */
START_TEST(interrupted)
{
	const char *missing = loopfs_missing("tmpfs");
	struct loopfs fs;

	if (missing) {
		printf("skipped: %s\n", missing);
		return;
	}
	loopfs_private(64 << 10, 256);
	begin("engine.background_rate=256K");
	loopfs_make(&fs, "tmpfs", 32, NULL);
	snprintf(target, sizeof(target), "%s/copy", fs.root);
	ck_assert_int_eq(
		proc_shell(out, sizeof(out),
			   "awk 'BEGIN{srand(1);for(i=0;i<12000;i++){s=\"\";for(k=0;k<25;k++)s=s sprintf(\"%%07x\","
			   "rand()*268435455);printf "
			   "\"{\\\"key\\\":\\\"k%%06d\\\",\\\"value\\\":\\\"%%s\\\"}\\n\",i,s}}' | "
			   "%s/shalectl --socket %s load",
			   proc_build(), d.socket),
		0);
	ck_assert_int_eq(ctl("flush"), 0);
	/* The shell's own job: told to end once it has said how far it is. */
	ck_assert_int_eq(proc_shell(out, sizeof(out),
				    "%s/shalectl --json --socket %s checkpoint %s >%s/said 2>&1 & pid=$!; "
				    "n=0; while ! grep -q progress %s/said && kill -0 $pid && [ $n -lt 600 ]; do sleep "
				    "0.1; n=$((n+1)); done; "
				    "kill -INT $pid; wait $pid; code=$?; cat %s/said; exit $code",
				    proc_build(), d.socket, target, place, place, place),
			 1);
	ck_assert_msg(strstr(out, "\"progress\"") && strstr(out, "cancelled"), "%s", out);
	ck_assert_int_ne(access(target, F_OK), 0);
	ck_assert_int_eq(ctl("put a b"), 0);
	proc_stop(&d);
	private_daemon_fini(&d);
	loopfs_fini(&fs);
	test_rmtree(place);
	free(place);
}
END_TEST

static int as_stranger(void *arg)
{
	(void)arg;
	if (setgid(65533) < 0 || setuid(65533) < 0)
		return 77;
	if (proc_shell(out, sizeof(out), "test -x %s/shalectl", proc_build()) != 0) {
		fprintf(stderr, "skipped: another user cannot reach %s\n", proc_build());
		return 0;
	}
	if (ctl("checkpoint /tmp/never") == 1 && strstr(out, "only root"))
		return 0;
	fprintf(stderr, "a stranger was told: %s\n", out);
	return 1;
}

/* Who may ask, and where: refusals with their words, and nothing touched. */
START_TEST(refused)
{
	char path[400];

	begin("access.mode=0666");
	ck_assert_int_eq(ctl("put k v"), 0);
	if (geteuid() == 0 && chmod(d.scratch, 0711) == 0)
		ck_assert_int_eq(proc_wait(proc_fork(as_stranger, NULL)), 0);
	ck_assert_int_eq(mkdir(target, 0700), 0);
	snprintf(path, sizeof(path), "%s/diary", target);
	ck_assert_int_eq(proc_shell(out, sizeof(out), "echo dear > %s", path), 0);
	ck_assert_int_eq(ctl("checkpoint %s", target), 1);
	ck_assert_ptr_nonnull(strstr(out, "no checkpoint"));
	ck_assert_int_eq(ctl("checkpoint %s/none/copy", place), 1);
	ck_assert_ptr_nonnull(strstr(out, "No such file"));
	ck_assert_int_eq(ctl("checkpoint %s", d.database), 1);
	ck_assert_int_eq(ctl("checkpoint"), 2);
	ck_assert_int_eq(access(path, F_OK), 0);
	/* a symbolic link on the way is followed by who asks, not by the daemon */
	snprintf(path, sizeof(path), "%s/link", place);
	ck_assert_int_eq(symlink(place, path), 0);
	ck_assert_msg(ctl("checkpoint %s/real", path) == 0, "%s", out);
	ck_assert_int_eq(proc_shell(out, sizeof(out), "test -f %s/real/CURRENT", place), 0);
	/* no daemon */
	ck_assert_int_eq(proc_shell(out, sizeof(out), "%s/shalectl --socket %s/none checkpoint %s 2>&1", proc_build(),
				    place, target),
			 3);
	end();
}
END_TEST

/* ---- the way back ---- */

/* A damaged checkpoint is told as damaged, and is not restored; nor is anything put where something is. */
START_TEST(restore_refuses)
{
	begin(NULL);
	load_begin();
	load_for(800);
	load_end();
	ck_assert_int_eq(ctl("flush"), 0);
	ck_assert_int_eq(ctl("checkpoint %s", target), 0);
	ck_assert_int_eq(ctl("restore %s %s", target, place), 1);
	ck_assert_ptr_nonnull(strstr(out, "no empty directory"));
	ck_assert_int_eq(ctl("restore %s %s/new", place, place), 1);
	ck_assert_ptr_nonnull(strstr(out, "no CURRENT"));
	ck_assert_int_eq(ctl("restore %s/nowhere %s/new", place, place), 1);
	ck_assert_int_eq(ctl("restore %s %s/new", d.database, place), 1);
	ck_assert_ptr_nonnull(strstr(out, "stop the daemon"));
	/* one byte, in a copy whose tables are its own */
	ck_assert_int_eq(ctl("restore %s %s/own", target, place), 0);
	ck_assert_int_eq(
		proc_shell(out, sizeof(out),
			   "f=$(ls %s/own/*.ldb | head -1); printf X | dd of=$f bs=1 seek=100 conv=notrunc 2>/dev/null",
			   place),
		0);
	ck_assert_int_eq(ctl("restore %s/own %s/new", place, place), 5);
	ck_assert_msg(strstr(out, "PROBLEM") && strstr(out, "is damaged"), "%s", out);
	ck_assert_int_eq(proc_shell(out, sizeof(out), "ls -A %s", place), 0);
	ck_assert_str_eq(out, "copy\nown\n");
	/* an empty directory gives its mode */
	ck_assert_int_eq(proc_shell(out, sizeof(out), "mkdir -m 0750 %s/empty", place), 0);
	ck_assert_int_eq(ctl("restore --json %s %s/empty", target, place), 0);
	ck_assert_ptr_nonnull(strstr(out, "\"restored\""));
	ck_assert_int_eq(proc_shell(out, sizeof(out), "stat -c %%a %s/empty", place), 0);
	ck_assert_str_eq(out, "750\n");
	end();
}
END_TEST

/* ---- entries ---- */

static void fill_odd_keys(void)
{
	struct shale_db *db = proc_open(&d);
	unsigned char key[3] = {0xff, 0, 0}, value[300];

	memset(value, 'x', sizeof(value));
	for (unsigned i = 0; i < 500; i++) {
		key[1] = (unsigned char)(i >> 8);
		key[2] = (unsigned char)i;
		ck_ok(shale_put(db, NULL, key, sizeof(key), value, i % sizeof(value)));
	}
	ck_ok(shale_put(db, NULL, "", 0, "", 0));
	ck_ok(shale_put(db, NULL, "a\0b\n\"\\", 6, "\xc3\xa4", 2));
	shale_close(db);
}

/* Both forms bring back every byte, through a pipe and through files. */
START_TEST(out_and_in)
{
	begin(NULL);
	load_begin();
	load_for(300);
	load_end();
	fill_odd_keys();
	ck_assert_msg(ctl("export %s/a.json", place) == 0, "%s", out);
	ck_assert_msg(ctl("export --binary %s/a.bin", place) == 0, "%s", out);
	for (unsigned binary = 0; binary < 2; binary++) {
		struct private_daemon other;

		proc_init(&other, NULL, NULL);
		proc_start(&other);
		ck_assert_msg(
			proc_shell(out, sizeof(out),
				   "%s/shalectl --socket %s export %s - | %s/shalectl --socket %s load --sync 2>&1",
				   proc_build(), d.socket, binary ? "--binary" : "", proc_build(), other.socket) == 0,
			"%s", out);
		ck_assert_int_eq(
			proc_shell(out, sizeof(out),
				   "%s/shalectl --socket %s export %s/b%u.json 2>&1 && cmp %s/a.json %s/b%u.json",
				   proc_build(), other.socket, place, binary, place, place, binary),
			0);
		proc_stop(&other);
		private_daemon_fini(&other);
	}
	/* a range */
	ck_assert_int_eq(ctl("export --prefix counter- | wc -l"), 0);
	ck_assert_ptr_nonnull(strstr(out, "2"));
	/* no file is replaced, and none is left half */
	ck_assert_int_eq(ctl("export %s/a.bin", place), 1);
	ck_assert_ptr_nonnull(strstr(out, "File exists"));
	ck_assert_int_eq(ctl("export %s/none/x", place), 1);
	ck_assert_int_eq(proc_shell(out, sizeof(out), "ls -A %s", place), 0);
	ck_assert_str_eq(out, "a.bin\na.json\nb0.json\nb1.json\n");
	if (access("/dev/full", W_OK) == 0)
		ck_assert_int_eq(ctl("export >/dev/full"), 1);
	end();
}
END_TEST

/* What is damaged, cut short or something else is told, with its place, and how much was written before. */
START_TEST(bad_input)
{
	static const char *const lines[] = {
		"nonsense",
		"[1]",
		"{\\\"key\\\":\\\"a\\\"}",
		"{\\\"key\\\":1,\\\"value\\\":\\\"\\\"}",
		"{\\\"key_base64\\\":\\\"a\\\",\\\"value\\\":\\\"\\\"}",
		"{\\\"key\\\":\\\"a\\\",\\\"key_base64\\\":\\\"\\\",\\\"value\\\":\\\"\\\"}",
		"SHALEKV?",
		"SHALE",
	};

	begin(NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
		ck_assert_int_eq(proc_shell(out, sizeof(out), "printf \"%s\" > %s/in", lines[i], place), 0);
		ck_assert_msg(ctl("load %s/in", place) == 1, "%s: %s", lines[i], out);
		ck_assert_msg(strstr(out, "0 entries were written"), "%s: %s", lines[i], out);
	}
	ck_assert_int_eq(ctl("load %s/nothing", place), 1);
	ck_assert_int_eq(proc_shell(out, sizeof(out), ": > %s/in", place), 0);
	ck_assert_int_eq(ctl("load %s/in", place), 0);
	load_begin();
	load_for(800);
	load_end();
	ck_assert_int_eq(ctl("export --binary %s/a.bin", place), 0);
	for (unsigned cut = 1; cut < 40; cut += 6) {
		ck_assert_int_eq(proc_shell(out, sizeof(out), "head -c -%u %s/a.bin > %s/cut", cut, place, place), 0);
		ck_assert_int_eq(ctl("load %s/cut", place), 1);
		ck_assert_msg(strstr(out, "cut short"), "%s", out);
	}
	ck_assert_int_eq(proc_shell(out, sizeof(out),
				    "printf X | dd of=%s/a.bin bs=1 seek=1000 conv=notrunc 2>/dev/null", place),
			 0);
	ck_assert_int_eq(ctl("load %s/a.bin", place), 1);
	ck_assert_msg(strstr(out, "checksum"), "%s", out);
	end();
}
END_TEST

/* A database that stock cannot read, for its compression, goes to a directory that stock can, while writers go on. */
START_TEST(for_stock)
{
	leveldb_options_t *options = leveldb_options_create();
	leveldb_readoptions_t *read = leveldb_readoptions_create();
	char path[400], *error = NULL;
	leveldb_iterator_t *it;
	uint64_t entries = 0;
	leveldb_t *stock;

	begin("engine.compression=zstd");
	load_begin();
	load_for(1500);
	ck_assert_int_eq(ctl("flush"), 0);
	snprintf(path, sizeof(path), "%s/plain", place);
	ck_assert_msg(ctl("export --leveldb %s", path) == 0, "%s", out);
	ck_assert_msg(ctl("export --leveldb --no-compression %s2", path) == 0, "%s", out);
	load_end();
	for (unsigned i = 0; i < 2; i++) {
		uint64_t counter[WRITERS] = {0};

		leveldb_options_set_paranoid_checks(options, 1);
		leveldb_readoptions_set_verify_checksums(read, 1);
		stock = leveldb_open(options, path, &error);
		ck_assert_msg(!error, "%s", error);
		it = leveldb_create_iterator(stock, read);
		for (leveldb_iter_seek_to_first(it); leveldb_iter_valid(it); leveldb_iter_next(it), entries++) {
			size_t key_len, value_len;
			const char *key = leveldb_iter_key(it, &key_len), *value = leveldb_iter_value(it, &value_len);

			if (key_len > 8 && memcmp(key, "counter-", 8) == 0)
				counter[key[8] - '0'] = strtoull(value, NULL, 10);
		}
		leveldb_iter_get_error(it, &error);
		ck_assert_msg(!error, "%s", error);
		ck_assert_uint_ge(counter[0], 1500);
		leveldb_iter_destroy(it);
		leveldb_close(stock);
		strcat(path, "2");
	}
	ck_assert_uint_ge(entries, 2 * WRITERS);
	leveldb_options_destroy(options);
	leveldb_readoptions_destroy(read);
	end();
}
END_TEST

TEST_MAIN("backup", 180, beside_writers, killed_in_the_middle, elsewhere, interrupted, refused, restore_refuses,
	  out_and_in, bad_input, for_stock)
