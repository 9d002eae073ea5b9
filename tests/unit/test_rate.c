#include "unit.h"

#include "base/rate.h"

static const int64_t second = 1000000000;

/* Bytes that go out in @ns when a sender of @size per write does what it may. */
static uint64_t run(struct rate *r, int64_t from_ns, int64_t ns, uint64_t size)
{
    uint64_t sent = 0;

    for (int64_t now = from_ns; now < from_ns + ns;) {
        const int64_t wait = rate_wait_ns(r, now);

        if (wait == 0) {
            rate_take(r, size, now);
            sent += size;
        }
        now += wait != 0 ? wait : 1000; /* a write takes 1 us */
    }
    return sent;
}

static void assert_near(uint64_t got, uint64_t want)
{
    if (got < want - want / 50 || got > want + want / 50)
        fail_msg("%llu bytes instead of %llu", (unsigned long long)got,
                 (unsigned long long)want);
}

static void rate__limit_holds_over_time(void **state)
{
    static const uint64_t limits[] = { 10000, 1000000, 12345678, 100000000,
                                       1500000000 };

    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct rate r = { 0 };

        rate_set(&r, limits[i], 5 * second);
        assert_near(run(&r, 5 * second, 20 * second, rate_burst(&r)), 20 * limits[i]);
        rate_set(&r, limits[i], 25 * second);
        assert_near(run(&r, 25 * second, 20 * second, 1 + rate_burst(&r) / 7),
                    20 * limits[i]);
    }
}

static void rate__asking_often_loses_nothing(void **state)
{
    struct rate r = { 0 };
    uint64_t sent = 0;

    (void)state;
    rate_set(&r, 1500000, 0); /* 1.5 bytes per microsecond */
    for (int64_t now = 0; now < 2 * second; now += 1000)
        if (rate_wait_ns(&r, now) == 0) {
            rate_take(&r, 100, now);
            sent += 100;
        }
    assert_near(sent, 3000000);
}

static void rate__no_limit_never_waits(void **state)
{
    struct rate r = { 0 };

    (void)state;
    rate_set(&r, 0, 0);
    rate_take(&r, 1ull << 40, 0);
    assert_int_equal(rate_wait_ns(&r, 0), 0);
    assert_true(rate_burst(&r) == UINT64_MAX);
    rate_set(&r, UINT64_MAX, 0); /* above what can be counted */
    rate_take(&r, 1ull << 40, 0);
    assert_int_equal(rate_wait_ns(&r, 0), 0);
}

static void rate__idle_time_saves_a_twentieth_of_a_second(void **state)
{
    struct rate r = { 0 };

    (void)state;
    rate_set(&r, 1000000, 0);
    assert_int_equal(rate_wait_ns(&r, 1000 * second), 0);
    rate_take(&r, 50000, 1000 * second);
    assert_true(rate_wait_ns(&r, 1000 * second) > 0);
}

/* A sender that now and then comes late, or has nothing to send, sees none of 2 s carry more
 * than 5 % too much; nor too little, when it is never more than 40 ms late. */
static void rate__no_two_seconds_are_off_by_a_twentieth(void **state)
{
    enum { MS = 30000, WINDOW = 2000 };
    static uint64_t at[MS + 1]; /* bytes sent up to then */
    static const uint64_t limits[] = { 1000000, 6250000, 50000000 };

    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct rate r = { 0 };
        uint64_t sent = 0, seed = 42 + i;
        int64_t late = 0;

        rate_set(&r, limits[i], 0);
        for (int64_t ms = 0; ms <= MS; ms++) {
            at[ms] = sent;
            if (late > 0 && late-- > 0)
                continue;
            while (rate_wait_ns(&r, ms * 1000000) == 0) {
                rate_take(&r, rate_burst(&r), ms * 1000000);
                sent += rate_burst(&r);
            }
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            if (seed >> 56 < 4) /* one in 64 */
                late = (int64_t)(seed >> 40) % (ms < MS / 2 ? 40 : 400);
        }
        for (int64_t ms = 0; ms + WINDOW <= MS; ms++) {
            const double part =
                (double)(at[ms + WINDOW] - at[ms]) / (2 * (double)limits[i]);

            if (part > 1.05 || (ms + WINDOW < MS / 2 && part < 0.95))
                fail_msg("%.3f of the limit from %d ms on", part, (int)ms);
        }
    }
}

static void rate__less_asks_for_no_more_time(void **state)
{
    struct rate r = { 0 };

    (void)state;
    rate_set(&r, 100000000, 0);
    rate_take(&r, 10000000, 0); /* 100 ms of it */
    rate_set(&r, 100000, 0);
    assert_true(rate_wait_ns(&r, 0) > second / 20);
    assert_true(rate_wait_ns(&r, 0) < second / 5);
}

static void rate__what_did_not_wait_is_owed(void **state)
{
    struct rate r = { 0 };

    (void)state;
    rate_set(&r, 1000000, 0);
    rate_take(&r, 3000000, 0);
    assert_true(rate_wait_ns(&r, 0) > 2 * second);
    assert_true(rate_wait_ns(&r, 2 * second) > second / 2);
    assert_int_equal(rate_wait_ns(&r, 3 * second + second / 100), 0);
}

static void rate__change_takes_effect_at_once(void **state)
{
    struct rate r = { 0 };

    (void)state;
    rate_set(&r, 1000, 0);
    rate_take(&r, 10000, 0);
    assert_true(rate_wait_ns(&r, 0) > 9 * second);
    rate_set(&r, 100000000, 0);
    assert_true(rate_wait_ns(&r, 0) < second / 1000);
    assert_near(run(&r, 0, 10 * second, 1000000), 1000000000);
    rate_set(&r, 1000000, 10 * second); /* what the larger bucket held is not kept */
    assert_near(run(&r, 10 * second, 10 * second, 20000), 10000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rate__limit_holds_over_time),
        TEST(rate__asking_often_loses_nothing),
        TEST(rate__no_limit_never_waits),
        TEST(rate__idle_time_saves_a_twentieth_of_a_second),
        TEST(rate__no_two_seconds_are_off_by_a_twentieth),
        TEST(rate__less_asks_for_no_more_time),
        TEST(rate__what_did_not_wait_is_owed),
        TEST(rate__change_takes_effect_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
