/* The tunnel when all goes well, and when a user of it is slow, rude or gone. */
#include "unit.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/unix.h"
#include "tests/lib/link-duo.h"
#include "tunnel/link-int.h"
#include "tunnel/link.h"

/* --- calls --- */

static struct json_object *number(uint64_t n)
{
    return json_add_u64(json_new(), "n", n);
}

static void link__call_brings_the_reply(void **state)
{
    struct json_object *reply = NULL;
    struct duo d;
    struct err e;
    uint64_t n;

    (void)state;
    duo_open(&d);
    assert_ok(
        link_call(d.client, "POST", "/echo", number(7), LONG_MS, NULL, &reply, &e), e);
    assert_ok(json_get_u64(reply, "n", &n, &e), e);
    assert_int_equal(n, 7);
    json_object_put(reply);
    assert_ok(link_call(d.client, "DELETE", "/method", NULL, LONG_MS, NULL, &reply, &e),
              e);
    assert_string_equal(json_object_get_string(json_object_object_get(reply, "method")),
                        "DELETE");
    json_object_put(reply);
    assert_ok(link_call(d.client, "GET", "/nothing", NULL, LONG_MS, NULL, &reply, &e),
              e);
    assert_null(reply);
    assert_ok(link_call(d.client, "POST", "/echo", number(1), LONG_MS, NULL, NULL, &e),
              e);
    duo_close(&d);
}

static void link__failure_arrives_as_it_was_said(void **state)
{
    struct duo d;
    struct err e;

    (void)state;
    duo_open(&d);
    assert_err(link_call(d.client, "POST", "/images", NULL, LONG_MS, NULL, NULL, &e), e,
               ERR_NBD);
    assert_int_equal(e.os, ENOSPC);
    assert_string_equal(e.msg, "dst: cannot make /images: No space left on device");
    assert_string_equal(e.next, "Make room at the destination.");
    duo_close(&d);
}

/* The undo of a move and its exit status go by these: they are not the peer's to say. */
static void link__kinds_that_are_the_sources_own_are_not_taken(void **state)
{
    static const char *const taken[] = { "sys",   "nbd",     "virt",
                                         "proto", "timeout", "refused" };

    (void)state;
    for (int k = 0; k < ERR_KINDS; k++) {
        const char *const name = err_kind_name((enum err_kind)k);
        enum err_kind want = ERR_PEER;
        char text[100];
        struct err e = { 0 };

        for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
            if (strcmp(taken[i], name) == 0)
                want = (enum err_kind)k;
        snprintf(text, sizeof text, "{\"kind\": \"%s\", \"what\": \"x\"}", name);
        assert_false(problem_read(500, (const uint8_t *)text, strlen(text), &e));
        assert_int_equal(e.kind, want);
        assert_string_equal(e.msg, "dst: x");
    }
}

static void link__large_bodies_pass_and_too_large_ones_do_not(void **state)
{
    struct json_object *reply = NULL;
    struct duo d;
    struct err e;
    char *const text = malloc(JSON_MAX_BYTES + 1);

    (void)state;
    memset(text, 'x', JSON_MAX_BYTES);
    text[JSON_MAX_BYTES] = '\0';
    duo_open(&d);
    assert_err(link_call(d.client, "POST", "/echo", json_add_str(json_new(), "t", text),
                         LONG_MS, NULL, &reply, &e),
               e, ERR_USAGE);
    text[JSON_MAX_BYTES - 100] = '\0';
    assert_ok(link_call(d.client, "POST", "/echo", json_add_str(json_new(), "t", text),
                        LONG_MS, NULL, &reply, &e),
              e);
    assert_string_equal(json_object_get_string(json_object_object_get(reply, "t")),
                        text);
    json_object_put(reply);
    free(text);
    duo_close(&d);
}

struct caller {
    struct link *l;
    unsigned from;
    bool bad;
    pthread_t thread;
};

static void *caller_main(void *arg)
{
    enum { CALLS = 50 };
    struct caller *const c = arg;
    struct err e;

    for (unsigned i = c->from; i < c->from + CALLS && !c->bad; i++) {
        struct json_object *reply = NULL;
        uint64_t n = 0;

        c->bad =
            !link_call(c->l, "POST", "/echo", number(i), LONG_MS, NULL, &reply, &e) ||
            !json_get_u64(reply, "n", &n, &e) || n != i;
        json_object_put(reply);
    }
    return NULL;
}

