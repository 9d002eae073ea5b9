#include "tests/lib/disk-mem.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "nbd-mirror/extents.h"

enum { PENDING_MAX = 512 };

struct disk_mem {
    struct disk disk; /* first */
    struct mem_disk *m;
    int fd; /* eventfd: readable while something can complete */
    unsigned rng;
    bool stuck;
    struct disk_cmd *pending[PENDING_MAX];
    unsigned npending;
};

static struct disk_mem *mem_of(struct disk *d)
{
    return (struct disk_mem *)d;
}

/* Marsaglia's xorshift32: repeatable, and every connection has its own. */
static unsigned draw(struct disk_mem *d, unsigned below)
{
    d->rng ^= d->rng << 13;
    d->rng ^= d->rng >> 17;
    d->rng ^= d->rng << 5;
    return d->rng % below;
}

static void arm(struct disk_mem *d)
{
    const uint64_t one = 1;

    if (write(d->fd, &one, sizeof one) < 0)
        abort();
}

/* --- what the server does --- */

/* How many bytes from @off, at most @max, are alike in @map. */
static uint32_t alike(const uint8_t *map, uint64_t off, uint64_t max)
{
    uint32_t n = 1;

    while (n < max && (map[off + n] != 0) == (map[off] != 0))
        n++;
    return n;
}

/* One context's answer: cut into extents as the draw wants, cut short as it wants, the
 * last one perhaps longer than what was asked for; all of that is legal. */
static void answer(struct disk_mem *d, struct disk_cmd *cmd, enum extents_ctx ctx,
                   const uint8_t *map, uint32_t flag)
{
    const uint64_t end = cmd->off + cmd->len;
    const unsigned max = d->m->pairs_max != 0 ? d->m->pairs_max : 1000000;
    uint32_t *pairs = malloc(2 * sizeof *pairs * cmd->len);
    size_t n = 0;

    assert(pairs != NULL);
    for (uint64_t off = cmd->off; off < end && n < max; n++) {
        uint32_t len = alike(map, off, d->m->size - off);

        if (off + len > end && draw(d, 2) == 0)
            len = (uint32_t)(end - off);
        if (len > 1 && draw(d, 4) == 0)
            len = 1 + draw(d, len);
        pairs[2 * n] = len;
        pairs[2 * n + 1] =
            map[off] ? flag | (ctx == EXTENTS_ALLOC ? draw(d, 2) : 0) : 0;
        off += len;
        if (draw(d, 20) == 0) {
            n++;
            break;
        }
    }
    extents_record(cmd->map, ctx, pairs, n);
    free(pairs);
}

static void serve(struct disk_mem *d, struct disk_cmd *cmd)
{
    struct mem_disk *m = d->m;

    switch (cmd->op) {
    case DISK_READ:
        memcpy(cmd->buf, m->bytes + cmd->off, cmd->len);
        break;
    case DISK_WRITE:
        memcpy(m->bytes + cmd->off, cmd->buf, cmd->len);
        break;
    case DISK_ZERO:
        memset(m->bytes + cmd->off, 0, cmd->len);
        break;
    case DISK_STATUS:
        if (m->zero != NULL)
            answer(d, cmd, EXTENTS_ALLOC, m->zero, EXTENTS_STATE_ZERO);
        if (m->dirty != NULL)
            answer(d, cmd, EXTENTS_DIRTY, m->dirty, EXTENTS_STATE_DIRTY);
        break;
    case DISK_FLUSH:
        break;
    case DISK_OPS:
        abort();
    }
}

/* --- the back end --- */

static bool lost(struct disk_mem *d, struct err *e)
{
    return err_set(e, ERR_NBD, ENOTCONN, "%s: connection lost", d->disk.side);
}

static void die(struct disk_mem *d)
{
    d->disk.dead = true;
    for (unsigned i = 0; i < d->npending; i++)
        disk_complete(d->pending[i], ENOTCONN);
    d->npending = 0;
}

/* What the fault does to this command; true: it is dealt with. */
static bool faulty(struct disk_mem *d, struct disk_cmd *cmd, unsigned nr)
{
    const struct mem_disk *m = d->m;

    if (m->fault == MEM_NO_FAULT || cmd->op != m->fault_op || nr < m->fault_at ||
        (nr > m->fault_at && m->fault != MEM_FAIL_ALL))
        return false;
    switch (m->fault) {
    case MEM_FAIL:
    case MEM_FAIL_ALL:
        disk_complete(cmd, m->fault_os);
        return true;
    case MEM_DIE:
        die(d);
        disk_complete(cmd, ENOTCONN);
        return true;
    case MEM_STUCK:
        d->stuck = true;
        return false;
    case MEM_NO_FAULT:
        break;
    }
    return false;
}

