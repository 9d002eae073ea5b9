#include "nbd-mirror/mirror.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "nbd-mirror/counters.h"
#include "nbd-mirror/disk.h"
#include "nbd-mirror/feed.h"
#include "nbd-mirror/frontier.h"
#include "nbd-mirror/hot.h"
#include "nbd-mirror/lane.h"
#include "nbd-mirror/side.h"

static_assert((int)MIRROR_LANES_MAX == (int)FEED_LANES_MAX, "as many lanes everywhere");

enum {
    /* Measured with qemu-nbd at both ends, tests/bench/README.md. */
    REQUESTS_DEFAULT = 16,
    REQUEST_SIZE_DEFAULT = 512 * 1024,
    LANE_BYTES_DEFAULT = 2 << 20,
    LARGE_SIZE = 4 << 20, /* of the large piece; see lane.h */
};

struct mirror {
    char name[64];
    const struct cancel *cancel; /* borrowed */
    uint64_t size;
    uint32_t request_size; /* bytes of the largest transfer */
    uint32_t dst_block_min;
    uint64_t rate;
    bool no_zero;
    struct counters counters;
    unsigned nlanes;
    struct lane lane[MIRROR_LANES_MAX];
};

/* --- open --- */

static bool cfg_check(const struct mirror_cfg *cfg, struct err *e)
{
    const uint32_t size = cfg->request_size;

    if (cfg->lanes > MIRROR_LANES_MAX)
        return err_set(e, ERR_USAGE, 0, "%u connections, at most %d", cfg->lanes,
                       MIRROR_LANES_MAX);
    if (cfg->requests > MIRROR_REQUESTS_MAX)
        return err_set(e, ERR_USAGE, 0, "%u requests in flight, at most %d",
                       cfg->requests, MIRROR_REQUESTS_MAX);
    if (size != 0 && ((size & (size - 1)) != 0 || size < MIRROR_REQUEST_SIZE_MIN ||
                      size > MIRROR_REQUEST_SIZE_MAX))
        return err_set(e, ERR_USAGE, 0,
                       "a request size of %" PRIu32 " is no power of two from %d to %d",
                       size, MIRROR_REQUEST_SIZE_MIN, MIRROR_REQUEST_SIZE_MAX);
    return true;
}

/* Transfers must be whole blocks and fit the maximum; an advertised maximum smaller than
 * the other side's minimum leaves nothing. */
static bool sizes_fit(const struct disk *d, uint32_t block_min, uint32_t request_size,
                      struct err *e)
{
    if (request_size >= block_min && request_size >= d->block_min)
        return true;
    return err_set(
        e, ERR_NBD, 0,
        "%s: blocks of at least %" PRIu32 " bytes cannot be moved in requests"
        " of %" PRIu32,
        d->side, d->block_min > block_min ? d->block_min : block_min, request_size);
}

/* What lane @no is made with.  One of them makes the large piece, unless the user has
 * said how large a request may be, or it is more than the rate lets through in a second. */
static struct lane_cfg lane_cfg(const struct mirror *m, const struct mirror_cfg *cfg,
                                unsigned no, const struct disk *dst)
{
    const unsigned n = cfg->requests > 0 ? cfg->requests : REQUESTS_DEFAULT;
    const bool large = no == 0 && cfg->request_size == 0 &&
                       dst->block_max >= LARGE_SIZE &&
                       (cfg->rate == 0 || cfg->rate >= LARGE_SIZE);
    const bool told = cfg->requests > 0 || cfg->request_size > 0;

    return (struct lane_cfg){
        .nslots = n,
        .request_size = m->request_size,
        .bytes_max = told ? (uint64_t)n * m->request_size : LANE_BYTES_DEFAULT,
        .large_size = large ? LARGE_SIZE : 0,
    };
}

