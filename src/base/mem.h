/* src/base/mem.h - release at scope exit; hand over with *_steal(). */
#ifndef SNM_BASE_MEM_H
#define SNM_BASE_MEM_H

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/* AUTO(fd_close) int fd = -1;  calls fd_close_auto(&fd) when fd goes out of scope. */
#define AUTO(release) __attribute__((cleanup(release##_auto), unused))

static inline void fd_close_auto(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline int fd_steal(int *fd)
{
    const int v = *fd;

    *fd = -1;
    return v;
}

/* For any pointer that free(3) releases: AUTO(mem_free) char *s = strdup(x); */
static inline void mem_free_auto(void *p)
{
    free(*(void **)p);
}

static inline void *ptr_steal(void *p)
{
    void *const v = *(void **)p;

    *(void **)p = NULL;
    return v;
}

static inline void mutex_unlock_auto(pthread_mutex_t **m)
{
    pthread_mutex_unlock(*m);
}

/* Hold @m until the end of the enclosing block. */
#define LOCK_SCOPE(m) \
    AUTO(mutex_unlock) pthread_mutex_t *lock_ = (pthread_mutex_lock(m), (m))

#endif
