#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/unix.h"

enum { LONG_MS = 30000 }; /* a test that waits so long has failed */

#define SH(text) \
    (const char *const[]) \
    { \
        "sh", "-c", text, NULL \
    }

/* Its stdout, which "sh -c @text" wrote. */
static char *sh(const char *text)
{
    static char out[4096];
    struct err e;

    assert_ok(proc_run(SH(text), LONG_MS, out, sizeof out, &e), e);
    return out;
}

static struct proc spawn_sh(const char *text)
{
    const struct proc_cfg cfg = { .argv = SH(text), .in = -1, .out = -1, .err = -1 };
    struct proc p = PROC_NONE;
    struct err e;

    assert_ok(proc_spawn(&cfg, &p, &e), e);
    assert_true(p.pid > 0 && p.pidfd >= 0);
    return p;
}

static void proc__status_comes_from_waitpid(void **state)
{
    struct proc p = spawn_sh("exit 7");
    struct err e;
    int status;

    (void)state;
    assert_ok(proc_wait(&p, LONG_MS, &status, &e), e);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_int_equal(p.pid, 0);
    assert_int_equal(p.pidfd, -1);
}

static void proc__missing_program_is_reported_by_spawn(void **state)
{
    const char *const argv[] = { "snm-no-such-program", NULL };
    const struct proc_cfg cfg = { .argv = argv, .in = -1, .out = -1, .err = -1 };
    struct proc p = PROC_NONE;
    struct err e;

    (void)state;
    assert_err(proc_spawn(&cfg, &p, &e), e, ERR_SYS);
    assert_int_equal(e.os, ENOENT);
    assert_string_equal(e.msg,
                        "cannot run snm-no-such-program: No such file or directory");
    assert_int_equal(p.pid, 0);
}

static void proc__failed_exec_is_reported_with_its_errno(void **state)
{
    const char *const argv[] = { "/dev/null", NULL };
    const struct proc_cfg cfg = { .argv = argv, .in = -1, .out = -1, .err = -1 };
    struct proc p = PROC_NONE;
    struct err e;

    (void)state;
    assert_err(proc_spawn(&cfg, &p, &e), e, ERR_SYS);
    assert_int_equal(e.os, EACCES);
    assert_string_equal(e.msg, "cannot run null: Permission denied");
    /* And no zombie is left. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void proc__descriptors_are_connected_as_asked(void **state)
{
    int in[2], out[2], err[2];
    char text[16] = "";
    struct err e;
    int status;

    (void)state;
    assert_int_equal(
        pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC) | pipe2(err, O_CLOEXEC), 0);
    const struct proc_cfg cfg = { .argv = SH("read x; echo out$x; echo err$x >&2"),
                                  .in = in[0],
                                  .out = out[1],
                                  .err = err[1] };
    struct proc p = PROC_NONE;
    assert_ok(proc_spawn(&cfg, &p, &e), e);
    assert_ok(fd_write_all(in[1], "1\n", 2, &e), e);
    assert_ok(fd_read_all(out[0], text, 5, &e), e);
    assert_string_equal(text, "out1\n");
    assert_ok(fd_read_all(err[0], text, 5, &e), e);
    assert_string_equal(text, "err1\n");
    assert_ok(proc_wait(&p, LONG_MS, &status, &e), e);
    assert_int_equal(status, 0);
    for (size_t i = 0; i < 2; i++) {
        close(in[i]);
        close(out[i]);
        close(err[i]);
    }
}

/* A descriptor that is meant for 0 may itself be number 1, and so on. */
static void proc__crossed_descriptors_reach_their_places(void **state)
{
    const int saved = dup(STDOUT_FILENO);
    int out[2];
    char text[16] = "";
    struct proc p = PROC_NONE;
    struct err e;
    int status;

    (void)state;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_true(dup2(out[1], STDOUT_FILENO) >= 0);
    const struct proc_cfg cfg = { .argv = SH("echo out; echo err >&2"),
                                  .in = STDERR_FILENO,
                                  .out = STDOUT_FILENO,
                                  .err = STDOUT_FILENO };
    const bool spawned = proc_spawn(&cfg, &p, &e);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(out[1]);
    assert_ok(spawned, e);
    assert_ok(fd_read_all(out[0], text, 8, &e), e);
    assert_string_equal(text, "out\nerr\n");
    assert_ok(proc_wait(&p, LONG_MS, &status, &e), e);
    close(out[0]);
}

static void proc__no_other_descriptor_reaches_the_child(void **state)
{
    const char *const ls[] = { "ls", "/proc/self/fd", NULL };
    const int leak = fcntl(STDIN_FILENO, F_DUPFD, 50); /* not close-on-exec */
    char out[256];
    struct err e;

    (void)state;
    assert_int_equal(leak, 50);
    /* 3 is the directory that ls reads. */
    assert_ok(proc_run(ls, LONG_MS, out, sizeof out, &e), e);
    assert_string_equal(out, "0\n1\n2\n3\n");
    assert_ok(proc_run_keep(ls, &leak, 1, LONG_MS, out, sizeof out, &e), e);
    assert_string_equal(out, "0\n1\n2\n3\n50\n");
    close(leak);
}

static void proc__kept_descriptor_has_its_number(void **state)
{
    const int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 77);
    char out[64];
    struct err e;

    (void)state;
    assert_true(fd >= 77);
    char text[64];
    snprintf(text, sizeof text, "test -e /proc/$$/fd/%d && echo there", fd);
    assert_ok(proc_run_keep(SH(text), &fd, 1, LONG_MS, out, sizeof out, &e), e);
    assert_string_equal(out, "there\n");
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC); /* ours is as it was */
    close(fd);
}

