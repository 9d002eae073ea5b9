/* Each test enters the sandbox in a process of its own: there is no way back. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/sandbox.h"
#include "base/proc.h"
#include "tests/lib/tmp.h"

enum { NOT_ENTERED = 99, PROC_MS = 10000 };

/* What @f returns inside. */
static int inside(int (*f)(void))
{
    int status = 0;

    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        struct err e;

        _exit(sandbox_enter(&e) ? f() : NOT_ENTERED);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- what is refused ---------------------------------------------------------------- */

/* 0: all fail as they should; else the number of the one that does not. */
static int try_refused(void)
{
    static const struct {
        long nr, a, b, c;
        int os;
    } calls[] = {
        { SYS_unshare, CLONE_NEWNS, 0, 0, EPERM },
        { SYS_setns, -1, 0, 0, EPERM }, /* EBADF without the filter, and so on */
        { SYS_mount, 0, 0, 0, EPERM },
        { SYS_umount2, 0, 0, 0, EPERM },
        { SYS_chroot, 0, 0, 0, EPERM },
        { SYS_pivot_root, 0, 0, 0, EPERM },
        { SYS_open_by_handle_at, -1, 0, 0, EPERM },
        { SYS_init_module, 0, 0, 0, EPERM },
        { SYS_finit_module, -1, 0, 0, EPERM },
        { SYS_kexec_load, 0, -1, 0, EPERM },
        { SYS_reboot, 0, 0, 0, EPERM },
        { SYS_swapon, 0, 0, 0, EPERM },
        { SYS_bpf, -1, 0, 0, EPERM },
        { SYS_perf_event_open, 0, 0, -1, EPERM },
        { SYS_keyctl, -1, 0, 0, EPERM },
        { SYS_userfaultfd, -1, 0, 0, EPERM },
        { SYS_io_uring_setup, 0, 0, 0, EPERM },
        { SYS_process_vm_readv, -1, 0, 0, EPERM },
        { SYS_clone, CLONE_NEWUSER, 0, 0, EPERM },
        { SYS_clone3, 0, 0, 0, ENOSYS },
        { SYS_mknodat, AT_FDCWD, 0, S_IFBLK | 0600, EPERM },
        { SYS_mknodat, AT_FDCWD, 0, S_IFCHR | 0600, EPERM },
        { SYS_socket, AF_INET, SOCK_STREAM, 0, EAFNOSUPPORT },
        { SYS_socket, AF_INET6, SOCK_DGRAM, 0, EAFNOSUPPORT },
        { SYS_socket, AF_PACKET, SOCK_RAW, 0, EAFNOSUPPORT },
        { SYS_socket, AF_NETLINK, SOCK_RAW, 0, EAFNOSUPPORT },
    };

    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if (syscall(calls[i].nr, calls[i].a, calls[i].b, calls[i].c, 0L, 0L) >= 0 ||
            errno != calls[i].os)
            return (int)i + 1;
    return 0;
}

static void sandbox__calls_that_an_agent_never_needs_fail(void **state)
{
    (void)state;
    assert_int_equal(inside(try_refused), 0);
}

/* ---- what goes on ------------------------------------------------------------------- */

static void *nothing(void *arg)
{
    return arg;
}

/* Threads, Unix sockets, files, programs. */
static int try_allowed(void)
{
    const char *const argv[] = { "true", NULL };
    pthread_t t;
    struct err e;
    int pair[2];

    if (pthread_create(&t, NULL, nothing, NULL) != 0 || pthread_join(t, NULL) != 0)
        return 1;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 ||
        socket(AF_UNIX, SOCK_STREAM, 0) < 0)
        return 2;
    if (mkfifo(tmp_path("fifo"), 0600) < 0 ||
        open(tmp_path("file"), O_RDWR | O_CREAT | O_EXCL, 0600) < 0)
        return 3;
    return proc_run(argv, PROC_MS, NULL, 0, &e) ? 0 : 4;
}

static void sandbox__what_an_agent_does_goes_on(void **state)
{
    (void)state;
    assert_int_equal(inside(try_allowed), 0);
}

/* ---- what children get -------------------------------------------------------------- */

static int try_child(void)
{
    static const char script[] =
        "grep -qx 'NoNewPrivs:.1' /proc/self/status || exit 1\n"
        "grep -qx 'Seccomp:.2' /proc/self/status || exit 2\n"
        "[ \"$(ulimit -Hc)\" = 0 ] || exit 3\n"
        "[ \"$(ulimit -Hn)\" -le 4096 ] || exit 4\n"
        "[ \"$(ulimit -Sn)\" = \"$(ulimit -Hn)\" ] || exit 5\n";
    const char *const argv[] = { "sh", "-c", script, NULL };
    const struct proc_cfg cfg = { .argv = argv, .in = -1, .out = -1, .err = -1 };
    struct proc p;
    struct err e;
    int status;

    if (!proc_spawn(&cfg, &p, &e) || !proc_wait(&p, PROC_MS, &status, &e))
        return 90;
    return WEXITSTATUS(status);
}

static void sandbox__children_inherit_it(void **state)
{
    (void)state;
    assert_int_equal(inside(try_child), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sandbox__calls_that_an_agent_never_needs_fail),
        TEST_TMP(sandbox__what_an_agent_does_goes_on),
        TEST(sandbox__children_inherit_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
