/* src/virt/status.h - what libvirt keeps about a running domain under /run/libvirt/qemu:
 * the one thing that its API does not tell, the QEMU process and its directory.
 *
 * Only for a libvirt of this host, and only readable by root.  Thread: any.
 */
#ifndef SNM_VIRT_STATUS_H
#define SNM_VIRT_STATUS_H

#include <sys/types.h>

#include "base/err.h"

struct status {
    pid_t pid; /* of QEMU */
    char
        libdir[4096]; /* QEMU may make sockets here: /var/lib/libvirt/qemu/domain-1-x */
};

/* Parse a <domstatus> document; pure.  Errors: ERR_PROTO. */
MUST_CHECK bool status_parse(const char *xml, struct status *out, struct err *e);

/* Read the one of the running domain @name.  Errors: ERR_SYS, ERR_PROTO. */
MUST_CHECK bool status_read(const char *name, struct status *out, struct err *e);

/* The QEMU process of that domain: from <name>.pid or the status, and its command line
 * must carry the uuid, so that a recycled pid is never taken for it.  0: unknown. */
pid_t status_qemu_pid(const char *name, const char *uuid);

#endif
