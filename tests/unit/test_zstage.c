#include "unit.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zstd.h>

#include "base/unix.h"
#include "tunnel/link.h"
#include "tunnel/zstage.h"

enum { KIB = 1 << 10, MIB = 1 << 20 };

/* --- one stage with both its ends --- */

struct bench {
    struct zstage *z;
    int user; /* the other end of the channel's socket */
    int fd;   /* the channel's */
    int wire; /* the session's end of the pair */
    atomic_uint_fast64_t plain, packed;
    atomic_int woken;
};

static void wake(void *arg)
{
    struct bench *const b = arg;

    atomic_fetch_add(&b->woken, 1);
}

static void bench_open(struct bench *b, bool pack, int level)
{
    struct err e;
    int pair[2];

    memset(b, 0, sizeof *b);
    assert_ok(unix_pair(pair, &e), e);
    b->user = pair[0];
    b->fd = pair[1];
    const struct zstage_cfg cfg = { .fd = b->fd,
                                    .pack = pack,
                                    .level = level,
                                    .plain = &b->plain,
                                    .packed = &b->packed,
                                    .wake = wake,
                                    .arg = b };
    assert_ok(zstage_new(&cfg, &b->z, &b->wire, &e), e);
}

static void bench_close(struct bench *b)
{
    zstage_stop(b->z);
    zstage_free(b->z);
    assert_int_equal(atomic_load(&b->woken), 1);
    close(b->user);
    close(b->fd);
    close(b->wire);
}

/* --- bytes in, bytes out --- */

struct feed { /* a thread that writes all of it, in pieces, then ends */
    int fd;
    const uint8_t *p;
    size_t len;
    unsigned seed; /* of the sizes of the pieces; 0: one piece */
    pthread_t thread;
};

static unsigned next(unsigned *seed)
{
    *seed ^= *seed << 13; /* xorshift32; the seed is not 0 */
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

static void *feed_main(void *arg)
{
    struct feed *const f = arg;
    unsigned seed = f->seed;

    for (size_t at = 0; at < f->len;) {
        size_t n = f->len - at;

        if (f->seed != 0 && n > 1 + next(&seed) % 100000)
            n = 1 + seed % 70000;
        const ssize_t k =
            send(f->fd, f->p + at, n < f->len - at ? n : f->len - at, MSG_NOSIGNAL);
        if (k < 0)
            break;
        at += (size_t)k;
    }
    shutdown(f->fd, SHUT_WR);
    return NULL;
}

/* What comes out of @to when @len bytes go into @from, up to the end of file. */
static size_t through(int from, const void *p, size_t len, unsigned seed, int to,
                      uint8_t *out, size_t size)
{
    struct feed f = { .fd = from, .p = p, .len = len, .seed = seed };
    size_t got = 0;
    ssize_t n;

    assert_int_equal(pthread_create(&f.thread, NULL, feed_main, &f), 0);
    while (got < size && (n = read(to, out + got, size - got)) > 0)
        got += (size_t)n;
    if (got == size) /* more than there should be: let the writer end */
        shutdown(from, SHUT_RDWR);
    pthread_join(f.thread, NULL);
    return got;
}

static size_t pack(int level, const void *p, size_t len, unsigned seed, uint8_t *out,
                   size_t size)
{
    struct bench b;

    bench_open(&b, true, level);
    const size_t n = through(b.user, p, len, seed, b.wire, out, size);
    assert_int_equal(atomic_load(&b.plain), len);
    assert_int_equal(atomic_load(&b.packed), n);
    bench_close(&b);
    return n;
}

/* ERR_NONE: unpacked well. */
static enum err_kind unpack(const void *p, size_t len, unsigned seed, uint8_t *out,
                            size_t size, size_t *got)
{
    struct bench b;
    struct err e = { .kind = ERR_NONE };

    bench_open(&b, false, ZSTD_AUTO);
    struct feed f = { .fd = b.wire, .p = p, .len = len, .seed = seed };
    ssize_t n;

    *got = 0;
    assert_int_equal(pthread_create(&f.thread, NULL, feed_main, &f), 0);
    for (struct pollfd w = { b.user, POLLIN, 0 };
         atomic_load(&b.woken) == 0 || poll(&w, 1, 0) > 0;) {
        /* A failed stage leaves the socket open: its owner shuts it. */
        if (poll(&w, 1, 10) <= 0)
            continue;
        n = read(b.user, out + *got, size - *got);
        if (n <= 0)
            break;
        *got += (size_t)n;
    }
    shutdown(b.wire, SHUT_RDWR);
    pthread_join(f.thread, NULL);
    while (!zstage_done(b.z))
        (void)poll(NULL, 0, 1);
    (void)zstage_failed(b.z, &e);
    bench_close(&b);
    return e.kind;
}

/* --- data --- */

static void fill(uint8_t *p, size_t len, int kind, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned r = next(&seed);

        switch (kind) {
        case 0:
            p[i] = 0;
            break; /* a hole */
        case 1:
            p[i] = (uint8_t)r;
            break; /* random */
        case 2:
            p[i] = "the quick brown fox"[r % 19];
            break; /* text */
        case 3:
            p[i] = i / 200000 % 2 ? 0 : (uint8_t)r;
            break; /* by turns */
        default:
            p[i] = (uint8_t)(i >> 3);
            break; /* regular */
        }
    }
}

