#include "tests/lib/tmp.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/proc.h"

enum { RM_MS = 10000, TURNS = 3 };

static char dir[40];

const char *tmp_dir(void)
{
    return dir;
}

const char *tmp_path(const char *name)
{
    static _Thread_local char paths[TURNS][200];
    static _Thread_local unsigned turn;
    char *const p = paths[turn++ % TURNS];

    snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}

int tmp_make(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/snm-unit-XXXXXX");
    return mkdtemp(dir) != NULL ? 0 : -1;
}

int tmp_remove(void **state)
{
    const char *const argv[] = { "rm", "-rf", "--", dir, NULL };
    struct err e;

    (void)state;
    return proc_run(argv, RM_MS, NULL, 0, &e) ? 0 : -1;
}
