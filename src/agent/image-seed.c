/* An image that was put there by other means, a backup or an older copy: it is taken over as
 * it is, and only what differs is written.  It is its owner's: never removed here. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/image-int.h"
#include "base/mem.h"

enum {
    LOCKS_AT = 100, /* bytes of a file, on which QEMU sets its locks */
    LOCKS = 164,
    /* The header of a qcow2 image, big-endian (QEMU docs/interop/qcow2.txt). */
    HEADER = 80, /* bytes, up to and with the incompatible features */
    VERSION_AT = 4,
    BACKING_AT = 8,
    SIZE_AT = 24,
    CRYPT_AT = 32,
    SNAPSHOTS_AT = 60,
    FEATURES_AT = 72, /* from version 3 on */
    DIRTY = 1 << 0,
    CORRUPT = 1 << 1,
    DATA_FILE = 1 << 2,
    KNOWN = 0x1f, /* and: compression type, extended L2 entries */
};

static uint64_t be(const uint8_t *p, int len)
{
    uint64_t v = 0;

    for (int i = 0; i < len; i++)
        v = v << 8 | p[i];
    return v;
}

static bool refuse(const struct image *im, const char *why, struct err *e)
{
    return err_set(e, ERR_REFUSED, 0, "%s %s", im->path, why);
}

static bool size_is(const struct image *im, uint64_t size, struct err *e)
{
    if (size == im->size)
        return true;
    return err_set(e, ERR_REFUSED, 0, "%s has %llu bytes, the disk has %llu", im->path,
                   (unsigned long long)size, (unsigned long long)im->size);
}

/* @left: what a writer of ours left: it may have been killed. */
static bool header_check(const struct image *im, bool left, struct err *e)
{
    const uint64_t unclean = left ? CORRUPT : DIRTY | CORRUPT;
    uint8_t h[HEADER] = { 0 };

    const ssize_t n = pread(im->fd, h, sizeof h, 0);
    if (n < 0)
        return err_set(e, ERR_SYS, errno, "cannot read %s", im->path);
    const uint64_t version = be(h + VERSION_AT, 4);
    const uint64_t features = version >= 3 ? be(h + FEATURES_AT, 8) : 0;

    if (n < HEADER || memcmp(h, "QFI\xfb", 4) != 0 || (version != 2 && version != 3))
        return refuse(im, "is not a qcow2 image", e);
    if (be(h + BACKING_AT, 8) != 0)
        return refuse(im, "has a backing file: flatten it first (qemu-img convert)", e);
    if ((features & DATA_FILE) != 0)
        return refuse(im, "keeps its data in another file", e);
    if (be(h + CRYPT_AT, 4) != 0)
        return refuse(im, "is encrypted", e);
    if (be(h + SNAPSHOTS_AT, 4) != 0)
        return refuse(im, "has internal snapshots, which would be overwritten", e);
    if ((features & unclean) != 0)
        return refuse(im, "is not clean: qemu-img check -r all", e);
    if ((features & ~(uint64_t)KNOWN) != 0)
        return refuse(im, "has features that are not known here", e);
    return size_is(im, be(h + SIZE_AT, 8), e);
}

/* QEMU and its tools lock bytes of what they have open, some for what they do and some for
 * what they do not bear (RAW_LOCK_PERM_BASE and RAW_LOCK_SHARED_BASE in block/file-posix.c).
 * Any will do: what is a backing file of a running guest must not be written either. */
bool image_unused(const struct image *im, int fd, struct err *e)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCKS_AT, .l_len = LOCKS
    };

    if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
        return err_set(e, ERR_SYS, errno, "locks of %s", im->path);
    if (lock.l_type == F_UNLCK)
        return true;
    refuse(im, "is in use: a running VM or another program of QEMU has it open", e);
    e->os = EBUSY; /* it may pass; nothing is given up for it */
    return err_next(e, "Look which: lsof %.150s", im->path);
}

static bool file_open(struct image *im, struct err *e)
{
    struct stat st;

    if (!image_open_dir(im, &im->dirfd, e))
        return false;
    im->fd = image_open_beneath(im->dirfd, image_name(im), O_RDWR | O_NONBLOCK);
    if (im->fd < 0 && errno == ENOENT) {
        err_set(e, ERR_REFUSED, ENOENT,
                "%s, of which only what differs was to be copied", im->path);
        return err_next(e, "Put a copy of the disk there, or leave out --seed.");
    }
    if (im->fd < 0 && errno == ELOOP)
        return refuse(im, "is a symbolic link", e);
    if (im->fd < 0 || fstat(im->fd, &st) < 0 || !image_id_of(im->fd, "", &im->id))
        return err_set(e, ERR_SYS, errno, "%s", im->path);
    if (!S_ISREG(st.st_mode))
        return refuse(im, "is not a regular file", e);
    im->named = true;
    return strcmp(im->format, "raw") != 0 || size_is(im, (uint64_t)st.st_size, e);
}

bool image_header_again(const struct image *im, struct err *e)
{
    return strcmp(im->format, "qcow2") != 0 || header_check(im, true, e);
}

/* No token can lie beside a device, and neither O_EXCL nor QEMU's locks cross hosts. */
static bool no_device(const struct image *im, struct err *e)
{
    if (!im->device)
        return true;
    refuse(im, "is a block device: it cannot be told from the source's own disk here",
           e);
    return err_next(e, "Leave out --seed.");
}

bool image_seed_take(struct image *im, struct err *e)
{
    return no_device(im, e) && file_open(im, e) &&
           (strcmp(im->format, "qcow2") != 0 || header_check(im, false, e)) &&
           image_unused(im, im->fd, e);
}

void image_seed_check(const struct image *im, struct findings *f)
{
    struct image copy = *im;
    struct err e = { 0 };

    if (!image_seed_take(&copy, &e))
        findings_add(f, FINDING_BLOCKER, e.os == ENOENT ? "no-seed" : "seed",
                     e.next[0] != '\0' ? e.next : NULL, "disk %s: %s", im->target,
                     e.msg);
    image_close(&copy);
}