static void link__many_callers_at_one_time(void **state)
{
    struct caller callers[12];
    struct duo d;

    (void)state;
    duo_open(&d);
    for (unsigned i = 0; i < 12; i++) {
        callers[i] = (struct caller){ .l = d.client, .from = i * 1000 };
        assert_int_equal(
            pthread_create(&callers[i].thread, NULL, caller_main, &callers[i]), 0);
    }
    for (unsigned i = 0; i < 12; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_false(callers[i].bad);
    }
    duo_close(&d);
}

static void *waiter_main(void *arg)
{
    struct caller *const c = arg;
    struct err e;

    c->bad = !link_call(c->l, "GET", "/wait", NULL, LONG_MS, NULL, NULL, &e);
    return NULL;
}

static void link__handler_that_blocks_holds_up_nobody(void **state)
{
    struct caller waiters[7];
    struct duo d;
    struct err e;

    (void)state;
    duo_open(&d);
    for (unsigned i = 0; i < 7; i++) {
        waiters[i] = (struct caller){ .l = d.client };
        assert_int_equal(
            pthread_create(&waiters[i].thread, NULL, waiter_main, &waiters[i]), 0);
    }
    far_wait_for(&d.far, 7);
    assert_ok(link_call(d.client, "POST", "/echo", number(1), LONG_MS, NULL, NULL, &e),
              e);
    far_go(&d.far);
    for (unsigned i = 0; i < 7; i++) {
        pthread_join(waiters[i].thread, NULL);
        assert_false(waiters[i].bad);
    }
    duo_close(&d);
}

static void link__timeout_and_cancel_leave_the_link_usable(void **state)
{
    struct cancel *const c = cancel_new();
    struct duo d;
    struct err e;

    (void)state;
    duo_open(&d);
    assert_err(link_call(d.client, "GET", "/wait", NULL, 50, NULL, NULL, &e), e,
               ERR_TIMEOUT);
    assert_contains(e.msg, "GET /wait");
    cancel_set(c);
    assert_err(link_call(d.client, "GET", "/wait", NULL, LONG_MS, c, NULL, &e), e,
               ERR_CANCELLED);
    far_go(&d.far); /* the late answers have nobody any more */
    assert_ok(link_call(d.client, "POST", "/echo", number(1), LONG_MS, NULL, NULL, &e),
              e);
    duo_close(&d);
    cancel_free(c);
}

static void link__bad_paths_are_refused_before_they_are_sent(void **state)
{
    struct duo d;
    struct err e;
    int fd;

    (void)state;
    duo_open(&d);
    assert_err(link_call(d.client, "GET", "/a b", NULL, LONG_MS, NULL, NULL, &e), e,
               ERR_USAGE);
    assert_err(link_call(d.client, "GET", "", NULL, LONG_MS, NULL, NULL, &e), e,
               ERR_USAGE);
    assert_err(link_channel_pair(d.client, "disk/\n", LINK_BULK, ZSTD_OFF, &fd, &e), e,
               ERR_USAGE);
    duo_close(&d);
}

/* --- channels --- */

static void both_directions(int zstd, uint64_t bytes)
{
    struct duo d;
    int far;

    duo_open(&d);
    const int near = duo_channel(&d, LINK_BULK, zstd, &far);
    struct flow up = { .fd = near, .bytes = bytes, .seed = 1, .shut = true };
    struct flow up_in = { .fd = far, .bytes = bytes, .seed = 1 };
    struct flow down = { .fd = far, .bytes = bytes / 2, .seed = 9, .shut = true };
    struct flow down_in = { .fd = near, .bytes = bytes / 2, .seed = 9 };

    flow_send(&up);
    flow_receive(&up_in);
    flow_send(&down);
    flow_receive(&down_in);
    assert_true(flow_end(&up));
    assert_true(flow_end(&up_in));
    assert_true(flow_end(&down));
    assert_true(flow_end(&down_in));
    close(near);
    duo_close(&d);
}

static void link__channel_carries_both_directions(void **state)
{
    (void)state;
    both_directions(ZSTD_OFF, 100 * MIB + 12345);
}

static void link__channel_carries_both_directions_packed(void **state)
{
    (void)state;
    both_directions(ZSTD_AUTO, 40 * MIB + 1);
    both_directions(-5, 20 * MIB);
}

