/* Begin again after a failure: what may be tried again, and what it takes to be fit for it.
 *
 * The phases that are to run again were undone: the guest runs at the source, RAM's stream
 * is over.  Then, here:
 *
 *   source       exports go; what the unfinished round had to copy is marked again
 *   link         where it is lost: dialled until --reconnect is over
 *   destination  the agent ends the writers and what came of an incoming QEMU, and starts
 *                new writers: a request that was under way to the old ones is never done
 *   mirrors      connected to the new writers
 *
 * What was copied and flushed stays; the bitmaps and c->safe know the rest. */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/units.h"
#include "migrate/move-int.h"

enum {
    WAIT_MS = 500,       /* before the first new try; then twice that, and so on, */
    WAIT_MAX_MS = 15000, /* up to this */
    NOTICE_MS = 300,
    HOLDS_MS = 30000, /* a link that was lost again sooner was never found */
};

/* What another try would not change. */
static bool is_final(const struct err *e)
{
    switch (e->kind) {
    case ERR_USAGE:
    case ERR_PROTO:
    case ERR_CANCELLED:
    case ERR_REFUSED:
    case ERR_GUEST:
    case ERR_STALLED:
    case ERR_UNRESOLVED:
        return true;
    default:
        break;
    }
    /* A disk that is full or broken stays so; and nobody shall suffer from our trying. */
    return e->os == ENOSPC || e->os == EDQUOT || e->os == EFBIG || e->os == EIO ||
           e->os == EROFS || e->os == ENOMEM;
}

static bool is_lost(const struct move *m)
{
    return m->link == NULL || link_state(m->link) != LINK_OPEN;
}

/* The switch took longer than was predicted: so much it may take the next time, too.  Within
 * what still leaves the budget something to copy in. */
static void learn_pause(struct move *m)
{
    const int64_t predicted = m->progress.predicted_pause_ms;
    const uint64_t most = move_budget(m) * 3 / 4;
    const int64_t now = clock_ns(), at = atomic_load(&m->paused_at_ns);

    if (!atomic_load(&m->over_time) || at == 0 || predicted < 0)
        return;
    const int64_t more = (now - at) / NS_PER_MS - predicted;
    if (more > 0)
        m->fixed_ms += (uint64_t)more;
    if (m->fixed_ms > most)
        m->fixed_ms = most > SWITCH_FIXED_MS ? most : SWITCH_FIXED_MS;
    log_info("again", "a switch is now reckoned to cost %llums",
             (unsigned long long)m->fixed_ms);
}

/* A dead agent takes the disks' connections with it some milliseconds before its link is
 * seen to be lost. */
static void look_at_link(const struct move *m)
{
    const int64_t end = clock_ms() + NOTICE_MS;

    while (m->failed_in < MOVE_MEMORY && !is_lost(m) && clock_ms() < end)
        clock_sleep_ms(10);
}

bool again_may(struct move *m, const struct err *e)
{
    look_at_link(m);
    const bool lost = is_lost(m);
    const bool counts = m->failed_in >= MOVE_MEMORY || !lost;

    if (m->released || m->unmended || is_final(e) ||
        (lost && m->cfg->reconnect_ms == 0) ||
        (counts && m->retries >= m->cfg->retries))
        return false;
    learn_pause(m);
    if (counts)
        m->retries++;
    if (lost && (m->lost_at_ms == 0 || clock_ms() - m->found_at_ms > HOLDS_MS))
        m->lost_at_ms = clock_ms();
    if (!lost)
        m->lost_at_ms = 0;
    log_warn("again", "%s: %s", m->facts.name, e->msg);
    return true;
}

/* --- fit for it --- */

/* The pause of the try that failed is over. */
static void forget_pause(struct move *m)
{
    if (m->pause_ms >= 0)
        texts_add(&m->notes, "the guest was paused for %lld ms and then taken back",
                  (long long)m->pause_ms);
    m->pause_ms = -1;
    atomic_store(&m->pause_deadline_ms, 0);
    atomic_store(&m->paused_at_ns, 0);
    atomic_store(&m->loaded_at_ns, 0);
    m->marks = (struct pause_marks){ 0 };
    atomic_store(&m->over_time, false);
}

