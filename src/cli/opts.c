#include "cli/opts.h"

#include <assert.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "cli/recover.h"

/* --- the table --- */

struct opt;
/* Check @v and store it at @at.  The error says what is wrong with the value only. */
typedef bool (*opt_parse)(const struct opt *o, const char *v, void *at, struct err *e);

struct opt {
    const char *name;
    char letter; /* or 0 */
    opt_parse parse;
    size_t at;         /* offset in struct opts */
    const char *arg;   /* NULL: takes none */
    const char *dflt;  /* parsed first; NULL: what zeroes mean */
    uint64_t min, max; /* where the parser has a range */
    const char *help;  /* lines of at most HELP_COLS */
};

static bool parse_flag(const struct opt *o, const char *v, void *at, struct err *e);
static bool parse_more(const struct opt *o, const char *v, void *at, struct err *e);
static bool parse_text(const struct opt *o, const char *v, void *at, struct err *e);
static bool parse_dir(const struct opt *o, const char *v, void *at, struct err *e);
static bool parse_disk(const struct opt *o, const char *v, void *at, struct err *e);
static bool parse_word(const struct opt *o, const char *v, void *at, struct err *e);
static bool parse_choice(const struct opt *o, const char *v, void *at, struct err *e);
static bool parse_time(const struct opt *o, const char *v, void *at, struct err *e);
static bool parse_rate(const struct opt *o, const char *v, void *at, struct err *e);
static bool parse_zstd(const struct opt *o, const char *v, void *at, struct err *e);
static bool parse_count(const struct opt *o, const char *v, void *at, struct err *e);

enum {
    MAX_TIME = 14 * 24 * 3600 * 1000, /* 14 days: nobody means more */
    MIN_LEVEL = -5,
    MAX_LEVEL = 19, /* of zstd, tunnel/link.h */
    HELP_AT = 29,   /* column of the second column of --help */
    HELP_COLS = 80 - HELP_AT,
    NEAR = 3, /* edits between an unknown option and one that is meant */
};