static void link__small_messages_go_to_and_fro(void **state)
{
    struct duo d;
    int far;
    uint8_t buf[300], want[300];
    struct err e;

    (void)state;
    duo_open(&d);
    for (int zstd = ZSTD_AUTO; zstd <= ZSTD_OFF; zstd++) {
        const int near = duo_channel(&d, LINK_TALK, zstd, &far);

        for (size_t n = 1; n < sizeof buf; n += 7) {
            pattern(want, n, n, 3);
            assert_ok(fd_write_all(near, want, n, &e), e);
            assert_ok(fd_read_all(far, buf, n, &e), e);
            assert_memory_equal(buf, want, n);
            assert_ok(fd_write_all(far, want, n, &e), e);
            assert_ok(fd_read_all(near, buf, n, &e), e);
            assert_memory_equal(buf, want, n);
        }
        close(near);
    }
    duo_close(&d);
}

static void link__half_close_leaves_the_other_half_open(void **state)
{
    static const int kinds[] = { ZSTD_OFF, ZSTD_AUTO };
    struct duo d;
    int far;
    char c;
    struct err e;

    (void)state;
    duo_open(&d);
    for (int i = 0; i < 2; i++) {
        int near = duo_channel(&d, LINK_BULK, kinds[i], &far);

        /* the client ends first */
        assert_ok(fd_write_all(near, "a", 1, &e), e);
        shutdown(near, SHUT_WR);
        assert_ok(fd_read_all(far, &c, 1, &e), e);
        assert_int_equal(read(far, &c, 1), 0);
        assert_ok(fd_write_all(far, "b", 1, &e), e);
        assert_ok(fd_read_all(near, &c, 1, &e), e);
        assert_int_equal(c, 'b');
        shutdown(far, SHUT_WR);
        assert_int_equal(read(near, &c, 1), 0);
        close(near);

        /* the service ends first */
        near = duo_channel(&d, LINK_BULK, kinds[i], &far);
        shutdown(far, SHUT_WR);
        assert_int_equal(read(near, &c, 1), 0);
        assert_ok(fd_write_all(near, "c", 1, &e), e);
        assert_ok(fd_read_all(far, &c, 1, &e), e);
        assert_int_equal(c, 'c');
        shutdown(near, SHUT_WR);
        assert_int_equal(read(far, &c, 1), 0);
        close(near);
    }
    duo_close(&d);
}

static bool wait_readable(int fd, int ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, ms) == 1;
}

/* A user who closes without reading is gone for both directions. */
static void link__closed_socket_ends_the_peers_side(void **state)
{
    static const int kinds[] = { ZSTD_OFF, ZSTD_AUTO };
    uint8_t buf[64 * KIB] = { 0 };
    struct duo d;
    int far;

    (void)state;
    duo_open(&d);
    for (int i = 0; i < 2; i++) {
        int near = duo_channel(&d, LINK_BULK, kinds[i], &far);

        close(near);
        assert_true(wait_readable(far, LONG_MS));
        assert_int_equal(read(far, buf, sizeof buf), 0);
        while (write(far, buf, sizeof buf) > 0)
            ; /* nobody takes it: at last an error, not a hang */
        assert_true(errno == EPIPE || errno == ECONNRESET);

        near = duo_channel(&d, LINK_BULK, kinds[i], &far);
        duo_far_close(&d);
        assert_true(wait_readable(near, LONG_MS));
        while (send(near, buf, sizeof buf, MSG_NOSIGNAL) > 0)
            ;
        assert_true(errno == EPIPE || errno == ECONNRESET);
        close(near);
    }
    duo_close(&d);
}

/* The service says its last word and closes while the client still sends. */
static void link__last_words_arrive_before_the_reset(void **state)
{
    static const int kinds[] = { ZSTD_OFF, -1 };
    uint8_t buf[64 * KIB] = { 0 };
    struct duo d;
    int far;
    struct err e;

    (void)state;
    duo_open(&d);
    for (int i = 0; i < 2; i++) {
        const int near = duo_channel(&d, LINK_BULK, kinds[i], &far);

        assert_ok(fd_write_all(near, buf, sizeof buf, &e), e);
        assert_true(wait_readable(far, LONG_MS));
        assert_ok(fd_write_all(far, "no space left", 13, &e), e);
        duo_far_close(&d);
        while (send(near, buf, sizeof buf, MSG_NOSIGNAL) > 0)
            ;
        assert_ok(fd_read_all(near, buf, 13, &e), e);
        assert_memory_equal(buf, "no space left", 13);
        close(near);
    }
    duo_close(&d);
}

