#include "migrate/probe.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "base/unix.h"
#include "migrate/move-int.h"
#include "nbd-mirror/disk-nbd.h"
#include "nbd-mirror/disk.h"
#include "nbd-mirror/extents.h"
#include "nbd-mirror/zero.h"

enum {
    THREADS = 4,     /* two for each of the largest disks, as a move has lanes */
    RUNS_MAX = 4096, /* stretches of data that are remembered of a disk */
    LIST_MS = 5000,  /* for all disks; of the rest an average is assumed */
    HANDSHAKE_MS = 10000,
    PIECE = 1 << 20, /* read and sent at a time */
    ASK = 1 << 30,   /* bytes of a disk in one question */
    POLL_MS = 50,
};

struct run {
    uint64_t off, len;
};

/* The data of one disk, as far as listed. */
struct map {
    struct run *runs;
    size_t n;
    uint64_t kept; /* bytes of the runs */
    uint64_t data; /* bytes of data on the whole disk */
};

struct sender {
    struct move *move;
    const struct map *map; /* NULL: @ram is sent, over and over */
    size_t disk;
    const uint8_t *ram;
    size_t len;
    int fd;               /* into the tunnel; -1: none */
    unsigned first, step; /* which pieces are its */
    atomic_bool *stop;
    atomic_uint_fast64_t *sent, *read;
    pthread_t thread;
    bool started;
    bool ok;
    struct err err;
};

static bool open_disk(struct move *m, size_t i, struct disk **out, struct err *e)
{
    const struct disk_nbd_cfg cfg = { .side = "src",
                                      .export_name = m->copies[i].export_name,
                                      .want_alloc = true,
                                      .timeout_ms = HANDSHAKE_MS,
                                      .cancel = m->halt };
    int fd = -1;

    return unix_connect(m->blk.sock, &fd, e) && disk_nbd_open(&cfg, fd, out, e);
}

/* --- where the data are --- */

static void keep(struct map *map, const struct piece *p)
{
    if (p->kind != PIECE_DATA)
        return;
    map->data += p->len;
    if (map->n == RUNS_MAX)
        return;
    map->runs[map->n++] = (struct run){ p->off, p->len };
    map->kept += p->len;
}

static bool ask(struct move *m, struct disk *d, struct extents *x, uint64_t off,
                uint64_t len, const struct extents_rule *rule, struct err *e)
{
    struct disk_cmd cmd = {
        .op = DISK_STATUS, .off = off, .len = (uint32_t)len, .map = x
    };

    extents_ask(x, off, len);
    return disk_do(d, &cmd, m->halt, e) && extents_check(x, rule, e);
}

static bool list_disk(struct move *m, struct disk *d, struct map *map, int64_t end,
                      struct err *e)
{
    const struct extents_rule rule = { .use = { [EXTENTS_ALLOC] = true },
                                       .skip_zero = true,
                                       .align = ZERO_CELL,
                                       .size = d->size };
    struct extents x = { 0 };
    struct piece p;
    uint64_t at = 0;
    bool ok = extents_init(&x, e);

    while (ok && at < d->size && clock_ms() < end) {
        const uint64_t left = d->size - at;

        ok = ask(m, d, &x, at, left < ASK ? left : ASK, &rule, e);
        while (ok && extents_next(&x, &rule, &p))
            keep(map, &p);
        if (ok)
            at = x.end;
    }
    extents_fini(&x);
    if (ok && at > 0 && at < d->size)
        map->data = (uint64_t)((double)map->data * (double)d->size / (double)at);
    return ok;
}

static bool list_one(struct move *m, size_t i, struct map *map, int64_t end,
                     struct err *e)
{
    AUTO(disk_close) struct disk *d = NULL;

    map->runs = calloc(RUNS_MAX, sizeof *map->runs);
    if (map->runs == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "forecast");
    if (!open_disk(m, i, &d, e))
        return false;
    if (d->has_alloc)
        return list_disk(m, d, map, end, e);
    keep(map, &(struct piece){ 0, d->size, PIECE_DATA });
    return true;
}

/* --- sending --- */

