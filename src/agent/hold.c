#include "agent/hold.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "agent/backlog.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/thread.h"
#include "base/unix.h"

enum {
    CHUNK = 256 << 10,     /* bytes of one read */
    BACK_CHUNK = 64 << 10, /* the return path has small messages */
    AHEAD = 8 << 20,   /* allowed bytes that wait for QEMU before the source waits */
    MEMORY = 32 << 20, /* of the backlog */
    CONNECT_MS = 10 * 1000, /* for QEMU's socket */
    CONNECT_AGAIN_MS = 10,
};
static const uint64_t file_bytes = 4ULL << 30;

/* clang-format off */
#define TO(s) (1u << HOLD_##s)
static const struct { const char *name; unsigned next; } hold_states[] = {
    [HOLD_HELD] = { "held", TO(FREE) | TO(OVER) },
    [HOLD_FREE] = { "free", TO(OVER) },
    [HOLD_OVER] = { "over", 0 },
};
/* clang-format on */
static_assert(sizeof hold_states / sizeof hold_states[0] == HOLD_STATES,
              "hold_states[] and enum hold_state differ");

struct hold {
    char sock[PATHS_SOCK_MAX], dir[PATHS_MAX];
    int connect_ms;
    int wake; /* eventfd: something below ->lock changed */
    pthread_t thread;
    bool joined; /* by hold_stop(), under ->stop_lock */
    pthread_mutex_t stop_lock;

    pthread_mutex_t lock; /* guards these; never held over I/O */
    pthread_cond_t moved; /* ->passed, ->received or ->state changed */
    enum hold_state state;
    uint64_t limit, received, passed;
    bool stop;
    struct err why;

    /* The thread's own. */
    int chan, qemu;           /* -1: none yet, or closed */
    int64_t connect_until_ms; /* 0: no byte has come yet */
    struct backlog *backlog;
    bool in_end;    /* the link's side has sent all it will */
    bool out_end;   /* SHUT_WR was sent to QEMU */
    bool deaf;      /* QEMU takes no more; only after the release */
    bool back_end;  /* QEMU has sent all it will */
    bool back_shut; /* and the link's side was told */
    uint8_t chunk[CHUNK], back[BACK_CHUNK];
    size_t back_at, back_len;
};

/* Caller holds ->lock. */
static void move_locked(struct hold *h, enum hold_state to)
{
    assert(hold_states[h->state].next & 1u << to);
    h->state = to; /* the only assignment */
    pthread_cond_broadcast(&h->moved);
}

static void wake(struct hold *h)
{
    const uint64_t one = 1;

    /* Fails only when the counter is full, and then it is readable anyway. */
    if (write(h->wake, &one, sizeof one) < 0)
        errno = 0;
}

/* Of the whole stream, how many bytes QEMU may have been given now.  It never shrinks while
 * the thread lives, so an answer stays true after the lock is gone. */
static uint64_t allowed(struct hold *h)
{
    LOCK_SCOPE(&h->lock);

    if (h->state == HOLD_FREE || h->received < h->limit)
        return h->received;
    return h->limit;
}

/* The stream is over unless it was released: one decision, so that a release either comes
 * before it and everything is delivered, or is refused and nothing more passes.
 * true: it was released. */
PRINTF(4, 5)
static bool free_or_over(struct hold *h, struct err *e, int os, const char *fmt, ...)
{
    va_list ap;
    char text[200];

    LOCK_SCOPE(&h->lock);
    if (h->state == HOLD_FREE)
        return true;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(e, ERR_REFUSED, os, "%s before its release", text);
    h->why = *e;
    move_locked(h, HOLD_OVER);
    return false;
}

static bool must_stop(struct hold *h)
{
    LOCK_SCOPE(&h->lock);

    return h->stop;
}

/* ---- the thread: link -> QEMU ------------------------------------------------------- */

