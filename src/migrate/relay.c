#include "migrate/relay.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    READ_MAX = 1 << 20,
    HARD_MAX =
        64 << 20, /* the end of a stream: 1 ms of rate and device state, far less */
    BACK_MAX = 64 << 10, /* the return path: a few bytes per page fault or ack */
    TICK_MS = 5          /* how late a change of ->window or ->drain may be noticed */
};

/* Bytes waiting for one direction: [head, tail) of cap. */
struct fifo {
    uint8_t *buf;
    size_t head, tail, cap;
    bool eof, shut; /* the reader saw the end; the writer was told so */
};

static size_t waiting(const struct fifo *f)
{
    return f->tail - f->head;
}

/* Room for at least one more read. */
static bool fifo_room(struct fifo *f, size_t want, size_t max)
{
    if (f->head == f->tail)
        f->head = f->tail = 0;
    if (f->cap - f->tail >= want)
        return true;
    if (f->head > 0 && f->head >= f->cap / 2) {
        memmove(f->buf, f->buf + f->head, waiting(f));
        f->tail -= f->head;
        f->head = 0;
        if (f->cap - f->tail >= want)
            return true;
    }
    const size_t cap = f->cap == 0 ? 2 * want : 2 * f->cap;
    if (f->cap >= 2 * max)
        return false;
    uint8_t *const buf = realloc(f->buf, cap);
    if (buf == NULL)
        return false;
    f->buf = buf;
    f->cap = cap;
    return f->cap - f->tail >= want;
}

/* One read into @f; false only on a failure. */
static bool take(struct fifo *f, int fd, size_t want, size_t max, size_t *got,
                 struct err *e)
{
    *got = 0;
    if (!fifo_room(f, want, max))
        return true; /* full: later */
    const ssize_t n = recv(fd, f->buf + f->tail, want, MSG_DONTWAIT);
    if (n == 0)
        f->eof = true;
    if (n > 0) {
        f->tail += (size_t)n;
        *got = (size_t)n;
    }
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        if (errno != ECONNRESET)
            return err_set(e, ERR_SYS, errno, "recv");
        f->eof = true;
    }
    return true;
}

static bool give(struct fifo *f, int fd, size_t *gone, struct err *e)
{
    *gone = 0;
    const ssize_t n =
        send(fd, f->buf + f->head, waiting(f), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return err_set(e, ERR_SYS, errno, "send");
    if (n > 0) {
        f->head += (size_t)n;
        *gone = (size_t)n;
    }
    return true;
}

static void pass_end(struct fifo *f, int fd)
{
    if (!f->eof || f->shut || waiting(f) > 0)
        return;
    shutdown(fd, SHUT_WR);
    f->shut = true;
}

static short events(const struct fifo *in, size_t max, const struct fifo *out)
{
    return (short)((!in->eof && waiting(in) < max ? POLLIN : 0) |
                   (waiting(out) > 0 ? POLLOUT : 0));
}

struct pump {
    struct relay *r;
    int qemu, tunnel, stop;
    struct fifo to, back; /* toward the tunnel, toward QEMU */
};

static bool ready_to_read(const struct pollfd *p)
{
    return p->events & POLLIN && p->revents & (POLLIN | POLLHUP | POLLERR);
}

static bool move_bytes(struct pump *u, size_t want, const struct pollfd *q,
                       const struct pollfd *t, struct err *e)
{
    size_t n;

    if (ready_to_read(q)) {
        if (!take(&u->to, u->qemu, want, HARD_MAX, &n, e))
            return err_wrap(e, "RAM from QEMU");
        atomic_fetch_add(&u->r->received, n);
    }
    if (t->revents & POLLOUT) {
        if (!give(&u->to, u->tunnel, &n, e))
            return err_wrap(e, "RAM to the tunnel");
    }
    if (ready_to_read(t) && !take(&u->back, u->tunnel, BACK_MAX, BACK_MAX, &n, e))
        return err_wrap(e, "return path from the tunnel");
    if (q->revents & POLLOUT && !give(&u->back, u->qemu, &n, e))
        return err_wrap(e, "return path to QEMU");
    pass_end(&u->to, u->tunnel);
    pass_end(&u->back, u->qemu);
    return true;
}

/* How many bytes may be read now, before QEMU is made to wait. */
static size_t may_read(struct relay *r)
{
    const uint64_t under_way = atomic_load(&r->received) - atomic_load(&r->acked);
    uint64_t window = atomic_load(&r->window);

    if (window == 0)
        window = RELAY_WINDOW;
    if (atomic_load(&r->drain))
        return READ_MAX;
    const uint64_t left = under_way < window ? window - under_way : 0;
    return left < READ_MAX ? (size_t)left : READ_MAX;
}

static bool step(struct pump *u, struct err *e)
{
    const size_t want = may_read(u->r);
    const short q = events(&u->to, want > 0 ? HARD_MAX : 0, &u->back),
                t = events(&u->back, BACK_MAX, &u->to);
    /* A descriptor that we want nothing of is left out: its hang-up would wake us for
     * ever. */
    struct pollfd p[3] = { { .fd = q != 0 ? u->qemu : -1, .events = q },
                           { .fd = t != 0 ? u->tunnel : -1, .events = t },
                           { .fd = u->stop, .events = POLLIN } };

    if (poll(p, 3, TICK_MS) < 0 && errno != EINTR)
        return err_set(e, ERR_SYS, errno, "poll");
    return move_bytes(u, want, &p[0], &p[1], e);
}

bool relay_run(struct relay *r, int qemu, int tunnel, const struct cancel *stop,
               struct err *e)
{
    struct pump u = { r, qemu, tunnel, cancel_fd(stop), { 0 }, { 0 } };
    bool ok = true;

    while (ok && !(u.to.shut && u.back.shut))
        ok = cancel_check(stop, e) && step(&u, e);
    free(u.to.buf);
    free(u.back.buf);
    /* shutdown(2) and not only close(2): somebody else may hold the descriptor. */
    shutdown(qemu, SHUT_RDWR);
    shutdown(tunnel, SHUT_RDWR);
    return ok;
}
