#include "migrate/recheck.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "migrate/blockset.h"
#include "migrate/inventory.h"
#include "migrate/moved.h"
#include "migrate/rescue.h"
#include "migrate/status.h"
#include "migrate/suspects.h"
#include "nbd-mirror/digest-wire.h"
#include "nbd-mirror/survey.h"
#include "nbd-mirror/verify.h"
#include "tunnel/dial.h"

enum {
    LIBVIRT_MS = 5000,
    BEGIN_MS = 60000, /* a qemu-nbd for each disk */
    MARKS_MS = 60000,
    END_MS = 60000,
};

/* Of one disk. */
struct pair {
    struct recheck *job;
    size_t index;
    struct blockset differ, again; /* in the first look, in the second one */
    struct blockset *now;          /* one of these */
    struct digest_fold *fold;      /* in the first look */
    char export_name[64], bitmap[64];
};

struct recheck {
    const struct recheck_cfg *cfg;
    struct recheck_result *out;
    struct json_object *entry; /* of moved.h */
    struct rescue rescue;
    struct move *move;
    struct dial *here;
    struct pair pairs[DOMXML_DISKS_MAX];
    struct suspects suspects;
};

/* --- which move --- */

struct search {
    const char *what;
    unsigned n;
    char id[PATHS_ID_LEN + 1];
};

static bool look(void *ctx, const char *id, struct json_object *entry, struct err *e)
{
    struct search *const s = ctx;
    struct inventory_move m = { .state = INVENTORY_MOVED };

    (void)e;
    inventory_moved(entry, id, &m);
    if (!inventory_is(&m, s->what))
        return true;
    s->n++;
    snprintf(s->id, sizeof s->id, "%s", id);
    return true;
}

static bool find(struct recheck *k, struct err *e)
{
    struct search s = { .what = k->cfg->what };
    char shown[300];

    log_clean(shown, sizeof shown, s.what);
    if (!moved_scan(look, &s, e))
        return false;
    k->out->status = STATUS_REFUSED;
    if (s.n == 0) {
        err_set(e, ERR_REFUSED, 0, "no finished move of '%s' is known on this host",
                shown);
        return err_next(e, "It is asked on the host that it was moved from; see: "
                           "snmigrate list");
    }
    if (s.n > 1) {
        err_set(e, ERR_REFUSED, 0, "'%s' is more than one", shown);
        return err_next(e, "Say which by its id: snmigrate list");
    }
    k->out->status = STATUS_FAILED;
    return moved_read(s.id, &k->entry, e);
}

static bool take_disk(struct json_object *src, struct json_object *dst,
                      struct recheck_disk *d, struct err *e)
{
    const char *target;
    uint64_t size;

    if (!json_copy_str(src, "target", d->target, sizeof d->target, e) ||
        !json_copy_str(src, "path", d->src, sizeof d->src, e) ||
        !json_copy_str(src, "format", d->src_format, sizeof d->src_format, e) ||
        !json_get_u64(src, "size", &d->size, e) ||
        !json_get_str(dst, "target", &target, e) ||
        !json_copy_str(dst, "path", d->dst, sizeof d->dst, e) ||
        !json_copy_str(dst, "format", d->dst_format, sizeof d->dst_format, e) ||
        !json_get_u64(dst, "size", &size, e))
        return false;
    return (strcmp(target, d->target) == 0 && size == d->size && size <= INT64_MAX) ||
           err_set(e, ERR_PROTO, 0, "the two lists of disks differ");
}

static bool take_entry(struct recheck *k, struct err *e)
{
    struct recheck_result *const out = k->out;
    struct json_object *src, *dst;

    if (!json_copy_str(k->entry, "id", out->id, sizeof out->id, e) ||
        !json_copy_str(k->entry, "name", out->domain, sizeof out->domain, e) ||
        !json_copy_str(k->entry, "uuid", out->uuid, sizeof out->uuid, e) ||
        !json_copy_str(k->entry, "destination", out->destination,
                       sizeof out->destination, e) ||
        !json_get_array(k->entry, "source_disks", &src, e) ||
        !json_get_array(k->entry, "disks", &dst, e))
        return false;
    const size_t n = json_object_array_length(src);
    if (n > DOMXML_DISKS_MAX || n != json_object_array_length(dst))
        return err_set(e, ERR_PROTO, 0, "the two lists of disks differ");
    for (; out->ndisks < n; out->ndisks++)
        if (!take_disk(json_object_array_get_idx(src, out->ndisks),
                       json_object_array_get_idx(dst, out->ndisks),
                       &out->disks[out->ndisks], e))
            return false;
    return true;
}

bool recheck_left_marks(struct json_object *entry)
{
    struct err ignored;
    bool asked;

    return json_get_bool(entry, "verify_later", &asked, &ignored) && asked;
}

