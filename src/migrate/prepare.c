/* Prepare: the images and writers at the destination, the definitions, the guard. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/unix.h"
#include "migrate/rescue.h"

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
        m->copies[i].pass.dst_zero = zero;
    }
    return true;
}

static bool make_images(struct move *m, struct err *e)
{
    AUTO(json_put) struct json_object *r = NULL;
    char path[64];

    snprintf(path, sizeof path, "/moves/%s", m->id);
    m->prepared = true; /* whatever happens to the answer, DELETE is owed */
    return link_call(m->link, "PUT", path, put_body(m), PREPARE_MS, m->user, &r, e) &&
           check_not_shared(r, e) && take_disks(m, r, e);
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
    if (!watch_qemu(m, e) || !dir_private(PATHS_STATE, e) ||
        !journal_open(m->state_dir, &m->journal, e) ||
        !journal_step(m->journal, "prepared", journal_facts(m), e) ||
        !guard_start(m, e) || !fault_point("prepare", e))
        return false;
    return make_images(m, e) && make_definitions(m, e) && copy_open(m, e) &&
           fault_point("prepare.done", e);
}

void prepare_undo(struct move *m)
{
    if (m->source_unknown) {
        log_warn("undo", "this host's libvirt does not answer: the guard goes on");
        return;
    }
    slow_left(m);
    if (m->prepared)
        owner_abort_destination(m);
    m->prepared = false;
    guard_bye(m);
    journal_close(m->journal);
    m->journal = NULL;
    journal_remove(m->state_dir);
}
