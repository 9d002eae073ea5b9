#include "tests/lib/own-state.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

enum { SKIPPED = 77 };

void own_state(void)
{
    static const char *const dirs[] = { "/var/lib", "/run" };

    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        fprintf(stderr, "skipped: needs root and a mount namespace: %s\n",
                strerror(errno));
        exit(SKIPPED);
    }
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++)
        if (mount("none", dirs[i], "tmpfs", 0, "mode=0755") < 0) {
            fprintf(stderr, "skipped: cannot mount on %s: %s\n", dirs[i],
                    strerror(errno));
            exit(SKIPPED);
        }
}