/* --- both agents --- */

static struct json_object *begin_body(const struct recheck_result *r, bool here)
{
    struct json_object *const o = json_new(), *const list = json_object_new_array();

    for (size_t i = 0; i < r->ndisks; i++) {
        const struct recheck_disk *const d = &r->disks[i];
        struct json_object *const disk = json_add_str(json_new(), "target", d->target);

        json_add_str(disk, "path", here ? d->src : d->dst);
        json_add_str(disk, "format", here ? d->src_format : d->dst_format);
        json_object_array_add(list, json_add_u64(disk, "size", d->size));
    }
    json_add_bool(json_add_str(o, "uuid", r->uuid), "idle", here);
    return json_add_obj(o, "disks", list);
}

/* The agent that speaks is on this host. */
static bool of_this_host(struct err *e)
{
    static const char dst[] = "dst: ";

    if (strncmp(e->msg, dst, strlen(dst)) == 0)
        memmove(e->msg, e->msg + strlen(dst), strlen(e->msg + strlen(dst)) + 1);
    return err_wrap(e, "this host");
}

static bool post(struct link *l, const char *id, const char *what,
                 struct json_object *body, int ms, const struct cancel *cancel,
                 struct json_object **reply, struct err *e)
{
    char path[80];

    snprintf(path, sizeof path, "/verify/%s%s", id, what);
    return link_call(l, "POST", path, body, ms, cancel, reply, e);
}

static bool begin_here(struct recheck *k, struct err *e)
{
    const struct dial_cfg local = { .dest = NULL };
    AUTO(json_put) struct json_object *r = NULL;

    return (dial_open(&local, k->cfg->cancel, &k->here, e) &&
            post(dial_link(k->here), k->out->id, "", begin_body(k->out, true), BEGIN_MS,
                 k->cfg->cancel, &r, e)) ||
           of_this_host(e);
}

static bool begin_there(struct recheck *k, struct err *e)
{
    AUTO(json_put) struct json_object *r = NULL;
    const char *why;

    if (!post(k->move->link, k->out->id, "", begin_body(k->out, false), BEGIN_MS,
              k->cfg->cancel, &r, e) ||
        !json_get_bool(r, "live", &k->out->live, e) ||
        !json_get_bool(r, "marked", &k->out->marked, e) ||
        !json_get_str(r, "why", &why, e))
        return false;
    if (!k->out->marked && !recheck_left_marks(k->entry))
        why = "the move was made without --verify-later";
    log_clean(k->out->why, sizeof k->out->why, why);
    return true;
}

static struct json_object *end_body(const char *uuid, bool forget)
{
    return json_add_bool(json_add_str(json_new(), "uuid", uuid), "forget", forget);
}

/* Whatever happened; the user's wish to stop does not count any more. */
static void end_both(struct recheck *k)
{
    struct link *const l = k->move->link;
    struct err e = { 0 };

    if (l != NULL && !(link_state(l) == LINK_OPEN
                           ? post(l, k->out->id, "/end", end_body(k->out->uuid, false),
                                  END_MS, NULL, NULL, &e)
                           : err_set(&e, ERR_SYS, 0, "the link was lost")))
        log_warn("verify",
                 "%s: an export may be left in QEMU until verify or discard is run "
                 "again: %s",
                 k->move->cfg->dest.host, e.msg);
    dial_close(k->here);
    k->here = NULL;
}

bool recheck_forget(struct move *m, struct err *e)
{
    return post(m->link, m->id, "/end", end_body(m->facts.uuid, true), END_MS, NULL,
                NULL, e);
}

/* --- looks --- */

static bool fetch(const struct pair *p, struct link *l, const struct digest_cfg *cfg,
                  uint64_t *size, struct err *e)
{
    const struct recheck_result *const r = p->job->out;

    *size = cfg->size;
    return compare_fetch(l, r->id, r->disks[p->index].target, cfg, e);
}

static bool fetch_here(void *ctx, const struct digest_cfg *cfg, uint64_t *size,
                       struct err *e)
{
    const struct pair *const p = ctx;

    return fetch(p, dial_link(p->job->here), cfg, size, e);
}

static bool fetch_there(void *ctx, const struct digest_cfg *cfg, uint64_t *size,
                        struct err *e)
{
    const struct pair *const p = ctx;

    return fetch(p, p->job->move->link, cfg, size, e);
}

static void on_differs(void *ctx, uint64_t off, uint64_t len)
{
    struct pair *const p = ctx;

    blockset_add(p->now, off, len);
}

static void on_alike(void *ctx, const struct digest *d)
{
    struct pair *const p = ctx;

    p->job->out->disks[p->index].alike += d->len;
    digest_fold_add(p->fold, d);
}

