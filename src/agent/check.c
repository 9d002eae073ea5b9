#include "agent/check.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "agent/arrival.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"

/* ---- what a dead move of this VM left: it will be removed --------------------------------- */

struct stale {
    const char *uuid;
    const struct guest_ops *ops;
    struct arrival *list; /* read only, linked by ->next */
};

static void stale_fini(struct stale *s)
{
    for (struct arrival *a = s->list, *next; a != NULL; a = next) {
        next = a->next;
        arrival_free(a);
    }
}

static bool stale_add(void *ctx, const char *id, struct err *e)
{
    struct stale *const s = ctx;
    struct arrival *a = NULL;
    struct err why;

    (void)e;
    if (!arrival_peek(id, s->ops, &a, &why))
        log_warn("check", "%s", why.msg);
    if (a == NULL)
        return true;
    if (strcasecmp(a->uuid, s->uuid) != 0 ||
        atomic_load(&a->step) >= ARRIVAL_COMMITTED) {
        arrival_free(a);
        return true;
    }
    a->next = s->list;
    s->list = a;
    return true;
}

/* PUT and reopen refuse, too: the guest may have run on it, or a device has another use. */
static bool is_kept_from_us(const struct arrival *a, size_t i)
{
    const struct image *const im = &a->images[i];

    return (im->device || atomic_load(&a->step) >= ARRIVAL_CLOSED) &&
           image_fate(im) == IMAGE_WRITTEN;
}

static const struct image *stale_image(const struct stale *s, const char *path)
{
    for (const struct arrival *a = s->list; a != NULL; a = a->next)
        for (size_t i = 0; i < a->n; i++)
            if (strcmp(a->images[i].path, path) == 0 && !is_kept_from_us(a, i))
                return &a->images[i];
    return NULL;
}

/* ---- space -------------------------------------------------------------------------------- */

struct fs {
    dev_t dev;
    char path[PATHS_MAX];     /* of the first image there */
    uint64_t free;            /* bytes for us, with what a stale move gives back */
    uint64_t allocated, size; /* of all images on it */
};

struct spaces {
    struct fs *list; /* ARRIVAL_DISKS of them */
    size_t n;
};

static struct fs *fs_of(struct spaces *s, const struct image *im, int dirfd)
{
    struct statvfs vfs;
    struct stat st;

    if (fstat(dirfd, &st) < 0 || fstatvfs(dirfd, &vfs) < 0)
        return NULL;
    for (size_t i = 0; i < s->n; i++)
        if (s->list[i].dev == st.st_dev)
            return &s->list[i];
    struct fs *const fs = &s->list[s->n++];
    fs->dev = st.st_dev;
    fs->free = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    memcpy(fs->path, im->path, sizeof fs->path);
    return fs;
}

static void space_add(struct spaces *s, const struct image *im, uint64_t allocated,
                      const struct image *own)
{
    AUTO(fd_close) int dirfd = -1;
    struct err ignored; /* image_check() said so */
    struct stat st;

    if (im->device || !image_open_dir(im, &dirfd, &ignored))
        return;
    struct fs *const fs = fs_of(s, im, dirfd);
    if (fs == NULL)
        return;
    fs->allocated += allocated;
    fs->size += im->size;
    /* What a seed holds is written over; what a stale move left is removed first. */
    if ((im->seed || (own != NULL && image_is(dirfd, image_name(im), &own->id))) &&
        fstatat(dirfd, image_name(im), &st, AT_SYMLINK_NOFOLLOW) == 0)
        fs->free += (uint64_t)st.st_blocks * 512; /* stat(2): always 512 */
}

static void space_check(const struct spaces *s, struct findings *f)
{
    char a[UNITS_LEN], b[UNITS_LEN];

    for (size_t i = 0; i < s->n; i++) {
        const struct fs *const fs = &s->list[i];

        if (fs->allocated > fs->free)
            findings_add(f, FINDING_BLOCKER, "no-space",
                         "Make room there, or choose another directory.",
                         "the disks hold %s, and the file system of %s has %s free",
                         units_size(a, fs->allocated), fs->path,
                         units_size(b, fs->free));
        else if (fs->size > fs->free)
            findings_add(
                f, FINDING_WARNING, "little-space",
                "Watch it: the guest stops when it is full.",
                "the disks can grow to %s, and the file system of %s has %s free",
                units_size(a, fs->size), fs->path, units_size(b, fs->free));
    }
}

/* ---- access ----------------------------------------------------------------------------- */

struct qemu_user {
    uid_t uid;
    gid_t gid;
};

