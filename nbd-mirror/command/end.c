#include "nbd-mirror/command/end.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/unix.h"
#include "nbd-mirror/mirror.h"

enum {
    GRACE_MS = 2000,  /* for a server that is not waited for */
    CLOSE_MS = 60000, /* for one that may have much to write back */
    REST_MS = 500,    /* to end with its last client */
    BLAME_MS = 200,
    DIAL_MS = 30000,   /* for a server that does not accept */
    CREATE_MS = 60000, /* for qemu-img to make a file */
    WORDS_MAX = 256,   /* of a command */
};

/* --- what it is --- */

static bool no_file(const struct end *x, struct err *e)
{
    err_set(e, ERR_USAGE, 0, "%s: there is no file %s", x->side, x->place->path);
    return x->writable ? err_next(e, "--create makes it; or make it with qemu-img.")
                       : false;
}

/* What qemu-nbd is started with for a file.  "./": a colon in a name is no protocol. */
static bool file_command(struct end *x, struct err *e)
{
    const char *const path = x->place->path;
    unsigned n = 0;

    if (snprintf(x->format, sizeof x->format, "--format=%s", x->place->format) >=
            (int)sizeof x->format ||
        snprintf(x->path, sizeof x->path, "%s%s", path[0] == '/' ? "" : "./", path) >=
            (int)sizeof x->path)
        return err_set(e, ERR_USAGE, 0, "%s: the name is too long", x->side);
    x->command = x->command_of_file;
    x->command[n++] = (char *)"qemu-nbd";
    x->command[n++] = (char *)"--persistent";
    x->command[n++] = (char *)"--shared=16";
    x->command[n++] = x->format;
    x->command[n++] = (char *)"--detect-zeroes=off"; /* that is done here */
    x->command[n++] = (char *)(x->writable ? "--discard=unmap" : "--read-only");
    x->command[n++] = x->path;
    assert(n < sizeof x->command_of_file / sizeof x->command_of_file[0]);
    static_assert(MIRROR_LANES_MAX == 16, "--shared above");
    return true;
}

static bool end_find(struct end *x, struct err *e)
{
    const struct place *p = x->place;
    struct stat st;

    if (p->command != NULL) {
        x->command = p->command;
        return true;
    }
    const bool there = stat(p->path, &st) == 0;
    if (p->format != NULL) {
        if (!there)
            return errno == ENOENT ? no_file(x, e)
                                   : err_set(e, ERR_SYS, errno, "%s: cannot look at %s",
                                             x->side, p->path);
        if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))
            return file_command(x, e);
        return err_set(e, ERR_USAGE, 0, "%s: %s is no file, --%s-format is for one",
                       x->side, p->path, x->side);
    }
    if (!there || S_ISSOCK(st.st_mode))
        return true; /* connecting says more */
    err_set(e, ERR_USAGE, 0, "%s: %s is no socket", x->side, p->path);
    return err_next(e,
                    "If it is an image, say its format, which is never guessed:"
                    " --%s-format=raw or qcow2.",
                    x->side);
}

/* --- the server --- */

static bool socket_make(struct end *x, int *listener, struct err *e)
{
    const char *tmp = getenv("TMPDIR");

    if (snprintf(x->dir, sizeof x->dir, "%s/nbd-mirror.XXXXXX",
                 tmp != NULL ? tmp : "/tmp") >= (int)sizeof x->dir ||
        mkdtemp(x->dir) == NULL) {
        x->dir[0] = '\0';
        return err_set(e, ERR_SYS, errno, "%s: cannot make a directory in %s", x->side,
                       tmp != NULL ? tmp : "/tmp");
    }
    if (snprintf(x->sock, sizeof x->sock, "%s/s", x->dir) >= (int)sizeof x->sock)
        x->sock[0] = '\0'; /* unix_listen() refuses it */
    return unix_listen(x->sock, listener, e);
}

static void socket_remove(struct end *x)
{
    if (x->dir[0] == '\0')
        return;
    unlink(x->sock);
    rmdir(x->dir);
    x->dir[0] = '\0';
}

/* The shell is there to know its own pid, which becomes the server's: LISTEN_PID must be
 * set after the fork.  sd_listen_fds(3): the first socket is descriptor 3. */
static bool server_start(struct end *x, struct err *e)
{
    const char *argv[WORDS_MAX + 5] = {
        "/bin/sh", "-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 </dev/null",
        x->side
    };
    AUTO(fd_close) int listener = -1;
    unsigned n = 4;

    for (char **word = x->command; *word != NULL; argv[n++] = *word++)
        if (n == WORDS_MAX + 4)
            return err_set(e, ERR_USAGE, 0, "%s: a command of over %d words", x->side,
                           WORDS_MAX);
    if (!socket_make(x, &listener, e))
        return false;
    const struct proc_cfg cfg = { .argv = argv,
                                  .in = listener,
                                  .out = STDERR_FILENO, /* stdout is the result's */
                                  .err = -1,
                                  .death_signal = SIGTERM,
                                  .new_session = true };
    if (proc_spawn(&cfg, &x->server, e))
        return true; /* and ours is closed: when the server ends, so does the socket */
    return err_wrap(e, "%s", x->side);
}