/* The @n-th piece of the data: in an order that is even over the disk at every moment. */
static struct run piece_at(const struct map *map, unsigned n)
{
    const double golden = 0.6180339887498949;
    const double turn = n * golden;
    uint64_t at = (uint64_t)((turn - (double)(uint64_t)turn) * (double)map->kept);

    for (size_t i = 0; i < map->n; i++) {
        const struct run *const r = &map->runs[i];

        if (at < r->len) {
            const uint64_t off = at / ZERO_CELL * ZERO_CELL, left = r->len - off;

            return (struct run){ r->off + off, left < PIECE ? left : PIECE };
        }
        at -= r->len;
    }
    return map->runs[0];
}

static bool over(const struct sender *s)
{
    return atomic_load(s->stop) || cancel_is_set(s->move->halt);
}

/* A tunnel that takes nothing more must not hold us. */
static bool send_some(struct sender *s, const uint8_t *buf, size_t len, struct err *e)
{
    while (len > 0 && !over(s)) {
        struct pollfd p = { .fd = s->fd, .events = POLLOUT };
        const ssize_t n = send(s->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            poll(&p, 1, POLL_MS);
            continue;
        }
        if (n < 0)
            return err_set(e, ERR_LINK, errno, "sending to the probe");
        atomic_fetch_add(s->sent, (uint64_t)n);
        buf += n;
        len -= (size_t)n;
    }
    return true;
}

/* As a lane does: cells of zeroes do not travel. */
static bool send_data(struct sender *s, const uint8_t *buf, uint64_t off, size_t len,
                      struct err *e)
{
    for (size_t at = 0; at < len;) {
        bool zero;
        const size_t n = zero_run(buf + at, off + at, len - at, &zero);

        if (!zero && !send_some(s, buf + at, n, e))
            return false;
        at += n;
    }
    atomic_fetch_add(s->read, len);
    return true;
}

static bool send_pieces(struct sender *s, struct err *e)
{
    AUTO(disk_close) struct disk *d = NULL;
    AUTO(mem_free) uint8_t *buf = malloc(PIECE);

    if (buf == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "forecast");
    if (!open_disk(s->move, s->disk, &d, e))
        return false;
    for (unsigned n = s->first; !over(s); n += s->step) {
        const struct run r = piece_at(s->map, n);
        const uint32_t len = r.len < d->block_max ? (uint32_t)r.len : d->block_max;
        struct disk_cmd cmd = { .op = DISK_READ, .off = r.off, .len = len, .buf = buf };

        if (!disk_do(d, &cmd, s->move->halt, e) || !send_data(s, buf, r.off, len, e))
            return false;
    }
    return true;
}

static bool send_ram(struct sender *s, struct err *e)
{
    for (size_t at = 0; !over(s); at = at + PIECE < s->len ? at + PIECE : 0)
        if (!send_some(s, s->ram + at, s->len - at < PIECE ? s->len - at : PIECE, e))
            return false;
    return true;
}

static void *send_thread(void *arg)
{
    struct sender *const s = arg;

    s->ok = s->map != NULL ? send_pieces(s, &s->err) : send_ram(s, &s->err);
    return NULL;
}

/* --- measuring --- */

/* All that send now. */
struct cast {
    struct move *move;
    struct sender s[THREADS];
    size_t n;
    atomic_uint_fast64_t sent, read; /* by all; of the disks */
    atomic_bool stop;
};

struct at {
    int64_t ns;
    uint64_t wire, plain;
};

static struct at look(struct move *m)
{
    struct link_stats st;

    link_stats(m->link, &st);
    return (struct at){ clock_ns(), st.sent, st.plain };
}

/* The first part is not counted: pipes fill, zstd looks for its level. */
static bool measure(struct cast *c, int ms, struct probe *out, struct err *e)
{
    struct move *const m = c->move;

    if (!cancel_sleep_ms(m->halt, ms / 3, e))
        return false;
    const struct at a = look(m);
    if (!cancel_sleep_ms(m->halt, ms - ms / 3, e))
        return false;
    const struct at b = look(m);
    const double s = (double)(b.ns - a.ns) / 1e9, wire = (double)(b.wire - a.wire);
    /* Without zstd what is sent is what travels. */
    const double plain = m->cfg->zstd == ZSTD_OFF ? wire : (double)(b.plain - a.plain);

    if (plain <= 0 || wire <= 0)
        return err_set(e, ERR_LINK, 0, "nothing of the probe arrived");
    out->rate = plain / s;
    out->ratio = plain / wire;
    return true;
}

