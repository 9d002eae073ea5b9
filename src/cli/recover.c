#include "cli/recover.h"

#include <getopt.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"
#include "cli/json_out.h"
#include "cli/report.h"
#include "migrate/status.h"

/* --- options --- */

/* clang-format off */
static const struct recover_opt {
    const char *name;
    char letter;
    size_t at;  /* offset of a bool in struct recover_opts; 0: see take() */
    const char *help; /* NULL: as of a move */
} table[] = {
    { "source-wins", 0, 0,
      "the destination is gone for good, or shall not\n"
      "have the guest; what it has of it is given up" },
    { "destination-wins", 0, 0,
      "the source is gone for good; what it has of the\n"
      "guest is given up" },
    { "json", 0, offsetof(struct recover_opts, json), NULL },
    { "quiet", 'q', offsetof(struct recover_opts, quiet), NULL },
    { "verbose", 'v', 0, NULL },
    { "help", 'h', offsetof(struct recover_opts, help), NULL },
};
/* clang-format on */
enum { OPTS = sizeof table / sizeof table[0], LONG = 256, HELP_AT = 29 };

static bool choose(struct recover_opts *o, enum recover_word w, struct err *e)
{
    if (o->recover.word != RECOVER_WORD_NONE && o->recover.word != w)
        return err_set(e, ERR_USAGE, 0,
                       "--source-wins and --destination-wins contradict each other");
    o->recover.word = w;
    return true;
}

static bool take(const struct recover_opt *t, struct recover_opts *o, struct err *e)
{
    if (strcmp(t->name, "source-wins") == 0)
        return choose(o, RECOVER_WORD_SOURCE, e);
    if (strcmp(t->name, "destination-wins") == 0)
        return choose(o, RECOVER_WORD_DESTINATION, e);
    if (t->letter == 'v')
        o->verbose++;
    else
        *(bool *)((char *)o + t->at) = true;
    return true;
}

/* Long options are LONG + their row. */
static const struct recover_opt *by_code(int c)
{
    if (c >= LONG)
        return &table[c - LONG];
    for (int i = 0; i < OPTS; i++)
        if (c != '?' && table[i].letter == c)
            return &table[i];
    return NULL;
}

static bool options(int argc, char **argv, struct recover_opts *out, struct err *e)
{
    struct option longs[OPTS + 1] = { 0 };
    int c;

    for (int i = 0; i < OPTS; i++)
        longs[i] = (struct option){ .name = table[i].name, .val = LONG + i };
    optind = 0; /* forgets an earlier parse */
    opterr = 0;
    while ((c = getopt_long(argc, argv, "qvh", longs, NULL)) != -1) {
        const char *const word = argv[optind - 1];
        const struct recover_opt *const t = by_code(c);

        /* An abbreviation of what gives something up is too easily said. */
        if (t == NULL || (c >= LONG && strcmp(word + 2, t->name) != 0))
            return err_set(e, ERR_USAGE, 0, "recover has no option %.100s", word);
        if (!take(t, out, e))
            return false;
    }
    return true;
}

static bool check(int argc, char **argv, struct recover_opts *out, struct err *e)
{
    if (argc - optind > 1)
        return err_set(e, ERR_USAGE, 0, "\"%.100s\" is one argument too many",
                       argv[optind + 1]);
    if (argc - optind == 1)
        out->recover.what = argv[optind];
    if (out->quiet && out->verbose > 0)
        return err_set(e, ERR_USAGE, 0, "--quiet and --verbose contradict each other");
    if (out->recover.word != RECOVER_WORD_NONE && out->recover.what == NULL)
        return err_set(e, ERR_USAGE, 0,
                       "--source-wins and --destination-wins need a DOMAIN or ID: they "
                       "are said of one move");
    return true;
}

bool recover_parse(int argc, char **argv, struct recover_opts *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    if (options(argc, argv, out, e) && (out->help || check(argc, argv, out, e)))
        return true;
    return err_next(e, "See: snmigrate --help");
}

void recover_help(FILE *out)
{
    fputs(
        "\n"
        "snmigrate recover [OPTIONS] [DOMAIN|ID]\n"
        "After a crash of a host, or of snmigrate and its guard: bring each move that\n"
        "was left, or that one, to one owner.  Options: -q, -v, --json, and\n",
        out);
    for (int i = 0; i < OPTS; i++) {
        char name[40];
        const char *line = table[i].help;

        snprintf(name, sizeof name, "      --%s", table[i].name);
        for (const char *end; line != NULL && *line != '\0';
             line = end + (*end == '\n')) {
            end = line + strcspn(line, "\n");
            fprintf(out, "%-*s%.*s\n", HELP_AT, name, (int)(end - line), line);
            name[0] = '\0';
        }
    }
}

/* --- what came of it --- */

static void put_label(struct text *t, const char *label, const char *s)
{
    text_printf(t, TEXT_PLAIN, "  %-12s %s", label, s);
    text_newline(t);
}

