/* The lanes between two disks in memory: whatever the order, the answers and the failures
 * are, the destination is right or the pass says that it failed. */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "nbd-mirror/counters.h"
#include "nbd-mirror/feed.h"
#include "nbd-mirror/frontier.h"
#include "nbd-mirror/lane.h"
#include "tests/lib/disk-mem.h"

enum { LANES = 3, SLOTS = 4, REQUEST = 128 * 1024, LARGE = 4 * REQUEST, DIRT = 0xa5 };

/* One move: two disks, the lanes between them. */
struct move {
    struct mem_disk *src, *dst;
    struct lane lane[LANES];
    unsigned nlanes;
    struct counters counters;
    struct cancel *cancel;
    struct feed_cfg cfg;
};

static unsigned rng;

static unsigned draw(unsigned below)
{
    rng = rng * 1103515245 + 12345;
    return (rng >> 16) % below;
}

/* Fill the source with stretches of data and zeroes, and the maps with what a server may
 * say: zero only where it is, dirty anywhere. */
static void fill(struct mem_disk *m, bool alloc, bool dirty)
{
    if (alloc)
        m->zero = calloc(1, m->size + 1);
    if (dirty)
        m->dirty = calloc(1, m->size + 1);
    for (uint64_t i = 0, n; i < m->size; i += n) {
        const unsigned what = draw(3); /* data, zeroes in a hole, zeroes as data */

        n = 1 + draw(draw(2) ? 2000 : 300000);
        n = n < m->size - i ? n : m->size - i;
        if (what == 0)
            for (uint64_t j = i; j < i + n; j += 1 + draw(900))
                m->bytes[j] = (uint8_t)(1 + draw(255));
        if (what == 1 && alloc)
            memset(m->zero + i, 1, n);
        if (dirty && draw(2))
            memset(m->dirty + i, 1, n);
    }
}

/* The first one makes a large piece, where servers and disk allow it; the last one may
 * have less in flight than it has slots. */
static void move_lanes(struct move *m, unsigned n)
{
    struct err e;

    for (m->nlanes = 0; m->nlanes < n; m->nlanes++) {
        const struct lane_cfg cfg = {
            .nslots = SLOTS,
            .request_size = REQUEST,
            .bytes_max = m->nlanes < LANES - 1 ? SLOTS * REQUEST : REQUEST,
            .large_size = m->nlanes == 0 && m->dst->block_max >= LARGE ? LARGE : 0,
        };

        assert_ok(lane_init(&m->lane[m->nlanes], m->nlanes, mem_connect(m->dst, "dst"),
                            &cfg, &e),
                  e);
    }
}

static void move_make(struct move *m, uint64_t size, unsigned seed)
{
    rng = seed;
    *m = (struct move){ .src = mem_disk_new(size, seed),
                        .dst = mem_disk_new(size, seed + 1000),
                        .cancel = cancel_new() };
}

static void move_free(struct move *m)
{
    for (unsigned i = 0; i < m->nlanes; i++)
        lane_fini(&m->lane[i]);
    mem_disk_free(m->src);
    mem_disk_free(m->dst);
    cancel_free(m->cancel);
}

static void move_rule(struct move *m)
{
    const uint32_t align =
        m->src->block_min > m->dst->block_min ? m->src->block_min : m->dst->block_min;

    m->cfg.rule.use[EXTENTS_ALLOC] = m->src->zero != NULL;
    m->cfg.rule.use[EXTENTS_DIRTY] = m->src->dirty != NULL;
    m->cfg.rule.align = align;
    m->cfg.rule.size = m->src->size;
}

static bool move_pass(struct move *m, struct err *e)
{
    int wake_fd[LANES];
    struct feed feed;

    move_rule(m);
    m->cfg.data_max = REQUEST;
    m->cfg.counters = &m->counters;
    for (unsigned i = 0; i < m->nlanes; i++) {
        m->lane[i].src = mem_connect(m->src, "src");
        wake_fd[i] = m->lane[i].wake_fd;
    }
    assert_ok(feed_init(&feed, &m->cfg, wake_fd, m->nlanes, e), *e);
    const bool ok = lanes_run(m->lane, m->nlanes, &feed, m->cfg.rule.skip_zero,
                              m->cancel, &m->counters, e);
    feed_fini(&feed);
    for (unsigned i = 0; i < m->nlanes; i++) {
        assert_null(m->lane[i].src);
        assert_true(m->lane[i].dst == NULL || m->lane[i].dst->in_flight == 0);
    }
    assert_int_equal(atomic_load(&m->src->connections), 0);
    return ok;
}

