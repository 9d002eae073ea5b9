/* Nothing is called safe that was not done before a flush was asked for. */
#include "unit.h"

#include <stdlib.h>

#include "nbd-mirror/frontier.h"

enum { EVERY = 100, TAIL = 1000, PIECES = 8 };

static struct frontier f;

static int teardown(void **state)
{
    (void)state;
    frontier_fini(&f);
    return 0;
}

static void start_at(uint64_t start)
{
    struct err e;

    assert_ok(frontier_init(&f, start, TAIL, EVERY, PIECES, 0, &e), e);
}

static void frontier__first_gap_is_the_frontier(void **state)
{
    (void)state;
    start_at(0);
    frontier_take(&f, 0, 100);
    frontier_take(&f, 100, 100);
    frontier_take(&f, 200, 100);
    frontier_done(&f, 100);
    frontier_done(&f, 200);
    assert_false(frontier_ask(&f, 9999)); /* the first is missing */
    frontier_done(&f, 0);
    assert_true(frontier_ask(&f, 0));
    assert_int_equal(frontier_flushed(&f), 300);
}

static void frontier__done_after_the_flush_was_asked_is_not_safe(void **state)
{
    (void)state;
    start_at(0);
    frontier_take(&f, 0, 100);
    frontier_take(&f, 100, 200);
    frontier_done(&f, 0);
    assert_true(frontier_ask(&f, 0));
    frontier_done(&f, 100);
    assert_false(frontier_ask(&f, 9999)); /* one at a time */
    assert_int_equal(frontier_flushed(&f), 100);
    assert_true(frontier_ask(&f, 0));
    assert_int_equal(frontier_flushed(&f), 300);
}

static void frontier__small_progress_waits_for_its_time(void **state)
{
    (void)state;
    start_at(0);
    frontier_take(&f, 0, 99);
    frontier_done(&f, 0);
    assert_false(frontier_ask(&f, 4999));
    assert_true(frontier_ask(&f, 5000));
    assert_int_equal(frontier_flushed(&f), 99);
    assert_false(frontier_ask(&f, 99999)); /* nothing new */
}

static void frontier__begins_at_what_is_safe(void **state)
{
    (void)state;
    start_at(500);
    assert_false(frontier_ask(&f, 9999));
    frontier_take(&f, 550, 100);
    assert_false(frontier_ask(&f, 0)); /* the hole before it is little */
    frontier_done(&f, 550);
    assert_true(frontier_ask(&f, 0));
    assert_int_equal(frontier_flushed(&f), 650);
}

static void frontier__tail_comes_first_and_does_not_count(void **state)
{
    (void)state;
    start_at(0);
    frontier_take(&f, TAIL, 7);
    frontier_take(&f, 0, 300);
    frontier_done(&f, TAIL);
    assert_false(frontier_ask(&f, 9999));
    frontier_done(&f, 0);
    assert_true(frontier_ask(&f, 0));
    assert_int_equal(frontier_flushed(&f), 300);
}

/* Whatever the order. */
static void frontier__no_piece_under_way_is_ever_safe(void **state)
{
    uint64_t off[PIECES], next = 0;
    size_t n = 0;

    (void)state;
    start_at(0);
    srand(7);
    for (int i = 0; i < 20000; i++) {
        if (n < PIECES && rand() % 2 && next < TAIL - 20) {
            const uint64_t len = 1 + (uint64_t)rand() % 10;

            next += (uint64_t)rand() % 3;
            frontier_take(&f, next, len);
            off[n++] = next;
            next += len;
        } else if (n > 0) {
            const size_t k = (size_t)rand() % n;

            frontier_done(&f, off[k]);
            off[k] = off[--n];
        }
        if (frontier_ask(&f, i * 1000)) {
            const uint64_t safe = frontier_flushed(&f);

            assert_true(safe <= next);
            for (size_t k = 0; k < n; k++)
                assert_true(off[k] >= safe);
        }
    }
    assert_true(f.safe > 0);
}

#define TEST_AT(t) cmocka_unit_test_teardown(t, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_AT(frontier__first_gap_is_the_frontier),
        TEST_AT(frontier__done_after_the_flush_was_asked_is_not_safe),
        TEST_AT(frontier__small_progress_waits_for_its_time),
        TEST_AT(frontier__begins_at_what_is_safe),
        TEST_AT(frontier__tail_comes_first_and_does_not_count),
        TEST_AT(frontier__no_piece_under_way_is_ever_safe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
