#include "virt/blkstats.h"

#include <string.h>

#include "base/mem.h"

static bool is_disk(struct json_object *entry, const char *qdev)
{
    struct json_object *v;

    return json_object_object_get_ex(entry, "qdev", &v) &&
           json_object_is_type(v, json_type_string) &&
           strcmp(json_object_get_string(v), qdev) == 0;
}

static bool parse_one(struct json_object *answer, const struct blkdisk *d,
                      struct blkstats *out, struct err *e)
{
    struct json_object *stats;

    for (size_t i = 0; i < json_object_array_length(answer); i++) {
        struct json_object *const entry = json_object_array_get_idx(answer, i);

        if (json_object_is_type(entry, json_type_object) && is_disk(entry, d->qdev))
            return json_get_object(entry, "stats", &stats, e) &&
                   json_get_u64(stats, "wr_operations", &out->writes, e) &&
                   json_get_u64(stats, "wr_total_time_ns", &out->write_ns, e);
    }
    return err_set(e, ERR_PROTO, 0, "QEMU has no statistics of disk %s", d->target);
}

bool blkstats_parse(const struct blk *b, struct json_object *answer,
                    struct blkstats out[DOMXML_DISKS_MAX], struct err *e)
{
    if (!json_object_is_type(answer, json_type_array))
        return err_set(e, ERR_PROTO, 0, "query-blockstats: not a list");
    for (size_t i = 0; i < b->ndisks; i++)
        if (!parse_one(answer, &b->disks[i], &out[i], e))
            return false;
    return true;
}

bool blk_stats(struct blk *b, struct blkstats out[DOMXML_DISKS_MAX], struct err *e)
{
    AUTO(json_put) struct json_object *answer = NULL;

    return vdom_qmp(b->dom, "query-blockstats", NULL, &answer, e) &&
           blkstats_parse(b, answer, out, e);
}
