/* Digests as bytes: told and heard through a socket, and what liars say instead. */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"
#include "nbd-mirror/digest-wire.h"
#include "tests/lib/nbd-mem.h"

#define BLOCK UINT64_C(65536)
#define SIZE  (37 * BLOCK + 4711)

static struct nbd_mem *disk;
static struct digest want[64], got[64];
static unsigned nwant, ngot;

static void no_log(enum log_level level, const char *line, void *ctx)
{
    (void)level, (void)line, (void)ctx;
}

static int setup(void **state)
{
    (void)state;
    log_set_sink(no_log, NULL);
    disk = nbd_mem_new(SIZE);
    for (uint64_t i = 0; i < SIZE; i++)
        disk->bytes[i] = i / 200000 % 3 ? (uint8_t)(i * 7 + i / 300) | 1 : 0;
    nwant = ngot = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    nbd_mem_free(disk);
    return 0;
}

static bool collect_want(void *ctx, const struct digest *d, struct err *e)
{
    (void)ctx, (void)e;
    assert_true(nwant < 64);
    want[nwant++] = *d;
    return true;
}

static bool collect_got(void *ctx, const struct digest *d, struct err *e)
{
    (void)ctx, (void)e;
    assert_true(ngot < 64);
    got[ngot++] = *d;
    return true;
}

/* The other end. */
struct server {
    int fd;
    pthread_t thread;
    bool ok;
    struct err e;
};

static void *serve(void *arg)
{
    const struct mirror_side side = { nbd_mem_dial, disk, "" };
    struct server *const s = arg;

    s->ok = digest_wire_serve(s->fd, &side, &s->e);
    close(s->fd);
    return NULL;
}

static int server_start(struct server *s)
{
    struct err e;
    int pair[2];

    assert_ok(unix_pair(pair, &e), e);
    *s = (struct server){ .fd = pair[1] };
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
    return pair[0];
}

static bool fetch(struct digest_cfg cfg, struct err *e)
{
    struct server s;
    AUTO(fd_close) int fd = server_start(&s);

    cfg.name = "dst";
    cfg.emit = collect_got;
    const bool ok = digest_wire_fetch(fd, &cfg, e);
    pthread_join(s.thread, NULL);
    assert_int_equal(ok, s.ok);
    return ok;
}

static void assert_same(struct digest_cfg cfg)
{
    const struct mirror_side side = { nbd_mem_dial, disk, "" };
    struct err e;

    nwant = ngot = 0;
    assert_ok(fetch(cfg, &e), e);
    cfg.name = "here";
    cfg.side = &side;
    cfg.emit = collect_want;
    assert_ok(digest_export(&cfg, NULL, &e), e);
    assert_true(nwant > 0);
    assert_int_equal(ngot, nwant);
    for (unsigned i = 0; i < nwant; i++) {
        assert_int_equal(got[i].off, want[i].off);
        assert_int_equal(got[i].len, want[i].len);
        assert_int_equal(got[i].zero, want[i].zero);
        assert_memory_equal(got[i].sum, want[i].sum, DIGEST_LEN);
    }
}

static void wire__tells_what_a_digest_here_would(void **state)
{
    const struct mirror_range ranges[] = { { BLOCK, 2 * BLOCK },
                                           { 3 * BLOCK, BLOCK },
                                           { 37 * BLOCK, 4711 } };

    (void)state;
    assert_same((struct digest_cfg){ .size = SIZE, .block = BLOCK });
    assert_same((struct digest_cfg){ .size = SIZE }); /* of 256 KiB */
    assert_same(
        (struct digest_cfg){ .size = SIZE, .block = BLOCK, .start = 7 * BLOCK });
    assert_int_equal(got[0].off, 7 * BLOCK);
    assert_same((struct digest_cfg){
        .size = SIZE, .block = BLOCK, .ranges = ranges, .nranges = 3 });
    assert_same((struct digest_cfg){
        .size = SIZE, .block = 2 * BLOCK, .ranges = ranges, .nranges = 3 });
}

