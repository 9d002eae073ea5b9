/* src/cli/report.h - what is said at the end, to people; pure but for report_fail().
 *
 * The report goes to stdout; its last line says where the guest is.  What went wrong
 * goes to stderr, and the next step with it.
 */
#ifndef SNM_CLI_REPORT_H
#define SNM_CLI_REPORT_H

#include "cli/text.h"
#include "migrate/move.h"

/* Of a move or, with cfg->check_only, of a check. */
void report_result(struct text *t, const struct move_cfg *cfg,
                   const struct move_result *r);

/* Why it was not done: all blockers, or the error, and what can be done; nothing on
 * success.  With @where also the last line of the report, for a caller without one. */
void report_failure(struct text *t, const struct move_cfg *cfg,
                    const struct move_result *r, bool where);

/* An error of the command line or of starting up. */
void report_error(struct text *t, const struct err *e);
/* Say it on stderr; returns @status. */
int report_fail(const struct err *e, int status, bool utf8);

/* That of @size bytes at @dest @bytes are kept, and what can be done; nothing for 0 bytes. */
void report_kept(struct text *t, const char *lead, const char *dest, const char *domain,
                 uint64_t bytes, uint64_t size);

#endif
