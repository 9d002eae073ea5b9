#include "nbd-mirror/digest.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/mem.h"

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

static void tell(struct compare *c)
{
    if (c->len > 0)
        c->diff->differs(c->diff->ctx, c->off, c->len);
    c->len = 0;
}

static void differs(struct compare *c, uint64_t off, uint64_t len)
{
    const uint64_t most = c->diff->stretch_max;

    if (c->len > 0 && c->off + c->len == off && (most == 0 || c->len < most)) {
        c->len += len;
        return;
    }
    tell(c);
    c->off = off;
    c->len = len;
}

/* Of what @d begins with. */
static void alike(struct compare *c, const struct digest *d, uint64_t len)
{
    struct digest part = *d;

    tell(c); /* nothing more can be added to it */
    part.len = len;
    if (c->diff->alike != NULL)
        c->diff->alike(c->diff->ctx, &part);
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
    else
        alike(c, a, len);
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
    tell(&c);
    return more_a == more_b
               ? true
               : err_set(e, ERR_PROTO, 0, "one side's digests end before the other's");
}

/* --- one digest of many --- */

struct digest_fold {
    XXH3_state_t *state;
    uint32_t block;
};

struct digest_fold *digest_fold_new(uint32_t block)
{
    struct digest_fold *const f = malloc(sizeof *f);

    if (f == NULL)
        return NULL;
    f->block = block != 0 ? block : (uint32_t)DIGEST_BLOCK;
    f->state = XXH3_createState(); /* of an alignment that malloc does not promise */
    if (f->state == NULL || XXH3_128bits_reset(f->state) == XXH_ERROR) {
        digest_fold_free(f);
        return NULL;
    }
    return f;
}

static void put(uint8_t p[8], uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8)
        p[i] = (uint8_t)v;
}

void digest_fold_add(struct digest_fold *f, const struct digest *d)
{
    for (uint64_t off = d->off, end = off + d->len, len; off < end; off += len) {
        const uint64_t most = f->block - off % f->block;
        uint8_t rec[16 + DIGEST_LEN] = { 0 };

        len = end - off < most ? end - off : most;
        assert(d->zero || len == d->len);
        put(rec, off);
        put(rec + 8, len);
        if (!d->zero)
            memcpy(rec + 16, d->sum, DIGEST_LEN);
        (void)XXH3_128bits_update(f->state, rec, sizeof rec); /* fails for NULL only */
    }
}

void digest_fold_sum(const struct digest_fold *f, uint8_t out[DIGEST_LEN])
{
    XXH128_canonical_t sum;

    XXH128_canonicalFromHash(&sum, XXH3_128bits_digest(f->state));
    memcpy(out, sum.digest, DIGEST_LEN);
}

void digest_fold_free(struct digest_fold *f)
{
    if (f == NULL)
        return;
    XXH3_freeState(f->state);
    free(f);
}

void digest_hex(const uint8_t sum[DIGEST_LEN], char out[2 * DIGEST_LEN + 1])
{
    for (int i = 0; i < DIGEST_LEN; i++)
        snprintf(out + 2 * i, 3, "%02x", sum[i]);
}
