#include "unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "migrate/suspects.h"

#define B ((uint64_t)MIRROR_BLOCK)

static struct suspects from, to;

static void list(size_t n, const struct mirror_range *r)
{
    from.n = 0;
    for (size_t i = 0; i < n; i++)
        suspects_add(&from, r[i].off, r[i].len);
}

/* "0-2 5-7", in blocks. */
static const char *text(const struct suspects *s)
{
    static char out[200];
    size_t at = 0;

    out[0] = '\0';
    for (size_t i = 0; i < s->n; i++)
        at += (size_t)snprintf(
            out + at, sizeof out - at, "%s%llu-%llu", i > 0 ? " " : "",
            (unsigned long long)(s->list[i].off / B),
            (unsigned long long)((s->list[i].off + s->list[i].len) / B));
    return out;
}

static const char *excused(size_t n, const struct mirror_range *marks)
{
    struct excuse x;

    suspects_begin(&x, &from, &to);
    for (size_t i = 0; i < n; i++)
        suspects_excuse(&x, marks[i].off, marks[i].len);
    suspects_rest(&x);
    return text(&to);
}

static void suspects__what_is_marked_is_excused(void **state)
{
    static const struct mirror_range all[] = { { 0, 2 * B },
                                               { 5 * B, 5 * B },
                                               { 20 * B, B } };
    static const struct mirror_range inside[] = { { 6 * B, B }, { 8 * B, B } };
    static const struct mirror_range across[] = { { B, 5 * B }, { 9 * B, 100 * B } };
    static const struct mirror_range between[] = { { 2 * B, 3 * B },
                                                   { 10 * B, 10 * B },
                                                   { 21 * B, B } };
    static const struct mirror_range whole[] = { { 0, 30 * B } };
    static const struct mirror_range exact[] = { { 5 * B, 5 * B } };

    (void)state;
    list(3, all);
    assert_int_equal(suspects_bytes(&from), 8 * B);
    assert_string_equal(excused(0, NULL), "0-2 5-10 20-21");
    assert_string_equal(excused(2, inside), "0-2 5-6 7-8 9-10 20-21");
    assert_string_equal(excused(2, across), "0-1 6-9");
    assert_string_equal(excused(3, between), "0-2 5-10 20-21");
    assert_string_equal(excused(1, whole), "");
    assert_string_equal(excused(1, exact), "0-2 20-21");
    list(0, NULL);
    assert_string_equal(excused(1, whole), "");
}

/* Against a map of blocks. */
static void suspects__random_marks_agree_with_a_map(void **state)
{
    enum { N = 60 };

    (void)state;
    srandom(1);
    for (int turn = 0; turn < 2000; turn++) {
        bool want[N], mark[N], got[N] = { false };
        struct excuse x;

        from.n = 0;
        for (uint64_t i = 0; i < N; i++) {
            want[i] = random() % 3 == 0;
            mark[i] = random() % 3 == 0;
            if (want[i])
                suspects_add(&from, i * B, B);
        }
        suspects_begin(&x, &from, &to);
        for (uint64_t i = 0; i < N; i++)
            if (mark[i])
                suspects_excuse(&x, i * B, B);
        suspects_rest(&x);
        for (size_t i = 0; i < to.n; i++)
            for (uint64_t b = to.list[i].off / B;
                 b < (to.list[i].off + to.list[i].len) / B; b++)
                got[b] = true;
        for (int i = 0; i < N; i++)
            assert_int_equal(got[i], want[i] && !mark[i]);
    }
}

static void suspects__more_than_fit_are_one_long_stretch(void **state)
{
    (void)state;
    from.n = 0;
    for (uint64_t i = 0; i < SUSPECTS_MAX + 10; i++)
        suspects_add(&from, 2 * i * B, B);
    assert_int_equal(from.n, SUSPECTS_MAX);
    assert_int_equal(from.list[SUSPECTS_MAX - 1].off, 2 * (SUSPECTS_MAX - 1) * B);
    assert_int_equal(from.list[SUSPECTS_MAX - 1].len, 21 * B);
}

static void suspects__a_sample_is_spread_and_within_the_disk(void **state)
{
    static const uint64_t numbers[4] = { 0, UINT64_MAX, 12345, 7 };

    (void)state;
    suspects_sample(&from, 3 * B + 512, 4, numbers);
    assert_int_equal(suspects_bytes(&from), 3 * B + 512);
    for (uint64_t size = 4 * B + 512; size < 100 * B; size += B / 2 + 512) {
        const uint64_t parts = (size + B - 1) / B;

        suspects_sample(&from, size, 4, numbers);
        assert_int_equal(from.n, 4);
        for (size_t i = 0; i < from.n; i++) {
            assert_int_equal(from.list[i].off % B, 0);
            assert_true(from.list[i].off / B >= parts * i / 4);
            assert_true(from.list[i].off / B < parts * (i + 1) / 4);
            assert_true(from.list[i].off + from.list[i].len <= size);
            assert_true(from.list[i].len > 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(suspects__what_is_marked_is_excused),
        TEST(suspects__random_marks_agree_with_a_map),
        TEST(suspects__more_than_fit_are_one_long_stretch),
        TEST(suspects__a_sample_is_spread_and_within_the_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
