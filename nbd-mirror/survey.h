/* nbd-mirror/survey.h - what a copy would have to do; nothing is read, nothing written. */
#ifndef NBD_MIRROR_SURVEY_H
#define NBD_MIRROR_SURVEY_H

#include "nbd-mirror/mirror.h"

/* All in bytes; but for ->size they add up to it. */
struct survey {
    uint64_t size;
    uint64_t data;  /* to be read; all of it where the server tells no extents */
    uint64_t zero;  /* allocated, and reads as zeroes */
    uint64_t holes; /* not allocated, and reads as zeroes */
    uint64_t clean; /* not marked by the bitmap */
    bool extents;   /* the server offers base:allocation */
    bool read_only, can_zero;
};

/**
 * survey_run() - ask an export for its size and extents
 * @name:   of the side, "src", for messages
 * @bitmap: count only what it marks; or NULL
 * @deep:   ask for the extents; otherwise only the size and the flags are told
 *
 * Errors: as of mirror_pass().  Blocks: for as long as the answers take.
 */
MUST_CHECK bool survey_run(const struct mirror_side *side, const char *name,
                           const char *bitmap, bool deep, const struct cancel *cancel,
                           struct survey *out, struct err *e);

/**
 * survey_marked() - which stretches a bitmap marks, in ascending order
 * @size:   of the export, bytes; another one is an error
 * @align:  a power of two from the server's least block on: a block of so many bytes is
 *          marked if any of it is
 * @marked: is told of each; behind the last whole block of @align, in the server's least
 *          blocks, and what is beyond the last of those counts as marked
 *
 * Errors: as of mirror_pass().  Blocks: for as long as the answers take.
 */
MUST_CHECK bool survey_marked(const struct mirror_side *side, const char *name,
                              const char *bitmap, uint64_t size, uint32_t align,
                              const struct cancel *cancel,
                              void (*marked)(void *ctx, uint64_t off, uint64_t len),
                              void *ctx, struct err *e);

#endif
