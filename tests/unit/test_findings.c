/* What preflight found, across hosts. */
#include "base/findings.h"

#include <stdio.h>

#include "base/mem.h"
#include "unit.h"

static struct err e;

static struct json_object *parse(const char *text)
{
    struct json_object *o = NULL;

    assert_ok(json_parse(text, strlen(text), &o, &e), e);
    return o;
}

static void findings__blockers_are_counted_without_warnings(void **state)
{
    AUTO(findings_fini) struct findings f = { 0 };

    (void)state;
    assert_int_equal(findings_blockers(&f), 0);
    findings_add(&f, FINDING_WARNING, "w", NULL, "a warning");
    findings_add(&f, FINDING_BLOCKER, "b", "Do this.", "disk %s has %d", "vda", 7);
    findings_add(&f, FINDING_BLOCKER, "b", NULL, "another");
    assert_int_equal(f.n, 3);
    assert_int_equal(findings_blockers(&f), 2);
    assert_string_equal(f.list[1].what, "disk vda has 7");
    assert_string_equal(f.list[1].next, "Do this.");
    assert_string_equal(f.list[2].next, "");
}

static void findings__round_trip_keeps_all(void **state)
{
    AUTO(findings_fini) struct findings from = { 0 };
    AUTO(findings_fini) struct findings to = { 0 };
    AUTO(json_put) struct json_object *o = NULL;

    (void)state;
    findings_add(&from, FINDING_BLOCKER, "no-space", "Make room.",
                 "100%% \"full\" <&> ü");
    findings_add(&from, FINDING_WARNING, "transient", NULL, "second");
    findings_add(&to, FINDING_WARNING, "own", NULL, "was there before");
    o = findings_to_json(&from);
    assert_ok(findings_from_json(&to, o, &e), e);
    assert_int_equal(to.n, 3);
    assert_string_equal(to.list[0].code, "own");
    assert_memory_equal(&to.list[1], &from.list[0], 2 * sizeof to.list[0]);
}

static void findings__over_long_texts_are_cut(void **state)
{
    AUTO(findings_fini) struct findings f = { 0 };
    char text[2000];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    findings_add(&f, FINDING_BLOCKER, text, text, "%s", text);
    assert_int_equal(strlen(f.list[0].code), sizeof f.list[0].code - 1);
    assert_int_equal(strlen(f.list[0].what), sizeof f.list[0].what - 1);
    assert_int_equal(strlen(f.list[0].next), sizeof f.list[0].next - 1);
}

static void findings__control_characters_do_not_travel(void **state)
{
    AUTO(findings_fini) struct findings from = { 0 };
    AUTO(findings_fini) struct findings to = { 0 };
    AUTO(json_put) struct json_object *o = NULL;

    (void)state;
    findings_add(&from, FINDING_BLOCKER, "name", NULL, "a domain named \x1b[2J");
    o = findings_to_json(&from);
    assert_ok(findings_from_json(&to, o, &e), e);
    assert_null(strchr(to.list[0].what, '\x1b'));
}

static void findings__malformed_lists_are_refused(void **state)
{
    static const char *const texts[] = {
        "{}",
        "[7]",
        "[[]]",
        "[{}]",
        "[{\"level\":\"blocker\",\"code\":\"c\",\"what\":\"w\"}]",
        "[{\"level\":\"blocker\",\"code\":\"c\",\"what\":7,\"next\":\"\"}]",
        "[{\"level\":\"fatal\",\"code\":\"c\",\"what\":\"w\",\"next\":\"\"}]",
        "[{\"level\":\"blocker\",\"code\":\"c\",\"what\":\"\\u001b\",\"next\":\"\"}]",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        AUTO(findings_fini) struct findings f = { 0 };
        AUTO(json_put) struct json_object *o = parse(texts[i]);
        assert_err(findings_from_json(&f, o, &e), e, ERR_PROTO);
        assert_int_equal(f.n, 0);
    }
}

static void findings__flood_is_refused(void **state)
{
    AUTO(findings_fini) struct findings f = { 0 };
    AUTO(json_put) struct json_object *o = json_object_new_array();

    (void)state;
    for (int i = 0; i < 5000; i++)
        json_object_array_add(o, json_new());
    assert_err(findings_from_json(&f, o, &e), e, ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(findings__blockers_are_counted_without_warnings),
        TEST(findings__round_trip_keeps_all),
        TEST(findings__over_long_texts_are_cut),
        TEST(findings__control_characters_do_not_travel),
        TEST(findings__malformed_lists_are_refused),
        TEST(findings__flood_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
