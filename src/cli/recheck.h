/* src/cli/recheck.h - "snmigrate verify": are both copies of a moved guest's disks alike? */
#ifndef SNM_CLI_RECHECK_H
#define SNM_CLI_RECHECK_H

#include "base/json.h"
#include "cli/opts.h"
#include "cli/text.h"
#include "migrate/recheck.h"

struct recheck_opts {
    const char *what;
    int progress; /* enum opts_progress */
    bool json, help;
};

/* Its whole life, @argv[0] being "verify"; returns the exit status. */
int recheck_main(int argc, char **argv, bool utf8);

/* What follows the word "verify"; pure.  *out borrows from @argv.  Errors: ERR_USAGE. */
MUST_CHECK bool recheck_parse(int argc, char **argv, struct recheck_opts *out,
                              struct err *e);

/* What came of it, as text for people and as the object of --json; pure. */
void recheck_text(struct text *t, const struct recheck_result *r);
struct json_object *recheck_json(const struct recheck_result *r);

#endif
