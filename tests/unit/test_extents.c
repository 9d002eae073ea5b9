#include "unit.h"

#include <stdlib.h>

#include "nbd-mirror/extents.h"

static const uint32_t Z = EXTENTS_STATE_ZERO, D = EXTENTS_STATE_DIRTY;

static struct extents x; /* of the running test */

static int setup(void **state)
{
    struct err e;

    (void)state;
    return extents_init(&x, &e) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    extents_fini(&x);
    return 0;
}

static const struct extents_rule ALLOC_1000 = { .use = { true, false },
                                                .align = 1,
                                                .size = 1000 };
static const struct extents_rule BOTH_1000 = { .use = { true, true },
                                               .align = 1,
                                               .size = 1000 };

#define RECORD(ctx, ...) \
    do { \
        const uint32_t p_[] = { __VA_ARGS__ }; \
        extents_record(&x, ctx, p_, sizeof p_ / sizeof p_[0] / 2); \
    } while (0)

static void next_is(const struct extents_rule *r, uint64_t off, uint64_t len,
                    enum piece_kind kind)
{
    struct piece p;

    assert_true(extents_next(&x, r, &p));
    assert_int_equal(p.off, off);
    assert_int_equal(p.len, len);
    assert_int_equal(p.kind, kind);
}

static void no_more(const struct extents_rule *r)
{
    struct piece p;

    assert_false(extents_next(&x, r, &p));
}

/* --- well-behaved servers --- */

static void extents__alike_neighbours_become_one_stretch(void **state)
{
    struct err e;

    (void)state;
    extents_ask(&x, 0, 1000);
    /* HOLE alone (1) is data to be read, HOLE|ZERO (3) is zero. */
    RECORD(EXTENTS_ALLOC, 100, 0, 200, 1, 300, Z, 400, Z | 1);
    assert_ok(extents_check(&x, &ALLOC_1000, &e), e);
    assert_int_equal(x.end, 1000);
    next_is(&ALLOC_1000, 0, 300, PIECE_DATA);
    next_is(&ALLOC_1000, 300, 700, PIECE_ZERO);
    no_more(&ALLOC_1000);
}

static void extents__zero_is_skipped_when_the_destination_is_zero(void **state)
{
    struct extents_rule r = ALLOC_1000;
    struct err e;

    (void)state;
    r.skip_zero = true;
    extents_ask(&x, 0, 1000);
    RECORD(EXTENTS_ALLOC, 300, Z, 700, 0);
    assert_ok(extents_check(&x, &r, &e), e);
    next_is(&r, 0, 300, PIECE_SKIP);
    next_is(&r, 300, 700, PIECE_DATA);
    no_more(&r);
}

static void extents__contexts_of_other_lengths_are_intersected(void **state)
{
    struct err e;

    (void)state;
    extents_ask(&x, 0, 1000);
    RECORD(EXTENTS_ALLOC, 500, 0, 500, Z);
    RECORD(EXTENTS_DIRTY, 100, 0, 300, D, 200, D, 200, 0);
    assert_ok(extents_check(&x, &BOTH_1000, &e), e);
    assert_int_equal(x.end, 800); /* as far as the shorter one goes */
    next_is(&BOTH_1000, 0, 100, PIECE_SKIP);
    next_is(&BOTH_1000, 100, 400, PIECE_DATA);
    next_is(&BOTH_1000, 500, 100, PIECE_ZERO);
    next_is(&BOTH_1000, 600, 200, PIECE_SKIP);
    no_more(&BOTH_1000);
}

static void extents__the_last_one_may_reach_past_what_was_asked(void **state)
{
    struct err e;

    (void)state;
    extents_ask(&x, 100, 200);
    RECORD(EXTENTS_ALLOC, 100, Z, 800, 0);
    assert_ok(extents_check(&x, &ALLOC_1000, &e), e);
    assert_int_equal(x.end, 300);
    next_is(&ALLOC_1000, 100, 100, PIECE_ZERO);
    next_is(&ALLOC_1000, 200, 100, PIECE_DATA);
    no_more(&ALLOC_1000);
}

