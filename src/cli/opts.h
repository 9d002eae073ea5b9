/* src/cli/opts.h - the command line; one table says all of it.
 *
 * The parser and --help go by the table in opts.c; a lint compares --help with
 * snmigrate(1) and README.md.
 */
#ifndef SNM_CLI_OPTS_H
#define SNM_CLI_OPTS_H

#include <stdio.h>

#include "migrate/move.h"

enum opts_progress { OPTS_PROGRESS_AUTO, OPTS_PROGRESS_PLAIN, OPTS_PROGRESS_NONE };

struct opts {
    struct move_cfg move; /* complete and checked unless help or version */
    int progress;         /* enum opts_progress */
    unsigned verbose;     /* how often */
    bool quiet, json;
    bool help, version; /* only that is wanted; nothing else was checked */
};

/* Parse and check everything, reading no file and asking nobody.  *out borrows from
 * @argv, whose elements are put into another order.  Errors: ERR_USAGE. */
MUST_CHECK bool opts_parse(int argc, char **argv, struct opts *out, struct err *e);

/* "KEY=VALUE" of snmigrate set, checked as the option --KEY is; a value "none" lifts what
 * can be lifted.  Adds to *out.  Errors: ERR_USAGE. */
MUST_CHECK bool opts_setting(const char *text, struct move_settings *out,
                             struct err *e);

/* The value of --progress; *out is an enum opts_progress.  Errors: ERR_USAGE. */
MUST_CHECK bool opts_progress(const char *v, int *out, struct err *e);

/* The text of --help, at most 80 columns wide. */
void opts_help(FILE *out);

#endif
