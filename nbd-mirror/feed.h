/* nbd-mirror/feed.h - hands the work of one pass out to its lanes.
 *
 * What is to be copied is found out while it is being copied: the lane that calls
 * feed_ask() when there is a question to ask puts it to its own source connection, and
 * gives the answer to feed_tell().  One question is under way at a time, and at most one
 * answer lies ready beside the one being handed out: memory is bounded by two answers
 * (4 MiB, 6 with ->hot), whatever the disk.
 *
 *     feed_ask() --> BLOCK_STATUS --> feed_tell() --> ready --> current --> feed_take()
 *
 * Stretches that touch are one, but no gap between two is read to save a request: with
 * qemu-nbd one request more at the source costs 31 us of CPU, there and here, and to read
 * and throw away 64 KiB, the least gap in a dirty bitmap as QEMU makes it, 30 us.
 *
 * With ->whole_list everything is asked before the first piece is handed out, and kept:
 * 16 bytes for each stretch to copy, at most FEED_LIST_MAX of them.  With ->ranges that
 * list is given.
 *
 * Thread: any, all functions take the lock; what lanes share, they share through this.
 */
#ifndef NBD_MIRROR_FEED_H
#define NBD_MIRROR_FEED_H

#include <pthread.h>
#include <stdint.h>

#include "base/err.h"
#include "base/rate.h"
#include "nbd-mirror/extents.h"

struct counters;
struct frontier;
struct hot;
struct mirror_range;

enum {
    FEED_LANES_MAX = 16,
    FEED_LIST_MAX = 2 << 20,    /* stretches: 32 MiB */
    FEED_ZERO_MAX = 1 << 30,    /* bytes of one WRITE_ZEROES: 1 TiB in 1024 of them */
    FEED_WINDOW_MIN = 64 << 20, /* bytes of one question, at first; grows up to... */
};
#define FEED_WINDOW_MAX \
    ((uint64_t)2 << 30) /* ...this: lengths have 32 bits on the wire */

struct feed_cfg {
    struct extents_rule rule; /* with no context in use, all of the disk is data */
    uint32_t data_max;        /* bytes of a piece of data; a power of two */
    bool whole_list;
    uint64_t start; /* what lies before it is done; a multiple of the alignment */
    struct frontier *frontier; /* is told of each piece; NULL: none */
    /* Not the whole disk but these stretches are copied, and nothing is asked; of whole
     * blocks, or up to the end of the disk; borrowed until feed_init() returns. */
    const struct mirror_range *ranges;
    size_t nranges;
    uint64_t rate; /* bytes of data per second; 0: no limit */
    struct hot
        *hot; /* with EXTENTS_OURS in the rule: asked for each answer, told of what
                        the bitmap marks; else NULL */
    struct counters *counters;
};

enum feed_next {
    FEED_PIECE, /* here is one */
    FEED_WAIT,  /* nothing yet: the lane's wake descriptor becomes readable */
    FEED_LATER, /* the rate limit: ask again in ->later_ms */
    FEED_END,   /* nothing any more */
};

/* A stretch in 16 bytes. */
struct feed_item {
    uint64_t off;
    uint64_t len : 62;
    uint64_t kind : 2;
};

struct feed {
    struct feed_cfg cfg;         /* constant */
    uint64_t ask_end;            /* constant; what can be asked about ends here */
    int wake_fd[FEED_LANES_MAX]; /* constant; eventfd(2) of each lane */
    pthread_mutex_t lock;        /* guards all below */
    uint64_t asked;              /* the answers reach up to here */
    uint64_t window;             /* bytes of the next question */
    enum { ANSWER_NONE, ANSWER_ASKED, ANSWER_READY } answer; /* the state of *coming */
    struct extents slot[2];
    struct extents *current; /* being handed out; one of the two */
    struct extents *coming;  /* the other; ANSWER_ASKED: it belongs to who asked */
    struct piece run;        /* being cut into pieces */
    struct feed_item *item;  /* ->whole_list */
    size_t nitems, items_max, item_next;
    uint32_t waiting; /* bit N: lane N got FEED_WAIT */
    struct rate rate;
};

/* @wake_fd: of the @n lanes; borrowed. */
MUST_CHECK bool feed_init(struct feed *f, const struct feed_cfg *cfg,
                          const int *wake_fd, unsigned n, struct err *e);
void feed_fini(struct feed *f);

/* The next piece for @lane: PIECE_DATA of at most ->data_max bytes, or PIECE_ZERO.  @large:
 * where so many bytes of data follow each other, give out all of them; 0: never.
 * *later_ms is set with FEED_LATER only. */
enum feed_next feed_take(struct feed *f, unsigned lane, uint32_t large,
                         struct piece *out, int *later_ms);

/* Where the rest of the disk begins that is handed out first, for it cannot be asked
 * about; the size where there is none. */
uint64_t feed_tail(const struct feed_cfg *cfg);

/* Whether something must be asked now: then the caller asks for ->off, ->len of what is
 * returned, has the answer recorded in it, and calls feed_tell().  NULL: no. */
struct extents *feed_ask(struct feed *f);

/* The answer is complete.  Errors: ERR_PROTO of extents_check(); ERR_NBD too many
 * stretches for ->whole_list; ERR_SYS no memory for them. */
MUST_CHECK bool feed_tell(struct feed *f, struct err *e);

/* The server would not answer.  true: then all that was asked for is data, and that is the
 * answer to feed_tell().  false: what a bitmap marks must be known. */
MUST_CHECK bool feed_refused(struct feed *f);

/* Wake all lanes, for them to see that the pass has failed. */
void feed_wake_all(struct feed *f);

#endif
