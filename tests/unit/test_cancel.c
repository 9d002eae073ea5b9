#include "unit.h"

#include <poll.h>
#include <pthread.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/mem.h"

enum { LONG_MS = 30000 }; /* a test that waits so long has failed */

static bool is_readable(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, 0) == 1 && (p.revents & POLLIN) != 0;
}

static void *set_it(void *c)
{
    cancel_set(c);
    return NULL;
}

static void cancel__not_set_lets_pass(void **state)
{
    AUTO(cancel_free) struct cancel *c = cancel_new();
    struct err e;

    (void)state;
    assert_non_null(c);
    assert_false(cancel_is_set(c));
    assert_false(is_readable(cancel_fd(c)));
    assert_ok(cancel_check(c, &e), e);
    assert_ok(cancel_sleep_ms(c, 1, &e), e);
}

static void cancel__set_is_seen_for_ever(void **state)
{
    AUTO(cancel_free) struct cancel *c = cancel_new();
    struct err e;

    (void)state;
    cancel_set(c);
    for (int i = 0; i < 3; i++) {
        assert_true(cancel_is_set(c));
        assert_true(is_readable(cancel_fd(c)));
        assert_err(cancel_check(c, &e), e, ERR_CANCELLED);
        cancel_set(c); /* again does nothing */
    }
}

static void cancel__null_is_never_cancelled(void **state)
{
    struct err e;

    (void)state;
    assert_false(cancel_is_set(NULL));
    assert_int_equal(cancel_fd(NULL), -1);
    assert_ok(cancel_check(NULL, &e), e);
    assert_ok(cancel_sleep_ms(NULL, 1, &e), e);
    cancel_free(NULL);
}

static void cancel__sleep_lasts_its_time(void **state)
{
    const int64_t begin = clock_ms();
    struct err e;

    (void)state;
    assert_ok(cancel_sleep_ms(NULL, 20, &e), e);
    assert_true(clock_ms() - begin >= 20);
}

static void cancel__set_by_another_thread_ends_a_sleep(void **state)
{
    AUTO(cancel_free) struct cancel *c = cancel_new();
    const int64_t begin = clock_ms();
    pthread_t t;
    struct err e;

    (void)state;
    assert_int_equal(pthread_create(&t, NULL, set_it, c), 0);
    assert_err(cancel_sleep_ms(c, LONG_MS, &e), e, ERR_CANCELLED);
    assert_true(clock_ms() - begin < LONG_MS);
    pthread_join(t, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(cancel__not_set_lets_pass),
        TEST(cancel__set_is_seen_for_ever),
        TEST(cancel__null_is_never_cancelled),
        TEST(cancel__sleep_lasts_its_time),
        TEST(cancel__set_by_another_thread_ends_a_sleep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
