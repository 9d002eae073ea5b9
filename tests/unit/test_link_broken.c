/* The tunnel when the pipe breaks, the peer is silent, or it says what it must not. */
#include "unit.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/unix.h"
#include "tests/lib/link-duo.h"

/* A silent peer is noticed after so long; what must be noticed sooner is, by then. */
enum { BEAT_MS = 2000, QUICK_MS = 200 };

static bool readable(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, LONG_MS) == 1;
}

/* --- the pipe breaks --- */

struct caller {
    struct link *l;
    struct err e;
    bool ok;
    int fd;
    pthread_t thread;
};

static void *wait_main(void *arg)
{
    struct caller *const c = arg;

    c->ok = link_call(c->l, "GET", "/wait", NULL, LONG_MS, NULL, NULL, &c->e);
    return NULL;
}

static void *channel_main(void *arg)
{
    struct caller *const c = arg;

    c->ok = link_channel_pair(c->l, "ram", LINK_BULK, ZSTD_OFF, &c->fd, &c->e);
    return NULL;
}

static void link__cut_pipe_fails_calls_and_closes_channels(void **state)
{
    static const int kinds[] = { ZSTD_OFF, -1 };
    char c;
    struct err e;

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct duo d;
        int far, fd;

        duo_open(&d);
        const int near = duo_channel(&d, LINK_BULK, kinds[i], &far);
        struct caller call = { .l = d.client };
        assert_int_equal(pthread_create(&call.thread, NULL, wait_main, &call), 0);
        far_wait_for(&d.far, 1);

        duo_cut(&d);
        pthread_join(call.thread, NULL);
        assert_false(call.ok);
        assert_int_equal(call.e.kind, ERR_LINK);
        assert_contains(call.e.msg, "closed the connection");
        assert_int_equal(read(near, &c, 1), 0);
        assert_int_equal(read(far, &c, 1), 0);
        assert_int_equal(send(near, "x", 1, MSG_NOSIGNAL), -1);

        assert_true(readable(link_lost_fd(d.client)));
        assert_int_equal(link_state(d.client), LINK_BROKEN);
        link_cause(d.client, &e);
        assert_int_equal(e.kind, ERR_LINK);
        assert_err(link_wait(d.server, &e), e, ERR_LINK);
        assert_err(link_call(d.client, "GET", "/echo", NULL, LONG_MS, NULL, NULL, &e),
                   e, ERR_LINK);
        assert_err(link_channel_pair(d.client, "ram", LINK_BULK, ZSTD_AUTO, &fd, &e), e,
                   ERR_LINK);
        close(near);
        duo_close(&d);
    }
}

/* In the middle of megabytes, at a place that differs each time. */
static void link__cut_in_full_flow_ends_everything(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 12; i++) {
        struct duo d;
        int far;

        duo_open(&d);
        const int near = duo_channel(&d, LINK_BULK, i % 2 ? ZSTD_AUTO : ZSTD_OFF, &far);
        struct flow up = { .fd = near, .bytes = 1ull << 40, .seed = 1 };
        struct flow up_in = { .fd = far, .bytes = 1ull << 40, .seed = 1 };
        struct flow down = { .fd = far, .bytes = 1ull << 40, .seed = 2 };

        flow_send(&up);
        flow_receive(&up_in);
        flow_send(&down);
        clock_sleep_ms(i * 3);
        duo_cut(&d);
        assert_false(flow_end(&up));
        assert_false(flow_end(&up_in));
        assert_false(flow_end(&down));
        close(near);
        duo_close(&d);
    }
}