static struct verify_cfg verify_cfg(struct pair *p)
{
    const struct recheck_disk *const d = &p->job->out->disks[p->index];

    return (struct verify_cfg){ .name = d->target,
                                .size = d->size,
                                .block = MIRROR_BLOCK,
                                .cancel = p->job->cfg->cancel,
                                .differs = on_differs,
                                .ctx = p,
                                .src_digests = fetch_here,
                                .src_ctx = p,
                                .dst_digests = fetch_there,
                                .dst_ctx = p };
}

static bool look_at_all(struct pair *p, struct err *e)
{
    struct recheck_disk *const d = &p->job->out->disks[p->index];
    struct verify_cfg cfg = verify_cfg(p);
    uint8_t sum[DIGEST_LEN];
    struct verify_result r;

    if (!blockset_init(&p->differ, d->size) || !blockset_init(&p->again, d->size) ||
        (p->fold = digest_fold_new(MIRROR_BLOCK)) == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "no memory to compare");
    p->now = &p->differ;
    cfg.alike = on_alike;
    cfg.compared = &p->job->cfg->progress->compared;
    if (!verify_run(&cfg, NULL, NULL, &r, e))
        return false;
    d->compared = d->alike + blockset_bytes(&p->differ);
    digest_fold_sum(p->fold, sum);
    digest_hex(sum, d->digest);
    return true;
}

/* What differs still, of what did. */
static bool look_again(struct pair *p, struct err *e)
{
    struct suspects *const s = &p->job->suspects;
    struct verify_cfg cfg = verify_cfg(p);
    uint64_t off = 0, len = 0;
    struct verify_result r;

    for (s->n = 0; blockset_next(&p->differ, off + len, &off, &len);)
        suspects_add(s, off, len);
    if (s->n == 0)
        return true;
    p->now = &p->again;
    blockset_clear(&p->again);
    cfg.ranges = s->list;
    cfg.nranges = s->n;
    if (!verify_run(&cfg, NULL, NULL, &r, e))
        return false;
    blockset_intersect(&p->differ, &p->again);
    return true;
}

/* --- what the guest has written --- */

static bool dial_marks(void *ctx, int *fd, struct err *e)
{
    const struct pair *const p = ctx;
    const struct recheck_result *const r = p->job->out;
    char path[128];

    snprintf(path, sizeof path, "marks/%s/%s", r->id, r->disks[p->index].target);
    return link_channel_pair(p->job->move->link, path, LINK_TALK, ZSTD_OFF, fd, e);
}

static void on_marked(void *ctx, uint64_t off, uint64_t len)
{
    struct pair *const p = ctx;

    p->job->out->disks[p->index].written += len;
    blockset_remove(&p->differ, off, len);
}

static bool take_names(struct recheck *k, struct json_object *reply, struct err *e)
{
    struct json_object *list;

    if (!json_get_array(reply, "disks", &list, e))
        return false;
    if (json_object_array_length(list) != k->out->ndisks)
        return err_set(e, ERR_PROTO, 0, "the agent answered for other disks");
    for (size_t i = 0; i < k->out->ndisks; i++) {
        struct json_object *const o = json_object_array_get_idx(list, i);
        struct pair *const p = &k->pairs[i];
        const char *target;

        if (!json_get_str(o, "target", &target, e) ||
            !json_copy_str(o, "export", p->export_name, sizeof p->export_name, e) ||
            !json_copy_str(o, "bitmap", p->bitmap, sizeof p->bitmap, e))
            return false;
        if (strcmp(target, k->out->disks[i].target) != 0)
            return err_set(e, ERR_PROTO, 0, "the agent answered for other disks");
    }
    return true;
}

/* All that is marked by now. */
static bool excuse(struct recheck *k, struct err *e)
{
    AUTO(json_put) struct json_object *r = NULL;

    if (!k->out->marked)
        return true;
    if (!post(k->move->link, k->out->id, "/marks", NULL, MARKS_MS, k->cfg->cancel, &r,
              e) ||
        !take_names(k, r, e))
        return false;
    for (size_t i = 0; i < k->out->ndisks; i++) {
        struct pair *const p = &k->pairs[i];
        const struct mirror_side side = { dial_marks, p, p->export_name };

        k->out->disks[i].written = 0;
        if (!survey_marked(&side, "dst", p->bitmap, k->out->disks[i].size, MIRROR_BLOCK,
                           k->cfg->cancel, on_marked, p, e))
            return err_wrap(e, "%s", k->out->disks[i].target);
    }
    return true;
}

/* --- all of it --- */

static uint64_t differing(const struct recheck *k)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < k->out->ndisks; i++)
        sum += blockset_bytes(&k->pairs[i].differ);
    return sum;
}

