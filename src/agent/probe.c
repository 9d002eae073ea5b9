#include "agent/probe.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/unix.h"

enum { CHUNK = 256 * 1024 };

static void *drain_thread(void *arg)
{
    const int fd = (int)(intptr_t)arg;
    char *const buf = malloc(CHUNK);

    while (buf != NULL && read(fd, buf, CHUNK) > 0)
        ;
    free(buf);
    close(fd);
    return NULL;
}

bool probe_open(int *fd, struct err *e)
{
    pthread_attr_t attr;
    pthread_t t;
    int pair[2];

    if (!unix_pair(pair, e))
        return false;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    const int os = pthread_create(&t, &attr, drain_thread, (void *)(intptr_t)pair[1]);
    pthread_attr_destroy(&attr);
    if (os != 0) {
        close(pair[0]);
        close(pair[1]);
        return err_set(e, ERR_SYS, os, "cannot start a thread");
    }
    *fd = pair[0];
    return true;
}
