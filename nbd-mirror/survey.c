#include "nbd-mirror/survey.h"

#include "base/mem.h"
#include "nbd-mirror/disk.h"
#include "nbd-mirror/extents.h"
#include "nbd-mirror/side.h"

enum {
    WINDOW = 1 << 30,    /* bytes of one question */
    STATE_HOLE = 1 << 0, /* base:allocation, NBD protocol: not allocated */
};

static void extents_fini_auto(struct extents *x)
{
    extents_fini(x);
}

/* From here on only what is a hole too counts as zero. */
static void only_holes(struct extents *x)
{
    const struct extents_list *l = &x->list[EXTENTS_ALLOC];

    for (uint32_t i = 0; i < l->n; i++)
        if (!(l->pairs[2 * i + 1] & STATE_HOLE))
            l->pairs[2 * i + 1] &= ~(uint32_t)EXTENTS_STATE_ZERO;
}

static void count(struct survey *s, struct extents *x, const struct extents_rule *r)
{
    struct extents again = *x; /* of where it stands; the lists are shared */
    uint64_t zero = 0, holes = 0;
    struct piece p;

    while (extents_next(x, r, &p)) {
        s->data += p.kind == PIECE_DATA ? p.len : 0;
        s->clean += p.kind == PIECE_SKIP ? p.len : 0;
        zero += p.kind == PIECE_ZERO ? p.len : 0;
    }
    only_holes(&again);
    while (extents_next(&again, r, &p))
        holes += p.kind == PIECE_ZERO ? p.len : 0;
    s->zero += zero - holes;
    s->holes += holes;
}

/* As a pass does it: the rest of a disk that is no whole number of blocks is data. */
static bool ask_all(struct disk *d, struct survey *s, const struct extents_rule *r,
                    const struct cancel *cancel, struct err *e)
{
    const uint64_t end = s->size - s->size % r->align;
    AUTO(extents_fini) struct extents x = { 0 };

    if (!extents_init(&x, e))
        return false;
    s->data = s->size - end;
    for (uint64_t pos = 0; pos < end; pos = x.end) {
        const uint64_t len = end - pos < WINDOW ? end - pos : WINDOW;
        struct disk_cmd ask = {
            .op = DISK_STATUS, .off = pos, .len = (uint32_t)len, .map = &x
        };

        extents_ask(&x, pos, len);
        if (!disk_do(d, &ask, cancel, e)) {
            if (r->use[EXTENTS_DIRTY] || !disk_refused(&ask))
                return false;
            s->extents = false; /* a pass takes it for data then */
            s->data += len;
            x.end = pos + len;
            continue;
        }
        if (!extents_check(&x, r, e))
            return err_wrap(e, "%s: block status of %llu bytes at %llu", d->side,
                            (unsigned long long)len, (unsigned long long)pos);
        count(s, &x, r);
    }
    return true;
}

bool survey_run(const struct mirror_side *side, const char *name, const char *bitmap,
                bool deep, const struct cancel *cancel, struct survey *out,
                struct err *e)
{
    struct side_want want = { .side = side,
                              .nbd = { .side = name,
                                       .export_name = side->export_name,
                                       .want_alloc = deep,
                                       .bitmap = bitmap,
                                       .cancel = cancel },
                              .size = MIRROR_SIZE_DST };
    AUTO(disk_close) struct disk *d = NULL;
    unsigned n;

    if (!side_connect(&want, 1, &d, &n, e))
        return false;
    *out = (struct survey){ .size = d->size,
                            .data = d->size,
                            .extents = d->has_alloc,
                            .read_only = d->read_only,
                            .can_zero = d->can_zero };
    const struct extents_rule r = {
        .use = { [EXTENTS_ALLOC] = d->has_alloc, [EXTENTS_DIRTY] = bitmap != NULL },
        .align = d->block_min,
        .size = d->size
    };
    return !deep || (!d->has_alloc && bitmap == NULL) || d->size == 0
               ? true
               : ask_all(d, out, &r, cancel, e);
}

/* Who is told of marks, and in blocks of what. */
struct marks {
    const char *name;
    uint32_t align;
    const struct cancel *cancel;
    void (*marked)(void *ctx, uint64_t off, uint64_t len);
    void *ctx;
};

static bool marks_between(struct disk *d, struct extents *x, const struct marks *k,
                          uint64_t pos, uint64_t end, struct err *e)
{
    const struct extents_rule r = { .use = { [EXTENTS_DIRTY] = true },
                                    .align = k->align,
                                    .size = d->size };
    struct piece p;

    for (; pos < end; pos = x->end) {
        const uint64_t len = end - pos < WINDOW ? end - pos : WINDOW;
        struct disk_cmd ask = {
            .op = DISK_STATUS, .off = pos, .len = (uint32_t)len, .map = x
        };

        extents_ask(x, pos, len);
        if (!disk_do(d, &ask, k->cancel, e))
            return false;
        if (!extents_check(x, &r, e))
            return err_wrap(e, "%s: block status of %llu bytes at %llu", k->name,
                            (unsigned long long)len, (unsigned long long)pos);
        while (extents_next(x, &r, &p))
            if (p.kind != PIECE_SKIP)
                k->marked(k->ctx, p.off, p.len);
    }
    return true;
}

bool survey_marked(const struct mirror_side *side, const char *name, const char *bitmap,
                   uint64_t size, uint32_t align, const struct cancel *cancel,
                   void (*marked)(void *ctx, uint64_t off, uint64_t len), void *ctx,
                   struct err *e)
{
    struct side_want want = { .side = side,
                              .nbd = { .side = name,
                                       .export_name = side->export_name,
                                       .bitmap = bitmap,
                                       .cancel = cancel },
                              .size = size };
    AUTO(disk_close) struct disk *d = NULL;
    AUTO(extents_fini) struct extents x = { 0 };
    struct marks k = { name, align, cancel, marked, ctx };
    unsigned n;

    if (!side_connect(&want, 1, &d, &n, e) || !extents_init(&x, e))
        return false;
    const uint64_t end = d->size - d->size % align;
    const uint64_t last = d->size - d->size % d->block_min;

    if (!marks_between(d, &x, &k, 0, end, e))
        return false;
    k.align = d->block_min;
    if (!marks_between(d, &x, &k, end, last, e))
        return false;
    if (last < d->size)
        marked(ctx, last, d->size - last);
    return true;
}
