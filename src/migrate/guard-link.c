/* The move's side of the guard: start it, tell it how far the move is. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/unix.h"
#include "migrate/rescue.h"

enum { BYE_MS = 3000 };

struct guard_link {
    struct proc proc;
    int fd;
};

static struct json_object *facts(struct move *m, int self)
{
    struct json_object *const o = rescue_facts(m);

    json_add_u64(o, "main_fd", (uint64_t)self);
    json_add_u64(o, "qemu_fd", (uint64_t)m->qemu_pidfd);
    return json_add_u64(o, "lock_fd", (uint64_t)m->lock_fd);
}

static bool send_line(int fd, const char *text, struct err *e)
{
    char line[8192];
    const int n = snprintf(line, sizeof line, "%s\n", text);

    if (n < 0 || (size_t)n >= sizeof line)
        return err_set(e, ERR_USAGE, 0, "too long for the guard");
    if (send(fd, line, (size_t)n, MSG_NOSIGNAL) != n)
        return err_set(e, ERR_SYS, errno, "the guard process is gone");
    return true;
}

bool guard_start(struct move *m, struct err *e)
{
    AUTO(mem_free) struct guard_link *g = calloc(1, sizeof *g);
    AUTO(fd_close) int self = -1;
    const char *const argv[] = { "/proc/self/exe", "guard", NULL };
    int pair[2];

    if (g == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "guard");
    if (!proc_open(getpid(), &self, e) || !unix_pair(pair, e))
        return false;
    AUTO(json_put) struct json_object *o = facts(m, self);
    AUTO(fd_close) int ours = pair[0];
    AUTO(fd_close) int theirs = pair[1];
    const struct proc_cfg cfg = { .argv = argv,
                                  .in = theirs,
                                  .out = -1,
                                  .err = -1,
                                  .keep = { m->lock_fd, m->qemu_pidfd, self },
                                  .nkeep = 3,
                                  .new_session = true };
    if (!proc_spawn(&cfg, &g->proc, e) ||
        !send_line(ours, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN), e))
        return false;
    g->fd = fd_steal(&ours);
    m->guard = ptr_steal(&g);
    return true;
}

bool guard_say(struct move *m, const char *word, struct err *e)
{
    return send_line(m->guard->fd, word, e);
}

static void guard_free(struct move *m)
{
    close(m->guard->fd);
    free(m->guard);
    m->guard = NULL;
}

void guard_bye(struct move *m)
{
    struct guard_link *const g = m->guard;
    struct err e = { 0 };
    int status;

    if (g == NULL)
        return;
    if (!guard_say(m, "bye", &e))
        log_debug("guard", "%s", e.msg);
    shutdown(g->fd, SHUT_WR);
    if (!proc_wait(&g->proc, BYE_MS, &status, &e))
        proc_stop(&g->proc, BYE_MS);
    guard_free(m);
}
