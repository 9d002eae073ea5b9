/* Where to go, as the user writes it; pure. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tunnel/dial.h"

/* Letters, digits and @more, so that neither ssh, nor a ProxyCommand of the user's
 * configuration into which ssh puts it, nor a shell can take it for something else. */
static bool check_word(const char *what, const char *s, size_t len, const char *more,
                       struct err *e)
{
    if (len == 0)
        return err_set(e, ERR_USAGE, 0, "the destination has an empty %s", what);
    if (s[0] == '-')
        return err_set(e, ERR_USAGE, 0, "the destination's %s begins with '-'", what);
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)s[i]) && strchr(more, s[i]) == NULL)
            return err_set(e, ERR_USAGE, 0,
                           "the destination's %s has a character that "
                           "names cannot have (byte %zu)",
                           what, i + 1);
    return true;
}

static bool take_user(const char *s, size_t len, struct dest *out, struct err *e)
{
    if (!check_word("user", s, len, "._-+@", e))
        return false;
    if (len >= sizeof out->user)
        return err_set(e, ERR_USAGE, 0, "the destination's user name is too long");
    memcpy(out->user, s, len);
    return true;
}

static bool take_host(const char *s, size_t len, struct dest *out, struct err *e)
{
    const char *const colon = memchr(s, ':', len);
    const bool literal = len > 2 && s[0] == '[' && s[len - 1] == ']';

    if (literal) { /* ssh wants an IPv6 address without its brackets */
        s++;
        len -= 2;
    } else if (colon != NULL &&
               memchr(colon + 1, ':', len - (size_t)(colon + 1 - s)) == NULL) {
        err_set(e, ERR_USAGE, 0, "the destination's host has one colon");
        return err_next(e, "A port is given as in ssh://root@host:2222");
    }
    if (!check_word("host", s, len, literal ? ":.%_-" : "._-:", e))
        return false;
    if (len >= sizeof out->host)
        return err_set(e, ERR_USAGE, 0, "the destination's host name is too long");
    memcpy(out->host, s, len);
    return true;
}

static bool take_port(const char *s, struct dest *out, struct err *e)
{
    const size_t digits = strspn(s, "0123456789");
    const unsigned long port = digits > 0 && digits <= 5 ? strtoul(s, NULL, 10) : 0;

    if (s[digits] != '\0' || port < 1 || port > 65535)
        return err_set(e, ERR_USAGE, 0, "the destination's port is not in 1 to 65535");
    out->port = (unsigned)port;
    return true;
}

/* [user@]host, and with @uri [user@]host[:port] */
static bool take(const char *s, bool uri, struct dest *out, struct err *e)
{
    const char *const at = strrchr(s, '@');
    const char *host = at != NULL ? at + 1 : s;
    const char *const bracket = host[0] == '[' ? strchr(host, ']') : NULL;
    const char *const colon = strchr(bracket != NULL ? bracket : host, ':');

    if (at != NULL && !take_user(s, (size_t)(at - s), out, e))
        return false;
    if (!uri || colon == NULL)
        return take_host(host, strlen(host), out, e);
    return take_host(host, (size_t)(colon - host), out, e) &&
           take_port(colon + 1, out, e);
}

bool dest_parse(const char *s, struct dest *out, struct err *e)
{
    static const char scheme[] = "ssh://";
    struct dest d = { .port = 0 };
    const bool uri = strncmp(s, scheme, sizeof scheme - 1) == 0;
    char buf[512];

    if (uri)
        s += sizeof scheme - 1;
    if (snprintf(buf, sizeof buf, "%s", s) >= (int)sizeof buf)
        return err_set(e, ERR_USAGE, 0, "the destination is too long");
    const size_t len = strlen(buf);
    if (uri && len > 0 && buf[len - 1] == '/')
        buf[len - 1] = '\0';
    if (strchr(buf, '/') != NULL)
        return err_set(
            e, ERR_USAGE, 0,
            "the destination is a host, as root@hostb is one: no path, no URI "
            "of libvirt");
    if (uri && strrchr(buf, '@') != NULL &&
        memchr(buf, ':', (size_t)(strrchr(buf, '@') - buf)) != NULL)
        return err_set(e, ERR_USAGE, 0, "no password belongs into the destination");
    if (!take(buf, uri, &d, e))
        return false;
    *out = d;
    return true;
}
