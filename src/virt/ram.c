/* Memory: the migrate call, and what QEMU says about its progress. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "virt/handle.h"

/* ---- the call ---------------------------------------------------------------------- */

struct params {
    virTypedParameterPtr list;
    int n, size;
};

static void params_auto(struct params *p)
{
    virTypedParamsFree(p->list, p->n);
}

static bool add(struct params *p, const char *name, const char *value)
{
    return virTypedParamsAddString(&p->list, &p->n, &p->size, name, value) == 0;
}

/* UNSAFE: libvirt cannot know that we moved the disks.  PAUSED: nobody but us starts the
 * destination, whatever libvirt's last calls come to.  Never UNDEFINE_SOURCE, POSTCOPY, ZEROCOPY. */
static unsigned flags_of(const struct vmigrate *m)
{
    unsigned flags = VIR_MIGRATE_LIVE | VIR_MIGRATE_UNSAFE | VIR_MIGRATE_PAUSED |
                     VIR_MIGRATE_ABORT_ON_ERROR;

    if (m->persist_xml != NULL)
        flags |= VIR_MIGRATE_PERSIST_DEST;
    if (m->auto_converge)
        flags |= VIR_MIGRATE_AUTO_CONVERGE;
    return flags;
}

bool vdom_migrate(struct vdom *d, struct virt *dst, const struct vmigrate *m,
                  struct err *e)
{
    AUTO(params) struct params p = { NULL, 0, 0 };
    AUTO(vir_domain) virDomainPtr moved = NULL;
    char uri[256];

    if (snprintf(uri, sizeof uri, "unix://%s", m->ram_path) >= (int)sizeof uri)
        return err_set(e, ERR_USAGE, 0, "socket path is too long: %s", m->ram_path);
    if (!add(&p, VIR_MIGRATE_PARAM_URI, uri) ||
        !add(&p, VIR_MIGRATE_PARAM_DEST_XML, m->dest_xml) ||
        (m->persist_xml != NULL &&
         !add(&p, VIR_MIGRATE_PARAM_PERSIST_XML, m->persist_xml)))
        return virt_fail(e, "cannot set up the migration");

    moved = virDomainMigrate3(d->dom, dst->conn, p.list, (unsigned)p.n, flags_of(m));
    if (moved == NULL)
        return virt_fail(e, "libvirt cannot migrate %s", d->name);
    return true;
}

/* ---- progress ---------------------------------------------------------------------- */

static enum vram_status status_of(const char *name)
{
    static const struct {
        const char *name;
        enum vram_status status;
    } names[] = {
        { "none", VRAM_NONE },           { "setup", VRAM_SETUP },
        { "active", VRAM_ACTIVE },       { "pre-switchover", VRAM_PRE_SWITCHOVER },
        { "device", VRAM_DEVICE },       { "completed", VRAM_COMPLETED },
        { "failed", VRAM_FAILED },       { "cancelling", VRAM_CANCELLED },
        { "cancelled", VRAM_CANCELLED },
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i].name, name) == 0)
            return names[i].status;
    return VRAM_OTHER;
}

static bool counters(struct json_object *ram, struct vram *out, struct err *e)
{
    uint64_t pages, page_size;

    if (!json_get_u64(ram, "total", &out->total, e) ||
        !json_get_u64(ram, "remaining", &out->remaining, e) ||
        !json_get_u64(ram, "dirty-sync-count", &out->passes, e) ||
        !json_get_u64(ram, "dirty-pages-rate", &pages, e) ||
        !json_get_u64(ram, "page-size", &page_size, e))
        return err_wrap(e, "query-migrate");
    out->dirty_rate = pages * page_size;
    return true;
}

bool vdom_ram(struct vdom *d, struct vram *out, struct err *e)
{
    AUTO(json_put) struct json_object *reply = NULL;
    struct json_object *ram;
    const char *status;

    memset(out, 0, sizeof *out);
    if (!vdom_qmp(d, "query-migrate", NULL, &reply, e))
        return false;
    if (!json_has(reply, "status")) /* no migration yet */
        return true;
    if (!json_get_str(reply, "status", &status, e))
        return err_wrap(e, "query-migrate");
    out->status = status_of(status);
    if (!json_has(reply, "ram"))
        return true;
    return json_get_object(reply, "ram", &ram, e) && counters(ram, out, e);
}

bool vdom_dirty_rate_start(struct vdom *d, uint64_t memory, unsigned seconds,
                           struct err *e)
{
    /* Pages to hash, twice: 128 MiB of a large guest, all that QEMU counts well of a small
     * one.  It wants the number for each GiB, at least 128. */
    enum { PAGES = 32768, MOST = 4096, LEAST = 128 };
    const uint64_t gib = (memory >> 30) + 1, each = PAGES / gib;
    struct json_object *const a = json_add_u64(json_new(), "calc-time", seconds);

    json_add_u64(a, "sample-pages", each > MOST ? MOST : each < LEAST ? LEAST : each);
    return vdom_qmp(d, "calc-dirty-rate", a, NULL, e);
}

bool vdom_dirty_rate(struct vdom *d, double *bytes_per_s, struct err *e)
{
    AUTO(json_put) struct json_object *reply = NULL;
    const char *status;
    uint64_t mib;

    *bytes_per_s = -1;
    if (!vdom_qmp(d, "query-dirty-rate", NULL, &reply, e) ||
        !json_get_str(reply, "status", &status, e))
        return false;
    if (strcmp(status, "measured") != 0)
        return true;
    if (!json_get_u64(reply, "dirty-rate", &mib, e))
        return err_wrap(e, "query-dirty-rate");
    *bytes_per_s = (double)mib * 1024 * 1024;
    return true;
}