#define AT(field) offsetof(struct opts, field)
/* clang-format off */
static const struct opt opts[] = {
    { "connect", 'c', parse_text, AT(move.connect), "URI", NULL, 0, 0,
      "libvirt of this host (qemu:///system)" },
    { "disks-to", 0, parse_dir, AT(move.disks_to), "DIR", NULL, 0, 0,
      "directory at the destination for the disks\n"
      "(the same paths as here)" },
    { "disk", 0, parse_disk, AT(move), "TARGET=PATH[,format=F]", NULL, 0, 0,
      "path, and format, of one disk at the\n"
      "destination; may be given for each disk" },
    { "format", 0, parse_word, AT(move.format), "raw|qcow2", NULL, 0, 0,
      "format of the disks there (as they are here)" },
    { "seed", 0, parse_flag, AT(move.seed), NULL, NULL, 0, 0,
      "images lie there already: copy only what differs" },
    { "verify", 0, parse_choice, AT(move.verify), "sample|full|none", "sample", 0, 0,
      "compare both sides by digests before memory\n"
      "follows: some blocks or all (sample)" },
    { "verify-later", 0, parse_flag, AT(move.verify_later), NULL, NULL, 0, 0,
      "mark what the guest writes there, so that\n"
      "snmigrate verify can tell it from damage" },
    { "max-downtime", 0, parse_time, AT(move.max_downtime_ms), "TIME", "300ms", 1,
      MOVE_DOWNTIME_MAX_MS, "longest pause the guest may see (300ms)" },
    { "bandwidth", 0, parse_rate, AT(move.bandwidth), "RATE", NULL, 0, 0,
      "most to send, all together: 800Mbit, 100MiB/s\n"
      "(no limit)" },
    { "guest-latency", 0, parse_time, AT(move.guest_latency_ms), "TIME", NULL, 1,
      MOVE_LATENCY_MAX_MS,
      "copy less while the guest's writes take\n"
      "longer: 20ms (whatever they take)" },
    { "compress", 0, parse_zstd, AT(move.zstd), "auto|off|LEVEL", "auto", 0, 0,
      "zstd level, -5 to 19 (auto)" },
    { "timeout", 0, parse_time, AT(move.timeout_ms), "TIME", NULL, 1000, MAX_TIME,
      "give up if it has not switched by then: 2h\n"
      "(never)" },
    { "retries", 0, parse_count, AT(move.retries), "N", "3", 0, 100,
      "how often it begins again after a failure (3)" },
    { "reconnect", 0, parse_time, AT(move.reconnect_ms), "TIME", "15m", 0, MAX_TIME,
      "how long a lost link is dialled again; 0s: not\n"
      "at all (15m)" },
    { "hold", 0, parse_flag, AT(move.hold), NULL, NULL, 0, 0,
      "stay in step; switch when snmigrate switch\n"
      "says so" },
    { "on-stall", 0, parse_choice, AT(move.on_stall), "wait|throttle|suspend|abort",
      "throttle", 0, 0,
      "when the guest is too busy: go on, slow it down,\n"
      "stop it for longer, or give up (throttle)" },
    { "keep-source", 0, parse_flag, AT(move.keep_source), NULL, NULL, 0, 0,
      "leave the domain defined here, shut off" },
    { "remove-source-disks", 0, parse_flag, AT(move.remove_source_disks), NULL, NULL, 0,
      0, "delete the disks here after success" },
    { "set-time", 0, parse_flag, AT(move.set_time), NULL, NULL, 0, 0,
      "set the guest's clock there by its guest agent" },
    { "check", 0, parse_flag, AT(move.check_only), NULL, NULL, 0, 0,
      "say whether it can move, and change nothing" },
    { "forecast", 0, parse_time, AT(move.forecast_ms), "TIME", NULL, 1000, 600000,
      "with --check: watch the guest for so long and\n"
      "say how the move would go" },
    { "ssh", 0, parse_text, AT(move.ssh), "CMD", NULL, 0, 0,
      "ssh command: \"ssh -J jump -i key\" (ssh)" },
    { "json", 0, parse_flag, AT(json), NULL, NULL, 0, 0,
      "JSON on stdout, an object per line" },
    { "progress", 0, parse_choice, AT(progress), "auto|plain|none", "auto", 0, 0,
      "how to show progress on stderr (auto: live on\n"
      "a terminal, else plain lines)" },
    { "quiet", 'q', parse_flag, AT(quiet), NULL, NULL, 0, 0,
      "say nothing unless it fails" },
    { "verbose", 'v', parse_more, AT(verbose), NULL, NULL, 0, 0,
      "log more; -vv debug, -vvv trace" },
    { "version", 'V', parse_flag, AT(version), NULL, NULL, 0, 0, "print the version" },
    { "help", 'h', parse_flag, AT(help), NULL, NULL, 0, 0, "print this text" },
};
/* clang-format on */
enum { OPTS = sizeof opts / sizeof opts[0] };

static const char help_head[] =
    "Usage: snmigrate [OPTIONS] DOMAIN DESTINATION\n"
    "       snmigrate status|set|switch|abort ...    what runs; see below\n"
    "       snmigrate recover|list|discard|verify ...  what was left; see below\n"
    "Move a running VM with its disks and memory to another libvirt host.\n"
    "\n"
    "  DOMAIN       name, uuid or id of a running domain of this host\n"
    "  DESTINATION  [user@]host or ssh://[user@]host[:port]; snmigrate must be\n"
    "               installed there, and the user be root\n"
    "\n";
