#include "agent/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"

enum {
    START_MS = 20 * 1000,
    START_POLL_MS = 5,
    CLOSE_MS =
        30 * 1000, /* what it still has to write was flushed before: it is quick */
    AGAIN_MS = 1000,
    SAID_MAX = 64 << 10,
    SHARED = 16,         /* connections at one time */
    DIRECT_ALIGN = 4096, /* bytes that O_DIRECT may round a write up to */
};

/* ---- its words ----------------------------------------------------------------------- */

/* A memory file that cannot grow: a peer that makes it complain without end fills nothing. */
static bool said_open(int *out, struct err *e)
{
    AUTO(fd_close) int fd = memfd_create("writer", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || ftruncate(fd, SAID_MAX) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) < 0)
        return err_set(e, ERR_SYS, errno, "memfd");
    *out = fd_steal(&fd);
    return true;
}

/* The last line of what it said; "" when it said nothing. */
static void last_words(const struct writer *w, char *out, size_t size)
{
    static const char name[] = "qemu-nbd: ";
    AUTO(mem_free) char *text = calloc(1, SAID_MAX + 1);
    char *line, *save = NULL;

    out[0] = '\0';
    if (text == NULL || w->said < 0 || pread(w->said, text, SAID_MAX, 0) <= 0)
        return;
    for (line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, name, sizeof name - 1) == 0)
            line += sizeof name - 1;
        log_clean(out, size, line);
    }
}

/* "qemu-nbd for vda WHAT: its words". */
static bool fail(const struct writer *w, struct err *e, const char *what)
{
    char words[300];

    last_words(w, words, sizeof words);
    return err_set(e, ERR_SYS, 0, "qemu-nbd for %s %s%s%s", w->target, what,
                   words[0] != '\0' ? ": " : "", words);
}

static bool fail_status(const struct writer *w, int status, struct err *e)
{
    char what[60];

    if (WIFSIGNALED(status))
        snprintf(what, sizeof what, "was killed by signal %d", WTERMSIG(status));
    else
        snprintf(what, sizeof what, "ended with status %d", WEXITSTATUS(status));
    return fail(w, e, what);
}

/* ---- start --------------------------------------------------------------------------- */

/* Past the page cache where that works: the disk sets the pace from the start, so that no
 * gigabytes are left to be written in the guest's pause.  (2 GiB: copied at least as fast,
 * and closed 0.7 to 1 s faster.)  Not where the end of a raw file is no multiple of what
 * O_DIRECT writes, for the file would grow.  Threads rather than Linux AIO or io_uring:
 * those save up to 0.2 s of CPU per GiB, but tearing an AIO context down takes the kernel
 * 30 ms of the pause, and io_uring is switched off on many hosts. */
