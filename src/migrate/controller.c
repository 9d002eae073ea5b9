#include "migrate/controller.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "base/units.h"

enum {
    RAM_START_MS = 100,  /* a round this short never keeps RAM from starting */
    ROUND_FIXED_MS = 50, /* until rounds have shown it */
    TRIPS = 6,          /* of a switch: write, flush, close, release, libvirt, commit */
    MARGIN_MIN_MS = 10, /* the samples' own grain: one poll of QEMU */
    MARGIN_END_MS = 20000, /* in which the margin shrinks to nothing */
    LEARN_MAX_MS = 1000,   /* longer rounds tell nothing of a switch's precision */
    CHANCE_MS = 500,       /* the longest wait for the lowest point */
    SETTLE_MS = 40,        /* no lower for that long: two polls of QEMU */
    MISSED_MAX = 3,        /* chances, then the first that fits is taken */
    WINDOW_ROUNDS = 2,     /* a window is that many rounds, or passes of RAM, long */
    WORSE_ROUNDS = 2,      /* in a row: the guest is faster than copying */
    NEAR_MS = 1000,        /* RAM's end */
    SHARE_PARTS = 4,       /* of the link that RAM has in any case */
    HOT_PARTS = 2,         /* of what the budget leaves: one may wait */
};
static const double PROGRESS = 0.95;

const char *control_name(enum control_do d)
{
    static const char *const names[] = {
        [CONTROL_ROUND] = "round",        [CONTROL_RAM] = "ram",
        [CONTROL_WAIT] = "wait",          [CONTROL_HOLD] = "hold",
        [CONTROL_SLOW_DISK] = "throttle", [CONTROL_SLOW_CPUS] = "throttle",
        [CONTROL_SWITCH] = "switch",      [CONTROL_SUSPEND] = "suspend",
        [CONTROL_STALLED] = "abort",
    };
    static_assert(sizeof names / sizeof names[0] == CONTROL_DOS,
                  "names[] and enum control_do differ");
    return names[d];
}

void control_init(struct control *c, const struct control_cfg *cfg)
{
    *c = (struct control){ .cfg = *cfg };
    control_restart(c);
}

/* Neither windows nor chances from before count. */
static void forget(struct control *c)
{
    c->window_at_ms = -1;
    c->best_ms = c->last_best_ms = -1;
    c->close_at_ms = c->fit_at_ms = -1;
    c->rounded = false;
    c->missed = 0;
    c->worse = 0;
    c->found_ms = HUGE_VAL;
}

void control_restart(struct control *c)
{
    forget(c);
    c->syncs = 0;
    c->ram_dirty_rate = c->ram_limit = 0;
}

/* --- the prediction --- */

/* The least of the latest rounds: the rest is noise, which the margin is for. */
static int64_t round_fixed(const struct control *c)
{
    const unsigned n = c->rounds < CONTROL_ROUNDS ? c->rounds : CONTROL_ROUNDS;
    int64_t least = n > 0 ? c->fixed[0] : ROUND_FIXED_MS;

    for (unsigned i = 1; i < n; i++)
        if (c->fixed[i] < least)
            least = c->fixed[i];
    return least;
}

void control_round_took(struct control *c, uint64_t bytes, double rate, int64_t took_ms,
                        bool alone)
{
    const double copy = rate > 0 ? (double)bytes * 1000 / rate : 0;
    const double predicted = (double)round_fixed(c) + copy;
    const double rest = (double)took_ms - copy;

    c->round_ms = took_ms;
    c->round_new = true;
    if (!alone || (rate <= 0 && bytes > 0) || predicted > LEARN_MAX_MS)
        return;
    c->error_ms += (fabs((double)took_ms - predicted) - c->error_ms) / 4;
    /* Where copying is most of it, a rate that is wrong by little hides the fixed cost. */
    if (copy <= (double)took_ms / 2)
        c->fixed[c->rounds++ % CONTROL_ROUNDS] = rest > 0 ? (int64_t)rest : 0;
}

