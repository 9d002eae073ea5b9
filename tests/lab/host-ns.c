/* host-ns - a lab host: namespaces that outlive the command that made them
 *
 *   host-ns start HOSTNAME       make mount, uts, net and pid namespaces, held by an
 *                                init of their own; print its pid as seen from here
 *   host-ns enter PID CMD ARG..  run CMD in the namespaces of PID; its exit status, or
 *                                128 + the signal that ended it
 *
 * Theory of operation: the init is pid 1 of the new pid namespace.  It reaps what daemons
 * leave to it (a QEMU that stays a zombie would look alive to libvirt), and killing
 * it kills every process of the host, whatever state these are in: this is how a lab
 * goes down without looking for processes by name.  It can be neither stopped nor killed
 * from inside.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_LAB = 125, EXIT_NO_EXEC = 126, EXIT_NO_CMD = 127, EXIT_SIGNAL = 128 };

enum { HOST_NS = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWPID };

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...)
{
    const int os = errno;
    va_list ap;

    fprintf(stderr, "host-ns: ");
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, ": %s\n", strerror(os));
    exit(EXIT_LAB);
}

/* ---- start ------------------------------------------------------------------- */

static void init_loop(void)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (;;) {
        sigwaitinfo(&all, NULL);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}

static void detach_stdio(void)
{
    const int null = open("/dev/null", O_RDWR);

    if (null < 0)
        die("/dev/null");
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    syscall(SYS_close_range, 3, ~0u, 0);
}

/* Pid 1 of the host.  Says "ready" by closing @ready_fd after a byte. */
static void init_run(const char *hostname, int ready_fd)
{
    if (setsid() < 0)
        die("setsid");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        die("make / private");
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        die("mount /proc");
    if (sethostname(hostname, strlen(hostname)) < 0)
        die("sethostname");
    if (write(ready_fd, "!", 1) != 1)
        die("report");
    if (chdir("/") < 0)
        die("chdir");
    prctl(PR_SET_NAME, "host-init");
    detach_stdio();
    init_loop();
}

static int cmd_start(const char *hostname)
{
    int ready[2];
    char byte;

    if (pipe2(ready, O_CLOEXEC) < 0)
        die("pipe");
    if (unshare(HOST_NS) < 0)
        die("unshare");

    const pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        init_run(hostname, ready[1]);

    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1)
        return EXIT_LAB; /* the child has said why */
    printf("%d\n", (int)pid);
    return 0;
}

/* ---- enter ------------------------------------------------------------------- */

static const int forwarded[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };
enum { FORWARDED = sizeof forwarded / sizeof forwarded[0] };

/* Our set of signals, blocked.  A shell ignores SIGINT for its background jobs; here a
 * command shall see what it would see in a terminal, so the default is restored. */
static sigset_t signals_take(sigset_t *before)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    signal(SIGCHLD, SIG_DFL);
    for (size_t i = 0; i < FORWARDED; i++) {
        sigaddset(&set, forwarded[i]);
        signal(forwarded[i], SIG_DFL);
    }
    sigprocmask(SIG_BLOCK, &set, before);
    return set;
}

/* Wait for @pid and pass on the signals that somebody sends us.  Those of the terminal
 * (SI_KERNEL) reach @pid by themselves. */
static int wait_forwarding(pid_t pid, const sigset_t *set)
{
    siginfo_t si;
    int status;

    for (;;) {
        if (sigwaitinfo(set, &si) < 0)
            continue;
        if (si.si_signo != SIGCHLD) {
            if (si.si_code != SI_KERNEL)
                kill(pid, si.si_signo);
            continue;
        }
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status)
                                     : EXIT_SIGNAL + WTERMSIG(status);
    }
}

/* Only a child is in the new pid namespace.  It dies with us: a test that kills "lab
 * run" must not leave the command behind. */
static pid_t spawn(char **argv, const sigset_t *mask)
{
    const pid_t pid = fork();

    if (pid < 0)
        die("fork");
    if (pid > 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(argv[0], argv);
    fprintf(stderr, "host-ns: %s: %s\n", argv[0], strerror(errno));
    _exit(errno == ENOENT ? EXIT_NO_CMD : EXIT_NO_EXEC);
}

static int cmd_enter(const char *pid_text, char **argv)
{
    const int pidfd = (int)syscall(SYS_pidfd_open, atoi(pid_text), 0);
    char *cwd = getcwd(NULL, 0);
    sigset_t before;

    if (pidfd < 0)
        die("process %s", pid_text);
    if (setns(pidfd, HOST_NS) < 0)
        die("enter the namespaces of %s", pid_text);
    close(pidfd);
    if ((cwd == NULL || chdir(cwd) < 0) && chdir("/") < 0)
        die("chdir /");
    free(cwd);

    const sigset_t set = signals_take(&before);
    return wait_forwarding(spawn(argv, &before), &set);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "start") == 0)
        return cmd_start(argv[2]);
    if (argc >= 4 && strcmp(argv[1], "enter") == 0)
        return cmd_enter(argv[2], argv + 3);
    fprintf(stderr, "usage: host-ns start HOSTNAME | host-ns enter PID CMD ARG...\n");
    return 2;
}
