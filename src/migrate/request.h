/* src/migrate/request.h - what the agent is asked about one move. */
#ifndef SNM_MIGRATE_REQUEST_H
#define SNM_MIGRATE_REQUEST_H

#include "tunnel/link.h"

/* @method /moves/@id, or /moves/@id/@what where that is not "" (src/README.md).  All else,
 * the errors too, as link_call(). */
MUST_CHECK bool request_move(struct link *l, const char *method, const char *id,
                             const char *what, struct json_object *body, int timeout_ms,
                             const struct cancel *cancel, struct json_object **reply,
                             struct err *e);

#endif
