/* The whole mirror, through libnbd, between two servers in this process that may lie. */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/log.h"
#include "nbd-mirror/mirror.h"
#include "nbd-mirror/survey.h"
#include "tests/lib/nbd-mem.h"

#define SIZE UINT64_C(2000000)

static struct nbd_mem *src, *dst;
static struct cancel *cancel;

static void no_log(enum log_level level, const char *line, void *ctx)
{
    (void)level;
    (void)line;
    (void)ctx;
}

static int setup(void **state)
{
    (void)state;
    log_set_sink(no_log, NULL);
    src = nbd_mem_new(SIZE);
    dst = nbd_mem_new(SIZE);
    cancel = cancel_new();
    for (uint64_t i = 0; i < SIZE; i++)
        src->bytes[i] = i / 100000 % 3 ? (uint8_t)(i * 7 + i / 300) | 1 : 0;
    memset(dst->bytes, 0xa5, SIZE);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    nbd_mem_free(src);
    nbd_mem_free(dst);
    cancel_free(cancel);
    return 0;
}

static bool open_with(uint64_t size, struct mirror **m, struct err *e)
{
    const struct mirror_cfg cfg = {
        .name = "vda", .size = size, .lanes = 4, .cancel = cancel
    };
    const struct mirror_side side = { nbd_mem_dial, dst, "" };

    return mirror_open(&cfg, &side, m, e);
}

static struct mirror *opened(void)
{
    struct mirror *m = NULL;
    struct err e;

    assert_ok(open_with(SIZE, &m, &e), e);
    return m;
}

static bool pass_all(struct mirror *m, struct err *e)
{
    const struct mirror_side side = { nbd_mem_dial, src, "" };
    const struct mirror_pass pass = { .what = MIRROR_ALL };

    return mirror_pass(m, &side, &pass, e);
}

static bool pass_dirty(struct mirror *m, const char *bitmap, bool first, struct err *e)
{
    const struct mirror_side side = { nbd_mem_dial, src, "" };
    const struct mirror_pass pass = { .what = MIRROR_DIRTY,
                                      .bitmap = bitmap,
                                      .dst_zero = true, /* must not matter */
                                      .extents_first = first };

    return mirror_pass(m, &side, &pass, e);
}

static void assert_copied(void)
{
    assert_true(memcmp(src->bytes, dst->bytes, SIZE) == 0);
}

/* --- what works --- */

static void mirror__copies_and_flushes(void **state)
{
    struct mirror *m = opened();
    struct mirror_stats s;
    struct err e;

    (void)state;
    assert_ok(pass_all(m, &e), e);
    assert_copied();
    assert_int_equal(dst->count[NBD_FLUSH], 0);
    assert_ok(mirror_flush(m, &e), e);
    assert_int_equal(dst->count[NBD_FLUSH], 1);
    mirror_stats(m, &s);
    assert_int_equal(s.size, SIZE);
    assert_int_equal(s.pass_done, SIZE);
    assert_int_equal(s.pass_total, SIZE);
    assert_int_equal(s.data + s.zeroed, SIZE);
    assert_int_equal(s.lanes, 4);
    assert_int_equal(dst->count[NBD_READ], 0);
    assert_false(mirror_broken(m));
    mirror_close(m);
}

static void mirror__rounds_copy_what_is_dirty_zeroes_too(void **state)
{
    struct mirror *m = opened();
    struct err e;

    (void)state;
    assert_ok(pass_all(m, &e), e);
    src->dirty = calloc(1, SIZE);
    for (int round = 0; round < 6; round++) {
        const uint64_t at = (uint64_t)round * 200000, zero = at + 50000;

        memset(src->dirty, 0, SIZE);
        memset(src->dirty + at, 1, 70000);
        memset(src->bytes + at, round + 1, 30000);
        memset(src->bytes + zero, 0, 20000);
        assert_ok(pass_dirty(m, "b", round % 2, &e), e);
        assert_copied();
    }
    assert_int_equal(dst->connections, 4); /* kept */
    mirror_close(m);
}

static void mirror__takes_the_size_of_the_destination(void **state)
{
    struct mirror *m = NULL;
    struct mirror_stats s;
    struct err e;

    (void)state;
    assert_ok(open_with(MIRROR_SIZE_DST, &m, &e), e);
    mirror_stats(m, &s);
    assert_int_equal(s.size, SIZE);
    assert_ok(pass_all(m, &e), e);
    mirror_close(m);
}

