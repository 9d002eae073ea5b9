/* src/virt/nbdsock.h - the socket of the NBD server in a QEMU, and whose server it is.
 *
 * QMP does not say on which socket the one NBD server of a QEMU listens, so its file is the
 * mark: "snm-<id8>-nbd" in the domain's own directory, the one place where a confined QEMU
 * may create it, or in /run/snmigrate where the descriptor was handed over.  The server is
 * ours when such a socket is listened on by that very QEMU (unix(7) SO_PEERCRED tells who
 * called listen(2)).  Thread: any.  Local libvirt only.
 */
#ifndef SNM_VIRT_NBDSOCK_H
#define SNM_VIRT_NBDSOCK_H

#include <sys/types.h>

#include "base/err.h"
#include "base/paths.h"
#include "virt/status.h"

/* Both places for the move with that prefix.  Errors: ERR_USAGE longer than 107 bytes. */
MUST_CHECK bool nbdsock_in_libdir(const struct status *s, const char *prefix,
                                  char out[PATHS_SOCK_MAX], struct err *e);
MUST_CHECK bool nbdsock_in_run(const char *prefix, char out[PATHS_SOCK_MAX],
                               struct err *e);

/* Look for a socket of ours that the QEMU of @s listens on; false: none.  @prefix may be
 * the beginning of many ("snm-"). */
bool nbdsock_find(const struct status *s, const char *prefix, char out[PATHS_SOCK_MAX]);

/* After the death of a QEMU that could not remove its socket (a power cut leaves the
 * domain's directory, too): unlink those of the move with that prefix. */
void nbdsock_remove(const char *prefix);

#endif
