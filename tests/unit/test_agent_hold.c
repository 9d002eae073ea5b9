/* The hold rule: what these tests show is that a guest cannot run twice by an accident of
 * the RAM stream (src/agent/hold.h). */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/hold.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"
#include "tests/lib/tmp.h"

enum { WAIT_MS = 20000, MIB = 1 << 20 };

/* One stream: the source's end, the hold, QEMU's end. */
struct rig {
    struct hold *h;
    int src, listener, qemu;
};

static uint8_t byte_at(uint64_t at)
{
    return (uint8_t)(at * 167 + at / 253);
}

static void rig_listen(struct rig *r)
{
    struct err e;

    unlink(tmp_path("sock"));
    assert_ok(unix_listen(tmp_path("sock"), &r->listener, &e), e);
}

static void rig_open_cfg(struct rig *r, struct hold_cfg cfg, bool listen)
{
    struct err e;

    r->src = r->listener = r->qemu = -1;
    r->h = NULL;
    if (listen)
        rig_listen(r);
    cfg.sock = tmp_path("sock");
    cfg.dir = tmp_dir();
    assert_ok(hold_open(&cfg, &r->src, &r->h, &e), e);
}

static void rig_open(struct rig *r)
{
    rig_open_cfg(r, (struct hold_cfg){ 0 }, true);
}

