/* One end of the tunnel: its life, and the loop of the session's thread.
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
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "tunnel/link-int.h"

enum {
    INBUF = 1 << 20,
    NOISE_MS = 300,   /* to hear the rest of what is no greeting */
    LEVEL_MS = 500,   /* between two looks at the zstd levels */
    GOODBYE_MS = 200, /* after DRAIN_MS, to get the last frame out */
};

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

static void raise_fd(int fd)
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

static void tasks_run(struct link *l)
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

/* --- the end --- */

static void streams_end(struct link *l)
{
    for (struct stream *s = l->streams, *next; s != NULL; s = next) {
        next = s->next;
        if (s->id == 0)
            continue; /* a channel that outlived its stream */
        s->id = 0;
        s->ops->closed(l, s, NGHTTP2_INTERNAL_ERROR);
    }
}

static void pipe_close(struct link *l)
{
    if (l->in != l->out_fd)
        fd_close_auto(&l->in);
    fd_close_auto(&l->out_fd);
    l->in = l->out_fd = -1;
}

void link_break(struct link *l, const struct err *e)
{
    if (!l->up)
        return;
    if (e->kind == ERR_PROTO)
        out_last_words(l, e->msg);
    l->up = false;
    pthread_mutex_lock(&l->lock);
    l->cause = *e;
    pthread_mutex_unlock(&l->lock);
    link_move(l, LINK_BROKEN);
    pipe_close(l);
    streams_end(l);
}

/* Both have said goodbye, or one of them and the pipe is gone. */
static void link_end(struct link *l)
{
    struct err e;

    if (l->state == LINK_GREETING) {
        err_set(&e, ERR_PROTO, 0, "the peer ended the session before it was open");
        link_break(l, &e);
        return;
    }
    if (l->state == LINK_OPEN)
        link_move(l, LINK_DRAINING);
    l->up = false;
    link_move(l, LINK_CLOSED);
    pipe_close(l);
    streams_end(l);
}

/* --- receiving --- */

/* The peer's first frame must be SETTINGS: 3 bytes of length, type 4, no flag, stream 0.
 * Any text that a shell prints differs in the first byte. */
static bool greeting_is_good(const struct link *l)
{
    static const uint8_t want[9] = { 0, 0, 0, 4 };

    for (unsigned i = 0; i < l->nfirst && i < sizeof want; i++)
        if (i != 1 && i != 2 && l->first[i] != want[i])
            return false;
    return true;
}

static void greeting_keep(struct link *l, const uint8_t *p, size_t n)
{
    const size_t room = sizeof l->first - l->nfirst;

    memcpy(l->first + l->nfirst, p, n < room ? n : room);
    l->nfirst += (unsigned)(n < room ? n : room);
}

static void greeting_bad(struct link *l, struct err *e)
{
    const int64_t end = clock_ms() + NOISE_MS;
    struct pollfd p = { .fd = l->in, .events = POLLIN };
    char text[sizeof l->first + 1], clean[4 * sizeof text];
    uint8_t more[sizeof l->first];

    while (l->nfirst < sizeof l->first && poll(&p, 1, clock_left_ms(end)) == 1) {
        const ssize_t n = read(l->in, more, sizeof more);

        if (n <= 0)
            break;
        greeting_keep(l, more, (size_t)n);
    }
    for (unsigned i = 0; i < l->nfirst; i++)
        text[i] = l->first[i] != 0 ? (char)l->first[i] : '\1';
    text[l->nfirst] = '\0';
    err_set(e, ERR_PROTO, 0, "the peer is not an snmigrate agent, it said \"%s\"",
            log_clean(clean, sizeof clean, text));
}

static bool input_end(struct link *l, struct err *e)
{
    if (l->bye_received || l->bye_sent) {
        link_end(l);
        return true;
    }
    if (l->state == LINK_GREETING && l->nfirst > 0) {
        greeting_bad(l, e);
        return false;
    }
    return err_set(e, ERR_LINK, 0, "the peer closed the connection%s",
                   l->state == LINK_GREETING ? " before it said a word" : "");
}

