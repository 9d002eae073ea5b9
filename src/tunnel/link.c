/* One end of the tunnel: its states, what other threads ask of it, its begin and end.
 *
 *   GREETING --peer's SETTINGS--> OPEN --bye, ours or the peer's--> DRAINING --> CLOSED
 *      |                           |                                   |
 *      +--------- any failure -----+-----------------------------------+-------> BROKEN
 *
 * In DRAINING what is under way goes on and nothing new begins.  The thread outlives CLOSED
 * and BROKEN: until link_close() it gives tasks their failure and lets channels write what
 * was complete.
 */
#include "tunnel/link.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "tunnel/link-int.h"

/* clang-format off */
#define TO(s) (1u << LINK_##s)
static const struct { const char *name; unsigned next; } states[] = {
    [LINK_GREETING] = { "greeting", TO(OPEN) | TO(BROKEN) },
    [LINK_OPEN]     = { "open",     TO(DRAINING) | TO(BROKEN) },
    [LINK_DRAINING] = { "draining", TO(CLOSED) | TO(BROKEN) },
    [LINK_CLOSED]   = { "closed",   0 },
    [LINK_BROKEN]   = { "broken",   0 },
};
/* clang-format on */
static_assert(sizeof states / sizeof states[0] == LINK_STATES,
              "states[] and enum link_state differ");

void raise_fd(int fd)
{
    const uint64_t one = 1;

    /* EAGAIN: it is readable already. */
    if (write(fd, &one, sizeof one) < 0)
        assert(errno == EAGAIN || errno == EINTR);
}

void link_move(struct link *l, enum link_state to)
{
    pthread_mutex_lock(&l->lock);
    assert(states[l->state].next & 1u << to); /* a bug here, never the peer's doing */
    log_debug("tunnel", "link %s -> %s", states[l->state].name, states[to].name);
    l->state = to; /* the only assignment */
    pthread_cond_broadcast(&l->moved);
    pthread_mutex_unlock(&l->lock);
    if (to != LINK_OPEN)
        raise_fd(l->lost_fd);
}

/* --- tasks --- */

void link_wake(struct link *l)
{
    raise_fd(l->wake_fd);
}

static void task_add_locked(struct link *l, struct task *t)
{
    t->next = NULL;
    *l->tasks_end = t;
    l->tasks_end = &t->next;
}

void link_post_always(struct link *l, struct task *t)
{
    pthread_mutex_lock(&l->lock);
    task_add_locked(l, t);
    pthread_mutex_unlock(&l->lock);
    link_wake(l);
}

bool link_post(struct link *l, struct task *t, struct err *e)
{
    pthread_mutex_lock(&l->lock);
    const bool open = l->state == LINK_OPEN;
    if (open)
        task_add_locked(l, t);
    pthread_mutex_unlock(&l->lock);
    if (!open) {
        link_error(l, e);
        return false;
    }
    link_wake(l);
    return true;
}

void link_tasks_run(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    struct task *t = l->tasks;
    l->tasks = NULL;
    l->tasks_end = &l->tasks;
    pthread_mutex_unlock(&l->lock);

    for (struct task *next; t != NULL; t = next) {
        next = t->next;
        t->run(l, t);
    }
}

/* --- opening and closing --- */

static void link_free(struct link *l)
{
    link_pipe_close(l);
    nghttp2_session_del(l->h2);
    out_fini(l);
    fd_close_auto(&l->wake_fd);
    fd_close_auto(&l->lost_fd);
    fd_close_auto(&l->greet_fd);
    pthread_cond_destroy(&l->moved);
    pthread_mutex_destroy(&l->lock);
    free(l->inbuf);
    free(l);
}

static void link_free_auto(struct link **l)
{
    if (*l == NULL)
        return;
    pool_stop((*l)->pool);
    link_free(*l);
}

/* Writing into a pipe whose reader is gone must be an error, not a death. */
static void ignore_sigpipe(void)
{
    struct sigaction now;

    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

static bool nonblocking(int fd, struct err *e)
{
    const int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return err_set(e, ERR_SYS, errno, "pipe to the peer");
    return true;
}

/* Fewer, longer turns; what lies in it counts as under way (pace.h), so nothing waits longer
 * for it.  A socket, or a system whose limit is lower, stays as it is. */
static void widen(int fd)
{
    if (fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE) < 0)
        log_debug("tunnel", "pipe of %d bytes: %s", PIPE_SIZE, "not here");
}

static void link_fields(struct link *l, const struct link_cfg *cfg)
{
    l->in = cfg->in;
    l->out_fd = cfg->out;
    l->wake_fd = l->lost_fd = l->greet_fd = -1;
    l->server = cfg->server != NULL;
    if (cfg->server != NULL)
        l->ops = *cfg->server;
    l->heartbeat_ms = cfg->heartbeat_ms > 0 ? cfg->heartbeat_ms : HEARTBEAT_MS;
    l->last_rx_ms = l->last_ping_ms = clock_ms();
    l->tasks_end = &l->tasks;
    l->up = true;
    rate_set(&l->out.rate, cfg->rate, clock_ns());
    atomic_init(&l->rtt_us, -1);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->moved, NULL);
}

