#include "unit.h"

#include "base/random.h"

/* Over twice 256 bytes, and no multiple of it. */
enum { PART = 32, PARTS = 21, GUARD = 0x5a };

static void random__every_part_is_filled(void **state)
{
    uint8_t buf[PARTS * PART + 1] = { 0 };
    static const uint8_t none[PART];
    struct err e;

    (void)state;
    buf[sizeof buf - 1] = GUARD;
    assert_ok(random_bytes(buf, sizeof buf - 1, &e), e);
    for (int i = 0; i < PARTS; i++) {
        assert_memory_not_equal(buf + i * PART, none, PART);
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(buf + i * PART, buf + j * PART, PART);
    }
    assert_int_equal(buf[sizeof buf - 1], GUARD);
}

static void random__few_bytes_are_only_these(void **state)
{
    uint8_t buf[2] = { GUARD, GUARD };
    struct err e;

    (void)state;
    assert_ok(random_bytes(buf, 0, &e), e);
    assert_int_equal(buf[0], GUARD);
    for (int i = 0; i < 100 && buf[0] == GUARD; i++)
        assert_ok(random_bytes(buf, 1, &e), e);
    assert_int_not_equal(buf[0], GUARD);
    assert_int_equal(buf[1], GUARD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(random__every_part_is_filled),
        TEST(random__few_bytes_are_only_these),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
