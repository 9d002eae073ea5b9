/* tests/fuzz/fuzz_nbd.c - a whole copy from, or onto, an NBD server that lies.
 *
 * Input: what the server claims to be, then a decision for each option and each request:
 * the truth, or one of many lies.  It hangs up when the input is used up.  The copy ends
 * with success or an error, and success means that every byte is what the server sent for
 * that offset: nothing stale, nothing of another place, no zeroes that nobody told.
 */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unix.h"
#include "nbd-mirror/mirror.h"
#include "nbd-mirror/verify.h"
#include "tests/lib/nbd-mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* NBD protocol (doc/proto.md of the nbd project). */
#define IHAVEOPT     UINT64_C(0x49484156454f5054)
#define OPTION_REPLY UINT64_C(0x0003e889045565a9)
enum {
    MAGIC_SIMPLE = 0x67446698,
    MAGIC_CHUNK = 0x668e33ef,
    OPT_GO = 7,
    OPT_STRUCTURED = 8,
    OPT_SET_META = 10,
    REP_ACK = 1,
    REP_INFO = 3,
    REP_META = 4,
    SIZE_MAX_HERE = 1 << 18,
    FOREIGN = 0xee, /* what the destination holds before: neither 0 nor ever sent */
    PATIENCE_US = 20000,
};

/* One connection of the lying server. */
struct liar {
    const uint8_t *p;
    size_t left;
    uint64_t size;
    uint32_t flags, block[3];
    bool structured, meta;
    int fd;
    pthread_t thread;
};

static struct {
    const uint8_t *data;
    size_t size;
    struct liar conn[2 * MIRROR_LANES_MAX];
    unsigned n;
    /* Bytes of which the server said that they are zero; all of it where what was sent
     * cannot be told any more. */
    _Atomic uint8_t zero[SIZE_MAX_HERE];
    atomic_bool anything;
} server;

static uint8_t byte_at(uint64_t off)
{
    return (uint8_t)((off * 7 + off / 256 * 13) % 97 + 1);
}

static uint64_t take(struct liar *c, unsigned bytes)
{
    uint64_t v = 0;

    for (; bytes-- > 0; v = v << 8 | (c->left > 0 ? (c->left--, *c->p++) : 0))
        ;
    return v;
}

static uint8_t *add(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = bytes; i-- > 0;)
        *p++ = (uint8_t)(v >> 8 * i);
    return p;
}

static uint64_t number(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;

    while (bytes-- > 0)
        v = v << 8 | *p++;
    return v;
}

/* Each returns false when the connection is to end. */

