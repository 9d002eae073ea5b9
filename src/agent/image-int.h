/* src/agent/image-int.h - what the files of image share; for them only. */
#ifndef SNM_AGENT_IMAGE_INT_H
#define SNM_AGENT_IMAGE_INT_H

#include "agent/image.h"

/* open(2) of what is below @dirfd, through no symlink; -1 and errno. */
int image_open_beneath(int dirfd, const char *name, int flags);
/* Which file @name in @dirfd is, "" @dirfd itself; false: errno. */
bool image_id_of(int dirfd, const char *name, struct image_id *out);
/* "disk vda: PATH HOW", ERR_REFUSED; returns false. */
bool image_refuse(const struct image *im, const char *how, struct err *e);
/* image_remove() leaves it alone, because: ->spared, and the log.  Returns true. */
bool image_spare(struct image *im, const char *why);
bool image_spare_written(struct image *im);

/* --- image-device.c --- */

/* Take a device that is empty, open it again, give it back: the parts of image_make(),
 * image_reopen() and image_remove().  ->id is its number and, as ->born, its place in the order
 * in which the kernel has seen disks since its start (diskseq). */
MUST_CHECK bool image_device_take(struct image *im, struct err *e);
MUST_CHECK bool image_device_reopen(struct image *im, struct err *e);
MUST_CHECK bool image_device_remove(struct image *im, struct err *e);
void image_device_check(const struct image *im, const struct image_id *own,
                        struct findings *f);
void image_device_mark(const struct image *im, struct image_mark *out);

/* --- image-seed.c --- */

/* No QEMU, nor a tool of it, has the file open that @fd (not ours to close) stands for.
 * Errors: ERR_REFUSED with ->os EBUSY; ERR_SYS. */
MUST_CHECK bool image_unused(const struct image *im, int fd, struct err *e);

/* What somebody may have made of an image of ours (->fd) since it was closed: to be asked
 * before any program of QEMU opens it, for its header may name files of this host.  Also
 * of one that is no seed.  Errors: ERR_REFUSED; ERR_SYS. */
MUST_CHECK bool image_header_again(const struct image *im, struct err *e);

/* Take over what lies there; ->dirfd, ->fd, ->id are set.  Errors: ERR_REFUSED it cannot be
 * this disk (->os ENOENT: nothing is there), is in use, or is a device; ERR_SYS. */
MUST_CHECK bool image_seed_take(struct image *im, struct err *e);
void image_seed_check(const struct image *im, struct findings *f);

#endif
