/* src/agent/image.h - the disk images of a move: made, found again, removed.
 *
 * A new file gets its name only when it is complete and written down in the journal:
 *
 *   image_make()     a file without a name (O_TMPFILE), right size and format
 *   ... the caller's journal says which file it is (->id) ...
 *   image_publish()  its name, which must be free: never over another file
 *   image_remove()   only if the name still means that very file
 *
 * A crash before the journal so leaves nothing, one after it leaves what the journal names.
 * Where the file system has no O_TMPFILE (some network ones), the name exists from
 * image_make() on.  The directory is opened once; below it no symlink is followed.
 *
 * A seed is an image that lies there already and is taken over; image_make() opens and checks
 * it, nothing ever removes it.
 *
 * A block device may stand for a raw image: it must be empty (its first and last MiB) and of
 * the right size, and is never removed, but made to look empty again.
 *
 * What somebody has written since it was left (->mark) is left alone, a device also where it
 * cannot be told whether it is the same one.
 * Thread: the move's lock.  Blocks: on the disk, on qemu-img.
 */
#ifndef SNM_AGENT_IMAGE_H
#define SNM_AGENT_IMAGE_H

#include "base/findings.h"
#include "base/json.h"
#include "base/paths.h"

/* Which file: the number of an inode is used again after it was removed, so the time of
 * birth belongs to it. */
struct image_id {
    uint64_t dev, ino; /* dev 0: forgotten; of a file, any is right */
    uint64_t
        born; /* ns; of a device diskseq, its number in the order in which the kernel
                      has seen disks.  0: not told */
};

/* What every write to it changes: of a file its size in bytes and its mtime in ns; of a
 * device how many sectors the kernel has counted as written and as discarded. */
struct image_mark {
    bool known; /* some kernels and drivers do not count */
    uint64_t size, stamp;
};

enum image_fate {
    IMAGE_UNTOUCHED, /* nobody has written since image_sync() */
    IMAGE_WRITTEN,
    IMAGE_REPLACED, /* the name means another file */
    IMAGE_GONE,     /* the name means nothing */
    IMAGE_UNKNOWN,
};

struct image {
    char target[32], format[16];
    char path[PATHS_MAX];   /* absolute */
    uint64_t size;          /* virtual, bytes, a multiple of 512 */
    bool device;            /* an existing block device */
    bool seed;              /* it was there before: its owner's, with all it holds */
    bool named;             /* the file has its name, the device is taken */
    struct image_id id;     /* of a file; of a device ->dev is its own number */
    struct image_mark mark; /* from image_sync(), or the journal */
    bool removed, blanked;  /* by image_remove(), */
    uint64_t freed;         /* which gave back so many bytes, */
    char spared[sizeof((struct err *)0)
                    ->msg]; /* or left it alone, for that reason; "": it did not */
    int dirfd, fd;          /* -1: not open */
};

/* From {target, path, format, size, seed}, checked as text and numbers; nothing is opened.
 * Errors: ERR_PROTO; ERR_REFUSED a path or size that can never work. */
MUST_CHECK bool image_parse(struct json_object *o, struct image *out, struct err *e);
/* {target, path, format, size, device, seed, id} and back, for the journal. */
struct json_object *image_to_json(const struct image *im);
MUST_CHECK bool image_from_json(struct json_object *o, struct image *out,
                                struct err *e);

/* The part of ->path after the last '/'. */
const char *image_name(const struct image *im);

/* What would keep image_make() from working, other than space; adds to @f.  Changes
 * nothing.  @own: an image that an earlier, dead move made may be in the way, or is to
 * be gone on with; NULL: none. */
void image_check(const struct image *im, const struct image_id *own,
                 struct findings *f);

/* Errors: ERR_REFUSED something is there already, a device that is not empty, a seed that
 * is missing or cannot be this disk; ERR_SYS. */
MUST_CHECK bool image_make(struct image *im, struct err *e);
/* Open it again, from the journal's form too; nothing to do where it is open.
 * Errors: ERR_REFUSED it is gone, another file or size, in use (->os EBUSY), a qcow2 image that
 * refers to other files now, or a device that was forgotten; ERR_SYS. */
MUST_CHECK bool image_reopen(struct image *im, struct err *e);
/* The host was started anew since it was made: numbers of devices mean nothing any more, nor do
 * a device's counts.  A file is known by its inode and its time of birth, if it has one. */
void image_forget_device(struct image *im);
/* After a writer that may have been killed: let clusters of a qcow2 image that nothing
 * refers to go.  Nobody else has it open.  Errors: ERR_REFUSED it is damaged. */
MUST_CHECK bool image_mend(struct image *im, struct err *e);
/* The name is on the disk when it returns. */
MUST_CHECK bool image_publish(struct image *im, struct err *e);
/* What was written is on the disk when it returns, the mtime, too, and ->mark is as it is
 * then.  In the guest's pause: not a word more than needed.
 * Errors: ERR_SYS, also for a raw file that has another size now. */
MUST_CHECK bool image_sync(struct image *im, struct err *e);
/* What has become of it since ->mark.  QEMU may open it, take it over as the destination
 * of a migration and end: that writes nothing, raw or qcow2 (QEMU 7.2, 10.0); neither do
 * chown and labels.  Works from the journal's form as well. */
enum image_fate image_fate(const struct image *im);
/* ->mark for the journal, and back: whatever is wrong there leaves it unknown. */
struct json_object *image_mark_to_json(const struct image *im);
void image_mark_from_json(struct image *im, struct json_object *o);
/* Remove the name if it means our file (->removed), make the ends of a device empty
 * (->blanked), or leave it alone (->spared).  Works from the journal's form as well.
 * Errors: ERR_REFUSED it is in use; ERR_SYS. */
MUST_CHECK bool image_remove(struct image *im, struct err *e);
/* Leave it alone instead (->spared): @why; NULL: it cannot be told whether somebody has
 * written it.  Returns true. */
bool image_leave(struct image *im, const char *why);
/* Both ends of the device are empty, as image_remove() leaves them.  Blocks: on the disk. */
bool image_device_is_blank(const struct image *im);
void image_close(struct image *im);

/* A name of what ->fd has open, for programs that it is handed to; returns @out. */
enum { IMAGE_FD_PATH = 40 };
char *image_fd_path(const struct image *im, char out[IMAGE_FD_PATH]);
/* Whether @name in @dirfd is that very file. */
bool image_is(int dirfd, const char *name, const struct image_id *id);
/* The directory of ->path, for reading; owned by the caller. */
MUST_CHECK bool image_open_dir(const struct image *im, int *dirfd, struct err *e);

#endif
