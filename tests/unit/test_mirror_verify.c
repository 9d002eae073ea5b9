/* Digests of two servers in this process, compared; and repair. */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/cancel.h"
#include "base/log.h"
#include "nbd-mirror/digest.h"
#include "nbd-mirror/verify.h"
#include "tests/lib/nbd-mem.h"

#define BLOCK UINT64_C(65536)
#define SIZE  (37 * BLOCK + 4711)

static struct nbd_mem *src, *dst;
static struct cancel *cancel;
static struct mirror_range found[64];
static unsigned nfound;

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
        src->bytes[i] = i / 200000 % 3 ? (uint8_t)(i * 7 + i / 300) | 1 : 0;
    memcpy(dst->bytes, src->bytes, SIZE);
    nfound = 0;
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

static void on_differs(void *ctx, uint64_t off, uint64_t len)
{
    (void)ctx;
    assert_true(nfound < 64);
    found[nfound++] = (struct mirror_range){ off, len };
}

static const struct verify_cfg *config(void)
{
    static struct verify_cfg cfg;

    cfg = (struct verify_cfg){ .name = "vda",
                               .size = MIRROR_SIZE_DST,
                               .block = BLOCK,
                               .connections = 2,
                               .cancel = cancel,
                               .differs = on_differs };
    return &cfg;
}

static bool run(struct verify_result *r, struct err *e)
{
    const struct mirror_side from = { nbd_mem_dial, src, "" };
    const struct mirror_side to = { nbd_mem_dial, dst, "" };

    return verify_run(config(), &from, &to, r, e);
}

static bool run_repair(struct verify_result *r, struct err *e)
{
    const struct mirror_side from = { nbd_mem_dial, src, "" };
    const struct mirror_side to = { nbd_mem_dial, dst, "" };
    const struct mirror_cfg how = { .request_size = 1 << 20 };

    return verify_repair(config(), &how, &from, &to, r, e);
}

static void verify__alike_is_alike(void **state)
{
    struct verify_result r;
    struct err e;

    (void)state;
    assert_ok(run(&r, &e), e);
    assert_int_equal(r.size, SIZE);
    assert_int_equal(r.differ, 0);
    assert_int_equal(r.stretches, 0);
    assert_int_equal(nfound, 0);
    assert_true(r.read[0] > 0 && r.read[0] < SIZE); /* zeroes were not read */
    assert_int_equal(r.read[0], r.read[1]);
    assert_int_equal(dst->count[NBD_WRITE] + dst->count[NBD_ZERO], 0);
}

/* One flipped byte at every interesting place is found, in its block and no other. */
static void verify__one_byte_is_found(void **state)
{
    static const uint64_t at[] = { 0,           1,      BLOCK - 1, BLOCK,
                                   5 * BLOCK,   300000, SIZE - 1,  SIZE - 4711,
                                   SIZE - 4712, 599999, 600000 };
    struct verify_result r;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
        const uint64_t off = at[i] / BLOCK * BLOCK;

        nfound = 0;
        dst->bytes[at[i]] ^= 0x10;
        assert_ok(run(&r, &e), e);
        assert_int_equal(nfound, 1);
        assert_int_equal(found[0].off, off);
        assert_int_equal(found[0].len, SIZE - off < BLOCK ? SIZE - off : BLOCK);
        assert_int_equal(r.differ, found[0].len);
        dst->bytes[at[i]] ^= 0x10;
    }
}

static void verify__neighbours_are_one_stretch(void **state)
{
    struct verify_result r;
    struct err e;

    (void)state;
    dst->bytes[2 * BLOCK] ^= 1;
    dst->bytes[3 * BLOCK] ^= 1;
    dst->bytes[20 * BLOCK] ^= 1;
    assert_ok(run(&r, &e), e);
    assert_int_equal(r.stretches, 2);
    assert_int_equal(found[0].off, 2 * BLOCK);
    assert_int_equal(found[0].len, 2 * BLOCK);
    assert_int_equal(found[1].off, 20 * BLOCK);
}

