/* nbd-mirror/zero.h - finding zeroes in what was read; pure. */
#ifndef NBD_MIRROR_ZERO_H
#define NBD_MIRROR_ZERO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is told apart within a buffer: smaller stretches of zeroes are not worth a command
 * of their own.  It is the cluster size of qcow2, so a cluster of zeroes stays a hole. */
enum { ZERO_CELL = 64 * 1024 };

/* Whether @len bytes, at least one, are all zero.  At the speed of memcmp(3). */
bool zero_is(const void *buf, size_t len);

/* How many of the first bytes of @buf are alike in being cells of zeroes or cells of data;
 * *zero says which.  @off is where @buf starts on the disk: cells begin at multiples of
 * ZERO_CELL there, the first and last cell may be shorter. */
size_t zero_run(const uint8_t *buf, uint64_t off, size_t len, bool *zero);

#endif
