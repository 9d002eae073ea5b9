/* src/migrate/moved.h - moves from this host that are over, for "snmigrate verify".
 *
 * PATHS_STATE/moved/<id>/journal: a journal of one entry, "moved", which has what the entry
 * "prepared" of the move had (rescue_init() takes it) and:
 *
 *   disks         [{target, path, format, size}]  at the destination
 *   source_disks  the same, here
 *
 * One for each domain, the newest, and of all domains the newest MOVED_MAX.  journal_scan()
 * does not come here: nothing of such a move is under way any more.  Thread: main.
 */
#ifndef SNM_MIGRATE_MOVED_H
#define SNM_MIGRATE_MOVED_H

#include "base/json.h"
#include "base/paths.h"

struct plan;

enum { MOVED_MAX = 64 };

/* The member "source_disks". */
struct json_object *moved_disks(const struct plan *plan);
/* Of the journal in @state_dir; @uuid: of the domain, of which others are removed.
 * Errors: ERR_SYS; ERR_PROTO the journal has not what is needed. */
MUST_CHECK bool moved_write(const char *state_dir, const char *id, const char *uuid,
                            struct err *e);
/* Call @each for the entry of every one, until it fails; what cannot be read is passed
 * over. */
typedef bool (*moved_each)(void *ctx, const char *id, struct json_object *entry,
                           struct err *e);
MUST_CHECK bool moved_scan(moved_each each, void *ctx, struct err *e);
/* The entry of one, owned by the caller.  Errors: ERR_SYS (ENOENT: there is none). */
MUST_CHECK bool moved_read(const char *id, struct json_object **out, struct err *e);
void moved_remove(const char *id);

#endif