static const char help_foot[] =
    "\n"
    "A running move of this host:\n"
    "  snmigrate status [--json] [DOMAIN]   how far it is; without DOMAIN all\n"
    "  snmigrate set DOMAIN KEY=VALUE...    change bandwidth=, max-downtime= or\n"
    "                                       guest-latency= of it; \"none\" lifts it\n"
    "  snmigrate switch DOMAIN              end --hold, and wait for the result\n"
    "  snmigrate abort DOMAIN               as Ctrl-C there, and wait for the result\n"
    "What moves have left on this host:\n"
    "  snmigrate list [--json]              all of it, and what can be done\n"
    "  snmigrate discard [--here] [--json] DOMAIN|ID\n"
    "                                       remove it, on both hosts or only here\n"
    "  snmigrate verify [--json] [--progress auto|plain|none] DOMAIN|ID\n"
    "                                       after a move: compare the disks here with\n"
    "                                       those there; 0 alike, 6 they differ\n"
    "DOMAIN is its name or uuid.  To move a domain that is called like one of these\n"
    "words, give its uuid, or -- before it.\n"
    "\n"
    "Exit status: 0 it runs at the destination; 2 usage; 3 refused, nothing changed;\n"
    "4 failed, runs here; 5 the guest ended; 6 runs there, something is left to do;\n"
    "7 unresolved; 8 did not converge, runs here; 9 could not connect, nothing\n"
    "changed; 130 interrupted, runs here.  More: man snmigrate\n";

/* --- values --- */

/* What log_clean would change could do something to a terminal or a JSON reader. */
static bool is_clean(const char *s)
{
    const size_t size = 4 * strlen(s) + 1;
    AUTO(mem_free) char *c = malloc(size);

    return c != NULL && strcmp(log_clean(c, size, s), s) == 0;
}

static bool parse_flag(const struct opt *o, const char *v, void *at, struct err *e)
{
    (void)o, (void)v, (void)e;
    *(bool *)at = true;
    return true;
}

static bool parse_more(const struct opt *o, const char *v, void *at, struct err *e)
{
    (void)o, (void)v, (void)e;
    ++*(unsigned *)at;
    return true;
}

static bool parse_text(const struct opt *o, const char *v, void *at, struct err *e)
{
    if (v[strspn(v, " \t")] == '\0')
        return err_set(e, ERR_USAGE, 0, "the %s is empty", o->arg);
    if (!is_clean(v))
        return err_set(e, ERR_USAGE, 0, "the %s has control characters", o->arg);
    *(const char **)at = v;
    return true;
}

/* A path of the destination host: nothing is said about it but its form. */
static bool check_path(const char *v, struct err *e)
{
    if (v[0] != '/')
        return err_set(e, ERR_USAGE, 0,
                       "\"%.200s\" is not absolute: it must begin with /", v);
    if (strlen(v) >= PATHS_MAX)
        return err_set(e, ERR_USAGE, 0, "the path has %zu bytes, at most %d fit",
                       strlen(v), PATHS_MAX - 1);
    if (!is_clean(v))
        return err_set(e, ERR_USAGE, 0,
                       "the path has control characters or is not UTF-8");
    for (const char *p = v; *p != '\0'; p += strspn(p, "/")) {
        const size_t n = strcspn(p, "/");

        if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return err_set(e, ERR_USAGE, 0, "\"%.200s\" has a %.*s in it", v, (int)n,
                           p);
        p += n;
    }
    return true;
}

static bool parse_dir(const struct opt *o, const char *v, void *at, struct err *e)
{
    (void)o;
    if (!check_path(v, e))
        return false;
    *(const char **)at = v;
    return true;
}

/* Whether @v is one of the words of @o->arg ("raw|qcow2"); its number, or -1. */
static int word_index(const struct opt *o, const char *v, struct err *e)
{
    const size_t len = strlen(v);
    int i = 0;

    for (const char *p = o->arg, *end; *p != '\0'; p = end + (*end == '|'), i++) {
        end = p + strcspn(p, "|");
        if ((size_t)(end - p) == len && memcmp(p, v, len) == 0)
            return i;
    }
    err_set(e, ERR_USAGE, 0, "\"%.40s\" is none of %s", v, o->arg);
    return -1;
}

static bool parse_word(const struct opt *o, const char *v, void *at, struct err *e)
{
    if (word_index(o, v, e) < 0)
        return false;
    *(const char **)at = v;
    return true;
}

static bool parse_choice(const struct opt *o, const char *v, void *at, struct err *e)
{
    const int i = word_index(o, v, e);

    if (i < 0)
        return false;
    *(int *)at = i;
    return true;
}

