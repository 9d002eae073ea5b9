#include "unit.h"

#include <limits.h>

#include "base/clock.h"

static void clock__never_goes_back(void **state)
{
    int64_t last = clock_ns();

    (void)state;
    for (int i = 0; i < 1000; i++) {
        const int64_t now = clock_ns();

        assert_true(now >= last);
        last = now;
    }
    assert_true(clock_ms() >= last / NS_PER_MS);
}

static void clock__left_is_what_poll_wants(void **state)
{
    const int64_t now = clock_ms();

    (void)state;
    assert_int_equal(clock_left_ms(now - 1), 0);
    assert_int_equal(clock_left_ms(INT64_MIN / 2), 0);
    assert_in_range(clock_left_ms(now + 60000), 1, 60000);
    assert_int_equal(clock_left_ms(INT64_MAX), INT_MAX);
}

static void clock__sleep_lasts_its_time(void **state)
{
    const int64_t begin = clock_ns();

    (void)state;
    clock_sleep_ms(5);
    assert_true(clock_ns() - begin >= 5 * (int64_t)NS_PER_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(clock__never_goes_back),
        TEST(clock__left_is_what_poll_wants),
        TEST(clock__sleep_lasts_its_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