static void put_where(struct text *t, const struct recover_result *r)
{
    const char *const side = r->at_source ? "this host" : r->other;
    const char *const far = r->at_source ? r->other : "this host";

    text_printf(t, TEXT_PLAIN, "%s: ", r->domain);
    if (r->where == MOVE_AT_SOURCE)
        text_printf(t, TEXT_PLAIN, "%s on %s (source)",
                    r->state[0] != '\0' ? r->state : "left", side);
    else if (r->where == MOVE_AT_DESTINATION)
        text_printf(t, TEXT_PLAIN, "%s on %s (destination)",
                    r->state[0] != '\0' ? r->state : "left", far);
    else if (r->where == MOVE_NOWHERE)
        text_put(t, TEXT_PLAIN, "runs nowhere: it is off");
    else if (r->status == STATUS_REFUSED)
        text_put(t, TEXT_PLAIN, "left alone");
    else if (r->status == STATUS_UNRESOLVED)
        text_put(t, TEXT_PLAIN, "unresolved");
    else
        text_put(t, TEXT_PLAIN, "no longer on this host");
    text_newline(t);
}

void recover_text(struct text *t, const struct recover_result *r)
{
    text_printf(t, TEXT_PLAIN, "%s, move %.8s %s %s", r->domain, r->id,
                r->at_source ? "to" : "from", r->other);
    text_newline(t);
    if (r->found_source[0] != '\0') {
        put_label(t, "source", r->found_source);
        put_label(t, "destination", r->found_destination);
        put_label(t, "journal", r->found_journal);
        put_label(t, "so", r->why);
        put_label(t, "did", r->did);
    }
    if (r->err.kind != ERR_NONE) {
        put_label(t, "open", r->err.msg);
        if (r->err.next[0] != '\0')
            put_label(t, "next", r->err.next);
    }
    for (size_t i = 0; i < r->notes.n; i++)
        put_label(t, "note", r->notes.text[i]);
    for (size_t i = 0; i < r->left.n; i++)
        put_label(t, "left to do", r->left.text[i]);
    put_where(t, r);
}

struct json_object *recover_json(const struct recover_result *r)
{
    struct json_object *const o = json_new(), *const found = json_new();

    json_add_str(o, "type", "recover");
    json_add_u64(o, "status", (uint64_t)r->status);
    json_add_str(o, "id", r->id);
    json_out_clean(o, "domain", r->domain);
    json_out_clean(o, "uuid", r->uuid);
    json_add_str(o, "role", r->at_source ? "source" : "destination");
    json_out_clean(o, "other_host", r->other);
    json_add_str(found, "source", r->found_source);
    json_add_str(found, "destination", r->found_destination);
    json_add_str(found, "journal", r->found_journal);
    json_add_obj(o, "found", found);
    json_add_str(o, "why", r->why);
    json_out_clean(o, "did", r->did);
    json_add_str(o, "guest_location", move_where_name(r->where));
    json_out_clean(o, "guest_state", r->state);
    json_add_obj(o, "left", json_out_texts(&r->left));
    json_add_obj(o, "notes", json_out_texts(&r->notes));
    json_object_object_add(o, "error", json_out_error(&r->err));
    return o;
}

/* --- the program --- */

struct shown {
    const struct recover_opts *opts;
    struct text text;
    unsigned n;
    int status;
};

/* A move that is under way is no failure where all were asked for. */
static int status_of(const struct shown *s, const struct recover_result *r)
{
    if (r->status == STATUS_REFUSED && s->opts->recover.what == NULL)
        return STATUS_OK;
    return r->status;
}

static void show(void *ctx, const struct recover_result *r)
{
    struct shown *const s = ctx;
    const int status = status_of(s, r);
    struct err e;

    s->n++;
    if (status > s->status) /* STATUS_UNRESOLVED is the worst */
        s->status = status;
    if (s->opts->json) {
        if (!json_out_write(STDOUT_FILENO, recover_json(r), &e))
            text_unwritten(&e);
    } else if (!s->opts->quiet || status != STATUS_OK) {
        recover_text(&s->text, r);
        text_flush(&s->text, status == STATUS_OK ? STDOUT_FILENO : STDERR_FILENO);
    }
}

static int run(struct shown *s)
{
    const struct recover_opts *const o = s->opts;
    const unsigned level = LOG_WARN + o->verbose;
    struct err e = { 0 };

    log_init(o->quiet            ? LOG_ERROR
             : level < LOG_TRACE ? (enum log_level)level
                                 : LOG_TRACE,
             "src");
    signal(SIGPIPE, SIG_IGN);
    if (!need_root(&e) || !fault_init(&e) || !recover_run(&o->recover, show, s, &e))
        return report_fail(&e,
                           e.kind == ERR_REFUSED ? STATUS_REFUSED : STATUS_UNRESOLVED,
                           s->text.utf8);
    if (s->n == 0 && !o->quiet && !o->json)
        puts("Nothing to recover on this host.");
    return s->status;
}

int recover_main(int argc, char **argv)
{
    static struct recover_opts o;
    static struct shown s = { .opts = &o };
    struct err e = { 0 };
    int status;

    setlocale(LC_CTYPE, "");
    s.text.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    if (!recover_parse(argc - 1, argv + 1, &o, &e)) {
        status = report_fail(&e, STATUS_USAGE, s.text.utf8);
    } else if (o.help) {
        recover_help(stdout);
        status = STATUS_OK;
    } else {
        status = run(&s);
    }
    text_fini(&s.text);
    return status;
}
