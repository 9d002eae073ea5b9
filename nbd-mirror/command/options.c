#include "nbd-mirror/command/options.h"

#include <assert.h>
#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "nbd-mirror/mirror.h"

enum opt_type { OPT_FLAG, OPT_TEXT, OPT_COUNT, OPT_SIZE, OPT_RATE };

struct opt {
    const char *name;
    char letter; /* or 0 */
    enum opt_type type;
    size_t at; /* offset in struct config */
    const char *arg;
    uint64_t min, max;
    const char *help;
};

#define AT(field) offsetof(struct config, field)
/* clang-format off */
static const struct opt opts[] = {
    { "export",       'x', OPT_TEXT,  AT(export),      "NAME", 0, 0,
      "export of both servers (default: the empty name)" },
    { "src-export",    0,  OPT_TEXT,  AT(src_export),  "NAME", 0, 0,
      "export of the source" },
    { "dst-export",    0,  OPT_TEXT,  AT(dst_export),  "NAME", 0, 0,
      "export of the destination" },
    { "src-format",    0,  OPT_TEXT,  AT(src_format),  "FORMAT", 0, 0,
      "format of SRC, which is then a file: raw, qcow2..." },
    { "dst-format",    0,  OPT_TEXT,  AT(dst_format),  "FORMAT", 0, 0,
      "format of DST, which is then a file" },
    { "create",        0,  OPT_FLAG,  AT(create),      NULL, 0, 0,
      "make the file DST, which is not there yet" },
    { "bitmap",       'B', OPT_TEXT,  AT(bitmap),      "NAME", 0, 0,
      "copy only what the source's dirty bitmap NAME marks" },
    { "dst-zero",     'z', OPT_FLAG,  AT(dst_zero),    NULL, 0, 0,
      "the destination reads as zeroes: write none" },
    { "destination-is-zero", 0, OPT_FLAG, AT(dst_zero), NULL, 0, 0,
      "the same, as nbdcopy calls it" },
    { "no-zero",       0,  OPT_FLAG,  AT(no_zero),     NULL, 0, 0,
      "write zeroes as data: the destination gets no holes" },
    { "connections",  'C', OPT_COUNT, AT(connections), "N", 1, MIRROR_LANES_MAX,
      "connections to each server, if both allow several (default: 1 to 4)" },
    { "requests",     'R', OPT_COUNT, AT(requests),    "N", 1, MIRROR_REQUESTS_MAX,
      "requests in flight on each connection (default: 2 MiB, at most 16)" },
    { "request-size",  0,  OPT_SIZE,  AT(request_size), "SIZE",
      MIRROR_REQUEST_SIZE_MIN, MIRROR_REQUEST_SIZE_MAX,
      "largest read or write, a power of two (default: 512K)" },
    { "rate",         'r', OPT_RATE,  AT(rate),        "RATE", 0, 0,
      "most data to copy: 800Mbit, 100M (bytes) per second" },
    { "verify",        0,  OPT_FLAG,  AT(verify),      NULL, 0, 0,
      "then compare both, block by block" },
    { "repair",        0,  OPT_FLAG,  AT(repair),      NULL, 0, 0,
      "the same, and copy again what differs" },
    { "no-copy",       0,  OPT_FLAG,  AT(no_copy),     NULL, 0, 0,
      "only that, without copying first" },
    { "dry-run",      'n', OPT_FLAG,  AT(dry_run),     NULL, 0, 0,
      "say how much would be copied, and change nothing" },
    { "progress",     'p', OPT_FLAG,  AT(progress),    NULL, 0, 0,
      "show how far it is, on stderr" },
    { "json",          0,  OPT_FLAG,  AT(json),        NULL, 0, 0,
      "print the result as one JSON object" },
    { "quiet",        'q', OPT_FLAG,  AT(quiet),       NULL, 0, 0,
      "print nothing but errors" },
    { "verbose",      'v', OPT_FLAG,  AT(verbose),     NULL, 0, 0,
      "log decisions to stderr" },
    { "version",      'V', OPT_FLAG,  AT(version),     NULL, 0, 0,
      "print the version and stop" },
    { "help",         'h', OPT_FLAG,  AT(help),        NULL, 0, 0,
      "print this and stop" },
};
/* clang-format on */
enum { NOPTS = sizeof opts / sizeof opts[0], LONG_ONLY = 256, WORD = NOPTS + 1 };

void options_help(void)
{
    printf(
        "Usage: nbd-mirror [OPTIONS] SRC DST\n"
        "Copy one NBD export onto another.  SRC and DST are each the Unix socket of"
        " an NBD\nserver, a file (with --src-format, --dst-format), or a command that"
        " serves one:\n[ qemu-nbd -f qcow2 disk.qcow2 ]\n\n");
    for (const struct opt *o = opts; o < opts + NOPTS; o++) {
        char left[40];

        snprintf(left, sizeof left, "%c%c%s --%s%s%s", o->letter ? '-' : ' ',
                 o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name,
                 o->arg ? "=" : "", o->arg ? o->arg : "");
        printf("  %-26s %s\n", left, o->help);
    }
    printf("\nExit status: 0 copied (and alike), 1 failed, 2 usage, 3 they differ,"
           " 130 interrupted.\n");
}

static bool opt_number(const struct opt *o, const char *text, uint64_t *out,
                       struct err *e)
{
    uint64_t n;

