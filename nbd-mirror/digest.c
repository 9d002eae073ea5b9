#include "nbd-mirror/digest.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h> /* with AVX2 where there is: twice as fast */
#endif
#include <xxhash.h>

#include "base/cancel.h"
#include "base/mem.h"
#include "nbd-mirror/disk.h"
#include "nbd-mirror/feed.h"
#include "nbd-mirror/side.h"
#include "nbd-mirror/zero.h"

static_assert(sizeof(XXH128_canonical_t) == DIGEST_LEN, "the digest is XXH3-128's");

enum {
    /* Enough to keep a server busy; of more the buffers would leave the CPU's caches before
     * they are digested (tests/bench/verify).  Small blocks cost more for each, and less
     * memory. */
    REQUESTS_DEFAULT = 4,
    REQUESTS_SMALL = 8, /* of blocks below DIGEST_BLOCK */
    CONNECTIONS_MIN = 2,
    PAGE = 4096,
    /* Digests that are known or on their way, for each that is being read: one slow answer
     * holds up those behind it only after that many. */
    RECORDS_PER_SLOT = 4,
    LARGE =
        4 << 20, /* of the first read: lane.h tells why a server is faster after it */
    LARGE_FROM = 16, /* times that: on a smaller disk it would not pay */
};

/* Its turn comes when all before it have been emitted. */
struct record {
    struct digest d;
    bool done;
};

/* A block being read. */
struct slot {
    struct disk_cmd cmd; /* first: a struct disk_cmd * is a struct slot * */
    struct disk *disk;
    struct record *rec;
    uint32_t got; /* bytes of the block that are here */
    uint8_t *buf; /* ->block bytes */
    struct slot *next;
};

/*  feed --> slot: READ, part by part --> digest --> record: in order --> emit  */
struct job {
    const struct digest_cfg *cfg;
    uint64_t size;
    uint32_t block, part; /* bytes; a read is of at most ->part */
    struct disk *disk[MIRROR_LANES_MAX];
    unsigned ndisks, nslots, nrecords;
    struct slot *slots, *free;
    uint8_t *bufs;
    struct record *records; /* a ring; those from ->first up to ->last are in use */
    uint64_t first, last;
    struct record rest; /* the end of the disk, which the feed hands out first */
    struct feed feed;
    bool fed, end; /* the feed is there; it has nothing more */
    struct counters counters;
    struct disk_cmd ask;  /* the question of feed_ask() */
    struct disk_cmd warm; /* the large read, into ->large */
    uint8_t *large;
};

static void job_fini_auto(struct job *j)
{
    for (unsigned i = 0; i < j->ndisks; i++)
        disk_close(j->disk[i]); /* before the buffers */
    if (j->fed)
        feed_fini(&j->feed);
    free(j->slots);
    free(j->large);
    free(j->bufs);
    free(j->records);
}

/* --- beginning --- */

/* Nothing is written: a second one is worth it on two CPUs, too. */
static unsigned connections(void)
{
    const unsigned n = side_connections();

    return n < CONNECTIONS_MIN ? CONNECTIONS_MIN : n;
}

static bool job_connect(struct job *j, struct err *e)
{
    const struct digest_cfg *cfg = j->cfg;
    struct side_want want = { .side = cfg->side,
                              .nbd = { .side = cfg->name,
                                       .export_name = cfg->side->export_name,
                                       .want_alloc = cfg->ranges == NULL,
                                       .cancel = cfg->cancel },
                              .size = cfg->size };
    unsigned n = 0;

    if (!side_connect(&want, cfg->connections ? cfg->connections : connections(),
                      j->disk, &n, e))
        return false;
    j->ndisks = n;
    j->size = j->disk[0]->size;
    j->part = side_size_limit(j->block, j->disk[0]->block_max);
    if (j->part >= j->disk[0]->block_min)
        return true;
    return err_set(e, ERR_PROTO, 0, "%s: no read fits the server's block sizes",
                   cfg->name);
}

static unsigned requests(const struct job *j)
{
    if (j->cfg->requests != 0)
        return j->cfg->requests;
    return j->block < DIGEST_BLOCK ? REQUESTS_SMALL : REQUESTS_DEFAULT;
}

