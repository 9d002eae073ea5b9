/* src/virt/throttle.h - slow a guest down from inside QEMU, and back again, by QMP.
 *
 * Disks: block_set_io_throttle, which acts on what the guest writes and not on our export,
 * and of which neither libvirt's definitions nor the destination ever hear.  It works at any
 * time, also in libvirt's migration job.  CPUs: auto-converge.  The capability
 * can be set before a migration only; but how much QEMU may hold back, and when, are
 * parameters that can be changed while it runs (QEMU 7.2 and 10, qmp_migrate_set_parameters).
 * QEMU itself ends it with the migration, whatever the outcome.
 *
 * What was before is an object of arguments which, sent again, put it back: THROTTLE_DISK
 * and THROTTLE_MIGRATION say to which command.
 * Thread and connection: those of the vdom.  Errors: ERR_VIRT, ERR_PROTO.
 */
#ifndef SNM_VIRT_THROTTLE_H
#define SNM_VIRT_THROTTLE_H

#include "virt/virt.h"

#define THROTTLE_DISK      "block_set_io_throttle"
#define THROTTLE_MIGRATION "migrate-set-parameters"

/* Pure: the limits of the disk @qdev in the answer of query-block, as arguments; *out owned
 * by the caller.  Errors: ERR_PROTO; ERR_REFUSED no such disk. */
MUST_CHECK bool throttle_of(struct json_object *blocks, const char *qdev,
                            struct json_object **out, struct err *e);
/* Pure: the same limits, but at most @bps bytes/s written, of all if they have a total.  A
 * disk without limits gets the throttle group @group.  Owned by the caller. */
struct json_object *throttle_slower(struct json_object *before, uint64_t bps,
                                    const char *group);

/* The limits of a disk as they are now. */
MUST_CHECK bool throttle_read(struct vdom *dom, const char *qdev,
                              struct json_object **out, struct err *e);
MUST_CHECK bool throttle_writes(struct vdom *dom, struct json_object *before,
                                uint64_t bps, const char *group, struct err *e);

/* The parameters that throttle_cpus() changes, as they are now. */
MUST_CHECK bool throttle_cpus_read(struct vdom *dom, struct json_object **out,
                                   struct err *e);
/* How much of their time QEMU may hold the CPUs back, from its next look at dirty pages
 * on; 1: as good as nothing, and to be set before a migration with auto-converge. */
MUST_CHECK bool throttle_cpus(struct vdom *dom, unsigned percent, struct err *e);

/* Put back what @before says with @command, one of the two above. */
MUST_CHECK bool throttle_restore(struct vdom *dom, const char *command,
                                 struct json_object *before, struct err *e);

/* Take all limits off the disks whose throttle group's name begins with @prefix: they had
 * none before.  Goes on after a failure and returns the first. */
MUST_CHECK bool throttle_sweep(struct vdom *dom, const char *prefix, struct err *e);

#endif
