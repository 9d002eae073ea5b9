/* fd-leaks - which descriptors a program has opened and not closed when it ends
 *
 *   LD_PRELOAD=fd-leaks.so FD_LEAKS=DIR FD_LEAKS_OF=NAME PROGRAM...
 *
 * A program called NAME that ends by exit(3) writes DIR/PID: its arguments on the first line,
 * then "NR WHAT" of each descriptor that it did not have at its beginning.  What it runs in
 * its turn does the same if it has that name; all others are left alone.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FDS = 4096,
    LAST_US = 300000, /* libvirt's event thread closes a connection a moment later */
};

static bool had[FDS];
static pid_t self; /* a child between fork and exec is not the program */

static void each_fd(void (*f)(int fd, void *ctx), void *ctx)
{
    DIR *const dir = opendir("/proc/self/fd");

    if (dir == NULL)
        return;
    for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
        const int fd = d->d_name[0] != '.' ? (int)strtol(d->d_name, NULL, 10) : -1;

        if (fd >= 0 && fd < FDS && fd != dirfd(dir))
            f(fd, ctx);
    }
    closedir(dir);
}

static void note(int fd, void *ctx)
{
    (void)ctx;
    had[fd] = true;
}

/* By its file: snmigrate runs itself as /proc/self/exe. */
static bool is_meant(void)
{
    const char *const name = getenv("FD_LEAKS_OF");
    char exe[4096] = "";

    if (name == NULL || getenv("FD_LEAKS") == NULL ||
        readlink("/proc/self/exe", exe, sizeof exe - 1) <= 0)
        return false;
    const char *const slash = strrchr(exe, '/');
    return slash != NULL && strcmp(slash + 1, name) == 0;
}

__attribute__((constructor)) static void begin(void)
{
    if (!is_meant())
        return;
    self = getpid();
    each_fd(note, NULL);
}

static void say(int fd, void *ctx)
{
    char path[64], what[1024];

    if (had[fd] || fd == fileno(ctx))
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(path, what, sizeof what - 1);
    fprintf(ctx, "%d %.*s\n", fd, n > 0 ? (int)n : 0, what);
}

static void say_arguments(FILE *out)
{
    char args[4096];
    const int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, args, sizeof args) : 0;

    for (ssize_t i = 0; i < n; i++)
        fputc(args[i] != '\0' ? args[i] : ' ', out);
    fputc('\n', out);
    if (fd >= 0)
        close(fd);
}

__attribute__((destructor)) static void end(void)
{
    char path[4096];

    if (self == 0 || self != getpid())
        return;
    usleep(LAST_US);
    snprintf(path, sizeof path, "%s/%d-XXXXXX", getenv("FD_LEAKS"), (int)self);
    const int fd = mkostemp(path, O_CLOEXEC); /* both hosts count their own pids */
    FILE *const out = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (out == NULL)
        return;
    say_arguments(out);
    each_fd(say, out);
    fclose(out);
}