    if (!units_parse_size(text, &n, e))
        return err_wrap(e, "--%s", o->name);
    if (n < o->min || n > o->max || (o->type == OPT_SIZE && (n & (n - 1)) != 0))
        return err_set(e, ERR_USAGE, 0,
                       "--%s: %s is no %s from %" PRIu64 " to %" PRIu64, o->name, text,
                       o->type == OPT_SIZE ? "power of two" : "number", o->min, o->max);
    *out = n;
    return true;
}

static bool opt_apply(const struct opt *o, const char *text, struct config *c,
                      struct err *e)
{
    void *const at = (char *)c + o->at;

    switch (o->type) {
    case OPT_FLAG:
        *(bool *)at = true;
        return true;
    case OPT_TEXT:
        *(const char **)at = text;
        return true;
    case OPT_COUNT:
    case OPT_SIZE:
        return opt_number(o, text, at, e);
    case OPT_RATE:
        return units_parse_rate(text, at, e) ? true : err_wrap(e, "--%s", o->name);
    }
    assert(!"an option type");
    return false;
}

/* What getopt_long(3) wants, made from the table.  Returns the row, or WORD for what is no
 * option, in optarg; -1 at the end, or NOPTS for an option that is none.  "-": words are
 * told in their order, so that those of a command are not taken for ours. */
static int opt_next(int argc, char **argv)
{
    struct option longs[NOPTS + 1] = { { 0 } };
    char letters[2 * NOPTS + 3] = "-:", *p = letters + 2;

    for (int i = 0; i < NOPTS; i++) {
        longs[i] = (struct option){ opts[i].name, opts[i].type != OPT_FLAG, NULL,
                                    LONG_ONLY + i };
        if (opts[i].letter) {
            *p++ = opts[i].letter;
            if (opts[i].type != OPT_FLAG)
                *p++ = ':';
        }
    }
    opterr = 0;
    const int r = getopt_long(argc, argv, letters, longs, NULL);
    if (r < 0 || r >= LONG_ONLY)
        return r < 0 ? -1 : r - LONG_ONLY;
    if (r == 1)
        return WORD;
    for (int i = 0; i < NOPTS; i++)
        if (opts[i].letter == r)
            return i;
    return NOPTS;
}

/* The next place begins at argv[optind - 1]; a command goes on up to its bracket. */
static bool place_take(int argc, char **argv, struct config *c, unsigned *n,
                       struct err *e)
{
    struct place *p = *n == 0 ? &c->src : &c->dst;
    const int first = optind - 1;

    if ((*n)++ >= 2)
        return err_set(e, ERR_USAGE, 0, "SRC and DST are needed, and no more: %s",
                       argv[first]);
    if (strcmp(argv[first], "[") != 0) {
        p->path = argv[first];
        return true;
    }
    while (optind < argc && strcmp(argv[optind], "]") != 0)
        optind++;
    if (optind == argc || optind == first + 1)
        return err_set(e, ERR_USAGE, 0, "a command is written [ COMMAND ARGUMENTS ]");
    argv[optind++] = NULL;
    p->command = &argv[first + 1];
    return true;
}

static bool words_take(int argc, char **argv, struct config *c, struct err *e)
{
    unsigned n = 0;

    for (int i; (i = opt_next(argc, argv)) >= 0;) {
        if (i == NOPTS)
            return err_set(e, ERR_USAGE, 0,
                           "%s: no such option, or its value is missing",
                           argv[optind - 1]);
        if (i == WORD ? !place_take(argc, argv, c, &n, e)
                      : !opt_apply(&opts[i], optarg, c, e))
            return false;
    }
    while (optind < argc) { /* after "--" */
        optind++;
        if (!place_take(argc, argv, c, &n, e))
            return false;
    }
    if (n == 2 || c->help || c->version)
        return true;
    return err_set(e, ERR_USAGE, 0, "SRC and DST are needed: nbd-mirror SRC DST");
}

static bool options_fit(struct config *c, struct err *e)
{
    const bool compare = c->verify || c->repair;

    if (c->dst_zero && c->no_zero)
        return err_set(e, ERR_USAGE, 0, "--dst-zero writes no zeroes, --no-zero all");
    if (c->no_copy && !compare)
        return err_set(e, ERR_USAGE, 0, "--no-copy needs --verify or --repair");
    if (c->no_copy && (c->create || c->bitmap != NULL || c->dst_zero))
        return err_set(e, ERR_USAGE, 0, "--no-copy leaves nothing for %s",
                       c->create           ? "--create"
                       : c->bitmap != NULL ? "--bitmap"
                                           : "--dst-zero");
    if (c->dry_run && compare)
        return err_set(e, ERR_USAGE, 0, "--dry-run copies nothing to compare");
    if ((c->src.command != NULL && c->src_format != NULL) ||
        (c->dst.command != NULL && c->dst_format != NULL))
        return err_set(e, ERR_USAGE, 0, "the command knows the format, not we");
    if (c->create && c->dst_format == NULL)
        return err_set(e, ERR_USAGE, 0, "--create needs --dst-format");
    return true;
}

bool options_parse(int argc, char **argv, struct config *c, struct err *e)
{
    if (!words_take(argc, argv, c, e))
        return false;
    if (c->help || c->version)
        return true;
    const char *const both = c->export != NULL ? c->export : "";
    c->src.export_ = c->src_export != NULL ? c->src_export : both;
    c->dst.export_ = c->dst_export != NULL ? c->dst_export : both;
    c->src.format = c->src_format;
    c->dst.format = c->dst_format;
    return options_fit(c, e);
}
