#include "tunnel/sshcmd.h"

#include <stdio.h>
#include <string.h>

static const char remote_command[] = "snmigrate agent";

static bool add(struct sshcmd *c, const char *arg, struct err *e)
{
    if (c->n + 1 >= SSHCMD_MAX)
        return err_set(e, ERR_USAGE, 0, "--ssh has too many words");
    c->argv[c->n++] = arg;
    c->argv[c->n] = NULL;
    return true;
}

static bool put(struct sshcmd *c, char ch, struct err *e)
{
    if (c->used == sizeof c->text)
        return err_set(e, ERR_USAGE, 0, "--ssh is too long");
    c->text[c->used++] = ch;
    return true;
}

/* Whether a backslash before @next quotes it: sh(1), 2.2.1 and 2.2.3. */
static bool escapes(char quote, char next)
{
    if (quote == '\'' || next == '\0')
        return false;
    return quote == '\0' || next == '"' || next == '\\' || next == '$' || next == '`';
}

/* One word from *s on, moving it past. */
static bool take_word(struct sshcmd *c, const char **s, struct err *e)
{
    const char *const word = c->text + c->used;
    char quote = '\0';

    for (; **s != '\0' && (quote != '\0' || (**s != ' ' && **s != '\t')); (*s)++) {
        const char ch = **s;

        if (quote == '\0' && (ch == '\'' || ch == '"')) {
            quote = ch;
        } else if (quote != '\0' && ch == quote) {
            quote = '\0';
        } else {
            if (ch == '\\' && escapes(quote, (*s)[1]))
                (*s)++;
            if (!put(c, **s, e))
                return false;
        }
    }
    if (quote != '\0')
        return err_set(e, ERR_USAGE, 0, "--ssh has a quote that is not closed");
    return put(c, '\0', e) && add(c, word, e);
}

bool sshcmd_words(const char *s, struct sshcmd *out, struct err *e)
{
    out->n = 0;
    out->used = 0;
    for (;;) {
        s += strspn(s, " \t");
        if (*s == '\0')
            break;
        if (!take_word(out, &s, e))
            return false;
    }
    return out->n > 0 ? true : err_set(e, ERR_USAGE, 0, "--ssh is empty");
}

PRINTF(3, 4)
static bool add_fmt(struct sshcmd *c, struct err *e, const char *fmt, ...)
{
    char *const at = c->text + c->used;
    const size_t room = sizeof c->text - c->used;
    va_list ap;

    va_start(ap, fmt);
    const int n = vsnprintf(at, room, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= room)
        return err_set(e, ERR_USAGE, 0, "--ssh is too long");
    c->used += (size_t)n + 1;
    return add(c, at, e);
}

bool sshcmd_finish(struct sshcmd *c, const struct dest *dest,
                   const struct sshcmd_opts *o, struct err *e)
{
    /* The user's configuration may have what does not go with a pipe: a terminal and its
     * escape character, X11, forwarded ports that are taken already, another command. */
    static const char *const fixed[] = {
        "-x", "-a", "-e", "none", "-oClearAllForwardings=yes", "-oRemoteCommand=none",
    };

    if (!add(c, o->show ? "-G" : "-T", e) ||
        !add_fmt(c, e, "-oConnectTimeout=%d", o->connect_s))
        return false;
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        if (!add(c, fixed[i], e))
            return false;
    if (o->batch && !add(c, "-oBatchMode=yes", e))
        return false;
    if (o->aes &&
        !add(c, "-oCiphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com", e))
        return false;
    if (dest->user[0] != '\0' && (!add(c, "-l", e) || !add(c, dest->user, e)))
        return false;
    if (dest->port != 0 && !add_fmt(c, e, "-p%u", dest->port))
        return false;
    return add(c, "--", e) && add(c, dest->host, e) &&
           (o->show || add(c, remote_command, e));
}
