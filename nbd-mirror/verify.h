/* nbd-mirror/verify.h - prove that two NBD exports read alike, and make it so.
 *
 * Each side is digested block by block (digest.h) in a thread of its own, and the digests
 * are compared.  Blocks that both servers call zero (base:allocation) are not read.
 *
 * Thread: the caller's blocks, ->differs is called from it; ->dial of each side from a
 * thread of its own.  Cancel ends it within 100 ms.
 */
#ifndef NBD_MIRROR_VERIFY_H
#define NBD_MIRROR_VERIFY_H

#include "nbd-mirror/mirror.h"

struct digest;
struct digest_cfg;

struct verify_cfg {
    const char *name; /* "vda", for messages */
    uint64_t size;    /* what both exports must have, or MIRROR_SIZE_DST: any, alike */
    uint32_t block;   /* bytes compared at a time; a power of two, 64 KiB to 32 MiB;
                             0: 256 KiB */
    unsigned connections; /* to each side; at most 16; 0: as digest.h */
    unsigned requests;    /* in flight on each of them; at most 256; 0: as digest.h */
    const struct cancel *cancel; /* borrowed; may be NULL */
    /* Called for every stretch of blocks that differ, in ascending order; may be NULL. */
    void (*differs)(void *ctx, uint64_t off, uint64_t len);
    /* The rest: blocks and stretches of zeroes that are alike, when all before them has been
     * told; may be NULL. */
    void (*alike)(void *ctx, const struct digest *d);
    void *ctx;
    uint64_t
        stretch_max; /* bytes; ->differs is told of longer ones in parts.  0: not */
    /* Only these stretches, as in digest.h, or only what is not before ->start; of
     * verify_run() only.  NULL, 0: all of both. */
    const struct mirror_range *ranges;
    size_t nranges;
    uint64_t start;
    /* Where a side is digested elsewhere: emit what digest_export() would, from a thread of
     * its own, and end when told to.  Then there is no @src, no @dst.  NULL: here. */
    bool (*src_digests)(void *ctx, const struct digest_cfg *cfg, uint64_t *size,
                        struct err *e);
    void *src_ctx;
    bool (*dst_digests)(void *ctx, const struct digest_cfg *cfg, uint64_t *size,
                        struct err *e);
    void *dst_ctx;
    /* Bytes compared so far, for whoever shows progress; may be NULL. */
    _Atomic uint64_t *compared;
};

struct verify_result {
    uint64_t size;
    uint64_t read[2]; /* bytes that were read from the source, the destination */
    uint64_t differ;  /* bytes in blocks that differ; after verify_repair(): still */
    uint64_t stretches;
    uint64_t repaired; /* bytes that were copied again */
};

/**
 * verify_run() - compare all of two exports
 *
 * true: all was compared; whether it is alike, ->differ says.
 * Memory: connections x requests x block for each side (4 MiB by default on two CPUs), and
 * what digest.h says.
 * Errors: those of mirror_pass(), of either side; ERR_PROTO different sizes.
 */
MUST_CHECK bool verify_run(const struct verify_cfg *cfg, const struct mirror_side *src,
                           const struct mirror_side *dst, struct verify_result *out,
                           struct err *e);

/**
 * verify_repair() - compare, copy what differs, flush, and compare that once more
 * @how: of the copy; ->name, ->size and ->cancel are taken from @cfg
 *
 * What was copied is then read from both servers, whatever their extents say.  true: ->differ
 * is what differs even then, as where the source changes meanwhile.
 * Errors: those of verify_run(), mirror_open(), mirror_pass(), mirror_flush().
 */
MUST_CHECK bool verify_repair(const struct verify_cfg *cfg,
                              const struct mirror_cfg *how,
                              const struct mirror_side *src,
                              const struct mirror_side *dst, struct verify_result *out,
                              struct err *e);

#endif
