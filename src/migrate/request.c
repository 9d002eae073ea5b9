#include "migrate/request.h"

#include <stdio.h>

#include "base/paths.h"

bool request_move(struct link *l, const char *method, const char *id, const char *what,
                  struct json_object *body, int timeout_ms, const struct cancel *cancel,
                  struct json_object **reply, struct err *e)
{
    char path[PATHS_ID_LEN + 32];

    snprintf(path, sizeof path, "/moves/%s%s%s", id, what[0] != '\0' ? "/" : "", what);
    return link_call(l, method, path, body, timeout_ms, cancel, reply, e);
}
