#include "nbd-mirror/disk-nbd.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "nbd-mirror/disk.h"
#include "nbd-mirror/extents.h"

enum {
    BLOCK_MIN_LIMIT = 64 * 1024, /* NBD protocol, "Block size constraints" */
    PAYLOAD_MAX = 32 << 20,      /* the same: what any server must take */
    WHY_LEN = 256,
};

#define BITMAP_PREFIX "qemu:dirty-bitmap:"
enum { CONTEXT_LEN = sizeof BITMAP_PREFIX + 1023 }; /* QEMU's limit on bitmap names */

struct disk_nbd {
    struct disk disk; /* first: a struct disk * is a struct disk_nbd * */
    struct nbd_handle *nbd;
    bool open;         /* the handshake is done */
    bool whole;        /* it may be told to answer a read in one piece */
    char why[WHY_LEN]; /* the connection was lost because, or "" */
};

static struct disk_nbd *nbd_of(struct disk *d)
{
    return (struct disk_nbd *)d;
}

/* The last error of libnbd in this thread, cleaned: it may quote the server. */
static const char *nbd_why(char out[WHY_LEN])
{
    const char *why = nbd_get_error();

    return log_clean(out, WHY_LEN, why != NULL ? why : "no reason given");
}

/* libnbd reports a server that breaks the protocol as EPROTO. */
static enum err_kind nbd_kind(void)
{
    return nbd_get_errno() == EPROTO ? ERR_PROTO : ERR_NBD;
}

static bool nbd_err(struct err *e, const char *side, const char *what)
{
    char why[WHY_LEN];
    const int os = nbd_get_errno();

    err_set(e, nbd_kind(), 0, "%s: %s: %s", side, what, nbd_why(why));
    e->os = os;
    return false;
}

/* --- callbacks: called by libnbd inside its lock, they only record --- */

static int on_complete(void *opaque, int *error)
{
    struct disk_cmd *cmd = opaque;
    struct disk_nbd *d = nbd_of(cmd->disk);

    /* libnbd gives up on everything in flight: no errno of the protocol is ENOTCONN.  It
     * has set this thread's error just before; later nobody can ask for it any more. */
    if (*error == ENOTCONN) {
        d->disk.dead = true;
        if (d->why[0] == '\0' && nbd_get_error() != NULL)
            nbd_why(d->why);
    }
    disk_complete(cmd, *error);
    /* 1 retires the command.  A read is retired in disk_nbd_finish(). */
    return cmd->op == DISK_READ ? 0 : 1;
}

/* libnbd has put the piece where it belongs, and keeps an error for on_complete(). */
static int on_chunk(void *opaque, const void *piece, size_t len, uint64_t off,
                    unsigned status, int *error)
{
    (void)opaque, (void)piece, (void)len, (void)off, (void)status, (void)error;
    return 0;
}

static int on_extents(void *opaque, const char *context, uint64_t off,
                      uint32_t *entries, size_t nr_entries, int *error)
{
    struct disk_cmd *cmd = opaque;

    (void)off;
    (void)error;
    extents_record(cmd->map,
                   strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0 ? EXTENTS_ALLOC
                                                                        : EXTENTS_DIRTY,
                   entries, nr_entries / 2);
    return 0;
}

/* --- the back end --- */

static bool disk_nbd_start(struct disk *disk, struct disk_cmd *cmd, struct err *e)
{
    struct disk_nbd *d = nbd_of(disk);
    const nbd_completion_callback done = { .callback = on_complete, .user_data = cmd };
    const nbd_extent_callback extents = { .callback = on_extents, .user_data = cmd };
    const nbd_chunk_callback chunk = { .callback = on_chunk };
    int64_t cookie = -1;

    switch (cmd->op) {
    case DISK_READ:
        /* A QEMU that answers in pieces ends the connection where its disk has an I/O error
         * (nbd_co_send_sparse_read(); seen with 7.2); asked for one piece it says EIO. */
        if (d->whole)
            cookie = nbd_aio_pread_structured(d->nbd, cmd->buf, cmd->len, cmd->off,
                                              chunk, done, LIBNBD_CMD_FLAG_DF);
        else
            cookie = nbd_aio_pread(d->nbd, cmd->buf, cmd->len, cmd->off, done, 0);
        break;
    case DISK_WRITE:
        cookie = nbd_aio_pwrite(d->nbd, cmd->buf, cmd->len, cmd->off, done, 0);
        break;
    case DISK_ZERO: /* without NO_HOLE: the server may make a hole */
        cookie = nbd_aio_zero(d->nbd, cmd->len, cmd->off, done, 0);
        break;
    case DISK_STATUS:
        cookie = nbd_aio_block_status(d->nbd, cmd->len, cmd->off, extents, done, 0);
        break;
    case DISK_FLUSH:
        cookie = nbd_aio_flush(d->nbd, done, 0);
        break;
    case DISK_OPS:
        assert(!"an operation");
    }
    if (cookie == -1) {
        char why[WHY_LEN];
        const int os = nbd_get_errno();

        /* libnbd sends at once: a server that has gone is found out here or by poll. */
        err_set(e, nbd_kind(), 0, "%s%s",
                nbd_aio_is_dead(d->nbd) ? "connection lost: " : "",
                d->why[0] != '\0' ? d->why : nbd_why(why));
        e->os = os;
        return false;
    }
    cmd->cookie = cookie;
    return true;
}