static bool mirror_connect(struct mirror *m, const struct mirror_side *dst,
                           const struct mirror_cfg *cfg, struct err *e)
{
    const unsigned lanes = cfg->lanes > 0 ? cfg->lanes : side_connections();
    struct side_want want = {
        .side = dst,
        .nbd = { .side = "dst", .export_name = dst->export_name, .cancel = m->cancel },
        .size = m->size
    };
    struct disk *disk[MIRROR_LANES_MAX];
    unsigned n, done = 0;
    bool ok = true;

    if (!side_connect(&want, lanes, disk, &n, e))
        return false;
    m->size = disk[0]->size;
    m->dst_block_min = disk[0]->block_min;
    m->request_size = side_size_limit(m->request_size, disk[0]->block_max);
    if (disk[0]->read_only)
        ok = err_set(e, ERR_NBD, EROFS, "dst: cannot write to the export");
    ok = ok && sizes_fit(disk[0], 1, m->request_size, e);
    for (; ok && done < n; done += ok) {
        const struct lane_cfg lane = lane_cfg(m, cfg, done, disk[done]);

        disk[done]->can_zero = disk[done]->can_zero && !m->no_zero;
        ok = lane_init(&m->lane[done], done, disk[done], &lane, e);
    }
    m->nlanes = done;
    while (done < n)
        disk_close(disk[done++]); /* those that no lane has taken over */
    return ok;
}

bool mirror_open(const struct mirror_cfg *cfg, const struct mirror_side *dst,
                 struct mirror **out, struct err *e)
{
    if (!cfg_check(cfg, e))
        return err_wrap(e, "%s", cfg->name);

    AUTO(mirror_close) struct mirror *m = calloc(1, sizeof *m);
    if (m == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "%s: no memory", cfg->name);
    snprintf(m->name, sizeof m->name, "%s", cfg->name);
    m->cancel = cfg->cancel;
    m->size = cfg->size;
    m->rate = cfg->rate;
    m->no_zero = cfg->no_zero;
    m->request_size = cfg->request_size ? cfg->request_size : REQUEST_SIZE_DEFAULT;
    if (!mirror_connect(m, dst, cfg, e))
        return err_wrap(e, "%s", m->name);
    *out = ptr_steal(&m);
    return true;
}

/* --- pass --- */

/* What the lanes are fed in a pass from @src. */
static struct feed_cfg feed_cfg(struct mirror *m, const struct mirror_pass *pass,
                                const struct disk *src)
{
    const uint32_t align =
        src->block_min > m->dst_block_min ? src->block_min : m->dst_block_min;
    const bool dirty = pass->what == MIRROR_DIRTY, given = pass->what == MIRROR_RANGES;

    return (struct feed_cfg){
        .rule = { .use = { [EXTENTS_ALLOC] = src->has_alloc && !given,
                           [EXTENTS_DIRTY] = dirty,
                           [EXTENTS_OURS] = pass->hot != NULL },
                  .skip_zero = pass->dst_zero && pass->what == MIRROR_ALL,
                  .align = align,
                  .size = m->size },
        .data_max = side_size_limit(m->request_size, src->block_max),
        .whole_list = pass->extents_first || given,
        .ranges = given ? pass->ranges : NULL,
        .nranges = pass->nranges,
        .rate = m->rate,
        .hot = pass->hot,
        .start = pass->start - pass->start % align,
        .counters = &m->counters,
    };
}

static bool pass_run(struct mirror *m, const struct feed_cfg *cfg, unsigned n,
                     struct err *e)
{
    int wake_fd[MIRROR_LANES_MAX];
    struct feed feed;

    for (unsigned i = 0; i < n; i++)
        wake_fd[i] = m->lane[i].wake_fd;
    if (!sizes_fit(m->lane[0].src, m->dst_block_min, cfg->data_max, e) ||
        !feed_init(&feed, cfg, wake_fd, n, e))
        return false;
    const bool ok =
        lanes_run(m->lane, n, &feed, cfg->rule.skip_zero, m->cancel, &m->counters, e);
    feed_fini(&feed);
    return ok;
}