static void mirror__one_connection_where_one_side_has_one(void **state)
{
    struct mirror *m;
    struct err e;

    (void)state;
    src->no_multi_conn = true;
    m = opened();
    assert_ok(pass_all(m, &e), e);
    assert_int_equal(src->connections, 1);
    assert_copied();
    mirror_close(m);
}

static void mirror__less_capable_servers_will_do(void **state)
{
    struct mirror *m;
    struct err e;

    (void)state;
    src->no_structured = dst->no_structured = true;
    dst->no_zero = dst->no_flush = dst->no_multi_conn = true;
    m = opened();
    assert_ok(pass_all(m, &e), e);
    assert_ok(mirror_flush(m, &e), e);
    assert_int_equal(dst->count[NBD_FLUSH] + dst->count[NBD_ZERO], 0);
    assert_copied();
    mirror_close(m);
}

static void mirror__zeroes_are_written_where_zeroing_is_refused(void **state)
{
    struct mirror *m;
    struct err e;

    (void)state;
    dst->lie = LIE_ERRNO;
    dst->lie_at = NBD_ZERO;
    dst->lie_errno = 95; /* NBD_ENOTSUP */
    m = opened();
    assert_ok(pass_all(m, &e), e);
    assert_copied();
    mirror_close(m);
}

/* --- servers that cannot be what they say --- */

static void open_fails(enum err_kind kind, const char *text)
{
    struct mirror *m = NULL;
    struct err e;

    assert_err(open_with(SIZE, &m, &e), e, kind);
    assert_contains(e.msg, "vda: dst: ");
    assert_contains(e.msg, text);
    assert_null(m);
}

static void mirror__wrong_sizes_are_refused(void **state)
{
    struct mirror *m;
    struct err e;

    (void)state;
    dst->size_told = SIZE + 1;
    open_fails(ERR_PROTO, "the export has 2000001 bytes, not 2000000");
    dst->size_told = UINT64_MAX;
    open_fails(ERR_NBD, "");
    dst->size_told = UINT64_C(1) << 63;
    open_fails(ERR_NBD, "");
    dst->size_told = SIZE;
    m = opened();
    src->size_told = SIZE - 512;
    assert_err(pass_all(m, &e), e, ERR_PROTO);
    assert_string_equal(e.msg, "vda: src: the export has 1999488 bytes, not 2000000");
    src->size_told = SIZE;
    assert_ok(pass_all(m, &e), e);
    mirror_close(m);
}

/* libnbd does not believe them (a minimum is at most 64 KiB), so neither do we. */
static void mirror__senseless_block_sizes_are_not_heeded(void **state)
{
    struct mirror *m;
    struct err e;

    (void)state;
    dst->block[0] = dst->block[1] = 1 << 17;
    dst->block[2] = 1 << 20;
    src->block[0] = 3;
    src->block[1] = src->block[2] = 5;
    m = opened();
    assert_ok(pass_all(m, &e), e);
    assert_copied();
    mirror_close(m);
}

static void mirror__a_source_too_coarse_for_the_requests_is_refused(void **state)
{
    const struct mirror_side side = { nbd_mem_dial, src, "" };
    const struct mirror_cfg cfg = {
        .name = "vda", .size = SIZE, .request_size = 4096, .cancel = cancel
    };
    const struct mirror_side to = { nbd_mem_dial, dst, "" };
    const struct mirror_pass pass = { .what = MIRROR_ALL };
    struct mirror *m = NULL;
    struct err e;

    (void)state;
    src->block[0] = src->block[1] = 65536;
    src->block[2] = 1 << 20;
    assert_ok(mirror_open(&cfg, &to, &m, &e), e);
    assert_err(mirror_pass(m, &side, &pass, &e), e, ERR_NBD);
    assert_contains(e.msg, "blocks of at least 65536 bytes");
    mirror_close(m);
}

static void mirror__a_read_only_destination_is_refused(void **state)
{
    (void)state;
    dst->read_only = true;
    open_fails(ERR_NBD, "cannot write to the export");
}

