#include "migrate/forecast.h"

#include <math.h>

#include "base/clock.h"

enum {
    LOOPS_MAX = 2000, /* rounds, and passes over RAM, that are played through */
    RAM_FROM_MS =
        100, /* RAM starts when a round of the disks fits the budget, or this */
    ROUND_GAP_MS = 50,       /* between two rounds, */
    ROUND_MS = 40,           /* and what one costs besides its bytes */
    PATIENCE_MS = 180000,    /* as the controller's: without progress for so long */
    DOWNTIME_MAX_MS = 60000, /* as --max-downtime */
    RATE_MAX = 256,          /* times the rate: more is no advice */
};

double forecast_dirty(const struct forecast_curve *c, double s)
{
    if (c->rate <= 0 || s <= 0)
        return 0;
    return c->set > 0 ? -c->set * expm1(-c->rate * s / c->set) : c->rate * s;
}

/* With a bend of @k per second: the best set, and how badly it fits. */
static double fit_set(const struct forecast_point *p, size_t n, double k, double *error)
{
    double df = 0, ff = 0, dd = 0;

    for (size_t i = 0; i < n; i++) {
        const double f = -expm1(-k * p[i].s);

        df += p[i].bytes * f;
        ff += f * f;
        dd += p[i].bytes * p[i].bytes;
    }
    const double set = ff > 0 ? df / ff : 0;
    *error = dd - set * df;
    return set;
}

void forecast_fit(struct forecast_curve *c, const struct forecast_point *p, size_t n,
                  double most)
{
    const double k_min = 1e-4, k_max = 20, step = 1.1; /* per second */
    double best = INFINITY, k_best = k_min, error;

    *c = (struct forecast_curve){ 0 };
    /* The straightest first: a bend has to fit clearly better, noise is no working set. */
    for (double k = k_min; n > 0 && k < k_max; k *= step) {
        fit_set(p, n, k, &error);
        if (error < best * 0.98 - 1) {
            best = error;
            k_best = k;
        }
    }
    const double set = n > 0 ? fit_set(p, n, k_best, &error) : 0;
    if (set <= 0)
        return;
    c->rate = set * k_best;
    c->set = most > 0 && set > most ? most : set;
}

/* --- playing it through --- */

struct play {
    const struct forecast_in *in;
    struct forecast *out;
    double s; /* since the start */
    double best, best_at;
};

static double fixed_s(const struct forecast_in *in)
{
    return (double)in->switch_ms / MS_PER_S;
}

static double budget_s(const struct forecast_in *in)
{
    return (double)in->budget_ms / MS_PER_S;
}

/* false: no better for longer than patience lasts. */
static bool progresses(struct play *p, double measure)
{
    if (measure < p->best * 0.95) {
        p->best = measure;
        p->best_at = p->s;
    }
    return (p->s - p->best_at) * MS_PER_S <= PATIENCE_MS;
}

/* A guest that outruns the link has no end: figures stop where nobody reads them. */
static uint64_t whole(double v)
{
    const double most = 1e18;

    return v > 0 ? (uint64_t)fmin(v, most) : 0;
}

static void copied_disk(struct play *p, double bytes)
{
    p->out->disk_bytes += whole(bytes);
    p->out->sent += whole(bytes / p->in->disk_ratio);
}

static void copied_ram(struct play *p, double bytes)
{
    p->out->ram_bytes += whole(bytes);
    p->out->sent += whole(bytes / p->in->ram_ratio);
}

/* The bulk, and rounds until one is short enough for RAM to start. */
static bool play_disks(struct play *p)
{
    const struct forecast_in *const in = p->in;
    const double limit = fmax(budget_s(in), (double)RAM_FROM_MS / MS_PER_S);
    double took = in->disk_bytes > 0 ? (double)in->disk_bytes / in->disk_rate : 0;

    p->s += (double)in->start_ms / MS_PER_S + took;
    p->best = INFINITY;
    copied_disk(p, (double)in->disk_bytes);
    for (unsigned i = 0; i < LOOPS_MAX; i++) {
        const double dirty = forecast_dirty(&in->disk, took);
        const double round = dirty / in->disk_rate;

        took = round + (double)(ROUND_GAP_MS + ROUND_MS) / MS_PER_S;
        p->s += took;
        p->out->rounds++;
        copied_disk(p, dirty);
        if (forecast_dirty(&in->disk, took) / in->disk_rate <= limit)
            return true;
        if (!progresses(p, round))
            return false;
    }
    return false;
}

/* How rounds go on beside RAM. */
struct beside {
    double every; /* seconds from one to the next */
    double dirty; /* bytes of each */
    double share; /* of the link's time that they take */
};