static bool mem_start(struct disk *disk, struct disk_cmd *cmd, struct err *e)
{
    struct disk_mem *d = mem_of(disk);
    const struct mem_disk *m = d->m;
    const unsigned nr = atomic_fetch_add(&d->m->count[cmd->op], 1);

    if (disk->dead)
        return lost(d, e);
    if (cmd->op != DISK_FLUSH) {
        assert(cmd->len > 0 && cmd->off < m->size && cmd->len <= m->size - cmd->off);
        assert(cmd->off % m->block_min == 0);
        assert(cmd->len % m->block_min == 0 ||
               (cmd->op != DISK_STATUS && cmd->off + cmd->len == m->size));
    }
    if (cmd->op == DISK_READ || cmd->op == DISK_WRITE)
        assert(cmd->len <= m->block_max);
    assert(cmd->op != DISK_ZERO || !m->no_zero);
    if (cmd->op == DISK_READ)
        memset(cmd->buf, 0xee, cmd->len); /* not there yet */
    if (faulty(d, cmd, nr))
        return true;
    assert(d->npending < PENDING_MAX);
    d->pending[d->npending++] = cmd;
    if (!d->stuck)
        arm(d);
    return true;
}

static bool mem_events(struct disk *disk, struct pollfd *p, struct err *e)
{
    struct disk_mem *d = mem_of(disk);

    *p = (struct pollfd){ .fd = d->fd, .events = POLLIN };
    return disk->dead ? lost(d, e) : true;
}

static bool mem_ready(struct disk *disk, short revents, struct err *e)
{
    struct disk_mem *d = mem_of(disk);
    uint64_t ignored;

    (void)revents;
    (void)e;
    if (read(d->fd, &ignored, sizeof ignored) < 0 && errno != EAGAIN)
        abort();
    if (d->stuck)
        return true;
    for (unsigned n = d->npending > 0 ? 1 + draw(d, d->npending) : 0; n > 0; n--) {
        const unsigned i = draw(d, d->npending);
        struct disk_cmd *cmd = d->pending[i];

        d->pending[i] = d->pending[--d->npending];
        serve(d, cmd);
        disk_complete(cmd, 0);
    }
    if (d->npending > 0)
        arm(d);
    return true;
}

static void mem_close(struct disk *disk)
{
    struct disk_mem *d = mem_of(disk);

    atomic_fetch_sub(&d->m->connections, 1);
    close(d->fd);
    free(d);
}

static const struct disk_ops mem_ops = {
    .start = mem_start,
    .events = mem_events,
    .ready = mem_ready,
    .close = mem_close,
};

struct disk *mem_connect(struct mem_disk *m, const char *side)
{
    struct disk_mem *d = calloc(1, sizeof *d);

    assert(d != NULL);
    disk_init(&d->disk, &mem_ops, side);
    d->m = m;
    d->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert(d->fd >= 0);
    d->rng = (m->seed + 1) * 2654435761u + atomic_fetch_add(&m->connections, 1);
    if (d->rng == 0)
        d->rng = 1;
    d->disk.size = m->size;
    d->disk.block_min = m->block_min;
    d->disk.block_max = m->block_max;
    d->disk.multi_conn = true;
    d->disk.can_zero = !m->no_zero;
    d->disk.can_flush = true;
    d->disk.has_alloc = m->zero != NULL;
    return &d->disk;
}

struct mem_disk *mem_disk_new(uint64_t size, unsigned seed)
{
    struct mem_disk *m = calloc(1, sizeof *m);

    assert(m != NULL);
    m->size = size;
    m->seed = seed;
    m->block_min = 1;
    m->block_max = 32 << 20;
    m->bytes = calloc(1, size + 1);
    assert(m->bytes != NULL);
    return m;
}

void mem_disk_free(struct mem_disk *m)
{
    assert(atomic_load(&m->connections) == 0); /* all were closed */
    free(m->bytes);
    free(m->zero);
    free(m->dirty);
    free(m);
}
