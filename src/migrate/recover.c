/* Finding the moves of this host, and what both sides of recover share. */
#include "migrate/recover.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/journal.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrate/kept.h"
#include "migrate/recover-int.h"
#include "migrate/request.h"
#include "migrate/status.h"
#include "tunnel/link.h"
#include "virt/virt.h"

enum { ASK_MS = 30000, ID_LEAST = 8 };

/* --- saying --- */

void recover_did(struct recover_result *out, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(out->did, sizeof out->did, fmt, ap);
    va_end(ap);
}

void recover_settle(struct recover_result *out, enum move_where where,
                    const char *state)
{
    out->where = where;
    snprintf(out->state, sizeof out->state, "%s", state);
    if (out->status == STATUS_OK && out->left.n > 0)
        out->status = STATUS_LEFT;
}

void recover_failed(struct recover_result *out, const struct err *e)
{
    out->err = *e;
    if (out->err.next[0] == '\0')
        err_next(&out->err, "Run snmigrate recover again.");
    out->status = STATUS_UNRESOLVED;
    out->where = MOVE_UNKNOWN;
}

void recover_busy(struct recover_result *out)
{
    out->status = STATUS_REFUSED;
    out->where = MOVE_UNKNOWN;
    err_set(&out->err, ERR_REFUSED, 0, "%s is being moved", out->domain);
    err_next(&out->err, "Wait for its snmigrate, or for the guard of one that died.");
}

static void open_on_source(const struct recover_known *k, struct recover_result *out)
{
    struct err *const e = &out->err;
    const bool runs = k->src == RECOVER_SRC_RUNS || k->src == RECOVER_SRC_ANOTHER;

    if (k->src == RECOVER_SRC_MUTE)
        err_next(e, "See virsh domstate %s; when libvirt answers, run it again.",
                 out->domain);
    else if (k->dst == RECOVER_DST_RUNS && runs)
        err_next(e,
                 "Nothing was touched.  virsh destroy it on the host whose copy is the "
                 "wrong one, then run it again.");
    else if (k->dst == RECOVER_DST_UNKNOWN)
        err_next(e,
                 "Run it again when %.60s answers.  If that is gone for good: "
                 "--source-wins gives up what it had%s.",
                 out->other,
                 k->src == RECOVER_SRC_OFF || k->src == RECOVER_SRC_ENDED ||
                         k->src == RECOVER_SRC_CUT || k->src == RECOVER_SRC_UNSEEN
                     ? ", the memory of the guest"
                     : "");
    else if (k->word != RECOVER_WORD_NONE)
        err_next(e, "Without --source-wins and --destination-wins it does what is "
                    "safe.");
    else
        err_next(e,
                 "See virsh domstate on both hosts; then --source-wins (what the other "
                 "has is removed) or --destination-wins (what is here is old).");
}

static void open_on_destination(const struct recover_known *k,
                                struct recover_result *out)
{
    struct err *const e = &out->err;

    if (k->dst == RECOVER_DST_READY && k->word == RECOVER_WORD_NONE)
        err_next(e,
                 "Run it on %.60s.  If that is gone for good: --destination-wins "
                 "starts the guest here; --source-wins removes it here.",
                 out->other);
    else
        err_next(e, "Run it on %.60s, the source.", out->other);
}

void recover_open(const struct recover_known *k, struct recover_result *out)
{
    err_set(&out->err, ERR_UNRESOLVED, 0, "%s", out->why);
    if (out->at_source)
        open_on_source(k, out);
    else
        open_on_destination(k, out);
    recover_did(out, "nothing");
    out->status = STATUS_UNRESOLVED;
    recover_settle(out, MOVE_UNKNOWN, "");
}

enum recover_act recover_decide(const struct recover_known *k,
                                struct recover_result *out)
{
    const char *why;
    const enum recover_act act = recover_rule(k, &why);

    snprintf(out->found_source, sizeof out->found_source, "%s",
             recover_src_name(k->src));
    snprintf(out->found_destination, sizeof out->found_destination, "%s",
             recover_dst_name(k->dst));
    if (out->found_journal[0] == '\0')
        snprintf(out->found_journal, sizeof out->found_journal, "%s",
                 recover_journal_name(k->journal));
    snprintf(out->why, sizeof out->why, "%s", why);
    log_info("recover", "%s: source=\"%s\" destination=\"%s\" journal=\"%s\": %s",
             out->domain, out->found_source, out->found_destination, out->found_journal,
             why);
    return act;
}

