#include "unit.h"

#include <math.h>

#include "base/units.h"

typedef bool parser(const char *s, uint64_t *out, struct err *e);

/* A row of a table of texts and their values. */
struct row {
    const char *text;
    uint64_t value;
};

static void all_parse(parser *parse, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t v = UINT64_MAX;
        struct err e;

        if (!parse(rows[i].text, &v, &e) || v != rows[i].value)
            fail_msg("%s gave %llu", rows[i].text, (unsigned long long)v);
    }
}

static void all_refused(parser *parse, const char *const *texts)
{
    for (; *texts != NULL; texts++) {
        uint64_t v = 77;
        struct err e = { .kind = ERR_NONE };

        if (parse(*texts, &v, &e))
            fail_msg("\"%s\" gave %llu", *texts, (unsigned long long)v);
        assert_int_equal(e.kind, ERR_USAGE);
        assert_int_equal(v, 77);
    }
}

#define ALL_PARSE(parse, rows) all_parse(parse, rows, sizeof rows / sizeof rows[0])

static void units__sizes_are_powers_of_1024_and_of_1000(void **state)
{
    /* clang-format off */
    static const struct row rows[] = {
        { "0", 0 },          { "4096", 4096 },        { "12B", 12 },
        { "1K", 1024 },      { "1k", 1024 },          { "1KiB", 1024 },
        { "1KB", 1000 },     { "1kB", 1000 },         { "512M", 512ull << 20 },
        { "10G", 10ull << 30 }, { "10g", 10ull << 30 }, { "10GiB", 10ull << 30 },
        { "10GB", 10000000000 }, { "1.5T", 3ull << 39 }, { "2P", 2ull << 50 },
        { "0.5K", 512 },     { "1.0001K", 1024 },     { "16383P", 16383ull << 50 },
        { "18446744073709551615", UINT64_MAX },
    };
    /* clang-format on */

    (void)state;
    ALL_PARSE(units_parse_size, rows);
}

static void units__senseless_sizes_are_refused(void **state)
{
    static const char *const texts[] = {
        "",
        " 1",
        "1 ",
        "-1",
        "+1",
        "K",
        "1X",
        "1Kb",
        "1KIB",
        "1kib",
        "1 K",
        "0x10",
        "1e3",
        ".5K",
        "1.",
        "1.5",
        "1.5B",
        "0.00001K",
        "1.23456K",
        "1..5K",
        "1,5K",
        "1KK",
        "1iB",
        "1b",
        "16384P",
        "18446744073709551616",
        "99999999999999999999999",
        "1KiB/s",
        NULL,
    };

    (void)state;
    all_refused(units_parse_size, texts);
}

static void units__rates_are_bits_or_bytes(void **state)
{
    /* clang-format off */
    static const struct row rows[] = {
        { "0", 0 },              { "unlimited", 0 },        { "800Mbit", 100000000 },
        { "1Gbit", 125000000 },  { "1gbit/s", 125000000 },  { "100M", 100ull << 20 },
        { "100MB", 100000000 },  { "100MiB", 100ull << 20 }, { "100MiB/s", 100ull << 20 },
        { "8bit", 1 },           { "1.5Mbit", 187500 },     { "64Kbit/s", 8000 },
    };
    /* clang-format on */

    (void)state;
    ALL_PARSE(units_parse_rate, rows);
}

/* "100" could be meant in anything; "1bit" would become 0, which means no limit. */
static void units__rates_without_a_meaning_are_refused(void **state)
{
    static const char *const texts[] = { "100",          "",          "1bit", "1Mb",
                                         "1MBIT",        "/s",        "1M/",  "1M/m",
                                         "1Mbit/s/s",    "Unlimited", "-1M",  "1/s",
                                         "20000000Tbit", NULL };

    (void)state;
    all_refused(units_parse_rate, texts);
}

