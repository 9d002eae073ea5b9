/* src/cli/args.h - the few options of the subcommands.
 *
 * A move has a table of its own (cli/opts.h), and so has recover, whose options have
 * letters.
 */
#ifndef SNM_CLI_ARGS_H
#define SNM_CLI_ARGS_H

#include "base/err.h"

/* One option; a list of them ends with one without a name. */
struct args_flag {
    const char *name;   /* "--json"; "--help" is also "-h" */
    bool *set;          /* where it is noted; NULL: it takes a value */
    const char **value; /* where that goes, borrowed from argv */
};

/**
 * args_parse() - take the options out of what follows a word
 * @argv:  the word, then what follows; what is no option is moved up to behind the word
 * @flags: what there is; where one is not given, nothing is stored
 * @most:  operands that it takes
 * @n:     how many there are
 *
 * A value is the next word or follows "=".  Behind "--" there are no options.
 *
 * Errors: ERR_USAGE.
 * Thread: any.  Blocks: no.
 */
MUST_CHECK bool args_parse(int argc, char **argv, const struct args_flag *flags,
                           int most, int *n, struct err *e);

#endif
