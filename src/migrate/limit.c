/* What can be changed while a move runs: the cap on what is sent, which is the user's or
 * what the guest's writes leave, whichever is less; the pause; the hold. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "migrate/move-int.h"

uint64_t move_rate(struct move *m)
{
    const uint64_t user = atomic_load(&m->bandwidth),
                   left = atomic_load(&m->latency_cap);

    return user == 0 || (left != 0 && left < user) ? left : user;
}

static void apply_locked(struct move *m)
{
    const uint64_t rate = move_rate(m);

    m->progress.rate_limit = rate;
    if (m->link != NULL)
        link_set_rate(m->link, rate);
}

static void apply(struct move *m)
{
    LOCK_SCOPE(&m->lock);
    apply_locked(m);
}

/* --- the guest's latency --- */

static double sent_rate(struct move *m)
{
    LOCK_SCOPE(&m->lock);
    return m->progress.sent_rate;
}

static void show(struct move *m)
{
    LOCK_SCOPE(&m->lock);
    m->progress.guest_write_ms = m->latency.worst_ms;
}

void limit_look(struct move *m)
{
    struct latency *const l = &m->latency;
    const uint64_t target = atomic_load(&m->guest_latency_ms);
    const int64_t now = clock_ms();
    struct blkstats stats[DOMXML_DISKS_MAX];
    struct err e = { 0 };
    char u[UNITS_LEN];

    if (target == 0 && l->then_ms == 0)
        return;
    if (target != 0 && l->then_ms != 0 && now - l->then_ms < LATENCY_EVERY_MS)
        return;
    if (target != 0 && !blk_stats(&m->blk, stats, &e)) {
        log_debug("latency", "%s", e.msg);
        return;
    }
    const uint64_t before = l->cap;
    const uint64_t cap =
        latency_step(l, now, stats, m->blk.ndisks, target, sent_rate(m));
    show(m);
    if (cap == before)
        return;
    log_debug("latency", "the guest's writes take %.1f ms, %llu wanted: at most %s",
              l->worst_ms, (unsigned long long)target,
              cap != 0 ? units_rate(u, (double)cap) : "what the link carries");
    atomic_store(&m->latency_cap, cap);
    apply(m);
}

void limit_no_latency(struct move *m)
{
    m->latency = (struct latency){ .worst_ms = -1 };
    if (atomic_exchange(&m->latency_cap, 0) != 0)
        apply(m);
}

/* --- for the control socket --- */

static bool within(const char *what, bool has, uint64_t v, uint64_t least,
                   uint64_t most, struct err *e)
{
    return !has || (v >= least && v <= most) ||
           err_set(e, ERR_USAGE, 0, "%s %llu is not between %llu and %llu", what,
                   (unsigned long long)v, (unsigned long long)least,
                   (unsigned long long)most);
}

bool move_set(struct move *m, const struct move_settings *s, struct err *e)
{
    if (!within("bandwidth", s->has_bandwidth && s->bandwidth != 0, s->bandwidth,
                MOVE_RATE_MIN, MOVE_RATE_MAX, e) ||
        !within("max-downtime", s->has_max_downtime, s->max_downtime_ms, 1,
                MOVE_DOWNTIME_MAX_MS, e) ||
        !within("guest-latency", s->has_guest_latency, s->guest_latency_ms, 0,
                MOVE_LATENCY_MAX_MS, e))
        return false;

    LOCK_SCOPE(&m->lock);
    if ((m->progress.phase >= MOVE_SWITCH && m->progress.phase != MOVE_RECONNECT) ||
        atomic_load(&m->paused_at_ns) != 0)
        return err_set(e, ERR_REFUSED, 0, "too late: it has come to the phase \"%s\"",
                       move_phase_name(m->progress.phase));
    if (s->has_max_downtime) {
        atomic_store(&m->budget_ms, s->max_downtime_ms);
        m->progress.budget_ms = s->max_downtime_ms;
    }
    if (s->has_guest_latency)
        atomic_store(&m->guest_latency_ms, s->guest_latency_ms);
    if (s->has_bandwidth)
        atomic_store(&m->bandwidth, s->bandwidth);
    apply_locked(m);
    return true;
}

bool move_set_switch(struct move *m, struct err *e)
{
    if (atomic_exchange(&m->hold, false))
        return true;
    err_set(e, ERR_REFUSED, 0, "it is not held: it switches as soon as it can");
    return err_next(e, "See why it has not yet with: snmigrate status");
}

bool move_abort(struct move *m, struct err *e)
{
    LOCK_SCOPE(&m->lock);
    if (m->progress.phase == MOVE_DONE ||
        (m->progress.released && m->progress.phase != MOVE_UNDO)) {
        err_set(e, ERR_REFUSED, 0, "too late to go back: it is finishing at %s",
                m->progress.dest);
        return err_next(e, "Wait for it to end.");
    }
    cancel_set(m->user);
    return true;
}
