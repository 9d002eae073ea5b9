#include "nbd-mirror/lane.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "nbd-mirror/counters.h"
#include "nbd-mirror/feed.h"
#include "nbd-mirror/frontier.h"
#include "nbd-mirror/zero.h"

enum {
    HUGE_PAGE = 2 << 20,
    /* How long a destination may take to answer what is in flight after a failure, so
     * that its connection stays usable; after a cancel nobody wants to wait. */
    DRAIN_MS = 2000,
    DRAIN_CANCELLED_MS = 50,
};

/* --- the lane's life --- */

bool lane_init(struct lane *l, unsigned no, struct disk *dst, unsigned nslots,
               uint32_t request_size, struct err *e)
{
    const size_t size = (size_t)nslots * request_size;
    const size_t rounded = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;

    *l = (struct lane){
        .no = no, .nslots = nslots, .request_size = request_size, .wake_fd = -1
    };
    l->slots = calloc(nslots, sizeof *l->slots);
    l->bufs = aligned_alloc(HUGE_PAGE, rounded);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->slots == NULL || l->bufs == NULL || l->wake_fd < 0) {
        err_set(e, ERR_SYS, errno, "cannot allocate lane %u", no);
        lane_fini(l);
        return false;
    }
    /* Fewer page faults, where the system has huge pages; and all of them now. */
    if (madvise(l->bufs, rounded, MADV_HUGEPAGE) < 0)
        log_debug("mirror", "no huge pages");
    memset(l->bufs, 0, rounded);
    for (unsigned i = nslots; i-- > 0;) {
        l->slots[i].buf = l->bufs + (size_t)i * request_size;
        l->slots[i].next = l->free;
        l->free = &l->slots[i];
    }
    l->dst = dst;
    return true;
}

void lane_abandon(struct lane *l)
{
    disk_close(ptr_steal(&l->dst));
}

void lane_fini(struct lane *l)
{
    disk_close(ptr_steal(&l->src));
    disk_close(ptr_steal(&l->dst));
    if (l->wake_fd >= 0)
        close(l->wake_fd);
    free(l->bufs);
    free(l->slots);
    *l = (struct lane){ .wake_fd = -1 };
}

bool lane_broken(const struct lane *l)
{
    return l->dst == NULL || l->dst->dead;
}

/* --- slots --- */

static bool lane_start(struct lane *l, struct disk *d, struct disk_cmd *cmd,
                       struct err *e)
{
    counter_add(&l->copy->counters->requests, 1);
    return disk_start(d, cmd, e);
}

static void slot_put(struct lane *l, struct slot *s)
{
    s->next = l->free;
    l->free = s;
}

/* The command of slot @s for the next part of its piece: ->op, ->len and ->buf. */
static void slot_part(const struct lane *l, const struct slot *s, struct disk_cmd *cmd)
{
    const uint64_t off = s->piece.off + s->at, left = s->piece.len - s->at;
    const bool can_zero = l->dst->can_zero && !s->plain;
    bool zero = s->piece.kind == PIECE_ZERO;

    *cmd = (struct disk_cmd){ .op = DISK_WRITE, .off = off, .len = (uint32_t)left };
    if (zero && !can_zero) {
        /* The buffer was cleared by slot_begin() or slot_refused(). */
        cmd->len = left < l->request_size ? (uint32_t)left : l->request_size;
        cmd->buf = s->buf;
        return;
    }
    if (!zero) {
        cmd->buf = s->buf + s->at;
        if (can_zero || l->copy->dst_zero)
            cmd->len = (uint32_t)zero_run(cmd->buf, off, left, &zero);
    }
    if (zero)
        cmd->op = DISK_ZERO;
}

/* Send the destination the next part of the piece, or be done with it. */
static bool slot_next(struct lane *l, struct slot *s, struct err *e)
{
    struct counters *n = l->copy->counters;

    while (s->at < s->piece.len) {
        slot_part(l, s, &s->cmd);
        if (s->cmd.op != DISK_ZERO || !l->copy->dst_zero)
            return lane_start(l, l->dst, &s->cmd, e);
        counter_add(&n->skipped, s->cmd.len);
        counter_add(&n->pass_done, s->cmd.len);
        s->at += s->cmd.len;
    }
    if (l->copy->feed->cfg.frontier != NULL)
        frontier_done(l->copy->feed->cfg.frontier, s->piece.off);
    slot_put(l, s);
    return true;
}

