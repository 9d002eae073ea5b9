/* nbd-mirror/main.c - the command: nbd-mirror [OPTIONS] SRC DST, see nbd-mirror(1). */
#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "base/unix.h"
#include "base/version.h"
#include "nbd-mirror/mirror.h"

/* Scripts rely on these; the man page lists them. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CANCELLED = 130 };

enum { PROGRESS_TTY_MS = 200, PROGRESS_LINES_MS = 2000 };

struct config {
    const char *export, *src_export, *dst_export, *bitmap;
    uint64_t connections, requests, request_size;
    bool dst_zero, progress, json, quiet, verbose, version, help;
    const char *src, *dst; /* socket paths */
};

/* --- options --- */

enum opt_type { OPT_FLAG, OPT_TEXT, OPT_COUNT, OPT_SIZE };

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
    { "bitmap",       'B', OPT_TEXT,  AT(bitmap),      "NAME", 0, 0,
      "copy only what the source's dirty bitmap NAME marks" },
    { "dst-zero",     'z', OPT_FLAG,  AT(dst_zero),    NULL, 0, 0,
      "the destination reads as zeroes: write none" },
    { "destination-is-zero", 0, OPT_FLAG, AT(dst_zero), NULL, 0, 0,
      "the same, as nbdcopy calls it" },
    { "connections",  'C', OPT_COUNT, AT(connections), "N", 1, MIRROR_LANES_MAX,
      "connections to each server, if both allow several (default: 1 to 4)" },
    { "requests",     'R', OPT_COUNT, AT(requests),    "N", 1, MIRROR_REQUESTS_MAX,
      "requests in flight on each connection (default: 2 MiB, at most 16)" },
    { "request-size",  0,  OPT_SIZE,  AT(request_size), "SIZE",
      MIRROR_REQUEST_SIZE_MIN, MIRROR_REQUEST_SIZE_MAX,
      "largest read or write, a power of two (default: 512K)" },
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
enum { NOPTS = sizeof opts / sizeof opts[0], LONG_ONLY = 256 };

static void print_help(void)
{
    printf("Usage: nbd-mirror [OPTIONS] SRC DST\n"
           "Copy one NBD export onto another.  SRC and DST are Unix sockets of NBD"
           " servers.\n\n");
    for (const struct opt *o = opts; o < opts + NOPTS; o++) {
        char left[40];

        snprintf(left, sizeof left, "%c%c%s --%s%s%s", o->letter ? '-' : ' ',
                 o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name,
                 o->arg ? "=" : "", o->arg ? o->arg : "");
        printf("  %-26s %s\n", left, o->help);
    }
    printf("\nExit status: 0 copied, 1 failed, 2 usage, 130 interrupted.\n");
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
    }
    assert(!"an option type");
    return false;
}

/* What getopt_long(3) wants, made from the table.  Returns the row, or -1 at the end of the
 * options, or NOPTS for something that is none. */
static int opt_next(int argc, char **argv)
{
    struct option longs[NOPTS + 1] = { { 0 } };
    char letters[2 * NOPTS + 2] = ":", *p = letters + 1;

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
    for (int i = 0; i < NOPTS; i++)
        if (opts[i].letter == r)
            return i;
    return NOPTS;
}

static bool config_parse(int argc, char **argv, struct config *c, struct err *e)
{
    for (int i; (i = opt_next(argc, argv)) >= 0;) {
        if (i == NOPTS)
            return err_set(e, ERR_USAGE, 0,
                           "%s: no such option, or its value is missing",
                           argv[optind - 1]);
        if (!opt_apply(&opts[i], optarg, c, e))
            return false;
    }
    if (c->help || c->version)
        return true;
    if (argc - optind != 2)
        return err_set(e, ERR_USAGE, 0, "two sockets are needed: nbd-mirror SRC DST");
    c->src = argv[optind];
    c->dst = argv[optind + 1];
    if (c->src_export == NULL)
        c->src_export = c->export != NULL ? c->export : "";
    if (c->dst_export == NULL)
        c->dst_export = c->export != NULL ? c->export : "";
    return true;
}