static int64_t fixed_ms(const struct control *c, const struct control_sample *s)
{
    return (int64_t)c->cfg.fixed_ms + round_fixed(c) +
           (s->rtt_us > 0 ? TRIPS * s->rtt_us / 1000 : 0);
}

/* -1: that is not known. */
static double ms_for(double bytes, double rate)
{
    return bytes < 1 ? 0 : rate > 0 ? bytes * 1000 / rate : -1;
}

static uint64_t dirty(const struct control_sample *s)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < s->ndisks; i++)
        sum += s->disks[i].dirty;
    return sum;
}

static double dirty_rate(const struct control_sample *s)
{
    double sum = 0;

    for (size_t i = 0; i < s->ndisks; i++)
        sum += s->disks[i].dirty_rate;
    return sum;
}

static double disks_ms(const struct control_sample *s)
{
    return ms_for((double)dirty(s), s->disk_rate);
}

static uint64_t waiting(const struct control_sample *s)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < s->ndisks; i++)
        sum += s->disks[i].waits;
    return sum;
}

/* Of what waits, what may be dirty again. */
static uint64_t twice(const struct control_sample *s)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < s->ndisks; i++) {
        const struct control_disk *const d = &s->disks[i];
        const uint64_t again = d->dirty - d->waits;

        sum += again < d->waits ? again : d->waits;
    }
    return sum;
}

/* What is to be copied, where all that waits is dirty again: to measure progress by. */
static double once_ms(const struct control_sample *s)
{
    return ms_for((double)(dirty(s) - twice(s)), s->disk_rate);
}

/* And of that, what a round copies that leaves out what is hot. */
static double cold_ms(const struct control_sample *s)
{
    return ms_for((double)(dirty(s) - twice(s) - waiting(s)), s->disk_rate);
}

/* What QEMU found when it looked was dirtied since the look before.  Its own rate is at
 * least a second old, and 0 before the first. */
static void learn_ram(struct control *c, const struct control_sample *s)
{
    const int64_t looked_at = s->now_ms - s->ram_since_sync_ms;

    if (!s->ram_running || s->ram_syncs == c->syncs)
        return;
    c->ram_dirty_rate =
        s->ram_syncs > 1 && c->syncs > 0 && looked_at > c->sync_at_ms
            ? (double)s->ram_remaining * 1000 / (double)(looked_at - c->sync_at_ms)
            : 0;
    if (c->syncs < 2 && s->ram_syncs >= 2)
        forget(c); /* another measure of progress begins */
    c->syncs = s->ram_syncs;
    c->sync_at_ms = looked_at;
}

static double ram_dirty_rate(const struct control *c, const struct control_sample *s)
{
    return c->ram_dirty_rate > s->ram_dirty_rate ? c->ram_dirty_rate
                                                 : s->ram_dirty_rate;
}

/* What RAM still has to send: what QEMU knows, what is on its way, plus what was dirtied since it looked. */
static double ram_left(const struct control *c, const struct control_sample *s)
{
    return (double)s->ram_remaining + (double)s->ram_under_way +
           ram_dirty_rate(c, s) * (double)s->ram_since_sync_ms / 1000;
}

static double ram_ms(const struct control *c, const struct control_sample *s)
{
    return s->ram_running ? ms_for(ram_left(c, s), s->ram_rate) : -1;
}

int64_t control_predict(const struct control *c, const struct control_sample *s)
{
    const double disks = disks_ms(s), ram = ram_ms(c, s);

    if (disks < 0 || ram < 0)
        return -1;
    return fixed_ms(c, s) + (int64_t)ceil(disks + ram);
}

/* At most half of what the fixed cost leaves of the budget: a margin that can never be kept
 * would only delay. */
static int64_t margin_ms(const struct control *c, const struct control_sample *s)
{
    const double room = ((double)s->budget_ms - (double)fixed_ms(c, s)) / 2;
    double m = 2 * c->error_ms > MARGIN_MIN_MS ? 2 * c->error_ms : MARGIN_MIN_MS;

    if (m > room)
        m = room > 0 ? room : 0;
    if (c->close_at_ms >= 0)
        m *= 1 - (double)(s->now_ms - c->close_at_ms) / MARGIN_END_MS;
    return m > 0 ? (int64_t)m : 0;
}

