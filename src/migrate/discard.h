/* src/migrate/discard.h - "snmigrate discard": give up what a move has left.
 *
 * Only of a move that is over for the guest: it runs where it ran before, and what is left
 * is a copy of its disks, bitmaps in QEMU and two journals.  Whatever could be about the
 * guest itself is left to "recover".
 *
 * The destination comes first: its agent has the rules (it removes no image of a guest
 * that may have run there), and until it has answered nothing is changed here.
 */
#ifndef SNM_MIGRATE_DISCARD_H
#define SNM_MIGRATE_DISCARD_H

#include "migrate/inventory.h"
#include "migrate/move.h"

struct discard_cfg {
    const char *what; /* name or uuid of a domain, id of a move */
    bool here;        /* forget this host's half only; the other one is not asked */
};

enum discard_did {
    DISCARD_REMOVED,
    DISCARD_BLANKED, /* a device: its ends */
    DISCARD_SPARED,  /* somebody has written it since, or it may be another's */
};

struct discard_file {
    enum discard_did did;
    char path[PATHS_MAX];
    uint64_t bytes;                         /* removed: that it took on the disk */
    char why[sizeof((struct err *)0)->msg]; /* spared: with its path in it */
};

struct discard_result {
    struct inventory_move move; /* as it was found */
    int status;                 /* 0; 3 refused, 4 failed half-way, 9 cannot connect */
    struct err err;
    struct discard_file files[DOMXML_DISKS_MAX]; /* at the destination */
    size_t nfiles;
    bool in_qemu; /* bitmaps and exports of the move were removed there */
    struct texts left;
};

/* The one of @list that is meant: if several are, the one that can be discarded.
 * Errors: ERR_REFUSED there is none, or more than one.  Pure. */
MUST_CHECK bool discard_choose(const struct inventory_move *list, size_t n,
                               const char *what, const struct inventory_move **out,
                               struct err *e);
/* Errors: ERR_REFUSED it is not to be discarded as it stands.  Pure. */
MUST_CHECK bool discard_may(const struct inventory_move *m, struct err *e);
/* What the agent has done: {removed: [{path, bytes}], blanked: [{path}], left: [{path,
 * why}]}; NULL: nothing.  Pure.  Errors: ERR_PROTO. */
MUST_CHECK bool discard_take(struct json_object *reply, struct discard_result *out,
                             struct err *e);

/* Do it; *out is filled in any case.  Blocks: for minutes where the destination does not
 * answer.  Thread: main. */
void discard_run(const struct discard_cfg *cfg, struct discard_result *out);

#endif