static bool parse_time(const struct opt *o, const char *v, void *at, struct err *e)
{
    char least[UNITS_LEN], most[UNITS_LEN];
    uint64_t ms;

    if (!units_parse_time(v, &ms, e))
        return false;
    if (ms < o->min || ms > o->max)
        return err_set(e, ERR_USAGE, 0, "%.40s is not between %s and %s", v,
                       units_time_typed(least, o->min), units_time_typed(most, o->max));
    *(uint64_t *)at = ms;
    return true;
}

static bool parse_rate(const struct opt *o, const char *v, void *at, struct err *e)
{
    uint64_t rate;

    (void)o;
    if (!units_parse_rate(v, &rate, e))
        return false;
    if (rate != 0 && (rate < MOVE_RATE_MIN || rate > MOVE_RATE_MAX))
        return err_set(e, ERR_USAGE, 0,
                       "%.40s is not between 100Kbit and 1Tbit (0: no limit)", v);
    *(uint64_t *)at = rate;
    return true;
}

static bool parse_zstd(const struct opt *o, const char *v, void *at, struct err *e)
{
    int *const zstd = at;
    char *end;

    (void)o;
    if (strcmp(v, "auto") == 0) {
        *zstd = ZSTD_AUTO;
        return true;
    }
    if (strcmp(v, "off") == 0) {
        *zstd = ZSTD_OFF;
        return true;
    }
    const long level = strtol(v, &end, 10);
    if (end == v || *end != '\0' || v[0] == ' ' || level < MIN_LEVEL ||
        level > MAX_LEVEL)
        return err_set(e, ERR_USAGE, 0,
                       "\"%.40s\" is neither auto, off nor a level from %d to %d", v,
                       MIN_LEVEL, MAX_LEVEL);
    *zstd = (int)level;
    return true;
}

static bool parse_count(const struct opt *o, const char *v, void *at, struct err *e)
{
    char *end;
    const unsigned long n = strtoul(v, &end, 10);

    if (v[0] < '0' || v[0] > '9' || *end != '\0' || n < o->min || n > o->max)
        return err_set(e, ERR_USAGE, 0, "\"%.40s\" is not a number from %llu to %llu",
                       v, (unsigned long long)o->min, (unsigned long long)o->max);
    *(unsigned *)at = (unsigned)n;
    return true;
}

/* --- --disk --- */

/* The next value of "PATH,key=value": up to a single comma, ",," standing for one. */
static bool take_value(const char **s, char *out, size_t size)
{
    const char *p = *s;
    size_t n = 0;

    for (; *p != '\0'; p++) {
        if (*p == ',' && *++p != ',')
            break;
        if (n + 1 >= size)
            return false;
        out[n++] = *p;
    }
    out[n] = '\0';
    *s = p;
    return true;
}

static bool disk_target(const char *v, struct move_disk_opt *d, struct err *e)
{
    const char *const eq = strchr(v, '=');
    const size_t n = eq != NULL ? (size_t)(eq - v) : 0;

    if (n == 0)
        return err_set(e, ERR_USAGE, 0, "\"%.200s\" has no TARGET=, as in vda=/path",
                       v);
    if (n >= sizeof d->target || strspn(v, "abcdefghijklmnopqrstuvwxyz0123456789") < n)
        return err_set(e, ERR_USAGE, 0, "\"%.*s\" is no disk target, as vda is one",
                       n < 40 ? (int)n : 40, v);
    memcpy(d->target, v, n);
    d->target[n] = '\0';
    return true;
}

static bool disk_parse(const char *v, struct move_disk_opt *d, struct err *e)
{
    const char *p;

    if (!disk_target(v, d, e))
        return false;
    p = strchr(v, '=') + 1;
    if (!take_value(&p, d->path, sizeof d->path))
        return err_set(e, ERR_USAGE, 0, "the path is too long: at most %d bytes fit",
                       PATHS_MAX - 1);
    if (!check_path(d->path, e))
        return false;
    if (d->path[strlen(d->path) - 1] == '/')
        return err_set(e, ERR_USAGE, 0, "\"%.200s\" is a directory, not a file",
                       d->path);
    d->format[0] = '\0';
    if (*p == '\0')
        return true;
    if (strcmp(p, "format=raw") != 0 && strcmp(p, "format=qcow2") != 0) {
        err_set(e, ERR_USAGE, 0, "\",%.100s\" is neither ,format=raw nor ,format=qcow2",
                p);
        return strncmp(p, "format=", strlen("format=")) != 0 &&
               err_next(e, "Write a comma of the path twice: ,,");
    }
    snprintf(d->format, sizeof d->format, "%s", p + strlen("format="));
    return true;
}