static bool broken(const struct move *m)
{
    for (unsigned i = 0; i < m->nlanes; i++)
        if (lane_broken(&m->lane[i]))
            return true;
    return false;
}

static void assert_copied(const struct move *m)
{
    if (memcmp(m->src->bytes, m->dst->bytes, m->src->size) == 0)
        return;
    for (uint64_t i = 0; i < m->src->size; i++)
        if (m->src->bytes[i] != m->dst->bytes[i])
            fail_msg("byte %llu is %02x, not %02x", (unsigned long long)i,
                     m->dst->bytes[i], m->src->bytes[i]);
}

static uint64_t any_size(void)
{
    switch (draw(4)) {
    case 0:
        return 1 + draw(600);
    case 1:
        return 65536u << draw(5);
    default:
        return 1 + draw(2000) * 1000 + draw(1000);
    }
}

/* --- copying --- */

static void lane__any_disk_is_copied(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 120; seed++) {
        struct move m;
        struct err e;

        rng = seed;
        move_make(&m, any_size(), seed);
        fill(m.src, seed % 4 != 0, false);
        m.dst->no_zero = seed % 5 == 0;
        m.src->block_min = 1u << draw(13);
        m.dst->block_min = 1u << draw(17);
        m.dst->block_max = REQUEST;
        m.src->pairs_max = seed % 3 ? 0 : 100;
        m.cfg.whole_list = seed % 2;
        m.cfg.rule.skip_zero = seed / 2 % 2;
        memset(m.dst->bytes, m.cfg.rule.skip_zero ? 0 : DIRT, m.dst->size);
        move_lanes(&m, 1 + draw(LANES));
        if (!move_pass(&m, &e))
            fail_msg("seed %u: %s", seed, e.msg);
        assert_copied(&m);
        assert_int_equal(counter_get(&m.counters.pass_done), m.src->size);
        assert_int_equal(counter_get(&m.counters.data) +
                             counter_get(&m.counters.zeroed) +
                             counter_get(&m.counters.skipped),
                         m.src->size);
        move_free(&m);
    }
}

/* Once, by one lane, when there is so much data, and when the source takes it. */
static void lane__the_large_piece_is_made_once(void **state)
{
    struct move m;
    struct err e;

    (void)state;
    move_make(&m, 10 * REQUEST, 7);
    memset(m.src->bytes, 1, m.src->size);
    m.src->block_max = LARGE / 2;
    move_lanes(&m, 1);
    assert_ok(move_pass(&m, &e), e);
    assert_int_equal(m.src->count[DISK_READ], 10);
    m.src->block_max = LARGE;
    memset(m.dst->bytes, DIRT, m.dst->size);
    assert_ok(move_pass(&m, &e), e);
    assert_copied(&m);
    assert_int_equal(m.src->count[DISK_READ], 10 + 1 + 6);
    assert_int_equal(m.dst->count[DISK_WRITE], 10 + 1 + 6);
    assert_ok(move_pass(&m, &e), e);
    assert_int_equal(m.src->count[DISK_READ], 10 + 7 + 10);
    move_free(&m);
}

/* What is clean is left alone, but where blocks have more than one byte: then what it
 * shares a block with, or too short an answer, may make it be copied. */
static void assert_dirty_copied(const struct move *m, uint8_t clean)
{
    for (uint64_t i = 0; i < m->src->size; i++)
        if (m->src->dirty[i])
            assert_int_equal(m->dst->bytes[i], m->src->bytes[i]);
        else if (m->cfg.rule.align == 1 || m->dst->bytes[i] != m->src->bytes[i])
            assert_int_equal(m->dst->bytes[i], clean);
}

