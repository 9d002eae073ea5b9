/* src/base/procmem.h - a look at the memory of another process: how much of it is in use.
 *
 * For the RAM of a QEMU, one large mapping of which many pages were never touched or hold
 * zeroes.  Pages that are not there are not read: reading would make them be there.
 */
#ifndef SNM_BASE_PROCMEM_H
#define SNM_BASE_PROCMEM_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct procmem {
    double used;  /* share of the mapping that is not zero, 0 to 1 */
    uint8_t *buf; /* the caller's, or NULL; gets pages that are not zero, */
    size_t size;  /* of as many bytes at most; */
    size_t len;   /* how many it got */
};

/* Look at pages spread evenly over the smallest mapping of @pid that has @bytes or more.
 * Fills ->used, ->len and ->buf.  Errors: ERR_SYS may not, or there is no such mapping.
 * Blocks: no; about 20 ms. */
MUST_CHECK bool procmem_look(pid_t pid, uint64_t bytes, struct procmem *p,
                             struct err *e);

#endif
