/* ram.c - a working set of pages whose every word is known: rewritten at one rate and
 * checked at another, round and round */
#include "guest.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE = 4096, WORDS = PAGE / 8, MAX_ERRORS = 20, TICKS_PER_S = 50 };

static uint64_t page_key(uint64_t page, uint32_t gen)
{
    return page << 32 | gen;
}

static void page_write(struct ram *r, uint64_t page)
{
    pattern_fill(page_key(page, r->gen[page]), r->mem + page * WORDS, WORDS);
}

static bool page_check(struct ram *r, uint64_t page)
{
    static int n;
    const uint64_t *mem = r->mem + page * WORDS;

    if (pattern_matches(page_key(page, r->gen[page]), mem, WORDS))
        return true;
    if (n++ < MAX_ERRORS)
        say_error("ram page %llu generation %u is wrong (first word %016llx)",
                  (unsigned long long)page, r->gen[page], (unsigned long long)mem[0]);
    return false;
}

static uint64_t next(const struct ram *r, uint64_t page)
{
    return page + 1 == r->pages ? 0 : page + 1;
}

/* Check, then rewrite with the next generation. */
static uint64_t dirty_some(struct ram *r, uint64_t page, uint64_t n)
{
    for (; n > 0; n--) {
        if (page_check(r, page))
            atomic_fetch_add(&r->dirtied, 1);
        r->gen[page]++;
        page_write(r, page);
        page = next(r, page);
    }
    return page;
}

static uint64_t verify_some(struct ram *r, uint64_t page, uint64_t n, bool *clean)
{
    for (; n > 0; n--) {
        *clean &= page_check(r, page);
        page = next(r, page);
        if (page != 0)
            continue;
        if (*clean)
            atomic_fetch_add(&r->passes, 1);
        *clean = true;
    }
    return page;
}

static void *ram_run(void *arg)
{
    struct ram *r = arg;
    uint64_t dirty_at = 0, verify_at = 0;
    bool clean = true;
    struct pace pace;

    pace_init(&pace, TICKS_PER_S);
    while (pace_wait(&pace, 1)) {
        dirty_at = dirty_some(r, dirty_at, r->dirty / PAGE / TICKS_PER_S);
        verify_at = verify_some(r, verify_at, r->verify / PAGE / TICKS_PER_S, &clean);
    }
    return NULL;
}

bool ram_start(struct ram *r, const struct options *o)
{
    r->pages = o->ram / PAGE;
    r->dirty = o->dirty;
    r->verify = o->verify;
    if (r->pages == 0)
        return true;
    r->mem = mmap(NULL, r->pages * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    r->gen = calloc(r->pages, sizeof *r->gen);
    if (r->mem == MAP_FAILED || r->gen == NULL) {
        say_error("ram: cannot have %llu pages", (unsigned long long)r->pages);
        return false;
    }
    for (uint64_t page = 0; page < r->pages; page++)
        page_write(r, page);
    return pthread_create(&r->thread, NULL, ram_run, r) == 0;
}
