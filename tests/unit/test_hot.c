/* What is written in every round and waits: against a model of a disk, its bitmaps and the
 * destination, with rounds that fail, and the feed that does what it says. */
#include <stdlib.h>
#include <string.h>

#include "nbd-mirror/counters.h"
#include "nbd-mirror/feed.h"
#include "nbd-mirror/hot.h"
#include "unit.h"

enum { BLOCK = MIRROR_BLOCK, BLOCKS = 200 };
static const uint32_t LEAVE = EXTENTS_OURS_LEAVE, ALSO = EXTENTS_OURS_ALSO;

static struct hot *hot;

static int setup(void **state)
{
    (void)state;
    hot = hot_new();
    return hot != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    hot_free(hot);
    return 0;
}

/* One round, whose bitmap marks these; -1 ends them. */
static void round_of(bool wait, const int *blocks)
{
    hot_begin(hot, wait);
    for (; *blocks >= 0; blocks++)
        hot_marked(hot, (uint64_t)*blocks * BLOCK, BLOCK);
    hot_end(hot);
}
#define ROUND(wait, ...) round_of(wait, (const int[]){ __VA_ARGS__, -1 })

static void pairs_are(uint64_t off, uint32_t len, const uint32_t *want, size_t n)
{
    static uint32_t pairs[2 * HOT_PAIRS_MAX];

    assert_int_equal(hot_pairs(hot, off, len, pairs), n);
    for (size_t i = 0; i < 2 * n; i++)
        assert_int_equal(pairs[i], want[i]);
}
#define PAIRS(off, len, ...) \
    do { \
        const uint32_t w_[] = { __VA_ARGS__ }; \
        pairs_are(off, len, w_, sizeof w_ / sizeof w_[0] / 2); \
    } while (0)

static void hot__is_what_every_round_marks(void **state)
{
    (void)state;
    ROUND(true, 1, 2, 3, 7);
    assert_int_equal(hot_bytes(hot), 0);
    ROUND(true, 2, 3, 7, 8);
    assert_int_equal(hot_bytes(hot), 0);
    ROUND(true, 2, 7, 9);
    assert_int_equal(hot_bytes(hot), 2 * BLOCK);
    assert_int_equal(hot_waiting(hot), 0);
    ROUND(true, 2, 9); /* and the fourth leaves it out, */
    assert_int_equal(hot_waiting(hot), BLOCK);
    ROUND(false, 2, 9); /* and the last copies it */
    assert_int_equal(hot_waiting(hot), 0);
    assert_int_equal(hot_bytes(hot), 2 * BLOCK);
}

static void hot__pairs_say_what_to_leave_and_what_to_add(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        ROUND(true, 2, 3, 7);
    hot_begin(hot, true);
    PAIRS(0, 10 * BLOCK, 2 * BLOCK, 0, 2 * BLOCK, LEAVE | ALSO, 3 * BLOCK, 0, BLOCK,
          LEAVE | ALSO, 2 * BLOCK, 0);
    PAIRS(3 * BLOCK + 512, BLOCK, BLOCK - 512, LEAVE | ALSO, 512, 0);
    PAIRS(7 * BLOCK, 512, 512, LEAVE | ALSO);
    hot_begin(hot, false);
    PAIRS(BLOCK, 2 * BLOCK, BLOCK, 0, BLOCK, ALSO);
}

static void hot__what_cools_is_added_once(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        ROUND(true, 5);
    hot_begin(hot, true);
    PAIRS(5 * BLOCK, BLOCK, BLOCK, LEAVE | ALSO); /* not marked: so it is copied */
    hot_end(hot);
    assert_int_equal(hot_waiting(hot), 0);
    hot_begin(hot, true);
    PAIRS(5 * BLOCK, BLOCK, BLOCK, 0);
}

static void hot__a_second_look_begins_anew(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        hot_begin(hot, true);
        hot_marked(hot, 9 * BLOCK, BLOCK);
        hot_look(hot); /* the pass failed, and is made again */
        hot_marked(hot, 4 * BLOCK, BLOCK);
        hot_marked(hot, 5 * BLOCK, BLOCK);
        hot_end(hot);
    }
    assert_int_equal(hot_waiting(hot), 2 * BLOCK);
    hot_forget(hot);
    assert_int_equal(hot_waiting(hot) + hot_bytes(hot), 0);
    hot_begin(hot, true);
    PAIRS(0, 10 * BLOCK, 10 * BLOCK, 0);
}

/* More stretches than fit: the rest is never hot, and what is left out waits all the same. */
static void hot__too_many_stretches_lose_nothing(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        hot_begin(hot, true);
        for (uint64_t i = 0; i < 2 * HOT_MAX; i++)
            hot_marked(hot, 2 * i * BLOCK, BLOCK);
        hot_end(hot);
        assert_int_equal(hot_bytes(hot), round < 2 ? 0 : (uint64_t)HOT_MAX * BLOCK);
        assert_int_equal(hot_waiting(hot), round < 3 ? 0 : (uint64_t)HOT_MAX * BLOCK);
    }
    hot_begin(hot, true);
    static uint32_t pairs[2 * HOT_PAIRS_MAX];
    assert_int_equal(hot_pairs(hot, 0, UINT32_C(1) << 31, pairs), 32768);
    assert_int_equal(pairs[1], LEAVE | ALSO);
    assert_int_equal(pairs[3], 0);
}

/* --- a disk of which blocks are versions --- */

static unsigned rng;

static unsigned draw(unsigned below)
{
    rng = rng * 1103515245 + 12345;
    return (rng >> 16) % below;
}

