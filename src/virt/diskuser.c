/* Which domain of this host has a file or device as a disk, running or not. */
#include <libvirt/libvirt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/mem.h"
#include "virt/handle.h"
#include "virt/xml.h"

enum { NAME_LEN = 256, PATH_LEN = 4096 };

struct search {
    virConnectPtr conn;
    const char *path;
    struct stat file; /* what it is, through symlinks; ->st_nlink 0: nothing */
};

/* Whatever it is called: symbolic and hard links, and device nodes, are seen through. */
static bool is_it(const struct search *s, const char *path)
{
    struct stat st;

    if (strcmp(path, s->path) == 0)
        return true;
    if (s->file.st_nlink == 0 || path[0] != '/' || stat(path, &st) < 0)
        return false;
    if (S_ISBLK(st.st_mode) && S_ISBLK(s->file.st_mode))
        return st.st_rdev == s->file.st_rdev;
    return st.st_dev == s->file.st_dev && st.st_ino == s->file.st_ino;
}

/* A volume of a storage pool lies in its directory, also where the pool is not active or has
 * not been looked through since.  (Of other kinds of pools a volume is no file.) */
static bool is_volume(const struct search *s, const char *pool, const char *volume)
{
    AUTO(vir_pool) virStoragePoolPtr p = virStoragePoolLookupByName(s->conn, pool);
    AUTO(mem_free) char *text = p != NULL ? virStoragePoolGetXMLDesc(p, 0) : NULL;
    AUTO(xml_doc) xmlDocPtr doc = NULL;
    char dir[PATH_LEN], path[PATH_LEN + NAME_LEN];
    struct err e;

    if (text == NULL || !xml_load(text, "pool", &doc, &e))
        return false;
    const xmlNodePtr target = xml_child(xmlDocGetRootElement(doc), "target");
    if (!xml_text(xml_child(target, "path"), dir, sizeof dir, &e) || dir[0] != '/')
        return false;
    snprintf(path, sizeof path, "%s/%s", dir, volume);
    return is_it(s, path);
}

static bool is_source(const struct search *s, xmlNodePtr source)
{
    char path[PATH_LEN], pool[NAME_LEN], volume[NAME_LEN];
    struct err e;

    return (xml_attr(source, "file", path, sizeof path, &e) && is_it(s, path)) ||
           (xml_attr(source, "dev", path, sizeof path, &e) && is_it(s, path)) ||
           (xml_attr(source, "pool", pool, sizeof pool, &e) && pool[0] != '\0' &&
            xml_attr(source, "volume", volume, sizeof volume, &e) &&
            is_volume(s, pool, volume));
}

/* Foreign XML that cannot be read says nothing about its disks. */
static bool names_disk(const struct search *s, const char *text)
{
    AUTO(xml_doc) xmlDocPtr doc = NULL;
    struct err e;

    if (text == NULL || !xml_load(text, "domain", &doc, &e))
        return false;
    const xmlNodePtr devices = xml_child(xmlDocGetRootElement(doc), "devices");
    for (xmlNodePtr d = xml_child(devices, "disk"); d != NULL; d = xml_next(d))
        if (is_source(s, xml_child(d, "source")))
            return true;
    return false;
}

static bool uses(const struct search *s, virDomainPtr dom)
{
    AUTO(mem_free) char *now = virDomainGetXMLDesc(dom, 0);
    AUTO(mem_free) char *next = virDomainGetXMLDesc(dom, VIR_DOMAIN_XML_INACTIVE);

    return names_disk(s, now) || names_disk(s, next);
}

bool virt_disk_user(struct virt *v, const char *path, const char *but_uuid, char *name,
                    size_t size, struct err *e)
{
    struct search s = { .conn = v->conn, .path = path };
    virDomainPtr *list = NULL;
    const int n = virConnectListAllDomains(v->conn, &list, 0);

    if (n < 0)
        return virt_fail(e, "cannot list the domains");
    if (stat(path, &s.file) < 0)
        s.file.st_nlink = 0;
    name[0] = '\0';
    for (int i = 0; i < n; i++) {
        char uuid[VIR_UUID_STRING_BUFLEN] = "";

        if (name[0] == '\0' && virDomainGetUUIDString(list[i], uuid) == 0 &&
            strcasecmp(uuid, but_uuid) != 0 && uses(&s, list[i]))
            snprintf(name, size, "%s", virDomainGetName(list[i]));
        virDomainFree(list[i]);
    }
    free(list);
    return true;
}
