#include "migrate/pause.h"

#include <assert.h>
#include <stddef.h>

#include "base/clock.h"

/* clang-format off */
static const char *const names[] = {
    [PAUSE_SUSPEND] = "suspend", [PAUSE_ROUND] = "last_round", [PAUSE_FLUSH] = "flush",
    [PAUSE_CLOSE] = "close", [PAUSE_MEMORY] = "memory", [PAUSE_RELEASE] = "release",
    [PAUSE_LOAD] = "load", [PAUSE_DEATH] = "source_dead", [PAUSE_RESUME] = "resume",
};
/* clang-format on */
static_assert(sizeof names / sizeof names[0] == PAUSE_STEPS,
              "names[] and enum pause_step differ");

const char *pause_step_name(enum pause_step s)
{
    return names[s];
}

void pause_of(const struct pause_marks *m, struct pause *out)
{
    int64_t at = 0; /* ms of the pause that are spent */

    *out = (struct pause){ .total_ms = -1 };
    if (m->begun == 0 || m->end[PAUSE_RESUME] == 0)
        return;
    for (size_t i = 0; i < PAUSE_STEPS; i++) {
        const int64_t end = (m->end[i] - m->begun) / NS_PER_MS;

        if (m->end[i] == 0 || end <= at)
            continue;
        out->ms[i] = end - at;
        at = end;
    }
    out->total_ms = at;
}
