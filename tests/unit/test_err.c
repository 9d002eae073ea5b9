#include "unit.h"

#include <errno.h>

static void err__set_joins_text_and_errno(void **state)
{
    struct err e;

    (void)state;
    assert_false(err_set(&e, ERR_NBD, ENOSPC, "write at %d", 4096));
    assert_int_equal(e.kind, ERR_NBD);
    assert_int_equal(e.os, ENOSPC);
    assert_string_equal(e.msg, "write at 4096: No space left on device");
    assert_string_equal(e.next, "");
}

static void err__unknown_errno_is_said_so(void **state)
{
    struct err e;

    (void)state;
    err_set(&e, ERR_SYS, 99999, "x");
    assert_string_equal(e.msg, "x: unknown error");
}

static void err__wrap_puts_outer_first_and_keeps_the_rest(void **state)
{
    struct err e;

    (void)state;
    err_set(&e, ERR_SYS, EIO, "inner");
    err_next(&e, "Look at the disk.");
    assert_false(err_wrap(&e, "disk %s", "vda"));
    assert_string_equal(e.msg, "disk vda: inner: Input/output error");
    assert_int_equal(e.kind, ERR_SYS);
    assert_int_equal(e.os, EIO);
    assert_string_equal(e.next, "Look at the disk.");
}

static void err__next_of_the_first_speaker_wins(void **state)
{
    struct err e;

    (void)state;
    err_set(&e, ERR_USAGE, 0, "x");
    assert_false(err_next(&e, "Do %s.", "this"));
    assert_false(err_next(&e, "Do that."));
    assert_string_equal(e.next, "Do this.");
}

static void err__set_forgets_an_older_next(void **state)
{
    struct err e;

    (void)state;
    err_set(&e, ERR_USAGE, 0, "x");
    err_next(&e, "Do this.");
    err_set(&e, ERR_USAGE, 0, "y");
    assert_string_equal(e.next, "");
}

static void err__long_texts_are_cut_with_a_nul(void **state)
{
    char text[2000];
    struct err e;

    (void)state;
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    err_set(&e, ERR_SYS, EIO, "%s", text);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    err_wrap(&e, "%s", text);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    err_wrap(&e, "outer");
    assert_int_equal(strncmp(e.msg, "outer: aaa", 10), 0);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
    err_next(&e, "%s", text);
    assert_int_equal(strlen(e.next), sizeof e.next - 1);
}

static void err__every_kind_has_a_name_that_parses_back(void **state)
{
    (void)state;
    for (int k = 0; k < ERR_KINDS; k++)
        assert_int_equal(err_kind_parse(err_kind_name((enum err_kind)k)), k);
}

static void err__foreign_kinds_count_as_the_peers(void **state)
{
    (void)state;
    assert_int_equal(err_kind_parse("no such kind"), ERR_PEER);
    assert_int_equal(err_kind_parse(""), ERR_PEER);
    assert_string_equal(err_kind_name(ERR_KINDS), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(err__set_joins_text_and_errno),
        TEST(err__unknown_errno_is_said_so),
        TEST(err__wrap_puts_outer_first_and_keeps_the_rest),
        TEST(err__next_of_the_first_speaker_wins),
        TEST(err__set_forgets_an_older_next),
        TEST(err__long_texts_are_cut_with_a_nul),
        TEST(err__every_kind_has_a_name_that_parses_back),
        TEST(err__foreign_kinds_count_as_the_peers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
