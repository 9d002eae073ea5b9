#include "virt/domrefuse.h"

#include <stdio.h>
#include <string.h>

#include "virt/xml.h"

/* ---- disks ------------------------------------------------------------------------- */

PRINTF(4, 5)
static void block(struct findings *f, const char *code, const char *next,
                  const char *fmt, ...)
{
    char what[sizeof((struct finding *)0)->what];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    findings_add(f, FINDING_BLOCKER, code, next, "%s", what);
}

static bool has_any_element(xmlNodePtr node)
{
    for (xmlNodePtr at = node != NULL ? node->children : NULL; at != NULL;
         at = at->next)
        if (at->type == XML_ELEMENT_NODE)
            return true;
    return false;
}

static void refuse_format(xmlNodePtr disk, const char *target, struct findings *f)
{
    char format[32];
    struct err e;

    if (!xml_attr(xml_child(disk, "driver"), "type", format, sizeof format, &e))
        snprintf(format, sizeof format, "unreadable");
    if (format[0] == '\0')
        block(f, "disk-no-format",
              "Write <driver name='qemu' type='raw'/> (or qcow2) into the disk's "
              "definition, then stop and start the domain.",
              "disk %s has no explicit format, and guessing it would let the guest "
              "choose",
              target);
    else if (strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0)
        block(f, "disk-format", "Convert it to raw or qcow2 with qemu-img convert.",
              "disk %s has the format %s, only raw and qcow2 can move", target, format);
}

static void refuse_type(xmlNodePtr disk, const char *target, struct findings *f)
{
    char type[32];
    struct err e;

    if (!xml_attr(disk, "type", type, sizeof type, &e))
        snprintf(type, sizeof type, "unreadable");
    if (strcmp(type, "file") != 0 && strcmp(type, "block") != 0)
        block(
            f, "disk-type",
            "Leave it where it is and use virsh migrate, or copy it into a file.",
            "disk %s has a source of type '%s', only files and block devices can move",
            target, type[0] != '\0' ? type : "none");
    if (xml_attr_is(disk, "device", "lun"))
        block(f, "disk-lun", "Define it as device='disk'.",
              "disk %s passes a SCSI device of the host through", target);
}

static void refuse_chain(xmlNodePtr disk, const char *target, struct findings *f)
{
    const xmlNodePtr source = xml_child(disk, "source");

    if (has_any_element(xml_child(disk, "backingStore")))
        block(f, "disk-backing",
              "Make it one image: virsh blockpull DOMAIN DISK --wait.",
              "disk %s has a backing file outside its image", target);
    if (xml_child(source, "dataStore") != NULL || xml_child(disk, "dataStore") != NULL)
        block(f, "disk-data-file", "Convert it with qemu-img convert.",
              "disk %s has a data file outside its image", target);
    if (xml_child(source, "encryption") != NULL ||
        xml_child(disk, "encryption") != NULL)
        block(f, "disk-encrypted",
              "Encrypt inside the guest, or below the image on the host.",
              "disk %s has an encrypted image, whose secret would have to move",
              target);
}

void domrefuse_disk(xmlNodePtr disk, const char *target, struct findings *f)
{
    refuse_type(disk, target, f);
    refuse_format(disk, target, f);
    refuse_chain(disk, target, f);
    if (xml_child(disk, "shareable") != NULL)
        block(f, "disk-shareable", "Detach it, and share it again after the move.",
              "disk %s is shareable: another guest may write to it during the copy",
              target);
    if (xml_child(disk, "transient") != NULL)
        block(f, "disk-transient", "Stop and start the domain without <transient/>.",
              "disk %s is transient", target);
}

/* ---- other devices ----------------------------------------------------------------- */

/* <element> below <devices>, or its first <child>, whose @attr has @value: each NULL for
 * whatever it is. */
struct rule {
    const char *element, *child, *attr, *value;
    const char *code, *what, *next;
};

