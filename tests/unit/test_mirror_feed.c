#include "unit.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "nbd-mirror/counters.h"
#include "nbd-mirror/feed.h"
#include "nbd-mirror/mirror.h"

#define MIB UINT64_C(1048576)
#define GIB (1024 * MIB)

static const uint32_t Z = EXTENTS_STATE_ZERO, D = EXTENTS_STATE_DIRTY;

static struct feed feed;
static struct counters counters;
static int wake_fd[2];
static int later_ms;

static void start(struct feed_cfg cfg)
{
    struct err e;

    cfg.counters = &counters;
    if (cfg.rule.align == 0)
        cfg.rule.align = 1;
    if (cfg.data_max == 0)
        cfg.data_max = MIB;
    assert_ok(feed_init(&feed, &cfg, wake_fd, 2, &e), e);
}

static int setup(void **state)
{
    (void)state;
    memset(&counters, 0, sizeof counters);
    for (int i = 0; i < 2; i++)
        wake_fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    feed_fini(&feed);
    close(wake_fd[0]);
    close(wake_fd[1]);
    return 0;
}

static bool woken(int lane)
{
    struct pollfd p = { .fd = wake_fd[lane], .events = POLLIN };

    return poll(&p, 1, 0) == 1;
}

static void take_is(uint64_t off, uint64_t len, enum piece_kind kind)
{
    struct piece p;

    assert_int_equal(feed_take(&feed, 0, 0, &p, &later_ms), FEED_PIECE);
    assert_int_equal(p.off, off);
    assert_int_equal(p.len, len);
    assert_int_equal(p.kind, kind);
}

static void take_gives(enum feed_next next)
{
    struct piece p;

    assert_int_equal(feed_take(&feed, 0, 0, &p, &later_ms), next);
}

/* A question is put for these bytes. */
static struct extents *ask_is(uint64_t off, uint64_t len)
{
    struct extents *x = feed_ask(&feed);

    assert_non_null(x);
    assert_int_equal(x->off, off);
    assert_int_equal(x->len, len);
    return x;
}

/* Answer one context of it with one extent for all that was asked. */
static void record_all(struct extents *x, enum extents_ctx ctx, uint32_t flags)
{
    const uint32_t pair[2] = { (uint32_t)x->len, flags };

    extents_record(x, ctx, pair, 1);
}

static void tell(void)
{
    struct err e;

    assert_ok(feed_tell(&feed, &e), e);
}

static void feed__without_contexts_all_is_data(void **state)
{
    (void)state;
    start((struct feed_cfg){ .rule.size = 2 * MIB + 512 });
    assert_null(feed_ask(&feed));
    take_is(0, MIB, PIECE_DATA);
    take_is(MIB, MIB, PIECE_DATA);
    take_is(2 * MIB, 512, PIECE_DATA);
    take_gives(FEED_END);
    assert_int_equal(counter_get(&counters.pass_total), 2 * MIB + 512);
}

static void large_is(uint64_t off, uint64_t len, enum piece_kind kind)
{
    struct piece p;

    assert_int_equal(feed_take(&feed, 0, 4 * MIB, &p, &later_ms), FEED_PIECE);
    assert_int_equal(p.off, off);
    assert_int_equal(p.len, len);
    assert_int_equal(p.kind, kind);
}

static void feed__a_large_piece_is_data_that_follows_each_other(void **state)
{
    (void)state;
    start((struct feed_cfg){ .rule = { .use = { true }, .size = 64 * MIB } });
    struct extents *x = ask_is(0, 64 * MIB);
    const uint32_t pairs[] = {
        3 * MIB, 0, 6 * MIB, Z, 11 * MIB / 2, 0, 99 * MIB / 2, Z
    };
    extents_record(x, EXTENTS_ALLOC, pairs, 4);
    tell();
    large_is(0, MIB, PIECE_DATA); /* three are too few */
    large_is(MIB, MIB, PIECE_DATA);
    large_is(2 * MIB, MIB, PIECE_DATA);
    large_is(3 * MIB, 6 * MIB, PIECE_ZERO);
    large_is(9 * MIB, 4 * MIB, PIECE_DATA);
    large_is(13 * MIB, MIB, PIECE_DATA); /* one and a half are left */
    large_is(14 * MIB, MIB / 2, PIECE_DATA);
    large_is(29 * MIB / 2, 99 * MIB / 2, PIECE_ZERO);
}

static void feed__an_empty_disk_ends_at_once(void **state)
{
    (void)state;
    start((struct feed_cfg){ .rule = { .use = { true, true }, .size = 0 } });
    assert_null(feed_ask(&feed));
    take_gives(FEED_END);
}

static void feed__what_is_no_whole_block_is_data_without_asking(void **state)
{
    (void)state;
    start((struct feed_cfg){
        .rule = { .use = { true, true }, .align = 4096, .size = 2 * 4096 + 512 } });
    assert_int_equal(counter_get(&counters.pass_total), 512);
    take_is(2 * 4096, 512, PIECE_DATA);
    struct extents *x = ask_is(0, 2 * 4096);
    record_all(x, EXTENTS_ALLOC, 0);
    record_all(x, EXTENTS_DIRTY, D);
    tell();
    take_is(0, 2 * 4096, PIECE_DATA);
    take_gives(FEED_END);
}