/* Swapped blocks have the same digests, at other places. */
static void verify__what_moved_is_found(void **state)
{
    static uint8_t block[BLOCK];
    struct verify_result r;
    struct err e;

    (void)state;
    memcpy(block, dst->bytes + 7 * BLOCK, BLOCK);
    memmove(dst->bytes + 7 * BLOCK, dst->bytes + 8 * BLOCK, BLOCK);
    memcpy(dst->bytes + 8 * BLOCK, block, BLOCK);
    assert_ok(run(&r, &e), e);
    assert_int_equal(r.differ, 2 * BLOCK);
}

/* What is a hole on one side, zeroes in data on the other, and unknown on a third. */
static void verify__zeroes_are_alike_however_they_are_told(void **state)
{
    struct verify_result r;
    struct err e;

    (void)state;
    dst->no_structured = true; /* and so no extents */
    assert_ok(run(&r, &e), e);
    assert_int_equal(r.differ, 0);
    assert_int_equal(r.read[1], SIZE);
    assert_true(r.read[0] < SIZE);

    memset(dst->bytes, 0, SIZE);
    assert_ok(run(&r, &e), e);
    assert_true(r.differ > 0);
    memset(src->bytes, 0, SIZE);
    assert_ok(run(&r, &e), e);
    assert_int_equal(r.differ, 0);
    assert_int_equal(r.read[0], 4711); /* only whole blocks are asked about */
}

static void verify__blocks_are_read_in_parts_where_the_server_wants_it(void **state)
{
    struct verify_result r;
    struct err e;

    (void)state;
    dst->block[0] = dst->block[1] = 512;
    dst->block[2] = 8192;
    assert_ok(run(&r, &e), e);
    assert_int_equal(r.differ, 0);
    dst->bytes[9 * BLOCK + 60000] ^= 1;
    assert_ok(run(&r, &e), e);
    assert_int_equal(r.differ, BLOCK);
    assert_int_equal(found[0].off, 9 * BLOCK);
}

static void verify__repair_makes_it_alike(void **state)
{
    struct verify_result r;
    struct err e;

    (void)state;
    for (uint64_t off = 0; off < SIZE; off += 5 * BLOCK)
        dst->bytes[off + 100] ^= 0xff;
    dst->bytes[SIZE - 1] ^= 0xff;
    assert_ok(run_repair(&r, &e), e);
    assert_true(memcmp(src->bytes, dst->bytes, SIZE) == 0);
    assert_int_equal(r.differ, 0);
    assert_int_equal(nfound, 9); /* reported all the same */
    assert_int_equal(r.repaired, 8 * BLOCK + 4711);
    assert_int_equal(dst->count[NBD_FLUSH], 1);
    assert_int_equal(src->count[NBD_WRITE], 0);

    assert_ok(run_repair(&r, &e), e); /* nothing to do */
    assert_int_equal(r.repaired, 0);
    assert_int_equal(dst->count[NBD_FLUSH], 1);
}

/* It says it has written, and has not. */
static void verify__a_repair_that_did_not_help_is_seen(void **state)
{
    struct verify_result r;
    struct err e;

    (void)state;
    dst->bytes[9 * BLOCK] ^= 1;
    dst->forgets = true;
    assert_ok(run_repair(&r, &e), e);
    assert_int_equal(r.repaired, BLOCK);
    assert_int_equal(r.differ, BLOCK);
}

/* The second comparison finds a smaller disk than its ranges are of. */
static bool dial_shrinking(void *ctx, int *fd, struct err *e)
{
    struct nbd_mem *m = ctx;

    if (atomic_load(&m->connections) == 3) /* two have compared, one has copied */
        m->size_told = BLOCK;
    return nbd_mem_dial(m, fd, e);
}

static void verify__a_server_that_shrinks_in_a_repair_is_an_error(void **state)
{
    const struct mirror_side from = { dial_shrinking, src, "" };
    const struct mirror_side to = { nbd_mem_dial, dst, "" };
    const struct mirror_cfg how = { .lanes = 1 };
    struct verify_result r;
    struct err e;

    (void)state;
    dst->bytes[9 * BLOCK] ^= 1;
    assert_err(verify_repair(config(), &how, &from, &to, &r, &e), e, ERR_PROTO);
    assert_contains(e.msg, "vda: src: the export has 65536 bytes, not 2429543");
}

