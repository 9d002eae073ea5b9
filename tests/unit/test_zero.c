#include "unit.h"

#include <stdlib.h>

#include "nbd-mirror/zero.h"

static void zero__one_byte_anywhere_is_found(void **state)
{
    uint8_t buf[300] = { 0 };

    (void)state;
    for (size_t len = 1; len <= sizeof buf; len++) {
        assert_true(zero_is(buf, len));
        for (size_t i = 0; i < len; i++) {
            buf[i] = 0x80;
            assert_false(zero_is(buf, len));
            buf[i] = 0;
        }
        /* What lies behind is not looked at. */
        if (len < sizeof buf) {
            buf[len] = 1;
            assert_true(zero_is(buf, len));
            buf[len] = 0;
        }
    }
}

static void zero__an_odd_start_is_no_matter(void **state)
{
    uint8_t buf[200] = { 0 };

    (void)state;
    buf[199] = 1;
    for (size_t at = 0; at < 64; at++) {
        assert_true(zero_is(buf + at, 199 - at));
        assert_false(zero_is(buf + at, 200 - at));
    }
}

/* @off: where the buffer starts; @cells: a letter for each whole or partial cell, 'd' or
 * 'z'; @want: the lengths of the runs in cells. */
static void runs_are(uint64_t off, size_t len, const char *cells, const char *want)
{
    uint8_t *buf = calloc(1, len), *p = buf;
    uint64_t at = off;

    assert_non_null(buf);
    for (const char *c = cells; *c != '\0'; c++) {
        uint64_t end = (at / ZERO_CELL + 1) * ZERO_CELL;

        end = end < off + len ? end : off + len;
        if (*c == 'd')
            buf[end - 1 - off] = 1; /* its last byte */
        at = end;
    }
    assert_int_equal(at, off + len);

    at = off;
    for (; *want != '\0'; want++) {
        bool zero;
        uint64_t end = at;
        const size_t n = zero_run(p, at, off + len - at, &zero);

        for (int i = 0; i < *want - '0'; i++)
            end = (end / ZERO_CELL + 1) * ZERO_CELL;
        end = end < off + len ? end : off + len;
        assert_int_equal(n, end - at);
        assert_int_equal(zero, *cells == 'z');
        cells += *want - '0';
        p += n;
        at += n;
    }
    assert_int_equal(at, off + len);
    free(buf);
}

static void zero__runs_are_told_apart_by_cell(void **state)
{
    enum { C = ZERO_CELL };

    (void)state;
    runs_are(0, 4 * C, "dddd", "4");
    runs_are(0, 4 * C, "zzzz", "4");
    runs_are(0, 4 * C, "zdzd", "1111");
    runs_are(8 * C, 4 * C, "dzzd", "121");
}

static void zero__cells_lie_where_the_disk_has_them(void **state)
{
    enum { C = ZERO_CELL };

    (void)state;
    runs_are(C - 1, 2, "dd", "2");
    runs_are(C - 1, 2, "zd", "11");
    runs_are(C - 512, C + 1024, "zdz", "111");
    runs_are(C + 512, 3 * C, "ddzz", "22");
    runs_are(5, 1, "z", "1");
    runs_are(UINT64_C(1) << 40, 512, "d", "1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(zero__one_byte_anywhere_is_found),
        TEST(zero__an_odd_start_is_no_matter),
        TEST(zero__runs_are_told_apart_by_cell),
        TEST(zero__cells_lie_where_the_disk_has_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
