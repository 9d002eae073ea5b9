#include "virt/blk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/unix.h"
#include "virt/blkqmp.h"
#include "virt/handle.h"
#include "virt/nbdsock.h"
#include "virt/status.h"
#include "virt/throttle.h"

enum {
    UNEXPORT_SAFE_MS = 5000, /* for clients to go by themselves */
    UNEXPORT_HARD_MS = 5000, /* more, after their connections were cut */
    UNEXPORT_POLL_MS = 50,   /* at most; the first pauses are shorter */
};

/* ---- probing ----------------------------------------------------------------------- */

static bool query_block(struct vdom *dom, struct json_object **out, struct err *e)
{
    return vdom_qmp(dom, "query-block", NULL, out, e);
}

static bool foreign_export(void *ctx, const char *node, const char *name, struct err *e)
{
    (void)ctx, (void)node;
    if (blkqmp_has_prefix(name, BLKQMP_OURS))
        return true;
    err_set(e, ERR_REFUSED, 0, "QEMU already has an export, \"%s\", of another program",
            name);
    return err_next(e, "Wait for the backup of this domain to end, or stop it.");
}

/* Ours from an earlier run are no obstacle: blk_cleanup() removes them. */
static bool no_foreign_export(struct vdom *dom, struct err *e)
{
    AUTO(json_put) struct json_object *exports = NULL;

    return vdom_qmp(dom, "query-block-exports", NULL, &exports, e) &&
           blkqmp_exports(exports, "", foreign_export, NULL, e);
}

static bool no_block_job(struct vdom *dom, struct err *e)
{
    AUTO(json_put) struct json_object *jobs = NULL;

    if (!vdom_qmp(dom, "query-block-jobs", NULL, &jobs, e))
        return false;
    if (json_object_is_type(jobs, json_type_array) &&
        json_object_array_length(jobs) == 0)
        return true;
    err_set(e, ERR_REFUSED, 0, "a block job is active in QEMU");
    return err_next(e, "Wait for it to end: virsh blockjob DOMAIN DISK.");
}

/* By the list of commands, not by version: RHEL's 9.1 has it too. */
static bool has_command(struct vdom *dom, const char *name, bool *has, struct err *e)
{
    AUTO(json_put) struct json_object *list = NULL;

    return vdom_qmp(dom, "query-commands", NULL, &list, e) &&
           blkqmp_has_name(list, name, has, e);
}

/* In QEMU 7.2.14 and later of its branch (and 8.x) the end of an NBD connection to a node
 * in an iothread runs into an assertion, "qemu_in_main_thread()", and kills the guest
 * (seen with 7.2.22; virtnbdbackup issue 254).  It needs no fault of ours: any close does. */
static bool survives_clients(struct vdom *dom, const struct dominfo *info,
                             struct err *e)
{
    enum { MAJOR_FIXED = 9 };
    AUTO(json_put) struct json_object *version = NULL;
    struct json_object *qemu;
    uint64_t major;

    if (!info->iothreads)
        return true;
    if (!vdom_qmp(dom, "query-version", NULL, &version, e) ||
        !json_get_object(version, "qemu", &qemu, e) ||
        !json_get_u64(qemu, "major", &major, e))
        return false;
    if (major >= MAJOR_FIXED)
        return true;
    err_set(e, ERR_REFUSED, 0,
            "a disk uses an iothread, and this QEMU (before %d.0) crashes when an NBD "
            "client of such a disk disconnects",
            MAJOR_FIXED);
    return err_next(e, "Take iothread= out of its disks and SCSI controllers, stop and "
                       "start it; or run it on a newer QEMU.");
}

