#include "nbd-mirror/hot.h"

#include <assert.h>
#include <stdlib.h>

#include "nbd-mirror/extents.h"

static_assert((int)HOT_PAIRS_MAX <= (int)EXTENTS_MAX, "an answer holds all of it");

/* Stretches in ascending order, that neither touch nor overlap. */
struct list {
    size_t n;
    struct mirror_range at[HOT_MAX];
};

struct hot {
    bool wait;                    /* this round leaves out what is hot */
    bool over;                    /* more was marked than fits */
    struct list marked;           /* by the bitmap of this round */
    struct list seen[HOT_ROUNDS]; /* [i]: in each of the i + 1 rounds before it */
    struct list waits;            /* what rounds before it left out, at least */
};

struct hot *hot_new(void)
{
    return calloc(1, sizeof(struct hot)); /* pages that nobody touches cost nothing */
}

void hot_free(struct hot *h)
{
    free(h);
}

/* false: it does not fit. */
static bool add(struct list *l, uint64_t off, uint64_t len)
{
    struct mirror_range *const last = l->n > 0 ? &l->at[l->n - 1] : NULL;

    assert(last == NULL || off >= last->off + last->len);
    if (last != NULL && off == last->off + last->len) {
        last->len += len;
        return true;
    }
    if (l->n == HOT_MAX)
        return false;
    l->at[l->n++] = (struct mirror_range){ off, len };
    return true;
}

static uint64_t end_of(const struct mirror_range *r)
{
    return r->off + r->len;
}

/* What is in both.  false: there is more than fits. */
static bool common(const struct list *a, const struct list *b, struct list *out)
{
    out->n = 0;
    for (size_t i = 0, j = 0; i < a->n && j < b->n;) {
        const struct mirror_range *const x = &a->at[i], *const y = &b->at[j];
        const uint64_t from = x->off > y->off ? x->off : y->off;
        const uint64_t to = end_of(x) < end_of(y) ? end_of(x) : end_of(y);

        if (from < to && !add(out, from, to - from))
            return false;
        if (end_of(x) <= to)
            i++;
        else
            j++;
    }
    return true;
}

static void copy(struct list *to, const struct list *from)
{
    to->n = from->n;
    for (size_t i = 0; i < from->n; i++)
        to->at[i] = from->at[i];
}

static uint64_t bytes(const struct list *l)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < l->n; i++)
        sum += l->at[i].len;
    return sum;
}

/* --- rounds --- */

static const struct list *hot_list(const struct hot *h)
{
    return &h->seen[HOT_ROUNDS - 1];
}

void hot_begin(struct hot *h, bool wait)
{
    h->wait = wait;
    hot_look(h);
}

void hot_end(struct hot *h)
{
    h->waits.n = 0;
    /* More than what really waits does no harm: it is copied once in vain. */
    if (h->wait && (h->over || !common(hot_list(h), &h->marked, &h->waits)))
        copy(&h->waits, hot_list(h));
    for (int i = HOT_ROUNDS - 1; i > 0; i--)
        (void)common(&h->seen[i - 1], &h->marked, &h->seen[i]);
    copy(&h->seen[0], &h->marked);
    h->wait = false;
}

void hot_forget(struct hot *h)
{
    h->wait = h->over = false;
    h->marked.n = h->waits.n = 0;
    for (int i = 0; i < HOT_ROUNDS; i++)
        h->seen[i].n = 0;
}

uint64_t hot_bytes(const struct hot *h)
{
    return bytes(hot_list(h));
}

uint64_t hot_waiting(const struct hot *h)
{
    return bytes(&h->waits);
}

/* --- for the feed --- */

void hot_look(struct hot *h)
{
    h->marked.n = 0;
    h->over = false;
}

void hot_marked(struct hot *h, uint64_t off, uint64_t len)
{
    if (!h->over && len > 0)
        h->over = !add(&h->marked, off, len);
}

/* Whether @off is in @l (NULL: nothing is); *stop is lowered to where that changes.  *i: of calls with ascending
 * @off, 0 at first. */
static bool within(const struct list *l, size_t *i, uint64_t off, uint64_t *stop)
{
    while (l != NULL && *i < l->n && end_of(&l->at[*i]) <= off)
        ++*i;
    if (l == NULL || *i == l->n)
        return false;
    const struct mirror_range *const r = &l->at[*i];
    const bool in = r->off <= off;
    const uint64_t change = in ? end_of(r) : r->off;

    if (change < *stop)
        *stop = change;
    return in;
}

size_t hot_pairs(const struct hot *h, uint64_t off, uint32_t len, uint32_t *pairs)
{
    const struct list *const leave = h->wait ? hot_list(h) : NULL;
    const uint64_t end = off + len;
    size_t i = 0, j = 0, n = 0;

    for (uint64_t stop; off < end; off = stop, n++) {
        stop = end;
        const uint32_t flags =
            (within(leave, &i, off, &stop) ? EXTENTS_OURS_LEAVE : 0) |
            (within(&h->waits, &j, off, &stop) ? EXTENTS_OURS_ALSO : 0);

        assert(n < HOT_PAIRS_MAX);
        pairs[2 * n] = (uint32_t)(stop - off);
        pairs[2 * n + 1] = flags;
    }
    return n;
}
