#include "base/thread.h"

#include <assert.h>
#include <signal.h>
#include <string.h>

bool thread_start(pthread_t *t, void *(*run)(void *), void *arg, const char *name,
                  struct err *e)
{
    static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };
    sigset_t most, old;

    assert(strlen(name) < THREAD_NAME);
    sigfillset(&most);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        sigdelset(&most, faults[i]);
    pthread_sigmask(SIG_SETMASK, &most, &old);
    const int os = pthread_create(t, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (os != 0)
        return err_set(e, ERR_SYS, os, "cannot start thread %s", name);
    pthread_setname_np(*t, name);
    return true;
}

bool thread_start_detached(void *(*run)(void *), void *arg, const char *name,
                           struct err *e)
{
    pthread_t t;

    if (!thread_start(&t, run, arg, name, e))
        return false;
    pthread_detach(t); /* not before: it could be gone when it gets its name */
    return true;
}
