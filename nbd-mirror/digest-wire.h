/* nbd-mirror/digest-wire.h - the digests of an export as bytes, for who is elsewhere.
 *
 * One question on a byte stream, and its answer; integers are big-endian:
 *
 *     question  "SNMD", block u32, size u64, start u64, ranges u32, 0 u32,
 *               and for each of the ranges: off u64, len u64
 *     answer    records: 's' and the 16 bytes of the next block's digest,
 *                        'z' and u64, so many bytes read as zeroes,
 *                        'e' all was told,
 *                        'f', errno u32, length u16 and a text: it failed
 *
 * What a record speaks of follows from those before it: blocks and stretches lie one behind
 * the other, as digest_export() emits them.  So 17 bytes travel for a block, 9 for a hole of any length.
 *
 * Both sides are hostile to each other: all that comes is checked before it is used.
 * Memory: 64 KiB at either end, what digest_export() takes at the one that is asked.
 */
#ifndef NBD_MIRROR_DIGEST_WIRE_H
#define NBD_MIRROR_DIGEST_WIRE_H

#include <stddef.h>

#include "nbd-mirror/digest.h"

enum {
    DIGEST_WIRE_RANGES = 4096,
    DIGEST_WIRE_BLOCK_MAX = 1 << 20, /* bytes, of a block that may be asked for */
};

/**
 * digest_wire_serve() - answer one question on @fd, a blocking stream socket
 * @side: whose digests
 *
 * Errors: ERR_PROTO not a question; those of digest_export(), which the other end has been
 * told; ERR_SYS it has gone.  Blocks: until all is told, or the other end has gone.
 */
MUST_CHECK bool digest_wire_serve(int fd, const struct mirror_side *side,
                                  struct err *e);

/**
 * digest_wire_fetch() - what digest_export() would emit with @cfg, from the other end of @fd
 * @cfg: ->side, ->connections, ->requests and ->read mean nothing; ->size is a number; at most
 *       DIGEST_WIRE_RANGES ranges
 *
 * Errors: ERR_PROTO the other end does not tell what was asked for; ERR_NBD it failed, with
 * its words and errno; ERR_CANCELLED; those of ->emit.  Blocks: as digest_export().
 */
MUST_CHECK bool digest_wire_fetch(int fd, const struct digest_cfg *cfg, struct err *e);

/* --- pieces of these, for their tests --- */

/* Where an answer has come to. */
struct digest_wire {
    const struct digest_cfg *cfg; /* borrowed */
    size_t range;                 /* the next one */
    uint64_t off, end;            /* of the stretch under way */
    bool ended;
};

void digest_wire_begin(struct digest_wire *w, const struct digest_cfg *cfg);
/* Take the whole records at the front of @len bytes; *used: how many bytes they were. */
MUST_CHECK bool digest_wire_take(struct digest_wire *w, const uint8_t *p, size_t len,
                                 size_t *used, struct err *e);

#endif