static void mirror__a_failed_handshake_says_why(void **state)
{
    (void)state;
    dst->lie = LIE_GARBAGE;
    open_fails(ERR_NBD, "NBD handshake");
    dst->lie = LIE_HANG_UP;
    open_fails(ERR_NBD, "NBD handshake");
    dst->lie = LIE_NO_EXPORT;
    open_fails(ERR_NBD, "NBD handshake");
}

static void mirror__senseless_settings_are_refused(void **state)
{
    static const struct mirror_cfg bad[] = {
        { .name = "vda", .lanes = 17 },
        { .name = "vda", .requests = 257 },
        { .name = "vda", .request_size = 2048 },
        { .name = "vda", .request_size = 65537 },
        { .name = "vda", .request_size = 64 << 20 },
    };
    const struct mirror_side side = { nbd_mem_dial, dst, "" };
    struct mirror *m = NULL;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_err(mirror_open(&bad[i], &side, &m, &e), e, ERR_USAGE);
    assert_int_equal(dst->connections, 0);
}

static void mirror__a_missing_bitmap_is_refused(void **state)
{
    struct mirror *m = opened();
    struct err e;

    (void)state;
    src->dirty = calloc(1, SIZE);
    assert_err(pass_dirty(m, "c", false, &e), e, ERR_NBD);
    assert_string_equal(e.msg, "vda: src: the server does not offer the bitmap c");
    mirror_close(m);
}

/* --- what a bitmap marks --- */

static struct mirror_range marked[8];
static unsigned nmarked;

static void on_marked(void *ctx, uint64_t off, uint64_t len)
{
    (void)ctx;
    assert_true(nmarked < 8);
    marked[nmarked++] = (struct mirror_range){ off, len };
}

static bool list_marked(uint64_t size, struct err *e)
{
    const struct mirror_side side = { nbd_mem_dial, src, "" };

    nmarked = 0;
    return survey_marked(&side, "src", "b", size, MIRROR_BLOCK, cancel, on_marked, NULL,
                         e);
}

static void survey__tells_marks_in_whole_blocks(void **state)
{
    const uint64_t block = MIRROR_BLOCK;
    struct err e;

    (void)state;
    src->dirty = calloc(1, SIZE);
    src->dirty[3 * block + 17] = 1;
    memset(src->dirty + 10 * block - 1, 1, (size_t)block + 2);
    assert_ok(list_marked(SIZE, &e), e);
    assert_int_equal(nmarked, 2);
    assert_int_equal(marked[0].off, 3 * block);
    assert_int_equal(marked[0].len, block);
    assert_int_equal(marked[1].off, 9 * block);
    assert_int_equal(marked[1].len, 3 * block);
    src->dirty[SIZE - 1] = 1;
    assert_ok(list_marked(SIZE, &e), e);
    assert_int_equal(nmarked, 3); /* in the rest that is no whole block */
    assert_int_equal(marked[2].off, SIZE - 1);
    assert_int_equal(marked[2].len, 1);

    nmarked = 0; /* a server that has another size is told nothing of */
    assert_err(list_marked(SIZE - 1, &e), e, ERR_PROTO);
    assert_int_equal(nmarked, 0);

    src->lie = LIE_ERRNO;
    src->lie_at = NBD_STATUS;
    src->lie_errno = EIO;
    assert_err(list_marked(SIZE, &e), e, ERR_NBD);
    src->lie = LIE_EXTENT_LONG;
    assert_false(list_marked(SIZE, &e));
    assert_contains(e.msg, "src: block status of ");
}

/* --- servers that break the protocol, or fail, half-way --- */

/* The pass fails with @text; when the server is honest again, the same mirror does it. */
static void source_fails(enum nbd_lie lie, unsigned at, enum err_kind kind,
                         const char *text)
{
    struct mirror *m = opened();
    struct err e;

    src->lie = lie;
    src->lie_at = at;
    atomic_store(&src->count[at], 0);
    assert_err(pass_all(m, &e), e, kind);
    assert_contains(e.msg, "vda: src: ");
    assert_contains(e.msg, text);
    assert_false(mirror_broken(m));

    src->lie = LIE_NONE;
    assert_ok(pass_all(m, &e), e);
    assert_copied();
    mirror_close(m);
}

