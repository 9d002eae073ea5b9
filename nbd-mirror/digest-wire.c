#include "nbd-mirror/digest-wire.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"

enum {
    HEAD = 32,               /* bytes of a question without its ranges */
    RANGE = 16,              /* of one of them */
    TEXT_MAX = 500,          /* of a failure; a longer one is cut */
    BUFFER = 65536,          /* of an answer, at either end; holds any record */
    CONNECTIONS = 2,         /* to the server that is asked */
    MUTE_MS = 5 * 60 * 1000, /* a full buffer of answers is 250 MiB of reading */
};

static const char magic[4] = "SNMD";
static const uint8_t rec_sum = 's', rec_zero = 'z', rec_end = 'e', rec_failed = 'f';

/* --- numbers --- */

static uint64_t get(const uint8_t *p, size_t len)
{
    uint64_t v = 0;

    for (size_t i = 0; i < len; i++)
        v = v << 8 | p[i];
    return v;
}

static void put(uint8_t *p, size_t len, uint64_t v)
{
    while (len-- > 0) {
        p[len] = (uint8_t)v;
        v >>= 8;
    }
}

/* --- the question --- */

struct question {
    uint64_t size, start;
    uint32_t block, nranges;
    struct mirror_range *ranges; /* NULL: none */
};

static void question_fini_auto(struct question *q)
{
    free(q->ranges);
}

static bool question_send(int fd, const struct digest_cfg *cfg, struct err *e)
{
    const size_t n = cfg->ranges != NULL ? cfg->nranges : 0, len = HEAD + RANGE * n;
    AUTO(mem_free) uint8_t *p = calloc(1, len);

    assert(n <= DIGEST_WIRE_RANGES && cfg->size != MIRROR_SIZE_DST);
    if (p == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "%s: no memory for %zu stretches", cfg->name,
                       n);
    memcpy(p, magic, sizeof magic);
    put(p + 4, 4, cfg->block ? cfg->block : (uint32_t)DIGEST_BLOCK);
    put(p + 8, 8, cfg->size);
    put(p + 16, 8, cfg->start);
    put(p + 24, 4, n);
    for (size_t i = 0; i < n; i++) {
        put(p + HEAD + i * RANGE, 8, cfg->ranges[i].off);
        put(p + HEAD + i * RANGE + 8, 8, cfg->ranges[i].len);
    }
    return fd_write_all(fd, p, len, e) || err_wrap(e, "%s", cfg->name);
}

/* Of whole blocks of the least size, or up to the end of the disk. */
static bool edge_ok(const struct question *q, uint64_t at)
{
    return at % MIRROR_BLOCK == 0 || at == q->size;
}

static bool range_ok(const struct question *q, const struct mirror_range *r,
                     uint64_t after)
{
    return r->off >= after && r->off < q->size && r->off % MIRROR_BLOCK == 0 &&
           r->len > 0 && r->len <= q->size - r->off && edge_ok(q, r->off + r->len);
}

static bool question_ok(const struct question *q)
{
    const bool power = (q->block & (q->block - 1)) == 0;

    return power && q->block >= MIRROR_BLOCK && q->block <= DIGEST_WIRE_BLOCK_MAX &&
           q->size <= INT64_MAX && q->start <= q->size && q->start % q->block == 0 &&
           q->nranges <= DIGEST_WIRE_RANGES && (q->nranges == 0 || q->start == 0);
}

static bool ranges_read(int fd, struct question *q, struct err *e)
{
    uint64_t after = 0;

    if (q->nranges == 0)
        return true;
    q->ranges = calloc(q->nranges, sizeof *q->ranges);
    if (q->ranges == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "no memory for %" PRIu32 " stretches",
                       q->nranges);
    for (size_t i = 0; i < q->nranges; i++) {
        uint8_t p[RANGE];

        if (!fd_read_all(fd, p, sizeof p, e))
            return false;
        q->ranges[i] = (struct mirror_range){ get(p, 8), get(p + 8, 8) };
        if (!range_ok(q, &q->ranges[i], after))
            return err_set(e, ERR_PROTO, 0, "not a stretch of the disk to digest");
        after = q->ranges[i].off + q->ranges[i].len;
    }
    return true;
}

static bool question_read(int fd, struct question *q, struct err *e)
{
    uint8_t p[HEAD];

    if (!fd_read_all(fd, p, sizeof p, e))
        return false;
    q->block = (uint32_t)get(p + 4, 4);
    q->size = get(p + 8, 8);
    q->start = get(p + 16, 8);
    q->nranges = (uint32_t)get(p + 24, 4);
    if (memcmp(p, magic, sizeof magic) != 0 || !question_ok(q))
        return err_set(e, ERR_PROTO, 0, "not a question for digests");
    return ranges_read(fd, q, e);
}

