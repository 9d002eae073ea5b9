/* Who owns the guest when things went wrong: used by the undo and by the guard.
 *
 * While the source QEMU lives the guest belongs to it, for the destination starts on COMMIT
 * only.  Taking it back means: no job of libvirt is left that could still end that QEMU, and
 * the guest runs again if it ran before. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/proc.h"
#include "migrate/move-int.h"
#include "migrate/request.h"

enum {
    JOB_MS = 60000,    /* libvirt ends a cancelled job in 1 to 2 s */
    REOPEN_MS = 500,   /* between two tries to reach libvirtd */
    LINK_MS = 400,     /* a guest that waits longer for libvirt costs us the link */
    VERDICT_MS = 2000, /* libvirt's state follows the death of QEMU */
};

bool owner_source(struct move *m, int timeout_ms, struct err *e)
{
    const int64_t end = clock_ms() + timeout_ms;

    for (;;) {
        vdom_free(m->dom);
        m->dom = NULL;
        virt_close(m->src);
        m->src = NULL;
        if (virt_open(m->cfg->connect, &m->src, e) &&
            vdom_find_uuid(m->src, m->facts.uuid, &m->dom, e)) {
            if (m->dom != NULL)
                return true;
            return err_set(e, ERR_GUEST, 0, "the domain %s is gone", m->facts.name);
        }
        if (clock_ms() >= end)
            return false;
        clock_sleep_ms(REOPEN_MS);
    }
}

bool owner_source_alive(struct move *m, struct err *e)
{
    enum vdom_run run;
    enum vdom_why why;

    return m->dom != NULL && vdom_state(m->dom, &run, &why, e);
}

/* For "recover": from here on the destination has an old copy, whatever "released" says.
 * Before the guest is resumed; a disk that does not take it must not keep it paused. */
static void note_taken_back(struct move *m)
{
    struct err e = { 0 };

    if (m->taken_back)
        return;
    m->taken_back = true;
    m->source_destroyed = false; /* its end from here on is the guest's own */
    if (m->journal != NULL && !journal_step(m->journal, "taken-back", NULL, &e))
        log_warn("undo", "%s", e.msg);
}

static void note_pause(struct move *m)
{
    const int64_t at = atomic_load(&m->paused_at_ns);

    if (at != 0 && m->pause_ms < 0)
        m->pause_ms = (clock_ns() - at) / NS_PER_MS;
}

/* QMP "cont" as soon as QEMU says that its migration is over and failed: at once, not when
 * libvirt's own clean-up has finished.  Only then: after "completed" libvirt would go on to
 * kill this QEMU although it ran again.  QEMU refuses until it has finished cancelling. */
static bool resume_in_qemu(struct move *m)
{
    struct err e = { 0 };
    struct vram v;

    if (!vdom_ram(m->dom, &v, &e) ||
        (v.status != VRAM_FAILED && v.status != VRAM_CANCELLED))
        return false;
    note_taken_back(m);
    if (!vdom_qmp(m->dom, "cont", NULL, NULL, &e))
        return false;
    note_pause(m);
    return true;
}

/* Until libvirt has no job on the domain. */
static bool end_job(struct move *m, struct err *e)
{
    const int64_t start = clock_ms();
    bool active = true, aborted = false, resumed = m->facts.run != VDOM_RUNNING;

    while (!proc_ended(m->qemu_pidfd)) {
        if (clock_ms() - start > JOB_MS)
            return err_set(e, ERR_TIMEOUT, 0, "libvirt does not end the migration");
        if (!owner_source_alive(m, e) || !vdom_job_active(m->dom, &active, e)) {
            if (!owner_source(m, REOPEN_MS, e) && e->kind == ERR_GUEST)
                return false;
            continue;
        }
        if (!active)
            return true;
        if (!aborted) {
            aborted = true;
            if (!vdom_job_abort(m->dom, e))
                log_debug("undo", "abort: %s", e->msg);
        }
        if (!resumed)
            resumed = resume_in_qemu(m);
        /* libvirt may wait for the other host, and the guest for libvirt. */
        if (!resumed && m->dial != NULL && clock_ms() - start > LINK_MS)
            dial_kill(m->dial);
        clock_sleep_ms(5);
    }
    return true;
}

