/* src/cli/json_in.h - what a running move says of itself, read back; pure. */
#ifndef SNM_CLI_JSON_IN_H
#define SNM_CLI_JSON_IN_H

#include "base/json.h"
#include "migrate/move.h"

/* What json_out_progress() made.  Errors: ERR_PROTO. */
MUST_CHECK bool json_in_progress(struct json_object *o, struct move_progress *out,
                                 struct err *e);

#endif