/* How many bytes to read from the link now. */
static size_t want(struct hold *h)
{
    LOCK_SCOPE(&h->lock);

    if (h->in_end)
        return 0;
    if (h->deaf)
        return CHUNK; /* thrown away: the source must not hang on what nobody wants */
    if (h->state == HOLD_HELD) {
        const bool all_allowed = h->received <= h->limit;

        return all_allowed && h->received - h->passed > AHEAD ? 0 : CHUNK;
    }
    /* Released: only what surely fits, for a stream that may pass must not fail here. */
    const size_t room = backlog_room(h->backlog);
    return room < CHUNK ? room : CHUNK;
}

static bool take(struct hold *h, size_t len, struct err *e)
{
    const ssize_t n = recv(h->chan, h->chunk, len, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0) { /* end of file; a reset is one too: nothing more will come */
        h->in_end = true;
        return true;
    }
    if (h->connect_until_ms == 0)
        h->connect_until_ms = clock_ms() + h->connect_ms;
    if (h->deaf)
        return true;
    if (!backlog_put(h->backlog, h->chunk, (size_t)n, e))
        return false;
    LOCK_SCOPE(&h->lock);
    h->received += (uint64_t)n;
    pthread_cond_broadcast(&h->moved);
    return true;
}

/* QEMU takes no more.  After the release that can be its good end (it does not wait for the
 * last bytes) as well as its death; the return path tells the source which. */
static bool went_deaf(struct hold *h, int os, struct err *e)
{
    if (!free_or_over(h, e, os, "the incoming QEMU closed the RAM stream"))
        return false;
    h->deaf = true;
    backlog_clear(h->backlog);
    return true;
}

/* The only place that gives bytes to QEMU. */
static bool pass(struct hold *h, struct err *e)
{
    const uint64_t may = allowed(h);
    const uint8_t *p;
    size_t len;

    assert(h->passed <= may);
    if (h->deaf || h->passed == may)
        return true;
    if (!backlog_peek(h->backlog, &p, &len, e))
        return false;
    if (len > may - h->passed)
        len = (size_t)(may - h->passed);
    const ssize_t n = send(h->qemu, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n < 0)
        return went_deaf(h, errno, e);
    backlog_drop(h->backlog, (size_t)n);

    LOCK_SCOPE(&h->lock);
    h->passed += (uint64_t)n;
    /* Never beyond the limit before the release: see hold.h. */
    assert(h->passed <= may && (h->state == HOLD_FREE || h->passed <= h->limit));
    pthread_cond_broadcast(&h->moved);
    return true;
}

/* libvirt has had QEMU listen before the source sends its first byte: that nobody does means
 * that it has died since, with a libvirtd that was restarted, and all begins again. */
static bool connect_qemu(struct hold *h, struct err *e)
{
    struct err why;

    if (h->qemu >= 0 || h->connect_until_ms == 0)
        return true;
    if (unix_connect(h->sock, &h->qemu, &why))
        return true;
    if ((why.os == ENOENT || why.os == ECONNREFUSED) &&
        clock_left_ms(h->connect_until_ms) > 0)
        return true;
    *e = why;
    return err_wrap(e, "no incoming QEMU");
}

/* ---- the thread: QEMU -> link ------------------------------------------------------- */

static void back_take(struct hold *h)
{
    const ssize_t n = recv(h->qemu, h->back, sizeof h->back, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        h->back_end = true;
        return;
    }
    h->back_at = 0;
    h->back_len = (size_t)n;
}

static void back_pass(struct hold *h)
{
    const ssize_t n =
        send(h->chan, h->back + h->back_at, h->back_len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        h->back_len = 0; /* nobody is there: the end of the stream will come, too */
        return;
    }
    h->back_at += (size_t)n;
    h->back_len -= (size_t)n;
}

/* ---- the thread: ends --------------------------------------------------------------- */

/* What the ends of both sides mean; before anything passes, for held bytes are dropped at
 * the end of the link.  false: over, *e says why. */
