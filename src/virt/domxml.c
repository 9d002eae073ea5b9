#include "virt/domxml.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "virt/domrefuse.h"
#include "virt/xml.h"

static_assert((int)DOMXML_MAX == (int)XML_MAX, "domxml.h promises what xml.h keeps");

/* More than that, and it is not something that libvirt wrote. */
enum { DISK_ELEMENTS_MAX = 256, NETS_MAX = 256, FILES_MAX = 512 };

/* Put one more, zeroed element at the end of an array. */
static void *append(void **list, size_t *n, size_t size, size_t max, struct err *e)
{
    char *grown;

    if (*n >= max) {
        err_set(e, ERR_PROTO, 0, "more than %zu elements of a kind in the domain XML",
                max);
        return NULL;
    }
    grown = realloc(*list, (*n + 1) * size);
    if (grown == NULL) {
        err_set(e, ERR_SYS, ENOMEM, "domain XML");
        return NULL;
    }
    *list = grown;
    return memset(grown + size * (*n)++, 0, size);
}

/* ---- numbers ----------------------------------------------------------------------- */

static bool number(const char *text, uint64_t *out, struct err *e)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 10);
    return (isdigit((unsigned char)text[0]) && *end == '\0' && errno == 0) ||
           err_set(e, ERR_PROTO, 0, "\"%s\" is not a number", text);
}

/* libvirt's units of memory: docs, formatdomain, "memory". */
static bool unit_bytes(const char *unit, uint64_t *out, struct err *e)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {
        { "", 1024 },
        { "b", 1 },
        { "bytes", 1 },
        { "KB", 1000 },
        { "k", 1024 },
        { "KiB", 1024 },
        { "MB", 1000000 },
        { "M", 1 << 20 },
        { "MiB", 1 << 20 },
        { "GB", 1000000000 },
        { "G", 1 << 30 },
        { "GiB", 1 << 30 },
        { "TB", 1000000000000 },
        { "T", 1ull << 40 },
        { "TiB", 1ull << 40 },
    };

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(units[i].name, unit) == 0) {
            *out = units[i].bytes;
            return true;
        }
    return err_set(e, ERR_PROTO, 0, "\"%s\" is not a unit of memory", unit);
}

static bool read_memory(xmlNodePtr domain, uint64_t *out, struct err *e)
{
    const xmlNodePtr node = xml_child(domain, "memory");
    char text[32], unit[16];
    uint64_t n, bytes;

    if (!xml_text(node, text, sizeof text, e) ||
        !xml_attr(node, "unit", unit, sizeof unit, e) || !number(text, &n, e) ||
        !unit_bytes(unit, &bytes, e))
        return err_wrap(e, "<memory>");
    if (__builtin_mul_overflow(n, bytes, out))
        return err_set(e, ERR_PROTO, 0, "<memory>: %s %s is too much", text, unit);
    return true;
}

static bool read_vcpus(xmlNodePtr domain, unsigned *out, struct err *e)
{
    char text[16];
    uint64_t n;

    if (!xml_text(xml_child(domain, "vcpu"), text, sizeof text, e) ||
        !number(text, &n, e) || n > 65536)
        return err_set(e, ERR_PROTO, 0, "<vcpu> is not a number of CPUs");
    *out = (unsigned)n;
    return true;
}

/* ---- the machine ------------------------------------------------------------------- */

static bool read_machine(xmlNodePtr domain, struct dominfo *out, struct err *e)
{
    const xmlNodePtr type = xml_child(xml_child(domain, "os"), "type");
    const xmlNodePtr emulator = xml_child(xml_child(domain, "devices"), "emulator");

    return xml_attr(domain, "type", out->type, sizeof out->type, e) &&
           xml_text(xml_child(domain, "name"), out->name, sizeof out->name, e) &&
           xml_text(xml_child(domain, "uuid"), out->uuid, sizeof out->uuid, e) &&
           xml_attr(type, "arch", out->arch, sizeof out->arch, e) &&
           xml_attr(type, "machine", out->machine, sizeof out->machine, e) &&
           xml_text(emulator, out->emulator, sizeof out->emulator, e) &&
           read_memory(domain, &out->memory, e) && read_vcpus(domain, &out->vcpus, e);
}

