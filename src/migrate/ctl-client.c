/* Finding the moves of this host, and asking them.
 *
 * A move's socket has its domain's uuid in its name, so that what a dead one left is known
 * without asking.  The lists of directories are root's own; what a move says is not trusted
 * further than any peer's words. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"
#include "migrate/ctl.h"

enum { UUID_LEN = 36 };
static const char suffix[] = ".ctl";

/* "UUID.ctl" */
static bool is_socket(const char *name)
{
    return strlen(name) == UUID_LEN + sizeof suffix - 1 &&
           strspn(name, "0123456789abcdef-") >= UUID_LEN &&
           strcmp(name + UUID_LEN, suffix) == 0;
}

/* The socket in the run directory @id, if there is one. */
static bool look_into(const char *id, struct ctl_move *out)
{
    char path[PATHS_MAX];
    bool found = false;

    paths_run_dir(path, id);
    DIR *const dir = opendir(path);
    if (dir == NULL)
        return false;
    for (const struct dirent *d; !found && (d = readdir(dir)) != NULL;) {
        if (!is_socket(d->d_name))
            continue;
        found = snprintf(out->path, sizeof out->path, "%.60s/%s", path, d->d_name) <
                (int)sizeof out->path;
        memcpy(out->uuid, d->d_name, UUID_LEN);
        out->uuid[UUID_LEN] = '\0';
        memcpy(out->id, id, sizeof out->id);
    }
    closedir(dir);
    return found;
}

size_t ctl_list(struct ctl_move *out, size_t max)
{
    DIR *const dir = opendir(PATHS_RUN);
    size_t n = 0;

    if (dir == NULL)
        return 0; /* nothing has ever moved, since boot */
    for (const struct dirent *d; n < max && (d = readdir(dir)) != NULL;)
        if (paths_id_ok(d->d_name) && look_into(d->d_name, &out[n]))
            n++;
    closedir(dir);
    return n;
}

void ctl_tidy(const char *uuid)
{
    AUTO(mem_free) struct ctl_move *list = calloc(CTL_MOVES_MAX, sizeof *list);
    char path[PATHS_MAX];

    if (list == NULL)
        return;
    const size_t n = ctl_list(list, CTL_MOVES_MAX);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].uuid, uuid) != 0)
            continue;
        log_info("control", "removing what the dead move %s left", list[i].id);
        paths_run_dir(path, list[i].id);
        dir_remove(path);
    }
}

/* --- asking --- */

bool ctl_read(int fd, int timeout_ms, struct json_object **reply, struct err *e)
{
    AUTO(mem_free) char *buf = malloc(CTL_REPLY_MAX);
    const int64_t end = clock_ms() + timeout_ms;
    size_t len = 0;

    if (buf == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "answer");
    for (;;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        const int left = timeout_ms < 0 ? -1 : clock_left_ms(end);

        if (poll(&p, 1, left) == 0)
            return err_set(e, ERR_TIMEOUT, 0, "it did not answer for %d ms",
                           timeout_ms);
        /* A byte too many would be the next line's. */
        const ssize_t n = recv(fd, buf + len, CTL_REPLY_MAX - len, MSG_PEEK);
        if (n < 0 && errno != EINTR)
            return err_set(e, ERR_LINK, errno, "it went away");
        if (n == 0)
            return err_set(e, ERR_LINK, 0, "it went away without an answer");
        if (n < 0)
            continue;
        const char *const nl = memchr(buf + len, '\n', (size_t)n);
        const size_t take = nl != NULL ? (size_t)(nl + 1 - (buf + len)) : (size_t)n;

        if (!fd_read_all(fd, buf + len, take, e))
            return false;
        len += take;
        if (nl != NULL)
            return json_parse(buf, len - 1, reply, e);
        if (len == CTL_REPLY_MAX)
            return err_set(e, ERR_PROTO, 0, "an answer of more than %d bytes",
                           CTL_REPLY_MAX);
    }
}

/* Of a dead one that is known at once; a living one may have others to take in before. */
static bool dial(const char *path, int timeout_ms, int *fd, struct err *e)
{
    enum { AGAIN_MS = 20 };
    const int64_t end = clock_ms() + timeout_ms;

    while (!unix_connect_wait(path, 0, NULL, fd, e)) {
        if (e->os == ECONNREFUSED || e->os == ENOENT)
            return err_set(e, ERR_LINK, 0, "nobody listens at %s any more", path);
        if (e->os != EAGAIN || clock_left_ms(end) == 0)
            return false;
        clock_sleep_ms(AGAIN_MS);
    }
    return true;
}

bool ctl_call(const char *path, const struct ctl_request *r, int timeout_ms,
              struct json_object **reply, int *out, struct err *e)
{
    AUTO(json_put) struct json_object *o = ctl_request(r);
    AUTO(mem_free) char *line = NULL;
    AUTO(fd_close) int fd = -1;

    if (!dial(path, timeout_ms, &fd, e))
        return false;
    if (asprintf(&line, "%s\n",
                 json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN)) < 0) {
        line = NULL;
        return err_set(e, ERR_SYS, ENOMEM, "request");
    }
    /* It may have turned us away without listening: what it said of that is there. */
    if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0 && errno != EPIPE)
        return err_set(e, ERR_LINK, errno, "asking");
    if (!ctl_read(fd, timeout_ms, reply, e))
        return false;
    if (out != NULL)
        *out = fd_steal(&fd);
    return true;
}