/* libnbd 1.14 finds out that a structured reply did not cover the whole buffer only here,
 * not in the completion callback (lib/aio.c, "data_seen"): without this, a short answer
 * would leave stale bytes in the buffer, and no error. */
static void disk_nbd_finish(struct disk *disk, struct disk_cmd *cmd)
{
    struct disk_nbd *d = nbd_of(disk);

    if (cmd->op != DISK_READ)
        return;
    if (nbd_aio_command_completed(d->nbd, (uint64_t)cmd->cookie) != 1 && cmd->os == 0)
        cmd->os = EPROTO; /* 1.14 says EIO, which the server did not */
}

static bool disk_nbd_lost(struct disk_nbd *d, struct err *e)
{
    d->disk.dead = true;
    err_set(e, ERR_NBD, 0, "%s: %s: %s", d->disk.side,
            d->open ? "connection lost" : "NBD handshake",
            d->why[0] != '\0' ? d->why : "the server closed the connection");
    e->os = ENOTCONN;
    return false;
}

static bool disk_nbd_events(struct disk *disk, struct pollfd *p, struct err *e)
{
    struct disk_nbd *d = nbd_of(disk);
    const unsigned dir = nbd_aio_get_direction(d->nbd);

    p->fd = nbd_aio_get_fd(d->nbd);
    p->events = 0;
    p->revents = 0;
    if (p->fd < 0 || dir == 0)
        return disk_nbd_lost(d, e);
    if (dir & LIBNBD_AIO_DIRECTION_READ)
        p->events |= POLLIN;
    if (dir & LIBNBD_AIO_DIRECTION_WRITE)
        p->events |= POLLOUT;
    return true;
}

static bool disk_nbd_ready(struct disk *disk, short revents, struct err *e)
{
    struct disk_nbd *d = nbd_of(disk);
    /* Commands started since poll(2) may have changed what the handle waits for. */
    const unsigned dir = nbd_aio_get_direction(d->nbd);
    int r = 0;

    /* One of the two: the first may change the state that the second is for.  Replies
     * first, they are for older commands (see lib/poll.c of libnbd). */
    if ((revents & (POLLIN | POLLHUP)) && (dir & LIBNBD_AIO_DIRECTION_READ))
        r = nbd_aio_notify_read(d->nbd);
    else if ((revents & POLLOUT) && (dir & LIBNBD_AIO_DIRECTION_WRITE))
        r = nbd_aio_notify_write(d->nbd);
    else if (revents & (POLLERR | POLLNVAL))
        return disk_nbd_lost(d, e);
    if (r == -1) {
        if (d->why[0] == '\0')
            nbd_why(d->why);
        return disk_nbd_lost(d, e);
    }
    return true;
}

static void disk_nbd_close(struct disk *disk)
{
    struct disk_nbd *d = nbd_of(disk);

    /* Say goodbye (NBD_CMD_DISC) as far as the socket takes it now. */
    if (d->nbd != NULL && disk->in_flight == 0 && nbd_aio_is_ready(d->nbd) == 1 &&
        nbd_aio_disconnect(d->nbd, 0) == -1)
        log_debug("nbd", "%s: no goodbye", disk->side);
    nbd_close(d->nbd);
    free(d);
}

static const struct disk_ops disk_nbd_ops = {
    .start = disk_nbd_start,
    .events = disk_nbd_events,
    .ready = disk_nbd_ready,
    .finish = disk_nbd_finish,
    .close = disk_nbd_close,
};

/* --- opening --- */

