#include "nbd-mirror/extents.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const ctx_names[EXTENTS_CTXS] = {
    [EXTENTS_ALLOC] = "base:allocation",
    [EXTENTS_DIRTY] = "qemu:dirty-bitmap",
    [EXTENTS_OURS] = "hot",
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint32_t length_of(const struct extents_list *l, uint32_t i)
{
    return l->pairs[2 * i];
}

static uint32_t flags_of(const struct extents_list *l, uint32_t i)
{
    return l->pairs[2 * i + 1];
}

bool extents_init(struct extents *x, struct err *e)
{
    *x = (struct extents){ 0 };
    for (int c = 0; c < EXTENTS_CTXS; c++) {
        /* Untouched pages cost nothing, so a short list does not either. */
        x->list[c].pairs = malloc((size_t)EXTENTS_MAX * 2 * sizeof(uint32_t));
        if (x->list[c].pairs == NULL) {
            extents_fini(x);
            return err_set(e, ERR_SYS, ENOMEM, "cannot allocate an extent list");
        }
    }
    return true;
}

void extents_fini(struct extents *x)
{
    for (int c = 0; c < EXTENTS_CTXS; c++) {
        free(x->list[c].pairs);
        x->list[c].pairs = NULL;
    }
}

void extents_ask(struct extents *x, uint64_t off, uint64_t len)
{
    x->off = x->pos = x->end = off;
    x->len = len;
    x->blind = false;
    x->at = (struct extents_at){ { 0 }, { 0 } };
    for (int c = 0; c < EXTENTS_CTXS; c++) {
        x->list[c].n = 0;
        x->list[c].again = x->list[c].cut = false;
    }
}

void extents_record(struct extents *x, enum extents_ctx ctx, const uint32_t *pairs,
                    size_t n)
{
    struct extents_list *l = &x->list[ctx];

    l->again |= l->n > 0;
    l->cut |= n > EXTENTS_MAX;
    l->n = (uint32_t)min_u64(n, EXTENTS_MAX);
    if (l->n > 0)
        memcpy(l->pairs, pairs, (size_t)l->n * 2 * sizeof *pairs);
}

/* The NBD protocol lets only the last extent reach past what was asked, and none past the
 * end of the disk. */
static bool list_check(const struct extents *x, enum extents_ctx ctx, uint64_t size,
                       uint64_t *covered, struct err *e)
{
    const struct extents_list *l = &x->list[ctx];
    uint64_t sum = 0;

    if (l->n == 0 || l->again)
        return err_set(e, ERR_PROTO, 0, "%s answer for %s",
                       l->again ? "more than one" : "no", ctx_names[ctx]);
    for (uint32_t i = 0; i < l->n; i++) {
        if (length_of(l, i) == 0)
            return err_set(e, ERR_PROTO, 0, "%s: extent of length 0 at %" PRIu64,
                           ctx_names[ctx], x->off + sum);
        if (sum >= x->len)
            return err_set(e, ERR_PROTO, 0,
                           "%s: extent at %" PRIu64 " is behind what was asked for",
                           ctx_names[ctx], x->off + sum);
        if (length_of(l, i) > size - x->off - sum)
            return err_set(e, ERR_PROTO, 0,
                           "%s: extent of %" PRIu32 " bytes at %" PRIu64
                           " reaches past the end of the disk",
                           ctx_names[ctx], length_of(l, i), x->off + sum);
        sum += length_of(l, i);
    }
    *covered = min_u64(sum, x->len);
    return true;
}

bool extents_check(struct extents *x, const struct extents_rule *r, struct err *e)
{
    uint64_t good = x->len;

    assert(x->len > 0 && x->off % r->align == 0 && x->len <= r->size - x->off);
    for (int c = 0; c < EXTENTS_CTXS; c++) {
        uint64_t covered = good;

        if (r->use[c] && !list_check(x, (enum extents_ctx)c, r->size, &covered, e))
            return false;
        good = min_u64(good, covered);
    }
    if (x->off + good < r->size)
        good -= good % r->align;
    /* Less than one block is fine where the blocks are the other side's. */
    x->blind = good == 0;
    if (x->blind)
        good = min_u64(r->align, r->size - x->off);
    x->end = x->off + good;
    return true;
}

