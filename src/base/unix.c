#include "base/unix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/mem.h"

enum {
    BACKLOG = 16,    /* connections of one disk at most, all dialled at once */
    AGAIN_MS = 20,   /* between two tries to connect */
    DIR_MODE = 0700, /* nobody else */
    PARENT_MODE = 0755,
};

static bool addr_set(struct sockaddr_un *sa, const char *path, struct err *e)
{
    const size_t len = strlen(path);

    *sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (len == 0 || len >= sizeof sa->sun_path)
        return err_set(e, ERR_USAGE, 0, "socket path %.60s has %zu bytes, 1 to %zu fit",
                       path, len, sizeof sa->sun_path - 1);
    memcpy(sa->sun_path, path, len + 1);
    return true;
}

bool unix_listen(const char *path, int *out, struct err *e)
{
    struct sockaddr_un sa;

    if (!addr_set(&sa, path, e))
        return false;
    AUTO(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set(e, ERR_SYS, errno, "socket");
    if (bind(fd, (const struct sockaddr *)&sa, sizeof sa) < 0 ||
        listen(fd, BACKLOG) < 0)
        return err_set(e, ERR_SYS, errno, "cannot listen on %s", path);
    *out = fd_steal(&fd);
    return true;
}

/* @flags: SOCK_NONBLOCK or 0. */
static bool connect_flags(const char *path, int flags, int *out, struct err *e)
{
    struct sockaddr_un sa;

    if (!addr_set(&sa, path, e))
        return false;
    AUTO(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0)
        return err_set(e, ERR_SYS, errno, "socket");
    while (connect(fd, (const struct sockaddr *)&sa, sizeof sa) < 0)
        if (errno != EINTR) /* not begun yet, unlike with TCP: unix(7) waits for room */
            return err_set(e, ERR_SYS, errno, "cannot connect to %s", path);
    *out = fd_steal(&fd);
    return true;
}

bool unix_connect(const char *path, int *out, struct err *e)
{
    return connect_flags(path, 0, out, e);
}

bool unix_connect_wait(const char *path, int timeout_ms, const struct cancel *c,
                       int *out, struct err *e)
{
    const int64_t end = clock_ms() + timeout_ms;
    struct err why;
    AUTO(fd_close) int fd = -1;

    if (!cancel_check(c, e))
        return false;
    /* Non-blocking, because a full backlog would hold us past the deadline. */
    while (!connect_flags(path, SOCK_NONBLOCK, &fd, &why)) {
        if (why.os != ENOENT && why.os != ECONNREFUSED && why.os != EAGAIN) {
            *e = why;
            return false;
        }
        if (clock_left_ms(end) == 0) {
            *e = why;
            e->kind = ERR_TIMEOUT;
            return err_wrap(e, "gave up after %d ms", timeout_ms);
        }
        if (!cancel_sleep_ms(c, AGAIN_MS, e))
            return false;
    }
    const int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
        return err_set(e, ERR_SYS, errno, "fcntl");
    *out = fd_steal(&fd);
    return true;
}

bool unix_accept(int listener, int timeout_ms, const struct cancel *c, int *out,
                 struct err *e)
{
    const int64_t end = clock_ms() + timeout_ms;

    for (;;) {
        struct pollfd p[] = { { .fd = listener, .events = POLLIN },
                              { .fd = cancel_fd(c), .events = POLLIN } };
        const int left = timeout_ms < 0 ? -1 : clock_left_ms(end);

        if (poll(p, 2, left) < 0 && errno != EINTR)
            return err_set(e, ERR_SYS, errno, "poll");
        if (!cancel_check(c, e))
            return false;
        if (p[0].revents != 0) {
            const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

            if (fd >= 0) {
                *out = fd;
                return true;
            }
            if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED)
                return err_set(e, ERR_SYS, errno, "accept");
        }
        if (left == 0)
            return err_set(e, ERR_TIMEOUT, 0, "nobody connected within %d ms",
                           timeout_ms);
    }
}

bool unix_pair(int out[2], struct err *e)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out) < 0)
        return err_set(e, ERR_SYS, errno, "socketpair");
    return true;
}

void unix_widen(int fd, int bytes)
{
    /* The first needs a privilege, the second goes no further than net.core.wmem_max. */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0 &&
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) < 0)
        return; /* not a socket */
}