static bool check_machine(const struct dominfo *d, struct err *e)
{
    static const char needed[] = "name, uuid, architecture and machine type";

    if (d->name[0] == '\0' || d->uuid[0] == '\0' || d->arch[0] == '\0' ||
        d->machine[0] == '\0')
        return err_set(e, ERR_PROTO, 0, "domain XML without %s", needed);
    return true;
}

static bool read_cpu(xmlNodePtr domain, struct dominfo *out, struct err *e)
{
    const xmlNodePtr cpu = xml_child(domain, "cpu");

    if (cpu == NULL)
        return true;
    out->cpu = xml_dump(cpu);
    return out->cpu != NULL || err_set(e, ERR_SYS, ENOMEM, "<cpu>");
}

/* ---- files ------------------------------------------------------------------------- */

static struct domfile *add_file(struct dominfo *out, const char *what,
                                const char *which, struct err *e)
{
    struct domfile *const file =
        append((void **)&out->files, &out->nfiles, sizeof *out->files, FILES_MAX, e);

    if (file == NULL)
        return NULL;
    if (which[0] == '\0')
        snprintf(file->what, sizeof file->what, "%.39s", what);
    else
        snprintf(file->what, sizeof file->what, "%.7s %.31s", what, which);
    return file;
}

static bool check_path(const char *path, const char *what, struct err *e)
{
    return path[0] == '/' || err_set(e, ERR_PROTO, 0,
                                     "%s has the path \"%.200s\", which is "
                                     "not absolute",
                                     what, path);
}

/* The text of @node is a path. */
static bool read_file(xmlNodePtr node, const char *what, struct dominfo *out,
                      struct err *e)
{
    struct domfile *file;

    if (node == NULL)
        return true;
    file = add_file(out, what, "", e);
    return file != NULL && xml_text(node, file->path, sizeof file->path, e) &&
           check_path(file->path, what, e);
}

/* <nvram template=...>path</nvram>, or since libvirt 8.5 <nvram><source file=.../></nvram>.
 * libvirt fills the path in when the domain starts. */
static bool read_nvram(xmlNodePtr node, struct dominfo *out, struct err *e)
{
    const xmlNodePtr source = xml_child(node, "source");
    struct domfile *file;

    if (node == NULL)
        return true;
    file = add_file(out, "NVRAM", "", e);
    if (file == NULL ||
        !xml_attr(node, "template", file->template_path, sizeof file->template_path, e))
        return false;
    if (source == NULL ? !xml_text(node, file->path, sizeof file->path, e)
                       : !xml_attr(source, "file", file->path, sizeof file->path, e))
        return false;
    if (file->path[0] == '\0')
        out->nfiles--; /* not chosen yet, or not a file */
    return true;
}

static bool read_fwcfg(xmlNodePtr domain, struct dominfo *out, struct err *e)
{
    struct domfile *file;
    xmlNodePtr info = xml_child(domain, "sysinfo");

    while (info != NULL && !xml_attr_is(info, "type", "fwcfg"))
        info = xml_next(info);
    for (xmlNodePtr at = xml_child(info, "entry"); at != NULL; at = xml_next(at)) {
        if (!xmlHasProp(at, (const xmlChar *)"file"))
            continue;
        file = add_file(out, "fwcfg", "", e);
        if (file == NULL || !xml_attr(at, "file", file->path, sizeof file->path, e))
            return false;
    }
    return true;
}

static bool read_files(xmlNodePtr domain, struct dominfo *out, struct err *e)
{
    static const char *const names[] = { "loader", "kernel", "initrd", "dtb" };
    const xmlNodePtr os = xml_child(domain, "os");

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!read_file(xml_child(os, names[i]), names[i], out, e))
            return false;
    return read_nvram(xml_child(os, "nvram"), out, e) &&
           read_file(xml_child(xml_child(os, "acpi"), "table"), "ACPI table", out, e) &&
           read_fwcfg(domain, out, e);
}

