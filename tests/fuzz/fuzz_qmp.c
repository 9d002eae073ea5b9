/* What QEMU, which a guest may have taken over, answers about its disks. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "virt/blkqmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool take(void *ctx, const char *node, const char *name, struct err *e)
{
    size_t *const sum = ctx;

    (void)e;
    *sum += strlen(name) + (node != NULL ? strlen(node) : 0);
    return true;
}

static void disks(struct json_object *o)
{
    static struct blk b;
    uint64_t dirty[DOMXML_DISKS_MAX], virtual_bytes, allocated;
    struct err e;

    memset(&b, 0, sizeof b);
    blkqmp_prefix(b.prefix, "1a2b3c4d");
    if (!blkqmp_find(o, "virtio-disk0", &b.disks[0], &e) ||
        !blkqmp_count(o, &b.nfixed, &e))
        return;
    b.ndisks = 1;
    (void)!blkqmp_verify(&b, o, dirty, &e);
    (void)!blkqmp_usage(&b, o, 0, &virtual_bytes, &allocated, &e);
    for (b.generation = 1; b.generation < 3; b.generation++) {
        json_object_put(blkqmp_rotate(&b));
        json_object_put(blkqmp_drop(&b, true));
        (void)!blkqmp_frozen(&b, o, dirty, &e);
        json_object_put(blkqmp_export(&b, 0, true));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(json_put) struct json_object *o = NULL;
    struct err e;
    size_t sum = 0;
    bool has;

    if (!json_parse((const char *)data, size, &o, &e))
        return 0;
    disks(o);
    (void)!blkqmp_has_name(o, "query-block", &has, &e);
    (void)!blkqmp_exports(o, "snm-", take, &sum, &e);
    (void)!blkqmp_bitmaps(o, "snm-", take, &sum, &e);
    return 0;
}