static void extents__lengths_of_32_bits_add_up(void **state)
{
    const struct extents_rule r = { .use = { true, false },
                                    .align = 4096,
                                    .size = UINT64_C(1) << 62 };
    struct err e;

    (void)state;
    extents_ask(&x, UINT64_C(1) << 61, UINT64_C(3) << 32);
    RECORD(EXTENTS_ALLOC, 0xfffff000, Z, 0xfffff000, Z, 0xfffff000, 0);
    assert_ok(extents_check(&x, &r, &e), e);
    next_is(&r, UINT64_C(1) << 61, 2 * UINT64_C(0xfffff000), PIECE_ZERO);
    next_is(&r, (UINT64_C(1) << 61) + 2 * UINT64_C(0xfffff000), 0xfffff000, PIECE_DATA);
    no_more(&r);
}

static void extents__a_block_of_mixed_kinds_is_data(void **state)
{
    const struct extents_rule r = { .use = { true, true }, .align = 64, .size = 1000 };
    struct err e;

    (void)state;
    extents_ask(&x, 0, 1000);
    /* Dirty zeroes up to 70, clean up to 128: the block at 64 cannot be zeroed. */
    RECORD(EXTENTS_DIRTY, 70, D, 58 + 64, 0, 1000 - 192, D);
    RECORD(EXTENTS_ALLOC, 980, Z, 20, 0);
    assert_ok(extents_check(&x, &r, &e), e);
    next_is(&r, 0, 64, PIECE_ZERO);
    next_is(&r, 64, 64, PIECE_DATA);
    next_is(&r, 128, 64, PIECE_SKIP);
    next_is(&r, 192, 768, PIECE_ZERO);
    next_is(&r, 960, 40, PIECE_DATA); /* the last block is short */
    no_more(&r);
}

static void extents__an_answer_ends_at_a_whole_block(void **state)
{
    const struct extents_rule r = { .use = { true, false }, .align = 64, .size = 1000 };
    struct err e;

    (void)state;
    extents_ask(&x, 0, 1000);
    RECORD(EXTENTS_ALLOC, 100, 0, 99, Z);
    assert_ok(extents_check(&x, &r, &e), e);
    assert_int_equal(x.end, 192);
    next_is(&r, 0, 128, PIECE_DATA);
    next_is(&r, 128, 64, PIECE_ZERO);
    no_more(&r);
}

static void extents__less_than_a_block_is_data(void **state)
{
    const struct extents_rule r = { .use = { true, false }, .align = 64, .size = 1000 };
    struct err e;

    (void)state;
    extents_ask(&x, 128, 512);
    RECORD(EXTENTS_ALLOC, 63, Z);
    assert_ok(extents_check(&x, &r, &e), e);
    assert_int_equal(x.end, 192);
    next_is(&r, 128, 64, PIECE_DATA);
    no_more(&r);

    extents_ask(&x, 960, 40); /* the last block */
    RECORD(EXTENTS_ALLOC, 10, Z);
    assert_ok(extents_check(&x, &r, &e), e);
    next_is(&r, 960, 40, PIECE_DATA);
    no_more(&r);
}

static void extents__a_list_too_long_is_kept_in_part(void **state)
{
    const struct extents_rule r = { .use = { true, false },
                                    .align = 1,
                                    .size = UINT64_C(1) << 40 };
    const size_t n = 2 * EXTENTS_MAX;
    uint32_t *pairs = malloc(2 * n * sizeof *pairs);
    struct err e;

    (void)state;
    assert_non_null(pairs);
    for (size_t i = 0; i < n; i++) {
        pairs[2 * i] = 512;
        pairs[2 * i + 1] = i % 2 ? Z : 0;
    }
    extents_ask(&x, 0, 512 * n);
    extents_record(&x, EXTENTS_ALLOC, pairs, n);
    assert_true(x.list[EXTENTS_ALLOC].cut);
    assert_ok(extents_check(&x, &r, &e), e);
    assert_int_equal(x.end, 512 * EXTENTS_MAX);
    free(pairs);
}

/* --- servers that lie --- */

/* extents_check() must refuse what was recorded since extents_ask(). */
static void refused(const struct extents_rule *r, const char *why)
{
    struct err e;

    assert_err(extents_check(&x, r, &e), e, ERR_PROTO);
    assert_contains(e.msg, why);
}

