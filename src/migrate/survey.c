/* --check --forecast: what the guest dirties and what the link carries, before any move.
 *
 * Changes one thing, for as long as it takes: a dirty bitmap on every disk, which is how
 * rewriting of the same blocks shows, and a read-only export.  Both are removed on every
 * path; after a kill -9 the next forecast or move of the VM does so. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "migrate/move-int.h"
#include "migrate/probe.h"

enum {
    LOOK_MS = 250,   /* between two looks at the bitmaps, at least */
    RAM_FIRST_S = 1, /* QEMU's first look at RAM; a longer one shows the bend */
    RAM_MOST_S = 10,
    PROBE_MIN_MS = 3000,
    PROBE_MAX_MS = 6000,
    PROBE_RAM_MS = 2000,
    PREPARE_TAKES_MS = 500, /* images and writers, seen in the lab */
    CHATTER = 300 << 10,    /* bytes on the wire for all but disks and RAM, seen */
};

struct survey {
    struct forecast_point disk[FORECAST_POINTS], ram[2];
    size_t ndisk, nram;
    unsigned ram_s; /* length of the look at RAM that goes on; 0: none */
};

static void say(struct move *m, const char *what, int64_t ms)
{
    char t[UNITS_LEN];

    LOCK_SCOPE(&m->lock);
    snprintf(m->progress.why, sizeof m->progress.why, "%s, for %s", what,
             units_time(t, ms));
}

/* One look at RAM after the other; QEMU does one at a time, and may still be at one of a
 * forecast that was interrupted. */
static void look_at_ram(struct move *m, struct survey *s, int64_t left_ms)
{
    struct err e = { 0 };
    double rate;

    if (s->ram_s > 0) {
        if (!vdom_dirty_rate(m->dom, &rate, &e) || rate < 0)
            return;
        s->ram[s->nram++] = (struct forecast_point){ s->ram_s, rate * s->ram_s };
        s->ram_s = 0;
    }
    unsigned next = s->nram == 0 ? RAM_FIRST_S : (unsigned)(left_ms / MS_PER_S);
    if (next > RAM_MOST_S)
        next = RAM_MOST_S;
    if (s->nram == 2 || (s->nram == 1 && next <= RAM_FIRST_S))
        return;
    if (vdom_dirty_rate_start(m->dom, m->info.memory, next, &e))
        s->ram_s = next;
    else
        log_debug("forecast", "%s", e.msg);
}

static bool look_at_disks(struct move *m, struct survey *s, struct err *e)
{
    uint64_t bytes[DOMXML_DISKS_MAX];
    struct forecast_point p = { 0 };

    if (!blk_dirty(&m->blk, bytes, e))
        return false;
    p.s = (double)(clock_ms() - m->tracked_since_ms) / MS_PER_S;
    for (size_t i = 0; i < m->plan.n; i++)
        p.bytes += (double)bytes[i];
    if (s->ndisk < FORECAST_POINTS)
        s->disk[s->ndisk++] = p;
    return true;
}

static bool watch_guest(struct move *m, struct survey *s, struct err *e)
{
    const int64_t begin = clock_ms(), end = begin + (int64_t)m->cfg->forecast_ms;
    int step = (int)(m->cfg->forecast_ms / FORECAST_POINTS);

    if (step < LOOK_MS)
        step = LOOK_MS;
    say(m, "watching what the guest writes", (int64_t)m->cfg->forecast_ms);
    if (!blk_bitmaps_start(&m->blk, e))
        return false;
    m->tracked_since_ms = clock_ms();
    do {
        look_at_ram(m, s, end - clock_ms());
        if (!cancel_sleep_ms(m->halt, step, e) || !look_at_disks(m, s, e) ||
            !fault_point("forecast", e))
            return false;
    } while (clock_ms() < end);
    /* The last look at RAM began in time, and ends a moment late. */
    for (int i = 0; i < 4 && s->ram_s > 0; i++) {
        if (!cancel_sleep_ms(m->halt, step, e))
            return false;
        look_at_ram(m, s, 0);
    }
    return true;
}

static bool rehearse(struct move *m, struct probe *p, struct err *e)
{
    int ms = (int)(m->cfg->forecast_ms / 2);

    ms = ms < PROBE_MIN_MS ? PROBE_MIN_MS : ms > PROBE_MAX_MS ? PROBE_MAX_MS : ms;
    say(m, "sending some of the disks, to be thrown away there", ms);
    for (size_t i = 0; i < m->plan.n; i++)
        if (!blk_export(&m->blk, i, false, m->copies[i].export_name,
                        m->copies[i].bitmap, e))
            return false;
    return probe_run(m, ms, p, e);
}

