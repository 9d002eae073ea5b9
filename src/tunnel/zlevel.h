/* src/tunnel/zlevel.h - which zstd level keeps CPU and link equally busy; pure.
 *
 * A compressing thread tells for each chunk what time it spent on it, what it was blocked
 * by a full pipe, and what it waited for input.  Much blocked: the link is the bottleneck,
 * a higher level makes fewer bytes.  Hardly blocked: the CPU is, a lower level makes more.
 * A step that turns the one into the other is taken back, and not tried again for a while.
 *
 * Data that does not shrink is passed as it is (zlevel_raw()), with a sample now and then.
 */
#ifndef SNM_TUNNEL_ZLEVEL_H
#define SNM_TUNNEL_ZLEVEL_H

#include <stdbool.h>
#include <stdint.h>

struct zlevel {
    bool adapts;
    int level; /* for ZSTD_c_compressionLevel */
    int step;  /* index of the level in the table, 0: store only; if adapts */

    uint64_t plain, sampled, packed; /* bytes in this window; of those compressed */
    int64_t busy_ns, blocked_ns, idle_ns; /* of this window */

    int moved;        /* the newest step, while its effect is not known: -1, 0, +1 */
    int refused;      /* the direction that was wrong, 0: none */
    unsigned hold;    /* windows until it may be tried again */
    unsigned backoff; /* length of the next such time */

    unsigned dense; /* chunks in a row that did not shrink */
    unsigned skip;  /* chunks to pass as they are before the next sample */
    unsigned skips; /* length of the next such run */
};

/* @level: -5 to 19, or ZSTD_AUTO (tunnel/link.h). */
void zlevel_init(struct zlevel *z, int level);

/* Whether the next chunk is to be stored; to be asked once for each chunk. */
bool zlevel_raw(struct zlevel *z);

/* A chunk of @plain bytes is on its way.  @packed: its compressed size, 0 when stored.
 * @busy_ns: for all of it, without the two others. */
void zlevel_chunk(struct zlevel *z, uint64_t plain, uint64_t packed, int64_t busy_ns,
                  int64_t blocked_ns, int64_t idle_ns);

#endif