static void link__refused_channel_says_why(void **state)
{
    struct duo d;
    struct err e;
    int fd = -1, pair[2];
    char c;

    (void)state;
    duo_open(&d);
    assert_err(link_channel_pair(d.client, "refused", LINK_BULK, ZSTD_AUTO, &fd, &e), e,
               ERR_REFUSED);
    assert_string_equal(e.msg, "channel refused: dst: no such disk");
    assert_string_equal(e.next, "Name another.");
    assert_ok(unix_pair(pair, &e), e);
    assert_err(link_channel(d.client, "refused", pair[1], LINK_TALK, ZSTD_OFF, &e), e,
               ERR_REFUSED);
    assert_int_equal(read(pair[0], &c, 1), 0); /* the descriptor was taken over */
    close(pair[0]);
    assert_ok(link_call(d.client, "POST", "/echo", number(1), LONG_MS, NULL, NULL, &e),
              e);
    duo_close(&d);
}

/* Nobody reads one channel: others and calls go on, and nothing of it is lost. */
static void link__slow_reader_holds_up_nobody(void **state)
{
    static const int kinds[] = { ZSTD_OFF, -1 };
    enum { SLOW = 30 * MIB, FAST = 20 * MIB }; /* over the window of 16 MiB */
    struct duo d;
    struct err e;
    int far, slow_far;

    (void)state;
    duo_open(&d);
    for (int i = 0; i < 2; i++) {
        const int slow = duo_channel(&d, LINK_BULK, kinds[i], &slow_far);
        struct flow stuck = { .fd = slow, .bytes = SLOW, .seed = 7, .shut = true };
        struct flow late = { .fd = slow_far, .bytes = SLOW, .seed = 7 };
        const int near = duo_channel(&d, LINK_BULK, kinds[i], &far);
        struct flow up = { .fd = near, .bytes = FAST, .seed = 1, .shut = true };
        struct flow up_in = { .fd = far, .bytes = FAST, .seed = 1 };

        flow_send(&stuck);
        flow_send(&up);
        flow_receive(&up_in);
        assert_ok(
            link_call(d.client, "POST", "/echo", number(1), LONG_MS, NULL, NULL, &e),
            e);
        assert_true(flow_end(&up));
        assert_true(flow_end(&up_in));
        flow_receive(&late);
        assert_true(flow_end(&stuck));
        assert_true(flow_end(&late));
        close(slow);
        close(near);
    }
    duo_close(&d);
}

/* More than the connection's window, 2 GiB, would be needed if a reset lost what nobody had
 * read; each channel leaves some behind, in the link and in the sockets. */
static void link__resets_with_unread_data_cost_no_memory(void **state)
{
    enum { CHANNELS = 200, EACH = 2 * MIB };
    uint8_t *const buf = calloc(1, EACH);
    struct duo d;
    int far;

    (void)state;
    duo_open(&d);
    for (int i = 0; i < CHANNELS; i++) {
        const int near = duo_channel(&d, LINK_BULK, i % 2 ? ZSTD_OFF : -5, &far);

        assert_true(send(near, buf, EACH, MSG_DONTWAIT) > 0);
        if (i % 3 == 0)
            duo_far_close(&d);
        close(near);
    }
    const int near = duo_channel(&d, LINK_BULK, ZSTD_OFF, &far);
    struct flow up = { .fd = near, .bytes = 40 * MIB, .seed = 1, .shut = true };
    struct flow up_in = { .fd = far, .bytes = 40 * MIB, .seed = 1 };

    flow_send(&up);
    flow_receive(&up_in);
    assert_true(flow_end(&up));
    assert_true(flow_end(&up_in));
    close(near);
    free(buf);
    duo_close(&d);
}

/* --- the rate limit --- */

