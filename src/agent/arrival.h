/* src/agent/arrival.h - a move as its destination sees it.
 *
 *              v-- reopen --+
 *   NEW --> PREPARED --> CLOSED --> RELEASED --> COMMITTED --> RUNNING --> FINISHED
 *    |         |            |           |
 *    +---------+------------+-----------+-- DELETE --> ABORTED
 *
 * Each step is in the journal, on disk, before it takes effect, so that any later agent can
 * go on from there: what it says was done may not have been, what it does not say was not.
 * From COMMITTED on nothing takes the guest away again; only COMMIT starts it (the commit
 * rule of src/README).
 *
 * Who may act on a move holds the lock (flock) on its state directory as long as it lives:
 * the agent that made it, or a later one that loaded it from the journal.  Two moves of one
 * VM cannot be prepared: the lock on PATHS_STATE is held while that is looked at.
 *
 * Locks, in taking order: those of arrivals.c, arrival.lock, arrival.ram_lock, those inside hold.c.
 */
#ifndef SNM_AGENT_ARRIVAL_H
#define SNM_AGENT_ARRIVAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "agent/guest.h"
#include "agent/image.h"
#include "agent/writer.h"
#include "base/json.h"
#include "base/paths.h"

enum arrival_step {
    ARRIVAL_NEW,       /* nothing of it is on this host */
    ARRIVAL_PREPARED,  /* images, writers, directories; disks and RAM may flow */
    ARRIVAL_CLOSED,    /* no writer is left, the images are on the disk */
    ARRIVAL_RELEASED,  /* QEMU may get all of the RAM stream */
    ARRIVAL_COMMITTED, /* the source is dead; the guest is to run here */
    ARRIVAL_RUNNING,   /* it was started (or is to stay paused) */
    ARRIVAL_FINISHED,  /* only the guest is left */
    ARRIVAL_ABORTED,   /* nothing is left */
    ARRIVAL_STEPS
};

enum { ARRIVAL_DISKS = 64 };

struct hold_stats;
struct hold;
struct journal;

struct arrival {
    /* Fixed once it is made or loaded. */
    char id[PATHS_ID_LEN + 1], uuid[37], source[256];
    char state_dir[PATHS_MAX], run_dir[PATHS_MAX], ram_dir[PATHS_MAX];
    const struct guest_ops *ops;

    struct arrival *next; /* the lock of arrivals.c */
    atomic_int step; /* enum arrival_step; moved under ->lock, read by any thread */

    pthread_mutex_t lock; /* guards all below; held during a step */
    char name[256]; /* of the domain, which may have another one by the next try */
    int lock_fd;    /* flock, inherited by the writers; -1: none */
    bool
        ours; /* made or opened again by this agent: it has writers and RAM, and is parked
                  when the link is lost */
    struct journal *journal;
    bool torn;    /* a writer did not end well, or may not have */
    bool undone;  /* its removal was begun: it is good for nothing else */
    bool defined; /* the domain had a definition before; it stays then */
    /* Random, new each time that writers are let at the images, and when they are kept, and
     * in the journal before that: who knows the newest knows the state that he goes on
     * from. */
    char opening[PATHS_ID_LEN + 1];
    bool used; /* somebody has connected to a writer since */
    bool
        changed; /* when it was opened again, an image was not as it had been left; until
                     ->used, for the source may not have heard */
    struct image images[ARRIVAL_DISKS];
    struct writer writers[ARRIVAL_DISKS];
    size_t n;            /* of both */
    struct guest *guest; /* NULL: not connected */
    uint64_t ran_ms;     /* RUNNING: what COMMIT answered */
    char ran_state[16];
    bool want_marks, marked; /* what the guest writes here is to be, is told apart; */
    struct err unmarked;     /* why not */

    pthread_mutex_t ram_lock; /* guards these; never held while waiting */
    struct hold *hold;        /* NULL: no RAM stream so far */
    uint64_t stream;          /* its number */
};

/* What PUT said: name, uuid, source, disks; checked as text.  *out has step NEW, and is owned
 * by the caller.  Errors: ERR_PROTO, ERR_REFUSED. */
MUST_CHECK bool arrival_parse(const char *id, const struct guest_ops *ops,
                              struct json_object *body, struct arrival **out,
                              struct err *e);
void arrival_free(struct arrival *a);
void arrival_free_auto(struct arrival **a);
const char *arrival_step_name(enum arrival_step step);

/* --- arrival-journal.c: on disk, and whose it is --- */

/* From its journal, with its lock, which is waited for up to @wait_ms: an agent whose link
 * was cut needs a moment to end.  *out NULL and true: there is no such move.
 * Errors: ERR_REFUSED another agent has it; ERR_PROTO not a journal of ours. */
MUST_CHECK bool arrival_load(const char *id, const struct guest_ops *ops, int wait_ms,
                             struct arrival **out, struct err *e);