static bool probe_disks(struct blk *b, const struct dominfo *info, struct err *e)
{
    AUTO(json_put) struct json_object *blocks = NULL;

    if (!query_block(b->dom, &blocks, e) || !blkqmp_count(blocks, &b->nfixed, e))
        return false;
    for (size_t i = 0; i < info->ndisks; i++) {
        const struct domdisk *const from = &info->disks[i];
        struct blkdisk *const to = &b->disks[i];
        if (from->alias[0] == '\0')
            return err_set(e, ERR_USAGE, 0, "disk %s has no alias: not a live XML",
                           from->target);
        memcpy(to->target, from->target, sizeof to->target);
        if (!blkqmp_find(blocks, from->alias, to, e))
            return err_wrap(e, "disk %s", from->target);
    }
    b->ndisks = info->ndisks;
    return true;
}

bool blk_probe(struct vdom *dom, const char *id, const struct dominfo *info,
               struct blk *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    out->dom = dom;
    blkqmp_prefix(out->prefix, id);
    if (info->ndisks > DOMXML_DISKS_MAX)
        return err_set(e, ERR_REFUSED, 0, "%zu disks, at most %d", info->ndisks,
                       DOMXML_DISKS_MAX);
    return probe_disks(out, info, e) && survives_clients(dom, info, e) &&
           no_foreign_export(dom, e) && no_block_job(dom, e) &&
           has_command(dom, "blockdev-set-active", &out->has_set_active, e);
}

bool blk_usage(struct blk *b, size_t disk, uint64_t *virtual_bytes, uint64_t *allocated,
               struct err *e)
{
    AUTO(json_put) struct json_object *blocks = NULL;

    return query_block(b->dom, &blocks, e) &&
           blkqmp_usage(b, blocks, disk, virtual_bytes, allocated, e);
}

/* ---- the NBD server ---------------------------------------------------------------- */

static bool read_status(struct vdom *dom, struct status *s, struct err *e)
{
    const char *const name = dom->name;

    if (!dom->v->local)
        return err_set(e, ERR_REFUSED, 0, "libvirt of domain %s is not on this host",
                       name);
    return status_read(name, s, e);
}

static bool server_in_libdir(struct blk *b, struct err *e)
{
    AUTO(mem_free) struct status *s = malloc(sizeof *s);
    char path[PATHS_SOCK_MAX];

    if (s == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "domain status");
    if (!read_status(b->dom, s, e) || !nbdsock_in_libdir(s, b->prefix, path, e) ||
        !vdom_qmp(b->dom, "nbd-server-start", blkqmp_server_unix(b, path), NULL, e))
        return false;
    snprintf(b->sock, sizeof b->sock, "%s", path);
    return true;
}

/* A descriptor passes where a path does not: QEMU is confined, the path is too long. */
static bool server_by_fd(struct blk *b, struct err *e)
{
    AUTO(fd_close) int fd = -1;
    char path[PATHS_SOCK_MAX], fdname[BLKQMP_NAME];

    snprintf(fdname, sizeof fdname, "%snbd", b->prefix);
    if (!dir_private(PATHS_RUN, e) || !nbdsock_in_run(b->prefix, path, e))
        return false;
    unlink(path); /* of a QEMU that is gone; the directory is ours alone */
    if (!unix_listen(path, &fd, e))
        return false;
    if (!vdom_qmp_fd(b->dom, "getfd", json_add_str(json_new(), "fdname", fdname), fd,
                     NULL, e) ||
        !vdom_qmp(b->dom, "nbd-server-start", blkqmp_server_fd(b, fdname), NULL, e)) {
        unlink(path);
        return err_wrap(e, "with a descriptor");
    }
    snprintf(b->sock, sizeof b->sock, "%s", path);
    return true;
}

static bool server_taken(struct err *e)
{
    e->kind = ERR_REFUSED;
    return err_next(e, "Wait for the backup of this domain to end, or stop it; after a "
                       "crash of an earlier move: see snmigrate(1), RECOVERY.");
}

bool blk_server_start(struct blk *b, struct err *e)
{
    struct err first;

    if (b->server_ours)
        return true;
    if (!server_in_libdir(b, &first)) {
        *e = first;
        if (strstr(first.msg, "already running") != NULL)
            return server_taken(e);
        if (!b->dom->v->local)
            return false;
        log_debug("virt", "no NBD socket in the domain's directory (%s)", first.msg);
        if (!server_by_fd(b, e))
            return err_wrap(e, "%s; then", first.msg);
    }
    b->server_ours = true;
    return true;
}

