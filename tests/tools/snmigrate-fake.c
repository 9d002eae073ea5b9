/* snmigrate with a move that moves nothing: the command line, the displays and the
 * reports can be seen and tested without two hosts.
 *
 * The move follows a script in time; by environment:
 *
 *   FAKE_MS=N       length in milliseconds (2000)
 *   FAKE_STATUS=N   how it ends: an exit status of snmigrate(1) (0); it fails at 60 %
 *   FAKE_DISKS=N    how many disks (2)
 *   FAKE_NAME=TEXT  the domain's name as libvirt gives it (DOMAIN)
 *   FAKE_LOG=N      a log line every N ms
 *   FAKE_UNDO_MS=N  how long undoing takes (600)
 */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "migrate/discard.h"
#include "migrate/guard.h"
#include "migrate/move.h"
#include "migrate/recheck.h"
#include "migrate/recover.h"

struct move {
    const struct move_cfg *cfg;
    struct cancel *cancel;
    int64_t started_ms, length_ms;
    int status;
    pthread_mutex_t lock; /* guards progress */
    struct move_progress progress;
};

/* clang-format off */
static const char *const phase_names[MOVE_PHASES] = {
    "connect", "preflight", "forecast", "prepare", "bulk",      "rounds",
    "memory",  "switch",    "commit",   "finish",  "undo",      "reconnect",
    "done",
};
static const char *const where_names[] = {
    "source", "destination", "nowhere", "unknown",
};

/* Share of the time at which each phase begins. */
static const double begins[] = {
    [MOVE_CONNECT] = 0, [MOVE_PREFLIGHT] = 0.08,
    [MOVE_FORECAST] = 0.12, [MOVE_PREPARE] = 0.12,
    [MOVE_BULK] = 0.18, [MOVE_ROUNDS] = 0.5, [MOVE_MEMORY] = 0.62,
    [MOVE_SWITCH] = 0.8, [MOVE_COMMIT] = 0.84,
    [MOVE_FINISH] = 0.86, [MOVE_UNDO] = 1,
};
/* clang-format on */

static const uint64_t MIB = 1 << 20, GIB = 1 << 30;

const char *move_phase_name(enum move_phase p)
{
    return phase_names[p];
}

const char *move_where_name(enum move_where w)
{
    return where_names[w];
}

static long env_number(const char *name, long dflt)
{
    const char *const s = getenv(name);

    return s != NULL ? strtol(s, NULL, 10) : dflt;
}

static const char *domain_name(const struct move_cfg *cfg)
{
    const char *const s = getenv("FAKE_NAME");

    return s != NULL ? s : cfg->domain;
}

struct move *move_new(const struct move_cfg *cfg, struct cancel *cancel)
{
    struct move *const m = calloc(1, sizeof *m);
    struct move_progress *const p = &m->progress;

    if (m == NULL)
        return NULL;
    m->cfg = cfg;
    m->cancel = cancel;
    m->length_ms = env_number("FAKE_MS", 2000);
    m->status = (int)env_number("FAKE_STATUS", 0);
    if (cfg->check_only && m->status != 3 && m->status != 9)
        m->status = 0;
    pthread_mutex_init(&m->lock, NULL);
    snprintf(p->domain, sizeof p->domain, "%s", domain_name(cfg));
    snprintf(p->dest, sizeof p->dest, "%s", cfg->dest.host);
    p->ratio = 1;
    p->rtt_us = p->predicted_pause_ms = p->eta_ms = -1;
    p->budget_ms = cfg->max_downtime_ms;
    return m;
}

