/* nbd-mirror/command/main.c - nbd-mirror [OPTIONS] SRC DST, see nbd-mirror(1). */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/version.h"
#include "nbd-mirror/command/end.h"
#include "nbd-mirror/command/options.h"
#include "nbd-mirror/command/show.h"

/* Scripts rely on these; the man page lists them. */
enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_DIFFER = 3,
    EXIT_CANCELLED = 130
};

/* One run. */
struct job {
    const struct config *c;
    const struct cancel *cancel;
    struct end src, dst;
    bool dst_zero; /* asked for, or it has just been made */
    struct result result;
};

static struct mirror_side side_of(struct end *x)
{
    return (struct mirror_side){ end_dial, x, x->place->export_ };
}

/* --- copying --- */

static bool copy_pass(const struct job *j, struct mirror *m, struct end *from,
                      struct err *e)
{
    const struct config *c = j->c;
    const struct mirror_side src = side_of(from);
    const struct mirror_pass pass = {
        .what = c->bitmap != NULL ? MIRROR_DIRTY : MIRROR_ALL,
        .bitmap = c->bitmap,
        .dst_zero = j->dst_zero,
    };
    struct progress p = { .mirror = m };

    if (c->progress && !c->quiet && !progress_start(&p, e))
        return false;
    const bool ok = mirror_pass(m, &src, &pass, e);
    progress_end(&p);
    return ok;
}

static struct mirror_cfg copy_cfg(const struct job *j)
{
    const struct config *c = j->c;

    return (struct mirror_cfg){
        .name = "nbd-mirror",
        .size = MIRROR_SIZE_DST,
        .lanes = (unsigned)c->connections,
        .requests = (unsigned)c->requests,
        .request_size = (uint32_t)c->request_size,
        .rate = c->rate,
        .no_zero = c->no_zero,
        .cancel = j->cancel,
    };
}

static bool copy(struct job *j, struct err *e)
{
    const struct mirror_side dst = side_of(&j->dst);
    const struct mirror_cfg cfg = copy_cfg(j);
    AUTO(mirror_close) struct mirror *m = NULL;

    if (!mirror_open(&cfg, &dst, &m, e))
        return false;
    j->result.copied = copy_pass(j, m, &j->src, e) && mirror_flush(m, e);
    mirror_stats(m, &j->result.stats);
    return j->result.copied;
}

/* --- comparing --- */

static void on_differs(void *ctx, uint64_t off, uint64_t len)
{
    struct job *j = ctx;
    struct result *r = &j->result;

    if (r->ndiffer < LISTED_MAX)
        r->differ[r->ndiffer++] = (struct mirror_range){ off, len };
    if (!j->c->json && !j->c->quiet)
        show_differs(off, len);
}

static bool compare_run(struct job *j, const struct verify_cfg *cfg, struct err *e)
{
    const struct mirror_side src = side_of(&j->src), dst = side_of(&j->dst);
    const struct mirror_cfg how = copy_cfg(j);
    struct verify_result *const out = &j->result.verify;

    return j->c->repair ? verify_repair(cfg, &how, &src, &dst, out, e)
                        : verify_run(cfg, &src, &dst, out, e);
}

static bool compare(struct job *j, struct err *e)
{
    counter compared = 0;
    const struct verify_cfg cfg = {
        .name = "nbd-mirror",
        .size = MIRROR_SIZE_DST,
        .connections = (unsigned)j->c->connections,
        .requests = (unsigned)j->c->requests,
        .cancel = j->cancel,
        .differs = on_differs,
        .ctx = j,
        .compared = &compared,
    };
    struct progress p = { .compared = &compared, .size = j->result.survey.size };

    if (j->c->progress && !j->c->quiet && !progress_start(&p, e))
        return false;
    j->result.compared = compare_run(j, &cfg, e);
    progress_end(&p);
    return j->result.compared;
}

/* --- the run --- */

static bool survey(struct job *j, struct end *x, bool deep, struct survey *out,
                   struct err *e)
{
    const struct mirror_side side = side_of(x);

    return survey_run(&side, x->side, deep ? j->c->bitmap : NULL, deep, j->cancel, out,
                      e) &&
           end_rest(x, e);
}

