/* src/base/units.h - sizes, rates and times as people write them; pure. */
#ifndef SNM_BASE_UNITS_H
#define SNM_BASE_UNITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* "10G", "512M", "1.5T", "4096", "10GiB", "10GB": K M G T P are powers of 1024, and so
 * are KiB...; KB, MB... are powers of 1000.  Errors: ERR_USAGE. */
MUST_CHECK bool units_parse_size(const char *s, uint64_t *bytes, struct err *e);

/* Bytes per second: "800Mbit", "1Gbit" (bits, powers of 1000), "100M", "100MB", "100MiB"
 * (bytes; with or without "/s"), "0" or "unlimited" for no limit (0). */
MUST_CHECK bool units_parse_rate(const char *s, uint64_t *bytes_per_s, struct err *e);

/* "300ms", "10s", "15m", "2h", "1d"; a bare number is refused, the unit is needed. */
MUST_CHECK bool units_parse_time(const char *s, uint64_t *ms, struct err *e);

/* A string in the callers' array, returned: "1.5 GiB", "87.0 MiB/s", "1m 12s", "300 ms". */
enum { UNITS_LEN = 32 };
char *units_size(char out[UNITS_LEN], uint64_t bytes);
char *units_rate(char out[UNITS_LEN], double bytes_per_s);
char *units_time(char out[UNITS_LEN], int64_t ms);
/* As units_parse_time() takes it, exactly: "1500ms", "30s", "14d"; for advice to be typed. */
char *units_time_typed(char out[UNITS_LEN], uint64_t ms);

#endif
