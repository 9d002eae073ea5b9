/* NEW to PREPARED: images, tokens, writers, directories; and its undo. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/arrival-int.h"
#include "base/fault.h"
#include "base/journal.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"

enum {
    STALE_WAIT_MS = 5000
}; /* for an agent that is just noticing that its link is gone */

/* ---- what an earlier move left --------------------------------------------------------- */

/* It says that the guest was to run here.  Without a guest that is history: it has gone
 * elsewhere since, or ended. */
static bool forget_history(struct arrival *old, const struct arrival *a, struct err *e)
{
    struct guest_look now;

    if (!a->ops->look(a->guest, &now, e))
        return false;
    if (now.run == VDOM_NONE) {
        log_info("agent", "forgetting the finished move %.8s of %s", old->id,
                 old->name);
        dir_remove(old->ram_dir);
        dir_remove(old->run_dir);
        journal_remove(old->state_dir);
        return true;
    }
    err_set(e, ERR_REFUSED, 0, "move %.8s brought this VM here and was not finished",
            old->id);
    return err_next(e, "Look at both hosts: snmigrate(1), RECOVERY.");
}

static bool remove_stale(const char *id, const struct arrival *a, struct err *e)
{
    AUTO(arrival_free) struct arrival *old = NULL;

    if (!arrival_load(id, a->ops, STALE_WAIT_MS, &old, e)) {
        if (e->kind != ERR_REFUSED)
            return false;
        err_set(e, ERR_REFUSED, 0, "another move of this VM is running (%.8s)", id);
        return err_next(e, "Wait for it to end, or stop it where it was started.");
    }
    if (old == NULL)
        return true;
    if (arrival_at(old) >= ARRIVAL_COMMITTED)
        return forget_history(old, a, e);
    log_info("agent", "removing what the unfinished move %.8s of %s left", id,
             old->name);
    return arrival_abort(old, e) || err_wrap(e, "unfinished move %.8s", id);
}

static bool if_stale(void *ctx, const char *id, struct err *e)
{
    const struct arrival *const a = ctx;
    AUTO(arrival_free) struct arrival *old = NULL;
    struct err why;

    if (!arrival_peek(id, a->ops, &old, &why)) {
        log_warn("agent", "%s",
                 why.msg); /* the images it may have made are in our way then */
        return true;
    }
    return old == NULL || strcasecmp(old->uuid, a->uuid) != 0 || remove_stale(id, a, e);
}

/* ---- the domain ------------------------------------------------------------------------ */

static bool domain_absent(struct arrival *a, struct err *e)
{
    struct guest_look now;

    if (!a->ops->look(a->guest, &now, e))
        return false;
    if (now.run != VDOM_NONE && now.run != VDOM_OFF)
        return err_set(e, ERR_REFUSED, 0, "a domain with the uuid of %s is %s here",
                       a->name, guest_run_name(now.run));
    a->defined = now.run == VDOM_OFF;
    return true;
}

/* ---- tokens ---------------------------------------------------------------------------- */

static void token_name(const struct arrival *a, char out[64])
{
    snprintf(out, 64, ".snmigrate-%s", a->id);
}

void arrival_token(const struct arrival *a, const struct image *im, char out[PATHS_MAX])
{
    char name[64];

    out[0] = '\0';
    if (im->device)
        return;
    token_name(a, name);
    if (snprintf(out, PATHS_MAX, "%.*s%s", (int)(image_name(im) - im->path), im->path,
                 name) >= PATHS_MAX)
        out[0] = '\0';
}

static bool tokens_make(struct arrival *a, struct err *e)
{
    char name[64];

    token_name(a, name);
    for (size_t i = 0; i < a->n; i++) {
        if (a->images[i].device)
            continue;
        AUTO(fd_close)
        int fd = openat(a->images[i].dirfd, name,
                        O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 && errno != EEXIST) /* two images in one directory */
            return err_set(e, ERR_SYS, errno, "%s beside %s", name, a->images[i].path);
    }
    return true;
}

/* Nobody else makes a file of that name: it has the move's random id. */
void arrival_tokens_remove(struct arrival *a)
{
    struct err ignored; /* without its directory there is no token either */
    char name[64];

    token_name(a, name);
    for (size_t i = 0; i < a->n; i++) {
        struct image *const im = &a->images[i];

        if (!im->device &&
            (im->dirfd >= 0 || image_open_dir(im, &im->dirfd, &ignored)) &&
            unlinkat(im->dirfd, name, 0) < 0 && errno != ENOENT)
            log_warn("agent", "cannot remove %s beside %s", name, im->path);
    }
}

/* ---- directories ----------------------------------------------------------------------- */

/* QEMU listens in it, so it belongs to its user. */
static bool ram_dir_make(struct arrival *a, struct err *e)
{
    uid_t uid;
    gid_t gid;

    if (!a->ops->qemu_ids(a->guest, &uid, &gid, e))
        return false;
    dir_remove(a->ram_dir);
    if (!dir_private(a->ram_dir, e))
        return false;
    AUTO(fd_close)
    int fd = open(a->ram_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchown(fd, uid, gid) < 0)
        return err_set(e, ERR_SYS, errno, "cannot give %s to QEMU", a->ram_dir);
    return true;
}