static void mirror__a_source_that_lies_about_data_is_found_out(void **state)
{
    (void)state;
    src->lie_after = 2;
    source_fails(LIE_SHORT, NBD_READ, ERR_PROTO, "src: read of ");
    source_fails(LIE_OVERRUN, NBD_READ, ERR_NBD, "");
    source_fails(LIE_SIMPLE_MAGIC, NBD_READ, ERR_NBD, "connection lost");
    source_fails(LIE_COOKIE, NBD_READ, ERR_NBD, "");
    source_fails(LIE_CUT, NBD_READ, ERR_NBD, "connection lost");
}

static void mirror__a_source_that_lies_about_extents_is_found_out(void **state)
{
    (void)state;
    source_fails(LIE_CTX_NONE, NBD_STATUS, ERR_PROTO, "no answer for base:allocation");
    source_fails(LIE_CTX_UNKNOWN, NBD_STATUS, ERR_PROTO, "no answer");
    source_fails(LIE_CTX_TWICE, NBD_STATUS, ERR_PROTO, "more than one answer");
    source_fails(LIE_EXTENT_ZERO, NBD_STATUS, ERR_PROTO,
                 "src: block status of 2000000 bytes at 0: base:allocation: "
                 "extent of length 0 at 0");
    source_fails(LIE_EXTENT_LONG, NBD_STATUS, ERR_PROTO,
                 "src: block status of 2000000 bytes at 0: base:allocation: "
                 "extent of 2000001 bytes at 0 reaches past the end of the disk");
    source_fails(LIE_EXTENT_MORE, NBD_STATUS, ERR_PROTO, "behind what was asked");
    source_fails(LIE_EXTENT_ODD, NBD_STATUS, ERR_NBD, "connection lost");
    source_fails(LIE_CUT, NBD_STATUS, ERR_NBD, "connection lost");
}

static void mirror__the_errno_of_the_server_arrives(void **state)
{
    struct mirror *m = opened();
    struct err e;

    (void)state;
    src->lie = LIE_ERRNO;
    src->lie_errno = 1; /* as QEMU 10 says of an inactive node */
    src->lie_at = NBD_STATUS;
    assert_ok(pass_all(m, &e), e); /* all of it is taken for data */
    assert_copied();
    src->dirty = calloc(1, SIZE);
    assert_err(pass_dirty(m, "b", false, &e), e, ERR_NBD);
    assert_int_equal(e.os, EPERM);
    assert_contains(e.msg, "vda: src: block status of 2000000 bytes at 0: ");
    src->lie_errno = 5;
    src->lie_at = NBD_READ;
    assert_err(pass_all(m, &e), e, ERR_NBD);
    assert_int_equal(e.os, EIO);
    assert_contains(e.msg, "vda: src: read of ");
    src->lie = LIE_NONE;
    dst->lie = LIE_ERRNO;
    dst->lie_at = NBD_WRITE;
    dst->lie_errno = 28;
    assert_err(pass_all(m, &e), e, ERR_NBD);
    assert_int_equal(e.os, ENOSPC);
    assert_contains(e.msg, "vda: dst: write of ");
    assert_false(mirror_broken(m));
    dst->lie_at = NBD_FLUSH;
    assert_ok(pass_all(m, &e), e);
    assert_err(mirror_flush(m, &e), e, ERR_NBD);
    assert_string_equal(e.msg, "vda: dst: flush: No space left on device");
    assert_false(mirror_broken(m));
    dst->lie = LIE_NONE;
    assert_ok(mirror_flush(m, &e), e);
    mirror_close(m);
}

static void mirror__a_lost_destination_is_broken_for_good(void **state)
{
    struct mirror *m = opened();
    struct err e;

    (void)state;
    dst->lie = LIE_CUT;
    dst->lie_at = NBD_WRITE;
    dst->lie_after = 1;
    assert_err(pass_all(m, &e), e, ERR_NBD);
    assert_contains(e.msg, "vda: dst: connection lost: ");
    assert_true(mirror_broken(m));
    dst->lie = LIE_NONE;
    assert_err(pass_all(m, &e), e, ERR_NBD);
    assert_string_equal(e.msg, "vda: dst: connection lost before: "
                               "Transport endpoint is not connected");
    assert_err(mirror_flush(m, &e), e, ERR_NBD);
    mirror_close(m);

    m = opened();
    assert_ok(pass_all(m, &e), e);
    assert_copied();
    mirror_close(m);
}

