/* src/agent/writer.h - one qemu-nbd per image: what the source writes a disk through.
 *
 * A child that dies with the thread that started it: an image that somebody still has open
 * for writing must never meet a guest.  Only a writer that has ended with status 0 counts
 * as closed.  Thread: the move's lock, but for writer_connect().
 */
#ifndef SNM_AGENT_WRITER_H
#define SNM_AGENT_WRITER_H

#include "agent/image.h"
#include "base/proc.h"

struct writer {
    char target[32];
    char sock[PATHS_SOCK_MAX]; /* where it listens */
    bool read_only;
    struct proc proc;
    int said; /* what it wrote on stderr, a memory file; -1: none */
};
#define WRITER_NONE \
    { \
        .proc = PROC_NONE, .said = -1 \
    }

/* Start it on @im, which is open, with its socket in @run_dir, and wait until it serves.
 * @lock: a descriptor with a flock, which it holds as long as it lives; -1: none.
 * Errors: ERR_SYS with its own words. */
MUST_CHECK bool writer_start(struct writer *w, const struct image *im,
                             const char *run_dir, int lock, struct err *e);
/* The same of an image that is only to be read; ->fd of @im need not be writable.  It keeps
 * others from writing to a qcow2 image meanwhile, as QEMU's locks go. */
MUST_CHECK bool writer_start_reader(struct writer *w, const struct image *im,
                                    const char *run_dir, struct err *e);
/* A new NBD connection, owned by the caller.  Thread: any.  Errors: ERR_SYS, with the
 * words of a writer that has died. */
MUST_CHECK bool writer_connect(const struct writer *w, int *fd, struct err *e);
/* Ask it to end; writer_close() waits for it. */
void writer_end(struct writer *w);
/* Reap it.  Errors: ERR_SYS it did not end well; ERR_TIMEOUT, and it was killed. */
MUST_CHECK bool writer_close(struct writer *w, struct err *e);
/* End it whatever becomes of what it has not written. */
void writer_kill(struct writer *w);

#endif
