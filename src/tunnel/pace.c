#include "tunnel/pace.h"

#include <assert.h>

enum {
    START = 1 << 20,         /* bytes, while nothing was measured */
    LEAST = 256 << 10,       /* bytes: below it ssh's own packets would matter */
    QUEUE_NS = 50 * 1000000, /* what waits in front of a byte, at most about that */
    PARTS = 8,               /* probes in what may be under way */
    STEP_MIN = 32 << 10,     /* bytes between two probes, at least */
};
static const int64_t window_ns = 10ll * 1000000000;
static const int64_t span_ns = 100 * 1000000;

static double fastest(const struct pace *p)
{
    return p->speed[0] > p->speed[1] ? p->speed[0] : p->speed[1];
}

int64_t pace_trip(const struct pace *p)
{
    if (p->trip[0] == 0 || p->trip[1] == 0)
        return p->trip[0] + p->trip[1];
    return p->trip[0] < p->trip[1] ? p->trip[0] : p->trip[1];
}

uint64_t pace_speed(const struct pace *p)
{
    return (uint64_t)(fastest(p) * 1e9);
}

uint64_t pace_limit(const struct pace *p)
{
    const double trip = (double)pace_trip(p) * 1.25 + QUEUE_NS;
    const double limit = fastest(p) * trip;

    if (fastest(p) == 0)
        return START;
    return limit > LEAST ? (uint64_t)limit : LEAST;
}

bool pace_full(const struct pace *p)
{
    return p->next - p->oldest >= PACE_PROBES;
}

bool pace_wants_probe(const struct pace *p, uint64_t pos)
{
    const uint64_t part = pace_limit(p) / PARTS;

    if (pace_full(p))
        return false;
    if (p->next == 0)
        return pos > 0;
    const unsigned last = (unsigned)((p->next - 1) % PACE_PROBES);
    const uint64_t since = pos - p->probe[last].pos;
    /* What nothing asks for would count as under way for ever. */
    if (p->oldest == p->next || p->probe_now)
        return since > 0;
    return since >= (part > STEP_MIN ? part : STEP_MIN);
}

uint64_t pace_probe(struct pace *p, uint64_t pos, int64_t now_ns)
{
    const unsigned i = (unsigned)(p->next % PACE_PROBES);

    assert(!pace_full(p)); /* or its answer could be the oldest one's */
    if (p->span_ns == 0)
        p->span_ns = now_ns;
    p->probe[i].pos = pos;
    p->probe[i].ns = now_ns;
    p->probe_now = false;
    return p->next++;
}

static void window_turn(struct pace *p, int64_t now_ns)
{
    if (p->window_ns == 0)
        p->window_ns = now_ns;
    if (now_ns - p->window_ns < window_ns)
        return;
    p->speed[1] = p->speed[0];
    p->trip[1] = p->trip[0];
    p->speed[0] = 0;
    p->trip[0] = 0;
    p->emptying = true;
    p->window_ns = now_ns;
}

/* @pos bytes have arrived. */
static void measure(struct pace *p, uint64_t pos, int64_t now_ns)
{
    const int64_t ns = now_ns - p->span_ns;
    const double speed = (double)(pos - p->span_pos) / (double)ns;

    if (ns < span_ns)
        return;
    if (speed > p->speed[0])
        p->speed[0] = speed;
    p->span_pos = pos;
    p->span_ns = now_ns;
}

bool pace_answer(struct pace *p, uint64_t number, int64_t now_ns)
{
    const unsigned i = (unsigned)(number % PACE_PROBES);

    if (number < p->oldest || number >= p->next)
        return false;
    const int64_t trip = now_ns - p->probe[i].ns;

    window_turn(p, now_ns);
    measure(p, p->probe[i].pos, now_ns);
    if (trip > 0 && (p->trip[0] == 0 || trip < p->trip[0]))
        p->trip[0] = trip;
    p->oldest = number + 1;
    p->arrived = p->probe[i].pos;
    return true;
}

bool pace_open(struct pace *p, uint64_t pos)
{
    const uint64_t away = pos - p->arrived;

    if (p->emptying) {
        /* Empty: no more than the network itself holds. */
        const double held = fastest(p) * (double)pace_trip(p) / 2;

        if ((double)away > held && away > LEAST / PARTS)
            return false;
        p->emptying = false;
        p->probe_now = true;
    }
    return away < pace_limit(p);
}
