/* Both sides of a disk compared by digests; and what is made of that: the bulk pass of a disk
 * whose image at the destination holds something already, an older copy, or one that nobody
 * can vouch for any more.
 *
 *   source       digests QEMU's export ----------------------.
 *                                                             +--> stretches that differ
 *   destination  its agent digests the image, digests travel -'        |
 *                                                        copied in batches, as they are found
 *
 * A stretch, alike or not, is told after all before it was compared and told.  So once what
 * differs is copied, and the destination has flushed, all up to the end of that stretch is
 * safe: also what was alike, which another may have written there a moment ago.  What the
 * guest writes meanwhile is in the dirty bitmap, which was there before: it does not matter
 * on which side of a write a block was digested. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "migrate/move-int.h"
#include "migrate/suspects.h"
#include "nbd-mirror/digest-wire.h"
#include "nbd-mirror/survey.h"
#include "nbd-mirror/verify.h"

enum {
    /* The least that can be asked for: a small write costs so much on the link. */
    BLOCK = MIRROR_BLOCK,
    CONNECTIONS = 2,        /* to QEMU's export */
    BATCH = 1024,           /* stretches that are copied in one pass, at most, */
    BATCH_BYTES = 16 << 20, /* and bytes */
    STRETCH_MAX = 8 << 20,
    FLUSH_MS = 5000, /* what is safe moves on that often, however slow it is */
};

struct compare {
    struct copy_disk *c;
    const struct mirror_side *src;
    struct mirror_range batch[BATCH];
    size_t n;
    uint64_t bytes; /* of the batch */
    uint64_t every; /* bytes of the disk between two flushes */
    int64_t flushed_at_ms;
    bool failed;
    struct err err; /* why */
};

bool compare_fetch(struct link *l, const char *id, const char *target,
                   const struct digest_cfg *cfg, struct err *e)
{
    AUTO(fd_close) int fd = -1;
    char path[128];

    snprintf(path, sizeof path, "digest/%s/%s", id, target);
    return link_channel_pair(l, path, LINK_BULK, ZSTD_OFF, &fd, e) &&
           digest_wire_fetch(fd, cfg, e);
}

static bool dst_digests(void *ctx, const struct digest_cfg *cfg, uint64_t *size,
                        struct err *e)
{
    const struct copy_disk *const c = ctx;
    const struct move *const m = c->move;

    *size = cfg->size;
    return compare_fetch(m->link, m->id, m->plan.disks[c->index].target, cfg, e);
}

/* --- a look at both sides --- */

static void look_differs(void *ctx, uint64_t off, uint64_t len)
{
    const struct compare_look *const l = ctx;

    suspects_add(l->differ, off, len);
}

static void look_alike(void *ctx, const struct digest *d)
{
    const struct compare_look *const l = ctx;

    l->alike(l->ctx, d);
}

/* What all comparing of a disk has in common. */
static struct verify_cfg verify_cfg(struct copy_disk *c)
{
    const struct plan_disk *const d = &c->move->plan.disks[c->index];

    return (struct verify_cfg){ .name = d->target,
                                .size = d->size,
                                .block = BLOCK,
                                .connections = CONNECTIONS,
                                .cancel = c->move->halt,
                                .dst_digests = dst_digests,
                                .dst_ctx = c,
                                .compared = &c->compared };
}

static bool verify(struct copy_disk *c, const struct verify_cfg *cfg,
                   const struct mirror_side *src, struct verify_result *r,
                   struct err *e)
{
    atomic_store(&c->compared, cfg->start);
    atomic_store(&c->comparing, true);
    const bool ok = verify_run(cfg, src, NULL, r, e);
    atomic_store(&c->comparing, false);
    return ok;
}

bool compare_look(struct copy_disk *c, const struct mirror_side *src,
                  struct compare_look *l, struct err *e)
{
    struct verify_cfg cfg = verify_cfg(c);
    struct verify_result r;

    l->differ->n = 0;
    cfg.differs = look_differs;
    cfg.alike = l->alike != NULL ? look_alike : NULL;
    cfg.ctx = l;
    cfg.ranges = l->only != NULL ? l->only->list : NULL;
    cfg.nranges = l->only != NULL ? l->only->n : 0;
    return (l->only != NULL && l->only->n == 0) || verify(c, &cfg, src, &r, e);
}

