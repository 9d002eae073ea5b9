/* The ends of an arrival: finished, aborted, left by its source. */
#include <stdio.h>
#include <string.h>

#include "agent/arrival-int.h"
#include "agent/hold.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/unix.h"

enum {
    DELIVER_IDLE_MS = 30 * 1000
}; /* RAM that QEMU does not take for so long is given up */

bool arrival_finish(struct arrival *a, bool autostart, struct json_object *left,
                    struct err *e)
{
    struct guest_look now;
    struct err why;
    char text[sizeof why.msg + 40];

    LOCK_SCOPE(&a->lock);
    if (arrival_at(a) == ARRIVAL_FINISHED)
        return true;
    if (arrival_at(a) != ARRIVAL_RUNNING)
        return arrival_refuse(a, "finished", e);
    if (!fault_point("agent.finish", e))
        return false;
    if (autostart &&
        !(arrival_see(a, &now, &why) && a->ops->autostart(a->guest, true, &why))) {
        snprintf(text, sizeof text, "set autostart: %s", why.msg);
        json_object_array_add(left, json_object_new_string(text));
    }
    if (strcmp(a->ran_state, guest_run_name(VDOM_RUNNING)) == 0 &&
        arrival_see(a, &now, &why) && (now.run == VDOM_OFF || now.run == VDOM_NONE)) {
        snprintf(text, sizeof text, "the guest was started and has ended since (%s)",
                 guest_run_name(now.run));
        json_object_array_add(left, json_object_new_string(text));
    }
    if (a->hold != NULL)
        hold_stop(a->hold);
    arrival_tokens_remove(a);
    dir_remove(a->ram_dir);
    dir_remove(a->run_dir);
    arrival_leave(a, ARRIVAL_FINISHED);
    return true;
}

/* ---- abort ----------------------------------------------------------------------------
 *
 * Once it was released the guest is loaded here, and a person may resume it by hand when the
 * source is gone; nothing in the journal tells.  So it must be proved that it has not run
 * before anything of it is removed: by its state, and for one that has stopped since by its
 * images, which were marked when no writer was left.  Before that QEMU had not the RAM. */

static bool refuse_run(struct err *e)
{
    return err_next(e,
                    "Look there: virsh list --all.  If that is the guest, keep it; if "
                    "nobody needs it, remove the domain and its disks by hand.");
}

/* Of a domain that has taken in all, or nothing of it, these are the only states. */
static bool never_started(const struct arrival *a, const struct guest_look *l)
{
    if (guest_has_run(l))
        return false;
    return arrival_at(a) < ARRIVAL_CLOSED || l->run != VDOM_PAUSED ||
           l->why == VDOM_WHY_USER || guest_is_incoming(l);
}

/* @bare: nothing of the domain would be removed; an abort that was cut short may have
 * removed images, then. */
static bool is_unwritten(const struct arrival *a, const struct image *im, bool bare,
                         struct err *e)
{
    switch (image_fate(im)) {
    case IMAGE_UNTOUCHED:
        return true;
    case IMAGE_GONE:
        if (bare)
            return true;
        err_set(e, ERR_REFUSED, 0,
                "disk %s is gone from %s: the guest may have run here", im->target,
                im->path);
        break;
    case IMAGE_REPLACED:
        err_set(e, ERR_REFUSED, 0,
                "disk %s: %s is another file now: the guest may have run here",
                im->target, im->path);
        break;
    case IMAGE_UNKNOWN:
        /* QEMU had not the end of the RAM: only a proof of the contrary counts. */
        if (arrival_at(a) == ARRIVAL_CLOSED)
            return true;
        err_set(e, ERR_REFUSED, 0,
                "disk %s: cannot tell whether %s was written after the move had left "
                "it: the guest may have run here",
                im->target, im->path);
        break;
    case IMAGE_WRITTEN:
        err_set(e, ERR_REFUSED, 0,
                "disk %s was written after the move had left it: the guest may have "
                "run here",
                im->target);
    }
    return refuse_run(e);
}

static bool are_unwritten(const struct arrival *a, bool bare, struct err *e)
{
    for (size_t i = 0; i < a->n; i++) {
        const struct image *const im = &a->images[i];

        /* After a restart of this host nothing tells, and it is left alone; what an abort
         * of ours that was cut short has blanked counts as written, too. */
        if (bare && im->device && im->fd < 0 &&
            (image_fate(im) != IMAGE_WRITTEN || image_device_is_blank(im)))
            continue;
        if (!is_unwritten(a, im, bare, e))
            return false;
    }
    return true;
}