/* --- progress --- */

/* Some rounds, or some of RAM's passes: what one of them takes says nothing yet. */
static double window_ms(const struct control *c, const struct control_sample *s)
{
    const double parts[] = { (double)c->round_ms, once_ms(s),
                             s->ram_syncs < 2 ? 0 : ram_ms(c, s) };
    double w = (double)c->cfg.patience_ms;

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (WINDOW_ROUNDS * parts[i] > w)
            w = WINDOW_ROUNDS * parts[i];
    return w;
}

/* How many rounds in a row left more than they found: no need to wait for a window, whose
 * rounds would be longer and longer. */
static unsigned worse_rounds(struct control *c, const struct control_sample *s,
                             double measure)
{
    if (s->ram_running)
        return 0;
    if (!c->round_new)
        return c->worse;
    c->round_new = false;
    c->worse = measure > c->found_ms ? c->worse + 1 : 0;
    c->found_ms = measure;
    return c->worse;
}

static bool stalled(struct control *c, const struct control_sample *s, double measure)
{
    const int64_t age = s->now_ms - c->window_at_ms;
    const bool first = c->window_at_ms < 0;
    const bool diverges = worse_rounds(c, s, measure) >= WORSE_ROUNDS && !first &&
                          age >= (int64_t)c->cfg.patience_ms;

    if (!first && measure < c->best_ms)
        c->best_ms = measure;
    if (!first && !diverges && (double)age < c->window_ms)
        return false;

    const bool stuck =
        diverges || (c->last_best_ms >= 0 && c->best_ms > c->last_best_ms * PROGRESS);
    if (!first)
        c->last_best_ms = c->best_ms;
    c->best_ms = measure;
    c->window_at_ms = s->now_ms;
    c->window_ms = window_ms(c, s);
    c->worse = 0;
    return stuck;
}

/* The disk that the guest writes to most, of those that can be slowed; -1: none. */
static int worst_disk(const struct control_sample *s)
{
    int worst = -1;

    for (size_t i = 0; i < s->ndisks; i++)
        if (s->disks[i].can_slow && s->disks[i].dirty > 0 &&
            (worst < 0 || s->disks[i].dirty_rate > s->disks[worst].dirty_rate))
            worst = (int)i;
    return worst;
}

static void say_slow(struct control_verdict *out, const char *what, double writes,
                     double reached, const char *how)
{
    char w[UNITS_LEN], r[UNITS_LEN];

    snprintf(out->why, sizeof out->why,
             "%s not converge: the guest %s %s, copying reaches %s: its %s slowed",
             what, out->todo == CONTROL_SLOW_DISK ? "writes" : "dirties",
             units_rate(w, writes), units_rate(r, reached), how);
}

/* Disks that take next to nothing of the link, and of the budget, hold nothing up. */
static bool disks_matter(const struct control_sample *s)
{
    return disks_ms(s) > (double)s->budget_ms / 2 || dirty_rate(s) > s->disk_rate / 8;
}

/* What holds the switch up more is slowed, and where that is at its end, the other.  false:
 * nothing is left to slow, or it is not the guest that keeps the pause long. */
static bool slow(const struct control *c, const struct control_sample *s,
                 struct control_verdict *out)
{
    const int worst = disks_matter(s) ? worst_disk(s) : -1;
    const bool cpus = s->ram_running && s->ram_syncs >= 2 && s->can_slow_cpus;

    if (c->last_best_ms < (double)s->budget_ms / 8 || (worst < 0 && !cpus))
        return false;
    if (cpus && (worst < 0 || ram_ms(c, s) > disks_ms(s))) {
        out->todo = CONTROL_SLOW_CPUS;
        say_slow(out, "memory does", ram_dirty_rate(c, s), s->ram_rate, "CPUs are");
    } else {
        out->todo = CONTROL_SLOW_DISK;
        out->disk = (size_t)worst;
        say_slow(out, "disks do", dirty_rate(s), s->disk_rate, "writes are");
    }
    return true;
}

