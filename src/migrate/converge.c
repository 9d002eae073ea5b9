/* Rounds and memory pre-copy until both fit the pause budget: the controller's samples and
 * what is done about its decisions. */
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "migrate/move-int.h"

enum {
    ROUND_GAP_MS = 50, /* between short rounds: a round has fixed costs in QEMU */
    LOOK_MS = 10,      /* near the end: to catch the moment when little is left */
    HOLD_MS = 1000,    /* while the user holds the move there is no hurry */
    METER_MS = 1000,   /* over which the guest's writes are measured */
};

static bool is_overdue(const struct move *m)
{
    return m->timeout_at_ms != 0 && clock_ms() >= (int64_t)m->timeout_at_ms;
}

bool converge_in_time(struct move *m, struct err *e)
{
    if (!is_overdue(m) || m->cfg->on_stall == CONTROL_ON_STALL_SUSPEND)
        return true;
    if (m->progress.why[0] != '\0')
        err_set(e, ERR_STALLED, 0, "not converged within --timeout: %s",
                m->progress.why);
    else
        err_set(e, ERR_STALLED, 0, "not converged within --timeout");
    return err_next(
        e, "Allow more time with --timeout, a longer pause with --max-downtime, "
           "or move when the guest is quieter.");
}

static bool stalled(const struct move *m, const char *why, struct err *e)
{
    err_set(e, ERR_STALLED, 0, "does not converge: %s", why);
    return err_next(e,
                    "Allow a longer pause with --max-downtime, more bandwidth%s, or "
                    "move when the guest is quieter.",
                    m->cfg->on_stall == CONTROL_ON_STALL_ABORT ? ", --on-stall throttle"
                                                               : "");
}

/* --- the controller's ears --- */

/* What is new since the last sample is what the guest wrote: more dirty bytes, or all of
 * them where a round began in between. */
static double meter(struct meter *r, uint64_t dirty, unsigned round, int64_t now)
{
    const uint64_t had = r->round == round && dirty >= r->dirty ? r->dirty : 0;

    r->counted += dirty - had;
    r->dirty = dirty;
    r->round = round;
    if (now - r->at_ms >= METER_MS) {
        const double rate = (double)r->counted * MS_PER_S / (double)(now - r->at_ms);

        r->rate = r->rate > 0 ? (r->rate + rate) / 2 : rate;
        r->counted = 0;
        r->at_ms = now;
    }
    return r->rate;
}

static void fill_disks(struct move *m, struct control_sample *s)
{
    LOCK_SCOPE(&m->lock);
    for (size_t i = 0; i < m->plan.n; i++) {
        const uint64_t dirty = m->progress.disks[i].dirty;

        s->disks[i] = (struct control_disk){
            .dirty = dirty,
            .dirty_rate = meter(&m->meters[i], dirty, m->round, s->now_ms),
            .can_slow = slow_disk_left(&m->slow, i),
        };
    }
}

static void fill_sample(struct move *m, const struct memory_sample *ram,
                        struct control_sample *s)
{
    struct link_stats st;

    link_stats(m->link, &st);
    *s = (struct control_sample){ .now_ms = clock_ms(),
                                  .budget_ms = move_budget(m),
                                  .hold = atomic_load(&m->hold),
                                  .overdue = is_overdue(m),
                                  .rtt_us = st.rtt_us,
                                  .ndisks = m->plan.n,
                                  .disk_rate = m->disk_rate };
    fill_disks(m, s);
    if (ram == NULL)
        return;
    /* During setup nothing is counted yet, and nothing left means nothing. */
    s->ram_running = ram->ram.status >= VRAM_ACTIVE && ram->ram.total > 0;
    s->ram_remaining = ram->ram.remaining;
    s->ram_under_way = ram->under_way;
    s->ram_rate = ram->rate;
    s->ram_dirty_rate = (double)ram->ram.dirty_rate;
    s->ram_since_sync_ms = ram->since_sync_ms;
    s->ram_syncs = ram->ram.passes;
    s->can_slow_cpus = slow_cpus_left(&m->slow);
    s->guest_stopped = ram->stopped;
}

