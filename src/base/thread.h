/* src/base/thread.h - threads with a name, that signals leave alone. */
#ifndef SNM_BASE_THREAD_H
#define SNM_BASE_THREAD_H

#include <pthread.h>

#include "base/err.h"

enum { THREAD_NAME = 16 }; /* bytes of a name and its NUL, pthread_setname_np(3) */

/**
 * thread_start() - pthread_create(3) with signals blocked
 * @t:     to be joined by the caller; undefined on failure
 * @run:   its function; @arg is what it gets
 * @name:  as ps -L and top -H show it
 *
 * Signals belong to who made the first thread: a handler runs there, and a library's threads
 * take none.  Those of a fault (SIGSEGV and the like) stay, for blocked they are undefined
 * (sigprocmask(2)).
 *
 * Errors: ERR_SYS.
 * Thread: any.  Blocks: no.
 */
MUST_CHECK bool thread_start(pthread_t *t, void *(*run)(void *), void *arg,
                             const char *name, struct err *e);
/* The same, of one that nobody joins. */
MUST_CHECK bool thread_start_detached(void *(*run)(void *), void *arg, const char *name,
                                      struct err *e);

#endif
