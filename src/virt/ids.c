/* As whom this host's libvirt runs QEMU. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "virt/handle.h"
#include "virt/xml.h"

/* The "+64055:+109" of a base label; false: it is not of that form. */
static bool ids_parse(const char *label, uid_t *uid, gid_t *gid)
{
    char *end;

    if (label[0] != '+')
        return false;
    *uid = (uid_t)strtoul(label + 1, &end, 10);
    if (strncmp(end, ":+", 2) != 0)
        return false;
    *gid = (gid_t)strtoul(end + 2, &end, 10);
    return *end == '\0';
}

static bool ids_of_caps(const char *caps, uid_t *uid, gid_t *gid, struct err *e)
{
    AUTO(xml_doc) xmlDocPtr doc = NULL;
    char text[64];

    if (!xml_load(caps, "capabilities", &doc, e))
        return false;
    const xmlNodePtr host = xml_child(xmlDocGetRootElement(doc), "host");
    for (xmlNodePtr m = xml_child(host, "secmodel"); m != NULL; m = xml_next(m)) {
        if (!xml_text(xml_child(m, "model"), text, sizeof text, e))
            return false;
        if (strcmp(text, "dac") != 0)
            continue;
        if (!xml_text(xml_child(m, "baselabel"), text, sizeof text, e))
            return false;
        return ids_parse(text, uid, gid) ||
               err_set(e, ERR_PROTO, 0, "a DAC label that is not +UID:+GID: %s", text);
    }
    return true; /* no DAC driver: QEMU is what libvirt is */
}

bool virt_qemu_ids(struct virt *v, uid_t *uid, gid_t *gid, struct err *e)
{
    AUTO(mem_free) char *caps = virConnectGetCapabilities(v->conn);

    *uid = 0;
    *gid = 0;
    if (caps == NULL)
        return virt_fail(e, "cannot ask for the host's capabilities");
    return ids_of_caps(caps, uid, gid, e) || err_wrap(e, "host capabilities");
}