static bool can_direct(const struct writer *w, const struct image *im)
{
    char path[IMAGE_FD_PATH];

    if (strcmp(im->format, "raw") == 0 && im->size % DIRECT_ALIGN != 0)
        return false;
    AUTO(fd_close)
    int fd = open(image_fd_path(im, path),
                  (w->read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
    return fd >= 0;
}

static bool spawn(struct writer *w, const struct image *im, const char *pid_file,
                  int lock, struct err *e)
{
    /* glibc would map and unmap a buffer for each request: one page fault every 4 KiB.
     * (The mirror's large piece ends that as well, once there is one: nbd-mirror/lane.h.) */
    static const char *const env[] = { "MALLOC_MMAP_THRESHOLD_=67108864",
                                       "MALLOC_TRIM_THRESHOLD_=536870912", NULL };
    char format[32], shared[24], sock[PATHS_SOCK_MAX + 16], pid[PATHS_MAX + 16],
        fd[IMAGE_FD_PATH];
    const char *const argv[] = { "qemu-nbd",
                                 "--persistent",
                                 shared,
                                 format,
                                 can_direct(w, im) ? "--cache=none"
                                                   : "--cache=writeback",
                                 "--aio=threads",
                                 w->read_only ? "--read-only" : "--discard=unmap",
                                 "--detect-zeroes=off",
                                 pid,
                                 sock,
                                 image_fd_path(im, fd),
                                 NULL };
    const struct proc_cfg cfg = { .argv = argv,
                                  .in = -1,
                                  .out = -1,
                                  .err = w->said,
                                  .keep = { im->fd, lock },
                                  .nkeep = lock >= 0 ? 2 : 1,
                                  .env = env,
                                  .death_signal = SIGTERM };

    snprintf(shared, sizeof shared, "--shared=%d", SHARED);
    snprintf(format, sizeof format, "--format=%s", im->format);
    snprintf(sock, sizeof sock, "--socket=%s", w->sock);
    snprintf(pid, sizeof pid, "--pid-file=%s", pid_file);
    return proc_spawn(&cfg, &w->proc, e);
}

/* It writes the file when it has opened the image and listens. */
static bool wait_ready(struct writer *w, const char *pid_file, struct err *e)
{
    const int64_t end = clock_ms() + START_MS;
    struct err why;
    int status;

    while (access(pid_file, F_OK) != 0) {
        if (proc_wait(&w->proc, START_POLL_MS, &status, &why))
            return fail_status(w, status, e);
        if (clock_left_ms(end) == 0)
            return fail(w, e, "does not start");
    }
    return true;
}

static bool start(struct writer *w, const struct image *im, const char *run_dir,
                  int lock, bool read_only, struct err *e)
{
    char pid_file[PATHS_MAX];

    *w = (struct writer)WRITER_NONE;
    w->read_only = read_only;
    snprintf(w->target, sizeof w->target, "%s", im->target);
    snprintf(w->sock, sizeof w->sock, "%s/%s.sock", run_dir, im->target);
    snprintf(pid_file, sizeof pid_file, "%s/%s.pid", run_dir, im->target);
    if (said_open(&w->said, e) && spawn(w, im, pid_file, lock, e) &&
        wait_ready(w, pid_file, e))
        return true;
    writer_kill(w);
    return false;
}

bool writer_start(struct writer *w, const struct image *im, const char *run_dir,
                  int lock, struct err *e)
{
    return start(w, im, run_dir, lock, false, e);
}

bool writer_start_reader(struct writer *w, const struct image *im, const char *run_dir,
                         struct err *e)
{
    return start(w, im, run_dir, -1, true, e);
}

/* ---- use and end --------------------------------------------------------------------- */

bool writer_connect(const struct writer *w, int *fd, struct err *e)
{
    if (w->proc.pid > 0 && proc_ended(w->proc.pidfd))
        return fail(w, e, "has ended");
    return unix_connect(w->sock, fd, e) || err_wrap(e, "writer of %s", w->target);
}

static void forget(struct writer *w)
{
    unlink(w->sock);
    fd_close_auto(&w->said);
    w->said = -1;
}

void writer_end(struct writer *w)
{
    if (w->proc.pid > 0)
        kill(w->proc.pid, SIGTERM); /* ours and not reaped */
}

/* One that has just begun to listen forgets a SIGTERM (qemu-nbd.c: "state = RUNNING" comes
 * after the pid file), so it is told again. */
static bool end_and_wait(struct writer *w, int *status, struct err *e)
{
    const int64_t end = clock_ms() + CLOSE_MS;

    do {
        writer_end(w);
        if (proc_wait(&w->proc, AGAIN_MS, status, e))
            return true;
    } while (e->kind == ERR_TIMEOUT && clock_ms() < end);
    return false;
}

bool writer_close(struct writer *w, struct err *e)
{
    int status;

    if (w->proc.pid <= 0)
        return fail(w, e, "has ended");
    if (!end_and_wait(w, &status, e)) {
        proc_stop(&w->proc, 0);
        return fail(w, e, "did not end");
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return fail_status(w, status, e);
    forget(w);
    return true;
}

void writer_kill(struct writer *w)
{
    enum { GRACE_MS = 2000 };

    proc_stop(&w->proc, GRACE_MS);
    forget(w);
}
