/*
 * lane.c - which channel a thread uses, and how channels end with their threads, handles and processes.
 *
 * A ring has one producer, so each thread has a channel of its own for each database it talks to: a lane. The usual lookup
 * compares one number in thread-local memory. Ids of databases are never used twice, so a stale entry can never match, and is
 * never looked through.
 *
 * Three things end a lane:
 *
 *	the thread ends       the destructor of one process-wide pthread key closes all its lanes
 *	shale_close           closes the channels of all threads; the nodes stay in the threads' lists, dead (db NULL), until
 *	                      their threads look at the list again or end. So no thread edits another thread's list
 *	fork                  the child's copy of the handle is of no use: mappings are not inherited (MADV_DONTFORK), each call answers
 *	                      -SHALE_EFORKED. lanes_lock is held across fork(), so the child gets whole lists and a free lock
 */
#include <errno.h>
#include <stdlib.h>

#include "client/internal.h"

_Atomic unsigned fork_count;

static pthread_mutex_t lanes_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t setup_once = PTHREAD_ONCE_INIT;
static int setup_rc;
static pthread_key_t thread_key; /* only for its destructor; the value is any non-NULL pointer */

static _Thread_local struct lane *thread_lanes;
static _Thread_local struct lane *recent; /* valid only while recent_id is the id of an open database */
static _Thread_local uint64_t recent_id;  /* 0: none */

/* With lanes_lock. Leaves the database's list, if the lane is still in it. */
static void leave_db(struct lane *l)
{
	if (!l->db)
		return;
	*l->link_of_db = l->next_of_db;
	if (l->next_of_db)
		l->next_of_db->link_of_db = l->link_of_db;
	l->db = NULL;
	l->refs--;
}

/* Takes the lanes out of this thread's list that no database wants any more, or all of them. */
static struct lane *detach(bool all)
{
	struct lane *gone = NULL, **link = &thread_lanes;

	pthread_mutex_lock(&lanes_lock);
	while (*link) {
		struct lane *l = *link;

		if (!all && l->db) {
			link = &l->next_of_thread;
			continue;
		}
		leave_db(l);
		l->refs--;
		*link = l->next_of_thread;
		l->next_of_thread = gone;
		gone = l;
	}
	pthread_mutex_unlock(&lanes_lock);
	return gone;
}

/* Ends the sessions of lanes that nobody else can reach any more, and frees them. */
static void free_lanes(struct lane *gone)
{
	unsigned forks = atomic_load_explicit(&fork_count, memory_order_relaxed);

	while (gone) {
		struct lane *next = gone->next_of_thread;

		assert(gone->refs == 0);
		channel_close(&gone->channel, gone->fork_count != forks);
		free(gone);
		gone = next;
	}
}

static void thread_exit(void *unused)
{
	(void)unused;
	recent_id = 0;
	free_lanes(detach(true));
}

static void before_fork(void)
{
	pthread_mutex_lock(&lanes_lock);
}

static void after_fork_in_parent(void)
{
	pthread_mutex_unlock(&lanes_lock);
}

static void after_fork_in_child(void)
{
	atomic_fetch_add_explicit(&fork_count, 1, memory_order_relaxed); /* one thread only: nothing to order */
	pthread_mutex_unlock(&lanes_lock);
}

static void setup(void)
{
	setup_rc = -pthread_key_create(&thread_key, thread_exit);
	if (setup_rc == 0)
		setup_rc = -pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

int lanes_setup(void)
{
	pthread_once(&setup_once, setup);
	return setup_rc;
}

static struct lane *lane_new(struct shale_db *db)
{
	struct lane *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	if (pthread_setspecific(thread_key, &thread_lanes) != 0) {
		free(l);
		return NULL;
	}
	channel_init(&l->channel);
	l->db = db;
	l->db_id = db->id;
	l->fork_count = db->fork_count;
	l->refs = 2;
	l->next_of_thread = thread_lanes;
	thread_lanes = l;
	pthread_mutex_lock(&lanes_lock);
	l->next_of_db = db->lanes;
	l->link_of_db = &db->lanes;
	if (db->lanes)
		db->lanes->link_of_db = &l->next_of_db;
	db->lanes = l;
	pthread_mutex_unlock(&lanes_lock);
	return l;
}

static struct lane *lane_find(struct shale_db *db)
{
	struct lane *l;

	free_lanes(detach(false));
	for (l = thread_lanes; l; l = l->next_of_thread) {
		if (l->db_id == db->id)
			break;
	}
	if (!l)
		l = lane_new(db);
	if (l) {
		recent = l;
		recent_id = db->id;
	}
	return l;
}

struct lane *lane_get(struct shale_db *db)
{
	return likely(recent_id == db->id) ? recent : lane_find(db);
}

void lanes_close(struct shale_db *db)
{
	bool forked = db->fork_count != atomic_load_explicit(&fork_count, memory_order_relaxed);

	pthread_mutex_lock(&lanes_lock);
	while (db->lanes) {
		struct lane *l = db->lanes;

		channel_close(&l->channel, forked);
		leave_db(l);
		assert(l->refs == 1); /* the thread's; it frees the node when it next looks, or ends */
	}
	pthread_mutex_unlock(&lanes_lock);
	free_lanes(detach(false)); /* this thread's own at once */
}
