#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "nbd-mirror/digest.h"

/* --- the queue --- */

void digest_queue_init(struct digest_queue *q)
{
    *q = (struct digest_queue){ .lock = PTHREAD_MUTEX_INITIALIZER,
                                .changed = PTHREAD_COND_INITIALIZER };
}

void digest_queue_fini(struct digest_queue *q)
{
    pthread_cond_destroy(&q->changed);
    pthread_mutex_destroy(&q->lock);
}

bool digest_push(void *queue, const struct digest *d, struct err *e)
{
    struct digest_queue *q = queue;

    LOCK_SCOPE(&q->lock);
    while (q->n == DIGEST_QUEUE && !q->shut)
        pthread_cond_wait(&q->changed, &q->lock);
    if (q->shut)
        return err_set(e, ERR_CANCELLED, 0, "no more digests are wanted");
    q->slot[(q->head + q->n++) % DIGEST_QUEUE] = *d;
    if (q->n == 1)
        pthread_cond_signal(&q->changed);
    return true;
}

void digest_end(struct digest_queue *q)
{
    LOCK_SCOPE(&q->lock);
    q->ended = true;
    pthread_cond_signal(&q->changed);
}

void digest_shut(struct digest_queue *q)
{
    LOCK_SCOPE(&q->lock);
    q->shut = true;
    pthread_cond_signal(&q->changed);
}

bool digest_pop(struct digest_queue *q, struct digest *out)
{
    LOCK_SCOPE(&q->lock);
    while (q->n == 0 && !q->ended)
        pthread_cond_wait(&q->changed, &q->lock);
    if (q->n == 0)
        return false;
    *out = q->slot[q->head];
    q->head = (q->head + 1) % DIGEST_QUEUE;
    /* Half empty: who waits for room can fill it without being woken for each. */
    if (q->n-- == DIGEST_QUEUE / 2)
        pthread_cond_signal(&q->changed);
    return true;
}

/* --- comparing --- */

struct compare {
    const struct digest_diff *diff;
    uint64_t off, len; /* a stretch that differs and may go on */
};

static void differs(struct compare *c, uint64_t off, uint64_t len)
{
    const uint64_t most = c->diff->stretch_max;

    if (c->len > 0 && c->off + c->len == off && (most == 0 || c->len < most)) {
        c->len += len;
        return;
    }
    if (c->len > 0)
        c->diff->differs(c->diff->ctx, c->off, c->len);
    c->off = off;
    c->len = len;
}

/* Take @len bytes off the front of a stretch of zeroes, or a whole block. */
static void consume(struct digest *d, uint64_t len)
{
    assert(d->zero || len == d->len);
    d->off += len;
    d->len -= len;
}

/* What both speak of. */
static bool compare_step(struct compare *c, struct digest *a, struct digest *b,
                         struct err *e)
{
    const uint64_t len = a->len < b->len ? a->len : b->len;

    if (a->off != b->off || (!a->zero && len != a->len) || (!b->zero && len != b->len))
        return err_set(e, ERR_PROTO, 0, "the two sides' digests are of other blocks");
    if (a->zero != b->zero || (!a->zero && memcmp(a->sum, b->sum, DIGEST_LEN) != 0))
        differs(c, a->off, len);
    if (c->diff->compared != NULL)
        counter_add(c->diff->compared, len);
    consume(a, len);
    consume(b, len);
    return true;
}

bool digest_compare(struct digest_queue *a, struct digest_queue *b,
                    const struct digest_diff *diff, struct err *e)
{
    struct compare c = { .diff = diff };
    struct digest da = { 0 }, db = { 0 };
    bool more_a = true, more_b = true;

    for (;;) {
        if (da.len == 0)
            more_a = digest_pop(a, &da);
        if (db.len == 0)
            more_b = digest_pop(b, &db);
        if (!more_a || !more_b)
            break;
        if (!compare_step(&c, &da, &db, e))
            return false;
    }
    if (c.len > 0)
        diff->differs(diff->ctx, c.off, c.len);
    return more_a == more_b
               ? true
               : err_set(e, ERR_PROTO, 0, "one side's digests end before the other's");
}
