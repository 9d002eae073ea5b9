/* src/agent/hold.h - the RAM stream on its way to the incoming QEMU, and the hold rule.
 *
 * The rule: until the release, QEMU gets the first ->limit bytes of the
 * stream and not one more.  The source raises the limit to what it had received while its
 * QEMU was certain not to have finished, so what is held includes the end of the stream:
 * without it no destination completes.  That is why a guest cannot come to run twice by a
 * cut, a crash or a delay, whatever else fails.
 *
 *   link --socket pair--> [ backlog ] --up to the limit--> QEMU's incoming socket
 *        <------------------ return path, at once --------
 *
 *   HELD --hold_release()--> FREE --both sides at their end--> OVER
 *     |                                                          ^
 *     +---- end of file, reset, QEMU gone, hold_stop() ----------+
 *           what is held is dropped
 *
 * Held: what the limit allows waits for QEMU, and beyond 8 MiB of it the source waits too;
 * what it forbids is always read, never sent back as pressure (QEMU would hang with its
 * lock held).  Free: everything is delivered, also after the end of the
 * link, then SHUT_WR.
 *
 * One thread per stream does all I/O.  The others are for any thread; hold_free() is last.
 */
#ifndef SNM_AGENT_HOLD_H
#define SNM_AGENT_HOLD_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct hold;

enum hold_state { HOLD_HELD, HOLD_FREE, HOLD_OVER, HOLD_STATES };

struct hold_cfg {
    const char *sock; /* where the incoming QEMU listens, once there is one; copied */
    const char *dir;  /* for the backlog's file; copied */
    int connect_ms;   /* how long the first byte waits for QEMU's socket; 0: 10 s */
    size_t memory;    /* of the backlog; 0: 32 MiB */
    uint64_t file; /* of the backlog; 0: 4 GiB; more that must be held is a failure */
};

/* Start.  *peer is the link's end, owned by the caller. */
MUST_CHECK bool hold_open(const struct hold_cfg *cfg, int *peer, struct hold **out,
                          struct err *e);

/* The first @bytes of the stream may pass.  A lower number than before changes nothing. */
void hold_limit(struct hold *h, uint64_t bytes);

/* Everything may pass, for good.  Again: true.  Errors: ERR_REFUSED the stream is over,
 * with why; then nothing beyond the limit has passed and nothing ever will. */
MUST_CHECK bool hold_release(struct hold *h, struct err *e);

/* Wait for the end of a released stream, as long as bytes move at least every @idle_ms. */
bool hold_wait(struct hold *h, int idle_ms);

/* End it now, released or not, and close both sides. */
void hold_stop(struct hold *h);
void hold_free(struct hold *h); /* hold_stop() first */

struct hold_stats {
    enum hold_state state;
    uint64_t limit, received, passed; /* bytes of the stream */
    struct err err;                   /* OVER: why; ERR_NONE for a good end */
};
void hold_stats(struct hold *h, struct hold_stats *out);

#endif