/* --- progress --- */

struct progress {
    const struct mirror *mirror;
    struct cancel *stop; /* set when there is nothing more to show */
    int64_t begun_ms;
    bool tty;
    pthread_t thread;
};

static void progress_show(const struct progress *p)
{
    char done[UNITS_LEN], total[UNITS_LEN], rate[UNITS_LEN];
    struct mirror_stats s;
    const double seconds = (double)(clock_ms() - p->begun_ms) / MS_PER_S;

    mirror_stats(p->mirror, &s);
    fprintf(stderr, "%s%3.0f %%  %s of %s  %s%s", p->tty ? "\r" : "",
            s.pass_total > 0 ? 100.0 * (double)s.pass_done / (double)s.pass_total
                             : 100.0,
            units_size(done, s.pass_done), units_size(total, s.pass_total),
            units_rate(rate, seconds > 0 ? (double)s.pass_done / seconds : 0),
            p->tty ? "\033[K" : "\n");
}

static void *progress_thread(void *opaque)
{
    const struct progress *p = opaque;
    struct err stopped;

    while (cancel_sleep_ms(p->stop, p->tty ? PROGRESS_TTY_MS : PROGRESS_LINES_MS,
                           &stopped))
        progress_show(p);
    progress_show(p);
    if (p->tty)
        fputc('\n', stderr);
    return NULL;
}

static bool progress_start(struct progress *p, const struct mirror *m, struct err *e)
{
    *p = (struct progress){ .mirror = m,
                            .stop = cancel_new(),
                            .begun_ms = clock_ms(),
                            .tty = isatty(STDERR_FILENO) };
    if (p->stop == NULL)
        return err_set(e, ERR_SYS, errno, "cannot show progress");
    const int os = pthread_create(&p->thread, NULL, progress_thread, p);
    if (os == 0)
        return true;
    cancel_free(p->stop);
    return err_set(e, ERR_SYS, os, "cannot show progress");
}

static void progress_end(struct progress *p)
{
    cancel_set(p->stop);
    pthread_join(p->thread, NULL);
    cancel_free(p->stop);
}

/* --- the copy --- */

static bool dial(void *ctx, int *fd, struct err *e)
{
    return unix_connect(ctx, fd, e);
}

static bool copy_pass(const struct config *c, struct mirror *m, struct err *e)
{
    const struct mirror_side src = { dial, (void *)c->src, c->src_export };
    const struct mirror_pass pass = {
        .what = c->bitmap != NULL ? MIRROR_DIRTY : MIRROR_ALL,
        .bitmap = c->bitmap,
        .dst_zero = c->dst_zero,
    };
    struct progress p;

    if (!c->progress || c->quiet)
        return mirror_pass(m, &src, &pass, e);
    if (!progress_start(&p, m, e))
        return false;
    const bool ok = mirror_pass(m, &src, &pass, e);
    progress_end(&p);
    return ok;
}

static bool copy(const struct config *c, const struct cancel *cancel,
                 struct mirror_stats *stats, struct err *e)
{
    const struct mirror_side dst = { dial, (void *)c->dst, c->dst_export };
    const struct mirror_cfg cfg = {
        .name = "nbd-mirror",
        .size = MIRROR_SIZE_DST,
        .lanes = (unsigned)c->connections,
        .requests = (unsigned)c->requests,
        .request_size = (uint32_t)c->request_size,
        .cancel = cancel,
    };
    AUTO(mirror_close) struct mirror *m = NULL;

    if (!mirror_open(&cfg, &dst, &m, e))
        return false;
    const bool ok = copy_pass(c, m, e) && mirror_flush(m, e);
    mirror_stats(m, stats);
    return ok;
}

/* --- the result --- */

