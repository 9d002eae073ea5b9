/* The watch thread: stops the copying when the user asks, the link is lost, QEMU has died
 * or the pause is over time; and keeps the progress that the display reads. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/thread.h"
#include "migrate/move-int.h"

enum { TICK_MS = 50, RATE_MS = 500 };

struct rates {
    int64_t at_ns;
    uint64_t disk[DOMXML_DISKS_MAX], ram, sent;
};

static double smooth(double old, uint64_t now, uint64_t before, double seconds)
{
    const double rate = now >= before ? (double)(now - before) / seconds : 0;

    const double smoothed = old > 0 ? old * 0.6 + rate * 0.4 : rate;

    return smoothed < 1 ? 0 : smoothed; /* less than a byte/s: it stands still */
}

static void disk_gauges(struct move *m, struct rates *r, double seconds)
{
    /* Not the plan, which preflight may be making. */
    for (size_t i = 0; i < m->progress.ndisks; i++) {
        struct move_gauge *const g = &m->progress.disks[i];
        struct mirror_stats st;

        if (m->copies[i].mirror == NULL)
            continue;
        mirror_stats(m->copies[i].mirror, &st);
        g->total = st.pass_total;
        g->done = st.pass_done;
        uint64_t moved = st.data;
        if (atomic_load(&m->copies[i].comparing)) {
            g->total = g->size;
            g->done = moved = atomic_load(&m->copies[i].compared);
        }
        if (seconds > 0) {
            g->rate = smooth(g->rate, moved, r->disk[i], seconds);
            r->disk[i] = moved;
        }
    }
}

static void ram_gauge(struct move *m, struct rates *r, double seconds)
{
    struct move_gauge *const g = &m->progress.ram;
    struct memory_sample s;

    if (m->ram == NULL)
        return;
    memory_sample(m, &s);
    snprintf(g->name, sizeof g->name, "RAM");
    g->size = s.ram.total;
    g->total = s.ram.total;
    g->done = s.ram.total >= s.ram.remaining ? s.ram.total - s.ram.remaining : 0;
    g->dirty = s.ram.remaining;
    g->dirty_rate = (double)s.ram.dirty_rate;
    if (seconds > 0) {
        g->rate = smooth(g->rate, s.received, r->ram, seconds);
        r->ram = s.received;
    }
}

static void link_gauge(struct move *m, struct rates *r, double seconds)
{
    struct link_stats st;

    if (m->link == NULL)
        return;
    link_stats(m->link, &st);
    m->progress.sent = m->sent_before + st.sent;
    m->progress.rtt_us = st.rtt_us;
    m->progress.ratio = st.packed > 0 ? (double)st.plain / (double)st.packed : 1;
    if (seconds > 0) {
        m->progress.sent_rate =
            smooth(m->progress.sent_rate, st.sent, r->sent, seconds);
        r->sent = st.sent;
    }
}

static void estimate(struct move *m)
{
    struct move_progress *const p = &m->progress;
    const bool copying = p->phase >= MOVE_BULK && p->phase <= MOVE_MEMORY;
    double left = 0, rate = 0, dirty = 0;

    for (size_t i = 0; i < p->ndisks; i++) {
        left += (double)(p->disks[i].total - p->disks[i].done) +
                (double)(p->disks[i].dirty + p->disks[i].hot);
        rate += p->disks[i].rate;
        dirty += p->disks[i].dirty_rate > 0 ? p->disks[i].dirty_rate : 0;
    }
    if (p->ram.size > 0) {
        left += (double)p->ram.dirty;
        rate += p->ram.rate;
        dirty += p->ram.dirty_rate;
    } else if (copying) { /* preflight, which finds that out, is over */
        left += (double)m->info.memory;
    }
    p->trend = rate <= 0             ? MOVE_TREND_UNKNOWN
               : dirty < rate * 0.8  ? MOVE_TREND_CONVERGING
               : dirty < rate * 1.05 ? MOVE_TREND_STEADY
                                     : MOVE_TREND_DIVERGING;
    p->eta_ms = copying && !atomic_load(&m->hold) && p->trend == MOVE_TREND_CONVERGING
                    ? (int64_t)(left * MS_PER_S / (rate - dirty))
                    : -1;
}

static void refresh(struct move *m, struct rates *r)
{
    const int64_t now = clock_ns();
    double seconds = (double)(now - r->at_ns) / 1e9;

    LOCK_SCOPE(&m->lock);
    if (r->at_ns == 0)
        r->at_ns = now;
    if (seconds * MS_PER_S < RATE_MS)
        seconds = 0;
    else
        r->at_ns = now;
    m->progress.elapsed_ms = clock_ms() - m->started_ms;
    disk_gauges(m, r, seconds);
    ram_gauge(m, r, seconds);
    link_gauge(m, r, seconds);
    if (seconds > 0)
        estimate(m);
}

static void check_halt(struct move *m)
{
    const int64_t deadline = atomic_load(&m->pause_deadline_ms);

    const bool over = deadline != 0 && clock_ms() >= deadline;

    LOCK_SCOPE(&m->lock);
    const bool lost = (m->link != NULL && link_state(m->link) == LINK_BROKEN) ||
                      (m->qemu_pidfd >= 0 && proc_ended(m->qemu_pidfd));
    if (over)
        atomic_store(&m->over_time, true);
    if (over || lost || cancel_is_set(m->user))
        cancel_set(m->halt);
}

/* The link ends, and with it what was waited for. */
static void check_answer(struct move *m)
{
    const int64_t by = atomic_load(&m->answer_by_ms);

    if (by == 0 || (clock_ms() < by && !cancel_is_set(m->user)))
        return;
    LOCK_SCOPE(&m->lock);
    if (m->dial != NULL)
        dial_kill(m->dial);
}

static void *watch_thread(void *arg)
{
    struct move *const m = arg;
    struct rates r = { 0 };

    while (!atomic_load(&m->watch_stop)) {
        struct pollfd p = { .fd = cancel_is_set(m->user) ? -1 : cancel_fd(m->user),
                            .events = POLLIN };

        poll(&p, 1, TICK_MS);
        check_halt(m);
        check_answer(m);
        refresh(m, &r);
    }
    return NULL;
}

bool watcher_start(struct move *m, struct err *e)
{
    m->watching = thread_start(&m->watch, watch_thread, m, "watch", e);
    return m->watching;
}

void watcher_stop(struct move *m)
{
    if (!m->watching)
        return;
    atomic_store(&m->watch_stop, true);
    pthread_join(m->watch, NULL);
    m->watching = false;
}