static void units__times_have_a_unit(void **state)
{
    static const struct row rows[] = {
        { "300ms", 300 },  { "10s", 10000 },   { "1.5s", 1500 }, { "15m", 900000 },
        { "2h", 7200000 }, { "1d", 86400000 }, { "0s", 0 },      { "0.5m", 30000 },
    };
    static const char *const bad[] = { "300", "0",  "",      "1us",  "1S",      "1 s",
                                       "-1s", "1M", "0.5ms", "1min", "0.0001s", NULL };

    (void)state;
    ALL_PARSE(units_parse_time, rows);
    all_refused(units_parse_time, bad);
}

static void units__errors_show_an_example_and_the_text(void **state)
{
    uint64_t v;
    struct err e;

    (void)state;
    assert_err(units_parse_rate("100", &v, &e), e, ERR_USAGE);
    assert_string_equal(e.msg, "rate: \"100\" has no known unit, write for example "
                               "800Mbit or 100MiB/s");
    assert_err(units_parse_size("99999999T", &v, &e), e, ERR_USAGE);
    assert_string_equal(e.msg, "size: \"99999999T\" is too large");
}

static void units__sizes_are_printed_with_one_decimal(void **state)
{
    char s[UNITS_LEN];

    (void)state;
    assert_string_equal(units_size(s, 0), "0 B");
    assert_string_equal(units_size(s, 1023), "1023 B");
    assert_string_equal(units_size(s, 1024), "1.0 KiB");
    assert_string_equal(units_size(s, 3ull << 29), "1.5 GiB");
    assert_string_equal(units_size(s, (1 << 20) - 1), "1.0 MiB");
    assert_string_equal(units_size(s, UINT64_MAX), "16.0 EiB");
}

static void units__rates_survive_any_number(void **state)
{
    char s[UNITS_LEN];

    (void)state;
    assert_string_equal(units_rate(s, 87.0 * (1 << 20)), "87.0 MiB/s");
    assert_string_equal(units_rate(s, 1023.9), "1023 B/s");
    assert_string_equal(units_rate(s, -5), "0 B/s");
    assert_string_equal(units_rate(s, NAN), "0 B/s");
    assert_string_equal(units_rate(s, INFINITY), "very many B/s");
    assert_string_equal(units_rate(s, 1e300), "very many B/s");
}

static void units__times_are_printed_in_two_parts(void **state)
{
    char s[UNITS_LEN];

    (void)state;
    assert_string_equal(units_time(s, 0), "0 ms");
    assert_string_equal(units_time(s, 999), "999 ms");
    assert_string_equal(units_time(s, 1930), "1.9 s");
    assert_string_equal(units_time(s, 59949), "59.9 s");
    assert_string_equal(units_time(s, 59950), "1m 0s");
    assert_string_equal(units_time(s, 72000), "1m 12s");
    assert_string_equal(units_time(s, 3599999), "1h 0m");
    assert_string_equal(units_time(s, 2 * 3600000 + 5 * 60000), "2h 5m");
    assert_string_equal(units_time(s, 27 * 3600000), "1d 3h");
    assert_string_equal(units_time(s, -300), "-300 ms");
    units_time(s, INT64_MAX);
    units_time(s, INT64_MIN);
}

static void units__times_for_typing_are_parsed_again(void **state)
{
    static const struct {
        uint64_t ms;
        const char *text;
    } rows[] = {
        { 0, "0ms" },       { 300, "300ms" },
        { 1500, "1500ms" }, { 30000, "30s" },
        { 60000, "1m" },    { 90000, "90s" },
        { 7200000, "2h" },  { 14 * 86400000ull, "14d" },
    };
    char s[UNITS_LEN];
    uint64_t ms;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_string_equal(units_time_typed(s, rows[i].ms), rows[i].text);
        assert_ok(units_parse_time(s, &ms, &e), e);
        assert_int_equal(ms, rows[i].ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(units__sizes_are_powers_of_1024_and_of_1000),
        TEST(units__senseless_sizes_are_refused),
        TEST(units__rates_are_bits_or_bytes),
        TEST(units__rates_without_a_meaning_are_refused),
        TEST(units__times_have_a_unit),
        TEST(units__errors_show_an_example_and_the_text),
        TEST(units__sizes_are_printed_with_one_decimal),
        TEST(units__rates_survive_any_number),
        TEST(units__times_are_printed_in_two_parts),
        TEST(units__times_for_typing_are_parsed_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
