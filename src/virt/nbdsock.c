#include "virt/nbdsock.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/unix.h"

#define SUFFIX  "nbd"
#define LIB_DIR "/var/lib/libvirt/qemu" /* of the system libvirt, not of a session */

static void dir_close_auto(DIR **d)
{
    if (*d != NULL)
        closedir(*d);
}

static bool join(const char *dir, const char *name, const char *suffix,
                 char out[PATHS_SOCK_MAX], struct err *e)
{
    const int n = snprintf(out, PATHS_SOCK_MAX, "%s/%s%s", dir, name, suffix);

    return (n > 0 && n < PATHS_SOCK_MAX) ||
           err_set(e, ERR_USAGE, 0,
                   "a socket in %s would have a path of %d bytes, at most "
                   "%d fit",
                   dir, n, PATHS_SOCK_MAX - 1);
}

bool nbdsock_in_libdir(const struct status *s, const char *prefix,
                       char out[PATHS_SOCK_MAX], struct err *e)
{
    return join(s->libdir, prefix, SUFFIX, out, e);
}

bool nbdsock_in_run(const char *prefix, char out[PATHS_SOCK_MAX], struct err *e)
{
    return join(PATHS_RUN, prefix, SUFFIX, out, e);
}

static bool listens_in(const char *path, pid_t pid)
{
    AUTO(fd_close) int fd = -1;
    struct ucred who;
    socklen_t len = sizeof who;
    struct err e;

    return unix_connect(path, &fd, &e) &&
           getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.pid == pid;
}

static bool is_ours(const char *name, const char *prefix)
{
    const size_t len = strlen(name), plen = strlen(prefix), slen = strlen("-" SUFFIX);

    return len >= plen + strlen(SUFFIX) && strncmp(name, prefix, plen) == 0 &&
           strcmp(name + len - slen, "-" SUFFIX) == 0;
}

static bool find_in(const char *dir, const char *prefix, pid_t pid,
                    char out[PATHS_SOCK_MAX])
{
    AUTO(dir_close) DIR *d = opendir(dir);
    struct err e;

    if (d == NULL)
        return false;
    for (struct dirent *at = readdir(d); at != NULL; at = readdir(d))
        if (is_ours(at->d_name, prefix) && join(dir, at->d_name, "", out, &e) &&
            listens_in(out, pid))
            return true;
    return false;
}

bool nbdsock_find(const struct status *s, const char *prefix, char out[PATHS_SOCK_MAX])
{
    return find_in(s->libdir, prefix, s->pid, out) ||
           find_in(PATHS_RUN, prefix, s->pid, out);
}

void nbdsock_remove(const char *prefix)
{
    char dir[PATHS_SOCK_MAX], path[PATHS_SOCK_MAX];
    AUTO(dir_close) DIR *d = opendir(LIB_DIR);
    struct err e;

    if (nbdsock_in_run(prefix, path, &e))
        unlink(path);
    if (d == NULL)
        return;
    for (struct dirent *at = readdir(d); at != NULL; at = readdir(d))
        if (strncmp(at->d_name, "domain-", strlen("domain-")) == 0 &&
            join(LIB_DIR, at->d_name, "", dir, &e) &&
            join(dir, prefix, SUFFIX, path, &e))
            unlink(path);
}