static void on_marked(void *ctx, uint64_t off, uint64_t len)
{
    suspects_excuse(ctx, off, len);
}

bool compare_excuse(struct copy_disk *c, const struct mirror_side *src,
                    const struct suspects *from, struct suspects *to, struct err *e)
{
    struct excuse x;

    suspects_begin(&x, from, to);
    if (from->n > 0 &&
        !survey_marked(src, "src", c->bitmap, c->move->plan.disks[c->index].size, BLOCK,
                       c->move->halt, on_marked, &x, e))
        return err_wrap(e, "%s", c->move->plan.disks[c->index].target);
    suspects_rest(&x);
    return true;
}

/* --- the bulk pass --- */

static bool copy_batch(struct compare *k, struct err *e)
{
    const struct mirror_pass pass = { .what = MIRROR_RANGES,
                                      .ranges = k->batch,
                                      .nranges = k->n };

    if (k->n == 0)
        return true;
    if (!mirror_pass(k->c->mirror, k->src, &pass, e))
        return false;
    k->n = 0;
    k->bytes = 0;
    return true;
}

/* All before @end was compared, and what of it differs is in the batch or copied. */
static bool move_on(struct compare *k, uint64_t end, struct err *e)
{
    struct copy_disk *const c = k->c;
    const bool full = k->n == BATCH || k->bytes >= BATCH_BYTES;
    const bool far = end >= c->safe + k->every ||
                     (end > c->safe && clock_ms() - k->flushed_at_ms >= FLUSH_MS);

    if (!full && !far)
        return true;
    if (!copy_batch(k, e))
        return false;
    if (!far)
        return true;
    if (!mirror_flush(c->mirror, e))
        return false;
    k->flushed_at_ms = clock_ms();
    c->safe = end;
    return fault_point("compare.safe", e);
}

static void move_on_or_end(struct compare *k, uint64_t end)
{
    if (k->failed)
        return;
    k->failed = !move_on(k, end, &k->err);
    if (k->failed) /* as a pass that fails does; it ends the digesting */
        cancel_set(k->c->move->halt);
}

static void differs(void *ctx, uint64_t off, uint64_t len)
{
    struct compare *const k = ctx;

    if (k->failed)
        return;
    k->batch[k->n++] = (struct mirror_range){ off, len };
    k->bytes += len;
    move_on_or_end(k, off + len);
}

static void alike(void *ctx, const struct digest *d)
{
    move_on_or_end(ctx, d->off + d->len);
}

static bool compare_all(struct compare *k, struct verify_result *r, struct err *e)
{
    struct copy_disk *const c = k->c;
    struct verify_cfg cfg = verify_cfg(c);

    cfg.differs = differs;
    cfg.alike = alike;
    cfg.ctx = k;
    cfg.stretch_max = STRETCH_MAX;
    cfg.start = c->safe - c->safe % BLOCK;
    const bool ok = verify(c, &cfg, k->src, r, e);
    if (k->failed)
        *e = k->err;
    return ok && !k->failed && copy_batch(k, e) && mirror_flush(c->mirror, e);
}

bool compare_run(struct copy_disk *c, const struct mirror_side *src, struct err *e)
{
    const struct plan_disk *const d = &c->move->plan.disks[c->index];
    AUTO(mem_free) struct compare *k = calloc(1, sizeof *k);
    char a[UNITS_LEN], b[UNITS_LEN];
    struct verify_result r = { 0 };

    if (k == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "%s: no memory to compare", d->target);
    if (c->safe >= d->size)
        return true;
    k->c = c;
    k->src = src;
    k->every = copy_flush_every(d->size);
    k->flushed_at_ms = clock_ms();
    if (!compare_all(k, &r, e))
        return false;
    c->safe = d->size;
    log_info("disks", "%s: %s of %s differed, in %" PRIu64 " stretches", d->target,
             units_size(a, r.differ), units_size(b, d->size), r.stretches);
    return true;
}
