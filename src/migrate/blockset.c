#include "migrate/blockset.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "nbd-mirror/mirror.h"

static uint64_t blocks(const struct blockset *b)
{
    return b->size / MIRROR_BLOCK + (b->size % MIRROR_BLOCK != 0);
}

static size_t bytes(const struct blockset *b)
{
    return (size_t)(blocks(b) / 8 + 1);
}

bool blockset_init(struct blockset *b, uint64_t size)
{
    *b = (struct blockset){ .size = size };
    b->bits = calloc(bytes(b), 1);
    return b->bits != NULL;
}

void blockset_fini(struct blockset *b)
{
    free(b->bits);
    b->bits = NULL;
}

void blockset_clear(struct blockset *b)
{
    memset(b->bits, 0, bytes(b));
}

static bool has(const struct blockset *b, uint64_t i)
{
    return (b->bits[i / 8] & 1 << i % 8) != 0;
}

static void change(struct blockset *b, uint64_t off, uint64_t len, bool add)
{
    assert(off <= b->size && len <= b->size - off);
    if (len == 0)
        return;
    for (uint64_t i = off / MIRROR_BLOCK; i <= (off + len - 1) / MIRROR_BLOCK; i++) {
        const uint8_t bit = (uint8_t)(1 << i % 8);

        if (add)
            b->bits[i / 8] |= bit;
        else
            b->bits[i / 8] &= (uint8_t)~bit;
    }
}

void blockset_add(struct blockset *b, uint64_t off, uint64_t len)
{
    change(b, off, len, true);
}

void blockset_remove(struct blockset *b, uint64_t off, uint64_t len)
{
    change(b, off, len, false);
}

void blockset_intersect(struct blockset *b, const struct blockset *with)
{
    assert(b->size == with->size);
    for (size_t i = 0; i < bytes(b); i++)
        b->bits[i] &= with->bits[i];
}

bool blockset_next(const struct blockset *b, uint64_t from, uint64_t *off,
                   uint64_t *len)
{
    const uint64_t n = blocks(b);
    uint64_t i = from / MIRROR_BLOCK + (from % MIRROR_BLOCK != 0), end;

    while (i < n && !has(b, i))
        i += i % 8 == 0 && b->bits[i / 8] == 0 ? 8 : 1;
    if (i >= n)
        return false;
    for (end = i; end < n && has(b, end);)
        end++;
    *off = i * MIRROR_BLOCK;
    *len = (end == n ? b->size : end * MIRROR_BLOCK) - *off;
    return true;
}

uint64_t blockset_bytes(const struct blockset *b)
{
    uint64_t sum = 0, off = 0, len = 0;

    while (blockset_next(b, off + len, &off, &len))
        sum += len;
    return sum;
}
