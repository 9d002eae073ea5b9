/* tests/lib/nbd-mem.h - an NBD server in this process, on bytes in memory, that can lie.
 *
 * It speaks the newstyle protocol with structured replies as far as libnbd needs it, one
 * thread for each connection.  What it must do wrong is set before the first connection.
 */
#ifndef SNM_TESTS_LIB_NBD_MEM_H
#define SNM_TESTS_LIB_NBD_MEM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

enum { NBD_MEM_CONNECTIONS_MAX = 64 };

/* Commands, as the protocol numbers them. */
enum {
    NBD_READ,
    NBD_WRITE,
    NBD_DISC,
    NBD_FLUSH,
    NBD_TRIM,
    NBD_CACHE,
    NBD_ZERO,
    NBD_STATUS
};

enum nbd_lie {
    LIE_NONE,
    /* in the handshake */
    LIE_GARBAGE,   /* not NBD at all */
    LIE_SILENCE,   /* nothing, for ever */
    LIE_HANG_UP,   /* end of file after the greeting */
    LIE_NO_EXPORT, /* there is no such export */
    /* in the answer to a command of kind ->lie_at, but for the first ->lie_after */
    LIE_ERRNO,        /* ->lie_errno */
    LIE_SHORT,        /* read: half of the data, and no error */
    LIE_OVERRUN,      /* read: a chunk that reaches past what was asked */
    LIE_SIMPLE_MAGIC, /* no reply's magic */
    LIE_COOKIE,       /* a reply to another command */
    LIE_CUT,          /* end of file in the middle of the reply */
    LIE_STUCK,        /* no reply, for ever */
    LIE_CTX_NONE,     /* status: no context */
    LIE_CTX_TWICE,    /* status: one twice */
    LIE_CTX_UNKNOWN,  /* status: one that was not negotiated */
    LIE_EXTENT_ZERO,  /* status: an extent of no length */
    LIE_EXTENT_LONG,  /* status: one that reaches past the end of the disk */
    LIE_EXTENT_MORE,  /* status: one behind what was asked */
    LIE_EXTENT_ODD,   /* status: half a pair */
};

struct nbd_mem {
    uint8_t *bytes;
    uint64_t size;              /* of ->bytes */
    _Atomic uint64_t size_told; /* to clients; the same at first */
    uint8_t *dirty;             /* a bitmap "b", a byte each; NULL: none */
    bool no_structured, read_only, no_zero, no_flush, no_multi_conn;
    bool forgets;      /* says that it has written, and has not */
    uint32_t block[3]; /* minimum, preferred, maximum; all 0: not told */
    /* These may be changed at any time. */
    _Atomic enum nbd_lie lie;
    atomic_uint lie_at, lie_after, lie_errno;

    atomic_uint count[8];    /* commands, by number */
    atomic_uint connections; /* ever */
    pthread_t thread[NBD_MEM_CONNECTIONS_MAX];
    int fd[NBD_MEM_CONNECTIONS_MAX];
};

struct nbd_mem *nbd_mem_new(uint64_t size);
/* Ends the connections that are left. */
void nbd_mem_free(struct nbd_mem *m);

/* As struct mirror_side wants it; @ctx is the struct nbd_mem. */
bool nbd_mem_dial(void *ctx, int *fd, struct err *e);

#endif