static void link__silent_peer_is_dead_after_the_heartbeat(void **state)
{
    struct duo d;
    struct err e;
    int pair[2];

    (void)state;
    /* A live one is not. */
    duo_open_with(&d, 0, QUICK_MS);
    struct pollfd p = { .fd = link_lost_fd(d.client), .events = POLLIN };
    assert_int_equal(poll(&p, 1, 3 * QUICK_MS), 0);
    struct link_stats st;
    link_stats(d.client, &st);
    assert_true(st.rtt_us >= 0);
    duo_close(&d);

    /* One that greets and then says nothing more is. */
    static const uint8_t settings[9] = { 0, 0, 0, 4 };
    struct link *l;
    assert_ok(unix_pair(pair, &e), e);
    assert_ok(fd_write_all(pair[1], settings, sizeof settings, &e), e);
    const struct link_cfg mute = { .in = pair[0],
                                   .out = pair[0],
                                   .heartbeat_ms = QUICK_MS };
    assert_ok(link_open(&mute, LONG_MS, NULL, &l, &e), e);
    assert_err(link_call(l, "GET", "/", NULL, LONG_MS, NULL, NULL, &e), e, ERR_LINK);
    assert_contains(e.msg, "nothing heard");
    link_close(l);
    close(pair[1]);
}

/* --- ending well --- */

static void link__orderly_end_is_one_for_the_server(void **state)
{
    struct duo d;
    struct err e;

    (void)state;
    duo_open(&d);
    link_close(d.client);
    d.client = NULL;
    assert_ok(link_wait(d.server, &e), e);
    assert_int_equal(link_state(d.server), LINK_CLOSED);
    link_cause(d.server, &e);
    assert_int_equal(e.kind, ERR_NONE);
    duo_close(&d);
}

static void link__server_that_ends_is_noticed_by_the_client(void **state)
{
    struct duo d;
    struct err e;

    (void)state;
    duo_open(&d);
    link_close(d.server);
    d.server = NULL;
    assert_true(readable(link_lost_fd(d.client)));
    assert_err(link_call(d.client, "GET", "/nothing", NULL, LONG_MS, NULL, NULL, &e), e,
               ERR_LINK);
    duo_close(&d);
}

/* What was written before the close arrives. */
static void link__close_lets_the_last_bytes_out(void **state)
{
    static const int kinds[] = { ZSTD_OFF, ZSTD_AUTO };

    (void)state;
    for (int i = 0; i < 2; i++) {
        enum { BYTES = 3 * MIB };
        struct duo d;
        int far;

        duo_open(&d);
        const int near = duo_channel(&d, LINK_BULK, kinds[i], &far);
        struct flow up = { .fd = near, .bytes = BYTES, .seed = 1 };
        struct flow up_in = { .fd = far, .bytes = BYTES, .seed = 1 };

        flow_receive(&up_in);
        flow_send(&up);
        assert_true(flow_end(&up));
        close(near);
        link_close(d.client);
        d.client = NULL;
        assert_true(flow_end(&up_in));
        duo_close(&d);
    }
}

/* An idle channel, and one that nobody reads, do not hold the end up for ever. */
static void link__close_does_not_hang_on_channels(void **state)
{
    struct duo d;
    int far;
    uint8_t *const buf = calloc(1, 20 * MIB);

    (void)state;
    duo_open(&d);
    const int idle = duo_channel(&d, LINK_TALK, ZSTD_OFF, &far);
    const int stuck = duo_channel(&d, LINK_BULK, -5, &far);
    assert_true(send(stuck, buf, 20 * MIB, MSG_DONTWAIT) > 0);
    duo_close(&d);
    close(idle);
    close(stuck);
    free(buf);
}

