/* src/agent/check.h - preflight of the destination's file systems, files and bridges.
 *
 * What libvirt here can tell (CPU, machine, memory, names taken), the source asks it
 * itself.  Changes nothing.  Thread: any.  Blocks: on the disk.
 */
#ifndef SNM_AGENT_CHECK_H
#define SNM_AGENT_CHECK_H

#include "agent/guest.h"
#include "base/findings.h"
#include "base/json.h"

/* @body: {name, uuid, disks: [{target, path, format, size, allocated}], files: [{what, path,
 * optional, template}], bridges: [name]}.  Errors: ERR_PROTO; what is found is no error. */
MUST_CHECK bool check_host(struct json_object *body, const struct guest_ops *ops,
                           struct findings *f, struct err *e);

#endif