/* A move brings a definition with the end of its memory and not before; so this one, and
 * the disks that it uses, are somebody else's. */
static bool is_foreign(const struct arrival *a, const struct guest_look *now)
{
    if (now->run == VDOM_OFF)
        return !a->defined && arrival_at(a) < ARRIVAL_RELEASED;
    /* What an agent that is gone had let QEMU begin is still incoming. */
    return now->run == VDOM_PAUSED && !a->ours && arrival_at(a) < ARRIVAL_CLOSED &&
           !guest_is_incoming(now);
}

/* A definition that was there before, and that somebody may have started on what a kept
 * move had copied, and shut off again.  What is not known to have been written was not: the
 * guest's memory was not here. */
static bool kept_unwritten(const struct arrival *a, const struct guest_look *now,
                           struct err *e)
{
    if (now->run != VDOM_OFF || !a->defined || a->ours ||
        arrival_at(a) != ARRIVAL_PREPARED)
        return true;
    for (size_t i = 0; i < a->n; i++)
        if (image_fate(&a->images[i]) == IMAGE_WRITTEN &&
            !is_unwritten(a, &a->images[i], true, e))
            return false;
    return true;
}

/* The domain that this move brought: it has our uuid and was not active before PUT. */
bool arrival_domain_remove(struct arrival *a, struct err *e)
{
    struct guest_look now;

    if (!arrival_see(a, &now, e))
        return false;
    if (is_foreign(a, &now)) {
        err_set(
            e, ERR_REFUSED, 0,
            "somebody has defined %s here since: its disks may be those of the move",
            a->name);
        return refuse_run(e);
    }
    if (!never_started(a, &now)) {
        err_set(e, ERR_REFUSED, 0, "the domain %s is %s here: it is not removed",
                a->name, guest_run_name(now.run));
        return refuse_run(e);
    }
    if (!kept_unwritten(a, &now, e))
        return false;
    const bool bare = now.run == VDOM_NONE || (now.run == VDOM_OFF && a->defined);
    if (arrival_at(a) >= ARRIVAL_CLOSED && !are_unwritten(a, bare, e))
        return false;
    if (bare)
        return true;
    log_info("guest", "removing the %s domain %s that the move brought",
             guest_run_name(now.run), a->name);
    return a->ops->remove(a->guest, !a->defined, e);
}

static bool abort_locked(struct arrival *a, struct err *e)
{
    if (arrival_at(a) == ARRIVAL_ABORTED)
        return true;
    if (arrival_at(a) >= ARRIVAL_COMMITTED)
        return arrival_refuse(a, "aborted", e);
    a->undone = true;
    if (a->hold != NULL)
        hold_stop(a->hold); /* not a byte more */
    for (size_t i = 0; i < a->n; i++)
        writer_end(&a->writers[i]);
    /* With a domain that is there, or may be, its images stay. */
    return arrival_domain_remove(a, e) && arrival_tidy(a, e);
}

bool arrival_abort(struct arrival *a, struct err *e)
{
    LOCK_SCOPE(&a->lock);

    if (!abort_locked(a, e))
        return err_wrap(e, "abort");
    log_info("agent", "aborted: move=%.8s domain=%s", a->id, a->name);
    return true;
}

void arrival_lost(struct arrival *a)
{
    struct err e;

    if (!a->ours)
        return;
    if (a->undone && arrival_at(a) < ARRIVAL_RELEASED && !arrival_abort(a, &e))
        log_warn("agent", "move %.8s: %s", a->id, e.msg);
    if (arrival_at(a) == ARRIVAL_PREPARED || arrival_at(a) == ARRIVAL_CLOSED)
        arrival_park(a);
    if (arrival_at(a) < ARRIVAL_RELEASED)
        return;
    LOCK_SCOPE(&a->lock);
    if (arrival_at(a) < ARRIVAL_FINISHED && a->hold != NULL &&
        !hold_wait(a->hold, DELIVER_IDLE_MS))
        log_warn("agent", "move %.8s: QEMU did not take all of its RAM", a->id);
}
