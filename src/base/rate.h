/* src/base/rate.h - token bucket over bytes that are sent; pure, time is given. */
#ifndef SNM_BASE_RATE_H
#define SNM_BASE_RATE_H

#include <stdint.h>

struct rate {
    uint64_t per_s; /* bytes per second; 0: no limit */
    int64_t tokens; /* bytes that may go now; negative: owed */
    int64_t at_ns;  /* when tokens was last brought up to date */
};

/* Set or change the limit.  What is owed stays owed, in bytes under a greater limit, in time
 * under a smaller one; a smaller limit cuts what was saved. */
void rate_set(struct rate *r, uint64_t per_s, int64_t now_ns);

/* @bytes went out: they are counted even where they did not have to wait. */
void rate_take(struct rate *r, uint64_t bytes, int64_t now_ns);

/* Nanoseconds until bytes that have to wait may go; 0: now. */
int64_t rate_wait_ns(struct rate *r, int64_t now_ns);

/* The largest single write that keeps the stream smooth; at least 4 KiB. */
uint64_t rate_burst(const struct rate *r);

#endif
