/*
 * mailbox.h - how the control thread and the service thread tell each other about sessions.
 *
 * A mail lives inside the thing it is about and carries bits; posting it again before it was taken adds bits. The receiver looks at one
 * atomic flag and takes the lock only when there is something, so its hot path has no lock. Waking the receiver is the poster's task.
 */
#ifndef SHALE_DAEMON_MAILBOX_H
#define SHALE_DAEMON_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/list.h"

struct mail {
	struct list link; /* mailbox.lock */
	unsigned bits;	  /* mailbox.lock */
};

struct mailbox {
	pthread_mutex_t lock;
	struct list mails;
	_Atomic bool full;
};

void mailbox_init(struct mailbox *box);
void mailbox_fini(struct mailbox *box);

void mail_init(struct mail *mail);

/* Any thread. */
void mailbox_post(struct mailbox *box, struct mail *mail, unsigned bits);

/* Whether mailbox_take may find something. seq_cst, so that a thread which first announced its sleep cannot miss a post. */
static inline bool mailbox_full(const struct mailbox *box)
{
	return atomic_load_explicit(&box->full, memory_order_seq_cst);
}

/* The oldest mail and its bits, or NULL. The mail may be posted anew at once. */
struct mail *mailbox_take(struct mailbox *box, unsigned *bits_out);

#endif
