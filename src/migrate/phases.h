/* src/migrate/phases.h - runs a table of phases and undoes it; pure. */
#ifndef SNM_MIGRATE_PHASES_H
#define SNM_MIGRATE_PHASES_H

#include <stddef.h>

#include "base/err.h"

struct move;

struct phase {
    const char *name; /* logs, tests, SNMIGRATE_FAULT */
    bool (*run)(struct move *m, struct err *e);
    void (*undo)(struct move *m); /* idempotent; cannot fail; may be NULL */
    const char
        *again;  /* after a failure of this phase it may begin again at that one, an
                          earlier one or itself; NULL: it is given up */
    bool commit; /* once this has run, the guest lives on the destination */
};

struct phase_hooks {
    /* What else is to be known of a failure, before anything is undone: may replace the
     * error by its first cause.  NULL: nothing. */
    void (*failed)(struct move *m, struct err *e);
    /* Whether it may begin again after that error; nothing is undone yet.  NULL: never. */
    bool (*again)(struct move *m, const struct err *e);
    /* The phases that will run again were undone: put what the others left, and these
     * need, in order.  May take long.  false: it is given up; *e is the failure, which it
     * may replace. */
    bool (*mend)(struct move *m, struct err *e);
};

/* Run @tab in order.  A failure before the commit phase has run undoes, newest first and
 * the failed phase included: the guest runs on the source.  Where the failed phase may
 * begin again, only what was done since the phase it goes back to is undone, and that one
 * is next; phases before it stay as they are, until a failure that is final.
 *
 *   connect .. track  bulk  rounds  memory  switch  commit  finish
 *                                              |
 *                             <-- undo, undo --+      the rest only where mend fails
 *
 * A failure after the commit phase undoes nothing: the guest runs on the destination, and
 * the caller says what is left to tidy.  So a commit phase returns false only when it is
 * certain that the destination will not run the guest; while it cannot tell, it keeps
 * asking, and when it gives up asking it sets ERR_UNRESOLVED, after which nothing is undone
 * either. */
MUST_CHECK bool phases_run(const struct phase *tab, size_t n, struct move *m,
                           const struct phase_hooks *hooks, struct err *e);

#endif
