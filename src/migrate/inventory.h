/* src/migrate/inventory.h - "snmigrate list": the moves that have something on this host.
 *
 * From the journals of this host, which it had as source or as destination, the locks that
 * say whether somebody works on them, and the control sockets of moves that have no journal
 * yet.  Nothing is changed, and no other host is asked.
 */
#ifndef SNM_MIGRATE_INVENTORY_H
#define SNM_MIGRATE_INVENTORY_H

#include <stddef.h>

#include "base/json.h"
#include "base/paths.h"

enum inventory_state {
    INVENTORY_RUNNING, /* somebody works on it: snmigrate, its guard, recover, an agent */
    INVENTORY_KEPT,    /* source: it ended without success, what was copied is kept */
    INVENTORY_KILLED,  /* source: all were killed while only disks were copied */
    INVENTORY_PARKED,  /* destination: images that are not complete */
    INVENTORY_OPEN,    /* memory or the switch had begun: "recover" has to decide */
    INVENTORY_ARRIVED, /* destination: the guest was started, the source has to finish */
    INVENTORY_EMPTY,   /* a journal without an entry: nothing was ever done */
    INVENTORY_UNREADABLE, /* not a journal of ours */
    INVENTORY_MOVED, /* source: it is over, and both copies of the disks may be there */
    INVENTORY_STATES
};
/* "running", "kept": for JSON. */
const char *inventory_state_name(enum inventory_state s);

struct inventory_move {
    char id[PATHS_ID_LEN + 1];
    char domain[256], uuid[37]; /* "": not known */
    char other[512];            /* the other host, as the journal names it */
    bool at_source; /* this host is the move's source; else its destination */
    enum inventory_state state;
    char step[32], since[32]; /* the journal's newest, and when (UTC, ISO 8601) */
    bool counted;             /* source: it is known what was copied and flushed, */
    uint64_t copied, size;    /* of so much; 0: not known */
    uint64_t on_disk;         /* destination: bytes that the images take */
    char why[400];            /* UNREADABLE */
};

/* What the journal says; @busy: somebody holds the lock.  Pure.  *out is zeroed but for
 * the id. */
void inventory_read(struct json_object *entries, bool busy, struct inventory_move *out);
/* The same of an entry of moved.h. */
void inventory_moved(struct json_object *entry, const char *id,
                     struct inventory_move *out);
/* Whether discard can remove it: the guest is not concerned. */
bool inventory_is_idle(const struct inventory_move *m);
/* Whether @what is its domain's name or uuid, or 8 digits of its id or more. */
bool inventory_is(const struct inventory_move *m, const char *what);

/* All of them, the oldest first; *out is owned by the caller (free).
 * Errors: ERR_SYS.  Thread: any.  Blocks: on the disk, 3 s on a move that stands still. */
MUST_CHECK bool inventory_scan(struct inventory_move **out, size_t *n, struct err *e);

#endif