static void rig_accept(struct rig *r)
{
    struct err e;

    assert_ok(unix_accept(r->listener, WAIT_MS, NULL, &r->qemu, &e), e);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void rig_close(struct rig *r)
{
    close_fd(&r->src);
    hold_free(r->h);
    close_fd(&r->listener);
    close_fd(&r->qemu);
}

static struct hold_stats stats(const struct rig *r)
{
    struct hold_stats s;

    hold_stats(r->h, &s);
    return s;
}

static void say(const struct rig *r, uint64_t at, size_t len)
{
    AUTO(mem_free) uint8_t *buf = malloc(len);
    struct err e;

    for (size_t i = 0; i < len; i++)
        buf[i] = byte_at(at + i);
    assert_ok(fd_write_all(r->src, buf, len, &e), e);
}

static void hear(const struct rig *r, uint64_t at, size_t len)
{
    AUTO(mem_free) uint8_t *buf = malloc(len);
    struct err e;

    assert_ok(fd_read_all(r->qemu, buf, len, &e), e);
    for (size_t i = 0; i < len; i++)
        if (buf[i] != byte_at(at + i))
            fail_msg("byte %llu is wrong", (unsigned long long)(at + i));
}

/* Until the hold has read @n bytes: then whatever it does with them it has begun. */
static void wait_received(const struct rig *r, uint64_t n)
{
    const int64_t end = clock_ms() + WAIT_MS;

    while (stats(r).received < n) {
        assert_true(clock_left_ms(end) > 0);
        clock_sleep_ms(1);
    }
}

static void wait_passed(const struct rig *r, uint64_t n)
{
    const int64_t end = clock_ms() + WAIT_MS;

    while (stats(r).passed < n) {
        assert_true(clock_left_ms(end) > 0);
        clock_sleep_ms(1);
    }
}

static void wait_over(const struct rig *r)
{
    const int64_t end = clock_ms() + WAIT_MS;

    while (stats(r).state != HOLD_OVER) {
        assert_true(clock_left_ms(end) > 0);
        clock_sleep_ms(1);
    }
}

/* Read to the end of file; returns the number of bytes, which are compared. */
static uint64_t hear_all(int fd, uint64_t at)
{
    static uint8_t buf[64 << 10];
    uint64_t total = 0;
    ssize_t n;

    while ((n = read(fd, buf, sizeof buf)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            if (buf[i] != byte_at(at + total + (uint64_t)i))
                fail_msg("byte %llu is wrong", (unsigned long long)(at + total));
        total += (uint64_t)n;
    }
    return total;
}

static void assert_silent(int fd)
{
    uint8_t c;

    assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

/* ---- held ------------------------------------------------------------------------------- */

static void hold__without_limit_nothing_passes(void **state)
{
    struct rig r;

    (void)state;
    rig_open(&r);
    say(&r, 0, MIB);
    rig_accept(&r);
    wait_received(&r, MIB);
    assert_int_equal(stats(&r).passed, 0);
    assert_silent(r.qemu);
    rig_close(&r);
}

static void hold__passes_exactly_the_limit(void **state)
{
    struct rig r;

    (void)state;
    rig_open(&r);
    hold_limit(r.h, 1000); /* before the first byte, too */
    say(&r, 0, 5000);
    rig_accept(&r);
    hear(&r, 0, 1000);
    wait_received(&r, 5000);
    assert_silent(r.qemu);
    hold_limit(r.h, 1001);
    hear(&r, 1000, 1);
    hold_limit(r.h, 500); /* never lowered */
    assert_int_equal(stats(&r).limit, 1001);
    wait_passed(&r, 1001);
    assert_int_equal(stats(&r).passed, 1001);
    assert_silent(r.qemu);
    rig_close(&r);
}

static void hold__limit_beyond_the_stream_passes_what_comes(void **state)
{
    struct rig r;

    (void)state;
    rig_open(&r);
    hold_limit(r.h, UINT64_MAX);
    say(&r, 0, 3000);
    rig_accept(&r);
    hear(&r, 0, 3000);
    say(&r, 3000, 10);
    hear(&r, 3000, 10);
    rig_close(&r);
}

/* What is beyond the limit never stops the source (its QEMU would hang). */
static void hold__forbidden_bytes_are_always_read(void **state)
{
    struct rig r;

    (void)state;
    rig_open_cfg(&r, (struct hold_cfg){ .memory = MIB, .file = 64 * MIB }, true);
    say(&r, 0, 48 * MIB); /* would block for ever */
    rig_accept(&r);
    wait_received(&r, 48 * MIB);
    assert_silent(r.qemu);
    hold_limit(r.h, 47 * MIB);
    hear(&r, 0, 47 * MIB);
    assert_silent(r.qemu);
    rig_close(&r);
}

/* Allowed bytes that QEMU does not take do. */
static void hold__slow_qemu_slows_the_source(void **state)
{
    static uint8_t chunk[64 << 10];
    struct pollfd p = { .events = POLLOUT };
    uint64_t sent = 0;
    struct rig r;

    (void)state;
    rig_open(&r);
    hold_limit(r.h, UINT64_MAX);
    p.fd = r.src;
    while (poll(&p, 1, 500) == 1 && sent < 64 * MIB) {
        const ssize_t n = send(r.src, chunk, sizeof chunk, MSG_DONTWAIT);

        if (n > 0)
            sent += (uint64_t)n;
    }
    assert_true(sent >= 8 * MIB && sent < 16 * MIB);
    rig_close(&r);
}

static void hold__too_much_to_hold_ends_it(void **state)
{
    static uint8_t chunk[64 << 10];
    struct rig r;
    struct err e;

    (void)state;
    rig_open_cfg(&r, (struct hold_cfg){ .memory = MIB, .file = 4 * MIB }, true);
    while (send(r.src, chunk, sizeof chunk, MSG_NOSIGNAL) > 0)
        ;
    wait_over(&r);
    assert_int_equal(stats(&r).passed, 0);
    assert_int_equal(stats(&r).err.os, ENOSPC);
    assert_err(hold_release(r.h, &e), e, ERR_REFUSED);
    rig_close(&r);
}

/* ---- ends before the release ------------------------------------------------------------- */

static void hold__end_before_release_drops_what_is_held(void **state)
{
    struct rig r;
    struct err e;

    (void)state;
    rig_open(&r);
    hold_limit(r.h, 700);
    say(&r, 0, 900);
    rig_accept(&r);
    wait_received(&r, 900);
    shutdown(r.src, SHUT_WR);
    wait_over(&r);
    assert_err(hold_release(r.h, &e), e, ERR_REFUSED);
    assert_contains(e.msg, "before its release");
    assert_true(hear_all(r.qemu, 0) <= 700);
    hold_limit(r.h, 900); /* too late */
    assert_true(stats(&r).passed <= 700);
    rig_close(&r);
}

static void hold__reset_before_release_drops_what_is_held(void **state)
{
    struct rig r;
    struct err e;

    (void)state;
    rig_open(&r);
    hold_limit(r.h, 100);
    say(&r, 0, 900);
    rig_accept(&r);
    hear(&r, 0, 100);
    /* Unread bytes at the source's end make its close(2) a reset. */
    assert_ok(fd_write_all(r.qemu, "back", 4, &e), e);
    assert_int_equal(recv(r.src, &(char[4]){ 0 }, 4, MSG_PEEK | MSG_WAITALL), 4);
    close_fd(&r.src);
    wait_over(&r);
    assert_err(hold_release(r.h, &e), e, ERR_REFUSED);
    assert_int_equal(hear_all(r.qemu, 100), 0);
    assert_int_equal(stats(&r).passed, 100);
    rig_close(&r);
}

static void hold__qemu_gone_before_release_ends_it(void **state)
{
    struct rig r;
    struct err e;
    char c;

    (void)state;
    rig_open(&r);
    hold_limit(r.h, 10);
    say(&r, 0, 100);
    rig_accept(&r);
    hear(&r, 0, 10);
    close_fd(&r.qemu);
    wait_over(&r);
    assert_err(hold_release(r.h, &e), e, ERR_REFUSED);
    /* The source learns it, in both directions. */
    assert_true(read(r.src, &c, 1) <= 0);
    assert_int_equal(send(r.src, &c, 1, MSG_NOSIGNAL), -1);
    rig_close(&r);
}

static void hold__stop_drops_what_is_held(void **state)
{
    struct rig r;

    (void)state;
    rig_open(&r);
    hold_limit(r.h, 10);
    say(&r, 0, 100);
    rig_accept(&r);
    hear(&r, 0, 10);
    hold_stop(r.h);
    assert_int_equal(hear_all(r.qemu, 10), 0);
    assert_int_equal(stats(&r).state, HOLD_OVER);
    rig_close(&r);
}

/* ---- released ------------------------------------------------------------------------------ */

static void hold__release_passes_everything(void **state)
{
    struct rig r;
    struct err e;

    (void)state;
    /* Through the file as well. */
    rig_open_cfg(&r, (struct hold_cfg){ .memory = 64 << 10, .file = 8 * MIB }, true);
    hold_limit(r.h, 12345);
    say(&r, 0, 3 * MIB);
    rig_accept(&r);
    wait_received(&r, 3 * MIB);
    assert_ok(hold_release(r.h, &e), e);
    assert_ok(hold_release(r.h, &e), e);
    hear(&r, 0, 3 * MIB);
    say(&r, 3 * MIB, 100000);
    hear(&r, 3 * MIB, 100000);
    rig_close(&r);
}

static void hold__end_after_release_delivers_all_then_ends(void **state)
{
    struct rig r;
    struct err e;

    (void)state;
    rig_open_cfg(&r, (struct hold_cfg){ .memory = 64 << 10, .file = 8 * MIB }, true);
    say(&r, 0, 2 * MIB);
    rig_accept(&r);
    wait_received(&r, 2 * MIB);
    assert_ok(hold_release(r.h, &e), e);
    close_fd(&r.src); /* the link is gone, both ways */
    assert_int_equal(hear_all(r.qemu, 0), 2 * MIB);
    close_fd(&r.qemu);
    assert_true(hold_wait(r.h, WAIT_MS));
    assert_int_equal(stats(&r).err.kind, ERR_NONE);
    assert_ok(hold_release(r.h, &e), e); /* a repeated request */
    rig_close(&r);
}

/* Bytes that the link had given to the kernel before it broke count as received. */
static void hold__reset_after_release_delivers_what_came(void **state)
{
    struct rig r;
    struct err e;

    (void)state;
    rig_open(&r);
    hold_limit(r.h, 1);
    say(&r, 0, 1);
    rig_accept(&r);
    hear(&r, 0, 1);
    assert_ok(fd_write_all(r.qemu, "back", 4, &e), e);
    assert_int_equal(recv(r.src, &(char[4]){ 0 }, 4, MSG_PEEK | MSG_WAITALL), 4);
    assert_ok(hold_release(r.h, &e), e);
    say(&r, 1, 100000);
    close_fd(&r.src);
    assert_int_equal(hear_all(r.qemu, 1), 100000);
    rig_close(&r);
}

static void hold__return_path_outlives_the_stream(void **state)
{
    char buf[4];
    struct rig r;
    struct err e;

    (void)state;
    rig_open(&r);
    say(&r, 0, 100);
    rig_accept(&r);
    assert_ok(hold_release(r.h, &e), e);
    shutdown(r.src, SHUT_WR);
    assert_int_equal(hear_all(r.qemu, 0), 100);
    assert_ok(fd_write_all(r.qemu, "done", 4, &e), e);
    close_fd(&r.qemu);
    assert_ok(fd_read_all(r.src, buf, 4, &e), e);
    assert_memory_equal(buf, "done", 4);
    assert_int_equal(read(r.src, buf, 1), 0);
    assert_true(hold_wait(r.h, WAIT_MS));
    rig_close(&r);
}

/* A destination that is content does not read the last bytes; the source must not hang. */
static void hold__qemu_gone_after_release_is_told_and_drained(void **state)
{
    struct rig r;
    struct err e;
    char c;

    (void)state;
    rig_open_cfg(&r, (struct hold_cfg){ .memory = 64 << 10 }, true);
    say(&r, 0, 100);
    rig_accept(&r);
    assert_ok(hold_release(r.h, &e), e);
    hear(&r, 0, 100);
    close_fd(&r.qemu);
    assert_int_equal(read(r.src, &c, 1), 0);
    say(&r, 100, 4 * MIB);
    assert_int_equal(stats(&r).state, HOLD_FREE);
    close_fd(&r.src);
    assert_true(hold_wait(r.h, WAIT_MS));
    rig_close(&r);
}

/* Its end of the return path is not the end of its reading. */
static void hold__qemu_that_says_no_more_still_gets_everything(void **state)
{
    struct rig r;
    struct err e;

    (void)state;
    rig_open(&r);
    say(&r, 0, 2 * MIB);
    rig_accept(&r);
    wait_received(&r, 2 * MIB);
    assert_ok(hold_release(r.h, &e), e);
    hear(&r, 0, 1000);
    shutdown(r.qemu, SHUT_WR);
    assert_int_equal(read(r.src, &(char){ 0 }, 1), 0);
    say(&r, 2 * MIB, 1000);
    close_fd(&r.src);
    assert_int_equal(hear_all(r.qemu, 1000), 2 * MIB);
    assert_true(hold_wait(r.h, WAIT_MS));
    rig_close(&r);
}

static void hold__wait_gives_up_on_a_qemu_that_does_not_read(void **state)
{
    struct rig r;
    struct err e;

    (void)state;
    rig_open(&r);
    say(&r, 0, 4 * MIB);
    rig_accept(&r);
    assert_ok(hold_release(r.h, &e), e);
    close_fd(&r.src);
    assert_false(hold_wait(r.h, 50));
    hold_stop(r.h);
    assert_true(hold_wait(r.h, 50));
    rig_close(&r);
}

static void hold__release_of_an_empty_stream_ends_with_it(void **state)
{
    struct rig r;
    struct err e;

    (void)state;
    rig_open(&r);
    assert_ok(hold_release(r.h, &e), e);
    close_fd(&r.src);
    assert_true(hold_wait(r.h, WAIT_MS));
    rig_close(&r);
}

/* ---- return path, connecting ------------------------------------------------------------------ */

static void hold__return_path_is_open_while_held(void **state)
{
    char buf[4];
    struct rig r;
    struct err e;

    (void)state;
    rig_open(&r);
    say(&r, 0, 100);
    rig_accept(&r);
    for (int i = 0; i < 100; i++) {
        assert_ok(fd_write_all(r.qemu, "ping", 4, &e), e);
        assert_ok(fd_read_all(r.src, buf, 4, &e), e);
        assert_memory_equal(buf, "ping", 4);
    }
    assert_silent(r.qemu);
    rig_close(&r);
}

static void hold__waits_for_qemus_socket(void **state)
{
    struct rig r;

    (void)state;
    rig_open_cfg(&r, (struct hold_cfg){ 0 }, false);
    hold_limit(r.h, 100);
    say(&r, 0, 100);
    wait_received(&r, 100);
    rig_listen(&r);
    rig_accept(&r);
    hear(&r, 0, 100);
    rig_close(&r);
}

static void hold__no_socket_ends_it(void **state)
{
    struct rig r;

    (void)state;
    rig_open_cfg(&r, (struct hold_cfg){ .connect_ms = 50 }, false);
    say(&r, 0, 100);
    wait_over(&r);
    assert_contains(stats(&r).err.msg, "no incoming QEMU");
    rig_close(&r);
}

static void hold__nothing_connects_before_the_first_byte(void **state)
{
    struct rig r;
    struct err e;

    (void)state;
    rig_open_cfg(&r, (struct hold_cfg){ .connect_ms = 20 }, true);
    assert_err(unix_accept(r.listener, 100, NULL, &r.qemu, &e), e, ERR_TIMEOUT);
    assert_int_equal(stats(&r).state, HOLD_HELD);
    rig_close(&r);
}

/* ---- to death ------------------------------------------------------------------------------------ */

/* A stream of random chunks and a limit that follows it at random; QEMU reads at random
 * speed and checks, at every byte, that it was allowed. */
struct storm {
    struct rig r;
    unsigned seed;
    uint64_t total;
    atomic_uint_fast64_t limit;
    atomic_bool released;
    atomic_bool wrong;
    atomic_uint_fast64_t heard;
};

static void *storm_qemu(void *arg)
{
    struct storm *const s = arg;
    unsigned seed = s->seed * 7 + 1;
    static _Thread_local uint8_t buf[300 << 10];
    ssize_t n;

    while ((n = recv(s->r.qemu, buf, (size_t)rand_r(&seed) % sizeof buf + 1, 0)) > 0) {
        const uint64_t at = atomic_load(&s->heard);

        for (ssize_t i = 0; i < n; i++)
            if (buf[i] != byte_at(at + (uint64_t)i))
                atomic_store(&s->wrong, true);
        atomic_store(&s->heard, at + (uint64_t)n);
        /* The limit is published before it is set, so it may only be too high here. */
        if (!atomic_load(&s->released) && at + (uint64_t)n > atomic_load(&s->limit))
            atomic_store(&s->wrong, true);
        if (rand_r(&seed) % 8 == 0)
            sched_yield();
    }
    return NULL;
}

static void *storm_source(void *arg)
{
    struct storm *const s = arg;
    unsigned seed = s->seed * 13 + 5;
    static _Thread_local uint8_t buf[200 << 10];
    uint64_t at = 0;

    while (at < s->total) {
        size_t n = (size_t)rand_r(&seed) % sizeof buf + 1;

        if (n > s->total - at)
            n = (size_t)(s->total - at);
        for (size_t i = 0; i < n; i++)
            buf[i] = byte_at(at + i);
        for (size_t done = 0; done < n;) {
            const ssize_t k = send(s->r.src, buf + done, n - done, MSG_NOSIGNAL);

            if (k < 0)
                return NULL;
            done += (size_t)k;
        }
        at += n;
    }
    shutdown(s->r.src, SHUT_WR);
    return NULL;
}

/* @release: at the end; else the stream's end comes first. */
static void storm_run(unsigned seed, bool release)
{
    struct storm s = { .seed = seed, .total = 3 * MIB + seed * 1000 };
    pthread_t qemu, source;
    unsigned r = seed;
    struct err e;

    rig_open_cfg(
        &s.r,
        (struct hold_cfg){ .memory = (rand_r(&r) % 64 + 1) << 10, .file = 64 * MIB },
        true);
    say(&s.r, 0, 0);
    assert_int_equal(pthread_create(&source, NULL, storm_source, &s), 0);
    rig_accept(&s.r);
    assert_int_equal(pthread_create(&qemu, NULL, storm_qemu, &s), 0);
    for (int i = 0; i < 40; i++) {
        const uint64_t to = atomic_load(&s.limit) + (uint64_t)rand_r(&r) % (80 << 10);

        atomic_store(&s.limit, to);
        hold_limit(s.r.h, to);
        sched_yield();
    }
    /* Unless the stream has ended already, before any release. */
    bool done = false;
    if (release) {
        atomic_store(&s.released, true);
        done = hold_release(s.r.h, &e);
        if (!done)
            atomic_store(&s.released, false);
    }
    pthread_join(source, NULL);
    pthread_join(qemu, NULL);
    close_fd(&s.r.qemu);
    assert_true(hold_wait(s.r.h, WAIT_MS));
    assert_false(atomic_load(&s.wrong));
    if (done)
        assert_int_equal(atomic_load(&s.heard), s.total);
    else
        assert_true(atomic_load(&s.heard) <= atomic_load(&s.limit));
    rig_close(&s.r);
}

static void hold__storms_never_pass_the_limit(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 60; seed++)
        storm_run(seed, false);
}

static void hold__storms_with_release_lose_nothing(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 60; seed++)
        storm_run(seed, true);
}

/* The end of the stream and the release at the same moment: either the release is refused
 * and nothing beyond the limit passed, or all of it passes. */
static void *race_end(void *arg)
{
    close_fd(arg);
    return NULL;
}

static void hold__release_and_end_at_once_is_one_or_the_other(void **state)
{
    int released = 0, refused = 0;

    (void)state;
    for (int i = 0; i < 400; i++) {
        struct rig r;
        pthread_t t;
        struct err e;

        rig_open(&r);
        hold_limit(r.h, 1000);
        say(&r, 0, 50000);
        rig_accept(&r);
        wait_received(&r, 50000);
        wait_passed(&r, 1000);
        assert_int_equal(pthread_create(&t, NULL, race_end, &r.src), 0);
        for (int spin = 0; spin < (i % 40) * 500; spin++)
            __asm__ volatile("" ::: "memory");
        const bool ok = hold_release(r.h, &e);
        const uint64_t heard = hear_all(r.qemu, 0);
        pthread_join(t, NULL);
        assert_int_equal(heard, ok ? 50000 : 1000);
        released += ok;
        refused += !ok;
        rig_close(&r);
    }
    print_message("released %d, refused %d\n", released, refused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_TMP(hold__without_limit_nothing_passes),
        TEST_TMP(hold__passes_exactly_the_limit),
        TEST_TMP(hold__limit_beyond_the_stream_passes_what_comes),
        TEST_TMP(hold__forbidden_bytes_are_always_read),
        TEST_TMP(hold__slow_qemu_slows_the_source),
        TEST_TMP(hold__too_much_to_hold_ends_it),
        TEST_TMP(hold__end_before_release_drops_what_is_held),
        TEST_TMP(hold__reset_before_release_drops_what_is_held),
        TEST_TMP(hold__qemu_gone_before_release_ends_it),
        TEST_TMP(hold__stop_drops_what_is_held),
        TEST_TMP(hold__release_passes_everything),
        TEST_TMP(hold__end_after_release_delivers_all_then_ends),
        TEST_TMP(hold__reset_after_release_delivers_what_came),
        TEST_TMP(hold__return_path_outlives_the_stream),
        TEST_TMP(hold__qemu_gone_after_release_is_told_and_drained),
        TEST_TMP(hold__qemu_that_says_no_more_still_gets_everything),
        TEST_TMP(hold__wait_gives_up_on_a_qemu_that_does_not_read),
        TEST_TMP(hold__release_of_an_empty_stream_ends_with_it),
        TEST_TMP(hold__return_path_is_open_while_held),
        TEST_TMP(hold__waits_for_qemus_socket),
        TEST_TMP(hold__no_socket_ends_it),
        TEST_TMP(hold__nothing_connects_before_the_first_byte),
        TEST_TMP(hold__storms_never_pass_the_limit),
        TEST_TMP(hold__storms_with_release_lose_nothing),
        TEST_TMP(hold__release_and_end_at_once_is_one_or_the_other),
    };

    signal(SIGPIPE, SIG_IGN);
    log_init(LOG_WARN, "dst");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
