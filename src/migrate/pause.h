/* src/migrate/pause.h - what the pause consists of, step by step; pure.
 *
 * Moments of the source's monotonic clock are noted as they come; the steps are the times
 * between them, in milliseconds whose sum is the whole pause.
 */
#ifndef SNM_MIGRATE_PAUSE_H
#define SNM_MIGRATE_PAUSE_H

#include <stdint.h>

enum pause_step {
    PAUSE_SUSPEND, /* the order to stop, until the guest stands still; where QEMU stopped it
                      by itself: what was under way then, to its end */
    PAUSE_ROUND,  /* the last round: rotation, export, copying */
    PAUSE_FLUSH,  /* what it wrote is on the destination's disks, and we disconnected */
    PAUSE_CLOSE,  /* the writers have ended and were reaped, the images are synced */
    PAUSE_MEMORY, /* the rest of RAM, as far as the disks did not hide it */
    PAUSE_RELEASE, /* RELEASE: both journals, its answer */
    PAUSE_LOAD,    /* until QEMU there has loaded everything, as QEMU here learned it */
    PAUSE_DEATH,   /* until QEMU here was dead */
    PAUSE_RESUME,  /* COMMIT, until it was answered: the guest runs */
    PAUSE_STEPS
};
const char *pause_step_name(enum pause_step s); /* "suspend", "last_round", ... */

/* When each step ended, ns; 0: not known, it then counts to the next one. */
struct pause_marks {
    int64_t begun;
    int64_t end[PAUSE_STEPS];
};

struct pause {
    int64_t ms[PAUSE_STEPS];
    int64_t total_ms; /* their sum; -1: the guest was not paused, or did not arrive */
};

/* A mark earlier than the one before it counts as simultaneous. */
void pause_of(const struct pause_marks *m, struct pause *out);

#endif