/* --- cancel --- */

struct canceller {
    struct nbd_mem *m;
    unsigned at;
    int64_t at_ms;
};

static void *cancel_when_stuck(void *opaque)
{
    struct canceller *c = opaque;

    while (atomic_load(c->m->lie == LIE_SILENCE ? &c->m->connections
                                                : &c->m->count[c->at]) == 0)
        clock_sleep_ms(1);
    c->at_ms = clock_ms();
    cancel_set(cancel);
    return NULL;
}

/* @call fails with ERR_CANCELLED soon after @m hangs. */
#define CANCELLED(call, e, server, what) \
    do { \
        struct canceller c_ = { server, what, 0 }; \
        pthread_t thread_; \
        pthread_create(&thread_, NULL, cancel_when_stuck, &c_); \
        assert_err(call, e, ERR_CANCELLED); \
        pthread_join(thread_, NULL); \
        if (clock_ms() - c_.at_ms >= 1000) /* 100 ms, on an idle machine */ \
            fail_msg("it took too long"); \
    } while (0)

static void mirror__a_stuck_destination_can_be_cancelled(void **state)
{
    struct mirror *m = opened();
    struct err e;

    (void)state;
    dst->lie = LIE_STUCK;
    dst->lie_at = NBD_WRITE;
    CANCELLED(pass_all(m, &e), e, dst, NBD_WRITE);
    assert_true(mirror_broken(m));
    mirror_close(m);
}

static void mirror__a_stuck_source_can_be_cancelled(void **state)
{
    struct mirror *m = opened();
    struct err e;

    (void)state;
    src->lie = LIE_STUCK;
    src->lie_at = NBD_READ;
    CANCELLED(pass_all(m, &e), e, src, NBD_READ);
    assert_false(mirror_broken(m));
    mirror_close(m);
}

static void mirror__a_stuck_flush_can_be_cancelled(void **state)
{
    struct mirror *m = opened();
    struct err e;

    (void)state;
    dst->lie = LIE_STUCK;
    dst->lie_at = NBD_FLUSH;
    CANCELLED(mirror_flush(m, &e), e, dst, NBD_FLUSH);
    assert_true(mirror_broken(m));
    mirror_close(m);
}

static void mirror__a_silent_server_can_be_cancelled(void **state)
{
    struct mirror *m = NULL;
    struct err e;

    (void)state;
    dst->lie = LIE_SILENCE;
    CANCELLED(open_with(SIZE, &m, &e), e, dst, 0);
}

#define TEST_N(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_N(mirror__copies_and_flushes),
        TEST_N(mirror__rounds_copy_what_is_dirty_zeroes_too),
        TEST_N(mirror__takes_the_size_of_the_destination),
        TEST_N(mirror__one_connection_where_one_side_has_one),
        TEST_N(mirror__less_capable_servers_will_do),
        TEST_N(mirror__zeroes_are_written_where_zeroing_is_refused),
        TEST_N(mirror__wrong_sizes_are_refused),
        TEST_N(mirror__senseless_block_sizes_are_not_heeded),
        TEST_N(mirror__a_source_too_coarse_for_the_requests_is_refused),
        TEST_N(mirror__a_read_only_destination_is_refused),
        TEST_N(mirror__a_failed_handshake_says_why),
        TEST_N(mirror__senseless_settings_are_refused),
        TEST_N(mirror__a_missing_bitmap_is_refused),
        TEST_N(survey__tells_marks_in_whole_blocks),
        TEST_N(mirror__a_source_that_lies_about_data_is_found_out),
        TEST_N(mirror__a_source_that_lies_about_extents_is_found_out),
        TEST_N(mirror__the_errno_of_the_server_arrives),
        TEST_N(mirror__a_lost_destination_is_broken_for_good),
        TEST_N(mirror__a_stuck_destination_can_be_cancelled),
        TEST_N(mirror__a_stuck_source_can_be_cancelled),
        TEST_N(mirror__a_stuck_flush_can_be_cancelled),
        TEST_N(mirror__a_silent_server_can_be_cancelled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
