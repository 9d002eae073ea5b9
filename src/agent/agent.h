/* src/agent/agent.h - the destination's role, started by ssh as "snmigrate agent".
 *
 * Speaks HTTP/2 on stdin/stdout (tunnel/link.h, server side); logs to stderr, which ssh
 * carries back.  The control protocol is described in src/README.md.  It creates images,
 * supervises one qemu-nbd per disk, receives RAM and holds its tail, starts the guest on
 * COMMIT only, and removes on ABORT only what it made.
 */
#ifndef SNM_AGENT_AGENT_H
#define SNM_AGENT_AGENT_H

#include "base/err.h"

struct guest_ops;

/* Run until the peer has gone.  Returns the process's exit status. */
int agent_main(void);

/* The same with any libvirt behind it: serve the peer on @in and @out, which are taken over,
 * until it has gone or @signals (a signalfd, borrowed; -1: none) is readable; then do what
 * src/README.md says of a lost link.  true: an orderly end.  Errors: ERR_LINK,
 * ERR_CANCELLED, ERR_PROTO. */
MUST_CHECK bool agent_serve(int in, int out, int signals, const struct guest_ops *ops,
                            struct err *e);

#endif
