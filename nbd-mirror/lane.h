/* nbd-mirror/lane.h - one thread that copies from one source to one destination disk.
 *
 *            feed_take()                                     every piece done
 *   slot: FREE ------> data: READ --> run by run: WRITE or ZERO ------------> FREE
 *                      zero: ZERO ------------------------------------------> FREE
 *                             \-- refused --> WRITE of zeroes, part by part --^
 *
 * A lane has a fixed number of slots, each with a buffer and at most one command in
 * flight; nothing is allocated per request.  The first failure of any lane stops all.
 *
 * The large piece: QEMU takes a buffer from malloc(3) for each request.  glibc maps and
 * unmaps those above 128 KiB, and trims what is free at the top of its heap, so that each
 * request has all pages of its buffer faulted in and cleared anew: more work than the copy
 * itself.  When it frees a mapped buffer, though, it takes buffers up to that size from the
 * heap from then on, and trims only twice as much (mallopt(3), M_MMAP_THRESHOLD).  So a
 * lane may be told to make one large transfer, once: with stock qemu-nbd at both ends,
 * 2 GiB then take 2.4 s of CPU in all instead of 4.1.
 */
#ifndef NBD_MIRROR_LANE_H
#define NBD_MIRROR_LANE_H

#include <pthread.h>
#include <stdatomic.h>

#include "nbd-mirror/disk.h"
#include "nbd-mirror/extents.h"

struct cancel;
struct counters;
struct feed;

/* What the lanes of one pass have in common. */
struct copy {
    struct feed *feed;
    const struct cancel *cancel;
    struct counters *counters;
    bool dst_zero;        /* zeroes found in data need no write either */
    atomic_bool failed;   /* first_err is set; lanes stop */
    pthread_mutex_t lock; /* guards first_err */
    struct err first_err;
};

struct slot {
    struct disk_cmd cmd; /* first: a struct disk_cmd * is a struct slot * */
    struct piece piece;
    uint64_t at;       /* bytes of the piece that the destination has */
    bool plain;        /* zeroes go as data: the server would not zero */
    uint8_t *buf;      /* ->request_size bytes; of the large piece, ->large */
    struct slot *next; /* of the free ones */
};

/* Thread: what opens and closes the lane; during a pass the lane's own. */
struct lane {
    unsigned no;
    unsigned nslots;
    uint32_t request_size; /* bytes of a slot's buffer */
    uint64_t bytes_max;    /* no data is begun while so many bytes are in flight */
    uint32_t large_size;   /* bytes of the large piece; 0: there is none */
    int wake_fd;           /* eventfd(2): look at the feed and at ->failed again */
    struct disk *dst;      /* owned; NULL: lost, nothing more can be done */
    struct disk *src;      /* owned; of the pass */
    struct slot *slots, *free;
    uint8_t *bufs;
    uint8_t *large; /* buffer of the large piece; NULL: it is done, or there is none */
    uint64_t bytes; /* of the data pieces that have begun */
    struct disk_cmd ask;   /* the question of feed_ask(), when it is ours to put */
    struct disk_cmd flush; /* of frontier_ask(), on the first lane */
    struct copy *copy;     /* of the pass */
    pthread_t thread;
};

/* What a lane has, besides its destination. */
struct lane_cfg {
    unsigned nslots;
    uint32_t request_size, large_size; /* as in struct lane */
    uint64_t bytes_max;
};

/* Allocates the buffers.  @dst is taken over, on success. */
MUST_CHECK bool lane_init(struct lane *l, unsigned no, struct disk *dst,
                          const struct lane_cfg *cfg, struct err *e);
void lane_fini(struct lane *l);

/* Whether the destination connection is lost. */
bool lane_broken(const struct lane *l);

/* Give the destination up: close it, and whatever is in flight with it. */
void lane_abandon(struct lane *l);

/* Run one pass over @n lanes whose ->src has been set, each in a thread of its own, until
 * the feed ends or the first failure; closes their sources.  Afterwards nothing is in
 * flight: a lane whose destination did not answer in time has lost it.
 * Errors: the first one, of any lane.  Blocks. */
MUST_CHECK bool lanes_run(struct lane *lane, unsigned n, struct feed *feed,
                          bool dst_zero, const struct cancel *cancel,
                          struct counters *counters, struct err *e);

#endif
