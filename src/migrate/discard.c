#include "migrate/discard.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "base/journal.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"
#include "migrate/moved.h"
#include "migrate/recheck.h"
#include "migrate/request.h"
#include "migrate/rescue.h"
#include "migrate/status.h"
#include "tunnel/dial.h"

enum {
    LIBVIRT_MS = 5000,
    DELETE_MS = 120000, /* an agent whose link was cut must end, images be removed */
};

/* --- which, and whether; pure --- */

static bool ambiguous(const struct inventory_move *a, const struct inventory_move *b,
                      const char *what, struct err *e)
{
    char shown[300];

    err_set(e, ERR_REFUSED, 0, "'%s' has left more than one move here",
            log_clean(shown, sizeof shown, what));
    return err_next(e, "Say which: %.8s, %.8s or another one of snmigrate list.", a->id,
                    b->id);
}

/* Which is meant rather: what can be given up, then what is open; last what is over. */
static int rank(const struct inventory_move *m)
{
    return inventory_is_idle(m) ? 2 : m->state != INVENTORY_MOVED;
}

bool discard_choose(const struct inventory_move *list, size_t n, const char *what,
                    const struct inventory_move **out, struct err *e)
{
    const struct inventory_move *best = NULL, *second = NULL;
    char shown[300];

    for (size_t i = 0; i < n; i++) {
        if (!inventory_is(&list[i], what))
            continue;
        if (best == NULL || rank(&list[i]) > rank(best)) {
            best = &list[i];
            second = NULL;
        } else if (rank(&list[i]) == rank(best)) {
            second = &list[i];
        }
    }
    if (second != NULL)
        return ambiguous(best, second, what, e);
    *out = best;
    if (best != NULL)
        return true;
    err_set(e, ERR_REFUSED, 0, "no move of '%s' has left anything on this host",
            log_clean(shown, sizeof shown, what));
    return err_next(e, "See what there is: snmigrate list");
}

bool discard_may(const struct inventory_move *m, struct err *e)
{
    char shown[600];

    log_clean(shown, sizeof shown, m->domain[0] != '\0' ? m->domain : m->id);
    switch (m->state) {
    case INVENTORY_KEPT:
    case INVENTORY_KILLED:
    case INVENTORY_PARKED:
    case INVENTORY_MOVED:
        return true;
    case INVENTORY_RUNNING:
        err_set(e, ERR_REFUSED, 0, "%s is being moved", shown);
        return err_next(e,
                        m->at_source ? "Wait for its snmigrate, or end it: snmigrate "
                                       "abort %.100s"
                                     : "Wait for it to end, or end it at its source.",
                        shown);
    case INVENTORY_OPEN:
        err_set(e, ERR_REFUSED, 0, "it is not decided who has %s", shown);
        return err_next(e, "%s first: snmigrate recover %.8s",
                        m->at_source ? "Bring it to one owner"
                                     : "At its source, or here, bring it to one owner",
                        m->id);
    case INVENTORY_ARRIVED:
        err_set(e, ERR_REFUSED, 0, "%s was started on this host by that move", shown);
        return err_next(
            e, "Its disks are here.  Finish the move: snmigrate recover %.8s", m->id);
    default:
        err_set(e, ERR_REFUSED, 0, "the journal of the move %.8s %s", m->id,
                m->state == INVENTORY_EMPTY ? "is empty: it has changed nothing"
                                            : "cannot be read");
        return err_next(e, "Look at it: " PATHS_STATE "/%s", m->id);
    }
}

static bool take_file(struct json_object *o, enum discard_did did,
                      struct discard_file *f, struct err *e)
{
    const char *path, *why = "";

    if (!json_get_str(o, "path", &path, e) ||
        (did == DISCARD_REMOVED && !json_get_u64(o, "bytes", &f->bytes, e)) ||
        (did == DISCARD_SPARED && !json_get_str(o, "why", &why, e)))
        return false;
    f->did = did;
    snprintf(f->path, sizeof f->path, "%s", path);
    snprintf(f->why, sizeof f->why, "%s", why);
    return true;
}

static bool take_list(struct json_object *reply, enum discard_did did,
                      struct discard_result *out, struct err *e)
{
    static const char *const keys[] = { "removed", "blanked", "left" };
    struct json_object *list;

