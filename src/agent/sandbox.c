#include "agent/sandbox.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/log.h"

enum {
    FDS_MAX = 4096,
#ifdef __s390__
    CLONE_FLAGS = 1, /* clone(2), "C library/kernel differences" */
#else
    CLONE_FLAGS = 0,
#endif
};

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

/* By name: a libseccomp or an architecture that does not know one has nothing to refuse. */
static const char *const refused[] = {
    /* the host: its clock, kernel, file systems, devices, power */
    "acct", "adjtimex", "clock_adjtime", "clock_settime", "delete_module",
    "finit_module", "init_module", "ioperm", "iopl", "kexec_file_load", "kexec_load",
    "nfsservctl", "quotactl", "quotactl_fd", "reboot", "setdomainname", "sethostname",
    "settimeofday", "stime", "swapoff", "swapon", "syslog", "vhangup",
    /* namespaces, mounts, ways around a path */
    "chroot", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr",
    "move_mount", "open_by_handle_at", "open_tree", "pivot_root", "setns", "umount",
    "umount2", "unshare",
    /* other processes */
    "kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev",
#ifndef SANITIZED
    "ptrace", /* LeakSanitizer looks at its own process with it */
#endif
    /* large and seldom used parts of the kernel.  io_uring would pass by this filter; QEMU
     * does without. */
    "add_key", "bpf", "fanotify_init", "io_uring_enter", "io_uring_register",
    "io_uring_setup", "keyctl", "lookup_dcookie", "modify_ldt", "perf_event_open",
    "request_key", "uselib", "userfaultfd", "vm86", "vm86old"
};

static void refuse_names(scmp_filter_ctx f)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        const int nr = seccomp_syscall_resolve_name(refused[i]);

        if (nr != __NR_SCMP_ERROR)
            (void)seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), nr, 0);
    }
}

/* Device nodes; sockets of any kind but Unix; new namespaces.  clone3(2) takes its flags
 * from memory, where no filter sees them: libc falls back to clone(2). */
static bool refuse_arguments(scmp_filter_ctx f)
{
    static const unsigned long spaces[] = { CLONE_NEWCGROUP, CLONE_NEWIPC,
                                            CLONE_NEWNET,    CLONE_NEWNS,
                                            CLONE_NEWPID,    CLONE_NEWUSER,
                                            CLONE_NEWUTS };
    static const unsigned long kinds[] = { S_IFBLK, S_IFCHR };
    int rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);

    for (size_t i = 0; rc == 0 && i < sizeof spaces / sizeof spaces[0]; i++)
        rc = seccomp_rule_add(
            f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
            SCMP_CMP(CLONE_FLAGS, SCMP_CMP_MASKED_EQ, spaces[i], spaces[i]));
    for (size_t i = 0; rc == 0 && i < sizeof kinds / sizeof kinds[0]; i++) {
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mknodat), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, S_IFMT, kinds[i]));
        if (rc == 0)
            rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mknod), 1,
                                  SCMP_A1(SCMP_CMP_MASKED_EQ, S_IFMT, kinds[i]));
    }
    const struct scmp_arg_cmp not_unix = { 0, SCMP_CMP_NE, AF_UNIX, 0 };
    if (rc == 0)
        rc = seccomp_rule_add_array(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket),
                                    1, &not_unix);
    return rc == 0;
}

static void filter_release(void **f)
{
    if (*f != NULL)
        seccomp_release(*f);
}

static bool filter(struct err *e)
{
    __attribute__((cleanup(filter_release))) scmp_filter_ctx f =
        seccomp_init(SCMP_ACT_ALLOW);

    if (f == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "seccomp");
    refuse_names(f);
    if (!refuse_arguments(f))
        return err_set(e, ERR_SYS, 0, "seccomp: the filter cannot be made");
    const int rc = seccomp_load(f);
    if (rc == -EINVAL || rc == -ENOSYS || rc == -ECANCELED)
        log_warn("agent", "this kernel takes no seccomp filter");
    else if (rc != 0)
        return err_set(e, ERR_SYS, -rc, "seccomp");
    return true;
}

static bool limits(struct err *e)
{
    const struct rlimit none = { 0, 0 };
    struct rlimit fds;

    if (setrlimit(RLIMIT_CORE, &none) < 0 || getrlimit(RLIMIT_NOFILE, &fds) < 0)
        return err_set(e, ERR_SYS, errno, "limits");
    if (fds.rlim_max > FDS_MAX)
        fds.rlim_max = FDS_MAX;
    fds.rlim_cur = fds.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &fds) == 0 || err_set(e, ERR_SYS, errno, "limits");
}

bool sandbox_enter(struct err *e)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_set(e, ERR_SYS, errno, "no_new_privs");
    return limits(e) && filter(e);
}
