/* src/virt/blkstats.h - what the guest's writes to its disks took, as QEMU counts it. */
#ifndef SNM_VIRT_BLKSTATS_H
#define SNM_VIRT_BLKSTATS_H

#include "virt/blk.h"

struct blkstats {
    uint64_t writes;   /* completed, since QEMU's start */
    uint64_t write_ns; /* time from submission to completion, of all of them */
};

/* query-blockstats for the disks of @b, in their order.  Thread and connection: those of
 * the vdom.  Errors: ERR_VIRT, ERR_PROTO. */
MUST_CHECK bool blk_stats(struct blk *b, struct blkstats out[DOMXML_DISKS_MAX],
                          struct err *e);
/* The answer of query-blockstats; pure.  A disk that is not in it: ERR_PROTO. */
MUST_CHECK bool blkstats_parse(const struct blk *b, struct json_object *answer,
                               struct blkstats out[DOMXML_DISKS_MAX], struct err *e);

#endif
