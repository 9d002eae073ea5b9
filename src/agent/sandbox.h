/* src/agent/sandbox.h - what the agent gives up before it hears its first foreign byte.
 *
 * It runs as root, for libvirt's sockets, images and QEMU's user ask for that; what neither
 * it nor the programs that it starts (qemu-nbd, qemu-img) ever need is taken away for good,
 * so that whoever takes one of them over gains less:
 *
 *   no_new_privs   no program gives more rights than there are (prctl(2))
 *   seccomp        calls that change the host, look into other processes, reach the network
 *                  or are known for holes in kernels fail; all others are allowed, for what
 *                  libvirt and QEMU call differs from release to release
 *   rlimits        no core dump, which would hold the guest's memory; descriptors for every
 *                  channel that a link may have, and not more
 *
 * Children inherit all of it.
 */
#ifndef SNM_AGENT_SANDBOX_H
#define SNM_AGENT_SANDBOX_H

#include "base/err.h"

/* For the calling thread and all that it starts: call it before there are others.  A kernel
 * without seccomp is a warning in the log.  Errors: ERR_SYS. */
MUST_CHECK bool sandbox_enter(struct err *e);

#endif