bool owner_take_back(struct move *m, struct err *e)
{
    const int64_t end = clock_ms() + JOB_MS;
    enum vdom_run run;
    enum vdom_why why;

    if (!end_job(m, e))
        return false;
    while (!proc_ended(m->qemu_pidfd)) {
        if (m->dom != NULL && vdom_state(m->dom, &run, &why, e)) {
            if (run != VDOM_OFF && run != VDOM_NONE)
                note_taken_back(m); /* libvirt may have resumed it */
            if (run != VDOM_PAUSED || m->facts.run != VDOM_RUNNING)
                break;
            if (vdom_resume(m->dom, e))
                break;
            log_debug("undo", "resume: %s", e->msg);
        } else if (!owner_source(m, REOPEN_MS, e) && e->kind == ERR_GUEST) {
            return false;
        }
        if (clock_ms() >= end)
            return err_wrap(e, "the guest could not be resumed");
        clock_sleep_ms(50);
    }
    note_pause(m);
    return true;
}

bool owner_ran_again(struct move *m)
{
    const int64_t end = clock_ms() + VERDICT_MS;
    struct memory_sample s = { .failed = false };
    struct err e = { 0 };
    enum vdom_run run;
    enum vdom_why why;

    if (m->source_destroyed)
        return false;
    if (m->ram != NULL)
        memory_sample(m, &s);
    /* It may have been resumed since the release, by libvirt or by us. */
    const bool doubt = s.failed || m->taken_back;
    /* Nobody takes a guest back while both hosts answer and nothing was cancelled; and
     * libvirt, busy ending QEMU, would keep the waiting guest waiting for 200 ms more. */
    if (m->ram != NULL && !doubt && !m->gave_up && m->link != NULL &&
        link_state(m->link) == LINK_OPEN)
        return false;
    for (;;) {
        /* libvirtd away: nobody but a guest's own end could have followed a resume, and
         * who released and saw no resume goes forward. */
        if (!owner_source_alive(m, &e) && !owner_source(m, VERDICT_MS, &e))
            return doubt;
        if (!vdom_state(m->dom, &run, &why, &e))
            return doubt;
        if (run == VDOM_RUNNING)
            return true;
        if (run == VDOM_OFF)
            return why == VDOM_WHY_SHUTDOWN || why == VDOM_WHY_CRASHED ||
                   why == VDOM_WHY_DESTROYED || why == VDOM_WHY_FAILED ||
                   (why != VDOM_WHY_MIGRATED && m->taken_back);
        if (!doubt || clock_ms() >= end)
            return doubt;
        clock_sleep_ms(10);
    }
}

void owner_autostart(struct move *m)
{
    struct err e = { 0 };

    if (m->facts.autostart && m->dom != NULL && !vdom_set_autostart(m->dom, true, &e))
        log_warn("undo", "%s", e.msg);
}

bool owner_abort(struct move *m, struct err *e)
{
    const bool lost = m->link == NULL || link_state(m->link) != LINK_OPEN;

    /* An agent that lost us tidies up by itself, one that was killed does not. */
    return (!lost || connect_redial(m, e)) &&
           request_move(m->link, "DELETE", m->id, "", NULL, CLOSE_MS, NULL, NULL, e);
}

void owner_abort_destination(struct move *m)
{
    struct err e = { 0 };

    if (owner_abort(m, &e))
        return;
    log_warn("undo", "%s could not be tidied up (%s): the next move of %s does it",
             m->cfg->dest.host, e.msg, m->facts.name);
}
