#include "daemon/daemon.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "daemon/control.h"
#include "daemon/gauges.h"
#include "daemon/listen.h"
#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/rows.h"
#include "daemon/service.h"
#include "daemon/stats.h"
#include "daemon/window.h"
#include "daemon/worker.h"
#include "shm/error.h"
#include "shm/sigbus.h"

enum { SERVICE_QUEUE_DEPTH = 256 };

struct house {
	const struct config *config;
	const struct config_sources *sources;
	char *database; /* absolute */
	char *socket;
	int passed; /* the socket, when a supervisor made it; -1 */
	char instance[INSTANCE_LEN + 1];
	struct io_env *env;
	struct io_queue *queue;
	struct window window;
	struct engine_host host;
	struct engine *engine;
	struct engine_recovery recovery;
	struct region region;
	struct rows rows;
	struct gauges gauges;
	struct workers workers;
	struct service service;
	struct control control;
	bool serving; /* the service exists: progress has somebody to wake */
};

/* ---- what the engine asks of its host ---- */

static void on_jobs_ready(struct engine_host *host)
{
	workers_wake(&container_of(host, struct house, host)->workers);
}

/* Workers start after the service is made, so a call before that can only come from recovery, which has nobody to wake. */
static void on_progress(struct engine_host *host)
{
	struct house *h = container_of(host, struct house, host);

	if (h->serving)
		service_progress(&h->service);
}

static void on_key_changes(struct engine_host *host, struct slice user_key)
{
	row_cache_drop(&container_of(host, struct house, host)->rows.cache, user_key);
}

static void on_recovering(struct engine_host *host, const char *text)
{
	(void)host;
	notify_recovering(text);
}

static void on_log(struct engine_host *host, int priority, const char *text)
{
	(void)host;
	log_line(priority, "%s", text);
}

/* ---- start ---- */

/* SIGTERM and its like come through the control thread's signalfd; all threads inherit this mask. */
static int prepare_process(struct err_info *err)
{
	struct rlimit files;
	sigset_t set;
	int rc;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a file size limit is then an error of the write, not our death */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	rc = sigbus_guard_install();
	return rc < 0 ? err_set(err, rc, "the SIGBUS handler cannot be installed: %s", shale_strerror(rc)) : 0;
}

static int resolve_paths(struct house *h, const char *database, const char *socket, struct err_info *err)
{
	h->database = realpath(database, NULL);
	if (!h->database)
		return err_set(err, -errno, "%s: %s", database, shale_strerror(-errno));
	if (socket ? asprintf(&h->socket, "%s", socket) < 0 : asprintf(&h->socket, "%s/shale.sock", h->database) < 0) {
		h->socket = NULL;
		return err_set(err, -ENOMEM, "no memory");
	}
	return 0;
}

/* Tables may keep a quarter of the descriptors open; control.c sees to it that sessions leave that much. */
static void fit_descriptors(struct engine_options *options)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && options->max_open_tables > files.rlim_cur / 4)
		options->max_open_tables = (unsigned)(files.rlim_cur / 4);
}

/* What whoever looks for a reason later needs to know. */
static void say_how(const struct house *h)
{
	char settings[1536];

	config_summary(h->config, settings, sizeof(settings));
	log_line(LOG_NOTICE, "shaled " SHALE_VERSION ": %s: settings that differ from their defaults: %s", h->database,
		 *settings ? settings : "none");
	if (*h->env->reason)
		log_event(&(struct log_about){.event = EVENT_FALLBACK}, LOG_WARNING, "I/O by %s: %s", h->env->backend,
			  h->env->reason);
}

