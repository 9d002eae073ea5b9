/* Prepare: the images and writers at the destination, the definitions, the guard. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/units.h"
#include "base/unix.h"
#include "migrate/moved.h"
#include "migrate/request.h"
#include "migrate/rescue.h"

enum {
    PREPARE_MS = 120000,        /* making images, starting writers */
    REOPEN_MS = 11 * 60 * 1000, /* the agent may have to check images */
};

static struct json_object *put_body(struct move *m)
{
    struct json_object *o = json_new(), *disks = json_object_new_array();

    for (size_t i = 0; i < m->plan.n; i++) {
        const struct plan_disk *d = &m->plan.disks[i];
        struct json_object *disk = json_new();

        json_add_str(disk, "target", d->target);
        json_add_str(disk, "path", d->dst);
        json_add_str(disk, "format", d->dst_format);
        json_add_u64(disk, "size", d->size);
        if (m->cfg->seed)
            json_add_bool(disk, "seed", true);
        json_object_array_add(disks, disk);
    }
    json_add_str(o, "name", m->facts.name);
    json_add_str(o, "uuid", m->facts.uuid);
    json_add_str(o, "source", m->src_host.hostname);
    return json_add_obj(o, "disks", disks);
}

/* If a file that the agent has just made is visible here, both hosts share that storage:
 * source and destination would be one file. */
static bool check_not_shared(struct json_object *reply, struct err *e)
{
    struct json_object *list;

    if (!json_get_array(reply, "token_paths", &list, e))
        return false;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        const char *path = json_object_get_string(json_object_array_get_idx(list, i));

        if (path == NULL || access(path, F_OK) != 0)
            continue;
        err_set(e, ERR_REFUSED, 0, "both hosts share the storage of %s", path);
        return err_next(e, "Move with shared storage: virsh migrate --live.");
    }
    return true;
}

/* The same of a seed, which has no token beside it that only its move could have put there. */
static bool check_seed(const struct plan_disk *d, struct json_object *o, struct err *e)
{
    struct statx st;
    uint64_t ino, born;

    if (!json_has(o, "ino"))
        return true;
    if (!json_get_u64(o, "ino", &ino, e) || !json_get_u64(o, "born_ns", &born, e))
        return false;
    if (born == 0 || statx(AT_FDCWD, d->src, 0, STATX_INO | STATX_BTIME, &st) < 0 ||
        (st.stx_mask & STATX_BTIME) == 0 || st.stx_ino != ino ||
        (uint64_t)st.stx_btime.tv_sec * NS_PER_S + st.stx_btime.tv_nsec != born)
        return true;
    err_set(e, ERR_REFUSED, 0, "disk %s: %s there is %s here: both hosts share it",
            d->target, d->dst, d->src);
    return err_next(e, "Move with shared storage: virsh migrate --live.");
}

static bool take_disks(struct move *m, struct json_object *reply, struct err *e)
{
    struct json_object *list;

    if (!json_get_array(reply, "disks", &list, e))
        return false;
    if (json_object_array_length(list) != m->plan.n)
        return err_set(e, ERR_PROTO, 0,
                       "the agent answered for another number of disks");
    for (size_t i = 0; i < m->plan.n; i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        const char *target;
        bool zero;

        m->plan.disks[i].block = false;
        if (!json_get_str(o, "target", &target, e) ||
            !json_get_bool(o, "zero", &zero, e) ||
            (json_has(o, "block") &&
             !json_get_bool(o, "block", &m->plan.disks[i].block, e)))
            return false;
        if (strcmp(target, m->plan.disks[i].target) != 0)
            return err_set(e, ERR_PROTO, 0, "the agent answered for another disk");
        if (!check_seed(&m->plan.disks[i], o, e))
            return false;
        m->copies[i].pass.dst_zero = zero;
    }
    return true;
}

/* In our journal before the first byte is written, as it is in that of the destination. */
static bool take_opening(struct move *m, struct json_object *reply, struct err *e)
{
    const char *opening;

    if (!json_get_str(reply, "opening", &opening, e))
        return false;
    if (!paths_id_ok(opening))
        return err_set(e, ERR_PROTO, 0, "the agent's opening is not one");
    snprintf(m->opening, sizeof m->opening, "%s", opening);
    return journal_step(m->journal, "opened",
                        json_add_str(json_new(), "opening", opening), e);
}

