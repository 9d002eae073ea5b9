/* Switch: the guest stops, the last round is copied, the writers end, RAM's end is released.
 *
 * Until RELEASE everything can be taken back: the destination cannot complete.  The guest
 * may have been stopped by QEMU itself already: a legal start of this phase. */
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "migrate/move-int.h"
#include "migrate/request.h"

/* RAM's threads ask, too. */
static bool ran(struct move *m)
{
    LOCK_SCOPE(&m->lock);
    return m->facts.run == VDOM_RUNNING;
}

void switch_pause_begins(struct move *m, int64_t at_ns)
{
    int_fast64_t none = 0;
    struct err e = { 0 };
    char word[64];

    if (!ran(m) || !atomic_compare_exchange_strong(&m->paused_at_ns, &none, at_ns))
        return;
    const uint64_t most = move_pause_max(m);
    atomic_store(&m->pause_deadline_ms, at_ns / NS_PER_MS + (int64_t)most);
    snprintf(word, sizeof word, "suspending %llu",
             (unsigned long long)(most - PAUSE_SLACK_MS));
    if (!guard_say(m, word, &e))
        log_warn("switch", "%s", e.msg);
}

void switch_loaded(struct move *m)
{
    int_fast64_t none = 0;

    atomic_compare_exchange_strong(&m->loaded_at_ns, &none, clock_ns());
}

static void mark(struct move *m, enum pause_step step)
{
    m->marks.end[step] = clock_ns();
}

/* The guest stands still after this, whoever stopped it. */
static bool suspend(struct move *m, struct err *e)
{
    enum vdom_run run;
    enum vdom_why why;

    if (m->facts.run == VDOM_RUNNING) {
        switch_pause_begins(m, clock_ns());
        if (!vdom_suspend(m->dom, e))
            return false;
    }
    if (!vdom_state(m->dom, &run, &why, e))
        return false;
    return run == VDOM_PAUSED
               ? true
               : err_set(e, ERR_VIRT, 0, "the guest does not stand still (%s)",
                         vdom_run_name(run));
}

/* QEMU has sent all of RAM and the device state, and waits for the destination. */
static bool wait_for_ram(struct move *m, struct err *e)
{
    struct memory_sample s;

    for (;;) {
        memory_sample(m, &s);
        if (s.failed || s.done) {
            memory_error(m, e);
            return false;
        }
        if (s.stopped)
            return true;
        if (!cancel_sleep_ms(m->halt, 2, e))
            return false;
    }
}

static void log_ram(struct move *m, const char *when)
{
    struct memory_sample s;
    char a[UNITS_LEN], b[UNITS_LEN], c[UNITS_LEN];

    memory_sample(m, &s);
    log_debug("switch", "%s: memory remaining=%s under-way=%s rate=%s", when,
              units_size(a, s.ram.remaining), units_size(b, s.under_way),
              units_rate(c, s.rate));
}

static bool release(struct move *m, struct err *e)
{
    log_ram(m, "release");
    m->taken_back = false; /* of an earlier try */
    if (!journal_step(m->journal, "released", NULL, e) ||
        !guard_say(m, "released", e) || !fault_point("switch.release", e))
        return false;
    /* From here on the destination may complete, whatever the answer to this call is. */
    m->released = true;
    pthread_mutex_lock(&m->lock);
    m->progress.released = true;
    pthread_mutex_unlock(&m->lock);
    memory_released(m);
    if (!request_move(m->link, "POST", m->id, "release", json_new(), CALL_MS, m->halt,
                      NULL, e)) {
        /* Refused: the agent says for certain that nothing was passed on. */
        if (e->kind == ERR_REFUSED)
            m->released = false;
        return false;
    }
    mark(m, PAUSE_RELEASE);
    return fault_point("switch.released", e);
}

static bool switch_steps(struct move *m, struct err *e)
{
    if (!journal_step(m->journal, "suspending", NULL, e) || !fault_point("switch", e) ||
        !suspend(m, e) || !fault_point("switch.suspended", e))
        return false;
    mark(m, PAUSE_SUSPEND);
    log_ram(m, "suspended");
    if (!copy_round(m, true, e))
        return false;
    m->marks.end[PAUSE_ROUND] = m->copied_at_ns;
    copy_drop(m);
    mark(m, PAUSE_FLUSH);
    if (!fault_point("switch.copied", e) ||
        !request_move(m->link, "POST", m->id, "close", json_new(), CLOSE_MS, m->halt,
                      NULL, e) ||
        !fault_point("switch.closed", e))
        return false;
    mark(m, PAUSE_CLOSE);
    if (!wait_for_ram(m, e))
        return false;
    mark(m, PAUSE_MEMORY);
    return release(m, e);
}

bool switch_run(struct move *m, struct err *e)
{
    struct err se = { 0 };

    move_enter(m, MOVE_SWITCH);
    if (switch_steps(m, &se))
        return true;
    if (!m->released) {
        *e = se;
        return false;
    }
    /* Released, and the answer is missing: the commit phase finds out what came of it. */
    log_warn("switch", "release: %s", se.msg);
    return true;
}

void switch_undo(struct move *m)
{
    struct err e = { 0 };

    atomic_store(&m->pause_deadline_ms, 0);
    if (!guard_say(m, "undoing", &e))
        log_debug("undo", "guard: %s", e.msg);
}
