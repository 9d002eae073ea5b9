#include "tests/lib/nbd-mem.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/unix.h"

/* NBD protocol (doc/proto.md of the nbd project). */
#define IHAVEOPT     UINT64_C(0x49484156454f5054)
#define OPTION_REPLY UINT64_C(0x0003e889045565a9)
enum {
    MAGIC_REQUEST = 0x25609513,
    MAGIC_SIMPLE = 0x67446698,
    MAGIC_CHUNK = 0x668e33ef,
    OPT_ABORT = 2,
    OPT_GO = 7,
    OPT_STRUCTURED = 8,
    OPT_SET_META = 10,
    REP_ACK = 1,
    REP_INFO = 3,
    REP_META = 4,
    REP_ERR_UNSUP = -2147483647,   /* 2^31 + 1 */
    REP_ERR_UNKNOWN = -2147483642, /* 2^31 + 6 */
    CHUNK_DONE = 1,
    CHUNK_NONE = 0,
    CHUNK_DATA = 1,
    CHUNK_STATUS = 5,
    CHUNK_ERROR = 32769,
    CTX_ALLOC = 7, /* our numbers for contexts */
    CTX_DIRTY = 8,
    LINE_MAX_LEN = 4096,
    PAYLOAD_MAX = 40 << 20,
};

struct connection {
    struct nbd_mem *m;
    int fd;
    bool structured, alloc, dirty;
    uint8_t *payload;
};

struct request {
    uint16_t flags, type;
    uint64_t cookie, off;
    uint32_t len;
};

/* Every function returns false when the connection is to end. */