static bool slot_begin(struct lane *l, const struct piece *p, struct err *e)
{
    struct slot *s = l->free;

    l->free = s->next;
    s->piece = *p;
    s->at = 0;
    s->plain = false;
    if (p->kind == PIECE_ZERO) {
        if (!l->dst->can_zero)
            memset(s->buf, 0, l->request_size);
        return slot_next(l, s, e);
    }
    assert(p->len <= l->request_size);
    s->cmd = (struct disk_cmd){
        .op = DISK_READ, .off = p->off, .len = (uint32_t)p->len, .buf = s->buf
    };
    return lane_start(l, l->src, &s->cmd, e);
}

/* Whether the answer to WRITE_ZEROES says "not like this" rather than "it failed". */
static bool zero_refused(int os)
{
    return os == ENOTSUP || os == EOPNOTSUPP || os == EINVAL;
}

/* Write what the server would not zero.  EINVAL may be about this one request. */
static bool slot_refused(struct lane *l, struct slot *s, struct err *e)
{
    if (s->cmd.os != EINVAL)
        l->dst->can_zero = false;
    s->plain = true;
    if (s->piece.kind == PIECE_ZERO)
        memset(s->buf, 0, l->request_size);
    return slot_next(l, s, e);
}

/* The one place where a command ends, well or not. */
static bool lane_completed(struct lane *l, struct disk_cmd *cmd, struct err *e)
{
    struct slot *s = (struct slot *)cmd;
    struct counters *n = l->copy->counters;

    if (cmd->op == DISK_ZERO && zero_refused(cmd->os))
        return slot_refused(l, s, e);
    if (cmd->os != 0)
        return disk_cmd_err(cmd, e);
    if (cmd->op == DISK_STATUS)
        return feed_tell(l->copy->feed, e);
    if (cmd->op == DISK_FLUSH) {
        counter_set(&n->safe, frontier_flushed(l->copy->feed->cfg.frontier));
        return true;
    }
    if (cmd->op == DISK_READ)
        return slot_next(l, s, e);

    counter_add(cmd->op == DISK_ZERO ? &n->zeroed : &n->data, cmd->len);
    counter_add(&n->pass_done, cmd->len);
    s->at += cmd->len;
    return slot_next(l, s, e);
}

/* --- the lane's thread --- */

static bool lane_reap(struct lane *l, struct disk *d, struct err *e)
{
    for (struct disk_cmd *cmd; (cmd = disk_pop(d)) != NULL;)
        if (!lane_completed(l, cmd, e))
            return false;
    return true;
}

/* One flush is enough for all lanes: see mirror_flush(). */
static bool lane_flush(struct lane *l, struct err *e)
{
    struct frontier *const f = l->copy->feed->cfg.frontier;

    if (f == NULL || l->no != 0 || !l->dst->can_flush || !frontier_ask(f, clock_ms()))
        return true;
    l->flush = (struct disk_cmd){ .op = DISK_FLUSH };
    return lane_start(l, l->dst, &l->flush, e);
}

/* Start as much as there are slots for.  *end: the feed has nothing more. */
static bool lane_fill(struct lane *l, bool *end, struct err *e)
{
    enum feed_next next = FEED_PIECE;
    struct piece p;

    while (l->free != NULL &&
           (next = feed_take(l->copy->feed, l->no, &p)) == FEED_PIECE)
        if (!slot_begin(l, &p, e))
            return false;
    *end = next == FEED_END;

    struct extents *const map = feed_ask(l->copy->feed);
    if (map == NULL)
        return true;
    l->ask = (struct disk_cmd){
        .op = DISK_STATUS, .off = map->off, .len = (uint32_t)map->len, .map = map
    };
    return lane_start(l, l->src, &l->ask, e);
}