static bool job_alloc(struct job *j, struct err *e)
{
    j->nslots = j->ndisks * requests(j);
    j->nrecords = RECORDS_PER_SLOT * j->nslots;
    j->slots = calloc(j->nslots, sizeof *j->slots);
    j->records = calloc(j->nrecords, sizeof *j->records);
    j->bufs = aligned_alloc(PAGE, (size_t)j->nslots * j->block);
    if (j->slots == NULL || j->records == NULL || j->bufs == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "%s: no memory for %u reads of %u bytes",
                       j->cfg->name, j->nslots, j->block);
    for (unsigned i = j->nslots; i-- > 0;) {
        struct slot *s = &j->slots[i];

        s->disk = j->disk[i % j->ndisks];
        s->buf = j->bufs + (size_t)i * j->block;
        s->next = j->free;
        j->free = s;
    }
    return true;
}

static bool job_feed(struct job *j, struct err *e)
{
    const bool given = j->cfg->ranges != NULL;
    const struct feed_cfg cfg = {
        .rule = { .use = { [EXTENTS_ALLOC] = j->disk[0]->has_alloc },
                  .align = given ? j->disk[0]->block_min : j->block,
                  .size = j->size },
        .data_max = j->block,
        .whole_list = given,
        .start = j->cfg->start,
        .ranges = j->cfg->ranges,
        .nranges = j->cfg->nranges,
        .counters = &j->counters,
    };

    /* One thread: it wakes nobody. */
    j->fed = feed_init(&j->feed, &cfg, NULL, 0, e);
    return j->fed;
}

/* --- reading --- */

static bool slot_read(struct slot *s, uint32_t part, struct err *e)
{
    const uint32_t left = (uint32_t)s->rec->d.len - s->got;

    s->cmd = (struct disk_cmd){ .op = DISK_READ,
                                .off = s->rec->d.off + s->got,
                                .len = left < part ? left : part,
                                .buf = s->buf + s->got };
    return disk_start(s->disk, &s->cmd, e);
}

/* The block is here. */
static void slot_digest(struct job *j, struct slot *s)
{
    struct record *rec = s->rec;
    XXH128_canonical_t sum;

    rec->d.zero = zero_is(s->buf, (size_t)rec->d.len);
    if (!rec->d.zero) {
        XXH128_canonicalFromHash(&sum, XXH3_128bits(s->buf, (size_t)rec->d.len));
        memcpy(rec->d.sum, sum.digest, DIGEST_LEN);
    }
    rec->done = true;
    s->next = j->free;
    j->free = s;
}

/* The one place where a command ends, well or not. */
static bool job_completed(struct job *j, struct disk_cmd *cmd, struct err *e)
{
    struct slot *s = (struct slot *)cmd;

    if (cmd->op == DISK_STATUS && disk_refused(cmd) && feed_refused(&j->feed))
        return feed_tell(&j->feed, e);
    if (cmd->os != 0)
        return disk_cmd_err(cmd, e);
    if (cmd->op == DISK_STATUS)
        return feed_tell(&j->feed, e);
    if (cmd == &j->warm)
        return true;
    if (j->cfg->read != NULL)
        counter_add(j->cfg->read, cmd->len);
    s->got += cmd->len;
    if (s->got < s->rec->d.len)
        return slot_read(s, j->part, e);
    slot_digest(j, s);
    return true;
}

static bool job_reap(struct job *j, struct err *e)
{
    for (unsigned i = 0; i < j->ndisks; i++)
        for (struct disk_cmd *cmd; (cmd = disk_pop(j->disk[i])) != NULL;)
            if (!job_completed(j, cmd, e))
                return false;
    return true;
}

/* Where the digest of @p goes. */
static struct record *record_take(struct job *j, const struct piece *p)
{
    /* All other blocks of a whole disk are of full length. */
    const bool rest = j->cfg->ranges == NULL && p->len % j->block != 0;
    struct record *rec = rest ? &j->rest : &j->records[j->last++ % j->nrecords];

    *rec = (struct record){ .d = { .off = p->off, .len = p->len } };
    return rec;
}

static bool job_begin(struct job *j, const struct piece *p, struct err *e)
{
    struct record *rec = record_take(j, p);
    struct slot *s = j->free;

    if (p->kind == PIECE_ZERO) {
        rec->d.zero = rec->done = true;
        return true;
    }
    assert(p->len <= j->block);
    j->free = s->next;
    s->rec = rec;
    s->got = 0;
    return slot_read(s, j->part, e);
}

