/* A block device that stands for a raw image: taken empty, left as it was found or with its
 * guest, and never taken for another one. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "agent/image-int.h"
#include "base/mem.h"

enum {
    PROBE = 1 << 20, /* at both ends: file systems, partition tables, RAID and LVM leave
                        their signatures there */
};

static size_t probe_len(const struct image *im)
{
    return im->size < PROBE ? (size_t)im->size : PROBE;
}

static bool is_zero(const unsigned char *p, size_t len)
{
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* Errors: ERR_REFUSED with ->os EEXIST: there is something on it. */
static bool is_empty(int fd, const struct image *im, struct err *e)
{
    const size_t len = probe_len(im);
    AUTO(mem_free) unsigned char *buf = malloc(len);

    if (buf == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "%s", im->path);
    for (int last = 0; last < 2; last++) {
        const ssize_t n = pread(fd, buf, len, last ? (off_t)(im->size - len) : 0);

        if (n != (ssize_t)len)
            return err_set(e, ERR_SYS, n < 0 ? errno : EIO, "cannot read %s", im->path);
        if (is_zero(buf, len))
            continue;
        err_set(e, ERR_REFUSED, EEXIST, "%s is not empty: its %s MiB holds data",
                im->path, last ? "last" : "first");
        return err_next(e,
                        "Make sure that it is the right device, then: wipefs -a %.60s; "
                        "blkdiscard -z %.60s",
                        im->path, im->path);
    }
    return true;
}

bool image_device_is_blank(const struct image *im)
{
    AUTO(fd_close) int fd = open(im->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct err ignored;

    return fd >= 0 && is_empty(fd, im, &ignored);
}

/* Exclusively: a device that is mounted, part of LVM or RAID, or another disk of this move
 * under another name refuses; QEMU and qemu-nbd do not ask for that, so they can. */
static bool open_it(const struct image *im, int *out, struct image_id *id,
                    struct err *e)
{
    AUTO(fd_close)
    int fd = open(im->path, O_RDWR | O_EXCL | O_NONBLOCK | O_CLOEXEC);
    uint64_t size;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(e, ERR_SYS, errno, "block device %s", im->path);
    if (!S_ISBLK(st.st_mode))
        return err_set(e, ERR_REFUSED, 0, "%s is not a block device", im->path);
    if (strcmp(im->format, "raw") != 0)
        return err_set(e, ERR_REFUSED, 0, "%s: a block device takes format raw only",
                       im->path);
    if (ioctl(fd, BLKGETSIZE64, &size) < 0)
        return err_set(e, ERR_SYS, errno, "size of %s", im->path);
    if (size != im->size)
        return err_set(e, ERR_REFUSED, 0, "%s has %llu bytes, the disk has %llu",
                       im->path, (unsigned long long)size,
                       (unsigned long long)im->size);
    *id = (struct image_id){ .dev = st.st_rdev };
    if (ioctl(fd, BLKGETDISKSEQ, &id->born) < 0)
        id->born = 0; /* Linux before 5.15 */
    *out = fd_steal(&fd);
    return true;
}

bool image_device_take(struct image *im, struct err *e)
{
    AUTO(fd_close) int fd = -1;
    struct image_id id;

    /* What ->fd stands for is blanked when the move is undone: nothing that was not empty. */
    if (!open_it(im, &fd, &id, e) || !is_empty(fd, im, e))
        return false;
    im->id = id;
    im->fd = fd_steal(&fd);
    im->named = true;
    return true;
}

/* A number is used again when its device is gone, its place in that order is not. */
static bool is_same(const struct image_id *a, const struct image_id *b)
{
    return a->ino == 0 && b->ino == 0 && a->dev == b->dev && a->born == b->born;
}

bool image_device_reopen(struct image *im, struct err *e)
{
    AUTO(fd_close) int fd = -1;
    struct image_id id;

    if (im->id.dev == 0)
        return image_refuse(im, "cannot be told any more: the host was started anew",
                            e);
    if (!open_it(im, &fd, &id, e))
        return err_wrap(e, "disk %s", im->target);
    if (!is_same(&id, &im->id))
        return image_refuse(im, "is another device", e);
    im->fd = fd_steal(&fd);
    return true;
}

void image_device_check(const struct image *im, const struct image_id *own,
                        struct findings *f)
{
    AUTO(fd_close) int fd = -1;
    struct err e = { 0 };
    struct image_id id;

    if (open_it(im, &fd, &id, &e) &&
        ((own != NULL && is_same(own, &id)) || is_empty(fd, im, &e)))
        return;
    findings_add(f, FINDING_BLOCKER, e.os == EEXIST ? "device-not-empty" : "device",
                 e.next[0] != '\0' ? e.next : NULL, "disk %s: %s", im->target, e.msg);
}

/* ---- what was written ------------------------------------------------------------------ */

/* The @n-th of the numbers in @text; 0: there are not so many. */
static uint64_t number_at(const char *text, int n)
{
    uint64_t v = 0;
    char *end;

    for (; n > 0; n--, text = end) {
        v = strtoull(text, &end, 10);
        if (end == text)
            return 0;
    }
    return v;
}

/* Since the host's start: after another one the counts differ.  All was written through
 * us, so a count of 0 is none. */
void image_device_mark(const struct image *im, struct image_mark *out)
{
    enum { WRITTEN = 7, DISCARDED = 14 }; /* Linux Documentation/block/stat.rst */
    char name[80], text[400] = "";
    struct stat st;

    *out = (struct image_mark){ 0 };
    if ((im->fd >= 0 ? fstat(im->fd, &st) : stat(im->path, &st)) < 0 ||
        !S_ISBLK(st.st_mode))
        return;
    snprintf(name, sizeof name, "/sys/dev/block/%u:%u/stat", major(st.st_rdev),
             minor(st.st_rdev));
    AUTO(fd_close) int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
        return;
    out->size = number_at(text, WRITTEN);
    out->stamp = number_at(text, DISCARDED);
    out->known = out->size > 0;
}

/* ---- giving it back -------------------------------------------------------------------- */

/* Let it look empty again at its ends, where it was found so: the next try would be refused,
 * and half a file system would be taken for a whole one. */
static bool blank(const struct image *im, struct err *e)
{
    const size_t len = probe_len(im);
    AUTO(mem_free) unsigned char *zero = calloc(1, len);

    if (zero == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "%s", im->path);
    if (pwrite(im->fd, zero, len, 0) != (ssize_t)len ||
        pwrite(im->fd, zero, len, (off_t)(im->size - len)) != (ssize_t)len ||
        fsync(im->fd) < 0)
        return err_set(e, ERR_SYS, errno, "cannot blank %s", im->path);
    return true;
}

/* Somebody else has it, or had it, or has taken it away. */
static bool is_lost(const struct err *e)
{
    return e->kind == ERR_REFUSED || e->os == EBUSY || e->os == ENOENT ||
           e->os == ENXIO;
}

bool image_device_remove(struct image *im, struct err *e)
{
    struct err why = { 0 };

    if (im->fd < 0 && !im->named)
        return true; /* never taken, or left alone */
    if (im->fd < 0 && !image_device_reopen(im, &why)) {
        if (is_lost(&why))
            return image_spare(im, why.msg);
        *e = why;
        return false;
    }
    if (image_fate(im) == IMAGE_WRITTEN)
        return image_spare_written(im);
    im->blanked = blank(im, e);
    return im->blanked;
}
