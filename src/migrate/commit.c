/* Commit: the source QEMU is dead, the destination is loaded: it runs there from here on.
 *
 * The only place that decides between the two hosts.  COMMIT is sent when, and only when,
 * the process of the source QEMU is known dead (pidfd).  While that process lives the guest
 * belongs to the source: the destination's CPUs start on COMMIT alone. */
#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "migrate/move-int.h"
#include "migrate/request.h"

enum {
    /* A released migration ends within this, or is cancelled; that of a guest which ran
     * by its pause deadline, but not sooner than the least. */
    DEATH_MS = 5000,
    DEATH_MIN_MS = 200,
    RETRY_MS = 1000,
    COMMIT_MS = 30000, /* one COMMIT: the agent waits up to 20 s for the domain */
    CONFIRM_MS = 1000, /* libvirt has called it done: its QEMU is to end within this */
    RESOLVE_MS = 600000, /* how long the destination is asked again */
    STUCK_MS = 500, /* a cancelled migration shows within this, or the link is cut */
    GONE_TIMES = 3  /* the destination says so often that it has no such domain */
};

static bool source_dead(struct move *m, int ms)
{
    struct pollfd p = { .fd = m->qemu_pidfd, .events = POLLIN };

    return proc_ended(m->qemu_pidfd) ||
           (poll(&p, 1, ms) > 0 && proc_ended(m->qemu_pidfd));
}

static int64_t give_up_at(struct move *m)
{
    const int64_t deadline = atomic_load(&m->pause_deadline_ms), now = clock_ms();

    if (deadline == 0)
        return now + DEATH_MS;
    return deadline > now + DEATH_MIN_MS ? deadline : now + DEATH_MIN_MS;
}

/* QEMU says that the migration is over and failed: it will not complete any more, and
 * libvirt cannot take it for complete.  No need to wait until libvirt, which may hang on a
 * dead link, says so too. */
static bool cancelled_in_qemu(struct move *m)
{
    struct err e = { 0 };
    struct vram v;

    return vdom_ram(m->dom, &v, &e) &&
           (v.status == VRAM_CANCELLED || v.status == VRAM_FAILED);
}

/* libvirt has finished on both hosts, only the order to end the source got lost: it stands
 * still, the destination has all, and it is ended here. */
static void end_source(struct move *m)
{
    struct err e = { 0 };
    enum vdom_run run;
    enum vdom_why why;

    /* A libvirtd that was restarted has dropped our connection. */
    if ((!owner_source_alive(m, &e) && !owner_source(m, 0, &e)) ||
        !vdom_state(m->dom, &run, &why, &e) || run != VDOM_PAUSED)
        return;
    m->source_destroyed = true;
    /* Whoever goes on, should this process die, must not take it for the guest's own end. */
    if (!journal_step(m->journal, "destroying", NULL, &e))
        log_warn("commit", "%s", e.msg);
    if (!guard_say(m, "destroying", &e))
        log_debug("commit", "guard: %s", e.msg);
    log_warn("commit", "libvirt has left the source's QEMU over: ending it");
    if (!vdom_destroy(m->dom, &e))
        log_warn("commit", "%s", e.msg);
}

/* true: the source QEMU is dead.  false: it lives, and its migration has failed. */
static bool wait_for_death(struct move *m, struct err *e)
{
    const int64_t abort_at = give_up_at(m);
    int64_t done_at = 0;
    bool aborted = false;
    struct memory_sample s;

    for (;;) {
        const int64_t now = clock_ms();
        struct err ae = { 0 };

        if (source_dead(m, 10))
            return true;
        memory_sample(m, &s);
        /* libvirt's client gives its verdict when it is through with both hosts; only then
         * is nothing on its way any more that could end this process. */
        if (s.failed && !source_dead(m, 200)) {
            memory_error(m, e);
            return false;
        }
        if (s.done && done_at == 0)
            done_at = now;
        if (s.done && now - done_at > CONFIRM_MS) {
            end_source(m);
            done_at = now;
        }
        if (s.failed || s.done || now < abort_at)
            continue;
        if (!aborted) {
            log_warn("switch",
                     "the destination did not load the guest in time: cancelling");
            aborted = m->gave_up = true;
            if (!vdom_job_abort(m->dom, &ae))
                log_debug("switch", "abort: %s", ae.msg);
        } else if (cancelled_in_qemu(m)) {
            return err_set(e, ERR_TIMEOUT, 0,
                           "the destination did not load the guest within the pause");
        } else if (now >= abort_at + STUCK_MS) {
            /* libvirt waits for the other host: then it shall not answer at all. */
            dial_kill(m->dial);
        }
    }
}

static void take_marked(struct move *m, struct json_object *reply)
{
    const char *why = "the destination does not say why";
    struct err ignored;

    if (!m->cfg->verify_later)
        return;
    if (!json_get_bool(reply, "marked", &m->marked, &ignored))
        m->marked = false;
    /* A peer that gives no reason leaves ours. */
    if (!m->marked && !json_get_str(reply, "why", &why, &ignored))
        log_debug("commit", "%s", ignored.msg);
    if (!m->marked)
        log_clean(m->unmarked, sizeof m->unmarked, why);
}

static bool ask_commit(struct move *m, char state[16], struct err *e)
{
    AUTO(json_put) struct json_object *r = NULL;
    struct json_object *body;
    const char *s;

    if (m->link == NULL)
        return err_set(e, ERR_LINK, 0, "no link");
    body = json_add_bool(json_new(), "run", m->facts.run == VDOM_RUNNING);
    if (m->cfg->verify_later)
        json_add_bool(body, "mark", true);
    if (!request_move(m->link, "POST", m->id, "commit", body, COMMIT_MS, NULL, &r, e) ||
        !json_get_str(r, "state", &s, e))
        return false;
    snprintf(state, 16, "%s", s);
    take_marked(m, r);
    return true;
}

