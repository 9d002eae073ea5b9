#include "cli/discard.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "base/unix.h"
#include "cli/json_out.h"
#include "cli/opts.h"
#include "cli/report.h"

enum { OK = 0, USAGE = 2 };

/* --- the command line --- */

bool discard_parse(int argc, char **argv, struct discard_opts *out, struct err *e)
{
    bool options = true;

    memset(out, 0, sizeof *out);
    for (int i = 1; i < argc; i++) {
        if (!options || argv[i][0] != '-') {
            if (out->discard.what != NULL)
                return err_set(e, ERR_USAGE, 0, "\"%.100s\" is one argument too many",
                               argv[i]);
            out->discard.what = argv[i];
        } else if (strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (strcmp(argv[i], "--here") == 0) {
            out->discard.here = true;
        } else if (strcmp(argv[i], "--json") == 0) {
            out->json = true;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            out->help = true;
        } else {
            return err_set(e, ERR_USAGE, 0, "snmigrate discard has no option %.100s",
                           argv[i]);
        }
    }
    if (out->help || (out->discard.what != NULL && out->discard.what[0] != '\0'))
        return true;
    err_set(e, ERR_USAGE, 0, "snmigrate discard: DOMAIN or ID is missing");
    return err_next(e, "See what there is: snmigrate list");
}

/* --- what came of it; pure --- */

static const char *host_of(const struct discard_result *r)
{
    return r->move.at_source ? r->move.other : "this host";
}

static void put_label(struct text *t, const char *label)
{
    text_printf(t, TEXT_PLAIN, "  %-12s ", label);
}

void discard_text(struct text *t, const struct discard_result *r)
{
    const struct inventory_move *const m = &r->move;
    char size[UNITS_LEN];

    text_printf(t, TEXT_PLAIN, "%s, move %.8s %s %s", m->domain, m->id,
                m->at_source ? "to" : "from", m->other);
    text_newline(t);
    for (size_t i = 0; i < r->nfiles; i++) {
        put_label(t, "removed");
        text_printf(t, TEXT_PLAIN, "%s on %s, %s", r->files[i].path, host_of(r),
                    units_size(size, r->files[i].bytes));
        text_newline(t);
    }
    if (r->in_qemu) {
        put_label(t, "removed");
        text_put(t, TEXT_PLAIN, "what it had in QEMU on this host");
        text_newline(t);
    }
    for (size_t i = 0; i < r->nleft; i++) {
        put_label(t, "left to do");
        text_put(t, TEXT_PLAIN, r->left[i]);
        text_newline(t);
    }
    if (r->status == 0)
        text_printf(t, TEXT_PLAIN,
                    "%s: this move is forgotten%s; the guest was not touched",
                    m->domain, r->nleft > 0 ? " on this host" : "");
    else
        text_printf(
            t, TEXT_PLAIN, "%s: %s", m->domain[0] != '\0' ? m->domain : "discard",
            r->nfiles > 0 ? "not all of it was removed" : "nothing was changed");
    text_newline(t);
}

struct json_object *discard_json(const struct discard_result *r)
{
    struct json_object *const o = json_new(), *const files = json_object_new_array();
    const struct inventory_move *const m = &r->move;

    json_add_str(o, "type", "discard");
    json_add_u64(o, "status", (uint64_t)r->status);
    json_add_str(o, "id", m->id);
    json_out_clean(o, "domain", m->domain);
    json_out_clean(o, "uuid", m->uuid);
    json_add_str(o, "role", m->at_source ? "source" : "destination");
    json_out_clean(o, "other_host", m->other);
    for (size_t i = 0; i < r->nfiles; i++) {
        struct json_object *const f = json_new();

        json_out_clean(f, "host", host_of(r));
        json_out_clean(f, "path", r->files[i].path);
        json_object_array_add(files, json_add_u64(f, "bytes", r->files[i].bytes));
    }
    json_add_obj(o, "removed", files);
    json_add_bool(o, "in_qemu", r->in_qemu);
    json_add_obj(o, "left", json_out_strings(r->left, r->nleft));
    json_object_object_add(o, "error", json_out_error(&r->err));
    return o;
}

/* --- the program --- */

static void flush(struct text *t, int fd)
{
    struct err e;

    if (t->len > 0 && !fd_write_all(fd, t->buf, t->len, &e) && fd != STDERR_FILENO)
        dprintf(STDERR_FILENO, "snmigrate: the result could not be written: %s\n",
                e.msg);
    text_clear(t);
}

static int fail(const struct err *e, bool utf8)
{
    AUTO(text_fini) struct text t = { .utf8 = utf8 };

    report_error(&t, e);
    flush(&t, STDERR_FILENO);
    return USAGE;
}

/* Of what was refused only the reason; of the rest also how far it came. */
static void say(const struct discard_opts *o, const struct discard_result *r, bool utf8)
{
    AUTO(text_fini) struct text t = { .utf8 = utf8 };
    struct err e;

    if (r->err.kind != ERR_NONE)
        report_error(&t, &r->err);
    flush(&t, STDERR_FILENO);
    if (o->json) {
        if (!json_out_write(STDOUT_FILENO, discard_json(r), &e))
            dprintf(STDERR_FILENO, "snmigrate: the result could not be written: %s\n",
                    e.msg);
        return;
    }
    if (r->status == 0 || r->nfiles > 0)
        discard_text(&t, r);
    flush(&t, STDOUT_FILENO);
}

int discard_main(int argc, char **argv, bool utf8)
{
    static struct discard_result r; /* large: a path for every disk */
    struct discard_opts o;
    struct err e = { 0 };

    log_init(LOG_WARN, "src");
    signal(SIGPIPE, SIG_IGN);
    if (!discard_parse(argc, argv, &o, &e) || !fault_init(&e)) {
        err_next(&e, "See: snmigrate --help");
        return fail(&e, utf8);
    }
    if (o.help) {
        opts_help(stdout);
        return fflush(stdout) == 0 ? OK : USAGE;
    }
    discard_run(&o.discard, &r);
    say(&o, &r, utf8);
    return r.status;
}
