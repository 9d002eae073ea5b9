/* src/migrate/controller.h - when to copy another round, start RAM, switch, give up; pure.
 *
 * Samples in, decisions out: no clock, no I/O.  Bytes, bytes/s, milliseconds of any
 * monotonic clock.
 */
#ifndef SNM_MIGRATE_CONTROLLER_H
#define SNM_MIGRATE_CONTROLLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum control_do {
    CONTROL_ROUND,  /* copy another round of dirty blocks */
    CONTROL_RAM,    /* start the memory pre-copy */
    CONTROL_WAIT,   /* RAM is under way; a disk round would gain nothing yet */
    CONTROL_SWITCH, /* the predicted pause fits the budget */
    CONTROL_STALLED /* no progress towards the budget for too long */
};

struct control_cfg {
    uint64_t budget_ms;
    uint64_t fixed_ms;    /* what a switch costs with nothing left to copy */
    uint64_t patience_ms; /* without a new best prediction for that long: stalled */
};

struct control_sample {
    int64_t now_ms;
    uint64_t disk_dirty; /* all disks, waiting */
    double disk_rate;    /* that a round reached, 0 unknown */
    double disk_dirty_rate;
    bool ram_running;
    uint64_t ram_remaining;
    double ram_rate; /* 0 unknown */
    double ram_dirty_rate;
    int64_t ram_since_sync_ms; /* since QEMU last looked for dirty pages */
    bool guest_stopped;        /* QEMU stopped the guest by itself */
};

struct control {
    struct control_cfg cfg;
    int64_t best_ms;    /* the best prediction so far, -1: none */
    int64_t best_at_ms; /* and when that was */
};

void control_init(struct control *c, const struct control_cfg *cfg);

/* The pause if switched now, ms; -1 while a rate is not known. */
int64_t control_predict(const struct control *c, const struct control_sample *s);

/* Decide; the reason, with its numbers, goes to @why (at least 160 bytes). */
enum control_do control_step(struct control *c, const struct control_sample *s,
                             char *why, size_t size);

#endif
