/* src/migrate/recover.h - "snmigrate recover": moves whose snmigrate and guard are gone.
 *
 * Every move that has a journal on this host and nobody who works on it is looked at, from
 * the side that this host was, and brought to one owner by recover-rule.h; what cannot be
 * decided is said and left as it is.  Run again it goes on, or finds nothing to do.
 */
#ifndef SNM_MIGRATE_RECOVER_H
#define SNM_MIGRATE_RECOVER_H

#include "migrate/move.h"
#include "migrate/recover-rule.h"

struct recover_cfg {
    const char *what; /* name or uuid of a domain, id of a move; NULL: all */
    enum recover_word word;
};

struct recover_result {
    char id[PATHS_ID_LEN + 1], domain[256], uuid[37];
    char other[512]; /* the other host, as the journal names it */
    bool at_source;  /* this host is the move's source; else its destination */
    char found_source[48], found_destination[48], found_journal[48];
    char did[160]; /* "resumed it here", or "nothing" */
    char why[160]; /* the rule's reason */
    enum move_where where;
    char state[24]; /* "running", "paused", "off", or "" */
    int status;     /* 0, 3 it is being moved, 6, 7: snmigrate(1) */
    struct err err; /* ERR_NONE, or what failed or what is open, and what to do */
    struct texts left, notes;
};

/* Called for each move, when it has been dealt with. */
typedef void (*recover_each)(void *ctx, const struct recover_result *r);

/* Deal with them; blocks until done, minutes where a destination must be asked again and
 * again.  Errors: ERR_REFUSED no move of cfg->what; ERR_SYS.  Thread: main. */
MUST_CHECK bool recover_run(const struct recover_cfg *cfg, recover_each each, void *ctx,
                            struct err *e);

#endif
