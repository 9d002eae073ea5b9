#include "tunnel/zlevel.h"

#include "tunnel/link.h"

/* Level 0 of the table: stored, for links faster than any compression. */
static const int levels[] = { 0, -5, -3, -1, 1, 2, 3, 5, 7, 9 };

enum {
    STEPS = sizeof levels / sizeof levels[0],
    FIRST_STEP = 4,            /* level 1 */
    WINDOW_NS = 100 * 1000000, /* of time between two decisions, */
    WINDOW_BYTES = 64 << 20,   /* or so many bytes, whichever comes first */
    BLOCKED_PERCENT = 40,      /* of the time with work: the link is the bottleneck */
    FREE_PERCENT = 10,         /* less than that: the CPU is */
    IDLE_PERCENT = 66,         /* of all time: the source is, leave it */
    HOLD_FIRST = 8,            /* windows */
    HOLD_MAX = 256,
    DENSE_PERCENT = 97, /* of the plain size: did not shrink */
    DENSE_CHUNKS = 4,   /* in a row: pass them as they are */
    SKIP_FIRST = 4,     /* chunks; a sample of dense data is cheap, */
    SKIP_MAX = 16,      /* missing what would shrink is not */
    WORTH_PERCENT = 50, /* shrinks so far: is never stored to save CPU */
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
    if (z->skip == 0)
        return false;
    z->skip--;
    return true;
}

static void step(struct zlevel *z, int by)
{
    z->step += by;
    if (z->step > 0)
        z->level = levels[z->step];
    z->moved = by;
}

static bool shrinks(uint64_t plain, uint64_t packed, unsigned percent)
{
    return packed * 100 <= plain * percent;
}

/* What a compressed chunk says about the next ones. */
static void sample(struct zlevel *z, uint64_t plain, uint64_t packed)
{
    const bool store = z->adapts && z->step == 0;

    if (store && shrinks(plain, packed, WORTH_PERCENT)) {
        step(z, 1);
        return;
    }
    if (shrinks(plain, packed, DENSE_PERCENT)) {
        z->dense = 0;
        z->skips = SKIP_FIRST;
        z->skip = store ? SKIP_MAX : 0;
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

/* What the window asks for: -1 faster, +1 smaller, 0 stay. */
static int wish(const struct zlevel *z)
{
    const int64_t work = z->busy_ns + z->blocked_ns;

    if (z->blocked_ns * 100 > work * BLOCKED_PERCENT)
        return z->step < STEPS - 1 ? 1 : 0;
    if (z->blocked_ns * 100 >= work * FREE_PERCENT || z->step == 0)
        return 0;
    if (z->step == 1 && shrinks(z->sampled, z->packed, WORTH_PERCENT))
        return 0;
    return -1;
}

static void decide(struct zlevel *z)
{
    const int64_t all = z->busy_ns + z->blocked_ns + z->idle_ns;
    const int by = wish(z), moved = z->moved;

    if (z->hold > 0 && --z->hold == 0)
        z->refused = 0;
    if (z->idle_ns * 100 > all * IDLE_PERCENT || z->dense >= DENSE_CHUNKS - 1)
        return;
    z->moved = 0;
    if (moved != 0 && by == -moved) {
        step(z, by);
        z->moved = 0;
        z->refused = moved;
        z->hold = z->backoff;
        if (z->backoff < HOLD_MAX)
            z->backoff *= 2;
    } else if (by != 0 && by != z->refused) {
        if (moved != 0)
            z->backoff = HOLD_FIRST;
        step(z, by);
    }
    if (z->step == 0 && z->skip == 0)
        z->skip = SKIP_MAX;
}

void zlevel_chunk(struct zlevel *z, uint64_t plain, uint64_t packed, int64_t busy_ns,
                  int64_t blocked_ns, int64_t idle_ns)
{
    if (packed != 0)
        sample(z, plain, packed);
    if (!z->adapts)
        return;
    z->plain += plain;
    z->sampled += packed != 0 ? plain : 0;
    z->packed += packed;
    z->busy_ns += busy_ns;
    z->blocked_ns += blocked_ns;
    z->idle_ns += idle_ns;
    if (z->busy_ns + z->blocked_ns + z->idle_ns < WINDOW_NS && z->plain < WINDOW_BYTES)
        return;
    decide(z);
    z->plain = z->sampled = z->packed = 0;
    z->busy_ns = z->blocked_ns = z->idle_ns = 0;
}
