/* src/base/clock.h - monotonic time; no timing of this program uses the wall clock. */
#ifndef SNM_BASE_CLOCK_H
#define SNM_BASE_CLOCK_H

#include <stdint.h>

enum { NS_PER_MS = 1000000, NS_PER_S = 1000000000, MS_PER_S = 1000 };

/* CLOCK_MONOTONIC in nanoseconds / milliseconds. */
int64_t clock_ns(void);
int64_t clock_ms(void);

/* Milliseconds from now to @deadline_ms (of clock_ms), at least 0, as poll(2) wants it. */
int clock_left_ms(int64_t deadline_ms);

/* Sleep that long; a signal does not shorten it. */
void clock_sleep_ms(int64_t ms);

#endif
