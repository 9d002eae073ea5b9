#include "migrate/phases.h"

#include <assert.h>
#include <string.h>

/* Rows [from, to), newest first. */
static void undo(const struct phase *tab, size_t from, size_t to, struct move *m)
{
    while (to-- > from)
        if (tab[to].undo != NULL)
            tab[to].undo(m);
}

/* The row where it begins again after the failure of row @at. */
static size_t row_again(const struct phase *tab, size_t at)
{
    size_t i = at;

    while (strcmp(tab[i].name, tab[at].again) != 0) {
        assert(i > 0); /* a row of the table, and not a later one */
        i--;
    }
    return i;
}

/* Row *at has failed.  true: undone down to the row that *at is now, and fit to run on
 * from there.  false: all is undone. */
static bool go_back(const struct phase *tab, size_t *at, struct move *m,
                    const struct phase_hooks *hooks, struct err *e)
{
    const bool again =
        tab[*at].again != NULL && hooks->again != NULL && hooks->again(m, e);
    const size_t to = again ? row_again(tab, *at) : 0;

    undo(tab, to, *at + 1, m);
    if (again && hooks->mend(m, e)) {
        *at = to;
        return true;
    }
    undo(tab, 0, to, m);
    return false;
}

bool phases_run(const struct phase *tab, size_t n, struct move *m,
                const struct phase_hooks *hooks, struct err *e)
{
    bool committed = false;

    for (size_t i = 0; i < n;) {
        if (tab[i].run(m, e)) {
            committed |= tab[i].commit;
            i++;
            continue;
        }
        if (hooks->failed != NULL)
            hooks->failed(m, e);
        committed |= e->kind == ERR_UNRESOLVED;
        if (committed || !go_back(tab, &i, m, hooks, e))
            return false;
    }
    return true;
}