static void lane__only_what_is_dirty_is_copied(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 80; seed++) {
        struct move m;
        struct err e;

        rng = seed;
        move_make(&m, any_size(), seed);
        fill(m.src, seed % 3 != 0, true);
        m.src->block_min = seed % 2 ? 1 : 1u << draw(10);
        m.cfg.whole_list = seed / 2 % 2;
        memset(m.dst->bytes, DIRT, m.dst->size);
        move_lanes(&m, 1 + draw(LANES));
        if (!move_pass(&m, &e))
            fail_msg("seed %u: %s", seed, e.msg);
        assert_dirty_copied(&m, DIRT);
        assert_int_equal(counter_get(&m.counters.pass_done),
                         counter_get(&m.counters.pass_total));
        move_free(&m);
    }
}

static void lane__zeroes_in_data_are_not_written(void **state)
{
    struct move m;
    struct err e;

    (void)state;
    move_make(&m, 1 << 20, 1);
    m.src->bytes[300000] = 1; /* in one cell of 64 KiB of one request */
    m.cfg.rule.skip_zero = true;
    move_lanes(&m, 2);
    assert_ok(move_pass(&m, &e), e);
    assert_copied(&m);
    assert_int_equal(counter_get(&m.counters.data), 65536);
    assert_int_equal(counter_get(&m.counters.skipped), (1 << 20) - 65536);
    assert_int_equal(m.dst->count[DISK_WRITE], 1);
    assert_int_equal(m.dst->count[DISK_ZERO], 0);
    move_free(&m);
}

static void lane__several_passes_use_the_same_lanes(void **state)
{
    struct move m;
    struct err e;

    (void)state;
    move_make(&m, 3000001, 7);
    fill(m.src, true, true);
    memset(m.src->dirty, 1, m.src->size);
    move_lanes(&m, LANES);
    for (int i = 0; i < 5; i++) {
        memset(m.dst->bytes, DIRT, m.dst->size);
        assert_ok(move_pass(&m, &e), e);
        assert_copied(&m);
    }
    move_free(&m);
}

/* --- zeroing refused --- */

static void refused_zero_is_written(int os, unsigned zeroes_tried_max)
{
    struct move m;
    struct err e;

    move_make(&m, 5000000, 3);
    fill(m.src, true, false);
    memset(m.dst->bytes, DIRT, m.dst->size);
    m.dst->fault = MEM_FAIL_ALL;
    m.dst->fault_op = DISK_ZERO;
    m.dst->fault_os = os;
    move_lanes(&m, 1);
    assert_ok(move_pass(&m, &e), e);
    assert_copied(&m);
    assert_in_range(m.dst->count[DISK_ZERO], 1, zeroes_tried_max);
    move_free(&m);
}

static void lane__zeroes_are_written_where_zeroing_is_not_supported(void **state)
{
    (void)state;
    refused_zero_is_written(ENOTSUP, SLOTS); /* not tried again */
    refused_zero_is_written(EOPNOTSUPP, SLOTS);
    refused_zero_is_written(EINVAL, 1000); /* each request may be another matter */
}

/* --- broken off and gone on with --- */

/* One pass from ->start on, with flushes. */
static bool move_pass_safely(struct move *m, uint64_t start, struct err *e)
{
    struct frontier f;

    move_rule(m);
    m->cfg.start = start - start % m->cfg.rule.align;
    assert_ok(frontier_init(&f, m->cfg.start, feed_tail(&m->cfg), REQUEST / 4,
                            LANES * SLOTS, clock_ms(), e),
              *e);
    counter_set(&m->counters.safe, m->cfg.start);
    m->cfg.frontier = &f;
    const bool ok = move_pass(m, e);
    m->cfg.frontier = NULL;
    frontier_fini(&f);
    return ok;
}

static void move_lanes_anew(struct move *m)
{
    const unsigned n = m->nlanes;

    for (unsigned i = 0; i < n; i++)
        lane_fini(&m->lane[i]);
    m->dst->fault = MEM_NO_FAULT;
    move_lanes(m, n);
}

/* The destination loses what was not flushed, and the next pass has only what was said to
 * be safe to go on from. */