/* libvirt gives QEMU the image, not the way to it.  Only this thread's file system ids
 * change (setfsuid(2)), and without root's rights every directory on the way counts. */
static bool may_enter(const struct image *im, const struct qemu_user *u)
{
    char dir[PATHS_MAX];

    snprintf(dir, sizeof dir, "%.*s.", (int)(image_name(im) - im->path), im->path);
    setfsgid(u->gid);
    setfsuid(u->uid);
    AUTO(fd_close) int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    const int os = errno;
    setfsuid(geteuid());
    setfsgid(getegid());
    return fd >= 0 || os != EACCES;
}

/* A warning: groups that QEMU gets besides are not known here. */
static void access_check(const struct image *im, const struct qemu_user *u,
                         struct findings *f)
{
    if (!im->device && u->uid != 0 && !may_enter(im, u))
        findings_add(f, FINDING_WARNING, "no-access",
                     "Choose another directory, or chmod o+x those above it.",
                     "disk %s: QEMU (uid %u) may not enter the directory of %s",
                     im->target, (unsigned)u->uid, im->path);
}

/* Who that is; root, and so nothing to say, where libvirt does not answer: it is asked for
 * more than this by the source. */
static void find_user(const char *uuid, const struct guest_ops *ops,
                      struct qemu_user *out)
{
    struct guest *g;
    struct err why;

    *out = (struct qemu_user){ 0, 0 };
    if (!ops->open(uuid, &g, &why)) {
        log_debug("check", "%s", why.msg);
        return;
    }
    if (!ops->qemu_ids(g, &out->uid, &out->gid, &why))
        log_debug("check", "%s", why.msg);
    ops->close(g);
}

/* ---- disks -------------------------------------------------------------------------------- */

/* All that disks are checked against. */
struct disk_rig {
    struct stale stale;
    struct spaces spaces;
    struct qemu_user user;
};

/* The image itself tells who has it open, libvirt whose it is.  PUT and reopen ask, too. */
static bool owner_check(const struct image *im, const struct stale *s,
                        struct findings *f, struct err *e)
{
    char name[256];
    struct guest *g;

    if (!s->ops->open(s->uuid, &g, e))
        return false;
    const bool ok = s->ops->disk_user(g, im->path, name, sizeof name, e);
    s->ops->close(g);
    if (ok && name[0] != '\0')
        findings_add(f, FINDING_BLOCKER,
                     im->seed     ? "seed"
                     : im->device ? "device"
                                  : "target-owned",
                     im->seed ? "Choose another path with --disk, or leave out --seed."
                              : "Choose another path with --disk.",
                     "disk %s: %.300s is a disk of the domain '%.100s' there",
                     im->target, im->path, name);
    return ok;
}

static bool disk_check(struct json_object *o, struct disk_rig *rig, struct findings *f,
                       struct err *e)
{
    struct image im;
    struct err why;
    uint64_t allocated;

    if (!json_get_u64(o, "allocated", &allocated, e))
        return false;
    if (!image_parse(o, &im, &why)) {
        if (why.kind != ERR_REFUSED) {
            *e = why;
            return false;
        }
        findings_add(f, FINDING_BLOCKER, "disk", why.next, "%s", why.msg);
        return true;
    }
    const struct image *const own = stale_image(&rig->stale, im.path);
    image_check(&im, own != NULL ? &own->id : NULL, f);
    if (im.seed && own != NULL && !own->seed)
        findings_add(f, FINDING_BLOCKER, "seed", "Run it again without --seed.",
                     "disk %s: %s was made by an unfinished move, and goes with it",
                     im.target, im.path);
    access_check(&im, &rig->user, f);
    space_add(&rig->spaces, &im, allocated, own);
    return owner_check(&im, &rig->stale, f, e);
}

static void disk_rig_fini_auto(struct disk_rig *rig)
{
    stale_fini(&rig->stale);
    free(rig->spaces.list);
}

static bool disks_check(struct json_object *body, const struct guest_ops *ops,
                        struct findings *f, struct err *e)
{
    AUTO(disk_rig_fini) struct disk_rig rig = { .stale.ops = ops };
    struct json_object *disks;