/* Each copies what was dirtied during the one before: after a few they are all alike, or
 * ever longer.  One that would not shorten the pause much is left out. */
static struct beside rounds_beside(const struct forecast_in *in)
{
    const double gap = (double)(ROUND_GAP_MS + ROUND_MS) / MS_PER_S;
    double every = gap;

    for (unsigned i = 0; i < LOOPS_MAX && every < (double)PATIENCE_MS / MS_PER_S; i++) {
        const double next = gap + forecast_dirty(&in->disk, every) / in->disk_rate;

        if (next < every * 1.001)
            break;
        every = next;
    }
    while (forecast_dirty(&in->disk, every) / in->disk_rate < budget_s(in) / 4 &&
           every < (double)PATIENCE_MS / MS_PER_S)
        every *= 1.25;

    const double dirty = forecast_dirty(&in->disk, every);
    return (struct beside){ every, dirty, dirty / in->disk_rate / every };
}

static void play_beside(struct play *p, const struct beside *b, double s)
{
    p->out->rounds += (unsigned)fmin(s / b->every, LOOPS_MAX);
    copied_disk(p, s / b->every * b->dirty);
}

/* Passes over RAM until both fit. */
static bool play_ram(struct play *p)
{
    const struct forecast_in *const in = p->in;
    const struct beside b = rounds_beside(in);
    const double gap = (double)ROUND_GAP_MS / MS_PER_S, most_share = 0.98;
    double left = (double)in->ram_bytes;

    p->s += (double)in->ram_start_ms / MS_PER_S;
    play_beside(p, &b, (double)in->ram_start_ms / MS_PER_S);
    p->best = INFINITY;
    p->best_at = p->s;
    for (unsigned i = 0; i < LOOPS_MAX && b.share < most_share; i++) {
        const double took = fmax(left / in->ram_rate / (1 - b.share), gap);

        p->s += took;
        play_beside(p, &b, took);
        copied_ram(p, left);
        left = forecast_dirty(&in->ram, took);
        const double pause =
            fixed_s(in) + b.dirty / in->disk_rate + left / in->ram_rate;

        if (pause < p->best)
            p->out->pause_ms = (int64_t)whole(pause * MS_PER_S);
        if (pause <= budget_s(in)) {
            copied_disk(p, b.dirty);
            copied_ram(p, left);
            p->out->rounds++;
            p->s += pause;
            return true;
        }
        if (!progresses(p, pause))
            return false;
    }
    return false;
}

static void play(const struct forecast_in *in, struct forecast *out)
{
    struct play p = { .in = in, .out = out };

    *out =
        (struct forecast){ .made = true, .in = *in, .sent = in->sent, .pause_ms = -1 };
    if (in->disk_rate > 0 && in->ram_rate > 0)
        out->converges = play_disks(&p) && play_ram(&p);
    out->total_ms =
        (int64_t)whole(p.s * MS_PER_S) + (out->converges ? (int64_t)in->end_ms : 0);
}

/* --- what would change it --- */

static bool with_downtime(const struct forecast_in *in, uint64_t ms)
{
    struct forecast_in other = *in;
    struct forecast f;

    other.budget_ms = ms;
    play(&other, &f);
    return f.converges;
}

static bool with_rate(const struct forecast_in *in, double times)
{
    struct forecast_in other = *in;
    struct forecast f;

    other.disk_rate *= times;
    other.ram_rate *= times;
    play(&other, &f);
    return f.converges;
}

/* Round figures, as a person would try them. */
static void advise(const struct forecast_in *in, struct forecast *out)
{
    static const uint64_t downtimes[] = { 500,   1000,  2000,  3000,           5000,
                                          10000, 20000, 30000, DOWNTIME_MAX_MS };

    for (size_t i = 0; i < sizeof downtimes / sizeof downtimes[0]; i++) {
        if (downtimes[i] <= in->budget_ms || !with_downtime(in, downtimes[i]))
            continue;
        out->needs_downtime_ms = downtimes[i];
        break;
    }
    for (double times = 1.25; times <= RATE_MAX; times *= 1.25) {
        if (!with_rate(in, times))
            continue;
        out->needs_rate = in->disk_rate / in->disk_ratio * times;
        break;
    }
}

void forecast_make(const struct forecast_in *in, struct forecast *out)
{
    play(in, out);
    if (!out->converges && in->disk_rate > 0 && in->ram_rate > 0)
        advise(in, out);
}

double forecast_error(double forecast, double outcome)
{
    return forecast > 0 ? outcome / forecast - 1 : 0;
}