/* The same to look at only: without the lock. */
MUST_CHECK bool arrival_peek(const char *id, const struct guest_ops *ops,
                             struct arrival **out, struct err *e);
/* Call @each with the id of every move of which this host has a journal as destination. */
typedef bool (*arrival_each)(void *ctx, const char *id, struct err *e);
MUST_CHECK bool arrival_scan(arrival_each each, void *ctx, struct err *e);
/* --- the steps; each takes ->lock.  Again is the same answer --- */

/* NEW to PREPARED.  What an earlier, dead and uncommitted move of the same uuid left is
 * removed.  Undoes itself on failure.  Errors: ERR_REFUSED; ERR_SYS; ERR_VIRT. */
MUST_CHECK bool arrival_prepare(struct arrival *a, struct err *e);
/* The file beside an image that tells hosts with shared storage; "": none (a device). */
void arrival_token(const struct arrival *a, const struct image *im,
                   char out[PATHS_MAX]);

/* PREPARED to CLOSED. */
MUST_CHECK bool arrival_close(struct arrival *a, struct err *e);
/* CLOSED to RELEASED. */
MUST_CHECK bool arrival_release(struct arrival *a, struct err *e);
/* RELEASED to RUNNING; @since_ms of clock_ms().  The answer is in ->ran_ms, ->ran_state; of
 * a guest that was started and has ended since it is "off" or "none".  A journal that does
 * not take "running" is a warning only. */
MUST_CHECK bool arrival_commit(struct arrival *a, bool run, int64_t since_ms,
                               struct err *e);
/* Before arrival_commit(): a bitmap is to be on every disk from before the guest's first
 * write here.  If none can be made it is only told: the guest waits. */
void arrival_want_marks(struct arrival *a);
/* RUNNING: once the guest runs, tell the network where it is, and set its clock if
 * @set_time.  Neither fails the move: @done and @failed are arrays that get a text each.
 * A guest agent that hangs holds up nobody: the lock is not kept. */
MUST_CHECK bool arrival_greet(struct arrival *a, bool set_time,
                              struct json_object *done, struct json_object *failed,
                              struct err *e);
/* RUNNING to FINISHED.  @left: an array that gets what could not be done, as texts. */
MUST_CHECK bool arrival_finish(struct arrival *a, bool autostart,
                               struct json_object *left, struct err *e);
/* Anything before COMMITTED to ABORTED.  A failure leaves the journal: again later. */
MUST_CHECK bool arrival_abort(struct arrival *a, struct err *e);
/* The link is gone: park what was not released, deliver what was, let go. */
void arrival_lost(struct arrival *a);

/* --- arrival-reopen.c: the source's guest goes on, and so may the move --- */

/* PREPARED or CLOSED: no writer, no RAM, no domain; images and journal stay. */
void arrival_park(struct arrival *a);
/* The same because the source says that it will go on from it some day.  Also of a move that
 * was loaded.  Errors: ERR_REFUSED it is released, or removed; the guest may have run here;
 * ERR_VIRT; ERR_SYS. */
MUST_CHECK bool arrival_keep(struct arrival *a, struct err *e);
/* The same, then PREPARED again, with new writers, so that no request that was under way to
 * the old ones is ever done.  Also of a move that was loaded: it is this agent's then.
 * ->changed tells whether somebody has written an image in between.
 * @after: the newest opening that the source knows of; NULL: any.
 * Errors: ERR_REFUSED the guest may have run here, an image is another file, ESTALE that
 * opening is not known here, or something may have been written since the next one: one of
 * the two hosts is of an earlier time; ERR_SYS. */
MUST_CHECK bool arrival_reopen(struct arrival *a, const char *after, struct err *e);

/* Before that: the domain has this name now, and RAM's socket as well.  The journal keeps the
 * old one, for every try says it.  Errors: ERR_PROTO. */
MUST_CHECK bool arrival_rename(struct arrival *a, const char *name, struct err *e);

/* Of the domain now, on a connection of its own. */
MUST_CHECK bool arrival_look(const struct arrival *a, struct guest_look *out,
                             struct err *e);

/* --- channels; any thread --- */

MUST_CHECK bool arrival_disk(struct arrival *a, const char *target, int *fd,
                             struct err *e);
/* Digests of what is on that disk now: digests.h. */
MUST_CHECK bool arrival_digest(struct arrival *a, const char *target, int *fd,
                               struct err *e);
/* A RAM stream with that number, which starts with a limit of 0; the one before must be
 * over, and not released. */
MUST_CHECK bool arrival_ram(struct arrival *a, uint64_t stream, int *fd, struct err *e);
/* *now: how much of the stream has come, and how much of it QEMU has taken.
 * Errors: ERR_REFUSED, with EPIPE: the stream has ended before its release. */
MUST_CHECK bool arrival_ram_limit(struct arrival *a, uint64_t stream, uint64_t bytes,
                                  struct hold_stats *now, struct err *e);

#endif