/* An ignored SIGPIPE or a blocked SIGTERM of ours must not become the child's.  32 and 33
 * are glibc's own: who started us may have left them ignored, and nobody can change it. */
static void proc__signals_are_as_after_login(void **state)
{
    const uint64_t glibc = UINT64_C(3) << 31;
    sigset_t all, old, now;
    char *text, *end;

    (void)state;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    signal(SIGPIPE, SIG_IGN);
    text = sh("sed -nE 's/^Sig(Blk|Ign):[[:blank:]]*//p' /proc/self/status");
    signal(SIGPIPE, SIG_DFL);
    pthread_sigmask(SIG_SETMASK, &old, &now);
    assert_true(sigismember(&now, SIGTERM)); /* spawning did not change ours */
    assert_int_equal(strtoull(text, &end, 16) & ~glibc, 0); /* blocked */
    assert_int_equal(*end, '\n');
    assert_int_equal(strtoull(end, &end, 16) & ~glibc, 0); /* ignored */
    assert_string_equal(end, "\n");
}

static void proc__environment_is_added_to(void **state)
{
    const char *const env[] = { "SNM_A=new", "SNM_B=b", NULL };
    int out[2];
    char text[16] = "";
    struct proc p = PROC_NONE;
    struct err e;
    int status;

    (void)state;
    setenv("SNM_A", "old", 1);
    setenv("SNM_AB", "k", 1);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    const struct proc_cfg cfg = { .argv = SH("echo $SNM_A $SNM_B $SNM_AB"),
                                  .in = -1,
                                  .out = out[1],
                                  .err = -1,
                                  .env = env };
    assert_ok(proc_spawn(&cfg, &p, &e), e);
    assert_ok(fd_read_all(out[0], text, 8, &e), e);
    assert_string_equal(text, "new b k\n");
    assert_ok(proc_wait(&p, LONG_MS, &status, &e), e);
    assert_string_equal(getenv("SNM_A"), "old");
    close(out[0]);
    close(out[1]);
}

static void proc__new_session_is_its_own_leader(void **state)
{
    const struct proc_cfg cfg = {
        .argv = SH("test $(cut -d' ' -f6 /proc/$$/stat) = $$"),
        .in = -1,
        .out = -1,
        .err = -1,
        .new_session = true,
    };
    struct proc p = PROC_NONE;
    struct err e;
    int status;

    (void)state;
    assert_ok(proc_spawn(&cfg, &p, &e), e);
    assert_ok(proc_wait(&p, LONG_MS, &status, &e), e);
    assert_int_equal(status, 0);
}