static void link__limit_holds_for_all_that_is_sent(void **state)
{
    enum { RATE = 16 * MIB, BYTES = 12 * MIB, DEPTH = RATE / 10 };
    struct link_stats before, after;
    struct duo d;
    int far[2];

    (void)state;
    duo_open_with(&d, RATE, LONG_MS);
    link_stats(d.client, &before);
    const int a = duo_channel(&d, LINK_BULK, ZSTD_OFF, &far[0]);
    const int b = duo_channel(&d, LINK_BULK, 1, &far[1]);
    struct flow f[4] = { { .fd = a, .bytes = BYTES, .seed = 1, .shut = true },
                         { .fd = b, .bytes = BYTES, .seed = 2, .shut = true },
                         { .fd = far[0], .bytes = BYTES, .seed = 1 },
                         { .fd = far[1], .bytes = BYTES, .seed = 2 } };
    const int64_t start = clock_ns();

    for (int i = 0; i < 4; i++)
        i < 2 ? flow_send(&f[i]) : flow_receive(&f[i]);
    for (int i = 0; i < 4; i++)
        assert_true(flow_end(&f[i]));
    const double s = (double)(clock_ns() - start) / 1e9;
    link_stats(d.client, &after);
    /* Never more than that in any time; slower may be the machine. */
    assert_true((double)(after.sent - before.sent) <= RATE * s + DEPTH + MIB);
    close(a);
    close(b);
    duo_close(&d);
}

/* A limit under which the data would take an hour: calls pass, and a new limit lets go. */
static void link__limit_spares_calls_and_can_be_lifted(void **state)
{
    enum { BYTES = 30 * MIB };
    struct duo d;
    struct err e;
    int far;

    (void)state;
    duo_open_with(&d, 8 * KIB, LONG_MS);
    const int near = duo_channel(&d, LINK_BULK, ZSTD_OFF, &far);
    struct flow up = { .fd = near, .bytes = BYTES, .seed = 1, .shut = true };
    struct flow up_in = { .fd = far, .bytes = BYTES, .seed = 1 };

    flow_send(&up);
    flow_receive(&up_in);
    for (unsigned i = 0; i < 20; i++)
        assert_ok(
            link_call(d.client, "POST", "/echo", number(i), LONG_MS, NULL, NULL, &e),
            e);
    link_set_rate(d.client, 0);
    assert_true(flow_end(&up));
    assert_true(flow_end(&up_in));
    close(near);
    duo_close(&d);
}

static void link__stats_count_what_passed(void **state)
{
    enum { BYTES = 4 * MIB };
    struct link_stats st;
    struct duo d;
    int far;

    (void)state;
    duo_open(&d);
    const int near = duo_channel(&d, LINK_BULK, 3, &far);
    struct flow up = { .fd = near, .bytes = BYTES, .seed = 1, .shut = true };
    struct flow up_in = { .fd = far, .bytes = BYTES, .seed = 1 };

    flow_send(&up);
    flow_receive(&up_in);
    assert_true(flow_end(&up));
    assert_true(flow_end(&up_in));
    link_stats(d.client, &st);
    assert_int_equal(st.plain, BYTES);
    assert_true(st.packed > 0 && st.packed < BYTES);
    assert_true(st.sent >= st.packed && st.sent < st.packed + MIB);
    assert_true(st.received > 0);
    close(near);
    duo_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(link__call_brings_the_reply),
        TEST(link__failure_arrives_as_it_was_said),
        TEST(link__kinds_that_are_the_sources_own_are_not_taken),
        TEST(link__large_bodies_pass_and_too_large_ones_do_not),
        TEST(link__many_callers_at_one_time),
        TEST(link__handler_that_blocks_holds_up_nobody),
        TEST(link__timeout_and_cancel_leave_the_link_usable),
        TEST(link__bad_paths_are_refused_before_they_are_sent),
        TEST(link__channel_carries_both_directions),
        TEST(link__channel_carries_both_directions_packed),
        TEST(link__small_messages_go_to_and_fro),
        TEST(link__half_close_leaves_the_other_half_open),
        TEST(link__closed_socket_ends_the_peers_side),
        TEST(link__last_words_arrive_before_the_reset),
        TEST(link__refused_channel_says_why),
        TEST(link__slow_reader_holds_up_nobody),
        TEST(link__resets_with_unread_data_cost_no_memory),
        TEST(link__limit_holds_for_all_that_is_sent),
        TEST(link__limit_spares_calls_and_can_be_lifted),
        TEST(link__stats_count_what_passed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