/* Ask both; a file that is yet to be made is not there to be asked. */
static bool dry_run(struct job *j, struct err *e)
{
    struct survey dst;

    j->result.dry_run = true;
    if (!survey(j, &j->src, true, &j->result.survey, e))
        return false;
    if (j->c->create)
        return true;
    if (!end_open(&j->dst, "dst", &j->c->dst, false, e) ||
        !survey(j, &j->dst, false, &dst, e))
        return false;
    if (dst.size != j->result.survey.size)
        return err_set(e, ERR_PROTO, 0,
                       "src: the export has %" PRIu64 " bytes, not %" PRIu64,
                       j->result.survey.size, dst.size);
    if (dst.read_only && j->c->dst.format == NULL) /* a file is only opened so */
        return err_set(e, ERR_NBD, EROFS, "dst: cannot write to the export");
    return true;
}

static bool prepare(struct job *j, struct err *e)
{
    const struct config *c = j->c;

    j->dst_zero = c->dst_zero;
    if ((c->create || ((c->verify || c->repair) && c->progress)) &&
        !survey(j, &j->src, false, &j->result.survey, e))
        return false;
    if (c->create) {
        if (!end_create(&j->dst, &c->dst, j->result.survey.size, e))
            return false;
        j->dst_zero = !c->no_zero;
    }
    return end_open(&j->dst, "dst", &c->dst, !c->no_copy || c->repair, e);
}

static bool job_run(struct job *j, struct err *e)
{
    const struct config *c = j->c;

    if (!end_open(&j->src, "src", &c->src, false, e))
        return false;
    if (c->dry_run)
        return dry_run(j, e);
    if (!prepare(j, e) || (!c->no_copy && !copy(j, e)))
        return false;
    if (!c->verify && !c->repair)
        return true;
    return (c->no_copy || (end_rest(&j->src, e) && end_rest(&j->dst, e))) &&
           compare(j, e);
}

/* The servers that were started must have ended well: then the file is complete. */
static bool job_do(struct job *j, struct err *e)
{
    if (job_run(j, e) && end_close(&j->src, e) && end_close(&j->dst, e)) {
        end_keep(&j->dst);
        return true;
    }
    if (e->kind != ERR_CANCELLED && e->kind != ERR_USAGE) {
        end_blame(&j->src, e);
        end_blame(&j->dst, e);
    }
    return false;
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

static int exit_status(const struct result *r, const struct err *e)
{
    if (e == NULL)
        return r->compared && r->verify.differ > 0 ? EXIT_DIFFER : EXIT_OK;
    if (e->kind == ERR_USAGE)
        return EXIT_USAGE;
    return e->kind == ERR_CANCELLED ? EXIT_CANCELLED : EXIT_FAILED;
}

static int run(const struct config *c)
{
    static struct job j;
    const int64_t begun = clock_ms();
    struct err e;

    j = (struct job){ .c = c,
                      .src = { .server = PROC_NONE },
                      .dst = { .server = PROC_NONE } };
    bool ok = catch_signals(&e);
    j.cancel = j.src.cancel = j.dst.cancel = interrupted;
    ok = ok && job_do(&j, &e);
    end_drop(&j.src);
    end_drop(&j.dst);
    j.result.ms = clock_ms() - begun;
    if (!ok)
        show_error(&e);
    if (c->json)
        show_json(&j.result, ok ? NULL : &e);
    else if (ok && !c->quiet)
        show_summary(&j.result);
    return exit_status(&j.result, ok ? NULL : &e);
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

    if (!options_parse(argc, argv, &c, &e)) {
        show_error(&e);
        fputs("See nbd-mirror --help.\n", stderr);
        return EXIT_USAGE;
    }
    if (c.help) {
        options_help();
        return finish(EXIT_OK);
    }
    if (c.version) {
        puts("nbd-mirror " SNMIGRATE_VERSION);
        return finish(EXIT_OK);
    }
    log_init(c.verbose ? LOG_DEBUG : LOG_WARN, "nbd-mirror");
    return finish(run(&c));
}