static bool server_judge(const struct end *x, int status, struct err *e)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (WIFSIGNALED(status))
        return err_set(e, ERR_SYS, 0, "%s: %s was killed by signal %d", x->side,
                       x->command[0], WTERMSIG(status));
    return err_set(e, ERR_SYS, 0, "%s: %s ended with status %d", x->side, x->command[0],
                   WEXITSTATUS(status));
}

/* It has ended by itself. */
static bool server_reap(struct end *x, struct err *e)
{
    int status = 0;

    socket_remove(x);
    return proc_wait(&x->server, -1, &status, e) && server_judge(x, status, e);
}

bool end_open(struct end *x, const char *side, const struct place *place, bool writable,
              struct err *e)
{
    const bool made = x->made;

    *x = (struct end){ .side = side,
                       .place = place,
                       .writable = writable,
                       .server = PROC_NONE,
                       .cancel = x->cancel };
    x->made = made;
    return end_find(x, e) && (x->command == NULL || server_start(x, e));
}

/* A full backlog is waited for, as connect(2) does, but not past a cancel; where nobody
 * listens that is said at once. */
static bool dial(const struct end *x, const char *path, int *fd, struct err *e)
{
    if (unix_connect_wait(path, 0, x->cancel, fd, e))
        return true;
    if (e->kind != ERR_TIMEOUT)
        return false;
    return e->os == EAGAIN ? unix_connect_wait(path, DIAL_MS, x->cancel, fd, e)
                           : unix_connect(path, fd, e);
}

bool end_dial(void *opaque, int *fd, struct err *e)
{
    struct end *x = opaque;

    if (x->command == NULL)
        return dial(x, x->place->path, fd, e);
    if (x->server.pid != 0 && proc_ended(x->server.pidfd) && !server_reap(x, e))
        return false;
    if (x->server.pid != 0)
        return dial(x, x->sock, fd, e);
    err_set(e, ERR_SYS, ESRCH, "%s has ended", x->command[0]);
    return err_next(e, "It must go on when its clients have gone: qemu-nbd wants"
                       " -t for that.");
}

bool end_rest(struct end *x, struct err *e)
{
    struct pollfd p = { .fd = x->server.pidfd, .events = POLLIN };

    if (x->place->command == NULL || x->server.pid == 0 || poll(&p, 1, REST_MS) != 1)
        return true;
    return server_reap(x, e) && server_start(x, e);
}

void end_blame(struct end *x, struct err *e)
{
    struct pollfd p = { .fd = x->server.pidfd, .events = POLLIN };
    struct err why;

    /* Its sockets are closed just before it can be waited for. */
    if (x->server.pid == 0 || poll(&p, 1, BLAME_MS) != 1 || server_reap(x, &why))
        return;
    (void)err_wrap(e, "%s", why.msg);
}

bool end_close(struct end *x, struct err *e)
{
    int status = 0;

    if (x->server.pid == 0)
        return true;
    kill(x->server.pid, SIGTERM); /* not reaped: the number is still its */
    socket_remove(x);
    if (!proc_wait(&x->server, CLOSE_MS, &status, e))
        return err_wrap(e, "%s: %s", x->side, x->command[0]);
    /* A server that does not catch the signal has ended as it was told to. */
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM)
        return true;
    return server_judge(x, status, e);
}

void end_drop(struct end *x)
{
    proc_stop(&x->server, GRACE_MS);
    socket_remove(x);
    if (x->made)
        unlink(x->place->path);
    x->made = false;
}

/* --- a new file --- */

bool end_create(struct end *x, const struct place *place, uint64_t size, struct err *e)
{
    char bytes[24], path[4096];

    *x = (struct end){
        .side = "dst", .place = place, .server = PROC_NONE, .cancel = x->cancel
    };
    snprintf(bytes, sizeof bytes, "%" PRIu64, size);
    snprintf(path, sizeof path, "%s%s", place->path[0] == '/' ? "" : "./", place->path);
    const char *const argv[] = { "qemu-img",    "create", "-q",  "-f",
                                 place->format, path,     bytes, NULL };
    /* qemu-img would overwrite one that is there. */
    AUTO(fd_close)
    int fd = open(place->path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST) {
        err_set(e, ERR_USAGE, 0, "dst: %s exists", place->path);
        return err_next(e, "Without --create it is written over.");
    }
    if (fd < 0)
        return err_set(e, ERR_SYS, errno, "dst: cannot make %s", place->path);
    x->made = true;
    return proc_run(argv, CREATE_MS, NULL, 0, e) ? true : err_wrap(e, "dst");
}

void end_keep(struct end *x)
{
    x->made = false;
}