static void zstage__what_goes_in_comes_out(void **state)
{
    static const size_t sizes[] = { 0,      1,      100,    65536,
                                    131072, 131073, 524288, 3 * MIB + 7 };
    static const int levels[] = { ZSTD_AUTO, -5, 1, 9 };
    enum { MAX = 3 * MIB + 7, PACKED_MAX = 5 * MIB };
    uint8_t *const plain = malloc(MAX), *const packed = malloc(PACKED_MAX),
                   *const back = malloc(MAX + 1);
    size_t got;

    (void)state;
    for (unsigned s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
        for (int kind = 0; kind < 5; kind++) {
            const unsigned seed = s * 5 + (unsigned)kind + 1;

            fill(plain, sizes[s], kind, seed);
            const size_t n =
                pack(levels[seed % 4], plain, sizes[s], seed, packed, PACKED_MAX);
            assert_int_equal(unpack(packed, n, seed * 7, back, MAX + 1, &got),
                             ERR_NONE);
            assert_int_equal(got, sizes[s]);
            assert_memory_equal(plain, back, got);
        }
    free(plain);
    free(packed);
    free(back);
}

/* zstd(1) can read it: also the frames that are made by hand. */
static void zstage__frames_are_zstd(void **state)
{
    enum { LEN = 8 * MIB, PACKED_MAX = 9 * MIB };
    uint8_t *const plain = malloc(LEN), *const packed = malloc(PACKED_MAX),
                   *const back = malloc(LEN);

    (void)state;
    for (int kind = 1; kind < 4; kind++) {
        fill(plain, LEN, kind, 99);
        const size_t n = pack(3, plain, LEN, 0, packed, PACKED_MAX);
        size_t at = 0;

        for (size_t from = 0; from < n;) {
            const size_t frame = ZSTD_findFrameCompressedSize(packed + from, n - from);
            assert_false(ZSTD_isError(frame));
            const size_t len =
                ZSTD_decompress(back + at, LEN - at, packed + from, frame);
            assert_false(ZSTD_isError(len));
            assert_int_equal(ZSTD_getFrameContentSize(packed + from, frame), len);
            from += frame;
            at += len;
        }
        assert_int_equal(at, LEN);
        assert_memory_equal(plain, back, LEN);
        if (kind == 1)
            assert_in_range(n, LEN, LEN + LEN / 1000);
    }
    free(plain);
    free(packed);
    free(back);
}

/* Nothing is held back until more comes. */
static void zstage__every_message_passes_at_once(void **state)
{
    struct bench in, out;
    char buf[64];
    struct err e;

    (void)state;
    bench_open(&in, true, ZSTD_AUTO);
    bench_open(&out, false, ZSTD_AUTO);
    for (int i = 0; i < 50; i++) {
        uint8_t packed[200];

        assert_ok(fd_write_all(in.user, "a request", 9, &e), e);
        const ssize_t n = read(in.wire, packed, sizeof packed);
        assert_true(n > 0);
        assert_ok(fd_write_all(out.wire, packed, (size_t)n, &e), e);
        assert_ok(fd_read_all(out.user, buf, 9, &e), e);
        assert_memory_equal(buf, "a request", 9);
    }
    bench_close(&in);
    bench_close(&out);
}

static void zstage__cut_at_any_length_is_an_error(void **state)
{
    uint8_t plain[3000], packed[4000], back[4000];
    size_t got, frames = 0;

    (void)state;
    fill(plain, sizeof plain, 2, 5);
    const size_t first = ZSTD_compress(packed, 2000, plain, 1500, 3);
    const size_t n =
        first + ZSTD_compress(packed + first, 2000, plain + 1500, 1500, -3);
    for (size_t len = 0; len < n; len += len < 20 || len > n - 20 ? 1 : 13) {
        const enum err_kind kind = unpack(packed, len, 0, back, sizeof back, &got);

        assert_memory_equal(plain, back, got); /* never anything else before it */
        frames += kind == ERR_NONE;
        if (kind == ERR_NONE)
            assert_true(len == 0 || len == first);
        else
            assert_int_equal(kind, ERR_PROTO);
    }
    assert_in_range(frames, 1, 2);
}

static void zstage__what_is_no_zstd_is_an_error(void **state)
{
    uint8_t packed[400], back[4000];
    size_t got;

    (void)state;
    assert_int_equal(unpack("GET / HTTP/1.1\r\n", 16, 0, back, sizeof back, &got),
                     ERR_PROTO);
    assert_int_equal(got, 0);
    const size_t n = ZSTD_compress(packed, sizeof packed, "some text", 9, 3);
    memcpy(packed + n, "trailing", 8);
    assert_int_equal(unpack(packed, n + 8, 0, back, sizeof back, &got), ERR_PROTO);
    assert_int_equal(got, 9);
}

/* RFC 8878, 3.1.1.1: what a header claims must cost nothing. */
static void zstage__large_windows_are_refused(void **state)
{
    static const uint8_t window_2_31[] = { 0x28,    0xb5, 0x2f, 0xfd, 0x00,
                                           21 << 3, 1,    0,    0 };
    static const uint8_t window_8_mib[] = { 0x28,    0xb5, 0x2f, 0xfd, 0x00,
                                            13 << 3, 1,    0,    0 };
    static const uint8_t window_1_mib[] = { 0x28,    0xb5, 0x2f, 0xfd, 0x00,
                                            10 << 3, 1,    0,    0 };
    /* single segment: the content size, 4 GiB and then 2^63, is the window */
    static const uint8_t claims_4_gib[] = { 0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0,
                                            0,    1,    0,    0,    0,    1, 0, 0 };
    static const uint8_t claims_2_63[] = { 0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0,
                                           0,    0,    0,    0,    0x80, 1, 0, 0 };
    uint8_t back[100];
    size_t got;

    (void)state;
    assert_int_equal(unpack(window_2_31, 9, 0, back, sizeof back, &got), ERR_PROTO);
    assert_int_equal(unpack(window_8_mib, 9, 0, back, sizeof back, &got), ERR_PROTO);
    assert_int_equal(unpack(window_1_mib, 9, 0, back, sizeof back, &got), ERR_NONE);
    assert_int_equal(unpack(claims_4_gib, 16, 0, back, sizeof back, &got), ERR_PROTO);
    assert_int_equal(unpack(claims_2_63, 16, 0, back, sizeof back, &got), ERR_PROTO);
}

/* A few bytes that become 64 MiB of zeros: they pass, piece by piece, as the reader takes
 * them. */
static void zstage__bomb_comes_at_the_readers_pace(void **state)
{
    enum { LEN = 64 * MIB };
    uint8_t *const zeros = calloc(1, LEN), *const packed = malloc(MIB);
    struct bench b;
    size_t got = 0;
    ssize_t n;

    (void)state;
    ZSTD_CCtx *const cctx = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_windowLog, 20);
    const size_t len = ZSTD_compress2(cctx, packed, MIB, zeros, LEN);
    ZSTD_freeCCtx(cctx);
    assert_false(ZSTD_isError(len));
    assert_true(len < 64 * KIB);

    bench_open(&b, false, ZSTD_AUTO);
    n = through(b.wire, packed, len, 0, b.user, zeros, 1) == 1 ? 1 : 0;
    for (got = 1; n > 0 && got < LEN; got += (size_t)(n > 0 ? n : 0))
        n = read(b.user, zeros, LEN);
    bench_close(&b);
    free(zeros);
    free(packed);
}

