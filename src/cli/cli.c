/* From the arguments to the exit status.
 *
 * Threads: main runs the move and, when it is over, says what came of it; "display"
 * shows it meanwhile; "signals" is the only one that takes signals, all others have them
 * blocked.
 *
 *   SIGINT SIGTERM SIGHUP  the first one cancels the move, which then undoes what it
 *                          did, or goes on where it can only go forward; later ones
 *                          only say so
 *   SIGTSTP                refused: stopped, we could leave the guest paused
 *   SIGPIPE SIGTTOU        ignored: nobody listens, or a job in the background speaks
 */
#include "cli/cli.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "base/unix.h"
#include "base/version.h"
#include "cli/discard.h"
#include "cli/display.h"
#include "cli/json_out.h"
#include "cli/list.h"
#include "cli/opts.h"
#include "cli/recheck.h"
#include "cli/recover.h"
#include "cli/remote.h"
#include "cli/report.h"
#include "migrate/guard.h"
#include "migrate/move.h"
#include "migrate/status.h"

/* What main and "signals" share; all of it is constant or does its own locking. */
struct cli {
    struct opts opts;
    struct cancel *cancel;
    struct move *move;
    struct display *display;
    pthread_t signals;
    bool utf8;
};

/* --- signals --- */

/* Those that "signals" waits for; SIGUSR1 is main's word to end. */
static void our_signals(sigset_t *set)
{
    static const int all[] = { SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGUSR1 };

    sigemptyset(set);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        sigaddset(set, all[i]);
}

static void interrupted(struct cli *c, unsigned times)
{
    struct move_progress p;

    move_progress(c->move, &p);
    if (p.phase == MOVE_DONE)
        return;
    cancel_set(c->cancel);
    if (p.released && p.phase != MOVE_UNDO)
        display_note(c->display, "too late to go back: finishing at %s, please wait",
                     p.dest);
    else if (times > 1)
        display_note(c->display, "ending, please wait: not in the middle of it");
    else
        display_note(c->display,
                     "interrupted: ending the move, %s goes on running here", p.domain);
}

static void *signals_thread(void *arg)
{
    struct cli *const c = arg;
    unsigned times = 0;
    sigset_t set;
    int sig;

    our_signals(&set);
    while (sigwait(&set, &sig) == 0 && sig != SIGUSR1) {
        if (sig == SIGTSTP)
            display_note(c->display,
                         "a move cannot be stopped and continued; Ctrl-C cancels it");
        else
            interrupted(c, ++times);
    }
    return NULL;
}

/* Before any thread is made: they inherit the mask. */
static void signals_block(void)
{
    const struct sigaction ignore = { .sa_handler = SIG_IGN };
    sigset_t set;

    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGTTOU, &ignore, NULL);
    our_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* --- showing the move --- */

static void progress(void *ctx, struct move_progress *out)
{
    move_progress(ctx, out);
}

static enum display_mode display_mode(const struct opts *o)
{
    if (o->quiet || o->progress == OPTS_PROGRESS_NONE)
        return DISPLAY_NONE;
    if (o->progress == OPTS_PROGRESS_PLAIN)
        return DISPLAY_PLAIN;
    return o->json ? DISPLAY_NONE : display_best_mode(STDERR_FILENO);
}

static enum log_level log_level(const struct opts *o)
{
    const unsigned level = LOG_WARN + o->verbose;

    if (o->quiet)
        return LOG_ERROR;
    return level < LOG_TRACE ? (enum log_level)level : LOG_TRACE;
}

static const struct move_words words = { json_out_progress, json_out_result };

MUST_CHECK static bool start(struct cli *c, struct err *e)
{
    const struct opts *const o = &c->opts;
    struct display_cfg d = { .mode = display_mode(o),
                             .json = o->json && !o->quiet,
                             .out = STDOUT_FILENO,
                             .err = STDERR_FILENO,
                             .utf8 = c->utf8,
                             .colour = display_wants_colour(),
                             .progress = progress };

    c->opts.move.words = &words;
    log_init(log_level(o), "src");
    signals_block();
    c->cancel = cancel_new();
    c->move = c->cancel != NULL ? move_new(&o->move, c->cancel) : NULL;
    if (c->move == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "cannot start");
    d.ctx = c->move;
    if (!display_start(&d, &c->display, e))
        return false;
    if (thread_start(&c->signals, signals_thread, c, "signals", e))
        return true;
    display_stop(c->display);
    c->display = NULL;
    return false;
}

