/* src/migrate/relay.h - carries RAM from the source QEMU into the tunnel, and counts it.
 *
 * Full duplex.  Toward the tunnel it normally stops reading when a few MiB are waiting, so
 * that QEMU measures the link's rate; while ->drain is set it always reads (up to a bound),
 * because QEMU holds its big lock while it writes the end of the stream and must never wait
 * for us there (DESIGN.md 3.10, FACTS.md B4).
 */
#ifndef SNM_MIGRATE_RELAY_H
#define SNM_MIGRATE_RELAY_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/cancel.h"

struct relay {
    atomic_uint_fast64_t received; /* bytes read from QEMU: counted before they go on */
    atomic_uint_fast64_t passed;   /* of those, written to the tunnel */
    atomic_bool drain;
};

/* Pump until both directions have ended, or @stop.  Owns neither descriptor; shuts both
 * down when it returns.  Thread: the caller's.  Errors: ERR_SYS; ERR_CANCELLED. */
MUST_CHECK bool relay_run(struct relay *r, int qemu, int tunnel,
                          const struct cancel *stop, struct err *e);

#endif
