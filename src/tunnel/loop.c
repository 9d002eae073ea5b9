/* The session's thread: one turn after the other of tasks, channels, sending, poll(2),
 * receiving.  It never blocks anywhere else. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "tunnel/link-int.h"

enum { GOODBYE_MS = 200 }; /* after DRAIN_MS, to get the last frame out */

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

void link_pipe_close(struct link *l)
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
    link_pipe_close(l);
    streams_end(l);
}

/* Both have said goodbye, or one of them and the pipe is gone. */
void link_end(struct link *l)
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
    link_pipe_close(l);
    streams_end(l);
}

/* --- heartbeat --- */

static int ping_every(const struct link *l)
{
    return l->heartbeat_ms / 4 < PING_MS ? l->heartbeat_ms / 4 : PING_MS;
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
    if (now - l->last_ping_ms >= ping_every(l)) {
        l->last_ping_ms = now;
        l->out.ping_due = true;
    }
    return true;
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

enum { AT_WAKE, AT_IN, AT_OUT, AT_STREAMS };

struct poll_table {
    struct pollfd *p;
    unsigned n, size;
    struct pollfd few[AT_STREAMS]; /* ->p where memory was short: without the streams */
};

/* false: out of memory, only the link's own descriptors are in it. */
static bool table_size(struct link *l, struct poll_table *t)
{
    unsigned want = AT_STREAMS;

    for (const struct stream *s = l->streams; s != NULL; s = s->next)
        want += 2;
    if (want <= t->size)
        return true;
    struct pollfd *const more =
        realloc(t->p != t->few ? t->p : NULL, 2 * want * sizeof *more);
    if (more == NULL)
        return false;
    t->p = more;
    t->size = 2 * want;
    return true;
}

static bool table_fill(struct link *l, struct poll_table *t)
{
    const bool all = table_size(l, t);

    if (t->p == NULL)
        t->p = t->few;
    t->p[AT_WAKE] = (struct pollfd){ .fd = l->wake_fd, .events = POLLIN };
    t->p[AT_IN] = (struct pollfd){ .fd = l->in, .events = POLLIN };
    t->p[AT_OUT] = (struct pollfd){ .fd = l->up && out_pending(l) ? l->out_fd : -1,
                                    .events = POLLOUT };
    t->n = AT_STREAMS;
    for (struct stream *s = all ? l->streams : NULL; s != NULL; s = s->next) {
        s->slot = t->n;
        s->nslots = s->ops->poll != NULL ? s->ops->poll(s, t->p + t->n) : 0;
        t->n += s->nslots;
    }
    return all;
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
    const int64_t wait = out_wait_ns(l);
    if (wait >= 0)
        sooner(&ms, wait / NS_PER_MS + 1);
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
    if (l->up && t->p[AT_IN].revents != 0 && !input_turn(l, &e))
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

void *loop_main(void *arg)
{
    struct link *const l = arg;
    struct poll_table t = { .p = NULL };
    int64_t quit_until_ms = 0;
    struct err e;

    for (;;) {
        const bool quit = quit_asked(l);

        link_tasks_run(l);
        chans_tend(l);
        send_turn(l);
        if (quit && quit_until_ms == 0)
            quit_until_ms = clock_ms() + DRAIN_MS;
        if (quit && (l->streams == NULL || clock_ms() >= quit_until_ms))
            break;
        if (!table_fill(l, &t)) {
            err_set(&e, ERR_SYS, ENOMEM, "poll table");
            link_break(l, &e); /* what is left of it goes on as memory allows */
        }
        if (poll(t.p, t.n, loop_timeout(l, quit)) >= 0)
            events(l, &t);
    }
    link_tasks_run(l);
    chans_kill(l);
    if (t.p != t.few)
        free(t.p);
    return NULL;
}