static bool one_round(struct move *m, struct err *e)
{
    const int64_t start = clock_ms();
    const uint64_t before = m->moved_disk;
    const double rate = m->disk_rate;

    if (!copy_round(m, false, e))
        return false;
    const uint64_t bytes = m->moved_disk - before;
    const int64_t took = clock_ms() - start;

    control_round_took(&m->control, bytes, rate, took);
    /* Disks that are nearly empty never had a pass that is long enough to measure: too
     * slow a rate is better than none. */
    if (m->disk_rate <= 0 && bytes > 0 && took > 0)
        m->disk_rate = (double)bytes * MS_PER_S / (double)took;
    return true;
}

/* --- and its hands --- */

/* RAM's share of the link, which QEMU keeps to until the guest stands still; so it is taken
 * away before we suspend. */
static bool share_link(struct move *m, double limit, struct err *e)
{
    AUTO(json_put) struct json_object *now = NULL;
    const uint64_t rate = (uint64_t)limit;
    char r[UNITS_LEN];

    if (rate == m->ram_limit)
        return true;
    if (m->ram_limit == 0 &&
        (!vdom_qmp(m->dom, "query-migrate-parameters", NULL, &now, e) ||
         !json_get_u64(now, "max-bandwidth", &m->ram_free, e)))
        return false;
    if (!vdom_qmp(
            m->dom, "migrate-set-parameters",
            json_add_u64(json_new(), "max-bandwidth", rate > 0 ? rate : m->ram_free),
            NULL, e))
        return err_wrap(e, "sharing the link");
    if (rate > 0)
        log_info("control", "memory gets %s of the link: disks need the rest",
                 units_rate(r, limit));
    m->ram_limit = rate;
    LOCK_SCOPE(&m->lock);
    m->progress.ram.limit = rate;
    return true;
}

/* The guest will stand still for longer than was promised: the deadlines know. */
static bool allow_pause(struct move *m, const struct control_verdict *v, struct err *e)
{
    const uint64_t allowed = 2 * (uint64_t)v->pause_ms;
    char word[64], p[UNITS_LEN];

    snprintf(word, sizeof word, "budget %llu", (unsigned long long)allowed);
    if (!guard_say(m, word, e))
        return false;
    atomic_store(&m->allowed_ms, allowed);
    log_warn("control", "%s", v->why);
    move_note(m,
              "--on-stall suspend: the guest was stopped for about %s, by prediction, "
              "which --max-downtime does not allow",
              units_time(p, v->pause_ms));
    return true;
}

static void say(struct move *m, const struct control_verdict *v)
{
    const char *const name = control_name(v->todo);

    pthread_mutex_lock(&m->lock);
    snprintf(m->progress.decision, sizeof m->progress.decision, "%s", name);
    snprintf(m->progress.why, sizeof m->progress.why, "%s", v->why);
    m->progress.predicted_pause_ms = v->pause_ms;
    m->progress.budget_ms = move_budget(m);
    pthread_mutex_unlock(&m->lock);
    log_debug("control", "%s: %s", name, v->why);
}

/* Decide, say so, and do all but what the callers do: rounds and the next phase. */
static bool decide(struct move *m, const struct memory_sample *ram,
                   struct control_verdict *v, struct err *e)
{
    struct control_sample s;

    fill_sample(m, ram, &s);
    control_step(&m->control, &s, v);
    say(m, v);
    switch (v->todo) {
    case CONTROL_SLOW_DISK:
        return slow_disk(m, v->disk, e);
    case CONTROL_SLOW_CPUS:
        return slow_cpus(m, e);
    case CONTROL_HOLD:
        slow_lift_disks(m);
        return true;
    case CONTROL_SUSPEND:
        return allow_pause(m, v, e);
    case CONTROL_STALLED:
        return stalled(m, v->why, e);
    default:
        return true;
    }
}

