/* An agent that is hostile at one place and honest otherwise: for the tests of the source.
 *
 * Usage: agent-lies WHAT:WHERE, on ssh's pipe like "snmigrate agent".
 *
 * WHERE is the end of a request's path ("close", "check"), its method ("PUT"), or the
 * first word of a channel's ("disk", "ram", "libvirt", "digest").  WHAT is done with its
 * answer:
 *
 *   huge      17 MiB of JSON             deep      JSON in 100 levels
 *   types     every value is a list      other     every string is another
 *   counts    every number is larger     fewer     every list lacks its last
 *   escapes   a problem that draws on the terminal
 *   claims=K  a problem of the kind K    mute      none, ever
 *   stop      the whole agent stands still
 *   noise     (channel) bytes that mean nothing
 *
 * Of digests "other" is said of each block, "counts" of each stretch of zeroes, "fewer" leaves
 * out the first.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/arrivals.h"
#include "agent/route.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"
#include "tunnel/link.h"
#include "virt/virt.h"

enum { HUGE_BYTES = 17 << 20, DEEP = 100, FOR_EVER_MS = 3600 * 1000 };

static struct arrivals *all;
static const char *what, *where;

/* ---- answers -------------------------------------------------------------------------- */

static struct json_object *bent(struct json_object *o);

static struct json_object *bent_object(struct json_object *o)
{
    struct json_object *const out = json_new();

    json_object_object_foreach(o, key, value)
    {
        json_add_obj(out, key, bent(value));
    }
    return out;
}

static struct json_object *bent_array(struct json_object *o)
{
    struct json_object *const out = json_object_new_array();
    size_t n = json_object_array_length(o);

    if (strcmp(what, "fewer") == 0 && n > 0)
        n--;
    for (size_t i = 0; i < n; i++)
        json_object_array_add(out, bent(json_object_array_get_idx(o, i)));
    return out;
}

/* A copy with the lie in it. */
static struct json_object *bent(struct json_object *o)
{
    switch (json_object_get_type(o)) {
    case json_type_object:
        return bent_object(o);
    case json_type_array:
        return bent_array(o);
    case json_type_string:
        if (strcmp(what, "other") == 0)
            return json_object_new_string("other");
        break;
    case json_type_int:
        if (strcmp(what, "counts") == 0)
            return json_object_new_int64(json_object_get_int64(o) + (1LL << 40));
        break;
    default:
        break;
    }
    return strcmp(what, "types") == 0 ? json_object_new_array() : json_object_get(o);
}

static struct json_object *huge(void)
{
    char *const text = malloc(HUGE_BYTES + 1);

    if (text == NULL)
        abort();
    memset(text, 'x', HUGE_BYTES);
    text[HUGE_BYTES] = '\0';
    struct json_object *const o = json_add_str(json_new(), "findings", text);
    free(text);
    return o;
}

static struct json_object *deep(void)
{
    struct json_object *o = json_object_new_array();

    for (int i = 0; i < DEEP; i++) {
        struct json_object *const outer = json_object_new_array();

        json_object_array_add(outer, o);
        o = outer;
    }
    return json_add_obj(json_new(), "findings", o);
}

static bool lie(struct json_object **reply, struct err *e)
{
    struct json_object *const honest = *reply;

    if (strcmp(what, "stop") == 0)
        raise(SIGSTOP);
    if (strcmp(what, "mute") == 0)
        clock_sleep_ms(FOR_EVER_MS);
    if (strncmp(what, "claims=", 7) == 0)
        return err_set(e, err_kind_parse(what + 7), 0, "so it is said");
    if (strcmp(what, "escapes") == 0)
        return err_set(e, ERR_SYS, 0,
                       "\033[2J\033]0;owned\007\r\n\xe2\x80\xae"
                       "drawn");
    *reply = strcmp(what, "huge") == 0   ? huge()
             : strcmp(what, "deep") == 0 ? deep()
                                         : bent(honest);
    json_object_put(honest);
    return true;
}

static bool is_here(const char *method, const char *path)
{
    const size_t len = strlen(path), n = strlen(where);

    return strcmp(method, where) == 0 ||
           (len >= n && strcmp(path + len - n, where) == 0);
}

