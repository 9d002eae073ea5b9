#include "migrate/kept.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/units.h"
#include "migrate/move-int.h"
#include "migrate/request.h"

enum {
    NOTE_MS = 30000,  /* "copied" is written if there is news, that often, */
    NOTE_PARTS = 50,  /* or when a disk has come that part of its size further */
    NOTE_GAP_MS = 900 /* but no more often */
};

/* --- reading --- */

static bool is_step(struct json_object *entry, const char *name)
{
    const char *step;
    struct err ignored;

    return json_get_str(entry, "step", &step, &ignored) && strcmp(step, name) == 0;
}

static bool take_disk(struct json_object *o, struct kept_disk *d, struct err *e)
{
    if (!json_copy_str(o, "target", d->target, sizeof d->target, e) ||
        !json_copy_str(o, "path", d->path, sizeof d->path, e) ||
        !json_copy_str(o, "format", d->format, sizeof d->format, e) ||
        !json_get_u64(o, "size", &d->size, e) || !json_get_u64(o, "safe", &d->safe, e))
        return false;
    return d->safe <= d->size ||
           err_set(e, ERR_PROTO, 0, "more of disk %s is copied than it has", d->target);
}

static bool take_disks(struct json_object *entry, struct kept *out, struct err *e)
{
    struct json_object *list;

    if (!json_get_array(entry, "disks", &list, e))
        return false;
    out->n = json_object_array_length(list);
    if (out->n > DOMXML_DISKS_MAX)
        return err_set(e, ERR_PROTO, 0, "%zu disks", out->n);
    for (size_t i = 0; i < out->n; i++)
        if (!take_disk(json_object_array_get_idx(list, i), &out->disks[i], e))
            return false;
    return true;
}

static bool take_facts(struct json_object *o, struct kept *out, struct err *e)
{
    const char *role;

    if (!json_get_str(o, "role", &role, e))
        return false;
    if (strcmp(role, "src") != 0)
        return err_set(e, ERR_PROTO, 0, "this host was not the source");
    return json_copy_str(o, "uuid", out->uuid, sizeof out->uuid, e) &&
           json_copy_str(o, "destination", out->destination, sizeof out->destination,
                         e) &&
           json_copy_str(o, "opening", out->opening, sizeof out->opening, e) &&
           json_copy_str(o, "boot_id", out->boot_id, sizeof out->boot_id, e) &&
           json_get_u64(o, "pid", &out->pid, e) &&
           json_get_u64(o, "pid_start", &out->pid_start, e) && take_disks(o, out, e);
}

bool kept_read(struct json_object *entries, const char *id, struct kept *out,
               struct err *e)
{
    const size_t n = json_object_array_length(entries);
    size_t at = n;

    *out = (struct kept){ 0 };
    snprintf(out->id, sizeof out->id, "%s", id);
    while (at > 0 && !is_step(json_object_array_get_idx(entries, at - 1), "prepared"))
        at--;
    if (at == 0)
        return err_set(e, ERR_PROTO, 0, "the journal has no beginning");
    if (!take_facts(json_object_array_get_idx(entries, at - 1), out, e))
        return false;
    for (; at < n; at++) {
        struct json_object *const o = json_object_array_get_idx(entries, at);
        const bool kept = is_step(o, "kept");

        if (((kept || is_step(o, "copied")) && !take_disks(o, out, e)) ||
            ((kept || is_step(o, "opened")) &&
             !json_copy_str(o, "opening", out->opening, sizeof out->opening, e)))
            return false;
        out->released |= is_step(o, "released");
    }
    return true;
}

bool kept_is_settled(struct json_object *entries)
{
    const size_t n = json_object_array_length(entries);

    return n > 0 && is_step(json_object_array_get_idx(entries, n - 1), "kept");
}

bool kept_something(const struct kept *k)
{
    uint64_t bytes, size;

    kept_amount(k, &bytes, &size);
    return bytes > 0 && !k->released && k->opening[0] != '\0';
}

void kept_amount(const struct kept *k, uint64_t *bytes, uint64_t *size)
{
    *bytes = *size = 0;
    for (size_t i = 0; i < k->n; i++) {
        *bytes += k->disks[i].safe;
        *size += k->disks[i].size;
    }
}

bool kept_differs(const struct kept *k, const struct plan *plan, char what[400])
{
    if (k->n != plan->n) {
        snprintf(what, 400, "it had %zu disks, now there are %zu", k->n, plan->n);
        return true;
    }
    for (size_t i = 0; i < k->n; i++) {
        const struct kept_disk *const a = &k->disks[i];
        const struct plan_disk *const b = &plan->disks[i];

        if (strcmp(a->target, b->target) != 0)
            snprintf(what, 400, "it had a disk %s, not %s", a->target, b->target);
        else if (strcmp(a->path, b->dst) != 0)
            snprintf(what, 400, "disk %s was to be %.150s, not %.150s", a->target,
                     a->path, b->dst);
        else if (strcmp(a->format, b->dst_format) != 0)
            snprintf(what, 400, "disk %s was to be %s, not %s", a->target, a->format,
                     b->dst_format);
        else if (a->size != b->size)
            snprintf(what, 400, "disk %s had %llu bytes, not %llu", a->target,
                     (unsigned long long)a->size, (unsigned long long)b->size);
        else
            continue;
        return true;
    }
    return false;
}

