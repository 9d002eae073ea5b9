#include "tunnel/zratio.h"

#include <stdint.h>
#include <stdlib.h>
#include <zstd.h>

#include "base/mem.h"
#include "tunnel/link.h"

enum { FRAME = 256 * 1024, LOW = 1 };

double zratio(const void *buf, size_t len, int zstd)
{
    const size_t room = ZSTD_compressBound(FRAME);
    AUTO(mem_free) void *out = malloc(room);
    size_t packed = 0;

    if (zstd == ZSTD_OFF || len == 0 || out == NULL)
        return 1;
    for (size_t at = 0; at < len; at += FRAME) {
        const size_t n = len - at < FRAME ? len - at : FRAME;
        const size_t got = ZSTD_compress(out, room, (const uint8_t *)buf + at, n,
                                         zstd == ZSTD_AUTO ? LOW : zstd);

        packed += ZSTD_isError(got) || got > n ? n : got;
    }
    return (double)len / (double)packed;
}
