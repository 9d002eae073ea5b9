/* Before an earlier try is gone on with: do its images hold what we think they do?
 *
 * Random blocks of what is safe are digested on both sides.  One that differs must be marked
 * in a bitmap: the guest has written it since.  QEMU is asked for that after both were read,
 * by a rotation, which waits for what is being written.  One that is not marked proves that
 * somebody has changed the image (a backup that was restored, another tool): then that disk
 * is copied anew. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrate/move-int.h"
#include "nbd-mirror/digest.h"
#include "nbd-mirror/disk.h"
#include "nbd-mirror/extents.h"
#include "nbd-mirror/side.h"

enum { BLOCKS = 64, REQUESTS = 8 };

struct sample {
    struct copy_disk *disk;
    struct mirror_range
        ranges[BLOCKS]; /* ascending; of those that differ, in the end */
    size_t n;
    struct digest sums[2][BLOCKS]; /* source, destination */
    struct digest *filling;
};

/* --- which blocks --- */

static int by_offset(const void *a, const void *b)
{
    const struct mirror_range *x = a, *y = b;

    return x->off < y->off ? -1 : x->off > y->off;
}

static bool choose(struct sample *s, struct err *e)
{
    const uint64_t blocks = s->disk->safe / MIRROR_BLOCK;
    uint64_t dice[BLOCKS];
    size_t n = 0;

    if (getrandom(dice, sizeof dice, 0) != sizeof dice)
        return err_set(e, ERR_SYS, errno, "getrandom");
    for (size_t i = 0; i < BLOCKS && blocks > 0; i++)
        s->ranges[i] =
            (struct mirror_range){ dice[i] % blocks * MIRROR_BLOCK, MIRROR_BLOCK };
    qsort(s->ranges, blocks > 0 ? BLOCKS : 0, sizeof s->ranges[0], by_offset);
    for (size_t i = 0; i < BLOCKS && blocks > 0; i++)
        if (n == 0 || s->ranges[i].off != s->ranges[n - 1].off)
            s->ranges[n++] = s->ranges[i];
    s->n = n;
    return true;
}

/* --- reading both sides --- */

static bool take(void *ctx, const struct digest *d, struct err *e)
{
    struct sample *const s = ctx;

    for (size_t i = 0; i < s->n; i++)
        if (s->ranges[i].off == d->off && s->ranges[i].len == d->len) {
            s->filling[i] = *d;
            return true;
        }
    return err_set(e, ERR_PROTO, 0, "a digest of another block");
}

static bool read_side(struct sample *s, const char *name,
                      const struct mirror_side *side, struct digest *out, struct err *e)
{
    const struct move *const m = s->disk->move;
    const struct digest_cfg cfg = { .name = name,
                                    .side = side,
                                    .size = m->plan.disks[s->disk->index].size,
                                    .ranges = s->ranges,
                                    .nranges = s->n,
                                    .block = MIRROR_BLOCK,
                                    .connections = 1,
                                    .requests = REQUESTS,
                                    .cancel = m->halt,
                                    .emit = take,
                                    .ctx = s };

    s->filling = out;
    return digest_export(&cfg, NULL, e);
}

static bool is_alike(const struct digest *a, const struct digest *b)
{
    return a->len == b->len && a->zero == b->zero &&
           (a->zero || memcmp(a->sum, b->sum, DIGEST_LEN) == 0);
}

/* ->ranges are those that differ afterwards. */
static bool read_both(struct sample *s, struct err *e)
{
    const struct mirror_side src = copy_source(s->disk);
    const struct mirror_side dst = copy_destination(s->disk);
    size_t n = 0;

    if (!read_side(s, "src", &src, s->sums[0], e) ||
        !read_side(s, "dst", &dst, s->sums[1], e))
        return false;
    for (size_t i = 0; i < s->n; i++)
        if (!is_alike(&s->sums[0][i], &s->sums[1][i]))
            s->ranges[n++] = s->ranges[i];
    s->n = n;
    return true;
}

/* --- what the guest has written --- */