/* ---- disks ------------------------------------------------------------------------- */

/* "file" or "dev", by the type; "" for a source that is no path. */
static bool source_path(xmlNodePtr disk, char *dst, size_t size, struct err *e)
{
    const xmlNodePtr source = xml_child(disk, "source");

    if (xml_attr_is(disk, "type", "block"))
        return xml_attr(source, "dev", dst, size, e);
    return xml_attr(source, "file", dst, size, e);
}

static bool read_medium(xmlNodePtr disk, const char *device, const char *target,
                        struct dominfo *out, struct findings *f, struct err *e)
{
    const xmlNodePtr source = xml_child(disk, "source");
    struct domfile *const file = add_file(out, device, target, e);

    if (xml_attr_is(disk, "type", "volume"))
        findings_add(f, FINDING_BLOCKER, "disk-type",
                     "Eject it: virsh change-media DOMAIN DISK --eject.",
                     "%s %s is a volume of a storage pool", device, target);
    if (file == NULL || !source_path(disk, file->path, sizeof file->path, e))
        return false;
    file->optional = xml_attr_is(source, "startupPolicy", "optional") ||
                     xml_attr_is(source, "startupPolicy", "requisite");
    if (file->path[0] == '\0')
        out->nfiles--; /* an empty drive, or a medium on the network */
    return true;
}

static bool fill_disk(xmlNodePtr disk, struct domdisk *to, struct err *e)
{
    to->block = xml_attr_is(disk, "type", "block");
    return xml_attr(xml_child(disk, "alias"), "name", to->alias, sizeof to->alias, e) &&
           xml_attr(xml_child(disk, "driver"), "type", to->format, sizeof to->format,
                    e) &&
           source_path(disk, to->path, sizeof to->path, e);
}

static bool read_image(xmlNodePtr disk, const char *target, struct dominfo *out,
                       struct findings *f, struct err *e)
{
    struct domdisk *to;

    domrefuse_disk(disk, target, f);
    if (!xml_attr_is(disk, "type", "file") && !xml_attr_is(disk, "type", "block"))
        return true; /* refused just now */
    if (out->ndisks == DOMXML_DISKS_MAX) {
        findings_add(f, FINDING_BLOCKER, "disks-many", "Detach some of them.",
                     "more than %d disks: %s is one too many", DOMXML_DISKS_MAX,
                     target);
        return true;
    }
    to = append((void **)&out->disks, &out->ndisks, sizeof *out->disks,
                DOMXML_DISKS_MAX, e);
    if (to == NULL || !fill_disk(disk, to, e))
        return false;
    snprintf(to->target, sizeof to->target, "%s", target);
    if (to->path[0] == '\0') {
        out->ndisks--;
        findings_add(f, FINDING_BLOCKER, "disk-type", NULL, "disk %s has no source",
                     target);
        return true;
    }
    return check_path(to->path, target, e);
}

static bool read_disk(xmlNodePtr disk, const char *target, struct dominfo *out,
                      struct findings *f, struct err *e)
{
    char device[16];

    if (!xml_attr(disk, "device", device, sizeof device, e))
        return false;
    if (strcmp(device, "cdrom") == 0 || strcmp(device, "floppy") == 0)
        return read_medium(disk, device, target, out, f, e);
    return read_image(disk, target, out, f, e);
}

static bool seen_before(xmlNodePtr disk, const char *target)
{
    for (xmlNodePtr at = disk->prev; at != NULL; at = at->prev)
        if (xml_is(at, "disk") && xml_attr_is(xml_child(at, "target"), "dev", target))
            return true;
    return false;
}

static bool read_disks(xmlNodePtr devices, struct dominfo *out, struct findings *f,
                       struct err *e)
{
    char target[sizeof out->disks->target];
    unsigned n = 0;

