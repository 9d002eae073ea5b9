/* Events of a domain as a descriptor that poll(2) can wait for.
 *
 * Callbacks run on virt-ev, at any time up to the moment libvirt calls the free function,
 * which may be after virConnectDomainEventDeregisterAny() has returned.  So the watch is
 * counted: one reference for the vdom and one for each callback.
 */
#include <errno.h>
#include <libvirt/virterror.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "virt/handle.h"

enum { EVENTS = 3 };

struct watch {
    atomic_uint refs;
    atomic_int_fast64_t stopped_ns; /* by a migration; 0: never */
    int fd;         /* eventfd; written by virt-ev, read by whoever polls */
    int cb[EVENTS]; /* the vdom's thread; -1: not registered */
};

static void watch_unref(void *opaque)
{
    struct watch *w = opaque;

    if (atomic_fetch_sub(&w->refs, 1) > 1)
        return;
    close(w->fd);
    free(w);
}

static void wake(struct watch *w)
{
    const uint64_t one = 1;

    /* Fails only when the counter is full, and then it is readable anyway. */
    if (write(w->fd, &one, sizeof one) < 0)
        return;
}

static int on_lifecycle(virConnectPtr c, virDomainPtr d, int event, int detail, void *w)
{
    (void)c, (void)d;
    if (event == VIR_DOMAIN_EVENT_SUSPENDED &&
        detail == VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED)
        atomic_store(&((struct watch *)w)->stopped_ns, clock_ns());
    wake(w);
    return 0;
}

static void on_job_completed(virConnectPtr c, virDomainPtr d,
                             virTypedParameterPtr params, int n, void *w)
{
    (void)c, (void)d, (void)params, (void)n;
    wake(w);
}

static void on_iteration(virConnectPtr c, virDomainPtr d, int iteration, void *w)
{
    (void)c, (void)d, (void)iteration;
    wake(w);
}

static const struct {
    int id;
    virConnectDomainEventGenericCallback call;
} events[EVENTS] = {
    { VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle) },
    { VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VIR_DOMAIN_EVENT_CALLBACK(on_job_completed) },
    { VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION,
      VIR_DOMAIN_EVENT_CALLBACK(on_iteration) },
};

static bool watch_new(struct watch **out, struct err *e)
{
    AUTO(mem_free) struct watch *w = calloc(1, sizeof *w);

    if (w == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "watch");
    w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->fd < 0)
        return err_set(e, ERR_SYS, errno, "eventfd");
    atomic_init(&w->refs, 1);
    atomic_init(&w->stopped_ns, 0);
    for (size_t i = 0; i < EVENTS; i++)
        w->cb[i] = -1;
    *out = ptr_steal(&w);
    return true;
}

static bool watch_events(struct vdom *d, struct err *e)
{
    struct watch *const w = d->watch;

    for (size_t i = 0; i < EVENTS; i++) {
        atomic_fetch_add(&w->refs, 1);
        w->cb[i] = virConnectDomainEventRegisterAny(d->v->conn, d->dom, events[i].id,
                                                    events[i].call, w, watch_unref);
        if (w->cb[i] >= 0)
            continue;
        atomic_fetch_sub(&w->refs,
                         1); /* a failed registration does not free its argument */
        return virt_fail(e, "cannot watch %s", d->name);
    }
    return true;
}

bool vdom_watch(struct vdom *d, int *fd, struct err *e)
{
    if (d->watch == NULL) {
        if (!watch_new(&d->watch, e))
            return false;
        if (!watch_events(d, e)) {
            watch_stop(d);
            return false;
        }
    }
    *fd = d->watch->fd;
    return true;
}

int64_t vdom_stopped_ns(const struct vdom *d)
{
    return d->watch != NULL ? atomic_load(&d->watch->stopped_ns) : 0;
}

void watch_stop(struct vdom *d)
{
    if (d->watch == NULL)
        return;
    for (size_t i = 0; i < EVENTS; i++)
        if (d->watch->cb[i] >= 0)
            virConnectDomainEventDeregisterAny(d->v->conn, d->watch->cb[i]);
    watch_unref(d->watch);
    d->watch = NULL;
}
