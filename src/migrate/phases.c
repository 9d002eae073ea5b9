#include "migrate/phases.h"

bool phases_run(const struct phase *tab, size_t n, struct move *m, phase_failed failed,
                struct err *e)
{
    bool committed = false;

    for (size_t i = 0; i < n; i++) {
        if (tab[i].run(m, e)) {
            committed |= tab[i].commit;
            continue;
        }
        if (failed != NULL)
            failed(m, e);
        committed |= e->kind == ERR_UNRESOLVED;
        for (size_t j = i + 1; !committed && j-- > 0;)
            if (tab[j].undo != NULL)
                tab[j].undo(m);
        return false;
    }
    return true;
}