static bool nbd_prepare(struct disk_nbd *d, const struct disk_nbd_cfg *cfg,
                        const char *dirty_context, struct err *e)
{
    d->nbd = nbd_create();
    if (d->nbd == NULL)
        return nbd_err(e, cfg->side, "cannot create a handle");
    /* We never look at the buffer of a read that failed: no need to clear it first. */
    if (nbd_set_pread_initialize(d->nbd, false) == -1 ||
        nbd_set_export_name(d->nbd, cfg->export_name) == -1 ||
        (cfg->want_alloc &&
         nbd_add_meta_context(d->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1) ||
        (cfg->bitmap != NULL && nbd_add_meta_context(d->nbd, dirty_context) == -1))
        return nbd_err(e, cfg->side, "cannot set up a handle");
    return true;
}

static bool nbd_handshake(struct disk_nbd *d, const struct disk_nbd_cfg *cfg,
                          struct err *e)
{
    const int64_t end = clock_ms() + cfg->timeout_ms;

    while (nbd_aio_is_connecting(d->nbd) == 1) {
        struct pollfd p[2] = { { .fd = -1 },
                               { .fd = cancel_fd(cfg->cancel), .events = POLLIN } };

        if (!disk_nbd_events(&d->disk, &p[0], e))
            return false;
        const int n = poll(p, 2, clock_left_ms(end));
        if (n < 0 && errno != EINTR)
            return err_set(e, ERR_SYS, errno, "poll");
        if (!cancel_check(cfg->cancel, e))
            return false;
        if (n == 0)
            return err_set(e, ERR_TIMEOUT, 0,
                           "%s: NBD handshake: not done within %d ms", cfg->side,
                           cfg->timeout_ms);
        if (n > 0 && p[0].revents != 0 && !disk_nbd_ready(&d->disk, p[0].revents, e))
            return false;
    }
    d->open = nbd_aio_is_ready(d->nbd) == 1;
    return d->open ? true : disk_nbd_lost(d, e);
}

/* A constraint of the server's, or @none where it names none. */
static int64_t nbd_block_size(struct disk_nbd *d, int which, int64_t none)
{
    const int64_t n = nbd_get_block_size(d->nbd, which);

    return n > 0 ? n : none;
}

static bool nbd_learn(struct disk_nbd *d, const struct disk_nbd_cfg *cfg,
                      const char *dirty_context, struct err *e)
{
    struct nbd_handle *nbd = d->nbd;
    const int64_t size = nbd_get_size(nbd);
    const int64_t min = nbd_block_size(d, LIBNBD_SIZE_MINIMUM, 1);
    const int64_t max = nbd_block_size(d, LIBNBD_SIZE_MAXIMUM, PAYLOAD_MAX);

    if (size < 0)
        return nbd_err(e, cfg->side, "no size");
    if ((min & (min - 1)) != 0 || min > BLOCK_MIN_LIMIT || max < min)
        return err_set(e, ERR_PROTO, 0,
                       "%s: the server wants blocks of %" PRId64 " to %" PRId64
                       " bytes",
                       cfg->side, min, max);
    if (cfg->bitmap != NULL && nbd_can_meta_context(nbd, dirty_context) != 1)
        return err_set(e, ERR_NBD, 0, "%s: the server does not offer the bitmap %s",
                       cfg->side, cfg->bitmap);
    d->disk.size = (uint64_t)size;
    d->disk.block_min = (uint32_t)min;
    d->disk.block_max = (uint32_t)(max < PAYLOAD_MAX ? max : PAYLOAD_MAX);
    d->whole = nbd_can_df(nbd) == 1;
    d->disk.multi_conn = nbd_can_multi_conn(nbd) == 1;
    d->disk.read_only = nbd_is_read_only(nbd) == 1;
    d->disk.can_zero = nbd_can_zero(nbd) == 1;
    d->disk.can_flush = nbd_can_flush(nbd) == 1;
    d->disk.has_alloc = cfg->want_alloc &&
                        nbd_can_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;

    /* The rest of a disk that is no whole number of blocks can only be reached by an
     * access that breaks the server's rule: let the server decide instead of libnbd. */
    if (size % min != 0 &&
        nbd_set_strict_mode(nbd, nbd_get_strict_mode(nbd) & ~LIBNBD_STRICT_ALIGN) == -1)
        return nbd_err(e, cfg->side, "cannot set up a handle");
    return true;
}

bool disk_nbd_open(const struct disk_nbd_cfg *cfg, int fd, struct disk **out,
                   struct err *e)
{
    char dirty_context[CONTEXT_LEN];
    AUTO(fd_close) int sock = fd;

    if (snprintf(dirty_context, sizeof dirty_context, BITMAP_PREFIX "%s",
                 cfg->bitmap != NULL ? cfg->bitmap : "") >= CONTEXT_LEN)
        return err_set(e, ERR_USAGE, 0, "the name of the bitmap is too long");

    struct disk_nbd *d = calloc(1, sizeof *d);
    if (d == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "cannot allocate a connection");
    disk_init(&d->disk, &disk_nbd_ops, cfg->side);
    AUTO(disk_close) struct disk *disk = &d->disk;

    if (!nbd_prepare(d, cfg, dirty_context, e))
        return false;
    /* From here libnbd has the socket, and closes it also on failure. */
    if (nbd_aio_connect_socket(d->nbd, fd_steal(&sock)) == -1)
        return nbd_err(e, cfg->side, "NBD handshake");
    if (!nbd_handshake(d, cfg, e) || !nbd_learn(d, cfg, dirty_context, e))
        return false;
    *out = ptr_steal(&disk);
    return true;
}
