#include "nbd-mirror/disk.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stddef.h>

#include "base/cancel.h"
#include "base/clock.h"

static const char *const op_names[] = {
    [DISK_READ] = "read",         [DISK_WRITE] = "write",
    [DISK_ZERO] = "write zeroes", [DISK_STATUS] = "block status",
    [DISK_FLUSH] = "flush",
};
static_assert(sizeof op_names / sizeof op_names[0] == DISK_OPS,
              "op_names[] and enum disk_op differ");

void disk_init(struct disk *d, const struct disk_ops *ops, const char *side)
{
    *d = (struct disk){ .ops = ops, .side = side, .block_min = 1 };
    d->done_tail = &d->done;
}

void disk_close(struct disk *d)
{
    if (d != NULL)
        d->ops->close(d);
}

void disk_close_auto(struct disk **d)
{
    disk_close(*d);
}

bool disk_start(struct disk *d, struct disk_cmd *cmd, struct err *e)
{
    cmd->disk = d;
    cmd->os = 0;
    cmd->next = NULL;
    d->in_flight++; /* before: it may complete at once */
    if (d->ops->start(d, cmd, e))
        return true;
    d->in_flight--;
    return err_wrap(e, "%s: %s of %" PRIu32 " bytes at %" PRIu64, d->side,
                    op_names[cmd->op], cmd->len, cmd->off);
}

void disk_complete(struct disk_cmd *cmd, int os)
{
    struct disk *d = cmd->disk;

    assert(d->in_flight > 0);
    cmd->os = os;
    cmd->next = NULL;
    *d->done_tail = cmd;
    d->done_tail = &cmd->next;
}

struct disk_cmd *disk_pop(struct disk *d)
{
    struct disk_cmd *cmd = d->done;

    if (cmd == NULL)
        return NULL;
    d->done = cmd->next;
    if (d->done == NULL)
        d->done_tail = &d->done;
    d->in_flight--;
    if (d->ops->finish != NULL)
        d->ops->finish(d, cmd);
    return cmd;
}

bool disk_refused(const struct disk_cmd *cmd)
{
    return cmd->os != 0 && cmd->os != EPROTO && cmd->os != ENOTCONN && !cmd->disk->dead;
}

bool disk_cmd_err(const struct disk_cmd *cmd, struct err *e)
{
    /* No errno of the NBD protocol is EPROTO: it means that the server broke it. */
    const enum err_kind kind = cmd->os == EPROTO ? ERR_PROTO : ERR_NBD;
    struct pollfd unused;

    /* What killed the connection says more than what was in flight. */
    if (cmd->disk->dead && !cmd->disk->ops->events(cmd->disk, &unused, e))
        return false;
    if (cmd->op == DISK_FLUSH)
        return err_set(e, kind, cmd->os, "%s: flush", cmd->disk->side);
    return err_set(e, kind, cmd->os, "%s: %s of %" PRIu32 " bytes at %" PRIu64,
                   cmd->disk->side, op_names[cmd->op], cmd->len, cmd->off);
}

/* One round of poll(2); false on a lost connection, or when cancelled or timed out. */
static bool disk_poll(struct disk *d, int timeout_ms, const struct cancel *cancel,
                      struct err *e)
{
    struct pollfd p[2] = { { .fd = -1 },
                           { .fd = cancel_fd(cancel), .events = POLLIN } };

    if (!d->ops->events(d, &p[0], e))
        return false;
    const int n = poll(p, 2, timeout_ms);
    if (n < 0 && errno != EINTR)
        return err_set(e, ERR_SYS, errno, "poll");
    if (n == 0)
        return err_set(e, ERR_TIMEOUT, 0, "%s: no answer", d->side);
    if (n > 0 && p[0].revents != 0 && !d->ops->ready(d, p[0].revents, e))
        return false;
    return cancel_check(cancel, e);
}

bool disk_do(struct disk *d, struct disk_cmd *cmd, const struct cancel *cancel,
             struct err *e)
{
    const struct disk_cmd *done;

    assert(d->in_flight == 0);
    if (!disk_start(d, cmd, e))
        return false;
    while ((done = disk_pop(d)) == NULL)
        if (!disk_poll(d, -1, cancel, e))
            return false;
    assert(done == cmd);
    return done->os == 0 ? true : disk_cmd_err(done, e);
}

bool disk_drain(struct disk *d, int ms, const struct cancel *cancel)
{
    const int64_t end = clock_ms() + ms;
    struct err
        ignored; /* something failed before, or there would be nothing to drain */

    do {
        while (disk_pop(d) != NULL)
            ;
        if (d->in_flight == 0)
            return true;
    } while (disk_poll(d, clock_left_ms(end), cancel, &ignored));

    /* A lost connection has completed all there was. */
    while (disk_pop(d) != NULL)
        ;
    return d->in_flight == 0;
}
