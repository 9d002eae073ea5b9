/* Rounds and memory pre-copy until both fit the pause budget: the controller's samples and
 * what is done about its decisions. */
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrate/move-int.h"

enum {
    ROUND_GAP_MS = 50, /* between short rounds: a round has fixed costs in QEMU */
    /* --hold: */
    HOLD_TICK_MS = 100,  /* how late the end of it may be noticed */
    HOLD_LOOK_MS = 2000, /* between two looks at what is dirty: one question to QEMU */
    HOLD_ROUND_MS = 30000, /* a round after that time, if anything is dirty, */
    HOLD_DIRTY = 64 << 20, /* or at so many bytes */
};

bool converge_in_time(struct move *m, struct err *e)
{
    if (m->timeout_at_ms == 0 || clock_ms() < (int64_t)m->timeout_at_ms)
        return true;
    err_set(e, ERR_STALLED, 0, "not converged within --timeout");
    return err_next(
        e, "Allow more time with --timeout, a longer pause with --max-downtime, "
           "or move when the guest is quieter.");
}

static void say_why(struct move *m, const char *why, int64_t pause)
{
    pthread_mutex_lock(&m->lock);
    snprintf(m->progress.why, sizeof m->progress.why, "%s", why);
    m->progress.predicted_pause_ms = pause;
    pthread_mutex_unlock(&m->lock);
    log_debug("control", "%s", why);
}

static bool stalled(const char *why, struct err *e)
{
    err_set(e, ERR_STALLED, 0, "does not converge: %s", why);
    return err_next(e,
                    "Allow a longer pause with --max-downtime, more bandwidth, or move "
                    "when the guest is quieter.");
}

static void fill_sample(struct move *m, const struct memory_sample *ram,
                        struct control_sample *s)
{
    *s = (struct control_sample){ .now_ms = clock_ms(),
                                  .disk_dirty = m->disk_dirty,
                                  .disk_rate = m->disk_rate,
                                  .disk_dirty_rate = m->disk_dirty_rate };
    m->control.cfg.budget_ms = move_budget(m);
    if (ram == NULL)
        return;
    /* During setup nothing is counted yet, and nothing left means nothing. */
    s->ram_running = ram->ram.status >= VRAM_ACTIVE && ram->ram.total > 0;
    s->ram_remaining = ram->ram.remaining + ram->under_way;
    s->ram_rate = ram->rate;
    s->ram_dirty_rate = (double)ram->ram.dirty_rate;
    s->ram_since_sync_ms = ram->since_sync_ms;
    s->guest_stopped = ram->stopped;
}

/* --- --hold --- */

static void say_held(struct move *m, bool held)
{
    if (held)
        say_why(m, "in step, held: waiting for 'snmigrate switch'", -1);
    LOCK_SCOPE(&m->lock);
    m->progress.held = held;
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
        if (m->disk_dirty < HOLD_DIRTY &&
            (m->disk_dirty == 0 || clock_ms() - round_ms < HOLD_ROUND_MS))
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
    if (m->cfg->timeout_ms != 0)
        m->timeout_at_ms = (uint64_t)clock_ms() + m->cfg->timeout_ms;
}

/* Rounds until the disks are nearly in step. */
bool rounds_run(struct move *m, struct err *e)
{
    const struct control_cfg cfg = { move_budget(m), m->fixed_ms, PATIENCE_MS };
    struct control_sample s;
    char why[160];
    bool hold = m->cfg->hold;

    move_enter(m, MOVE_ROUNDS);
    control_init(&m->control, &cfg);
    for (;;) {
        if (!copy_round(m, false, e) || !converge_in_time(m, e) ||
            !fault_point("rounds", e))
            return false;
        if (hold && !atomic_load(&m->hold)) {
            hold = false;
            hold_ended(m);
        }
        fill_sample(m, NULL, &s);
        const enum control_do todo = control_step(&m->control, &s, why, sizeof why);
        say_why(m, why, -1);
        if (todo == CONTROL_RAM && !hold)
            return true;
        if (todo == CONTROL_RAM && !hold_run(m, e))
            return false;
        if (todo == CONTROL_STALLED && !hold)
            return stalled(why, e);
        if (!cancel_sleep_ms(m->halt, ROUND_GAP_MS, e))
            return false;
    }
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

/* RAM and rounds together until both fit the budget. */
bool memory_run(struct move *m, struct err *e)
{
    const struct control_cfg cfg = { move_budget(m), m->fixed_ms, PATIENCE_MS };
    struct memory_sample ram;
    struct control_sample s;
    char why[160];
    bool round = true, noted = false;

    move_enter(m, MOVE_MEMORY);
    control_init(&m->control, &cfg);
    if (!fault_point("memory", e) || !cancel_check(m->halt, e) || !memory_start(m, e))
        return false;
    for (;;) {
        if (round && !copy_round(m, false, e))
            return false;
        if (!copy_sample(m, e) || !converge_in_time(m, e) ||
            !fault_point("memory.loop", e))
            return false;
        memory_sample(m, &ram);
        if (ram.failed || ram.done) {
            memory_error(m, e);
            return false;
        }
        if (!noted && ram.ram.status >= VRAM_SETUP) {
            noted = true;
            if (!note_run_state(m, e))
                return false;
        }
        fill_sample(m, &ram, &s);
        const enum control_do todo = control_step(&m->control, &s, why, sizeof why);
        say_why(m, why, control_predict(&m->control, &s));
        if (todo == CONTROL_SWITCH)
            return fault_point("memory.done", e);
        if (todo == CONTROL_STALLED)
            return stalled(why, e);
        round = todo == CONTROL_ROUND;
        /* While memory is far from done, rounds in a row would only burn CPU; near the end
         * a look every few milliseconds catches the moment when little is left. */
        if (!cancel_sleep_ms(m->halt, round ? ROUND_GAP_MS : 10, e))
            return false;
    }
}