static bool heed_ends(struct hold *h, struct err *e)
{
    const bool back_done = h->back_end && h->back_len == 0;

    if (h->in_end && !free_or_over(h, e, 0, "the RAM stream ended"))
        return false;
    if (!back_done || h->back_shut)
        return true;
    if (!free_or_over(h, e, 0, "the incoming QEMU closed the RAM stream"))
        return false;
    /* It may still read: whether it does, the next send says. */
    shutdown(h->chan, SHUT_WR);
    h->back_shut = true;
    return true;
}

/* After it: pass the end of the stream on when all before it has passed.  true: both sides
 * are at their end. */
static bool is_done(struct hold *h)
{
    if (!h->in_end)
        return false;
    if (h->qemu < 0)
        return h->connect_until_ms == 0; /* no byte ever came: nothing to deliver */
    if (backlog_len(h->backlog) > 0)
        return false;
    if (!h->out_end) {
        shutdown(h->qemu, SHUT_WR);
        h->out_end = true;
    }
    return h->back_shut;
}

/* Drop what is held, close both, say so. */
static void over(struct hold *h, const struct err *e)
{
    const uint64_t held = backlog_len(h->backlog);

    /* The state first: from here on a release is refused. */
    pthread_mutex_lock(&h->lock);
    if (h->state != HOLD_OVER) {
        h->why = *e;
        move_locked(h, HOLD_OVER);
    }
    pthread_mutex_unlock(&h->lock);
    backlog_clear(h->backlog);
    fd_close_auto(&h->qemu);
    fd_close_auto(&h->chan);
    h->qemu = h->chan = -1;
    log_info("ram", "stream over: received=%llu passed=%llu dropped=%llu%s%s",
             (unsigned long long)h->received, (unsigned long long)h->passed,
             (unsigned long long)held, e->kind == ERR_NONE ? "" : ": ", e->msg);
}

static void sleep_poll(struct hold *h, struct pollfd p[3], size_t room)
{
    const bool waits = h->qemu < 0 && h->connect_until_ms != 0;
    uint64_t count;

    p[0] = (struct pollfd){ h->wake, POLLIN, 0 };
    p[1] = (struct pollfd){ h->chan, 0, 0 };
    p[2] = (struct pollfd){ h->qemu, 0, 0 };
    p[1].events = (short)((room > 0 ? POLLIN : 0) | (h->back_len > 0 ? POLLOUT : 0));
    if (h->qemu >= 0) {
        const bool out = !h->deaf && allowed(h) > h->passed;
        const bool in = h->back_len == 0 && !h->back_end;

        p[2].events = (short)((out ? POLLOUT : 0) | (in ? POLLIN : 0));
    }
    /* POLLHUP cannot be masked: who is not wanted now is not polled. */
    for (int i = 1; i < 3; i++)
        if (p[i].events == 0)
            p[i].fd = -1;
    if (poll(p, 3, waits ? CONNECT_AGAIN_MS : -1) < 0)
        p[0].revents = p[1].revents = p[2].revents = 0;
    if (p[0].revents != 0 && read(h->wake, &count, sizeof count) < 0)
        errno = 0;
}

/* true: go on. */
static bool turn(struct hold *h, struct err *e)
{
    const size_t room = want(h);
    struct pollfd p[3];

    sleep_poll(h, p, room);
    if (must_stop(h))
        return err_set(e, ERR_CANCELLED, 0, "stopped");
    if (p[1].revents != 0 && room > 0 && !take(h, room, e))
        return false;
    if (p[2].revents != 0 && h->back_len == 0 && !h->back_end)
        back_take(h);
    if (h->back_len > 0)
        back_pass(h);
    if (!heed_ends(h, e) || !connect_qemu(h, e) || (h->qemu >= 0 && !pass(h, e)))
        return false;
    return !is_done(h);
}

static void *hold_main(void *arg)
{
    struct hold *const h = arg;
    struct err e = { 0 };

    while (turn(h, &e))
        ;
    over(h, &e);
    return NULL;
}

/* ---- any thread --------------------------------------------------------------------- */