static void feed__asks_ahead_by_one_answer(void **state)
{
    const uint64_t w = FEED_WINDOW_MIN;

    (void)state;
    start((struct feed_cfg){ .rule = { .use = { true }, .size = 100 * GIB } });
    take_gives(FEED_WAIT);
    record_all(ask_is(0, w), EXTENTS_ALLOC, 0);
    assert_null(feed_ask(&feed)); /* one at a time */
    take_gives(FEED_WAIT);
    tell();
    assert_null(feed_ask(&feed)); /* it lies ready */
    take_is(0, MIB, PIECE_DATA);
    record_all(ask_is(w, 2 * w), EXTENTS_ALLOC, Z); /* while the first is handed out */
    for (uint64_t off = MIB; off < w; off += MIB)
        take_is(off, MIB, PIECE_DATA);
    take_gives(FEED_WAIT);
    tell();
    take_is(w, 2 * w, PIECE_ZERO);
}

static void feed__zeroes_are_cut_to_what_one_request_may_zero(void **state)
{
    enum feed_next next;
    struct piece p;
    uint64_t at = 0;

    (void)state;
    start((struct feed_cfg){ .rule = { .use = { true }, .size = 9 * GIB } });
    while ((next = feed_take(&feed, 0, 0, &p, &later_ms)) != FEED_END) {
        if (next == FEED_WAIT) {
            struct extents *const x = feed_ask(&feed);

            assert_non_null(x);
            record_all(x, EXTENTS_ALLOC, Z);
            tell();
            continue;
        }
        assert_int_equal(next, FEED_PIECE);
        assert_int_equal(p.kind, PIECE_ZERO);
        assert_int_equal(p.off, at);
        assert_true(p.len > 0 && p.len <= FEED_ZERO_MAX);
        assert_int_equal(at / FEED_ZERO_MAX, (at + p.len - 1) / FEED_ZERO_MAX);
        at += p.len;
    }
    assert_int_equal(at, 9 * GIB);
}

static void feed__questions_grow_up_to_32_bits(void **state)
{
    uint64_t at = 0;
    struct extents *x;

    (void)state;
    start((struct feed_cfg){
        .rule = { .use = { true }, .skip_zero = true, .size = 20 * GIB } });
    while ((x = feed_ask(&feed)) != NULL) {
        assert_int_equal(x->off, at);
        assert_true(x->len <= FEED_WINDOW_MAX);
        at += x->len;
        record_all(x, EXTENTS_ALLOC, Z);
        tell();
        take_gives(at == 20 * GIB ? FEED_END : FEED_WAIT);
    }
    assert_int_equal(at, 20 * GIB);
    assert_int_equal(feed.window, FEED_WINDOW_MAX);
    assert_int_equal(counter_get(&counters.skipped), 20 * GIB);
    assert_int_equal(counter_get(&counters.pass_done), 20 * GIB);
}

static void feed__asks_again_behind_a_short_answer(void **state)
{
    const uint32_t pair[2] = { 4096, 0 };

    (void)state;
    start((struct feed_cfg){ .rule = { .use = { true }, .size = GIB } });
    extents_record(ask_is(0, FEED_WINDOW_MIN), EXTENTS_ALLOC, pair, 1);
    tell();
    take_is(0, 4096, PIECE_DATA);
    ask_is(4096, 2 * FEED_WINDOW_MIN);
}

static void feed__waiting_lanes_are_woken_once(void **state)
{
    struct piece p;

    (void)state;
    start((struct feed_cfg){ .rule = { .use = { true }, .size = GIB } });
    assert_int_equal(feed_take(&feed, 1, 0, &p, &later_ms), FEED_WAIT);
    record_all(ask_is(0, FEED_WINDOW_MIN), EXTENTS_ALLOC, 0);
    assert_false(woken(0) || woken(1));
    tell();
    assert_true(woken(1));
    assert_false(woken(0)); /* it never waited */
}

static void feed__a_dirty_total_is_counted_as_it_is_known(void **state)
{
    const uint32_t dirty[] = { 4096, D, (uint32_t)FEED_WINDOW_MIN - 4096, 0 };
    struct extents *x;

    (void)state;
    start((struct feed_cfg){ .rule = { .use = { true, true }, .size = GIB } });
    assert_int_equal(counter_get(&counters.pass_total), 0);
    x = ask_is(0, FEED_WINDOW_MIN);
    record_all(x, EXTENTS_ALLOC, Z);
    extents_record(x, EXTENTS_DIRTY, dirty, 2);
    tell();
    assert_int_equal(counter_get(&counters.pass_total), 4096);
    take_is(0, 4096, PIECE_ZERO);
    take_gives(FEED_WAIT);
    assert_int_equal(counter_get(&counters.skipped), 0); /* clean is not zero */
}