static void stop(struct cli *c)
{
    pthread_kill(c->signals, SIGUSR1);
    pthread_join(c->signals, NULL);
    display_stop(c->display);
    c->display = NULL;
}

/* --- saying what came of it --- */

static void say_json(const struct move_cfg *cfg, const struct move_result *r)
{
    struct err e;
    bool ok = true;

    for (size_t i = 0; ok && i < r->findings.n; i++)
        ok = json_out_write(STDOUT_FILENO, json_out_finding(&r->findings.list[i]), &e);
    if (ok && cfg->check_only && r->forecast.made)
        ok = json_out_write(STDOUT_FILENO, json_out_forecast(&r->forecast), &e);
    if (!ok || !json_out_write(STDOUT_FILENO, json_out_result(cfg, r), &e))
        text_unwritten(&e);
}

static void say_result(const struct cli *c, const struct move_result *r)
{
    const struct opts *const o = &c->opts;
    const bool report = !o->json && !o->quiet;
    AUTO(text_fini) struct text t = { .utf8 = c->utf8 };

    /* A check that finds blockers has done what it was asked: its report lists them. */
    if (!(report && o->move.check_only && r->status == STATUS_REFUSED &&
          r->findings.n > 0))
        report_failure(&t, &o->move, r, !report);
    text_flush(&t, STDERR_FILENO);
    if (o->json)
        say_json(&o->move, r);
    if (report)
        report_result(&t, &o->move, r);
    text_flush(&t, STDOUT_FILENO);
}

/* --- the program --- */

static int run_move(struct cli *c)
{
    static struct move_result r; /* over half a megabyte: not for the stack */
    struct err e = { 0 };
    const bool started = start(c, &e);

    if (started) {
        move_run(c->move, &r);
        stop(c);
        say_result(c, &r);
        move_result_fini(&r);
    }
    move_free(c->move);
    cancel_free(c->cancel);
    return started ? r.status : report_fail(&e, STATUS_FAILED, c->utf8);
}

static int run_help(const struct opts *o)
{
    if (o->help)
        opts_help(stdout);
    else
        printf("snmigrate %s\n", SNMIGRATE_VERSION);
    return fflush(stdout) == 0 ? STATUS_OK : STATUS_USAGE;
}

/* "snmigrate agent" and "snmigrate guard", which snmigrate runs itself.  A move has two
 * words, so that a domain may bear these names, too. */
static int hidden_main(const char *name, int (*run)(void))
{
    if (isatty(STDIN_FILENO)) {
        fprintf(stderr,
                "snmigrate: error: snmigrate starts \"snmigrate %s\" itself; see "
                "snmigrate --help\n",
                name);
        return STATUS_USAGE;
    }
    return run();
}

int cli_main(int argc, char **argv)
{
    static struct cli c;
    struct err e = { 0 };

    if (argc == 2 && strcmp(argv[1], "agent") == 0)
        return hidden_main(argv[1], agent_main);
    if (argc == 2 && strcmp(argv[1], "guard") == 0)
        return hidden_main(argv[1], guard_main);
    if (argc >= 2 && strcmp(argv[1], "recover") == 0)
        return recover_main(argc, argv);

    if (argc == 2 && strcmp(argv[1], "help") == 0) {
        c.opts.help = true;
        return run_help(&c.opts);
    }
    setlocale(LC_CTYPE, "");
    c.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    if (argc > 1 && remote_is_command(argv[1]))
        return remote_main(argc - 1, argv + 1, c.utf8);
    if (argc > 1 && strcmp(argv[1], "list") == 0)
        return list_main(argc - 1, argv + 1, c.utf8);
    if (argc > 1 && strcmp(argv[1], "discard") == 0)
        return discard_main(argc - 1, argv + 1, c.utf8);
    if (argc > 1 && strcmp(argv[1], "verify") == 0)
        return recheck_main(argc - 1, argv + 1, c.utf8);
    if (!opts_parse(argc, argv, &c.opts, &e))
        return report_fail(&e, STATUS_USAGE, c.utf8);
    return c.opts.help || c.opts.version ? run_help(&c.opts) : run_move(&c);
}