#define DETACH "Detach it: virsh detach-device."
/* clang-format off */
static const struct rule device_rules[] = {
    { "hostdev", NULL, NULL, NULL,
      "hostdev", "a device of the host is passed through", DETACH },
    { "interface", NULL, "type", "hostdev",
      "hostdev", "a network device of the host is passed through", DETACH },
    { "interface", NULL, "type", "vhostuser",
      "vhost-user", "a network interface is of a vhost-user process on this host", DETACH },
    { "interface", NULL, "type", "vdpa",
      "vdpa", "a network interface is a vDPA device of the host", DETACH },
    { "filesystem", NULL, NULL, NULL,
      "filesystem", "a directory of the host is shared with the guest (virtiofs or 9p)",
      "Unmount it in the guest and detach it: virsh detach-device." },
    { "shmem", NULL, NULL, NULL,
      "shmem", "memory is shared with other guests of this host (ivshmem)", DETACH },
    { "input", NULL, "type", "passthrough",
      "host-input", "an input device of the host is passed through", DETACH },
    { "input", NULL, "type", "evdev",
      "host-input", "an input device of the host is passed through", DETACH },
    { "memory", NULL, "model", "nvdimm",
      "nvdimm", "an NVDIMM keeps its contents in a file of this host", DETACH },
    { "memory", NULL, "model", "virtio-pmem",
      "nvdimm", "a virtio-pmem device keeps its contents in a file of this host", DETACH },
    { "memory", NULL, "model", "sgx-epc",
      "sgx", "SGX enclave memory cannot leave its CPU", NULL },
    { "serial", NULL, "type", "dev",
      "host-device", "a serial port is a device of the host", DETACH },
    { "parallel", NULL, "type", "dev",
      "host-device", "a parallel port is a device of the host", DETACH },
    { "console", NULL, "type", "dev",
      "host-device", "a console is a device of the host", DETACH },
    { "smartcard", NULL, "mode", "host",
      "host-device", "a smart card reader of the host is passed through", DETACH },
    { "tpm", "backend", "type", "passthrough",
      "tpm", "the TPM of the host is passed through", "Use an emulated TPM." },
    { "tpm", "backend", "type", "external",
      "tpm", "the TPM is a process that libvirt does not manage", "Use an emulated TPM." },
    { "video", "driver", "name", "vhostuser",
      "vhost-user", "the video device is of a vhost-user process on this host", NULL },
};

static const struct rule domain_rules[] = {
    { "launchSecurity", NULL, NULL, NULL,
      "launch-security", "memory is encrypted for this CPU alone (SEV, SEV-SNP, TDX or PV)",
      NULL },
};
/* clang-format on */

static bool rule_hits(const struct rule *r, xmlNodePtr element)
{
    const xmlNodePtr node = r->child != NULL ? xml_child(element, r->child) : element;

    return node != NULL && (r->attr == NULL || xml_attr_is(node, r->attr, r->value));
}

static void apply(const struct rule *r, xmlNodePtr parent, struct findings *f)
{
    char alias[64];
    struct err e;

    for (xmlNodePtr at = xml_child(parent, r->element); at != NULL; at = xml_next(at)) {
        if (!rule_hits(r, at))
            continue;
        if (!xml_attr(xml_child(at, "alias"), "name", alias, sizeof alias, &e) ||
            alias[0] == '\0')
            block(f, r->code, r->next, "%s", r->what);
        else
            block(f, r->code, r->next, "%s (%s)", r->what, alias);
    }
}

/* <qemu:commandline>, <qemu:override>, ...: passed on as they are. */
static void warn_passthrough(xmlNodePtr domain, struct findings *f)
{
    static const char ns[] = "http://libvirt.org/schemas/domain/qemu/1.0";

    for (xmlNodePtr at = domain->children; at != NULL; at = at->next)
        if (at->type == XML_ELEMENT_NODE && at->ns != NULL && has_any_element(at) &&
            strcmp((const char *)at->ns->href, ns) == 0)
            findings_add(f, FINDING_WARNING, "qemu-commandline",
                         "See that what it names exists at the destination.",
                         "the definition has a <qemu:%s>, which libvirt does not check",
                         (const char *)at->name);
}

void domrefuse_domain(xmlNodePtr domain, struct findings *f)
{
    const xmlNodePtr devices = xml_child(domain, "devices");

    for (size_t i = 0; i < sizeof device_rules / sizeof device_rules[0]; i++)
        apply(&device_rules[i], devices, f);
    for (size_t i = 0; i < sizeof domain_rules / sizeof domain_rules[0]; i++)
        apply(&domain_rules[i], domain, f);
    warn_passthrough(domain, f);
}
