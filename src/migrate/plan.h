/* src/migrate/plan.h - which disk goes where, in which format; pure. */
#ifndef SNM_MIGRATE_PLAN_H
#define SNM_MIGRATE_PLAN_H

#include "migrate/move.h"

struct plan_disk {
    char target[32];
    char src[PATHS_MAX], src_format[16];
    char dst[PATHS_MAX], dst_format[16];
    bool block;         /* the destination is a block device, as its agent found */
    uint64_t size;      /* virtual, bytes */
    uint64_t allocated; /* at the source, bytes */
};

struct plan {
    struct plan_disk disks[DOMXML_DISKS_MAX];
    size_t n;
};

/* From what the user asked for and what the domain has.  Sizes are left 0 for the caller.
 * What does not fit is added to @f: --disk for a target that is not there or given twice,
 * two disks with one destination, a format for which the destination makes no sense. */
void plan_make(const struct move_cfg *cfg, const struct dominfo *info, struct plan *out,
               struct findings *f);

#endif