static void hold_destroy(struct hold *h)
{
    fd_close_auto(&h->wake);
    fd_close_auto(&h->chan);
    backlog_free(h->backlog);
    pthread_mutex_destroy(&h->lock);
    pthread_mutex_destroy(&h->stop_lock);
    pthread_cond_destroy(&h->moved);
    free(h);
}

static struct hold *hold_new(const struct hold_cfg *cfg)
{
    struct hold *const h = calloc(1, sizeof *h);
    pthread_condattr_t attr;

    if (h == NULL)
        return NULL;
    snprintf(h->sock, sizeof h->sock, "%s", cfg->sock);
    snprintf(h->dir, sizeof h->dir, "%s", cfg->dir);
    h->connect_ms = cfg->connect_ms != 0 ? cfg->connect_ms : CONNECT_MS;
    h->chan = h->qemu = h->wake = -1;
    pthread_mutex_init(&h->lock, NULL);
    pthread_mutex_init(&h->stop_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&h->moved, &attr);
    pthread_condattr_destroy(&attr);
    return h;
}

bool hold_open(const struct hold_cfg *cfg, int *peer, struct hold **out, struct err *e)
{
    struct hold *const h = hold_new(cfg);
    int ends[2];

    if (h == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "RAM stream");
    h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->wake < 0)
        err_set(e, ERR_SYS, errno, "eventfd");
    if (h->wake < 0 ||
        !backlog_new(h->dir, cfg->memory != 0 ? cfg->memory : MEMORY,
                     cfg->file != 0 ? cfg->file : file_bytes, &h->backlog, e) ||
        !unix_pair(ends, e)) {
        hold_destroy(h);
        return false;
    }
    h->chan = ends[0];
    if (!thread_start(&h->thread, hold_main, h, "ram", e)) {
        close(ends[1]);
        hold_destroy(h);
        return false;
    }
    *peer = ends[1];
    *out = h;
    return true;
}

void hold_limit(struct hold *h, uint64_t bytes)
{
    LOCK_SCOPE(&h->lock);

    if (bytes <= h->limit)
        return;
    h->limit = bytes;
    wake(h);
}

bool hold_release(struct hold *h, struct err *e)
{
    LOCK_SCOPE(&h->lock);

    /* Only what was released ends well. */
    if (h->state == HOLD_FREE || (h->state == HOLD_OVER && h->why.kind == ERR_NONE))
        return true;
    if (h->state == HOLD_OVER)
        return err_set(e, ERR_REFUSED, 0, "there is no RAM stream to release: %s",
                       h->why.msg);
    move_locked(h, HOLD_FREE);
    wake(h);
    return true;
}

bool hold_wait(struct hold *h, int idle_ms)
{
    uint64_t seen = 0;
    bool moved = true;

    LOCK_SCOPE(&h->lock);
    while (h->state != HOLD_OVER && moved) {
        const int64_t until = clock_ns() + (int64_t)idle_ms * NS_PER_MS;
        const struct timespec ts = { until / ((int64_t)MS_PER_S * NS_PER_MS),
                                     until % ((int64_t)MS_PER_S * NS_PER_MS) };

        seen = h->passed + h->received;
        while (h->state != HOLD_OVER && h->passed + h->received == seen)
            if (pthread_cond_timedwait(&h->moved, &h->lock, &ts) == ETIMEDOUT)
                break;
        moved = h->passed + h->received != seen;
    }
    return h->state == HOLD_OVER;
}

void hold_stop(struct hold *h)
{
    pthread_mutex_lock(&h->lock);
    h->stop = true;
    wake(h);
    pthread_mutex_unlock(&h->lock);

    LOCK_SCOPE(&h->stop_lock);
    if (!h->joined)
        pthread_join(h->thread, NULL);
    h->joined = true;
}

void hold_free(struct hold *h)
{
    if (h == NULL)
        return;
    hold_stop(h);
    hold_destroy(h);
}

void hold_stats(struct hold *h, struct hold_stats *out)
{
    LOCK_SCOPE(&h->lock);

    *out = (struct hold_stats){ h->state, h->limit, h->received, h->passed, h->why };
}
