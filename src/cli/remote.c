/* What is said to a running move of this host, and by it.
 *
 * Its snmigrate is asked over the socket in its run directory (migrate/ctl.h).  A socket at
 * which nobody listens is what a killed one left: said, and otherwise passed over. */
#include "cli/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/journal.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "base/unix.h"
#include "cli/args.h"
#include "cli/json_in.h"
#include "cli/json_out.h"
#include "cli/opts.h"
#include "cli/render.h"
#include "cli/report.h"
#include "migrate/ctl.h"
#include "migrate/inventory.h"
#include "migrate/status.h"

enum { ASK_MS = 3000 }; /* a move answers at once, on a busy host too */

struct remote {
    const char *word, *domain; /* @domain NULL: all */
    bool json, help, utf8;
    struct ctl_request request;

    struct ctl_move moves[CTL_MOVES_MAX];
    size_t n;
    unsigned silent;                         /* that listen and do not answer */
    struct json_object *said[CTL_MOVES_MAX]; /* status of each; NULL: none */
};

bool remote_is_command(const char *word)
{
    static const char *const words[] = { "status", "set", "switch", "abort" };

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

/* --- saying --- */

/* @t and a newline, to stdout. */
static int say(const struct remote *r, struct text *t)
{
    struct err e;

    text_newline(t);
    if (!fd_write_all(STDOUT_FILENO, t->buf, t->len, &e))
        return report_fail(&e, STATUS_FAILED, r->utf8);
    return STATUS_OK;
}

static int say_json(const struct remote *r, struct json_object *o)
{
    struct err e;

    if (!json_out_write(STDOUT_FILENO, json_object_get(o), &e))
        return report_fail(&e, STATUS_FAILED, r->utf8);
    return STATUS_OK;
}

static void warn(const struct remote *r, const char *who, const char *what)
{
    AUTO(text_fini) struct text t = { .utf8 = r->utf8 };

    text_printf(&t, TEXT_PLAIN, "snmigrate: %s: %s", who, what);
    text_newline(&t);
    text_flush(&t, STDERR_FILENO);
}

/* --- asking --- */

/* The status of one move; false: there is none to be had, *e says why. */
static bool ask(const struct ctl_move *m, struct json_object **out, struct err *e)
{
    const struct ctl_request r = { .todo = CTL_STATUS };
    AUTO(json_put) struct json_object *reply = NULL;
    struct json_object *move;

    if (!ctl_call(m->path, &r, ASK_MS, &reply, NULL, e) ||
        !ctl_take_reply(reply, &move, e))
        return false;
    if (move == NULL)
        return err_set(e, ERR_PROTO, 0, "it says nothing of its move");
    *out = json_object_get(move);
    return true;
}

static bool is_meant(const struct remote *r, const struct ctl_move *m, const char *name)
{
    return r->domain == NULL || strcasecmp(r->domain, m->uuid) == 0 ||
           strcmp(r->domain, name) == 0;
}

/* The domain of one that says nothing: its name, as the journal has it, or its uuid. */
static void name_of(const struct ctl_move *m, char out[256])
{
    AUTO(json_put) struct json_object *entries = NULL;
    struct inventory_move known = { .state = INVENTORY_EMPTY };
    char dir[PATHS_MAX];
    struct err ignored;

    paths_state_dir(dir, m->id);
    if (journal_read(dir, &entries, &ignored))
        inventory_read(entries, false, &known);
    snprintf(out, 256, "%s", known.domain[0] != '\0' ? known.domain : m->uuid);
}

static void say_killed(const struct remote *r, const char *name)
{
    char what[500];

    snprintf(
        what, sizeof what,
        "its snmigrate was killed. If this stays so, see snmigrate list; where that "
        "says open: snmigrate recover %.256s",
        name);
    warn(r, name, what);
}

/* Ask all; r->moves keeps those that are meant and answered.  One that was killed is
 * mentioned, unless another is asked for. */
static void ask_all(struct remote *r)
{
    const size_t n = ctl_list(r->moves, CTL_MOVES_MAX);

    for (size_t i = 0; i < n; i++) {
        const struct ctl_move *const m = &r->moves[i];
        struct json_object *said = NULL;
        const char *name = "";
        char known[256];
        struct err e = { 0 };

        if (ask(m, &said, &e)) {
            if (json_get_str(said, "domain", &name, &e) && is_meant(r, m, name)) {
                r->moves[r->n] = *m;
                r->said[r->n++] = said;
            } else {
                json_object_put(said);
            }
            continue;
        }
        name_of(m, known);
        if (e.kind != ERR_LINK) {
            r->silent++;
            warn(r, known, e.msg);
        } else if (is_meant(r, m, known)) {
            say_killed(r, known);
        }
    }
}

static int no_such_move(const struct remote *r)
{
    struct err e;
    char shown[300];

    err_set(&e, ERR_REFUSED, 0, "no move of '%s' is running on this host%s",
            log_clean(shown, sizeof shown, r->domain),
            r->silent > 0 ? ", or it does not answer" : "");
    err_next(&e, "See what is with: snmigrate status (a DOMAIN is a name or uuid)");
    return report_fail(&e, STATUS_REFUSED, r->utf8);
}

/* --- status --- */

static int say_status(const struct remote *r, struct json_object *said)
{
    AUTO(text_fini) struct text t = { .utf8 = r->utf8 };
    static struct move_progress p; /* large, and one at a time */
    char time[UNITS_LEN];
    struct err e;

    if (r->json)
        return say_json(r, said);
    if (!json_in_progress(said, &p, &e)) {
        err_wrap(&e, "a move that another version of snmigrate runs");
        return report_fail(&e, STATUS_FAILED, r->utf8);
    }
    text_printf(&t, TEXT_PLAIN, "[%s, to %s] ", units_time(time, p.elapsed_ms), p.dest);
    render_plain(&t, &p);
    return say(r, &t);
}

static int run_status(struct remote *r)
{
    int status = r->silent > 0 ? STATUS_FAILED : STATUS_OK;

    if (r->n == 0 && r->domain != NULL)
        return no_such_move(r);
    if (r->n == 0 && status == STATUS_OK && !r->json) {
        AUTO(text_fini) struct text t = { .utf8 = r->utf8 };

        text_put(&t, TEXT_PLAIN, "no domain is being moved from this host");
        return say(r, &t);
    }
    for (size_t i = 0; i < r->n; i++) {
        const int one = say_status(r, r->said[i]);

        status = one != STATUS_OK ? one : status;
    }
    return status;
}

/* --- set, switch, abort --- */

static void put_kept(struct text *t, struct json_object *o, const char *dst,
                     const char *domain)
{
    struct json_object *kept;
    uint64_t bytes, size;
    struct err ignored;

    if (json_object_object_get_ex(o, "kept", &kept) &&
        json_object_is_type(kept, json_type_object) &&
        json_get_u64(kept, "bytes", &bytes, &ignored) &&
        json_get_u64(kept, "size", &size, &ignored))
        report_kept(t, "", dst, domain, bytes, size);
}

/* "web01: running on hosta (source)" and, if it failed, why. */
static int say_result(const struct remote *r, struct json_object *o)
{
    AUTO(text_fini) struct text t = { .utf8 = r->utf8 };
    const char *domain, *where, *state, *src, *dst, *what;
    struct json_object *error;
    struct err e;
    uint64_t status;

    if (!json_get_u64(o, "status", &status, &e) ||
        !json_get_str(o, "domain", &domain, &e) ||
        !json_get_str(o, "guest_location", &where, &e) ||
        !json_get_str(o, "guest_state", &state, &e) ||
        !json_get_str(o, "source", &src, &e) ||
        !json_get_str(o, "destination", &dst, &e))
        return report_fail(&e, STATUS_FAILED, r->utf8);
    const bool at_src = strcmp(where, "source") == 0;
    const bool placed = at_src || strcmp(where, "destination") == 0;

    if (r->json && say_json(r, o) != STATUS_OK)
        return STATUS_FAILED;
    put_kept(&t, o, dst, domain);
    text_printf(&t, TEXT_PLAIN, "%s: ", domain);
    if (placed)
        text_printf(&t, TEXT_PLAIN, "%s on %s (%s)", state, at_src ? src : dst, where);
    else
        text_printf(&t, TEXT_PLAIN, "%s", where);
    if (status != STATUS_INTERRUPTED && json_has(o, "error") &&
        json_get_object(o, "error", &error, &e) &&
        json_get_str(error, "what", &what, &e))
        text_printf(&t, TEXT_PLAIN, "; %s", what);
    if (!r->json && say(r, &t) != STATUS_OK)
        return STATUS_FAILED;
    if (r->request.todo != CTL_ABORT)
        return (int)status;
    /* It was too far, although it was not known yet. */
    if (status == STATUS_OK || status == STATUS_LEFT)
        return STATUS_REFUSED;
    return status == STATUS_INTERRUPTED ? STATUS_OK : (int)status;
}

static int wait_for_end(const struct remote *r, int fd)
{
    AUTO(json_put) struct json_object *reply = NULL;
    struct json_object *result;
    struct err e = { 0 };

    if (!r->json && isatty(STDERR_FILENO))
        fputs("waiting for its end; Ctrl-C ends only the waiting\n", stderr);
    if (!ctl_read(fd, -1, &reply, &e)) {
        if (e.kind == ERR_LINK) {
            err_set(&e, ERR_LINK, 0, "the snmigrate of '%s' was killed before its end",
                    r->domain);
            err_next(&e, "Its guard brings the guest to one owner: virsh domstate %s",
                     r->domain);
        }
        return report_fail(&e, STATUS_FAILED, r->utf8);
    }
    if (!ctl_take_reply(reply, &result, &e))
        return report_fail(&e, STATUS_FAILED, r->utf8);
    return result != NULL ? say_result(r, result) : STATUS_FAILED;
}

static int run_request(struct remote *r)
{
    AUTO(json_put) struct json_object *reply = NULL;
    AUTO(fd_close) int fd = -1;
    struct json_object *move;
    struct err e = { 0 };

    if (r->n == 0)
        return no_such_move(r);
    if (!ctl_call(r->moves[0].path, &r->request, ASK_MS, &reply, &fd, &e) ||
        !ctl_take_reply(reply, &move, &e)) {
        char shown[300];

        err_wrap(&e, "%s", log_clean(shown, sizeof shown, r->domain));
        return report_fail(&e,
                           e.kind == ERR_REFUSED || e.kind == ERR_USAGE ? STATUS_REFUSED
                                                                        : STATUS_FAILED,
                           r->utf8);
    }
    if (r->request.wait)
        return wait_for_end(r, fd);
    return move != NULL ? say_status(r, move) : STATUS_OK;
}

/* --- the command line --- */

static bool take_operands(struct remote *r, int n, char **v, struct err *e)
{
    if (n == 0 && r->request.todo == CTL_STATUS)
        return true;
    if (n == 0)
        return err_set(e, ERR_USAGE, 0, "snmigrate %s: DOMAIN is missing", r->word);
    if (v[0][0] == '\0')
        return err_set(e, ERR_USAGE, 0, "DOMAIN is empty");
    r->domain = v[0];
    if (n == 1 && r->request.todo == CTL_SET) {
        err_set(e, ERR_USAGE, 0, "nothing to set");
        return err_next(e, "As in: snmigrate set %.100s bandwidth=400Mbit", r->domain);
    }
    for (int i = 1; i < n; i++)
        if (!opts_setting(v[i], &r->request.set, e))
            return false;
    return true;
}

static bool parse(struct remote *r, int argc, char **argv, struct err *e)
{
    const struct args_flag flags[] = {
        { "--json", &r->json, NULL },
        { "--help", &r->help, NULL },
        { 0 },
    };
    int n;

    r->word = argv[0];
    r->request.todo = strcmp(r->word, "status") == 0   ? CTL_STATUS
                      : strcmp(r->word, "set") == 0    ? CTL_SET
                      : strcmp(r->word, "switch") == 0 ? CTL_SWITCH
                                                       : CTL_ABORT;
    r->request.wait = r->request.todo >= CTL_SWITCH;
    return args_parse(argc, argv, flags, r->request.todo == CTL_SET ? argc : 1, &n,
                      e) &&
           (r->help || take_operands(r, n, argv + 1, e));
}

int remote_main(int argc, char **argv, bool utf8)
{
    static struct remote r;
    struct err e = { 0 };

    r.utf8 = utf8;
    log_init(LOG_WARN, "src");
    if (!parse(&r, argc, argv, &e)) {
        err_next(&e, "See: snmigrate --help");
        return report_fail(&e, STATUS_USAGE, utf8);
    }
    if (r.help) {
        opts_help(stdout);
        return fflush(stdout) == 0 ? STATUS_OK : STATUS_USAGE;
    }
    if (!need_root(&e))
        return report_fail(&e, STATUS_REFUSED, r.utf8);
    ask_all(&r);
    const int status = r.request.todo == CTL_STATUS ? run_status(&r) : run_request(&r);
    for (size_t i = 0; i < r.n; i++)
        json_object_put(r.said[i]);
    return status;
}