/* A peer that takes nothing any more cannot hold the end up either. */
static void link__close_does_not_hang_on_a_stuck_peer(void **state)
{
    static const uint8_t greeting[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0 };
    static const uint8_t ok[] = { 0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88 }; /* :status 200 */
    uint8_t *const buf = calloc(1, 4 * MIB);
    const int64_t start = clock_ms();
    struct link *l;
    struct err e;
    int pair[2], fd;

    (void)state;
    assert_ok(unix_pair(pair, &e), e);
    assert_ok(fd_write_all(pair[1], greeting, sizeof greeting, &e), e);
    const struct link_cfg cfg = { .in = pair[0], .out = pair[0] };
    assert_ok(link_open(&cfg, LONG_MS, NULL, &l, &e), e);
    struct caller c = { .l = l };
    assert_int_equal(pthread_create(&c.thread, NULL, channel_main, &c), 0);
    /* An answer before the request would be a violation: look, without taking it. */
    while (memmem(buf, 4 * MIB, "bulk", 4) == NULL) { /* its class, not Huffman coded */
        (void)!recv(pair[1], buf, 4 * MIB, MSG_PEEK);
        clock_sleep_ms(1);
    }
    assert_ok(fd_write_all(pair[1], ok, sizeof ok, &e), e);
    pthread_join(c.thread, NULL);
    assert_true(c.ok);
    fd = c.fd;
    assert_true(send(fd, buf, 4 * MIB, MSG_DONTWAIT) > 0);
    link_close(l);
    assert_true(clock_ms() - start < 30000);
    close(fd);
    close(pair[1]);
    free(buf);
}

static void link__close_before_the_greeting(void **state)
{
    struct duo d;
    struct err e;
    int pair[2];

    (void)state;
    far_init(&d.far);
    const struct link_server_ops ops = far_ops(&d.far);
    struct link *l;
    assert_ok(unix_pair(pair, &e), e);
    const struct link_cfg cfg = { .in = pair[0], .out = pair[0], .server = &ops };
    assert_ok(link_open(&cfg, 0, NULL, &l, &e), e);
    link_close(l);
    close(pair[1]);
    far_fini(&d.far);
}

/* --- a server that is none --- */

static void open_against(const char *says, size_t len, bool then_eof, int timeout_ms,
                         const struct cancel *c, struct err *e)
{
    struct link *l;
    int pair[2];

    assert_ok(unix_pair(pair, e), *e);
    assert_ok(fd_write_all(pair[1], says, len, e), *e);
    if (then_eof)
        shutdown(pair[1], SHUT_WR);
    const struct link_cfg cfg = { .in = pair[0], .out = pair[0] };
    e->kind = ERR_NONE;
    assert_false(link_open(&cfg, timeout_ms, c, &l, e));
    close(pair[1]);
}

