#include "tunnel/zstage.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <zstd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/unix.h"
#include "tunnel/link-int.h"
#include "tunnel/zlevel.h"

enum {
    CHUNK = 512 << 10,     /* plain bytes of one frame, at most */
    WINDOW_LOG = 20,       /* 1 MiB: what unpacking accepts; a chunk never needs more */
    BLOCK_MAX = 128 << 10, /* RFC 8878, 3.1.1.2.4 */
    BLOCKS = CHUNK / BLOCK_MAX,
    STORED_HEAD = 9, /* magic, descriptor, 4 bytes of content size */
    BLOCK_HEAD = 3,
};

enum { RUNNING, DONE, FAILED };

struct zstage {
    struct zstage_cfg cfg;
    int pair; /* our end of the socket pair */
    pthread_t thread;
    atomic_int state;
    struct err err; /* written before state becomes FAILED */
    atomic_int level;
    atomic_uint_fast64_t bytes;

    /* The thread's own. */
    uint8_t *in, *out;
    size_t in_size, out_size;
    ZSTD_CCtx *cctx;
    ZSTD_DCtx *dctx;
    struct zlevel z;
    int64_t blocked_ns, idle_ns; /* of this chunk, in poll */
};

/* --- sockets: blocking, also where the owner has set O_NONBLOCK --- */

static void wait_fd(int fd, short events)
{
    struct pollfd p = { .fd = fd, .events = events };

    (void)poll(&p, 1, -1); /* an error shows in the call that is tried again */
}

/* Read what is there, at least one byte unless end of file (*got = 0). */
static bool get(int fd, uint8_t *p, size_t size, size_t *got, int64_t *wait_ns,
                struct err *e)
{
    *got = 0;
    while (*got < size) {
        const ssize_t n = recv(fd, p + *got, size - *got, MSG_DONTWAIT);

        if (n > 0) {
            *got += (size_t)n;
        } else if (n == 0 || (errno == EAGAIN && *got > 0)) {
            return true; /* an end of file after some bytes comes again */
        } else if (errno == EAGAIN) {
            const int64_t start = clock_ns();

            wait_fd(fd, POLLIN);
            *wait_ns += clock_ns() - start;
        } else if (errno != EINTR) {
            return err_set(e, ERR_SYS, errno, "reading");
        }
    }
    return true;
}

/* Write all of @v, which is used up. */
static bool put(int fd, struct iovec *v, size_t n, int64_t *wait_ns, struct err *e)
{
    while (n > 0) {
        struct msghdr m = { .msg_iov = v, .msg_iovlen = n };
        ssize_t sent = sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent < 0 && errno == EAGAIN) {
            const int64_t start = clock_ns();

            wait_fd(fd, POLLOUT);
            *wait_ns += clock_ns() - start;
            continue;
        }
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return err_set(e, ERR_SYS, errno, "writing");
        for (; n > 0 && (size_t)sent >= v->iov_len; v++, n--)
            sent -= (ssize_t)v->iov_len;
        if (n > 0) {
            v->iov_base = (uint8_t *)v->iov_base + sent;
            v->iov_len -= (size_t)sent;
        }
    }
    return true;
}

/* --- packing --- */

/* A zstd frame made by hand of stored blocks: no byte is looked at or copied.
 * RFC 8878: magic, descriptor (single segment, 4 bytes of content size), then blocks. */
static bool send_stored(struct zstage *s, size_t len, struct err *e)
{
    uint8_t head[STORED_HEAD] = { 0x28, 0xb5, 0x2f, 0xfd, 0xa0 };
    uint8_t heads[BLOCKS][BLOCK_HEAD];
    struct iovec v[1 + 2 * BLOCKS] = { { head, sizeof head } };
    size_t n = 1, total = sizeof head;

    for (int i = 0; i < 4; i++)
        head[5 + i] = (uint8_t)(len >> 8 * i);
    for (size_t at = 0, b = 0; at < len; at += BLOCK_MAX, b++) {
        const size_t size = len - at < BLOCK_MAX ? len - at : BLOCK_MAX;
        const size_t bits = size << 3 | (at + size == len); /* type 0: stored */

        for (int i = 0; i < BLOCK_HEAD; i++)
            heads[b][i] = (uint8_t)(bits >> 8 * i);
        v[n++] = (struct iovec){ heads[b], BLOCK_HEAD };
        v[n++] = (struct iovec){ s->in + at, size };
        total += BLOCK_HEAD + size;
    }
    if (s->cfg.packed != NULL)
        atomic_fetch_add(s->cfg.packed, total);
    return put(s->pair, v, n, &s->blocked_ns, e);
}

static bool send_packed(struct zstage *s, size_t len, size_t *packed, struct err *e)
{
    ZSTD_CCtx_setParameter(s->cctx, ZSTD_c_compressionLevel, s->z.level);
    *packed = ZSTD_compress2(s->cctx, s->out, s->out_size, s->in, len);
    if (ZSTD_isError(*packed))
        return err_set(e, ERR_SYS, 0, "zstd: %s", ZSTD_getErrorName(*packed));
    if (s->cfg.packed != NULL)
        atomic_fetch_add(s->cfg.packed, *packed);
    return put(s->pair, &(struct iovec){ s->out, *packed }, 1, &s->blocked_ns, e);
}

