/* src/cli/display.h - shows a move while it runs.
 *
 * One thread, "display", is the only one that writes to the terminal until
 * display_stop(): log lines and notes wait for it in a short queue, so that a terminal
 * that takes nothing (Ctrl-S, a full pipe) holds up the display and never the move.
 * When the queue is full, lines are dropped and their number is said.
 */
#ifndef SNM_CLI_DISPLAY_H
#define SNM_CLI_DISPLAY_H

#include "base/err.h"

struct move_progress;
struct display;

enum display_mode {
    DISPLAY_NONE,
    DISPLAY_PLAIN, /* a line every 5 s and at each new phase */
    DISPLAY_LIVE,  /* redrawn in place, 5 times a second at most */
};

struct display_cfg {
    enum display_mode mode;
    bool json;    /* progress objects on ->out, every second and at each new phase */
    int out, err; /* descriptors, borrowed; everything but JSON goes to ->err */
    bool utf8, colour;
    void (*progress)(void *ctx, struct move_progress *out); /* called on its thread */
    void *ctx;
};

/* What ->err is good for, by its kind and the environment (TERM). */
enum display_mode display_best_mode(int err);
/* Whether the user wants colours there (NO_COLOR). */
bool display_wants_colour(void);

/* Start the thread and take over the log's sink.  Errors: ERR_SYS. */
MUST_CHECK bool display_start(const struct display_cfg *cfg, struct display **out,
                              struct err *e);
/* A line for the user, above the display.  Thread: any. */
PRINTF(2, 3) void display_note(struct display *d, const char *fmt, ...);
/* Write what waits, remove the live display, give the log back, end the thread;
 * free. */
void display_stop(struct display *d);

#endif