/* --- writing --- */

static struct json_object *disk_json(const char *target, const char *path,
                                     const char *format, uint64_t size, uint64_t safe)
{
    struct json_object *const o = json_new();

    json_add_str(json_add_str(o, "target", target), "path", path);
    json_add_u64(json_add_str(o, "format", format), "size", size);
    return json_add_u64(o, "safe", safe);
}

struct json_object *kept_disks(struct move *m)
{
    struct json_object *const list = json_object_new_array();

    for (size_t i = 0; i < m->plan.n; i++) {
        const struct plan_disk *const d = &m->plan.disks[i];

        m->copies[i].telling = m->copies[i].safe; /* which may move on at any moment */
        json_object_array_add(list, disk_json(d->target, d->dst, d->dst_format, d->size,
                                              m->copies[i].telling));
    }
    return list;
}

void kept_noted(struct move *m)
{
    m->noted_at_ms = clock_ms();
    for (size_t i = 0; i < m->plan.n; i++)
        m->copies[i].noted = m->copies[i].telling;
}

bool kept_write(struct move *m, struct err *e)
{
    if (!journal_step(m->journal, "copied",
                      json_add_obj(json_new(), "disks", kept_disks(m)), e))
        return false;
    kept_noted(m);
    return true;
}

bool kept_lower(struct move *m, struct err *e)
{
    if (kept_write(m, e))
        return true;
    m->no_keep = true; /* the journal trusts it still */
    return false;
}

void kept_note(struct move *m, bool all)
{
    const int64_t age = clock_ms() - m->noted_at_ms;
    bool any = false, far = false;
    struct err e = { 0 };

    for (size_t i = 0; i < m->plan.n; i++) {
        const struct copy_disk *const c = &m->copies[i];

        any |= c->safe != c->noted;
        far |= c->safe > c->noted &&
               (c->safe - c->noted >= m->plan.disks[i].size / NOTE_PARTS ||
                c->safe == m->plan.disks[i].size);
    }
    /* The rest of the journal belongs to the steps that decide who has the guest. */
    if (m->journal == NULL || !any ||
        (!all && (age < NOTE_GAP_MS || (!far && age < NOTE_MS) ||
                  journal_size(m->journal) > JSON_MAX_BYTES / 4)))
        return;
    m->noted_at_ms = clock_ms();
    if (!kept_write(m, &e))
        log_warn("journal", "%s", e.msg);
}

bool kept_may(struct move *m)
{
    AUTO(json_put) struct json_object *entries = NULL;
    AUTO(mem_free) struct kept *k = malloc(sizeof *k);
    struct err e = { 0 };

    if (m->journal == NULL || m->no_keep || k == NULL || proc_ended(m->qemu_pidfd))
        return false;
    if (!journal_read(m->state_dir, &entries, &e) ||
        !kept_read(entries, m->id, k, &e)) {
        log_debug("keep", "%s", e.msg);
        return false;
    }
    free(m->kept);
    m->kept = ptr_steal(&k);
    return kept_something(m->kept);
}

/* What the destination has now has a name of its own. */
static void take_opening(struct kept *k, struct json_object *reply)
{
    struct err ignored;
    const char *s;

    if (json_get_str(reply, "opening", &s, &ignored) && paths_id_ok(s))
        snprintf(k->opening, sizeof k->opening, "%s", s);
}

/* false: it has said that it does not, or has nothing of it. */
static bool tell(struct move *m)
{
    AUTO(json_put) struct json_object *r = NULL;
    const bool lost = m->link == NULL || link_state(m->link) != LINK_OPEN;
    struct err e = { 0 };

    if ((!lost || connect_redial(m, &e)) &&
        request_move(m->link, "POST", m->id, "keep", NULL, CLOSE_MS, NULL, &r, &e)) {
        take_opening(m->kept, r);
        return true;
    }
    log_warn("keep", "%s: %s", m->cfg->dest.host, e.msg);
    return e.kind != ERR_REFUSED || e.os == EBUSY;
}

static struct json_object *made(const struct kept *k)
{
    struct json_object *const list = json_object_new_array();

    for (size_t i = 0; i < k->n; i++) {
        const struct kept_disk *const d = &k->disks[i];

        json_object_array_add(
            list, disk_json(d->target, d->path, d->format, d->size, d->safe));
    }
    return json_add_obj(json_add_str(json_new(), "opening", k->opening), "disks", list);
}

bool kept_make(struct move *m, bool is_there)
{
    char a[UNITS_LEN], b[UNITS_LEN];
    uint64_t bytes, size;
    struct err e = { 0 };

    if (!m->keeping)
        return false;
    if ((!is_there || tell(m)) && journal_step(m->journal, "kept", made(m->kept), &e)) {
        kept_amount(m->kept, &bytes, &size);
        log_info("keep", "what was copied of %s is kept: %s of %s", m->facts.name,
                 units_size(a, bytes), units_size(b, size));
        return true;
    }
    if (e.kind != ERR_NONE)
        log_warn("keep", "%s", e.msg);
    m->keeping = false;
    if (!blk_cleanup(m->dom, m->id, &e))
        log_warn("keep", "%s", e.msg);
    return false;
}
