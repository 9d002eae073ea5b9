#include "agent/guest.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "virt/blk.h"

enum { OPEN_MS = 5000, OPEN_AGAIN_MS = 200 };

struct guest {
    char uuid[37];
    struct virt *virt;
    struct vdom *dom; /* NULL: not there when we last looked */
    int events;       /* of ->dom; -1: none */
};

bool guest_is_ready(const struct guest_look *l)
{
    return l->run == VDOM_PAUSED && l->why == VDOM_WHY_USER && !l->job;
}

bool guest_is_incoming(const struct guest_look *l)
{
    return l->run == VDOM_PAUSED &&
           (l->why == VDOM_WHY_MIGRATION || l->why == VDOM_WHY_STARTING || l->job);
}

bool guest_has_run(const struct guest_look *l)
{
    if (l->run != VDOM_PAUSED)
        return l->run == VDOM_RUNNING || l->run == VDOM_OTHER;
    return l->why == VDOM_WHY_IOERROR || l->why == VDOM_WHY_CRASHED ||
           l->why == VDOM_WHY_SHUTDOWN || l->why == VDOM_WHY_POSTCOPY;
}

const char *guest_run_name(enum vdom_run run)
{
    static const char *const names[] = {
        [VDOM_NONE] = "none", [VDOM_RUNNING] = "running", [VDOM_PAUSED] = "paused",
        [VDOM_OFF] = "off",   [VDOM_OTHER] = "other",
    };

    return names[run];
}

static void forget(struct guest *g)
{
    vdom_free(g->dom);
    g->dom = NULL;
    g->events = -1;
}

static void libvirt_close(struct guest *g)
{
    if (g == NULL)
        return;
    forget(g);
    virt_close(g->virt);
    free(g);
}

static void guest_close_auto(struct guest **g)
{
    libvirt_close(*g);
}

static bool libvirt_open(const char *uuid, struct guest **out, struct err *e)
{
    AUTO(guest_close) struct guest *g = calloc(1, sizeof *g);
    const int64_t end = clock_ms() + OPEN_MS;

    if (g == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "guest");
    g->events = -1;
    snprintf(g->uuid, sizeof g->uuid, "%s", uuid);
    /* A libvirtd that restarts is back in a moment, and an ABORT may depend on it. */
    while (!virt_open(NULL, &g->virt, e)) {
        if (clock_ms() >= end)
            return false;
        clock_sleep_ms(OPEN_AGAIN_MS);
    }
    *out = ptr_steal(&g);
    return true;
}

/* Find it again where we have none. */
static bool find(struct guest *g, struct err *e)
{
    struct err why = { 0 };

    if (g->dom != NULL)
        return true;
    if (!vdom_find_uuid(g->virt, g->uuid, &g->dom, e))
        return false;
    /* Without events it is found out later, by asking. */
    if (g->dom != NULL && !vdom_watch(g->dom, &g->events, &why))
        log_debug("guest", "%s", why.msg);
    return true;
}

/* An incoming domain has no statistics: libvirt refuses to say, which is an
 * answer too: no job of its own runs. */
static bool has_job(struct guest *g)
{
    struct err why = { 0 };
    bool active;

    return !vdom_job_active(g->dom, &active, &why) || active;
}

static bool libvirt_look(struct guest *g, struct guest_look *out, struct err *e)
{
    *out = (struct guest_look){ .run = VDOM_NONE };
    if (!find(g, e))
        return false;
    if (g->dom == NULL)
        return true;
    if (!vdom_state(g->dom, &out->run, &out->why, e))
        return false;
    if (out->run == VDOM_NONE)
        forget(g);
    else if (out->run == VDOM_PAUSED)
        out->job = has_job(g);
    return true;
}

static void libvirt_wait(struct guest *g, int ms)
{
    struct pollfd p = { .fd = g->events, .events = POLLIN };
    uint64_t count;

    if (poll(&p, 1, ms) == 1 && read(g->events, &count, sizeof count) < 0)
        errno = 0;
}

/* Find it for something that cannot be done without it. */
static bool need(struct guest *g, struct err *e)
{
    return find(g, e) &&
           (g->dom != NULL ||
            err_set(e, ERR_GUEST, 0, "the domain %s is not there", g->uuid));
}

static bool libvirt_resume(struct guest *g, struct err *e)
{
    return need(g, e) && vdom_resume(g->dom, e);
}

static bool libvirt_mark(struct guest *g, const char *id, struct err *e)
{
    AUTO(dominfo_fini) struct dominfo info = { 0 };
    AUTO(mem_free) char *xml = NULL;

    return need(g, e) && vdom_xml(g->dom, VDOM_XML_LIVE, &xml, e) &&
           domxml_parse(xml, &info, NULL, e) && blk_mark(g->dom, id, &info, e);
}

static bool libvirt_remove(struct guest *g, bool undefine, struct err *e)
{
    if (!find(g, e))
        return false;
    if (g->dom == NULL)
        return true;
    return vdom_destroy(g->dom, e) && (!undefine || vdom_undefine(g->dom, e));
}

static bool libvirt_autostart(struct guest *g, bool on, struct err *e)
{
    return need(g, e) && vdom_set_autostart(g->dom, on, e);
}

static bool libvirt_announce(struct guest *g, struct err *e)
{
    return need(g, e) && vdom_announce(g->dom, e);
}

static bool libvirt_sync_time(struct guest *g, struct err *e)
{
    return need(g, e) && vdom_sync_time(g->dom, e);
}

static bool libvirt_disk_user(struct guest *g, const char *path, char *name,
                              size_t size, struct err *e)
{
    return virt_disk_user(g->virt, path, g->uuid, name, size, e);
}

static bool libvirt_qemu_ids(struct guest *g, uid_t *uid, gid_t *gid, struct err *e)
{
    return virt_qemu_ids(g->virt, uid, gid, e);
}

const struct guest_ops guest_libvirt = {
    .open = libvirt_open,
    .close = libvirt_close,
    .look = libvirt_look,
    .wait = libvirt_wait,
    .resume = libvirt_resume,
    .mark = libvirt_mark,
    .remove = libvirt_remove,
    .autostart = libvirt_autostart,
    .announce = libvirt_announce,
    .sync_time = libvirt_sync_time,
    .disk_user = libvirt_disk_user,
    .qemu_ids = libvirt_qemu_ids,
};