static void wire__a_hole_costs_a_few_bytes_and_no_read(void **state)
{
    (void)state;
    memset(disk->bytes, 0, SIZE - 4711);
    assert_same((struct digest_cfg){ .size = SIZE, .block = BLOCK });
    assert_true(ngot <= 3);
    assert_true(disk->count[NBD_READ] <= 2); /* the rest, here and there */
}

static void wire__failures_arrive_with_words_and_errno(void **state)
{
    struct err e;

    (void)state;
    disk->lie = LIE_ERRNO;
    disk->lie_at = NBD_READ;
    disk->lie_errno = EIO;
    assert_err(fetch((struct digest_cfg){ .size = SIZE, .block = BLOCK }, &e), e,
               ERR_NBD);
    assert_contains(e.msg, "dst: read of ");
    assert_int_equal(e.os, EIO);
    disk->lie = LIE_NONE;
    assert_err(fetch((struct digest_cfg){ .size = SIZE + 512, .block = BLOCK }, &e), e,
               ERR_NBD);
    assert_contains(e.msg, "the export has 2429543 bytes, not 2430055");
}

/* --- liars who ask --- */

/* Ask with the bytes of a question; what the other end says to it. */
static void ask(const uint8_t *p, size_t len, struct server *s, uint8_t *reply)
{
    AUTO(fd_close) int fd = server_start(s);
    struct err e;

    assert_ok(fd_write_all(fd, p, len, &e), e);
    shutdown(fd, SHUT_WR);
    memset(reply, 0, 8);
    (void)!read(fd, reply, 8);
    pthread_join(s->thread, NULL);
}

static void wire__questions_that_are_none_are_refused(void **state)
{
    /* clang-format off */
    static const struct { size_t at; uint8_t v; const char *why; } bad[] = {
        { 0, 'X', "magic" },   { 5, 0x00, "block 0" },  { 7, 0x01, "block odd" },
        { 4, 0x02, "block large" }, { 8, 0x80, "size" }, { 16, 0x01, "start behind" },
        { 22, 0x80, "start in a block" }, { 26, 0x10, "4097 ranges" },
        { 32, 0x80, "range behind the end" }, { 38, 0x01, "range in a block" },
        { 40, 0xff, "range too long" }, { 45, 0x00, "range empty" },
        { 46, 0x01, "range ends in a block" }, { 21, 0x01, "start and range" },
    };
    /* clang-format on */
    uint8_t good[48] = { 'S', 'N', 'M', 'D', 0, 1 };
    struct server s;
    uint8_t reply[8];

    (void)state;
    good[13] = 37; /* size: 37 blocks ... */
    good[14] = 4711 / 256;
    good[15] = 4711 % 256; /* ... and the rest */
    good[27] = 1;          /* a range */
    good[37] = 5;          /* at block 5, */
    good[45] = 1;          /* one block */
    ask(good, sizeof good, &s, reply);
    assert_ok(s.ok, s.e);
    assert_int_equal(reply[0], 's');
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint8_t q[48];

        memcpy(q, good, sizeof q);
        q[bad[i].at] = bad[i].v;
        ask(q, sizeof q, &s, reply);
        if (s.ok || s.e.kind != ERR_PROTO || reply[0] != 'f')
            fail_msg("taken: %s", bad[i].why);
    }
    for (size_t len = 0; len < sizeof good; len++) {
        ask(good, len, &s, reply);
        assert_false(s.ok);
    }
    assert_int_equal(disk->connections, 2); /* for the good one */
}

/* --- liars who answer --- */

static bool feed(const void *p, size_t len, struct err *e)
{
    static const struct digest_cfg cfg = {
        .name = "dst", .size = 3 * BLOCK + 512, .block = BLOCK, .emit = collect_got
    };
    struct digest_wire w;
    size_t used;

    ngot = 0;
    digest_wire_begin(&w, &cfg);
    return digest_wire_take(&w, p, len, &used, e);
}

#define SUM "s0123456789abcdef"

