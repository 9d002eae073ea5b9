/* src/base/fault.h - named places where a test can make this process fail.
 *
 * SNMIGRATE_FAULT=POINT:ACTION[:N][,POINT:ACTION...]: at the Nth passing (1 when not
 * given) of POINT do ACTION, once: kill-self (SIGKILL), stop (SIGSTOP), exit (_exit(1)),
 * fail (the point returns an EIO error), delay-MS.  drop-link is fail at a point of the
 * tunnel.  Unset, a point costs one load.  Thread: any.
 */
#ifndef SNM_BASE_FAULT_H
#define SNM_BASE_FAULT_H

#include "base/err.h"

/* Read the variable.  Errors: ERR_USAGE malformed. */
MUST_CHECK bool fault_init(struct err *e);

/* The same, but only points whose names begin with @prefix are heeded: for a process that
 * inherits the variable of another one, and passes the same points as that one. */
MUST_CHECK bool fault_init_only(const char *prefix, struct err *e);

/* Pass the point.  false with ERR_SYS (EIO) when it was told to fail. */
MUST_CHECK bool fault_point(const char *name, struct err *e);

/* The same where the caller has no way to fail. */
void fault_pass(const char *name);

#endif