static void zstage__stop_ends_it_wherever_it_waits(void **state)
{
    uint8_t *const buf = malloc(4 * MIB);
    struct bench b;

    (void)state;
    fill(buf, 4 * MIB, 1, 3);
    for (int i = 0; i < 20; i++) {
        bench_open(&b, i % 2 == 0, -5); /* waits for input */
        bench_close(&b);
        bench_open(&b, true, -5); /* waits for its output to be taken */
        assert_true(send(b.user, buf, 4 * MIB, MSG_DONTWAIT) > 0);
        bench_close(&b);
    }
    free(buf);
}

static void zstage__gone_user_is_an_error_of_the_system(void **state)
{
    uint8_t packed[400];
    struct bench b;
    struct err e = { .kind = ERR_NONE };

    (void)state;
    bench_open(&b, false, ZSTD_AUTO);
    close(b.user);
    const size_t n = ZSTD_compress(packed, sizeof packed, "some text", 9, 3);
    assert_ok(fd_write_all(b.wire, packed, n, &e), e);
    assert_int_equal(read(b.wire, packed, 1), 0); /* it ends */
    assert_true(zstage_failed(b.z, &e));
    assert_int_equal(e.kind, ERR_SYS);
    assert_int_equal(e.os, EPIPE);
    b.user = dup(b.wire);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(zstage__what_goes_in_comes_out),
        TEST(zstage__frames_are_zstd),
        TEST(zstage__every_message_passes_at_once),
        TEST(zstage__cut_at_any_length_is_an_error),
        TEST(zstage__what_is_no_zstd_is_an_error),
        TEST(zstage__large_windows_are_refused),
        TEST(zstage__bomb_comes_at_the_readers_pace),
        TEST(zstage__stop_ends_it_wherever_it_waits),
        TEST(zstage__gone_user_is_an_error_of_the_system),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
