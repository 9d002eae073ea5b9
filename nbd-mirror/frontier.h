/* nbd-mirror/frontier.h - up to where a pass has copied without a gap, and flushed.
 *
 * Pieces are handed out in the order of the disk and completed in any order.  What lies
 * before the first one that is under way, and before the newest that was handed out, is
 * copied; a flush that is asked for then, and answered, makes it safe:
 *
 *      0 ......... safe ......... [flush asked] ......... at ... * .. * ..... next
 *        flushed         copied                   copied         under way
 *
 * Thread: any, each function takes the lock.
 */
#ifndef NBD_MIRROR_FRONTIER_H
#define NBD_MIRROR_FRONTIER_H

#include <pthread.h>
#include <stdint.h>

#include "base/err.h"

struct frontier {
    uint64_t every;       /* constant; bytes from one flush to the next */
    uint64_t tail;        /* constant; pieces from here on are handed out first */
    pthread_mutex_t lock; /* guards all below */
    uint64_t
        *under_way; /* offsets of pieces, in any order; as many as there are slots */
    size_t n, max;
    uint64_t next;  /* the end of the newest piece, but for the tail */
    uint64_t asked; /* where it stood when the newest flush was asked for */
    bool asking;
    int64_t asked_at_ms;
    uint64_t safe;
};

/* @start: what lies before it is safe.  @max: pieces under way at one time.
 * Errors: ERR_SYS no memory. */
MUST_CHECK bool frontier_init(struct frontier *f, uint64_t start, uint64_t tail,
                              uint64_t every, size_t max, int64_t now_ms,
                              struct err *e);
void frontier_fini(struct frontier *f);

/* A piece is handed out; in order. */
void frontier_take(struct frontier *f, uint64_t off, uint64_t len);
/* The destination has all of it. */
void frontier_done(struct frontier *f, uint64_t off);

/* Whether it is time to flush: then the caller does, and calls frontier_flushed(). */
bool frontier_ask(struct frontier *f, int64_t now_ms);
/* The flush was answered.  Returns up to where all is safe. */
uint64_t frontier_flushed(struct frontier *f);

#endif
