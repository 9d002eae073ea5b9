/* src/agent/probe.h - the channel "probe": what comes is thrown away.
 *
 * A source that wants to know the link's rate sends into it what it would send in a move.
 */
#ifndef SNM_AGENT_PROBE_H
#define SNM_AGENT_PROBE_H

#include "base/err.h"

/* *fd: the channel's local end, owned by the caller.  Its other end is read until end of
 * file by a thread of its own, which ends with it.  Errors: ERR_SYS.  Blocks: no. */
MUST_CHECK bool probe_open(int *fd, struct err *e);

#endif