/* ---- bitmaps ----------------------------------------------------------------------- */

static bool transact(struct blk *b, struct json_object *args, struct err *e)
{
    return vdom_qmp(b->dom, "transaction", args, NULL, e);
}

bool blk_dirty(struct blk *b, uint64_t *bytes, struct err *e)
{
    AUTO(json_put) struct json_object *blocks = NULL;

    return query_block(b->dom, &blocks, e) && blkqmp_verify(b, blocks, bytes, e);
}

bool blk_bitmaps_start(struct blk *b, struct err *e)
{
    b->generation = 0;
    return transact(b, blkqmp_start(b), e) && blk_dirty(b, NULL, e);
}

bool blk_mark(struct vdom *dom, const char *id, const struct dominfo *info,
              struct err *e)
{
    struct blk b = { .dom = dom };
    struct err ignored, why;

    blkqmp_prefix(b.prefix, id);
    if (info->ndisks > DOMXML_DISKS_MAX || !probe_disks(&b, info, e))
        return false;
    if (transact(&b, blkqmp_start(&b), &why) || blk_bitmaps_adopt(&b, &ignored))
        return true;
    *e = why;
    return false;
}

bool blk_bitmaps_rotate(struct blk *b, struct err *e)
{
    AUTO(json_put) struct json_object *blocks = NULL;

    if (!transact(b, blkqmp_rotate(b), e))
        return false;
    b->generation++;
    return query_block(b->dom, &blocks, e) && blkqmp_verify(b, blocks, NULL, e) &&
           blkqmp_frozen(b, blocks, b->frozen, e);
}

/* All bitmaps with that prefix into the newest; *n: how many disks have one. */
static bool merge_all(struct vdom *dom, const char *prefix, unsigned *n, struct err *e)
{
    AUTO(json_put) struct json_object *nodes = NULL;
    struct json_object *args = NULL;

    return vdom_qmp(dom, "query-named-block-nodes",
                    json_add_bool(json_new(), "flat", true), &nodes, e) &&
           blkqmp_merge(nodes, prefix, &args, n, e) &&
           (args == NULL || vdom_qmp(dom, "transaction", args, NULL, e));
}

bool blk_bitmaps_settle(struct blk *b, struct err *e)
{
    unsigned n;

    return merge_all(b->dom, b->prefix, &n, e) && blk_bitmaps_adopt(b, e);
}

bool blk_bitmaps_adopt(struct blk *b, struct err *e)
{
    AUTO(json_put) struct json_object *blocks = NULL;

    b->held = false;
    return query_block(b->dom, &blocks, e) &&
           blkqmp_adopt(b, blocks, &b->generation, e) &&
           blkqmp_verify(b, blocks, NULL, e);
}

bool blk_bitmap_drop(struct blk *b, bool hold, struct err *e)
{
    struct json_object *const args = blkqmp_drop(b, !hold);

    if (args != NULL && !transact(b, args, e))
        return false;
    b->held = hold;
    return true;
}

/* ---- exports ----------------------------------------------------------------------- */

bool blk_export(struct blk *b, size_t i, bool bitmap, char name[64],
                char bitmap_name[64], struct err *e)
{
    blkqmp_export_name(b, i, name);
    if (bitmap)
        blkqmp_bitmap(b, b->generation - 1, bitmap_name);
    else
        bitmap_name[0] = '\0';
    return vdom_qmp(b->dom, "block-export-add", blkqmp_export(b, i, bitmap), NULL, e) ||
           err_wrap(e, "export of %s", b->disks[i].target);
}

struct unexport {
    struct vdom *dom;
    bool hard;
    unsigned left;  /* exports that were listed in this turn */
    struct err why; /* of the newest refusal */
};

