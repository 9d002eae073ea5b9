/* src/migrate/recover-int.h - what the files of recover share; for them only. */
#ifndef SNM_MIGRATE_RECOVER_INT_H
#define SNM_MIGRATE_RECOVER_INT_H

#include "base/json.h"
#include "migrate/recover.h"

struct link;

/* Deal with one move of which this host was the source, or the destination.  @entries: its
 * journal.  *out is zeroed but for the names.  false: it is over meanwhile, say nothing. */
MUST_CHECK bool recover_source(const struct recover_cfg *cfg,
                               struct json_object *entries, struct recover_result *out);
MUST_CHECK bool recover_arrival(const struct recover_cfg *cfg,
                                struct json_object *entries,
                                struct recover_result *out);

/* GET /moves/ID.  *tracked: whether the agent knows it; the guest is told in *state (16
 * bytes) and in the answer, which is not yet the rule's with @tracked false. */
struct recover_seen {
    bool tracked, ready, incoming, ran;
    char step[16], domain[16];
};
MUST_CHECK bool recover_ask(struct link *link, const char *id, struct recover_seen *out,
                            struct err *e);

/* Fill in what was found, and the rule's reason. */
enum recover_act recover_decide(const struct recover_known *k,
                                struct recover_result *out);
/* What an operator can do where the rule does not decide; sets out->err, status 7. */
void recover_open(const struct recover_known *k, struct recover_result *out);
/* It did not work: nothing is decided. */
void recover_failed(struct recover_result *out, const struct err *e);
PRINTF(2, 3) void recover_did(struct recover_result *out, const char *fmt, ...);
/* The last word: status 6 where something is left, unless it is worse. */
void recover_settle(struct recover_result *out, enum move_where where,
                    const char *state);
/* Somebody works on it. */
void recover_busy(struct recover_result *out);

#endif
