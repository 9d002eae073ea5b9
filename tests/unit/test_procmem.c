#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/procmem.h"
#include "tunnel/link.h"
#include "tunnel/zratio.h"
#include "unit.h"

enum { SIZE = 333 << 20, PAGE = 4096, BUF = 1 << 20 };

static uint8_t *area;

static int setup(void **state)
{
    (void)state;
    area = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    madvise(area, SIZE, MADV_NOHUGEPAGE);
    return area == MAP_FAILED ? -1 : 0;
}

static size_t pages_there(void)
{
    static unsigned char in[SIZE / PAGE];
    size_t n = 0;

    assert_int_equal(mincore(area, SIZE, in), 0);
    for (size_t i = 0; i < sizeof in; i++)
        n += in[i] & 1;
    return n;
}

static void assert_used(double wanted)
{
    static uint8_t buf[BUF];
    struct procmem p = { .buf = buf, .size = BUF };
    struct err e;

    assert_ok(procmem_look(getpid(), SIZE, &p, &e), e);
    if (fabs(p.used - wanted) > 0.03)
        fail_msg("%g of it is used, not %g", p.used, wanted);
    for (size_t i = 0; i < p.len; i += PAGE)
        assert_int_equal(buf[i + 7], 1);
    assert_true(wanted > 0 ? p.len == BUF : p.len == 0);
}

static void procmem__tells_what_is_used_and_touches_nothing(void **state)
{
    (void)state;
    assert_used(0);
    assert_int_equal(pages_there(), 0);
    for (size_t i = 0; i < SIZE / 4; i += PAGE)
        area[i + 7] = 1;
    assert_used(0.25);
    /* pages of zeroes are not used */
    for (size_t i = SIZE / 4; i < SIZE / 2; i += PAGE)
        area[i] = 0;
    assert_used(0.25);
    assert_true(pages_there() <= SIZE / PAGE / 2 + 1);
}

static void procmem__says_what_it_cannot_see(void **state)
{
    struct procmem p = { 0 };
    struct err e;

    (void)state;
    assert_err(procmem_look(getpid(), UINT64_MAX / 2, &p, &e), e, ERR_SYS);
    assert_err(procmem_look(getpid(), 0, &p, &e), e, ERR_SYS);
    assert_err(procmem_look(0, SIZE, &p, &e), e, ERR_SYS);
}

static void zratio__follows_the_data(void **state)
{
    static uint8_t buf[BUF];

    (void)state;
    assert_true(zratio(buf, BUF, ZSTD_AUTO) > 100);
    assert_true(zratio(buf, BUF, ZSTD_OFF) == 1);
    assert_true(zratio(buf, 0, ZSTD_AUTO) == 1);
    srand(1);
    for (size_t i = 0; i < BUF; i++)
        buf[i] = (uint8_t)(rand() >> 7);
    assert_true(zratio(buf, BUF, ZSTD_AUTO) == 1);
    for (size_t i = 0; i < BUF / 2; i++)
        buf[i] = 'a';
    assert_true(zratio(buf, BUF, 3) > 1.9 && zratio(buf, BUF, 3) < 2.1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(procmem__tells_what_is_used_and_touches_nothing),
        TEST(procmem__says_what_it_cannot_see),
        TEST(zratio__follows_the_data),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
