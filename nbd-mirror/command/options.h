/* nbd-mirror/command/options.h - the command line. */
#ifndef NBD_MIRROR_COMMAND_OPTIONS_H
#define NBD_MIRROR_COMMAND_OPTIONS_H

#include <stdint.h>

#include "base/err.h"

/* SRC or DST as it was given; all borrowed from argv. */
struct place {
    const char *path;    /* socket or file; NULL: a command */
    char **command;      /* NULL-terminated */
    const char *format;  /* of a file; or NULL */
    const char *export_; /* never NULL */
};

struct config {
    const char *export, *src_export, *dst_export, *src_format, *dst_format, *bitmap;
    uint64_t connections, requests, request_size, rate;
    bool dst_zero, no_zero, create, verify, repair, no_copy, dry_run;
    bool progress, json, quiet, verbose, version, help;
    struct place src, dst;
};

/* Errors: ERR_USAGE.  Changes @argv: it writes the end of each command there. */
MUST_CHECK bool options_parse(int argc, char **argv, struct config *c, struct err *e);
void options_help(void);

#endif
