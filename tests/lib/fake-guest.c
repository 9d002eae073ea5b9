#include "tests/lib/fake-guest.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"

struct guest {
    char unused;
};

static struct fake_guest *fake;

struct fake_guest *fake_guest_map(const char *path)
{
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0 || ftruncate(fd, sizeof *fake) < 0)
        abort();
    fake = mmap(NULL, sizeof *fake, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fake == MAP_FAILED)
        abort();
    close(fd);
    return fake;
}

static bool fails(atomic_int *left, struct err *e, const char *what)
{
    if (atomic_load(left) <= 0)
        return false;
    atomic_fetch_sub(left, 1);
    err_set(e, ERR_VIRT, 0, "%s", what);
    return true;
}

static bool fake_open(const char *uuid, struct guest **out, struct err *e)
{
    (void)uuid;
    if (fails(&fake->open_fails, e, "no libvirt"))
        return false;
    *out = calloc(1, sizeof **out);
    return *out != NULL;
}

static void fake_close(struct guest *g)
{
    free(g);
}

static bool fake_look(struct guest *g, struct guest_look *out, struct err *e)
{
    (void)g;
    if (fails(&fake->look_fails, e, "connection lost"))
        return false;
    out->run = (enum vdom_run)atomic_load(&fake->run);
    out->why = (enum vdom_why)atomic_load(&fake->why);
    out->job = atomic_load(&fake->job) != 0;
    return true;
}

static void fake_wait(struct guest *g, int ms)
{
    (void)g;
    clock_sleep_ms(ms);
}

static bool fake_resume(struct guest *g, struct err *e)
{
    struct guest_look now;

    atomic_fetch_add(&fake->resumes, 1);
    if (fails(&fake->resume_fails, e, "Failed to get \"write\" lock") ||
        !fake_look(g, &now, e))
        return false;
    if (!guest_is_ready(&now))
        atomic_fetch_add(&fake->early, 1);
    atomic_store(&fake->run, VDOM_RUNNING);
    return true;
}

/* Not after its first write here. */
static bool fake_mark(struct guest *g, const char *id, struct err *e)
{
    struct guest_look now;

    (void)id;
    if (!fake_look(g, &now, e) || fails(&fake->mark_fails, e, "no such node"))
        return false;
    if (!guest_is_ready(&now))
        atomic_fetch_add(&fake->early, 1);
    atomic_fetch_add(&fake->marks, 1);
    return true;
}

static bool fake_remove(struct guest *g, bool undefine, struct err *e)
{
    (void)g, (void)e;
    atomic_fetch_add(&fake->removes, 1);
    if (undefine) {
        atomic_fetch_add(&fake->undefines, 1);
        atomic_store(&fake->defined, 0);
    }
    atomic_store(&fake->job, 0);
    atomic_store(&fake->run, atomic_load(&fake->defined) ? VDOM_OFF : VDOM_NONE);
    return true;
}

static bool fake_autostart(struct guest *g, bool on, struct err *e)
{
    (void)g, (void)e, (void)on;
    atomic_fetch_add(&fake->autostarts, 1);
    return true;
}

static bool fake_announce(struct guest *g, struct err *e)
{
    (void)g;
    atomic_fetch_add(&fake->announces, 1);
    return !fails(&fake->announce_fails, e, "no such command");
}

static bool fake_sync_time(struct guest *g, struct err *e)
{
    (void)g;
    atomic_fetch_add(&fake->syncs, 1);
    return !fails(&fake->sync_fails, e, "guest agent is not connected");
}

static bool fake_disk_user(struct guest *g, const char *path, char *name, size_t size,
                           struct err *e)
{
    (void)g, (void)e;
    snprintf(name, size, "%s", strcmp(path, fake->disk) == 0 ? "owner" : "");
    return true;
}

static bool fake_ids(struct guest *g, uid_t *uid, gid_t *gid, struct err *e)
{
    (void)g, (void)e;
    *uid = 64055;
    *gid = 64055;
    return true;
}

const struct guest_ops fake_guest_ops = {
    .open = fake_open,
    .close = fake_close,
    .look = fake_look,
    .wait = fake_wait,
    .resume = fake_resume,
    .mark = fake_mark,
    .remove = fake_remove,
    .autostart = fake_autostart,
    .announce = fake_announce,
    .sync_time = fake_sync_time,
    .disk_user = fake_disk_user,
    .qemu_ids = fake_ids,
};
