#include "migrate/moved.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/journal.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"
#include "migrate/plan.h"

#define MOVED_DIR PATHS_STATE "/moved"

static void dir_of(char out[PATHS_MAX], const char *id)
{
    snprintf(out, PATHS_MAX, MOVED_DIR "/%s", id);
}

struct json_object *moved_disks(const struct plan *plan)
{
    struct json_object *const list = json_object_new_array();

    for (size_t i = 0; i < plan->n; i++) {
        const struct plan_disk *const d = &plan->disks[i];
        struct json_object *const o = json_add_str(json_new(), "target", d->target);

        json_add_str(json_add_str(o, "path", d->src), "format", d->src_format);
        json_object_array_add(list, json_add_u64(o, "size", d->size));
    }
    return list;
}

/* --- reading --- */

bool moved_read(const char *id, struct json_object **out, struct err *e)
{
    AUTO(json_put) struct json_object *entries = NULL;
    char dir[PATHS_MAX];

    dir_of(dir, id);
    if (!journal_read(dir, &entries, e))
        return false;
    struct json_object *const entry = journal_find(entries, "moved");
    if (entry == NULL) /* it was being written when the power went */
        return err_set(e, ERR_SYS, ENOENT, "%s", dir);
    *out = json_object_get(entry);
    return true;
}

static void dir_close_auto(DIR **d)
{
    if (*d != NULL)
        closedir(*d);
}

bool moved_scan(moved_each each, void *ctx, struct err *e)
{
    AUTO(dir_close) DIR *d = opendir(MOVED_DIR);

    if (d == NULL)
        return errno == ENOENT || err_set(e, ERR_SYS, errno, MOVED_DIR);
    for (struct dirent *at = readdir(d); at != NULL; at = readdir(d)) {
        AUTO(json_put) struct json_object *entry = NULL;
        struct err why = { 0 };

        if (!paths_id_ok(at->d_name))
            continue;
        if (!moved_read(at->d_name, &entry, &why))
            log_debug("moved", "%s", why.msg);
        else if (!each(ctx, at->d_name, entry, e))
            return false;
    }
    return true;
}

void moved_remove(const char *id)
{
    char dir[PATHS_MAX];

    dir_of(dir, id);
    journal_remove(dir);
}

/* --- writing --- */

/* What makes room for a new one, which is written already. */
struct room {
    const char *id, *uuid; /* of the new one */
    size_t n;
    char oldest[PATHS_ID_LEN + 1], since[32]; /* "": none */
    bool marks;                               /* the oldest one has bitmaps, or had */
};

static bool look(void *ctx, const char *id, struct json_object *entry, struct err *e)
{
    struct room *const r = ctx;
    const char *uuid, *time;
    struct err ignored;
    bool marks;

    (void)e;
    if (strcmp(id, r->id) != 0 && json_get_str(entry, "uuid", &uuid, &ignored) &&
        strcmp(uuid, r->uuid) == 0) {
        moved_remove(id);
        return true;
    }
    r->n++;
    if (strcmp(id, r->id) == 0)
        return true;
    if (!json_get_str(entry, "time", &time, &ignored))
        time = "";
    if (r->oldest[0] == '\0' || strcmp(time, r->since) < 0) {
        snprintf(r->oldest, sizeof r->oldest, "%s", id);
        snprintf(r->since, sizeof r->since, "%s", time);
        r->marks = json_get_bool(entry, "verify_later", &marks, &ignored) && marks;
    }
    return true;
}

/* Afterwards, so that none goes for one that could not be written. */
static void make_room(const char *id, const char *uuid)
{
    struct room r = { .id = id, .uuid = uuid };
    struct err why;

    if (!moved_scan(look, &r, &why)) {
        log_debug("moved", "%s", why.msg);
        return;
    }
    if (r.n <= MOVED_MAX)
        return;
    if (r.marks)
        log_warn("moved",
                 "the finished move %.8s is forgotten, being the oldest of %d: its "
                 "bitmaps stay until its QEMU ends",
                 r.oldest, MOVED_MAX);
    moved_remove(r.oldest);
}

bool moved_write(const char *state_dir, const char *id, const char *uuid, struct err *e)
{
    AUTO(json_put) struct json_object *entries = NULL;
    AUTO(journal_close) struct journal *j = NULL;
    char dir[PATHS_MAX];

    if (!journal_read(state_dir, &entries, e))
        return false;
    struct json_object *const first = journal_find(entries, "prepared");
    if (first == NULL || !json_has(first, "source_disks"))
        return err_set(e, ERR_PROTO, 0, "its journal is of an earlier version");
    json_object_object_del(first, "step");
    json_object_object_del(first, "time");
    dir_of(dir, id);
    if (!dir_private(MOVED_DIR, e) || !journal_open(dir, &j, e) ||
        !journal_step(j, "moved", json_object_get(first), e))
        return false;
    make_room(id, uuid);
    return true;
}