bool arrival_dirs_make(struct arrival *a, struct err *e)
{
    dir_remove(a->run_dir);
    return dir_private(PATHS_RUN, e) && dir_private(a->run_dir, e) &&
           ram_dir_make(a, e);
}

/* ---- other domains --------------------------------------------------------------------- */

bool arrival_unowned(struct arrival *a, const struct image *im, struct err *e)
{
    char name[256];

    if (!arrival_guest(a, e) ||
        !a->ops->disk_user(a->guest, im->path, name, sizeof name, e))
        return err_wrap(e, "disk %s", im->target);
    return name[0] == '\0' ||
           err_set(e, ERR_REFUSED, 0,
                   "disk %s: %.200s is a disk of the domain '%.100s'", im->target,
                   im->path, name);
}

/* ---- all of it ------------------------------------------------------------------------- */

/* Two names of one seed: two disks would be written into it.  (A device opens once only.) */
static bool is_twice(const struct arrival *a, size_t i, struct err *e)
{
    const struct image_id *const id = &a->images[i].id;

    for (size_t j = 0; j < i; j++)
        if (id->ino != 0 && id->ino == a->images[j].id.ino &&
            id->dev == a->images[j].id.dev)
            return !err_set(e, ERR_REFUSED, 0, "disks %s and %s are one file",
                            a->images[j].target, a->images[i].target);
    return false;
}

/* Up to the journal; nothing that was made so far has a name yet. */
static bool plan(struct arrival *a, struct err *e)
{
    AUTO(fd_close) int all = -1;

    if (!arrival_lock_all(&all, e) || !arrival_guest(a, e) ||
        !arrival_scan(if_stale, a, e) || !domain_absent(a, e))
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!arrival_unowned(a, &a->images[i], e) || !image_make(&a->images[i], e) ||
            is_twice(a, i, e))
            return false;
    return arrival_journal_start(a, e);
}

bool arrival_writers_start(struct arrival *a, struct err *e)
{
    for (size_t i = 0; i < a->n; i++)
        if (!writer_start(&a->writers[i], &a->images[i], a->run_dir, a->lock_fd, e))
            return false;
    return true;
}

static bool build(struct arrival *a, struct err *e)
{
    if (!fault_point("agent.prepare", e) || !arrival_dirs_make(a, e))
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!image_publish(&a->images[i], e))
            return false;
    return tokens_make(a, e) && arrival_writers_start(a, e);
}

bool arrival_prepare(struct arrival *a, struct err *e)
{
    struct err why;

    LOCK_SCOPE(&a->lock);
    if (arrival_at(a) == ARRIVAL_PREPARED && a->ours && !a->undone)
        return true;
    if (arrival_at(a) != ARRIVAL_NEW)
        return arrival_refuse(a, "prepared", e);
    if (plan(a, e) && build(a, e)) {
        log_info("agent", "prepared: move=%.8s domain=%s disks=%zu", a->id, a->name,
                 a->n);
        return true;
    }
    /* No domain came: the source has no answer yet. */
    if (!arrival_tidy(a, &why))
        log_warn("agent", "undoing the move %.8s: %s", a->id, why.msg);
    return false;
}

/* What another domain has as a disk stays: somebody has made a guest of it, which may be off.
 * A device keeps its number whoever gets it, and QEMU has no lock on it that could be seen:
 * it also stays where it is not known that nobody has written it, unless it was open here all
 * the time and no guest was loaded on it. */
static bool remove_image(struct arrival *a, struct image *im, struct err *e)
{
    struct err why = { 0 };

    if (im->seed || !im->named) /* its owner's; or a file without a name */
        return image_remove(im, e);
    if (!arrival_unowned(a, im, &why)) {
        if (why.kind == ERR_REFUSED)
            return image_leave(im, why.msg);
        *e = why;
        return false;
    }
    if (im->device && image_fate(im) == IMAGE_UNKNOWN &&
        (im->fd < 0 || !a->ours || arrival_at(a) >= ARRIVAL_RELEASED))
        return image_leave(im, NULL);
    return image_remove(im, e);
}

bool arrival_tidy(struct arrival *a, struct err *e)
{
    bool ok = true;

    a->undone = true;
    for (size_t i = 0; i < a->n; i++)
        writer_kill(&a->writers[i]);
    /* Without a journal these are another's of the same id, or nobody's. */
    if (a->journal != NULL) {
        arrival_tokens_remove(a);
        dir_remove(a->ram_dir);
        dir_remove(a->run_dir);
    }
    for (size_t i = 0; i < a->n; i++) {
        struct err why;

        if (!remove_image(a, &a->images[i], &why)) {
            if (ok)
                *e = why;
            ok = false;
        }
        image_close(&a->images[i]);
    }
    if (ok)
        arrival_leave(a, ARRIVAL_ABORTED);
    return ok;
}