/* Rounds until the disks are nearly in step. */
bool rounds_run(struct move *m, struct err *e)
{
    const struct control_cfg cfg = { .policy = (enum control_policy)m->cfg->on_stall,
                                     .fixed_ms = SWITCH_FIXED_MS,
                                     .patience_ms =
                                         m->cfg->on_stall == CONTROL_ON_STALL_THROTTLE
                                             ? THROTTLE_MS
                                             : PATIENCE_MS };
    struct control_verdict v = { .todo = CONTROL_ROUND };

    move_enter(m, MOVE_ROUNDS);
    atomic_store(&m->allowed_ms, 0);
    control_init(&m->control, &cfg);
    for (size_t i = 0; i < m->plan.n; i++)
        m->meters[i] =
            (struct meter){ .at_ms = m->tracked_since_ms, .round = m->round };
    do {
        if (!(v.todo == CONTROL_HOLD ? copy_sample(m, e) : one_round(m, e)) ||
            !converge_in_time(m, e) || !fault_point("rounds", e) ||
            !decide(m, NULL, &v, e) ||
            !cancel_sleep_ms(m->halt,
                             v.todo == CONTROL_RAM    ? 0
                             : v.todo == CONTROL_HOLD ? HOLD_MS
                                                      : ROUND_GAP_MS,
                             e))
            return false;
    } while (v.todo != CONTROL_RAM);
    return true;
}

/* Somebody may have paused or resumed the guest since the start.  From here on libvirt's
 * migration job forbids the latter; what is true now is put back, or made at the
 * destination. */
static bool note_run_state(struct move *m, struct err *e)
{
    enum vdom_run run;
    enum vdom_why why;

    if (!vdom_state(m->dom, &run, &why, e))
        return false;
    if (run == VDOM_PAUSED && why != VDOM_WHY_USER)
        return true; /* by the migration: it ran */
    m->facts.run = run == VDOM_PAUSED ? VDOM_PAUSED : VDOM_RUNNING;
    return guard_say(m, run == VDOM_PAUSED ? "stood" : "ran", e);
}

/* How RAM is, or why there is no RAM any more. */
static bool look_at_ram(struct move *m, bool *noted, struct memory_sample *ram,
                        struct err *e)
{
    memory_sample(m, ram);
    if (ram->failed || ram->done) {
        memory_error(m, e);
        return false;
    }
    if (*noted || ram->ram.status < VRAM_SETUP)
        return true;
    *noted = true;
    return note_run_state(m, e);
}

/* RAM and rounds together until both fit the budget. */
bool memory_run(struct move *m, struct err *e)
{
    struct control_verdict v = { .todo = CONTROL_ROUND };
    struct memory_sample ram;
    bool noted = false;

    move_enter(m, MOVE_MEMORY);
    control_restart(&m->control);
    m->ram_limit = 0; /* a new migration, which libvirt has given its own */
    if (!fault_point("memory", e) || !cancel_check(m->halt, e) || !memory_start(m, e))
        return false;
    for (;;) {
        if (v.todo == CONTROL_ROUND && !one_round(m, e))
            return false;
        if (!copy_sample(m, e) || !converge_in_time(m, e) ||
            !fault_point("memory.loop", e) || !look_at_ram(m, &noted, &ram, e) ||
            !decide(m, &ram, &v, e) || (!ram.stopped && !share_link(m, v.ram_limit, e)))
            return false;
        if (v.todo == CONTROL_SWITCH || v.todo == CONTROL_SUSPEND)
            return fault_point("memory.done", e);
        if (!cancel_sleep_ms(m->halt, v.todo == CONTROL_ROUND ? ROUND_GAP_MS : LOOK_MS,
                             e))
            return false;
    }
}

void converge_undo(struct move *m)
{
    slow_lift(m);
}
