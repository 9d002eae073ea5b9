/* src/migrate/relay.h - carries RAM from the source QEMU into the tunnel, and counts it.
 *
 * Full duplex.  Toward the tunnel it stops reading while more than ->window bytes are under
 * way, that is received here and not yet by the agent: what fills the buffers between when
 * the guest stops is paid for in the pause, and QEMU measures the rate that it really has.
 * While ->drain is set it always reads (up to a bound), because QEMU holds its big lock while
 * it writes the end of the stream and must never wait for us there.
 */
#ifndef SNM_MIGRATE_RELAY_H
#define SNM_MIGRATE_RELAY_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/cancel.h"

enum {
    RELAY_WINDOW = 2 << 20, /* until the rate is known */
    RELAY_WINDOW_MIN = 256 << 10,
    RELAY_WINDOW_MAX = 64 << 20
};

struct relay {
    atomic_uint_fast64_t received; /* bytes read from QEMU: counted before they go on */
    atomic_uint_fast64_t acked;    /* of those, received by the agent */
    atomic_uint_fast64_t window; /* at most so many between the two; 0: RELAY_WINDOW */
    atomic_bool drain;
};

/* Pump until both directions have ended, or @stop.  Owns neither descriptor; shuts both
 * down when it returns.  Thread: the caller's.  Errors: ERR_SYS; ERR_CANCELLED. */
MUST_CHECK bool relay_run(struct relay *r, int qemu, int tunnel,
                          const struct cancel *stop, struct err *e);

#endif
