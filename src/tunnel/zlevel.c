#include "tunnel/zlevel.h"

#include "tunnel/link.h"

/* Level 0 of the table: stored, for links faster than any compression. */
static const int levels[] = { 0, -5, -3, -1, 1, 2, 3, 5, 7, 9 };

enum {
    STEPS = sizeof levels / sizeof levels[0],
    FIRST_STEP = 4,            /* level 1 */
    WINDOW_NS = 100 * 1000000, /* of work between two decisions, */
    WINDOW_BYTES = 64 << 20,   /* or so many bytes, whichever comes first */
    BLOCKED_PERCENT = 40,      /* of the busy time: the link is the bottleneck */
    FREE_PERCENT = 10,         /* less than that: the CPU is */
    IDLE_PERCENT = 66,         /* of all time: the source is, leave it */
    WORSE_PERCENT = 95,        /* of the speed before: the step was wrong */
    HOLD_FIRST = 8,
    HOLD_MAX = 256,     /* windows */
    DENSE_PERCENT = 97, /* of the plain size: did not shrink */
    DENSE_CHUNKS = 4,   /* in a row: pass them as they are */
    SKIP_FIRST = 16,
    SKIP_MAX = 128, /* chunks */
};

void zlevel_init(struct zlevel *z, int level)
{
    *z = (struct zlevel){ .adapts = level == ZSTD_AUTO,
                          .level = level == ZSTD_AUTO ? levels[FIRST_STEP] : level,
                          .step = FIRST_STEP,
                          .backoff = HOLD_FIRST,
                          .skips = SKIP_FIRST };
}

bool zlevel_raw(struct zlevel *z)
{
    if (z->adapts && z->step == 0)
        return true;
    if (z->skip == 0)
        return false;
    z->skip--;
    return true;
}

static void density(struct zlevel *z, uint64_t plain, uint64_t packed)
{
    if (packed * 100 <= plain * DENSE_PERCENT) {
        z->dense = 0;
        z->skips = SKIP_FIRST;
        return;
    }
    if (++z->dense < DENSE_CHUNKS)
        return;
    /* One sample after each run from now on: dense stays at the limit. */
    z->dense = DENSE_CHUNKS - 1;
    z->skip = z->skips;
    if (z->skips < SKIP_MAX)
        z->skips *= 2;
}

static void step(struct zlevel *z, int by)
{
    z->step += by;
    z->level = levels[z->step];
    z->moved = by;
}

/* What the window asks for: -1 faster, +1 smaller, 0 stay. */
static int wish(const struct zlevel *z)
{
    const int64_t busy = z->comp_ns + z->blocked_ns;

    if (z->blocked_ns * 100 > busy * BLOCKED_PERCENT)
        return z->step < STEPS - 1 ? 1 : 0;
    if (z->blocked_ns * 100 < busy * FREE_PERCENT)
        return z->step > 0 ? -1 : 0;
    return 0;
}

static void decide(struct zlevel *z)
{
    const int64_t all = z->comp_ns + z->blocked_ns + z->idle_ns;
    const double speed = (double)z->plain / (double)(all > 0 ? all : 1);
    const int moved = z->moved;

    z->moved = 0;
    if (z->hold > 0 && --z->hold == 0)
        z->refused = 0;
    if (z->idle_ns * 100 > all * IDLE_PERCENT)
        return;
    if (moved != 0 && speed * 100 < z->before * WORSE_PERCENT) {
        step(z, -moved);
        z->moved = 0;
        z->refused = moved;
        z->hold = z->backoff;
        if (z->backoff < HOLD_MAX)
            z->backoff *= 2;
        return;
    }
    if (moved != 0)
        z->backoff = HOLD_FIRST;
    z->before = speed;

    const int by = wish(z);
    if (by != 0 && by != z->refused)
        step(z, by);
}

void zlevel_chunk(struct zlevel *z, uint64_t plain, uint64_t packed, int64_t comp_ns,
                  int64_t blocked_ns, int64_t idle_ns)
{
    if (packed != 0)
        density(z, plain, packed);
    if (!z->adapts)
        return;
    z->plain += plain;
    z->comp_ns += comp_ns;
    z->blocked_ns += blocked_ns;
    z->idle_ns += idle_ns;
    if (z->comp_ns + z->blocked_ns + z->idle_ns < WINDOW_NS && z->plain < WINDOW_BYTES)
        return;
    /* A long wait for input says nothing about either; neither do chunks that were not
     * compressed because they are dense. */
    if (z->dense < DENSE_CHUNKS - 1 || z->step == 0)
        decide(z);
    z->plain = 0;
    z->comp_ns = z->blocked_ns = z->idle_ns = 0;
}
