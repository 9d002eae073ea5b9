#include "virt/status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "virt/xml.h"

#define RUN_DIR "/run/libvirt/qemu"

bool status_parse(const char *xml, struct status *out, struct err *e)
{
    AUTO(xml_doc) xmlDocPtr doc = NULL;
    char pid[16];

    memset(out, 0, sizeof *out);
    if (!xml_load(xml, "domstatus", &doc, e))
        return false;
    xmlNodePtr root = xmlDocGetRootElement(doc);
    if (!xml_attr(root, "pid", pid, sizeof pid, e) ||
        !xml_attr(xml_child(root, "libDir"), "path", out->libdir, sizeof out->libdir,
                  e))
        return false;
    out->pid = (pid_t)strtol(pid, NULL, 10);
    if (out->pid <= 1 || out->libdir[0] != '/')
        return err_set(e, ERR_PROTO, 0, "domain status without %s",
                       out->pid <= 1 ? "a pid" : "a directory");
    return true;
}

/* At most @size - 1 bytes of a file, NUL-terminated; *len says how many. */
static bool slurp(const char *path, char *buf, size_t size, size_t *len, struct err *e)
{
    AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = 1;

    if (fd < 0)
        return err_set(e, ERR_SYS, errno, "cannot open %s", path);
    for (*len = 0; n > 0 && *len < size - 1; *len += (size_t)n) {
        n = read(fd, buf + *len, size - 1 - *len);
        if (n < 0)
            return err_set(e, ERR_SYS, errno, "cannot read %s", path);
    }
    buf[*len] = '\0';
    return true;
}

static bool run_path(char *dst, size_t size, const char *name, const char *suffix,
                     struct err *e)
{
    const int n = snprintf(dst, size, RUN_DIR "/%s.%s", name, suffix);

    if (strchr(name, '/') != NULL || n < 0 || (size_t)n >= size)
        return err_set(e, ERR_USAGE, 0, "no status file can have the name %s", name);
    return true;
}

bool status_read(const char *name, struct status *out, struct err *e)
{
    AUTO(mem_free) char *xml = malloc(XML_MAX + 2);
    char path[512];
    size_t len;

    if (xml == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "domain status");
    if (!run_path(path, sizeof path, name, "xml", e) ||
        !slurp(path, xml, XML_MAX + 2, &len, e))
        return false;
    return status_parse(xml, out, e) || err_wrap(e, "%s", path);
}

static pid_t pid_from_file(const char *name)
{
    char path[512], text[32];
    struct err e;
    size_t len;

    if (!run_path(path, sizeof path, name, "pid", &e) ||
        !slurp(path, text, sizeof text, &len, &e))
        return 0;
    return (pid_t)strtol(text, NULL, 10);
}

/* Whether that process was started with "-uuid UUID", as libvirt starts every QEMU. */
static bool cmdline_has_uuid(pid_t pid, const char *uuid)
{
    enum { CMDLINE_MAX = 1 << 20 };
    AUTO(mem_free) char *args = malloc(CMDLINE_MAX);
    char path[64];
    size_t len;
    struct err e;
    bool next_is_uuid = false;

    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    if (args == NULL || !slurp(path, args, CMDLINE_MAX, &len, &e))
        return false;
    for (const char *at = args; at < args + len; at += strlen(at) + 1) {
        if (next_is_uuid && strcasecmp(at, uuid) == 0)
            return true;
        next_is_uuid = strcmp(at, "-uuid") == 0;
    }
    return false;
}

pid_t status_qemu_pid(const char *name, const char *uuid)
{
    pid_t pid = pid_from_file(name);

    if (pid <= 1) {
        AUTO(mem_free) struct status *s = malloc(sizeof *s);
        struct err e;
        if (s == NULL || !status_read(name, s, &e))
            return 0;
        pid = s->pid;
    }
    return cmdline_has_uuid(pid, uuid) ? pid : 0;
}