static bool unexport_one(void *ctx, const char *node, const char *name, struct err *e)
{
    struct unexport *const u = ctx;
    struct json_object *const args = json_add_str(json_new(), "id", name);

    (void)node, (void)e;
    u->left++;
    json_add_str(args, "mode", u->hard ? "hard" : "safe");
    /* Refused while a client is connected (safe) and while it is already on its way out:
     * the next turn looks again. */
    (void)!vdom_qmp(u->dom, "block-export-del", args, NULL, &u->why);
    return true;
}

/* One turn: ask for every export with that prefix to go; u->left says how many there were. */
static bool unexport_turn(struct unexport *u, const char *prefix, struct err *e)
{
    AUTO(json_put) struct json_object *exports = NULL;

    u->left = 0;
    return vdom_qmp(u->dom, "query-block-exports", NULL, &exports, e) &&
           blkqmp_exports(exports, prefix, unexport_one, u, e);
}

/* Deleting is asynchronous: ask, until none with that prefix is listed any more. */
static bool unexport_all(struct vdom *dom, const char *prefix, int safe_ms,
                         struct err *e)
{
    struct unexport u = { .dom = dom };
    const int64_t safe_end = clock_ms() + safe_ms;
    int pause_ms = 1;

    for (;;) {
        u.hard = clock_ms() >= safe_end;
        if (!unexport_turn(&u, prefix, e))
            return false;
        if (u.left == 0)
            return true;
        if (clock_ms() >= safe_end + UNEXPORT_HARD_MS)
            return err_set(e, ERR_TIMEOUT, 0, "%u NBD exports %s* do not go away: %s",
                           u.left, prefix, u.why.msg);
        clock_sleep_ms(pause_ms);
        pause_ms = 2 * pause_ms < UNEXPORT_POLL_MS ? 2 * pause_ms : UNEXPORT_POLL_MS;
    }
}

bool blk_unexport(struct blk *b, size_t i, struct err *e)
{
    char prefix[BLKQMP_NAME];

    blkqmp_export_prefix(b, i, prefix);
    return unexport_all(b->dom, prefix, UNEXPORT_SAFE_MS, e);
}

bool blk_activate(struct blk *b, size_t i, struct err *e)
{
    struct json_object *args;

    if (!b->has_set_active)
        return err_set(e, ERR_VIRT, 0, "this QEMU has no blockdev-set-active");
    args = json_add_str(json_new(), "node-name", b->disks[i].node);
    return vdom_qmp(b->dom, "blockdev-set-active", json_add_bool(args, "active", true),
                    NULL, e);
}

/* ---- cleaning up ------------------------------------------------------------------- */

/* Keeps the first failure of many. */
struct sweep {
    struct vdom *dom;
    const char *prefix;
    const char *spared; /* bitmaps with this prefix stay; NULL: none */
    bool ok;
    struct err first;
};

static void swept(struct sweep *s, bool ok, const struct err *e)
{
    if (ok || !s->ok)
        return;
    s->ok = false;
    s->first = *e;
}

static bool remove_bitmap(void *ctx, const char *node, const char *name, struct err *e)
{
    struct sweep *const s = ctx;

    if (s->spared != NULL && blkqmp_has_prefix(name, s->spared))
        return true;
    struct json_object *const args =
        json_add_str(json_add_str(json_new(), "node", node), "name", name);

    swept(s, vdom_qmp(s->dom, "block-dirty-bitmap-remove", args, NULL, e), e);
    return true;
}

static void sweep_bitmaps(struct sweep *s)
{
    AUTO(json_put) struct json_object *nodes = NULL;
    struct err e;

    swept(s,
          vdom_qmp(s->dom, "query-named-block-nodes",
                   json_add_bool(json_new(), "flat", true), &nodes, &e) &&
              blkqmp_bitmaps(nodes, s->prefix, remove_bitmap, s, &e),
          &e);
}

static bool one_left(void *ctx, const char *node, const char *name, struct err *e)
{
    (void)node, (void)name, (void)e;
    ++*(unsigned *)ctx;
    return true;
}

