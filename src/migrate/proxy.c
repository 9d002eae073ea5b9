/* The destination's libvirt on a Unix socket of ours: every connection that libvirt's
 * client opens becomes a channel.  One thread accepts; the link does the rest. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "base/unix.h"
#include "migrate/move-int.h"
#include "tunnel/link.h"

struct proxy {
    struct link *link; /* borrowed */
    int listener;
    struct cancel *stop;
    pthread_t thread;
    char path[PATHS_MAX];
};

static void *accept_loop(void *arg)
{
    struct proxy *p = arg;

    for (;;) {
        struct err e = { 0 };
        int fd = -1;

        if (!unix_accept(p->listener, -1, p->stop, &fd, &e)) {
            if (e.kind == ERR_CANCELLED)
                return NULL;
            log_warn("libvirt", "%s", e.msg);
            return NULL;
        }
        if (!link_channel(p->link, "libvirt", fd, LINK_TALK, ZSTD_OFF, &e))
            log_warn("libvirt", "no channel to the destination's libvirt: %s", e.msg);
    }
}

bool proxy_start(struct link *link, const char *path, struct proxy **out, struct err *e)
{
    AUTO(mem_free) struct proxy *p = calloc(1, sizeof *p);
    AUTO(cancel_free) struct cancel *stop = cancel_new();
    AUTO(fd_close) int fd = -1;

    if (p == NULL || stop == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "proxy");
    unlink(path);
    if (!unix_listen(path, &fd, e))
        return false;
    p->link = link;
    p->listener = fd;
    p->stop = stop;
    snprintf(p->path, sizeof p->path, "%s", path);
    if (!thread_start(&p->thread, accept_loop, p, "libvirt", e))
        return false;
    fd_steal(&fd);
    ptr_steal(&stop);
    *out = ptr_steal(&p);
    return true;
}

void proxy_stop(struct proxy *p)
{
    if (p == NULL)
        return;
    cancel_set(p->stop);
    pthread_join(p->thread, NULL);
    close(p->listener);
    unlink(p->path);
    cancel_free(p->stop);
    free(p);
}
