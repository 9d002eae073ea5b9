#include "virt/throttle.h"

#include <string.h>

#include "base/mem.h"

/* block_set_io_throttle wants the first six; the others are there only where they are set. */
static const char *const keys[] = {
    "bps",
    "bps_rd",
    "bps_wr",
    "iops",
    "iops_rd",
    "iops_wr",
    "bps_max",
    "bps_rd_max",
    "bps_wr_max",
    "iops_max",
    "iops_rd_max",
    "iops_wr_max",
    "bps_max_length",
    "bps_rd_max_length",
    "bps_wr_max_length",
    "iops_max_length",
    "iops_rd_max_length",
    "iops_wr_max_length",
    "iops_size",
};
enum { KEYS = sizeof keys / sizeof keys[0], NEEDED = 6 };

static const char *const cpu_keys[] = { "cpu-throttle-initial",
                                        "cpu-throttle-increment", "max-cpu-throttle",
                                        "throttle-trigger-threshold" };

static bool copy_u64(struct json_object *from, const char *key, struct json_object *to,
                     struct err *e)
{
    uint64_t v;

    if (!json_get_u64(from, key, &v, e))
        return false;
    json_add_u64(to, key, v);
    return true;
}

static bool limits_of(struct json_object *inserted, const char *qdev,
                      struct json_object **out, struct err *e)
{
    AUTO(json_put) struct json_object *args = json_add_str(json_new(), "id", qdev);
    const char *group;

    for (size_t i = 0; i < KEYS; i++)
        if ((i < NEEDED || json_has(inserted, keys[i])) &&
            !copy_u64(inserted, keys[i], args, e))
            return err_wrap(e, "query-block");
    if (json_has(inserted, "group")) {
        if (!json_get_str(inserted, "group", &group, e))
            return err_wrap(e, "query-block");
        json_add_str(args, "group", group);
    }
    *out = ptr_steal(&args);
    return true;
}

bool throttle_of(struct json_object *blocks, const char *qdev, struct json_object **out,
                 struct err *e)
{
    if (!json_object_is_type(blocks, json_type_array))
        return err_set(e, ERR_PROTO, 0, "query-block did not give a list");
    for (size_t i = 0; i < json_object_array_length(blocks); i++) {
        struct json_object *const o = json_object_array_get_idx(blocks, i);
        struct json_object *inserted;
        const char *name;

        if (!json_has(o, "qdev") || !json_get_str(o, "qdev", &name, e) ||
            strcmp(name, qdev) != 0)
            continue;
        return json_get_object(o, "inserted", &inserted, e) &&
               limits_of(inserted, qdev, out, e);
    }
    return err_set(e, ERR_REFUSED, 0, "QEMU has no disk %s", qdev);
}

static uint64_t number(struct json_object *o, const char *key)
{
    struct err e;
    uint64_t v;

    return json_has(o, key) && json_get_u64(o, key, &v, &e) ? v : 0;
}

struct json_object *throttle_slower(struct json_object *before, uint64_t bps,
                                    const char *group)
{
    /* QEMU refuses a limit of writes beside one of all, and a burst below its limit. */
    const bool total = number(before, "bps") > 0;
    const char *const key = total ? "bps" : "bps_wr";
    const char *const burst = total ? "bps_max" : "bps_wr_max";
    const char *const length = total ? "bps_max_length" : "bps_wr_max_length";
    const uint64_t old = number(before, key);
    struct json_object *const o = json_new();

    json_object_object_foreach(before, name, v) if (strcmp(name, burst) != 0 &&
                                                    strcmp(name, length) != 0)
        json_object_object_add(o, name, json_object_get(v));
    json_object_object_del(o, key);
    json_add_u64(o, key, old > 0 && old < bps ? old : bps);
    if (!json_has(o, "group"))
        json_add_str(o, "group", group);
    return o;
}

bool throttle_read(struct vdom *dom, const char *qdev, struct json_object **out,
                   struct err *e)
{
    AUTO(json_put) struct json_object *blocks = NULL;

    return vdom_qmp(dom, "query-block", NULL, &blocks, e) &&
           throttle_of(blocks, qdev, out, e);
}

bool throttle_writes(struct vdom *dom, struct json_object *before, uint64_t bps,
                     const char *group, struct err *e)
{
    return vdom_qmp(dom, THROTTLE_DISK, throttle_slower(before, bps, group), NULL, e);
}

bool throttle_cpus_read(struct vdom *dom, struct json_object **out, struct err *e)
{
    AUTO(json_put) struct json_object *all = NULL;
    AUTO(json_put) struct json_object *o = json_new();

    if (!vdom_qmp(dom, "query-migrate-parameters", NULL, &all, e))
        return false;
    for (size_t i = 0; i < sizeof cpu_keys / sizeof cpu_keys[0]; i++)
        if (!copy_u64(all, cpu_keys[i], o, e))
            return err_wrap(e, "query-migrate-parameters");
    *out = ptr_steal(&o);
    return true;
}

/* With the lowest threshold QEMU obeys whenever anything was dirtied, and all at once: the
 * steps are ours. */
bool throttle_cpus(struct vdom *dom, unsigned percent, struct err *e)
{
    struct json_object *const o = json_new();

    json_add_u64(o, "cpu-throttle-initial", percent);
    json_add_u64(o, "cpu-throttle-increment", percent);
    json_add_u64(o, "max-cpu-throttle", percent);
    json_add_u64(o, "throttle-trigger-threshold", 1);
    return vdom_qmp(dom, THROTTLE_MIGRATION, o, NULL, e);
}

bool throttle_restore(struct vdom *dom, const char *command, struct json_object *before,
                      struct err *e)
{
    return vdom_qmp(dom, command, json_object_get(before), NULL, e);
}

static bool lift(struct vdom *dom, const char *qdev, struct err *e)
{
    struct json_object *const o = json_add_str(json_new(), "id", qdev);

    for (size_t i = 0; i < NEEDED; i++)
        json_add_u64(o, keys[i], 0);
    return vdom_qmp(dom, THROTTLE_DISK, o, NULL, e);
}

bool throttle_sweep(struct vdom *dom, const char *prefix, struct err *e)
{
    AUTO(json_put) struct json_object *blocks = NULL;
    struct err why;
    bool ok = true;

    if (!vdom_qmp(dom, "query-block", NULL, &blocks, e))
        return false;
    if (!json_object_is_type(blocks, json_type_array))
        return err_set(e, ERR_PROTO, 0, "query-block did not give a list");
    for (size_t i = 0; i < json_object_array_length(blocks); i++) {
        struct json_object *const o = json_object_array_get_idx(blocks, i);
        struct json_object *inserted;
        const char *qdev, *group;

        if (!json_has(o, "inserted") || !json_has(o, "qdev") ||
            !json_get_object(o, "inserted", &inserted, &why) ||
            !json_has(inserted, "group") ||
            !json_get_str(inserted, "group", &group, &why) ||
            strncmp(group, prefix, strlen(prefix)) != 0 ||
            !json_get_str(o, "qdev", &qdev, &why) || lift(dom, qdev, &why) || !ok)
            continue;
        ok = false;
        *e = why;
    }
    return ok;
}
