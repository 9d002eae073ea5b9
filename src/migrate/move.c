/* The whole move, read top to bottom in phases[]; and the result, asked of both sides. */
#include "migrate/move.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/unix.h"
#include "migrate/move-int.h"
#include "migrate/phases.h"
#include "migrate/status.h"
#include "nbd-mirror/hot.h"

/* For a restarted libvirtd to answer: it may end for 30 s. */
enum { LIBVIRT_AGAIN_MS = 60000 };

/* clang-format off */
static const struct phase phases[] = {
    /*  name        run            undo          again     commit */
    { "connect",   connect_run,   NULL,          NULL,     false },
    { "preflight", preflight_run, NULL,          NULL,     false },
    { "prepare",   prepare_run,   prepare_undo,  NULL,     false },
    { "track",     track_run,     track_undo,    NULL,     false },
    { "bulk",      bulk_run,      NULL,          "bulk",   false },
    { "rounds",    rounds_run,    converge_undo, "rounds", false },
    { "memory",    memory_run,    memory_undo,   "rounds", false },
    { "switch",    switch_run,    switch_undo,   "rounds", false },
    { "commit",    commit_run,    NULL,          NULL,     true  },
    { "finish",    finish_run,    NULL,          NULL,     false },
};
/* --check */
static const struct phase check_phases[] = {
    { "connect",   connect_run,   NULL,          NULL,     false },
    { "preflight", preflight_run, NULL,          NULL,     false },
    { "forecast",  forecast_run,    forecast_undo,   NULL,     false },
};

static const char *const phase_names[] = {
    [MOVE_CONNECT] = "connect", [MOVE_PREFLIGHT] = "preflight",
    [MOVE_FORECAST] = "forecast", [MOVE_PREPARE] = "prepare", [MOVE_BULK] = "bulk", [MOVE_ROUNDS] = "rounds",
    [MOVE_MEMORY] = "memory", [MOVE_SWITCH] = "switch", [MOVE_COMMIT] = "commit",
    [MOVE_FINISH] = "finish", [MOVE_UNDO] = "undo",
    [MOVE_RECONNECT] = "reconnect", [MOVE_DONE] = "done",
};
static_assert(sizeof phase_names / sizeof phase_names[0] == MOVE_PHASES,
              "phase_names[] and enum move_phase differ");

static const char *const where_names[] = {
    [MOVE_AT_SOURCE] = "source", [MOVE_AT_DESTINATION] = "destination",
    [MOVE_NOWHERE] = "nowhere", [MOVE_UNKNOWN] = "unknown",
};
/* clang-format on */

const char *move_phase_name(enum move_phase p)
{
    return phase_names[p];
}

const char *move_where_name(enum move_where w)
{
    return where_names[w];
}

struct move *move_new(const struct move_cfg *cfg, struct cancel *cancel)
{
    struct move *const m = calloc(1, sizeof *m);

    if (m == NULL)
        return NULL;
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->copy_ended, NULL);
    m->cfg = cfg;
    m->user = cancel;
    m->lock_fd = -1;
    m->qemu_pidfd = -1;
    m->pause_ms = m->pause.total_ms = -1;
    m->fixed_ms = SWITCH_FIXED_MS;
    m->progress.rtt_us = -1;
    m->progress.predicted_pause_ms = -1;
    m->progress.eta_ms = -1;
    m->progress.ratio = 1;
    m->progress.budget_ms = cfg->max_downtime_ms;
    atomic_init(&m->budget_ms, cfg->max_downtime_ms);
    m->progress.rate_limit = cfg->bandwidth;
    m->progress.guest_write_ms = m->latency.worst_ms = -1;
    atomic_init(&m->hold, cfg->hold);
    atomic_init(&m->bandwidth, cfg->bandwidth);
    atomic_init(&m->guest_latency_ms, cfg->guest_latency_ms);
    snprintf(m->progress.domain, sizeof m->progress.domain, "%s", cfg->domain);
    snprintf(m->progress.dest, sizeof m->progress.dest, "%s", cfg->dest.host);
    return m;
}