static void link__noise_instead_of_a_greeting_is_shown(void **state)
{
    static const char motd[] = "Welcome to hostb!\r\n\033[1mlast login\n";
    static const char http1[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    struct err e;

    (void)state;
    open_against(motd, strlen(motd), false, LONG_MS, NULL, &e);
    assert_int_equal(e.kind, ERR_PROTO);
    assert_contains(e.msg, "Welcome to hostb!");
    assert_null(strchr(e.msg, '\033'));
    assert_null(strchr(e.msg, '\n'));
    open_against(http1, strlen(http1), true, LONG_MS, NULL, &e);
    assert_int_equal(e.kind, ERR_PROTO);
    /* cut off in the middle of what could have been a greeting */
    open_against("\0\0", 2, true, LONG_MS, NULL, &e);
    assert_int_equal(e.kind, ERR_PROTO);
    /* a frame, but not the first one */
    open_against("\0\0\10\6\0\0\0\0\0abcdefgh", 17, false, LONG_MS, NULL, &e);
    assert_int_equal(e.kind, ERR_PROTO);
}

static void link__open_gives_up(void **state)
{
    struct cancel *const c = cancel_new();
    struct err e;

    (void)state;
    open_against("", 0, true, LONG_MS, NULL, &e);
    assert_int_equal(e.kind, ERR_LINK);
    open_against("", 0, false, 50, NULL, &e);
    assert_int_equal(e.kind, ERR_TIMEOUT);
    cancel_set(c);
    open_against("", 0, false, LONG_MS, c, &e);
    assert_int_equal(e.kind, ERR_CANCELLED);
    cancel_free(c);
}

/* --- a client that is none: raw frames (RFC 9113) --- */

struct raw {
    struct far far;
    struct link *server;
    int fd;
};

enum { DATA = 0, HEADERS = 1, RST = 3, SETTINGS = 4, PING = 6, GOAWAY = 7 };
enum { END_STREAM = 1, END_HEADERS = 4 };

static void raw_open(struct raw *r)
{
    static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const struct link_server_ops ops = far_ops(&r->far);
    int pair[2];
    struct err e;

    far_init(&r->far);
    assert_ok(unix_pair(pair, &e), e);
    r->fd = pair[1];
    const struct link_cfg cfg = {
        .in = pair[0], .out = pair[0], .server = &ops, .heartbeat_ms = BEAT_MS
    };
    assert_ok(link_open(&cfg, 0, NULL, &r->server, &e), e);
    assert_ok(fd_write_all(r->fd, magic, sizeof magic - 1, &e), e);
}

/* false: the server has closed its end. */
static bool raw_frame(struct raw *r, uint8_t type, uint8_t flags, uint32_t id,
                      const void *p, size_t len)
{
    uint8_t hd[9] = { (uint8_t)(len >> 16),
                      (uint8_t)(len >> 8),
                      (uint8_t)len,
                      type,
                      flags,
                      (uint8_t)(id >> 24),
                      (uint8_t)(id >> 16),
                      (uint8_t)(id >> 8),
                      (uint8_t)id };

    return send(r->fd, hd, sizeof hd, MSG_NOSIGNAL) == (ssize_t)sizeof hd &&
           (len == 0 || send(r->fd, p, len, MSG_NOSIGNAL) == (ssize_t)len);
}

/* POST, http, a path; HPACK (RFC 7541) without Huffman, one literal. */
static bool raw_request(struct raw *r, uint32_t id, uint8_t flags, const char *path)
{
    uint8_t hp[4 + 100] = { 0x83, 0x86, 0x04, (uint8_t)strlen(path) };

    memcpy(hp + 4, path, strlen(path));
    return raw_frame(r, HEADERS, flags | END_HEADERS, id, hp, 4 + strlen(path));
}

static void raw_close(struct raw *r)
{
    far_go(&r->far);
    link_close(r->server);
    close(r->fd);
    far_fini(&r->far);
}

/* The server has seen the violation, and said so. */
static void raw_broken(struct raw *r, const char *why)
{
    struct err e;

    assert_err(link_wait(r->server, &e), e, ERR_PROTO);
    assert_contains(e.msg, why);
    raw_close(r);
}

static void link__garbage_is_no_client(void **state)
{
    struct raw r;
    struct err e;

    (void)state;
    raw_open(&r);
    (void)raw_frame(&r, 0x47, 0x45, 0x54202f20, "HTTP/1.1\r\n", 10);
    raw_broken(&r, "protocol");

    far_init(&r.far);
    const struct link_server_ops ops = far_ops(&r.far);
    int pair[2];
    assert_ok(unix_pair(pair, &e), e);
    r.fd = pair[1];
    const struct link_cfg cfg = { .in = pair[0], .out = pair[0], .server = &ops };
    assert_ok(link_open(&cfg, 0, NULL, &r.server, &e), e);
    assert_ok(fd_write_all(r.fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 26, &e), e);
    raw_broken(&r, "protocol");
}

static void link__violations_break_the_link(void **state)
{
    /* clang-format off */
    static const struct {
        uint8_t type, flags; uint32_t id; const char *bytes; size_t len; const char *why;
    } bad[] = {
        { DATA, 0, 1, "xx", 2, "protocol" },          /* on a stream that never was */
        { HEADERS, END_HEADERS, 2, "\x83\x86\x84", 3, "protocol" },    /* an even number */
        { HEADERS, END_HEADERS, 1, "\xff\xff\xff\xff\xff", 5, "" },         /* no HPACK */
        { HEADERS, END_HEADERS, 1, "\x83\x86", 2, "" },                  /* no path */
        { HEADERS, END_HEADERS, 1, "\x83\x86\x04\x03/\x01x", 7, "protocol" },
        { HEADERS, END_HEADERS, 1, "\x83\x86\x84\x00\x10" "content-encoding\x02" "br",
          24, "content-encoding" },
        { SETTINGS, 0, 0, "x", 1, "protocol" },
        { PING, 0, 0, "x", 1, "protocol" },
        { 8, 0, 0, "\0\0\0\0", 4, "protocol" },             /* a window update of 0 */
        { 8, 0, 0, "\x7f\xff\xff\xff", 4, "protocol" },     /* and of too much */
        { GOAWAY, 0, 0, "\0\0\0\0\0\0\0\2who?", 12, "who?" },
        { 5, END_HEADERS, 1, "\0\0\0\2", 4, "protocol" },   /* a push from a client */
    };
    /* clang-format on */
    struct raw r;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        raw_open(&r);
        assert_true(raw_frame(&r, SETTINGS, 0, 0, NULL, 0));
        (void)raw_frame(&r, bad[i].type, bad[i].flags, bad[i].id, bad[i].bytes,
                        bad[i].len);
        raw_broken(&r, bad[i].why);
    }
}

