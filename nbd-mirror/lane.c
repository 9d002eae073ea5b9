#include "nbd-mirror/lane.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
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
#include "base/thread.h"
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

/* Memory that is faulted in by huge pages, where the system has them, when it is used
 * first.  free(3) it; NULL: there is none. */
static uint8_t *buffer_new(size_t size)
{
    const size_t rounded = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    uint8_t *buf = aligned_alloc(HUGE_PAGE, rounded);

    if (buf != NULL && madvise(buf, rounded, MADV_HUGEPAGE) < 0)
        log_debug("mirror", "no huge pages");
    return buf;
}

/* All slots are free.  The first are used most, so their buffers stay in the caches and
 * the last may never have a page. */
static void slots_reset(struct lane *l)
{
    l->free = NULL;
    l->bytes = 0;
    for (unsigned i = l->nslots; i-- > 0;) {
        l->slots[i].buf = l->bufs + (size_t)i * l->request_size;
        l->slots[i].next = l->free;
        l->free = &l->slots[i];
    }
}

bool lane_init(struct lane *l, unsigned no, struct disk *dst,
               const struct lane_cfg *cfg, struct err *e)
{
    *l = (struct lane){ .no = no,
                        .nslots = cfg->nslots,
                        .request_size = cfg->request_size,
                        .bytes_max = cfg->bytes_max,
                        .large_size = cfg->large_size,
                        .wake_fd = -1 };
    l->slots = calloc(cfg->nslots, sizeof *l->slots);
    l->bufs = buffer_new((size_t)cfg->nslots * cfg->request_size);
    if (cfg->large_size > 0)
        l->large = buffer_new(cfg->large_size);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->slots == NULL || l->bufs == NULL || l->wake_fd < 0 ||
        (cfg->large_size > 0 && l->large == NULL)) {
        err_set(e, ERR_SYS, errno, "cannot allocate lane %u", no);
        lane_fini(l);
        return false;
    }
    slots_reset(l);
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
    free(l->large);
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
    if (s->piece.kind == PIECE_DATA)
        l->bytes -= s->piece.len;
    if (s->buf == l->large) {
        s->buf = l->bufs + (size_t)(s - l->slots) * l->request_size;
        free(ptr_steal(&l->large));
    }
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
    l->bytes += p->len;
    if (p->len > l->request_size) {
        assert(p->len == l->large_size && l->large != NULL);
        s->buf = l->large;
        l->large_size = 0; /* that was it */
    }
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
    if (cmd->op == DISK_STATUS && disk_refused(cmd) && feed_refused(l->copy->feed))
        return feed_tell(l->copy->feed, e);
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

/* How many bytes the next piece may have instead of ->request_size, or 0. */
static uint32_t lane_large(const struct lane *l)
{
    return l->large_size <= l->src->block_max ? l->large_size : 0;
}

/* Start as much as there is room for.  *end: the feed has nothing more.  *timeout_ms: when
 * to come back, for poll(2). */
static bool lane_fill(struct lane *l, bool *end, int *timeout_ms, struct err *e)
{
    enum feed_next next = FEED_PIECE;
    struct piece p;

    *timeout_ms = -1;
    while (l->free != NULL && l->bytes < l->bytes_max &&
           (next = feed_take(l->copy->feed, l->no, lane_large(l), &p, timeout_ms)) ==
               FEED_PIECE)
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

static bool lane_poll(struct lane *l, int timeout_ms, struct err *e)
{
    struct pollfd p[4] = { [2] = { .fd = l->wake_fd, .events = POLLIN },
                           [3] = { .fd = cancel_fd(l->copy->cancel),
                                   .events = POLLIN } };
    uint64_t ignored;

    if (!l->src->ops->events(l->src, &p[0], e) ||
        !l->dst->ops->events(l->dst, &p[1], e))
        return false;
    if (poll(p, 4, timeout_ms) < 0)
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
    int timeout_ms;

    while (!atomic_load(&l->copy->failed)) {
        if (!lane_reap(l, l->src, e) || !lane_reap(l, l->dst, e) ||
            !lane_fill(l, &end, &timeout_ms, e) || !lane_flush(l, e))
            return false;
        if (l->src->done != NULL || l->dst->done != NULL)
            continue; /* completed at once */
        if (end && l->src->in_flight == 0 && l->dst->in_flight == 0)
            return true;
        if (!lane_poll(l, timeout_ms, e))
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
    slots_reset(l); /* those in flight at a failure are not on the list */
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

bool lanes_run(struct lane *lane, unsigned n, struct feed *feed, bool dst_zero,
               const struct cancel *cancel, struct counters *counters, struct err *e)
{
    struct copy c = { .feed = feed,
                      .cancel = cancel,
                      .counters = counters,
                      .dst_zero = dst_zero,
                      .lock = PTHREAD_MUTEX_INITIALIZER };
    unsigned started = 0;
    char name[THREAD_NAME];
    struct err why;

    for (; started < n; started++) {
        lane[started].copy = &c;
        snprintf(name, sizeof name, "lane-%u", lane[started].no);
        if (!thread_start(&lane[started].thread, lane_thread, &lane[started], name,
                          &why)) {
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
