/* src/tunnel/zstage.h - a thread that packs or unpacks one direction of a channel.
 *
 *   pack    channel's local end --recv--> zstd frames --send--> socket pair --> session
 *   unpack  session --> socket pair --recv--> zstd frames --send--> channel's local end
 *
 * A packed stream is any number of zstd frames; packing makes an independent one, with its
 * content size, from what was there to read (up to 512 KiB), so nothing is ever held back.
 * End of file goes through: shutdown(SHUT_WR) on the far side once all is out.  Unpacking
 * takes fixed memory whatever a frame claims: windows over 1 MiB are refused.
 */
#ifndef SNM_TUNNEL_ZSTAGE_H
#define SNM_TUNNEL_ZSTAGE_H

#include <stdatomic.h>

#include "base/err.h"

struct zstage;

struct zstage_cfg {
    int fd; /* the channel's local end, a stream socket; borrowed until zstage_free() */
    bool pack;
    int level;                            /* as link_channel(); for packing */
    atomic_uint_fast64_t *plain, *packed; /* counted up by packing; may be NULL */
    void (*wake)(void *arg);              /* the thread is about to end */
    void *arg;
};

/* Start it.  *end: the session's end of the socket pair, owned by the caller. */
MUST_CHECK bool zstage_new(const struct zstage_cfg *cfg, struct zstage **out, int *end,
                           struct err *e);
/* The thread has nothing more to do; zstage_free() will not block. */
bool zstage_done(const struct zstage *z);
/* true: it ended by a failure, copied to *e (ERR_PROTO what came is not zstd, or is cut
 * off; ERR_SYS reading or writing).  Set before any end of file can be seen. */
bool zstage_failed(const struct zstage *z, struct err *e);
/* Level in use, and plain bytes so far; packing. */
int zstage_level(const struct zstage *z);
unsigned long long zstage_bytes(const struct zstage *z);
/* Make it end: shuts down both its sockets. */
void zstage_stop(struct zstage *z);
/* Join and free. */
void zstage_free(struct zstage *z);

#endif
