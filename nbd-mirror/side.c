#include "nbd-mirror/side.h"

#include <assert.h>
#include <inttypes.h>
#include <sched.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "nbd-mirror/disk.h"

enum {
    HANDSHAKE_MS = 30000,
    /* A connection more than the first is a gain, not a need: a server with a limit
     * (qemu-nbd --shared=N) lets it wait, and we go on without.  It may take as long as
     * the first did some times over, and this. */
    HANDSHAKE_MORE_MS = 500,
    HANDSHAKE_MORE_TIMES = 4,
    CONNECTIONS_MAX = 4,
};

static bool connect_one(const struct side_want *w, struct disk **out, struct err *e)
{
    int fd = -1;
    AUTO(disk_close) struct disk *d = NULL;

    if (!w->side->dial(w->side->ctx, &fd, e))
        return err_wrap(e, "%s: cannot connect", w->nbd.side);
    if (!disk_nbd_open(&w->nbd, fd, &d, e))
        return false;
    if (w->size != MIRROR_SIZE_DST && d->size != w->size)
        return err_set(e, ERR_PROTO, 0,
                       "%s: the export has %" PRIu64 " bytes, not %" PRIu64,
                       w->nbd.side, d->size, w->size);
    *out = ptr_steal(&d);
    return true;
}

bool side_connect(struct side_want *w, unsigned max, struct disk **disk, unsigned *n,
                  struct err *e)
{
    const int64_t begun = clock_ms();
    struct err why;

    w->nbd.timeout_ms = HANDSHAKE_MS;
    if (!connect_one(w, &disk[0], e))
        return false;
    w->nbd.timeout_ms =
        HANDSHAKE_MORE_MS + HANDSHAKE_MORE_TIMES * (int)(clock_ms() - begun);
    w->size = disk[0]->size;
    for (*n = 1; *n < max && disk[0]->multi_conn; (*n)++)
        if (!connect_one(w, &disk[*n], &why)) {
            log_debug("mirror", "%u connections instead of %u: %s", *n, max, why.msg);
            break;
        }
    if (cancel_check(w->nbd.cancel, e))
        return true;
    while (*n > 0)
        disk_close(disk[--*n]);
    return false;
}

uint32_t side_size_limit(uint32_t size, uint32_t max)
{
    assert(size > 0 && max > 0 && (size & (size - 1)) == 0);
    while (size > max)
        size /= 2;
    return size;
}

unsigned side_connections(void)
{
    cpu_set_t set;
    const int cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 2;

    if (cpus >= 2 * CONNECTIONS_MAX)
        return CONNECTIONS_MAX;
    return cpus >= 4 ? (unsigned)cpus / 2 : 1;
}
