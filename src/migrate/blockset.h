/* src/migrate/blockset.h - a set of blocks of a disk; pure.
 *
 * A bit for each block of MIRROR_BLOCK, the last of which may be shorter: 20 MiB for 10 TiB.
 */
#ifndef SNM_MIGRATE_BLOCKSET_H
#define SNM_MIGRATE_BLOCKSET_H

#include <stdbool.h>
#include <stdint.h>

struct blockset {
    uint64_t size; /* of the disk, bytes */
    uint8_t *bits;
};

/* Empty.  false: out of memory. */
bool blockset_init(struct blockset *b, uint64_t size);
void blockset_fini(struct blockset *b);
void blockset_clear(struct blockset *b);

/* All blocks that have a byte of the stretch, which is within the disk. */
void blockset_add(struct blockset *b, uint64_t off, uint64_t len);
void blockset_remove(struct blockset *b, uint64_t off, uint64_t len);
/* What is in both; of one size. */
void blockset_intersect(struct blockset *b, const struct blockset *with);

/* The next stretch at or after @from; false: there is none. */
bool blockset_next(const struct blockset *b, uint64_t from, uint64_t *off,
                   uint64_t *len);
uint64_t blockset_bytes(const struct blockset *b);

#endif
