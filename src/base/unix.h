/* src/base/unix.h - Unix sockets, private directories, whole-buffer I/O. */
#ifndef SNM_BASE_UNIX_H
#define SNM_BASE_UNIX_H

#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

/* Listen on @path (at most 107 bytes, unix(7)); close-on-exec, owned by the caller.
 * Errors: ERR_USAGE too long; ERR_SYS. */
MUST_CHECK bool unix_listen(const char *path, int *out, struct err *e);
MUST_CHECK bool unix_connect(const char *path, int *out, struct err *e);
/* Connect, trying again while nobody listens yet, up to @timeout_ms. */
struct cancel;
MUST_CHECK bool unix_connect_wait(const char *path, int timeout_ms,
                                  const struct cancel *c, int *out, struct err *e);
/* Accept one connection within @timeout_ms (-1: for ever).  Errors: ERR_TIMEOUT, ERR_CANCELLED, ERR_SYS. */
MUST_CHECK bool unix_accept(int listener, int timeout_ms, const struct cancel *c,
                            int *out, struct err *e);
/* A connected pair of stream sockets, close-on-exec. */
MUST_CHECK bool unix_pair(int out[2], struct err *e);

/* Let @fd, a socket, hold so many bytes that were sent and not read, where the system allows
 * it; else as many as it does. */
void unix_widen(int fd, int bytes);

/* What needs this host's libvirt, journals and sockets.  Errors: ERR_REFUSED: not root. */
MUST_CHECK bool need_root(struct err *e);

/* Write all of it / read exactly that much (short: ERR_PROTO "end of file").  Blocking. */
MUST_CHECK bool fd_write_all(int fd, const void *buf, size_t len, struct err *e);
MUST_CHECK bool fd_read_all(int fd, void *buf, size_t len, struct err *e);

/* Make @path (mode 0700, parents 0755 as needed) or take it if it is a directory of ours
 * with no rights for others; checked through its descriptor, a symlink is refused. */
MUST_CHECK bool dir_private(const char *path, struct err *e);
/* Remove @path and what is in it, at most one level deep, without following symlinks. */
void dir_remove(const char *path);

#endif
