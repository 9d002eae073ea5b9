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
    bool commit; /* once this has run, the guest lives on the destination */
};

/* What else is to be known of a failure, before anything is undone: may replace the error
 * by its first cause. */
typedef void (*phase_failed)(struct move *m, struct err *e);

/* Run @tab in order.  A failure before the commit phase has run undoes, newest first and
 * the failed phase included: the guest runs on the source.  A failure after it undoes
 * nothing: the guest runs on the destination, and the caller says what is left to tidy.
 * So a commit phase returns false only when it is certain that the destination will not
 * run the guest; while it cannot tell, it keeps asking, and when it gives up asking it
 * sets ERR_UNRESOLVED, after which nothing is undone either. */
MUST_CHECK bool phases_run(const struct phase *tab, size_t n, struct move *m,
                           phase_failed failed, struct err *e);

#endif
