#include "base/proc.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    CHILD_FAILED = 127, /* as the shell says "could not run it" */
    GRACE_MS = 2000,    /* of proc_stop_auto */
    RUN_GRACE_MS = 200, /* of a helper that took too long */
};

/* What the child was doing when it failed; sent over the exec pipe. */
enum child_step { STEP_DESCRIPTORS, STEP_DEATH_SIGNAL, STEP_EXEC };
struct child_error {
    enum child_step step;
    int os;
};

/* All that the child needs, made before the fork: the child of a process with threads may
 * only make async-signal-safe calls (signal-safety(7)), so it cannot allocate. */
struct plan {
    const struct proc_cfg *cfg;
    const char *path; /* of the program */
    char **env;
    int report; /* write end of the exec pipe */
    pid_t parent;
};

static const char *prog_name(const char *const *argv)
{
    const char *const slash = strrchr(argv[0], '/');

    return slash != NULL ? slash + 1 : argv[0];
}

static bool is_program(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* The file that @name means, as execvp(3) looks for it; owned by the caller. */
static bool path_find(const char *name, char **out, struct err *e)
{
    const char *const var = getenv("PATH");
    const char *dirs = var != NULL ? var : "/usr/local/bin:/usr/bin:/bin";

    if (strchr(name, '/') != NULL) {
        *out = strdup(name);
        return *out != NULL ? true : err_set(e, ERR_SYS, ENOMEM, "cannot run %s", name);
    }
    for (;; dirs++) {
        const int len = (int)strcspn(dirs, ":");
        AUTO(mem_free) char *path = NULL;

        if (asprintf(&path, "%.*s%s%s", len, dirs, len > 0 ? "/" : "./", name) < 0) {
            path = NULL;
            return err_set(e, ERR_SYS, ENOMEM, "cannot run %s", name);
        }
        if (is_program(path)) {
            *out = ptr_steal(&path);
            return true;
        }
        dirs += len;
        if (*dirs == '\0')
            return err_set(e, ERR_SYS, ENOENT, "cannot run %s", name);
    }
}

static size_t list_len(const char *const *list)
{
    size_t n = 0;

    while (list[n] != NULL)
        n++;
    return n;
}

/* Whether @more sets the variable that @entry ("NAME=value") sets. */
static bool is_replaced(const char *entry, const char *const *more)
{
    const size_t len = strcspn(entry, "=") + 1;

    for (size_t i = 0; more[i] != NULL; i++)
        if (strncmp(more[i], entry, len) == 0)
            return true;
    return false;
}

/* Our environment with @more put in; the array is owned by the caller, its strings are
 * borrowed.  NULL: out of memory. */
static char **env_make(const char *const *more)
{
    const size_t old = list_len((const char *const *)environ);
    char **const env = calloc(old + list_len(more) + 1, sizeof *env);
    size_t n = 0;

    if (env == NULL)
        return NULL;
    for (size_t i = 0; i < old; i++)
        if (!is_replaced(environ[i], more))
            env[n++] = environ[i];
    for (size_t i = 0; more[i] != NULL; i++)
        env[n++] = (char *)more[i]; /* execve(2) changes nothing */
    return env;
}

/* A copy of @fd above 2, so that dup2 onto 0..2 overwrites none that is still needed; of
 * /dev/null where @fd is -1 or (our own stderr) closed. */
static int child_copy(int fd)
{
    int copy = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;

    if (copy < 0 && (fd < 0 || fd == STDERR_FILENO)) {
        const int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (null < 0)
            return -1;
        copy = fcntl(null, F_DUPFD_CLOEXEC, 3);
    }
    return copy;
}

/* Only 0, 1, 2 and ->keep stay open over the exec. */
static bool child_descriptors(const struct plan *plan)
{
    const struct proc_cfg *const cfg = plan->cfg;
    const int in = child_copy(cfg->in), out = child_copy(cfg->out),
              err = child_copy(cfg->err >= 0 ? cfg->err : STDERR_FILENO);

    if (in < 0 || out < 0 || err < 0)
        return false;
    if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
        dup2(err, STDERR_FILENO) < 0)
        return false;
    /* glibc has close_range() only since 2.34; Linux has this flag since 5.11. */
    if (syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
        return false;
    for (unsigned i = 0; i < cfg->nkeep; i++)
        if (fcntl(cfg->keep[i], F_SETFD, 0) < 0)
            return false;
    return true;
}

/* Default dispositions, then no mask: what was sent to the child meanwhile kills it rather
 * than running our handlers in it. */
static void child_signals(bool ignore_terminal)
{
    const struct sigaction dfl = { .sa_handler = SIG_DFL };
    const struct sigaction ign = { .sa_handler = SIG_IGN };
    sigset_t none;

    for (int s = 1; s < NSIG; s++)
        sigaction(s, &dfl, NULL); /* refused for SIGKILL, SIGSTOP and glibc's own */
    if (ignore_terminal) {
        sigaction(SIGINT, &ign, NULL);
        sigaction(SIGQUIT, &ign, NULL);
        sigaction(SIGHUP, &ign, NULL);
        sigaction(SIGTSTP, &ign, NULL);
        sigaction(SIGTTIN, &ign, NULL);
        sigaction(SIGTTOU, &ign, NULL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void child_fail(const struct plan *plan, enum child_step step)
{
    const struct child_error ce = { step, errno };

    /* A short write is not possible (PIPE_BUF), and a parent that is gone needs nothing. */
    (void)!write(plan->report, &ce, sizeof ce);
    _exit(CHILD_FAILED);
}

static _Noreturn void child_run(const struct plan *plan)
{
    const struct proc_cfg *const cfg = plan->cfg;

    if (cfg->new_session)
        setsid(); /* cannot fail: a child just forked leads no group */
    if (cfg->death_signal != 0) {
        if (prctl(PR_SET_PDEATHSIG, cfg->death_signal) < 0)
            child_fail(plan, STEP_DEATH_SIGNAL);
        /* Had the parent died before the prctl, no signal would ever come.  Its thread
         * alone cannot have: it waits for our report. */
        if (getppid() != plan->parent)
            _exit(CHILD_FAILED);
    }
    if (!child_descriptors(plan))
        child_fail(plan, STEP_DESCRIPTORS);
    child_signals(cfg->ignore_terminal);
    execve(plan->path, (char *const *)cfg->argv, plan->env);
    child_fail(plan, STEP_EXEC);
}

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* Fork with all signals blocked, so that no handler of ours runs in the child. */
static pid_t fork_blocked(const struct plan *plan)
{
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const pid_t pid = fork();
    if (pid == 0)
        child_run(plan);
    const int os = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = os;
    return pid;
}

/* Wait for the exec: end of file (true), or what the child failed at. */
static bool exec_ok(int pipe_in, const char *name, struct err *e)
{
    static const char *const steps[] = { [STEP_DESCRIPTORS] = "descriptors",
                                         [STEP_DEATH_SIGNAL] = "death signal",
                                         [STEP_EXEC] = NULL };
    struct child_error ce;
    ssize_t n;

    do
        n = read(pipe_in, &ce, sizeof ce);
    while (n < 0 && errno == EINTR);
    if (n != sizeof ce)
        return true;
    err_set(e, ERR_SYS, ce.os, "cannot run %s", name);
    return steps[ce.step] != NULL ? err_wrap(e, "%s", steps[ce.step]) : false;
}

static int pidfd_of(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0); /* always close-on-exec */
}

bool proc_spawn(const struct proc_cfg *cfg, struct proc *out, struct err *e)
{
    static const char *const nothing[] = { NULL };
    const char *const name = prog_name(cfg->argv);
    AUTO(mem_free) char *path = NULL;

    assert(cfg->nkeep <= sizeof cfg->keep / sizeof cfg->keep[0]);
    for (unsigned i = 0; i < cfg->nkeep; i++)
        assert(cfg->keep[i] > STDERR_FILENO);

    if (!path_find(cfg->argv[0], &path, e))
        return false;
    AUTO(mem_free) char **env = env_make(cfg->env != NULL ? cfg->env : nothing);
    if (env == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "cannot run %s", name);

    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_set(e, ERR_SYS, errno, "cannot run %s: pipe", name);
    AUTO(fd_close) int report_in = ends[0];
    AUTO(fd_close) int report_out = ends[1];

    const struct plan plan = { cfg, path, env, report_out, getpid() };
    const pid_t pid = fork_blocked(&plan);
    if (pid < 0)
        return err_set(e, ERR_SYS, errno, "cannot run %s: fork", name);
    close(fd_steal(&report_out));

    if (!exec_ok(report_in, name, e)) {
        reap(pid);
        return false;
    }
    /* Not reaped yet, so the number still means our child. */
    const int pidfd = pidfd_of(pid);
    if (pidfd < 0) {
        err_set(e, ERR_SYS, errno, "cannot run %s: pidfd_open", name);
        kill(pid, SIGKILL);
        reap(pid);
        return false;
    }
    *out = (struct proc){ pid, pidfd };
    return true;
}

/* true: the process has ended; false: not by @timeout_ms (-1: no limit). */
static bool pidfd_wait(int pidfd, int timeout_ms)
{
    const int64_t end = clock_ms() + timeout_ms;

    for (;;) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };
        const int left = timeout_ms < 0 ? -1 : clock_left_ms(end);

        if (poll(&p, 1, left) == 1)
            return (p.revents & POLLIN) != 0;
        if (left == 0)
            return false;
    }
}

bool proc_wait(struct proc *p, int timeout_ms, int *status, struct err *e)
{
    assert(p->pid > 0);
    if (!pidfd_wait(p->pidfd, timeout_ms))
        return err_set(e, ERR_TIMEOUT, 0, "process %d still runs after %d ms",
                       (int)p->pid, timeout_ms);
    pid_t got;
    do
        got = waitpid(p->pid, status, 0);
    while (got < 0 && errno == EINTR);
    const int os = errno;
    close(p->pidfd);
    *p = (struct proc)PROC_NONE; /* also when somebody else reaped it: it is gone */
    return got < 0 ? err_set(e, ERR_SYS, os, "waitpid") : true;
}

void proc_stop(struct proc *p, int grace_ms)
{
    struct err ignored; /* it is gone in any case */
    int status;

    if (p->pid <= 0)
        return;
    kill(p->pid, SIGTERM); /* ours and not reaped: the number cannot mean another */
    if (proc_wait(p, grace_ms, &status, &ignored) || p->pid <= 0)
        return;
    kill(p->pid, SIGKILL);
    if (!proc_wait(p, -1, &status, &ignored))
        log_debug("proc", "%s", ignored.msg);
}

void proc_stop_auto(struct proc *p)
{
    proc_stop(p, GRACE_MS);
}

/* What a helper wrote on one of its descriptors. */
struct capture {
    int fd; /* our end, non-blocking; -1: none, or at its end */
    char *buf;
    size_t len, size; /* ->size with the NUL */
};

static void capture_close_auto(struct capture *c)
{
    fd_close_auto(&c->fd);
}

/* Read what is there.  What does not fit is read too, or the helper would wait for ever. */
static void capture_drain(struct capture *c)
{
    char chunk[4096];
    ssize_t n;

    while (c->fd >= 0 && (n = read(c->fd, chunk, sizeof chunk)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            break;
        const size_t room = c->size - 1 - c->len;
        const size_t take = (size_t)n < room ? (size_t)n : room;

        memcpy(c->buf + c->len, chunk, take);
        c->len += take;
        c->buf[c->len] = '\0';
    }
    if (c->fd >= 0)
        close(fd_steal(&c->fd));
}

/* A pipe whose read end goes to @c; the write end is the caller's. */
static bool capture_open(struct capture *c, int *out, struct err *e)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_set(e, ERR_SYS, errno, "pipe");
    c->fd = ends[0];
    *out = ends[1];
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0)
        return err_set(e, ERR_SYS, errno, "fcntl");
    return true;
}

