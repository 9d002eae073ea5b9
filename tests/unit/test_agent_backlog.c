#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>

#include "agent/backlog.h"
#include "base/mem.h"
#include "tests/lib/tmp.h"

static struct backlog *make(size_t memory, uint64_t file)
{
    struct backlog *b = NULL;
    struct err e;

    assert_ok(backlog_new(tmp_dir(), memory, file, &b, &e), e);
    return b;
}

/* Byte number @at of the stream that all tests write. */
static uint8_t byte_at(uint64_t at)
{
    return (uint8_t)(at * 131 + at / 251);
}

static void put(struct backlog *b, uint64_t *at, size_t len)
{
    AUTO(mem_free) uint8_t *buf = malloc(len);
    struct err e;

    for (size_t i = 0; i < len; i++)
        buf[i] = byte_at(*at + i);
    assert_ok(backlog_put(b, buf, len, &e), e);
    *at += len;
}

/* Take up to @len and compare. */
static void take(struct backlog *b, uint64_t *at, size_t len)
{
    while (len > 0 && backlog_len(b) > 0) {
        const uint8_t *p;
        size_t n;
        struct err e;

        assert_ok(backlog_peek(b, &p, &n, &e), e);
        assert_true(n > 0);
        n = n < len ? n : len;
        for (size_t i = 0; i < n; i++)
            if (p[i] != byte_at(*at + i))
                fail_msg("byte %llu is wrong", (unsigned long long)(*at + i));
        backlog_drop(b, n);
        *at += n;
        len -= n;
    }
}

static void backlog__random_traffic_keeps_order(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        AUTO(backlog_free) struct backlog *b = make(1000, 5000);
        uint64_t in = 0, out = 0;
        unsigned r = seed;

        for (int i = 0; i < 3000; i++) {
            const size_t n = (size_t)rand_r(&r) % 1500 + 1;

            if (rand_r(&r) % 2 == 0 && backlog_len(b) + n <= 5000)
                put(b, &in, n);
            else
                take(b, &out, n);
            assert_int_equal(backlog_len(b), in - out);
        }
        take(b, &out, 100000);
        assert_int_equal(in, out);
    }
}

static void backlog__room_is_zero_while_the_file_has_bytes(void **state)
{
    AUTO(backlog_free) struct backlog *b = make(100, 1000);
    uint64_t in = 0, out = 0;

    (void)state;
    assert_int_equal(backlog_room(b), 100);
    put(b, &in, 60);
    assert_int_equal(backlog_room(b), 40);
    put(b, &in, 60); /* 20 of them to the file */
    assert_int_equal(backlog_room(b), 0);
    take(b, &out, 60);
    assert_int_equal(backlog_room(b), 0); /* newer ones must not overtake those 20 */
    take(b, &out, 45);
    assert_int_equal(backlog_room(b), 85);
}

static void backlog__full_file_is_enospc(void **state)
{
    AUTO(backlog_free) struct backlog *b = make(100, 1000);
    uint8_t buf[200] = { 0 };
    uint64_t in = 0;
    struct err e;

    (void)state;
    put(b, &in, 1050);
    assert_err(backlog_put(b, buf, 51, &e), e, ERR_SYS);
    assert_int_equal(e.os, ENOSPC);
}

static void backlog__file_has_no_name_and_goes_with_it(void **state)
{
    struct backlog *b = make(100, 1000);
    uint64_t in = 0;
    int names = 0;

    (void)state;
    put(b, &in, 500);
    DIR *const dir = opendir(tmp_dir());
    for (const struct dirent *d; (d = readdir(dir)) != NULL;)
        names++;
    closedir(dir);
    assert_int_equal(names, 2); /* . and .. */
    backlog_free(b);
}

static void backlog__unwritable_file_is_an_error_not_a_loss(void **state)
{
    AUTO(backlog_free) struct backlog *b = make(100, 1000);
    const struct rlimit none = { 0, RLIM_INFINITY };
    const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
    uint8_t buf[200] = { 0 };
    struct err e;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &none);
    const bool ok = backlog_put(b, buf, sizeof buf, &e);
    setrlimit(RLIMIT_FSIZE, &all);
    assert_false(ok);
    assert_int_equal(e.os, EFBIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_TMP(backlog__random_traffic_keeps_order),
        TEST_TMP(backlog__room_is_zero_while_the_file_has_bytes),
        TEST_TMP(backlog__full_file_is_enospc),
        TEST_TMP(backlog__file_has_no_name_and_goes_with_it),
        TEST_TMP(backlog__unwritable_file_is_an_error_not_a_loss),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
