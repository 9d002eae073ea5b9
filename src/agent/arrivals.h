/* src/agent/arrivals.h - the moves that one agent process deals with.
 *
 * Moves that it made or loaded; none is freed before the end, so a pointer stays good.
 * Thread: any, but for arrivals_new, arrivals_lost and arrivals_free.
 */
#ifndef SNM_AGENT_ARRIVALS_H
#define SNM_AGENT_ARRIVALS_H

#include "agent/arrival.h"

struct arrivals;
struct inspect;

struct arrivals *arrivals_new(const struct guest_ops *ops); /* NULL: out of memory */
const struct guest_ops *arrivals_ops(const struct arrivals *s);
/* For "snmigrate verify"; never NULL. */
struct inspect *arrivals_inspect(struct arrivals *s);

/* The newest with that id that this process has; NULL: none. */
struct arrival *arrivals_find(struct arrivals *s, const char *id);
/* The same, or from its journal, with its lock.  *out NULL and true: there is none.
 * Errors: ERR_REFUSED another agent has it, or too many. */
MUST_CHECK bool arrivals_get(struct arrivals *s, const char *id, struct arrival **out,
                             struct err *e);
/* Take @a over, unless there is one with its id that has not ended: then *a is freed, and
 * is that one. */
MUST_CHECK bool arrivals_add(struct arrivals *s, struct arrival **a, struct err *e);

/* The link is gone and no handler runs any more. */
void arrivals_lost(struct arrivals *s);
void arrivals_free(struct arrivals *s);

#endif