static void proc__wait_gives_up_in_time(void **state)
{
    struct proc p = spawn_sh("exec sleep 60");
    struct err e;
    int status;

    (void)state;
    assert_err(proc_wait(&p, 10, &status, &e), e, ERR_TIMEOUT);
    assert_true(p.pid > 0);
    assert_false(proc_ended(p.pidfd));
    proc_stop(&p, LONG_MS);
    assert_int_equal(p.pid, 0);
}

static void proc__stop_kills_what_ignores_sigterm(void **state)
{
    int out[2];
    char text[2];
    struct proc p = PROC_NONE;
    struct err e;

    (void)state;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    const struct proc_cfg cfg = {
        .argv = SH("trap '' TERM; echo; while :; do sleep 0.1; done"),
        .in = -1,
        .out = out[1],
        .err = -1,
    };
    assert_ok(proc_spawn(&cfg, &p, &e), e);
    assert_ok(fd_read_all(out[0], text, 1, &e), e); /* the trap is set */
    const pid_t pid = p.pid;
    proc_stop(&p, 10);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
    close(out[0]);
    close(out[1]);
}

static void proc__stop_of_none_does_nothing(void **state)
{
    struct proc p = PROC_NONE;

    (void)state;
    proc_stop(&p, 0);
    proc_stop_auto(&p);
    assert_int_equal(p.pid, 0);
}

/* What the thread below starts dies with it. */
static void *spawn_and_end(void *arg)
{
    struct proc *const p = arg;
    const struct proc_cfg cfg = { .argv = SH("exec sleep 60"),
                                  .in = -1,
                                  .out = -1,
                                  .err = -1,
                                  .death_signal = SIGKILL };
    struct err e;

    return proc_spawn(&cfg, p, &e) ? p : NULL;
}