static void fails(struct nbd_mem *m, enum nbd_lie lie, unsigned at, const char *text)
{
    struct verify_result r;
    struct err e;

    m->lie = lie;
    m->lie_at = at;
    m->lie_errno = 5;
    assert_false(run(&r, &e));
    assert_contains(e.msg, text);
    m->lie = LIE_NONE;
}

static void verify__a_read_error_is_no_difference(void **state)
{
    (void)state;
    fails(src, LIE_ERRNO, NBD_READ, "vda: src: read of ");
    fails(dst, LIE_ERRNO, NBD_READ, "vda: dst: read of ");
    fails(dst, LIE_SHORT, NBD_READ, "vda: dst: read of ");
    fails(src, LIE_CUT, NBD_READ, "vda: src: connection lost");
    fails(dst, LIE_CUT, NBD_STATUS, "vda: dst: connection lost");
    fails(dst, LIE_EXTENT_LONG, NBD_STATUS, "reaches past the end of the disk");
    fails(dst, LIE_NO_EXPORT, 0, "vda: dst: NBD handshake");
    assert_int_equal(nfound, 0);
}

static void verify__reads_all_where_extents_are_refused(void **state)
{
    struct verify_result r;
    struct err e;

    (void)state;
    src->lie = LIE_ERRNO;
    src->lie_at = NBD_STATUS;
    src->lie_errno = 5;
    assert_ok(run(&r, &e), e);
    assert_int_equal(r.read[0], SIZE);
    assert_true(r.read[1] < SIZE);
    assert_int_equal(r.differ, 0);
}

static void verify__other_sizes_are_an_error(void **state)
{
    struct verify_result r;
    struct err e;

    (void)state;
    dst->size_told = SIZE - 512;
    assert_err(run(&r, &e), e, ERR_PROTO);
    assert_contains(e.msg, "src has 2429543 bytes, dst 2429031");
}

/* The comparison ends before the larger side, which is told so: nobody interrupted it. */
static void verify__other_sizes_are_one_while_a_side_still_reads(void **state)
{
    struct verify_result r;
    struct err e;

    (void)state;
    dst->size_told = 2 * BLOCK;
    src->lie = LIE_STUCK;
    src->lie_at = NBD_READ;
    src->lie_after = 2; /* the rest of the disk comes first; one to go on with */
    assert_err(run(&r, &e), e, ERR_PROTO);
    assert_contains(e.msg, "src has 2429543 bytes, dst 131072");
}

static void verify__a_failed_side_ends_one_that_waits(void **state)
{
    (void)state;
    src->lie = LIE_STUCK;
    src->lie_at = NBD_READ;
    fails(dst, LIE_ERRNO, NBD_READ, "vda: dst: read of ");
    src->lie_at = NBD_STATUS;
    fails(dst, LIE_ERRNO, NBD_READ, "vda: dst: read of ");
}

static void verify__can_be_cancelled(void **state)
{
    struct verify_result r;
    struct err e;

    (void)state;
    cancel_set(cancel);
    assert_err(run(&r, &e), e, ERR_CANCELLED);
}

static void verify__senseless_settings_are_refused(void **state)
{
    const struct mirror_side side = { nbd_mem_dial, src, "" };
    static const struct verify_cfg bad[] = {
        { .name = "vda", .block = 4096 },     { .name = "vda", .block = 65537 },
        { .name = "vda", .block = 64 << 20 }, { .name = "vda", .connections = 17 },
        { .name = "vda", .requests = 257 },
    };
    struct verify_result r;
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_err(verify_run(&bad[i], &side, &side, &r, &e), e, ERR_USAGE);
}

/* --- digests themselves --- */

static struct digest got[64];
static unsigned ngot;

static bool collect(void *ctx, const struct digest *d, struct err *e)
{
    (void)ctx;
    (void)e;
    assert_true(ngot < 64);
    got[ngot++] = *d;
    return true;
}

