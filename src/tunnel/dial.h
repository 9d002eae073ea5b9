/* src/tunnel/dial.h - start "snmigrate agent" on the destination by ssh, and link to it. */
#ifndef SNM_TUNNEL_DIAL_H
#define SNM_TUNNEL_DIAL_H

#include "base/proc.h"
#include "tunnel/link.h"

/* Where to go.  Parsed from "[user@]host", "ssh://[user@]host[:port]", "[user@][v6::1]". */
struct dest {
    char user[64]; /* "" : ssh's own choice */
    char host[256];
    unsigned port; /* 0: ssh's own choice */
};

/* Refused: empty, leading '-' of user or host, control characters, blanks, quotes and
 * other shell syntax, a port outside 1..65535, a path, a password.  Errors: ERR_USAGE. */
MUST_CHECK bool dest_parse(const char *s, struct dest *out, struct err *e);

struct dial_cfg {
    const struct dest *dest; /* NULL: no ssh, an agent on this host */
    const char *ssh;         /* --ssh: split at blanks, quotes as in sh; NULL: "ssh" */
    int connect_s;           /* ssh ConnectTimeout; 0: 15 */
    uint64_t rate;           /* of the link */
    int heartbeat_ms;        /* of the link */
};

struct dial; /* the ssh process, its stderr reader, the link */

/* Spawn ssh -- host "snmigrate agent", open the link over it.  The remote command is that
 * fixed string.  ssh's own words (host key changed, permission denied) become the error's
 * cause; the agent's log lines go to log_foreign("dst").  -oBatchMode is not set when there
 * is a terminal to ask on.  Where the CPU has AES and `ssh -G` shows that the user's
 * configuration leaves Ciphers at the default, -c puts the aes-gcm ciphers first.
 * Errors: ERR_CONNECT (unreachable, refused, authentication; agent not found there, with
 * what to install), ERR_PROTO (something else answered), ERR_CANCELLED. */
MUST_CHECK bool dial_open(const struct dial_cfg *cfg, const struct cancel *cancel,
                          struct dial **out, struct err *e);
struct link *dial_link(struct dial *d);
/* End ssh at once: the link breaks now instead of when its heartbeat stops.  Thread: any. */
void dial_kill(struct dial *d);
/* Orderly end of the link, then of ssh (SIGTERM after 2 s). */
void dial_close(struct dial *d);
void dial_close_auto(struct dial **d);

#endif
