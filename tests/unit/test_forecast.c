#include <math.h>
#include <stdlib.h>

#include "migrate/forecast.h"
#include "unit.h"

static const double MIB = 1 << 20;

/* A guest that does nothing, 1 GiB of disks, 256 MiB of RAM, 100 MiB/s. */
static struct forecast_in idle(void)
{
    return (struct forecast_in){ .disk_bytes = 1024ull << 20,
                                 .ram_bytes = 256ull << 20,
                                 .disk_rate = 100 * MIB,
                                 .ram_rate = 100 * MIB,
                                 .disk_ratio = 1,
                                 .ram_ratio = 1,
                                 .budget_ms = 300,
                                 .switch_ms = 150,
                                 .start_ms = 1000,
                                 .ram_start_ms = 1000,
                                 .end_ms = 2000 };
}

static struct forecast made(const struct forecast_in *in)
{
    struct forecast f;

    forecast_make(in, &f);
    assert_true(f.made);
    return f;
}

static void assert_near(double got, double wanted, double share)
{
    if (fabs(got - wanted) > fabs(wanted) * share)
        fail_msg("%g is not within %g of %g", got, share, wanted);
}

/* --- the curve --- */

static void sampled(struct forecast_point *p, size_t n, double rate, double set,
                    double until)
{
    const struct forecast_curve c = { rate, set };

    for (size_t i = 0; i < n; i++) {
        p[i].s = until * (double)(i + 1) / (double)n;
        p[i].bytes = forecast_dirty(&c, p[i].s);
    }
}

static void forecast__curve_bends_towards_the_set(void **state)
{
    const struct forecast_curve c = { 10 * MIB, 64 * MIB };
    const struct forecast_curve line = { 10 * MIB, 0 };

    (void)state;
    assert_near(forecast_dirty(&c, 0.01), 0.1 * MIB, 0.01);
    assert_true(forecast_dirty(&c, 10) < 64 * MIB);
    assert_near(forecast_dirty(&c, 1000), 64 * MIB, 0.001);
    assert_near(forecast_dirty(&line, 1000), 10000 * MIB, 0.001);
    assert_true(forecast_dirty(&c, 0) == 0 && forecast_dirty(&c, -1) == 0);
}

static void forecast__fit_finds_the_curve_again(void **state)
{
    static const double sets[] = { 8, 40, 100, 400 };
    struct forecast_point p[20];
    struct forecast_curve c;

    (void)state;
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        sampled(p, 20, 20 * MIB, sets[i] * MIB, 10);
        forecast_fit(&c, p, 20, 0);
        assert_near(c.rate, 20 * MIB, 0.15);
        assert_near(c.set, sets[i] * MIB, 0.2);
    }
}

static void forecast__fit_takes_a_line_for_a_line(void **state)
{
    struct forecast_point p[10];
    struct forecast_curve c;

    (void)state;
    sampled(p, 10, 5 * MIB, 0, 5);
    forecast_fit(&c, p, 10, 0);
    assert_near(forecast_dirty(&c, 60), 300 * MIB, 0.1);
    /* but never more than there is */
    forecast_fit(&c, p, 10, 100 * MIB);
    assert_near(c.rate, 5 * MIB, 0.1);
    assert_true(forecast_dirty(&c, 1e6) <= 100 * MIB * 1.001);
}

static void forecast__fit_bears_noise(void **state)
{
    struct forecast_point p[20];
    struct forecast_curve c;

    (void)state;
    srand(7);
    for (int round = 0; round < 200; round++) {
        sampled(p, 20, 20 * MIB, 50 * MIB, 10);
        for (int i = 0; i < 20; i++)
            p[i].bytes *= 0.95 + 0.1 * rand() / (double)RAND_MAX;
        forecast_fit(&c, p, 20, 0);
        assert_near(forecast_dirty(&c, 1), 16.5 * MIB, 0.2);
        assert_near(forecast_dirty(&c, 30), 50 * MIB, 0.2);
    }
}

static void forecast__fit_of_nothing_is_nothing(void **state)
{
    const struct forecast_point zero[] = { { 1, 0 }, { 2, 0 } };
    struct forecast_curve c;

    (void)state;
    forecast_fit(&c, NULL, 0, 0);
    assert_true(forecast_dirty(&c, 10) == 0);
    forecast_fit(&c, zero, 2, 1e9);
    assert_true(forecast_dirty(&c, 10) == 0);
}

/* --- the move --- */

static void forecast__idle_guest_is_the_sum_of_its_parts(void **state)
{
    const struct forecast_in in = idle();
    const struct forecast f = made(&in);

    (void)state;
    assert_true(f.converges);
    assert_near((double)f.total_ms, 1000 + 10240 + 1000 + 2560 + 150 + 2000, 0.03);
    assert_near((double)f.sent, 1280 * MIB, 0.01);
    assert_int_equal(f.disk_bytes, 1024 * (uint64_t)MIB);
    assert_int_equal(f.pause_ms, 150);
    assert_int_equal(f.needs_downtime_ms, 0);
    assert_true(f.needs_rate == 0);
}

static void forecast__compression_makes_fewer_bytes_not_less_time(void **state)
{
    struct forecast_in in = idle();
    const struct forecast plain = made(&in);

    (void)state;
    in.disk_ratio = 4;
    in.ram_ratio = 2;
    in.sent = 1000;
    const struct forecast f = made(&in);
    assert_near((double)f.sent, 384 * MIB, 0.01);
    assert_int_equal(f.total_ms, plain.total_ms);
    assert_int_equal(f.disk_bytes, plain.disk_bytes);
}

