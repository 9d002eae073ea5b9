/* nbd-mirror/mirror.h - copy one NBD export onto another, whole or by dirty bitmap.
 *
 * A library: no exit, no globals, no output.  One struct mirror is one disk of one move.
 *
 *   mirror_open()                 connects the destination, as many lanes as it allows
 *     mirror_pass(bulk)           copies every extent that base:allocation calls data
 *     mirror_pass(bitmap) ...     copies the extents a dirty bitmap marks, again and again
 *     mirror_flush()              after it, what was copied is on the destination's disk
 *   mirror_close()
 *
 * Lanes: each is one thread with one source and one destination connection and a fixed set
 * of circulating buffers; nothing is allocated per request.  The destination connections
 * stay open between passes, the source's are dialled anew for every pass because each round
 * has an export of its own.
 *
 * Zeroes: a hole or zero extent of the source is never read and never travels as data; a
 * block read that holds only zeroes becomes WRITE_ZEROES.  In a pass with ->dst_zero the
 * destination is known to read as zeroes and both are skipped.  A source that fails when it
 * is asked for its extents is read in whole; what a bitmap marks must be told.
 *
 * Memory: at most lanes x requests x request_size, allocated in mirror_open(), of which
 * only what is in flight at one time ever gets pages (by default 2 MiB a lane, and once
 * 4 MiB for the large piece, see lane.h); up to 4 MiB of extents during a pass, however
 * large the disk.
 *
 * Block sizes: transfers keep to the minimum and maximum that both servers advertise.  A
 * block in which extents of different kinds meet is read and written whole: nothing is
 * ever read, modified and written.
 *
 * Waiting: a handshake may take 30 s.  A pass or a flush has no deadline, a slow server is
 * no error; cancel ends it within 100 ms, even when the servers do not answer: then the
 * destination connections with something in flight are lost.  The same goes, after 2 s,
 * for a pass that failed.
 *
 * Errors are those of struct err: ERR_NBD with the side ("src"/"dst"), command, offset and
 * length, ->os the server's errno; ERR_PROTO for a server that lies about sizes or extents;
 * ERR_CANCELLED.  The first one wins.  A failed pass leaves the mirror fit for another pass
 * unless mirror_broken() says that a destination connection is lost.
 *
 * A whole program (cc $(pkg-config --cflags nbdmirror) x.c $(pkg-config --libs nbdmirror)),
 * which copies from the socket argv[1] to the socket argv[2]:
 *
 *     #include <errno.h>
 *     #include <nbd-mirror/mirror.h>
 *     #include <stdio.h>
 *     #include <string.h>
 *     #include <sys/socket.h>
 *     #include <sys/un.h>
 *
 *     static bool dial(void *ctx, int *fd, struct err *e)
 *     {
 *         struct sockaddr_un sa = { .sun_family = AF_UNIX };
 *
 *         strncpy(sa.sun_path, ctx, sizeof sa.sun_path - 1);
 *         *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
 *         if (*fd >= 0 && connect(*fd, (struct sockaddr *)&sa, sizeof sa) == 0)
 *             return true;
 *         return err_set(e, ERR_SYS, errno, "%s", sa.sun_path);
 *     }
 *
 *     int main(int argc, char **argv)
 *     {
 *         const struct mirror_side src = { dial, argv[1], "" }, dst = { dial, argv[2], "" };
 *         const struct mirror_cfg cfg = { .name = "vda", .size = MIRROR_SIZE_DST };
 *         const struct mirror_pass pass = { .what = MIRROR_ALL };
 *         struct mirror *m = NULL;
 *         struct err e;
 *
 *         const bool ok = argc == 3 && mirror_open(&cfg, &dst, &m, &e) &&
 *                         mirror_pass(m, &src, &pass, &e) && mirror_flush(m, &e);
 *         if (!ok)
 *             fprintf(stderr, "%s\n", argc == 3 ? e.msg : "SRC DST");
 *         mirror_close(m);
 *         return ok ? 0 : 1;
 *     }
 *
 * Whether the copy is right, verify.h proves; digest.h digests one side.
 *
 * Thread: open, pass, flush, close: one at a time, they block.  mirror_stats(): any time,
 * any thread.  Cancel through the cfg's struct cancel from any thread.
 */
#ifndef NBD_MIRROR_MIRROR_H
#define NBD_MIRROR_MIRROR_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct cancel;
struct hot;
struct mirror;

