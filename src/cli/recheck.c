/* Threads: main compares; "signals" takes Ctrl-C, which ends it, and shows how far it is. */
#include "cli/recheck.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "base/units.h"
#include "base/unix.h"
#include "cli/args.h"
#include "cli/json_out.h"
#include "cli/report.h"
#include "migrate/status.h"

enum { LIVE_MS = 500, PLAIN_MS = 5000 };
enum { WHERE = 11 }; /* the column of what is said of a disk */

/* --- the command line --- */

bool recheck_parse(int argc, char **argv, struct recheck_opts *out, struct err *e)
{
    const char *progress = NULL;
    const struct args_flag flags[] = {
        { "--progress", NULL, &progress },
        { "--json", &out->json, NULL },
        { "--help", &out->help, NULL },
        { 0 },
    };
    int n;

    memset(out, 0, sizeof *out);
    if (!args_parse(argc, argv, flags, 1, &n, e) ||
        (progress != NULL && !opts_progress(progress, &out->progress, e)))
        return false;
    out->what = n > 0 ? argv[1] : NULL;
    if (out->help || (n > 0 && argv[1][0] != '\0'))
        return true;
    err_set(e, ERR_USAGE, 0, "snmigrate verify: DOMAIN or ID is missing");
    return err_next(e, "See what there is: snmigrate list");
}

/* --- what came of it; pure --- */

static void put_where(struct text *t, const struct recheck_disk *d)
{
    char all[RECHECK_SHOWN * 64] = "at byte", size[UNITS_LEN];

    for (size_t i = 0; i < d->nwhere; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s %llu (%s)",
                 i > 0 ? "," : "", (unsigned long long)d->where[i].off,
                 units_size(size, d->where[i].len));
    if (d->nwhere == RECHECK_SHOWN)
        snprintf(all + strlen(all), sizeof all - strlen(all), ", ...");
    text_pad(t, WHERE);
    text_fold(t, all, WHERE);
}

static void put_disk(struct text *t, const struct recheck_result *r,
                     const struct recheck_disk *d)
{
    char a[UNITS_LEN], b[UNITS_LEN];

    text_printf(t, TEXT_PLAIN, "  %-8s %s compared: ", d->target,
                units_size(a, d->compared));
    if (d->differing > 0)
        text_printf(t, TEXT_PLAIN, "%s %s", units_size(b, d->differing),
                    r->marked ? "DIFFER" : "differ");
    else
        text_put(t, TEXT_PLAIN, "alike");
    if (r->marked && d->written > 0)
        text_printf(t, TEXT_PLAIN, ", but for %s that the guest has written since",
                    units_size(b, d->written));
    text_newline(t);
    if (d->nwhere > 0)
        put_where(t, d);
    text_printf(t, TEXT_PLAIN, "           digest of %s that are alike: %s",
                units_size(a, d->alike), d->digest);
    text_newline(t);
}

static void put_verdict(struct text *t, const struct recheck_result *r)
{
    char s[800];

    if (r->status != STATUS_DIFFER)
        snprintf(s, sizeof s, "%s: both copies of its disks are alike", r->domain);
    else if (r->marked)
        snprintf(s, sizeof s,
                 "%s: the copies differ where the guest has not written since the "
                 "move: one of them is damaged, or was changed by another",
                 r->domain);
    else
        snprintf(s, sizeof s,
                 "%s: the copies differ; %s%sthis is what the guest has written since, "
                 "or damage",
                 r->domain, r->why, r->why[0] != '\0' ? ", so " : "");
    text_fold(t, s, 0);
}

void recheck_text(struct text *t, const struct recheck_result *r)
{
    char time[UNITS_LEN];

    text_printf(t, TEXT_PLAIN, "%s, move %.8s to %s: compared in %s", r->domain, r->id,
                r->destination, units_time(time, r->elapsed_ms));
    text_newline(t);
    for (size_t i = 0; i < r->ndisks; i++)
        put_disk(t, r, &r->disks[i]);
    put_verdict(t, r);
}

static struct json_object *disk_json(const struct recheck_result *r,
                                     const struct recheck_disk *d)
{
    struct json_object *const o = json_new(), *const where = json_object_new_array();

    json_out_clean(o, "target", d->target);
    json_out_clean(o, "source_path", d->src);
    json_out_clean(o, "destination_path", d->dst);
    json_add_u64(json_add_u64(o, "size", d->size), "compared", d->compared);
    json_add_u64(json_add_u64(o, "alike", d->alike), "differing", d->differing);
    if (r->marked)
        json_add_u64(o, "written", d->written);
    else
        json_add_obj(o, "written", NULL);
    for (size_t i = 0; i < d->nwhere; i++)
        json_object_array_add(
            where, json_add_u64(json_add_u64(json_new(), "offset", d->where[i].off),
                                "length", d->where[i].len));
    json_add_obj(o, "where", where);
    return json_add_str(o, "digest", d->digest);
}