static void disk_at(struct move_gauge *g, size_t i, double t)
{
    const double share =
        fmin(1, (t - begins[MOVE_BULK]) / (0.32 + 0.02 * (double)(i % 3)));
    const uint64_t total = (12 + 5 * i) * GIB / 4;

    snprintf(g->name, sizeof g->name, "vd%c", (char)('a' + i % 26));
    g->size = (20 + 8 * i) * GIB;
    g->dirty_rate = i == 0 ? 1.2e6 : 0;
    if (t < begins[MOVE_ROUNDS]) {
        g->total = total;
        g->done = (uint64_t)(fmax(0, share) * (double)total);
        g->rate = share < 1 ? 92e6 / (double)(i + 1) : 0;
        g->dirty = (uint64_t)(fmax(0, share) * (double)(i == 0 ? 60 * MIB : 0));
    } else {
        g->total = i == 0 ? 24 * MIB : 0;
        g->done = (uint64_t)(fmod(t * 20, 1) * (double)g->total);
        g->rate = i == 0 ? 31e6 : 0;
        g->dirty = (uint64_t)((1 - t) * (double)(i == 0 ? 40 * MIB : 0));
    }
}

static void ram_at(struct move_gauge *g, double t)
{
    const double share =
        (t - begins[MOVE_MEMORY]) / (begins[MOVE_SWITCH] - begins[MOVE_MEMORY]);

    if (share < 0)
        return;
    snprintf(g->name, sizeof g->name, "RAM");
    g->size = g->total = 4 * GIB;
    g->done = (uint64_t)(fmin(1, share) * (double)g->total);
    g->rate = 110e6;
    g->dirty_rate = 8.4e6;
}

/* @t: 0 to 1 */
static void progress_at(struct move_progress *p, double t)
{
    p->phase = MOVE_CONNECT;
    while (p->phase < MOVE_FINISH && t >= begins[p->phase + 1])
        p->phase++;
    p->why[0] = '\0';
    if (p->phase < MOVE_BULK)
        return;
    p->ndisks = (size_t)env_number("FAKE_DISKS", 2);
    for (size_t i = 0; i < p->ndisks; i++)
        disk_at(&p->disks[i], i, t);
    ram_at(&p->ram, t);
    p->round = t < begins[MOVE_ROUNDS] ? 0 : 1 + (unsigned)((t - 0.5) * 20);
    p->sent = (uint64_t)(t * 4e9);
    p->sent_rate = 57e6;
    p->ratio = 1.9;
    p->rtt_us = 1240;
    p->predicted_pause_ms = (int64_t)(4000 * (1 - t));
    p->eta_ms = (int64_t)(90000 * (1 - t));
    p->trend = t < 0.3   ? MOVE_TREND_UNKNOWN
               : t < 0.4 ? MOVE_TREND_STEADY
                         : MOVE_TREND_CONVERGING;
    if (p->phase == MOVE_ROUNDS)
        snprintf(p->why, sizeof p->why,
                 "24.0 MiB of disks and 4.0 GiB of memory do not fit "
                 "into a pause of %llu ms yet",
                 (unsigned long long)p->budget_ms);
}

/* Until @share of the time is over; false: cancelled. */
static bool play(struct move *m, double share)
{
    const int64_t log_ms = env_number("FAKE_LOG", 0);
    int64_t log_at = m->started_ms;
    struct err e;

    for (;;) {
        const int64_t now = clock_ms();
        const double t = (double)(now - m->started_ms) / (double)m->length_ms;

        if (t >= share)
            return true;
        pthread_mutex_lock(&m->lock);
        m->progress.elapsed_ms = now - m->started_ms;
        progress_at(&m->progress, t);
        pthread_mutex_unlock(&m->lock);
        if (log_ms > 0 && now >= log_at) {
            log_warn("fake",
                     "a line that is \033[31mlonger\033[0m than many terminals are "
                     "wide, at %.0f %%, to see whether it tears the display",
                     t * 100);
            log_at = now + log_ms;
        }
        if (t >= begins[MOVE_COMMIT]) /* no way back from here */
            clock_sleep_ms(10);
        else if (!cancel_sleep_ms(m->cancel, 10, &e))
            return false;
    }
}

