#include "tests/lib/link-duo.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unix.h"

/* A test's own helpers failing is a test failing. */
static void must(bool ok, const struct err *e)
{
    if (ok)
        return;
    fprintf(stderr, "link-duo: %s\n", e->msg);
    abort();
}

/* --- the server's side --- */

void far_init(struct far *f)
{
    memset(f, 0, sizeof *f);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
}

void far_fini(struct far *f)
{
    for (unsigned i = 0; i < f->nfds; i++)
        if (f->fds[i] >= 0)
            close(f->fds[i]);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
}

void far_go(struct far *f)
{
    pthread_mutex_lock(&f->lock);
    f->go = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

void far_wait_for(struct far *f, unsigned waiting)
{
    pthread_mutex_lock(&f->lock);
    while (f->waiting < waiting)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

static bool request(void *ctx, const char *method, const char *path,
                    struct json_object *body, struct json_object **reply, struct err *e)
{
    struct far *const f = ctx;

    if (strcmp(path, "/echo") == 0) {
        *reply = json_object_get(body);
        return true;
    }
    if (strcmp(path, "/nothing") == 0)
        return true;
    if (strcmp(path, "/method") == 0) {
        *reply = json_add_str(json_new(), "method", method);
        return true;
    }
    if (strncmp(path, "/moves/", 7) == 0) {
        *reply = json_add_str(json_new(), "method", method);
        json_add_str(*reply, "path", path);
        json_add_obj(*reply, "body", json_object_get(body));
        return true;
    }
    if (strcmp(path, "/wait") == 0) {
        pthread_mutex_lock(&f->lock);
        f->waiting++;
        pthread_cond_broadcast(&f->changed);
        while (!f->go)
            pthread_cond_wait(&f->changed, &f->lock);
        pthread_mutex_unlock(&f->lock);
        return true;
    }
    err_set(e, ERR_NBD, ENOSPC, "cannot make %s", path);
    return err_next(e, "Make room at the destination.");
}

static bool channel(void *ctx, const char *path, int *fd, struct err *e)
{
    struct far *const f = ctx;
    int pair[2];

    if (strcmp(path, "refused") == 0) {
        err_set(e, ERR_REFUSED, 0, "no such disk");
        return err_next(e, "Name another.");
    }
    if (!unix_pair(pair, e))
        return false;
    pthread_mutex_lock(&f->lock);
    assert(f->nfds < FAR_FDS);
    f->fds[f->nfds++] = pair[0];
    pthread_mutex_unlock(&f->lock);
    *fd = pair[1];
    return true;
}

struct link_server_ops far_ops(struct far *f)
{
    return (struct link_server_ops){ request, channel, f };
}

/* --- both ends --- */

void duo_open_with(struct duo *d, uint64_t rate, int heartbeat_ms)
{
    const struct link_server_ops ops = far_ops(&d->far);
    int pair[2];
    struct err e;

    far_init(&d->far);
    must(unix_pair(pair, &e), &e);
    d->wire = dup(pair[0]);
    const struct link_cfg server = {
        .in = pair[1], .out = pair[1], .server = &ops, .heartbeat_ms = heartbeat_ms
    };
    const struct link_cfg client = {
        .in = pair[0], .out = pair[0], .rate = rate, .heartbeat_ms = heartbeat_ms
    };
    must(link_open(&server, 0, NULL, &d->server, &e), &e);
    must(link_open(&client, LONG_MS, NULL, &d->client, &e), &e);
}

void duo_open(struct duo *d)
{
    duo_open_with(d, 0, LONG_MS);
}

void duo_close(struct duo *d)
{
    far_go(&d->far);
    link_close(d->client);
    link_close(d->server);
    close(d->wire);
    far_fini(&d->far);
}

void duo_cut(struct duo *d)
{
    shutdown(d->wire, SHUT_RDWR);
}

int duo_channel(struct duo *d, enum link_class class, int zstd, int *far)
{
    struct err e;
    int fd = -1;

    must(link_channel_pair(d->client, "disk/vda", class, zstd, &fd, &e), &e);
    pthread_mutex_lock(&d->far.lock);
    *far = d->far.fds[d->far.nfds - 1];
    pthread_mutex_unlock(&d->far.lock);
    return fd;
}

void duo_far_close(struct duo *d)
{
    pthread_mutex_lock(&d->far.lock);
    close(d->far.fds[d->far.nfds - 1]);
    d->far.fds[d->far.nfds - 1] = -1;
    pthread_mutex_unlock(&d->far.lock);
}

/* --- bytes whose value follows from their place --- */

enum { CHUNK = 96 * KIB };

void pattern(uint8_t *p, size_t len, uint64_t at, unsigned seed)
{
    /* Compressible, but not by much, and different everywhere. */
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)(((at + i) * 2654435761u + seed) >> ((at + i) % 3 * 8) & 0x3f);
}

static void *send_main(void *arg)
{
    struct flow *const f = arg;
    uint8_t buf[CHUNK];
    struct err e;

    for (uint64_t at = 0; at < f->bytes && !f->bad;) {
        const size_t n =
            f->bytes - at < sizeof buf ? (size_t)(f->bytes - at) : sizeof buf;

        pattern(buf, n, at, f->seed);
        f->bad = !fd_write_all(f->fd, buf, n, &e);
        at += n;
    }
    if (f->shut)
        shutdown(f->fd, SHUT_WR);
    return NULL;
}

static void *receive_main(void *arg)
{
    struct flow *const f = arg;
    uint8_t buf[CHUNK], want[CHUNK];
    uint64_t at = 0;
    ssize_t n;

    while ((n = read(f->fd, buf, sizeof buf)) > 0) {
        pattern(want, (size_t)n, at, f->seed);
        if (memcmp(buf, want, (size_t)n) != 0)
            break;
        at += (uint64_t)n;
    }
    f->bad = n != 0 || at != f->bytes;
    return NULL;
}

static void flow_start(struct flow *f, void *(*fn)(void *))
{
    const int os = pthread_create(&f->thread, NULL, fn, f);

    assert(os == 0);
    (void)os;
}

void flow_send(struct flow *f)
{
    flow_start(f, send_main);
}

void flow_receive(struct flow *f)
{
    flow_start(f, receive_main);
}

bool flow_end(struct flow *f)
{
    pthread_join(f->thread, NULL);
    return !f->bad;
}