static void digest__is_xxh3_128_in_order_without_a_gap(void **state)
{
    const struct mirror_side side = { nbd_mem_dial, src, "" };
    const struct digest_cfg cfg = { .name = "src",
                                    .side = &side,
                                    .size = MIRROR_SIZE_DST,
                                    .block = BLOCK,
                                    .emit = collect };
    uint64_t pos = 0, size;
    struct err e;

    (void)state;
    ngot = 0;
    assert_ok(digest_export(&cfg, &size, &e), e);
    for (unsigned i = 0; i < ngot; pos += got[i++].len) {
        XXH128_canonical_t want;

        assert_int_equal(got[i].off, pos);
        if (got[i].zero)
            continue;
        XXH128_canonicalFromHash(&want,
                                 XXH3_128bits(src->bytes + pos, (size_t)got[i].len));
        assert_memory_equal(got[i].sum, want.digest, DIGEST_LEN);
    }
    assert_int_equal(pos, SIZE);
    assert_int_equal(size, SIZE);
}

static void digest__of_ranges_reads_these_and_no_more(void **state)
{
    const struct mirror_range ranges[] = { { BLOCK, 2 * BLOCK }, { 37 * BLOCK, 4711 } };
    const struct mirror_side side = { nbd_mem_dial, src, "" };
    counter read = 0;
    const struct digest_cfg cfg = { .name = "src",
                                    .side = &side,
                                    .size = SIZE,
                                    .ranges = ranges,
                                    .nranges = 2,
                                    .block = 2 * BLOCK,
                                    .emit = collect,
                                    .read = &read };
    struct err e;

    (void)state;
    ngot = 0;
    assert_ok(digest_export(&cfg, NULL, &e), e);
    assert_int_equal(ngot, 3); /* cut at the multiple of the block size */
    assert_int_equal(got[1].off, 2 * BLOCK);
    assert_int_equal(got[1].len, BLOCK);
    assert_int_equal(got[2].len, 4711);
    assert_int_equal(counter_get(&read), 2 * BLOCK + 4711);
    assert_int_equal(src->count[NBD_STATUS], 0);
}

/* Streams of another host are foreign: what does not fit is an error, not a difference. */
static void compare__streams_that_do_not_fit_are_an_error(void **state)
{
    static const struct digest bad[][2] = {
        { { .off = 0, .len = 10 }, { .off = 0, .len = 11 } },
        { { .off = 0, .len = 10 }, { .off = 5, .len = 10 } },
        { { .off = 0, .len = 10 }, { .off = 0, .len = 9, .zero = true } },
        { { .off = 0, .len = 10, .zero = true }, { .off = 0, .len = 9, .zero = true } },
    };
    const struct digest_diff diff = { .differs = on_differs };
    static struct digest_queue q[2];
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (int side = 0; side < 2; side++) {
            digest_queue_init(&q[side]);
            assert_ok(digest_push(&q[side], &bad[i][side], &e), e);
            digest_end(&q[side]);
        }
        assert_err(digest_compare(&q[0], &q[1], &diff, &e), e, ERR_PROTO);
        digest_shut(&q[0]);
        assert_err(digest_push(&q[0], &bad[i][0], &e), e, ERR_CANCELLED);
    }
}

/* Two queues of what is given, which have ended. */
static void fill(struct digest_queue *q, const struct digest *d, size_t n)
{
    struct err e;

    digest_queue_init(q);
    for (size_t i = 0; i < n; i++)
        assert_ok(digest_push(q, &d[i], &e), e);
    digest_end(q);
}

static struct told {
    bool alike;
    uint64_t off, len;
} told[16];
static unsigned ntold;

static void tell_differs(void *ctx, uint64_t off, uint64_t len)
{
    (void)ctx;
    told[ntold++] = (struct told){ false, off, len };
}

static void tell_alike(void *ctx, const struct digest *d)
{
    (void)ctx;
    told[ntold++] = (struct told){ true, d->off, d->len };
}

/* Who takes "alike up to here" for "all up to here is known" must have heard of every
 * difference before it. */