/* Whether a pass that copies what a bitmap marks copies this. */
static bool is_wanted(const struct extents *x, const struct extents_rule *r,
                      const struct extents_at *at)
{
    const bool dirty =
        flags_of(&x->list[EXTENTS_DIRTY], at->i[EXTENTS_DIRTY]) & EXTENTS_STATE_DIRTY;

    if (!r->use[EXTENTS_OURS])
        return dirty;
    const uint32_t ours = flags_of(&x->list[EXTENTS_OURS], at->i[EXTENTS_OURS]);
    return dirty ? !(ours & EXTENTS_OURS_LEAVE) : ours & EXTENTS_OURS_ALSO;
}

static enum piece_kind kind_at(const struct extents *x, const struct extents_rule *r,
                               const struct extents_at *at)
{
    if (r->use[EXTENTS_DIRTY] && !is_wanted(x, r, at))
        return PIECE_SKIP;
    if (r->use[EXTENTS_ALLOC] &&
        (flags_of(&x->list[EXTENTS_ALLOC], at->i[EXTENTS_ALLOC]) & EXTENTS_STATE_ZERO))
        return r->skip_zero ? PIECE_SKIP : PIECE_ZERO;
    return PIECE_DATA;
}

/* Go up to @max bytes forward, but not past the end of an extent of any context: how far
 * that was.  extents_check() made sure that each list reaches to x->end, the callers that
 * @max does not go farther: the index is valid whenever there is something left. */
static uint64_t step(const struct extents *x, const struct extents_rule *r,
                     struct extents_at *at, uint64_t max)
{
    uint64_t n = max;

    for (int c = 0; c < EXTENTS_CTXS; c++)
        if (r->use[c]) {
            assert(at->i[c] < x->list[c].n);
            n = min_u64(n, length_of(&x->list[c], at->i[c]) - at->used[c]);
        }
    for (int c = 0; c < EXTENTS_CTXS; c++)
        if (r->use[c]) {
            at->used[c] += (uint32_t)n;
            if (at->used[c] == length_of(&x->list[c], at->i[c])) {
                at->i[c]++;
                at->used[c] = 0;
            }
        }
    assert(n > 0);
    return n;
}

/* The next whole blocks of one kind, or one block in which kinds mix. */
static uint64_t blocks_next(const struct extents *x, const struct extents_rule *r,
                            struct extents_at *at, uint64_t pos, enum piece_kind *kind)
{
    const uint64_t left = x->end - pos;
    const struct extents_at start = *at;
    uint64_t n = 0;

    *kind = kind_at(x, r, at);
    while (n < left && kind_at(x, r, at) == *kind)
        n += step(x, r, at, left - n);
    if (n == left || n % r->align == 0)
        return n;

    n -= n % r->align;
    if (n == 0) {
        *kind = PIECE_DATA;
        n = min_u64(r->align, left);
    }
    *at = start;
    for (uint64_t back = 0; back < n;)
        back += step(x, r, at, n - back);
    return n;
}

bool extents_next(struct extents *x, const struct extents_rule *r, struct piece *out)
{
    struct extents_at ahead = x->at;
    enum piece_kind kind;

    if (x->pos == x->end)
        return false;
    *out = (struct piece){ .off = x->pos, .len = x->end - x->pos, .kind = PIECE_DATA };
    if (x->blind) {
        x->pos = x->end;
        return true;
    }
    out->len = blocks_next(x, r, &ahead, x->pos, &out->kind);
    do {
        x->at = ahead;
        x->pos = out->off + out->len;
        /* Only mixed blocks can be followed by more of the same kind. */
        if (x->pos == x->end || r->align == 1)
            break;
        const uint64_t more = blocks_next(x, r, &ahead, x->pos, &kind);
        if (kind == out->kind)
            out->len += more;
    } while (kind == out->kind);
    assert(x->pos <= x->end && out->len > 0);
    return true;
}

struct piece piece_take(struct piece *run, uint64_t len)
{
    struct piece first = *run;

    assert(len <= run->len);
    first.len = len;
    run->off += len;
    run->len -= len;
    return first;
}

struct piece piece_cut(struct piece *run, uint64_t max)
{
    assert(max > 0 && (max & (max - 1)) == 0);
    return piece_take(run, min_u64(run->len, max - run->off % max));
}
