#include "migrate/controller.h"

#include <stdio.h>

#include "base/units.h"

/* RAM starts when a disk round fits the budget, or this: an idle guest's RAM may be in step
 * a second later, and QEMU then stops the guest whether the disks are or not. */
enum { RAM_START_MS = 100 };

void control_init(struct control *c, const struct control_cfg *cfg)
{
    *c = (struct control){ .cfg = *cfg, .best_ms = -1 };
}

static int64_t ms_for(double bytes, double rate)
{
    return rate > 0 ? (int64_t)(bytes * 1000 / rate) : -1;
}

/* What RAM still has to send: what QEMU knows plus what was dirtied since it looked. */
static double ram_left(const struct control_sample *s)
{
    return (double)s->ram_remaining +
           s->ram_dirty_rate * (double)s->ram_since_sync_ms / 1000;
}

int64_t control_predict(const struct control *c, const struct control_sample *s)
{
    const int64_t disks = s->disk_dirty == 0 ? 0 : ms_for(s->disk_dirty, s->disk_rate);
    const int64_t ram = ram_left(s) < 1 ? 0 : ms_for(ram_left(s), s->ram_rate);

    if (disks < 0 || !s->ram_running || ram < 0)
        return -1;
    /* They share the link and its rate was measured with both on it: one after the other
     * is the pessimistic bound. */
    return (int64_t)c->cfg.fixed_ms + disks + ram;
}

/* A new best counts only when it is better by a twentieth: noise must not feed patience. */
static bool stalled(struct control *c, int64_t measure, int64_t now)
{
    if (c->best_ms < 0 || measure < c->best_ms - c->best_ms / 20) {
        c->best_ms = measure;
        c->best_at_ms = now;
    }
    return now - c->best_at_ms > (int64_t)c->cfg.patience_ms;
}

static enum control_do before_ram(struct control *c, const struct control_sample *s,
                                  char *why, size_t size)
{
    const int64_t round = s->disk_dirty == 0 ? 0 : ms_for(s->disk_dirty, s->disk_rate);
    const int64_t budget = (int64_t)c->cfg.budget_ms;
    const int64_t limit = budget > RAM_START_MS ? budget : RAM_START_MS;
    char d[UNITS_LEN], r[UNITS_LEN];

    units_size(d, s->disk_dirty);
    if (round >= 0 && round <= limit) {
        snprintf(why, size, "disks are nearly in step (%s dirty): memory starts", d);
        return CONTROL_RAM;
    }
    if (round >= 0 && stalled(c, round, s->now_ms)) {
        snprintf(why, size,
                 "disks do not converge: the guest writes %s, copying reaches %s",
                 units_rate(d, s->disk_dirty_rate), units_rate(r, s->disk_rate));
        return CONTROL_STALLED;
    }
    snprintf(why, size, "disks first: %s dirty would take %.1f s", d,
             round < 0 ? 0.0 : (double)round / 1000);
    return CONTROL_ROUND;
}

/* A round has fixed costs: while what it would copy takes a quarter of the budget or less,
 * waiting for RAM is better. */
static bool round_pays(const struct control *c, const struct control_sample *s)
{
    return s->disk_dirty > 0 &&
           (s->disk_rate <= 0 || ms_for((double)s->disk_dirty, s->disk_rate) * 4 >
                                     (int64_t)c->cfg.budget_ms);
}

enum control_do control_step(struct control *c, const struct control_sample *s,
                             char *why, size_t size)
{
    const int64_t pause = control_predict(c, s);
    char d[UNITS_LEN], r[UNITS_LEN];

    if (s->guest_stopped) {
        snprintf(why, size, "QEMU has stopped the guest: memory is in step");
        return CONTROL_SWITCH;
    }
    if (!s->ram_running)
        return before_ram(c, s, why, size);
    if (pause < 0) {
        snprintf(why, size, "memory has just started");
        return CONTROL_ROUND;
    }
    units_size(d, s->disk_dirty);
    units_size(r, (uint64_t)ram_left(s));
    if (pause <= (int64_t)c->cfg.budget_ms) {
        snprintf(why, size,
                 "predicted pause %d ms fits %d ms (%s of disks, %s of memory left)",
                 (int)pause, (int)c->cfg.budget_ms, d, r);
        return CONTROL_SWITCH;
    }
    if (stalled(c, pause, s->now_ms)) {
        snprintf(why, size, "the predicted pause stays above %d ms (best %d ms)",
                 (int)c->cfg.budget_ms, (int)c->best_ms);
        return CONTROL_STALLED;
    }
    snprintf(why, size,
             "would pause %d ms, at most %d ms allowed: %s of disks, %s of memory left",
             (int)pause, (int)c->cfg.budget_ms, d, r);
    return round_pays(c, s) ? CONTROL_ROUND : CONTROL_WAIT;
}
