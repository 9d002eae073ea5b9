/* nbd-mirror/disk-nbd.h - a disk behind an NBD server, through libnbd (1.14 or newer).
 *
 * Connected over a socket that is given, never by URI: nothing here resolves names, runs
 * commands or talks TLS.
 */
#ifndef NBD_MIRROR_DISK_NBD_H
#define NBD_MIRROR_DISK_NBD_H

#include "base/err.h"

struct cancel;
struct disk;

struct disk_nbd_cfg {
    const char *side;        /* "src", "dst"; borrowed until the disk is closed */
    const char *export_name; /* borrowed during the call */
    bool want_alloc;         /* ask for base:allocation */
    const char *bitmap;      /* ask for qemu:dirty-bitmap:NAME, and insist; or NULL */
    int timeout_ms;          /* of the whole handshake */
    const struct cancel *cancel;
};

/**
 * disk_nbd_open() - do the handshake on a connected stream socket
 * @fd: taken over, also on failure
 *
 * Errors: ERR_NBD no such export, no such bitmap, not an NBD server; ERR_PROTO block sizes
 * or a disk size that cannot be; ERR_TIMEOUT, ERR_CANCELLED.
 * Blocks: up to the timeout.
 */
MUST_CHECK bool disk_nbd_open(const struct disk_nbd_cfg *cfg, int fd, struct disk **out,
                              struct err *e);

#endif