static void forecast__a_writer_costs_rounds(void **state)
{
    struct forecast_in in = idle();

    (void)state;
    in.disk = (struct forecast_curve){ 10 * MIB, 0 };
    in.ram = (struct forecast_curve){ 20 * MIB, 64 * MIB };
    const struct forecast f = made(&in);
    assert_true(f.converges);
    assert_true(f.pause_ms > 150 && f.pause_ms <= 300);
    /* 10 s of bulk dirty 100 MiB, which takes 1 s, which dirties 10 MiB... */
    assert_true(f.disk_bytes > 1130 * MIB && f.disk_bytes < 1250 * MIB);
    assert_true(f.ram_bytes > 290 * MIB && f.ram_bytes < 400 * MIB);
    assert_true(f.rounds >= 3);
}

static void forecast__rewriting_the_same_blocks_is_cheaper(void **state)
{
    struct forecast_in in = idle();

    (void)state;
    in.disk = (struct forecast_curve){ 40 * MIB, 0 };
    const struct forecast line = made(&in);
    in.disk = (struct forecast_curve){ 40 * MIB, 32 * MIB };
    const struct forecast hot = made(&in);
    assert_true(hot.converges);
    assert_true(hot.disk_bytes + 100 * MIB < line.disk_bytes);
}

static void forecast__faster_than_the_link_does_not_converge(void **state)
{
    struct forecast_in in = idle();

    (void)state;
    in.disk = (struct forecast_curve){ 150 * MIB, 0 };
    const struct forecast f = made(&in);
    assert_false(f.converges);
    assert_int_equal(f.needs_downtime_ms, 0); /* no pause is long enough */
    assert_true(f.needs_rate > 150 * MIB);
    in.disk_rate *= f.needs_rate / (100 * MIB);
    in.ram_rate *= f.needs_rate / (100 * MIB);
    assert_true(made(&in).converges);
}

static void forecast__ram_faster_than_the_link_does_not_converge(void **state)
{
    struct forecast_in in = idle();

    (void)state;
    in.ram = (struct forecast_curve){ 300 * MIB, 100 * MIB };
    const struct forecast f = made(&in);
    assert_false(f.converges);
    assert_true(f.pause_ms > 300);
    /* The working set is sent in a second: that pause would do. */
    assert_true(f.needs_downtime_ms >= 1000 && f.needs_downtime_ms <= 2000);
    in.budget_ms = f.needs_downtime_ms;
    assert_true(made(&in).converges);
}

static void forecast__budget_below_the_fixed_cost_never_fits(void **state)
{
    struct forecast_in in = idle();

    (void)state;
    in.budget_ms = 100;
    const struct forecast f = made(&in);
    assert_false(f.converges);
    assert_int_equal(f.needs_downtime_ms, 500);
    assert_true(f.needs_rate == 0); /* no rate helps */
}

static void forecast__no_rate_no_forecast_of_success(void **state)
{
    struct forecast_in in = idle();

    (void)state;
    in.disk_rate = 0;
    const struct forecast f = made(&in);
    assert_false(f.converges);
    assert_int_equal(f.pause_ms, -1);
}

/* Whatever is put in: it ends, and what it calls convergent fits the budget; a faster link
 * or a longer pause never makes it worse. */
static void forecast__holds_for_thousands_of_guests(void **state)
{
    (void)state;
    srand(42);
    for (int i = 0; i < 4000; i++) {
        struct forecast_in in = idle();

        in.disk_bytes = (uint64_t)(rand() % 100000) << 20;
        in.ram_bytes = (uint64_t)(rand() % 100000) << 20;
        in.disk_rate = exp2(10 + 20.0 * rand() / RAND_MAX);
        in.ram_rate = exp2(10 + 20.0 * rand() / RAND_MAX);
        in.disk_ratio = 0.9 + 5.0 * rand() / RAND_MAX;
        in.disk =
            (struct forecast_curve){ exp2(30.0 * rand() / RAND_MAX),
                                     rand() % 2 ? exp2(35.0 * rand() / RAND_MAX) : 0 };
        in.ram =
            (struct forecast_curve){ exp2(30.0 * rand() / RAND_MAX),
                                     rand() % 2 ? exp2(35.0 * rand() / RAND_MAX) : 0 };
        in.budget_ms = 1 + (uint64_t)(rand() % 3000);
        const struct forecast f = made(&in);

        assert_true(f.total_ms >= 0);
        if (!f.converges)
            continue;
        assert_true(f.pause_ms >= 0 && f.pause_ms <= (int64_t)in.budget_ms);
        assert_true(f.disk_bytes >= in.disk_bytes && f.ram_bytes >= in.ram_bytes);
        in.budget_ms *= 2;
        assert_true(made(&in).converges);
    }
}

static void forecast__error_is_a_share(void **state)
{
    (void)state;
    assert_near(forecast_error(100, 125), 0.25, 0.001);
    assert_near(forecast_error(100, 80), -0.2, 0.001);
    assert_true(forecast_error(0, 80) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(forecast__curve_bends_towards_the_set),
        TEST(forecast__fit_finds_the_curve_again),
        TEST(forecast__fit_takes_a_line_for_a_line),
        TEST(forecast__fit_bears_noise),
        TEST(forecast__fit_of_nothing_is_nothing),
        TEST(forecast__idle_guest_is_the_sum_of_its_parts),
        TEST(forecast__compression_makes_fewer_bytes_not_less_time),
        TEST(forecast__a_writer_costs_rounds),
        TEST(forecast__rewriting_the_same_blocks_is_cheaper),
        TEST(forecast__faster_than_the_link_does_not_converge),
        TEST(forecast__ram_faster_than_the_link_does_not_converge),
        TEST(forecast__budget_below_the_fixed_cost_never_fits),
        TEST(forecast__no_rate_no_forecast_of_success),
        TEST(forecast__holds_for_thousands_of_guests),
        TEST(forecast__error_is_a_share),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