struct json_object *recheck_json(const struct recheck_result *r)
{
    struct json_object *const o = json_new(), *const disks = json_object_new_array();

    json_add_str(o, "type", "verify");
    json_add_u64(o, "status", (uint64_t)r->status);
    json_add_str(o, "id", r->id);
    json_out_clean(o, "domain", r->domain);
    json_out_clean(o, "uuid", r->uuid);
    json_out_clean(o, "destination", r->destination);
    json_add_u64(o, "elapsed_ms", (uint64_t)r->elapsed_ms);
    json_add_bool(json_add_bool(o, "live", r->live), "marked", r->marked);
    json_out_clean(o, "why", r->why);
    for (size_t i = 0; r->compared && i < r->ndisks; i++)
        json_object_array_add(disks, disk_json(r, &r->disks[i]));
    json_add_obj(o, "disks", disks);
    json_object_object_add(o, "error", json_out_error(&r->err));
    return o;
}

/* --- the program --- */

struct job {
    struct cancel *cancel;
    struct recheck_progress progress;
    pthread_t signals;
    int show; /* enum opts_progress */
    bool live;
};

static void show(struct job *j)
{
    const uint64_t size = atomic_load(&j->progress.size);
    const uint64_t done = atomic_load(&j->progress.compared);
    char a[UNITS_LEN], b[UNITS_LEN];

    if (size == 0)
        return;
    dprintf(STDERR_FILENO, "%scompared %s of %s (%d %%)%s", j->live ? "\r" : "",
            units_size(a, done), units_size(b, size),
            (int)(100.0 * (double)done / (double)size), j->live ? "\033[K" : "\n");
}

static void our_signals(sigset_t *set)
{
    static const int all[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1 };

    sigemptyset(set);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        sigaddset(set, all[i]);
}

/* SIGUSR1 is main's word to end. */
static void *signals_thread(void *arg)
{
    struct job *const j = arg;
    const int ms = j->live ? LIVE_MS : PLAIN_MS;
    const struct timespec wait = { ms / MS_PER_S, ms % MS_PER_S * NS_PER_MS };
    sigset_t set;
    int sig;

    our_signals(&set);
    while ((sig = sigtimedwait(&set, NULL, &wait)) != SIGUSR1) {
        if (sig > 0)
            cancel_set(j->cancel);
        else if (errno == EAGAIN && j->show != OPTS_PROGRESS_NONE)
            show(j);
    }
    if (j->live)
        dprintf(STDERR_FILENO, "\r\033[K");
    return NULL;
}

static bool start(struct job *j, const struct recheck_opts *o, struct err *e)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    our_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    j->show = o->progress;
    j->live = o->progress == OPTS_PROGRESS_AUTO && isatty(STDERR_FILENO);
    j->cancel = cancel_new();
    if (j->cancel == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "verify");
    return thread_start(&j->signals, signals_thread, j, "signals", e);
}

static void say(const struct recheck_opts *o, const struct recheck_result *r, bool utf8)
{
    AUTO(text_fini) struct text t = { .utf8 = utf8 };
    struct err e;

    if (r->err.kind != ERR_NONE)
        report_error(&t, &r->err);
    text_flush(&t, STDERR_FILENO);
    if (o->json) {
        if (!json_out_write(STDOUT_FILENO, recheck_json(r), &e))
            text_unwritten(&e);
        return;
    }
    if (r->compared)
        recheck_text(&t, r);
    text_flush(&t, STDOUT_FILENO);
}

int recheck_main(int argc, char **argv, bool utf8)
{
    static struct recheck_result r; /* large: paths of every disk */
    static struct job j;
    struct recheck_opts o;
    struct err e = { 0 };

    log_init(LOG_WARN, "src");
    if (!recheck_parse(argc, argv, &o, &e) || !fault_init(&e)) {
        err_next(&e, "See: snmigrate --help");
        return report_fail(&e, STATUS_USAGE, utf8);
    }
    if (o.help) {
        opts_help(stdout);
        return fflush(stdout) == 0 ? STATUS_OK : STATUS_USAGE;
    }
    if (!need_root(&e))
        return report_fail(&e, STATUS_REFUSED, utf8);
    if (!start(&j, &o, &e))
        return report_fail(&e, STATUS_FAILED, utf8);
    const struct recheck_cfg cfg = { .what = o.what,
                                     .cancel = j.cancel,
                                     .progress = &j.progress };
    recheck_run(&cfg, &r);
    pthread_kill(j.signals, SIGUSR1);
    pthread_join(j.signals, NULL);
    say(&o, &r, utf8);
    cancel_free(j.cancel);
    return r.status;
}