static void compare__all_is_told_in_order_without_a_gap(void **state)
{
    static const struct digest a[] = { { .off = 0, .len = 4, .sum = "1" },
                                       { .off = 4, .len = 4, .sum = "2" },
                                       { .off = 8, .len = 4, .sum = "3" },
                                       { .off = 12, .len = 20, .zero = true },
                                       { .off = 32, .len = 4, .sum = "4" } };
    static const struct digest b[] = {
        { .off = 0, .len = 4, .sum = "x" },  { .off = 4, .len = 4, .sum = "y" },
        { .off = 8, .len = 4, .sum = "3" },  { .off = 12, .len = 8, .zero = true },
        { .off = 20, .len = 4, .sum = "z" }, { .off = 24, .len = 8, .zero = true },
        { .off = 32, .len = 4, .sum = "w" }
    };
    static const struct told want[] = { { false, 0, 8 }, { true, 8, 4 },
                                        { true, 12, 8 }, { false, 20, 4 },
                                        { true, 24, 8 }, { false, 32, 4 } };
    const struct digest_diff diff = { .differs = tell_differs, .alike = tell_alike };
    static struct digest_queue q[2];
    struct err e;

    (void)state;
    ntold = 0;
    fill(&q[0], a, sizeof a / sizeof a[0]);
    fill(&q[1], b, sizeof b / sizeof b[0]);
    assert_ok(digest_compare(&q[0], &q[1], &diff, &e), e);
    assert_int_equal(ntold, sizeof want / sizeof want[0]);
    for (unsigned i = 0; i < ntold; i++) {
        assert_int_equal(told[i].alike, want[i].alike);
        assert_int_equal(told[i].off, want[i].off);
        assert_int_equal(told[i].len, want[i].len);
    }
}

static void fold_of(const struct digest *d, size_t n, char out[2 * DIGEST_LEN + 1])
{
    struct digest_fold *const f = digest_fold_new(BLOCK);
    uint8_t sum[DIGEST_LEN];

    assert_non_null(f);
    for (size_t i = 0; i < n; i++)
        digest_fold_add(f, &d[i]);
    digest_fold_sum(f, sum);
    digest_hex(sum, out);
    digest_fold_free(f);
}

/* Two records can be compared only if it follows from the blocks alone. */
static void fold__is_of_blocks_however_their_zeroes_come(void **state)
{
    const struct digest whole[] = { { .off = 0, .len = 3 * BLOCK, .zero = true },
                                    { .off = 3 * BLOCK, .len = BLOCK, .sum = "1" } };
    const struct digest parts[] = { { .off = 0, .len = BLOCK, .zero = true },
                                    { .off = BLOCK, .len = 2 * BLOCK, .zero = true },
                                    { .off = 3 * BLOCK, .len = BLOCK, .sum = "1" } };
    const struct digest other[] = { { .off = 0, .len = 2 * BLOCK, .zero = true },
                                    { .off = 3 * BLOCK, .len = BLOCK, .sum = "1" } };
    char a[2 * DIGEST_LEN + 1], b[2 * DIGEST_LEN + 1];

    (void)state;
    fold_of(whole, 2, a);
    fold_of(parts, 3, b);
    assert_string_equal(a, b);
    fold_of(other, 2, b);
    assert_string_not_equal(a, b);
    /* XXH128 of those 32 bytes: what others have in their records must not change. */
    fold_of(parts + 2, 1, b);
    assert_string_equal(b, "09a905c59b68e2c30b4f8d76593031d4");
    fold_of(NULL, 0, b);
    assert_string_equal(b, "99aa06d3014798d86001c324468d497f"); /* of no bytes */
}

/* --- digests from elsewhere --- */

static bool elsewhere(void *ctx, const struct digest_cfg *cfg, uint64_t *size,
                      struct err *e)
{
    const struct mirror_side to = { nbd_mem_dial, dst, "" };
    struct digest_cfg there = *cfg;

    (void)ctx;
    assert_null(cfg->side);
    there.side = &to;
    return digest_export(&there, size, e);
}