static void undo(struct move *m)
{
    const int64_t end = clock_ms() + env_number("FAKE_UNDO_MS", 600);

    while (clock_ms() < end) {
        pthread_mutex_lock(&m->lock);
        m->progress.elapsed_ms = clock_ms() - m->started_ms;
        m->progress.phase = MOVE_UNDO;
        m->progress.why[0] = '\0';
        pthread_mutex_unlock(&m->lock);
        clock_sleep_ms(10);
    }
}

static void end_as(struct move_result *r)
{
    /* clang-format off */
    static const struct {
        int status;
        enum move_where where;
        enum err_kind kind;
        const char *what, *next;
    } ends[] = {
        { 0, MOVE_AT_DESTINATION, ERR_NONE, "", "" },
        { 3, MOVE_AT_SOURCE, ERR_REFUSED, "it cannot move: 2 blockers", "" },
        { 4, MOVE_AT_SOURCE, ERR_SYS,
          "phase bulk: vda: dst: write of 65536 bytes at 3221225472: No space left on device",
          "Make room in /var/lib/images on hostb and run the same command again." },
        { 5, MOVE_NOWHERE, ERR_GUEST,
          "the guest ended, or its QEMU died, during the move", "" },
        { 6, MOVE_AT_DESTINATION, ERR_NONE, "", "" },
        { 7, MOVE_UNKNOWN, ERR_UNRESOLVED,
          "the guest waits, paused and complete, on hostb, which does not answer",
          "When it answers: snmigrate recover web01.  Never start the copy here." },
        { 8, MOVE_AT_SOURCE, ERR_STALLED,
          "memory is written at 210.0 MiB/s, the link carries 57.0 MiB/s", "" },
        { 9, MOVE_UNKNOWN, ERR_CONNECT,
          "ssh: connect to host hostb port 22: Connection refused", "" },
        { 130, MOVE_AT_SOURCE, ERR_CANCELLED, "interrupted", "" },
    };
    /* clang-format on */
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        if (ends[i].status != r->status)
            continue;
        r->where = ends[i].where;
        err_set(&r->err, ends[i].kind, 0, "%s", ends[i].what);
        err_next(&r->err, "%s", ends[i].next);
        return;
    }
}

static void fill_disks(const struct move *m, struct move_result *r)
{
    r->ndisks = (size_t)env_number("FAKE_DISKS", 2);
    for (size_t i = 0; i < r->ndisks; i++) {
        const char *const dir = m->cfg->disks_to != NULL ? m->cfg->disks_to : "/srv/vm";

        snprintf(r->disks[i].target, sizeof r->disks[i].target, "vd%c",
                 (char)('a' + i % 26));
        snprintf(r->disks[i].src, sizeof r->disks[i].src, "/srv/vm/%.100s-%zu.img",
                 r->domain, i);
        snprintf(r->disks[i].dst, sizeof r->disks[i].dst, "%s/%.100s-%zu.img", dir,
                 r->domain, i);
        snprintf(r->disks[i].format, sizeof r->disks[i].format, "%s",
                 i % 2 ? "qcow2" : "raw");
        r->disks[i].size = (20 + 8 * i) * GIB;
    }
}

static void fill_texts(const struct move *m, struct move_result *r)
{
    if (r->status == 3) {
        findings_add(&r->findings, FINDING_BLOCKER, "target-exists",
                     "Remove it, or choose another directory with --disks-to.",
                     "%s exists on hostb already", r->disks[0].dst);
        findings_add(
            &r->findings, FINDING_BLOCKER, "no-bridge", "Make it, or edit the domain.",
            "the bridge br0 of the network card 52:54:00:00:00:01 is missing on hostb");
    }
    if (r->status == 3 || r->status == 0)
        findings_add(&r->findings, FINDING_WARNING, "cpu-older", NULL,
                     "hostb has an older CPU; the guest's model is available there");
    if (r->where != MOVE_AT_DESTINATION || m->cfg->check_only)
        return;
    for (size_t i = 0; i < r->ndisks; i++)
        texts_add(&r->notes, "the old disk %s stays on hosta: %s", r->disks[i].target,
                  r->disks[i].src);
    if (r->status == 6)
        texts_add(&r->left, "on hosta: virsh undefine %s (cannot reach libvirt)",
                  r->domain);
}