static void link__frame_over_the_limit_breaks_the_link(void **state)
{
    static const uint8_t hd[] = { 0x20, 0, 0, DATA, 0, 0, 0, 0, 1 };
    struct raw r;
    struct err e;

    (void)state;
    raw_open(&r);
    assert_true(raw_frame(&r, SETTINGS, 0, 0, NULL, 0));
    assert_true(raw_request(&r, 1, 0, "/echo"));
    assert_ok(fd_write_all(r.fd, hd, sizeof hd, &e), e);
    raw_broken(&r, "");
}

static void link__sender_that_ignores_windows_is_cut_off(void **state)
{
    static uint8_t chunk[16 * KIB];
    struct raw r;

    (void)state;
    raw_open(&r);
    assert_true(raw_frame(&r, SETTINGS, 0, 0, NULL, 0));
    assert_true(
        raw_request(&r, 1, 0, "/channel/x")); /* nobody reads the service's end */
    while (raw_frame(&r, DATA, 0, 1, chunk, sizeof chunk))
        ;
    raw_broken(&r, "protocol");
}

static void link__floods_are_survived_or_cut_off(void **state)
{
    enum { MANY = 3000 };
    static uint8_t nothing[8];
    struct raw r;
    struct err e;

    (void)state;
    /* pings whose answers nobody reads */
    raw_open(&r);
    assert_true(raw_frame(&r, SETTINGS, 0, 0, NULL, 0));
    for (int i = 0; i < 100 * MANY && raw_frame(&r, PING, 0, 0, nothing, 8); i++)
        ;
    raw_close(&r);

    /* requests that are reset at once, for a handler that does not return */
    raw_open(&r);
    assert_true(raw_frame(&r, SETTINGS, 0, 0, NULL, 0));
    for (uint32_t i = 0; i < MANY; i++)
        if (!raw_request(&r, 2 * i + 1, END_STREAM, "/wait") ||
            !raw_frame(&r, RST, 0, 2 * i + 1, "\0\0\0\10", 4))
            break;
    e.kind = ERR_NONE;
    assert_false(link_wait(r.server, &e));
    assert_int_equal(e.kind, ERR_PROTO);
    raw_close(&r);

    /* header fields without end */
    raw_open(&r);
    assert_true(raw_frame(&r, SETTINGS, 0, 0, NULL, 0));
    static uint8_t fields[15 * KIB];
    memset(fields, 'x', sizeof fields);
    memcpy(fields, "\x83\x86\x84\x00\x01y\x7f\x80\x75", 9); /* a value of 15104 bytes */
    assert_true(raw_frame(&r, HEADERS, 0, 1, fields, sizeof fields));
    while (raw_frame(&r, 9, 0, 1, fields, sizeof fields)) /* CONTINUATION */
        ;
    e.kind = ERR_NONE;
    assert_false(link_wait(r.server, &e));
    assert_int_equal(e.kind, ERR_PROTO);
    raw_close(&r);
}