    for (xmlNodePtr at = xml_child(devices, "disk"); at != NULL; at = xml_next(at)) {
        if (++n > DISK_ELEMENTS_MAX)
            return err_set(e, ERR_PROTO, 0, "more than %d <disk> elements",
                           DISK_ELEMENTS_MAX);
        if (!xml_attr(xml_child(at, "target"), "dev", target, sizeof target, e))
            return err_wrap(e, "disk %u", n);
        if (target[0] == '\0')
            return err_set(e, ERR_PROTO, 0, "disk %u has no target", n);
        if (seen_before(at, target))
            return err_set(e, ERR_PROTO, 0, "two disks have the target %s", target);
        if (!read_disk(at, target, out, f, e))
            return err_wrap(e, "disk %s", target);
    }
    return true;
}

/* <driver iothread='1'/>, or since libvirt 10.0 <driver><iothreads>. */
static bool has_iothread(xmlNodePtr device)
{
    const xmlNodePtr driver = xml_child(device, "driver");

    return driver != NULL && (xmlHasProp(driver, (const xmlChar *)"iothread") != NULL ||
                              xml_child(driver, "iothreads") != NULL);
}

static bool uses_iothreads(xmlNodePtr devices)
{
    static const char *const kinds[] = { "disk", "controller" };

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (xmlNodePtr at = xml_child(devices, kinds[i]); at != NULL;
             at = xml_next(at))
            if (has_iothread(at))
                return true;
    return false;
}

/* ---- networks ---------------------------------------------------------------------- */

static bool read_net(xmlNodePtr interface, struct domnet *net, struct err *e)
{
    const xmlNodePtr source = xml_child(interface, "source");
    const char *const attr = xml_attr_is(interface, "type", "network")  ? "network"
                             : xml_attr_is(interface, "type", "bridge") ? "bridge"
                                                                        : "dev";

    return xml_attr(interface, "type", net->kind, sizeof net->kind, e) &&
           xml_attr(source, attr, net->source, sizeof net->source, e);
}

static bool read_nets(xmlNodePtr devices, struct dominfo *out, struct err *e)
{
    for (xmlNodePtr at = xml_child(devices, "interface"); at != NULL;
         at = xml_next(at)) {
        struct domnet *const net =
            append((void **)&out->nets, &out->nnets, sizeof *out->nets, NETS_MAX, e);
        if (net == NULL || !read_net(at, net, e))
            return false;
    }
    return true;
}

/* ---- all of it --------------------------------------------------------------------- */

static bool read_domain(xmlNodePtr domain, struct dominfo *out, struct findings *f,
                        struct err *e)
{
    const xmlNodePtr devices = xml_child(domain, "devices");

    if (!read_machine(domain, out, e) || !check_machine(out, e) ||
        !read_cpu(domain, out, e) || !read_disks(devices, out, f, e) ||
        !read_nets(devices, out, e) || !read_files(domain, out, e))
        return err_wrap(e, "domain XML");
    if (strcmp(out->type, "kvm") != 0 && strcmp(out->type, "qemu") != 0)
        findings_add(f, FINDING_BLOCKER, "not-qemu", NULL,
                     "the domain is of type '%s', only kvm and qemu can move",
                     out->type);
    out->iothreads = uses_iothreads(devices);
    domrefuse_domain(domain, f);
    return true;
}

bool domxml_parse(const char *xml, struct dominfo *out, struct findings *f,
                  struct err *e)
{
    AUTO(findings_fini) struct findings unwanted = { NULL, 0 };
    AUTO(xml_doc) xmlDocPtr doc = NULL;

    memset(out, 0, sizeof *out);
    if (!xml_load(xml, "domain", &doc, e))
        return false;
    if (read_domain(xmlDocGetRootElement(doc), out, f != NULL ? f : &unwanted, e))
        return true;
    dominfo_fini(out);
    return false;
}

void dominfo_fini(struct dominfo *d)
{
    free(d->cpu);
    free(d->disks);
    free(d->files);
    free(d->nets);
    memset(d, 0, sizeof *d);
}

void dominfo_fini_auto(struct dominfo *d)
{
    dominfo_fini(d);
}