    if (!json_get_array(reply, keys[did], &list, e))
        return false;
    for (size_t i = 0; i < json_object_array_length(list); i++, out->nfiles++) {
        if (out->nfiles == DOMXML_DISKS_MAX)
            return err_set(e, ERR_PROTO, 0, "more files than disks");
        if (!take_file(json_object_array_get_idx(list, i), did,
                       &out->files[out->nfiles], e))
            return false;
    }
    return true;
}

bool discard_take(struct json_object *reply, struct discard_result *out, struct err *e)
{
    return reply == NULL || (take_list(reply, DISCARD_REMOVED, out, e) &&
                             take_list(reply, DISCARD_BLANKED, out, e) &&
                             take_list(reply, DISCARD_SPARED, out, e));
}

/* --- doing it --- */

/* What the agent cannot do because of the guest is a refusal; all else may work later.
 * @body: of DELETE, which is used up; or NULL. */
static bool remove_there(struct link *l, struct json_object *body,
                         struct discard_result *out, struct err *e)
{
    AUTO(json_put) struct json_object *reply = NULL;

    if (request_move(l, "DELETE", out->move.id, "", body, DELETE_MS, NULL, &reply, e)) {
        out->status = STATUS_FAILED; /* from here on: they are gone */
        return discard_take(reply, out, e);
    }
    out->status = e->kind == ERR_REFUSED ? STATUS_REFUSED : STATUS_FAILED;
    if (e->kind == ERR_REFUSED && e->os == EBUSY)
        err_next(e, "Something still works on it there; wait, and run it again.");
    return false;
}

/* *out of the same move as in its journal now that nobody else may change it. */
static bool look_again(const struct rescue *r, struct discard_result *out,
                       struct err *e)
{
    AUTO(json_put) struct json_object *entries = NULL;
    struct err why = { 0 };

    if (!journal_read(r->move->state_dir, &entries, &why)) {
        *e = why;
        return why.os == ENOENT
                   ? err_set(e, ERR_REFUSED, 0, "it has been removed meanwhile")
                   : false;
    }
    inventory_read(entries, false, &out->move);
    return discard_may(&out->move, e);
}

static bool dial_destination(const struct discard_cfg *cfg, struct move *m,
                             struct discard_result *out, struct err *e)
{
    if (cfg->here) {
        texts_add(&out->left, "on %.200s: snmigrate discard %.8s", m->cfg->dest_text,
                  m->id);
        return true;
    }
    if (connect_redial(m, e))
        return true;
    out->status = STATUS_NO_CONNECTION;
    e->next[0] = '\0'; /* of the move: there is another way here */
    return err_next(e,
                    "Nothing was changed.  Run it again when %.100s answers; to forget "
                    "only what is on this host: snmigrate discard --here %.8s",
                    m->cfg->dest.host, m->id);
}

/* The source's libvirt; a domain that is gone has taken QEMU's part with it. */
static bool open_source(struct move *m, struct discard_result *out, struct err *e)
{
    struct err why = { 0 };

    if (owner_source(m, LIBVIRT_MS, &why) || why.kind == ERR_GUEST)
        return true;
    *e = why;
    out->status = STATUS_NO_CONNECTION;
    err_wrap(e, "cannot ask libvirt on this host");
    return err_next(e, "Nothing was changed.  Is libvirtd running, and are you root?");
}

static bool tidy_source(struct move *m, struct discard_result *out, struct err *e)
{
    enum vdom_run run;
    enum vdom_why why;
    struct err ignored;
    char dir[PATHS_MAX];

    if (m->dom == NULL)
        blk_forget(m->id);
    else if (!blk_cleanup(m->dom, m->id, e))
        return false; /* the journal stays: it can be run again */
    out->in_qemu = m->dom != NULL && vdom_state(m->dom, &run, &why, &ignored) &&
                   run != VDOM_OFF && run != VDOM_NONE;
    journal_remove(m->state_dir);
    paths_ram_dir(dir, m->id);
    dir_remove(dir);
    return true;
}

static bool at_source(const struct discard_cfg *cfg, struct rescue *r,
                      struct discard_result *out, struct err *e)
{
    struct move *const m = r->move;

    if (!connect_lock(m, e)) {
        out->status = e->kind == ERR_REFUSED ? STATUS_REFUSED : STATUS_FAILED;
        return false;
    }
    out->status = STATUS_REFUSED;
    if (!look_again(r, out, e) || !open_source(m, out, e) ||
        !dial_destination(cfg, m, out, e) ||
        (!cfg->here && !remove_there(m->link, NULL, out, e)))
        return false;
    out->status = STATUS_FAILED;
    return fault_point("discard.half", e) && tidy_source(m, out, e);
}