static bool pack(struct zstage *s, struct err *e)
{
    for (;;) {
        size_t len, packed = 0;

        const int64_t start = clock_ns();

        s->blocked_ns = s->idle_ns = 0;
        if (!get(s->cfg.fd, s->in, CHUNK, &len, &s->idle_ns, e))
            return false;
        if (len == 0)
            break;
        if (s->cfg.plain != NULL)
            atomic_fetch_add(s->cfg.plain, len);
        atomic_fetch_add(&s->bytes, len);
        if (!(zlevel_raw(&s->z) ? send_stored(s, len, e)
                                : send_packed(s, len, &packed, e)))
            return false;
        zlevel_chunk(&s->z, len, packed,
                     clock_ns() - start - s->blocked_ns - s->idle_ns, s->blocked_ns,
                     s->idle_ns);
        atomic_store(&s->level, s->z.level);
    }
    shutdown(s->pair, SHUT_WR);
    return true;
}

/* --- unpacking --- */

/* All of @len bytes in s->in.  *open: a frame has begun and not ended. */
static bool expand(struct zstage *s, size_t len, bool *open, struct err *e)
{
    ZSTD_inBuffer in = { s->in, len, 0 };
    bool more = true; /* output may be left inside the decoder */
    int64_t ns = 0;

    while (in.pos < in.size || more) {
        ZSTD_outBuffer out = { s->out, s->out_size, 0 };
        const size_t rc = ZSTD_decompressStream(s->dctx, &out, &in);

        if (ZSTD_isError(rc))
            return err_set(e, ERR_PROTO, 0, "the peer's zstd stream: %s",
                           ZSTD_getErrorName(rc));
        *open = rc != 0; /* 0: a frame has ended, and all of it was given */
        more = *open && out.pos == out.size;
        if (out.pos != 0 &&
            !put(s->cfg.fd, &(struct iovec){ s->out, out.pos }, 1, &ns, e))
            return false;
    }
    return true;
}

static bool unpack(struct zstage *s, struct err *e)
{
    bool open = false;
    size_t len;
    int64_t ns = 0;

    for (;;) {
        if (!get(s->pair, s->in, s->in_size, &len, &ns, e))
            return false;
        if (len == 0)
            break;
        if (!expand(s, len, &open, e))
            return false;
    }
    if (open)
        return err_set(e, ERR_PROTO, 0, "the peer's zstd stream was cut off");
    shutdown(s->cfg.fd, SHUT_WR);
    return true;
}

/* --- life --- */

static void *zstage_main(void *arg)
{
    struct zstage *const s = arg;
    const bool ok = s->cfg.pack ? pack(s, &s->err) : unpack(s, &s->err);

    /* The state first: whoever sees an end of file must see that it is not one. */
    atomic_store(&s->state, ok ? DONE : FAILED);
    if (!ok)
        shutdown(s->pair, SHUT_RDWR);
    s->cfg.wake(s->cfg.arg);
    return NULL;
}

static bool buffers(struct zstage *s, struct err *e)
{
    s->in_size = CHUNK;
    s->out_size = s->cfg.pack ? ZSTD_compressBound(CHUNK) : CHUNK;
    s->in = malloc(s->in_size);
    s->out = malloc(s->out_size);
    if (s->cfg.pack)
        s->cctx = ZSTD_createCCtx();
    else
        s->dctx = ZSTD_createDCtx();
    if (s->in == NULL || s->out == NULL || (s->cctx == NULL && s->dctx == NULL))
        return err_set(e, ERR_SYS, ENOMEM, "zstd buffers");
    if (s->dctx != NULL)
        ZSTD_DCtx_setParameter(s->dctx, ZSTD_d_windowLogMax, WINDOW_LOG);
    return true;
}

static void release(struct zstage *s)
{
    fd_close_auto(&s->pair);
    ZSTD_freeCCtx(s->cctx);
    ZSTD_freeDCtx(s->dctx);
    free(s->in);
    free(s->out);
    free(s);
}

static void release_auto(struct zstage **s)
{
    if (*s != NULL)
        release(*s);
}

bool zstage_new(const struct zstage_cfg *cfg, struct zstage **out, int *end,
                struct err *e)
{
    AUTO(release) struct zstage *s = calloc(1, sizeof *s);
    int pair[2];

    if (s == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "zstd thread");
    s->cfg = *cfg;
    s->pair = -1;
    zlevel_init(&s->z, cfg->level);
    atomic_init(&s->level, s->z.level);
    if (!buffers(s, e) || !unix_pair(pair, e))
        return false;
    s->pair = pair[0];
    AUTO(fd_close) int theirs = pair[1];
    unix_widen(cfg->pack ? pair[0] : pair[1], BULK_BUF);
    if (!thread_start(&s->thread, zstage_main, s, cfg->pack ? "link-zip" : "link-unzip",
                      e))
        return false;
    *end = fd_steal(&theirs);
    *out = ptr_steal(&s);
    return true;
}

bool zstage_done(const struct zstage *s)
{
    return atomic_load(&s->state) != RUNNING;
}

bool zstage_failed(const struct zstage *s, struct err *e)
{
    if (atomic_load(&s->state) != FAILED)
        return false;
    *e = s->err;
    return true;
}

int zstage_level(const struct zstage *s)
{
    return atomic_load(&s->level);
}

unsigned long long zstage_bytes(const struct zstage *s)
{
    return atomic_load(&s->bytes);
}

void zstage_stop(struct zstage *s)
{
    shutdown(s->cfg.fd, SHUT_RDWR);
    shutdown(s->pair, SHUT_RDWR);
}

void zstage_free(struct zstage *s)
{
    if (s == NULL)
        return;
    pthread_join(s->thread, NULL);
    release(s);
}
