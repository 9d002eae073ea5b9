/* The control socket of a running move: one thread, at most CTL_CLIENTS connections, a
 * request each.  Nobody can hold it up: it reads and writes without waiting, and drops who
 * does not send a line in time or does not take the answer. */
#include "migrate/ctl.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "base/unix.h"
#include "migrate/move-int.h"

enum { REQUEST_MS = 5000 }; /* for a request to be complete */

struct client {
    int fd;
    char buf[CTL_REQUEST_MAX];
    size_t len;
    int64_t until_ms; /* for the request to be complete */
    bool waits;       /* for the end of the move */
};

struct ctl {
    struct move *move;
    int listener;
    struct cancel *stop;
    pthread_t thread;
    struct json_object *result; /* main's, until ->stop is set */

    /* The thread's own. */
    struct client clients[CTL_CLIENTS];
    size_t n;
};

/* --- answers --- */

/* Takes @o over.  false: it was not taken; what a socket's buffer does not hold at once is
 * more than we ever say. */
static bool tell(int fd, struct json_object *o)
{
    AUTO(json_put) struct json_object *held = o;
    const char *const text = json_object_to_json_string_ext(
        held, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    const size_t len = text != NULL ? strlen(text) : 0;
    struct iovec v[] = { { (char *)text, len }, { (char *)"\n", 1 } };
    const struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

    return text != NULL &&
           sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len + 1;
}

static bool refuse(int fd, const struct err *e)
{
    return tell(fd, ctl_refusal(e));
}

static struct json_object *status(struct move *m)
{
    struct move_progress p;

    move_progress(m, &p);
    struct json_object *const o = m->cfg->words->progress(&p);
    json_add_str(o, "type", "status");
    json_add_str(o, "id", m->id);
    json_add_str(o, "uuid", m->facts.uuid);
    json_add_u64(o, "pid", (uint64_t)getpid());
    json_add_u64(o, "bandwidth", atomic_load(&m->bandwidth));
    json_add_u64(o, "guest_latency_ms", atomic_load(&m->guest_latency_ms));
    return json_add_bool(o, "hold", atomic_load(&m->hold));
}

static bool act(struct move *m, const struct ctl_request *r, struct err *e)
{
    switch (r->todo) {
    case CTL_SET:
        return move_set(m, &r->set, e);
    case CTL_SWITCH:
        return move_set_switch(m, e);
    case CTL_ABORT:
        return move_abort(m, e);
    default:
        return true;
    }
}

/* A complete line.  false: the connection is over. */
static bool answer(struct ctl *t, struct client *c, size_t len)
{
    struct ctl_request r;
    struct err e = { 0 };

    if (!ctl_parse(c->buf, len, &r, &e) || !act(t->move, &r, &e)) {
        refuse(c->fd, &e);
        return false;
    }
    if (r.todo != CTL_STATUS)
        log_info("control", "asked: %.*s", (int)len, c->buf);
    c->waits = r.wait && (r.todo == CTL_SWITCH || r.todo == CTL_ABORT);
    return tell(c->fd, ctl_reply(status(t->move))) && c->waits;
}

/* --- connections --- */

/* false: it is over. */
static bool client_read(struct ctl *t, struct client *c)
{
    struct err e;

    const ssize_t n =
        recv(c->fd, c->buf + c->len, sizeof c->buf - c->len, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0 || c->waits)
        return false; /* who waits has no more to say */
    c->len += (size_t)n;
    const char *const end = memchr(c->buf, '\n', c->len);
    if (end != NULL)
        return answer(t, c, (size_t)(end - c->buf));
    if (c->len < sizeof c->buf)
        return true;
    err_set(&e, ERR_PROTO, 0, "a request of more than %d bytes", CTL_REQUEST_MAX);
    refuse(c->fd, &e);
    return false;
}

static void client_drop(struct ctl *t, size_t i)
{
    close(t->clients[i].fd);
    t->clients[i] = t->clients[--t->n];
}

static void client_new(struct ctl *t)
{
    struct err e;
    const int fd = accept4(t->listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    if (t->n == CTL_CLIENTS) {
        err_set(&e, ERR_REFUSED, 0, "%d others are asking at this moment", CTL_CLIENTS);
        refuse(fd, &e);
        close(fd);
        return;
    }
    struct client *const c = &t->clients[t->n++];
    c->fd = fd;
    c->len = 0;
    c->waits = false;
    c->until_ms = clock_ms() + REQUEST_MS;
}

static int next_timeout(const struct ctl *t)
{
    int ms = -1;

    for (size_t i = 0; i < t->n; i++) {
        const int left =
            t->clients[i].waits ? -1 : clock_left_ms(t->clients[i].until_ms);

        if (left >= 0 && (ms < 0 || left < ms))
            ms = left;
    }
    return ms;
}

static void turn(struct ctl *t)
{
    struct pollfd p[2 + CTL_CLIENTS] = {
        { .fd = cancel_fd(t->stop), .events = POLLIN },
        { .fd = t->listener, .events = POLLIN },
    };

    for (size_t i = 0; i < t->n; i++)
        p[2 + i] = (struct pollfd){ .fd = t->clients[i].fd, .events = POLLIN };
    if (poll(p, 2 + t->n, next_timeout(t)) < 0)
        return;
    for (size_t i = t->n;
         i-- > 0;) { /* backwards: a dropped one is replaced by the last */
        struct client *const c = &t->clients[i];
        const bool late = !c->waits && clock_left_ms(c->until_ms) == 0;

        if ((p[2 + i].revents != 0 && !client_read(t, c)) ||
            (p[2 + i].revents == 0 && late))
            client_drop(t, i);
    }
    if (p[1].revents != 0)
        client_new(t);
}

static void *ctl_thread(void *arg)
{
    struct ctl *const t = arg;

    while (!cancel_is_set(t->stop))
        turn(t);
    while (t->n > 0) {
        const struct client *const c = &t->clients[t->n - 1];

        if (c->waits && t->result != NULL)
            tell(c->fd, ctl_reply(json_object_get(t->result)));
        client_drop(t, t->n - 1);
    }
    return NULL;
}

/* --- life --- */

static void ctl_free(struct ctl *t)
{
    if (t == NULL)
        return;
    fd_close_auto(&t->listener);
    cancel_free(t->stop);
    json_object_put(t->result);
    free(t);
}

static void ctl_free_auto(struct ctl **t)
{
    ctl_free(*t);
}

bool ctl_start(struct move *m, struct err *e)
{
    AUTO(ctl_free) struct ctl *t = calloc(1, sizeof *t);
    char path[PATHS_MAX + 48];

    if (m->cfg->words == NULL)
        return true;
    if (t == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "control socket");
    t->move = m;
    t->listener = -1;
    t->stop = cancel_new();
    if (t->stop == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "control socket");
    snprintf(path, sizeof path, "%s/%s.ctl", m->run_dir, m->facts.uuid);
    if (!unix_listen(path, &t->listener, e))
        return false;
    if (!thread_start(&t->thread, ctl_thread, t, "control", e))
        return false;
    m->ctl = ptr_steal(&t);
    return true;
}

void ctl_result(struct move *m, const struct move_result *r)
{
    if (m->ctl != NULL)
        m->ctl->result = m->cfg->words->result(m->cfg, r);
}

void ctl_stop(struct move *m)
{
    struct ctl *const t = m->ctl;

    if (t == NULL)
        return;
    m->ctl = NULL;
    cancel_set(t->stop);
    pthread_join(t->thread, NULL);
    ctl_free(t);
}
