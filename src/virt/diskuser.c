/* Which domain of a host has a file or device as a disk, running or not. */
#include <libvirt/libvirt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "virt/handle.h"
#include "virt/xml.h"

static bool is_source(xmlNodePtr source, const char *path)
{
    return xml_attr_is(source, "file", path) || xml_attr_is(source, "dev", path);
}

/* Foreign XML that cannot be read says nothing about its disks. */
static bool names_disk(const char *text, const char *path)
{
    AUTO(xml_doc) xmlDocPtr doc = NULL;
    struct err e;

    if (text == NULL || !xml_load(text, "domain", &doc, &e))
        return false;
    const xmlNodePtr devices = xml_child(xmlDocGetRootElement(doc), "devices");
    for (xmlNodePtr d = xml_child(devices, "disk"); d != NULL; d = xml_next(d))
        if (is_source(xml_child(d, "source"), path))
            return true;
    return false;
}

static bool uses(virDomainPtr dom, const char *path)
{
    AUTO(mem_free) char *now = virDomainGetXMLDesc(dom, 0);
    AUTO(mem_free) char *next = virDomainGetXMLDesc(dom, VIR_DOMAIN_XML_INACTIVE);

    return names_disk(now, path) || names_disk(next, path);
}

bool virt_disk_user(struct virt *v, const char *path, const char *but_uuid, char *name,
                    size_t size, struct err *e)
{
    virDomainPtr *list = NULL;
    const int n = virConnectListAllDomains(v->conn, &list, 0);

    if (n < 0)
        return virt_fail(e, "cannot list the domains");
    name[0] = '\0';
    for (int i = 0; i < n; i++) {
        char uuid[VIR_UUID_STRING_BUFLEN] = "";

        if (name[0] == '\0' && virDomainGetUUIDString(list[i], uuid) == 0 &&
            strcasecmp(uuid, but_uuid) != 0 && uses(list[i], path))
            snprintf(name, size, "%s", virDomainGetName(list[i]));
        virDomainFree(list[i]);
    }
    free(list);
    return true;
}