static void extents__no_answer_is_refused(void **state)
{
    (void)state;
    extents_ask(&x, 0, 1000);
    refused(&ALLOC_1000, "no answer for base:allocation");
    extents_record(&x, EXTENTS_ALLOC, NULL, 0);
    refused(&ALLOC_1000, "no answer for base:allocation");
    RECORD(EXTENTS_ALLOC, 1000, 0);
    refused(&BOTH_1000, "no answer for qemu:dirty-bitmap");
}

static void extents__two_answers_are_refused(void **state)
{
    (void)state;
    extents_ask(&x, 0, 1000);
    RECORD(EXTENTS_ALLOC, 1000, 0);
    RECORD(EXTENTS_ALLOC, 1000, Z);
    refused(&ALLOC_1000, "more than one answer");
}

static void extents__length_0_is_refused_wherever_it_is(void **state)
{
    (void)state;
    extents_ask(&x, 0, 1000);
    RECORD(EXTENTS_ALLOC, 0, 0);
    refused(&ALLOC_1000, "length 0 at 0");
    extents_ask(&x, 0, 1000);
    RECORD(EXTENTS_ALLOC, 10, 0, 0, Z, 20, 0);
    refused(&ALLOC_1000, "length 0 at 10");
    extents_ask(&x, 500, 500);
    RECORD(EXTENTS_ALLOC, 500, 0, 0, Z);
    refused(&ALLOC_1000, "length 0 at 1000");
}

static void extents__reaching_past_the_end_is_refused(void **state)
{
    (void)state;
    extents_ask(&x, 0, 1000);
    RECORD(EXTENTS_ALLOC, 1001, 0);
    refused(&ALLOC_1000, "past the end");
    extents_ask(&x, 900, 100);
    RECORD(EXTENTS_ALLOC, 50, 0, UINT32_MAX, Z);
    refused(&ALLOC_1000, "past the end");
}

static void extents__behind_what_was_asked_is_refused(void **state)
{
    (void)state;
    extents_ask(&x, 100, 200);
    RECORD(EXTENTS_ALLOC, 200, 0, 10, Z);
    refused(&ALLOC_1000, "behind what was asked");
}

/* --- against a model --- */

enum { MODEL_MAX = 4096 };

struct model {
    uint64_t size;
    uint8_t flag[EXTENTS_CTXS][MODEL_MAX]; /* of each byte */
};

static unsigned rng;

static unsigned draw(unsigned below)
{
    rng = rng * 1103515245 + 12345;
    return (rng >> 16) % below;
}

static void model_make(struct model *m, unsigned seed)
{
    rng = seed;
    m->size = 1 + draw(MODEL_MAX);
    for (int c = 0; c < EXTENTS_CTXS; c++)
        for (uint64_t i = 0, n; i < m->size; i += n) {
            n = 1 + draw(draw(2) ? 40 : 600);
            n = n < m->size - i ? n : m->size - i;
            memset(&m->flag[c][i], (int)draw(c == EXTENTS_OURS ? 4 : 2), n);
        }
}

/* Answer as a server may: split anyhow, stop anywhere behind the first @min bytes. */
static void model_answer(const struct model *m, int c, uint64_t off, uint64_t len,
                         uint64_t min)
{
    const uint32_t flags[EXTENTS_CTXS] = { Z, D, 1 };
    uint32_t pairs[2 * MODEL_MAX];
    uint64_t at = off;
    size_t n = 0;

    while (at < off + len && (at - off < min || draw(30) != 0)) {
        uint64_t e = at + 1;

        while (e < m->size && m->flag[c][e] == m->flag[c][at] && draw(100) != 0)
            e++;
        pairs[2 * n] = (uint32_t)(e - at);
        pairs[2 * n++ + 1] = m->flag[c][at] * flags[c];
        at = e;
    }
    extents_record(&x, (enum extents_ctx)c, pairs, n);
}

/* What must be done with the byte at @i, by itself. */
static enum piece_kind model_byte(const struct model *m, const struct extents_rule *r,
                                  uint64_t i)
{
    const uint8_t ours = r->use[EXTENTS_OURS] ? m->flag[EXTENTS_OURS][i] : 0;

    if (r->use[EXTENTS_DIRTY] &&
        (m->flag[EXTENTS_DIRTY][i] ? ours & EXTENTS_OURS_LEAVE
                                   : !(ours & EXTENTS_OURS_ALSO)))
        return PIECE_SKIP;
    if (r->use[EXTENTS_ALLOC] && m->flag[EXTENTS_ALLOC][i])
        return r->skip_zero ? PIECE_SKIP : PIECE_ZERO;
    return PIECE_DATA;
}

