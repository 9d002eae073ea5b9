/* src/base/journal.h - what a move has done, on disk before the next irreversible step.
 *
 * One file per move and host, /var/lib/snmigrate/<id>/journal: JSON objects, a line each,
 * appended and fdatasync'ed; {"step": "prepared", ...}.  A torn last line (crash) is
 * ignored on reading; anything else that is not JSON makes the read fail.
 * Thread: one at a time (the caller's lock).  Blocks: on the disk.
 */
#ifndef SNM_BASE_JOURNAL_H
#define SNM_BASE_JOURNAL_H

#include "base/json.h"

struct journal;

/* Open for appending, creating it (0600) in @dir, which is made by dir_private(). */
MUST_CHECK bool journal_open(const char *dir, struct journal **out, struct err *e);
void journal_close(struct journal *j);
void journal_close_auto(struct journal **j);

/* Append {"step": @step, "time": wall clock for people, ...members of @more} and sync.
 * @more is taken over; may be NULL. */
MUST_CHECK bool journal_step(struct journal *j, const char *step,
                             struct json_object *more, struct err *e);

/* Bytes that it has.  What cannot be read any more (JSON_MAX_BYTES) helps nobody. */
uint64_t journal_size(const struct journal *j);

/* All entries, a JSON array in order, owned by the caller.  ERR_SYS ENOENT: no journal. */
MUST_CHECK bool journal_read(const char *dir, struct json_object **out, struct err *e);
/* The last entry of that step in what journal_read gave, borrowed; NULL: none. */
struct json_object *journal_find(struct json_object *entries, const char *step);

/* Call @each with the id of every move that has a directory on this host, until it fails. */
typedef bool (*journal_each)(void *ctx, const char *id, struct err *e);
MUST_CHECK bool journal_scan(journal_each each, void *ctx, struct err *e);

/* Remove the whole directory of a move that is over. */
void journal_remove(const char *dir);

#endif