/* --- bytes changed or lost on the way, anywhere --- */

/* Between the two ends: hands on both directions, and at one byte of one of them does
 * something. */
struct wire {
    int fd[2]; /* to the client, to the server */
    int dir;   /* whose bytes are touched: 0 the client's, 1 the server's */
    uint64_t at;
    bool cut; /* at that byte: end there, else change it */
    pthread_t thread;
};

static bool hand_on(struct wire *w, int from, uint64_t *seen)
{
    uint8_t buf[4096];
    const ssize_t n = read(w->fd[from], buf, sizeof buf);
    struct err e;

    if (n <= 0)
        return false;
    size_t len = (size_t)n;
    const bool hit = from == w->dir && w->at >= *seen && w->at < *seen + len;
    if (hit && w->cut)
        len = (size_t)(w->at - *seen);
    else if (hit)
        buf[w->at - *seen] ^= (uint8_t)(1 + w->at % 255);
    *seen += len;
    return fd_write_all(w->fd[!from], buf, len, &e) && !(hit && w->cut);
}

static void *wire_main(void *arg)
{
    struct wire *const w = arg;
    enum { LIFE_MS = 1500 }; /* a lost frame may leave one waiting for its answer */
    const int64_t end = clock_ms() + LIFE_MS;
    uint64_t seen[2] = { 0, 0 };

    for (bool on = true; on && clock_ms() < end;) {
        struct pollfd p[2] = { { w->fd[0], POLLIN, 0 }, { w->fd[1], POLLIN, 0 } };

        if (poll(p, 2, clock_left_ms(end)) < 0)
            continue;
        for (int i = 0; i < 2 && on; i++)
            if (p[i].revents != 0)
                on = hand_on(w, i, &seen[i]);
    }
    shutdown(w->fd[0], SHUT_RDWR);
    shutdown(w->fd[1], SHUT_RDWR);
    return NULL;
}

/* A short session over the wire; it may fail in any way but must end. */
static void session(const struct link_cfg *client, struct far *far)
{
    enum { CALL_MS = 150 };
    struct link *l;
    struct err e;
    char c;
    int fd;

    if (!link_open(client, CALL_MS, NULL, &l, &e))
        return;
    struct json_object *reply = NULL;
    (void)!link_call(l, "POST", "/echo", json_add_u64(json_new(), "n", 1), CALL_MS,
                     NULL, &reply, &e);
    json_object_put(reply);
    if (link_channel_pair(l, "disk/vda", LINK_BULK, -1, &fd, &e)) {
        (void)!fd_write_all(fd, "some bytes of a disk", 20, &e);
        shutdown(fd, SHUT_WR);
        pthread_mutex_lock(&far->lock);
        const int other = far->fds[far->nfds - 1];
        pthread_mutex_unlock(&far->lock);
        shutdown(other, SHUT_WR);
        while (read(fd, &c, 1) > 0)
            ;
        close(fd);
    }
    (void)!link_call(l, "GET", "/fails", NULL, CALL_MS, NULL, NULL, &e);
    link_close(l);
}

struct job {
    int dir;
    uint64_t at;
    bool cut;
    bool ok; /* out */
    pthread_t thread;
};

static void *wired_session(void *arg)
{
    struct job *const j = arg;
    struct wire w = { .dir = j->dir, .at = j->at, .cut = j->cut };
    struct link *server;
    struct far far;
    int a[2], b[2];
    struct err e;

    far_init(&far);
    const struct link_server_ops ops = far_ops(&far);
    if (!unix_pair(a, &e) || !unix_pair(b, &e))
        return NULL;
    w.fd[0] = a[1];
    w.fd[1] = b[0];
    const struct link_cfg there = {
        .in = b[1], .out = b[1], .server = &ops, .heartbeat_ms = QUICK_MS
    };
    const struct link_cfg here = { .in = a[0], .out = a[0], .heartbeat_ms = QUICK_MS };

    j->ok = pthread_create(&w.thread, NULL, wire_main, &w) == 0 &&
            link_open(&there, 0, NULL, &server, &e);
    if (!j->ok)
        return NULL;
    session(&here, &far);
    link_close(server);
    pthread_join(w.thread, NULL);
    close(a[1]);
    close(b[0]);
    far_fini(&far);
    return NULL;
}

