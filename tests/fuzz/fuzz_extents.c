/* tests/fuzz/fuzz_extents.c - answers to BLOCK_STATUS, from a server that says anything.
 *
 * Input: a rule, then answers.  They go through extents_record() and the feed as in a pass.
 * Whatever is said: pieces are in order, do not overlap, lie within the disk, have whole
 * blocks, and never call zero or clean what an extent called data; and a pass that ends
 * without an error has handed out all of the disk.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "nbd-mirror/counters.h"
#include "nbd-mirror/feed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ANSWERS_MAX = 300, PAIRS_MAX = 4096 };

struct input {
    const uint8_t *p;
    size_t left;
};

static uint32_t take(struct input *in, unsigned bytes)
{
    uint32_t v = 0;

    for (; bytes-- > 0; v = v << 8 | (in->left > 0 ? (in->left--, *in->p++) : 0))
        ;
    return v;
}

/* One context's list: a count, then flags and a length with an exponent for each. */
static void record(struct input *in, struct extents *x, enum extents_ctx ctx)
{
    static uint32_t pairs[2 * PAIRS_MAX];
    const uint32_t n = take(in, 1);

    /* With nothing left to say, all of it is data: the pass comes to its end. */
    if (in->left == 0) {
        pairs[0] = (uint32_t)x->len;
        pairs[1] = EXTENTS_STATE_DIRTY;
        extents_record(x, ctx, pairs, 1);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t how = take(in, 1);

        pairs[2 * i] = take(in, 2) << how % 17;
        pairs[2 * i + 1] = how >> 5;
    }
    extents_record(x, ctx, pairs, n);
    if (n % 16 == 15) /* the server says it twice */
        extents_record(x, ctx, pairs, n);
}

/* Whether context @ctx of @x has @flag everywhere from @off to @end. */
static bool all_flagged(const struct extents *x, enum extents_ctx ctx, uint32_t flag,
                        uint64_t off, uint64_t end)
{
    uint64_t at = x->off;

    for (uint32_t i = 0; i < x->list[ctx].n && at < end; i++) {
        const uint64_t next = at + x->list[ctx].pairs[2 * i];

        if (next > off && !(x->list[ctx].pairs[2 * i + 1] & flag))
            return false;
        at = next;
    }
    return at >= end;
}

static bool any_flagged(const struct extents *x, enum extents_ctx ctx, uint32_t flag,
                        uint64_t off, uint64_t end)
{
    uint64_t at = x->off;

    for (uint32_t i = 0; i < x->list[ctx].n && at < end; i++) {
        const uint64_t next = at + x->list[ctx].pairs[2 * i];

        if (next > off && (x->list[ctx].pairs[2 * i + 1] & flag))
            return true;
        at = next;
    }
    return at < end;
}

/* An answer that was found good, looked at by itself. */
static void check_answer(struct extents x, const struct extents_rule *r)
{
    uint64_t pos = x.off, pieces = 0;
    struct piece p;

    assert(x.end > x.off && x.end <= r->size);
    assert(x.end % r->align == 0 || x.end == r->size);
    for (; extents_next(&x, r, &p); pos += p.len) {
        const uint64_t end = p.off + p.len;

        assert(p.off == pos && p.len > 0 && end <= x.end);
        assert(p.off % r->align == 0 && (end % r->align == 0 || end == r->size));
        const bool zero =
            r->use[EXTENTS_ALLOC] &&
            all_flagged(&x, EXTENTS_ALLOC, EXTENTS_STATE_ZERO, p.off, end);
        const bool clean =
            r->use[EXTENTS_DIRTY] &&
            !any_flagged(&x, EXTENTS_DIRTY, EXTENTS_STATE_DIRTY, p.off, end);
        if (p.kind == PIECE_ZERO)
            assert(zero && !r->skip_zero);
        if (p.kind == PIECE_SKIP && !clean)
            /* Zeroes and clean stretches may follow each other. */
            assert(r->skip_zero || r->use[EXTENTS_DIRTY]);
        if (p.kind == PIECE_SKIP && !r->use[EXTENTS_DIRTY])
            assert(zero);
        if (p.kind == PIECE_SKIP && !r->skip_zero)
            assert(clean);
        pieces++;
    }
    assert(pos == x.end && pieces > 0);
}

struct seen {
    uint64_t pos, sum;
    bool rest; /* the end of the disk was handed out, which comes first */
};

static enum feed_next drain(struct feed *f, struct seen *s)
{
    enum feed_next next;
    struct piece p;
    int later_ms;

    while ((next = feed_take(f, 0, 0, &p, &later_ms)) == FEED_PIECE) {
        const bool rest =
            !s->rest && f->ask_end < f->cfg.rule.size && p.off >= f->ask_end;

        assert(p.len > 0 && p.off <= f->cfg.rule.size);
        assert(p.len <= f->cfg.rule.size - p.off);
        assert(p.kind != PIECE_SKIP);
        assert(p.len <= (p.kind == PIECE_ZERO ? FEED_ZERO_MAX : f->cfg.data_max));
        assert(rest || p.off >= s->pos);
        s->sum += p.len;
        if (rest)
            s->rest = p.off + p.len == f->cfg.rule.size;
        else
            s->pos = p.off + p.len;
    }
    return next;
}

static void run(struct input *in, const struct feed_cfg *cfg)
{
    static struct feed f;
    struct seen seen = { 0 };
    struct err e;

    if (!feed_init(&f, cfg, NULL, 0, &e))
        abort();
    for (int i = 0; i < ANSWERS_MAX; i++) {
        if (drain(&f, &seen) == FEED_END) {
            if (!cfg->rule.use[EXTENTS_DIRTY])
                assert(seen.sum + counter_get(&cfg->counters->skipped) ==
                       cfg->rule.size);
            break;
        }
        struct extents *x = feed_ask(&f);
        assert(x != NULL);
        for (int c = 0; c < EXTENTS_CTXS; c++)
            if (cfg->rule.use[c])
                record(in, x, (enum extents_ctx)c);
        struct extents alone = *x;
        if (extents_check(&alone, &cfg->rule, &e))
            check_answer(alone, &cfg->rule);
        if (!feed_tell(&f, &e)) {
            assert(e.kind == ERR_PROTO || e.kind == ERR_NBD);
            break;
        }
    }
    feed_fini(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    struct counters counters = { 0 };
    const uint32_t how = take(&in, 1), align = 1u << take(&in, 1) % 17;
    const uint64_t disk = (uint64_t)take(&in, 3) << take(&in, 1) % 20;
    const struct feed_cfg cfg = {
        .rule = { .use = { how & 1, (how & 2) || !(how & 1) },
                  .skip_zero = how & 4,
                  .align = align,
                  .size = disk + (how & 8 ? 511 : 0) },
        .data_max = 32 << 20,
        .whole_list = how & 16,
        .counters = &counters,
    };

    if (cfg.rule.size <= UINT64_C(1) << 33) /* or handing it out takes long */
        run(&in, &cfg);
    return 0;
}