static bool put(struct liar *c, const void *buf, size_t len)
{
    return send(c->fd, buf, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool get(struct liar *c, void *buf, size_t len)
{
    uint8_t *p = buf;

    for (ssize_t n; len > 0; len -= (size_t)n, p += n) {
        n = recv(c->fd, p, len, 0);
        if (n <= 0)
            return false; /* PATIENCE_US are over: both would wait for ever */
    }
    return true;
}

/* So many bytes of the input, as they are. */
static bool put_input(struct liar *c, size_t len)
{
    const size_t n = len < c->left ? len : c->left;
    const uint8_t *p = c->p;

    c->p += n;
    c->left -= n;
    return n == len && put(c, p, n);
}

/* --- handshake --- */

static bool reply_opt(struct liar *c, uint32_t opt, uint32_t type, const void *data,
                      uint32_t len)
{
    uint8_t head[20];

    add(add(add(add(head, OPTION_REPLY, 8), opt, 4), type, 4), len, 4);
    return put(c, head, sizeof head) && (len == 0 || put(c, data, len));
}

static bool reply_go(struct liar *c)
{
    uint8_t export[12], block[14], *p = add(block, 3, 2);

    add(add(add(export, 0, 2), c->size, 8), c->flags | 1, 2);
    for (int i = 0; i < 3; i++)
        p = add(p, c->block[i], 4);
    return reply_opt(c, OPT_GO, REP_INFO, export, sizeof export) &&
           (c->block[2] == 0 || reply_opt(c, OPT_GO, REP_INFO, block, sizeof block)) &&
           reply_opt(c, OPT_GO, REP_ACK, NULL, 0);
}

static bool reply_true(struct liar *c, uint32_t opt)
{
    static const char context[] = "\0\0\0\7base:allocation";

    if (opt == OPT_GO)
        return reply_go(c);
    c->structured |= opt == OPT_STRUCTURED;
    c->meta |= opt == OPT_SET_META;
    return (opt != OPT_SET_META ||
            reply_opt(c, opt, REP_META, context, sizeof context - 1)) &&
           reply_opt(c, opt, REP_ACK, NULL, 0);
}

static bool reply_opt_any(struct liar *c, uint32_t opt)
{
    switch (take(c, 1) % 8) {
    default:
        return reply_true(c, opt);
    case 4: /* not supported */
        return reply_opt(c, opt, 0x80000001, NULL, 0);
    case 5: { /* any reply */
        uint8_t text[256];
        const uint32_t type = (uint32_t)take(c, 4), len = (uint32_t)take(c, 1);

        for (uint32_t i = 0; i < len; i++)
            text[i] = (uint8_t)take(c, 1);
        c->structured |= opt == OPT_STRUCTURED && type == REP_ACK;
        c->meta |= opt == OPT_SET_META;
        return reply_opt(c, opt, type, text, len) &&
               (take(c, 1) % 2 || reply_opt(c, opt, REP_ACK, NULL, 0));
    }
    case 6:
        return put_input(c, take(c, 1));
    case 7:
        return false;
    }
}

static bool handshake(struct liar *c)
{
    uint8_t head[18], data[4096];

    add(add(add(head, UINT64_C(0x4e42444d41474943), 8), IHAVEOPT, 8), 3, 2);
    if (!put(c, head, sizeof head) || !get(c, data, 4))
        return false;
    for (uint32_t opt = 0; opt != OPT_GO;) {
        if (!get(c, head, 16))
            return false;
        opt = (uint32_t)number(head + 8, 4);
        const uint64_t len = number(head + 12, 4);
        if (len > sizeof data || !get(c, data, len) || !reply_opt_any(c, opt))
            return false;
    }
    return true;
}

/* --- requests --- */

struct request {
    unsigned type;
    uint64_t cookie, off;
    uint32_t len;
};

static bool chunk(struct liar *c, const struct request *r, unsigned flags,
                  unsigned type, uint32_t len)
{
    uint8_t head[20];

    add(add(add(add(add(head, MAGIC_CHUNK, 4), flags, 2), type, 2), r->cookie, 8), len,
        4);
    return put(c, head, sizeof head);
}

static bool reply_simple(struct liar *c, const struct request *r, uint32_t os)
{
    uint8_t head[16];

    add(add(add(head, MAGIC_SIMPLE, 4), os, 4), r->cookie, 8);
    return put(c, head, sizeof head);
}

static bool put_bytes(struct liar *c, uint64_t off, uint32_t len)
{
    static __thread uint8_t buf[SIZE_MAX_HERE];

    if (len > sizeof buf)
        len = sizeof buf;
    for (uint32_t i = 0; i < len; i++)
        buf[i] = byte_at(off + i);
    return len == 0 || put(c, buf, len);
}

static void say_zero(uint64_t off, uint64_t len)
{
    for (uint64_t i = 0; i < len && off + i < SIZE_MAX_HERE; i++)
        atomic_store_explicit(&server.zero[off + i], 1, memory_order_relaxed);
}

/* An extent of the disk, or of none. */
static bool chunk_status(struct liar *c, const struct request *r)
{
    uint8_t data[4 + 8 * 32], *p = add(data, take(c, 1) % 8 ? 7 : take(c, 4), 4);
    const unsigned n = (unsigned)take(c, 1) % 32;
    uint64_t at = r->off;

    for (unsigned i = 0; i < n; i++) {
        const uint32_t how = (uint32_t)take(c, 1);
        uint32_t len = (uint32_t)take(c, 2) << how % 4 * 4;

        if (how & 0x40) /* up to what was asked */
            len = at < r->off + r->len ? (uint32_t)(r->off + r->len - at) : 1;
        if (how & 0x20)
            say_zero(at, len);
        p = add(add(p, len, 4), how >> 4 & 3, 4); /* 0x20: zero */
        at += len;
    }
    return chunk(c, r, 0, 5, (uint32_t)(p - data)) &&
           put(c, data, (size_t)(p - data)) && chunk(c, r, 1, 0, 0);
}

/* A chunk of data or a hole, somewhere within what was asked or not. */
static bool chunk_part(struct liar *c, const struct request *r, bool hole)
{
    const unsigned last = (unsigned)take(c, 1) % 2;
    const uint64_t off = r->off + take(c, 2);
    const uint32_t len = (uint32_t)take(c, 2);
    uint8_t head[12];

    add(add(head, off, 8), len, 4);
    if (hole) {
        say_zero(off, len);
        return chunk(c, r, last, 2, 12) && put(c, head, 12);
    }
    return chunk(c, r, last, 1, 8 + len) && put(c, head, 8) && put_bytes(c, off, len);
}

static bool chunk_any(struct liar *c, const struct request *r)
{
    const unsigned flags = (unsigned)take(c, 1), type = (unsigned)take(c, 2);
    const uint32_t len = (uint32_t)take(c, 1);

    server.anything = true;
    return chunk(c, r, flags, type, len) && put_input(c, len);
}

static bool reply_honest(struct liar *c, const struct request *r)
{
    uint8_t off[8];

    if (r->type == NBD_STATUS) {
        uint8_t data[12];

        add(add(add(data, 7, 4), r->len, 4), 0, 4);
        return chunk(c, r, 0, 5, 12) && put(c, data, 12) && chunk(c, r, 1, 0, 0);
    }
    if (r->type != NBD_READ)
        return reply_simple(c, r, 0);
    if (!c->structured)
        return reply_simple(c, r, 0) && put_bytes(c, r->off, r->len);
    add(off, r->off, 8);
    return chunk(c, r, 1, 1, 8 + r->len) && put(c, off, 8) &&
           put_bytes(c, r->off, r->len);
}

static bool reply_error(struct liar *c, const struct request *r)
{
    const uint32_t os = (uint32_t)take(c, 1), len = (uint32_t)take(c, 1);
    uint8_t data[6];

    if (!c->structured)
        return reply_simple(c, r, os);
    add(add(data, os, 4), len, 2);
    return chunk(c, r, 1, 32769, 6 + len) && put(c, data, 6) && put_input(c, len);
}

static bool reply_any(struct liar *c, struct request *r)
{
    switch (take(c, 1) % 16) {
    default:
        return reply_honest(c, r);
    case 5:
    case 6:
        return chunk_status(c, r);
    case 7:
        return reply_error(c, r);
    case 8: /* parts; they may make up the whole */
        return chunk_part(c, r, false) && reply_any(c, r);
    case 9:
        return chunk_part(c, r, true) && reply_any(c, r);
    case 10:
        return chunk(c, r, 1, 0, 0); /* "done", and nothing of it */
    case 11:
        r->cookie += take(c, 1);
        return reply_honest(c, r);
    case 12:
        return chunk_any(c, r);
    case 13:
        server.anything = true;
        return put_input(c, take(c, 1));
    case 14:
        return reply_simple(c, r, (uint32_t)take(c, 1));
    case 15:
        return c->left > 0 && false;
    }
}

static bool serve_one(struct liar *c)
{
    static __thread uint8_t payload[SIZE_MAX_HERE];
    uint8_t head[28];

    if (!get(c, head, sizeof head))
        return false;
    struct request r = { .type = (unsigned)number(head + 6, 2),
                         .cookie = number(head + 8, 8),
                         .off = number(head + 16, 8),
                         .len = (uint32_t)number(head + 24, 4) };
    if (r.type == NBD_WRITE)
        for (uint32_t n, left = r.len; left > 0; left -= n) {
            n = left < sizeof payload ? left : (uint32_t)sizeof payload;
            if (!get(c, payload, n))
                return false;
        }
    return r.type != NBD_DISC && c->left > 0 && reply_any(c, &r);
}

static void *serve(void *opaque)
{
    struct liar *c = opaque;

    if (handshake(c))
        while (serve_one(c))
            ;
    shutdown(c->fd, SHUT_RDWR);
    return NULL;
}

/* What it claims to be: 18 bytes. */
static void introduce(struct liar *c)
{
    const unsigned how = (unsigned)take(c, 1);

    c->flags = (uint32_t)take(c, 2);
    c->size = take(c, 3) % SIZE_MAX_HERE;
    if (how & 1)
        c->size = take(c, 8);
    if (how & 2)
        for (int i = 0; i < 3; i++)
            c->block[i] = how & 4 ? (uint32_t)take(c, 4) : 1u << take(c, 1) % 26;
}

static bool liar_dial(void *ctx, int *fd, struct err *e)
{
    struct liar *c = &server.conn[server.n];
    const struct timeval patience = { 0, PATIENCE_US };
    int pair[2];

    (void)ctx;
    if (server.n == sizeof server.conn / sizeof server.conn[0])
        return err_set(e, ERR_SYS, 0, "enough");
    *c = (struct liar){ .p = server.data, .left = server.size };
    introduce(c);
    if (!unix_pair(pair, e))
        abort();
    c->fd = pair[0];
    *fd = pair[1];
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (pthread_create(&c->thread, NULL, serve, c) != 0)
        abort();
    server.n++;
    return true;
}

static void hang_up(void)
{
    for (unsigned i = 0; i < server.n; i++) {
        shutdown(server.conn[i].fd, SHUT_RDWR);
        pthread_join(server.conn[i].thread, NULL);
        close(server.conn[i].fd);
    }
}

/* --- the copy --- */

static bool copy(const struct mirror_side *src, const struct mirror_side *dst)
{
    const struct mirror_cfg cfg = { .name = "vda",
                                    .size = MIRROR_SIZE_DST,
                                    .lanes = 2,
                                    .requests = 4,
                                    .request_size = 65536 };
    const struct mirror_pass pass = { .what = MIRROR_ALL };
    struct mirror *m = NULL;
    struct err e;

    const bool ok = mirror_open(&cfg, dst, &m, &e) && mirror_pass(m, src, &pass, &e) &&
                    mirror_flush(m, &e);
    if (!ok)
        assert(e.kind != ERR_NONE && e.msg[0] != '\0');
    mirror_close(m);
    return ok;
}

static void check(const struct nbd_mem *dst)
{
    for (uint64_t i = 0; i < dst->size && !server.anything; i++)
        if (dst->bytes[i] != byte_at(i) &&
            !(dst->bytes[i] == 0 && atomic_load(&server.zero[i])))
            abort();
}

static void verify(const struct mirror_side *a, const struct mirror_side *b)
{
    const struct verify_cfg cfg = { .name = "vda",
                                    .size = MIRROR_SIZE_DST,
                                    .block = 65536,
                                    .connections = 2,
                                    .requests = 2 };
    struct verify_result r;
    struct err e;

    if (verify_run(&cfg, a, b, &r, &e))
        assert(r.differ <= r.size);
    else
        assert(e.kind != ERR_NONE && e.msg[0] != '\0');
}

static void no_log(enum log_level level, const char *line, void *ctx)
{
    (void)level;
    (void)line;
    (void)ctx;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct liar claims = { .p = data, .left = size };

    if (size == 0)
        return 0;
    log_set_sink(no_log, NULL);
    memset(&server, 0, sizeof server);
    server.data = data + 1;
    server.size = size - 1;
    claims.p++;
    claims.left--;
    introduce(&claims);

    struct nbd_mem *m = nbd_mem_new(claims.size % SIZE_MAX_HERE);
    const struct mirror_side liar = { liar_dial, NULL, "" };
    const struct mirror_side honest = { nbd_mem_dial, m, "" };

    memset(m->bytes, FOREIGN, m->size);
    switch (data[0] % 4) {
    default:
        if (copy(&liar, &honest))
            check(m);
        break;
    case 2:
        copy(&honest, &liar);
        break;
    case 3:
        verify(&liar, &honest);
        break;
    }
    hang_up();
    nbd_mem_free(m);
    return 0;
}
