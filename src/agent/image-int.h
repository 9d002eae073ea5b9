/* src/agent/image-int.h - what the files of image share; for them only. */
#ifndef SNM_AGENT_IMAGE_INT_H
#define SNM_AGENT_IMAGE_INT_H

#include "agent/image.h"

/* open(2) of what is below @dirfd, through no symlink; -1 and errno. */
int image_open_beneath(int dirfd, const char *name, int flags);
/* Which file @name in @dirfd is, "" @dirfd itself; false: errno. */
bool image_id_of(int dirfd, const char *name, struct image_id *out);
/* Exclusively: a device that is mounted, part of LVM or RAID, or another disk of this move
 * under another name refuses; QEMU and qemu-nbd do not ask for that, so they can. */
MUST_CHECK bool image_device_open(const struct image *im, int *out, uint64_t *rdev,
                                  struct err *e);

/* --- image-seed.c --- */

/* No QEMU, nor a tool of it, has the file open that @fd (not ours to close) stands for.
 * Errors: ERR_REFUSED; ERR_SYS. */
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
