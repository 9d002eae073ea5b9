#include "base/rate.h"

enum {
    BURST_PARTS = 50, /* of a second: a single write is 20 ms */
    DEPTH_PARTS = 20, /* of a second in the bucket: a thread that is 50 ms late catches
                            up; with a write on top, 2 s never see more than 3.5 % too much */
    BURST_MIN = 4 << 10, /* bytes; below it frame headers would cost more than 1 % */
    NS = 1000000000,
};

uint64_t rate_burst(const struct rate *r)
{
    if (r->per_s == 0)
        return UINT64_MAX;
    return r->per_s / BURST_PARTS > BURST_MIN ? r->per_s / BURST_PARTS : BURST_MIN;
}

/* Bytes that @ns let through.  Seconds and the rest apart: no overflow below 18 GB/s. */
static int64_t earned(uint64_t per_s, int64_t ns)
{
    return (int64_t)(per_s * (uint64_t)(ns / NS) + per_s * (uint64_t)(ns % NS) / NS);
}

static int64_t depth(const struct rate *r)
{
    const uint64_t burst = rate_burst(r);

    return (int64_t)(r->per_s / DEPTH_PARTS > burst ? r->per_s / DEPTH_PARTS : burst);
}

static void refill(struct rate *r, int64_t now_ns)
{
    const int64_t full = depth(r);
    const int64_t add = earned(r->per_s, now_ns - r->at_ns);

    if (add >= full - r->tokens) {
        r->tokens = full;
        r->at_ns = now_ns;
        return;
    }
    /* The clock moves by what whole bytes took, no further: a limit that is asked after
     * every few bytes would lose the fractions, and with them up to half its speed. */
    r->tokens += add;
    r->at_ns += (int64_t)((double)add * NS / (double)r->per_s);
}

void rate_set(struct rate *r, uint64_t per_s, int64_t now_ns)
{
    enum { MAX_PER_S = INT32_MAX }; /* 2 GiB/s: above it nothing here is the limit */
    const uint64_t old = r->per_s;

    if (old != 0)
        refill(r, now_ns);
    else
        r->tokens = 0;
    r->per_s = per_s > MAX_PER_S ? 0 : per_s;
    r->at_ns = now_ns;
    if (r->per_s < old && r->tokens < 0)
        r->tokens = (int64_t)((double)r->tokens * (double)r->per_s / (double)old);
    if (r->per_s != 0 && r->tokens > depth(r))
        r->tokens = depth(r);
}

void rate_take(struct rate *r, uint64_t bytes, int64_t now_ns)
{
    if (r->per_s == 0)
        return;
    refill(r, now_ns);
    r->tokens -= (int64_t)bytes;
}

int64_t rate_wait_ns(struct rate *r, int64_t now_ns)
{
    if (r->per_s == 0)
        return 0;
    refill(r, now_ns);
    if (r->tokens > 0)
        return 0;
    return (int64_t)((double)(1 - r->tokens) * NS / (double)r->per_s) + 1;
}
