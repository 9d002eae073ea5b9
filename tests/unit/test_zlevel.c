/* The controller against models of a link and a CPU. */
#include "unit.h"

#include "tunnel/link.h"
#include "tunnel/zlevel.h"

/* A kind of data: what each level makes of it. */
struct data {
    double ratio[10]; /* packed / plain, by step: stored, -5 ... 9 */
    double speed[10]; /* plain bytes/ns one core packs */
};

static const struct data text = {
    { 1, .42, .38, .35, .30, .28, .27, .25, .23, .22 },
    { 8, .9, .7, .55, .40, .30, .20, .10, .06, .04 },
};
static const struct data zeros = {
    { 1, .001, .001, .001, .001, .001, .001, .001, .001, .001 },
    { 8, 4, 4, 4, 4, 3, 3, 2, 2, 1 },
};
static const struct data noise = {
    { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 },
    { 8, 1.5, 1.4, 1.2, 1, .8, .5, .2, .1, .05 },
};

static int step_of(int level)
{
    static const int levels[] = { -5, -3, -1, 1, 2, 3, 5, 7, 9 };

    for (int i = 0; i < 9; i++)
        if (levels[i] == level)
            return i + 1;
    return 0;
}

/* The source, the packer and the link work at the same time, with little between them.
 * Returns plain bytes/ns of the second half of @chunks. */
static double run(struct zlevel *z, const struct data *d, double link, double source,
                  unsigned chunks)
{
    enum { CHUNK = 512 << 10 };
    double time = 0, bytes = 0;

    for (unsigned i = 0; i < chunks; i++) {
        const int step = zlevel_raw(z) ? 0 : step_of(z->level);
        const double packed = CHUNK * d->ratio[step];
        const double busy = CHUNK / d->speed[step], wire = packed / link;
        const double input = source > 0 ? CHUNK / source : 0;
        const double blocked = wire > busy ? wire - busy : 0;
        const double work = busy + blocked;
        const double idle = input > work ? input - work : 0;

        zlevel_chunk(z, CHUNK, step == 0 ? 0 : (uint64_t)packed, (int64_t)busy,
                     (int64_t)blocked, (int64_t)idle);
        if (i < chunks / 2)
            continue;
        time += work + idle;
        bytes += CHUNK;
    }
    return bytes / time;
}

/* The best that any fixed level could do. */
static double best(const struct data *d, double link)
{
    double top = 0;

    for (int s = 0; s < 10; s++) {
        const double wire = link / d->ratio[s];
        const double rate = wire < d->speed[s] ? wire : d->speed[s];

        top = rate > top ? rate : top;
    }
    return top;
}

static void zlevel__comes_near_the_best_level(void **state)
{
    /* bytes/ns; faster ones would want text stored, which is not done on purpose */
    static const double links[] = { .001, .01, .05, .1, .2, .5, 1 };

    (void)state;
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        struct zlevel z;

        zlevel_init(&z, ZSTD_AUTO);
        const double got = run(&z, &text, links[i], 0, 4000);
        if (got < .8 * best(&text, links[i]))
            fail_msg("link %.3f GB/s: %.3f GB/s at level %d, best is %.3f", links[i],
                     got, z.level, best(&text, links[i]));
    }
}

static void zlevel__slow_link_gets_the_highest_level(void **state)
{
    struct zlevel z;

    (void)state;
    zlevel_init(&z, ZSTD_AUTO);
    run(&z, &text, .002, 0, 200);
    assert_int_equal(z.level, 9);
}

static void zlevel__idle_source_changes_nothing(void **state)
{
    struct zlevel z;

    (void)state;
    zlevel_init(&z, ZSTD_AUTO);
    run(&z, &text, 1, .01, 500);
    assert_int_equal(z.level, 1);
}

static void zlevel__what_shrinks_well_is_never_stored(void **state)
{
    struct zlevel z;

    (void)state;
    zlevel_init(&z, ZSTD_AUTO);
    run(&z, &zeros, 50, 0, 5000);
    assert_true(z.step >= 1);
    /* also when it comes after a time of storing */
    zlevel_init(&z, ZSTD_AUTO);
    const struct data poor = { { 1, .9, .9, .9, .9, .9, .9, .9, .9, .9 },
                               { 8, .9, .7, .55, .40, .30, .20, .10, .06, .04 } };
    run(&z, &poor, 20, 0, 5000);
    assert_int_equal(z.step, 0);
    run(&z, &zeros, 20, 0, 500);
    assert_true(z.step >= 1);
}

static void zlevel__dense_data_is_stored_with_a_sample_now_and_then(void **state)
{
    static const int kinds[] = { ZSTD_AUTO, 3 };

    (void)state;
    for (int k = 0; k < 2; k++) {
        struct zlevel z;
        unsigned stored = 0;

        zlevel_init(&z, kinds[k]);
        for (unsigned i = 0; i < 1000; i++) {
            const bool raw = zlevel_raw(&z);

            stored += raw;
            zlevel_chunk(&z, 1 << 19, raw ? 0 : 1 << 19, 1000, 0, 0);
        }
        assert_in_range(stored, 900, 980);
        /* soon after the data changes all is compressed again */
        run(&z, &text, .1, 0, 20);
        stored = 0;
        for (unsigned i = 0; i < 100; i++) {
            stored += zlevel_raw(&z);
            zlevel_chunk(&z, 1 << 19, 1 << 18, 1000, 1000, 0);
        }
        assert_int_equal(stored, 0);
    }
}

static void zlevel__fixed_level_stays(void **state)
{
    struct zlevel z;

    (void)state;
    zlevel_init(&z, 7);
    run(&z, &text, 10, 0, 1000);
    assert_int_equal(z.level, 7);
    run(&z, &noise, .001, 0, 1000);
    assert_int_equal(z.level, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(zlevel__comes_near_the_best_level),
        TEST(zlevel__slow_link_gets_the_highest_level),
        TEST(zlevel__idle_source_changes_nothing),
        TEST(zlevel__what_shrinks_well_is_never_stored),
        TEST(zlevel__dense_data_is_stored_with_a_sample_now_and_then),
        TEST(zlevel__fixed_level_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
