#include "unit.h"

#include "migrate/blockset.h"

enum { B = 64 * 1024 };
static const uint64_t size = 20 * (uint64_t)B + 512;

static void blockset__gives_back_stretches_and_the_shorter_end(void **state)
{
    struct blockset s;
    uint64_t off, len;

    (void)state;
    assert_true(blockset_init(&s, size));
    assert_false(blockset_next(&s, 0, &off, &len));
    blockset_add(&s, 3 * B, 2 * B);
    blockset_add(&s, 17 * B + 1, B); /* a byte of one, the rest of another */
    blockset_add(&s, 20 * B + 511, 1);
    assert_true(blockset_next(&s, 0, &off, &len));
    assert_int_equal(off, 3 * B);
    assert_int_equal(len, 2 * B);
    assert_true(blockset_next(&s, off + len, &off, &len));
    assert_int_equal(off, 17 * B);
    assert_int_equal(len, 2 * B);
    assert_true(blockset_next(&s, off + len, &off, &len));
    assert_int_equal(off, 20 * B);
    assert_int_equal(len, 512);
    assert_false(blockset_next(&s, off + len, &off, &len));
    assert_int_equal(blockset_bytes(&s), 4 * B + 512);
    blockset_clear(&s);
    assert_int_equal(blockset_bytes(&s), 0);
    blockset_fini(&s);
}

static void blockset__removes_and_intersects(void **state)
{
    struct blockset a, b;
    uint64_t off, len;

    (void)state;
    assert_true(blockset_init(&a, size) && blockset_init(&b, size));
    blockset_add(&a, 0, size);
    assert_int_equal(blockset_bytes(&a), size);
    blockset_remove(&a, 4 * B, 3 * B);
    blockset_remove(&a, 0, 0);
    blockset_add(&b, 2 * B, 4 * B);
    blockset_intersect(&b, &a);
    assert_true(blockset_next(&b, 0, &off, &len));
    assert_int_equal(off, 2 * B);
    assert_int_equal(len, 2 * B);
    assert_false(blockset_next(&b, off + len, &off, &len));
    blockset_fini(&a);
    blockset_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(blockset__gives_back_stretches_and_the_shorter_end),
        TEST(blockset__removes_and_intersects),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