static bool make_images(struct move *m, struct err *e)
{
    AUTO(json_put) struct json_object *r = NULL;

    m->prepared = true; /* whatever happens to the answer, DELETE is owed */
    return request_move(m->link, "PUT", m->id, "", put_body(m), PREPARE_MS, m->user, &r,
                        e) &&
           check_not_shared(r, e) && take_disks(m, r, e) && take_opening(m, r, e);
}

static bool reopen(struct move *m, struct json_object **reply, struct err *e)
{
    struct json_object *const o = json_add_str(json_new(), "after", m->opening);

    /* By which QEMU's socket there is called: it may have been another at the earlier try. */
    json_add_str(o, "name", m->facts.name);
    return request_move(m->link, "POST", m->id, "reopen", o, REOPEN_MS, m->user, reply,
                        e) &&
           take_opening(m, *reply, e);
}

bool prepare_reopen(struct move *m, struct err *e)
{
    AUTO(json_put) struct json_object *r = NULL;
    bool changed;

    if (!reopen(m, &r, e) || !json_get_bool(r, "changed", &changed, e))
        return false;
    if (!changed)
        return true;
    /* It is said again to the next command, for no disk's channel has been opened. */
    err_set(e, ERR_REFUSED, 0,
            "somebody has written an image at the destination while the link was lost");
    return err_next(e, "Run it again: what differs is found by comparing, and copied.");
}

/* --- an earlier try --- */

/* The QEMU that it watched, and in it its bitmaps. */
static bool adopt(struct move *m, struct err *e)
{
    const struct kept *const k = m->kept;
    char boot[PROC_BOOT_ID];

    if (strcmp(k->boot_id, proc_boot_id(boot)) != 0 ||
        k->pid != (uint64_t)m->facts.pid ||
        k->pid_start != proc_start_time(m->facts.pid))
        return err_set(e, ERR_REFUSED, 0, "the guest was started anew since");
    return blk_bitmaps_adopt(&m->blk, e);
}

/* Nothing of what the images hold is trusted. */
static void from_nothing(struct move *m, bool compare)
{
    for (size_t i = 0; i < m->plan.n; i++) {
        m->copies[i].safe = 0;
        m->copies[i].compare = compare;
    }
}

/* Nor what the bitmaps say. */
static void distrust(struct move *m)
{
    m->adopted = m->unproved = false;
    from_nothing(m, m->resume);
}

/* What of it this move goes on with; nothing is changed yet. */
static void look_at_kept(struct move *m)
{
    char a[UNITS_LEN], b[UNITS_LEN];
    uint64_t bytes, size;
    struct err e = { 0 };

    if (m->kept == NULL)
        return;
    m->resume = m->kept->there;
    if (!m->resume) {
        log_warn("resume", "%s has nothing of the earlier try any more: all is copied",
                 m->cfg->dest.host);
        return;
    }
    snprintf(m->opening, sizeof m->opening, "%s", m->kept->opening);
    m->adopted = m->unproved = adopt(m, &e);
    for (size_t i = 0; i < m->plan.n; i++)
        m->copies[i].safe = m->kept->disks[i].safe;
    if (!m->adopted) {
        log_warn("resume", "%s: both sides are compared", e.msg);
        distrust(m);
        return;
    }
    kept_amount(m->kept, &bytes, &size);
    log_warn("resume", "going on from an earlier try: %s of %s are there",
             units_size(a, bytes), units_size(b, size));
}

/* The destination has not what we left there. */
static bool is_other(const struct err *e)
{
    return e->kind == ERR_REFUSED && e->os != EBUSY;
}

static bool begin_anew(struct move *m, struct err *e)
{
    m->resume = false;
    distrust(m);
    return kept_lower(m, e) && owner_abort(m, e);
}