static bool parse_disk(const struct opt *o, const char *v, void *at, struct err *e)
{
    struct move_cfg *const cfg = at;
    struct move_disk_opt *const d = &cfg->disks[cfg->ndisks];

    (void)o;
    if (cfg->ndisks == DOMXML_DISKS_MAX)
        return err_set(e, ERR_USAGE, 0, "given more than %d times", DOMXML_DISKS_MAX);
    if (!disk_parse(v, d, e))
        return false;
    for (size_t i = 0; i < cfg->ndisks; i++) {
        if (strcmp(cfg->disks[i].target, d->target) == 0)
            return err_set(e, ERR_USAGE, 0, "%s is given twice", d->target);
        if (strcmp(cfg->disks[i].path, d->path) == 0)
            return err_set(e, ERR_USAGE, 0, "%s and %s would share %.200s",
                           cfg->disks[i].target, d->target, d->path);
    }
    cfg->ndisks++;
    return true;
}

/* --- the command line --- */

static bool set_opt(const struct opt *o, const char *v, struct opts *out, struct err *e)
{
    if (o->parse(o, v, (char *)out + o->at, e))
        return true;
    return err_wrap(e, "--%s", o->name);
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    const unsigned m = a < b ? a : b;

    return m < c ? m : c;
}

/* Insertions, deletions and changes of a character between @a and @b (Levenshtein). */
static unsigned edits(const char *a, size_t na, const char *b)
{
    enum { LONGEST = 40 };
    unsigned row[LONGEST + 1];
    const size_t nb = strlen(b);

    if (na > LONGEST || nb > LONGEST)
        return LONGEST;
    for (size_t j = 0; j <= nb; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        unsigned diagonal = row[0]++;

        for (size_t j = 1; j <= nb; j++) {
            const unsigned change = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            row[j] = min3(change, row[j] + 1, row[j - 1] + 1);
        }
    }
    return row[nb];
}

/* The option that "word" or "word=..." was meant to be; NULL: no idea. */
static const struct opt *nearest(const char *word)
{
    const size_t n = strcspn(word, "=");
    const struct opt *best = NULL;
    unsigned least = NEAR + 1;

    for (size_t i = 0; i < OPTS; i++) {
        const bool begun = n > 1 && strncmp(word, opts[i].name, n) == 0;
        const unsigned d = begun ? 0 : edits(word, n, opts[i].name);

        if (d < least && d < strlen(opts[i].name) / 2) {
            least = d;
            best = &opts[i];
        }
    }
    return best;
}

static bool unknown(const char *word, struct err *e)
{
    const struct opt *const meant =
        strncmp(word, "--", 2) == 0 ? nearest(word + 2) : NULL;

    err_set(e, ERR_USAGE, 0, "there is no option %.100s", word);
    if (meant != NULL)
        err_next(e, "Did you mean --%s?", meant->name);
    return false;
}

/* What getopt_long(3) wants, from the table.  It calls a long option LONG + its row. */
enum { LONG = 256 };
struct getopt_tables {
    char letters[2 + 2 * OPTS];
    struct option longs[OPTS + 1];
};

static struct getopt_tables getopt_tables(void)
{
    struct getopt_tables g = { .letters = ":" }; /* ':': says when a value is missing */
    char *p = g.letters + 1;

    for (int i = 0; i < OPTS; i++) {
        const bool takes = opts[i].arg != NULL;

        g.longs[i] =
            (struct option){ .name = opts[i].name,
                             .has_arg = takes ? required_argument : no_argument,
                             .val = LONG + i };
        if (opts[i].letter != 0) {
            *p++ = opts[i].letter;
            if (takes)
                *p++ = ':';
        }
    }
    return g;
}