static bool request(void *ctx, const char *method, const char *path,
                    struct json_object *body, struct json_object **reply, struct err *e)
{
    if (!route_request(ctx, method, path, body, reply, e))
        return false;
    return !is_here(method, path) || lie(reply, e);
}

/* ---- channels ------------------------------------------------------------------------- */

/* The one end is given to the link; the other one is read, for noise written, too. */
static void *swallow(void *arg)
{
    const int fd = (int)(intptr_t)arg;
    char buf[4096];
    struct err e;

    memset(buf, 0xa5, sizeof buf);
    if (strcmp(what, "noise") == 0)
        (void)!fd_write_all(fd, buf, sizeof buf, &e);
    while (read(fd, buf, sizeof buf) > 0)
        ;
    return NULL;
}

/* The question and the answer of nbd-mirror/digest-wire.h, with the lie in it. */
struct digests {
    int src, honest;
};

static bool pass(int from, int to, uint8_t *p, size_t len)
{
    struct err e;

    return fd_read_all(from, p, len, &e) && fd_write_all(to, p, len, &e);
}

static void pass_question(const struct digests *d)
{
    enum { HEAD = 32, RANGE = 16 };
    uint8_t p[HEAD];

    if (!pass(d->src, d->honest, p, HEAD))
        return;
    for (unsigned n = (unsigned)p[26] << 8 | p[27]; n > 0; n--)
        if (!pass(d->src, d->honest, p, RANGE))
            return;
}

static void *bend_digests(void *arg)
{
    struct digests *const d = arg;
    uint8_t p[17];
    bool first = true;
    struct err e;

    pass_question(d);
    while (fd_read_all(d->honest, p, 1, &e)) {
        const size_t len = p[0] == 's' ? 17 : p[0] == 'z' ? 9 : 1;

        if (len > 1 && !fd_read_all(d->honest, p + 1, len - 1, &e))
            break;
        if (p[0] == 's' && strcmp(what, "other") == 0)
            p[1] ^= 1;
        if (p[0] == 'z' && strcmp(what, "counts") == 0)
            p[1] ^= 1;
        const bool left_out = first && strcmp(what, "fewer") == 0;
        first = false;
        if (!left_out && !fd_write_all(d->src, p, len, &e))
            break;
    }
    close(d->src);
    close(d->honest);
    free(d);
    return NULL;
}

static bool bends_digests(void)
{
    return strcmp(where, "digest") == 0 &&
           (strcmp(what, "other") == 0 || strcmp(what, "counts") == 0 ||
            strcmp(what, "fewer") == 0);
}

static void start(void *(*run)(void *), void *arg)
{
    pthread_t t;

    if (pthread_create(&t, NULL, run, arg) != 0)
        abort();
    pthread_detach(t);
}

static bool channel(void *ctx, const char *path, int *fd, struct err *e)
{
    int pair[2];

    if (strncmp(path, where, strlen(where)) != 0)
        return route_channel(ctx, path, fd, e);
    if (!unix_pair(pair, e))
        return false;
    *fd = pair[0];
    if (!bends_digests()) {
        start(swallow, (void *)(intptr_t)pair[1]);
        return true;
    }
    struct digests *const d = calloc(1, sizeof *d);
    if (d == NULL || !route_channel(ctx, path, &d->honest, e))
        abort();
    d->src = pair[1];
    start(bend_digests, d);
    return true;
}

int main(int argc, char **argv)
{
    char *const colon = argc == 2 ? strchr(argv[1], ':') : NULL;
    struct link *link = NULL;
    struct err e;

    if (colon == NULL)
        return 2;
    *colon = '\0';
    what = argv[1];
    where = colon + 1;
    log_init(LOG_DEBUG, "dst");
    all = arrivals_new(&guest_libvirt);
    const struct link_server_ops ops = { request, channel, all };
    const struct link_cfg cfg = { .in = 0, .out = 1, .server = &ops };
    if (!virt_init(&e) || !link_open(&cfg, 0, NULL, &link, &e))
        return 1;
    const bool ok = link_wait(link, &e);
    /* Handlers that are mute would be waited for. */
    arrivals_lost(all);
    _exit(ok ? 0 : 1);
}