/* It will be copied from its beginning. */
static void forget_ram(struct move *m)
{
    LOCK_SCOPE(&m->lock);
    m->progress.ram = (struct move_gauge){ .size = 0 };
    m->progress.predicted_pause_ms = -1;
}

/* A cancel is set for good, and the watcher sets it as long as the link is lost. */
static bool fresh_halt(struct move *m, struct err *e)
{
    struct cancel *const fresh = cancel_new();

    if (fresh == NULL)
        return err_set(e, ERR_SYS, errno, "cannot begin again");
    pthread_mutex_lock(&m->lock);
    struct cancel *const old = m->halt;
    m->halt = fresh;
    pthread_mutex_unlock(&m->lock);
    cancel_free(old);
    return true;
}

static bool bring_back(struct move *m, struct err *e)
{
    copy_drop(m);
    if (is_lost(m)) {
        if (!connect_again(m, e))
            return false;
        m->redials++;
        m->found_at_ms = clock_ms();
    }
    return fresh_halt(m, e) && fault_point("again", e) && prepare_reopen(m, e) &&
           copy_open(m, e);
}

/* What ends all trying, and is the failure then. */
static bool is_over(struct move *m, struct err *e)
{
    if (cancel_is_set(m->user))
        return !err_set(e, ERR_CANCELLED, 0, "interrupted");
    if (!proc_ended(m->qemu_pidfd))
        return !converge_in_time(m, e);
    return !move_guest_ended(m, e);
}

/* How long a lost link is still dialled, ms; 0: no longer, or it is not lost. */
static int left_ms(const struct move *m)
{
    return m->lost_at_ms != 0
               ? clock_left_ms(m->lost_at_ms + (int64_t)m->cfg->reconnect_ms)
               : 0;
}

static void say_waiting(struct move *m, const struct err *e)
{
    char left[UNITS_LEN];

    LOCK_SCOPE(&m->lock);
    if (m->lost_at_ms != 0)
        snprintf(m->progress.why, sizeof m->progress.why,
                 "the link is lost: trying again, for up to %s",
                 units_time(left, left_ms(m)));
    else
        snprintf(m->progress.why, sizeof m->progress.why, "%.130s: trying again",
                 e->msg);
}

/* Try until it is fit; a link that is lost, until --reconnect is over. */
static bool keep_trying(struct move *m, struct err *e)
{
    int wait = WAIT_MS << (m->retries > 0 && m->retries < 6 ? m->retries - 1 : 0);
    struct err why;

    do {
        if (is_over(m, e))
            return false;
        say_waiting(m, e);
        if (cancel_sleep_ms(m->user, wait, &why) && bring_back(m, &why))
            return true;
        log_info("again", "%s", why.msg);
        if (is_lost(m) && m->lost_at_ms == 0)
            m->lost_at_ms = clock_ms();
        wait = 2 * wait < WAIT_MAX_MS ? 2 * wait : WAIT_MAX_MS;
        /* A new agent may still be waiting for the end of the one before. */
    } while ((is_lost(m) || why.os == EBUSY) && left_ms(m) > 0);
    if (!is_over(m, e) && why.kind != ERR_CANCELLED) {
        const struct err first = *e;

        err_set(e, first.kind, 0, "%.250s; it could not begin again: %.250s", first.msg,
                why.msg);
        err_next(e, "%s", first.next[0] != '\0' ? first.next : why.next);
    }
    return false;
}

bool again_mend(struct move *m, struct err *e)
{
    const enum move_phase failed_in = m->failed_in;

    if (m->source_unknown)
        return false;
    forget_pause(m);
    m->failed_in = 0; /* the user may interrupt it again */
    move_enter(m, MOVE_RECONNECT);
    forget_ram(m);
    copy_drop(m);
    struct err why = { 0 };
    if (copy_settle(m, &why)) {
        if (keep_trying(m, e)) {
            log_info("again", "%s: going on", m->facts.name);
            return true;
        }
    } else {
        *e = why;
    }
    m->failed_in = failed_in;
    move_enter(m, MOVE_UNDO);
    return false;
}