static void conclude(struct recheck *k)
{
    for (size_t i = 0; i < k->out->ndisks; i++) {
        const struct blockset *const b = &k->pairs[i].differ;
        struct recheck_disk *const d = &k->out->disks[i];
        struct mirror_range r = { 0 };

        d->differing = blockset_bytes(b);
        while (d->nwhere < RECHECK_SHOWN &&
               blockset_next(b, r.off + r.len, &r.off, &r.len))
            d->where[d->nwhere++] = r;
    }
    k->out->compared = true;
    k->out->status = differing(k) > 0 ? STATUS_DIFFER : STATUS_OK;
}

static bool compare(struct recheck *k, struct err *e)
{
    uint64_t size = 0;

    for (size_t i = 0; i < k->out->ndisks; i++) {
        k->pairs[i].job = k;
        k->pairs[i].index = i;
        size += k->out->disks[i].size;
    }
    atomic_store(&k->cfg->progress->size, size);
    for (size_t i = 0; i < k->out->ndisks; i++)
        if (!look_at_all(&k->pairs[i], e))
            return false;
    if (!excuse(k, e))
        return false;
    if (k->out->marked && differing(k) > 0) {
        for (size_t i = 0; i < k->out->ndisks; i++)
            if (!look_again(&k->pairs[i], e))
                return false;
        if (!excuse(k, e))
            return false;
    }
    conclude(k);
    return true;
}

/* The old disks are nobody's: the guest is not active here. */
static bool is_away(struct move *m, struct recheck_result *out, struct err *e)
{
    enum vdom_run run;
    enum vdom_why why;

    if (!owner_source(m, LIBVIRT_MS, e)) {
        if (e->kind == ERR_GUEST) /* undefined */
            return true;
        out->status = STATUS_NO_CONNECTION;
        err_wrap(e, "cannot ask libvirt on this host");
        return err_next(e, "Is libvirtd running, and are you root?");
    }
    if (!vdom_state(m->dom, &run, &why, e))
        return false;
    if (run == VDOM_OFF || run == VDOM_NONE)
        return true;
    out->status = STATUS_REFUSED;
    err_set(e, ERR_REFUSED, 0, "%s is active on this host: its disks here are in use",
            m->facts.name);
    return err_next(e,
                    "There is nothing to compare: it has come back, or was started.");
}

static bool with_both(struct recheck *k, struct err *e)
{
    if (!begin_here(k, e) || !connect_redial(k->move, e)) {
        k->out->status = e->kind == ERR_REFUSED ? STATUS_REFUSED : STATUS_NO_CONNECTION;
        return false;
    }
    if (!begin_there(k, e)) {
        k->out->status = e->kind == ERR_REFUSED ? STATUS_REFUSED : STATUS_FAILED;
        return false;
    }
    return fault_point("verify.begun", e) && compare(k, e);
}

static bool recheck(struct recheck *k, struct err *e)
{
    struct recheck_result *const out = k->out;

    out->status = STATUS_FAILED;
    if (!virt_init(e) || !find(k, e) || !take_entry(k, e))
        return false;
    if (!rescue_init(&k->rescue, k->entry, k->cfg->cancel, e))
        return false;
    k->move = k->rescue.move;
    if (!connect_lock(k->move, e)) {
        out->status = e->kind == ERR_REFUSED ? STATUS_REFUSED : STATUS_FAILED;
        return false;
    }
    if (!is_away(k->move, out, e))
        return false;
    const bool ok = with_both(k, e);
    end_both(k);
    return ok;
}

static void job_free_auto(struct recheck **k)
{
    struct recheck *const j = *k;

    if (j == NULL)
        return;
    for (size_t i = 0; i < DOMXML_DISKS_MAX; i++) {
        blockset_fini(&j->pairs[i].differ);
        blockset_fini(&j->pairs[i].again);
        digest_fold_free(j->pairs[i].fold);
    }
    if (j->move != NULL)
        connect_close(j->move);
    rescue_fini(&j->rescue);
    json_object_put(j->entry);
    free(j);
}

void recheck_run(const struct recheck_cfg *cfg, struct recheck_result *out)
{
    AUTO(job_free) struct recheck *k = calloc(1, sizeof *k);
    const int64_t begin = clock_ms();
    struct err e = { 0 };

    memset(out, 0, sizeof *out);
    out->status = STATUS_FAILED;
    if (k == NULL) {
        err_set(&out->err, ERR_SYS, ENOMEM, "verify");
        return;
    }
    k->cfg = cfg;
    k->out = out;
    if (!recheck(k, &e)) {
        if (cancel_is_set(cfg->cancel)) {
            err_set(&e, ERR_CANCELLED, 0, "interrupted");
            out->status = STATUS_INTERRUPTED;
        }
        out->err = e;
    }
    out->elapsed_ms = clock_ms() - begin;
}