static int exit_status(const struct err *e)
{
    if (e->kind == ERR_USAGE)
        return EXIT_USAGE;
    return e->kind == ERR_CANCELLED ? EXIT_CANCELLED : EXIT_FAILED;
}

static void print_error(const struct err *e)
{
    char clean[4 * sizeof e->msg];

    log_clean(clean, sizeof clean, e->msg);
    fprintf(stderr, "%s%s\n",
            strncmp(clean, "nbd-mirror:", 11) == 0 ? "" : "nbd-mirror: ", clean);
}

static void print_json(const struct mirror_stats *s, int64_t ms, const struct err *e)
{
    char clean[4 * sizeof e->msg];
    AUTO(json_put) struct json_object *o = json_new();

    json_add_str(o, "result", e == NULL ? "ok" : "failed");
    if (e != NULL) {
        json_add_str(o, "kind", err_kind_name(e->kind));
        json_add_u64(o, "errno", (uint64_t)e->os);
        json_add_str(o, "error", log_clean(clean, sizeof clean, e->msg));
    }
    json_add_u64(o, "size", s->size);
    json_add_u64(o, "data", s->data);
    json_add_u64(o, "zeroed", s->zeroed);
    json_add_u64(o, "skipped", s->skipped);
    json_add_u64(o, "requests", s->requests);
    json_add_u64(o, "connections", s->lanes);
    json_add_f(o, "seconds", (double)ms / MS_PER_S);
    puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
}

static void print_summary(const struct mirror_stats *s, int64_t ms)
{
    char size[UNITS_LEN], data[UNITS_LEN], zeroed[UNITS_LEN], skipped[UNITS_LEN];
    char took[UNITS_LEN];

    printf("%s copied in %s: %s data, %s zeroed, %s skipped\n",
           units_size(size, s->data + s->zeroed + s->skipped), units_time(took, ms),
           units_size(data, s->data), units_size(zeroed, s->zeroed),
           units_size(skipped, s->skipped));
}

/* The only thing that a signal handler can reach. */
static struct cancel *interrupted;

static void on_signal(int signal)
{
    (void)signal;
    cancel_set(interrupted);
}

/* The second signal kills: nobody should have to wait for us. */
static bool catch_signals(struct err *e)
{
    struct sigaction act = { .sa_handler = on_signal,
                             .sa_flags = SA_RESETHAND | SA_RESTART };

    interrupted = cancel_new();
    if (interrupted == NULL)
        return err_set(e, ERR_SYS, errno, "cannot watch for signals");
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGHUP, &act, NULL);
    return true;
}

static int run(const struct config *c)
{
    struct mirror_stats stats = { 0 };
    const int64_t begun = clock_ms();
    struct err e;

    const bool ok = catch_signals(&e) && copy(c, interrupted, &stats, &e);
    if (!ok)
        print_error(&e);
    if (c->json)
        print_json(&stats, clock_ms() - begun, ok ? NULL : &e);
    else if (ok && !c->quiet)
        print_summary(&stats, clock_ms() - begun);
    return ok ? EXIT_OK : exit_status(&e);
}

/* What was printed must have arrived. */
static int finish(int status)
{
    if (fflush(stdout) == 0 || status != EXIT_OK)
        return status;
    perror("nbd-mirror: stdout");
    return EXIT_FAILED;
}

int main(int argc, char **argv)
{
    struct config c = { 0 };
    struct err e;

    if (!config_parse(argc, argv, &c, &e)) {
        print_error(&e);
        fputs("See nbd-mirror --help.\n", stderr);
        return EXIT_USAGE;
    }
    if (c.help) {
        print_help();
        return finish(EXIT_OK);
    }
    if (c.version) {
        puts("nbd-mirror " SNMIGRATE_VERSION);
        return finish(EXIT_OK);
    }
    log_init(c.verbose ? LOG_DEBUG : LOG_WARN, "nbd-mirror");
    return finish(run(&c));
}
