/* src/migrate/probe.h - a rehearsal: what the disks hold is sent, and thrown away there.
 *
 * Pieces spread over the data of the disks are read through QEMU's exports and sent through
 * channels of the tunnel that the agent drains, compressed and limited as in a move.  What
 * it does not measure is how fast the disks at the destination take it.
 */
#ifndef SNM_MIGRATE_PROBE_H
#define SNM_MIGRATE_PROBE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct move;

struct probe {
    uint64_t data; /* bytes that base:allocation calls data, without those found zero */
    double rate;   /* plain bytes/s that got through */
    double ratio;  /* of those, for one byte on the wire */
};

/* Exports of all disks must be there (copies[i].export_name).  Takes @ms, and up to 5 s to
 * list the data of the disks.  Errors: those of NBD and the link; ERR_CANCELLED.
 * Thread: main. */
MUST_CHECK bool probe_run(struct move *m, int ms, struct probe *out, struct err *e);

/* The same with @len bytes of RAM, over and over, on one channel as RAM has. */
MUST_CHECK bool probe_ram(struct move *m, const uint8_t *ram, size_t len, int ms,
                          struct probe *out, struct err *e);

#endif
