/* The bulk pass of a disk whose image at the destination holds something already: an older
 * copy, or one that nobody can vouch for any more.
 *
 *   source       digests QEMU's export ----------------------.
 *                                                             +--> stretches that differ
 *   destination  its agent digests the image, digests travel -'        |
 *                                                        copied in batches, as they are found
 *
 * A stretch is told after all before it was compared, so once it is copied and flushed all up
 * to its end is safe.  What the guest writes meanwhile is in the dirty bitmap, which was
 * there before: it does not matter on which side of a write a block was digested. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "migrate/move-int.h"
#include "nbd-mirror/digest-wire.h"
#include "nbd-mirror/verify.h"

enum {
    /* The least that can be asked for: a small write costs so much on the link. */
    BLOCK = MIRROR_BLOCK,
    CONNECTIONS = 2, /* to QEMU's export */
    REQUESTS = 8,
    BATCH = 1024,           /* stretches that are copied in one pass, at most, */
    BATCH_BYTES = 16 << 20, /* and bytes */
    STRETCH_MAX = 8 << 20,
    FLUSH = 256 << 20, /* bytes of the disk between two flushes */
};

struct compare {
    struct copy_disk *c;
    const struct mirror_side *src;
    struct mirror_range batch[BATCH];
    size_t n;
    uint64_t bytes; /* of the batch */
    bool failed;
    struct err err; /* why */
};

bool compare_dst_digests(void *ctx, const struct digest_cfg *cfg, uint64_t *size,
                         struct err *e)
{
    const struct copy_disk *const c = ctx;
    struct move *const m = c->move;
    AUTO(fd_close) int fd = -1;
    char path[128];

    snprintf(path, sizeof path, "digest/%s/%s", m->id, m->plan.disks[c->index].target);
    *size = cfg->size;
    return link_channel_pair(m->link, path, LINK_BULK, ZSTD_OFF, &fd, e) &&
           digest_wire_fetch(fd, cfg, e);
}

static bool copy_batch(struct compare *k, struct err *e)
{
    const struct mirror_pass pass = { .what = MIRROR_RANGES,
                                      .ranges = k->batch,
                                      .nranges = k->n };
    struct copy_disk *const c = k->c;

    if (k->n == 0)
        return true;
    if (!mirror_pass(c->mirror, k->src, &pass, e))
        return false;
    const uint64_t end = k->batch[k->n - 1].off + k->batch[k->n - 1].len;
    k->n = 0;
    k->bytes = 0;
    if (end - c->safe < FLUSH)
        return true;
    if (!mirror_flush(c->mirror, e))
        return false;
    c->safe = end;
    return true;
}

static void differs(void *ctx, uint64_t off, uint64_t len)
{
    struct compare *const k = ctx;

    if (k->failed)
        return;
    k->batch[k->n++] = (struct mirror_range){ off, len };
    k->bytes += len;
    if (k->n < BATCH && k->bytes < BATCH_BYTES)
        return;
    k->failed = !copy_batch(k, &k->err);
    if (k->failed) /* as a pass that fails does; it ends the digesting */
        cancel_set(k->c->move->halt);
}

static bool compare_all(struct compare *k, struct verify_result *r, struct err *e)
{
    struct copy_disk *const c = k->c;
    const struct plan_disk *const d = &c->move->plan.disks[c->index];
    const struct verify_cfg cfg = { .name = d->target,
                                    .size = d->size,
                                    .block = BLOCK,
                                    .connections = CONNECTIONS,
                                    .requests = REQUESTS,
                                    .cancel = c->move->halt,
                                    .differs = differs,
                                    .ctx = k,
                                    .stretch_max = STRETCH_MAX,
                                    .start = c->safe - c->safe % BLOCK,
                                    .dst_digests = compare_dst_digests,
                                    .dst_ctx = c,
                                    .compared = &c->compared };

    atomic_store(&c->compared, cfg.start);
    const bool ok = verify_run(&cfg, k->src, NULL, r, e);
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
    atomic_store(&c->comparing, true);
    const bool ok = compare_all(k, &r, e);
    atomic_store(&c->comparing, false);
    if (!ok)
        return false;
    c->safe = d->size;
    log_info("disks", "%s: %s of %s differed, in %" PRIu64 " stretches", d->target,
             units_size(a, r.differ), units_size(b, d->size), r.stretches);
    return true;
}
