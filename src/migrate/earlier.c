/* An earlier move of the same guest whose snmigrate and guard were both killed.
 *
 * What it left may be a guest that waits, or one that the destination is to get: it is
 * brought to one owner by the rules of "recover" before anything new begins. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "migrate/move-int.h"
#include "migrate/recover.h"

struct search {
    const struct move *move;
    char id[PATHS_ID_LEN + 1]; /* "": none found */
};

static bool look(void *ctx, const char *id, struct err *e)
{
    AUTO(json_put) struct json_object *entries = NULL;
    struct search *const s = ctx;
    const char *role, *uuid;
    char dir[PATHS_MAX];
    struct err why;

    (void)e;
    paths_state_dir(dir, id);
    if (strcmp(id, s->move->id) == 0 || !journal_read(dir, &entries, &why))
        return true;
    struct json_object *const first = journal_find(entries, "prepared");
    if (first != NULL && json_get_str(first, "role", &role, &why) &&
        strcmp(role, "src") == 0 && json_get_str(first, "uuid", &uuid, &why) &&
        strcmp(uuid, s->move->facts.uuid) == 0)
        snprintf(s->id, sizeof s->id, "%s", id);
    return true;
}

static bool search(const struct move *m, struct search *s, struct err *e)
{
    *s = (struct search){ .move = m };
    return journal_scan(look, s, e);
}

static void said(void *ctx, const struct recover_result *r)
{
    (void)ctx;
    log_warn("earlier", "an earlier move of %s was killed: %s; %s", r->domain, r->did,
             r->err.kind != ERR_NONE ? r->err.msg : r->why);
}

static bool refuse(const struct move *m, const char *id, struct err *e)
{
    err_set(e, ERR_REFUSED, 0, "an earlier move of %s (%.8s) was killed and is open",
            m->facts.name, id);
    return err_next(e, "See what it left, and end it: snmigrate recover %.8s", id);
}

bool earlier_settle(struct move *m, struct err *e)
{
    struct search s;

    if (!search(m, &s, e) || s.id[0] == '\0')
        return e->kind == ERR_NONE;
    if (m->cfg->check_only)
        return refuse(m, s.id, e);
    const struct recover_cfg cfg = { .what = s.id };
    /* It takes the lock itself. */
    connect_unlock(m);
    if (!recover_run(&cfg, said, NULL, e) || !connect_lock(m, e) || !search(m, &s, e))
        return false;
    return s.id[0] == '\0' || refuse(m, s.id, e);
}
