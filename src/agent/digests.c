#include "agent/digests.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/thread.h"
#include "base/unix.h"
#include "nbd-mirror/digest-wire.h"

struct digests {
    int fd;
    char sock[PATHS_SOCK_MAX], name[64];
};

static bool dial(void *ctx, int *fd, struct err *e)
{
    return unix_connect(ctx, fd, e);
}

static void *answer(void *arg)
{
    struct digests *const d = arg;
    const struct mirror_side side = { dial, d->sock, d->name };
    struct err e;

    if (!digest_wire_serve(d->fd, &side, &e))
        log_debug("digest", "%s", e.msg); /* who asked has been told, or has gone */
    close(d->fd);
    free(d);
    return NULL;
}

bool digests_open(const char *sock, const char *name_of_export, int *fd, struct err *e)
{
    struct digests *const d = malloc(sizeof *d);
    int pair[2];

    if (d == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "digests");
    snprintf(d->sock, sizeof d->sock, "%s", sock);
    snprintf(d->name, sizeof d->name, "%s", name_of_export);
    if (!unix_pair(pair, e)) {
        free(d);
        return false;
    }
    d->fd = pair[1];
    if (!thread_start_detached(answer, d, "digest", e)) {
        close(pair[0]);
        close(pair[1]);
        free(d);
        return false;
    }
    *fd = pair[0];
    return true;
}
