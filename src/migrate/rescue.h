/* src/migrate/rescue.h - a move whose snmigrate is gone, brought to its end: what the guard
 * does at once, and "snmigrate recover" later, from the journal.
 *
 * The steps only; who calls them has decided by the commit rule.  Thread: main.
 */
#ifndef SNM_MIGRATE_RESCUE_H
#define SNM_MIGRATE_RESCUE_H

#include "migrate/move-int.h"

struct rescue {
    struct move_cfg cfg;
    char connect[256], destination[512], ssh[2048];
    struct move *move;
    bool moves_ram; /* RAM has begun: there may be a migration, and a pause by it */
    uint64_t downtime_ms; /* QEMU's downtime limit, to put back; 0: never changed */
    char *restore[DOMXML_DISKS_MAX + 1]; /* of the slowed guest, see slow_restore() */
    size_t nrestore;
};

/* What both need to know of a move: for the guard's first line, and the journal's. */
struct json_object *rescue_facts(struct move *m);
/* Make ->move of it, without lock, pidfd and connections; @cancel is borrowed, and never
 * set.  Errors: ERR_PROTO, ERR_SYS. */
MUST_CHECK bool rescue_init(struct rescue *r, struct json_object *facts,
                            struct cancel *cancel, struct err *e);

void rescue_fini(struct rescue *r);
/* A command that puts back what was changed to slow the guest; the first that was told of a
 * thing is what was there at first. */
void rescue_restore(struct rescue *r, const char *text);
/* What was told so far is of an earlier try. */
void rescue_forget(struct rescue *r);

/* The source QEMU lives: end its job, resume it if ->move says that it ran, remove what
 * the move has put into it, but for what kept_make() is to keep.  true also where it died meanwhile (proc_ended).  false:
 * libvirt cannot say where the guest stands; everything is left as it is. */
MUST_CHECK bool rescue_take_back(struct rescue *r, struct err *e);
/* The source QEMU is dead: COMMIT until answered.  Errors: ERR_GUEST, ERR_UNRESOLVED. */
MUST_CHECK bool rescue_forward(struct rescue *r, struct err *e);
/* It runs at the destination: finish at both hosts; what is left is in ->move. */
void rescue_finish(struct rescue *r);
/* The source has it: remove the journal, unless what was copied is kept, and what else the
 * move has left on this host. */
void rescue_tidy(struct rescue *r);

#endif