static bool link_init(struct link *l, struct err *e)
{
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->lost_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->greet_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wake_fd < 0 || l->lost_fd < 0 || l->greet_fd < 0)
        return err_set(e, ERR_SYS, errno, "eventfd");
    l->inbuf = malloc(INBUF);
    if (l->inbuf == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "receive buffer");
    ignore_sigpipe();
    widen(l->in);
    widen(l->out_fd);
    return nonblocking(l->in, e) && nonblocking(l->out_fd, e) && out_init(l, e) &&
           session_new(l, e) && (!l->server || pool_new(&l->pool, e));
}

/* Client: until the peer has greeted. */
static bool greeting_wait(struct link *l, int timeout_ms, const struct cancel *cancel,
                          struct err *e)
{
    const int64_t end = clock_ms() + timeout_ms;
    struct pollfd p[] = { { .fd = l->greet_fd, .events = POLLIN },
                          { .fd = l->lost_fd, .events = POLLIN },
                          { .fd = cancel_fd(cancel), .events = POLLIN } };

    for (;;) {
        if (poll(p, 3, clock_left_ms(end)) < 0 && errno != EINTR)
            return err_set(e, ERR_SYS, errno, "poll");
        if (p[1].revents != 0) {
            link_error(l, e);
            return false;
        }
        if (p[0].revents != 0)
            return true;
        if (!cancel_check(cancel, e))
            return false;
        if (clock_ms() >= end)
            return err_set(e, ERR_TIMEOUT, 0, "the peer said nothing for %d ms",
                           timeout_ms);
    }
}

bool link_open(const struct link_cfg *cfg, int timeout_ms, const struct cancel *cancel,
               struct link **out, struct err *e)
{
    AUTO(link_free) struct link *l = calloc(1, sizeof *l);

    if (l == NULL) {
        close(cfg->in);
        if (cfg->out != cfg->in)
            close(cfg->out);
        return err_set(e, ERR_SYS, ENOMEM, "link");
    }
    link_fields(l, cfg);
    if (!link_init(l, e) || !thread_start(&l->thread, loop_main, l, "link", e))
        return false;
    if (!l->server && !greeting_wait(l, timeout_ms, cancel, e)) {
        link_close(ptr_steal(&l));
        return false;
    }
    *out = ptr_steal(&l);
    return true;
}

static bool is_over(const struct link *l)
{
    return l->state == LINK_CLOSED || l->state == LINK_BROKEN;
}

static void wait_over(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    while (!is_over(l))
        pthread_cond_wait(&l->moved, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

void link_close(struct link *l)
{
    if (l == NULL)
        return;
    pthread_mutex_lock(&l->lock);
    l->close_asked = true;
    pthread_mutex_unlock(&l->lock);
    link_wake(l);
    wait_over(l);

    pool_stop(l->pool); /* while the session still takes what the handlers bring back */
    pthread_mutex_lock(&l->lock);
    l->quit = true;
    pthread_mutex_unlock(&l->lock);
    link_wake(l);
    pthread_join(l->thread, NULL);
    link_free(l);
}

void link_close_auto(struct link **l)
{
    link_close(*l);
}

bool link_wait(struct link *l, struct err *e)
{
    wait_over(l);
    if (link_state(l) == LINK_CLOSED)
        return true;
    link_error(l, e);
    return false;
}

/* --- questions --- */

static pthread_mutex_t *lock_of(const struct link *l)
{
    return (pthread_mutex_t *)&l->lock;
}

void link_set_rate(struct link *l, uint64_t bytes_per_s)
{
    atomic_store(&l->want_rate, bytes_per_s);
    atomic_store(&l->rate_changed, true);
    link_wake(l);
}

enum link_state link_state(const struct link *l)
{
    LOCK_SCOPE(lock_of(l));
    return l->state;
}

int link_lost_fd(const struct link *l)
{
    return l->lost_fd;
}

void link_cause(const struct link *l, struct err *e)
{
    LOCK_SCOPE(lock_of(l));
    *e = l->cause;
}

void link_error(const struct link *l, struct err *e)
{
    link_cause(l, e);
    if (e->kind == ERR_NONE)
        err_set(e, ERR_LINK, 0, "the link is %s", states[link_state(l)].name);
}

void link_stats(const struct link *l, struct link_stats *out)
{
    struct link *const m = (struct link *)l; /* atomic_load takes no const in C11 */

    *out = (struct link_stats){ .sent = atomic_load(&m->sent),
                                .received = atomic_load(&m->received),
                                .plain = atomic_load(&m->plain),
                                .packed = atomic_load(&m->packed),
                                .rtt_us = atomic_load(&m->rtt_us),
                                .level = atomic_load(&m->level) };
}
