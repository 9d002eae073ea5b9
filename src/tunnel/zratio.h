/* src/tunnel/zratio.h - how well data would shrink on a channel; pure. */
#ifndef SNM_TUNNEL_ZRATIO_H
#define SNM_TUNNEL_ZRATIO_H

#include <stddef.h>

/* Plain bytes for one packed byte, at least 1, at @zstd as link_channel() takes it (for
 * ZSTD_AUTO a low level).  1 also for no data, or without memory. */
double zratio(const void *buf, size_t len, int zstd);

#endif