/* Collect until the process itself ends: a pipe's end of file would come later where it has
 * left a daemon behind (qemu-nbd --fork). */
static bool collect(const struct proc *p, struct capture *out, struct capture *err,
                    int timeout_ms)
{
    const int64_t end = clock_ms() + timeout_ms;

    for (;;) {
        struct pollfd polls[] = { { .fd = p->pidfd, .events = POLLIN },
                                  { .fd = out->fd, .events = POLLIN },
                                  { .fd = err->fd, .events = POLLIN } };
        const int left = timeout_ms < 0 ? -1 : clock_left_ms(end);
        const int n = poll(polls, 3, left);

        capture_drain(out); /* after the poll: all that was written before the end */
        capture_drain(err);
        if (n > 0 && (polls[0].revents & POLLIN) != 0)
            return true;
        if (left == 0)
            return false;
    }
}

/* The first line of its stderr is nearly always the cause; but a qemu-img that cannot remove
 * what it had begun says that first, and the cause last. */
static bool status_check(const char *name, int status, char *text, struct err *e)
{
    char lines[320], clean[320];
    size_t len = strlen(text);

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    while (len > 0 && text[len - 1] == '\n')
        text[--len] = '\0';
    const char *const last = strrchr(text, '\n');
    snprintf(lines, sizeof lines, "%.*s%s%s", (int)strcspn(text, "\n"), text,
             last != NULL ? "; " : "", last != NULL ? last + 1 : "");
    log_clean(clean, sizeof clean, lines);
    if (WIFSIGNALED(status))
        err_set(e, ERR_SYS, 0, "%s killed by signal %d", name, WTERMSIG(status));
    else
        err_set(e, ERR_SYS, 0, "%s gave status %d", name, WEXITSTATUS(status));
    if (clean[0] == '\0')
        return false;
    const struct err outer = *e;
    err_set(e, ERR_SYS, 0, "%s", clean);
    return err_wrap(e, "%s", outer.msg);
}

