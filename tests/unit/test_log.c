#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "base/log.h"

/* What the sink got last. */
static struct {
    enum log_level level;
    char line[8192];
    int n;
} got;

static void sink(enum log_level level, const char *line, void *ctx)
{
    assert_ptr_equal(ctx, &got);
    got.level = level;
    snprintf(got.line, sizeof got.line, "%s", line);
    got.n++;
}

static int fresh(void **state)
{
    (void)state;
    memset(&got, 0, sizeof got);
    log_init(LOG_DEBUG, "src");
    log_set_sink(sink, &got);
    return 0;
}

/* The time that a line begins with, "12:04:31.118 ". */
enum { TIME_LEN = 13 };

static void log__line_has_time_host_level_and_topic(void **state)
{
    (void)state;
    log_info("disks", "disk=%s round=%d", "vda", 2);
    assert_int_equal(got.level, LOG_INFO);
    assert_int_equal(got.line[2], ':');
    assert_int_equal(got.line[8], '.');
    assert_string_equal(got.line + TIME_LEN, "src info disks: disk=vda round=2");
}

static void log__levels_above_the_maximum_are_silent(void **state)
{
    (void)state;
    log_line(LOG_TRACE, "x", "not this");
    assert_int_equal(got.n, 0);
    log_line(LOG_DEBUG, "x", "but this");
    assert_int_equal(got.n, 1);
    log_line(LOG_ERROR, "x", "and this");
    assert_int_equal(got.n, 2);
}

static void log__foreign_text_cannot_add_lines_or_colours(void **state)
{
    (void)state;
    log_warn("x", "%s", "a\nb\033[31m\x9b");
    assert_string_equal(got.line + TIME_LEN, "src warn x: a\\x0ab\\x1b[31m\\x9b");
}

static void log__errno_survives(void **state)
{
    (void)state;
    errno = ENOSPC;
    log_warn("x", "y");
    assert_int_equal(errno, ENOSPC);
}

static void log__long_lines_are_cut(void **state)
{
    static char text[20000];

    (void)state;
    memset(text, '\n', sizeof text - 1);
    log_warn("x", "%s", text);
    assert_in_range(strlen(got.line), 1000, 4095);
    log_foreign("dst", text);
    assert_in_range(strlen(got.line), 1000, 4095);
}

static void log__agents_line_keeps_its_head(void **state)
{
    (void)state;
    log_foreign("dst", "09:59:59.001 dst debug disks: x\ty");
    assert_string_equal(got.line, "09:59:59.001 dst debug disks: x\\x09y");
    assert_int_equal(got.level, LOG_DEBUG);
    log_foreign("dst", "09:59:59.001 dst trace disks: too much");
    assert_int_equal(got.n, 1);
}

static void log__other_text_of_the_agents_host_gets_a_head(void **state)
{
    static const char *const texts[] = { "bash: no such thing",
                                         "09:59:59.001 src info x: y",
                                         "09:59:59.001 dst what x: y",
                                         "09:59:59.001 dst",
                                         "09:59:5",
                                         "" };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char want[100];

        log_foreign("dst", texts[i]);
        snprintf(want, sizeof want, "dst info stderr: %s", texts[i]);
        assert_string_equal(got.line + TIME_LEN, want);
    }
}

static void log__clean_escapes_what_is_not_shown(void **state)
{
    /* clang-format off */
    static const struct { const char *in, *out; } rows[] = {
        { "", "" },
        { "plain \\ text~", "plain \\ text~" },
        { "\x7f\x01", "\\x7f\\x01" },
        { "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
        { "\xe2\x82\xac \xf0\x9f\x90\xa7", "\xe2\x82\xac \xf0\x9f\x90\xa7" },
        { "\xc2\x9b", "\\xc2\\x9b" },                        /* C1: CSI in one byte */
        { "\xe2\x80\xae", "\\xe2\\x80\\xae" },               /* turns the direction */
        { "\xe2\x81\xa6x", "\\xe2\\x81\\xa6x" },
        { "\xc3", "\\xc3" },                                 /* cut */
        { "\xf0\x9f\x90", "\\xf0\\x9f\\x90" },
        { "\xc0\x80", "\\xc0\\x80" },                        /* not the shortest form */
        { "\xe0\x80\xaf", "\\xe0\\x80\\xaf" },
        { "\xed\xa0\x80", "\\xed\\xa0\\x80" },               /* a surrogate */
        { "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80" },      /* over U+10FFFF */
        { "\x80\xff", "\\x80\\xff" },
    };
    /* clang-format on */
    char dst[64];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_string_equal(log_clean(dst, sizeof dst, rows[i].in), rows[i].out);
}

static void log__clean_cuts_between_characters(void **state)
{
    static const char in[] = "a\xc3\xbc\n\xf0\x9f\x90\xa7z";
    char full[32], dst[32];

    (void)state;
    log_clean(full, sizeof full, in);
    for (size_t size = 1; size <= strlen(full) + 1; size++) {
        memset(dst, '#', sizeof dst);
        log_clean(dst, size, in);
        assert_true(strlen(dst) < size);
        assert_int_equal(dst[size], '#');
        assert_int_equal(strncmp(dst, full, strlen(dst)), 0);
        /* Cleaning again changes nothing: no half of a character was left. */
        char again[32];
        assert_string_equal(log_clean(again, sizeof again, dst), dst);
    }
    assert_string_equal(dst, full);
    dst[0] = '#';
    log_clean(dst, 0, in);
    assert_int_equal(dst[0], '#');
}

static void *log_much(void *unused)
{
    (void)unused;
    for (int i = 0; i < 200; i++)
        log_info("x", "n=%d", i);
    return NULL;
}

static void log__threads_take_turns_at_the_sink(void **state)
{
    pthread_t t[4];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, log_much, NULL), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(got.n, 4 * 200);
}

#define FRESH(f) cmocka_unit_test_setup(f, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(log__line_has_time_host_level_and_topic),
        FRESH(log__levels_above_the_maximum_are_silent),
        FRESH(log__foreign_text_cannot_add_lines_or_colours),
        FRESH(log__errno_survives),
        FRESH(log__long_lines_are_cut),
        FRESH(log__agents_line_keeps_its_head),
        FRESH(log__other_text_of_the_agents_host_gets_a_head),
        FRESH(log__clean_escapes_what_is_not_shown),
        FRESH(log__clean_cuts_between_characters),
        FRESH(log__threads_take_turns_at_the_sink),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
