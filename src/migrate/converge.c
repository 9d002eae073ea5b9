/* Rounds and memory pre-copy until both fit the pause budget: the controller's samples and
 * what is done about its decisions. */
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "migrate/move-int.h"
#include "nbd-mirror/hot.h"

enum {
    ROUND_GAP_MS = 50,   /* between short rounds: a round has fixed costs in QEMU */
    LOOK_MS = 10,        /* near the end: to catch the moment when little is left */
    METER_MS = 1000,     /* over which the guest's writes are measured */
    THROTTLE_MS = 10000, /* PATIENCE_MS where the guest is only slowed by it */
    MUTE_MS = 60000,     /* a destination that takes no memory for so long hangs */
    /* --hold: */
    HOLD_TICK_MS = 100,  /* how late the end of it may be noticed */
    HOLD_LOOK_MS = 2000, /* between two looks at what is dirty: one question to QEMU */
    HOLD_ROUND_MS = 30000, /* a round after that time, if anything is dirty, */
    HOLD_DIRTY = 64 << 20, /* or at so many bytes */
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
            .dirty = dirty + m->progress.disks[i].hot,
            .hot = hot_bytes(m->copies[i].hot),
            .waits = m->progress.disks[i].hot,
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
    s->can_slow_cpus = slow_cpus_left(&m->slow, s->budget_ms);
    s->guest_stopped = ram->stopped;
}

/* @all: what is hot, too. */
static bool one_round(struct move *m, bool all, struct err *e)
{
    const int64_t start = clock_ms();
    const uint64_t before = m->moved_disk;
    const double rate = m->disk_rate;

    if (!(all ? copy_round(m, false, e) : copy_round_cold(m, e)))
        return false;
    const uint64_t bytes = m->moved_disk - before;
    const int64_t took = clock_ms() - start;

    /* One without any disk in it would tell too little of what a last one costs. */
    control_round_took(&m->control, bytes, rate, took,
                       m->ram == NULL && !copy_was_idle(m));
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
static void allow_pause(struct move *m, const struct control_verdict *v)
{
    char p[UNITS_LEN];

    atomic_store(&m->allowed_ms, 2 * (uint64_t)v->pause_ms);
    log_warn("control", "%s", v->why);
    texts_add(&m->notes,
              "--on-stall suspend: the guest was stopped for about %s, by prediction, "
              "which --max-downtime does not allow",
              units_time(p, v->pause_ms));
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
        allow_pause(m, v);
        return true;
    case CONTROL_STALLED:
        return stalled(m, v->why, e);
    default:
        return true;
    }
}

/* --- --hold --- */

static void say_held(struct move *m, bool held)
{
    LOCK_SCOPE(&m->lock);
    m->progress.held = held;
    if (held)
        snprintf(m->progress.why, sizeof m->progress.why,
                 "in step, held: waiting for 'snmigrate switch'");
}

/* Stay in step, by a round now and then, until it is told to switch: days if wanted.  RAM
 * waits, for it would keep the link busy. */
static bool hold_run(struct move *m, struct err *e)
{
    int64_t round_ms = clock_ms();

    say_held(m, true);
    while (atomic_load(&m->hold)) {
        const int64_t look_ms = clock_ms() + HOLD_LOOK_MS;

        while (atomic_load(&m->hold) && clock_ms() < look_ms)
            if (!cancel_sleep_ms(m->halt, HOLD_TICK_MS, e))
                return false;
        if (!copy_sample(m, e) || !fault_point("hold", e))
            return false;
        const uint64_t dirty = m->disk_dirty + copy_waiting(m);

        if (dirty < HOLD_DIRTY && (dirty == 0 || clock_ms() - round_ms < HOLD_ROUND_MS))
            continue;
        if (!copy_round(m, false, e))
            return false;
        round_ms = clock_ms();
    }
    say_held(m, false);
    return true;
}

/* What patience and --timeout allow begins when it is told to switch, in step or not. */
static void hold_ended(struct move *m)
{
    const struct control_cfg cfg = m->control.cfg;

    log_info("control", "told to switch");
    control_init(&m->control, &cfg);
    if (m->cfg->timeout_ms != 0 && m->timeout_at_ms == 0)
        m->timeout_at_ms = (uint64_t)clock_ms() + m->cfg->timeout_ms;
}

/* --- the phases --- */

static void begin(struct move *m)
{
    const bool throttle = m->cfg->on_stall == CONTROL_ON_STALL_THROTTLE;
    const struct control_cfg cfg = { .policy = (enum control_policy)m->cfg->on_stall,
                                     .fixed_ms = m->fixed_ms,
                                     .patience_ms =
                                         throttle ? THROTTLE_MS : PATIENCE_MS };

    pthread_mutex_lock(&m->lock);
    m->progress.held = false;
    pthread_mutex_unlock(&m->lock);
    atomic_store(&m->allowed_ms, 0);
    control_init(&m->control, &cfg);
    for (size_t i = 0; i < m->plan.n; i++)
        m->meters[i] =
            (struct meter){ .at_ms = m->tracked_since_ms, .round = m->round };
}