static void feed__whole_list_is_had_before_the_first_piece(void **state)
{
    struct extents *x;

    (void)state;
    start((struct feed_cfg){ .rule = { .use = { false, true }, .size = 3 * GIB },
                             .whole_list = true });
    /* Neighbours in two answers become one stretch of the list. */
    while ((x = feed_ask(&feed)) != NULL) {
        take_gives(FEED_WAIT);
        record_all(x, EXTENTS_DIRTY, x->off < 2 * FEED_WINDOW_MIN ? D : 0);
        tell();
    }
    assert_int_equal(feed.nitems, 1);
    for (uint64_t off = 0; off < 3 * FEED_WINDOW_MIN; off += MIB)
        take_is(off, MIB, PIECE_DATA);
    take_gives(FEED_END);
}

static void feed__given_ranges_are_data_and_nothing_is_asked(void **state)
{
    const struct mirror_range ranges[] = { { 65536, 2 * MIB },
                                           { 8 * MIB, 0 },
                                           { 16 * MIB, 4097 } };

    (void)state;
    start((struct feed_cfg){ .rule = { .size = 16 * MIB + 4097, .align = 4096 },
                             .whole_list = true,
                             .ranges = ranges,
                             .nranges = 3 });
    assert_null(feed_ask(&feed));
    assert_int_equal(counter_get(&counters.pass_total), 2 * MIB + 4097);
    take_is(65536, MIB - 65536, PIECE_DATA);
    take_is(MIB, MIB, PIECE_DATA);
    take_is(2 * MIB, 65536, PIECE_DATA);
    take_is(16 * MIB, 4097, PIECE_DATA);
    take_gives(FEED_END);
}

static void feed__a_rate_limit_delays_data_but_not_zeroes(void **state)
{
    const uint32_t pairs[] = { MIB, 0, MIB, Z, 2 * MIB, 0 };

    (void)state;
    start((struct feed_cfg){ .rule = { .use = { true }, .size = 4 * MIB },
                             .rate = 1000 });
    extents_record(ask_is(0, 4 * MIB), EXTENTS_ALLOC, pairs, 3);
    tell();
    take_gives(FEED_LATER); /* nothing has been saved up */
    assert_true(later_ms >= 1);
    feed.rate.tokens = 1;
    later_ms = -1;
    take_is(0, MIB, PIECE_DATA);
    assert_int_equal(later_ms, -1); /* set with FEED_LATER only */
    take_is(MIB, MIB, PIECE_ZERO);
    take_gives(FEED_LATER);
    assert_int_equal(later_ms, 1000); /* of the 1048 s that are owed */
}

static void feed__a_list_too_long_is_an_error(void **state)
{
    static uint32_t pairs[2 * EXTENTS_MAX];
    struct extents *x;
    struct err e;
    bool ok = true;

    (void)state;
    for (int i = 0; i < EXTENTS_MAX; i++) {
        pairs[2 * i] = 512;
        pairs[2 * i + 1] = i % 2 ? D : 0;
    }
    start((struct feed_cfg){ .rule = { .use = { false, true }, .size = 4 * GIB },
                             .whole_list = true });
    for (int i = 0; ok && (x = feed_ask(&feed)) != NULL; i++) {
        extents_record(x, EXTENTS_DIRTY, pairs,
                       x->len / 512 < EXTENTS_MAX ? x->len / 512 : EXTENTS_MAX);
        ok = feed_tell(&feed, &e);
    }
    assert_false(ok);
    assert_contains(e.msg, "more than 2097152 stretches");
}

static void feed__a_lie_names_the_question(void **state)
{
    const uint32_t pair[2] = { 0, 0 };
    struct err e;

    (void)state;
    start((struct feed_cfg){ .rule = { .use = { true }, .size = MIB } });
    extents_record(ask_is(0, MIB), EXTENTS_ALLOC, pair, 1);
    assert_err(feed_tell(&feed, &e), e, ERR_PROTO);
    assert_string_equal(e.msg,
                        "src: block status of 1048576 bytes at 0: base:allocation: "
                        "extent of length 0 at 0");
}

#define TEST_F(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_F(feed__without_contexts_all_is_data),
        TEST_F(feed__a_large_piece_is_data_that_follows_each_other),
        TEST_F(feed__an_empty_disk_ends_at_once),
        TEST_F(feed__what_is_no_whole_block_is_data_without_asking),
        TEST_F(feed__asks_ahead_by_one_answer),
        TEST_F(feed__zeroes_are_cut_to_what_one_request_may_zero),
        TEST_F(feed__questions_grow_up_to_32_bits),
        TEST_F(feed__asks_again_behind_a_short_answer),
        TEST_F(feed__waiting_lanes_are_woken_once),
        TEST_F(feed__a_dirty_total_is_counted_as_it_is_known),
        TEST_F(feed__whole_list_is_had_before_the_first_piece),
        TEST_F(feed__given_ranges_are_data_and_nothing_is_asked),
        TEST_F(feed__a_rate_limit_delays_data_but_not_zeroes),
        TEST_F(feed__a_list_too_long_is_an_error),
        TEST_F(feed__a_lie_names_the_question),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