/* --- telling --- */

struct teller {
    int fd;
    size_t n;
    uint8_t buf[BUFFER];
};

static bool tell_all(struct teller *t, struct err *e)
{
    const size_t n = t->n;

    t->n = 0;
    return fd_write_all(t->fd, t->buf, n, e);
}

/* Room for one more record. */
static bool tell_room(struct teller *t, size_t len, struct err *e)
{
    return len <= sizeof t->buf - t->n || tell_all(t, e);
}

static bool tell(void *ctx, const struct digest *d, struct err *e)
{
    struct teller *const t = ctx;

    if (!tell_room(t, 1 + DIGEST_LEN, e))
        return false;
    t->buf[t->n++] = d->zero ? rec_zero : rec_sum;
    if (d->zero) {
        put(t->buf + t->n, 8, d->len);
        t->n += 8;
        /* A hole may be all that comes for long. */
        return d->len <= BUFFER || tell_all(t, e);
    }
    memcpy(t->buf + t->n, d->sum, DIGEST_LEN);
    t->n += DIGEST_LEN;
    return true;
}

static bool tell_end(struct teller *t, struct err *e)
{
    if (!tell_room(t, 1, e))
        return false;
    t->buf[t->n++] = rec_end;
    return tell_all(t, e);
}

/* As far as the other end still listens. */
static void tell_failed(struct teller *t, const struct err *why)
{
    const size_t len = strnlen(why->msg, TEXT_MAX);
    struct err e;

    if (!tell_room(t, 7 + len, &e))
        return;
    t->buf[t->n] = rec_failed;
    put(t->buf + t->n + 1, 4, (uint64_t)(why->os > 0 ? why->os : 0));
    put(t->buf + t->n + 5, 2, len);
    memcpy(t->buf + t->n + 7, why->msg, len);
    t->n += 7 + len;
    if (!tell_all(t, &e))
        log_debug("digest", "%s", e.msg);
}

bool digest_wire_serve(int fd, const struct mirror_side *side, struct err *e)
{
    AUTO(question_fini) struct question q = { 0 };
    AUTO(mem_free) struct teller *t = calloc(1, sizeof *t);

    if (t == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "no memory for an answer");
    t->fd = fd;
    if (question_read(fd, &q, e)) {
        const struct digest_cfg cfg = { .name = "dst",
                                        .side = side,
                                        .size = q.size,
                                        .start = q.start,
                                        .ranges = q.ranges,
                                        .nranges = q.nranges,
                                        .block = q.block,
                                        .connections = CONNECTIONS,
                                        .emit = tell,
                                        .ctx = t };

        if (digest_export(&cfg, NULL, e))
            return tell_end(t, e);
    }
    tell_failed(t, e);
    return false;
}

/* --- listening --- */

void digest_wire_begin(struct digest_wire *w, const struct digest_cfg *cfg)
{
    *w = (struct digest_wire){ .cfg = cfg };
    if (cfg->ranges != NULL)
        return;
    w->off = cfg->start;
    w->end = cfg->size;
}

/* Where the next record belongs; false: nothing is to come. */
static bool wire_next(struct digest_wire *w)
{
    while (w->off == w->end) {
        if (w->cfg->ranges == NULL || w->range == w->cfg->nranges)
            return false;
        const struct mirror_range *const r = &w->cfg->ranges[w->range++];

        w->off = r->off;
        w->end = r->off + r->len;
    }
    return true;
}

static bool liar(const struct digest_wire *w, const char *what, struct err *e)
{
    return err_set(e, ERR_PROTO, 0, "%s: the digest at %" PRIu64 ": %s", w->cfg->name,
                   w->off, what);
}

static bool take_block(struct digest_wire *w, struct digest *d, struct err *e)
{
    if (d->len > w->end - w->off)
        return liar(w, "it is of more than was asked for", e);
    d->off = w->off;
    w->off += d->len;
    return w->cfg->emit(w->cfg->ctx, d, e);
}

static bool take_sum(struct digest_wire *w, const uint8_t *p, struct err *e)
{
    const uint32_t block = w->cfg->block ? w->cfg->block : (uint32_t)DIGEST_BLOCK;
    const uint64_t left = w->end - w->off, most = block - w->off % block;
    struct digest d = { .len = left < most ? left : most };

    memcpy(d.sum, p, DIGEST_LEN);
    return take_block(w, &d, e);
}