/* RAM on its way alone: after the disks, so that the two do not disturb each other. */
static bool rehearse_ram(struct move *m, const struct probe *disks, struct probe *p,
                         uint64_t *bytes, struct err *e)
{
    AUTO(mem_free) struct foresee_ram *ram = malloc(sizeof *ram);

    if (ram == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "forecast");
    *p = (struct probe){ .rate = 0, .ratio = foresee_ram(m, ram) };
    *bytes = ram->bytes;
    say(m, "sending some of the memory, to be thrown away there", PROBE_RAM_MS);
    for (int i = 0; i < 2 && ram->len > 0; i++) {
        struct probe now;

        if (!probe_ram(m, ram->sample, ram->len, PROBE_RAM_MS, &now, e))
            return false;
        if (now.rate > p->rate)
            *p = now;
        /* One channel is not that much slower than four: something came in between. */
        if (p->rate / p->ratio * 4 > disks->rate / disks->ratio)
            break;
    }
    return true;
}

static void conclude(struct move *m, const struct survey *s, const struct probe *p,
                     const struct probe *ram, uint64_t ram_bytes, uint64_t started)
{
    struct forecast_in in = { .disk_bytes = p->data,
                              .disk_rate = p->rate,
                              .disk_ratio = p->ratio,
                              .start_ms = started + PREPARE_TAKES_MS,
                              .sent = CHATTER };

    in.ram_bytes = ram_bytes;
    in.ram_ratio = ram->ratio;
    in.ram_rate = fmin(ram->rate > 0 ? ram->rate : p->rate, FORESEE_RAM_MOST);
    /* Nothing is on the disks. */
    if (in.disk_rate <= 0)
        in.disk_rate = in.ram_rate;
    foresee_fixed(m, &in);
    forecast_fit(&in.disk, s->disk, s->ndisk, (double)foresee_disk_size(m));
    forecast_fit(&in.ram, s->ram, s->nram, (double)in.ram_bytes);
    forecast_make(&in, &m->foresee.out);
    m->foresee.at_ms = clock_ms() - m->started_ms;
    foresee_log(&m->foresee.out);
}

/* Of what was found, what alone would help. */
static bool would_not(const struct forecast *f, struct err *e)
{
    char t[UNITS_LEN], r[UNITS_LEN];

    err_set(e, ERR_STALLED, 0,
            "it would not converge: the guest dirties disks at %s and memory at %s",
            units_rate(t, f->in.disk.rate), units_rate(r, f->in.ram.rate));
    units_time_typed(t, f->needs_downtime_ms);
    units_rate(r, f->needs_rate);
    if (f->needs_downtime_ms > 0 && f->needs_rate > 0)
        return err_next(e, "It would with --max-downtime %s, or if %s could be sent.",
                        t, r);
    if (f->needs_downtime_ms > 0)
        return err_next(e, "It would with --max-downtime %s.", t);
    if (f->needs_rate > 0)
        return err_next(e, "It would if %s could be sent.", r);
    return err_next(e, "Move it when it is quieter.");
}

bool forecast_run(struct move *m, struct err *e)
{
    const uint64_t started = (uint64_t)(clock_ms() - m->started_ms);
    struct survey s = { 0 };
    struct probe p, ram;
    uint64_t ram_bytes;
    struct err why = { 0 };

    if (m->cfg->forecast_ms == 0)
        return true;
    move_enter(m, MOVE_FORECAST);
    /* The lock is ours: whatever has our prefix was left by one that is dead, or is what a
     * move has kept. */
    if (!blk_cleanup_others(m->dom, m->kept != NULL ? m->kept->id : NULL, &why))
        log_debug("forecast", "cleaning up in QEMU: %s", why.msg);
    m->tracking = true;
    if (!blk_server_start(&m->blk, e) || !watch_guest(m, &s, e) || !rehearse(m, &p, e))
        return false;
    track_undo(m);
    if (!rehearse_ram(m, &p, &ram, &ram_bytes, e))
        return false;
    conclude(m, &s, &p, &ram, ram_bytes, started);
    return m->foresee.out.converges || would_not(&m->foresee.out, e);
}

void forecast_undo(struct move *m)
{
    track_undo(m);
}