static bool input(struct link *l, struct err *e)
{
    if (!fault_point("tunnel.recv", e))
        return err_wrap(e, "receiving");

    const ssize_t n = read(l->in, l->inbuf, INBUF);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n < 0)
        return err_set(e, ERR_LINK, errno, "receiving from the peer");
    if (n == 0)
        return input_end(l, e);

    l->last_rx_ms = clock_ms();
    atomic_fetch_add(&l->received, (uint64_t)n);
    if (l->state == LINK_GREETING && !l->server) {
        greeting_keep(l, l->inbuf, (size_t)n);
        if (!greeting_is_good(l)) {
            greeting_bad(l, e);
            return false;
        }
    }
    return session_input(l, l->inbuf, (size_t)n, e);
}

/* --- heartbeat --- */

static int ping_every(const struct link *l)
{
    return l->heartbeat_ms / 4 < PING_MS ? l->heartbeat_ms / 4 : PING_MS;
}

static bool ping(struct link *l, int64_t now_ms, struct err *e)
{
    const int64_t now_ns = clock_ns(), none = 0;
    const bool measure = l->ping_ns == 0;
    int rc;

    /* One that has not even left would only be followed by more. */
    l->last_ping_ms = now_ms;
    if (l->ping_queued)
        return true;
    rc = nghttp2_submit_ping(l->h2, NGHTTP2_FLAG_NONE,
                             (const uint8_t *)(measure ? &now_ns : &none));
    if (rc != 0)
        return err_set(e, ERR_LINK, 0, "heartbeat: %s", nghttp2_strerror(rc));
    l->ping_queued = true;
    if (measure)
        l->ping_ns = now_ns;
    return true;
}

/* What was sent to us has been read by now, so a stop of this process is no false alarm. */
static bool heartbeat(struct link *l, struct err *e)
{
    const int64_t now = clock_ms();

    if (l->state == LINK_GREETING && !l->server)
        return true; /* link_open() has its own patience: ssh may ask for a password */
    if (now - l->last_rx_ms > l->heartbeat_ms)
        return err_set(e, ERR_LINK, 0, "nothing heard from the peer for %d ms",
                       l->heartbeat_ms);
    return now - l->last_ping_ms < ping_every(l) || ping(l, now, e);
}

/* --- ending well --- */

void link_moved(struct link *l)
{
    l->moved_ms = clock_ms();
}

static bool close_asked(struct link *l)
{
    LOCK_SCOPE(&l->lock);
    return l->close_asked;
}

static bool drain(struct link *l, struct err *e)
{
    const int64_t now = clock_ms();
    const bool asked = close_asked(l);

    if (l->state == LINK_GREETING)
        return !asked || err_set(e, ERR_CANCELLED, 0, "the link was closed");
    if (l->state == LINK_OPEN) {
        if (!asked && !l->bye_received)
            return true;
        link_move(l, LINK_DRAINING);
        l->moved_ms = now;
    }
    if (asked && l->drain_until_ms == 0)
        l->drain_until_ms = now + DRAIN_MS;

    const bool late = l->drain_until_ms != 0 && now >= l->drain_until_ms;
    const bool idle = asked && now - l->moved_ms >= DRAIN_IDLE_MS && !out_pending(l);
    if (!l->bye_sent && (l->streams == NULL || idle || late)) {
        l->bye_sent = true;
        if (nghttp2_session_terminate_session(l->h2, NGHTTP2_NO_ERROR) != 0)
            return err_set(e, ERR_LINK, 0, "out of memory for the last frame");
    }
    if (l->bye_sent && !out_pending(l) && !nghttp2_session_want_write(l->h2))
        link_end(l);
    else if (late && now >= l->drain_until_ms + GOODBYE_MS)
        return err_set(e, ERR_LINK, 0, "the peer did not take the last %zu bytes",
                       l->out.small_len + l->out.big_len - l->out.pos);
    return true;
}

/* --- the loop --- */

struct poll_table {
    struct pollfd *p;
    unsigned n, size;
};

enum { AT_WAKE, AT_IN, AT_OUT, AT_STREAMS };

