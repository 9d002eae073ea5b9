/* src/agent/route.h - the control protocol of src/README.md: one table of requests.
 *
 * JSON on this side, arrivals on the other.  Called by the link's pool, several at once.
 */
#ifndef SNM_AGENT_ROUTE_H
#define SNM_AGENT_ROUTE_H

#include "agent/arrivals.h"

/* For link_server_ops; @ctx is the struct arrivals. */
bool route_request(void *ctx, const char *method, const char *path,
                   struct json_object *body, struct json_object **reply, struct err *e);
bool route_channel(void *ctx, const char *path, int *fd, struct err *e);

#endif