static bool put(const struct connection *c, const void *buf, size_t len)
{
    const uint8_t *p = buf;

    while (len > 0) {
        const ssize_t n = send(c->fd, p, len, MSG_NOSIGNAL);

        if (n < 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static bool get(const struct connection *c, void *buf, size_t len)
{
    struct err e;

    return fd_read_all(c->fd, buf, len, &e);
}

/* Numbers on the wire are big-endian; append one to a message under construction. */
static uint8_t *add(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = bytes; i-- > 0;)
        *p++ = (uint8_t)(v >> 8 * i);
    return p;
}

static uint64_t take(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;

    while (bytes-- > 0)
        v = v << 8 | *p++;
    return v;
}

/* --- handshake --- */

static bool opt_reply(const struct connection *c, uint32_t opt, int type,
                      const void *data, uint32_t len)
{
    uint8_t head[20], *p = add(head, OPTION_REPLY, 8);

    p = add(p, opt, 4);
    p = add(p, (uint32_t)type, 4);
    p = add(p, len, 4);
    return put(c, head, sizeof head) && (len == 0 || put(c, data, len));
}

static bool opt_go(const struct connection *c)
{
    const struct nbd_mem *m = c->m;
    const unsigned flags = 1u | (m->read_only ? 2u : 0) | (m->no_flush ? 0 : 4u) |
                           (m->no_zero ? 0 : 64u) | (m->no_multi_conn ? 0 : 256u);
    uint8_t export[12], block[14], *p;

    if (m->lie == LIE_NO_EXPORT)
        return opt_reply(c, OPT_GO, REP_ERR_UNKNOWN, "no \033[1m such", 12);
    p = add(export, 0, 2);
    p = add(p, m->size_told, 8);
    add(p, flags, 2);
    p = add(block, 3, 2);
    for (int i = 0; i < 3; i++)
        p = add(p, m->block[i], 4);
    return opt_reply(c, OPT_GO, REP_INFO, export, sizeof export) &&
           (m->block[2] == 0 || opt_reply(c, OPT_GO, REP_INFO, block, sizeof block)) &&
           opt_reply(c, OPT_GO, REP_ACK, NULL, 0);
}

static bool meta_reply(const struct connection *c, uint32_t id, const uint8_t *name,
                       uint32_t len)
{
    uint8_t data[4 + LINE_MAX_LEN];

    memcpy(add(data, id, 4), name, len);
    return opt_reply(c, OPT_SET_META, REP_META, data, 4 + len);
}

static bool is(const uint8_t *name, uint32_t len, const char *wanted)
{
    return len == strlen(wanted) && memcmp(name, wanted, len) == 0;
}

static bool opt_meta(struct connection *c, const uint8_t *data)
{
    const uint8_t *p = data + 4 + take(data, 4);
    uint32_t n = (uint32_t)take(p, 4);

    for (p += 4; n > 0; n--) {
        const uint32_t len = (uint32_t)take(p, 4);

        p += 4;
        if (is(p, len, "base:allocation")) {
            c->alloc = true;
            if (!meta_reply(c, CTX_ALLOC, p, len))
                return false;
        } else if (c->m->dirty != NULL && is(p, len, "qemu:dirty-bitmap:b")) {
            c->dirty = true;
            if (!meta_reply(c, CTX_DIRTY, p, len))
                return false;
        }
        p += len;
    }
    return opt_reply(c, OPT_SET_META, REP_ACK, NULL, 0);
}

static bool handshake(struct connection *c)
{
    uint8_t head[18], data[LINE_MAX_LEN] = { 0 };

    if (c->m->lie == LIE_GARBAGE)
        return put(c, "HTTP/1.1 400 Bad Request\r\n\r\n", 28) && get(c, data, 1);
    if (c->m->lie == LIE_SILENCE)
        return get(c, data, sizeof data); /* until the client gives up */
    add(add(add(head, UINT64_C(0x4e42444d41474943), 8), IHAVEOPT, 8), 3, 2);
    if (!put(c, head, sizeof head) || c->m->lie == LIE_HANG_UP || !get(c, data, 4))
        return false;
    for (;;) {
        if (!get(c, head, 16))
            return false;
        const uint32_t opt = (uint32_t)take(head + 8, 4);
        const uint32_t len = (uint32_t)take(head + 12, 4);

        assert(take(head, 8) == IHAVEOPT && len < sizeof data);
        if (!get(c, data, len))
            return false;
        if (opt == OPT_GO)
            return opt_go(c) && c->m->lie != LIE_NO_EXPORT;
        if (opt == OPT_STRUCTURED && !c->m->no_structured)
            c->structured = opt_reply(c, opt, REP_ACK, NULL, 0);
        else if (opt == OPT_SET_META && c->structured)
            (void)!opt_meta(c, data);
        else if (!opt_reply(c, opt, opt == OPT_ABORT ? REP_ACK : REP_ERR_UNSUP, NULL,
                            0))
            return false;
    }
}

/* --- transmission --- */

static bool reply_simple(const struct connection *c, const struct request *r,
                         uint32_t error, const void *data, uint32_t len)
{
    uint8_t head[16];

    add(add(add(head, MAGIC_SIMPLE, 4), error, 4), r->cookie, 8);
    return put(c, head, sizeof head) && (len == 0 || put(c, data, len));
}

static bool chunk(const struct connection *c, const struct request *r, unsigned flags,
                  unsigned type, uint32_t len)
{
    uint8_t head[20], *p = add(head, MAGIC_CHUNK, 4);

    p = add(p, flags, 2);
    p = add(p, type, 2);
    p = add(p, r->cookie, 8);
    add(p, len, 4);
    return put(c, head, sizeof head);
}

static bool reply_error(const struct connection *c, const struct request *r,
                        uint32_t error)
{
    uint8_t data[6];

    if (!c->structured)
        return reply_simple(c, r, error, NULL, 0);
    add(add(data, error, 4), 0, 2);
    return chunk(c, r, CHUNK_DONE, CHUNK_ERROR, sizeof data) &&
           put(c, data, sizeof data);
}

static bool reply_read(const struct connection *c, const struct request *r,
                       enum nbd_lie lie)
{
    uint8_t off[8];
    const uint32_t len = lie == LIE_SHORT     ? r->len / 2
                         : lie == LIE_OVERRUN ? r->len * 2
                                              : r->len;

    memset(c->payload, 0xbb, (size_t)r->len * 2);
    memcpy(c->payload, c->m->bytes + r->off, r->len);
    if (!c->structured)
        return reply_simple(c, r, 0, c->payload, len);
    add(off, r->off, 8);
    return chunk(c, r, CHUNK_DONE, CHUNK_DATA, 8 + len) && put(c, off, sizeof off) &&
           put(c, c->payload, len);
}

static bool zero_at(const struct nbd_mem *m, uint64_t off)
{
    return m->bytes[off] == 0;
}

static bool dirty_at(const struct nbd_mem *m, uint64_t off)
{
    return m->dirty[off] != 0;
}

/* One context of a status reply, a true answer but for the lie. */
static bool reply_context(const struct connection *c, const struct request *r,
                          uint32_t id, uint32_t flag,
                          bool (*test)(const struct nbd_mem *, uint64_t),
                          enum nbd_lie lie)
{
    const uint64_t end = r->off + r->len;
    uint8_t *p = add(c->payload, lie == LIE_CTX_UNKNOWN ? 99 : id, 4);

    if (lie == LIE_EXTENT_ZERO)
        p = add(add(p, 0, 4), 0, 4);
    if (lie == LIE_EXTENT_LONG)
        p = add(add(p, c->m->size - r->off + 1, 4), flag, 4);
    else
        for (uint64_t at = r->off, from;
             at < end && p < c->payload + PAYLOAD_MAX - 16;) {
            from = at++;
            while (at < end && test(c->m, at) == test(c->m, from))
                at++;
            p = add(add(p, at - from, 4), test(c->m, from) ? flag : 0, 4);
        }
    if (lie == LIE_EXTENT_MORE)
        p = add(add(p, 1, 4), 0, 4);
    if (lie == LIE_EXTENT_ODD)
        p = add(p, 1, 4);
    const uint32_t len = (uint32_t)(p - c->payload);
    return chunk(c, r, 0, CHUNK_STATUS, len) && put(c, c->payload, len);
}

static bool reply_status(const struct connection *c, const struct request *r,
                         enum nbd_lie lie)
{
    for (int i = lie == LIE_CTX_TWICE ? 0 : 1; i < 2 && lie != LIE_CTX_NONE; i++) {
        if (c->alloc && !reply_context(c, r, CTX_ALLOC, 3, zero_at, lie))
            return false;
        if (c->dirty && !reply_context(c, r, CTX_DIRTY, 1, dirty_at, lie))
            return false;
    }
    return chunk(c, r, CHUNK_DONE, CHUNK_NONE, 0);
}

/* The lies that are told before the command is looked at. */
static bool reply_broken(const struct connection *c, struct request *r,
                         enum nbd_lie lie)
{
    uint8_t byte;

    if (lie == LIE_SIMPLE_MAGIC)
        return put(c, "RUBBISHRUBBISHRUBBISH", 20) && false;
    if (lie == LIE_COOKIE)
        r->cookie += 1000000;
    else if (lie == LIE_CUT)
        return put(c, "\x66\x8e\x33", 3) && false;
    while (lie == LIE_STUCK)
        if (!get(c, &byte, 1))
            return false;
    return true;
}

static bool reply(const struct connection *c, struct request *r, enum nbd_lie lie)
{
    if (!reply_broken(c, r, lie))
        return false;
    if (lie == LIE_ERRNO)
        return reply_error(c, r, c->m->lie_errno);
    switch (r->type) {
    case NBD_READ:
        return reply_read(c, r, lie);
    case NBD_STATUS:
        return reply_status(c, r, lie);
    case NBD_WRITE:
        if (!c->m->forgets)
            memcpy(c->m->bytes + r->off, c->payload, r->len);
        break;
    case NBD_ZERO:
        memset(c->m->bytes + r->off, 0, r->len);
        break;
    }
    return reply_simple(c, r, 0, NULL, 0);
}

static bool serve_one(const struct connection *c)
{
    struct nbd_mem *m = c->m;
    uint8_t head[28];

    if (!get(c, head, sizeof head))
        return false;
    struct request r = { .flags = (uint16_t)take(head + 4, 2),
                         .type = (uint16_t)take(head + 6, 2),
                         .cookie = take(head + 8, 8),
                         .off = take(head + 16, 8),
                         .len = (uint32_t)take(head + 24, 4) };
    assert(take(head, 4) == MAGIC_REQUEST && r.type < 8);
    if (r.type == NBD_DISC || (r.type == NBD_WRITE && !get(c, c->payload, r.len)))
        return false;
    assert(r.off <= m->size && r.len <= m->size - r.off);
    const unsigned nr = atomic_fetch_add(&m->count[r.type], 1);
    return reply(c, &r, r.type == m->lie_at && nr >= m->lie_after ? m->lie : LIE_NONE);
}

static void *serve(void *opaque)
{
    struct connection *c = opaque;

    if (handshake(c))
        while (serve_one(c))
            ;
    shutdown(c->fd, SHUT_RDWR); /* nbd_mem_free() closes it */
    munmap(c->payload, PAYLOAD_MAX);
    free(c);
    return NULL;
}

bool nbd_mem_dial(void *ctx, int *fd, struct err *e)
{
    struct nbd_mem *m = ctx;
    struct connection *c = calloc(1, sizeof *c);
    int pair[2];

    assert(c != NULL && atomic_load(&m->connections) < NBD_MEM_CONNECTIONS_MAX);
    c->m = m;
    /* Not malloc(3): MALLOC_PERTURB_ would touch all of it. */
    c->payload = mmap(NULL, PAYLOAD_MAX, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert(c->payload != MAP_FAILED);
    if (!unix_pair(pair, e))
        abort();
    const unsigned i = atomic_load(&m->connections);
    c->fd = m->fd[i] = pair[0];
    *fd = pair[1];
    if (pthread_create(&m->thread[i], NULL, serve, c))
        abort();
    atomic_store(&m->connections, i + 1);
    return true;
}

struct nbd_mem *nbd_mem_new(uint64_t size)
{
    struct nbd_mem *m = calloc(1, sizeof *m);

    assert(m != NULL);
    m->size = size;
    atomic_store(&m->size_told, size);
    m->bytes = calloc(1, size + 1);
    assert(m->bytes != NULL);
    return m;
}

void nbd_mem_free(struct nbd_mem *m)
{
    for (unsigned i = 0; i < atomic_load(&m->connections); i++) {
        shutdown(m->fd[i], SHUT_RDWR);
        pthread_join(m->thread[i], NULL);
        close(m->fd[i]);
    }
    free(m->bytes);
    free(m->dirty);
    free(m);
}