/* Whether the destination says for certain that it has nothing to run. */
static bool destination_has_none(struct move *m)
{
    AUTO(json_put) struct json_object *r = NULL;
    const char *domain;
    struct err e = { 0 };
    const char *step;

    if (m->link == NULL || link_state(m->link) != LINK_OPEN)
        return false;
    /* Once it was told to start the guest, a guest that is off has ended there. */
    return request_move(m->link, "GET", m->id, "", NULL, CALL_MS, NULL, &r, &e) &&
           json_get_str(r, "step", &step, &e) && strcmp(step, "committed") != 0 &&
           strcmp(step, "running") != 0 && json_get_str(r, "domain", &domain, &e) &&
           (strcmp(domain, "none") == 0 || strcmp(domain, "off") == 0);
}

static bool redial_if_lost(struct move *m, struct err *e)
{
    if (m->link != NULL && link_state(m->link) == LINK_OPEN)
        return true;
    memory_quiet(m);
    return connect_redial(m, e);
}

/* For who looks: nobody must be tempted to start the old copy. */
static void say_waiting(struct move *m, bool waits)
{
    char why[sizeof m->progress.why] = "";

    if (waits)
        snprintf(
            why, sizeof why,
            "%.48s does not answer: the guest has left this host, and runs nowhere "
            "until it does; do not start it here",
            m->cfg->dest.host);
    LOCK_SCOPE(&m->lock);
    if (waits && m->progress.why[0] == '\0')
        log_warn("commit", "%s", why);
    memcpy(m->progress.why, why, sizeof why);
}

static bool commit_until_answered(struct move *m, struct err *e)
{
    const int64_t end = clock_ms() + RESOLVE_MS;
    struct err re = { 0 }; /* one that is tried again is not the caller's */
    char words[MOVE_START_MAX];
    int gone = 0;

    /* The guard comes without a link, and the guest waits. */
    if (!redial_if_lost(m, &re))
        log_warn("commit", "cannot reach %s: %s", m->cfg->dest.host, re.msg);
    for (;;) {
        if (ask_commit(m, m->dst_state, &re)) {
            say_waiting(m, false);
            return true;
        }
        log_warn("commit", "%s: asking again", re.msg);
        say_waiting(m, m->link == NULL || link_state(m->link) != LINK_OPEN);
        gone = destination_has_none(m) ? gone + 1 : 0;
        if (gone >= GONE_TIMES) {
            err_set(e, ERR_GUEST, 0,
                    "the source's QEMU ended before the destination had the guest");
            return err_next(e, "The source disks are intact: %s",
                            move_start_words(m, words));
        }
        if (clock_ms() >= end)
            break;
        clock_sleep_ms(RETRY_MS);
        if (!redial_if_lost(m, &re))
            log_warn("commit", "cannot reach %s: %s", m->cfg->dest.host, re.msg);
    }
    err_set(
        e, ERR_UNRESOLVED, 0,
        "%s, where the guest waits, paused and complete, could not be told to run it: "
        "%.300s",
        m->cfg->dest.host, re.msg);
    return err_next(e, "Then: snmigrate recover %s.  Never start the copy here.",
                    m->facts.name);
}

bool commit_forward(struct move *m, struct err *e)
{
    char words[MOVE_START_MAX];
    struct err je = { 0 };

    assert(proc_ended(m->qemu_pidfd));
    if (owner_ran_again(m)) {
        err_set(e, ERR_GUEST, 0,
                "the guest was taken back and then ended by itself on this host");
        return err_next(e, "Its disks here are the newest: %s",
                        move_start_words(m, words));
    }
    /* The decision is made by the source's death; the entry only tells it to others. */
    if (!journal_step(m->journal, "committed", NULL, &je))
        log_warn("commit", "journal: %s", je.msg);
    fault_pass("commit");
    if (!commit_until_answered(m, e))
        return false;
    m->marks.end[PAUSE_RESUME] = clock_ns();
    /* The destination forgets the move when it is told that all is done. */
    if (!journal_step(m->journal, "arrived", NULL, &je))
        log_warn("commit", "journal: %s", je.msg);
    m->committed = true;
    return true;
}

/* What the guest waited for, once it runs. */
static void account(struct move *m)
{
    char line[256] = "";

    m->marks.begun = atomic_load(&m->paused_at_ns);
    m->marks.end[PAUSE_LOAD] = atomic_load(&m->loaded_at_ns);
    pause_of(&m->marks, &m->pause);
    if (m->pause.total_ms < 0)
        return;
    m->pause_ms = m->pause.total_ms;
    for (int i = 0; i < PAUSE_STEPS; i++) {
        const size_t len = strlen(line);

        snprintf(line + len, sizeof line - len, " %s=%lldms",
                 pause_step_name((enum pause_step)i), (long long)m->pause.ms[i]);
    }
    log_info("commit", "pause=%lldms:%s", (long long)m->pause.total_ms, line);
}

bool commit_run(struct move *m, struct err *e)
{
    struct err ge = { 0 };

    move_enter(m, MOVE_COMMIT);
    const bool dead = wait_for_death(m, e);
    atomic_store(&m->pause_deadline_ms, 0);
    if (!dead)
        return false;
    m->marks.end[PAUSE_DEATH] = clock_ns();
    if (!guard_say(m, "committed", &ge))
        log_debug("commit", "guard: %s", ge.msg);
    if (!commit_forward(m, e))
        return false;
    if (!guard_say(m, "arrived", &ge))
        log_debug("commit", "guard: %s", ge.msg);
    account(m);
    fault_pass("commit.done");
    return true;
}
