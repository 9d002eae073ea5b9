/* An earlier move of the same guest: one that has kept what it copied, which is gone on
 * with, or one whose snmigrate and guard were both killed.
 *
 * What the latter left may be a guest that waits, or one that the destination is to get: it
 * is brought to one owner by the rules of "recover" before anything new begins. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "migrate/move-int.h"
#include "migrate/recover.h"

struct search {
    const struct move *move;
    char id[PATHS_ID_LEN + 1];   /* of one that was killed; "": none found */
    char kept[PATHS_ID_LEN + 1]; /* of one that was kept */
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
        snprintf(kept_is_settled(entries) ? s->kept : s->id, sizeof s->id, "%s", id);
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

/* Nobody else works on it: the lock is ours. */
static bool take_up(struct move *m, const char *id, struct err *e)
{
    AUTO(json_put) struct json_object *entries = NULL;
    AUTO(mem_free) struct kept *k = malloc(sizeof *k);
    char dir[PATHS_MAX];

    if (k == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "earlier move");
    paths_state_dir(dir, id);
    if (!journal_read(dir, &entries, e))
        return err_wrap(e, "%s", dir);
    if (!kept_read(entries, id, k, e)) {
        err_wrap(e, "%s", dir);
        return err_next(e, "Give up what it had copied: snmigrate discard %.8s", id);
    }
    m->kept = ptr_steal(&k);
    if (m->cfg->check_only)
        return true;
    snprintf(m->id, sizeof m->id, "%s", id);
    paths_run_dir(m->run_dir, id);
    paths_state_dir(m->state_dir, id);
    return true;
}

static bool settle_killed(struct move *m, struct search *s, struct err *e)
{
    if (m->cfg->check_only)
        return refuse(m, s->id, e);
    const struct recover_cfg cfg = { .what = s->id };
    /* It takes the lock itself. */
    connect_unlock(m);
    if (!recover_run(&cfg, said, NULL, e) || !connect_lock(m, e) || !search(m, s, e))
        return false;
    return s->id[0] == '\0' || refuse(m, s->id, e);
}

bool earlier_settle(struct move *m, struct err *e)
{
    struct search s;

    return search(m, &s, e) && (s.id[0] == '\0' || settle_killed(m, &s, e)) &&
           (s.kept[0] == '\0' || take_up(m, s.kept, e));
}