/* The directory is ours, and in memory. */
static int open_database(struct house *h, const char *database, const char *socket, struct err_info *err)
{
	struct engine_options options;
	int rc = io_env_open(database, (enum io_backend)h->config->backend, h->config->create_if_missing, &h->env, err);

	if (rc < 0)
		return rc;
	rc = resolve_paths(h, database, socket, err);
	if (rc == 0)
		rc = io_lock(h->env, "LOCK", err);
	if (rc < 0)
		return rc;
	log_start(h->database, io_env_dirfd(h->env), h->config->log_file);
	say_how(h);
	rc = segment_instance(io_env_dirfd(h->env), h->instance);
	if (rc < 0)
		return err_set(err, rc, "%s: %s", h->database, shale_strerror(rc));
	rc = window_open(&h->window, h->config, io_env_dirfd(h->env), h->instance, err);
	if (rc < 0)
		return rc;
	rc = io_queue_new(h->env, SERVICE_QUEUE_DEPTH, &h->queue);
	if (rc < 0)
		return err_set(err, rc, "no I/O queue: %s", shale_strerror(rc));
	config_engine_options(h->config, &options);
	fit_descriptors(&options);
	options.wal_ring_bytes = h->window.ring_bytes;
	h->host = (struct engine_host){
		.jobs_ready = on_jobs_ready,
		.progress = on_progress,
		.log = on_log,
		.recovering = on_recovering,
		.key_changes = on_key_changes,
		.memory = &memory_provider_anonymous,
		.window = h->window.segment.base,
		.window_size = h->window.segment.size,
	};
	rc = engine_open(h->env, h->queue, &options, &h->host, &h->recovery, &h->engine, err);
	if (rc < 0 && !strstr(err->text, h->database)) /* the engine names files, not where they are */
		err_prefix(err, "%s: ", h->database);
	return rc;
}

/* Who may use the socket may read the region; nobody but us may write it. */
static mode_t region_mode(mode_t socket_mode)
{
	return 0600 | ((socket_mode & 0060) ? 0040 : 0) | ((socket_mode & 0006) ? 0004 : 0);
}

static int open_to_clients(struct house *h, struct err_info *err)
{
	static const char *const keep[] = {"wal", NULL};
	int swept = segment_sweep(h->instance, keep), rc;

	if (swept > 0)
		log_line(LOG_INFO, "%d shared-memory segments of an earlier run removed", swept);
	rc = region_create(&h->region, h->instance, h->database, region_mode((mode_t)h->config->mode), err);
	if (rc < 0)
		return rc;
	region_set_socket(&h->region, h->socket);
	rc = rows_open(&h->rows, h->instance, h->config->row_cache, err);
	if (rc < 0)
		return rc;
	rc = service_init(&h->service, h->config, h->engine, h->queue, &h->region, err);
	if (rc < 0)
		return rc;
	h->serving = true;
	h->service.rows = &h->rows;
	h->gauges.dirfd = io_env_dirfd(h->env);
	h->gauges.workers = &h->workers;
	h->service.gauges = h->workers.gauges = &h->gauges;
	gauges_measure(&h->gauges);
	event_tell(&h->service.events, REGION_EVENT_STARTED, LOG_NOTICE,
		   "shaled " SHALE_VERSION " (process %ld) by %s%s%s", (long)getpid(), h->env->backend,
		   *h->env->reason ? ": " : "", h->env->reason);
	stats_init(&h->service, &h->recovery, h->env);
	atomic_store_explicit(&h->region.header->last_sequence, engine_last_sequence(h->engine), memory_order_release);
	stats_publish(&h->service);
	rc = workers_start(&h->workers, h->env, h->engine, config_workers(h->config), err);
	if (rc < 0)
		return rc;
	rc = control_start(&h->control, h->config, h->sources, &h->service, &h->region, h->instance, h->socket,
			   h->passed, err);
	h->passed = -1; /* the control thread's, or closed */
	return rc;
}

