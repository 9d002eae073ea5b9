/* src/base/random.h - numbers that nobody can guess. */
#ifndef SNM_BASE_RANDOM_H
#define SNM_BASE_RANDOM_H

#include <stddef.h>

#include "base/err.h"

/* @n bytes from the kernel.  Errors: ERR_SYS.  Thread: any.  Blocks: until the kernel has
 * gathered enough since it booted. */
MUST_CHECK bool random_bytes(void *out, size_t n, struct err *e);

#endif
