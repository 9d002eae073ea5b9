/* Preflight: ask both hosts, list every blocker at once, change nothing. */
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrate/move-int.h"
#include "migrate/request.h"

/* What an earlier, unfinished move of this VM left at the destination.  It never ran
 * there (or its journal would say so), and the source has the guest: it may go. */
static bool stale_moves(struct move *m, bool *found, struct err *e)
{
    AUTO(json_put) struct json_object *r = NULL;
    struct json_object *list;

    *found = false;
    if (!link_call(m->link, "GET", "/moves", NULL, CALL_MS, m->user, &r, e) ||
        !json_get_array(r, "moves", &list, e))
        return false;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        const char *id, *uuid, *step;

        if (!json_get_str(o, "id", &id, e) || !json_get_str(o, "uuid", &uuid, e) ||
            !json_get_str(o, "step", &step, e))
            return false;
        if (m->kept != NULL && strcmp(id, m->kept->id) == 0) {
            m->kept->there = true;
            continue;
        }
        if (strcmp(uuid, m->facts.uuid) != 0 || !paths_id_ok(id) ||
            strcmp(step, "committed") == 0 || strcmp(step, "running") == 0)
            continue;
        *found = true;
        if (m->cfg->check_only)
            continue;
        log_info("preflight", "removing what the unfinished move %.8s left on %s", id,
                 m->cfg->dest.host);
        if (!request_move(m->link, "DELETE", id, "", NULL, CALL_MS, m->user, NULL, e))
            return err_wrap(e, "cannot remove the unfinished move %.8s", id);
    }
    return true;
}

static bool source_facts(struct move *m, struct err *e)
{
    struct findings *const f = &m->findings;

    if (m->facts.id < 0 ||
        (m->facts.run != VDOM_RUNNING && m->facts.run != VDOM_PAUSED)) {
        findings_add(
            f, FINDING_BLOCKER, "not-running",
            m->facts.id < 0 ? "Start it, or copy a shut-off VM with rsync and virsh "
                              "define."
                            : "Wake it up first.",
            "the domain '%s' is not running (%s)", m->facts.name,
            m->facts.pmsuspended ? "suspended to RAM" : vdom_run_name(m->facts.run));
        return true;
    }
    if (!vdom_xml(m->dom, VDOM_XML_LIVE_MIGRATABLE, &m->xml_live, e) ||
        (m->facts.persistent &&
         !vdom_xml(m->dom, VDOM_XML_INACTIVE_MIGRATABLE, &m->xml_inactive, e)) ||
        !vdom_check_moves(m->dom, &m->info, f, e))
        return false;
    return true;
}

/* The live XML has aliases only without the migratable flag. */
static bool parse_live(struct move *m, struct err *e)
{
    AUTO(mem_free) char *xml = NULL;

    return vdom_xml(m->dom, VDOM_XML_LIVE, &xml, e) &&
           domxml_parse(xml, &m->info, &m->findings, e);
}

static bool probe_disks(struct move *m, struct err *e)
{
    struct err why = { 0 };

    plan_make(m->cfg, &m->info, &m->plan, &m->findings);
    /* The lock is ours: whatever has our prefix was left by a move that is dead, or is what
     * an earlier try has kept. */
    if (!m->cfg->check_only &&
        !blk_cleanup_others(m->dom, m->kept != NULL ? m->kept->id : NULL, &why))
        log_debug("preflight", "cleaning up in QEMU: %s", why.msg);
    if (!blk_probe(m->dom, m->id, &m->info, &m->blk, &why)) {
        if (why.kind != ERR_REFUSED) {
            *e = why;
            return false;
        }
        findings_add(&m->findings, FINDING_BLOCKER, "disks", why.next, "%s", why.msg);
        return true;
    }
    for (size_t i = 0; i < m->blk.ndisks && i < m->plan.n; i++) {
        m->plan.disks[i].size = m->blk.disks[i].size;
        if (!blk_usage(&m->blk, i, &m->plan.disks[i].size, &m->plan.disks[i].allocated,
                       e))
            return false;
    }
    return true;
}

static struct json_object *disk_json(const struct plan_disk *d, bool seed)
{
    struct json_object *o = json_new();

    json_add_str(o, "target", d->target);
    json_add_str(o, "path", d->dst);
    json_add_str(o, "format", d->dst_format);
    json_add_u64(o, "size", d->size);
    if (seed)
        json_add_bool(o, "seed", true);
    return json_add_u64(o, "allocated", d->allocated);
}

