#include "daemon/events.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "shm/park.h"

static const uint64_t WINDOW_NS = UINT64_C(10000000000);

void events_init(struct events *e, struct region *region)
{
	memset(e, 0, sizeof(*e));
	pthread_mutex_init(&e->lock, NULL);
	e->region = region;
}

void events_fini(struct events *e)
{
	pthread_mutex_destroy(&e->lock);
	e->region = NULL;
}

/* True when one more may be taken now; then *@left_out is how many of its kind were not, before it. Under the lock. */
static bool allowed(struct event_brake *b, uint64_t now_ns, unsigned *left_out)
{
	*left_out = 0;
	if (!b->since_ns || now_ns - b->since_ns >= WINDOW_NS) {
		*left_out = b->left_out;
		*b = (struct event_brake){.since_ns = now_ns ? now_ns : 1};
	}
	if (b->taken < EVENT_BURST) {
		b->taken++;
		return true;
	}
	b->left_out++;
	return false;
}

void event_tell(struct events *e, enum region_event_kind kind, int priority, const char *fmt, ...)
{
	char text[sizeof(((struct region_event *)0)->text)];
	struct timespec now;
	unsigned left_out;
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	clock_gettime(CLOCK_REALTIME, &now);
	pthread_mutex_lock(&e->lock);
	if (e->region && allowed(&e->brake[kind], monotonic_ns(), &left_out)) {
		if (left_out && n >= 0 && (size_t)n < sizeof(text))
			snprintf(text + n, sizeof(text) - (size_t)n, " (%u like it before were left out)", left_out);
		region_add_event(e->region, kind, (unsigned)priority,
				 (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec, text);
	}
	pthread_mutex_unlock(&e->lock);
}