static void wire__answers_that_do_not_fit_are_errors(void **state)
{
    /* clang-format off */
#define BAD(s) { s, sizeof s - 1 }
    static const struct { const char *p; size_t len; } bad[] = {
        BAD("x"), BAD("e"), BAD(SUM "e"), BAD(SUM SUM SUM SUM SUM),
        BAD(SUM SUM SUM SUM "ee"), BAD("z\0\0\0\0\0\0\0\0"),
        BAD("z\0\0\0\0\0\0\1\0"), BAD("z\0\0\0\0\0\3\3\0"), BAD("z\377\0\0\0\0\0\0\0"),
        BAD("z\0\0\0\0\0\3\2\0z\0\0\0\0\0\0\0\1"), BAD("f\0\0\0\5\377\377"),
        BAD("f\0\0\0\5\0\3abc"),
    };
    /* clang-format on */
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        e.kind = ERR_NONE;
        if (feed(bad[i].p, bad[i].len, &e))
            fail_msg("answer %zu was taken", i);
        assert_true(e.kind == ERR_PROTO || e.kind == ERR_NBD);
        assert_true(e.msg[0] != '\0');
    }
    assert_err(feed("f\0\0\0\5\0\3a\33c", 10, &e), e, ERR_NBD);
    assert_string_equal(e.msg, "a\\x1bc");
    assert_int_equal(e.os, 5);
}

static void wire__records_are_whole_or_not_yet(void **state)
{
    static const char all[] = SUM "z\0\0\0\0\0\2\0\0" SUM "e";
    static const struct digest_cfg cfg = {
        .name = "dst", .size = 3 * BLOCK + 512, .block = BLOCK, .emit = collect_got
    };
    const uint8_t *const p = (const uint8_t *)all;
    struct err e;

    (void)state;
    for (size_t step = 1; step < sizeof all; step++) {
        struct digest_wire w;
        size_t at = 0, used;

        ngot = 0;
        digest_wire_begin(&w, &cfg);
        for (size_t have = 0; have < sizeof all - 1;) {
            have = have + step < sizeof all - 1 ? have + step : sizeof all - 1;
            assert_ok(digest_wire_take(&w, p + at, have - at, &used, &e), e);
            at += used;
        }
        assert_int_equal(at, sizeof all - 1);
        assert_true(w.ended);
        assert_int_equal(ngot, 3);
        assert_int_equal(got[1].len, 2 * BLOCK);
        assert_int_equal(got[2].len, 512);
    }
}

static void wire__an_answer_that_stops_is_an_error(void **state)
{
    static const struct digest_cfg cfg = {
        .name = "dst", .size = 3 * BLOCK, .block = BLOCK, .emit = collect_got
    };
    struct err e;
    int pair[2];

    (void)state;
    assert_ok(unix_pair(pair, &e), e);
    AUTO(fd_close) int fd = pair[0];
    assert_ok(fd_write_all(pair[1], SUM, 17, &e), e);
    shutdown(pair[1], SHUT_WR);
    assert_err(digest_wire_fetch(fd, &cfg, &e), e, ERR_NBD);
    assert_contains(e.msg, "dst: the digests end at 65536");
    close(pair[1]);
}

static void wire__silence_can_be_cancelled(void **state)
{
    AUTO(cancel_free) struct cancel *stop = cancel_new();
    const struct digest_cfg cfg = { .name = "dst",
                                    .size = 3 * BLOCK,
                                    .block = BLOCK,
                                    .emit = collect_got,
                                    .stop = stop };
    struct err e;
    int pair[2];

    (void)state;
    assert_ok(unix_pair(pair, &e), e);
    AUTO(fd_close) int fd = pair[0];
    AUTO(fd_close) int other = pair[1];
    cancel_set(stop);
    assert_err(digest_wire_fetch(fd, &cfg, &e), e, ERR_CANCELLED);
}

#define TEST_W(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_W(wire__tells_what_a_digest_here_would),
        TEST_W(wire__a_hole_costs_a_few_bytes_and_no_read),
        TEST_W(wire__failures_arrive_with_words_and_errno),
        TEST_W(wire__questions_that_are_none_are_refused),
        TEST_W(wire__answers_that_do_not_fit_are_errors),
        TEST_W(wire__records_are_whole_or_not_yet),
        TEST_W(wire__an_answer_that_stops_is_an_error),
        TEST_W(wire__silence_can_be_cancelled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