/* Where connections of one side come from. */
struct mirror_side {
    /* A connected stream socket, which the mirror then owns.  Called from the thread that
     * called mirror_open() or mirror_pass(). */
    bool (*dial)(void *ctx, int *fd, struct err *e);
    void *ctx;
    const char *export_name; /* "": the default export; borrowed during the call */
};

/* Bytes of the disk from ->off on. */
struct mirror_range {
    uint64_t off, len;
};

#define MIRROR_SIZE_DST UINT64_MAX

enum {
    MIRROR_BLOCK = 64 * 1024, /* no server's blocks are larger (NBD protocol) */
    MIRROR_LANES_MAX = 16,
    MIRROR_REQUESTS_MAX = 256,
    MIRROR_REQUEST_SIZE_MIN = 4096,
    MIRROR_REQUEST_SIZE_MAX = 32 << 20, /* what any NBD server must take */
};

struct mirror_cfg {
    const char *name; /* "vda", for messages; copied */
    uint64_t size;    /* what both exports must have, in bytes; any number, or
                           MIRROR_SIZE_DST: what the destination has */
    unsigned lanes;   /* connections at most; one where a side is not multi-conn; 0: one
                          for two CPUs, 1 to 4 */
    unsigned requests; /* in flight on one lane; 0: 16, with at most 2 MiB of data */
    uint32_t
        request_size; /* bytes of the largest transfer; a power of two; 0: 512 KiB, and
                         4 MiB once, see lane.h */
    uint64_t rate;    /* bytes of data per second at most, in each pass; 0: no limit */
    bool no_zero;     /* zeroes are written as data, WRITE_ZEROES is not used */
    const struct cancel *cancel; /* borrowed until mirror_close(); may be NULL */
};

enum mirror_what {
    MIRROR_ALL,   /* every extent of the disk */
    MIRROR_DIRTY, /* only what the bitmap marks; of that, zero extents (where the source
                     tells them) are written as zeroes, whatever ->dst_zero says */
    MIRROR_RANGES, /* the stretches in ->ranges, nothing is asked about them */
};

struct mirror_pass {
    enum mirror_what what;
    const char *bitmap; /* MIRROR_DIRTY: of the meta context qemu:dirty-bitmap:NAME */
    struct hot *hot; /* and of that, leave out or add what this says, see hot.h; it is
                           told what is marked; NULL: nothing; borrowed */
    /* MIRROR_RANGES: multiples of MIRROR_BLOCK, but for the end of the disk; borrowed. */
    const struct mirror_range *ranges;
    size_t nranges;
    bool dst_zero;      /* the destination reads as zeroes now: holes need no write;
                           not with MIRROR_RANGES */
    bool extents_first; /* have the whole list before the first read (QEMU 10 answers
                            only READ on an inactive node): 16 bytes for each stretch, an
                            error when there are more than 2 Mi (32 MiB) */
    /* MIRROR_ALL only, for a pass that may be broken off and gone on with: */
    uint64_t start; /* what lies before it was copied and flushed by an earlier one */
    uint64_t flush_every; /* flush when so many bytes more are copied without a gap, and
                             every 5 s: see ->safe of the stats; 0: not during the pass */
};

/* Counters since mirror_open(), bytes; each only grows, but for the gauges. */
struct mirror_stats {
    uint64_t size;
    uint64_t
        pass_total; /* gauge: bytes that this pass must look at or copy, as far as known */
    uint64_t pass_done; /* gauge: of those */
    uint64_t data;      /* read at the source and written as data */
    uint64_t zeroed;    /* written as zeroes */
    uint64_t skipped;   /* found zero, and nothing was to do */
    uint64_t requests;
    uint64_t
        safe; /* gauge: all before it was copied and flushed, by the newest pass with
                      ->flush_every or before its ->start */
    unsigned lanes;
};

MUST_CHECK bool mirror_open(const struct mirror_cfg *cfg, const struct mirror_side *dst,
                            struct mirror **out, struct err *e);
MUST_CHECK bool mirror_pass(struct mirror *m, const struct mirror_side *src,
                            const struct mirror_pass *pass, struct err *e);
/* NBD_CMD_FLUSH on the destination, answered.  Nothing to do for a server that does not
 * offer it. */
MUST_CHECK bool mirror_flush(struct mirror *m, struct err *e);
/* Whether a destination connection is lost: the mirror must be opened anew. */
bool mirror_broken(const struct mirror *m);
void mirror_stats(const struct mirror *m, struct mirror_stats *out);
/* Disconnects politely (NBD_CMD_DISC) where that is possible without waiting. */
void mirror_close(struct mirror *m);
void mirror_close_auto(struct mirror **m);

#endif
