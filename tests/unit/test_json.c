#include "unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"

static struct json_object *parse(const char *text)
{
    struct json_object *o = NULL;
    struct err e;

    assert_ok(json_parse(text, strlen(text), &o, &e), e);
    return o;
}

static void json__values_of_each_type_are_got(void **state)
{
    AUTO(json_put)
    struct json_object *o = parse("{\"s\":\"a b\",\"u\":18446744073709551614,\"z\":0,"
                                  "\"b\":true,\"a\":[1],\"o\":{\"x\":1},\"n\":null}");
    struct json_object *v;
    const char *s;
    uint64_t u;
    bool b;
    struct err e;

    (void)state;
    assert_ok(json_get_str(o, "s", &s, &e), e);
    assert_string_equal(s, "a b");
    assert_ok(json_get_u64(o, "u", &u, &e), e);
    assert_true(u == UINT64_MAX - 1);
    assert_ok(json_get_u64(o, "z", &u, &e), e);
    assert_true(u == 0);
    assert_ok(json_get_bool(o, "b", &b, &e), e);
    assert_true(b);
    assert_ok(json_get_array(o, "a", &v, &e), e);
    assert_int_equal(json_object_array_length(v), 1);
    assert_ok(json_get_object(o, "o", &v, &e), e);
    assert_true(json_has(v, "x"));
    assert_true(json_has(o, "s"));
    assert_false(json_has(o, "n"));
    assert_false(json_has(o, "none"));
}

static void json__missing_or_other_types_are_refused(void **state)
{
    AUTO(json_put) struct json_object *o = parse("{\"s\":\"1\",\"i\":1,\"n\":null}");
    AUTO(json_put) struct json_object *list = parse("[1]");
    struct json_object *v;
    const char *s;
    uint64_t u;
    bool b;
    struct err e;

    (void)state;
    assert_err(json_get_str(o, "none", &s, &e), e, ERR_PROTO);
    assert_string_equal(e.msg, "JSON: no member \"none\"");
    assert_err(json_get_str(o, "i", &s, &e), e, ERR_PROTO);
    assert_string_equal(e.msg, "JSON: member \"i\" is int, not string");
    assert_err(json_get_str(o, "n", &s, &e), e, ERR_PROTO);
    assert_err(json_get_u64(o, "s", &u, &e), e, ERR_PROTO);
    assert_err(json_get_bool(o, "i", &b, &e), e, ERR_PROTO);
    assert_err(json_get_array(o, "i", &v, &e), e, ERR_PROTO);
    assert_err(json_get_object(o, "n", &v, &e), e, ERR_PROTO);
    assert_err(json_get_str(list, "s", &s, &e), e, ERR_PROTO); /* not even an object */
    assert_false(json_has(list, "s"));
}

static void json__numbers_out_of_range_are_refused(void **state)
{
    AUTO(json_put) struct json_object *o = parse("{\"n\":-1,\"f\":1.5,\"e\":1e3}");
    struct json_object *v = NULL;
    uint64_t u;
    struct err e;

    (void)state;
    assert_err(json_get_u64(o, "n", &u, &e), e, ERR_PROTO);
    assert_err(json_get_u64(o, "f", &u, &e), e, ERR_PROTO);
    assert_err(json_get_u64(o, "e", &u, &e), e, ERR_PROTO);
    static const char over[] = "{\"n\":18446744073709551616}";
    if (json_parse(over, strlen(over), &v, &e)) /* newer json-c may refuse it here */
        assert_err(json_get_u64(v, "n", &u, &e), e, ERR_PROTO);
    json_object_put(v);
}

static void json__a_copy_fits_or_is_refused(void **state)
{
    AUTO(json_put) struct json_object *o = parse("{\"s\":\"abc\",\"e\":\"\",\"i\":1}");
    char text[4] = "x";
    struct err e;

    (void)state;
    assert_ok(json_copy_str(o, "s", text, 4, &e), e);
    assert_string_equal(text, "abc");
    assert_err(json_copy_str(o, "s", text, 3, &e), e, ERR_PROTO);
    assert_string_equal(e.msg, "JSON: member \"s\" is too long, at most 2 bytes fit");
    assert_err(json_copy_str(o, "i", text, 4, &e), e, ERR_PROTO);
    assert_err(json_copy_str(o, "none", text, 4, &e), e, ERR_PROTO);
    assert_ok(json_copy_str(o, "e", text, 1, &e), e);
    assert_string_equal(text, "");
}

