/* nbd-mirror/command/end.h - SRC or DST: a socket, or a server that is started for it.
 *
 *   end_open()    finds out which; starts the server
 *     end_dial()  a connection, as struct mirror_side wants it
 *     end_rest()  nobody is connected for the moment: a command may end with its last
 *                 client, as qemu-nbd does, and is then started again
 *   end_close()   ends the server, reaps it and judges its status
 *   end_drop()    the same, whatever comes of it
 *
 * A server gets its listening socket as systemd hands one over (sd_listen_fds(3)): it may
 * be connected to from the start, and nobody waits for a file to appear.  The socket lies in
 * a directory that only we can enter.
 *
 * A server ends with us, even if we are killed.  Signals of the terminal do not reach it:
 * we end it when we are done with it.
 *
 * Thread: main, whose end ends the servers (proc.h, ->death_signal).
 */
#ifndef NBD_MIRROR_COMMAND_END_H
#define NBD_MIRROR_COMMAND_END_H

#include "base/proc.h"
#include "nbd-mirror/command/options.h"

struct end {
    const char *side; /* "src", "dst" */
    const struct place *place;
    bool writable;
    char *command_of_file[12]; /* qemu-nbd's, borrowing from what follows */
    char format[64], path[4096];
    char **command; /* NULL: somebody else's server, at place->path */
    char dir[108], sock[108];
    struct proc server;
    bool made;                   /* the file is ours, and to be removed */
    const struct cancel *cancel; /* of end_dial(); borrowed, kept by end_open() */
};

/* Errors: ERR_USAGE a file without a format, or one that is not there; ERR_SYS. */
MUST_CHECK bool end_open(struct end *x, const char *side, const struct place *place,
                         bool writable, struct err *e);
/* Make the file of @place, of @size bytes.  It is removed again unless end_keep() is
 * called.  Errors: ERR_USAGE it exists; ERR_SYS. */
MUST_CHECK bool end_create(struct end *x, const struct place *place, uint64_t size,
                           struct err *e);
void end_keep(struct end *x);
/* @x: a struct end.  A server that does not accept is waited for, 30 s at most.
 * Errors: ERR_SYS, ERR_TIMEOUT, ERR_CANCELLED.  Thread: any. */
MUST_CHECK bool end_dial(void *x, int *fd, struct err *e);
/* Waits 0.5 s for a command to end, and starts it again if it does.
 * Errors: ERR_SYS its status is not 0. */
MUST_CHECK bool end_rest(struct end *x, struct err *e);
/* Something failed: if it was because the server has ended, say so before @e->msg. */
void end_blame(struct end *x, struct err *e);
/* Errors: ERR_SYS the server's status is not 0. */
MUST_CHECK bool end_close(struct end *x, struct err *e);
void end_drop(struct end *x);
static inline void end_drop_auto(struct end *x)
{
    end_drop(x);
}

#endif
