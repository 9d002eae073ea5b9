/* src/agent/arrival-int.h - what the files of arrival share; for them only. */
#ifndef SNM_AGENT_ARRIVAL_INT_H
#define SNM_AGENT_ARRIVAL_INT_H

#include "agent/arrival.h"

enum arrival_step arrival_at(const struct arrival *a);
/* The one mover; ->lock is held. */
void arrival_move(struct arrival *a, enum arrival_step to);
/* "move 1a2b3c4d is closed: it cannot be WHAT"; returns false. */
bool arrival_refuse(const struct arrival *a, const char *what, struct err *e);

/* NULL: out of memory. */
struct arrival *arrival_new(const char *id, const struct guest_ops *ops,
                            enum arrival_step step);
MUST_CHECK bool arrival_set_names(struct arrival *a, struct json_object *o,
                                  struct err *e);
MUST_CHECK bool arrival_set_disks(struct arrival *a, struct json_object *o,
                                  bool (*get)(struct json_object *, struct image *,
                                              struct err *),
                                  struct err *e);

/* The connection to libvirt, opened when it is needed first; ->lock is held. */
MUST_CHECK bool arrival_guest(struct arrival *a, struct err *e);
/* Look at the domain; where libvirt was restarted meanwhile, on a new connection. */
MUST_CHECK bool arrival_see(struct arrival *a, struct guest_look *now, struct err *e);

/* First entry of the journal: makes the state directory, takes its lock. */
MUST_CHECK bool arrival_journal_start(struct arrival *a, struct err *e);
/* Write the step down, then be in it.  @more as in journal_step(). */
MUST_CHECK bool arrival_enter(struct arrival *a, enum arrival_step to,
                              struct json_object *more, struct err *e);
/* What every write since would change, as "disks" of an entry; of images that were marked. */
struct json_object *arrival_marks(const struct arrival *a);
/* The end: remove the journal, be in @to, let go of the lock. */
void arrival_leave(struct arrival *a, enum arrival_step to);
/* flock on PATHS_STATE, which is made if need be; *fd is owned by the caller. */
MUST_CHECK bool arrival_lock_all(int *fd, struct err *e);

/* No other domain of this host, running or off, has the image as a disk, whether it is there
 * or not: its locks only tell who has it open.  ->lock is held.  Blocks: on libvirt, once for
 * each domain.  Errors: ERR_REFUSED one has it; ERR_VIRT. */
MUST_CHECK bool arrival_unowned(struct arrival *a, const struct image *im,
                                struct err *e);
void arrival_tokens_remove(struct arrival *a);
/* The directories of sockets, empty; the writers of all images, which are open. */
MUST_CHECK bool arrival_dirs_make(struct arrival *a, struct err *e);
MUST_CHECK bool arrival_writers_start(struct arrival *a, struct err *e);
/* The incoming or paused domain that the move brought, unless the guest may have run. */
MUST_CHECK bool arrival_domain_remove(struct arrival *a, struct err *e);
/* Remove what was made here, then leave for ABORTED; the domain is not looked at. */
MUST_CHECK bool arrival_tidy(struct arrival *a, struct err *e);

#endif
