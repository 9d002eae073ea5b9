/* What an agent says to a question for digests: the first byte chooses the question, the rest
 * is the answer.  What is taken lies in what was asked for, one behind the other. */
#include <stdint.h>
#include <stdlib.h>

#include "nbd-mirror/digest-wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BLOCK UINT64_C(65536)

static const struct mirror_range ranges[] = { { BLOCK, 3 * BLOCK },
                                              { 9 * BLOCK, 512 } };

struct seen {
    const struct digest_cfg *cfg;
    uint64_t at, sum;
};

static bool is_asked(const struct digest_cfg *cfg, const struct digest *d)
{
    if (cfg->ranges == NULL)
        return d->off >= cfg->start && d->len <= cfg->size - d->off;
    for (size_t i = 0; i < cfg->nranges; i++)
        if (d->off >= cfg->ranges[i].off &&
            d->off + d->len <= cfg->ranges[i].off + cfg->ranges[i].len)
            return true;
    return false;
}

static bool take(void *ctx, const struct digest *d, struct err *e)
{
    struct seen *const s = ctx;

    (void)e;
    if (d->off < s->at || d->len == 0 || !is_asked(s->cfg, d) ||
        (!d->zero && d->len > s->cfg->block))
        abort();
    s->at = d->off + d->len;
    s->sum += d->len;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen s = { 0 };
    struct digest_cfg cfg = {
        .name = "dst", .size = 9 * BLOCK + 512, .block = BLOCK, .emit = take, .ctx = &s
    };
    struct digest_wire w;
    size_t used;
    struct err e = { 0 };

    if (size == 0)
        return 0;
    if ((data[0] & 1) != 0) {
        cfg.ranges = ranges;
        cfg.nranges = sizeof ranges / sizeof ranges[0];
    } else if ((data[0] & 2) != 0) {
        cfg.start = 4 * BLOCK;
    }
    if ((data[0] & 4) != 0)
        cfg.block = 4 * BLOCK;
    s.cfg = &cfg;
    digest_wire_begin(&w, &cfg);
    const bool ok = digest_wire_take(&w, data + 1, size - 1, &used, &e);
    const uint64_t all = cfg.ranges != NULL ? 3 * BLOCK + 512 : cfg.size - cfg.start;
    if (used > size - 1 || (!ok && e.msg[0] == '\0') || (ok && w.ended && s.sum != all))
        abort();
    return 0;
}
