#include "migrate/rescue.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/proc.h"
#include "base/unix.h"

struct json_object *rescue_facts(struct move *m)
{
    struct json_object *o = json_new();

    json_add_str(o, "id", m->id);
    json_add_str(o, "uuid", m->facts.uuid);
    json_add_str(o, "name", m->facts.name);
    json_add_str(o, "connect", m->cfg->connect != NULL ? m->cfg->connect : "");
    json_add_str(o, "destination", m->cfg->dest_text);
    json_add_str(o, "ssh", m->cfg->ssh != NULL ? m->cfg->ssh : "");
    json_add_u64(o, "budget_ms", m->cfg->max_downtime_ms);
    json_add_bool(o, "was_running", m->facts.run == VDOM_RUNNING);
    json_add_bool(o, "persistent", m->facts.persistent);
    json_add_bool(o, "autostart", m->facts.autostart);
    json_add_bool(o, "set_time", m->cfg->set_time);
    json_add_bool(o, "verify_later", m->cfg->verify_later);
    return json_add_bool(o, "keep_source", m->cfg->keep_source);
}

static bool take_texts(struct rescue *r, struct json_object *o, struct err *e)
{
    struct move *const m = r->move;

    if (!json_copy_str(o, "id", m->id, sizeof m->id, e) ||
        !json_copy_str(o, "uuid", m->facts.uuid, sizeof m->facts.uuid, e) ||
        !json_copy_str(o, "name", m->facts.name, sizeof m->facts.name, e) ||
        !json_copy_str(o, "connect", r->connect, sizeof r->connect, e) ||
        !json_copy_str(o, "destination", r->destination, sizeof r->destination, e) ||
        !json_copy_str(o, "ssh", r->ssh, sizeof r->ssh, e))
        return false;
    if (!paths_id_ok(m->id))
        return err_set(e, ERR_PROTO, 0, "the id of the move is not one");
    r->cfg.connect = r->connect[0] != '\0' ? r->connect : NULL;
    r->cfg.ssh = r->ssh[0] != '\0' ? r->ssh : NULL;
    r->cfg.dest_text = r->destination;
    paths_run_dir(m->run_dir, m->id);
    paths_state_dir(m->state_dir, m->id);
    return dest_parse(r->destination, &r->cfg.dest, e);
}

bool rescue_init(struct rescue *r, struct json_object *facts, struct cancel *cancel,
                 struct err *e)
{
    bool was_running, persistent, autostart, keep, set_time;
    uint64_t budget;

    r->cfg.domain = "";
    r->cfg.dest_text = "";
    r->move = move_new(&r->cfg, cancel);
    if (r->move == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "move");
    if (!take_texts(r, facts, e) || !json_get_u64(facts, "budget_ms", &budget, e) ||
        !json_get_bool(facts, "was_running", &was_running, e) ||
        !json_get_bool(facts, "persistent", &persistent, e) ||
        !json_get_bool(facts, "autostart", &autostart, e) ||
        !json_get_bool(facts, "set_time", &set_time, e) ||
        !json_get_bool(facts, "keep_source", &keep, e))
        return false;
    /* Not in a journal of an earlier version. */
    if (json_has(facts, "verify_later") &&
        !json_get_bool(facts, "verify_later", &r->cfg.verify_later, e))
        return false;
    r->cfg.max_downtime_ms = budget;
    r->cfg.keep_source = keep;
    r->cfg.set_time = set_time;
    r->move->facts.run = was_running ? VDOM_RUNNING : VDOM_PAUSED;
    r->move->facts.persistent = persistent;
    r->move->facts.autostart = autostart;
    return true;
}

void rescue_forget(struct rescue *r)
{
    while (r->nrestore > 0)
        free(r->restore[--r->nrestore]);
    r->downtime_ms = 0;
    r->moves_ram = false;
}

void rescue_fini(struct rescue *r)
{
    rescue_forget(r);
    move_free(r->move);
}

void rescue_restore(struct rescue *r, const char *text)
{
    if (r->nrestore < sizeof r->restore / sizeof r->restore[0])
        r->restore[r->nrestore++] = strdup(text);
}

bool rescue_take_back(struct rescue *r, struct err *e)
{
    struct move *const m = r->move;
    struct err ce = { 0 };

    /* Before RAM who has paused the guest was its user, or a disk that failed; and a job of
     * libvirt's is somebody else's. */
    if (r->moves_ram && !owner_take_back(m, e))
        return false;
    if (proc_ended(m->qemu_pidfd))
        return true;
    log_warn("rescue", "%s stays on this host", m->facts.name);
    m->keeping = kept_may(m) && blk_keep(m->dom, m->id, &ce);
    if (!m->keeping && !blk_cleanup(m->dom, m->id, &ce)) {
        log_warn("rescue", "cleaning up in QEMU: %s", ce.msg);
        texts_add(&m->left, "on this host: bitmaps or exports in QEMU (%s)", ce.msg);
    }
    if (r->downtime_ms != 0 && !vdom_set_max_downtime(m->dom, r->downtime_ms, &ce))
        log_debug("rescue", "downtime limit: %s", ce.msg);
    for (size_t i = r->nrestore; i-- > 0;)
        if (r->restore[i] != NULL && !slow_restore(m->dom, r->restore[i], &ce)) {
            log_warn("rescue", "the guest may still be slowed: %s", ce.msg);
            texts_add(&m->left, "on this host: the guest may still be slowed (%s)",
                      ce.msg);
        }
    return true;
}

bool rescue_forward(struct rescue *r, struct err *e)
{
    struct move *const m = r->move;

    log_warn("rescue", "%s goes on to %s", m->facts.name, m->cfg->dest.host);
    return commit_forward(m, e);
}

/* What a QEMU that died could not take along is of no use to any later one. */
static void dirs_remove(const struct move *m)
{
    char dir[PATHS_MAX];

    if (proc_ended(m->qemu_pidfd))
        blk_forget(m->id);
    paths_ram_dir(dir, m->id);
    dir_remove(dir);
}

void rescue_finish(struct rescue *r)
{
    struct move *const m = r->move;
    struct err e = { 0 };

    log_warn("rescue", "%s runs on %s", m->facts.name, m->cfg->dest.host);
    m->committed = true;
    if (m->link == NULL && !connect_redial(m, &e))
        log_warn("rescue", "cannot reach %s: %s", m->cfg->dest.host, e.msg);
    if (!finish_run(m, &e))
        log_warn("rescue", "%s", e.msg);
    dirs_remove(m);
}

void rescue_tidy(struct rescue *r)
{
    struct move *const m = r->move;

    owner_autostart(m);
    journal_close(m->journal);
    m->journal = NULL;
    if (!m->keeping)
        journal_remove(m->state_dir);
    dirs_remove(m);
}
