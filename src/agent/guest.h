/* src/agent/guest.h - all that the agent asks of libvirt: one domain, found by its uuid.
 *
 * A table, so that the tests can put a guest of their own behind it.  A guest is used by
 * one thread at a time.
 */
#ifndef SNM_AGENT_GUEST_H
#define SNM_AGENT_GUEST_H

#include <sys/types.h>

#include "base/err.h"
#include "virt/virt.h"

struct guest; /* a connection, and the domain once it is there */

struct guest_look {
    enum vdom_run run;
    enum vdom_why why;
    bool
        job; /* a job is active, or libvirt could not say; asked of a paused one only */
};

struct guest_ops {
    /* Connect; the domain need not exist. */
    bool (*open)(const char *uuid, struct guest **out, struct err *e);
    void (*close)(struct guest *g);
    bool (*look)(struct guest *g, struct guest_look *out, struct err *e);
    /* Sleep until something may have changed, at most @ms. */
    void (*wait)(struct guest *g, int ms);
    bool (*resume)(struct guest *g, struct err *e);
    /* What it writes from here on is marked on every disk, for the move @id. */
    bool (*mark)(struct guest *g, const char *id, struct err *e);
    /* Kill it where it is active; @undefine: forget it, too.  Not there is success. */
    bool (*remove)(struct guest *g, bool undefine, struct err *e);
    bool (*autostart)(struct guest *g, bool on, struct err *e);
    /* The network learns where it is; its clock is set. */
    bool (*announce)(struct guest *g, struct err *e);
    bool (*sync_time)(struct guest *g, struct err *e);
    /* Another domain of this host that has @path as a disk: virt_disk_user(). */
    bool (*disk_user)(struct guest *g, const char *path, char *name, size_t size,
                      struct err *e);
    /* As whom QEMU runs here. */
    bool (*qemu_ids)(struct guest *g, uid_t *uid, gid_t *gid, struct err *e);
};

extern const struct guest_ops guest_libvirt;

/* Loaded, and nothing of the migration is under way any more. */
bool guest_is_ready(const struct guest_look *l);
/* It waits for a migration's data. */
bool guest_is_incoming(const struct guest_look *l);
/* Started here, by whomever: only a guest that has run gets there. */
bool guest_has_run(const struct guest_look *l);
/* "none", "running", "paused", "off", "other", as the control protocol says it. */
const char *guest_run_name(enum vdom_run run);

#endif
