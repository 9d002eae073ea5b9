#include "base/err.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Here are the functions themselves. */
#undef err_set
#undef err_wrap
#undef err_next

static const char *const kind_names[] = {
    [ERR_NONE] = "none",
    [ERR_USAGE] = "usage",
    [ERR_SYS] = "sys",
    [ERR_NBD] = "nbd",
    [ERR_VIRT] = "virt",
    [ERR_PROTO] = "proto",
    [ERR_PEER] = "peer",
    [ERR_TIMEOUT] = "timeout",
    [ERR_CANCELLED] = "cancelled",
    [ERR_REFUSED] = "refused",
    [ERR_CONNECT] = "connect",
    [ERR_LINK] = "link",
    [ERR_GUEST] = "guest",
    [ERR_STALLED] = "stalled",
    [ERR_UNRESOLVED] = "unresolved",
};
static_assert(sizeof kind_names / sizeof kind_names[0] == ERR_KINDS,
              "kind_names[] and enum err_kind differ");

/* Append @s to the string in @dst, cut to fit @size bytes with its NUL. */
static void str_add(char *dst, size_t size, const char *s)
{
    const size_t at = strlen(dst), n = strnlen(s, size - at - 1);

    memcpy(dst + at, s, n);
    dst[at + n] = '\0';
}

bool err_set(struct err *e, enum err_kind kind, int os, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    if (os != 0) {
        str_add(e->msg, sizeof e->msg, ": ");
        str_add(e->msg, sizeof e->msg,
                strerrordesc_np(os) ? strerrordesc_np(os) : "unknown error");
    }
    e->kind = kind;
    e->os = os;
    e->next[0] = '\0';
    return false;
}

bool err_wrap(struct err *e, const char *fmt, ...)
{
    char inner[sizeof e->msg];
    va_list ap;

    memcpy(inner, e->msg, sizeof inner);
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    str_add(e->msg, sizeof e->msg, ": ");
    str_add(e->msg, sizeof e->msg, inner);
    return false;
}

bool err_next(struct err *e, const char *fmt, ...)
{
    va_list ap;

    if (e->next[0] != '\0')
        return false;
    va_start(ap, fmt);
    vsnprintf(e->next, sizeof e->next, fmt, ap);
    va_end(ap);
    return false;
}

const char *err_kind_name(enum err_kind kind)
{
    return kind < ERR_KINDS ? kind_names[kind] : "unknown";
}

enum err_kind err_kind_parse(const char *name)
{
    for (int k = 0; k < ERR_KINDS; k++)
        if (strcmp(kind_names[k], name) == 0)
            return (enum err_kind)k;
    return ERR_PEER;
}
