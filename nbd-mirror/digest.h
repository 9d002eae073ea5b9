/* nbd-mirror/digest.h - what an export reads as, block by block, as digests.
 *
 *     digest_export() --> struct digest, in order --> digest_queue --.
 *                                                                     digest_compare()
 *     digest_export() --> struct digest, in order --> digest_queue --'
 *
 * The two sides need not be digested in one process: what is emitted is all that has to
 * travel, in the same order on every host, and it is pushed into a queue at its end.  Both
 * must have the same ranges and the same block size.
 *
 * Blocks are of ->block bytes, at multiples of that; only the end of a range may be a
 * shorter one.  A block that reads as zeroes, and what base:allocation calls zero (that is
 * not read), has no digest but is zero, in stretches of any length.
 *
 * Thread: digest_export() runs in the thread that calls it and drives all connections of
 * its side: reading from one server is no work for more than one.  The queue is what two
 * threads share.
 */
#ifndef NBD_MIRROR_DIGEST_H
#define NBD_MIRROR_DIGEST_H

#include <pthread.h>
#include <stdint.h>

#include "base/err.h"
#include "nbd-mirror/counters.h"
#include "nbd-mirror/mirror.h"

enum {
    DIGEST_LEN = 16, /* XXH3-128, in its canonical (big-endian) form */
    DIGEST_BLOCK = 256 * 1024,
    DIGEST_QUEUE = 1024,
};

/* One block, or a stretch of zeroes. */
struct digest {
    uint64_t off, len; /* bytes; len 0: none */
    bool zero;
    uint8_t sum[DIGEST_LEN]; /* not of zeroes */
};

typedef bool (*digest_emit)(void *ctx, const struct digest *d, struct err *e);

struct digest_cfg {
    const char *name; /* of the side, "src", for messages */
    const struct mirror_side *side;
    uint64_t size; /* what the export must have, or MIRROR_SIZE_DST: any */
    /* Only these stretches, ascending, each read from the server whatever extents say;
     * multiples of MIRROR_BLOCK, but for the end of the disk.  NULL: the whole disk. */
    const struct mirror_range *ranges;
    size_t nranges;
    uint64_t start; /* of the whole disk: all before it is left out; of whole blocks */
    uint32_t block; /* a power of two from MIRROR_BLOCK on; 0: DIGEST_BLOCK */
    unsigned connections; /* at most; 0: one for two CPUs, 2 to 4 */
    unsigned requests;    /* in flight on each connection; 0: 4, of smaller blocks than
                             DIGEST_BLOCK 8 */
    const struct cancel *cancel;
    const struct cancel
        *stop;        /* ends it as ->cancel does, once connected; may be NULL */
    digest_emit emit; /* may block; false ends it with that error */
    void *ctx;
    counter *read; /* bytes that were read are added here; may be NULL */
};

/**
 * digest_export() - digest all of it, in ascending order
 * @size: the size of the export; may be NULL
 *
 * Memory: connections x requests x block (2 MiB by default on two CPUs), 4 MiB of extents, and 4 MiB
 * for the first read of a disk of 64 MiB or more.
 * Errors: as of a mirror's pass, named with the side, command, offset and length; those of
 * ->emit.  Blocks: until the end; cancel ends it within 100 ms.
 */
MUST_CHECK bool digest_export(const struct digest_cfg *cfg, uint64_t *size,
                              struct err *e);

/* --- between two threads --- */

/* Filled by one thread, emptied by another. */
struct digest_queue {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    struct digest slot[DIGEST_QUEUE];
    unsigned head, n;
    bool ended; /* nothing more is pushed */
    bool shut;  /* nothing more is wanted */
};

void digest_queue_init(struct digest_queue *q);
void digest_queue_fini(struct digest_queue *q);
/* A digest_emit, @queue is the struct digest_queue; waits for room.  Errors: ERR_CANCELLED
 * it was shut. */
MUST_CHECK bool digest_push(void *queue, const struct digest *d, struct err *e);
void digest_end(struct digest_queue *q);
/* The next one, waiting for it; false: there are no more. */
MUST_CHECK bool digest_pop(struct digest_queue *q, struct digest *out);
void digest_shut(struct digest_queue *q);

/* --- comparing --- */

struct digest_diff {
    void (*differs)(void *ctx, uint64_t off, uint64_t len); /* neighbours as one */
    /* A block, or a stretch of zeroes, that is alike; all before it that differs has been
     * told.  Both in one ascending order.  NULL: nobody wants to know. */
    void (*alike)(void *ctx, const struct digest *d);
    void *ctx;
    counter *compared;    /* bytes; may be NULL */
    uint64_t stretch_max; /* bytes; longer ones are told in parts.  0: however long */
};

/* Empty both queues.  true: both have ended at the same place; whether all was compared is
 * known by who pushed.  Errors: ERR_PROTO they are not of the same blocks. */
MUST_CHECK bool digest_compare(struct digest_queue *a, struct digest_queue *b,
                               const struct digest_diff *diff, struct err *e);

/* --- one digest of many --- */

/* XXH3-128 over blocks of @block bytes in the order in which they are given: for each its
 * offset and length (64 bits, big-endian) and its digest, which is 0 where it reads as
 * zeroes.  The same blocks give the same digest, in whatever stretches their zeroes come. */
struct digest_fold;
/* @block: as of digest_cfg.  NULL: out of memory. */
struct digest_fold *digest_fold_new(uint32_t block);
void digest_fold_add(struct digest_fold *f, const struct digest *d);
/* Of what was given so far. */
void digest_fold_sum(const struct digest_fold *f, uint8_t out[DIGEST_LEN]);
void digest_fold_free(struct digest_fold *f);
/* In hex, as people compare it. */
void digest_hex(const uint8_t sum[DIGEST_LEN], char out[2 * DIGEST_LEN + 1]);

#endif
