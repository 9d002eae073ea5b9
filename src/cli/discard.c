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
#include "cli/args.h"
#include "cli/json_out.h"
#include "cli/opts.h"
#include "cli/report.h"
#include "migrate/status.h"

/* --- the command line --- */

bool discard_parse(int argc, char **argv, struct discard_opts *out, struct err *e)
{
    const struct args_flag flags[] = {
        { "--here", &out->discard.here, NULL },
        { "--json", &out->json, NULL },
        { "--help", &out->help, NULL },
        { 0 },
    };
    int n;

    memset(out, 0, sizeof *out);
    if (!args_parse(argc, argv, flags, 1, &n, e))
        return false;
    out->discard.what = n > 0 ? argv[1] : NULL;
    if (out->help || (n > 0 && argv[1][0] != '\0'))
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

static void put_file(struct text *t, const struct discard_result *r,
                     const struct discard_file *f)
{
    static const char *const labels[] = { "removed", "blanked", "left alone" };
    char size[UNITS_LEN];

    put_label(t, labels[f->did]);
    if (f->did == DISCARD_SPARED)
        text_printf(t, TEXT_PLAIN, "on %s: %s", host_of(r), f->why);
    else
        text_printf(t, TEXT_PLAIN, "%s on %s, %s", f->path, host_of(r),
                    f->did == DISCARD_REMOVED ? units_size(size, f->bytes)
                                              : "its first and last MiB");
    text_newline(t);
}

void discard_text(struct text *t, const struct discard_result *r)
{
    const struct inventory_move *const m = &r->move;

    text_printf(t, TEXT_PLAIN, "%s, move %.8s %s %s", m->domain, m->id,
                m->at_source ? "to" : "from", m->other);
    text_newline(t);
    for (size_t i = 0; i < r->nfiles; i++)
        put_file(t, r, &r->files[i]);
    if (r->in_qemu) {
        put_label(t, "removed");
        text_put(t, TEXT_PLAIN, "what it had in QEMU on this host");
        text_newline(t);
    }
    for (size_t i = 0; i < r->left.n; i++) {
        put_label(t, "left to do");
        text_put(t, TEXT_PLAIN, r->left.text[i]);
        text_newline(t);
    }
    if (r->status == STATUS_OK)
        text_printf(t, TEXT_PLAIN,
                    "%s: this move is forgotten%s; the guest was not touched",
                    m->domain, r->left.n > 0 ? " on this host" : "");
    else
        text_printf(
            t, TEXT_PLAIN, "%s: %s", m->domain[0] != '\0' ? m->domain : "discard",
            r->nfiles > 0 ? "not all of it was removed" : "nothing was changed");
    text_newline(t);
}

static struct json_object *files_json(const struct discard_result *r,
                                      enum discard_did did)
{
    struct json_object *const list = json_object_new_array();

    for (size_t i = 0; i < r->nfiles; i++) {
        const struct discard_file *const f = &r->files[i];

        if (f->did != did)
            continue;
        struct json_object *const o = json_new();
        json_out_clean(o, "host", host_of(r));
        json_out_clean(o, "path", f->path);
        if (did == DISCARD_REMOVED)
            json_add_u64(o, "bytes", f->bytes);
        if (did == DISCARD_SPARED)
            json_out_clean(o, "why", f->why);
        json_object_array_add(list, o);
    }
    return list;
}

struct json_object *discard_json(const struct discard_result *r)
{
    struct json_object *const o = json_new();
    const struct inventory_move *const m = &r->move;

    json_add_str(o, "type", "discard");
    json_add_u64(o, "status", (uint64_t)r->status);
    json_add_str(o, "id", m->id);
    json_out_clean(o, "domain", m->domain);
    json_out_clean(o, "uuid", m->uuid);
    json_add_str(o, "role", m->at_source ? "source" : "destination");
    json_out_clean(o, "other_host", m->other);
    json_add_obj(o, "removed", files_json(r, DISCARD_REMOVED));
    json_add_obj(o, "blanked", files_json(r, DISCARD_BLANKED));
    json_add_obj(o, "left_alone", files_json(r, DISCARD_SPARED));
    json_add_bool(o, "in_qemu", r->in_qemu);
    json_add_obj(o, "left", json_out_texts(&r->left));
    json_object_object_add(o, "error", json_out_error(&r->err));
    return o;
}

/* --- the program --- */

/* Of what was refused only the reason; of the rest also how far it came. */
static void say(const struct discard_opts *o, const struct discard_result *r, bool utf8)
{
    AUTO(text_fini) struct text t = { .utf8 = utf8 };
    struct err e;

    if (r->err.kind != ERR_NONE)
        report_error(&t, &r->err);
    text_flush(&t, STDERR_FILENO);
    if (o->json) {
        if (!json_out_write(STDOUT_FILENO, discard_json(r), &e))
            text_unwritten(&e);
        return;
    }
    if (r->status == STATUS_OK || r->nfiles > 0)
        discard_text(&t, r);
    text_flush(&t, STDOUT_FILENO);
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
        return report_fail(&e, STATUS_USAGE, utf8);
    }
    if (o.help) {
        opts_help(stdout);
        return fflush(stdout) == 0 ? STATUS_OK : STATUS_USAGE;
    }
    if (!need_root(&e))
        return report_fail(&e, STATUS_REFUSED, utf8);
    discard_run(&o.discard, &r);
    say(&o, &r, utf8);
    return r.status;
}
