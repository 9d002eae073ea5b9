/* src/cli/discard.h - "snmigrate discard [--here] [--json] DOMAIN|ID". */
#ifndef SNM_CLI_DISCARD_H
#define SNM_CLI_DISCARD_H

#include "base/json.h"
#include "cli/text.h"
#include "migrate/discard.h"

struct discard_opts {
    struct discard_cfg discard;
    bool json, help;
};

/* Its whole life, @argv[0] being "discard"; returns the exit status, that of
 * struct discard_result or 2 usage. */
int discard_main(int argc, char **argv, bool utf8);

/* What follows the word "discard"; pure.  *out borrows from @argv.  Errors: ERR_USAGE. */
MUST_CHECK bool discard_parse(int argc, char **argv, struct discard_opts *out,
                              struct err *e);
/* What was removed and is left, as text for people and as the object of --json; pure. */
void discard_text(struct text *t, const struct discard_result *r);
struct json_object *discard_json(const struct discard_result *r);

#endif
