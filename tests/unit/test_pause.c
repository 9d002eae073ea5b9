#include "base/clock.h"
#include "migrate/pause.h"
#include "unit.h"

static int64_t at(double ms)
{
    return (int64_t)1e15 + (int64_t)(ms * NS_PER_MS);
}

static int64_t sum(const struct pause *p)
{
    int64_t s = 0;

    for (int i = 0; i < PAUSE_STEPS; i++)
        s += p->ms[i];
    return s;
}

static void pause__steps_are_the_times_between_marks(void **state)
{
    const struct pause_marks m = { .begun = at(0),
                                   .end = { at(2), at(32), at(40), at(49), at(49),
                                            at(55), at(80), at(101), at(120) } };
    struct pause p;

    (void)state;
    pause_of(&m, &p);
    assert_int_equal(p.ms[PAUSE_SUSPEND], 2);
    assert_int_equal(p.ms[PAUSE_ROUND], 30);
    assert_int_equal(p.ms[PAUSE_FLUSH], 8);
    assert_int_equal(p.ms[PAUSE_CLOSE], 9);
    assert_int_equal(p.ms[PAUSE_MEMORY], 0);
    assert_int_equal(p.ms[PAUSE_RELEASE], 6);
    assert_int_equal(p.ms[PAUSE_LOAD], 25);
    assert_int_equal(p.ms[PAUSE_DEATH], 21);
    assert_int_equal(p.ms[PAUSE_RESUME], 19);
    assert_int_equal(p.total_ms, 120);
}

static void pause__fractions_are_not_lost(void **state)
{
    struct pause_marks m = { .begun = at(0) };
    struct pause p;

    (void)state;
    for (int i = 0; i < PAUSE_STEPS; i++)
        m.end[i] = at(0.9 * (i + 1));
    pause_of(&m, &p);
    assert_int_equal(p.total_ms, 8); /* 8.1 */
    assert_int_equal(sum(&p), 8);
}

static void pause__unknown_mark_counts_to_the_next_step(void **state)
{
    struct pause_marks m = { .begun = at(0) };
    struct pause p;

    (void)state;
    m.end[PAUSE_RELEASE] = at(10);
    m.end[PAUSE_DEATH] = at(60);
    m.end[PAUSE_RESUME] = at(70);
    pause_of(&m, &p);
    assert_int_equal(p.ms[PAUSE_LOAD], 0);
    assert_int_equal(p.ms[PAUSE_DEATH], 50);
    assert_int_equal(p.ms[PAUSE_SUSPEND], 0);
    assert_int_equal(p.ms[PAUSE_RELEASE], 10);
    assert_int_equal(p.total_ms, 70);
}

/* QEMU may tell that it is complete before the answer to RELEASE is here. */
static void pause__marks_out_of_order_still_add_up(void **state)
{
    struct pause_marks m = { .begun = at(0) };
    struct pause p;

    (void)state;
    m.end[PAUSE_SUSPEND] = at(5);
    m.end[PAUSE_RELEASE] = at(30);
    m.end[PAUSE_LOAD] = at(28);
    m.end[PAUSE_DEATH] = at(45);
    m.end[PAUSE_RESUME] = at(50);
    pause_of(&m, &p);
    assert_int_equal(p.ms[PAUSE_LOAD], 0);
    assert_int_equal(p.ms[PAUSE_DEATH], 15);
    assert_int_equal(sum(&p), p.total_ms);
    assert_int_equal(p.total_ms, 50);
}

static void pause__without_begin_or_end_there_is_none(void **state)
{
    struct pause_marks m = { .begun = at(0) };
    struct pause p;

    (void)state;
    m.end[PAUSE_SUSPEND] = at(5);
    pause_of(&m, &p);
    assert_int_equal(p.total_ms, -1);
    assert_int_equal(sum(&p), 0);
    m.begun = 0;
    m.end[PAUSE_RESUME] = at(5);
    pause_of(&m, &p);
    assert_int_equal(p.total_ms, -1);
}

static void pause__every_step_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < PAUSE_STEPS; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(pause_step_name((enum pause_step)i),
                                    pause_step_name((enum pause_step)j));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pause__steps_are_the_times_between_marks),
        TEST(pause__fractions_are_not_lost),
        TEST(pause__unknown_mark_counts_to_the_next_step),
        TEST(pause__marks_out_of_order_still_add_up),
        TEST(pause__without_begin_or_end_there_is_none),
        TEST(pause__every_step_has_a_name_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
