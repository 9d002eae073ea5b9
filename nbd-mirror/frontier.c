#include "nbd-mirror/frontier.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"

enum { EVERY_MS = 5000 }; /* however little was copied */

bool frontier_init(struct frontier *f, uint64_t start, uint64_t tail, uint64_t every,
                   size_t max, int64_t now_ms, struct err *e)
{
    *f = (struct frontier){ .every = every,
                            .tail = tail,
                            .max = max,
                            .next = start,
                            .asked_at_ms = now_ms,
                            .safe = start };
    f->under_way = calloc(max, sizeof *f->under_way);
    if (f->under_way == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "no memory for %zu pieces", max);
    pthread_mutex_init(&f->lock, NULL);
    return true;
}

void frontier_fini(struct frontier *f)
{
    pthread_mutex_destroy(&f->lock);
    free(f->under_way);
}

void frontier_take(struct frontier *f, uint64_t off, uint64_t len)
{
    LOCK_SCOPE(&f->lock);
    assert(f->n < f->max);
    f->under_way[f->n++] = off;
    if (off >= f->tail)
        return;
    assert(off >= f->next);
    f->next = off + len;
}

void frontier_done(struct frontier *f, uint64_t off)
{
    size_t i = 0;

    LOCK_SCOPE(&f->lock);
    while (i < f->n && f->under_way[i] != off)
        i++;
    assert(i < f->n); /* each piece was taken, and is done once */
    f->under_way[i] = f->under_way[--f->n];
}

/* Caller holds ->lock. */
static uint64_t at_locked(const struct frontier *f)
{
    uint64_t at = f->next;

    for (size_t i = 0; i < f->n; i++)
        if (f->under_way[i] < at)
            at = f->under_way[i];
    return at;
}

bool frontier_ask(struct frontier *f, int64_t now_ms)
{
    LOCK_SCOPE(&f->lock);
    const uint64_t at = at_locked(f);

    if (f->asking || at <= f->safe ||
        (at - f->safe < f->every && now_ms - f->asked_at_ms < EVERY_MS))
        return false;
    f->asking = true;
    f->asked = at;
    f->asked_at_ms = now_ms;
    return true;
}

uint64_t frontier_flushed(struct frontier *f)
{
    LOCK_SCOPE(&f->lock);
    assert(f->asking);
    f->asking = false;
    f->safe = f->asked;
    return f->safe;
}