/* --- asking an agent --- */

static bool take_seen(struct json_object *o, struct recover_seen *out, struct err *e)
{
    const char *step, *domain;

    if (!json_get_str(o, "step", &step, e) || !json_get_str(o, "domain", &domain, e) ||
        !json_get_bool(o, "ready", &out->ready, e) ||
        !json_get_bool(o, "incoming", &out->incoming, e) ||
        !json_get_bool(o, "ran", &out->ran, e))
        return false;
    snprintf(out->step, sizeof out->step, "%s", step);
    snprintf(out->domain, sizeof out->domain, "%s", domain);
    out->tracked = true;
    return true;
}

bool recover_ask(struct link *link, const char *id, struct recover_seen *out,
                 struct err *e)
{
    AUTO(json_put) struct json_object *r = NULL;
    struct err why = { 0 };

    *out = (struct recover_seen){ .domain = "none" };
    if (request_move(link, "GET", id, "", NULL, ASK_MS, NULL, &r, &why))
        return take_seen(r, out, e);
    if (why.kind == ERR_REFUSED && why.os == ENOENT)
        return true;
    *e = why;
    return false;
}

/* --- finding --- */

struct found {
    const struct recover_cfg *cfg;
    recover_each each;
    void *ctx;
    unsigned n;
};

/* Of a journal without a first entry nothing was ever done. */
static bool names(struct json_object *first, struct recover_result *r)
{
    const char *role, *name, *uuid, *other;
    struct err e;

    if (!json_get_str(first, "role", &role, &e) ||
        !json_get_str(first, "name", &name, &e) ||
        !json_get_str(first, "uuid", &uuid, &e))
        return false;
    r->at_source = strcmp(role, "src") == 0;
    if (!json_get_str(first, r->at_source ? "destination" : "source", &other, &e))
        return false;
    snprintf(r->domain, sizeof r->domain, "%s", name);
    snprintf(r->uuid, sizeof r->uuid, "%s", uuid);
    snprintf(r->other, sizeof r->other, "%s", other);
    return true;
}

static bool is_meant(const char *what, const struct recover_result *r)
{
    return what == NULL || strcmp(what, r->domain) == 0 || strcmp(what, r->uuid) == 0 ||
           (strlen(what) >= ID_LEAST && strncmp(what, r->id, strlen(what)) == 0);
}

static bool deal(void *ctx, const char *id, struct err *e)
{
    AUTO(json_put) struct json_object *entries = NULL;
    struct found *const f = ctx;
    AUTO(mem_free) struct recover_result *r = calloc(1, sizeof *r);
    struct json_object *first;
    char dir[PATHS_MAX];
    struct err why = { 0 };

    if (r == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "recover");
    snprintf(r->id, sizeof r->id, "%s", id);
    snprintf(r->domain, sizeof r->domain, "move %.8s", id);
    paths_state_dir(dir, id);
    if (!journal_read(dir, &entries, &why)) {
        if (why.os == ENOENT || !is_meant(f->cfg->what, r))
            return true;
        recover_failed(r, &why);
        f->each(f->ctx, r);
        f->n++;
        return true;
    }
    first = journal_find(entries, "prepared");
    if (first == NULL || !names(first, r) || !is_meant(f->cfg->what, r))
        return true;
    /* It has an owner, and waits for the same command, or for "discard". */
    if (kept_is_settled(entries) && (r->at_source || f->cfg->what == NULL))
        return true;
    if (r->at_source ? recover_source(f->cfg, entries, r)
                     : recover_arrival(f->cfg, entries, r))
        f->each(f->ctx, r);
    f->n++;
    return true;
}

bool recover_run(const struct recover_cfg *cfg, recover_each each, void *ctx,
                 struct err *e)
{
    struct found f = { cfg, each, ctx, 0 };
    char shown[300];

    if (!virt_init(e) || !journal_scan(deal, &f, e))
        return false;
    if (f.n > 0 || cfg->what == NULL)
        return true;
    err_set(e, ERR_REFUSED, 0, "this host has no unfinished move of '%s'",
            log_clean(shown, sizeof shown, cfg->what));
    return err_next(e,
                    "Without a name it looks at all of them; with what a move has kept "
                    "the same command goes on.");
}
