#include "agent/image.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "agent/image-int.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"

enum {
    SECTOR = 512,             /* QEMU rounds every length up to it */
    MARGIN = 1 << 20,         /* of the largest offset, for sums */
    CREATE_MS = 60 * 1000,    /* qemu-img, on a slow disk */
    MEND_MS = 10 * 60 * 1000, /* it reads all tables */
    QCOW2_HEADER = 32,        /* bytes up to and with the virtual size, big-endian at 24
                                 (QEMU docs/interop/qcow2.txt) */
};

/* ---- text ---------------------------------------------------------------------------- */

/* What may become part of a socket's name and of messages. */
static bool target_ok(const char *s)
{
    size_t n = 0;

    for (; s[n] != '\0'; n++)
        if (!isalnum((unsigned char)s[n]) && s[n] != '-' && s[n] != '_')
            return false;
    return n > 0 && n < sizeof((struct image *)0)->target;
}

/* A name that stays in its directory, whoever sent it. */
static bool name_ok(const char *s)
{
    for (const char *p = s; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '/')
            return false;
    return *s != '\0' && strcmp(s, ".") != 0 && strcmp(s, "..") != 0 &&
           strlen(s) <= NAME_MAX;
}

const char *image_name(const struct image *im)
{
    const char *const slash = strrchr(im->path, '/');

    return slash != NULL ? slash + 1 : im->path;
}

/* Absolute, and every part of it a name. */
static bool path_ok(const char *path)
{
    char part[PATHS_MAX];

    if (path[0] != '/' || strlen(path) >= PATHS_MAX)
        return false;
    for (const char *p = path; *p == '/'; p += strlen(part)) {
        p++;
        memcpy(part, p, strcspn(p, "/"));
        part[strcspn(p, "/")] = '\0';
        if (!name_ok(part))
            return false;
    }
    return true;
}

/* /dev is for devices: a regular file there would fill memory.  /dev/shm is memory and
 * says so. */
static bool in_dev(const char *path)
{
    return strncmp(path, "/dev/", 5) == 0 && strncmp(path, "/dev/shm/", 9) != 0;
}

static bool sizes_ok(const struct image *im, struct err *e)
{
    if (im->size == 0 || im->size > INT64_MAX - MARGIN)
        return err_set(e, ERR_REFUSED, 0, "disk %s cannot have %llu bytes", im->target,
                       (unsigned long long)im->size);
    if (im->size % SECTOR == 0)
        return true;
    err_set(e, ERR_REFUSED, 0, "disk %s has %llu bytes, which is no multiple of %d",
            im->target, (unsigned long long)im->size, SECTOR);
    return err_next(e, "Enlarge it at the source: virsh blockresize.");
}

static bool fields(struct json_object *o, struct image *im, struct err *e)
{
    const char *target, *path, *format;

    *im = (struct image){ .dirfd = -1, .fd = -1 };
    if (!json_get_str(o, "target", &target, e) || !json_get_str(o, "path", &path, e) ||
        !json_get_str(o, "format", &format, e) ||
        !json_get_u64(o, "size", &im->size, e))
        return false;
    if (!target_ok(target))
        return err_set(e, ERR_PROTO, 0, "not a disk's target: \"%.40s\"", target);
    if (strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0)
        return err_set(e, ERR_PROTO, 0, "disk %s: not a format of ours: \"%.40s\"",
                       target, format);
    if (!path_ok(path))
        return err_set(e, ERR_REFUSED, 0,
                       "disk %s: not an absolute path without \"..\": \"%.200s\"",
                       target, path);
    snprintf(im->target, sizeof im->target, "%s", target);
    snprintf(im->format, sizeof im->format, "%s", format);
    snprintf(im->path, sizeof im->path, "%s", path);
    im->device = in_dev(path);
    return !json_has(o, "seed") || json_get_bool(o, "seed", &im->seed, e);
}

bool image_parse(struct json_object *o, struct image *out, struct err *e)
{
    return fields(o, out, e) && sizes_ok(out, e);
}

/* As text: an inode's number may use all 64 bits (overlayfs), which JSON numbers do not. */
static void id_print(const struct image_id *id, char out[64])
{
    snprintf(out, 64, "%" PRIx64 ":%" PRIx64 ":%" PRIx64, id->dev, id->ino, id->born);
}

