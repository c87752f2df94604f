#include "daemon/user.h"

#include <stdlib.h>

#include "daemon/service.h"

/* Users are few, and whoever came last is likely to come next: a list that is searched from there. */
static struct user *find(struct service *svc, uid_t uid)
{
	for (struct list *l = svc->users.prev; l != &svc->users; l = l->prev) {
		struct user *u = container_of(l, struct user, link);

		if (u->uid == uid)
			return u;
	}
	return NULL;
}

static void init(struct user *u, uid_t uid, unsigned weight)
{
	u->uid = uid;
	u->weight = weight;
	list_init(&u->link);
	list_init(&u->turn);
	list_init(&u->polled);
	list_init(&u->answering);
	list_init(&u->answer_link);
	list_init(&u->crowded);
	list_init(&u->crowded_link);
}

struct user *user_join(struct service *svc, uid_t uid)
{
	struct user *u = find(svc, uid);

	if (!u) {
		u = calloc(1, sizeof(*u));
		if (u)
			init(u, uid, config_weight(svc->config, uid));
	}
	if (!u) {
		u = &svc->nobody;
		if (!u->sessions)
			init(u, (uid_t)-1, 1);
	}
	list_remove(&u->link);
	list_push_back(&svc->users, &u->link);
	u->sessions++;
	return u;
}

void user_leave(struct service *svc, struct user *u)
{
	if (--u->sessions)
		return;
	assert(!u->pins && !u->held && list_empty(&u->polled) && list_empty(&u->answering));
	assert(!u->room_used && !u->readers && list_empty(&u->crowded));
	list_remove(&u->link);
	list_remove(&u->answer_link);
	if (u != &svc->nobody)
		free(u);
}

void users_reweigh(struct service *svc)
{
	for (struct list *l = svc->users.next; l != &svc->users; l = l->next) {
		struct user *u = container_of(l, struct user, link);

		if (u != &svc->nobody)
			u->weight = config_weight(svc->config, u->uid);
		u->rate_left = 0;
		u->rate_ns = svc->now_ns;
	}
}

void users_fini(struct service *svc)
{
	struct list *l;

	while ((l = list_pop(&svc->users))) {
		struct user *u = container_of(l, struct user, link);

		if (u != &svc->nobody)
			free(u);
	}
}