static bool job_fill(struct job *j, struct err *e)
{
    enum feed_next next = FEED_PIECE;
    struct piece p;
    int unused;

    while (j->free != NULL && j->last - j->first < j->nrecords &&
           (next = feed_take(&j->feed, 0, 0, &p, &unused)) == FEED_PIECE)
        if (!job_begin(j, &p, e))
            return false;
    j->end = next == FEED_END;

    struct extents *const map = feed_ask(&j->feed);
    if (map == NULL)
        return true;
    j->ask = (struct disk_cmd){
        .op = DISK_STATUS, .off = map->off, .len = (uint32_t)map->len, .map = map
    };
    return disk_start(j->disk[0], &j->ask, e);
}

/* --- emitting --- */

static bool job_emit(struct job *j, struct err *e)
{
    while (j->first < j->last && j->records[j->first % j->nrecords].done) {
        if (!j->cfg->emit(j->cfg->ctx, &j->records[j->first % j->nrecords].d, e))
            return false;
        j->first++;
    }
    return true;
}

static bool job_may_go_on(const struct job *j, struct err *e)
{
    return cancel_check(j->cfg->cancel, e) && cancel_check(j->cfg->stop, e);
}

static bool job_poll(struct job *j, struct err *e)
{
    struct pollfd p[MIRROR_LANES_MAX + 2];

    for (unsigned i = 0; i < j->ndisks; i++)
        if (!j->disk[i]->ops->events(j->disk[i], &p[i], e))
            return false;
    p[j->ndisks] = (struct pollfd){ .fd = cancel_fd(j->cfg->cancel), .events = POLLIN };
    p[j->ndisks + 1] =
        (struct pollfd){ .fd = cancel_fd(j->cfg->stop), .events = POLLIN };
    if (poll(p, j->ndisks + 2, -1) < 0)
        return errno == EINTR ? true : err_set(e, ERR_SYS, errno, "poll");
    if (!job_may_go_on(j, e))
        return false;
    for (unsigned i = 0; i < j->ndisks; i++)
        if (p[i].revents != 0 && !j->disk[i]->ops->ready(j->disk[i], p[i].revents, e))
            return false;
    return true;
}

/* Something has completed at once, or more can be begun now. */
static bool job_busy(const struct job *j)
{
    bool idle = true;

    for (unsigned i = 0; i < j->ndisks; i++) {
        if (j->disk[i]->done != NULL)
            return true;
        idle &= j->disk[i]->in_flight == 0;
    }
    return idle && !j->end;
}

static bool job_idle(const struct job *j)
{
    for (unsigned i = 0; i < j->ndisks; i++)
        if (j->disk[i]->in_flight > 0)
            return false;
    return true;
}

/* What is read goes nowhere; the whole disk will be. */
static bool job_warm(struct job *j, struct err *e)
{
    if (j->cfg->ranges != NULL || j->size / LARGE < LARGE_FROM ||
        j->disk[0]->block_max < LARGE)
        return true;
    j->large = malloc(LARGE);
    if (j->large == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "%s: no memory for a read of %d bytes",
                       j->cfg->name, LARGE);
    j->warm = (struct disk_cmd){ .op = DISK_READ, .len = LARGE, .buf = j->large };
    return disk_start(j->disk[0], &j->warm, e);
}

static bool job_run(struct job *j, struct err *e)
{
    if (!job_warm(j, e))
        return false;
    for (;;) {
        if (!job_may_go_on(j, e) || !job_reap(j, e) || !job_emit(j, e) ||
            !job_fill(j, e))
            return false;
        if (j->end && job_idle(j))
            break;
        if (!job_busy(j) && !job_poll(j, e))
            return false;
    }
    if (!job_emit(j, e)) /* zeroes that were handed out last */
        return false;
    assert(j->first == j->last);
    return !j->rest.done || j->cfg->emit(j->cfg->ctx, &j->rest.d, e);
}

bool digest_export(const struct digest_cfg *cfg, uint64_t *size, struct err *e)
{
    AUTO(job_fini)
    struct job j = { .cfg = cfg, .block = cfg->block ? cfg->block : DIGEST_BLOCK };

    assert(j.block >= MIRROR_BLOCK && (j.block & (j.block - 1)) == 0);
    if (!job_connect(&j, e) || !job_alloc(&j, e) || !job_feed(&j, e))
        return false;
    if (size != NULL)
        *size = j.size;
    return job_run(&j, e);
}
