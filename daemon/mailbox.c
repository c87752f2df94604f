#include "daemon/mailbox.h"

void mailbox_init(struct mailbox *box)
{
	pthread_mutex_init(&box->lock, NULL);
	list_init(&box->mails);
	atomic_init(&box->full, false);
}

void mailbox_fini(struct mailbox *box)
{
	pthread_mutex_destroy(&box->lock);
}

void mail_init(struct mail *mail)
{
	list_init(&mail->link);
	mail->bits = 0;
}

void mailbox_post(struct mailbox *box, struct mail *mail, unsigned bits)
{
	pthread_mutex_lock(&box->lock);
	if (!mail->bits)
		list_push_back(&box->mails, &mail->link);
	mail->bits |= bits;
	/* seq_cst: before the poster's look at whether the receiver sleeps. Pairs with mailbox_full(). */
	atomic_store_explicit(&box->full, true, memory_order_seq_cst);
	pthread_mutex_unlock(&box->lock);
}

struct mail *mailbox_take(struct mailbox *box, unsigned *bits_out)
{
	struct mail *mail = NULL;
	struct list *l;

	if (!mailbox_full(box))
		return NULL;
	pthread_mutex_lock(&box->lock);
	l = list_pop(&box->mails);
	if (l) {
		mail = container_of(l, struct mail, link);
		*bits_out = mail->bits;
		mail->bits = 0;
	}
	if (list_empty(&box->mails))
		atomic_store_explicit(&box->full, false, memory_order_relaxed); /* posts are ordered by the lock */
	pthread_mutex_unlock(&box->lock);
	return mail;
}