static void lane__broken_pass_goes_on_where_it_was_safe(void **state)
{
    unsigned later = 0;

    (void)state;
    for (unsigned seed = 0; seed < 60; seed++) {
        struct move m;
        struct err e;

        rng = seed;
        move_make(&m, 6000000 + draw(6000000), seed);
        fill(m.src, seed % 4 != 0, false);
        m.src->block_min = 1u << draw(13);
        m.dst->block_min = 1u << draw(13);
        m.cfg.rule.skip_zero = seed % 2;
        memset(m.dst->bytes, m.cfg.rule.skip_zero ? 0 : DIRT, m.dst->size);
        m.dst->fault = MEM_DIE;
        m.dst->fault_op = DISK_WRITE;
        m.dst->fault_at = 5 + draw(40);
        move_lanes(&m, 1 + draw(LANES));
        for (int try = 0; try < 9; try++) {
            const uint64_t safe = counter_get(&m.counters.safe);

            if (move_pass_safely(&m, safe, &e))
                break;
            const uint64_t now = counter_get(&m.counters.safe);
            assert_true(now >= safe - safe % m.cfg.rule.align);
            assert_memory_equal(m.dst->bytes, m.src->bytes, now);
            memset(m.dst->bytes + now, m.cfg.rule.skip_zero ? 0 : DIRT,
                   m.dst->size - now);
            later += now > 0;
            move_lanes_anew(&m);
        }
        assert_copied(&m);
        move_free(&m);
    }
    assert_true(later > 10); /* else this shows nothing */
}

/* --- failures --- */

/* The @at'th command of that kind fails.  The pass fails too, if it comes that far. */
static bool fails_at(struct mem_disk *faulty, struct move *m, enum disk_op op,
                     unsigned at)
{
    struct err e = { .kind = ERR_NONE };

    faulty->fault_op = op;
    faulty->fault_at = at;
    faulty->fault_os = EIO;
    const bool ok = move_pass(m, &e);
    const bool reached = faulty->count[op] > at;

    assert_int_equal(ok, !reached);
    if (ok) {
        assert_copied(m);
        return false;
    }
    assert_int_equal(e.kind, ERR_NBD);
    assert_contains(e.msg, faulty == m->src ? "src: " : "dst: ");
    if (faulty->fault == MEM_FAIL) {
        assert_int_equal(e.os, EIO);
        assert_contains(e.msg, "bytes at ");
    }
    return true;
}

/* Fail every command of a kind in turn; after each, the same lanes must still do a whole
 * pass (or, when the destination died, say that they cannot). */
static void every_failure_is_reported(bool src, enum disk_op op, int fault)
{
    /* Without a bitmap a status that is refused is no failure. */
    const bool dirty = op == DISK_STATUS && fault == MEM_FAIL;
    bool failed = true;

    for (unsigned at = 0; failed; at++) {
        struct move m;
        struct err e;

        move_make(&m, 1500000, at);
        rng = 5; /* the same disk each time */
        fill(m.src, true, dirty);
        if (dirty)
            memset(m.src->dirty, 1, m.src->size);
        m.src->pairs_max = 20;
        memset(m.dst->bytes, DIRT, m.dst->size);
        struct mem_disk *faulty = src ? m.src : m.dst;
        faulty->fault = fault;
        move_lanes(&m, LANES);
        failed = fails_at(faulty, &m, op, at);
        faulty->fault = MEM_NO_FAULT;
        if (failed && broken(&m)) {
            assert_true(!src && fault == MEM_DIE);
        } else {
            assert_false(failed && !src && fault == MEM_DIE);
            assert_ok(move_pass(&m, &e), e);
            assert_copied(&m);
        }
        move_free(&m);
        assert_true(at < 1000);
    }
}

static void lane__every_failed_command_fails_the_pass(void **state)
{
    (void)state;
    every_failure_is_reported(true, DISK_READ, MEM_FAIL);
    every_failure_is_reported(true, DISK_STATUS, MEM_FAIL);
    every_failure_is_reported(false, DISK_WRITE, MEM_FAIL);
    every_failure_is_reported(false, DISK_ZERO, MEM_FAIL);
}

