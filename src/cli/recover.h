/* src/cli/recover.h - "snmigrate recover [OPTIONS] [DOMAIN|ID]". */
#ifndef SNM_CLI_RECOVER_H
#define SNM_CLI_RECOVER_H

#include <stdio.h>

#include "base/json.h"
#include "cli/text.h"
#include "migrate/recover.h"

struct recover_opts {
    struct recover_cfg recover;
    bool json, quiet, help;
    unsigned verbose;
};

/* Its whole life, @argv[1] being "recover"; returns the exit status. */
int recover_main(int argc, char **argv);

/* What follows the word "recover"; pure.  *out borrows from @argv.  Errors: ERR_USAGE. */
MUST_CHECK bool recover_parse(int argc, char **argv, struct recover_opts *out,
                              struct err *e);
/* Its part of --help. */
void recover_help(FILE *out);

/* One move, as text for people and as the object of --json; pure. */
void recover_text(struct text *t, const struct recover_result *r);
struct json_object *recover_json(const struct recover_result *r);

#endif
