/* src/cli/render.h - a move's progress as text; pure.
 *
 * What a gauge shows: in the bulk pass, how much of it is done; in the later passes,
 * how much of the whole disk is the same on both hosts, which moves calmly.  "left" is
 * what remains of the pass under way and what waits for the next.
 */
#ifndef SNM_CLI_RENDER_H
#define SNM_CLI_RENDER_H

#include "cli/text.h"
#include "migrate/move.h"

/* The live display: lines of at most @t->width columns, at most @rows of them (at least
 * 4), each ended.  Where there are too many disks the last ones share a line. */
void render_live(struct text *t, const struct move_progress *p, unsigned rows);

/* One line, not ended. */
void render_plain(struct text *t, const struct move_progress *p);

/* What is being done, for people: "copying disks". */
const char *render_phase(enum move_phase phase);

#endif
