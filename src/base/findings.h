/* src/base/findings.h - what preflight found: a list of blockers and warnings.
 *
 * Preflight never stops at the first: every part adds what it sees, and all is shown at
 * once.  Crosses hosts as JSON.  Thread: the owner's.
 */
#ifndef SNM_BASE_FINDINGS_H
#define SNM_BASE_FINDINGS_H

#include <stddef.h>

#include "base/err.h"
#include "base/json.h"

enum finding_level { FINDING_BLOCKER, FINDING_WARNING };

struct finding {
    enum finding_level level;
    char code[40];  /* for scripts: "target-exists", "no-space" */
    char what[400]; /* what and why, one sentence, no final dot */
    char next[240]; /* what the user can do, or "" */
};

struct findings {
    struct finding *list;
    size_t n;
};

/* Add one; @next may be NULL.  Out of memory aborts. */
PRINTF(5, 6)
void findings_add(struct findings *f, enum finding_level level, const char *code,
                  const char *next, const char *fmt, ...);
size_t findings_blockers(const struct findings *f);
/* Append what the peer sent ([{level, code, what, next}]), checked; ERR_PROTO. */
MUST_CHECK bool findings_from_json(struct findings *f, struct json_object *array,
                                   struct err *e);
struct json_object *findings_to_json(const struct findings *f);
void findings_fini(struct findings *f);
void findings_fini_auto(struct findings *f);

#endif