struct world {
    unsigned src[BLOCKS], dst[BLOCKS];
    bool active[BLOCKS], frozen[BLOCKS], held[BLOCKS];
    bool holds;
    uint64_t size; /* bytes, the last block may be short */
    unsigned blocks;
    uint64_t copied;
};

/* Some blocks are written nearly always, some for a while, the others now and then. */
static void guest(struct world *w)
{
    static unsigned spot;

    if (draw(10) == 0)
        spot = draw(w->blocks);
    for (unsigned i = 0; i < w->blocks; i++)
        if (draw(100) < (i % 16 < 3 ? 97u : i >= spot && i < spot + 9 ? 80u : 3u)) {
            w->src[i]++;
            w->active[i] = true;
        }
}

/* What a block of the destination lacks is marked in QEMU. */
static void check_marked(const struct world *w)
{
    for (unsigned i = 0; i < w->blocks; i++)
        if (w->src[i] != w->dst[i])
            assert_true(w->active[i] || w->frozen[i] || (w->holds && w->held[i]));
}

static void answer(const struct world *w, struct extents *x)
{
    static uint32_t pairs[2 * BLOCKS];
    uint64_t at = x->off;
    size_t n = 0;

    while (at < x->off + x->len) {
        uint64_t end = (at / BLOCK + 1) * BLOCK;

        pairs[2 * n + 1] = w->frozen[at / BLOCK] ? EXTENTS_STATE_DIRTY : 0;
        end = end < w->size ? end : w->size;
        pairs[2 * n++] = (uint32_t)(end - at);
        at = end;
        if (draw(40) == 0)
            break; /* a server may stop where it likes */
    }
    extents_record(x, EXTENTS_DIRTY, pairs, n);
}

/* Copy what the feed hands out; false: it was broken off. */
static bool pass(struct world *w, bool fails, bool whole_list)
{
    struct counters counters = { 0 };
    const struct feed_cfg cfg = {
        .rule = { .use = { [EXTENTS_DIRTY] = true, [EXTENTS_OURS] = true },
                  .align = draw(2) ? 512 : 4096,
                  .size = w->size },
        .data_max = 1 << 20,
        .whole_list = whole_list,
        .hot = hot,
        .counters = &counters,
    };
    static struct feed f;
    enum feed_next next;
    struct piece p;
    struct err e;
    int later_ms;

    hot_look(hot);
    assert_ok(feed_init(&f, &cfg, NULL, 0, &e), e);
    for (;;) {
        while ((next = feed_take(&f, 0, 0, &p, &later_ms)) == FEED_PIECE) {
            assert_int_equal(p.kind, PIECE_DATA);
            for (uint64_t b = p.off / BLOCK; b * BLOCK < p.off + p.len; b++)
                w->dst[b] = w->src[b];
            w->copied += p.len;
        }
        if (next == FEED_END || (fails && draw(3) == 0))
            break;
        answer(w, feed_ask(&f));
        assert_ok(feed_tell(&f, &e), e);
    }
    feed_fini(&f);
    return next == FEED_END;
}

/* What blk_bitmaps_settle() and a next try do. */
static void settle(struct world *w)
{
    for (unsigned i = 0; i < w->blocks; i++) {
        w->active[i] |= w->frozen[i] || (w->holds && w->held[i]);
        w->frozen[i] = w->held[i] = false;
    }
    w->holds = false;
    hot_forget(hot);
}

static void one_round(struct world *w, bool last)
{
    memcpy(w->frozen, w->active, sizeof w->frozen);
    memset(w->active, 0, sizeof w->active);
    if (!last)
        guest(w);
    hot_begin(hot, !last && draw(8) != 0);
    bool ok = pass(w, !last && draw(12) == 0, draw(2));
    check_marked(w);
    if (!ok && draw(2)) /* as on QEMU 10: once more */
        ok = pass(w, false, false);
    check_marked(w);
    if (!ok) {
        settle(w);
        check_marked(w);
        return;
    }
    if (last)
        return;
    hot_end(hot);
    w->holds = hot_waiting(hot) > 0;
    memcpy(w->held, w->frozen, sizeof w->held);
    memset(w->frozen, 0, sizeof w->frozen);
    check_marked(w);
    if (draw(40) == 0) /* killed, and gone on with */
        settle(w);
    check_marked(w);
}

static void hot__nothing_is_lost_whatever_fails(void **state)
{
    static struct world w;
    uint64_t copied = 0, waited = 0;

    (void)state;
    for (unsigned seed = 0; seed < 100; seed++) {
        rng = seed;
        memset(&w, 0, sizeof w);
        w.blocks = 1 + draw(BLOCKS);
        w.size = (uint64_t)w.blocks * BLOCK - (draw(2) ? 512 * draw(100) : 0);
        hot_forget(hot);
        for (unsigned i = draw(60); i > 0; i--) {
            guest(&w);
            one_round(&w, false);
            waited += hot_waiting(hot);
        }
        one_round(&w, true);
        for (unsigned i = 0; i < w.blocks; i++)
            assert_int_equal(w.src[i], w.dst[i]);
        copied += w.copied;
    }
    assert_true(waited > copied / 10); /* it was not tested for nothing */
}

#define TEST_H(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_H(hot__is_what_every_round_marks),
        TEST_H(hot__pairs_say_what_to_leave_and_what_to_add),
        TEST_H(hot__what_cools_is_added_once),
        TEST_H(hot__a_second_look_begins_anew),
        TEST_H(hot__too_many_stretches_lose_nothing),
        TEST_H(hot__nothing_is_lost_whatever_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