/* Whatever does not print as it was written is not one. */
static bool id_scan(const char *s, struct image_id *id)
{
    char back[64], *end;

    id->dev = strtoull(s, &end, 16);
    id->ino = *end == ':' ? strtoull(end + 1, &end, 16) : 0;
    id->born = *end == ':' ? strtoull(end + 1, &end, 16) : 0;
    id_print(id, back);
    return strcmp(s, back) == 0;
}

struct json_object *image_to_json(const struct image *im)
{
    struct json_object *const o = json_new();
    char id[64];

    id_print(&im->id, id);
    json_add_str(json_add_str(o, "target", im->target), "path", im->path);
    json_add_str(json_add_u64(o, "size", im->size), "format", im->format);
    if (im->seed)
        json_add_bool(o, "seed", true);
    return json_add_str(json_add_bool(o, "device", im->device), "id", id);
}

bool image_from_json(struct json_object *o, struct image *out, struct err *e)
{
    const char *id;

    if (!fields(o, out, e) || !json_get_bool(o, "device", &out->device, e) ||
        !json_get_str(o, "id", &id, e))
        return false;
    if (!id_scan(id, &out->id))
        return err_set(e, ERR_PROTO, 0, "not the id of a file: \"%.64s\"", id);
    out->named = true; /* or not: image_remove() looks */
    return true;
}

struct json_object *image_mark_to_json(const struct image *im)
{
    struct json_object *const o = json_new();

    json_add_str(json_add_bool(o, "known", im->mark.known), "target", im->target);
    return json_add_u64(json_add_u64(o, "size", im->mark.size), "stamp",
                        im->mark.stamp);
}

void image_mark_from_json(struct image *im, struct json_object *o)
{
    struct image_mark m;
    const char *target;
    struct err ignored;

    im->mark.known = false;
    if (json_get_str(o, "target", &target, &ignored) &&
        strcmp(target, im->target) == 0 &&
        json_get_bool(o, "known", &m.known, &ignored) &&
        json_get_u64(o, "size", &m.size, &ignored) &&
        json_get_u64(o, "stamp", &m.stamp, &ignored))
        im->mark = m;
}

/* ---- opening ------------------------------------------------------------------------- */

int image_open_beneath(int dirfd, const char *name, int flags)
{
    const struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .mode = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? 0600 : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };

    return (int)syscall(SYS_openat2, dirfd, name, &how, sizeof how);
}

/* The directory is the user's choice: what it is a symlink to is meant.  Below it nothing
 * is. */
bool image_open_dir(const struct image *im, int *dirfd, struct err *e)
{
    char dir[PATHS_MAX];
    const size_t len = (size_t)(image_name(im) - im->path);

    memcpy(dir, im->path, len);
    dir[len > 1 ? len - 1 : len] = '\0';
    *dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *dirfd >= 0 ? true : err_set(e, ERR_SYS, errno, "directory %s", dir);
}

bool image_id_of(int dirfd, const char *name, struct image_id *out)
{
    struct statx st;

    if (statx(dirfd, name, AT_SYMLINK_NOFOLLOW | (name[0] == '\0' ? AT_EMPTY_PATH : 0),
              STATX_INO | STATX_BTIME, &st) < 0)
        return false;
    out->dev = makedev(st.stx_dev_major, st.stx_dev_minor);
    out->ino = st.stx_ino;
    out->born = 0;
    if ((st.stx_mask & STATX_BTIME) != 0)
        out->born = (uint64_t)st.stx_btime.tv_sec * 1000000000 + st.stx_btime.tv_nsec;
    return true;
}

char *image_fd_path(const struct image *im, char out[IMAGE_FD_PATH])
{
    snprintf(out, IMAGE_FD_PATH, "/proc/self/fd/%d", im->fd);
    return out;
}

bool image_is(int dirfd, const char *name, const struct image_id *id)
{
    struct image_id now;

    return id->ino != 0 && image_id_of(dirfd, name, &now) &&
           (id->dev == 0 || now.dev == id->dev) && now.ino == id->ino &&
           now.born == id->born;
}

/* ---- check --------------------------------------------------------------------------- */