/* The row that getopt_long calls @c; NULL: none. */
static const struct opt *by_code(int c)
{
    if (c >= LONG)
        return &opts[c - LONG];
    for (int i = 0; i < OPTS; i++)
        if (c != 0 && opts[i].letter == c)
            return &opts[i];
    return NULL;
}

/* getopt_long(3) returned @c for @word: which row is it, if all is well with it?
 * "--rem" is not --remove-source-disks here: too easily said. */
static const struct opt *accept_opt(int c, const char *word, struct err *e)
{
    const bool wrong = c == '?' || c == ':';
    const struct opt *const o = by_code(wrong ? optopt : c);
    const char letter[] = { '-', (char)optopt, '\0' };
    const bool is_long = (wrong ? optopt : c) >= LONG || (wrong && optopt == 0);

    if (o == NULL || (is_long && strcspn(word + 2, "=") != strlen(o->name)))
        unknown(is_long ? word : letter, e);
    else if (c == ':')
        err_set(e, ERR_USAGE, 0, "--%s needs a value: %s", o->name, o->arg);
    else if (c == '?')
        err_set(e, ERR_USAGE, 0, "--%s takes no value", o->name);
    else
        return o;
    return NULL;
}

static bool options(int argc, char **argv, struct opts *out, struct err *e)
{
    const struct getopt_tables g = getopt_tables();
    int c;

    for (int i = 0; i < OPTS; i++)
        if (opts[i].dflt != NULL && !set_opt(&opts[i], opts[i].dflt, out, e))
            return false;
    optind = 0; /* forgets an earlier parse, too */
    opterr = 0;
    while ((c = getopt_long(argc, argv, g.letters, g.longs, NULL)) != -1) {
        const bool own = optarg != NULL && optarg == argv[optind - 1];
        const struct opt *const o = accept_opt(c, argv[optind - (own ? 2 : 1)], e);

        if (o == NULL || !set_opt(o, optarg, out, e))
            return false;
    }
    return true;
}

/* What no option alone can tell. */
static bool check_together(const struct opts *o, struct err *e)
{
    if (o->move.keep_source && o->move.remove_source_disks) {
        err_set(
            e, ERR_USAGE, 0,
            "--keep-source and --remove-source-disks contradict each other: a domain "
            "without its disks is of no use");
        return err_next(e, "Give one of them, or none.");
    }
    if (o->move.verify_later && o->move.remove_source_disks)
        return err_set(
            e, ERR_USAGE, 0,
            "--verify-later and --remove-source-disks contradict each other: "
            "nothing is left to compare with");
    if (o->move.forecast_ms > 0 && !o->move.check_only) {
        err_set(e, ERR_USAGE, 0, "--forecast goes with --check only");
        return err_next(e, "A move makes a forecast of its own when it begins.");
    }
    if (o->quiet && o->verbose > 0)
        return err_set(e, ERR_USAGE, 0, "--quiet and --verbose contradict each other");
    return true;
}

static bool operands(int n, char **argv, struct opts *out, struct err *e)
{
    if (n == 0)
        return err_set(e, ERR_USAGE, 0, "DOMAIN and DESTINATION are missing");
    if (n == 1)
        return err_set(e, ERR_USAGE, 0,
                       "DESTINATION is missing: where shall %.100s move to?", argv[0]);
    if (n > 2)
        return err_set(e, ERR_USAGE, 0, "\"%.100s\" is one argument too many", argv[2]);
    if (argv[0][0] == '\0')
        return err_set(e, ERR_USAGE, 0, "DOMAIN is empty");
    if (!is_clean(argv[0])) {
        err_set(e, ERR_USAGE, 0, "DOMAIN has control characters or is not UTF-8");
        return err_next(e, "Give its uuid instead: virsh list --all --uuid");
    }
    out->move.domain = argv[0];
    out->move.dest_text = argv[1];
    if (!dest_parse(argv[1], &out->move.dest, e))
        return err_wrap(e, "DESTINATION");
    return true;
}