static void give_up(const struct control *c, const struct control_sample *s,
                    struct control_verdict *out)
{
    char w[UNITS_LEN], r[UNITS_LEN], b[UNITS_LEN], p[UNITS_LEN], t[UNITS_LEN];

    out->todo = CONTROL_STALLED;
    units_time(b, (int64_t)s->budget_ms);
    if (!s->ram_running)
        snprintf(out->why, sizeof out->why,
                 "a round of the disks takes %s at best: the guest writes %s, copying "
                 "reaches %s",
                 units_time(t, (int64_t)c->last_best_ms), units_rate(w, dirty_rate(s)),
                 units_rate(r, s->disk_rate));
    else
        snprintf(out->why, sizeof out->why,
                 "it would pause %s at best, %s of it fixed; %s is allowed; the guest "
                 "writes %s and dirties %s",
                 units_time(p, fixed_ms(c, s) + (int64_t)c->last_best_ms),
                 units_time(t, fixed_ms(c, s)), b, units_rate(w, dirty_rate(s)),
                 units_rate(r, ram_dirty_rate(c, s)));
}

/* No progress, or no time left: what the policy says.  false: go on. */
static bool on_stall(struct control *c, const struct control_sample *s, bool stuck,
                     struct control_verdict *out)
{
    char p[UNITS_LEN], b[UNITS_LEN];

    switch (c->cfg.policy) {
    case CONTROL_ON_STALL_WAIT:
        return false;
    case CONTROL_ON_STALL_THROTTLE:
        if (stuck && !slow(c, s, out))
            give_up(c, s, out);
        return stuck;
    case CONTROL_ON_STALL_ABORT:
        if (stuck)
            give_up(c, s, out);
        return stuck;
    case CONTROL_ON_STALL_SUSPEND:
        break;
    }
    if (!s->ram_running) {
        c->hopeless |= stuck;
        out->todo = CONTROL_RAM;
        snprintf(out->why, sizeof out->why,
                 "%s: memory starts, and the guest is stopped after its first pass",
                 stuck ? "disks do not converge" : "the time is over");
        return true;
    }
    out->todo = CONTROL_SUSPEND;
    snprintf(out->why, sizeof out->why,
             "%s: the guest is stopped for about %s, although %s is the limit",
             s->overdue ? "the time is over" : "it does not converge",
             units_time(p, out->pause_ms), units_time(b, (int64_t)s->budget_ms));
    return true;
}

/* --- the parts of the way --- */

/* Rounds and RAM get half of the link each, and a guest that writes at more than that half
 * would leave the disks behind while RAM goes on to its end, where QEMU stops the guest.  So
 * RAM gets what leaves the disks half as much again as they need; near its end, when
 * that no longer matters, all it can take. */
static void share_link(struct control *c, const struct control_sample *s)
{
    const bool suspends =
        c->cfg.policy == CONTROL_ON_STALL_SUSPEND && (c->hopeless || s->overdue);
    const double w = dirty_rate(s), link = c->alone_rate, ram = ram_ms(c, s);
    double share = link - w * 3 / 2;

    if (share < link / SHARE_PARTS)
        share = link / SHARE_PARTS;
    if (suspends || ram < NEAR_MS || w < link / (c->ram_limit > 0 ? 4 : 3))
        c->ram_limit = 0;
    else if (fabs(share - c->ram_limit) > c->ram_limit / 4)
        c->ram_limit = share;
}

/* A round has fixed costs: while what it would copy takes a quarter of the budget or less,
 * waiting is better, also for what is written again and again: it is copied once, last. */
static bool pays(const struct control_sample *s, double ms)
{
    return ms < 0 || ms > (double)s->budget_ms / 4;
}

