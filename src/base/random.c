#include "base/random.h"

#include <errno.h>
#include <stdint.h>
#include <sys/random.h>

bool random_bytes(void *out, size_t n, struct err *e)
{
    enum { WHOLE = 256 }; /* at most so many are never cut short (getrandom(2)) */
    uint8_t *const to = out;

    for (size_t at = 0; at < n; at += WHOLE) {
        const size_t part = n - at < WHOLE ? n - at : WHOLE;

        if (getrandom(to + at, part, 0) != (ssize_t)part)
            return err_set(e, ERR_SYS, errno, "getrandom");
    }
    return true;
}
