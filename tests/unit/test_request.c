#include "unit.h"

#include "migrate/request.h"
#include "tests/lib/link-duo.h"

#define ID "1a2b3c4d5e6f70819293a4b5c6d7e8f9"

static void is(struct json_object *reply, const char *key, const char *want)
{
    const char *text;
    struct err e;

    assert_ok(json_get_str(reply, key, &text, &e), e);
    assert_string_equal(text, want);
}

static void request__names_the_move_and_what_it_is_asked(void **state)
{
    struct json_object *reply = NULL, *body;
    struct duo d;
    struct err e;

    (void)state;
    duo_open(&d);
    assert_ok(request_move(d.client, "POST", ID, "ram-limit",
                           json_add_str(json_new(), "a", "b"), LONG_MS, NULL, &reply,
                           &e),
              e);
    is(reply, "method", "POST");
    is(reply, "path", "/moves/" ID "/ram-limit");
    assert_ok(json_get_object(reply, "body", &body, &e), e);
    is(body, "a", "b");
    json_object_put(reply);

    assert_ok(request_move(d.client, "DELETE", ID, "", NULL, LONG_MS, NULL, &reply, &e),
              e);
    is(reply, "method", "DELETE");
    is(reply, "path", "/moves/" ID);
    assert_false(json_has(reply, "body"));
    json_object_put(reply);
    duo_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(request__names_the_move_and_what_it_is_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
