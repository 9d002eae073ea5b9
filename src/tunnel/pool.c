#include "tunnel/link-int.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"

struct pool {
    pthread_t threads[POOL_THREADS];
    unsigned nthreads;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t work;
    struct job *jobs, **jobs_end;
    bool stop;
};

static struct job *pool_take(struct pool *p)
{
    LOCK_SCOPE(&p->lock);
    while (p->jobs == NULL && !p->stop)
        pthread_cond_wait(&p->work, &p->lock);
    if (p->stop)
        return NULL;

    struct job *const j = p->jobs;
    p->jobs = j->next;
    if (p->jobs == NULL)
        p->jobs_end = &p->jobs;
    return j;
}

static void *pool_main(void *arg)
{
    struct job *j;

    while ((j = pool_take(arg)) != NULL)
        j->run(j, false);
    return NULL;
}

bool pool_new(struct pool **out, struct err *e)
{
    struct pool *const p = calloc(1, sizeof *p);

    if (p == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "thread pool");
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    p->jobs_end = &p->jobs;
    for (; p->nthreads < POOL_THREADS; p->nthreads++) {
        if (!thread_start(&p->threads[p->nthreads], pool_main, p, "link-pool", e)) {
            pool_stop(p);
            return false;
        }
    }
    *out = p;
    return true;
}

void pool_add(struct pool *p, struct job *j)
{
    LOCK_SCOPE(&p->lock);
    j->next = NULL;
    *p->jobs_end = j;
    p->jobs_end = &j->next;
    pthread_cond_signal(&p->work);
}

void pool_stop(struct pool *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->nthreads; i++)
        pthread_join(p->threads[i], NULL);

    for (struct job *j = p->jobs, *next; j != NULL; j = next) {
        next = j->next;
        j->run(j, true);
    }
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
