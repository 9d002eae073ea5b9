/* src/migrate/latency.h - how fast copying may be for the guest's writes to stay quick; pure.
 *
 * What the guest's writes took in each interval, and what was sent meanwhile, go in; the
 * most that may be sent comes out.  Too slow: less, in proportion, at most halved at once.
 * Quick, or no writes: a little more, as long as what is allowed is used.
 */
#ifndef SNM_MIGRATE_LATENCY_H
#define SNM_MIGRATE_LATENCY_H

#include "virt/blkstats.h"

enum {
    LATENCY_EVERY_MS = 500,  /* an interval, at least */
    LATENCY_FLOOR = 1000000, /* bytes/s: copying goes on however slow the disk is */
};

/* All zero at the start. */
struct latency {
    struct blkstats then[DOMXML_DISKS_MAX];
    int64_t then_ms; /* 0: nothing seen yet */
    double worst_ms; /* of a disk, in the newest interval with writes; < 0: none */
    uint64_t cap;    /* bytes/s; 0: none */
};

/* @now: counts since the guest's start, of @n disks.  @sent: bytes/s on the wire.  Returns
 * ->cap.  @target_ms 0: whatever they take. */
uint64_t latency_step(struct latency *l, int64_t now_ms, const struct blkstats *now,
                      size_t n, uint64_t target_ms, double sent);

#endif