static struct json_object *check_body(struct move *m)
{
    struct json_object *o = json_new(), *disks = json_object_new_array(),
                       *files = json_object_new_array(),
                       *bridges = json_object_new_array();

    for (size_t i = 0; i < m->plan.n; i++)
        json_object_array_add(disks, disk_json(&m->plan.disks[i], m->cfg->seed));
    for (size_t i = 0; i < m->info.nfiles; i++) {
        const struct domfile *d = &m->info.files[i];
        struct json_object *file = json_new();

        json_add_str(file, "what", d->what);
        json_add_str(file, "path", d->path);
        json_add_bool(file, "optional", d->optional);
        json_add_str(file, "template", d->template_path);
        json_object_array_add(files, file);
    }
    for (size_t i = 0; i < m->info.nnets; i++)
        if (strcmp(m->info.nets[i].kind, "bridge") == 0)
            json_object_array_add(bridges,
                                  json_object_new_string(m->info.nets[i].source));
    json_add_str(o, "name", m->facts.name);
    json_add_str(o, "uuid", m->facts.uuid);
    json_add_obj(o, "disks", disks);
    json_add_obj(o, "files", files);
    return json_add_obj(o, "bridges", bridges);
}

static bool ask_agent(struct move *m, struct err *e)
{
    AUTO(json_put) struct json_object *r = NULL;
    struct json_object *list;

    return link_call(m->link, "POST", "/check", check_body(m), CALL_MS, m->user, &r,
                     e) &&
           json_get_array(r, "findings", &list, e) &&
           findings_from_json(&m->findings, list, e);
}

/* A domain that the unfinished move left at the destination is not in the way: it goes
 * before anything starts. */
static void forgive_stale(struct findings *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->list[i].code, "name-taken") == 0 ||
            strcmp(f->list[i].code, "uuid-taken") == 0)
            f->list[i].level = FINDING_WARNING;
}

static bool destination_facts(struct move *m, struct err *e)
{
    bool stale = false;

    if (strcmp(m->src_host.uuid, m->dst_host.uuid) == 0) {
        /* All else that is found there is the domain itself. */
        findings_add(
            &m->findings, FINDING_BLOCKER, "same-host",
            "Name another host; to move disks on one host use virsh blockcopy.",
            "source and destination are the same host (%s)", m->src_host.hostname);
        return true;
    }
    if (!stale_moves(m, &stale, e) ||
        !virt_check_fits(m->dst, &m->info, &m->findings, e) || !ask_agent(m, e))
        return false;
    if (stale && m->cfg->check_only)
        forgive_stale(&m->findings);
    return true;
}

/* By name: one that does not know the move may be another, or have forgotten it. */
static bool same_destination(const struct move *m)
{
    struct dest was;
    struct err e;

    return dest_parse(m->kept->destination, &was, &e) &&
           strcmp(was.host, m->cfg->dest.host) == 0 && was.port == m->cfg->dest.port;
}

/* What an earlier try has kept is gone on with as it was begun, or given up in words. */
static void check_kept(struct move *m)
{
    char what[400], next[100];

    if (m->kept == NULL)
        return;
    if (!m->kept->there && !same_destination(m))
        snprintf(what, sizeof what, "it was going to %.300s", m->kept->destination);
    else if (!m->kept->there || !kept_differs(m->kept, &m->plan, what))
        return;
    snprintf(next, sizeof next,
             "Move it as then, or give up what was copied: snmigrate discard %.8s",
             m->kept->id);
    findings_add(&m->findings, FINDING_BLOCKER, "kept", next,
                 "an earlier try of this move is not what is wanted now: %s", what);
}

bool preflight_run(struct move *m, struct err *e)
{
    move_enter(m, MOVE_PREFLIGHT);
    if (!fault_point("preflight", e) || (m->facts.id >= 0 && !parse_live(m, e)))
        return false;
    if (!source_facts(m, e))
        return false;
    if (m->facts.id >= 0 && m->xml_live != NULL &&
        (!probe_disks(m, e) || !destination_facts(m, e)))
        return false;
    check_kept(m);

    const size_t n = findings_blockers(&m->findings);
    if (n == 0)
        return true;
    err_set(e, ERR_REFUSED, 0, "%s cannot move: %zu blocker%s", m->facts.name, n,
            n == 1 ? "" : "s");
    return false;
}
