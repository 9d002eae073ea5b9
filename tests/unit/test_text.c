#include "unit.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/text.h"

static struct text utf8_text(unsigned width)
{
    return (struct text){ .utf8 = true, .width = width };
}

static void text__put_counts_columns_not_bytes(void **state)
{
    AUTO(text_fini) struct text t = utf8_text(0);

    (void)state;
    text_put(&t, TEXT_PLAIN, "a→漢e\xcc\x81"); /* wide: 2; the accent joins the e */
    assert_string_equal(t.buf, "a→漢e\xcc\x81");
    assert_int_equal(t.col, 5);
    assert_int_equal(text_columns(&t, "a→漢e\xcc\x81"), 5);
}

static void text__controls_are_escaped(void **state)
{
    AUTO(text_fini) struct text t = utf8_text(0);

    (void)state;
    text_put(&t, TEXT_PLAIN, "a\033[2J\r\n\t\x7f\xff\xc2\x9b\xe2\x80\xae");
    assert_string_equal(t.buf,
                        "a\\x1b[2J\\x0d\\x0a\\x09\\x7f\\xff\\xc2\\x9b\\xe2\\x80\\xae");
    assert_int_equal(t.col, strlen(t.buf));
}

static void text__other_than_ascii_is_escaped_without_utf8(void **state)
{
    AUTO(text_fini) struct text t = { 0 };

    (void)state;
    text_put(&t, TEXT_PLAIN, "wëb\xc3\x9bm");
    assert_string_equal(t.buf, "w\\xc3\\xabb\\xc3\\x9bm");
}

static void text__line_ends_at_its_width(void **state)
{
    AUTO(text_fini) struct text t = utf8_text(5);

    (void)state;
    text_put(&t, TEXT_PLAIN, "abcdefgh");
    text_put(&t, TEXT_PLAIN, "i");
    text_newline(&t);
    text_put(&t, TEXT_PLAIN,
             "abcd漢x"); /* the wide one has no room, nor what follows */
    text_newline(&t);
    assert_string_equal(t.buf, "abcde\nabcd\n");
}

static void text__fit_shortens(void **state)
{
    AUTO(text_fini) struct text t = utf8_text(0);
    AUTO(text_fini) struct text ascii = { 0 };

    (void)state;
    text_fit(&t, TEXT_PLAIN, "abcdef", 6);
    text_fit(&t, TEXT_PLAIN, "|abcdefg", 4);
    text_fit(&t, TEXT_PLAIN, "|漢漢漢", 4);
    text_fit(&t, TEXT_PLAIN, "gone", 0);
    assert_string_equal(t.buf, "abcdef|ab…|漢…");
    text_fit(&ascii, TEXT_PLAIN, "abcdefg", 4);
    assert_string_equal(ascii.buf, "abc~");
}

static void text__fields_are_aligned(void **state)
{
    AUTO(text_fini) struct text t = utf8_text(0);

    (void)state;
    text_put(&t, TEXT_PLAIN, "ab");
    text_pad(&t, 4);
    text_right(&t, TEXT_PLAIN, "x→", 5);
    text_right(&t, TEXT_PLAIN, "longer", 3);
    text_pad(&t, 2); /* is behind that already */
    assert_string_equal(t.buf, "ab     x→longer");
}

static void text__wrap_breaks_at_blanks(void **state)
{
    AUTO(text_fini) struct text t = utf8_text(12);

    (void)state;
    text_put(&t, TEXT_PLAIN, "why ");
    text_wrap(&t, TEXT_PLAIN, "one two three four", 4, 3);
    assert_string_equal(t.buf, "why one two\n    three\n    four\n");
}

static void text__wrap_shortens_the_last_line(void **state)
{
    AUTO(text_fini) struct text t = utf8_text(10);

    (void)state;
    text_wrap(&t, TEXT_PLAIN, "one two three four", 2, 2);
    assert_string_equal(t.buf, "  one two\n  three f…\n");
}

static void text__wrap_breaks_words_that_do_not_fit(void **state)
{
    AUTO(text_fini) struct text t = utf8_text(4);

    (void)state;
    text_wrap(&t, TEXT_PLAIN, "abcdefghij", 0, 9);
    assert_string_equal(t.buf, "abcd\nefgh\nij\n");
}

static void text__fold_keeps_words_whole(void **state)
{
    AUTO(text_fini) struct text t = utf8_text(0);
    char want[300], word[91];

    (void)state;
    memset(word, 'x', 90);
    word[90] = '\0';
    snprintf(want, sizeof want, "a %.78s", word);
    text_fold(&t, want, 2);
    assert_int_equal(t.lines, 1); /* 80 columns */
    text_clear(&t);
    snprintf(want, sizeof want, "a %.79s b", word);
    text_fold(&t, want, 2);
    snprintf(want, sizeof want, "a\n  %.79s\n  b\n", word);
    assert_string_equal(t.buf, want);
    text_clear(&t);
    text_put(&t, TEXT_PLAIN, "lead ");
    snprintf(want, sizeof want, "%s b", word);
    text_fold(&t, want, 5);
    snprintf(want, sizeof want, "lead %s\n     b\n", word);
    assert_string_equal(t.buf, want);
}

static void text__colours_are_not_counted(void **state)
{
    AUTO(text_fini) struct text t = { .utf8 = true, .colour = true, .width = 4 };

    (void)state;
    text_put(&t, TEXT_BAD, "abc");
    text_put(&t, TEXT_PLAIN, "defg");
    assert_string_equal(t.buf, "\033[31mabc\033[0md");
}

static int set_locale(void **state)
{
    (void)state;
    return setlocale(LC_CTYPE, "C.UTF-8") != NULL ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(text__put_counts_columns_not_bytes),
        TEST(text__controls_are_escaped),
        TEST(text__other_than_ascii_is_escaped_without_utf8),
        TEST(text__line_ends_at_its_width),
        TEST(text__fit_shortens),
        TEST(text__fields_are_aligned),
        TEST(text__wrap_breaks_at_blanks),
        TEST(text__wrap_shortens_the_last_line),
        TEST(text__wrap_breaks_words_that_do_not_fit),
        TEST(text__fold_keeps_words_whole),
        TEST(text__colours_are_not_counted),
    };

    return cmocka_run_group_tests(tests, set_locale, NULL);
}