    rig.spaces.list = calloc(ARRIVAL_DISKS, sizeof *rig.spaces.list);
    if (rig.spaces.list == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "check");
    if (!json_get_str(body, "uuid", &rig.stale.uuid, e) ||
        !json_get_array(body, "disks", &disks, e) ||
        !arrival_scan(stale_add, &rig.stale, e))
        return false;
    if (json_object_array_length(disks) > ARRIVAL_DISKS)
        return err_set(e, ERR_PROTO, 0, "more than %d disks", ARRIVAL_DISKS);
    find_user(rig.stale.uuid, ops, &rig.user);
    for (size_t i = 0; i < json_object_array_length(disks); i++)
        if (!disk_check(json_object_array_get_idx(disks, i), &rig, f, e))
            return false;
    space_check(&rig.spaces, f);
    return true;
}

/* ---- other files -------------------------------------------------------------------------- */

static bool file_check(struct json_object *o, struct findings *f, struct err *e)
{
    const char *what, *path, *template;
    bool optional;

    if (!json_get_str(o, "what", &what, e) || !json_get_str(o, "path", &path, e) ||
        !json_get_bool(o, "optional", &optional, e) ||
        !json_get_str(o, "template", &template, e))
        return false;
    if (access(path, F_OK) == 0)
        return true;
    if (template[0] != '\0' && access(template, R_OK) == 0)
        return true; /* libvirt makes it from the template, QEMU fills it */
    if (optional)
        findings_add(
            f, FINDING_WARNING, "missing-file", "Copy it first if it is needed.",
            "%s: %s is not at the destination; the VM starts without it", what, path);
    else
        findings_add(f, FINDING_BLOCKER, "missing-file",
                     template[0] != '\0' ? "Install the package that has the template."
                                         : "Copy it first, or detach or eject it.",
                     "%s: %s is not at the destination%s%s", what, path,
                     template[0] != '\0' ? ", nor is its template " : "", template);
    return true;
}

static bool files_check(struct json_object *body, struct findings *f, struct err *e)
{
    struct json_object *files;

    if (!json_get_array(body, "files", &files, e))
        return false;
    for (size_t i = 0; i < json_object_array_length(files); i++)
        if (!file_check(json_object_array_get_idx(files, i), f, e))
            return false;
    return true;
}

/* ---- bridges ------------------------------------------------------------------------------ */

static bool in_sys(const char *name, const char *rest)
{
    char path[sizeof "/sys/class/net//bridge" + IFNAMSIZ];

    snprintf(path, sizeof path, "/sys/class/net/%s%s", name, rest);
    return access(path, F_OK) == 0;
}

static void bridge_check(const char *name, struct findings *f)
{
    const bool is_name = name[0] != '\0' && strlen(name) < IFNAMSIZ &&
                         strchr(name, '/') == NULL && name[0] != '.';

    if (is_name && in_sys(name, "/bridge"))
        return;
    if (is_name && in_sys(name, ""))
        findings_add(
            f, FINDING_WARNING, "bridge-kind", NULL,
            "%s at the destination is no Linux bridge (fine if it is one of Open "
            "vSwitch)",
            name);
    else
        findings_add(f, FINDING_BLOCKER, "no-bridge",
                     "Make it there, or change the interface of the VM.",
                     "the bridge %s is not at the destination", name);
}

static bool bridges_check(struct json_object *body, struct findings *f, struct err *e)
{
    struct json_object *bridges;

    if (!json_get_array(body, "bridges", &bridges, e))
        return false;
    for (size_t i = 0; i < json_object_array_length(bridges); i++) {
        const char *const name =
            json_object_get_string(json_object_array_get_idx(bridges, i));

        if (name == NULL)
            return err_set(e, ERR_PROTO, 0, "bridges: not a name");
        bridge_check(name, f);
    }
    return true;
}

/* ---- programs and rights ------------------------------------------------------------------ */

static bool is_installed(const char *name)
{
    static const char *const dirs[] = { "/usr/local/sbin", "/usr/local/bin",
                                        "/usr/sbin",       "/usr/bin",
                                        "/sbin",           "/bin" };
    char path[64];

    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dirs[i], name);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

static void host_check(struct findings *f)
{
    static const char *const programs[] = { "qemu-nbd", "qemu-img" };

    if (geteuid() != 0)
        findings_add(f, FINDING_BLOCKER, "not-root", "Connect as root@HOST.",
                     "the agent at the destination does not run as root");
    for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++)
        if (!is_installed(programs[i]))
            findings_add(f, FINDING_BLOCKER, "no-program", "apt install qemu-utils",
                         "%s is not installed at the destination", programs[i]);
}

bool check_host(struct json_object *body, const struct guest_ops *ops,
                struct findings *f, struct err *e)
{
    host_check(f);
    return disks_check(body, ops, f, e) && files_check(body, f, e) &&
           bridges_check(body, f, e);
}
