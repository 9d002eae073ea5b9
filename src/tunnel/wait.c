#include <errno.h>
#include <sys/eventfd.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/mem.h"
#include "tunnel/link-int.h"

struct wait *wait_new(struct err *e)
{
    AUTO(mem_free) struct wait *w = calloc(1, sizeof *w);

    if (w == NULL) {
        err_set(e, ERR_SYS, ENOMEM, "waiting for the peer");
        return NULL;
    }
    w->efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->efd < 0) {
        err_set(e, ERR_SYS, errno, "eventfd");
        return NULL;
    }
    atomic_init(&w->refs, 1);
    pthread_mutex_init(&w->lock, NULL);
    return ptr_steal(&w);
}

void wait_unref(struct wait *w)
{
    if (w == NULL || atomic_fetch_sub(&w->refs, 1) > 1)
        return;
    close(w->efd);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

void wait_finish(struct wait *w, const struct err *e)
{
    const uint64_t one = 1;

    LOCK_SCOPE(&w->lock);
    if (w->done)
        return;
    w->done = true;
    if (e != NULL)
        w->err = *e;
    /* Cannot fail: the counter goes from 0 to 1 once. */
    if (write(w->efd, &one, sizeof one) < 0)
        assert(errno == EAGAIN);
}

static void abandon_run(struct link *l, struct task *t)
{
    struct wait *const w = (struct wait *)t;

    if (w->s != NULL)
        session_reset(l, w->s, NGHTTP2_CANCEL);
    wait_unref(w);
}

static bool wait_result(struct wait *w, bool *done, struct err *e)
{
    LOCK_SCOPE(&w->lock);
    *done = w->done;
    if (w->done && w->err.kind != ERR_NONE) {
        *e = w->err;
        return false;
    }
    return true;
}

/* The caller has no patience left: the session is told, and nothing else can happen. */
static bool wait_give_up(struct link *l, struct wait *w, const struct err *why,
                         struct err *e)
{
    w->abandon.run = abandon_run;
    atomic_fetch_add(&w->refs, 1);
    link_post_always(l, &w->abandon);
    *e = *why;
    return false;
}

bool wait_for(struct link *l, struct wait *w, int timeout_ms, const struct cancel *c,
              struct err *e)
{
    const int64_t end = clock_ms() + timeout_ms;
    struct pollfd p[2] = { { .fd = w->efd, .events = POLLIN },
                           { .fd = cancel_fd(c), .events = POLLIN } };
    struct err why = { .kind = ERR_NONE };

    for (;;) {
        bool done;

        if (poll(p, 2, timeout_ms < 0 ? -1 : clock_left_ms(end)) < 0 && errno != EINTR)
            err_set(&why, ERR_SYS, errno, "poll");
        if (!wait_result(w, &done, e))
            return false;
        if (done)
            return true;
        if (why.kind == ERR_NONE && cancel_is_set(c))
            err_set(&why, ERR_CANCELLED, 0, "cancelled");
        if (why.kind == ERR_NONE && timeout_ms >= 0 && clock_ms() >= end)
            err_set(&why, ERR_TIMEOUT, 0, "no answer in %d ms", timeout_ms);
        if (why.kind != ERR_NONE)
            return wait_give_up(l, w, &why, e);
    }
}