static struct sender *add_sender(struct cast *c)
{
    struct sender *const s = &c->s[c->n++];

    *s = (struct sender){
        .move = c->move, .fd = -1, .stop = &c->stop, .sent = &c->sent, .read = &c->read
    };
    return s;
}

static bool start_senders(struct cast *c, struct err *e)
{
    struct move *const m = c->move;

    for (size_t i = 0; i < c->n; i++) {
        struct sender *const s = &c->s[i];

        if (!link_channel_pair(m->link, "probe", LINK_BULK, m->cfg->zstd, &s->fd, e))
            return false;
        s->started = thread_start(&s->thread, send_thread, s, "probe", e);
        if (!s->started)
            return false;
    }
    return true;
}

static bool stop_senders(struct cast *c, bool ok, struct err *e)
{
    atomic_store(&c->stop, true);
    for (size_t i = 0; i < c->n; i++) {
        struct sender *const s = &c->s[i];

        if (s->started)
            pthread_join(s->thread, NULL);
        if (s->fd >= 0)
            close(s->fd);
        /* What went wrong in a sender is why nothing arrived. */
        if (s->started && !s->ok && (ok || e->kind != ERR_CANCELLED))
            *e = s->err;
        ok = ok && (!s->started || s->ok);
    }
    return ok;
}

/* The disk with the @n-th most data; every sender has one that has some. */
static size_t nth_disk(const struct map *maps, size_t disks, size_t n)
{
    bool taken[DOMXML_DISKS_MAX] = { false };
    size_t best = 0;

    for (size_t k = 0; k <= n; k++) {
        best = disks;
        for (size_t i = 0; i < disks; i++)
            if (!taken[i] && maps[i].n > 0 &&
                (best == disks || maps[i].data > maps[best].data))
                best = i;
        if (best == disks)
            return nth_disk(maps, disks, 0);
        taken[best] = true;
    }
    return best;
}

static bool rehearse(struct move *m, const struct map *maps, int ms, struct probe *out,
                     struct err *e)
{
    struct cast c = { .move = m };
    const size_t disks = m->plan.n < THREADS ? m->plan.n : THREADS;
    const size_t n = 2 * disks < THREADS ? 2 * disks : THREADS;

    for (size_t i = 0; i < n; i++) {
        struct sender *const s = add_sender(&c);

        s->disk = nth_disk(maps, m->plan.n, i % disks);
        s->map = &maps[s->disk];
        s->first = (unsigned)i;
        s->step = (unsigned)n;
    }
    if (!stop_senders(&c, start_senders(&c, e) && measure(&c, ms, out, e), e))
        return false;
    if (c.read > 0)
        out->data = (uint64_t)((double)out->data * (double)c.sent / (double)c.read);
    return true;
}

bool probe_ram(struct move *m, const uint8_t *ram, size_t len, int ms,
               struct probe *out, struct err *e)
{
    struct cast c = { .move = m };
    struct sender *const s = add_sender(&c);

    s->ram = ram;
    s->len = len;
    *out = (struct probe){ .data = len, .ratio = 1 };
    return stop_senders(&c, start_senders(&c, e) && measure(&c, ms, out, e), e);
}

bool probe_run(struct move *m, int ms, struct probe *out, struct err *e)
{
    struct map *const maps = calloc(DOMXML_DISKS_MAX, sizeof *maps);
    const int64_t end = clock_ms() + LIST_MS;
    bool ok = maps != NULL || err_set(e, ERR_SYS, ENOMEM, "forecast"), any = false;

    *out = (struct probe){ .ratio = 1 };
    for (size_t i = 0; ok && i < m->plan.n; i++) {
        ok = list_one(m, i, &maps[i], end, e);
        out->data += maps[i].data;
        any |= maps[i].n > 0;
    }
    ok = ok && (!any || rehearse(m, maps, ms, out, e));
    for (size_t i = 0; maps != NULL && i < m->plan.n; i++)
        free(maps[i].runs);
    free(maps);
    return ok;
}
