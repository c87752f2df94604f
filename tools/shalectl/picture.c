/*
 * picture.c - one look at a daemon's region, without asking the daemon where it can be helped.
 *
 * With --db the region is opened by name, so looking works while the daemon hangs, and still shows the last state of
 * one that was killed. With a socket, it is looked for among the regions that there are; where it is not found (another /dev/shm than ours, no
 * permission to open it by name), the handshake hands it over, which needs a daemon that answers.
 */
#include "tools/shalectl/picture.h"

#include <errno.h>
#include <unistd.h>

#include "shm/error.h"
#include "shm/handshake.h"
#include "shm/park.h"

static int region_by_directory(struct ctl *ctl, struct region *r, struct err_info *err)
{
	int rc = region_of_directory(ctl->database, r, err);

	if (rc == 0)
		return EXIT_OK;
	complain("%s", *err->text ? err->text : shale_strerror(rc));
	return rc == -ENOENT ? EXIT_NOT_RUNNING : EXIT_FAILED;
}

int region_by_handshake(struct ctl *ctl, const char *path, struct region *r, struct err_info *err)
{
	struct hello hello = {
		.magic = HELLO_MAGIC,
		.size = sizeof(hello),
		.abi = SHM_ABI,
		.flags = HELLO_READ_ONLY,
		.fingerprint = layout_fingerprint(),
	};
	struct welcome welcome;
	int fds[WELCOME_FDS], sock;
	int rc = handshake_connect(path, &hello, ctl->timeout_ms, &sock, &welcome, fds, err);

	if (rc < 0)
		return rc;
	rc = region_map(r, fds[1], err);
	for (int i = 0; i < WELCOME_FDS; i++)
		close(fds[i]);
	close(sock);
	return rc;
}

static int region_by_socket(struct ctl *ctl, struct region *r, struct err_info *err)
{
	const char *path;
	int code = ctl_where(ctl, &path), rc;

	if (code != EXIT_OK)
		return code;
	if (region_of_socket(path, r))
		return EXIT_OK;
	rc = region_by_handshake(ctl, path, r, err);
	return rc == 0 ? EXIT_OK : ctl_refused(rc, err->text);
}

int picture_refresh(struct picture *p)
{
	uint64_t now, beat;

	if (region_read_stats(&p->region, &p->stats) < 0)
		return -EAGAIN;
	now = monotonic_ns();
	/* Acquire: what the daemon wrote before it changed the state is seen with it. */
	p->state = atomic_load_explicit(&p->region.header->state, memory_order_acquire);
	beat = atomic_load_explicit(&p->region.header->heartbeat_ns, memory_order_relaxed);
	p->idle_s = now > beat ? (double)(now - beat) / 1e9 : 0;
	p->alive = region_served(&p->region);
	return 0;
}

int take_picture(struct ctl *ctl, struct picture *p)
{
	struct err_info err = {0};
	int code = ctl->database ? region_by_directory(ctl, &p->region, &err) : region_by_socket(ctl, &p->region, &err);

	if (code == EXIT_OK && picture_refresh(p) < 0) {
		complain("the stats page is renewed all the time: no look at it succeeded");
		region_close(&p->region, false);
		code = EXIT_FAILED;
	}
	return code;
}

const char *state_name(const struct picture *p)
{
	static const char *const names[] = {"starting", "serving", "stopping", "stopped", "failed"};

	if (!p->alive && p->state != REGION_STOPPED)
		return "dead";
	return p->state < ARRAY_SIZE(names) ? names[p->state] : "unknown";
}

int picture_exit(const struct picture *p)
{
	return !p->alive || p->state == REGION_STOPPED ? EXIT_NOT_RUNNING
	       : p->state == REGION_FAILED	       ? EXIT_FAILED
						       : EXIT_OK;
}

int show_picture(struct ctl *ctl, void (*text)(const struct picture *p), json_t *(*json)(const struct picture *p))
{
	struct picture p = {0};
	int code = take_picture(ctl, &p), out;

	if (code != EXIT_OK)
		return code;
	if (ctl->json)
		print_json(json(&p));
	else
		text(&p);
	out = ctl_finish_output();
	code = out != EXIT_OK ? out : picture_exit(&p);
	region_close(&p.region, false);
	return code;
}
