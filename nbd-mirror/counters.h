/* nbd-mirror/counters.h - what mirror_stats() reads while the lanes add to it.
 *
 * Relaxed atomics: each number is right by itself, nothing is concluded from two.
 * Thread: any.
 */
#ifndef NBD_MIRROR_COUNTERS_H
#define NBD_MIRROR_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

typedef atomic_uint_fast64_t counter;

/* As in struct mirror_stats. */
struct counters {
    counter pass_total, pass_done;
    counter data, zeroed, skipped, requests;
    counter safe;
};

static inline void counter_add(counter *c, uint64_t n)
{
    atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

static inline void counter_set(counter *c, uint64_t n)
{
    atomic_store_explicit(c, n, memory_order_relaxed);
}

static inline uint64_t counter_get(const counter *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

#endif