bool proc_run_keep(const char *const *argv, const int *keep, unsigned nkeep,
                   int timeout_ms, char *out, size_t size, struct err *e)
{
    const char *const name = prog_name(argv);
    char text[512] = "";
    AUTO(capture_close) struct capture cout = { -1, out, 0, size };
    AUTO(capture_close) struct capture cerr = { -1, text, 0, sizeof text };
    AUTO(fd_close) int out_end = -1;
    AUTO(fd_close) int err_end = -1;
    AUTO(proc_stop) struct proc p = PROC_NONE;
    struct proc_cfg cfg = { .argv = argv, .in = -1, .nkeep = nkeep };
    int status;

    assert(nkeep <= sizeof cfg.keep / sizeof cfg.keep[0]);
    if (nkeep > 0)
        memcpy(cfg.keep, keep, nkeep * sizeof *keep);
    if (size > 0) {
        out[0] = '\0';
        if (!capture_open(&cout, &out_end, e))
            return err_wrap(e, "cannot run %s", name);
    }
    if (!capture_open(&cerr, &err_end, e))
        return err_wrap(e, "cannot run %s", name);
    cfg.out = out_end;
    cfg.err = err_end;
    cfg.death_signal = SIGTERM; /* nobody would look at its result */
    if (!proc_spawn(&cfg, &p, e))
        return false;
    if (out_end >= 0)
        close(fd_steal(&out_end));
    close(fd_steal(&err_end));

    if (!collect(&p, &cout, &cerr, timeout_ms)) {
        proc_stop(&p, RUN_GRACE_MS);
        return err_set(e, ERR_TIMEOUT, 0, "%s did not end within %d ms", name,
                       timeout_ms);
    }
    if (!proc_wait(&p, -1, &status, e))
        return err_wrap(e, "%s", name);
    return status_check(name, status, text, e);
}