static bool stop_server(struct vdom *dom, const char *sock, struct err *e)
{
    AUTO(json_put) struct json_object *exports = NULL;
    unsigned left = 0;

    if (!vdom_qmp(dom, "query-block-exports", NULL, &exports, e) ||
        !blkqmp_exports(exports, "", one_left, &left, e))
        return false;
    if (left > 0) /* somebody else uses our server, or ours did not go away */
        return true;
    if (!vdom_qmp(dom, "nbd-server-stop", NULL, NULL, e))
        return false;
    unlink(sock); /* QEMU does so itself where it may */
    return true;
}

static void sweep_server(struct sweep *s)
{
    AUTO(mem_free) struct status *st = malloc(sizeof *st);
    char sock[PATHS_SOCK_MAX];
    struct err e;

    if (st == NULL || !s->dom->v->local)
        return;
    if (!read_status(s->dom, st, &e))
        swept(s, false, &e);
    else if (nbdsock_find(st, s->prefix, sock))
        swept(s, stop_server(s->dom, sock, &e), &e);
}

static bool has_qemu(struct vdom *dom)
{
    enum vdom_run run;
    enum vdom_why why;
    struct err e;

    return !vdom_state(dom, &run, &why, &e) || (run != VDOM_NONE && run != VDOM_OFF);
}

/* All but the bitmaps, which @bitmaps deals with in the middle of it. */
static bool cleanup(struct sweep *s, void (*bitmaps)(struct sweep *s), struct err *e)
{
    struct err why;

    s->ok = true;
    if (has_qemu(s->dom)) {
        swept(s, unexport_all(s->dom, s->prefix, 0, &why), &why);
        bitmaps(s);
        swept(s, throttle_sweep(s->dom, s->prefix, &why), &why);
        sweep_server(s);
    }
    if (s->ok || !has_qemu(s->dom))
        return true;
    *e = s->first;
    return err_wrap(e, "cleaning up in QEMU");
}

bool blk_cleanup(struct vdom *dom, const char *id, struct err *e)
{
    char prefix[32], sock[PATHS_SOCK_MAX];
    struct sweep s = { .dom = dom, .prefix = prefix };
    struct err why;

    blkqmp_prefix(prefix, id);
    const bool ok = cleanup(&s, sweep_bitmaps, e);
    if (s.ok && id != NULL && nbdsock_in_run(prefix, sock, &why))
        unlink(sock); /* of a QEMU that ended before us */
    return ok;
}

bool blk_cleanup_others(struct vdom *dom, const char *spared, struct err *e)
{
    char prefix[32], keep[32];
    struct sweep s = { .dom = dom, .prefix = prefix };

    blkqmp_prefix(prefix, NULL);
    if (spared != NULL) {
        blkqmp_prefix(keep, spared);
        s.spared = keep;
    }
    return cleanup(&s, sweep_bitmaps, e);
}

static void merge_bitmaps(struct sweep *s)
{
    unsigned n = 0;
    struct err e;

    swept(s,
          merge_all(s->dom, s->prefix, &n, &e) &&
              (n > 0 || err_set(&e, ERR_REFUSED, 0, "no bitmap is left")),
          &e);
}

bool blk_keep(struct vdom *dom, const char *id, struct err *e)
{
    char prefix[32], sock[PATHS_SOCK_MAX];
    struct sweep s = { .dom = dom, .prefix = prefix };
    struct err why;

    blkqmp_prefix(prefix, id);
    (void)!cleanup(&s, merge_bitmaps, e);
    if (!s.ok) {
        *e = s.first;
        return false;
    }
    if (!has_qemu(dom))
        return err_set(e, ERR_REFUSED, 0, "its QEMU has ended");
    if (nbdsock_in_run(prefix, sock, &why))
        unlink(sock);
    return true;
}

void blk_forget(const char *id)
{
    char prefix[32];

    blkqmp_prefix(prefix, id);
    nbdsock_remove(prefix);
}
