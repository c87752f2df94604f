/*
 * Redis over a unix socket. It appends each write to its file and leaves the sync to the kernel, as the others' unsynced writes do;
 * fillsync turns appendfsync=always on. It has no order of keys: what needs a cursor is left out.
 */
#ifdef HAVE_REDIS

#include <errno.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/shale-bench/bench.h"

struct session {
	redisContext *c;
	unsigned pending; /* of batch_put: replies to come */
	bool synced;
};

static pid_t pid;
static char folder[600], socket_path[620];

static redisContext *connect_to(void)
{
	redisContext *c = redisConnectUnix(socket_path);

	if (c && !c->err)
		return c;
	redisFree(c);
	return NULL;
}

static int stop(void)
{
	int status = 0;

	if (pid > 0 && kill(pid, SIGTERM) == 0)
		waitpid(pid, &status, 0);
	pid = 0;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

static int start(const struct bench_options *o, const char *database)
{
	(void)o;
	snprintf(folder, sizeof(folder), "%s", database);
	snprintf(socket_path, sizeof(socket_path), "%s/redis.sock", folder);
	if (mkdir(folder, 0700) < 0 && errno != EEXIST)
		return -errno;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket_path, "--dir", folder,
		       "--save", "", "--appendonly", "yes", "--appendfsync", "no", "--logfile", "redis.log",
		       "--daemonize", "no", NULL);
		_exit(127);
	}
	for (unsigned i = 0; pid > 0 && i < 500; i++) {
		redisContext *c = connect_to();

		if (c) {
			redisFree(c);
			return 0;
		}
		if (waitpid(pid, NULL, WNOHANG) == pid)
			pid = 0;
		usleep(10000);
	}
	fprintf(stderr, "shale-bench: redis-server does not start; is the package redis-server there?\n");
	return -EIO;
}

static void *open_session(void)
{
	struct session *s = calloc(1, sizeof(*s));

	if (s)
		s->c = connect_to();
	if (s && s->c)
		return s;
	fprintf(stderr, "shale-bench: redis: cannot connect\n");
	free(s);
	return NULL;
}

static void close_session(void *p)
{
	struct session *s = p;

	redisFree(s->c);
	free(s);
}

/* Takes a reply: its type, or -1 after having said what was wrong. */
static int judged(struct session *s, redisReply *reply)
{
	int type = reply ? reply->type : -1;

	if (!reply || type == REDIS_REPLY_ERROR) {
		fprintf(stderr, "shale-bench: redis: %s\n", reply ? reply->str : s->c->errstr);
		type = -1;
	}
	freeReplyObject(reply);
	return type;
}

static int put(void *p, struct slice key, struct slice value, bool sync)
{
	struct session *s = p;

	if (sync != s->synced) {
		s->synced = sync;
		if (judged(s, redisCommand(s->c, "CONFIG SET appendfsync %s", sync ? "always" : "no")) < 0)
			return -EIO;
	}
	return judged(s, redisCommand(s->c, "SET %b %b", key.data, key.size, value.data, value.size)) < 0 ? -EIO : 0;
}

static int del(void *p, struct slice key)
{
	struct session *s = p;

	return judged(s, redisCommand(s->c, "DEL %b", key.data, key.size)) < 0 ? -EIO : 0;
}

static int batch_put(void *p, struct slice key, struct slice value)
{
	struct session *s = p;

	s->pending++;
	return redisAppendCommand(s->c, "SET %b %b", key.data, key.size, value.data, value.size) == REDIS_OK ? 0 : -EIO;
}

static int batch_commit(void *p)
{
	struct session *s = p;
	void *reply;

	for (; s->pending; s->pending--)
		if (redisGetReply(s->c, &reply) != REDIS_OK || judged(s, reply) < 0)
			return -EIO;
	return 0;
}

static int get(void *p, struct slice key)
{
	struct session *s = p;
	int type = judged(s, redisCommand(s->c, "GET %b", key.data, key.size));

	return type < 0 ? -EIO : type == REDIS_REPLY_NIL;
}

static pid_t server_pid(void)
{
	return pid;
}

const struct driver redis_driver = {
	.name = "redis",
	.by_process = true,
	.start = start,
	.stop = stop,
	.server_pid = server_pid,
	.open = open_session,
	.close = close_session,
	.put = put,
	.del = del,
	.batch_put = batch_put,
	.batch_commit = batch_commit,
	.get = get,
};

#endif