static bool round_pays(const struct control_sample *s)
{
    return pays(s, cold_ms(s));
}

/* Whether the next round may leave out what is hot. */
static bool may_wait(const struct control *c, const struct control_sample *s)
{
    const double room = (double)s->budget_ms - (double)fixed_ms(c, s);
    uint64_t hot = 0;

    for (size_t i = 0; i < s->ndisks; i++)
        hot += s->disks[i].hot;
    const double ms = ms_for((double)hot, s->disk_rate);
    return ms >= 0 && ms <= room / HOT_PARTS;
}

/* The disks alone.  QEMU may stop the guest as soon as RAM is in step, so RAM starts when
 * the disks could follow at once. */
static void before_ram(struct control *c, const struct control_sample *s,
                       struct control_verdict *out)
{
    const double round = disks_ms(s);
    const double room = (double)s->budget_ms - (double)fixed_ms(c, s);
    const double start_ms = room > RAM_START_MS ? room : RAM_START_MS;
    char d[UNITS_LEN], t[UNITS_LEN];

    c->alone_rate = s->disk_rate;
    units_size(d, dirty(s));
    units_time(t, (int64_t)round);
    if (s->hold) {
        out->todo = round_pays(s) ? CONTROL_ROUND : CONTROL_HOLD;
        snprintf(out->why, sizeof out->why, "held: disks are in step but for %s", d);
        forget(c);
    } else if (round >= 0 && round <= start_ms) {
        out->todo = CONTROL_RAM;
        snprintf(out->why, sizeof out->why,
                 "disks are nearly in step (%s dirty): memory starts", d);
    } else if (round < 0) {
        out->todo = CONTROL_ROUND;
        snprintf(out->why, sizeof out->why, "disks first: %s dirty", d);
    } else {
        const bool stuck = stalled(c, s, once_ms(s));

        if ((stuck || s->overdue) && on_stall(c, s, stuck, out))
            return;
        out->todo = CONTROL_ROUND;
        /* It is only for what waits, and may be dirty again, that it does not fit. */
        out->all = waiting(s) > 0 && once_ms(s) <= start_ms;
        snprintf(out->why, sizeof out->why, "disks first: %s dirty would take %s", d,
                 t);
    }
}

/* Whether a round of all now leaves less than half of what is dirty on the disks. */
static bool round_helps(const struct control *c, const struct control_sample *s)
{
    const double round = (double)round_fixed(c) + once_ms(s);

    return pays(s, once_ms(s)) &&
           dirty_rate(s) * round / 1000 < (double)(dirty(s) - twice(s)) / 2;
}

/* Whether it is only for what waits that the pause does not fit. */
static bool waited_too_long(const struct control_sample *s,
                            const struct control_verdict *v)
{
    const double waits = ms_for((double)waiting(s), s->disk_rate);
    const int64_t rest = v->pause_ms - (int64_t)floor(waits);

    return waits > 0 && rest + v->margin_ms <= (int64_t)s->budget_ms;
}

/* The pause fits.  Lower is better: wait while it falls, but not for long. */
static void take_chance(struct control *c, const struct control_sample *s,
                        struct control_verdict *out)
{
    const int64_t copy = out->pause_ms - fixed_ms(c, s);
    char d[UNITS_LEN], r[UNITS_LEN];

    if (c->fit_at_ms < 0) {
        c->fit_at_ms = c->low_at_ms = s->now_ms;
        c->low_ms = out->pause_ms;
    } else if (out->pause_ms < c->low_ms) {
        c->low_at_ms = s->now_ms;
        c->low_ms = out->pause_ms;
    }
    snprintf(out->why, sizeof out->why,
             "predicted pause %d + %d ms fits %d ms (%s of disks, %s of memory left)",
             (int)out->pause_ms, (int)out->margin_ms, (int)s->budget_ms,
             units_size(d, dirty(s)), units_size(r, (uint64_t)ram_left(c, s)));
    if (c->missed < MISSED_MAX && s->now_ms - c->fit_at_ms < CHANCE_MS) {
        if (!c->rounded && round_helps(c, s)) {
            c->rounded = true;
            out->todo = CONTROL_ROUND;
            out->all = true;
            return;
        }
        if (copy > MARGIN_MIN_MS && s->now_ms - c->low_at_ms < SETTLE_MS) {
            out->todo = CONTROL_WAIT;
            return;
        }
    }
    out->todo = CONTROL_SWITCH;
}