void move_run(struct move *m, struct move_result *out)
{
    memset(out, 0, sizeof *out);
    m->started_ms = clock_ms();
    const bool early = m->status == 3 || m->status == 9 || m->cfg->check_only;
    const bool late = m->status == 0 || m->status == 6;
    const bool cancelled = !play(m, early ? 0.12 : late ? 1 : 0.6);

    if (cancelled || !(early || late))
        undo(m);
    out->status = cancelled ? 130 : m->status;
    snprintf(out->domain, sizeof out->domain, "%s", domain_name(m->cfg));
    snprintf(out->uuid, sizeof out->uuid, "6a1d5c1e-0f6b-4f0e-9d3f-2f2b8c8f8a11");
    snprintf(out->id, sizeof out->id, "0123456789abcdef0123456789abcdef");
    snprintf(out->source_host, sizeof out->source_host, "hosta");
    snprintf(out->dest_host, sizeof out->dest_host, "%s", m->cfg->dest.host);
    snprintf(out->state, sizeof out->state, "running");
    end_as(out);
    if (m->cfg->check_only && out->status == 0)
        out->where = MOVE_AT_SOURCE;
    out->pause_ms = late && !early && !cancelled ? 87 : -1;
    out->budget_ms = m->cfg->max_downtime_ms;
    out->pause.total_ms = out->pause_ms;
    if (out->pause_ms > 0)
        out->pause.ms[PAUSE_ROUND] = out->pause_ms;
    out->forecast = (struct forecast){ .made = !early,
                                       .converges = true,
                                       .in = { .disk_ratio = 1, .ram_ratio = 1 } };
    out->elapsed_ms = clock_ms() - m->started_ms;
    if (!early) {
        out->rounds = 7;
        out->disk_bytes = m->progress.sent * 3 / 2;
        out->verified = (struct move_verified){ .done = true, .compared = 32 << 20 };
        out->ram_bytes = late && !cancelled ? 4 * GIB + 200 * MIB : 0;
        out->sent = m->progress.sent;
        out->received = m->progress.sent / 1000;
    }
    fill_disks(m, out);
    fill_texts(m, out);
    pthread_mutex_lock(&m->lock);
    m->progress.phase = MOVE_DONE;
    pthread_mutex_unlock(&m->lock);
}

void move_progress(struct move *m, struct move_progress *out)
{
    LOCK_SCOPE(&m->lock);
    *out = m->progress;
}

void move_free(struct move *m)
{
    if (m == NULL)
        return;
    pthread_mutex_destroy(&m->lock);
    free(m);
}

void move_result_fini(struct move_result *r)
{
    findings_fini(&r->findings);
}

int agent_main(void)
{
    printf("agent\n");
    return 40;
}

/* There never is one. */
bool recover_run(const struct recover_cfg *cfg, recover_each each, void *ctx,
                 struct err *e)
{
    (void)each, (void)ctx;
    return cfg->what == NULL ||
           err_set(e, ERR_REFUSED, 0, "this host has no unfinished move of '%s'",
                   cfg->what);
}

/* There never was one. */
void discard_run(const struct discard_cfg *cfg, struct discard_result *out)
{
    memset(out, 0, sizeof *out);
    if (!err_set(&out->err, ERR_REFUSED, 0, "no move of '%s' has left anything",
                 cfg->what))
        out->status = 3;
}

void recheck_run(const struct recheck_cfg *cfg, struct recheck_result *out)
{
    memset(out, 0, sizeof *out);
    if (!err_set(&out->err, ERR_REFUSED, 0, "no finished move of '%s' is known",
                 cfg->what))
        out->status = 3;
}

int guard_main(void)
{
    printf("guard\n");
    return 41;
}

int main(int argc, char **argv)
{
    return cli_main(argc, argv);
}