static bool is_marked(struct disk *d, struct extents *x, const struct mirror_range *r,
                      const struct cancel *cancel, bool *marked, struct err *e)
{
    const struct extents_rule rule = { .use = { [EXTENTS_DIRTY] = true },
                                       .align = d->block_min,
                                       .size = d->size };
    const uint64_t end = r->off + r->len;
    struct piece p;

    *marked = false;
    for (uint64_t at = r->off; at < end; at = x->end) {
        struct disk_cmd ask = {
            .op = DISK_STATUS, .off = at, .len = (uint32_t)(end - at), .map = x
        };

        extents_ask(x, at, end - at);
        if (!disk_do(d, &ask, cancel, e) || !extents_check(x, &rule, e))
            return false;
        while (extents_next(x, &rule, &p))
            *marked |= p.kind != PIECE_SKIP;
    }
    return true;
}

static void extents_fini_auto(struct extents *x)
{
    extents_fini(x);
}

/* ->ranges are those that no bitmap marks afterwards.  The frozen bitmap is exported. */
static bool forgive_marked(struct sample *s, struct err *e)
{
    const struct mirror_side src = copy_source(s->disk);
    struct side_want want = { .side = &src,
                              .nbd = { .side = "src",
                                       .export_name = s->disk->export_name,
                                       .bitmap = s->disk->bitmap,
                                       .cancel = s->disk->move->halt },
                              .size = s->disk->move->plan.disks[s->disk->index].size };
    AUTO(extents_fini) struct extents x = { 0 };
    AUTO(disk_close) struct disk *d = NULL;
    unsigned connections;
    size_t n = 0;
    bool marked;

    if (!side_connect(&want, 1, &d, &connections, e) || !extents_init(&x, e))
        return false;
    for (size_t i = 0; i < s->n; i++) {
        if (!is_marked(d, &x, &s->ranges[i], s->disk->move->halt, &marked, e))
            return false;
        if (!marked)
            s->ranges[n++] = s->ranges[i];
    }
    s->n = n;
    return true;
}

/* --- all disks --- */

/* With the disk's export there meanwhile. */
static bool exported(struct move *m, struct sample *s, bool bitmap,
                     bool (*run)(struct sample *s, struct err *e), struct err *e)
{
    const size_t i = s->disk->index;

    return blk_export(&m->blk, i, bitmap, s->disk->export_name, s->disk->bitmap, e) &&
           run(s, e) && blk_unexport(&m->blk, i, e);
}

static bool judge(struct move *m, const struct sample *s, struct err *e)
{
    if (s->n == 0)
        return true;
    log_warn("resume",
             "%s: what is on %s is not what was copied (%zu of %d blocks that were "
             "looked at, the first at %llu): both sides are compared",
             m->plan.disks[s->disk->index].target, m->cfg->dest.host, s->n, BLOCKS,
             (unsigned long long)s->ranges[0].off);
    s->disk->safe = 0;
    s->disk->compare = true;
    return kept_lower(m, e);
}

static bool look(struct move *m, struct sample *list, struct err *e)
{
    size_t differ = 0;

    for (size_t i = 0; i < m->plan.n; i++) {
        list[i].disk = &m->copies[i];
        if (!choose(&list[i], e) ||
            (list[i].n > 0 && !exported(m, &list[i], false, read_both, e)))
            return false;
        log_info("resume", "%s: %zu of the blocks that were looked at differ",
                 m->plan.disks[i].target, list[i].n);
        differ += list[i].n;
    }
    if (differ == 0)
        return true;
    if (!blk_bitmaps_rotate(&m->blk, e))
        return false;
    for (size_t i = 0; i < m->plan.n; i++)
        if (list[i].n > 0 && !exported(m, &list[i], true, forgive_marked, e))
            return false;
    return blk_bitmaps_settle(&m->blk, e);
}

bool sample_run(struct move *m, struct err *e)
{
    AUTO(mem_free) struct sample *list = calloc(m->plan.n, sizeof *list);

    if (!m->unproved)
        return true;
    if (list == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "sample");
    if (!fault_point("sample", e) || !look(m, list, e))
        return err_wrap(e, "comparing with an earlier try");
    for (size_t i = 0; i < m->plan.n; i++)
        if (!judge(m, &list[i], e))
            return false;
    m->unproved = false;
    return true;
}