/* Most of the time of such a session is waiting for what does not come: some at once. */
static void link__any_byte_lost_or_changed_is_survived(void **state)
{
    enum { BYTES = 500, AT_ONCE = 25, JOBS = 300 };
    static struct job jobs[JOBS]; /* a session has about so many bytes each way */

    (void)state;
    for (unsigned i = 0; i < JOBS; i++)
        jobs[i] =
            (struct job){ .dir = i % 2, .cut = i % 4 < 2, .at = i * BYTES / JOBS };
    for (unsigned from = 0; from < JOBS; from += AT_ONCE) {
        for (unsigned i = from; i < from + AT_ONCE; i++)
            assert_int_equal(
                pthread_create(&jobs[i].thread, NULL, wired_session, &jobs[i]), 0);
        for (unsigned i = from; i < from + AT_ONCE; i++) {
            pthread_join(jobs[i].thread, NULL);
            assert_true(jobs[i].ok);
        }
    }
}

/* --- fault points --- */

static void link__fault_points_break_it_as_a_network_would(void **state)
{
    static const char *const points[] = { "tunnel.send", "tunnel.recv",
                                          "tunnel.channel" };
    char spec[64];
    struct err e;

    (void)state;
    for (unsigned i = 0; i < 9; i++) {
        enum { BYTES = MIB };
        struct duo d;
        int fd = -1;

        /* The greeting takes the first passings of both ends. */
        snprintf(spec, sizeof spec, "%s:fail:%u", points[i % 3],
                 i % 3 == 2 ? 1 + i / 3 % 2 : 40 + i / 3);
        setenv("SNMIGRATE_FAULT", spec, 1);
        assert_ok(fault_init(&e), e);
        duo_open(&d);
        e.kind = ERR_NONE;
        if (link_channel_pair(d.client, "ram", LINK_BULK, ZSTD_OFF, &fd, &e)) {
            struct flow up = { .fd = fd, .bytes = BYTES, .seed = 1, .shut = true };

            flow_send(&up);
            (void)flow_end(&up);
        }
        for (int k = 0; k < 100 && e.kind == ERR_NONE; k++)
            (void)!link_call(d.client, "GET", "/nothing", NULL, LONG_MS, NULL, NULL,
                             &e);
        if (i % 3 == 2)
            assert_contains(e.msg, "fault point tunnel.channel");
        else
            assert_int_equal(e.kind, ERR_LINK);
        if (fd >= 0)
            close(fd);
        duo_close(&d);
        unsetenv("SNMIGRATE_FAULT");
        assert_ok(fault_init(&e), e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(link__cut_pipe_fails_calls_and_closes_channels),
        TEST(link__cut_in_full_flow_ends_everything),
        TEST(link__silent_peer_is_dead_after_the_heartbeat),
        TEST(link__orderly_end_is_one_for_the_server),
        TEST(link__server_that_ends_is_noticed_by_the_client),
        TEST(link__close_lets_the_last_bytes_out),
        TEST(link__close_does_not_hang_on_channels),
        TEST(link__close_does_not_hang_on_a_stuck_peer),
        TEST(link__close_before_the_greeting),
        TEST(link__noise_instead_of_a_greeting_is_shown),
        TEST(link__open_gives_up),
        TEST(link__garbage_is_no_client),
        TEST(link__violations_break_the_link),
        TEST(link__frame_over_the_limit_breaks_the_link),
        TEST(link__sender_that_ignores_windows_is_cut_off),
        TEST(link__floods_are_survived_or_cut_off),
        TEST(link__any_byte_lost_or_changed_is_survived),
        TEST(link__fault_points_break_it_as_a_network_would),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