static void announce(struct house *h)
{
	const struct engine_recovery *r = &h->recovery;
	char how[192];

	if (r->created)
		snprintf(how, sizeof(how), "new database");
	else
		snprintf(how, sizeof(how),
			 "recovered %llu batches, %llu KiB of log, %llu KiB of it from the window, in %llu ms",
			 (unsigned long long)r->records, (unsigned long long)(r->log_bytes >> 10),
			 (unsigned long long)(r->window_bytes >> 10), (unsigned long long)(r->micros / 1000));
	log_event(&(struct log_about){.event = EVENT_STARTED}, LOG_NOTICE,
		  "serving %s on %s%s (%s; %s; %u compaction worker%s)", h->database, h->socket,
		  h->control.passed ? ", which the supervisor made" : "", h->env->backend, how,
		  config_workers(h->config), config_workers(h->config) == 1 ? "" : "s");
	event_tell(&h->service.events, REGION_EVENT_RECOVERED,
		   *r->damage.text || r->dropped_bytes ? LOG_WARNING : LOG_NOTICE, "%s%s%s", how,
		   *r->damage.text ? "; " : "", r->damage.text);
	notify_ready();
}

/* ---- end ---- */

/* The log is drained, synced and cut; or, when the engine failed, everything is left as a killed process would leave it. */
static int close_database(struct house *h, bool failed, struct err_info *err)
{
	bool clean = false;
	int rc = 0;

	if (h->engine && failed) {
		engine_abandon(h->engine);
	} else if (h->engine) {
		rc = engine_close(h->engine);
		clean = rc == 0;
		if (rc < 0)
			err_set(err, rc, "%s: the log could not be closed (%s); it is completed at the next start",
				h->database, shale_strerror(rc));
	}
	io_queue_free(h->queue);
	/* Before an engine was there, a window that we made ourselves holds nothing. */
	window_close(&h->window, clean || (!h->engine && !h->window.found));
	return rc;
}

static int end(struct house *h, int rc, struct err_info *err)
{
	bool failed = h->serving && h->service.failed;
	int closed;

	workers_stop(&h->workers);
	control_stop(&h->control);
	closed = close_database(h, failed, rc == 0 ? err : NULL);
	if (h->serving) {
		event_tell(&h->service.events, REGION_EVENT_STOPPED, failed ? LOG_ERR : LOG_NOTICE,
			   failed	      ? "ended by a failure"
			   : rc < 0 || closed ? "ended, not cleanly"
					      : "ended cleanly");
		service_fini(&h->service);
		if (!failed) /* a failed one keeps that state: clients look there for the reason */
			atomic_store_explicit(&h->region.header->state, REGION_STOPPED, memory_order_release);
	}
	if (h->passed >= 0)
		close(h->passed);
	rows_close(&h->rows);
	if (h->region.header)
		region_close(&h->region, true);
	if (h->serving)
		log_event(&(struct log_about){.event = failed ? EVENT_FAILED : EVENT_STOPPED}, LOG_NOTICE, "%s: %s",
			  h->database,
			  failed	     ? "ended by a failure"
			  : rc < 0 || closed ? "ended, not cleanly"
					     : "ended cleanly");
	log_stop();
	if (h->env)
		io_env_close(h->env); /* gives the lock back, last */
	free(h->database);
	free(h->socket);
	return rc < 0 ? rc : closed;
}

int daemon_run(const struct config *config, const struct config_sources *sources, const char *database,
	       const char *socket, struct err_info *err)
{
	char passed[PATH_MAX];
	static struct house h; /* large, and one per process */
	int rc;

	memset(&h, 0, sizeof(h));
	h.config = config;
	h.sources = sources;
	h.window.segment.fd = h.region.segment.fd = -1;
	workers_init(&h.workers);
	prctl(PR_SET_NAME, "shaled");
	log_level(LOG_ERR + (int)config->log_level);
	h.passed = listen_passed(passed, err);
	if (h.passed >= 0)
		socket = passed;
	rc = h.passed < 0 && h.passed != -ENOENT ? h.passed : prepare_process(err);
	if (rc == 0)
		rc = open_database(&h, database, socket, err);
	if (rc == 0)
		rc = open_to_clients(&h, err);
	if (rc == 0) {
		announce(&h);
		rc = service_run(&h.service);
		if (rc < 0)
			/* Its own code: what EROFS or ENOSPC means at a start, it does not mean here. */
			rc = err_set(err, -SHALE_EFAILED, "%s: stopped by an error (%s), told above", h.database,
				     shale_strerror(rc));
		notify_stopping();
	}
	return end(&h, rc, err);
}
