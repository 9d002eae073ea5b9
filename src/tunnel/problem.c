/* A failure as it travels: {"kind": "nbd", "os": 28, "what": "...", "next": "..."}. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "tunnel/link-int.h"

/* clang-format off */
static const int statuses[ERR_KINDS] = {
    [ERR_USAGE] = 400, [ERR_REFUSED] = 409, [ERR_PROTO] = 400, [ERR_TIMEOUT] = 504,
};
/* clang-format on */

int problem_status(enum err_kind kind)
{
    return kind < ERR_KINDS && statuses[kind] != 0 ? statuses[kind] : 500;
}

struct json_object *problem_make(const struct err *e)
{
    struct json_object *const o = json_new();
    char text[sizeof e->msg];

    json_add_str(o, "kind", err_kind_name(e->kind));
    json_add_u64(o, "os", e->os > 0 ? (uint64_t)e->os : 0);
    json_add_str(o, "what", log_clean(text, sizeof text, e->msg));
    if (e->next[0] != '\0')
        json_add_str(o, "next", log_clean(text, sizeof e->next, e->next));
    return o;
}

/* What a peer may say of itself.  The other kinds are the source's own findings (the guest
 * ended, nobody knows where it is, the user stopped it): its undo and its exit status go by
 * them, so a peer that claims one has only failed. */
static enum err_kind peers_kind(const char *name)
{
    const enum err_kind kind = err_kind_parse(name);

    switch (kind) {
    case ERR_SYS:
    case ERR_NBD:
    case ERR_VIRT:
    case ERR_PROTO:
    case ERR_TIMEOUT:
    case ERR_REFUSED:
        return kind;
    default:
        return ERR_PEER;
    }
}

/* true: *e is what the document says; false: *e is what is wrong with the document. */
static bool parse(struct json_object *o, struct err *e)
{
    enum { MAX_ERRNO = 4095 };
    const char *kind, *what, *next = "";
    uint64_t os = 0;
    struct err got;

    if (!json_get_str(o, "kind", &kind, e) || !json_get_str(o, "what", &what, e))
        return false;
    if (json_has(o, "os") && !json_get_u64(o, "os", &os, e))
        return false;
    if (json_has(o, "next") && !json_get_str(o, "next", &next, e))
        return false;

    /* The text of the errno is in "what" already. */
    err_set(&got, peers_kind(kind), 0, "dst: %s", what);
    got.os = os <= MAX_ERRNO ? (int)os : 0;
    if (next[0] != '\0')
        err_next(&got, "%s", next);
    *e = got;
    return true;
}

bool problem_read(int status, const uint8_t *text, size_t len, struct err *e)
{
    AUTO(json_put) struct json_object *o = NULL;
    struct err why;

    if (json_parse((const char *)text, len, &o, &why) && parse(o, &why)) {
        *e = why;
        return false;
    }
    return err_set(e, ERR_PROTO, 0, "dst: status %d: %.300s", status, why.msg);
}
