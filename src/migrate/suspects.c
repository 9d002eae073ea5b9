#include "migrate/suspects.h"

#include <assert.h>

void suspects_add(struct suspects *s, uint64_t off, uint64_t len)
{
    struct mirror_range *const last = s->n > 0 ? &s->list[s->n - 1] : NULL;

    assert(last == NULL || off >= last->off + last->len);
    if (s->n < SUSPECTS_MAX)
        s->list[s->n++] = (struct mirror_range){ off, len };
    else
        last->len = off + len - last->off;
}

uint64_t suspects_bytes(const struct suspects *s)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < s->n; i++)
        sum += s->list[i].len;
    return sum;
}

void suspects_sample(struct suspects *s, uint64_t size, size_t count,
                     const uint64_t *random)
{
    const uint64_t blocks = (size + MIRROR_BLOCK - 1) / MIRROR_BLOCK;

    s->n = 0;
    if (blocks <= count) {
        if (size > 0)
            suspects_add(s, 0, size);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        /* blocks is far below 2^53: no overflow */
        const uint64_t begin = blocks * i / count, end = blocks * (i + 1) / count;
        const uint64_t off = (begin + random[i] % (end - begin)) * MIRROR_BLOCK;

        suspects_add(s, off, size - off < MIRROR_BLOCK ? size - off : MIRROR_BLOCK);
    }
}

void suspects_begin(struct excuse *x, const struct suspects *from, struct suspects *to)
{
    *x = (struct excuse){ .from = from, .to = to };
    to->n = 0;
    if (from->n > 0)
        x->at = from->list[0];
}

static void next(struct excuse *x)
{
    x->i++;
    if (x->i < x->from->n)
        x->at = x->from->list[x->i];
}

void suspects_excuse(struct excuse *x, uint64_t off, uint64_t len)
{
    const uint64_t end = off + len;

    for (; x->i < x->from->n && x->at.off < end; next(x)) {
        const uint64_t at_end = x->at.off + x->at.len;

        if (at_end <= off) {
            suspects_add(x->to, x->at.off, x->at.len);
            continue;
        }
        if (x->at.off < off)
            suspects_add(x->to, x->at.off, off - x->at.off);
        if (at_end > end) {
            x->at = (struct mirror_range){ end, at_end - end };
            return;
        }
    }
}

void suspects_rest(struct excuse *x)
{
    for (; x->i < x->from->n; next(x))
        suspects_add(x->to, x->at.off, x->at.len);
}
