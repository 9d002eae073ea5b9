/* QMP through libvirt.  The domain becomes "tainted: custom-monitor", which is harmless;
 * job type QUERY: allowed at any time of an outgoing migration (libvirt 9 and 11). */
#include <libvirt/libvirt-qemu.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "virt/handle.h"

static struct json_object *message(const char *command, struct json_object *args)
{
    struct json_object *const o = json_add_str(json_new(), "execute", command);

    return args != NULL ? json_add_obj(o, "arguments", args) : o;
}

static bool refused(const char *command, struct json_object *error, struct err *e)
{
    struct json_object *desc = NULL;
    char why[sizeof e->msg];

    json_object_object_get_ex(error, "desc", &desc);
    log_clean(why, sizeof why,
              desc != NULL ? json_object_get_string(desc) : "no reason");
    return err_set(e, ERR_VIRT, 0, "QEMU refuses %s: %s", command, why);
}

/* Take the "return" member out of QEMU's answer. */
static bool unwrap(const char *command, const char *text, struct json_object **ret,
                   struct err *e)
{
    AUTO(json_put) struct json_object *reply = NULL;
    struct json_object *o;

    if (!json_parse(text, strlen(text), &reply, e))
        return err_wrap(e, "QEMU's answer to %s", command);
    if (json_object_object_get_ex(reply, "error", &o))
        return refused(command, o, e);
    if (!json_object_object_get_ex(reply, "return", &o))
        return err_set(e, ERR_PROTO, 0, "QEMU's answer to %s has no return", command);
    if (ret != NULL)
        *ret = json_object_get(o);
    return true;
}

static int send_plain(struct vdom *d, const char *text, char **reply)
{
    return virDomainQemuMonitorCommand(d->dom, text, reply,
                                       VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT);
}

static int send_fd(struct vdom *d, const char *text, int fd, char **reply)
{
    return virDomainQemuMonitorCommandWithFiles(
        d->dom, text, 1, &fd, NULL, NULL, reply,
        VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT);
}

bool vdom_qmp_fd(struct vdom *d, const char *command, struct json_object *args, int fd,
                 struct json_object **ret, struct err *e)
{
    AUTO(json_put) struct json_object *msg = message(command, args);
    AUTO(mem_free) char *reply = NULL;
    const char *const text = json_object_to_json_string_ext(
        msg, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    const int rc = fd < 0 ? send_plain(d, text, &reply) : send_fd(d, text, fd, &reply);

    if (rc < 0 || reply == NULL)
        return virt_fail(e, "cannot send %s to QEMU", command);
    return unwrap(command, reply, ret, e);
}

bool vdom_qmp(struct vdom *d, const char *command, struct json_object *args,
              struct json_object **ret, struct err *e)
{
    return vdom_qmp_fd(d, command, args, -1, ret, e);
}
