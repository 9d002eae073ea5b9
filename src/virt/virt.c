#include "virt/virt.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "virt/handle.h"
#include "virt/xml.h"

enum {
    KEEPALIVE_INTERVAL_S = 5,
    KEEPALIVE_TRIES = 5, /* so a libvirt that hangs is given up after 30 s */
    EVENT_RETRY_MS = 100,
};

/* ---- errors ------------------------------------------------------------------------ */

/* libvirt would print every error on stderr; ours travel in struct err. */
static void silence(void *ctx, virErrorPtr err)
{
    (void)ctx, (void)err;
}

static enum err_kind kind_of(int code)
{
    switch (code) {
    case VIR_ERR_OPERATION_TIMEOUT: /* "cannot acquire state change lock" */
    case VIR_ERR_AGENT_UNRESPONSIVE:
        return ERR_TIMEOUT;
    case VIR_ERR_NO_CONNECT:
    case VIR_ERR_AUTH_FAILED:
    case VIR_ERR_AUTH_CANCELLED:
    case VIR_ERR_AUTH_UNAVAILABLE:
        return ERR_CONNECT;
    default:
        return ERR_VIRT;
    }
}

bool virt_fail(struct err *e, const char *fmt, ...)
{
    const virError *const last = virGetLastError();
    const enum err_kind kind = kind_of(last != NULL ? last->code : VIR_ERR_OK);
    char cause[sizeof e->msg], text[256];
    va_list ap;

    log_clean(cause, sizeof cause,
              last != NULL && last->message != NULL ? last->message
                                                    : "libvirt gave no reason");
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(e, kind, 0, "%s: %s", text, cause);
}

int virt_code(void)
{
    const virError *const last = virGetLastError();

    return last != NULL ? last->code : VIR_ERR_OK;
}

/* ---- the event thread -------------------------------------------------------------- */

static void *event_loop(void *arg)
{
    (void)arg;
    for (;;)
        if (virEventRunDefaultImpl() < 0)
            clock_sleep_ms(EVENT_RETRY_MS);
    return NULL;
}

bool virt_init(struct err *e)
{
    static bool done; /* called once, before other threads: no lock */

    if (done)
        return true;
    if (virInitialize() < 0)
        return virt_fail(e, "cannot initialise libvirt");
    virSetErrorFunc(NULL, silence);
    if (virEventRegisterDefaultImpl() < 0)
        return virt_fail(e, "cannot set up libvirt's event loop");
    done = thread_start_detached(event_loop, NULL, "virt-ev", e);
    return done;
}

/* ---- connections ------------------------------------------------------------------- */

/* Whether that URI names the system libvirt of this very host and mount namespace. */
static bool uri_is_local(const char *uri)
{
    static const char *const local[] = { "qemu:///system", "qemu+unix:///system" };

    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
        if (strncmp(uri, local[i], strlen(local[i])) == 0)
            return strstr(uri, "socket=") == NULL;
    return false;
}

bool virt_open(const char *uri, struct virt **out, struct err *e)
{
    const char *const to = uri != NULL ? uri : "qemu:///system";
    AUTO(mem_free) struct virt *v = calloc(1, sizeof *v);

    if (v == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "libvirt connection");
    v->conn = virConnectOpen(to);
    if (v->conn == NULL) {
        virt_fail(e, "cannot connect to libvirt at %s", to);
        e->kind = ERR_CONNECT;
        return err_next(
            e, "See that libvirtd (or virtqemud) runs there: virsh -c %s list", to);
    }
    v->local = uri_is_local(to);
    /* Not every transport can; then a peer that hangs is only seen by the tunnel. */
    if (virConnectSetKeepAlive(v->conn, KEEPALIVE_INTERVAL_S, KEEPALIVE_TRIES) != 0)
        log_debug("virt", "no keepalive on %s", to);
    *out = ptr_steal(&v);
    return true;
}

/* Percent-encode what a URI query would take for its own (RFC 3986, unreserved and '/'). */
static bool uri_escape(const char *s, char *dst, size_t size)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789-._~/";
    size_t at = 0;

    for (; *s != '\0'; s++) {
        if (at + sizeof "%00" > size)
            return false;
        if (strchr(plain, *s) != NULL)
            dst[at++] = *s;
        else
            at += (size_t)snprintf(dst + at, size - at, "%%%02X", (unsigned char)*s);
    }
    dst[at] = '\0';
    return true;
}

bool virt_open_socket(const char *path, struct virt **out, struct err *e)
{
    char escaped[512], uri[600];

    if (!uri_escape(path, escaped, sizeof escaped))
        return err_set(e, ERR_USAGE, 0, "libvirt socket path is too long: %s", path);
    snprintf(uri, sizeof uri, "qemu+unix:///system?socket=%s", escaped);
    return virt_open(uri, out, e);
}

void virt_close(struct virt *v)
{
    if (v == NULL)
        return;
    virConnectClose(v->conn);
    free(v);
}

void virt_close_auto(struct virt **v)
{
    virt_close(*v);
}

bool virt_alive(struct virt *v)
{
    return virConnectIsAlive(v->conn) == 1;
}

/* ---- the host ---------------------------------------------------------------------- */

static bool host_uuid(struct virt *v, char *uuid, size_t size, struct err *e)
{
    AUTO(mem_free) char *caps = virConnectGetCapabilities(v->conn);
    AUTO(xml_doc) xmlDocPtr doc = NULL;
    xmlNodePtr host;

    if (caps == NULL)
        return virt_fail(e, "cannot ask for the host's capabilities");
    if (!xml_load(caps, "capabilities", &doc, e))
        return err_wrap(e, "host capabilities");
    host = xml_child(xmlDocGetRootElement(doc), "host");
    return xml_text(xml_child(host, "uuid"), uuid, size, e);
}

static bool is_available(const char *field)
{
    return strcmp(field, VIR_NODE_MEMORY_STATS_FREE) == 0 ||
           strcmp(field, VIR_NODE_MEMORY_STATS_BUFFERS) == 0 ||
           strcmp(field, VIR_NODE_MEMORY_STATS_CACHED) == 0;
}

/* What the kernel can give without swapping: free, buffers and page cache. */
static bool memory_available(struct virt *v, uint64_t *bytes, struct err *e)
{
    const int all = VIR_NODE_MEMORY_STATS_ALL_CELLS;
    virNodeMemoryStats stats[16];
    unsigned long long kib = 0;
    int n = 0;

    /* Asked without room for them first: the number must be exact. */
    if (virNodeGetMemoryStats(v->conn, all, NULL, &n, 0) < 0 ||
        n > (int)(sizeof stats / sizeof stats[0]) ||
        virNodeGetMemoryStats(v->conn, all, stats, &n, 0) < 0)
        return virt_fail(e, "cannot ask for the host's memory");
    for (int i = 0; i < n; i++)
        if (is_available(stats[i].field))
            kib += stats[i].value;
    *bytes = (uint64_t)kib * 1024;
    return true;
}

bool virt_host(struct virt *v, struct virt_host *out, struct err *e)
{
    AUTO(mem_free) char *name = virConnectGetHostname(v->conn);

    memset(out, 0, sizeof *out);
    if (name == NULL)
        return virt_fail(e, "cannot ask for the host's name");
    log_clean(out->hostname, sizeof out->hostname, name);
    return host_uuid(v, out->uuid, sizeof out->uuid, e) &&
           memory_available(v, &out->memory_free, e);
}
