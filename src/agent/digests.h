/* src/agent/digests.h - the digests of an image, for a source that compares. */
#ifndef SNM_AGENT_DIGESTS_H
#define SNM_AGENT_DIGESTS_H

#include "base/err.h"

/* A socket on which one question of digest-wire.h is answered, by a thread of its own that
 * reads @name_of_export ("": the default) through the NBD server at @sock, and so sees all
 * that was written through it; owned by the caller.  It ends with the answer, with that
 * socket, or with the server. */
MUST_CHECK bool digests_open(const char *sock, const char *name_of_export, int *fd,
                             struct err *e);

#endif