static void json__strings_are_bounded_and_clean(void **state)
{
    char text[5000];
    const char *s;
    struct err e;
    AUTO(json_put)
    struct json_object *o =
        parse("{\"c\":\"a\\u001bb\",\"l\":\"a\\nb\",\"z\":\"a\\u0000b\","
              "\"d\":\"\\u007f\",\"u\":\"\\u00fc\"}");

    (void)state;
    assert_err(json_get_str(o, "c", &s, &e), e, ERR_PROTO);
    assert_err(json_get_str(o, "l", &s, &e), e, ERR_PROTO);
    assert_err(json_get_str(o, "d", &s, &e), e, ERR_PROTO);
    assert_err(json_get_str(o, "z", &s, &e), e, ERR_PROTO);
    assert_string_equal(e.msg, "JSON: member \"z\" has a NUL in it");
    assert_ok(json_get_str(o, "u", &s, &e), e);
    assert_string_equal(s, "\xc3\xbc");

    for (int len = 4096; len <= 4097; len++) {
        snprintf(text, sizeof text, "{\"s\":\"%0*d\"}", len, 0);
        AUTO(json_put) struct json_object *big = parse(text);
        assert_int_equal(json_get_str(big, "s", &s, &e), len == 4096);
    }
    assert_string_equal(e.msg, "JSON: member \"s\" has 4097 bytes, at most 4096");
}

static void json__one_whole_value_is_wanted(void **state)
{
    static const char *const bad[] = {
        "",    " ",        "{",     "{\"a\":1",   "[1,",  "{} {}",
        "{}x", "nul",      "null",  "{\"a\" 1}",  "[1,]", "//x",
        "\"a", "[1]\n[2]", "{a:1}", "{\"a\":1,}", "\x01", "-",
    };
    static const char *const good[] = { "1",  "-17", "1.5",    "\"a\"", "true",
                                        "[]", "{}",  " {} \n", "[[[]]]" };
    struct json_object *o = NULL;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (json_parse(bad[i], strlen(bad[i]), &o, &e))
            fail_msg("\"%s\" was taken", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        json_object_put(parse(good[i]));
}

/* No byte behind @len may be looked at, and each cut of a text is refused. */
static void json__cut_texts_are_refused_at_every_length(void **state)
{
    static const char text[] = "{\"a\":[1,2.5,\"x\\u00fc\"],\"b\":{\"c\":true}}";
    struct json_object *o = NULL;
    struct err e;

    (void)state;
    for (size_t len = 0; len < strlen(text); len++) {
        AUTO(mem_free) char *exact = malloc(len + 1); /* + 1: not malloc(0) */

        memcpy(exact + 1, text, len);
        assert_err(json_parse(exact + 1, len, &o, &e), e, ERR_PROTO);
    }
    assert_ok(json_parse("12345", 2, &o, &e), e);
    assert_int_equal(json_object_get_int(o), 12);
    json_object_put(o);
}

static void json__depth_and_size_are_limited(void **state)
{
    static char deep[2 * JSON_MAX_DEPTH + 2];
    struct json_object *o = NULL;
    struct err e;

    (void)state;
    for (int depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
        memset(deep, '[', (size_t)depth);
        memset(deep + depth, ']', (size_t)depth);
        assert_int_equal(json_parse(deep, 2 * (size_t)depth, &o, &e),
                         depth <= JSON_MAX_DEPTH);
        if (depth <= JSON_MAX_DEPTH)
            json_object_put(o);
    }
    assert_err(json_parse("{}", (size_t)JSON_MAX_BYTES + 1, &o, &e), e, ERR_PROTO);
}

static void json__written_reads_back(void **state)
{
    AUTO(json_put) struct json_object *o = json_new();

    (void)state;
    json_add_f(json_add_u64(json_add_str(o, "s", "a\"/b"), "u", UINT64_MAX), "f", 1.5);
    json_add_obj(json_add_bool(o, "b", false), "o", json_add_u64(json_new(), "x", 0));
    json_add_f(json_add_str(o, "null", NULL), "nan", NAN);
    assert_string_equal(
        json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
                                              JSON_C_TO_STRING_NOSLASHESCAPE),
        "{\"s\":\"a\\\"/b\",\"u\":18446744073709551615,\"f\":1.5,\"b\":false,"
        "\"o\":{\"x\":0},\"null\":null,\"nan\":null}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(json__values_of_each_type_are_got),
        TEST(json__missing_or_other_types_are_refused),
        TEST(json__numbers_out_of_range_are_refused),
        TEST(json__a_copy_fits_or_is_refused),
        TEST(json__strings_are_bounded_and_clean),
        TEST(json__one_whole_value_is_wanted),
        TEST(json__cut_texts_are_refused_at_every_length),
        TEST(json__depth_and_size_are_limited),
        TEST(json__written_reads_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