/* Rounds until the disks are nearly in step. */
static bool get_in_step(struct move *m, struct err *e)
{
    struct control_verdict v = { .todo = CONTROL_ROUND, .all = true };
    bool hold = m->cfg->hold;

    begin(m);
    do {
        if (!one_round(m, v.all, e) || !converge_in_time(m, e) ||
            !fault_point("rounds", e))
            return false;
        if (hold && !atomic_load(&m->hold)) {
            hold = false;
            hold_ended(m);
        }
        if (!decide(m, NULL, &v, e) || (v.todo == CONTROL_HOLD && !hold_run(m, e)) ||
            !cancel_sleep_ms(m->halt, v.todo == CONTROL_RAM ? 0 : ROUND_GAP_MS, e))
            return false;
    } while (v.todo != CONTROL_RAM);
    return true;
}

/* In step, and proved to be: comparing takes its time, after which they are to be again. */
bool rounds_run(struct move *m, struct err *e)
{
    const bool proved = m->verified.done;

    move_enter(m, MOVE_ROUNDS);
    if (!get_in_step(m, e) || !prove_run(m, e))
        return false;
    return proved || m->cfg->verify != MOVE_VERIFY_FULL || get_in_step(m, e);
}

/* Somebody may have paused or resumed the guest since the start.  From here on libvirt's
 * migration job forbids the latter; what is true now is put back, or made at the
 * destination. */
static bool note_run_state(struct move *m, struct err *e)
{
    const enum vdom_run was = m->facts.run;
    enum vdom_run run;
    enum vdom_why why;

    if (!vdom_state(m->dom, &run, &why, e))
        return false;
    if (run == VDOM_PAUSED && why != VDOM_WHY_USER)
        return true; /* by the migration: it ran */
    pthread_mutex_lock(&m->lock);
    m->facts.run = run == VDOM_PAUSED ? VDOM_PAUSED : VDOM_RUNNING;
    pthread_mutex_unlock(&m->lock);
    /* memory_start() has told the journal what was true then. */
    if (m->ram != NULL && m->facts.run != was &&
        !journal_step(
            m->journal, "memory",
            json_add_bool(json_new(), "was_running", m->facts.run == VDOM_RUNNING), e))
        return false;
    return guard_say(m, run == VDOM_PAUSED ? "stood" : "ran", e);
}

/* What memory_run() remembers from look to look. */
struct ram_look {
    struct memory_sample now;
    bool noted;      /* whether the guest runs */
    uint64_t passed; /* to the destination's QEMU, */
    int64_t
        changed_ms; /* which has grown then; before the first byte it is only made */
};

/* Without a rate, or in the first pass, nothing counts as stalled; but a QEMU that hangs there
 * would be waited for without end.  Whatever --on-stall says. */
static bool still_moves(struct move *m, struct ram_look *l, struct err *e)
{
    const int64_t now = clock_ms();

    if (l->now.received == 0 || l->now.stopped || l->now.passed != l->passed ||
        l->changed_ms == 0) {
        l->passed = l->now.passed;
        l->changed_ms = now;
    }
    if (now - l->changed_ms < MUTE_MS)
        return true;
    err_set(e, ERR_STALLED, 0,
            "does not converge: %s has taken no memory for %d s (%llu bytes before)",
            m->cfg->dest.host, MUTE_MS / MS_PER_S, (unsigned long long)l->passed);
    return err_next(e,
                    "See whether the QEMU of %s hangs there: its log is in "
                    "/var/log/libvirt/qemu.",
                    m->facts.name);
}

/* How RAM is, or why there is no RAM any more. */
static bool look_at_ram(struct move *m, struct ram_look *l, struct err *e)
{
    memory_sample(m, &l->now);
    if (l->now.failed || l->now.done) {
        memory_error(m, e);
        return false;
    }
    if (!still_moves(m, l, e))
        return false;
    if (l->noted || l->now.ram.status < VRAM_SETUP)
        return true;
    l->noted = true;
    return note_run_state(m, e);
}

/* RAM and rounds together until both fit the budget. */
bool memory_run(struct move *m, struct err *e)
{
    struct control_verdict v = { .todo = CONTROL_ROUND, .all = true };
    struct ram_look l = { .noted = false };

    move_enter(m, MOVE_MEMORY);
    control_restart(&m->control);
    m->ram_limit = 0; /* a new migration, which libvirt has given its own */
    /* Now, for whoever goes on should this process die; and once more when nobody can resume
     * or pause it any more. */
    if (!fault_point("memory", e) || !cancel_check(m->halt, e) ||
        !note_run_state(m, e) || !memory_start(m, e))
        return false;
    for (;;) {
        if (v.todo == CONTROL_ROUND && !one_round(m, v.all, e))
            return false;
        if (!copy_sample(m, e) || !converge_in_time(m, e) ||
            !fault_point("memory.loop", e) || !look_at_ram(m, &l, e) ||
            !decide(m, &l.now, &v, e) ||
            (!l.now.stopped && !share_link(m, v.ram_limit, e)))
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
