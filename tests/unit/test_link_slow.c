/* The tunnel over a slow network with megabytes of buffers in it. */
#include "unit.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/unix.h"
#include "tests/lib/link-duo.h"

/* From the client to the server: what may lie in it, and how fast it goes.  The way back is
 * fast.  8 MiB at 4 MB/s are 2 s. */
enum { BUFFER = 8 * MIB, SPEED = 4000000, TICK_MS = 10 };

struct wire {
    int client, server;
    uint8_t *buf; /* BUFFER bytes, a ring */
    uint64_t in, out;
    pthread_t thread;
};

static bool take(struct wire *w)
{
    const size_t at = w->in % BUFFER, room = BUFFER - (size_t)(w->in - w->out);
    const size_t most = BUFFER - at < room ? BUFFER - at : room;
    const ssize_t n = most > 0 ? recv(w->client, w->buf + at, most, MSG_DONTWAIT) : -1;

    w->in += n > 0 ? (uint64_t)n : 0;
    return n != 0;
}

static void give(struct wire *w, size_t most)
{
    while (w->in > w->out && most > 0) {
        const size_t at = w->out % BUFFER, have = (size_t)(w->in - w->out);
        size_t len = have < most ? have : most;

        len = len < BUFFER - at ? len : BUFFER - at;
        const ssize_t n =
            send(w->server, w->buf + at, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n <= 0)
            return;
        w->out += (uint64_t)n;
        most -= (size_t)n;
    }
}

static bool back(struct wire *w)
{
    static uint8_t buf[64 * KIB];
    const ssize_t n = recv(w->server, buf, sizeof buf, MSG_DONTWAIT);
    struct err e;

    return n < 0 || (n > 0 && fd_write_all(w->client, buf, (size_t)n, &e));
}

static void *wire_main(void *arg)
{
    struct wire *const w = arg;
    int64_t then = clock_ms();

    for (bool on = true; on;) {
        struct pollfd p[2] = { { w->client, POLLIN, 0 }, { w->server, POLLIN, 0 } };

        /* The pace of the wire is the test's: it is no sleep in place of an event. */
        (void)poll(p, w->in - w->out < BUFFER ? 2 : 0, 1);
        on = take(w) && back(w);
        const int64_t now = clock_ms();
        if (now - then >= TICK_MS) {
            give(w, (size_t)(SPEED / MS_PER_S * (now - then)));
            then = now;
        }
    }
    shutdown(w->client, SHUT_RDWR);
    shutdown(w->server, SHUT_RDWR);
    return NULL;
}

struct slow {
    struct far far;
    struct wire wire;
    struct link *client, *server;
    int a[2], b[2];
};

static void slow_open(struct slow *s, int heartbeat_ms)
{
    const struct link_server_ops ops = far_ops(&s->far);
    struct err e;

    far_init(&s->far);
    assert_ok(unix_pair(s->a, &e), e);
    assert_ok(unix_pair(s->b, &e), e);
    s->wire =
        (struct wire){ .client = s->a[1], .server = s->b[0], .buf = malloc(BUFFER) };
    assert_int_equal(pthread_create(&s->wire.thread, NULL, wire_main, &s->wire), 0);
    const struct link_cfg server = {
        .in = s->b[1], .out = s->b[1], .server = &ops, .heartbeat_ms = heartbeat_ms
    };
    const struct link_cfg client = { .in = s->a[0],
                                     .out = s->a[0],
                                     .heartbeat_ms = heartbeat_ms };
    assert_ok(link_open(&server, 0, NULL, &s->server, &e), e);
    assert_ok(link_open(&client, LONG_MS, NULL, &s->client, &e), e);
}

static void slow_close(struct slow *s)
{
    link_close(s->client);
    link_close(s->server);
    pthread_join(s->wire.thread, NULL);
    free(s->wire.buf);
    close(s->a[1]);
    close(s->b[0]);
    far_fini(&s->far);
}