/* Whether a file of that size can be: tried with one that has no name. */
static void limits_check(int dirfd, const struct image *im, struct findings *f)
{
    AUTO(fd_close) int fd = image_open_beneath(dirfd, ".", O_TMPFILE | O_RDWR);

    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR))
        return; /* cannot be tried here */
    if (fd < 0)
        findings_add(f, FINDING_BLOCKER, "not-writable", NULL,
                     "disk %s: cannot write into the directory of %s: %s", im->target,
                     im->path, strerrordesc_np(errno));
    else if (strcmp(im->format, "raw") == 0 && ftruncate(fd, (off_t)im->size) < 0)
        findings_add(f, FINDING_BLOCKER, "too-large",
                     "Use format qcow2, or another file system.",
                     "disk %s: the file system of %s takes no file of %llu bytes: %s",
                     im->target, im->path, (unsigned long long)im->size,
                     strerrordesc_np(errno));
}

void image_check(const struct image *im, const struct image_id *own, struct findings *f)
{
    AUTO(fd_close) int dirfd = -1;
    struct err e = { 0 };
    struct stat st;

    if (im->seed) {
        image_seed_check(im, f);
        return;
    }
    if (im->device) {
        image_device_check(im, own, f);
        return;
    }
    if (!image_open_dir(im, &dirfd, &e)) {
        findings_add(f, FINDING_BLOCKER, "no-directory",
                     "Make it, or name another with --disks-to or --disk.",
                     "disk %s: %s", im->target, e.msg);
        return;
    }
    if (fstatat(dirfd, image_name(im), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        (own == NULL || !image_is(dirfd, image_name(im), own)))
        findings_add(
            f, FINDING_BLOCKER, "target-exists",
            S_ISREG(st.st_mode)
                ? "If it is an older copy of this disk, as after a move from "
                  "there: --seed copies only what differs.  Else remove it, or "
                  "choose another path."
                : "Choose another path.",
            "disk %s: %s exists already", im->target, im->path);
    limits_check(dirfd, im, f);
}

/* ---- making -------------------------------------------------------------------------- */

static uint64_t be64(const uint8_t *p)
{
    uint64_t v = 0;

    for (int i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

/* Onto this very file, whatever its name may mean by now. */
static bool qcow2_make(struct image *im, struct err *e)
{
    char fd_path[IMAGE_FD_PATH], size[24];
    const char *const argv[] = { "qemu-img",
                                 "create",
                                 "-q",
                                 "-f",
                                 "qcow2",
                                 "-o",
                                 "preallocation=off,lazy_refcounts=off",
                                 image_fd_path(im, fd_path),
                                 size,
                                 NULL };
    uint8_t head[QCOW2_HEADER];

    snprintf(size, sizeof size, "%llu", (unsigned long long)im->size);
    if (!proc_run_keep(argv, &im->fd, 1, CREATE_MS, NULL, 0, e))
        return false;
    if (pread(im->fd, head, sizeof head, 0) != (ssize_t)sizeof head ||
        memcmp(head, "QFI\xfb", 4) != 0)
        return err_set(e, ERR_SYS, EIO, "qemu-img made no qcow2 image");
    if (be64(head + 24) != im->size)
        return err_set(e, ERR_SYS, EIO, "qemu-img made %llu bytes of %llu",
                       (unsigned long long)be64(head + 24),
                       (unsigned long long)im->size);
    return true;
}

static bool file_make(struct image *im, struct err *e)
{
    struct stat st;

    if (fstatat(im->dirfd, image_name(im), &st, AT_SYMLINK_NOFOLLOW) == 0)
        return err_set(e, ERR_REFUSED, EEXIST, "%s", im->path);
    im->fd = image_open_beneath(im->dirfd, ".", O_TMPFILE | O_RDWR);
    if (im->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
        im->fd =
            image_open_beneath(im->dirfd, image_name(im), O_RDWR | O_CREAT | O_EXCL);
        im->named = im->fd >= 0;
    }
    if (im->fd < 0)
        return err_set(e, errno == EEXIST ? ERR_REFUSED : ERR_SYS, errno, "%s",
                       im->path);
    if (!image_id_of(im->fd, "", &im->id))
        return err_set(e, ERR_SYS, errno, "%s", im->path);
    if (strcmp(im->format, "qcow2") == 0)
        return qcow2_make(im, e) || err_wrap(e, "%s", im->path);
    if (ftruncate(im->fd, (off_t)im->size) < 0)
        return err_set(e, ERR_SYS, errno, "%s cannot have %llu bytes", im->path,
                       (unsigned long long)im->size);
    return true;
}

bool image_make(struct image *im, struct err *e)
{
    if (!(im->seed     ? image_seed_take(im, e)
          : im->device ? image_device_take(im, e)
                       : image_open_dir(im, &im->dirfd, e) && file_make(im, e)))
        return err_wrap(e, "disk %s", im->target);
    return true;
}

/* ---- again --------------------------------------------------------------------------- */

bool image_refuse(const struct image *im, const char *how, struct err *e)
{
    return err_set(e, ERR_REFUSED, 0, "disk %s: %s %s", im->target, im->path, how);
}

static bool file_reopen(struct image *im, struct err *e)
{
    struct stat st;

    if (im->dirfd < 0 && !image_open_dir(im, &im->dirfd, e))
        return false;
    AUTO(fd_close) int fd = image_open_beneath(im->dirfd, image_name(im), O_RDWR);
    if (fd < 0 && errno == ENOENT)
        return image_refuse(im, "is gone", e);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(e, ERR_SYS, errno, "disk %s: %s", im->target, im->path);
    if (!image_is(fd, "", &im->id))
        return image_refuse(im, "is another file than the move made", e);
    if (strcmp(im->format, "raw") == 0 && (uint64_t)st.st_size != im->size)
        return image_refuse(im, "has another size", e);
    if (!image_unused(im, fd, e))
        return err_wrap(e, "disk %s", im->target);
    im->fd = fd_steal(&fd);
    return true;
}

bool image_reopen(struct image *im, struct err *e)
{
    if (im->fd < 0 && !(im->device ? image_device_reopen(im, e) : file_reopen(im, e)))
        return false;
    return image_header_again(im, e) || err_wrap(e, "disk %s", im->target);
}

void image_forget_device(struct image *im)
{
    if (im->device)
        im->mark.known = false;
    /* Many file systems have another number after each start; a number of an inode alone is
     * used again. */
    if (im->device || im->id.born != 0)
        im->id.dev = 0;
}

bool image_mend(struct image *im, struct err *e)
{
    char path[IMAGE_FD_PATH];
    const char *const argv[] = { "qemu-img", "check", "-q",    "-f",
                                 "qcow2",    "-r",    "leaks", image_fd_path(im, path),
                                 NULL };

    if (strcmp(im->format, "qcow2") != 0)
        return true;
    if (proc_run_keep(argv, &im->fd, 1, MEND_MS, NULL, 0, e))
        return true;
    if (e->kind == ERR_SYS)
        e->kind = ERR_REFUSED; /* nothing can go on from it */
    return err_wrap(e, "disk %s: %s", im->target, im->path);
}

/* EEXIST: somebody else's file has the name. */
static bool name_it(struct image *im)
{
    char path[IMAGE_FD_PATH];

    im->named = linkat(AT_FDCWD, image_fd_path(im, path), im->dirfd, image_name(im),
                       AT_SYMLINK_FOLLOW) == 0;
    return im->named;
}

bool image_publish(struct image *im, struct err *e)
{
    if (im->device || im->seed)
        return true;
    if (!im->named && !name_it(im))
        return err_set(e, errno == EEXIST ? ERR_REFUSED : ERR_SYS, errno, "disk %s: %s",
                       im->target, im->path);
    if (fsync(im->dirfd) < 0)
        return err_set(e, ERR_SYS, errno, "disk %s: directory of %s", im->target,
                       im->path);
    return true;
}

/* ---- closing -------------------------------------------------------------------------- */

static bool file_mark(int dirfd, const char *name, struct image_mark *out)
{
    struct statx st;

    if (statx(dirfd, name,
              AT_SYMLINK_NOFOLLOW | AT_STATX_FORCE_SYNC |
                  (name[0] == '\0' ? AT_EMPTY_PATH : 0),
              STATX_SIZE | STATX_MTIME, &st) < 0)
        return false;
    out->known = true;
    out->size = st.stx_size;
    out->stamp = (uint64_t)st.stx_mtime.tv_sec * 1000000000 + st.stx_mtime.tv_nsec;
    return true;
}

/* Not fdatasync(): a time that a power cut sets back would look like a write. */
bool image_sync(struct image *im, struct err *e)
{
    if (fsync(im->fd) < 0)
        return err_set(e, ERR_SYS, errno, "disk %s: cannot write %s to the disk",
                       im->target, im->path);
    if (im->device) {
        image_device_mark(im, &im->mark);
        return true;
    }
    if (!file_mark(im->fd, "", &im->mark))
        return err_set(e, ERR_SYS, errno, "disk %s: %s", im->target, im->path);
    if (strcmp(im->format, "raw") == 0 && im->mark.size != im->size)
        /* the guest would see another disk */
        return err_set(e, ERR_SYS, EIO, "disk %s: %s has %llu bytes instead of %llu",
                       im->target, im->path, (unsigned long long)im->mark.size,
                       (unsigned long long)im->size);
    return true;
}

static enum image_fate file_fate(const struct image *im, struct image_mark *now)
{
    AUTO(fd_close) int dirfd = -1;
    struct err why;

    if (!image_open_dir(im, &dirfd, &why))
        return why.os == ENOENT ? IMAGE_GONE : IMAGE_UNKNOWN;
    if (!file_mark(dirfd, image_name(im), now))
        return errno == ENOENT ? IMAGE_GONE : IMAGE_UNKNOWN;
    return image_is(dirfd, image_name(im), &im->id) ? IMAGE_UNTOUCHED : IMAGE_REPLACED;
}

enum image_fate image_fate(const struct image *im)
{
    struct image_mark now = { 0 };

    if (im->device) {
        image_device_mark(im, &now);
    } else {
        const enum image_fate fate = file_fate(im, &now);

        if (fate != IMAGE_UNTOUCHED)
            return fate;
    }
    if (!now.known || !im->mark.known)
        return IMAGE_UNKNOWN;
    return now.size == im->mark.size && now.stamp == im->mark.stamp ? IMAGE_UNTOUCHED
                                                                    : IMAGE_WRITTEN;
}

/* ---- removing ------------------------------------------------------------------------- */

static bool name_remove(struct image *im, struct err *e)
{
    struct stat st = { 0 };

    /* For people only: nothing depends on it. */
    if (fstatat(im->dirfd, image_name(im), &st, AT_SYMLINK_NOFOLLOW) == 0)
        im->freed = (uint64_t)st.st_blocks * SECTOR;
    im->removed = unlinkat(im->dirfd, image_name(im), 0) == 0;
    return im->removed || err_set(e, ERR_SYS, errno, "cannot remove %s", im->path);
}

/* Our writers have ended and the move's domain is gone: whoever uses it now is a guest that
 * somebody has made of it, and its only copy may be this. */
static bool is_idle(const struct image *im, struct err *e)
{
    AUTO(fd_close)
    int fd = image_open_beneath(im->dirfd, image_name(im), O_RDWR | O_NONBLOCK);

    if (fd < 0)
        return errno == ENOENT || err_set(e, ERR_SYS, errno, "%s", im->path);
    return image_unused(im, fd, e) || err_wrap(e, "disk %s", im->target);
}

bool image_spare(struct image *im, const char *why)
{
    snprintf(im->spared, sizeof im->spared, "%s", why);
    log_warn("images", "left alone: %s", im->spared);
    im->named = false; /* no longer ours */
    return true;
}

static bool spare_as(struct image *im, const char *how)
{
    struct err why;

    image_refuse(im, how, &why);
    return image_spare(im, why.msg);
}

bool image_leave(struct image *im, const char *why)
{
    return why != NULL
               ? image_spare(im, why)
               : spare_as(im, "may have been written after the move had left it");
}

bool image_spare_written(struct image *im)
{
    return spare_as(im, "was written after the move had left it");
}

/* @im is the file that the move made. */
static bool file_remove(struct image *im, struct err *e)
{
    if (image_fate(im) == IMAGE_WRITTEN)
        return image_spare_written(im);
    return is_idle(im, e) && name_remove(im, e);
}

bool image_remove(struct image *im, struct err *e)
{
    struct err why;

    if (im->seed)
        return true; /* its owner's */
    if (im->device)
        return image_device_remove(im, e);
    if (!im->named)
        return true;
    if (im->dirfd < 0 && !image_open_dir(im, &im->dirfd, &why)) {
        if (why.os == ENOENT)
            return true; /* gone with its directory */
        *e = why;
        return err_wrap(e, "disk %s", im->target);
    }
    if (image_is(im->dirfd, image_name(im), &im->id)) {
        if (!file_remove(im, e))
            return false;
    } else if (faccessat(im->dirfd, image_name(im), F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        spare_as(im, "is another file than the move made");
    }
    im->named = false;
    return true;
}

void image_close(struct image *im)
{
    fd_close_auto(&im->fd);
    fd_close_auto(&im->dirfd);
    im->fd = im->dirfd = -1;
}
