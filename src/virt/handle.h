/* src/virt/handle.h - the inside of a connection and a domain; for this folder only. */
#ifndef SNM_VIRT_HANDLE_H
#define SNM_VIRT_HANDLE_H

#include <libvirt/libvirt.h>

#include "virt/virt.h"

struct virt {
    virConnectPtr conn;
    bool local; /* libvirt of this host: what is under /run/libvirt belongs to it */
};

struct watch;
struct vdom {
    struct virt *v; /* borrowed */
    virDomainPtr dom;
    const char *name; /* borrowed from dom.  Asking for it in an argument of virt_fail()
                            would reset the very error that is to be told */
    struct watch *watch; /* NULL until vdom_watch() */
};

/* Set @e to "text: what libvirt said", from this thread's last libvirt error: so before
 * any other call of libvirt, releases included.  Returns false. */
PRINTF(2, 3) bool virt_fail(struct err *e, const char *fmt, ...);

/* The VIR_ERR_* code of this thread's last error, VIR_ERR_OK if there is none. */
int virt_code(void);

/* Deregister and let go of the watch (its events may still be on their way). */
void watch_stop(struct vdom *d);

static inline void vir_domain_auto(virDomainPtr *d)
{
    if (*d != NULL)
        virDomainFree(*d);
}

static inline void vir_pool_auto(virStoragePoolPtr *p)
{
    if (*p != NULL)
        virStoragePoolFree(*p);
}

static inline void vir_network_auto(virNetworkPtr *n)
{
    if (*n != NULL)
        virNetworkFree(*n);
}

#endif
