/* events - write down when each domain of a libvirt host starts, pauses, resumes, stops
 *
 *   events HOST >> FILE
 *
 * One line each, flushed:  MONOTONIC_NS HOST DOMAIN EVENT DETAIL
 *
 *   STARTED, SUSPENDED, RESUMED, ...  libvirt's lifecycle events, at the time we got them
 *   QMP_STOP, QMP_RESUME, QMP_...     QEMU's own events, at the time QEMU gave them
 *                                     (converted from its wall clock): the exact ones
 *   STATE running|paused|...          what we found after connecting
 *   "-" as domain                     CONNECTED, LOST: our connection to libvirtd
 *
 * When libvirtd goes away we try again every 50 ms, for ever; what happened in between is
 * lost, which LOST, CONNECTED and STATE tell the reader.
 */
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { RETRY_US = 50000, KEEPALIVE_S = 1, KEEPALIVE_COUNT = 2 };

static const char *host;

static long long clock_ns(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void line(long long at_ns, const char *domain, const char *event,
                 const char *detail)
{
    printf("%lld %s %s %s %s\n", at_ns, host, domain, event, detail);
    fflush(stdout);
}

static void line_now(const char *domain, const char *event, const char *detail)
{
    line(clock_ns(CLOCK_MONOTONIC), domain, event, detail);
}

/* ---- names ------------------------------------------------------------------- */

enum { DETAILS = 11 };

/* clang-format off */
static const struct { const char *event, *detail[DETAILS]; } lifecycle[] = {
    [VIR_DOMAIN_EVENT_DEFINED]     = { "DEFINED", { "ADDED", "UPDATED", "RENAMED", "FROM_SNAPSHOT" } },
    [VIR_DOMAIN_EVENT_UNDEFINED]   = { "UNDEFINED", { "REMOVED", "RENAMED" } },
    [VIR_DOMAIN_EVENT_STARTED]     = { "STARTED", { "BOOTED", "MIGRATED", "RESTORED", "FROM_SNAPSHOT",
                                                    "WAKEUP" } },
    [VIR_DOMAIN_EVENT_SUSPENDED]   = { "SUSPENDED", { "PAUSED", "MIGRATED", "IOERROR", "WATCHDOG",
                                                      "RESTORED", "FROM_SNAPSHOT", "API_ERROR",
                                                      "POSTCOPY", "POSTCOPY_FAILED" } },
    [VIR_DOMAIN_EVENT_RESUMED]     = { "RESUMED", { "UNPAUSED", "MIGRATED", "FROM_SNAPSHOT", "POSTCOPY",
                                                    "POSTCOPY_FAILED" } },
    [VIR_DOMAIN_EVENT_STOPPED]     = { "STOPPED", { "SHUTDOWN", "DESTROYED", "CRASHED", "MIGRATED",
                                                    "SAVED", "FAILED", "FROM_SNAPSHOT" } },
    [VIR_DOMAIN_EVENT_SHUTDOWN]    = { "SHUTDOWN", { "FINISHED", "GUEST", "HOST" } },
    [VIR_DOMAIN_EVENT_PMSUSPENDED] = { "PMSUSPENDED", { "MEMORY", "DISK" } },
    [VIR_DOMAIN_EVENT_CRASHED]     = { "CRASHED", { "PANICKED", "CRASHLOADED" } },
};

static const char *const states[] = {
    [VIR_DOMAIN_NOSTATE]  = "nostate",  [VIR_DOMAIN_RUNNING]     = "running",
    [VIR_DOMAIN_BLOCKED]  = "blocked",  [VIR_DOMAIN_PAUSED]      = "paused",
    [VIR_DOMAIN_SHUTDOWN] = "shutdown", [VIR_DOMAIN_SHUTOFF]     = "shutoff",
    [VIR_DOMAIN_CRASHED]  = "crashed",  [VIR_DOMAIN_PMSUSPENDED] = "pmsuspended",
};
/* clang-format on */

static const char *event_name(int event)
{
    const int n = sizeof lifecycle / sizeof lifecycle[0];

    return event >= 0 && event < n ? lifecycle[event].event : "UNKNOWN";
}

static const char *detail_name(int event, int detail)
{
    const int n = sizeof lifecycle / sizeof lifecycle[0];
    const char *name = NULL;

    if (event >= 0 && event < n && detail >= 0 && detail < DETAILS)
        name = lifecycle[event].detail[detail];
    return name != NULL ? name : "UNKNOWN";
}

/* ---- callbacks ------------------------------------------------------------------ */

static int on_lifecycle(virConnectPtr conn, virDomainPtr dom, int event, int detail,
                        void *opaque)
{
    (void)conn;
    (void)opaque;
    line_now(virDomainGetName(dom), event_name(event), detail_name(event, detail));
    return 0;
}

static void on_qmp(virConnectPtr conn, virDomainPtr dom, const char *event,
                   long long seconds, unsigned int micros, const char *details,
                   void *opaque)
{
    const long long wall_to_mono = clock_ns(CLOCK_MONOTONIC) - clock_ns(CLOCK_REALTIME);
    char name[80];

    (void)conn;
    (void)opaque;
    snprintf(name, sizeof name, "QMP_%s", event);
    line(seconds * 1000000000LL + micros * 1000LL + wall_to_mono, virDomainGetName(dom),
         name, details != NULL ? details : "-");
}

static void on_close(virConnectPtr conn, int reason, void *opaque)
{
    (void)conn;
    (void)reason;
    *(bool *)opaque = true;
}

static void quiet(void *opaque, virErrorPtr error)
{
    (void)opaque;
    (void)error;
}

/* ---- one connection ------------------------------------------------------------- */

static void write_states(virConnectPtr conn)
{
    virDomainPtr *all = NULL;
    const int n = virConnectListAllDomains(conn, &all, 0);

    for (int i = 0; i < n; i++) {
        int state = 0;

        if (virDomainGetState(all[i], &state, NULL, 0) == 0)
            line_now(virDomainGetName(all[i]), "STATE", states[state]);
        virDomainFree(all[i]);
    }
    free(all);
}

static bool subscribe(virConnectPtr conn, bool *closed)
{
    return virConnectRegisterCloseCallback(conn, on_close, closed, NULL) == 0 &&
           virConnectSetKeepAlive(conn, KEEPALIVE_S, KEEPALIVE_COUNT) >= 0 &&
           virConnectDomainEventRegisterAny(conn, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                            VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle),
                                            NULL, NULL) >= 0 &&
           virConnectDomainQemuMonitorEventRegister(conn, NULL, NULL, on_qmp, NULL,
                                                    NULL, 0) >= 0;
}

static void watch(virConnectPtr conn)
{
    bool closed = false;

    if (!subscribe(conn, &closed))
        return;
    line_now("-", "CONNECTED", "-");
    write_states(conn);
    while (!closed && virEventRunDefaultImpl() == 0)
        ;
    line_now("-", "LOST", "-");
    virConnectUnregisterCloseCallback(conn, on_close);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: events HOST\n");
        return 2;
    }
    host = argv[1];
    virSetErrorFunc(NULL, quiet);
    if (virEventRegisterDefaultImpl() < 0)
        return 1;
    for (;; usleep(RETRY_US)) {
        virConnectPtr conn = virConnectOpen("qemu:///system");

        if (conn == NULL)
            continue;
        watch(conn);
        virConnectClose(conn);
    }
}
