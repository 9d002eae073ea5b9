#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <time.h>

int64_t clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * MS_PER_S * NS_PER_MS + ts.tv_nsec;
}

int64_t clock_ms(void)
{
    return clock_ns() / NS_PER_MS;
}

int clock_left_ms(int64_t deadline_ms)
{
    const int64_t left = deadline_ms - clock_ms();

    if (left <= 0)
        return 0;
    return left > INT_MAX ? INT_MAX : (int)left;
}

void clock_sleep_ms(int64_t ms)
{
    const int64_t end = clock_ns() + ms * NS_PER_MS;
    const struct timespec ts = { .tv_sec = end / ((int64_t)MS_PER_S * NS_PER_MS),
                                 .tv_nsec = end % ((int64_t)MS_PER_S * NS_PER_MS) };

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
}