static bool table_fill(struct link *l, struct poll_table *t)
{
    unsigned want = AT_STREAMS;

    for (const struct stream *s = l->streams; s != NULL; s = s->next)
        want += 2;
    if (want > t->size) {
        struct pollfd *const more = realloc(t->p, 2 * want * sizeof *more);

        if (more == NULL)
            return false;
        t->p = more;
        t->size = 2 * want;
    }
    t->p[AT_WAKE] = (struct pollfd){ .fd = l->wake_fd, .events = POLLIN };
    t->p[AT_IN] = (struct pollfd){ .fd = l->in, .events = POLLIN };
    t->p[AT_OUT] = (struct pollfd){ .fd = l->up && out_pending(l) ? l->out_fd : -1,
                                    .events = POLLOUT };
    t->n = AT_STREAMS;
    for (struct stream *s = l->streams; s != NULL; s = s->next) {
        s->slot = t->n;
        s->nslots = s->ops->poll != NULL ? s->ops->poll(s, t->p + t->n) : 0;
        t->n += s->nslots;
    }
    return true;
}

static void sooner(int64_t *ms, int64_t other)
{
    if (other < *ms)
        *ms = other > 0 ? other : 0;
}

static int loop_timeout(struct link *l, bool quit)
{
    const int64_t now = clock_ms();
    int64_t ms = PING_MS;

    if (!l->up)
        return quit ? DRAIN_IDLE_MS : -1;
    if (l->out.more)
        return 0;
    if (!out_pending(l) && chan_waiting(l))
        sooner(&ms, rate_wait_ns(&l->out.rate, clock_ns()) / NS_PER_MS + 1);
    if (l->state != LINK_GREETING || l->server) {
        sooner(&ms, l->last_ping_ms + ping_every(l) - now);
        sooner(&ms, l->last_rx_ms + l->heartbeat_ms + 1 - now);
    }
    if (l->state == LINK_DRAINING)
        sooner(&ms, DRAIN_IDLE_MS / 2);
    return (int)ms;
}

static void events(struct link *l, const struct poll_table *t)
{
    struct err e;
    uint64_t count;

    if (t->p[AT_WAKE].revents != 0 && read(l->wake_fd, &count, sizeof count) < 0)
        assert(errno == EAGAIN || errno == EINTR);
    if (l->up && t->p[AT_IN].revents != 0 && !input(l, &e))
        link_break(l, &e);
    /* New streams, made just now, have no slots yet. */
    for (struct stream *s = l->streams; s != NULL; s = s->next) {
        bool any = false;

        for (unsigned i = 0; i < s->nslots; i++)
            any |= t->p[s->slot + i].revents != 0;
        if (any)
            s->ops->ready(l, s, t->p + s->slot);
        s->nslots = 0;
    }
    if (l->up && l->violation.kind != ERR_NONE)
        link_break(l, &l->violation);
    if (l->up && !heartbeat(l, &e))
        link_break(l, &e);
}

static void send_turn(struct link *l)
{
    struct err e;

    if (!l->up)
        return;
    if (!out_pump(l, &e)) {
        /* A peer that has said goodbye may close its end before we are through. */
        if (l->bye_received && l->violation.kind == ERR_NONE)
            link_end(l);
        else
            link_break(l, &e);
        return;
    }
    if (!session_goes_on(l, &e) || !drain(l, &e))
        link_break(l, &e);
}

static bool quit_asked(struct link *l)
{
    LOCK_SCOPE(&l->lock);
    return l->quit;
}

static void *session_main(void *arg)
{
    struct link *const l = arg;
    struct poll_table t = { NULL, 0, 0 };
    int64_t quit_until_ms = 0;
    struct err e;

    for (;;) {
        const bool quit = quit_asked(l);

        tasks_run(l);
        chans_tend(l);
        send_turn(l);
        if (quit && quit_until_ms == 0)
            quit_until_ms = clock_ms() + DRAIN_MS;
        if (quit && (l->streams == NULL || clock_ms() >= quit_until_ms))
            break;
        if (!table_fill(l, &t)) {
            err_set(&e, ERR_SYS, ENOMEM, "poll table");
            link_break(l, &e);
            break;
        }
        if (poll(t.p, t.n, loop_timeout(l, quit)) >= 0)
            events(l, &t);
    }
    tasks_run(l);
    chans_kill(l);
    free(t.p);
    return NULL;
}

/* --- opening and closing --- */

static void link_free(struct link *l)
{
    pipe_close(l);
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
    if (!link_init(l, e) || !thread_start(&l->thread, session_main, l, "link", e))
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
