/* src/agent/backlog.h - bytes on their way to QEMU: a queue in memory, then in a file.
 *
 * First in, first out.  The oldest bytes are in memory; what does not fit goes to a file
 * without a name, a ring as well, so that a backlog that is never empty does not grow it.
 * Thread: the owner's.  Blocks: on the disk.
 */
#ifndef SNM_AGENT_BACKLOG_H
#define SNM_AGENT_BACKLOG_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct backlog;

/* @dir: where the file is made when it is needed; borrowed.  @memory and @file: bytes that
 * each holds at most. */
MUST_CHECK bool backlog_new(const char *dir, size_t memory, uint64_t file,
                            struct backlog **out, struct err *e);
void backlog_free(struct backlog *b);
void backlog_free_auto(struct backlog **b);

uint64_t backlog_len(const struct backlog *b);
/* Bytes that backlog_put() takes without using the file. */
size_t backlog_room(const struct backlog *b);

/* Append.  Cannot fail when @len <= backlog_room().  Errors: ERR_SYS of the file, ENOSPC
 * also when it is at its maximum; part may have been taken then. */
MUST_CHECK bool backlog_put(struct backlog *b, const void *buf, size_t len,
                            struct err *e);

/* The oldest bytes, at least one unless it is empty; borrowed until the next call. */
MUST_CHECK bool backlog_peek(struct backlog *b, const uint8_t **p, size_t *len,
                             struct err *e);
/* Forget the oldest @n, at most what the last backlog_peek() gave. */
void backlog_drop(struct backlog *b, size_t n);
/* Forget all. */
void backlog_clear(struct backlog *b);

#endif