/* What the server would not tell is read; the rest of its answers are believed. */
static void lane__extents_that_are_refused_are_data(void **state)
{
    (void)state;
    for (unsigned at = 0; at < 20; at++) {
        struct move m;
        struct err e;

        move_make(&m, 1500000, at);
        fill(m.src, true, false);
        m.src->pairs_max = 20;
        memset(m.dst->bytes, DIRT, m.dst->size);
        m.src->fault = at % 2 ? MEM_FAIL : MEM_FAIL_ALL;
        m.src->fault_op = DISK_STATUS;
        m.src->fault_at = at / 2;
        m.src->fault_os = EIO;
        move_lanes(&m, LANES);
        assert_ok(move_pass(&m, &e), e);
        assert_copied(&m);
        move_free(&m);
    }
}

static void lane__every_lost_connection_fails_the_pass(void **state)
{
    (void)state;
    every_failure_is_reported(true, DISK_READ, MEM_DIE);
    every_failure_is_reported(true, DISK_STATUS, MEM_DIE);
    every_failure_is_reported(false, DISK_WRITE, MEM_DIE);
    every_failure_is_reported(false, DISK_ZERO, MEM_DIE);
}

struct canceller {
    struct mem_disk *stuck;
    struct cancel *cancel;
    int64_t at_ms;
};

/* Cancel as soon as the command that hangs has been started. */
static void *cancel_when_stuck(void *opaque)
{
    struct canceller *c = opaque;

    while (c->stuck->count[c->stuck->fault_op] <= c->stuck->fault_at)
        clock_sleep_ms(1);
    c->at_ms = clock_ms();
    cancel_set(c->cancel);
    return NULL;
}

static void stuck_is_cancelled(bool src, enum disk_op op)
{
    struct move m;
    struct err e;
    pthread_t thread;

    move_make(&m, 8 << 20, 1);
    fill(m.src, true, false);
    struct canceller c = { src ? m.src : m.dst, m.cancel, 0 };
    c.stuck->fault = MEM_STUCK;
    c.stuck->fault_op = op;
    c.stuck->fault_at = 1;
    move_lanes(&m, LANES);
    assert_int_equal(pthread_create(&thread, NULL, cancel_when_stuck, &c), 0);
    assert_err(move_pass(&m, &e), e, ERR_CANCELLED);
    pthread_join(thread, NULL);
    const int64_t took = clock_ms() - c.at_ms;
    if (took >= 1000) /* 100 ms, on a machine with nothing else to do */
        fail_msg("it took %lld ms", (long long)took);
    assert_int_equal(broken(&m), !src);
    move_free(&m);
}

static void lane__a_stuck_server_can_be_cancelled(void **state)
{
    (void)state;
    stuck_is_cancelled(true, DISK_READ);
    stuck_is_cancelled(true, DISK_STATUS);
    stuck_is_cancelled(false, DISK_WRITE);
    stuck_is_cancelled(false, DISK_ZERO);
}

static void lane__a_destination_stuck_after_a_failure_is_given_up(void **state)
{
    struct move m;
    struct err e;

    (void)state;
    move_make(&m, 8 << 20, 1);
    memset(m.src->bytes, 1, m.src->size);
    m.dst->fault = MEM_STUCK;
    m.dst->fault_op = DISK_WRITE;
    m.dst->fault_at = 1;
    m.src->fault = MEM_FAIL;
    m.src->fault_op = DISK_READ;
    m.src->fault_at = 20; /* the other lane comes that far */
    m.src->fault_os = EIO;
    move_lanes(&m, 2);
    assert_err(move_pass(&m, &e), e, ERR_NBD);
    assert_contains(e.msg, "src: read of 131072 bytes at ");
    assert_true(broken(&m));
    move_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lane__any_disk_is_copied),
        TEST(lane__the_large_piece_is_made_once),
        TEST(lane__only_what_is_dirty_is_copied),
        TEST(lane__zeroes_in_data_are_not_written),
        TEST(lane__several_passes_use_the_same_lanes),
        TEST(lane__zeroes_are_written_where_zeroing_is_not_supported),
        TEST(lane__broken_pass_goes_on_where_it_was_safe),
        TEST(lane__every_failed_command_fails_the_pass),
        TEST(lane__extents_that_are_refused_are_data),
        TEST(lane__every_lost_connection_fails_the_pass),
        TEST(lane__a_stuck_server_can_be_cancelled),
        TEST(lane__a_destination_stuck_after_a_failure_is_given_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