static bool pass_run_safely(struct mirror *m, const struct mirror_pass *pass,
                            unsigned n, struct err *e)
{
    struct feed_cfg cfg = feed_cfg(m, pass, m->lane[0].src);
    struct frontier frontier;

    if (pass->flush_every == 0)
        return pass_run(m, &cfg, n, e);
    if (!frontier_init(&frontier, cfg.start, feed_tail(&cfg), pass->flush_every,
                       (size_t)m->nlanes * m->lane[0].nslots, clock_ms(), e))
        return false;
    counter_set(&m->counters.safe, cfg.start);
    cfg.frontier = &frontier;
    const bool ok = pass_run(m, &cfg, n, e);
    frontier_fini(&frontier);
    return ok;
}

static bool pass_connect_run(struct mirror *m, const struct mirror_side *src,
                             const struct mirror_pass *pass, struct err *e)
{
    struct side_want want = {
        .side = src,
        .nbd = { .side = "src",
                 .export_name = src->export_name,
                 .want_alloc = true,
                 .bitmap = pass->what == MIRROR_DIRTY ? pass->bitmap : NULL,
                 .cancel = m->cancel },
        .size = m->size,
    };
    struct disk *disk[MIRROR_LANES_MAX];
    unsigned n;

    if (mirror_broken(m))
        return err_set(e, ERR_NBD, ENOTCONN, "dst: connection lost before");
    if (!side_connect(&want, m->nlanes, disk, &n, e))
        return false;
    for (unsigned i = 0; i < n; i++)
        m->lane[i].src = disk[i];
    const bool ok = pass_run_safely(m, pass, n, e);
    for (unsigned i = 0; i < n; i++)
        disk_close(ptr_steal(&m->lane[i].src));
    return ok;
}

bool mirror_pass(struct mirror *m, const struct mirror_side *src,
                 const struct mirror_pass *pass, struct err *e)
{
    assert(pass->what != MIRROR_DIRTY || pass->bitmap != NULL);
    assert(pass->what != MIRROR_RANGES || pass->ranges != NULL);
    assert(pass->what == MIRROR_ALL || (pass->start == 0 && pass->flush_every == 0));
    assert(pass->what == MIRROR_DIRTY || pass->hot == NULL);
    if (pass->hot != NULL)
        hot_look(pass->hot);
    return pass_connect_run(m, src, pass, e) ? true : err_wrap(e, "%s", m->name);
}

/* --- the rest --- */

bool mirror_flush(struct mirror *m, struct err *e)
{
    struct disk_cmd flush = { .op = DISK_FLUSH };

    if (mirror_broken(m))
        return err_set(e, ERR_NBD, ENOTCONN, "%s: dst: connection lost before",
                       m->name);
    /* One is enough: there are several lanes only where the server says that a flush
     * covers what was written through any connection (NBD_FLAG_CAN_MULTI_CONN). */
    struct disk *const d = m->lane[0].dst;
    if (!d->can_flush)
        return true;
    if (disk_do(d, &flush, m->cancel, e))
        return true;
    if (d->in_flight > 0)
        lane_abandon(&m->lane[0]);
    return err_wrap(e, "%s", m->name);
}

bool mirror_broken(const struct mirror *m)
{
    for (unsigned i = 0; i < m->nlanes; i++)
        if (lane_broken(&m->lane[i]))
            return true;
    return false;
}

void mirror_stats(const struct mirror *m, struct mirror_stats *out)
{
    const struct counters *n = &m->counters;

    *out = (struct mirror_stats){
        .size = m->size,
        .pass_total = counter_get(&n->pass_total),
        .pass_done = counter_get(&n->pass_done),
        .data = counter_get(&n->data),
        .zeroed = counter_get(&n->zeroed),
        .skipped = counter_get(&n->skipped),
        .requests = counter_get(&n->requests),
        .safe = counter_get(&n->safe),
        .lanes = m->nlanes,
    };
}

void mirror_close(struct mirror *m)
{
    if (m == NULL)
        return;
    for (unsigned i = 0; i < m->nlanes; i++)
        lane_fini(&m->lane[i]);
    free(m);
}

void mirror_close_auto(struct mirror **m)
{
    mirror_close(*m);
}
