/* src/tunnel/words.h - what ssh and the agent write on ssh's stderr, read by a thread.
 *
 * Lines of the agent go to the log as its own; the rest are words of ssh or of a shell, of
 * which the one that best tells the cause is kept.  A process that ssh left behind
 * (ControlPersist) may hold the pipe open: nothing here waits for its end.
 */
#ifndef SNM_TUNNEL_WORDS_H
#define SNM_TUNNEL_WORDS_H

#include "base/err.h"

enum { WORDS_LEN = 300 };

struct words;

/* @fd: the reading end, taken over in any case. */
MUST_CHECK bool words_new(int fd, struct words **out, struct err *e);
/* Once the writer has ended: read what is there, end the thread; the cause, or "". */
void words_end(struct words *w, char cause[WORDS_LEN]);
/* Does words_end() if nobody has. */
void words_free(struct words *w);

/* How much a line tells of why ssh failed: 0 nothing, more is better; pure. */
int words_rank(const char *line);

#endif
