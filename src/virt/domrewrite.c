/* The way back of domxml.h: new sources for the disks, and nothing else touched. */
#include <errno.h>
#include <libxml/xmlstring.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "virt/domxml.h"
#include "virt/xml.h"

#define X(s) ((const xmlChar *)(s))

static xmlNodePtr disk_of(xmlNodePtr domain, const char *target)
{
    const xmlNodePtr devices = xml_child(domain, "devices");

    for (xmlNodePtr at = xml_child(devices, "disk"); at != NULL; at = xml_next(at))
        if (xml_attr_is(xml_child(at, "target"), "dev", target))
            return at;
    return NULL;
}

static void remove_node(xmlNodePtr node)
{
    if (node == NULL)
        return;
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

/* Leave <name/> where it was. */
static void make_empty(xmlNodePtr node)
{
    while (node->properties != NULL)
        xmlRemoveProp(node->properties);
    while (node->children != NULL)
        remove_node(node->children);
}

/* The child of that name, made at the end if there is none.  NULL: out of memory. */
static xmlNodePtr child_or_new(xmlNodePtr disk, const char *name)
{
    const xmlNodePtr node = xml_child(disk, name);

    return node != NULL ? node : xmlNewChild(disk, NULL, X(name), NULL);
}

/* Options of <driver> that only one format has are dropped with it. */
static bool set_driver(xmlNodePtr disk, const char *format)
{
    const xmlNodePtr driver = child_or_new(disk, "driver");

    if (driver == NULL || xmlSetProp(driver, X("type"), X(format)) == NULL)
        return false;
    if (strcmp(format, "qcow2") != 0) {
        remove_node(xml_child(driver, "metadata_cache"));
        xmlUnsetProp(driver, X("discard_no_unref"));
    }
    return true;
}

static bool set_source(xmlNodePtr disk, const struct domdisk_to *to)
{
    const xmlNodePtr source = child_or_new(disk, "source");
    const xmlNodePtr chain = xml_child(disk, "backingStore");

    if (source == NULL)
        return false;
    make_empty(
        source); /* index, startupPolicy, slices, seclabel were of the old file */
    if (chain != NULL)
        make_empty(chain); /* <backingStore/> ends the chain: libvirt does not probe */
    remove_node(xml_child(disk, "dataStore"));
    return xmlSetProp(disk, X("type"), X(to->block ? "block" : "file")) != NULL &&
           xmlSetProp(source, X(to->block ? "dev" : "file"), X(to->path)) != NULL;
}

/* XML cannot carry control characters. */
static bool path_ok(const char *path)
{
    for (const char *at = path; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            return false;
    return path[0] == '/' && xmlCheckUTF8(X(path));
}

static bool rewrite_disk(xmlNodePtr domain, const struct domdisk_to *to, struct err *e)
{
    const xmlNodePtr disk = disk_of(domain, to->target);

    if (disk == NULL)
        return err_set(e, ERR_USAGE, 0, "the domain has no disk %s", to->target);
    if (!path_ok(to->path))
        return err_set(
            e, ERR_USAGE, 0,
            "disk %s: a path must be absolute UTF-8 without control characters",
            to->target);
    if (!set_driver(disk, to->format) || !set_source(disk, to))
        return err_set(e, ERR_SYS, ENOMEM, "domain XML");
    return true;
}

bool domxml_rewrite(const char *xml, const struct domdisk_to *to, size_t n, char **out,
                    struct err *e)
{
    AUTO(xml_doc) xmlDocPtr doc = NULL;

    if (!xml_load(xml, "domain", &doc, e))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!rewrite_disk(xmlDocGetRootElement(doc), &to[i], e))
            return false;
    *out = xml_dump(xmlDocGetRootElement(doc));
    return *out != NULL || err_set(e, ERR_SYS, ENOMEM, "domain XML");
}
