/* The journal of an arrival, and the locks that say who may act on it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "agent/arrival-int.h"
#include "base/clock.h"
#include "base/journal.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/unix.h"

enum {
    LOCK_AGAIN_MS = 20,
    LOCK_ALL_MS = 60 * 1000, /* another agent makes images meanwhile */
};

/* Both hosts keep journals in one place; a source that was a destination before, and the
 * other way round, must not take the one for the other. */
static const char role[] = "dst";

/* ---- locks --------------------------------------------------------------------------- */

/* Errors: ERR_REFUSED somebody else has it. */
static bool flock_wait(int fd, int wait_ms, struct err *e)
{
    const int64_t end = clock_ms() + wait_ms;

    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return err_set(e, ERR_SYS, errno, "flock");
        if (clock_left_ms(end) == 0)
            return err_set(e, ERR_REFUSED, EBUSY, "another agent holds its lock");
        clock_sleep_ms(LOCK_AGAIN_MS);
    }
    return true;
}

/* Whoever held the lock may have removed the directory before letting go of it. */
static bool still_there(int fd, const char *dir)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && lstat(dir, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

static int dir_fd(const char *dir)
{
    return open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

bool arrival_lock_all(int *out, struct err *e)
{
    if (!dir_private(PATHS_STATE, e))
        return false;
    AUTO(fd_close) int fd = dir_fd(PATHS_STATE);
    if (fd < 0)
        return err_set(e, ERR_SYS, errno, PATHS_STATE);
    if (!flock_wait(fd, LOCK_ALL_MS, e))
        return err_wrap(e, PATHS_STATE);
    *out = fd_steal(&fd);
    return true;
}

/* ---- writing ------------------------------------------------------------------------- */

static struct json_object *first_entry(const struct arrival *a)
{
    struct json_object *const o = json_new(), *disks = json_object_new_array();
    char boot[PROC_BOOT_ID];

    for (size_t i = 0; i < a->n; i++)
        json_object_array_add(disks, image_to_json(&a->images[i]));
    json_add_str(o, "boot_id", proc_boot_id(boot));
    json_add_str(json_add_str(o, "role", role), "name", a->name);
    json_add_str(json_add_str(o, "uuid", a->uuid), "source", a->source);
    json_add_str(o, "opening", a->opening);
    return json_add_obj(json_add_bool(o, "defined", a->defined), "disks", disks);
}

bool arrival_enter(struct arrival *a, enum arrival_step to, struct json_object *more,
                   struct err *e)
{
    if (!journal_step(a->journal, arrival_step_name(to), more, e))
        return false;
    arrival_move(a, to);
    log_debug("agent", "move=%.8s step=%s", a->id, arrival_step_name(to));
    return true;
}

/* A journal that is there already is not of this role (those were dealt with): source and
 * destination are one host. */
static bool is_first(const struct arrival *a, struct err *e)
{
    AUTO(json_put) struct json_object *entries = NULL;

    if (!journal_read(a->state_dir, &entries, e))
        return false;
    return json_object_array_length(entries) == 0 ||
           err_set(e, ERR_REFUSED, 0,
                   "%s is in use: are source and destination one host?", a->state_dir);
}

bool arrival_journal_start(struct arrival *a, struct err *e)
{
    AUTO(journal_close) struct journal *j = NULL;

    if (!journal_open(a->state_dir, &j, e))
        return false;
    a->lock_fd = dir_fd(a->state_dir);
    if (a->lock_fd < 0)
        return err_set(e, ERR_SYS, errno, "%s", a->state_dir);
    if (!flock_wait(a->lock_fd, 0, e) || !is_first(a, e))
        return false;
    a->journal = ptr_steal(&j); /* from here on the directory is ours to remove */
    if (!paths_new_id(a->opening, e))
        return false;
    return arrival_enter(a, ARRIVAL_PREPARED, first_entry(a), e);
}

void arrival_leave(struct arrival *a, enum arrival_step to)
{
    journal_close(a->journal);
    if (a->journal != NULL)
        journal_remove(a->state_dir);
    a->journal = NULL;
    arrival_move(a, to);
    fd_close_auto(&a->lock_fd);
    a->lock_fd = -1;
    log_debug("agent", "move=%.8s step=%s", a->id, arrival_step_name(to));
}

/* ---- reading ------------------------------------------------------------------------- */

/* That of the newest entry which is a step; "reopened" is PREPARED again. */
static enum arrival_step last_step(struct json_object *entries)
{
    enum arrival_step last = ARRIVAL_PREPARED;

    for (size_t i = 0; i < json_object_array_length(entries); i++) {
        struct err ignored;
        const char *name;

        if (!json_get_str(json_object_array_get_idx(entries, i), "step", &name,
                          &ignored))
            continue;
        if (strcmp(name, "reopened") == 0)
            last = ARRIVAL_PREPARED;
        for (int s = ARRIVAL_PREPARED; s <= ARRIVAL_RUNNING; s++)
            if (strcmp(name, arrival_step_name(s)) == 0)
                last = s;
    }
    return last;
}

static bool read_running(struct arrival *a, struct json_object *o, struct err *e)
{
    const char *state;

    if (!json_get_str(o, "state", &state, e) || !json_get_u64(o, "ms", &a->ran_ms, e))
        return false;
    snprintf(a->ran_state, sizeof a->ran_state, "%s", state);
    return true;
}

struct json_object *arrival_marks(const struct arrival *a)
{
    struct json_object *const disks = json_object_new_array();

    for (size_t i = 0; i < a->n; i++)
        json_object_array_add(disks, image_mark_to_json(&a->images[i]));
    return disks;
}

/* In the order of the first entry.  What is missing here must not keep COMMIT from a
 * guest: abort then refuses. */
static void read_marks(struct arrival *a, struct json_object *left)
{
    struct json_object *list;
    struct err ignored;

    if (!json_get_array(left, "disks", &list, &ignored))
        return;
    for (size_t i = 0; i < a->n && i < json_object_array_length(list); i++)
        image_mark_from_json(&a->images[i], json_object_array_get_idx(list, i));
}

/* The marks of when no writer was left last; none where there have been some since. */
static void read_left(struct arrival *a, struct json_object *entries)
{
    for (size_t i = json_object_array_length(entries); i-- > 0;) {
        struct json_object *const o = json_object_array_get_idx(entries, i);
        struct err ignored;
        const char *name;

        if (!json_get_str(o, "step", &name, &ignored))
            continue;
        if (strcmp(name, "reopened") == 0)
            return;
        if (strcmp(name, "kept") != 0 && strcmp(name, "parked") != 0 &&
            strcmp(name, arrival_step_name(ARRIVAL_CLOSED)) != 0)
            continue;
        read_marks(a, o);
        return;
    }
}

/* What a reopening had found whose answer nobody has acted upon: it may have been lost. */
static bool read_changed(struct json_object *entries)
{
    for (size_t i = json_object_array_length(entries); i-- > 0;) {
        struct json_object *const o = json_object_array_get_idx(entries, i);
        struct err ignored;
        const char *name;
        bool changed;

        if (json_get_str(o, "step", &name, &ignored) && strcmp(name, "used") == 0)
            return false;
        if (json_get_bool(o, "changed", &changed, &ignored) && changed)
            return true;
    }
    return false;
}

static void forget_devices(struct arrival *a, struct json_object *first)
{
    char boot[PROC_BOOT_ID];
    struct err ignored;
    const char *was;

    if (json_get_str(first, "boot_id", &was, &ignored) && was[0] != '\0' &&
        strcmp(was, proc_boot_id(boot)) == 0)
        return;
    for (size_t i = 0; i < a->n; i++)
        image_forget_device(&a->images[i]);
}

/* Of a journal that is not ours *out stays NULL. */
static bool read_entries(const char *id, const struct guest_ops *ops,
                         struct json_object *entries, struct arrival **out,
                         struct err *e)
{
    struct json_object *const first = journal_find(entries, "prepared");
    const char *whose;
    struct err ignored;

    if (first == NULL || !json_get_str(first, "role", &whose, &ignored) ||
        strcmp(whose, role) != 0)
        return true;
    const enum arrival_step last = last_step(entries);
    AUTO(arrival_free) struct arrival *a = arrival_new(id, ops, last);
    if (a == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "move");
    if (!arrival_set_names(a, first, e) ||
        !json_get_bool(first, "defined", &a->defined, e) ||
        !arrival_set_disks(a, first, image_from_json, e))
        return false;
    if (last == ARRIVAL_RUNNING &&
        !read_running(a, journal_find(entries, arrival_step_name(last)), e))
        return false;
    read_left(a, entries);
    a->changed = read_changed(entries);
    forget_devices(a, first);
    *out = ptr_steal(&a);
    return true;
}

bool arrival_peek(const char *id, const struct guest_ops *ops, struct arrival **out,
                  struct err *e)
{
    AUTO(json_put) struct json_object *entries = NULL;
    char dir[PATHS_MAX];
    struct err why;

    *out = NULL;
    paths_state_dir(dir, id);
    if (!journal_read(dir, &entries, &why)) {
        if (why.os == ENOENT)
            return true;
        *e = why;
        return false;
    }
    return read_entries(id, ops, entries, out, e) || err_wrap(e, "%s", dir);
}

bool arrival_load(const char *id, const struct guest_ops *ops, int wait_ms,
                  struct arrival **out, struct err *e)
{
    AUTO(arrival_free) struct arrival *a = NULL;
    char dir[PATHS_MAX];

    *out = NULL;
    /* Not ours: then its lock is none of our business. */
    if (!arrival_peek(id, ops, &a, e) || a == NULL)
        return a == NULL;
    paths_state_dir(dir, id);
    AUTO(fd_close) int fd = dir_fd(dir);
    if (fd < 0)
        return errno == ENOENT || err_set(e, ERR_SYS, errno, "%s", dir);
    if (!flock_wait(fd, wait_ms, e))
        return err_wrap(e, "move %.8s", id);
    if (!still_there(fd, dir))
        return true;
    /* What it said before we had the lock may be old. */
    arrival_free(ptr_steal(&a));
    if (!arrival_peek(id, ops, &a, e))
        return false;
    if (a == NULL)
        return true;
    if (!journal_open(dir, &a->journal, e))
        return false;
    a->lock_fd = fd_steal(&fd);
    *out = ptr_steal(&a);
    return true;
}

bool arrival_scan(arrival_each each, void *ctx, struct err *e)
{
    return journal_scan(each, ctx, e);
}
