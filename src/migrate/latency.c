#include "migrate/latency.h"

enum {
    WRITES_MIN = 4,     /* of a disk in an interval: fewer say little */
    STEP = 1000000,     /* bytes/s more after each quick interval, */
    STEP_PARTS = 10,    /* or this part of the cap, what is more */
    QUICK_PERCENT = 80, /* of the target: between it and the target nothing changes */
    STEADY_MS = 5000,   /* a longer interval is the doing of something else */
};

/* The mean of the disk with the slowest writes, ms; below 0: none wrote enough. */
static double slowest(const struct latency *l, const struct blkstats *now, size_t n)
{
    double worst = -1;

    for (size_t i = 0; i < n; i++) {
        const uint64_t ops = now[i].writes - l->then[i].writes;
        const double ms = (double)(now[i].write_ns - l->then[i].write_ns) / 1e6;

        if (now[i].writes < l->then[i].writes || now[i].write_ns < l->then[i].write_ns)
            continue; /* counted anew */
        if (ops >= WRITES_MIN && ms / (double)ops > worst)
            worst = ms / (double)ops;
    }
    return worst;
}

static void less(struct latency *l, double part, double sent)
{
    const double from = l->cap != 0 && (double)l->cap < sent ? (double)l->cap : sent;
    const double to = from * (part > 0.5 ? part : 0.5);

    if (sent < LATENCY_FLOOR)
        return; /* we are not what makes them slow */
    if (l->cap != 0 && to > (double)l->cap)
        return;
    l->cap = to > LATENCY_FLOOR ? (uint64_t)to : LATENCY_FLOOR;
}

static void more(struct latency *l, double sent)
{
    /* What is not used tells nothing of what more would do. */
    if (l->cap == 0 || sent < (double)l->cap / 2)
        return;
    l->cap += l->cap / STEP_PARTS > STEP ? l->cap / STEP_PARTS : STEP;
}

uint64_t latency_step(struct latency *l, int64_t now_ms, const struct blkstats *now,
                      size_t n, uint64_t target_ms, double sent)
{
    const int64_t age = now_ms - l->then_ms;
    const bool known = l->then_ms != 0 && age <= STEADY_MS;

    if (target_ms == 0) {
        *l = (struct latency){ .worst_ms = -1 };
        return 0;
    }
    if (l->then_ms != 0 && age < LATENCY_EVERY_MS)
        return l->cap;
    const double worst = known ? slowest(l, now, n) : -1;

    for (size_t i = 0; i < n; i++)
        l->then[i] = now[i];
    l->then_ms = now_ms;
    if (!known)
        return l->cap;
    l->worst_ms = worst;
    if (worst > (double)target_ms)
        less(l, (double)target_ms / worst, sent);
    else if (worst * 100 <= (double)target_ms * QUICK_PERCENT)
        more(l, sent);
    return l->cap;
}