/* What must be done with the block at @i, a multiple of the alignment. */
static enum piece_kind model_block(const struct model *m, const struct extents_rule *r,
                                   uint64_t i)
{
    const enum piece_kind kind = model_byte(m, r, i);

    for (uint64_t j = i; j < i + r->align && j < m->size; j++)
        if (model_byte(m, r, j) != kind)
            return PIECE_DATA;
    return kind;
}

/* Go through the disk as feed.c does; check each stretch. */
static void model_walk(const struct model *m, const struct extents_rule *r)
{
    uint64_t at = 0;
    struct piece p;
    struct err e;

    while (at < m->size) {
        const uint64_t blocks = 1 + draw(MODEL_MAX / r->align);
        const uint64_t len =
            blocks * r->align < m->size - at ? blocks * r->align : m->size - at;
        enum piece_kind before = PIECE_DATA;

        extents_ask(&x, at, len);
        for (int c = 0; c < EXTENTS_CTXS; c++)
            if (r->use[c])
                model_answer(m, c, at, len, draw(4) ? r->align : 1);
        assert_ok(extents_check(&x, r, &e), e);
        for (bool first = true; extents_next(&x, r, &p); first = false) {
            assert_true(first || p.kind != before);
            before = p.kind;
            assert_int_equal(p.off, at);
            assert_true(p.len > 0 && p.off % r->align == 0);
            for (; at < p.off + p.len; at += r->align)
                assert_int_equal(p.kind, x.blind ? PIECE_DATA : model_block(m, r, at));
            at = p.off + p.len;
            assert_true(at % r->align == 0 || at == m->size);
        }
        assert_int_equal(at, x.end);
    }
    assert_int_equal(at, m->size);
}

static void extents__random_streams_agree_with_the_model(void **state)
{
    static struct model m;

    (void)state;
    for (unsigned seed = 0; seed < 3000; seed++) {
        model_make(&m, seed);
        const struct extents_rule r = {
            .use = { seed % 3 != 1, seed % 3 != 0, seed % 3 != 0 && seed / 6 % 2 },
            .skip_zero = seed / 3 % 2,
            .align = 1u << draw(8),
            .size = m.size,
        };
        model_walk(&m, &r);
    }
}

/* --- cutting --- */

static void extents__pieces_end_at_multiples_of_the_size(void **state)
{
    struct piece run = { 1000, 10000, PIECE_DATA };
    const uint64_t lens[] = { 3096, 4096, 2808 };

    (void)state;
    for (int i = 0; i < 3; i++) {
        const uint64_t off = run.off;
        const struct piece p = piece_cut(&run, 4096);

        assert_int_equal(p.off, off);
        assert_int_equal(p.len, lens[i]);
    }
    assert_int_equal(run.len, 0);
}

#define TEST_X(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_X(extents__alike_neighbours_become_one_stretch),
        TEST_X(extents__zero_is_skipped_when_the_destination_is_zero),
        TEST_X(extents__contexts_of_other_lengths_are_intersected),
        TEST_X(extents__the_last_one_may_reach_past_what_was_asked),
        TEST_X(extents__lengths_of_32_bits_add_up),
        TEST_X(extents__a_block_of_mixed_kinds_is_data),
        TEST_X(extents__an_answer_ends_at_a_whole_block),
        TEST_X(extents__a_list_too_long_is_kept_in_part),
        TEST_X(extents__no_answer_is_refused),
        TEST_X(extents__two_answers_are_refused),
        TEST_X(extents__length_0_is_refused_wherever_it_is),
        TEST_X(extents__reaching_past_the_end_is_refused),
        TEST_X(extents__behind_what_was_asked_is_refused),
        TEST_X(extents__less_than_a_block_is_data),
        TEST_X(extents__random_streams_agree_with_the_model),
        TEST(extents__pieces_end_at_multiples_of_the_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