static bool discard_source(const struct discard_cfg *cfg, struct discard_result *out,
                           struct err *e)
{
    AUTO(json_put) struct json_object *entries = NULL;
    AUTO(cancel_free) struct cancel *never = cancel_new();
    AUTO(mem_free) struct rescue *r = calloc(1, sizeof *r);
    char dir[PATHS_MAX];

    out->status = STATUS_FAILED;
    if (never == NULL || r == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "discard");
    paths_state_dir(dir, out->move.id);
    if (!journal_read(dir, &entries, e))
        return false;
    const bool ok = rescue_init(r, journal_find(entries, "prepared"), never, e) &&
                    at_source(cfg, r, out, e);
    if (r->move != NULL)
        connect_close(r->move);
    rescue_fini(r);
    return ok;
}

/* Of a move that is over: what "verify" knows of it, and the bitmaps that it may have left
 * there.  No disk is touched. */
static bool forget_moved(const struct discard_cfg *cfg, struct rescue *r, bool marks,
                         struct discard_result *out, struct err *e)
{
    struct err ignored;

    if (!connect_lock(r->move, e)) {
        out->status = e->kind == ERR_REFUSED ? STATUS_REFUSED : STATUS_FAILED;
        return false;
    }
    if (marks && (!dial_destination(cfg, r->move, out, e) ||
                  (!cfg->here && !recheck_forget(r->move, e))))
        return false;
    /* An export that a "verify" which was cut short may have left, if anything. */
    if (!marks && !cfg->here && connect_redial(r->move, &ignored))
        (void)!recheck_forget(r->move, &ignored);
    moved_remove(out->move.id);
    return true;
}

static bool discard_moved(const struct discard_cfg *cfg, struct discard_result *out,
                          struct err *e)
{
    AUTO(json_put) struct json_object *entry = NULL;
    AUTO(cancel_free) struct cancel *never = cancel_new();
    AUTO(mem_free) struct rescue *r = calloc(1, sizeof *r);

    out->status = STATUS_FAILED;
    if (never == NULL || r == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "discard");
    if (!moved_read(out->move.id, &entry, e))
        return false;
    const bool ok = rescue_init(r, entry, never, e) &&
                    forget_moved(cfg, r, recheck_left_marks(entry), out, e);
    if (r->move != NULL)
        connect_close(r->move);
    rescue_fini(r);
    return ok;
}

/* By an agent of our own: it has the lock and the rules.  The source is not asked: it goes
 * on without what was here, or begins anew; so it must not have come further than was seen
 * here, without the lock. */
static bool discard_arrival(struct discard_result *out, struct err *e)
{
    const struct dial_cfg local = { .dest = NULL };
    AUTO(dial_close) struct dial *d = NULL;

    out->status = STATUS_FAILED;
    if (!dial_open(&local, NULL, &d, e) ||
        !remove_there(dial_link(d), json_add_bool(json_new(), "unreleased", true), out,
                      e))
        return false;
    texts_add(&out->left, "on %.200s, what it has of the move: snmigrate discard %.8s",
              out->move.other, out->move.id);
    return true;
}

static bool discard_it(const struct discard_cfg *cfg, struct discard_result *out,
                       struct err *e)
{
    if (out->move.state == INVENTORY_MOVED)
        return discard_moved(cfg, out, e);
    return out->move.at_source ? discard_source(cfg, out, e) : discard_arrival(out, e);
}

static bool find(const struct discard_cfg *cfg, struct discard_result *out,
                 struct err *e)
{
    AUTO(mem_free) struct inventory_move *list = NULL;
    const struct inventory_move *m;
    size_t n;

    if (!inventory_scan(&list, &n, e)) {
        out->status = STATUS_FAILED;
        return false;
    }
    out->status = STATUS_REFUSED;
    if (!discard_choose(list, n, cfg->what, &m, e))
        return false;
    out->move = *m;
    return discard_may(m, e);
}

void discard_run(const struct discard_cfg *cfg, struct discard_result *out)
{
    struct err e = { 0 };

    memset(out, 0, sizeof *out);
    if (!virt_init(&e)) {
        out->status = STATUS_FAILED;
    } else if (find(cfg, out, &e) && discard_it(cfg, out, &e)) {
        out->status = STATUS_OK;
        return;
    }
    out->err = e;
}