void move_free(struct move *m)
{
    if (m == NULL)
        return;
    dominfo_fini(&m->info);
    findings_fini(&m->findings);
    slow_free(&m->slow);
    for (size_t i = 0; i < DOMXML_DISKS_MAX; i++)
        hot_free(m->copies[i].hot);
    free(m->kept);
    free(m->xml_live);
    free(m->xml_inactive);
    free(m->dest_xml);
    free(m->persist_xml);
    if (m->qemu_pidfd >= 0)
        close(m->qemu_pidfd);
    free(m->guard); /* not dismissed: it acts when this process has ended */
    cancel_free(m->halt);
    pthread_cond_destroy(&m->copy_ended);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

uint64_t move_budget(const struct move *m)
{
    return atomic_load(&m->budget_ms);
}

uint64_t move_pause_max(const struct move *m)
{
    const uint64_t allowed = atomic_load(&m->allowed_ms);

    return (allowed > move_budget(m) ? allowed : move_budget(m)) + PAUSE_SLACK_MS;
}

void move_enter(struct move *m, enum move_phase phase)
{
    log_debug("phase", "%s", phase_names[phase]);
    if (phase == MOVE_SWITCH)
        limit_no_latency(m);
    LOCK_SCOPE(&m->lock);
    m->progress.phase = phase;
    if (phase != MOVE_SWITCH) /* which the newest decision is the reason for */
        m->progress.why[0] = m->progress.decision[0] = '\0';
    if (m->facts.name[0] != '\0')
        snprintf(m->progress.domain, sizeof m->progress.domain, "%s", m->facts.name);
    if (phase != MOVE_PREPARE)
        return;
    m->progress.ndisks = m->plan.n;
    for (size_t i = 0; i < m->plan.n; i++) {
        struct move_gauge *const g = &m->progress.disks[i];

        snprintf(g->name, sizeof g->name, "%s", m->plan.disks[i].target);
        g->size = m->plan.disks[i].size;
        g->dirty_rate = -1;
    }
}

void move_progress(struct move *m, struct move_progress *out)
{
    LOCK_SCOPE(&m->lock);
    *out = m->progress;
}

/* It ran when we came, and does not any more: that is why nothing else worked. */
static bool ended_early(struct move *m)
{
    enum vdom_run run;
    enum vdom_why why;
    struct err e = { 0 };

    return m->dom != NULL && m->facts.id >= 0 && vdom_state(m->dom, &run, &why, &e) &&
           run == VDOM_OFF;
}

const char *move_start_words(const struct move *m, char words[MOVE_START_MAX])
{
    snprintf(words, MOVE_START_MAX,
             m->facts.persistent ? "virsh start %.255s"
                                 : "%.255s was transient: virsh create, with its XML",
             m->facts.name);
    return words;
}

bool move_guest_ended(const struct move *m, struct err *e)
{
    char words[MOVE_START_MAX];

    err_set(e, ERR_GUEST, 0, "the guest ended, or its QEMU died, during the move");
    return err_next(e, "Its disks on this host are intact: %s",
                    move_start_words(m, words));
}

/* The first cause: what copying, QMP or libvirt said is only what it led to.  A verdict
 * that was reached on purpose stays. */
static void move_failed(struct move *m, struct err *e)
{
    struct err se = { 0 };

    m->failed_in = m->progress.phase;
    /* Others there would suffer from what is kept; and RAM is gone with a guest. */
    m->no_keep |= e->os == ENOSPC || e->os == EDQUOT || e->kind == ERR_GUEST;
    log_debug("phase", "%s failed: %s", phase_names[m->failed_in], e->msg);
    move_enter(m, MOVE_UNDO);
    /* A libvirtd that was restarted has dropped our connection, and both the undo and
     * the word on where the guest is need it. */
    const bool begun = m->failed_in > MOVE_PREFLIGHT;
    const bool dropped = m->dom != NULL && !owner_source_alive(m, &se);

    if (dropped && !owner_source(m, LIBVIRT_AGAIN_MS, &se))
        log_warn("undo", "%s", se.msg);
    if (!begun && !cancel_is_set(m->user) && ended_early(m)) {
        move_guest_ended(m, e);
        return;
    }
    if (e->kind == ERR_GUEST || e->kind == ERR_UNRESOLVED || e->kind == ERR_REFUSED ||
        e->kind == ERR_STALLED || (e->kind == ERR_CONNECT && !begun))
        return;
    if (cancel_is_set(m->user)) {
        err_set(e, ERR_CANCELLED, 0, "interrupted");
    } else if (m->qemu_pidfd >= 0 && proc_ended(m->qemu_pidfd)) {
        move_guest_ended(m, e);
    } else if (atomic_load(&m->over_time)) {
        err_set(e, ERR_TIMEOUT, 0, "the pause would have lasted more than %d ms",
                (int)move_pause_max(m));
        err_next(e, "Run it again, or allow more with --max-downtime.");
    } else if (m->link != NULL && link_state(m->link) == LINK_BROKEN) {
        link_cause(m->link, e);
        err_wrap(e, "lost the link to %s", m->cfg->dest.host);
        err_next(e, "Run the same command again when the link is back.");
    } else if (dropped || (!begun && m->dst != NULL && !virt_alive(m->dst))) {
        err_wrap(e, "lost the connection to libvirt on %s",
                 dropped ? "this host" : m->cfg->dest.host);
        err_next(e, "Run the same command again.");
        if (!begun)
            e->kind = ERR_CONNECT;
    }
}

/* --- the result --- */

static int status_of(const struct move *m, const struct err *e)
{
    const enum move_phase failed = m->failed_in;

    switch (e->kind) {
    case ERR_NONE:
        return m->left.n > 0 ? STATUS_LEFT : STATUS_OK;
    case ERR_CANCELLED:
        return STATUS_INTERRUPTED;
    case ERR_GUEST:
        return STATUS_GUEST_ENDED;
    case ERR_UNRESOLVED:
        return STATUS_UNRESOLVED;
    case ERR_STALLED:
        return STATUS_STALLED;
    case ERR_USAGE:
        return failed <= MOVE_PREFLIGHT ? STATUS_USAGE : STATUS_FAILED;
    default:
        break;
    }
    if (failed > MOVE_PREFLIGHT)
        return STATUS_FAILED;
    if (e->kind == ERR_REFUSED)
        return STATUS_REFUSED;
    if (e->kind == ERR_CONNECT || e->kind == ERR_LINK || m->link == NULL)
        return STATUS_NO_CONNECTION;
    return STATUS_REFUSED;
}

static bool lives(enum vdom_run run)
{
    return run == VDOM_RUNNING || run == VDOM_PAUSED || run == VDOM_OTHER;
}

/* Ask the source, whose word is good while its process lives; then the destination. */
static void ask_where(struct move *m, struct move_result *out)
{
    enum vdom_run run = VDOM_NONE;
    enum vdom_why why;
    struct err e = { 0 };

    out->where = MOVE_UNKNOWN;
    if (m->committed) {
        out->where = MOVE_AT_DESTINATION;
        snprintf(out->state, sizeof out->state, "%s", m->dst_state);
        return;
    }
    if (m->dom == NULL)
        return;
    if (!vdom_state(m->dom, &run, &why, &e))
        return;
    if (lives(run) && !(m->qemu_pidfd >= 0 && proc_ended(m->qemu_pidfd))) {
        out->where = MOVE_AT_SOURCE;
        snprintf(out->state, sizeof out->state, "%s", vdom_run_name(run));
    } else if (!m->released) {
        out->where = MOVE_NOWHERE;
        snprintf(out->state, sizeof out->state, "off");
    }
}

static void fill_result(struct move *m, const struct err *e, struct move_result *out)
{
    out->err = *e;
    out->status = status_of(m, e);
    ask_where(m, out);
    if (out->status == STATUS_FAILED && out->where == MOVE_NOWHERE)
        out->status = STATUS_GUEST_ENDED;
    out->pause_ms = m->pause_ms;
    out->budget_ms = move_budget(m);
    out->pause = m->pause;
    out->greeting = m->greeting;
    out->verified = m->verified;
    out->forecast = m->foresee.out;
    out->forecast_at_ms = m->foresee.at_ms;
    out->elapsed_ms = clock_ms() - m->started_ms;
    out->rounds = m->round;
    out->retries = m->retries;
    out->redials = m->redials;
    out->disk_bytes = m->moved_disk;
    if (m->keeping)
        kept_amount(m->kept, &out->kept_bytes, &out->kept_size);
    out->ram_bytes = m->moved_ram;
    snprintf(out->id, sizeof out->id, "%s", m->id);
    snprintf(out->domain, sizeof out->domain, "%s",
             m->facts.name[0] != '\0' ? m->facts.name : m->cfg->domain);
    snprintf(out->uuid, sizeof out->uuid, "%s", m->facts.uuid);
    snprintf(out->source_host, sizeof out->source_host, "%s", m->src_host.hostname);
    snprintf(out->dest_host, sizeof out->dest_host, "%s",
             m->dst_host.hostname[0] != '\0' ? m->dst_host.hostname
                                             : m->cfg->dest.host);
    out->ndisks = m->plan.n;
    for (size_t i = 0; i < m->plan.n; i++) {
        const struct plan_disk *const d = &m->plan.disks[i];

        snprintf(out->disks[i].target, sizeof out->disks[i].target, "%s", d->target);
        snprintf(out->disks[i].src, sizeof out->disks[i].src, "%s", d->src);
        snprintf(out->disks[i].dst, sizeof out->disks[i].dst, "%s", d->dst);
        snprintf(out->disks[i].format, sizeof out->disks[i].format, "%s",
                 d->dst_format);
        out->disks[i].size = d->size;
        out->disks[i].verified = m->copies[i].verified;
    }
    out->left = m->left;
    out->notes = m->notes;
    out->findings = m->findings;
    m->findings = (struct findings){ 0 };
}

static void count_link(struct move *m, struct move_result *out)
{
    struct link_stats st;

    out->sent = m->sent_before;
    out->received = m->received_before;
    if (m->link == NULL)
        return;
    link_stats(m->link, &st);
    out->sent += st.sent;
    out->received += st.received;
}

static bool start(struct move *m, struct err *e)
{
    m->halt = cancel_new();
    if (m->halt == NULL)
        return err_set(e, ERR_SYS, ENOMEM, "cannot start");
    if (!need_root(e) || !fault_init(e) || !paths_new_id(m->id, e))
        return false;
    paths_run_dir(m->run_dir, m->id);
    paths_state_dir(m->state_dir, m->id);
    if (m->cfg->timeout_ms != 0 && !m->cfg->hold)
        m->timeout_at_ms = (uint64_t)m->started_ms + m->cfg->timeout_ms;
    return watcher_start(m, e);
}

void move_run(struct move *m, struct move_result *out)
{
    static const struct phase_hooks hooks = { move_failed, again_may, again_mend };
    const bool check = m->cfg->check_only;
    const struct phase *const tab = check ? check_phases : phases;
    const size_t n = check ? sizeof check_phases / sizeof check_phases[0]
                           : sizeof phases / sizeof phases[0];
    struct err e = { 0 };

    memset(out, 0, sizeof *out);
    m->started_ms = clock_ms();
    const bool ok = start(m, &e) && phases_run(tab, n, m, &hooks, &e);

    if (ok)
        e = (struct err){ 0 };
    fill_result(m, &e, out);
    count_link(m, out);
    move_enter(m, MOVE_DONE);
    ctl_result(m, out);
    memory_close(m);
    connect_close(m);
    watcher_stop(m);
}

void move_result_fini(struct move_result *r)
{
    findings_fini(&r->findings);
}