static void verify__takes_digests_from_elsewhere(void **state)
{
    const struct mirror_side from = { nbd_mem_dial, src, "" };
    struct verify_cfg cfg = *config();
    struct verify_result r;
    struct err e;

    (void)state;
    cfg.dst_digests = elsewhere;
    dst->bytes[2 * BLOCK] ^= 1;
    dst->bytes[20 * BLOCK] ^= 1;
    assert_ok(verify_run(&cfg, &from, NULL, &r, &e), e);
    assert_int_equal(nfound, 2);
    assert_int_equal(found[1].off, 20 * BLOCK);

    nfound = 0;
    cfg.start = 3 * BLOCK;
    assert_ok(verify_run(&cfg, &from, NULL, &r, &e), e);
    assert_int_equal(nfound, 1);
    assert_int_equal(found[0].off, 20 * BLOCK);
    assert_true(r.read[0] <= SIZE - 3 * BLOCK);

    dst->lie = LIE_ERRNO;
    dst->lie_at = NBD_READ;
    dst->lie_errno = 5;
    assert_err(verify_run(&cfg, &from, NULL, &r, &e), e, ERR_NBD);
    assert_contains(e.msg, "vda: dst: read of ");
}

static void verify__ranges_alone_are_compared(void **state)
{
    const struct mirror_range ranges[] = { { 2 * BLOCK, BLOCK },
                                           { 30 * BLOCK, BLOCK } };
    const struct mirror_side from = { nbd_mem_dial, src, "" };
    const struct mirror_side to = { nbd_mem_dial, dst, "" };
    struct verify_cfg cfg = *config();
    struct verify_result r;
    struct err e;

    (void)state;
    cfg.ranges = ranges;
    cfg.nranges = 2;
    dst->bytes[2 * BLOCK + 7] ^= 1;
    dst->bytes[20 * BLOCK] ^= 1;
    assert_ok(verify_run(&cfg, &from, &to, &r, &e), e);
    assert_int_equal(r.read[0], 2 * BLOCK);
    assert_int_equal(nfound, 1);
    assert_int_equal(found[0].off, 2 * BLOCK);
    assert_int_equal(found[0].len, BLOCK);
}

/* Who copies what is found need not wait for the end of it. */
static void verify__long_stretches_are_told_in_parts(void **state)
{
    const struct mirror_side from = { nbd_mem_dial, src, "" };
    const struct mirror_side to = { nbd_mem_dial, dst, "" };
    struct verify_cfg cfg = *config();
    struct verify_result r;
    struct err e;
    uint64_t sum = 0;

    (void)state;
    for (uint64_t i = 0; i < SIZE; i += 1000)
        dst->bytes[i] ^= 1;
    cfg.stretch_max = 4 * BLOCK;
    assert_ok(verify_run(&cfg, &from, &to, &r, &e), e);
    for (unsigned i = 0; i < nfound; i++) {
        assert_int_equal(found[i].off, sum);
        assert_true(found[i].len <= 4 * BLOCK);
        sum += found[i].len;
    }
    assert_int_equal(sum, SIZE);
    assert_int_equal(nfound, 10);
}

#define TEST_V(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_V(verify__alike_is_alike),
        TEST_V(verify__one_byte_is_found),
        TEST_V(verify__neighbours_are_one_stretch),
        TEST_V(verify__what_moved_is_found),
        TEST_V(verify__zeroes_are_alike_however_they_are_told),
        TEST_V(verify__blocks_are_read_in_parts_where_the_server_wants_it),
        TEST_V(verify__repair_makes_it_alike),
        TEST_V(verify__a_repair_that_did_not_help_is_seen),
        TEST_V(verify__a_server_that_shrinks_in_a_repair_is_an_error),
        TEST_V(verify__a_read_error_is_no_difference),
        TEST_V(verify__reads_all_where_extents_are_refused),
        TEST_V(verify__other_sizes_are_an_error),
        TEST_V(verify__other_sizes_are_one_while_a_side_still_reads),
        TEST_V(verify__a_failed_side_ends_one_that_waits),
        TEST_V(verify__can_be_cancelled),
        TEST_V(verify__senseless_settings_are_refused),
        TEST_V(digest__is_xxh3_128_in_order_without_a_gap),
        TEST_V(digest__of_ranges_reads_these_and_no_more),
        TEST_V(verify__takes_digests_from_elsewhere),
        TEST_V(verify__ranges_alone_are_compared),
        TEST_V(verify__long_stretches_are_told_in_parts),
        TEST_V(compare__streams_that_do_not_fit_are_an_error),
        TEST_V(compare__all_is_told_in_order_without_a_gap),
        TEST_V(fold__is_of_blocks_however_their_zeroes_come),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
