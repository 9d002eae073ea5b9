/* src/base/proc.h - the only place that forks.
 *
 * A child gets no descriptor but those named, default signal handling and an empty signal
 * mask.  An exec that fails is reported to the caller with its errno over a pipe.
 */
#ifndef SNM_BASE_PROC_H
#define SNM_BASE_PROC_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct proc {
    pid_t pid; /* 0: none */
    int pidfd; /* -1: none; readable once the process has ended */
};
/* clang-format off */
#define PROC_NONE { 0, -1 }
/* clang-format on */

struct proc_cfg {
    const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH */
    /* Descriptors for 0, 1, 2; -1 is /dev/null for 0 and 1, and inherited for 2. */
    int in, out, err;
    int keep[4];    /* further descriptors that stay open under their own number; */
    unsigned nkeep; /* how many of them */
    const char *const *env; /* "NAME=value" additions, NULL-terminated, or NULL */
    /* Sent to the child when the *thread* that spawned it ends (prctl(2) PR_SET_PDEATHSIG);
     * 0: none.  Spawn from a thread that lives as long as the child should. */
    int death_signal;
    bool
        new_session; /* setsid(2): no terminal signal reaches it, nor can it ask there */
    /* What a terminal sends (SIGINT, SIGQUIT, SIGHUP, and those that stop) is ignored, for a
     * child that may ask there and must outlive a Ctrl-C, and a Ctrl-Z. */
    bool ignore_terminal;
};

/* Start it.  Errors: ERR_SYS, naming the program. */
MUST_CHECK bool proc_spawn(const struct proc_cfg *cfg, struct proc *out, struct err *e);

/* Wait up to @timeout_ms (-1: for ever) and reap.  *status is that of waitpid(2).
 * Errors: ERR_TIMEOUT still running.  After success @p is PROC_NONE. */
MUST_CHECK bool proc_wait(struct proc *p, int timeout_ms, int *status, struct err *e);

/* SIGTERM, after @grace_ms SIGKILL, reap.  Does nothing on PROC_NONE. */
void proc_stop(struct proc *p, int grace_ms);
void proc_stop_auto(struct proc *p); /* with 2 s of grace */

/* Run to the end, collecting up to @size - 1 bytes of its stdout (NUL-terminated, may be
 * NULL, 0) and its stderr's first line into the error when the status is not 0.
 * Errors: ERR_SYS, ERR_TIMEOUT (killed then). */
MUST_CHECK bool proc_run(const char *const *argv, int timeout_ms, char *out,
                         size_t size, struct err *e);
/* The same with descriptors that stay open under their own number. */
MUST_CHECK bool proc_run_keep(const char *const *argv, const int *keep, unsigned nkeep,
                              int timeout_ms, char *out, size_t size, struct err *e);

/* A pidfd of a process that is not our child; -1 with ERR_SYS (ESRCH: no such process). */
MUST_CHECK bool proc_open(pid_t pid, int *pidfd, struct err *e);
/* true: the process behind @pidfd has ended (it may be a zombie). */
bool proc_ended(int pidfd);
/* Start time of @pid in clock ticks since boot (field 22 of proc(5) stat), which with the
 * pid names a process for good; 0 when there is none. */
uint64_t proc_start_time(pid_t pid);

enum { PROC_BOOT_ID = 64 };
/* The kernel's random name of this boot, which with the two above tells a process of before
 * a reboot; "" where there is none.  Returns @out. */
const char *proc_boot_id(char out[PROC_BOOT_ID]);

#endif