/* RAM's first pass ends by itself, and is nobody's fault; but disks that are too far behind
 * for the switch, and come no nearer, need not wait for its end to be slowed. */
static bool disks_fall_behind(struct control *c, const struct control_sample *s)
{
    return c->cfg.policy == CONTROL_ON_STALL_THROTTLE &&
           once_ms(s) > (double)s->budget_ms && stalled(c, s, once_ms(s));
}

/* Before QEMU has looked a second time nobody knows what was dirtied: what is left in the
 * first pass says nothing. */
static void with_ram(struct control *c, const struct control_sample *s,
                     struct control_verdict *out)
{
    const bool first_pass = s->ram_syncs < 2;
    const double copy =
        (double)(out->pause_ms - fixed_ms(c, s)) - (disks_ms(s) - once_ms(s));
    char d[UNITS_LEN], r[UNITS_LEN];

    if (out->pause_ms > (int64_t)s->budget_ms)
        c->close_at_ms = -1;
    else if (c->close_at_ms < 0)
        c->close_at_ms = s->now_ms;
    out->margin_ms = margin_ms(c, s);
    share_link(c, s);
    out->ram_limit = c->ram_limit;
    if (!s->hold && !first_pass &&
        out->pause_ms + out->margin_ms <= (int64_t)s->budget_ms) {
        take_chance(c, s, out);
        return;
    }
    if (c->fit_at_ms >= 0)
        c->missed++;
    c->fit_at_ms = -1;
    c->rounded = false;
    out->all = !s->hold && !first_pass && waited_too_long(s, out);
    out->todo = round_pays(s) || out->all ? CONTROL_ROUND : CONTROL_WAIT;
    units_size(d, dirty(s));
    units_size(r, (uint64_t)ram_left(c, s));
    if (s->hold) {
        snprintf(out->why, sizeof out->why,
                 "held: %s of disks, %s of memory left, would pause %d ms", d, r,
                 (int)out->pause_ms);
        if (out->todo == CONTROL_WAIT)
            out->todo = CONTROL_HOLD;
        forget(c);
        return;
    }
    const bool stuck = first_pass ? disks_fall_behind(c, s)
                                  : c->close_at_ms < 0 && stalled(c, s, copy);

    if (first_pass && stuck && slow(c, s, out))
        return;

    if (!first_pass && (stuck || s->overdue || c->hopeless) &&
        on_stall(c, s, stuck, out))
        return;
    snprintf(out->why, sizeof out->why,
             "would pause %d + %d ms, at most %d ms allowed: %s of disks, %s of memory "
             "left",
             (int)out->pause_ms, (int)out->margin_ms, (int)s->budget_ms, d, r);
}

void control_step(struct control *c, const struct control_sample *s,
                  struct control_verdict *out)
{
    learn_ram(c, s);
    *out = (struct control_verdict){ .pause_ms = control_predict(c, s) };
    if (s->guest_stopped) {
        out->todo = CONTROL_SWITCH;
        snprintf(out->why, sizeof out->why,
                 "QEMU has stopped the guest: memory is in step");
    } else if (!s->ram_running) {
        before_ram(c, s, out);
    } else if (out->pause_ms < 0) {
        out->todo = CONTROL_ROUND;
        snprintf(out->why, sizeof out->why, "memory has just started");
    } else {
        with_ram(c, s, out);
    }
    out->all |= !may_wait(c, s);
    /* In the pause QEMU sends what is left as fast as it can. */
    if (out->todo == CONTROL_SWITCH || out->todo == CONTROL_SUSPEND)
        out->ram_limit = c->ram_limit = 0;
}
