/* src/migrate/ctl.h - how other commands talk to a running move.
 *
 * A move listens on a Unix stream socket RUN/ID/UUID.ctl, where RUN is PATHS_RUN and root's
 * alone (0700), ID the move's and UUID the domain's.  One request per connection: a JSON
 * object on a line, and a line back.  src/README.md lists them.
 */
#ifndef SNM_MIGRATE_CTL_H
#define SNM_MIGRATE_CTL_H

#include <stddef.h>

#include "base/json.h"
#include "migrate/move.h"

enum {
    CTL_REQUEST_MAX = 4096,    /* bytes of a line to a move, */
    CTL_REPLY_MAX = 256 << 10, /* and from it */
    CTL_CLIENTS = 16,          /* at one time; more are told that it is busy */
    CTL_MOVES_MAX = 256,       /* that are listed */
};

/* --- the lines; pure --- */

enum ctl_do { CTL_STATUS, CTL_SET, CTL_SWITCH, CTL_ABORT, CTL_DOS };

struct ctl_request {
    enum ctl_do todo;
    struct move_settings set; /* CTL_SET: at least one */
    bool wait; /* CTL_SWITCH, CTL_ABORT: a second line tells how the move ended */
};
/* Errors: ERR_PROTO. */
MUST_CHECK bool ctl_parse(const char *line, size_t len, struct ctl_request *out,
                          struct err *e);
struct json_object *ctl_request(const struct ctl_request *r);

/* {"ok": true, "move": @move} or {"ok": false, "error": {...}}; @move may be NULL. */
struct json_object *ctl_reply(struct json_object *move);
struct json_object *ctl_refusal(const struct err *e);
/* What a move answered.  true: *move is its member "move" (borrowed from @reply; NULL if it
 * has none).  false: *e is what it said, or ERR_PROTO. */
MUST_CHECK bool ctl_take_reply(struct json_object *reply, struct json_object **move,
                               struct err *e);

/* --- the other side: whoever asks --- */

struct ctl_move {
    char path[108]; /* of its socket */
    char id[PATHS_ID_LEN + 1], uuid[37];
};
/* The moves of this host, dead ones included, at most CTL_MOVES_MAX; returns how many. */
size_t ctl_list(struct ctl_move *out, size_t max);

/* Connect, send @r and read one line, all within @timeout_ms.  *reply is owned by the caller;
 * *fd (may be NULL) stays open for ctl_read().
 * Errors: ERR_LINK nobody listens there: it is dead; ERR_TIMEOUT; ERR_SYS; ERR_PROTO. */
MUST_CHECK bool ctl_call(const char *path, const struct ctl_request *r, int timeout_ms,
                         struct json_object **reply, int *fd, struct err *e);
/* One more line; @timeout_ms -1: for ever.  Errors as above. */
MUST_CHECK bool ctl_read(int fd, int timeout_ms, struct json_object **reply,
                         struct err *e);

/* Remove what moves of the domain @uuid left that are dead.  The caller holds the domain's
 * lock, so that none is alive but it, which has not begun to listen. */
void ctl_tidy(const char *uuid);

#endif