static bool lane_poll(struct lane *l, struct err *e)
{
    struct pollfd p[4] = { [2] = { .fd = l->wake_fd, .events = POLLIN },
                           [3] = { .fd = cancel_fd(l->copy->cancel),
                                   .events = POLLIN } };
    uint64_t ignored;

    if (!l->src->ops->events(l->src, &p[0], e) ||
        !l->dst->ops->events(l->dst, &p[1], e))
        return false;
    if (poll(p, 4, -1) < 0)
        return errno == EINTR ? true : err_set(e, ERR_SYS, errno, "poll");
    if (p[3].revents != 0 && !cancel_check(l->copy->cancel, e))
        return false;
    if (p[2].revents != 0 && read(l->wake_fd, &ignored, sizeof ignored) < 0 &&
        errno != EAGAIN)
        return err_set(e, ERR_SYS, errno, "eventfd");
    if (p[0].revents != 0 && !l->src->ops->ready(l->src, p[0].revents, e))
        return false;
    return p[1].revents == 0 || l->dst->ops->ready(l->dst, p[1].revents, e);
}

static bool lane_loop(struct lane *l, struct err *e)
{
    bool end = false;

    while (!atomic_load(&l->copy->failed)) {
        if (!lane_reap(l, l->src, e) || !lane_reap(l, l->dst, e) ||
            !lane_fill(l, &end, e) || !lane_flush(l, e))
            return false;
        if (l->src->done != NULL || l->dst->done != NULL)
            continue; /* completed at once */
        if (end && l->src->in_flight == 0 && l->dst->in_flight == 0)
            return true;
        if (!lane_poll(l, e))
            return false;
    }
    return true; /* another lane's failure */
}

static void copy_fail(struct copy *c, const struct err *e)
{
    LOCK_SCOPE(&c->lock);
    if (atomic_load(&c->failed)) {
        log_debug("mirror", "after the first failure: %s", e->msg);
        return;
    }
    c->first_err = *e;
    atomic_store(&c->failed, true);
    feed_wake_all(c->feed);
}

/* After the pass nothing may be in flight: the buffers are used again.  Reads die with
 * the source connection, writes must be answered. */
static void lane_settle(struct lane *l)
{
    const bool cancelled = cancel_is_set(l->copy->cancel);

    disk_close(ptr_steal(&l->src));
    if (!disk_drain(l->dst, cancelled ? DRAIN_CANCELLED_MS : DRAIN_MS,
                    cancelled ? NULL : l->copy->cancel))
        lane_abandon(l);
    /* Slots in flight at a failure are not on the list. */
    l->free = NULL;
    for (unsigned i = l->nslots; i-- > 0;)
        slot_put(l, &l->slots[i]);
}

static void *lane_thread(void *opaque)
{
    struct lane *l = opaque;
    struct err e;

    if (!lane_loop(l, &e))
        copy_fail(l->copy, &e);
    lane_settle(l);
    return NULL;
}

/* Threads of a library get no signals. */
static int thread_start(struct lane *l)
{
    sigset_t all, old;
    char name[16];

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const int os = pthread_create(&l->thread, NULL, lane_thread, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (os == 0) {
        snprintf(name, sizeof name, "lane-%u", l->no);
        pthread_setname_np(l->thread, name);
    }
    return os;
}

bool lanes_run(struct lane *lane, unsigned n, struct feed *feed, bool dst_zero,
               const struct cancel *cancel, struct counters *counters, struct err *e)
{
    struct copy c = { .feed = feed,
                      .cancel = cancel,
                      .counters = counters,
                      .dst_zero = dst_zero,
                      .lock = PTHREAD_MUTEX_INITIALIZER };
    unsigned started = 0;

    for (; started < n; started++) {
        lane[started].copy = &c;
        const int os = thread_start(&lane[started]);
        if (os != 0) {
            struct err why;

            err_set(&why, ERR_SYS, os, "cannot start lane %u", started);
            copy_fail(&c, &why);
            break;
        }
    }
    for (unsigned i = 0; i < started; i++)
        pthread_join(lane[i].thread, NULL);
    for (unsigned i = 0; i < n; i++) {
        disk_close(ptr_steal(&lane[i].src));
        lane[i].copy = NULL;
    }
    if (atomic_load(&c.failed))
        *e = c.first_err;
    return !c.failed;
}
