/* src/migrate/suspects.h - stretches of a disk that may be wrong, ascending; pure.
 *
 * Memory is bounded: of more stretches the last one grows over what is between them, which
 * costs a longer look and is never wrong. */
#ifndef SNM_MIGRATE_SUSPECTS_H
#define SNM_MIGRATE_SUSPECTS_H

#include <stdbool.h>
#include <stddef.h>

#include "nbd-mirror/mirror.h"

enum { SUSPECTS_MAX = 4096 }; /* as many as can be asked about: digest-wire.h */

struct suspects {
    size_t n;
    struct mirror_range list[SUSPECTS_MAX];
};

/* Behind those that are there. */
void suspects_add(struct suspects *s, uint64_t off, uint64_t len);
uint64_t suspects_bytes(const struct suspects *s);

/* @count blocks of MIRROR_BLOCK of a disk of @size bytes, one of each of so many equal parts
 * of it; @random: as many numbers.  All of a disk that has no more. */
void suspects_sample(struct suspects *s, uint64_t size, size_t count,
                     const uint64_t *random);

/* Leave out of @from what is excused: suspects_excuse() in ascending order, then
 * suspects_rest(); what remains is in @to. */
struct excuse {
    const struct suspects *from;
    struct suspects *to;
    size_t i;               /* the stretch that is looked at, */
    struct mirror_range at; /* and what is left of it */
};
void suspects_begin(struct excuse *x, const struct suspects *from, struct suspects *to);
void suspects_excuse(struct excuse *x, uint64_t off, uint64_t len);
void suspects_rest(struct excuse *x);

#endif
