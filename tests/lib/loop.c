#include "tests/lib/loop.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/proc.h"
#include "tests/lib/tmp.h"
#include "tests/unit/unit.h"

enum { LOSETUP_MS = 10000 };

static int held = -1; /* the kernel detaches the device when this is closed */

static bool make(uint64_t size, char path[LOOP_PATH])
{
    AUTO(fd_close)
    int fd = open(tmp_path("disk"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    const char *const attach[] = { "losetup", "--find", "--show", tmp_path("disk"),
                                   NULL };
    const char *const detach[] = { "losetup", "--detach", path, NULL };
    struct err e;

    if (geteuid() != 0 || fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
        !proc_run(attach, LOSETUP_MS, path, LOOP_PATH, &e))
        return false;
    path[strcspn(path, "\n")] = '\0';
    held = open(path, O_RDONLY | O_CLOEXEC);
    return proc_run(detach, LOSETUP_MS, NULL, 0, &e) && held >= 0;
}

void loop_need(uint64_t size, char path[LOOP_PATH])
{
    if (make(size, path))
        return;
    print_message("no loop devices here\n");
    skip();
}

void loop_remove(void)
{
    close(held);
    held = -1;
}
