/* The forecast that a move makes of itself, from the first seconds of its bulk pass.
 *
 * Nothing waits for it: the rates are those of the copying that goes on anyway, the bitmaps
 * are there, QEMU measures RAM beside it. */
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/procmem.h"
#include "base/units.h"
#include "migrate/move-int.h"
#include "tunnel/zratio.h"

enum {
    LOOK_MS = 3000, /* into the bulk pass, if it lasts so long */
    RAM_S = 1,      /* QEMU's look at RAM */
    /* Seen in the lab: libvirt starts a QEMU, and ends one. */
    RAM_START_MS = 700,
    END_MS = 400,
};

void foresee_fixed(struct move *m, struct forecast_in *in)
{
    in->budget_ms = move_budget(m);
    in->switch_ms = SWITCH_FIXED_MS;
    in->ram_start_ms = RAM_START_MS;
    in->end_ms = END_MS;
}

double foresee_ram(struct move *m, struct foresee_ram *ram)
{
    struct procmem p = { .buf = ram->sample, .size = sizeof ram->sample };
    struct err e = { 0 };

    if (!procmem_look(m->facts.pid, m->info.memory, &p, &e)) {
        log_debug("forecast", "memory: %s", e.msg);
        p.used = 1;
    }
    ram->len = p.len;
    ram->bytes = (uint64_t)((double)m->info.memory * p.used);
    return zratio(ram->sample, ram->len, m->cfg->zstd);
}

void foresee_log(const struct forecast *f)
{
    char a[UNITS_LEN], b[UNITS_LEN], c[UNITS_LEN], d[UNITS_LEN], t[UNITS_LEN];

    log_info("forecast",
             "%s in %s: sent=%s pause=%lldms rounds=%u data=%s memory=%s rate=%s",
             f->converges ? "converges" : "does not converge",
             units_time(t, f->total_ms), units_size(a, f->sent), (long long)f->pause_ms,
             f->rounds, units_size(b, f->in.disk_bytes), units_size(c, f->in.ram_bytes),
             units_rate(d, f->in.disk_rate));
    log_info("forecast", "dirtied: disks=%s of %s, memory=%s of %s",
             units_rate(a, f->in.disk.rate), units_size(b, (uint64_t)f->in.disk.set),
             units_rate(c, f->in.ram.rate), units_size(d, (uint64_t)f->in.ram.set));
    log_info("forecast", "shrinks: disks=%.2f memory=%.2f at %s", f->in.disk_ratio,
             f->in.ram_ratio, units_rate(a, f->in.ram_rate));
}

uint64_t foresee_disk_size(const struct move *m)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < m->plan.n; i++)
        sum += m->plan.disks[i].size;
    return sum;
}

/* --- during the bulk pass --- */

static void stand(struct move *m, struct foresee_at *at)
{
    struct link_stats st;

    link_stats(m->link, &st);
    *at = (struct foresee_at){ clock_ms(), copy_bytes(m), st.sent };
}

void foresee_begin(struct move *m)
{
    struct err e = { 0 };

    m->foresee.n = 0; /* the bulk may have begun before, with another link */
    stand(m, &m->foresee.begin);
    if (m->facts.run == VDOM_RUNNING &&
        !vdom_dirty_rate_start(m->dom, m->info.memory, RAM_S, &e))
        log_debug("forecast", "%s", e.msg);
}

/* From one look to another: rate, and how it shrinks. */
static void rates(const struct foresee_at *a, const struct foresee_at *b,
                  struct forecast_in *in)
{
    const double s = (double)(b->ms - a->ms) / MS_PER_S;

    in->disk_rate = s > 0 ? (double)(b->copied - a->copied) / s : 0;
    in->disk_ratio = b->copied > a->copied && b->sent > a->sent
                         ? (double)(b->copied - a->copied) / (double)(b->sent - a->sent)
                         : 1;
}

/* RAM was not sent yet.  Where the link is what limits, it is so much faster as it shrinks
 * better than the disks; where the CPUs are, zstd stores it as it is.  Unless --bandwidth
 * tells, the middle is taken. */
static void guess_ram(struct move *m, struct forecast_in *in)
{
    AUTO(mem_free) struct foresee_ram *ram = malloc(sizeof *ram);
    const double wire = in->disk_rate / in->disk_ratio,
                 most = (double)atomic_load(&m->bandwidth);

    in->ram_bytes = m->info.memory;
    in->ram_ratio = 1;
    if (ram != NULL) {
        in->ram_ratio = foresee_ram(m, ram);
        in->ram_bytes = ram->bytes;
    }
    if (most <= 0 || wire < most * 0.8)
        in->ram_ratio = sqrt(in->ram_ratio);
    in->ram_rate = fmin(wire * in->ram_ratio, FORESEE_RAM_MOST);
}

/* What the bulk pass and the first round have to copy, but for what is written from now on:
 * less where an earlier try is gone on with. */
static uint64_t left_to_copy(const struct move *m, size_t disk)
{
    const struct plan_disk *const d = &m->plan.disks[disk];
    const uint64_t start = m->copies[disk].pass.start;
    const double part = d->size > 0 ? (double)(d->size - start) / (double)d->size : 1;

    return (uint64_t)((double)d->allocated * part) + m->dirty_then[disk];
}

static void make(struct move *m, const struct foresee_at *now, bool over)
{
    struct foresee *const f = &m->foresee;
    struct forecast_in in = { .start_ms = (uint64_t)(f->begin.ms - m->started_ms),
                              .sent = f->begin.sent };
    struct forecast_point ram = { .s = RAM_S };
    struct err e = { 0 };
    double rate;

    /* The first second is not like the others: pipes fill, zstd looks for its level. */
    rates(f->n > 0 && !over ? &f->first : &f->begin, now, &in);
    for (size_t i = 0; i < m->plan.n && !over; i++)
        in.disk_bytes += left_to_copy(m, i);
    if (in.disk_bytes < now->copied)
        in.disk_bytes = now->copied;
    foresee_fixed(m, &in);
    guess_ram(m, &in);
    forecast_fit(&in.disk, f->points, f->n, (double)foresee_disk_size(m));
    if (vdom_dirty_rate(m->dom, &rate, &e) && rate >= 0) {
        ram.bytes = rate * RAM_S;
        forecast_fit(&in.ram, &ram, 1, (double)in.ram_bytes);
    }
    forecast_make(&in, &f->out);
    f->at_ms = clock_ms() - m->started_ms;
    foresee_log(&f->out);
}

void foresee_tick(struct move *m, bool over)
{
    struct foresee *const f = &m->foresee;
    struct foresee_at now;

    if (f->out.made || f->begin.ms == 0)
        return;
    stand(m, &now);
    if (f->n < sizeof f->points / sizeof f->points[0])
        f->points[f->n++] =
            (struct forecast_point){ (double)(now.ms - m->tracked_since_ms) / MS_PER_S,
                                     (double)m->disk_written };
    if (f->n == 1)
        f->first = now;
    if (over || now.ms - f->begin.ms >= LOOK_MS)
        make(m, &now, over);
}