/* After EAGAIN: another holder of the descriptor may have made it non-blocking. */
static bool fd_wait(int fd, short events, struct err *e)
{
    struct pollfd p = { .fd = fd, .events = events };

    if (poll(&p, 1, -1) < 0 && errno != EINTR)
        return err_set(e, ERR_SYS, errno, "poll");
    return true;
}

bool fd_write_all(int fd, const void *buf, size_t len, struct err *e)
{
    const char *p = buf;

    while (len > 0) {
        const ssize_t n = write(fd, p, len);

        if (n >= 0) {
            p += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            if (!fd_wait(fd, POLLOUT, e))
                return false;
        } else if (errno != EINTR) {
            return err_set(e, ERR_SYS, errno, "write");
        }
    }
    return true;
}

bool fd_read_all(int fd, void *buf, size_t len, struct err *e)
{
    char *p = buf;
    size_t left = len;

    while (left > 0) {
        const ssize_t n = read(fd, p, left);

        if (n > 0) {
            p += n;
            left -= (size_t)n;
        } else if (n == 0) {
            return err_set(e, ERR_PROTO, 0, "end of file after %zu of %zu bytes",
                           len - left, len);
        } else if (errno == EAGAIN) {
            if (!fd_wait(fd, POLLIN, e))
                return false;
        } else if (errno != EINTR) {
            return err_set(e, ERR_SYS, errno, "read");
        }
    }
    return true;
}

/* Make the directories above the last component of @path, and open the last of them;
 * *leaf is then that component's name, of @path. */
static bool parents_open(const char *path, int *out, const char **leaf, struct err *e)
{
    const char *p = path;
    AUTO(fd_close)
    int fd = open(*p == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return err_set(e, ERR_SYS, errno, "%s", path);
    for (;;) {
        p += strspn(p, "/");
        const size_t len = strcspn(p, "/");
        char name[NAME_MAX + 1];

        if (len == 0 || len > NAME_MAX)
            return err_set(e, ERR_USAGE, 0, "not a directory's path: \"%.200s\"", path);
        if (p[len + strspn(p + len, "/")] == '\0') {
            *leaf = p;
            *out = fd_steal(&fd);
            return true;
        }
        memcpy(name, p, len);
        name[len] = '\0';
        if (mkdirat(fd, name, PARENT_MODE) < 0 && errno != EEXIST)
            return err_set(e, ERR_SYS, errno, "cannot make %.*s", (int)(p - path + len),
                           path);
        /* These may be symlinks: /var/run is one. */
        const int next = openat(fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (next < 0)
            return err_set(e, ERR_SYS, errno, "%.*s", (int)(p - path + len), path);
        close(fd);
        fd = next;
        p += len;
    }
}

bool need_root(struct err *e)
{
    if (geteuid() == 0)
        return true;
    err_set(e, ERR_REFUSED, 0, "snmigrate must run as root");
    return err_next(e, "Run it as root, or with sudo.");
}

bool dir_private(const char *path, struct err *e)
{
    const char *leaf = NULL;
    char name[NAME_MAX + 1];
    struct stat st;
    AUTO(fd_close) int up = -1;

    if (!parents_open(path, &up, &leaf, e))
        return false;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(leaf, "/"), leaf);
    if (mkdirat(up, name, DIR_MODE) < 0 && errno != EEXIST)
        return err_set(e, ERR_SYS, errno, "cannot make %s", path);

    /* From here on all is asked of the descriptor: the name may come to mean another. */
    AUTO(fd_close)
    int fd = openat(up, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(e, ERR_SYS, errno, "cannot use %s", path);
    if (st.st_uid != geteuid())
        return err_set(e, ERR_SYS, EPERM, "%s belongs to uid %u, not to us", path,
                       (unsigned)st.st_uid);
    if ((st.st_mode & 077) != 0)
        return err_set(e, ERR_SYS, EPERM, "%s is open to others (mode %04o)", path,
                       (unsigned)st.st_mode & 07777);
    return true;
}

void dir_remove(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *const dir = fd >= 0 ? fdopendir(fd) : NULL;

    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        /* An empty directory goes as well; a full one stays, and @path with it. */
        if (unlinkat(fd, d->d_name, 0) < 0 && errno == EISDIR)
            unlinkat(fd, d->d_name, AT_REMOVEDIR);
    }
    closedir(dir);
    rmdir(path);
}
