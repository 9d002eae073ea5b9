#include "unit.h"

#include "base/texts.h"

static void texts__are_kept_in_order(void **state)
{
    struct texts t = { 0 };

    (void)state;
    texts_add(&t, "%s %d", "one", 1);
    texts_add(&t, "two");
    assert_int_equal(t.n, 2);
    assert_string_equal(t.text[0], "one 1");
    assert_string_equal(t.text[1], "two");
}

static void texts__long_one_is_cut(void **state)
{
    struct texts t = { 0 };

    (void)state;
    texts_add(&t, "%0*d", TEXTS_LEN, 7);
    texts_add(&t, "next");
    assert_int_equal(strlen(t.text[0]), TEXTS_LEN - 1);
    assert_int_equal(strspn(t.text[0], "0"), TEXTS_LEN - 1);
    assert_string_equal(t.text[1], "next");
}

static void texts__what_does_not_fit_is_dropped(void **state)
{
    struct {
        struct texts t;
        char behind[8];
    } x = { .behind = "intact" };

    (void)state;
    for (int i = 0; i <= TEXTS_MAX; i++)
        texts_add(&x.t, "%d", i);
    assert_int_equal(x.t.n, TEXTS_MAX);
    assert_string_equal(x.t.text[0], "0");
    assert_string_equal(x.t.text[TEXTS_MAX - 1], "15");
    assert_string_equal(x.behind, "intact");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(texts__are_kept_in_order),
        TEST(texts__long_one_is_cut),
        TEST(texts__what_does_not_fit_is_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
