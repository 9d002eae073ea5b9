#include "migrate/slow.h"

#include <errno.h>

#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/units.h"
#include "migrate/move-int.h"
#include "virt/throttle.h"

enum {
    FLOOR = 1 << 20, /* bytes/s: below, a guest's journal makes it look dead */
    DISK_STEPS = 5,  /* down to a 32nd */
};
/* A guest that touches a page now and then dirties no less memory with a tenth of its time:
 * so the steps go on to where it stands still, again and again, as long as a pause may be. */
static const unsigned percents[] = { 25, 50, 75, 90, 96, 98, 99 };
enum {
    CPU_STEPS = sizeof percents / sizeof percents[0],
    RUNS_MS = 10, /* of QEMU: a held CPU runs for so long at a time */
};

uint64_t slow_limit(double reached, unsigned step)
{
    const double limit = reached / (double)(2u << step);

    return limit > FLOOR ? (uint64_t)limit : FLOOR;
}

unsigned slow_percent(unsigned step)
{
    return percents[step < CPU_STEPS ? step : CPU_STEPS - 1];
}

bool slow_disk_left(const struct slow *s, size_t disk)
{
    return s->disks[disk].steps < DISK_STEPS &&
           (s->disks[disk].limit == 0 || s->disks[disk].limit > FLOOR);
}

bool slow_cpus_left(const struct slow *s, uint64_t budget_ms)
{
    const unsigned percent = slow_percent(s->cpu_steps);

    return s->cpus_before != NULL && s->cpu_steps < CPU_STEPS &&
           percent * RUNS_MS / (100 - percent) <= budget_ms;
}

/* Written down before anything is changed. */
static bool remember(struct move *m, const char *command, struct json_object *before,
                     struct err *e)
{
    const char *const args = json_object_to_json_string_ext(
        before, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    struct json_object *const more = json_add_str(json_new(), "restore", command);
    AUTO(mem_free) char *word = NULL;

    if (asprintf(&word, "restore %s %s", command, args) < 0)
        return err_set(e, ERR_SYS, ENOMEM, "cannot remember what was before");
    return journal_step(m->journal, "slowed",
                        json_add_obj(more, "arguments", json_object_get(before)), e) &&
           guard_say(m, word, e);
}

bool slow_prepare_cpus(struct move *m, struct err *e)
{
    struct slow *const s = &m->slow;

    if (m->cfg->on_stall != CONTROL_ON_STALL_THROTTLE)
        return true;
    if (s->cpus_before == NULL && (!throttle_cpus_read(m->dom, &s->cpus_before, e) ||
                                   !remember(m, THROTTLE_MIGRATION, s->cpus_before, e)))
        return false;
    s->cpu_steps = 0;
    return throttle_cpus(m->dom, 1, e);
}

bool slow_disk(struct move *m, size_t disk, struct err *e)
{
    const uint64_t limit = slow_limit(m->disk_rate, m->slow.disks[disk].steps);
    const char *const name = m->plan.disks[disk].target;
    char rate[UNITS_LEN], group[96];

    if (m->slow.disks[disk].before == NULL &&
        (!throttle_read(m->dom, m->blk.disks[disk].qdev, &m->slow.disks[disk].before,
                        e) ||
         !remember(m, THROTTLE_DISK, m->slow.disks[disk].before, e)))
        return err_wrap(e, "slowing %s", name);
    snprintf(group, sizeof group, "%s%s", m->blk.prefix, name);
    if (!fault_point("slow.disk", e) ||
        !throttle_writes(m->dom, m->slow.disks[disk].before, limit, group, e) ||
        !fault_point("slow.disk.done", e))
        return err_wrap(e, "slowing %s", name);
    m->slow.disks[disk].steps++;
    m->slow.disks[disk].limit = limit;
    log_warn("control", "the guest's writes on %s are slowed to %s", name,
             units_rate(rate, (double)limit));
    LOCK_SCOPE(&m->lock);
    m->progress.disks[disk].limit = limit;
    return true;
}

bool slow_cpus(struct move *m, struct err *e)
{
    const unsigned percent = slow_percent(m->slow.cpu_steps);

    if (!throttle_cpus(m->dom, percent, e) || !fault_point("slow.cpus.done", e))
        return err_wrap(e, "slowing the CPUs");
    m->slow.cpu_steps++;
    log_warn("control", "the guest's CPUs are held back %u %% of their time", percent);
    LOCK_SCOPE(&m->lock);
    m->progress.cpus_held = percent;
    return true;
}

static void lift(struct move *m, const char *what, const char *command,
                 struct json_object **before)
{
    struct err e = { 0 };

    if (*before == NULL)
        return;
    if (!throttle_restore(m->dom, command, *before, &e)) {
        log_warn("undo", "%s may still be slowed: %s", what, e.msg);
        return; /* what was before is not what is there now */
    }
    json_object_put(*before);
    *before = NULL;
}

void slow_lift_disks(struct move *m)
{
    for (size_t i = 0; i < m->plan.n; i++) {
        if (m->slow.disks[i].before != NULL)
            log_info("control", "the guest's writes on %s are as fast as before",
                     m->plan.disks[i].target);
        lift(m, m->plan.disks[i].target, THROTTLE_DISK, &m->slow.disks[i].before);
        m->slow.disks[i].steps = 0;
        m->slow.disks[i].limit = 0;
        LOCK_SCOPE(&m->lock);
        m->progress.disks[i].limit = 0;
    }
}

void slow_lift(struct move *m)
{
    /* The guard does it; or there is nothing to be put back. */
    if (m->dom == NULL || m->source_unknown || proc_ended(m->qemu_pidfd))
        return;
    slow_lift_disks(m);
    lift(m, "the migration's parameters", THROTTLE_MIGRATION, &m->slow.cpus_before);
    m->slow.cpu_steps = 0;
    LOCK_SCOPE(&m->lock);
    m->progress.cpus_held = 0;
}

void slow_left(struct move *m)
{
    bool left = m->slow.cpus_before != NULL;

    for (size_t i = 0; i < m->plan.n; i++)
        left |= m->slow.disks[i].before != NULL;
    if (left && !proc_ended(m->qemu_pidfd))
        texts_add(&m->left,
                  "on this host: the guest may still be slowed (virsh blkdeviotune)");
}

void slow_free(struct slow *s)
{
    for (size_t i = 0; i < DOMXML_DISKS_MAX; i++)
        json_object_put(s->disks[i].before);
    json_object_put(s->cpus_before);
}

bool slow_restore(struct vdom *dom, const char *text, struct err *e)
{
    AUTO(json_put) struct json_object *args = NULL;
    const char *const blank = strchr(text, ' ');
    char command[64];

    if (blank == NULL || (size_t)(blank - text) >= sizeof command)
        return err_set(e, ERR_PROTO, 0, "nothing to restore");
    snprintf(command, sizeof command, "%.*s", (int)(blank - text), text);
    return json_parse(blank + 1, strlen(blank + 1), &args, e) &&
           throttle_restore(dom, command, args, e);
}