static bool take_zero(struct digest_wire *w, const uint8_t *p, struct err *e)
{
    const uint32_t block = w->cfg->block ? w->cfg->block : (uint32_t)DIGEST_BLOCK;
    struct digest d = { .len = get(p, 8), .zero = true };

    /* Compared with a block it must not end within it. */
    if (d.len == 0 || (d.len < w->end - w->off && (w->off + d.len) % block != 0))
        return liar(w, "it ends within a block", e);
    return take_block(w, &d, e);
}

static bool take_failed(const uint8_t *p, size_t len, struct err *e)
{
    char text[TEXT_MAX + 1], clean[TEXT_MAX + 1];
    const int os = (int)(get(p, 4) & INT32_MAX);

    memcpy(text, p + 6, len);
    text[len] = '\0';
    err_set(e, ERR_NBD, 0, "%s",
            text[0] != '\0' ? log_clean(clean, sizeof clean, text)
                            : "it does not say why");
    e->os = os; /* whose text is in the other end's */
    return false;
}

/* The length of the record at @p as far as it is known; 0: not one of ours. */
static size_t record_len(const uint8_t *p, size_t len)
{
    if (p[0] == rec_sum)
        return 1 + DIGEST_LEN;
    if (p[0] == rec_zero)
        return 1 + 8;
    if (p[0] == rec_end)
        return 1;
    if (p[0] == rec_failed)
        return len < 7 ? 7 : 7 + (size_t)get(p + 5, 2);
    return 0;
}

static bool take_record(struct digest_wire *w, const uint8_t *p, size_t len,
                        struct err *e)
{
    const bool more = wire_next(w);

    if (p[0] == rec_failed)
        return take_failed(p + 1, len - 7, e);
    w->ended = p[0] == rec_end;
    if (w->ended)
        return !more || liar(w, "it is missing", e);
    if (!more)
        return liar(w, "nothing was asked for there", e);
    return p[0] == rec_sum ? take_sum(w, p + 1, e) : take_zero(w, p + 1, e);
}

bool digest_wire_take(struct digest_wire *w, const uint8_t *p, size_t len, size_t *used,
                      struct err *e)
{
    for (*used = 0; *used < len;) {
        const size_t left = len - *used, n = record_len(p + *used, left);

        if (w->ended || n == 0 || n > 7 + (size_t)TEXT_MAX)
            return liar(w, "not a record of an answer", e);
        if (n > left)
            return true;
        if (!take_record(w, p + *used, n, e))
            return false;
        *used += n;
    }
    return true;
}

/* Something has come, or the end of it. */
static bool wait_for(int fd, const struct digest_cfg *cfg, struct err *e)
{
    for (;;) {
        struct pollfd p[] = { { .fd = fd, .events = POLLIN },
                              { .fd = cancel_fd(cfg->cancel), .events = POLLIN },
                              { .fd = cancel_fd(cfg->stop), .events = POLLIN } };

        const int n = poll(p, sizeof p / sizeof p[0], MUTE_MS);
        if (n < 0 && errno != EINTR)
            return err_set(e, ERR_SYS, errno, "poll");
        if (n == 0)
            return err_set(e, ERR_TIMEOUT, 0, "%s: no digest came for %d minutes",
                           cfg->name, MUTE_MS / 60000);
        if (!cancel_check(cfg->cancel, e) || !cancel_check(cfg->stop, e))
            return false;
        if (p[0].revents != 0)
            return true;
    }
}

static bool listen_on(int fd, struct digest_wire *w, uint8_t *buf, struct err *e)
{
    size_t have = 0, used;

    while (!w->ended) {
        if (!wait_for(fd, w->cfg, e))
            return false;
        const ssize_t n = read(fd, buf + have, BUFFER - have);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return err_set(e, ERR_NBD, n < 0 ? errno : ECONNRESET,
                           "%s: the digests end at %" PRIu64, w->cfg->name, w->off);
        have += (size_t)n;
        if (!digest_wire_take(w, buf, have, &used, e))
            return false;
        have -= used;
        memmove(buf, buf + used, have);
    }
    return true;
}

bool digest_wire_fetch(int fd, const struct digest_cfg *cfg, struct err *e)
{
    AUTO(mem_free) uint8_t *buf = malloc(BUFFER);
    struct digest_wire w;

    if (buf == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "%s: no memory for an answer", cfg->name);
    digest_wire_begin(&w, cfg);
    return question_send(fd, cfg, e) && listen_on(fd, &w, buf, e);
}
