#include "tests/lib/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

enum { SKIPPED = 77 };

static void must(int rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "skipped: needs root and a mount namespace: %s: %s\n", what,
            strerror(errno));
    exit(SKIPPED);
}

/* libFuzzer writes what it finds there. */
static void keep_cwd_writable(void)
{
    struct mount_attr attr = { .attr_clr = MOUNT_ATTR_RDONLY };
    char cwd[4096];

    if (getcwd(cwd, sizeof cwd) == NULL)
        return;
    must(mount(cwd, cwd, NULL, MS_BIND, NULL), cwd);
    must(mount_setattr(AT_FDCWD, cwd, 0, &attr, sizeof attr), cwd);
    must(chdir(cwd), cwd);
}

void jail_enter(void)
{
    static const char *const dirs[] = { "/var/lib", "/run", "/tmp", "/dev" };
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV };

    must(geteuid() == 0 ? unshare(CLONE_NEWNS) : -1, "unshare");
    must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "/");
    must(mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &attr, sizeof attr), "/");
    keep_cwd_writable();
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++)
        must(mount("none", dirs[i], "tmpfs", MS_NODEV, "mode=0755,size=64m"), dirs[i]);
    must(setenv("PATH", "/nonexistent", 1), "PATH");
}
