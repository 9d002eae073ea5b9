/* nbd-mirror/side.h - the connections to one side. */
#ifndef NBD_MIRROR_SIDE_H
#define NBD_MIRROR_SIDE_H

#include "nbd-mirror/disk-nbd.h"
#include "nbd-mirror/mirror.h"

struct disk;

/* What is wanted of them. */
struct side_want {
    const struct mirror_side *side;
    struct disk_nbd_cfg nbd; /* ->timeout_ms is set here */
    uint64_t size;           /* the export must have it; MIRROR_SIZE_DST: any */
};

/* Connect once, and where the server lets several connections share their writes, up to
 * @max times.  *n: how many there are, at least one.  @w->size is then known.
 * Errors: of the dial, of disk_nbd_open(), ERR_PROTO another size, ERR_CANCELLED.
 * Blocks: 30 s at most. */
MUST_CHECK bool side_connect(struct side_want *w, unsigned max, struct disk **disk,
                             unsigned *n, struct err *e);

/* The largest power of two that is at most @size, itself one, and @max; neither is 0. */
uint32_t side_size_limit(uint32_t size, uint32_t max);

/* How many connections are worth having on this machine: the servers need a CPU each, and
 * another one is worth one of its own: on two CPUs a second one costs a tenth of all CPU
 * time and gains nothing. */
unsigned side_connections(void);

#endif