static void link__slow_network_keeps_calls_quick(void **state)
{
    enum { BYTES = 12 * MIB, CALLS = 12, HEARTBEAT_MS = 1500 };
    struct slow s;
    struct err e;
    int64_t worst = 0;
    int near;

    (void)state;
    slow_open(&s, HEARTBEAT_MS);
    assert_ok(link_channel_pair(s.client, "ram", LINK_BULK, ZSTD_OFF, &near, &e), e);
    struct flow up = { .fd = near, .bytes = BYTES, .seed = 1, .shut = true };
    struct flow up_in = { .fd = s.far.fds[0], .bytes = BYTES, .seed = 1 };
    flow_send(&up);
    flow_receive(&up_in);

    for (int i = 0; i < CALLS; i++) {
        const int64_t start = clock_ms();

        clock_sleep_ms(150);
        assert_ok(link_call(s.client, "GET", "/nothing", NULL, LONG_MS, NULL, NULL, &e),
                  e);
        const int64_t took = clock_ms() - start - 150;
        worst = took > worst ? took : worst;
    }
    assert_true(flow_end(&up));
    assert_true(flow_end(&up_in)); /* and no heartbeat fired */
    /* 256 KiB in 64 ms and what a busy machine adds; unpaced it would be 2 s and more */
    if (worst > 1000)
        fail_msg("a call took %d ms", (int)worst);
    print_message("worst call: %d ms\n", (int)worst);
    close(near);
    slow_close(&s);
}

/* Calls and messages, one after the other, until told to stop. */
struct talk {
    struct link *link;
    int near, far;
    atomic_bool stop;
    unsigned calls;
    pthread_t thread;
};

static void *talk_main(void *arg)
{
    struct talk *const t = arg;
    char msg[100] = "x";
    struct err e;

    while (!atomic_load(&t->stop)) {
        if (!link_call(t->link, "GET", "/nothing", NULL, LONG_MS, NULL, NULL, &e) ||
            !fd_write_all(t->near, msg, sizeof msg, &e) ||
            !fd_read_all(t->far, msg, sizeof msg, &e) ||
            !fd_write_all(t->far, msg, sizeof msg, &e) ||
            !fd_read_all(t->near, msg, sizeof msg, &e))
            break;
        t->calls++;
    }
    return NULL;
}

/* Two bulk channels that have more than the limit lets: neither gets less than
 * its share, and calls and a talk channel go on all the while. */
static void link__low_limit_starves_nobody(void **state)
{
    enum { EACH = 3 * MIB, RATE = 3 * MIB, CALLS = 5 };
    struct duo d;
    int far[2], talk_far;
    uint64_t got[2] = { 0, 0 };
    static uint8_t buf[64 * KIB];

    (void)state;
    duo_open_with(&d, RATE, 0);
    struct flow up[2] = { { .bytes = EACH, .seed = 1, .shut = true },
                          { .bytes = EACH, .seed = 2, .shut = true } };
    up[0].fd = duo_channel(&d, LINK_BULK, ZSTD_OFF, &far[0]);
    up[1].fd = duo_channel(&d, LINK_BULK, ZSTD_OFF, &far[1]);
    struct talk t = { .link = d.client };
    t.near = duo_channel(&d, LINK_TALK, ZSTD_OFF, &talk_far);
    t.far = talk_far;
    flow_send(&up[0]);
    flow_send(&up[1]);
    assert_int_equal(pthread_create(&t.thread, NULL, talk_main, &t), 0);

    while (got[0] < EACH && got[1] < EACH) {
        struct pollfd p[2] = { { far[0], POLLIN, 0 }, { far[1], POLLIN, 0 } };

        assert_true(poll(p, 2, LONG_MS) > 0);
        for (int i = 0; i < 2; i++) {
            const ssize_t n = recv(far[i], buf, sizeof buf, MSG_DONTWAIT);

            got[i] += n > 0 ? (uint64_t)n : 0;
        }
    }
    assert_true(got[0] > EACH / 2 && got[1] > EACH / 2);
    atomic_store(&t.stop, true);
    pthread_join(t.thread, NULL);
    if (t.calls < CALLS)
        fail_msg("%u calls in 2 s of bulk", t.calls);
    for (int i = 0; i < 2; i++)
        while (got[i] < EACH)
            got[i] += (uint64_t)recv(far[i], buf, sizeof buf, 0);
    assert_true(flow_end(&up[0]));
    assert_true(flow_end(&up[1]));
    close(up[0].fd);
    close(up[1].fd);
    close(t.near);
    duo_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(link__slow_network_keeps_calls_quick),
        TEST(link__low_limit_starves_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
