/* src/migrate/slow.h - the guest slowed down step by step, and sped up again for sure.
 *
 * Before the first change of a disk or of the CPUs what was there is written down, in the
 * journal and by telling the guard; so it is put back by slow_lift(), or by the guard, or it
 * is gone with the source's QEMU.  A limit on a disk that had none is in a throttle group of
 * our name besides, and blk_cleanup() takes it off even where all of that was lost.
 * Thread: main, but for the getters' progress.
 */
#ifndef SNM_MIGRATE_SLOW_H
#define SNM_MIGRATE_SLOW_H

#include "base/json.h"
#include "virt/domxml.h"

struct move;
struct vdom;

struct slow {
    struct {
        struct json_object *before; /* NULL: never slowed */
        unsigned steps;
        uint64_t limit; /* bytes/s; 0: none */
    } disks[DOMXML_DISKS_MAX];
    struct json_object *cpus_before;
    unsigned cpu_steps;
};

/* The limit of a step (0: the first): the half of what copying reaches, then half of that;
 * never below a floor.  Pure. */
uint64_t slow_limit(double reached, unsigned step);
/* Percent of their time that the CPUs stand still.  Pure. */
unsigned slow_percent(unsigned step);

/* Whether a further step is there; of the CPUs, one in which they never stand still for
 * longer than @budget_ms at a time. */
bool slow_disk_left(const struct slow *s, size_t disk);
bool slow_cpus_left(const struct slow *s, uint64_t budget_ms);

/* Before memory starts: libvirt will be told to slow CPUs, and QEMU that it is by nothing
 * for now.  Nothing to do unless the policy is to throttle. */
MUST_CHECK bool slow_prepare_cpus(struct move *m, struct err *e);
/* One step. */
MUST_CHECK bool slow_disk(struct move *m, size_t disk, struct err *e);
MUST_CHECK bool slow_cpus(struct move *m, struct err *e);
/* Disks as they were before (CPUs recover with the end of QEMU's migration). */
void slow_lift_disks(struct move *m);
/* Everything; no migration may be active.  The phase's undo. */
void slow_lift(struct move *m);
/* The last word of a move that failed: says where slow_lift() could not. */
void slow_left(struct move *m);
void slow_free(struct slow *s);

/* For the guard: put back what a word "restore COMMAND ARGUMENTS" told it. */
MUST_CHECK bool slow_restore(struct vdom *dom, const char *text, struct err *e);

#endif