/* Somebody has written into an image since it was kept. */
static bool heed_changes(struct move *m, struct json_object *reply, struct err *e)
{
    bool changed;

    if (!json_get_bool(reply, "changed", &changed, e))
        return false;
    if (!changed)
        return true;
    log_warn("resume",
             "%s: an image was written since it was kept: both sides are compared",
             m->cfg->dest.host);
    from_nothing(m, true);
    return kept_lower(m, e);
}

static bool open_images(struct move *m, struct err *e)
{
    AUTO(json_put) struct json_object *r = NULL;
    struct err why = { 0 };

    if (!m->resume)
        return make_images(m, e);
    m->prepared = true;
    if (reopen(m, &r, &why))
        return take_disks(m, r, e) && heed_changes(m, r, e);
    if (!is_other(&why)) {
        *e = why;
        return false;
    }
    log_warn("resume", "%s: %s: all is copied again", m->cfg->dest.host, why.msg);
    return begin_anew(m, e) && make_images(m, e);
}

static bool make_definitions(struct move *m, struct err *e)
{
    struct domdisk_to to[DOMXML_DISKS_MAX];

    for (size_t i = 0; i < m->plan.n; i++)
        to[i] = (struct domdisk_to){ .target = m->plan.disks[i].target,
                                     .path = m->plan.disks[i].dst,
                                     .format = m->plan.disks[i].dst_format,
                                     .block = m->plan.disks[i].block };
    return domxml_rewrite(m->xml_live, to, m->plan.n, &m->dest_xml, e) &&
           (m->xml_inactive == NULL ||
            domxml_rewrite(m->xml_inactive, to, m->plan.n, &m->persist_xml, e));
}

/* What "recover" needs where both snmigrate and its guard are gone. */
static struct json_object *journal_facts(struct move *m)
{
    struct json_object *const o = rescue_facts(m);
    char boot[PROC_BOOT_ID];

    json_add_str(o, "role", "src");
    json_add_str(o, "opening", m->opening);
    json_add_obj(o, "disks", kept_disks(m));
    json_add_obj(o, "source_disks", moved_disks(&m->plan));
    json_add_str(o, "boot_id", proc_boot_id(boot));
    json_add_u64(o, "pid", (uint64_t)m->facts.pid);
    return json_add_u64(o, "pid_start", proc_start_time(m->facts.pid));
}

static bool watch_qemu(struct move *m, struct err *e)
{
    int fd = -1;

    if (!proc_open(m->facts.pid, &fd, e))
        return err_wrap(e, "the QEMU process of %s", m->facts.name);
    LOCK_SCOPE(&m->lock);
    m->qemu_pidfd = fd;
    return true;
}

bool prepare_run(struct move *m, struct err *e)
{
    move_enter(m, MOVE_PREPARE);
    if (!watch_qemu(m, e) || !dir_private(PATHS_STATE, e))
        return false;
    look_at_kept(m);
    m->tracking = m->adopted;
    if (!journal_open(m->state_dir, &m->journal, e) ||
        !journal_step(m->journal, "prepared", journal_facts(m), e))
        return false;
    kept_noted(m);
    if (!guard_start(m, e) || !fault_point("prepare", e))
        return false;
    return open_images(m, e) && make_definitions(m, e) && copy_open(m, e) &&
           fault_point("prepare.done", e);
}

/* It had not begun with what it was to go on from: that stays as it was. */
static void leave_kept(struct move *m)
{
    m->tracking = false;
    m->keeping = true;
    guard_bye(m);
    journal_close(m->journal);
    m->journal = NULL;
}

void prepare_undo(struct move *m)
{
    if (m->kept != NULL && m->noted_at_ms == 0) {
        leave_kept(m);
        return;
    }
    if (m->tracking) /* a try that came no further with what it took up */
        track_undo(m);
    if (m->source_unknown) {
        log_warn("undo", "this host's libvirt does not answer: the guard goes on");
        return;
    }
    slow_left(m);
    if (!kept_make(m, true) && m->prepared)
        owner_abort_destination(m);
    m->prepared = false;
    guard_bye(m);
    journal_close(m->journal);
    m->journal = NULL;
    if (!m->keeping)
        journal_remove(m->state_dir);
}