bool proc_run(const char *const *argv, int timeout_ms, char *out, size_t size,
              struct err *e)
{
    return proc_run_keep(argv, NULL, 0, timeout_ms, out, size, e);
}

bool proc_open(pid_t pid, int *pidfd, struct err *e)
{
    const int fd = pid > 0 ? pidfd_of(pid) : -1;
    const int os = pid > 0 ? errno : ESRCH;

    *pidfd = fd;
    return fd >= 0 ? true : err_set(e, ERR_SYS, os, "process %d", (int)pid);
}

bool proc_ended(int pidfd)
{
    return pidfd_wait(pidfd, 0);
}

uint64_t proc_start_time(pid_t pid)
{
    char path[64], stat[1024];
    enum { FIELD = 22, AFTER_NAME = 3 }; /* counted from 1, as proc(5) does */

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    const ssize_t n = read(fd, stat, sizeof stat - 1);
    if (n <= 0)
        return 0;
    stat[n] = '\0';

    /* The name, in parentheses, may itself hold blanks and parentheses. */
    const char *p = strrchr(stat, ')');
    for (int field = AFTER_NAME; p != NULL && field <= FIELD; field++) {
        p = strchr(p, ' ');
        if (p != NULL)
            p++;
    }
    return p != NULL ? strtoull(p, NULL, 10) : 0;
}

const char *proc_boot_id(char out[PROC_BOOT_ID])
{
    FILE *const f = fopen("/proc/sys/kernel/random/boot_id", "re");

    out[0] = '\0';
    if (f == NULL)
        return out;
    if (fgets(out, PROC_BOOT_ID, f) == NULL)
        out[0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    fclose(f);
    return out;
}
