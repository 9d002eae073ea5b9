#include "nbd-mirror/zero.h"

#include <assert.h>
#include <string.h>

bool zero_is(const void *buf, size_t len)
{
    enum { HEAD = 16 };
    const uint8_t *p = buf;

    assert(len > 0);
    for (size_t i = 0; i < len && i < HEAD; i++)
        if (p[i] != 0)
            return false;
    /* Each byte equals the one HEAD bytes before it, and the first HEAD are zero: so all
     * are.  memcmp only reads, so that the two ranges overlap is fine. */
    return len <= HEAD || memcmp(p, p + HEAD, len - HEAD) == 0;
}

static size_t cell_len(uint64_t off, size_t len)
{
    const size_t room = ZERO_CELL - off % ZERO_CELL;

    return len < room ? len : room;
}

size_t zero_run(const uint8_t *buf, uint64_t off, size_t len, bool *zero)
{
    size_t n = cell_len(off, len);

    *zero = zero_is(buf, n);
    while (n < len) {
        const size_t cell = cell_len(off + n, len - n);

        if (zero_is(buf + n, cell) != *zero)
            break;
        n += cell;
    }
    return n;
}
