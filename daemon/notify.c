#include "daemon/notify.h"

#include <stdlib.h>
#include <systemd/sd-daemon.h>

#include "daemon/service.h"

#define SECOND UINT64_C(1000000000)
static const uint64_t TELL_SESSIONS_NS = 5 * SECOND;
static const unsigned EXTEND_SECONDS = 60; /* recovery that tells nothing for so long has stopped getting on */

static uint64_t monotonic_usec(void)
{
	return monotonic_ns() / 1000;
}

/* A supervisor that does not listen is no reason not to serve: what these calls return does not matter. */

void notify_recovering(const char *text)
{
	static uint64_t told_ns;
	uint64_t now = monotonic_ns();

	if (told_ns && now - told_ns < SECOND)
		return;
	told_ns = now;
	sd_notifyf(0, "STATUS=Recovering: %s\nEXTEND_TIMEOUT_USEC=%llu", text, EXTEND_SECONDS * 1000000ULL);
}

void notify_ready(void)
{
	sd_notify(0, "READY=1\nSTATUS=Serving");
}

void notify_reloading(void)
{
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=Reading the configuration",
		   (unsigned long long)monotonic_usec());
}

void notify_stopping(void)
{
	sd_notify(0, "STOPPING=1\nSTATUS=Writing the log to the disk");
}

void notifier_init(struct notifier *n)
{
	uint64_t usec = 0;

	*n = (struct notifier){.heard = getenv("NOTIFY_SOCKET") != NULL};
	if (sd_watchdog_enabled(0, &usec) > 0)
		n->period_ns = usec * 1000;
}

/* Not "is it still there": a loop that hangs on a lock has a thread, too. */
static bool alive(struct notifier *n, const struct service *svc)
{
	/* Relaxed: a count. If it moved, it moved. */
	uint64_t beats = atomic_load_explicit(&svc->beats, memory_order_relaxed);
	bool moved = beats != n->beats;

	n->beats = beats;
	return moved || service_rests(svc);
}

static int milliseconds(uint64_t ns)
{
	return (int)(ns / 1000000 + 1);
}

int notifier_tend(struct notifier *n, const struct service *svc, unsigned sessions)
{
	uint64_t now, next = UINT64_MAX;

	if (!n->period_ns && (!n->heard || sessions == n->sessions))
		return -1;
	now = monotonic_ns();
	if (n->period_ns && now >= n->look_ns) {
		bool lives = alive(n, svc);

		if (lives)
			sd_notify(0, "WATCHDOG=1");
		/* Half of the period is early enough; who seemed to hang is looked at more often: it may have been one long pass. */
		n->look_ns = now + n->period_ns / (lives ? 2 : 16);
	}
	if (n->period_ns)
		next = n->look_ns;
	if (n->heard && sessions != n->sessions) {
		if (!n->told_ns || now - n->told_ns >= TELL_SESSIONS_NS) {
			sd_notifyf(0, "STATUS=Serving %u session%s", sessions, sessions == 1 ? "" : "s");
			n->sessions = sessions;
			n->told_ns = now;
		} else {
			next = min_size(next, n->told_ns + TELL_SESSIONS_NS);
		}
	}
	return next == UINT64_MAX ? -1 : next <= now ? 0 : milliseconds(next - now);
}
