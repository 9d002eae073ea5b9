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

enum {
    /* A released migration ends within this, or is cancelled; that of a guest which ran
     * by its pause deadline, but not sooner than the least. */
    DEATH_MS = 5000,
    DEATH_MIN_MS = 200,
    RETRY_MS = 1000,
    COMMIT_MS = 30000, /* one COMMIT: the agent waits up to 20 s for the domain */
    GONE_TIMES = 3     /* the destination says so often that it has no such domain */
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

/* true: the source QEMU is dead.  false: it lives, and its migration has failed. */
static bool wait_for_death(struct move *m, struct err *e)
{
    struct memory_sample s;
    const int64_t abort_at = give_up_at(m);
    bool aborted = false;

    for (;;) {
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
        if (aborted && cancelled_in_qemu(m))
            return err_set(e, ERR_TIMEOUT, 0,
                           "the destination did not load the guest within the pause");
        if (!s.failed && !s.done && !aborted && clock_ms() >= abort_at) {
            log_warn("switch",
                     "the destination did not load the guest in time: cancelling");
            aborted = true;
            if (!vdom_job_abort(m->dom, &ae))
                log_debug("switch", "abort: %s", ae.msg);
        }
    }
}

static bool ask_commit(struct move *m, char state[16], struct err *e)
{
    AUTO(json_put) struct json_object *r = NULL;
    const char *s;
    char path[64];

    if (m->link == NULL)
        return err_set(e, ERR_LINK, 0, "no link");
    snprintf(path, sizeof path, "/moves/%s/commit", m->id);
    if (!link_call(m->link, "POST", path,
                   json_add_bool(json_new(), "run", m->facts.run == VDOM_RUNNING),
                   COMMIT_MS, NULL, &r, e) ||
        !json_get_str(r, "state", &s, e))
        return false;
    snprintf(state, 16, "%s", s);
    return true;
}

/* Whether the destination says for certain that it has nothing to run. */
static bool destination_has_none(struct move *m)
{
    AUTO(json_put) struct json_object *r = NULL;
    const char *domain;
    struct err e = { 0 };
    char path[64];

    if (m->link == NULL || link_state(m->link) != LINK_OPEN)
        return false;
    snprintf(path, sizeof path, "/moves/%s", m->id);
    return link_call(m->link, "GET", path, NULL, CALL_MS, NULL, &r, &e) &&
           json_get_str(r, "domain", &domain, &e) &&
           (strcmp(domain, "none") == 0 || strcmp(domain, "off") == 0);
}

static bool redial_if_lost(struct move *m, struct err *e)
{
    if (m->link != NULL && link_state(m->link) == LINK_OPEN)
        return true;
    return connect_redial(m, e);
}

static bool commit_until_answered(struct move *m, struct err *e)
{
    const int64_t end = clock_ms() + RESOLVE_MS;
    char state[16];
    int gone = 0;

    for (;;) {
        if (ask_commit(m, state, e))
            return true;
        log_warn("commit", "%s: asking again", e->msg);
        gone = destination_has_none(m) ? gone + 1 : 0;
        if (gone >= GONE_TIMES) {
            err_set(e, ERR_GUEST, 0,
                    "the source's QEMU ended before the destination had the guest");
            return err_next(e, "The source disks are intact: virsh start %s",
                            m->facts.name);
        }
        if (clock_ms() >= end)
            break;
        clock_sleep_ms(RETRY_MS);
        struct err re = { 0 };
        if (!redial_if_lost(m, &re))
            log_warn("commit", "cannot reach %s: %s", m->cfg->dest.host, re.msg);
    }
    err_set(e, ERR_UNRESOLVED, 0,
            "the guest waits, paused and complete, on %s, which does not answer",
            m->cfg->dest.host);
    return err_next(
        e, "When it answers: virsh resume %s there.  Never start the copy here.",
        m->facts.name);
}

bool commit_forward(struct move *m, struct err *e)
{
    struct err je = { 0 };

    assert(proc_ended(m->qemu_pidfd));
    /* The decision is made by the source's death; the entry only tells it to others. */
    if (!journal_step(m->journal, "committed", NULL, &je))
        log_warn("commit", "journal: %s", je.msg);
    fault_pass("commit");
    if (!commit_until_answered(m, e))
        return false;
    m->committed = true;
    return true;
}

bool commit_run(struct move *m, struct err *e)
{
    struct err ge = { 0 };

    move_enter(m, MOVE_COMMIT);
    const int64_t t0 = clock_ns();
    const bool dead = wait_for_death(m, e);
    atomic_store(&m->pause_deadline_ms, 0);
    if (!dead)
        return false;
    const int64_t t1 = clock_ns();
    if (!guard_say(m, "committed", &ge))
        log_debug("commit", "guard: %s", ge.msg);
    if (!commit_forward(m, e))
        return false;
    if (m->paused_at_ns != 0)
        m->pause_ms = (clock_ns() - m->paused_at_ns) / NS_PER_MS;
    log_info("commit", "release-to-death=%lldms commit=%lldms pause=%lldms",
             (long long)((t1 - t0) / NS_PER_MS),
             (long long)((clock_ns() - t1) / NS_PER_MS), (long long)m->pause_ms);
    fault_pass("commit.done");
    return true;
}