bool opts_parse(int argc, char **argv, struct opts *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    if (options(argc, argv, out, e) &&
        (out->help || out->version ||
         (check_together(out, e) && operands(argc - optind, argv + optind, out, e))))
        return true;
    return err_next(e, "See: snmigrate --help");
}

/* --- snmigrate set --- */

/* clang-format off */
static const struct {
    const char *key;
    bool none; /* may be lifted */
} settings[] = {
    { "bandwidth", true }, { "max-downtime", false }, { "guest-latency", true },
};
/* clang-format on */
enum { SETTINGS = sizeof settings / sizeof settings[0] };

static int setting_index(const char *text, struct err *e)
{
    const size_t n = strcspn(text, "=");
    char all[80] = "";

    for (int i = 0; i < SETTINGS; i++) {
        if (strlen(settings[i].key) == n && strncmp(text, settings[i].key, n) == 0) {
            if (text[n] == '=')
                return i;
            err_set(e, ERR_USAGE, 0, "%s needs a value: %s=...", text, text);
            return -1;
        }
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i > 0 ? ", " : "",
                 settings[i].key);
    }
    err_set(e, ERR_USAGE, 0, "\"%.*s\" is nothing that can be set",
            n < 40 ? (int)n : 40, text);
    err_next(e, "What can be set: %s.", all);
    return -1;
}

static const struct opt *opt_named(const char *name)
{
    for (size_t i = 0; i < OPTS; i++)
        if (strcmp(opts[i].name, name) == 0)
            return &opts[i];
    return NULL;
}

bool opts_setting(const char *text, struct move_settings *out, struct err *e)
{
    static struct opts given; /* too large for the stack; the thread is main */
    const int i = setting_index(text, e);

    if (i < 0)
        return false;
    const struct opt *const o = opt_named(settings[i].key);
    const char *const v = text + strlen(o->name) + 1;

    memset(&given, 0, sizeof given);
    if (!(settings[i].none && strcmp(v, "none") == 0) && !set_opt(o, v, &given, e)) {
        if (settings[i].none)
            err_next(e, "Or lift it: %s=none", o->name);
        return false;
    }
    out->has_bandwidth |= o->at == AT(move.bandwidth);
    out->has_max_downtime |= o->at == AT(move.max_downtime_ms);
    out->has_guest_latency |= o->at == AT(move.guest_latency_ms);
    if (o->at == AT(move.bandwidth))
        out->bandwidth = given.move.bandwidth;
    else if (o->at == AT(move.max_downtime_ms))
        out->max_downtime_ms = given.move.max_downtime_ms;
    else
        out->guest_latency_ms = given.move.guest_latency_ms;
    return true;
}

bool opts_progress(const char *v, int *out, struct err *e)
{
    const struct opt *const o = opt_named("progress");

    return parse_choice(o, v, out, e) || err_wrap(e, "--%s", o->name);
}

/* --- --help --- */

static void help_row(FILE *out, const struct opt *o)
{
    char names[80];
    const char *line = o->help;
    const int n = o->letter != 0
                      ? snprintf(names, sizeof names, "  -%c, --%s", o->letter, o->name)
                      : snprintf(names, sizeof names, "      --%s", o->name);

    if (o->arg != NULL)
        snprintf(names + n, sizeof names - (size_t)n, " %s", o->arg);
    if (strlen(names) + 2 > HELP_AT) {
        fprintf(out, "%s\n", names);
        names[0] = '\0';
    }
    for (const char *end; *line != '\0'; line = end + (*end == '\n')) {
        end = line + strcspn(line, "\n");
        assert(end - line <= HELP_COLS);
        fprintf(out, "%-*s%.*s\n", HELP_AT, names, (int)(end - line), line);
        names[0] = '\0';
    }
}

void opts_help(FILE *out)
{
    fputs(help_head, out);
    for (int i = 0; i < OPTS; i++)
        help_row(out, &opts[i]);
    recover_help(out);
    fputs(help_foot, out);
}