static void proc__death_signal_follows_the_spawning_thread(void **state)
{
    struct proc p = PROC_NONE;
    pthread_t t;
    void *ok;
    struct err e;
    int status;

    (void)state;
    assert_int_equal(pthread_create(&t, NULL, spawn_and_end, &p), 0);
    pthread_join(t, &ok);
    assert_non_null(ok);
    assert_ok(proc_wait(&p, LONG_MS, &status, &e), e);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void proc__run_collects_what_fits(void **state)
{
    char out[8];
    struct err e;

    (void)state;
    assert_ok(proc_run(SH("echo 1234567890"), LONG_MS, out, sizeof out, &e), e);
    assert_string_equal(out, "1234567");
    assert_ok(proc_run(SH("echo nobody reads this"), LONG_MS, NULL, 0, &e), e);
    /* More than a pipe holds must not block it. */
    assert_ok(proc_run(SH("head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2"),
                       LONG_MS, out, sizeof out, &e),
              e);
}

static void proc__run_says_the_first_and_last_line_of_stderr(void **state)
{
    struct err e;

    (void)state;
    assert_err(proc_run(SH("printf 'bad \\033 thing\\nmore\\nend\\n' >&2; exit 3"),
                        LONG_MS, NULL, 0, &e),
               e, ERR_SYS);
    assert_string_equal(e.msg, "sh gave status 3: bad \\x1b thing; end");
    assert_err(proc_run(SH("echo one >&2; exit 3"), LONG_MS, NULL, 0, &e), e, ERR_SYS);
    assert_string_equal(e.msg, "sh gave status 3: one");
    assert_err(proc_run(SH("kill -9 $$"), LONG_MS, NULL, 0, &e), e, ERR_SYS);
    assert_string_equal(e.msg, "sh killed by signal 9");
}

static void proc__run_kills_at_the_deadline(void **state)
{
    const int64_t begin = clock_ms();
    struct err e;

    (void)state;
    assert_err(proc_run(SH("exec sleep 60"), 50, NULL, 0, &e), e, ERR_TIMEOUT);
    assert_string_equal(e.msg, "sh did not end within 50 ms");
    assert_in_range(clock_ms() - begin, 50, LONG_MS);
}

/* As "qemu-nbd --fork" does, whose child holds our pipes open. */
static void proc__run_does_not_wait_for_daemons(void **state)
{
    const int64_t begin = clock_ms();
    char out[32];
    struct err e;

    (void)state;
    assert_ok(proc_run(SH("sleep 60 & echo $!"), LONG_MS, out, sizeof out, &e), e);
    assert_true(clock_ms() - begin < LONG_MS);
    assert_int_equal(kill((pid_t)atol(out), SIGKILL), 0);
}

static void proc__pidfd_of_another_process_tells_its_end(void **state)
{
    struct proc p = spawn_sh("exec sleep 60");
    AUTO(fd_close) int pidfd = -1;
    struct err e;

    (void)state;
    assert_ok(proc_open(p.pid, &pidfd, &e), e);
    assert_false(proc_ended(pidfd));
    kill(p.pid, SIGKILL);
    struct pollfd poll_end = { .fd = pidfd, .events = POLLIN };
    assert_int_equal(poll(&poll_end, 1, LONG_MS), 1);
    assert_true(proc_ended(pidfd)); /* a zombie counts */
    proc_stop(&p, 0);
    assert_true(proc_ended(pidfd));
}

static void proc__pidfd_of_no_process_is_refused(void **state)
{
    struct proc p = spawn_sh("exit 0");
    const pid_t pid = p.pid;
    int pidfd = 77;
    struct err e;

    (void)state;
    proc_stop(&p, LONG_MS);
    assert_err(proc_open(pid, &pidfd, &e), e, ERR_SYS);
    assert_int_equal(e.os, ESRCH);
    assert_int_equal(pidfd, -1);
    assert_err(proc_open(0, &pidfd, &e), e, ERR_SYS);
    assert_err(proc_open(-1, &pidfd, &e), e, ERR_SYS);
}

static void proc__start_time_names_a_process(void **state)
{
    struct proc p = spawn_sh("exec sleep 60");
    const uint64_t begun = proc_start_time(p.pid);

    (void)state;
    assert_true(begun > 0);
    assert_true(begun >= proc_start_time(getpid()));
    assert_int_equal(proc_start_time(p.pid), begun);
    const pid_t pid = p.pid;
    proc_stop(&p, 0);
    assert_int_equal(proc_start_time(pid), 0);
}

/* The name in /proc/PID/stat is whatever the program calls itself. */
static void proc__start_time_ignores_parentheses_in_the_name(void **state)
{
    static const char text[] = "printf 'a) R 1 2 3' >/proc/$$/comm; echo; exec 1>&-; "
                               "read x";
    int in[2], out[2];
    char nl;
    struct proc p = PROC_NONE;
    struct err e;

    (void)state;
    assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
    const struct proc_cfg cfg = {
        .argv = SH(text), .in = in[0], .out = out[1], .err = -1
    };
    assert_ok(proc_spawn(&cfg, &p, &e), e);
    assert_ok(fd_read_all(out[0], &nl, 1, &e), e);
    assert_true(proc_start_time(p.pid) >= proc_start_time(getpid()));
    proc_stop(&p, 0);
    for (size_t i = 0; i < 2; i++) {
        close(in[i]);
        close(out[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(proc__status_comes_from_waitpid),
        TEST(proc__missing_program_is_reported_by_spawn),
        TEST(proc__failed_exec_is_reported_with_its_errno),
        TEST(proc__descriptors_are_connected_as_asked),
        TEST(proc__crossed_descriptors_reach_their_places),
        TEST(proc__no_other_descriptor_reaches_the_child),
        TEST(proc__kept_descriptor_has_its_number),
        TEST(proc__signals_are_as_after_login),
        TEST(proc__environment_is_added_to),
        TEST(proc__new_session_is_its_own_leader),
        TEST(proc__wait_gives_up_in_time),
        TEST(proc__stop_kills_what_ignores_sigterm),
        TEST(proc__stop_of_none_does_nothing),
        TEST(proc__death_signal_follows_the_spawning_thread),
        TEST(proc__run_collects_what_fits),
        TEST(proc__run_says_the_first_and_last_line_of_stderr),
        TEST(proc__run_kills_at_the_deadline),
        TEST(proc__run_does_not_wait_for_daemons),
        TEST(proc__pidfd_of_another_process_tells_its_end),
        TEST(proc__pidfd_of_no_process_is_refused),
        TEST(proc__start_time_names_a_process),
        TEST(proc__start_time_ignores_parentheses_in_the_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
