/* A domain's XML, and libvirt's status file, which is of the same kind: whatever is taken
 * can be written back with other disks, and that is taken, too. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tests/fuzz/text.h"
#include "virt/domxml.h"
#include "virt/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_at(const struct dominfo *d, const struct domdisk_to *to)
{
    for (size_t i = 0; i < d->ndisks; i++)
        if (strcmp(d->disks[i].target, to->target) == 0)
            return strcmp(d->disks[i].path, to->path) == 0 &&
                   strcmp(d->disks[i].format, to->format) == 0;
    return false;
}

static void move_disks(const char *xml, const struct dominfo *info)
{
    struct domdisk_to to[DOMXML_DISKS_MAX];
    AUTO(findings_fini) struct findings f = { 0 };
    AUTO(dominfo_fini) struct dominfo moved = { 0 };
    AUTO(mem_free) char *out = NULL;
    struct err e;

    for (size_t i = 0; i < info->ndisks; i++)
        to[i] = (struct domdisk_to){ info->disks[i].target, "/new/disk", "qcow2",
                                     i % 2 != 0 };
    if (!domxml_rewrite(xml, to, info->ndisks, &out, &e))
        return;
    if (!domxml_parse(out, &moved, &f, &e) || moved.ndisks != info->ndisks) {
        fprintf(stderr, "not taken back: %s\n%s\n", e.msg, out);
        abort();
    }
    for (size_t i = 0; i < info->ndisks; i++)
        if (!is_at(&moved, &to[i]))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(mem_free) char *xml = text_of(data, size);
    AUTO(findings_fini) struct findings f = { 0 };
    AUTO(dominfo_fini) struct dominfo info = { 0 };
    static struct status st;
    struct err e;

    if (domxml_parse(xml, &info, &f, &e))
        move_disks(xml, &info);
    (void)!status_parse(xml, &st, &e);
    return 0;
}
