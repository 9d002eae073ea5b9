/* nbd-mirror/extents.h - answers to BLOCK_STATUS, turned into stretches to copy.
 *
 * One struct extents holds one answer: for each meta context that was asked for, the list
 * of (length, flags) that the server gave, and one of our own.  The lists need not agree in extent lengths nor
 * in how far they reach; they are intersected here.
 *
 *   extents_ask()      what is going to be asked; forgets the answer before
 *   extents_record()   from the callbacks of NBD: keeps one context's list
 *   extents_check()    validates all of it; x->end then says how far the answer is good,
 *                      which is where the next question starts
 *   extents_next()     stretch by stretch, in order, without a gap, from x->off to x->end
 *
 * Pure but for the memory of the lists: 1 MiB for each, whatever the server sends.
 * Thread: one at a time; who asked owns it until the answer is complete.
 */
#ifndef NBD_MIRROR_EXTENTS_H
#define NBD_MIRROR_EXTENTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum extents_ctx {
    EXTENTS_ALLOC,
    EXTENTS_DIRTY,
    EXTENTS_OURS, /* no server's: what hot.h says about what the bitmap marks, or not */
    EXTENTS_CTXS
};

enum {
    /* Kept of one context's list.  QEMU sends at most that many (nbd/server.c,
     * NBD_MAX_BLOCK_STATUS_EXTENTS is 1 MiB / 8); of a longer list the rest is dropped,
     * and asked for again. */
    EXTENTS_MAX = 128 * 1024,
    EXTENTS_STATE_ZERO = 1 << 1,  /* base:allocation, NBD protocol: reads as zeroes */
    EXTENTS_STATE_DIRTY = 1 << 0, /* qemu:dirty-bitmap, QEMU docs/interop/nbd.txt */
    EXTENTS_OURS_LEAVE = 1 << 0,  /* where it is marked, leave it out */
    EXTENTS_OURS_ALSO = 1 << 1,   /* where it is not, copy it all the same */
};

enum piece_kind {
    PIECE_DATA, /* to be read at the source */
    PIECE_ZERO, /* reads as zeroes at the source, to be zeroed at the destination */
    PIECE_SKIP, /* nothing to do */
};

/* A stretch of the disk, in bytes. */
struct piece {
    uint64_t off;
    uint64_t len;
    enum piece_kind kind;
};

/* How to look at the answers of one pass. */
struct extents_rule {
    bool use[EXTENTS_CTXS]; /* which contexts are asked for; at least one */
    bool skip_zero; /* zero is PIECE_SKIP: the destination reads as zeroes there */
    uint32_t align; /* stretches begin and end at multiples of it (or at @size) */
    uint64_t size;  /* of the disk */
};

struct extents {
    uint64_t off, len; /* asked */
    uint64_t pos, end; /* extents_next() is here, and ends there */
    bool blind;        /* too little was told: the one block up to ->end is data */
    struct extents_list {
        uint32_t *pairs; /* length, flags; EXTENTS_MAX of them */
        uint32_t n;
        bool again; /* the server answered twice for this context */
        bool cut;   /* there were more than EXTENTS_MAX */
    } list[EXTENTS_CTXS];
    struct extents_at {
        uint32_t i[EXTENTS_CTXS];    /* which extent */
        uint32_t used[EXTENTS_CTXS]; /* bytes of it that are behind us */
    } at;
};

/* Errors: ERR_SYS out of memory. */
MUST_CHECK bool extents_init(struct extents *x, struct err *e);
void extents_fini(struct extents *x);

void extents_ask(struct extents *x, uint64_t off, uint64_t len);

/* @pairs: 2 * @n numbers, length and flags, as the server sent them; copied. */
void extents_record(struct extents *x, enum extents_ctx ctx, const uint32_t *pairs,
                    size_t n);

/* Errors: ERR_PROTO: no answer for a context or two, an extent of length 0, one that
 * begins behind what was asked or reaches past the end of the disk. */
MUST_CHECK bool extents_check(struct extents *x, const struct extents_rule *r,
                              struct err *e);

/* The next stretch, as long as the kind stays the same.  A block of @align bytes in which
 * kinds mix is PIECE_DATA: what the source reads as is always right to write, and nothing
 * ever needs to be read, modified and written.  false: there are no more. */
MUST_CHECK bool extents_next(struct extents *x, const struct extents_rule *r,
                             struct piece *out);

/* Take the first @len bytes of @run off it; it has as many. */
struct piece piece_take(struct piece *run, uint64_t len);

/* Take the first part of @run off it: at most up to the next multiple of @max, a power of
 * two. */
struct piece piece_cut(struct piece *run, uint64_t max);

#endif
